"""Replays and runs on another number of shards: every transition is what it was, pictures
included."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddpg_jax import replay
from ddpg_jax.types import Transition

ENVS, CAPACITY, STACK = 8, 96, 3  # environments and rows of all shards
SAMPLINGS = {"uniform": replay.uniform, "prioritised": replay.prioritised}


def picture(shard, env, time):
    """A frame that no other environment and time shows."""
    return np.array([[[shard], [env]], [[time % 251], [time // 251]]], np.uint8)


def steps(shard, envs, count, n_step, breaks, seed=0):
    """``count`` steps of the environments of a shard, with episodes of random lengths; the reward
    is a number that no other transition has."""
    random = np.random.default_rng(seed + shard)
    clock = itertools.count()
    shown = [[next(clock)] * STACK for _ in range(envs)]  # times of the frames of a stack
    past = [[] for _ in range(envs)]
    for step in range(count):
        made, valid = [], []
        for env in range(envs):
            before, time = shown[env], next(clock)
            after = [*before[1:], time]
            past[env].append(before)
            if len(past[env]) < n_step:
                valid.append(False)
                first = before
            else:
                valid.append(not breaks or random.random() < 0.8)
                first = past[env][-n_step]
            made.append((first, after, env, 1_000.0 * shard + step * envs + env))
            if random.random() < 0.15:
                after, past[env] = [next(clock)] * STACK, []
            shown[env] = after
        yield made, np.array(valid)


def transitions(shard, made, images):
    def seen(times, env):
        stack = np.concatenate([picture(shard, env, time) for time in times], axis=-1)
        return {"image": stack, "speed": np.float32([times[-1]])} if images else np.float32(times)

    rows = [
        Transition(
            observation=seen(first, env),
            action=np.float32([number]),
            reward=np.float32(number),
            discount=np.float32(1),
            next_observation=seen(after, env),
        )
        for first, after, env, number in made
    ]
    return jax.tree.map(lambda *x: np.stack(x), *rows)


def make(storage, sampling, shards, n_step):
    made = (
        functools.partial(
            replay.frames, stack=STACK, num_envs=ENVS // shards, n_step=n_step, episode_steps=2
        )
        if storage == "frames"
        else replay.rows
    )
    return SAMPLINGS[sampling](CAPACITY // shards, 2, storage=made), made(CAPACITY // shards)


def filled(storage, sampling, shards, n_step, count, breaks):
    """Replays of ``shards``, NumPy arrays with a leading axis, and every transition that was ever
    stored, by its number."""
    ring, _ = make(storage, sampling, shards, n_step)
    known, states = {}, []
    add = jax.jit(ring.add)
    for shard in range(shards):
        state = None
        for made, valid in steps(shard, ENVS // shards, count, n_step, breaks):
            given = transitions(shard, made, storage == "frames")
            if state is None:
                state = ring.init(jax.tree.map(lambda x: x[0], given))
            state = add(state, given, valid) if breaks else add(state, given)
            for env in np.flatnonzero(valid):
                one = jax.tree.map(lambda x, env=env: x[env], given)
                known[float(one.reward)] = one
        states.append(state)
    return jax.tree.map(lambda *x: np.stack(x), *states), known


def contents(storage, sampling, n_step, states):
    """The transitions of each shard, oldest first."""
    shards = len(states.position if sampling == "uniform" else states.ring.position)
    _, stored = make(storage, sampling, shards, n_step)
    rings = states if sampling == "uniform" else states.ring
    found = []
    for shard in range(shards):
        ring = jax.tree.map(lambda x, shard=shard: jnp.asarray(x[shard]), rings)
        size, position = int(ring.size), int(ring.position)
        rows = (position - size + np.arange(size)) % stored.capacity
        got = jax.tree.map(np.asarray, stored.get(ring, jnp.asarray(rows, jnp.int32)))
        found.append([jax.tree.map(lambda x, i=i: x[i], got) for i in range(size)])
    return found


def numbers(found):
    return [[float(one.reward) for one in shard] for shard in found]


# The first steps of an n-step window are no transitions.
@pytest.mark.parametrize(("n_step", "breaks"), [(1, False), (1, True), (3, True)])
@pytest.mark.parametrize("count", [5, 40])
@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("storage", ["rows", "frames"])
def test_every_transition_is_what_it_was(storage, sampling, n_step, count, breaks):
    for old, new in [(1, 2), (2, 1), (2, 8), (8, 4), (4, 1), (1, 8)]:
        states, known = filled(storage, sampling, old, n_step, count, breaks)
        before = numbers(contents(storage, sampling, n_step, states))
        ring, _ = make(storage, sampling, new, n_step)
        dealt = ring.deal(states, new)
        after = contents(storage, sampling, n_step, dealt.state)
        kept = list(itertools.chain.from_iterable(numbers(after)))
        assert len(set(kept)) == len(kept)
        assert dealt.lost == sum(map(len, before)) - len(kept) <= new - 1
        assert set(kept) <= set(itertools.chain.from_iterable(before))
        for one in itertools.chain.from_iterable(after):
            jax.tree.map(np.testing.assert_array_equal, one, known[float(one.reward)])
        assert len({len(shard) for shard in after}) == 1
        for shard in numbers(after):  # of each old shard and environment in their order
            for was in before:
                assert [x for x in shard if x in was] == [x for x in was if x in shard]
