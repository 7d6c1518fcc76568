"""A car at a place on a road: how it begins and goes on, what it knows of that, and what it is
rewarded for.
"""

from dataclasses import replace

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from ddpg_jax.envs.lane import road as roads
from ddpg_jax.envs.lane.car import MAX_SPEED, MAX_STEERING, WIDTH, Car, at_rest, move
from ddpg_jax.envs.lane.road import Place, Range, Road
from ddpg_jax.envs.lane.surface import Look, paint
from ddpg_jax.envs.render.camera import vector
from ddpg_jax.types import Key

AHEAD = (0.0, 2.0, 4.0, 7.0, 11.0, 16.0)
"""Metres before the car at which `features` say how the lane bends."""


@struct.dataclass
class LaneState:
    """A car at a place on a road that looks in some way."""

    road: Road
    place: Place
    car: Car
    look: Look


def begin(key: Key, curvature: float, lane_width: Range) -> LaneState:
    """At rest at the beginning of a new road, within a tenth of the lane's width of its middle and
    0.05 rad of its direction; numbers as of `ddpg_jax.envs.lane.road.draw`.
    """
    road_key, start_key = jax.random.split(key)
    road = roads.draw(road_key, curvature, lane_width)
    place_key, look_key = jax.random.split(start_key)
    offset, angle = jax.random.uniform(place_key, (2,), jnp.float32, minval=-1.0)
    place = Place(jnp.float32(0), offset * road.width / 10, angle * 0.05)
    return LaneState(road, place, at_rest(), paint(look_key))


def driven(state: LaneState, action: Array) -> LaneState:
    """The car after one step on."""
    car, motion = move(state.car, action)
    place = roads.moved(state.road, state.place, *motion)
    return replace(state, car=car, place=place)


def is_off(state: LaneState) -> Array:
    """Whether a rear wheel is out of the lane: a disengagement."""
    return jnp.abs(state.place.offset) > room(state.road)


def room(road: Road) -> Array:
    """Metres between either rear wheel and its side of the lane, when the car is in the middle."""
    return (road.width - WIDTH) / 2


def features(state: LaneState) -> Array:
    """``[10]``: offset over the room there is; angle to the lane, rad; curvature 0 to 16 m ahead,
    1/20 m; speed and wheel over their largest.
    """
    bends = roads.curvature(state.road, state.place.along + vector(*AHEAD))
    place = jnp.stack([state.place.offset / room(state.road), state.place.angle])
    return jnp.concatenate([place, 20 * bends, vehicle(state)])


def vehicle(state: LaneState) -> Array:
    """``[2]``: speed and wheel over their largest."""
    return jnp.stack([state.car.speed / MAX_SPEED, state.car.steering / MAX_STEERING])


def speed(state: LaneState) -> Array:
    """Along the lane, in m/s: the sum over an episode is ten times the metres driven.

    Source: Kendall et al. 2018, section III-A (forward speed).
    """
    return state.car.speed * jnp.cos(state.place.angle)


def torcs(state: LaneState) -> Array:
    """``v cos(angle) - |v sin(angle)| - v |offset|``, offset over the room there is, m/s, as the
    DDPG paper's Torcs.

    Source: gym_torcs.py of Edwards and Lau (2016), line 137; the DDPG paper gives its first two
    terms in words.
    """
    offset, angle = jnp.abs(state.place.offset) / room(state.road), state.place.angle
    return state.car.speed * (jnp.cos(angle) - jnp.abs(jnp.sin(angle)) - offset)
