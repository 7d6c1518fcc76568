"""Environments as values: on the device, pure functions of arrays; on the host, functions with
effects.

Axes are written in capitals: ``E`` environments, ``A`` action dimensions.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import Array

from ddpg_jax.types import Key, PyTree


@struct.dataclass
class TimeStep:
    """What one step of ``E`` environments returned.

    ``observation`` is what to act on now, after an automatic reset. ``next_observation`` is what
    really followed the action, before it. They differ only where ``terminated`` or ``truncated``.

    ``valid`` is False where the simulation broke down (`Environment.breaks`) and None where that
    cannot happen. Such a step is truncated, and nothing else of it means anything but
    ``observation``: it is not stored, and its episode not counted.
    """

    observation: PyTree
    reward: Array
    terminated: Array
    truncated: Array
    next_observation: PyTree
    valid: Array | None = None


ResetResult = tuple[PyTree, PyTree]
"""``(state, observation)``."""
Reset = Callable[[Key], ResetResult]
"""``reset(key)``: begin an episode, or ``E`` of them."""
StepResult = tuple[PyTree, TimeStep]
"""``(state, time_step)``."""
SingleStepResult = tuple[PyTree, PyTree, Array, Array]
"""``(state, observation, reward, terminated)``."""


ACHIEVED, DESIRED = "achieved_goal", "desired_goal"
"""Names of an observation's goals, as in Gymnasium-Robotics."""
WITH_GOALS = ("observation", ACHIEVED, DESIRED)
"""Names of an observation with goals."""


class Goal(NamedTuple):
    """What an environment with goals pays for where it came, as pure functions of one achieved goal
    (of the successor) and one desired goal, any trees of arrays without a batch axis.

    Its observations are a dict of ``observation``, ``achieved_goal`` and ``desired_goal``.
    """

    reward: Callable[[PyTree, PyTree], Array]
    """``reward(achieved, desired)``: all of the step's reward, a scalar."""
    success: Callable[[PyTree, PyTree], Array]
    """``success(achieved, desired)``: whether the goal is reached, a bool."""
    ends: bool = False
    """Whether an episode terminates where the goal is reached."""
    rewards: tuple[float, float] = (-math.inf, math.inf)
    """The least and the largest reward, as far as they are known."""


class SingleEnvironment(NamedTuple):
    """One environment, without batch axis, time limit or reset: what an adapter has to supply;
    `envs.batch` makes many.
    """

    reset: Reset
    """``reset(key)``: ``(state, observation)``; a fresh draw from the start distribution."""
    step: Callable[[PyTree, Array, Key], SingleStepResult]
    """``step(state, action, key)``: ``(state, observation, reward, terminated)`` for
    ``action: [A]`` in [-1, 1].
    """
    action_size: int
    truncated: Callable[[PyTree], Array] | None = None
    """``truncated(state)``: whether the episode is cut off here, though not over; None where only
    the time limit does that. A state that is terminated as well is terminated.
    """
    valid: Callable[[PyTree, PyTree, Array], Array] | None = None
    """``valid(state, observation, reward)``: whether the simulation still holds; None where it
    cannot break down. Where it does not, the environment is reset, and the step is no transition
    (`TimeStep`).
    """
    scene: Callable[[PyTree], PyTree] | None = None
    """``scene(state)``: the shapes of which it consists now, for a renderer; None where it has none
    to show.
    """
    goal: Goal | None = None
    """What it pays for the goals that it reaches; None where it has no goals."""


class Renderer(NamedTuple):
    """How an `Environment` is looked at. Nothing of it is needed to train; ``fps`` is also the
    control rate in the contract of an exported policy.
    """

    draw: Callable[[PyTree], Sequence[Any]] | None = None
    """``draw(states)``: frames ``[H, W, 3]`` uint8, from states ``[T, ...]`` of the
    `SingleEnvironment` (`Environment.single_state`).
    """
    viewer: Callable[[PyTree], str] | None = None
    """``viewer(states)``: the same as an HTML page, where the simulator has a viewer."""
    fps: float = 30.0
    """Steps per second of the environment's own time."""


def unit_action(action: Array) -> Array:
    """The action of an environment whose own range is [-1, 1] in every dimension."""
    return jnp.clip(action, -1.0, 1.0)


class BatchRecipe(NamedTuple):
    """How `ddpg_jax.envs.batch` made an `Environment`."""

    make: Callable[..., "Environment"]
    """``make(single, time_limit=, renderer=)``: another `SingleEnvironment` made into as many
    environments in the same way.
    """
    step: Callable[..., Any]
    """The environment's own; one that has another was wrapped since."""


class Environment(NamedTuple):
    """``num_envs`` environments stepped as one, with automatic reset; actions are in [-1, 1] per
    dimension.
    """

    reset: Reset
    """``reset(key)``: ``(env_state, observation)`` with leading axis ``E``."""
    step: Callable[[PyTree, Array, Key], StepResult]
    """``step(env_state, action, key)``: ``action: [E, A]``."""
    num_envs: int
    observation: PyTree
    """Shape and dtype of one observation (``jax.ShapeDtypeStruct``, no batch axis)."""
    action: jax.ShapeDtypeStruct
    """Shape ``[A]`` and dtype of one action."""
    time_limit: int
    """Steps after which an episode is truncated."""
    breaks: bool = False
    """Whether a simulation may break down, which `TimeStep.valid` then says."""
    native_action: Callable[[Array], Array] = unit_action
    """``native_action(action)``: ``[..., A]`` in the environment's own units and bounds, for
    export.
    """
    single: SingleEnvironment | None = None
    """What it was made from: what a planner steps and a renderer draws; None where it was made in
    another way.
    """
    single_state: Callable[[PyTree], PyTree] = lambda env_state: env_state
    """``single_state(env_state)``: the states of ``single`` in it, with its leading axes."""
    renderer: Renderer = Renderer()
    stacked: int = 1
    """Frames that an image joins along its last axis, of which each step brings one
    (`ddpg_jax.envs.frame_stack`).
    """
    recipe: BatchRecipe | None = None
    """How it was made; of use to what makes one like it (`ddpg_jax.envs.pixels`)."""
    goal: Goal | None = None
    """What a step pays for the goal that it reaches; None where there are no goals, or a wrapper
    sums up the rewards of several steps.
    """

    @property
    def drawable(self) -> bool:
        """Whether it can be drawn, in any form."""
        draws = (self.renderer.draw, self.renderer.viewer, self.single and self.single.scene)
        return any(draws)


class HostStep(NamedTuple):
    """What one step of ``E`` host environments returned; NumPy, as `TimeStep`.

    ``valid: [E]`` is False where the environment ignored the action in order to begin its next
    episode (Gymnasium's next-step autoreset): there is no transition there, and nothing but
    ``observation`` means anything.
    """

    observation: Any
    reward: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    next_observation: Any
    valid: np.ndarray


class HostEnvironment(NamedTuple):
    """``num_envs`` environments on the host, with automatic reset. What is not explained here is as
    of `Environment`.
    """

    reset: Callable[[int], Any]
    """``reset(seed) -> observation [E, ...]``; any non-negative integer."""
    step: Callable[[np.ndarray], HostStep]
    """``step(action [E, A]) -> HostStep``."""
    close: Callable[[], None]
    """Of what was made with it; also twice."""
    num_envs: int
    observation: Any
    """Shape and dtype of one observation, as the agent sees it: float64 as float32; uint8 stays,
    dicts stay dicts.
    """
    action: jax.ShapeDtypeStruct
    time_limit: int | None
    same_step: bool
    """Whether every step of every environment is a transition (same-step autoreset)."""
    native_action: Callable[[Array], Array]
    draw: Callable[[], Any]
    """``draw() -> [H, W, 3]`` uint8, environment 0 now; None where it was not made to be drawn."""
    fps: float
    """Steps per second of its own time."""
    stacked: int = 1
    bounds: Any = None
    """Lowest and highest of an action in its own units, and their dtype."""
    goal: Goal | None = None
    drawable: bool = True
    """Whether it says that it can be drawn as an array."""
