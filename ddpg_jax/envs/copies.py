"""Copies of one Gymnasium environment stepped in turn, each reset in the step in which its episode
ends.

What a copy returns is put into arrays of ours at once, before anything else is called; its infos
are not looked at.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from ddpg_jax.checks import BrokenEnvironment, guarded
from ddpg_jax.environment import HostEnvironment, HostStep
from ddpg_jax.envs import spaces
from ddpg_jax.envs.actions import Actions, scaled

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def words(seed: int, count: int) -> list[int]:
    """32 bits for each copy: those of one seed and those of another have nothing in common.

    Source: O'Neill 2015, "Developing a seed_seq alternative", as in ``numpy.random.SeedSequence``.
    """
    result: list[int] = np.random.SeedSequence(seed).generate_state(count).tolist()
    return result


class Rows:
    """Arrays ``[E, ...]`` for the observations of ``space``, and how those of one environment or of
    all come into them.
    """

    def __init__(self, space: Any, count: int, name: str) -> None:
        self._leaves, self._count = tuple(spaces.leaves(space)), count
        self._named = [
            f"{name}: an observation{''.join(f'[{key!r}]' for key in leaf.path)}"
            for leaf in self._leaves
        ]
        self._name = name
        self.shape = spaces.tree(
            [jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in self._leaves], self._leaves
        )

    def empty(self) -> list[np.ndarray]:
        """Arrays to fill."""
        return [np.empty((self._count, *leaf.shape), leaf.dtype) for leaf in self._leaves]

    def put(self, rows: list[np.ndarray], observation: Any, index: Any = ...) -> None:
        """Copy the observation of environment ``index``, or those of all, into ``rows``."""
        for leaf, into, named in zip(self._leaves, rows, self._named, strict=True):
            part = observation
            for key in leaf.path:
                try:
                    part = part[key]
                except (KeyError, TypeError, IndexError) as error:
                    raise BrokenEnvironment(
                        f"{self._name}: an observation has no {key!r}, which its space has."
                    ) from error
            spaces.put(into[index, ...] if index is not ... else into, part, named)

    def whole(self, rows: list[np.ndarray]) -> Any:
        """Filled arrays as an observation."""
        return spaces.tree(rows, self._leaves)


def copies(
    envs: Sequence[Any],
    name: str,
    time_limit: int | None,
    observation_space: Any,
    action_space: Any,
    close: Callable[[], Any],
) -> HostEnvironment:
    """Environments with the same spaces as one.

    Raises:
        ValueError: the spaces do not fit (`ddpg_jax.envs.spaces`).
        BrokenEnvironment: from ``reset`` and ``step``: an environment raised, or returned what it
            must not.
    """
    count, actions, seen = len(envs), scaled(action_space), Rows(observation_space, len(envs), name)
    resets = [guarded(name, "reset", env.reset) for env in envs]
    steps = [guarded(name, "step", env.step) for env in envs]

    def begin(rows: list[np.ndarray], index: int, **seed: int) -> None:
        observation, _ = parts(resets[index](**seed), 2, f"{name}: reset")
        seen.put(rows, observation, index)

    def reset(seed: int) -> Any:
        rows = seen.empty()
        for index, word in enumerate(words(seed, count)):
            begin(rows, index, seed=word)
        return seen.whole(rows)

    def step(action: np.ndarray) -> HostStep:
        executed, following, reward = actions.executed(action), seen.empty(), np.empty(count)
        terminated, truncated = np.empty(count, bool), np.empty(count, bool)
        for index, one in enumerate(steps):
            observation, reward[index], terminated[index], truncated[index] = _read(
                one(executed[index]), name
            )
            seen.put(following, observation, index)
        truncated &= ~terminated
        ended, shown = np.flatnonzero(terminated | truncated), following
        if ended.size:
            shown = [rows.copy() for rows in following]
            for index in ended.tolist():
                begin(shown, index)
        reward = spaces.cast(reward, np.float32, f"{name}: step returned a reward")
        return HostStep(
            seen.whole(shown),
            reward,
            terminated,
            truncated,
            seen.whole(following),
            np.ones(count, bool),
        )

    close, own = guarded(name, "close", close), declared(seen, actions)
    draw = guarded(name, "render", lambda: envs[0].render() if envs[0].render_mode else None)
    return HostEnvironment(
        reset,
        step,
        close,
        count,
        time_limit=time_limit,
        same_step=True,
        draw=draw,
        fps=fps(envs[0]),
        **own,
    )


def declared(seen: Rows, actions: Actions) -> dict[str, Any]:
    """What a `HostEnvironment` says of its observations and actions."""
    action = jax.ShapeDtypeStruct((actions.size,), np.dtype(np.float32))
    return {"observation": seen.shape, "action": action, "native_action": actions.native}


def fps(env: Any) -> float:
    """Steps per second of an environment's own time, as far as it says."""
    return float((env.metadata or {}).get("render_fps") or 30)


def parts(answer: Any, count: int, where: str) -> Any:
    """What ``reset`` or ``step`` returned, if it is as much as it must be."""
    if not isinstance(answer, tuple | list) or len(answer) != count:
        given = (
            f"{len(answer)} values"
            if isinstance(answer, tuple | list)
            else f"a {type(answer).__name__}"
        )
        wanted = {
            2: "(observation, info)",
            5: "(observation, reward, terminated, truncated, info)",
        }[count]
        raise BrokenEnvironment(f"{where} returned {given}: Gymnasium's returns {wanted}.")
    return answer


def _read(answer: Any, name: str) -> tuple[Any, float, bool, bool]:
    """What ``step`` returned but for the info: a number is a number, and a flag true or false."""
    where = f"{name}: step"
    observation, reward, terminated, truncated, _ = parts(answer, 5, where)
    return (
        observation,
        _number(reward, where),
        _flag(terminated, "terminated", where),
        _flag(truncated, "truncated", where),
    )


def _number(given: Any, where: str) -> float:
    if isinstance(given, float):
        return given
    value = spaces.array(given)
    if value.shape or value.dtype.kind not in "fiub":
        raise BrokenEnvironment(f"{where} returned as reward {given!r}: it must be one number.")
    return float(value)


def _flag(given: Any, which: str, where: str) -> bool:
    if isinstance(given, bool | np.bool_):
        return bool(given)
    value = spaces.array(given)
    if value.shape or value.dtype.kind not in "iub" or value not in (0, 1):
        raise BrokenEnvironment(f"{where} returned as {which} {given!r}: it must be True or False.")
    return bool(value)
