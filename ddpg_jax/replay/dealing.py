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
        return _ring(state, _rows(state, count))
    if isinstance(state, PrioritisedState):
        return _prioritised(state, _rows(state.ring, count))
    raise ValueError(
        f"{type(state).__name__} of a replay is not known how to deal anew: go on "
        "with as many devices."
    )


def _rows(ring: Any, count: int) -> list[np.ndarray]:
    """For each of the new shards which rows it gets, of those of all shards one after the other;
    the oldest first.
    """
    shards, capacity = len(ring.size), _capacity(ring.rows)
    age = (ring.position[:, None] - 1 - np.arange(capacity)) % capacity
    age += capacity * np.arange(shards)[:, None]
    stored = np.arange(capacity) < ring.size[:, None]
    newest = age.T[stored.T]  # the newest of each shard, then the second newest of each, ...
    whole = len(newest) // count
    return [newest[shard::count][:whole][::-1] for shard in range(count)]


def _dealt(flat: np.ndarray, rows: list[np.ndarray]) -> np.ndarray:
    """Rows ``[N, ...]`` of all shards as ``[count, N / count, ...]``, filled up with zeros."""
    new = np.zeros((len(rows), len(flat) // len(rows), *flat.shape[1:]), flat.dtype)
    for shard, taken in enumerate(rows):
        new[shard, : len(taken)] = flat[taken]
    return new


def _ring(ring: Any, rows: list[np.ndarray]) -> Any:
    buffers = jax.tree.map(lambda x: _dealt(x.reshape(-1, x.shape[-1]), rows), ring.rows)
    size = np.array([len(taken) for taken in rows], np.int32)
    return replace(ring, rows=buffers, position=size % _capacity(buffers), size=size)


def _prioritised(state: Any, rows: list[np.ndarray]) -> Any:
    priorities = state.levels[0].reshape(len(state.samples), -1)[:, : _capacity(state.ring.rows)]
    levels = [_nodes(_dealt(priorities.reshape(-1), rows))]
    while levels[-1].shape[1] > 1:
        levels.append(_nodes(levels[-1].sum(axis=-1)))
    return replace(
        state,
        ring=_ring(state.ring, rows),
        levels=tuple(levels),
        maximum=np.full(len(rows), state.maximum.max()),
        samples=np.full(len(rows), state.samples.max()),
    )


def _nodes(children: np.ndarray) -> np.ndarray:
    """``[D, n]`` as nodes ``[D, ceil(n / FANOUT), FANOUT]``, filled up with zeros."""
    padded = np.pad(children, ((0, 0), (0, -children.shape[1] % FANOUT)))
    return padded.reshape(len(children), -1, FANOUT)


def _capacity(buffers: dict[str, np.ndarray]) -> int:
    """Of each shard."""
    return int(next(iter(buffers.values())).shape[1])
