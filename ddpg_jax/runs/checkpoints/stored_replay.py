"""The replay of a run, from its checkpoint: as it is, or as transitions, the oldest first."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from ddpg_jax import envs
from ddpg_jax.replay.hindsight import HindsightState
from ddpg_jax.replay.mixed import MixedState
from ddpg_jax.replay.rows import RingState, unpack
from ddpg_jax.runs.checkpoints.store import Checkpoints
from ddpg_jax.runs.folder import files
from ddpg_jax.runs.options.validation import RunError
from ddpg_jax.runs.programs import build

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ddpg_jax.runs.config.run_config import Config
    from ddpg_jax.types import PyTree, Transition


def read_replay(folder: Path, config: Config, checkpoint: str) -> PyTree:
    """Return the replay of a run, NumPy's arrays with the axes of its members and shards.

    Raises:
        RunError: the checkpoint holds none, or there is no such checkpoint.
        ValueError: as of `ddpg_jax.runs.checkpoints.store.Checkpoints`.
    """
    if checkpoint == files.BEST:
        raise RunError("the best checkpoint holds agents alone: give --start-checkpoint last.")
    only = None if checkpoint == files.LAST else int(checkpoint)
    part = ".members.replay" if config.evolve else ".replay"

    def like(about: dict[str, Any]) -> PyTree:
        saved = dataclasses.replace(config, mesh=about["record"]["config"].get("mesh", ""))
        if envs.on_host(config.env):
            built = build.build(saved, check_memory=lambda parts: None)
            built.opened.close()
            state = built.state
        else:
            state = build.state_shapes(saved)
        return state.members.replay if config.evolve else state.replay

    opened = Checkpoints(folder / files.CHECKPOINTS, read_only=True)
    try:
        with contextlib.closing(opened):
            say = lambda text: print(text, file=sys.stderr)
            return opened.newest(like, say, part, only).state
    except FileNotFoundError as error:
        raise RunError(f"{folder} has {error}: its replay cannot be read.") from error


def transitions_in(replay: PyTree) -> list[Transition]:
    """Return the transitions of each member and shard, the oldest first; of those that lie beside
    others from offline data only what was collected; in hindsight only what is a step.
    """
    replay = replay.online if isinstance(replay, MixedState) else replay
    if isinstance(replay, HindsightState):
        return list(_in_order(replay.ring, np.asarray(replay.places[..., 0] >= 0)))
    leaves = jax.tree.leaves(replay, is_leaf=_is_ring)
    return [part for ring in filter(_is_ring, leaves) for part in _in_order(ring)]


def _is_ring(x: Any) -> bool:
    return isinstance(x, RingState)


def _in_order(ring: RingState, valid: np.ndarray | None = None) -> Iterator[Transition]:
    rows = {name: x.reshape(-1, *x.shape[-2:]) for name, x in ring.rows.items()}
    counts = (np.ravel(x).tolist() for x in (ring.size, ring.position))
    for index, (size, position) in enumerate(zip(*counts, strict=True)):
        capacity = next(iter(rows.values())).shape[1]
        order = (position - size + np.arange(size)) % capacity
        if valid is not None:
            order = order[valid.reshape(-1, capacity)[index][order]]
        yield unpack({name: x[index][order] for name, x in rows.items()}, ring.layout)
