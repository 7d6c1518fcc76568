"""Restores a run's training state on the mesh of now, whatever mesh it was saved on."""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from ddpg_jax.learner import TrainState
from ddpg_jax.replay.dealing import dealt
from ddpg_jax.replay.prioritised import PrioritisedState
from ddpg_jax.replay.rows import RingState
from ddpg_jax.runs.config import mesh as runs_mesh
from ddpg_jax.runs.distributed import processes
from ddpg_jax.runs.distributed.arrays import raw_shapes, to_devices
from ddpg_jax.runs.programs import build

if TYPE_CHECKING:
    from collections.abc import Callable

    from ddpg_jax.runs.checkpoints.store import Checkpoints
    from ddpg_jax.runs.config.mesh import Mesh
    from ddpg_jax.runs.config.run_config import Config
    from ddpg_jax.types import PyTree

NEW_SHARDS = 0x5AD0
"""Folded into the first shard's key to derive the keys of shards that were not there before."""


def restore_run(
    checkpoints: Checkpoints,
    config: Config,
    like: PyTree,
    say: Callable[[str], None],
    *,
    resumes: bool = True,
) -> tuple[int, PyTree, dict[str, Any]]:
    """The newest checkpoint that can be read, as ``(step, state, record)``; all processes call it.

    Args:
        checkpoints: of the run.
        config: the run's, with the mesh of now.
        like: shapes of the state, with their shardings where it is on a mesh.
        say: told of damaged checkpoints, and where a run that ``resumes`` was on another mesh or
            number of processes.
        resumes: whether it is trained further.

    Raises:
        FileNotFoundError, ValueError: as of `Checkpoints.restore`.
    """
    now = runs_mesh.parse_mesh(config.mesh)

    def shapes(about: dict[str, Any]) -> PyTree:
        saved = _mesh(about["record"])
        return (
            like
            if saved.data == now.data
            else build.state_shapes(dataclasses.replace(config, mesh=str(saved)))
        )

    found = checkpoints.newest(shapes, say)
    saved, state = _mesh(found.record), found.state
    before, after = _told(saved, found.processes), _told(now, processes.process_count())
    if resumes and before != after:
        say(
            f"was trained on {before} and is resumed on {after}. State is fully restored, but "
            "results will not be bit-identical to a run on the original mesh."
        )
    if saved.data != now.data:
        is_state = lambda x: isinstance(x, TrainState)
        one = lambda x, y: (
            resharded(x, saved.data, now.data, y, config.seeds > 1) if is_state(x) else x
        )
        state = jax.tree.map(
            one, state, raw_shapes(like), is_leaf=is_state
        )  # an evolving population's has more than it
    return found.step, to_devices(state, like), found.record


def _mesh(record: dict[str, Any]) -> Mesh:
    return runs_mesh.parse_mesh(record["config"].get("mesh", ""))


def _told(mesh: Mesh, count: int) -> str:
    return f"mesh={mesh}" + (f" of {count} processes" if count > 1 else "")


def resharded(state: TrainState, old: int, new: int, like: TrainState, many: bool) -> TrainState:
    """The state on another number of shards: same agent and replay, other random numbers from here
    on.

    Args:
        state: NumPy's arrays, of random keys their data, on ``old`` shards.
        old, new: numbers of shards; of 1 there is no axis.
        like: shapes of the state on ``new`` shards, of keys of their data.
        many: whether there is an axis of members before that of shards.

    Raises:
        ValueError: an array cannot be split over the new shards.
    """
    if many:
        members = jax.tree.leaves(state.agent)[0].shape[0]
        at = lambda i, tree: jax.tree.map(lambda x: x[i], tree)
        below = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), like)
        single = [resharded(at(i, state), old, new, below, False) for i in range(members)]
        return jax.tree.map(lambda *x: np.stack(x), *single)
    parts = {
        name: getattr(state, name) for name in ("replay", "collector", "steps", "bad", "window")
    }
    shapes: dict[str, Any] = {name: getattr(like, name) for name in parts}
    if old == 1:
        parts = jax.tree.map(lambda x: x[None], parts)
        state = state.replace(key=state.key[None])  # type: ignore[attr-defined]
    if new == 1:
        shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct((1, *x.shape), x.dtype), shapes)
    is_ring = lambda x: isinstance(x, RingState | PrioritisedState)
    split = functools.partial(_split, old=old, new=new)
    made = jax.tree.map(
        lambda x, y: dealt(x, new) if is_ring(x) else split(x, y), parts, shapes, is_leaf=is_ring
    )
    made["bad"] = jax.tree.map(
        lambda x: np.repeat(x.min(axis=0, keepdims=True), new, axis=0), parts["bad"]
    )
    made["key"] = _keys(state.key, new)
    if new == 1:
        made = jax.tree.map(lambda x: x[0], made)
    return state.replace(**made)  # type: ignore[attr-defined]


def _keys(keys: Any, new: int) -> np.ndarray:
    """One key a shard: those of before, then new ones, which differ from what the first key is
    split into while training.
    """
    old, root = len(keys), jax.random.fold_in(jax.random.wrap_key_data(keys[0]), NEW_SHARDS)
    fold = jax.vmap(lambda shard: jax.random.fold_in(root, shard))
    extra = np.asarray(jax.random.key_data(fold(jax.numpy.arange(old, max(old, new) + 1))))
    return np.concatenate([keys, extra])[:new]


def _split(x: np.ndarray, like: Any, *, old: int, new: int) -> np.ndarray:
    """``[old, ...]`` as ``[new, ...]``: split along the axis of environments, or repeated where
    there is none.
    """
    before, after = x.shape[1:], tuple(like.shape[1:])
    if before == after:
        return np.stack([x[shard % old] for shard in range(new)])
    axes = [axis for axis, (a, b) in enumerate(zip(before, after, strict=True)) if a != b]
    if len(before) != len(after) or len(axes) != 1 or before[axes[0]] * old != after[axes[0]] * new:
        raise ValueError(
            f"an array of shape {before} in each of {old} shards cannot be split over {new} shards."
        )
    axis = axes[0]
    return np.stack(np.split(np.concatenate(list(x), axis=axis), new, axis=axis))
