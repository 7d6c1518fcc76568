"""Which rows of a replay each of another number of shards gets: on the host, where a run resumes on
other devices.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np


class Places(NamedTuple):
    """Rows of several shards: an index into arrays ``[D, C, ...]``."""

    shard: np.ndarray
    row: np.ndarray


def assign(ring: Any, count: int, capacity: int, chains: np.ndarray | None = None) -> list[Places]:
    """The rows of each of ``count`` new shards, oldest first.

    All get equally many, of the newest, so the oldest are lost where they do not divide: at most
    ``count`` - 1 where ``capacity`` suffices. Rows go round in turn, the newest of each old shard
    first, so that ages are alike in all new ones.

    Args:
        ring: a `RingState` of NumPy arrays with a leading axis of the old shards.
        capacity: rows of a new shard.
        chains: ``[D, C]``, a number for each row: rows with the same share data and stay together.
            Whole chains go round in turn; at most ``count`` - 1 are cut.
    """
    rows = np.arange(next(iter(ring.rows.values())).shape[1])
    age = (ring.position[:, None] - 1 - rows) % rows.size
    shard, row = np.nonzero(rows < ring.size[:, None])
    newest = np.argsort(age[shard, row], kind="stable")
    newest = newest[: min(len(newest) // count, capacity) * count]
    shard, row, order = shard[newest], row[newest], np.arange(len(newest))
    if chains is None:
        parts = [order[new::count] for new in range(count)]
    else:
        _, first, chain = np.unique(chains[shard, row], return_index=True, return_inverse=True)
        turn = np.argsort(np.argsort(first))[chain]  # of the chain, by its newest row
        parts = np.split(np.lexsort((order, turn, turn % count)), count)
    oldest_first = [np.sort(part)[::-1] for part in parts]
    return [Places(shard[part], row[part]) for part in oldest_first]


def moved(ring: Any, places: Sequence[Places], capacity: int) -> Any:
    """The ring of each new shard, of ``capacity`` rows: those of `assign`, from row 0 on."""
    size = np.array([len(taken.row) for taken in places], np.int32)
    position = (size % capacity).astype(np.int32)
    rows = {name: laid(buffer, places, capacity) for name, buffer in ring.rows.items()}
    return dataclasses.replace(ring, rows=rows, position=position, size=size)


def laid(x: Any, places: Sequence[Places], capacity: int) -> np.ndarray:
    """``[D, C, ...]`` as ``[len(places), capacity, ...]``, zeros where nothing comes to lie."""
    new = np.zeros((len(places), capacity, *x.shape[2:]), x.dtype)
    for shard, taken in enumerate(places):
        new[shard, : len(taken.row)] = x[taken]
    return new
