"""Frames of several shards on another number of them: on the host, where a run resumes on other
devices.
"""

from dataclasses import replace
from typing import Any

import jax
import numpy as np

from ddpg_jax.replay.dealing import assign, moved
from ddpg_jax.replay.rows import columns
from ddpg_jax.types import Dealt


def deal_frames(states: Any, count: int, capacity: int, room: int, places: Any = None) -> Dealt:
    """The rows of each new shard, and their frames as if added row after row.

    Rows that share frames stay together, but where a new shard begins, or ``places`` says where
    they come from.

    Args:
        states: a `ddpg_jax.replay.frames.FramesState` of NumPy arrays with a leading axis of the
            old shards; what is ``seen`` stays that of those.
        count: of new shards.
        capacity, room: rows and frames of each.
    """
    shards, old_room, pixels = states.frames.shape
    layout = states.ring.layout
    leaves = jax.tree.unflatten(layout.structure, range(len(layout.shapes)))
    shown = (leaves.transition.observation[1], leaves.transition.next_observation[1])
    where = [columns(layout, leaf) for leaf in (*shown, leaves.oldest)]
    *slots, oldest = (states.ring.rows[name][..., own] for name, own in where)
    holds = states.written[:, None] - oldest[..., 0] < old_room
    frame = np.concatenate(slots, axis=-1) + old_room * np.arange(shards)[:, None, None]
    if places is None:
        places = assign(states.ring, count, capacity, _chains(frame, holds, shards * old_room))
    ring, frames = moved(states.ring, places, capacity), np.zeros((count, room, pixels), np.uint8)
    written, lost = np.zeros(count, np.uint32), int(states.ring.size.sum() - ring.size.sum())
    for new, taken in enumerate(places):
        kept = np.flatnonzero(holds[taken])
        used, first, which = np.unique(frame[taken][kept], return_index=True, return_inverse=True)
        order = np.argsort(first)
        rank, newest = np.argsort(order), order[-room:]
        place = rank[which].reshape(-1, frame.shape[-1])
        frames[new, rank[newest] % room] = states.frames.reshape(-1, pixels)[used[newest]]
        written[new], gone = used.size, used.size - room  # frames are counted from 1
        first_frame = place.min(axis=1, keepdims=True) + 1
        lost += int(np.sum(first_frame <= gone))
        laid = [*np.split(place % room, 2, axis=1), first_frame]
        for (name, own), part, absent in zip(where, laid, (0, 0, gone % 2**32), strict=True):
            ring.rows[name][new, : len(taken.row), own] = absent
            ring.rows[name][new, kept, own] = part
    state = replace(
        states,
        ring=ring,
        frames=frames,
        head=(written % room).astype(np.int32),
        written=written,
    )
    return Dealt(state, places, lost)


def _chains(frame: np.ndarray, holds: np.ndarray, frames: int) -> Any:
    """A number for each row, the same where rows are joined by common frames ``[D, C, 2 S]``."""
    from scipy import sparse

    row, frame = np.flatnonzero(holds), frame[holds]
    edges = (np.repeat(row, frame.shape[-1]), holds.size + frame.reshape(-1))
    graph = sparse.coo_array((np.ones(frame.size, bool), edges), shape=(holds.size + frames,) * 2)
    _, chain = sparse.csgraph.connected_components(graph, directed=False)
    return chain[: holds.size].reshape(holds.shape)
