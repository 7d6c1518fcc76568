"""Copies of one Gymnasium environment stepped in turn, each reset in the step in which its episode
ends.

What a copy returns is put into arrays of ours at once, before anything else is called; its infos
are not looked at.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from ddpg_jax.checks import BrokenEnvironment, guarded
from ddpg_jax.environment import HostEnvironment, HostStep
from ddpg_jax.envs import spaces
from ddpg_jax.envs.actions import Actions, scaled
from ddpg_jax.envs.drawn import drawn


def words(seed: int, count: int) -> list[int]:
    """32 bits for each copy: those of one seed and those of another have nothing in common.

    Source: O'Neill 2015, "Developing a seed_seq alternative", as in ``numpy.random.SeedSequence``.
    """
    return [*np.random.SeedSequence(seed).generate_state(count).tolist()]


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
    count, actions, shapes = len(envs), scaled(action_space), spaces.shapes(observation_space)
    where, observed = f"{name}: step", f"{name}: an observation"
    resets = [guarded(name, "reset", env.reset) for env in envs]
    steps = [guarded(name, "step", env.step) for env in envs]

    def begin(rows: Any, index: int, **seed: int) -> None:
        answer = parts(resets[index](**seed), 2, f"{name}: reset")
        spaces.put(rows, answer[0], observed, index)

    def reset(seed: int) -> Any:
        rows = spaces.empty(shapes, count)
        for index, word in enumerate(words(seed, count)):
            begin(rows, index, seed=word)
        return rows

    def step(action: np.ndarray) -> HostStep:
        executed, following = actions.executed(action), spaces.empty(shapes, count)
        reward, terminated, truncated = (np.empty(count, kind) for kind in (float, bool, bool))
        for index, one in enumerate(steps):
            observation, number, over, cut, _ = parts(one(executed[index]), 5, where)
            reward[index] = _scalar(number, "reward", where)
            terminated[index] = _scalar(over, "terminated", where)
            truncated[index] = _scalar(cut, "truncated", where)
            spaces.put(following, observation, observed, index)
        truncated &= ~terminated
        ended, shown = np.flatnonzero(terminated | truncated), following
        if ended.size:
            shown = jax.tree.map(np.copy, following)
            for index in ended.tolist():
                begin(shown, index)
        reward = spaces.cast(reward, np.float32, f"{where} returned a reward")
        return HostStep(shown, reward, terminated, truncated, following, np.ones(count, bool))

    draw = lambda: envs[0].render() if envs[0].render_mode else None
    own = declared(name, envs[0], shapes, actions, draw, close)
    return HostEnvironment(
        reset, step, num_envs=count, time_limit=time_limit, same_step=True, **own
    )


def declared(
    name: str,
    env: Any,
    shapes: Any,
    actions: Actions,
    draw: Callable[[], Any],
    close: Callable[[], Any],
) -> dict[str, Any]:
    """What is alike in every `HostEnvironment`."""
    return {
        "observation": shapes,
        "action": jax.ShapeDtypeStruct((actions.size,), np.dtype(np.float32)),
        "native_action": actions.native,
        "bounds": actions.bounds,
        "drawable": "rgb_array" in ((env.metadata or {}).get("render_modes") or ()),
        "fps": float((env.metadata or {}).get("render_fps") or 30),
        "draw": guarded(name, "render", lambda: _picture(draw(), f"{name}: render returned")),
        "close": guarded(name, "close", close),
    }


def _picture(given: Any, where: str) -> Any:
    return None if given is None else drawn(given, where)


def parts(answer: Any, count: int, where: str) -> Any:
    """What ``reset`` or ``step`` returned, if it is as much as it must be."""
    several = isinstance(answer, tuple | list)
    if several and len(answer) == count:
        return answer
    given = f"{len(answer)} values" if several else f"a {type(answer).__name__}"
    more = "reward, terminated, truncated, " if count == 5 else ""
    wanted = f"(observation, {more}info)"
    raise BrokenEnvironment(f"{where} returned {given}: Gymnasium's returns {wanted}.")


def _scalar(given: Any, what: str, where: str) -> float:
    """What ``step`` returned as this: a reward is a number, and a flag true or false."""
    flag = what != "reward"
    if isinstance(given, bool | np.bool_ if flag else float):
        return given
    value, kinds = spaces.array(given), "iub" if flag else "fiub"
    if value.shape or value.dtype.kind not in kinds or (flag and value not in (0, 1)):
        wanted = "True or False" if flag else "one number"
        raise BrokenEnvironment(f"{where} returned as {what} {given!r}: it must be {wanted}.")
    return float(value)
