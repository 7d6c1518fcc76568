"""The error for an environment that is not known: which may be meant, of every family."""

import contextlib
import importlib.util
import re
from collections.abc import Iterable
from pathlib import Path

from ddpg_jax import checks

ROBOTICS = re.compile(
    r"(?:^|/)((?:Fetch|HandReach|HandManipulate|AdroitHand|AntMaze|PointMaze|FrankaKitchen)\w*?)"
    r"(-v\d+)?$"
)
"""Environments of Gymnasium-Robotics, which Gymnasium does not bring."""
TWO_WORDS = re.compile(r"[A-Z][a-z]+[A-Z]\w*")
"""As Playground's names are: its registry takes seconds to import."""


def unknown_environment(name: str, known: Iterable[str]) -> checks.UnknownName:
    """The error for ``name``, which is none of ``known``: it names those with the same last part,
    else a module of that name in the working folder, else the nearest.
    """
    if other := of_robotics(name):
        return other
    known = [*known]
    ids: list[str] = []
    with contextlib.suppress(ImportError):
        import gymnasium

        ids = [f"gymnasium/{each}" for each in gymnasium.registry if "/" not in each]
    newest = {_last_part(each): each for each in ids}
    same = [each for each in (*known, *newest.values()) if _last_part(each) == _last_part(name)]
    if (exact := f"gymnasium/{name}") in ids:
        same = [exact, *(each for each in same if each not in newest.values())]
    if not same and TWO_WORDS.fullmatch(name) and importlib.util.find_spec("mujoco_playground"):
        from ddpg_jax.envs import playground

        same = [f"playground/{each}" for each in playground.names() if each == name]
    where = "`ddpg-jax envs` lists all."
    if not same and name.isidentifier() and Path(f"{name}.py").is_file():
        remedy = f"{name}.py is there, give {name}:<function>, such as {name}:make."
        return checks.UnknownName("environment", name, remedy)
    if not same:
        return checks.nearest("environment", name, known, where)
    meant = " or ".join(map(repr, same))
    return checks.UnknownName("environment", name, f"did you mean {meant}? {where}")


def of_robotics(name: str) -> checks.UnknownName | None:
    """The error for an environment of Gymnasium-Robotics; None for others."""
    found = ROBOTICS.search(name)
    if found is None:
        return None
    full = f"gymnasium_robotics:{found[1]}{found[2] or '-v4'}"
    remedy = f"pip install gymnasium-robotics, and give gymnasium/{full}."
    return checks.UnknownName("environment", name, f"it is of Gymnasium-Robotics: {remedy}")


def _last_part(name: str) -> str:
    return re.sub(r"-v\d+$|[-_]", "", re.split("[/:]", name)[-1]).lower()
