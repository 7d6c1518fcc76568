"""The lane as a scene: through the car's camera, and from above."""

import math
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from ddpg_jax.envs.lane import road as roads
from ddpg_jax.envs.lane.car import LENGTH, WIDTH
from ddpg_jax.envs.lane.state import LaneState
from ddpg_jax.envs.lane.surface import Surface
from ddpg_jax.envs.render import Boxes, Camera, Light, Scene, Sky, film, look_at, render
from ddpg_jax.envs.render.hit import done
from ddpg_jax.types import PyTree

if TYPE_CHECKING:
    from collections.abc import Callable

BEHIND, BEFORE, STEP = -20.0, 65.0, 4.0
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
    made = Surface(
        point=jnp.stack([cosine * forward + sine * left, cosine * left - sine * forward], axis=1),
        direction=jnp.stack([jnp.cos(angles), jnp.sin(angles)], axis=1),
        bend=roads.curvature(road, place.along + ways).at[jnp.array([0, -1])].set(0.0),
        along=place.along + ways,
        width=road.width[None],
        look=state.look,
    )
    result: Surface = done(made)
    return result


def through_the_camera() -> Camera:
    """The car's: forwards and a little down."""
    position = jnp.array([FORWARD, 0.0, HEIGHT], jnp.float32)
    return look_at(
        position,
        position + jnp.array([1.0, 0.0, -math.tan(PITCH)], jnp.float32),
        field_of_view=FIELD_OF_VIEW,
    )


def scene(state: LaneState) -> Scene:
    """What the car's camera sees."""
    bright = Light(ambient=state.look.bright, headlight=0.0, strength=jnp.zeros((1,), jnp.float32))
    top, horizon = state.look.sky
    return Scene(
        through_the_camera(),
        (surface(state),),
        bright,
        Sky(top=top, horizon=horizon, bottom=horizon),
    )


def above(state: LaneState) -> Scene:
    """The car and 50 m of road, from above; forward is up."""
    middle = jnp.array([20.0, 0.0, 0.0], jnp.float32)
    camera = look_at(
        middle + jnp.array([0.0, 0.0, 60.0]),
        middle,
        up=jnp.array([1.0, 0.0, 0.0]),
        field_of_view=math.radians(45),
    )
    row: Callable[..., Any] = lambda *values: jnp.array([values], jnp.float32)
    car = Boxes(
        center=row(LENGTH / 2 - 0.3, 0.0, 0.6),
        rotation=jnp.eye(3)[None],
        half=row(LENGTH / 2, WIDTH / 2, 0.6),
        color=row(0.8, 0.2, 0.1),
    )
    seen = scene(state)
    result: Scene = seen.replace(camera=camera, shapes=(*seen.shapes, car))  # type: ignore[attr-defined]
    return result


def picture(state: LaneState, size: int) -> jax.Array:
    """``[size, size, 3]`` uint8 of the camera."""
    return render(scene(state), size, size)


def draw(states: PyTree, height: int = 240, gap: int = 8) -> list[np.ndarray]:
    """Frames of states ``[T]``: from above, and beside it the camera's view."""
    between = np.full((height, gap, 3), 255, np.uint8)
    pairs = zip(
        film(above, states, height, height), film(scene, states, height, height), strict=True
    )
    return [np.concatenate([one, between, other], axis=1) for one, other in pairs]
