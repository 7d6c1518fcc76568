"""Replays of several shards, dealt anew to another number of them: on the host, when a run goes on
with other devices.
"""

from dataclasses import replace
from typing import Any

import jax
import numpy as np

from ddpg_jax.replay.prioritised import FANOUT, PrioritisedState
from ddpg_jax.replay.rows import RingState


def dealt(state: Any, count: int) -> Any:
    """What ``D`` shards have stored, on ``count`` shards; none is lost but the oldest, where they
    do not come out even.

    The newest of each go to the new ones in turn, so that ages are spread alike; each lies with its
    oldest row first.

    Args:
        state: a `RingState` or `PrioritisedState` of NumPy arrays with a leading axis ``D``.
        count: of new shards; divides the rows of all.

    Returns:
        The same with a leading axis ``count``.

    Raises:
        ValueError: it is the state of another replay.
    """
    if isinstance(state, RingState):
        return _ring(state, _rows(state, count), count)
    if not isinstance(state, PrioritisedState):
        raise ValueError(
            f"{type(state).__name__} of a replay is not known how to deal anew: go on "
            "with as many devices."
        )
    rows = _rows(state.ring, count)
    ring, shards = _ring(state.ring, rows, count), len(state.samples)
    capacity = next(iter(ring.rows.values())).shape[1]
    old = next(iter(state.ring.rows.values())).shape[1]
    leaves = np.zeros((count, -(-capacity // FANOUT) * FANOUT), np.float32)
    priorities = state.levels[0].reshape(shards, -1)[:, :old].reshape(-1)
    for shard, taken in enumerate(rows):
        leaves[shard, : len(taken)] = priorities[taken]
    levels = [leaves.reshape(count, -1, FANOUT)]
    while levels[-1].shape[1] > 1:
        sums = levels[-1].sum(axis=-1)
        nodes = -(-sums.shape[1] // FANOUT)
        levels.append(
            np.pad(sums, ((0, 0), (0, nodes * FANOUT - sums.shape[1]))).reshape(
                count, nodes, FANOUT
            )
        )
    maximum, samples = (
        np.full(count, x, x.dtype) for x in (state.maximum.max(), state.samples.max())
    )
    made: dict[str, Any] = {"levels": tuple(levels), "maximum": maximum, "samples": samples}
    return replace(state, ring=ring, **made)


def _rows(ring: Any, count: int) -> list[np.ndarray]:
    """For each of the new shards which rows it gets, of those of all shards one after the other;
    the oldest first.
    """
    shards, capacity = next(iter(ring.rows.values())).shape[:2]
    age = (ring.position[:, None] - 1 - np.arange(capacity)) % capacity + capacity * np.arange(
        shards
    )[:, None]
    stored = np.arange(capacity) < ring.size[:, None]
    newest = age.T[stored.T]  # the newest of each shard, then the second newest of each, ...
    whole = len(newest) // count
    return [newest[shard::count][:whole][::-1] for shard in range(count)]


def _ring(ring: Any, rows: list[np.ndarray], count: int) -> RingState:
    def one(buffer: np.ndarray) -> np.ndarray:
        flat = buffer.reshape(-1, buffer.shape[-1])
        new = np.zeros((count, len(flat) // count, flat.shape[-1]), buffer.dtype)
        for shard, taken in enumerate(rows):
            new[shard, : len(taken)] = flat[taken]
        return new

    buffers = jax.tree.map(one, ring.rows)
    capacity, size = (
        next(iter(buffers.values())).shape[1],
        np.array([len(taken) for taken in rows], np.int32),
    )
    position = (size % capacity).astype(np.int32)
    dealt: RingState = replace(ring, rows=buffers, position=position, size=size)
    return dealt
