"""Does an environment with goals keep its word? What `ddpg_jax.envs.check` asks of a
`ddpg_jax.environment.Goal`.
"""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ddpg_jax import checks
from ddpg_jax.environment import (
    ACHIEVED,
    DESIRED,
    WITH_GOALS,
    Environment,
    Goal,
    HostEnvironment,
)
from ddpg_jax.types import PyTree

Judge = Callable[[PyTree, Any], np.ndarray]
"""``judge(observation, time_step)``: bools ``[E, 5]`` of one step, which `faults` understands."""


def unfit(env: Environment | HostEnvironment) -> list[str]:
    """What is wrong with a goal before anything is played; one sentence, or none."""
    if (goal := env.goal) is None:
        return []
    seen = env.observation
    if not isinstance(seen, dict) or not set(seen) >= {*WITH_GOALS}:
        has = sorted(seen) if isinstance(seen, dict) else "no dict"
        return [f"it has goals, and its observation is {has}: it must hold {sorted(WITH_GOALS)}"]
    pair = seen[ACHIEVED], seen[DESIRED]
    if not _alike(*pair):
        return [
            f"achieved_goal is {_shown(pair[0])} and desired_goal {_shown(pair[1])}: they must be "
            "alike in shape and dtype, as one takes the place of the other"
        ]
    for name in ("reward", "success"):
        try:
            found = jax.eval_shape(getattr(goal, name), *pair)
        except Exception as error:
            said = f"{type(error).__name__}: {checks.first_line(error)}"
            return [f"goal.{name} cannot be traced by JAX: {said}"]
        if getattr(found, "shape", None) != ():
            return [f"goal.{name} of one achieved and one desired goal is {found}: it must be one"]
    return []


def _alike(one: PyTree, other: PyTree) -> bool:
    return _shown(one) == _shown(other)


def _shown(tree: PyTree) -> str:
    return ", ".join(
        f"{jax.tree_util.keystr(path)} {x.dtype}{list(x.shape)}".lstrip()
        for path, x in jax.tree_util.tree_leaves_with_path(tree)
    )


def judge_of(goal: Goal | None) -> Judge:
    """What compares a goal with each step; of None, what has nothing to say, ``[E, 0]``."""
    if goal is None:
        return lambda observation, now: np.zeros((len(np.asarray(now.reward)), 0), bool)
    low, high = goal.rewards

    @jax.jit
    @jax.vmap
    def judged(acted_on: PyTree, following: Any, reward: Any, ended: Any, counts: Any) -> Any:
        desired = following[DESIRED]
        pair = following[ACHIEVED], desired
        paid, reached = jnp.float32(goal.reward(*pair)), jnp.bool_(goal.success(*pair))
        same = jax.tree.map(lambda a, b: jnp.all(a == b), acted_on[DESIRED], desired)
        still = jnp.all(jnp.stack(jax.tree.leaves(same)))
        differs = ~jnp.isclose(reward, paid, rtol=1e-5, atol=1e-6)
        beyond = (paid < low) | (paid > high)
        found = differs, beyond, ~still, reached & ~ended, reached & ended
        return jnp.stack(found) & counts

    def judge(observation: PyTree, now: Any) -> np.ndarray:
        counts = np.ones(len(now.reward), bool) if now.valid is None else now.valid
        return np.asarray(
            judged(observation, now.next_observation, now.reward, now.terminated, counts)
        )

    return judge


def faults(goal: Goal | None, seen: np.ndarray) -> Iterator[str]:
    """Findings about the steps ``[steps, E, 5]`` that were judged."""
    if goal is None:
        return
    differs, beyond, moved, goes_on, over = np.moveaxis(seen, -1, 0)
    if differs.any():
        yield (
            f"at {_count(differs)} the reward is not goal.reward of the achieved goal that "
            "followed and the desired one: rewards of other goals are computed by it, so it must "
            "be all that a step pays, of its successor, in the same unit"
        )
    if beyond.any():
        yield (
            f"at {_count(beyond)} goal.reward is not within goal.rewards {goal.rewards}: they are "
            "its least and its largest"
        )
    if moved.any():
        yield (
            f"at {_count(moved)} the desired goal that followed is not the one that was acted on: "
            "a goal stays the same within an episode"
        )
    if goal.ends and goes_on.any():
        yield (
            f"at {_count(goes_on)} the goal is reached and the step is not terminated, but "
            "goal.ends says that an episode ends there"
        )
    if not goal.ends and over.any() and not goes_on.any():
        yield (
            f"at {_count(over)} the goal is reached, and all of them are terminated: say so by "
            "goal.ends, so that nothing is expected to follow a goal"
        )


def _count(found: np.ndarray) -> str:
    return f"{found.sum()} of {found.size:,} steps"
