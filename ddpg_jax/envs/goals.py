"""What environments with goals have in common: a sparse reward, and what a step returns."""

import jax.numpy as jnp
from jax import Array

from ddpg_jax import checks
from ddpg_jax.environment import Goal, SingleStepResult
from ddpg_jax.types import PyTree


def sparse(tolerance: float, *, ends: bool = False) -> Goal:
    """-1 a step, or 0 where the achieved goal ``[N]`` is within ``tolerance`` of the desired one.

    Args:
        tolerance: the largest distance, in the unit of the goals.
        ends: whether an episode terminates there.

    Raises:
        ValueError: an argument is out of its range.

    Source: Plappert et al. 2018 (arXiv:1802.09464), section 1.2.
    """
    checks.positive(tolerance=tolerance)
    checks.switch(ends=ends)

    def success(achieved: Array, desired: Array) -> Array:
        return jnp.sum(jnp.square(achieved - desired)) <= float(tolerance) ** 2

    def reward(achieved: Array, desired: Array) -> Array:
        return success(achieved, desired).astype(jnp.float32) - 1.0

    return Goal(reward, success, ends=ends, rewards=(-1.0, 0.0))


def shown(observation: Array, achieved: Array, desired: Array) -> dict[str, Array]:
    """An observation with goals, by Gymnasium-Robotics' names."""
    return {"observation": observation, "achieved_goal": achieved, "desired_goal": desired}


def outcome(goal: Goal, state: PyTree, observation: dict[str, Array]) -> SingleStepResult:
    """What a step returns: ``(state, observation, reward, terminated)``."""
    pair = observation["achieved_goal"], observation["desired_goal"]
    return state, observation, goal.reward(*pair), goal.success(*pair) & goal.ends
