"""A car that follows a lane: roads drawn anew in each episode, a kinematic bicycle, its speed as
reward.

For example::

    env = envs.make("lane", num_envs=16)  # observes lane position and curvature
    env = envs.make("lane", num_envs=16, observation="camera") # a picture, the speed and the wheel
    env = envs.make("lane", num_envs=16, reward="torcs", curvature=0.02)

Made after Kendall et al. 2018 (arXiv:1807.00412), "Learning to drive in a day": actions are the
wheel's angle and the speed, leaving the lane ends the episode. `ddpg_jax.envs.lane.held_out` drives
roads that no training sees.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from jax import Array

from ddpg_jax import checks
from ddpg_jax.environment import (
    Environment,
    Renderer,
    ResetResult,
    SingleEnvironment,
    SingleStepResult,
)
from ddpg_jax.envs.autoreset import batch
from ddpg_jax.envs.lane.camera import draw, picture, scene
from ddpg_jax.envs.lane.car import TIME_STEP, set_points
from ddpg_jax.envs.lane.road import LANE_WIDTH, RMS_CURVATURE, Range
from ddpg_jax.envs.lane.state import (
    LaneState,
    begin,
    driven,
    features,
    is_off,
    speed,
    torcs,
    vehicle,
)
from ddpg_jax.types import Key

SHARPEST, NARROWEST, WIDEST = 0.05, 2.0, 10.0
"""The largest curvature in 1/m that can be asked for, and widths of a lane in m."""
SIZE, SMALLEST, LARGEST = 64, 8, 512
"""Pixels along a side of the camera's image: by default, least, most."""
OPTIONS = ("time_limit", "observation", "camera_size", "reward", "curvature", "lane_width")
"""Options of `make`."""
EACH_START = 16
"""An environment whose picture costs more than all else draws one start in so many steps for each
of its copies.
"""

Shown = Callable[[LaneState], Any]
"""What of a state is observed."""


def make(
    num_envs: int, *, time_limit: int = 1_200, observation: str = "features", **options: Any
) -> Environment:
    """``num_envs`` cars, each on a road of its own.

    Args:
        num_envs: E, at least 1.
        time_limit: steps of 0.1 s.
        observation: ``features``, see `features`; or ``camera``:
            ``{"camera": [S, S, 3] uint8, "vehicle": [2]}``, as `vehicle`.
        **options: as of `make_single`.

    Raises:
        ValueError: an option is unknown or out of its range.
    """
    single = make_single(observation=observation, **options)
    fresh = None if observation == "features" else max(1, num_envs // EACH_START)
    renderer = Renderer(draw, fps=1 / TIME_STEP)
    return batch(
        single,
        num_envs,
        time_limit,
        fresh_per_step=fresh,
        native_action=set_points,
        renderer=renderer,
    )


def make_single(
    *,
    observation: str = "features",
    camera_size: int = SIZE,
    reward: str = "speed",
    curvature: float = RMS_CURVATURE,
    lane_width: Any = LANE_WIDTH,
) -> SingleEnvironment:
    """One car on one road.

    Args:
        observation: as of `make`.
        camera_size: S, pixels along each side of the camera's picture, 8 to 512.
        reward: ``speed`` along the lane, or ``torcs``, see `speed` and `torcs`.
        curvature: root mean square of a road's, 0 to 0.05 1/m; 0 is straight.
        lane_width: m, from which to which it is drawn, or one number; 2 to 10.

    Raises:
        ValueError: an option is out of its range.
    """
    shown = shows(observation, camera_size)
    rewarded = _one_of("reward", reward, {"speed": speed, "torcs": torcs})
    if np.ndim(curvature):
        raise ValueError(f"curvature={curvature}: must be one number.")
    checks.between(0, SHARPEST, curvature=curvature)
    widths = _widths(lane_width)

    def reset(key: Key) -> ResetResult:
        state = begin(key, curvature, widths)
        return state, shown(state)

    def step(state: LaneState, action: Array, key: Key | None = None) -> SingleStepResult:
        state = driven(state, action)
        return state, shown(state), rewarded(state), is_off(state)

    return SingleEnvironment(reset, step, action_size=2, scene=scene)


def shows(observation: str = "features", camera_size: int = SIZE) -> Shown:
    """What one car sees of its state; arguments as of `make_single`."""
    checks.whole(SMALLEST, LARGEST, camera_size=camera_size)
    seen = lambda state: {"camera": picture(state, camera_size), "vehicle": vehicle(state)}
    return _one_of("observation", observation, {"features": features, "camera": seen})


def _one_of(what: str, name: Any, known: dict[str, Shown]) -> Shown:
    if not isinstance(name, str) or name not in known:
        raise ValueError(f"{what}={name!r}: must be {' or '.join(known)}.")
    return known[name]


def _widths(given: Any) -> Range:
    widths = given if isinstance(given, list | tuple) else [given]
    numbers = len(widths) in (1, 2) and all(isinstance(x, int | float) for x in widths)
    if not (numbers and NARROWEST <= widths[0] <= widths[-1] <= WIDEST):
        raise ValueError(
            f"lane_width={given}: give metres, {NARROWEST} to {WIDEST}, or two of them, "
            "from which to which it is drawn."
        )
    return float(widths[0]), float(widths[-1])
