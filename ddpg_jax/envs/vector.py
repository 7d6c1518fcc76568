"""Gymnasium's vector environments, also those of a user, as environments on the host."""

from typing import Any

import jax
import numpy as np

from ddpg_jax.checks import BrokenEnvironment, guarded
from ddpg_jax.environment import HostEnvironment, HostStep
from ddpg_jax.envs import spaces
from ddpg_jax.envs.actions import scaled
from ddpg_jax.envs.copies import copies, declared, parts, words


def vector(env: Any, time_limit: int | None = None) -> HostEnvironment:
    """Any ``gymnasium.vector.VectorEnv`` in same-step or next-step autoreset mode.

    Actions are scaled per dimension from [-1, 1] to the bounds of the action space, and clipped
    there. Of the infos only ``final_obs`` is looked at, in same-step mode, where ``_final_obs``
    says so and an episode has ended. The copies of a ``SyncVectorEnv`` in same-step mode are
    stepped without it, as `ddpg_jax.envs.gymnasium.make` steps its own. Any other in that mode has
    to hand out copies: where an environment in it writes its observation in place, ``final_obs``
    has become the next episode's start before it comes here (`ddpg_jax.envs.check` finds that);
    choose next-step mode, or make it copy.

    Args:
        env: the vector environment; it is closed by ``close``.
        time_limit: for information, what truncates is the environment itself; None is what it was
            registered with. An evaluation needs one.

    Raises:
        ValueError: the action space is not a bounded, one-dimensional Box, an observation space is
            of a kind that has no array, or the autoreset mode is disabled.
        BrokenEnvironment: from ``reset`` and ``step``: it raised, or returned what it must not.
    """
    from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv

    mode = AutoresetMode(env.metadata.get("autoreset_mode", AutoresetMode.NEXT_STEP))
    if mode is AutoresetMode.DISABLED:
        raise ValueError(
            "this vector environment does not reset itself: make it with "
            "AutoresetMode.SAME_STEP or NEXT_STEP."
        )
    same_step, count = mode is AutoresetMode.SAME_STEP, env.num_envs
    spec = env.spec or getattr(getattr(env.unwrapped, "envs", (None,))[0], "spec", None)
    name = f"gymnasium/{spec.id}" if spec else type(env.unwrapped).__name__
    time_limit = time_limit or (spec and spec.max_episode_steps) or None
    alike = env.single_observation_space, env.single_action_space
    if same_step and type(env) is SyncVectorEnv:
        return copies(env.envs, name, time_limit, *alike, env.close)
    shapes, actions = spaces.shapes(alike[0]), scaled(alike[1])
    begins = np.zeros(count, bool)  # next-step: which environments ignore the next action
    each = isinstance(env.unwrapped, SyncVectorEnv | AsyncVectorEnv)  # takes a seed for each copy
    resetting, stepping = guarded(name, "reset", env.reset), guarded(name, "step", env.step)

    def taken(observation: Any) -> Any:
        # A copy: Gymnasium may write the next observation into the same array.
        rows = spaces.empty(shapes, count)
        spaces.put(rows, observation, f"{name}: an observation")
        return rows

    def reset(seed: int) -> Any:
        begins[:] = False
        given = words(seed, count)
        answer = resetting(seed=given if each else given[0] >> 1)
        return taken(parts(answer, 2, f"{name}: reset")[0])

    def step(action: np.ndarray) -> HostStep:
        raw, reward, *flags, info = parts(stepping(actions.executed(action)), 5, f"{name}: step")
        shown, valid = taken(raw), ~begins
        terminated, truncated = (
            _each(given, np.empty(count, bool), f"{name}: step returned flags") & valid
            for given in flags
        )
        rewards = _each(reward, np.empty(count, np.float32), f"{name}: step returned rewards")
        following, done = shown, terminated | truncated
        if same_step and done.any():
            following = jax.tree.map(np.copy, shown)
            _put_final(following, info, done, name)
        elif not same_step:
            begins[:] = done
        return HostStep(shown, rewards, terminated, truncated & ~terminated, following, valid)

    draw = lambda: (env.render() or (None,))[0] if env.render_mode else None
    own = declared(name, env, shapes, actions, draw, env.close)
    return HostEnvironment(
        reset, step, num_envs=count, time_limit=time_limit, same_step=same_step, **own
    )


def _each(given: Any, rows: np.ndarray, where: str) -> np.ndarray:
    """Rewards or flags, one for each environment, in these ``rows``."""
    given = spaces.array(given)
    spaces.put(rows, given.astype(rows.dtype) if given.dtype.kind in "iub" else given, where)
    return rows


def _put_final(rows: Any, info: Any, ended: np.ndarray, name: str) -> None:
    """The last observations of episodes that ended in this step, in place of the first of the next
    ones.
    """
    if not np.all(info.get("_final_obs", False) | ~ended):
        raise BrokenEnvironment(
            f"{name}: an episode ended without a final_obs in the infos of step: same-step "
            "autoreset has to give it, as what really followed."
        )
    for index in np.flatnonzero(ended).tolist():
        spaces.put(rows, _of_one(info["final_obs"], index), f"{name}: an observation", index)


def _of_one(final: Any, index: int) -> Any:
    """What is of one environment, in an array of observations or in a dict of arrays."""
    if isinstance(final, dict):
        return {key: _of_one(part, index) for key, part in final.items()}
    return final[index]
