"""Random episodes through the host's adapters and through the learner, against a loop in plain
Python, row for row."""

import functools
import itertools
from typing import NamedTuple

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from hypothesis import given, settings
from hypothesis import strategies as st

from ddpg_jax import agents, envs, host, networks, replay, returns
from ddpg_jax.types import Behaviour

E, GAMMA = 2, 0.5
QUICK = settings(max_examples=30, deadline=None, derandomize=True, database=None)


class Episode(NamedTuple):
    """Rewards of its steps, and how the last one ends it."""

    rewards: tuple[int, ...]
    terminated: bool
    truncated: bool


ENDS = st.sampled_from([(True, False), (False, True), (True, True)])
EPISODES = st.builds(
    lambda rewards, ends: Episode(tuple(rewards), *ends),
    st.lists(st.integers(-8, 8), min_size=1, max_size=6),
    ENDS,
)
SCRIPT = st.lists(EPISODES, min_size=1, max_size=4)


class Scripted(gymnasium.Env):
    """Plays the episodes of ``script()`` again and again; shows ``encode(episode, step)``."""

    def __init__(self, script, encode, space, action_space, in_place=False, infos=None):
        self.observation_space, self.action_space = space, action_space
        self.script, self.encode, self.infos, self.buffer = (
            script,
            encode,
            infos or (lambda number: {}),
            None,
        )
        self.in_place = in_place

    def reset(self, *, seed=None, options=None):  # noqa: ARG002
        super().reset(seed=seed)
        self.episode, self.number = (0 if seed is not None else self.episode + 1), 0
        return self._see(), self.infos(0)

    def step(self, action):  # noqa: ARG002
        episodes = self.script()
        episode = episodes[self.episode % len(episodes)]
        self.number += 1
        over = self.number == len(episode.rewards)
        reward = float(episode.rewards[self.number - 1])
        return (
            self._see(),
            reward,
            over and episode.terminated,
            over and episode.truncated,
            self.infos(self.number),
        )

    def _see(self):
        """One array for all time, if so asked."""
        seen = self.encode(self.episode, self.number)
        if not self.in_place:
            return seen
        self.buffer = jax.tree.map(np.array, seen) if self.buffer is None else self.buffer
        jax.tree.map(lambda into, new: into.__setitem__(..., new), self.buffer, seen)
        return self.buffer


def played(episodes, encode, steps):
    """The plain loop: ``(observation, reward, terminated, truncated, next_observation)`` of so many
    steps."""
    found = []
    for index in itertools.count():
        episode = episodes[index % len(episodes)]
        for number, reward in enumerate(episode.rewards, 1):
            over = number == len(episode.rewards)
            terminated, truncated = (
                over and episode.terminated,
                over and episode.truncated and not episode.terminated,
            )
            found.append(
                (encode(index, number - 1), reward, terminated, truncated, encode(index, number))
            )
            if len(found) == steps:
                return found


SPACES = [
    *(spaces.Box(-np.inf, np.inf, (3,), dtype) for dtype in (np.float16, np.float32, np.float64)),
    *(
        spaces.Box(np.iinfo(dtype).min, np.iinfo(dtype).max, (2, 2), dtype)
        for dtype in (np.int8, np.uint8, np.int16, np.uint16)
    ),
    *(
        spaces.Box(np.iinfo(dtype).min, np.iinfo(dtype).max, (2,), dtype)
        for dtype in (np.int32, np.uint32)
    ),
    spaces.Box(-(2**31), 2**31 - 1, (3,), np.int64),
    spaces.Box(0, 2**32 - 1, (3,), np.uint64),
    spaces.Box(0, 1, (3,), bool),
    spaces.Box(-1, 1, ()),
    spaces.MultiBinary(4),
    spaces.MultiBinary((2, 2)),
    spaces.Discrete(1000),
    spaces.Discrete(1000, start=-500),
    spaces.MultiDiscrete([100, 200]),
    spaces.Dict(
        b=spaces.Box(-1, 1, (2,), np.float64),
        a=spaces.Dict(z=spaces.Discrete(500), image=spaces.Box(0, 255, (2, 2, 1), np.uint8)),
    ),
]


def encoder(space):
    """``encode(episode, step)``: another member of the space for each, the same whenever it is
    asked for."""

    @functools.cache
    def encode(episode, number):
        space.seed(1000 * episode + number)
        return space.sample()

    return encode


class Generic(SyncVectorEnv):
    """Not recognised as what it is: ``final_obs`` in its infos is believed."""


WAYS = {
    "copies": (SyncVectorEnv, AutoresetMode.SAME_STEP),
    "vector": (Generic, AutoresetMode.SAME_STEP),
    "next-step": (SyncVectorEnv, AutoresetMode.NEXT_STEP),
}
ODD = [
    {},
    {"a": np.zeros(2)},
    {"a": "text"},
    {"final_obs": 3, "_final_obs": True},
    {"a": {"b": None}},
]


@pytest.mark.parametrize("way", WAYS)
@QUICK
@given(
    scripts=st.lists(SCRIPT, min_size=E, max_size=E),
    space=st.sampled_from(SPACES),
    in_place=st.booleans(),
    data=st.data(),
)
def test_adapters_give_what_a_plain_loop_gives(way, scripts, space, in_place, data):
    kind, mode = WAYS[way]
    steps, encode = 16, encoder(space)
    # Gymnasium's own machinery does not survive odd infos, nor does its same-step mode environments
    # that write in place.
    odd = (
        data.draw(st.lists(st.sampled_from(ODD), min_size=1, max_size=4))
        if way == "copies"
        else [{}]
    )
    in_place &= way != "vector" and not isinstance(encode(0, 0), np.generic | int)
    infos = lambda number: odd[number % len(odd)]
    action_space = spaces.Box(-1, 1, (1,))
    make = [
        lambda s=s: Scripted(lambda: s, encode, space, action_space, in_place, infos)
        for s in scripts
    ]
    env = envs.gymnasium.vector(kind(make, autoreset_mode=mode))
    observation, found = env.reset(data.draw(st.integers(0, 2**70))), [[] for _ in range(E)]
    for _ in range(steps):
        now = env.step(np.zeros((E, 1), np.float32))
        for i in np.flatnonzero(now.valid):
            one = functools.partial(jax.tree.map, lambda x, i=i: x[i])
            found[i].append(
                (
                    one(observation),
                    now.reward[i],
                    now.terminated[i],
                    now.truncated[i],
                    one(now.next_observation),
                )
            )
        observation = now.observation
    fitted = lambda seen: jax.tree.map(
        lambda x, like: np.asarray(x).astype(like.dtype), seen, env.observation
    )
    for rows, script in zip(found, scripts, strict=True):
        wanted = played(script, encode, len(rows))
        assert len(rows) == steps or way == "next-step"
        for row, (before, *numbers, after) in zip(rows, wanted, strict=True):
            assert [*row[1:4]] == numbers
            jax.tree.map(
                np.testing.assert_array_equal, (row[0], row[4]), (fitted(before), fitted(after))
            )


# Through the learner


class Told:
    """The script of each environment, and how often the environments have begun: read anew in each
    step."""

    scripts, begun = ((),) * E, 0


def ageing():
    """Acts by how many steps ago an episode began to it, in 64ths; counts how often it adapts."""

    def act(state, agent_state, observation, key, reset):
        age, adapted = state
        age = jnp.where(reset, 0.0, age + 1.0)
        return age[:, None] / 64, (age, adapted)

    adapt = lambda state, agent_state, batch: (state[0], state[1] + 1)
    return Behaviour(
        lambda key, action: (jnp.full(action.shape[:1], 50.0), jnp.zeros((), jnp.int32)), act, adapt
    )


@functools.cache
def trainer(way, length):
    """One set of programs for all examples; the environments show ``[begun, which of them, episode,
    step]``."""
    kind, mode = WAYS[way]

    def make(index):
        space, action_space = spaces.Box(-np.inf, np.inf, (4,), np.float64), spaces.Box(-1, 1, (1,))
        encode = lambda episode, number: np.array([Told.begun, index, episode, number], np.float64)
        return Scripted(lambda: Told.scripts[index], encode, space, action_space)

    env = envs.gymnasium.vector(
        kind([functools.partial(make, i) for i in range(E)], autoreset_mode=mode)
    )
    agent = agents.ddpg(
        networks.Actor(1, hidden=(2,)), networks.Critic(hidden=(2,), action_layer=0), gamma=GAMMA
    )
    behaviour = ageing()
    made = host.make_train(
        agent,
        env,
        replay.uniform(200, 2),
        behaviour,
        learning_starts=4 * E,
        steps_per_chunk=8 * E,
        warm_up=behaviour,
        window=returns.n_step(length, GAMMA),
    )
    return made, jax.jit(made.init)


def multi_step(steps, length, cut):
    """The plain rows of one environment: ``steps`` of `played`, an episode cut where ``cut`` steps
    were taken."""
    rows = []
    for begin, (before, *_) in enumerate(steps):
        total, discount, after = 0.0, 1.0, before
        for ahead, (_, reward, terminated, truncated, following) in enumerate(
            steps[begin : begin + length]
        ):
            total, discount, after = (
                total + GAMMA**ahead * reward,
                GAMMA**ahead * (not terminated),
                following,
            )
            if terminated or truncated or begin + ahead + 1 == cut:
                break
        rows.append([*before, before[3] / 64, total, discount, *after])
    return rows


@pytest.mark.parametrize(("way", "length"), [("copies", 3), ("next-step", 4)])
@settings(QUICK, max_examples=20)
@given(scripts=st.lists(SCRIPT, min_size=E, max_size=E))
def test_the_replay_holds_what_a_plain_loop_finds_also_after_resuming(way, length, scripts):
    made, init = trainer(way, length)
    Told.scripts, Told.begun = scripts, 0
    made.begin(0)
    state, _ = made.chunk(made.warm_up(init(jax.random.key(0))))
    Told.begun = 1  # the run is saved, and another goes on with it
    made.begin(1)
    state, _ = made.chunk(state)
    assert state.collector.behaviour[1] == 16, "it adapted once in each round"
    stored = jax.tree.map(lambda x: np.asarray(x)[: int(state.replay.size)], state.replay.storage)
    numbers = np.column_stack([stored.reward, stored.discount])
    whole = np.column_stack([stored.observation, stored.action, numbers, stored.next_observation])
    first, second = (
        (length - 1) + 4 + 8,
        8,
    )  # vector steps: those that fill the window, the warm-up, a chunk; another chunk
    for index, script in enumerate(scripts):
        found = whole[whole[:, 1] == index]
        taken = [vector_steps(script, count, way) for count in (first, second)]
        steps = [
            row
            for begun, count in enumerate(taken)
            for row in played(
                script, lambda episode, number, b=begun, i=index: [b, i, episode, number], count
            )
        ]
        wanted = multi_step(steps, length, taken[0])[: len(found)]
        np.testing.assert_array_equal(found, wanted)
        # Of all steps the last few wait in the window; in next-step mode some of those are none.
        assert (
            len(steps) - (length - 1)
            <= len(found)
            <= len(steps) - (length - 1 if way == "copies" else 0)
        )


def vector_steps(script, count, way):
    """How many of so many vector steps are steps of an environment: next-step mode loses one to
    each end."""
    if way == "copies":
        return count
    taken = 0
    for episode in itertools.cycle(script):
        for _ in episode.rewards:
            if count == 0:
                return taken
            taken, count = taken + 1, count - 1
        if count == 0:
            return taken
        count -= 1
    raise AssertionError
