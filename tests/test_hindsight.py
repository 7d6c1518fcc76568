"""Hindsight against a slow reference that keeps whole episodes in lists: which rows a sample may
hold, how often, with which rewards, discounts and successors.
"""

import functools
import types
from collections import Counter, deque
from dataclasses import replace
from pathlib import Path

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from ddpg_jax import replay
from ddpg_jax.environment import Goal
from ddpg_jax.replay.hindsight import STRATEGIES
from ddpg_jax.returns import n_step
from ddpg_jax.types import Transition

GAMMA = 0.9


def goal_of(ends):
    """Reached where both numbers are alike; the reward tells apart who was compared with whom."""
    return Goal(
        reward=lambda achieved, desired: 100.0 * achieved[0] - desired[0],
        success=lambda achieved, desired: achieved[0] == desired[0],
        ends=ends,
    )


def observed(number, achieved, desired):
    return {
        "observation": jnp.asarray(number, jnp.float32)[..., None],
        "achieved_goal": jnp.asarray(achieved, jnp.float32)[..., None],
        "desired_goal": jnp.asarray(desired, jnp.float32)[..., None],
    }


class Reference:
    """Whole episodes of each environment in lists, rows in the order of writing."""

    def __init__(self, capacity, num_envs):
        self.rows, self.steps = deque(maxlen=capacity), 0
        self.aims = [0.0] * num_envs
        self.running = [[] for _ in range(num_envs)]

    def add(self, steps, valid, ended):
        for env, step in enumerate(steps):
            if valid[env]:
                self.running[env].append(step)
                step["episode"], step["place"] = self.running[env], len(self.running[env]) - 1
                self.rows.append(step)
            else:
                self.rows.append(None)
            if ended[env] or not valid[env]:
                self.running[env] = []

    def stored(self):
        return [step for step in self.rows if step is not None]

    def cut(self, goals=(1.0, 2.0, 3.0, 0.0)):
        self.running = [[] for _ in self.running]
        self.aims = [*goals[: len(self.running)]]

    def of(self, environments):
        """What is of some of the environments."""
        part = Reference(self.rows.maxlen, 0)
        part.rows.extend(step for step in self.stored() if step["env"] in environments)
        return part

    def goals(self, step, strategy):
        """Achieved goals that may take the place of a step's own, all alike."""
        kept = {id(x) for x in self.stored()}
        episode = [x for x in step["episode"] if id(x) in kept]
        place = next(i for i, x in enumerate(episode) if x is step)
        chosen = {"future": episode[place:], "final": episode[-1:], "episode": episode}[strategy]
        return [x["next_achieved"] for x in chosen]

    def sampled(self, step, aim, length, ends):
        """``(reward, discount, number of the last successor)`` of a step with another goal, or with
        its own where that is None.
        """
        reward, power = 0.0, 1.0
        for later in step["episode"][step["place"] :][:length]:
            over = later["terminated"]
            paid = later["reward"]
            if aim is not None:
                paid = 100.0 * later["next_achieved"] - aim
                if ends:
                    own = later["next_achieved"] == later["desired"]
                    over = (over and not own) or later["next_achieved"] == aim
            reward, last = reward + power * paid, power
            power *= GAMMA
            if over:
                return reward, 0.0, later["number"] + 0.5
        return reward, last, later["number"] + 0.5


def played(reference, draw, steps, ends, invalid):
    """Random steps of environments, which the reference keeps: numbers that tell rows apart, few
    goals, both kinds of end.
    """
    for _ in range(steps):
        rows, valid, ended = [], [], []
        for env, goal in enumerate(reference.aims):
            achieved = float(draw.integers(4))
            terminated = bool((ends and achieved == goal) or draw.random() < 0.08)
            row = {
                "env": env,
                "number": float(reference.steps),
                "next_achieved": achieved,
                "desired": goal,
                "terminated": terminated,
                "reward": 100.0 * achieved - goal,
            }
            rows.append(row)
            holds = not invalid or draw.random() > 0.15
            valid.append(holds)
            ended.append(bool(holds and (terminated or draw.random() < 0.12)))
            if ended[-1] or not holds:
                reference.aims[env] = float(draw.integers(4))
            reference.steps += 1
        reference.add(rows, valid, ended)
        yield rows, valid, ended


def transition(rows):
    column = lambda name: np.array([row[name] for row in rows], np.float32)
    number = column("number")
    return Transition(
        observation=observed(number, number * 0 - 1, column("desired")),
        action=jnp.asarray(number)[:, None] / 1000,
        reward=jnp.asarray(column("reward")),
        discount=jnp.asarray(1.0 - column("terminated")),
        next_observation=observed(number + 0.5, column("next_achieved"), column("desired")),
    )


def filled(memory, reference, seed, steps, ends, invalid, state=None):
    for rows, valid, ended in played(reference, np.random.default_rng(seed), steps, ends, invalid):
        example = transition(rows)
        if state is None:
            state = memory.init(jax.tree.map(lambda x: x[0], example))
        given = (jnp.array(valid),) if invalid else ()
        state = memory.add(state, example, *given, ended=jnp.array(ended))
    return state


def agrees(memory, state, reference, strategy, share, length, ends, draws=150):
    """Every row of many samples is one the reference allows, and their shares are its own."""
    batches = memory.sample(state, jax.random.split(jax.random.key(0), draws))
    batch = jax.tree.map(lambda x: np.asarray(x).reshape(-1, *x.shape[2:]), batches)
    stored = {step["number"]: step for step in reference.stored()}
    expected, kinds = Counter(), {}
    for number, step in stored.items():
        own = reference.sampled(step, None, length, ends)
        kinds[(number, step["desired"], *own)] = True
        expected[(number, step["desired"], *own)] += (1 - share) / len(stored)
        goals = reference.goals(step, strategy)
        for aim in goals:
            made = (number, aim, *reference.sampled(step, aim, length, ends))
            expected[made] += share / len(goals) / len(stored)
    columns = [
        batch.observation["observation"][:, 0],
        batch.observation["desired_goal"][:, 0],
        batch.reward,
        batch.discount,
        batch.next_observation["observation"][:, 0],
    ]
    np.testing.assert_array_equal(
        batch.next_observation["desired_goal"], batch.observation["desired_goal"]
    )
    np.testing.assert_allclose(batch.action[:, 0], columns[0] / 1000, rtol=1e-6)
    rounded = lambda row: tuple(round(float(x), 2) for x in row)
    allowed = Counter()
    for row, probability in expected.items():
        allowed[rounded(row)] += probability
    found = Counter(rounded(row) for row in zip(*columns, strict=True))
    assert not found.keys() - allowed.keys()
    total = sum(found.values())
    often = {row: p * total for row, p in allowed.items() if p * total >= 5}
    seen = [found[row] for row in often]
    rest = total - sum(seen)
    wanted = [*often.values(), total - sum(often.values())]
    seen, wanted = ([*seen, rest], wanted) if wanted[-1] > 1 else (seen, list(often.values()))
    wanted = np.array(wanted) * sum(seen) / np.sum(wanted)
    assert len(seen) < 2 or stats.chisquare(seen, wanted).pvalue > 1e-6


@functools.cache
def made(num_envs, slots, strategy, length, ends, k):
    """A replay and its compiled functions; ``sample`` of many keys at once."""
    memory = replay.hindsight(
        num_envs * slots,
        min(num_envs * slots, 64),
        goal_of(ends),
        num_envs=num_envs,
        strategy=STRATEGIES[strategy],
        goals_per_step=k,
        window=n_step(length, GAMMA) if length > 1 else None,
    )
    many = jax.jit(jax.vmap(memory.sample, in_axes=(None, 0)))
    return memory._replace(add=jax.jit(memory.add), sample=many)


@pytest.mark.parametrize(
    ("num_envs", "slots", "strategy", "length", "ends", "invalid", "k"),
    [
        (1, 16, "future", 1, False, False, 4),
        (1, 7, "episode", 5, True, True, 4),
        (2, 16, "future", 3, True, False, 4),
        (2, 4, "final", 2, False, True, 1),
        (3, 7, "episode", 1, True, False, 4),
        (3, 16, "future", 2, True, True, 1),
        (5, 4, "future", 4, False, False, 4),
        (5, 16, "final", 5, True, False, 4),
        (5, 7, "future", 1, True, True, 0),
    ],
)
@hypothesis.settings(max_examples=6, deadline=None, derandomize=True, database=None)
@hypothesis.given(seed=st.integers(0, 2**31 - 1), steps=st.integers(1, 40))
def test_samples_are_those_of_a_reference_that_keeps_episodes(
    num_envs, slots, strategy, length, ends, invalid, k, seed, steps
):
    memory = made(num_envs, slots, strategy, length, ends, k)
    reference = Reference(num_envs * slots, num_envs)
    state = filled(memory, reference, seed, steps, ends, invalid)
    if reference.stored():
        agrees(memory, state, reference, strategy, k / (k + 1), length, ends)


def sharded(memory, states, reference, seed, steps):
    """More steps of the environments of each shard, and of the reference."""
    num_envs = 4 // len(states)
    for rows, valid, ended in played(reference, np.random.default_rng(seed), steps, True, True):
        for shard in range(len(states)):
            own = slice(shard * num_envs, (shard + 1) * num_envs)
            given = transition(rows[own]), jnp.array(valid[own])
            states[shard] = memory.add(states[shard], *given, ended=jnp.array(ended[own]))
    return states


def test_dealing_keeps_the_steps_of_each_environment_and_their_episodes():
    """From one device to two and back, with steps in between and before; rows that are not valid
    among them.
    """
    memories = {shards: made(4 // shards, 12, "future", 3, True, 4) for shards in (1, 2)}
    reference = Reference(48, 4)
    states = [filled(memories[1], reference, 0, 15, True, True)]
    for count, seed in ((2, 2), (1, 3)):
        stacked = jax.tree.map(lambda *x: np.stack(x), *map(jax.device_get, states))
        dealt = memories[count].deal(stacked, count)
        assert dealt.lost == 0
        reference.cut()
        states = [
            jax.tree.map(lambda x, shard=shard: jnp.asarray(x[shard]), dealt.state)
            for shard in range(count)
        ]
        for _ in range(2):
            for shard, one in enumerate(states):
                own = range(shard * 4 // count, (shard + 1) * 4 // count)
                agrees(memories[count], one, reference.of(own), "future", 0.8, 3, True)
            states = sharded(memories[count], states, reference, seed, 7)


def test_episodes_that_are_cut_end_where_they_are():
    """Of all environments, or of some: what follows is another episode, whose goals are its own."""
    memory, reference = made(3, 16, "future", 2, True, 1), Reference(48, 3)
    state = filled(memory, reference, 5, 12, False, False)
    assert int(state.running.step.max()) > 0, "an episode runs"
    reference.cut()
    state = filled(memory, reference, 6, 3, False, False, state.cut())
    agrees(memory, state, reference, "future", 0.5, 2, True)
    some = state.cut(jnp.array([False, True, False]))
    same = np.asarray(some.running.step == state.running.step)
    assert same.tolist() == [True, int(state.running.step[1]) == 0, True]


FAULTS = {
    "final goals only": ("strategy(words[2], earlier, later)", "later"),
    "every row": ("< share", "< 2.0"),
    "an episode that ends early": (
        "state.lengths[row % num_envs, episode] - 1 - step",
        "jnp.maximum(jnp.max(state.lengths) - 1 - step, 0)",
    ),
    "index 0 is none": (
        "relabelled(goal, steps, reached, chosen)",
        "relabelled(goal, steps, reached, chosen & (row > 0))",
    ),
    "the reward of the current state": (
        "step.observation[DESIRED], step.next_observation[ACHIEVED]",
        "step.observation[DESIRED], step.observation[ACHIEVED]",
    ),
    "the successor after the reset": (
        "later)).next_observation[ACHIEVED]",
        "later) + 1).observation[ACHIEVED]",
    ),
    "a time limit ends": (
        "segment = Segment(steps,",
        "goes = jnp.astype(later > 0, jnp.float32)[:, None]\n"
        "        segment = Segment(replace(steps, discount=steps.discount * goes),",
    ),
    "the write head": ("(row // num_envs - oldest) % slots", "row // num_envs"),
    "an episode goes on": ("jnp.where(ends, 0, length)", "length"),
    "a goal that ends": ("over = other | goal.success(achieved, aim)", "over = other"),
    "its own end": ("& ~goal.success(achieved, own)", ""),
    "the wrong environment": ("(row + steps * num_envs) % capacity", "(row + steps) % capacity"),
}
"""Those of other implementations, and some that this one could have."""


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_caught(fault):
    """The replay with a fault put into its text disagrees with the reference."""
    old, new = FAULTS[fault]
    text = Path(replay.hindsight.__code__.co_filename).read_text()
    assert text.count(old) == 1
    module = types.ModuleType("faulty")
    exec(text.replace(old, new), vars(module))
    for strategy, length, invalid in (("future", 2, False), ("episode", 1, True)):
        offset = getattr(module, strategy)
        window = n_step(length, GAMMA) if length > 1 else None
        goal = goal_of(ends=True)
        options = {"num_envs": 3, "strategy": offset, "window": window}
        memory = module.hindsight(24, 24, goal, **options)
        many = jax.jit(jax.vmap(memory.sample, in_axes=(None, 0)))
        memory = memory._replace(add=jax.jit(memory.add), sample=many)
        for seed in range(3):
            reference = Reference(24, 3)
            state = filled(memory, reference, seed, 15, True, invalid)
            try:
                agrees(memory, state, reference, strategy, 0.8, length, True)
            except AssertionError:
                return
    pytest.fail("nothing was noticed")


def test_adding_and_sampling_cost_the_batch_whatever_the_capacity():
    """The buffer is written in place: no temporary grows with it, and nothing of it is copied."""

    def temporary(capacity):
        memory = replay.hindsight(capacity, 64, goal_of(ends=True), num_envs=8)
        rows, _, ended = next(played(Reference(8, 8), np.random.default_rng(0), 1, False, False))
        steps, ended = transition(rows), jnp.array(ended)
        state = jax.eval_shape(memory.init, jax.tree.map(lambda x: x[0], steps))
        add = jax.jit(lambda *given: memory.add(*given[:2], ended=given[2]), donate_argnums=0)
        added = add.lower(state, steps, ended).compile().memory_analysis()
        key = jax.eval_shape(lambda: jax.random.key(0))
        drawn = jax.jit(memory.sample).lower(state, key).compile().memory_analysis()
        held = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state))
        assert added.alias_size_in_bytes >= held
        return added.temp_size_in_bytes, drawn.temp_size_in_bytes

    assert temporary(1_024) == temporary(262_144)


@pytest.mark.parametrize(
    ("observation", "sentence"),
    [
        (np.zeros(3, np.float32), "and it is no dict"),
        ({"observation": np.zeros(3, np.float32)}, "and it is observation: choose"),
        (
            {
                "observation": np.zeros(3, np.float32),
                "achieved_goal": np.zeros(2, np.float32),
                "desired_goal": np.zeros(3, np.float32),
            },
            "achieved_goal is .* where desired_goal is",
        ),
    ],
)
def test_an_observation_without_goals_is_refused(observation, sentence):
    one = transition(next(played(Reference(8, 1), np.random.default_rng(0), 1, False, False))[0])
    one = replace(one, observation=observation, next_observation=observation)
    with pytest.raises(ValueError, match=sentence):
        replay.hindsight(8, 2, goal_of(ends=False), num_envs=1).init(one)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"goals_per_step": -1}, "goals_per_step=-1"),
        ({"num_envs": 3}, "capacity=8 is not a multiple of num_envs=3: choose for example 6"),
        ({"num_envs": 0}, "num_envs=0"),
        ({"capacity": 1}, "capacity=1 is smaller than batch_size=2"),
    ],
)
def test_sizes_out_of_range_are_refused(options, sentence):
    given = {"capacity": 8, "batch_size": 2, "goal": goal_of(ends=False), "num_envs": 1} | options
    with pytest.raises(ValueError, match=sentence):
        replay.hindsight(**given)
