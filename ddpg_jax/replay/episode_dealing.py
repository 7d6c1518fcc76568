"""Steps and their episodes of several shards on another number of them, the steps of each
environment whole and in order: on the host, where a run resumes on other devices.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from ddpg_jax.replay.dealing import Places, laid
from ddpg_jax.types import Dealt


def deal_episodes(deal: Callable[..., Dealt], capacity: int, states: Any, count: int) -> Dealt:
    """The environments of all shards, in their order, in ``count`` shards; of each its newest
    steps. All shards have stored equally many, and environments begin new episodes.

    Args:
        deal: of the storage.
        capacity: rows of a new shard.
        states: a `ddpg_jax.replay.hindsight.HindsightState` of NumPy arrays with a leading axis of
            the old shards.
        count: of new shards.
    """
    shards, old_envs, episodes = states.lengths.shape
    num_envs = shards * old_envs // count
    slots, old_slots = capacity // num_envs, episodes - 1
    kept = min(slots, int(states.ring.size[0]) // old_envs)
    slot = (int(states.ring.position[0]) // old_envs - kept + np.arange(kept)) % old_slots
    shard, column = np.divmod(np.arange(shards * old_envs).reshape(count, num_envs), old_envs)
    places = [
        Places(np.tile(shard[new], kept), (slot[:, None] * old_envs + column[new]).ravel())
        for new in range(count)
    ]
    dealt = deal(states.ring, count, places)
    # Episodes are counted back from the one that ran.
    newest = states.running.episode
    ago = (np.tile(newest, (1, old_slots)) - states.places[..., 1]) % episodes
    step = laid(states.places[..., 0], places, capacity)
    step[:, kept * num_envs :] = -1
    numbers = np.arange(min(episodes, slots + 1))
    lengths = np.zeros((count, num_envs, slots + 1), np.int32)
    lengths[..., -numbers % (slots + 1)] = np.take_along_axis(
        states.lengths, (newest[..., None] - numbers) % episodes, axis=2
    ).reshape(count, num_envs, -1)
    order, found = np.zeros((count, capacity), np.int32), [np.flatnonzero(one >= 0) for one in step]
    for new, rows in enumerate(found):
        order[new, : len(rows)] = rows
    in_slots = (step >= 0).reshape(count, slots, num_envs).sum(axis=2)
    ends = np.cumsum(in_slots, axis=1, dtype=np.int32)
    begun = (states.running.step > 0).reshape(count, num_envs).astype(np.int32)
    state = dataclasses.replace(
        states,
        ring=dealt.state,
        places=np.stack([step, -laid(ago, places, capacity) % (slots + 1)], axis=-1).astype(
            np.int32
        ),
        lengths=lengths,
        running=dataclasses.replace(states.running, step=np.zeros_like(begun), episode=begun),
        order=order,
        starts=(ends - in_slots).astype(np.int32),
        end=ends[:, -1],
    )
    held = int(np.sum(states.places[..., 0] >= 0))
    return Dealt(state, places, held - int(ends[:, -1].sum()))
