"""Transitions that were collected before: read from arrays, from Minari's datasets, or from the
replay of a run, and put into a replay.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from ddpg_jax import returns
from ddpg_jax.checks import first_line
from ddpg_jax.runs.checkpoints.stored_replay import read_replay, transitions_in
from ddpg_jax.runs.config.stored import load_config
from ddpg_jax.runs.folder import files
from ddpg_jax.runs.options.validation import RunError
from ddpg_jax.runs.programs import setup
from ddpg_jax.types import Transition

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ddpg_jax.runs.config.run_config import Config
    from ddpg_jax.types import PyTree

ARRAYS = ("observations", "actions", "rewards", "terminations", "truncations")
"""Arrays ``[N, ...]`` of N steps in their order, and with them ``next_observations``; without it
an episode that was cut off loses its last step. Names are Minari's."""
NEXT = ("next_observations",)
MINARI = "minari/"
FROM_PYTHON = "arrays given from Python"
"""Instead of a path, where ``offline`` was given as arrays."""


def named(given: Any) -> str:
    """Return what ``config.offline`` says of what was given: a path, or that it was arrays."""
    return str(given) if isinstance(given, str | Path) else FROM_PYTHON


def counted(config: Config, given: Any = None, resume: bool = False) -> tuple[Config, Any]:
    """Return the configuration with the number of transitions that `read` returns, and these; of a
    resumed run, which has the number and may need none, what was given.
    """
    if resume or not config.offline:
        return config, given
    found = read(config, given)
    return dataclasses.replace(config, offline_rows=len(found.reward)), found


def read(config: Config, given: Any = None) -> Transition:
    """Return what is to be put into a replay, ``[N, ...]``, the oldest first: of n steps where the
    run learns from n-step returns, actions in [-1, 1].

    Args:
        config: of the run.
        given: arrays from Python instead of the file that ``config.offline`` names.

    Raises:
        RunError: they are not of this run's environment, or cannot be read.
    """
    own = config.hyperparameters
    if config.preset.images:
        raise RunError(
            f"offline={config.offline}: the replay of preset {config.preset.name} stores what "
            "belongs together, images in their order or an encoder's codes: leave it out."
        )
    differs = [name for name in config.vary if own.keeps(name) and name != "reward_scale"]
    if config.evolve or differs:
        what = f"{differs[0]} differs between members" if differs else "members evolve"
        raise RunError(
            f"offline={config.offline}: {what}, and all begin with the same transitions."
        )
    given = None if isinstance(given, str | Path) else given
    if given is None and config.offline == FROM_PYTHON:
        raise RunError(f"offline is {FROM_PYTHON}, where the run began: give them again.")
    path, env = Path(config.offline or "").expanduser(), setup.declared(config, None)
    if given is None and (path / "config.json").is_file():
        parts = _of_run(config, env, path)
    else:
        whole = [_transitions(config, env, one) for one in _episodes(config, path, given)]
        ends = np.cumsum([len(one.reward) for one in whole]) - 1
        parts = [_joined(whole)] if whole else []
        if own.n_step > 1 and len(parts[0].reward):
            parts = [_n_step(parts[0], ends, own.n_step, own.gamma)]
    found = _newest(config, parts)
    if found is None:
        raise RunError(f"offline={config.offline} has no transition.")
    return found


def _joined(parts: list[Transition]) -> Transition:
    joined: Transition = jax.tree.map(lambda *x: np.concatenate(x), *parts)
    return joined


def _newest(config: Config, parts: list[Transition]) -> Transition | None:
    """Return all of them, or as many of the newest of each part as are wanted."""
    if not any(len(one.reward) for one in parts):
        return None
    most = max(1, (config.offline_rows or 0) // len(parts)) if config.offline_rows else 0
    return _joined([jax.tree.map(lambda x: x[-most:], one) for one in parts])


def _episodes(config: Config, path: Path, given: Any) -> Iterator[dict[str, Any]]:
    """Yield arrays of steps that follow one another; only the last one is an end."""
    if given is None and str(config.offline).startswith(MINARI):
        given = _minari(str(config.offline).removeprefix(MINARI))
    if hasattr(given, "iterate_episodes"):
        for one in given.iterate_episodes():
            yield {
                **{name: getattr(one, name) for name in ARRAYS[1:]},
                "observations": jax.tree.map(lambda x: np.asarray(x)[:-1], one.observations),
                "next_observations": jax.tree.map(lambda x: np.asarray(x)[1:], one.observations),
            }
        return
    if given is None:
        try:
            with path.open("rb") as file, np.load(file) as stored:
                given = dict(stored)
        except Exception as error:  # of a damaged archive, or another kind of file
            raise RunError(
                f"offline={config.offline} cannot be read ({first_line(error)}): give an .npz file "
                f"of {', '.join(ARRAYS)}, {MINARI}DATASET, or the folder of a run."
            ) from error
    if not isinstance(given, Mapping):
        raise RunError(
            f"offline is a {type(given).__name__}: give a dict of arrays {', '.join(ARRAYS)}, or a "
            "dataset of Minari."
        )
    if absent := [name for name in ARRAYS if name not in given]:
        raise RunError(f"offline has no {absent[0]!r}: it needs {', '.join(ARRAYS)}.")
    steps: dict[str, Any] = {
        name: {key: np.asarray(x) for key, x in value.items()}
        if isinstance(value, Mapping)
        else np.asarray(value)
        for name, value in given.items()
        if name in (*ARRAYS, *NEXT)
    }
    lengths = {len(x) if x.ndim else 0 for x in jax.tree.leaves(steps)}
    if len(lengths) > 1:
        raise RunError(f"offline's arrays have {sorted(lengths)} rows: give each as many.")
    ends = np.flatnonzero(np.logical_or(steps["terminations"], steps["truncations"])) + 1
    bounds = sorted({0, *ends.tolist(), lengths.pop()})
    for between in itertools.starmap(slice, itertools.pairwise(bounds)):
        yield jax.tree.map(lambda x, within=between: x[within], steps)


def _minari(name: str) -> Any:
    try:
        import minari
    except ImportError as error:
        raise RunError(
            f"offline={MINARI}{name} needs Minari: pip install 'ddpg_jax[minari]'."
        ) from error
    try:
        return minari.load_dataset(name)
    except Exception as error:  # whatever its storage raises
        raise RunError(
            f"offline={MINARI}{name} cannot be loaded ({first_line(error)}): `minari list local` "
            "lists what is there, `minari download` gets another."
        ) from error


def _transitions(config: Config, env: Any, steps: dict[str, Any]) -> Transition:
    """Return an episode's steps, or those of a part of it, as transitions of single steps. Without
    successors the last one is left out, but where it terminated: then none is needed.
    """
    if "next_observations" not in steps:
        last = jax.tree.map(lambda x: x[1:], steps["observations"])
        if np.any(steps["terminations"][-1:]):
            last = jax.tree.map(lambda x: np.concatenate([x[1:], x[-1:]]), steps["observations"])
        else:
            steps = jax.tree.map(lambda x: x[:-1], steps)
        steps = steps | {"next_observations": last}
    count = len(steps["rewards"])
    scalar = jax.ShapeDtypeStruct((), np.dtype(np.float32))
    parts: dict[str, Any] = {
        "observation": _as(config, env.observation, steps["observations"], count, "observations"),
        "action": _normalised(config, env, steps["actions"], count),
        "reward": _as(config, scalar, steps["rewards"], count, "rewards"),
        "discount": 1 - _as(config, scalar, steps["terminations"], count, "terminations"),
        "next_observation": _as(
            config, env.observation, steps["next_observations"], count, "next_observations"
        ),
    }
    return Transition(**parts)


def _as(config: Config, shapes: PyTree, given: Any, count: int, name: str) -> PyTree:
    """Return arrays of the shapes and dtypes of observations."""
    if isinstance(shapes, dict) != isinstance(given, Mapping):
        raise RunError(f"offline's {name} are not a dict where {config.env}'s are, or are one.")
    if isinstance(shapes, dict):
        if absent := [key for key in shapes if key not in given]:
            raise RunError(f"offline's {name} have no {absent[0]!r}, which {config.env}'s have.")
        given = {key: given[key] for key in shapes}

    def one(shape: Any, x: Any) -> np.ndarray:
        x = np.asarray(x)
        if x.shape != (count, *shape.shape):
            raise RunError(
                f"offline's {name} have the shape {list(x.shape)} where {config.env} needs "
                f"{[count, *shape.shape]}."
            )
        if x.dtype.kind not in "biuf":
            raise RunError(f"offline's {name} are of the type {x.dtype}: give numbers.")
        with np.errstate(over="ignore"):
            x = x.astype(shape.dtype)
        if not np.all(np.isfinite(x)):
            raise RunError(f"offline's {name} have NaN or infinite numbers: leave such steps out.")
        if name == "terminations" and np.any((x != 0) & (x != 1)):
            raise RunError("offline's terminations are not all 0 or 1: give whether it terminated.")
        return x

    return jax.tree.map(one, shapes, given)


def _normalised(config: Config, env: Any, given: Any, count: int) -> np.ndarray:
    """Return actions in [-1, 1] of those in the environment's own units.

    Raises:
        RunError: they are not of this shape, or beyond the bounds.
    """
    action = _as(config, env.action, np.asarray(given, np.float64), count, "actions")
    low, high = (np.asarray(env.native_action(jnp.full(env.action.shape, x))) for x in (-1.0, 1.0))
    whole = low.dtype.kind in "iu"
    width = (high - low + whole).astype(np.float64)
    scaled = np.where(width > 0, 2 * (action - low + whole / 2) / np.where(width, width, 1) - 1, 0)
    if np.any(np.abs(scaled) > 1 + 1e-4):
        raise RunError(
            f"offline's actions reach from {action.min():.4g} to {action.max():.4g}, and "
            f"{config.env} takes {low.tolist()} to {high.tolist()}: give them in its own units."
        )
    return np.clip(scaled, -1, 1).astype(np.float32)


def _n_step(steps: Transition, ends: np.ndarray, length: int, gamma: float) -> Transition:
    """Return the transitions of n steps that begin at each step; none reaches beyond the ``ends``
    of episodes, numbers of steps.
    """
    window, count = returns.n_step(length, gamma), len(steps.reward)
    one = jax.tree.map(lambda x: jnp.asarray(x)[:, None], steps)
    last = jax.tree.map(lambda x: jnp.repeat(x[-1:], length - 1, axis=0), one)
    pushed = jax.tree.map(lambda x, y: jnp.concatenate([x, y]), one, last)
    ended = jnp.zeros((count + length - 1, 1), bool).at[ends].set(True).at[count - 1 :].set(True)
    state = window.init(jax.tree.map(lambda x: x[0], one))
    push = lambda state, given: window.push(state, *given)
    _, begun = jax.lax.scan(push, state, (pushed, ended))
    made: Transition = jax.tree.map(lambda x: np.asarray(x[length - 1 :, 0]), begun)
    return made


def _of_run(config: Config, env: Any, folder: Path) -> list[Transition]:
    """Return the transitions in the replay of a run, of each of its members and shards."""
    theirs = load_config(folder)
    own, old = config.hyperparameters, theirs.hyperparameters
    meaning = lambda of: (of.window, of.window > 1 and of.gamma)
    mixed = old.window > 1 and "gamma" in theirs.vary
    if theirs.preset.images or meaning(own) != meaning(old) or mixed:
        raise RunError(
            f"offline={folder} stores transitions of n_step={old.window}, gamma={old.gamma}, which "
            f"cannot become those of n_step={own.n_step}, gamma={own.gamma}: give arrays of single "
            "steps."
        )
    parts = transitions_in(read_replay(folder, theirs, files.LAST))
    for name, shapes in (("observation", env.observation), ("action", env.action)):
        there = jax.tree.map(lambda x: x.shape[1:], getattr(parts[0], name))
        here = jax.tree.map(lambda x: x.shape, shapes)
        if there != here:
            raise RunError(
                f"offline={folder} has {name}s of the shape {there} where {config.env} has {here}."
            )
    return parts
