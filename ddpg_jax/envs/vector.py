"""Gymnasium's vector environments, also those of a user, as environments on the host."""

from __future__ import annotations

from typing import Any

import numpy as np

from ddpg_jax.checks import BrokenEnvironment, guarded
from ddpg_jax.environment import HostEnvironment, HostStep
from ddpg_jax.envs import spaces
from ddpg_jax.envs.actions import scaled
from ddpg_jax.envs.copies import Rows, copies, declared, fps, parts, words


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
    if same_step and type(env) is SyncVectorEnv:
        return copies(
            env.envs,
            name,
            time_limit,
            env.single_observation_space,
            env.single_action_space,
            env.close,
        )
    actions, seen = scaled(env.single_action_space), Rows(env.single_observation_space, count, name)
    begins = np.zeros(count, bool)  # next-step: which environments ignore the next action
    each = isinstance(env.unwrapped, SyncVectorEnv | AsyncVectorEnv)  # takes a seed for each copy
    resetting, stepping = guarded(name, "reset", env.reset), guarded(name, "step", env.step)

    def taken(observation: Any) -> list[np.ndarray]:
        rows = seen.empty()  # a copy: Gymnasium may write the next observation into the same array
        seen.put(rows, observation)
        return rows

    def reset(seed: int) -> Any:
        begins[:] = False
        given = words(seed, count)
        observation, _ = parts(
            resetting(seed=given if each else given[0] >> 1), 2, f"{name}: reset"
        )
        return seen.whole(taken(observation))

    def step(action: np.ndarray) -> HostStep:
        raw, reward, terminated, truncated, info = parts(
            stepping(actions.executed(action)), 5, f"{name}: step"
        )
        shown = following = taken(raw)
        terminated, truncated = (
            _flags(terminated, count, name) & ~begins,
            _flags(truncated, count, name) & ~begins,
        )
        valid, done = ~begins, terminated | truncated
        if same_step and done.any():
            following = [rows.copy() for rows in shown]
            _put_final(seen, following, info, np.flatnonzero(done), name)
        elif not same_step:
            begins[:] = done
        numbers = _numbers(reward, count, name)
        return HostStep(
            seen.whole(shown),
            numbers,
            terminated,
            truncated & ~terminated,
            seen.whole(following),
            valid,
        )

    close = guarded(name, "close", env.close)
    draw = guarded(
        name, "render", lambda: (env.render() or (None,))[0] if env.render_mode else None
    )
    own = declared(seen, actions)
    return HostEnvironment(
        reset,
        step,
        close,
        count,
        time_limit=time_limit,
        same_step=same_step,
        draw=draw,
        fps=fps(env),
        **own,
    )


def _numbers(given: Any, count: int, name: str) -> np.ndarray:
    numbers, given = np.empty(count, np.float32), spaces.array(given)
    given = given.astype(np.float64) if given.dtype.kind in "iub" else given
    spaces.put(numbers, given, f"{name}: step returned rewards")
    return numbers


def _flags(given: Any, count: int, name: str) -> np.ndarray:
    flags = np.asarray(given)
    if flags.shape != (count,) or flags.dtype.kind not in "biu":
        raise BrokenEnvironment(
            f"{name}: step returned flags of {flags.dtype}{list(flags.shape)} where "
            f"bool[{count}] is right."
        )
    return flags.astype(bool)


def _put_final(seen: Rows, rows: list[np.ndarray], info: Any, ended: np.ndarray, name: str) -> None:
    """The last observations of episodes that ended in this step, in place of the first of the next
    ones.
    """
    told = info.get("_final_obs", np.zeros(len(rows[0]), bool))
    for index in ended:
        if not told[index]:
            raise BrokenEnvironment(
                f"{name}: an episode ended without a final_obs in the infos of step: "
                "same-step autoreset has to give it, "
                "as what really followed."
            )
        seen.put(rows, _of_one(info["final_obs"], index), index)


def _of_one(final: Any, index: int) -> Any:
    """What is of one environment, in an array of observations or in a dict of arrays."""
    return (
        {key: _of_one(part, index) for key, part in final.items()}
        if isinstance(final, dict)
        else final[index]
    )
