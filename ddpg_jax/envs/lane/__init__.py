"""A car that follows a lane: roads drawn anew in each episode, a kinematic bicycle, its speed as reward.

    env = envs.make("lane", num_envs=16)                       # what it sees: where it is in the lane, and how that bends
    env = envs.make("lane", num_envs=16, reward="torcs", curvature=0.02)

Made after Kendall et al. 2018 (arXiv:1807.00412), "Learning to drive in a day": actions are the wheel's angle and the speed,
leaving the lane ends the episode. `ddpg_jax.envs.lane.held_out` drives roads that no training sees.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from ddpg_jax import checks
from ddpg_jax.envs.autoreset import batch
from ddpg_jax.envs.lane import road as roads
from ddpg_jax.envs.lane.car import MAX_SPEED, MAX_STEERING, TIME_STEP, WIDTH, Car, at_rest, move, set_points
from ddpg_jax.envs.lane.road import Place, Road
from ddpg_jax.types import Environment, Key, Single, View

AHEAD = (0.0, 2.0, 4.0, 7.0, 11.0, 16.0)
"""Metres before the car at which `features` say how the lane bends."""
RMS_CURVATURE, LANE_WIDTH = 0.015, (3.0, 4.0)
SHARPEST, NARROWEST, WIDEST = 0.05, 2.0, 10.0
OPTIONS = ("time_limit", "observation", "reward", "curvature", "lane_width")


@struct.dataclass
class LaneState:
    """A car at a place on a road."""

    road: Road
    place: Place
    car: Car


Shown = Callable[[LaneState], Any]
Reward = Callable[[LaneState], jax.Array]


def make(
    num_envs: int,
    *,
    time_limit: int = 1_200,
    observation: str = "features",
    reward: str = "speed",
    curvature: float = RMS_CURVATURE,
    lane_width: Any = LANE_WIDTH,
) -> Environment:
    """``num_envs`` cars, each on a road of its own.

    Args:
        num_envs: E, at least 1.
        time_limit: steps of 0.1 s.
        observation: ``features``, see `features`.
        reward: ``speed`` along the lane, or ``torcs``, see `speed` and `torcs`.
        curvature: root mean square of a road's, 0 to 0.05 1/m; 0 is straight.
        lane_width: m, from which to which it is drawn, or one number; 2 to 10.

    Raises:
        ValueError: an option is unknown or out of its range.
    """
    single = make_single(observation=observation, reward=reward, curvature=curvature, lane_width=lane_width)
    return batch(single, num_envs, time_limit, native_action=set_points, view=View(fps=1 / TIME_STEP))


def make_single(
    *, observation: str = "features", reward: str = "speed", curvature: float = RMS_CURVATURE, lane_width: Any = LANE_WIDTH
) -> Single:
    """One car on one road; arguments as of `make`."""
    shown, rewarded = _one_of("observation", observation, SHOWN), _one_of("reward", reward, REWARDS)
    checks.between(0, SHARPEST, curvature=curvature)
    widths = _widths(lane_width)

    def reset(key: Key) -> tuple[LaneState, Any]:
        road_key, place_key = jax.random.split(key)
        state = begin(roads.draw(road_key, curvature, widths), place_key)
        return state, shown(state)

    def step(state: LaneState, action: jax.Array, key: Key | None = None) -> tuple[LaneState, Any, jax.Array, jax.Array]:
        state = driven(state, action)
        return state, shown(state), rewarded(state), is_off(state)

    return Single(reset, step, action_size=2)


def begin(road: Road, key: Key) -> LaneState:
    """At rest at the beginning of a road, within a tenth of the lane's width of its middle and 0.05 rad of its direction."""
    offset, angle = jax.random.uniform(key, (2,), jnp.float32, minval=-1.0)
    place = Place(along=jnp.zeros((), jnp.float32), offset=offset * road.width / 10, angle=angle * 0.05)
    return LaneState(road=road, place=place, car=at_rest())


def driven(state: LaneState, action: jax.Array) -> LaneState:
    """The car after one step on."""
    car, motion = move(state.car, action)
    place = roads.moved(state.road, state.place, motion.forward, motion.left, motion.turned)
    return state.replace(car=car, place=place)  # type: ignore[attr-defined]


def is_off(state: LaneState) -> jax.Array:
    """Whether a rear wheel is out of the lane: a disengagement."""
    return jnp.abs(state.place.offset) > room(state.road)


def room(road: Road) -> jax.Array:
    """Metres between either rear wheel and its side of the lane, when the car is in the middle."""
    return (road.width - WIDTH) / 2


def features(state: LaneState) -> jax.Array:
    """``[10]``: offset over the room there is; angle to the lane, rad; curvature 0 to 16 m ahead, 1/20 m; speed and wheel
    over their largest."""
    bends = roads.curvature(state.road, state.place.along + jnp.array(AHEAD, jnp.float32))
    return jnp.concatenate([jnp.stack([state.place.offset / room(state.road), state.place.angle]), 20 * bends, vehicle(state)])


def vehicle(state: LaneState) -> jax.Array:
    """``[2]``: speed and wheel over their largest."""
    return jnp.stack([state.car.speed / MAX_SPEED, state.car.steering / MAX_STEERING])


def speed(state: LaneState) -> jax.Array:
    """Along the lane, in m/s: the sum over an episode is ten times the metres driven.

    Source: Kendall et al. 2018, section III-A (forward speed).
    """
    return state.car.speed * jnp.cos(state.place.angle)


def torcs(state: LaneState) -> jax.Array:
    """``v cos(angle) - |v sin(angle)| - v |offset|``, offset over the room there is, m/s, as the DDPG paper's Torcs.

    Source: gym_torcs.py of Edwards and Lau (2016), line 137; the DDPG paper gives its first two terms in words.
    """
    offset = jnp.abs(state.place.offset) / room(state.road)
    return state.car.speed * (jnp.cos(state.place.angle) - jnp.abs(jnp.sin(state.place.angle)) - offset)


SHOWN: dict[str, Shown] = {"features": features}
REWARDS: dict[str, Reward] = {"speed": speed, "torcs": torcs}


def _one_of(what: str, name: Any, known: dict[str, Any]) -> Any:
    if name not in known:
        raise ValueError(f"{what}={name!r}: must be {' or '.join(known)}.")
    return known[name]


def _widths(given: Any) -> tuple[float, float]:
    widths = [given] if isinstance(given, int | float) else given
    numbers = isinstance(widths, list | tuple) and all(isinstance(x, int | float) for x in widths)
    if not numbers or len(widths) not in (1, 2) or not NARROWEST <= widths[0] <= widths[-1] <= WIDEST:
        raise ValueError(
            f"lane_width={given}: give metres, {NARROWEST} to {WIDEST}, or two of them, from which to which it is drawn."
        )
    return float(widths[0]), float(widths[-1])
