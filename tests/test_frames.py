"""Frames stored once give back what a replay of whole stacks would, transition for transition; and
in how many bytes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ddpg_jax import replay
from ddpg_jax.returns import n_step
from ddpg_jax.types import Transition

properties = settings(max_examples=8, deadline=None, derandomize=True, database=None)
STACK, CHANNELS = 3, 2
CASES = [(1, 1), (1, 3), (3, 1), (3, 3)]


class Envs:
    """Environments that show images of noise, stacked as `envs.frame_stack` does, and a vector;
    ends of both kinds."""

    def __init__(self, rng, count, mean_length, still=0.0):
        self.rng, self.count, self.mean_length, self.still = rng, count, mean_length, still
        self.frames = [[self.frame()] * STACK for _ in range(count)]

    def frame(self):
        return self.rng.integers(0, 256, (4, 2, CHANNELS), np.uint8)

    def observed(self):
        images = np.stack([np.concatenate(frames, axis=-1) for frames in self.frames])
        return {"image": images, "speed": self.rng.normal(size=(self.count, 2)).astype(np.float32)}

    def step(self):
        """A transition of each, and whether its episode ended."""
        before = self.observed()
        for e, frames in enumerate(self.frames):
            self.frames[e] = [
                *frames[1:],
                frames[-1] if self.rng.random() < self.still else self.frame(),
            ]
        after = self.observed()
        done = self.rng.random(self.count) < 1 / self.mean_length
        for e in np.flatnonzero(done):
            self.frames[e] = [self.frame()] * STACK
        number = lambda *shape: self.rng.normal(size=(self.count, *shape)).astype(np.float32)
        discount = 1.0 - (done & (self.rng.random(self.count) < 0.5)).astype(np.float32)
        return Transition(
            observation=before,
            action=number(1),
            reward=number(),
            discount=discount,
            next_observation=after,
        ), done


@functools.cache
def programs(envs, steps, capacity, episode_steps):
    """A replay of frames and one of stacks behind the same window: ``(init of both, window, step,
    get)``."""
    frames = replay.frames(
        capacity, stack=STACK, num_envs=envs, n_step=steps, episode_steps=episode_steps
    )
    stacks, window = replay.rows(capacity), n_step(steps, 0.9)

    @functools.partial(jax.jit, static_argnames="store")
    def step(states, transition, done, store=True):
        window_state, begun = window.push(states[0], transition, done)
        valid = () if begun.valid is None else (begun.valid,)
        kept = begun.replace(valid=None)
        if not store:
            return window_state, *states[1:]
        return (
            window_state,
            frames.add(states[1], kept, *valid),
            stacks.add(states[2], kept, *valid),
        )

    both = jax.jit(lambda states, rows: (frames.get(states[1], rows), stacks.get(states[2], rows)))
    return jax.jit(lambda one: (frames.init(one), stacks.init(one))), window, step, both


def played(
    envs, steps, capacity, rng, vector_steps, mean_length, episode_steps=5, masked=False, still=0.0
):
    """The states of both replays after so many steps of the environments, and how many episodes
    ended."""
    init, window, step, both = programs(envs, steps, capacity, episode_steps)
    world = Envs(rng, envs, mean_length, still)
    states, ends = None, 0
    for t in range(vector_steps):
        transition, done = world.step()
        if masked:
            valid = rng.random(envs) < 0.8
            transition, done = transition.replace(valid=valid), done | ~valid
        if states is None:
            one = jax.tree.map(lambda x: x[0], transition.replace(valid=None))
            states = window.init(transition), *init(one)
        states = step(states, transition, done, store=t >= steps - 1)
        ends += done.sum()
    return states, ends, both


def assert_same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), a) == jax.tree.map(
        lambda x: (x.shape, x.dtype), b
    )


@pytest.mark.parametrize("masked", [False, True], ids=["all", "valid ones"])
@pytest.mark.parametrize(("envs", "steps"), CASES)
@properties
@given(data=st.data())
def test_a_replay_of_frames_is_a_replay_of_stacks(envs, steps, masked, data):
    """Ends of both kinds, round and round, frames that stand still: every stored transition, bit
    for bit."""
    capacity, rng = 24, np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    count, still = data.draw(st.integers(steps, 30)), data.draw(st.sampled_from([0.0, 0.5, 1.0]))
    states, _, both = played(
        envs, steps, capacity, rng, count, data.draw(st.sampled_from([5, 20])), 1, masked, still
    )
    assert (states[1].size, states[1].position) == (states[2].size, states[2].position)
    assert_same(*both(states, np.arange(capacity, dtype=np.int32) % max(1, int(states[2].size))))


@pytest.mark.parametrize(("envs", "steps"), CASES)
def test_every_frame_is_written_once(envs, steps):
    """An episode of L steps has L + 1 frames: steps, and one for each episode that has begun."""
    rng = np.random.default_rng(envs + steps)
    states, ends, _ = played(envs, steps, 240, rng, 60, 10)
    begun = envs * (60 - (steps - 1))
    assert begun < int(states[1].written) <= 60 * envs + ends + envs


@pytest.mark.parametrize(("envs", "steps"), CASES)
def test_where_episodes_are_too_short_newer_transitions_are_given_out(envs, steps):
    """Frames of the oldest are gone: what is given out is then another transition that is stored,
    whole."""
    capacity = 240
    states, _, both = played(
        envs, steps, capacity, np.random.default_rng(0), 3 * capacity // envs, 1, episode_steps=1000
    )
    got, wanted = both(states, np.arange(capacity, dtype=np.int32))
    places = [np.flatnonzero(np.asarray(wanted.reward) == reward)[0] for reward in got.reward]
    assert_same(got, jax.tree.map(lambda x: x[np.array(places)], wanted))
    kept = np.array(places) == np.arange(capacity)
    age = (int(states[2].position) - 1 - np.arange(capacity)) % capacity
    assert not kept.all()
    assert kept[age < capacity // 2].all()


def numbered(number, following, reward):
    """A transition of one environment from one image to the next, each of its number alone."""
    image = lambda number: np.full((1, 2, 1, 1), number, np.uint8)
    return Transition(
        observation=image(number),
        action=np.zeros((1, 1), np.float32),
        reward=np.full(1, reward, np.float32),
        discount=np.ones(1, np.float32),
        next_observation=image(following),
    )


@pytest.mark.parametrize("capacity", [20, 21])
def test_a_transition_is_lost_when_its_oldest_frame_is_written_over(capacity):
    """Two new frames a transition where there is room for 8 more than there are transitions: known
    to the frame, at both parities, and never another's picture."""
    storage = replay.frames(capacity, stack=1, num_envs=1, episode_steps=1_000)
    state = storage.init(jax.tree.map(lambda x: x[0], numbered(0, 1, 0.0)))
    room = capacity + 8
    assert state.frames.shape == (room, 2)
    add, count = jax.jit(storage.add), capacity + 3
    for index in range(count):
        state = add(state, numbered(2 * index + 1, 2 * index + 2, float(index)))
    assert state.written == 2 * count
    got = jax.jit(storage.get)(state, np.arange(capacity, dtype=np.int32))
    shown = np.asarray(got.reward).astype(int)
    np.testing.assert_array_equal(np.asarray(got.observation)[:, 0, 0, 0], 2 * shown + 1)
    np.testing.assert_array_equal(np.asarray(got.next_observation)[:, 0, 0, 0], 2 * shown + 2)
    stored = np.arange(capacity) + capacity * (np.arange(capacity) < 3)
    # Frames 2 i + 1 and 2 i + 2, from 1 on, lie there until frame 2 i + 1 + room is written.
    kept = 2 * stored + 1 + room > 2 * count
    assert 0 < kept.sum() < capacity
    np.testing.assert_array_equal(shown == stored, kept)
    newest = np.sort(stored)[-(capacity // 2) :]
    assert set(shown[~kept]) <= set(newest), "a newer one in its place"


def test_cameras_of_different_sizes_are_stored_side_by_side():
    """Three images of which no two have a shape, and two vectors between them."""
    rng, shapes = np.random.default_rng(4), {"a": (4, 2, 6), "c": (3, 5, 3), "e": (1, 7, 9)}

    def seen():
        images = {key: rng.integers(0, 256, (2, *shape), np.uint8) for key, shape in shapes.items()}
        return images | {
            "b": rng.normal(size=(2, 3)).astype(np.float32),
            "d": rng.integers(0, 9, (2,), np.int32),
        }

    storage = replay.frames(8, stack=3, num_envs=2)
    number = lambda *shape: rng.normal(size=(2, *shape)).astype(np.float32)
    given = [
        Transition(
            observation=seen(),
            action=number(1),
            reward=number(),
            discount=number(),
            next_observation=seen(),
        )
        for _ in range(3)
    ]
    state = storage.init(jax.tree.map(lambda x: x[0], given[0]))
    assert state.frames.shape[1] == 4 * 2 * 2 + 3 * 5 + 7 * 3
    add = jax.jit(storage.add)
    for transition in given:
        state = add(state, transition)
    got = jax.jit(storage.get)(state, np.arange(6, dtype=np.int32))
    assert_same(got, jax.tree.map(lambda *x: np.concatenate(x), *given))


def test_a_frame_that_stands_still_is_written_again_when_it_is_old():
    """One of two environments shows one frame: it is known for 2 E (n_step + stack) = 8 frames of
    the other one, and with the ninth it is written again, before what refers to it is lost."""
    storage = replay.frames(40, stack=1, num_envs=2)
    both = lambda *args: jax.tree.map(
        lambda x, y: np.concatenate([x, y]), numbered(255, 255, 0.0), numbered(*args)
    )
    state = storage.init(jax.tree.map(lambda x: x[0], both(0, 1, 0.0)))
    add, expected, still, written = jax.jit(storage.add), [], 0, 0
    found = []
    for index in range(60):
        if not index or written - still > 8:
            still, written = written + 1, written + 1
        written += 1 if index else 2
        expected.append(written)
        state = add(state, both(index, index + 1, 0.0))
        found.append(int(state.written))
    assert found == expected
    assert 60 + 2 < found[-1] < 60 + 9


def test_bytes_are_as_predicted():
    """84x84x3, three frames, a million transitions: 22 GB with an episode every 20 steps, where
    stacks take 127."""
    shapes = lambda *shape: jax.ShapeDtypeStruct(shape, jnp.uint8)
    number = jax.ShapeDtypeStruct((), jnp.float32)
    example = Transition(
        observation=shapes(84, 84, 9),
        action=jax.ShapeDtypeStruct((6,), jnp.float32),
        reward=number,
        discount=number,
        next_observation=shapes(84, 84, 9),
    )
    size = lambda storage: sum(
        x.size * x.dtype.itemsize
        for x in jax.tree.leaves(jax.eval_shape(lambda: storage.init(zeros(example))))
    )
    zeros = lambda tree: jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), tree)
    million, envs = 1_024_000, 1_024
    stored = size(replay.frames(million, stack=3, num_envs=envs, n_step=3))
    room = million * 21 // 20 + 4 * envs * (3 + 3)
    assert (
        stored
        == room * 84 * 84 * 3 + million * (4 * (2 * 3 + 1) + 4 * 8) + envs * 2 * 3 * 3 * 16 + 16
    )
    assert size(replay.rows(million)) > 5.5 * stored


@pytest.mark.parametrize(
    "build", [replay.uniform, replay.prioritised], ids=["uniform", "prioritised"]
)
def test_either_sampling_draws_from_frames(build):
    """The same rows of both storages are drawn; adding writes in place, at a cost that the capacity
    does not change."""
    rng, transitions = np.random.default_rng(0), []
    world = Envs(rng, 3, 5)
    storage = functools.partial(replay.frames, stack=STACK, num_envs=3)
    links = [build(48, 8, storage=storage), build(48, 8)]
    transitions = [world.step()[0] for _ in range(20)]
    one = jax.tree.map(lambda x: x[0], transitions[0])
    states = [link.init(one) for link in links]
    adds = [jax.jit(link.add, donate_argnums=0) for link in links]
    for transition in transitions:
        states = [add(state, transition) for add, state in zip(adds, states, strict=True)]
    sampled = [
        link.sample(state, jax.random.key(1)) for link, state in zip(links, states, strict=True)
    ]
    assert_same(*sampled)
    link = build(480_000, 8, storage=storage)
    state = jax.eval_shape(link.init, one)
    memory = (
        jax.jit(link.add, donate_argnums=0).lower(state, transitions[0]).compile().memory_analysis()
    )
    assert memory.alias_size_in_bytes >= sum(
        x.size * x.dtype.itemsize for x in jax.tree.leaves(state)
    )
    assert memory.temp_size_in_bytes < 10_000


@pytest.mark.parametrize(
    ("options", "shape", "dtype", "message"),
    [
        ({"stack": 0}, (4, 4, 3), "uint8", "stack=0: must be at least 1"),
        ({"num_envs": 5}, (4, 4, 3), "uint8", "capacity=12 is not a multiple of num_envs=5"),
        ({}, (4, 4, 3), "float32", "frames are of images, uint8"),
        ({}, (3,), "uint8", "frames are of images, uint8"),
        ({"stack": 2}, (4, 4, 3), "uint8", "stack=2: an image of shape .* divisor of 3"),
    ],
)
def test_what_frames_refuse(options, shape, dtype, message):
    example = jnp.zeros(shape, dtype)
    scalar = jnp.zeros(())
    transition = Transition(
        observation=example,
        action=jnp.zeros((1,)),
        reward=scalar,
        discount=scalar,
        next_observation=example,
    )
    with pytest.raises(ValueError, match=message):
        replay.frames(12, **{"stack": 3, "num_envs": 1, **options}).init(transition)
