"""Transitions that were collected before: read from arrays, from Minari's datasets, or from the
replay of a run, and put into a replay.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from ddpg_jax import envs, returns
from ddpg_jax.checks import first_line
from ddpg_jax.replay.rows import RingState, unpack
from ddpg_jax.runs.checkpoints.store import Checkpoints
from ddpg_jax.runs.config import mesh
from ddpg_jax.runs.config.stored import load_config
from ddpg_jax.runs.console import output
from ddpg_jax.runs.folder import files
from ddpg_jax.runs.options.validation import RunError
from ddpg_jax.runs.programs import build, setup
from ddpg_jax.types import Transition

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ddpg_jax.runs.config.run_config import Config
    from ddpg_jax.types import PyTree

ARRAYS = ("observations", "actions", "rewards", "terminations", "truncations")
"""Arrays ``[N, ...]`` of N steps in their order, and with them ``next_observations``; without it
each episode loses its last step. Names are Minari's."""
NEXT = ("next_observations",)
MINARI = "minari/"


def counted(
    config: Config, given: Any = None, resume: bool = False
) -> tuple[Config, Transition | None]:
    """Return the configuration with the number of transitions that `read` returns, and these; a
    resumed run has the number, and may need none.
    """
    if resume or not config.offline:
        return config, None
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
    if config.preset.images:
        raise RunError(
            f"offline={config.offline}: the replay of preset {config.preset.name} stores what "
            "belongs together, images in their order or an encoder's codes: leave it out."
        )
    path = Path(config.offline or "").expanduser()
    if given is None and (path / "config.json").is_file():
        return _of_run(config, path)
    env = setup.declared(config, None)
    episodes = _episodes(config, path, given)
    found = [_transitions(config, env, one) for one in episodes]
    if not sum(len(one.reward) for one in found):
        raise RunError(f"offline={config.offline} has no transition.")
    return _joined(config, found)


def _joined(config: Config, parts: list[Transition]) -> Transition:
    """Return all of them, or the newest ones where fewer are wanted."""
    most = config.offline_rows or 0
    joined: Transition = jax.tree.map(lambda *x: np.concatenate(x)[-most:], *parts)
    return joined


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
            with np.load(path) as file:
                given = dict(file)
        except (OSError, ValueError) as error:
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
    steps = {name: value for name, value in given.items() if name in (*ARRAYS, *NEXT)}
    lengths = {len(x) for x in jax.tree.leaves(steps)}
    if len(lengths) > 1:
        raise RunError(f"offline's arrays have {sorted(lengths)} rows: give each as many.")
    ends = np.flatnonzero(np.logical_or(steps["terminations"], steps["truncations"])) + 1
    bounds = sorted({0, *ends.tolist(), lengths.pop()})
    for between in itertools.starmap(slice, itertools.pairwise(bounds)):
        yield jax.tree.map(lambda x, within=between: np.asarray(x)[within], steps)


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
    """Return an episode's steps, or those of a part of it, as transitions of n steps."""
    if "next_observations" not in steps:
        after = jax.tree.map(lambda x: x[1:], steps["observations"])
        steps = jax.tree.map(lambda x: x[:-1], steps) | {"next_observations": after}
    count = len(steps["rewards"])
    parts: dict[str, Any] = {
        "observation": _as(config, env.observation, steps["observations"], count, "observations"),
        "action": _normalised(config, env, steps["actions"], count),
        "reward": np.asarray(steps["rewards"], np.float32),
        "discount": 1 - np.asarray(steps["terminations"], np.float32),
        "next_observation": _as(
            config, env.observation, steps["next_observations"], count, "next_observations"
        ),
    }
    found = Transition(**parts)
    own = config.hyperparameters
    return found if own.n_step == 1 or not count else _n_step(found, own.n_step, own.gamma)


def _as(config: Config, shapes: PyTree, given: Any, count: int, name: str) -> PyTree:
    """Return arrays of the shapes and dtypes of observations."""
    if isinstance(shapes, dict) != isinstance(given, Mapping):
        raise RunError(f"offline's {name} are not a dict where {config.env}'s are, or are one.")
    given = {key: given[key] for key in shapes} if isinstance(shapes, dict) else given

    def one(shape: Any, x: Any) -> np.ndarray:
        x = np.asarray(x)
        if x.shape != (count, *shape.shape):
            raise RunError(
                f"offline's {name} have the shape {list(x.shape)} where {config.env} needs "
                f"{[count, *shape.shape]}."
            )
        return x.astype(shape.dtype)

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


def _n_step(steps: Transition, length: int, gamma: float) -> Transition:
    """Return the transitions of n steps that begin at each step; none reaches beyond the last."""
    window, count = returns.n_step(length, gamma), len(steps.reward)
    one = jax.tree.map(lambda x: jnp.asarray(x)[:, None], steps)
    last = jax.tree.map(lambda x: jnp.repeat(x[-1:], length - 1, axis=0), one)
    pushed = jax.tree.map(lambda x, y: jnp.concatenate([x, y]), one, last)
    ended = jnp.arange(count + length - 1)[:, None] >= count - 1
    state = window.init(jax.tree.map(lambda x: x[0], one))
    push = lambda state, given: window.push(state, *given)
    _, begun = jax.lax.scan(push, state, (pushed, ended))
    made: Transition = jax.tree.map(lambda x: np.asarray(x[length - 1 :, 0]), begun)
    return made


def _of_run(config: Config, folder: Path) -> Transition:
    """Return all transitions in the replay of a run, of all its members."""
    theirs = load_config(folder)
    own, old = config.hyperparameters, theirs.hyperparameters
    if theirs.preset.images or (own.n_step, own.n_step > 1 and own.gamma) != (
        old.n_step,
        old.n_step > 1 and old.gamma,
    ):
        raise RunError(
            f"offline={folder} stores transitions of n_step={old.n_step}, gamma={old.gamma}, which "
            f"cannot become those of n_step={own.n_step}, gamma={own.gamma}: give arrays of single "
            "steps."
        )
    found = [
        ring
        for ring in jax.tree.leaves(read_replay(folder, theirs, files.LAST), is_leaf=_is_ring)
        if _is_ring(ring)
    ]
    return _joined(config, [part for ring in found for part in _in_order(ring)])


def _is_ring(x: Any) -> bool:
    return isinstance(x, RingState)


def _in_order(ring: RingState) -> Iterator[Transition]:
    """Yield the transitions of each ring among these, the oldest first."""
    rows = {name: x.reshape(-1, *x.shape[-2:]) for name, x in ring.rows.items()}
    counts = (np.ravel(x).tolist() for x in (ring.size, ring.position))
    for index, (size, position) in enumerate(zip(*counts, strict=True)):
        capacity = next(iter(rows.values())).shape[1]
        order = (position - size + np.arange(size)) % capacity
        yield unpack({name: x[index][order] for name, x in rows.items()}, ring.layout)


def read_replay(folder: Path, config: Config, checkpoint: str) -> PyTree:
    """Return the replay of a run, NumPy's arrays with the axes of its members and shards.

    Raises:
        FileNotFoundError, ValueError: as of `ddpg_jax.runs.checkpoints.store.Checkpoints`.
    """
    if checkpoint == files.BEST:
        raise RunError("the best checkpoint holds agents alone: give --start-checkpoint last.")
    if envs.on_host(config.env):
        built = build.build(config, check_memory=lambda parts: None)
        built.opened.close()
        state = built.state
    else:
        state = build.state_shapes(config)
    part = ".members.replay" if config.evolve else ".replay"
    like = state.members.replay if config.evolve else state.replay
    only = None if checkpoint == files.LAST else int(checkpoint)
    opened = Checkpoints(folder / files.CHECKPOINTS, read_only=True)
    with contextlib.closing(opened):
        return opened.newest(lambda about: like, output.say, part, only).state


def fill(config: Config, transitions: Transition, replay: PyTree, env: Any) -> PyTree:
    """Return the state of the run's replay, of all members and shards, with transitions in it: of
    more than fit, or than can be dealt to all alike, the newest. The given one is donated.
    """
    shards, own = mesh.parse_mesh(config.mesh).data, config.hyperparameters
    count = len(transitions.reward)
    if config.offline_share:
        part, most, block = setup.offline_replay(config, own, shards), count, count // shards
    else:
        part = setup.compose(config, env, shards).replay
        most, block = own.replay_capacity, own.num_envs // shards
    kept = min(count, most) // (block * shards) * block * shards
    deal = lambda x: np.moveaxis(x[count - kept :].reshape(-1, shards, block, *x.shape[1:]), 1, 0)
    blocks = jax.tree.map(deal, transitions)
    if shards == 1:
        blocks = jax.tree.map(lambda x: x[0], blocks)

    def one(state: PyTree, blocks: Transition) -> PyTree:
        def add(state: PyTree, block: Transition) -> tuple[PyTree, None]:
            return part.add(state, block, jnp.ones(len(block.reward), bool)), None

        return jax.lax.scan(add, state, blocks)[0]

    over = jax.vmap(one) if shards > 1 else one
    over = jax.vmap(over, in_axes=(0, None)) if config.seeds > 1 else over
    given = replay.offline if config.offline_share else replay
    lying = jax.tree.map(lambda x: x.sharding, given)
    filled = jax.jit(over, donate_argnums=0, out_shardings=lying)(given, blocks)
    return replay.replace(offline=filled) if config.offline_share else filled
