"""Hindsight against a slow reference that keeps whole episodes in lists: which rows a sample may
hold, how often, with which rewards, discounts and successors.
"""

import functools
from collections import Counter, deque

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
        self.rows = deque(maxlen=capacity)
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


def played(draw, num_envs, steps, ends, invalid):
    """Random steps of environments: numbers that tell rows apart, few goals, both kinds of end."""
    goals = [float(draw.integers(4)) for _ in range(num_envs)]
    for number in range(steps):
        rows, valid, ended = [], [], []
        for env in range(num_envs):
            achieved = float(draw.integers(4))
            reached = ends and achieved == goals[env]
            terminated = bool(reached or draw.random() < 0.08)
            row = {
                "number": float(number * num_envs + env),
                "next_achieved": achieved,
                "desired": goals[env],
                "terminated": terminated,
                "reward": 100.0 * achieved - goals[env],
            }
            rows.append(row)
            holds = not invalid or draw.random() > 0.15
            valid.append(holds)
            ended.append(bool(holds and (terminated or draw.random() < 0.12)))
            if ended[-1] or not holds:
                goals[env] = float(draw.integers(4))
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


def filled(memory, reference, seed, num_envs, steps, ends, invalid, state=None):
    for rows, valid, ended in played(np.random.default_rng(seed), num_envs, steps, ends, invalid):
        example = transition(rows)
        if state is None:
            state = memory.init(jax.tree.map(lambda x: x[0], example))
        reference.add(rows, valid, ended)
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
    state = filled(memory, reference, seed, num_envs, steps, ends, invalid)
    if reference.stored():
        agrees(memory, state, reference, strategy, k / (k + 1), length, ends)
