"""Roads that no training sees, and how far a driver comes on them."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from ddpg_jax.envs.lane.car import TIME_STEP, at_rest
from ddpg_jax.envs.lane.road import LANE_WIDTH, RMS_CURVATURE, Range
from ddpg_jax.envs.lane.state import LaneState, begin, driven, features, is_off
from ddpg_jax.types import Key, PyTree

SEED, STREAM = 0x0AD5, 0x4E1D_0007
"""Of the held-out roads. ``fold_in(key, i)`` and ``split(key, n)[i]`` coincide, so roads that a
user draws by this seed would be these but for a stream of their own."""
ROADS, LENGTH = 20, 250.0
"""How many, and their length in m."""
SLOWEST = 1.0
"""m/s: who is slower on average does not come to the end."""


@struct.dataclass
class Driven:
    """Of each road, ``[N]``: metres until the first disengagement (``first``; else all), ``metres``
    in all, and how many ``disengagements`` (int32).
    """

    first: Array
    metres: Array
    disengagements: Array

    @property
    def finished(self) -> Array:
        """Whether the whole road was driven without a disengagement, given its ``LENGTH``."""
        return (self.disengagements == 0) & (self.metres >= LENGTH)

    @property
    def metres_per_disengagement(self) -> Array:
        """Over all roads; all metres where there was none."""
        return jnp.sum(self.metres) / jnp.maximum(jnp.sum(self.disengagements), 1).astype(
            jnp.float32
        )


def drive(
    act: Callable[[PyTree, Key], Array],
    key: Key,
    *,
    shown: Callable[[LaneState], PyTree] = features,
    curvature: float = RMS_CURVATURE,
    lane_width: Range = LANE_WIDTH,
    count: int = ROADS,
) -> Driven:
    """Drive the first 250 m of ``count`` held-out roads; whoever leaves the lane goes on from its
    middle, at rest.

    There is time for a mean of 1 m/s; what is not driven by then is missing from `Driven.metres`.

    Args:
        act: ``act(observation [N, ...], key) -> action [N, 2]``.
        key: consumed by ``act`` alone: roads and starts are the same in every call.
        shown: the observation of one car.
        curvature, lane_width: as of `ddpg_jax.envs.lane.make`.
        count: N.

    Source: Kendall et al. 2018, section IV and table I (250 m of road; the safety driver puts the
    car back).
    """

    def step(carry: tuple[LaneState, Driven], key: Key) -> tuple[Any, None]:
        state, before = carry
        running = state.place.along < LENGTH
        action = act(jax.vmap(shown)(state), key)
        state = jax.vmap(driven)(state, action)
        off = is_off(state) & running
        at = jnp.where(running, jnp.clip(state.place.along, 0.0, LENGTH), before.metres)
        never = before.disengagements == 0
        count = before.disengagements + off.astype(jnp.int32)
        now = Driven(jnp.where(never, at, before.first), at, count)
        return (jax.vmap(_put_back)(state, off), now), None

    starts = jax.vmap(lambda number: start(number, curvature, lane_width))(
        jnp.arange(count, dtype=jnp.uint32)
    )
    zeros = jnp.zeros((count,))
    nothing = Driven(zeros, zeros, zeros.astype(jnp.int32))
    keys = jax.random.split(key, int(LENGTH / SLOWEST / TIME_STEP))
    return jax.lax.scan(step, (starts, nothing), keys)[0][1]


def start(number: Array, curvature: float, lane_width: Range) -> LaneState:
    """Where held-out road ``number`` (uint32) begins."""
    stream = jax.random.fold_in(jax.random.key(SEED), STREAM)
    return begin(jax.random.fold_in(stream, number), curvature, lane_width)


def _put_back(state: LaneState, off: Array) -> LaneState:
    zero = jnp.zeros_like(state.place.offset)
    place = replace(state.place, offset=zero, angle=zero)
    back = replace(state, place=place, car=at_rest())
    chosen: LaneState = jax.tree.map(lambda new, old: jnp.where(off, new, old), back, state)
    return chosen
