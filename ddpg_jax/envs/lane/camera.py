"""The lane as a scene: through the car's camera, and from above."""

import math
from dataclasses import replace

import jax.numpy as jnp
import numpy as np
from jax import Array

from ddpg_jax.envs.lane import road as roads
from ddpg_jax.envs.lane.car import LENGTH, WIDTH
from ddpg_jax.envs.lane.state import LaneState
from ddpg_jax.envs.lane.surface import Surface
from ddpg_jax.envs.render import Boxes, Camera, Light, Scene, Sky, film, look_at, render
from ddpg_jax.envs.render.camera import row, vector
from ddpg_jax.envs.render.hit import done
from ddpg_jax.envs.render.image import side_by_side
from ddpg_jax.types import PyTree

BEHIND, BEFORE, STEP = -20.0, 65.0, 4.0
"""The road that is drawn: from where to where along it, and the length of a piece, in m."""
HEIGHT, FORWARD, PITCH, FIELD_OF_VIEW = 1.4, 1.2, 0.2, math.radians(60)
"""Of the camera: metres over the ground and before the rear axle, rad downwards, rad."""


def surface(state: LaneState) -> Surface:
    """The road around the car, as it lies around it: forward is x, left is y. It goes straight on
    from either end.
    """
    road, place = state.road, state.place
    ways = jnp.arange(BEHIND, BEFORE, STEP, dtype=jnp.float32)
    points, angles = roads.middle(road, place.along, ways)
    cosine, sine = jnp.cos(place.angle), jnp.sin(place.angle)
    forward, left = points[0], points[1] - place.offset
    angles = angles - place.angle
    point = jnp.stack([cosine * forward + sine * left, cosine * left - sine * forward], axis=1)
    direction = jnp.stack([jnp.cos(angles), jnp.sin(angles)], axis=1)
    along = place.along + ways
    bend = roads.curvature(road, along).at[jnp.array([0, -1])].set(0.0)
    result: Surface = done(Surface(point, direction, bend, along, road.width[None], state.look))
    return result


def through_the_camera() -> Camera:
    """The car's: forwards and a little down."""
    position = vector(FORWARD, 0.0, HEIGHT)
    target = position + vector(1.0, 0.0, -math.tan(PITCH))
    return look_at(position, target, field_of_view=FIELD_OF_VIEW)


def scene(state: LaneState) -> Scene:
    """What the car's camera sees."""
    bright = Light(ambient=state.look.bright, headlight=0.0, strength=vector(0))
    top, horizon = state.look.sky
    return Scene(through_the_camera(), (surface(state),), bright, Sky(top, horizon, horizon))


def above(state: LaneState) -> Scene:
    """The car and 50 m of road, from above; forward is up."""
    up, angle = vector(1, 0, 0), math.radians(45)
    camera = look_at(vector(20, 0, 60), vector(20, 0, 0), up=up, field_of_view=angle)
    center, half = row(LENGTH / 2 - 0.3, 0.0, 0.6), row(LENGTH / 2, WIDTH / 2, 0.6)
    car = Boxes(center, jnp.eye(3)[None], half, row(0.8, 0.2, 0.1))
    seen = scene(state)
    return replace(seen, camera=camera, shapes=(*seen.shapes, car))


def picture(state: LaneState, size: int) -> Array:
    """``[size, size, 3]`` uint8 of the camera."""
    return render(scene(state), size, size)


def draw(states: PyTree) -> list[np.ndarray]:
    """Frames of states ``[T]``: from above, and beside it the camera's view."""
    return side_by_side(*(film(view, states, 240, 240) for view in (above, scene)))
