"""Multi-step returns, against loops over steps in plain Python and against values known by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddpg_jax import noise, returns, rollout
from ddpg_jax.behaviour import explore
from ddpg_jax.envs import SingleEnvironment, batch
from ddpg_jax.types import Agent, Transition

TERMINATED, TRUNCATED = 1, 2


def stream(ends, seed=0):
    """Single steps ``[T, E, ...]`` that carry an id of their own; ``ends: [T, E]``: 0, or the kind
    of an episode's end."""
    rng, shape = np.random.default_rng(seed), ends.shape
    ids = np.arange(1, ends.size + 1).reshape(shape)
    image = np.stack([ids // 256, ids % 256], axis=-1).astype(np.uint8)
    column = ids[..., None].astype(np.float32)
    transitions = Transition(
        observation={"vector": column, "image": image},
        action=rng.uniform(-1, 1, (*shape, 2)).astype(np.float32),
        reward=rng.normal(0, 1, shape).astype(np.float32),
        discount=(ends != TERMINATED).astype(np.float32),
        next_observation={"vector": column + 0.5, "image": image[::-1]},
    )
    return transitions, ends != 0


def reference(transitions, done, n, gamma):
    """The transitions that begin at steps 0 to T - n, one by one, in float64."""
    length, count = done.shape
    begun = []
    for t in range(length - n + 1):
        row = []
        for e in range(count):
            total, last = 0.0, t
            for i in range(n):
                last = t + i
                total += gamma**i * float(transitions.reward[last, e])
                if done[last, e]:
                    break
            discount = gamma ** (last - t) * float(transitions.discount[last, e])
            at = lambda x, step, e=e: x[step, e]
            row.append(
                Transition(
                    observation=jax.tree.map(lambda x: at(x, t), transitions.observation),  # noqa: B023
                    action=transitions.action[t, e],
                    reward=total,
                    discount=discount,
                    next_observation=jax.tree.map(
                        lambda x: at(x, last),  # noqa: B023
                        transitions.next_observation,
                    ),
                )
            )
        begun.append(jax.tree.map(lambda *x: np.stack(x), *row))
    return jax.tree.map(lambda *x: np.stack(x), *begun)


def scanned(window, transitions, done):
    """What the window gives out from the first whole transition on, ``[T - n + 1, E, ...]``."""

    @jax.jit
    def run(transitions, done):
        state = window.init(jax.tree.map(lambda x: x[0], transitions))
        return jax.lax.scan(
            lambda state, inputs: window.push(state, *inputs), state, (transitions, done)
        )[1]

    return jax.tree.map(lambda x: x[window.length - 1 :], run(transitions, done))


def assert_equal(begun, expected):
    """What is copied is equal bit by bit, sums within float32's rounding."""
    for name in ("observation", "action", "next_observation"):
        jax.tree.map(np.testing.assert_array_equal, getattr(begun, name), getattr(expected, name))
    np.testing.assert_allclose(begun.reward, expected.reward, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(begun.discount, expected.discount, rtol=1e-5)


def random_ends(length=80, count=3, seed=1):
    return np.random.default_rng(seed).choice(
        [0, TERMINATED, TRUNCATED], (length, count), p=[0.7, 0.15, 0.15]
    )


def placed_ends(n):
    """Two ends of each kind, at every pair of offsets within two windows; one environment each."""
    pairs = [(a, b) for a in range(2 * n) for b in range(a + 1, 2 * n)]
    kinds = [(k, other) for k in (TERMINATED, TRUNCATED) for other in (TERMINATED, TRUNCATED)]
    ends = np.zeros((3 * n, len(pairs) * len(kinds)), int)
    for e, ((a, b), (first, second)) in enumerate((pair, kind) for pair in pairs for kind in kinds):
        ends[a, e], ends[b, e] = first, second
    return ends


@pytest.mark.parametrize("n", [1, 3, 5])
@pytest.mark.parametrize("gamma", [0.9, 1.0, 0.0])
def test_is_the_loop_over_steps_on_random_episodes(n, gamma):
    transitions, done = stream(random_ends())
    begun = scanned(returns.n_step(n, gamma), transitions, done)
    assert_equal(begun, reference(transitions, done, n, gamma))


@pytest.mark.parametrize("n", [1, 3, 5])
def test_both_kinds_of_end_at_every_offset(n):
    transitions, done = stream(placed_ends(n))
    begun = scanned(returns.n_step(n, 0.9), transitions, done)
    assert_equal(begun, reference(transitions, done, n, 0.9))


def test_by_hand():
    # One environment, n = 3, gamma = 1/2, rewards 1, 2, 4, 8, 16; the third step is cut by a time
    # limit, the fifth terminates.
    transitions, done = stream(np.array([0, 0, TRUNCATED, 0, TERMINATED, 0, 0])[:, None])
    transitions = transitions.replace(reward=np.float32([1, 2, 4, 8, 16, 32, 64])[:, None])
    begun = scanned(returns.n_step(3, 0.5), transitions, done)
    # 1 + 2/2 + 4/4 = 3;  2 + 4/2 = 4;  4;  8 + 16/2 = 16;  16
    np.testing.assert_allclose(begun.reward[:, 0], [3, 4, 4, 16, 16])
    # gamma^2, gamma^1, gamma^0 to the time limit; 0 where it terminated
    np.testing.assert_allclose(begun.discount[:, 0], [0.25, 0.5, 1, 0, 0])
    # successors of steps 3, 3, 3, 5, 5 (ids 1, 2, ... and a half)
    np.testing.assert_allclose(begun.next_observation["vector"][:, 0, 0], [3.5, 3.5, 3.5, 5.5, 5.5])


def test_every_step_begins_exactly_one_transition():
    transitions, done = stream(random_ends())
    for n in (1, 3, 5):
        ids = scanned(returns.n_step(n, 0.9), transitions, done).observation["vector"][..., 0]
        np.testing.assert_array_equal(
            ids, np.arange(1, done.size + 1).reshape(done.shape)[: len(done) - n + 1]
        )


def test_one_step_is_the_identity():
    transitions, done = stream(random_ends())
    begun = scanned(returns.n_step(1, 0.9), transitions, done)
    jax.tree.map(np.testing.assert_array_equal, begun, transitions)


def test_scan_is_the_loop_and_structure_and_dtypes_are_kept():
    window, (transitions, done) = returns.n_step(3, 0.9), stream(random_ends(12))
    types = lambda tree: jax.tree.map(lambda x: (x.shape, x.dtype), tree)
    state, looped = window.init(jax.tree.map(lambda x: x[0], transitions)), []
    push = jax.jit(window.push)
    for t in range(12):
        step = jax.tree.map(lambda x: x[t], transitions)  # noqa: B023
        new_state, begun = push(state, step, done[t])
        assert types(new_state) == types(state)
        assert types(begun) == types(step)
        state = new_state
        looped.append(begun)
    assert window.length == 3
    jax.tree.map(
        np.testing.assert_array_equal,
        scanned(window, transitions, done),
        jax.tree.map(lambda *x: np.stack(x), *looped[2:]),
    )


def test_gamma_may_be_traced():
    transitions, done = stream(random_ends(30))
    run = lambda gamma: scanned(returns.n_step(3, gamma), transitions, done)
    gammas = jnp.array([0.0, 0.5, 0.99])
    together = jax.jit(jax.vmap(run))(gammas)
    for i, gamma in enumerate(gammas):
        assert_equal(
            jax.tree.map(lambda x: x[i], together),  # noqa: B023
            reference(transitions, done, 3, float(gamma)),
        )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 0.99), "length=0: must be at least 1"),
        ((3, 1.5), "gamma=1.5: must be between 0 and 1"),
        ((3, -0.1), "gamma=-0.1: must be between 0 and 1"),
    ],
)
def test_numbers_out_of_range(arguments, message):
    with pytest.raises(ValueError, match=message):
        returns.n_step(*arguments)


@pytest.mark.parametrize("n", [1, 3, 5])
def test_constant_reward_is_worth_one_over_one_minus_gamma(n):
    """1 / (1 - 0.99) = 100. Mistakes: gamma for gamma^n gives 295 at n = 3; gamma^(n + 1) in all
    gives 75."""
    transitions, done = stream(np.zeros((12, 2), int))
    transitions = transitions.replace(reward=np.ones_like(transitions.reward))
    begun = scanned(returns.n_step(n, 0.99), transitions, done)
    reward, discount = (np.asarray(x, np.float64) for x in (begun.reward, begun.discount))
    value = np.zeros(reward.shape)
    for _ in range(3000):
        value = reward + 0.99 * discount * value
    np.testing.assert_allclose(value, 100, rtol=1e-4)


def chain(terminates):
    """States 0 and 1 in turn, 1 reward for leaving 0 and 2 for leaving 1; leaving 1 may end it. It
    starts in either state."""

    def reset(key):
        state = jax.random.bernoulli(key).astype(jnp.float32)
        return state, state[None]

    def step(state, action, key):
        new = 1 - state
        return new, new[None], 1 + state, (state == 1) & terminates

    return SingleEnvironment(reset, step, 1)


@pytest.mark.parametrize(
    ("terminates", "time_limit", "values"),
    [
        # Endless: Q0 = 1 + 0.9 Q1 and Q1 = 2 + 0.9 Q0, so Q0 = (1 + 2 * 0.9) / (1 - 0.81) = 14.737,
        # Q1 = (2 + 0.9) / 0.19 = 15.263. A time limit of 2 or 3 cuts the data, not the values.
        (False, 2, [2.8 / 0.19, 2.9 / 0.19]),
        (False, 3, [2.8 / 0.19, 2.9 / 0.19]),
        # Leaving 1 terminates: Q1 = 2, Q0 = 1 + 0.9 * 2 = 2.8. The limit is never met.
        (True, 3, [2.8, 2.0]),
    ],
)
def test_values_of_a_chain_with_a_time_limit(terminates, time_limit, values):
    env = batch(chain(terminates), 4, time_limit)
    behaviour = explore(
        Agent(init=None, act=lambda state, x: 0 * x, update=None), noise.gaussian(0.1)
    )
    collect = rollout.collect(env, behaviour)

    def step(collector, key):
        collector, transition, _ = collect(collector, None, *jax.random.split(key))
        return collector, (transition, collector.reset)

    def run(key):
        return jax.lax.scan(step, rollout.begin(env, behaviour, key), jax.random.split(key, 60))[1]

    collected = jax.jit(run)(jax.random.key(0))
    for n in (1, 3, 5):
        begun = jax.tree.map(
            lambda x: np.asarray(x, np.float64), scanned(returns.n_step(n, 0.9), *collected)
        )
        here, there = (
            begun.observation[..., 0].astype(int),
            begun.next_observation[..., 0].astype(int),
        )
        table = np.zeros(2)
        for _ in range(400):
            target = begun.reward + 0.9 * begun.discount * table[there]
            table = np.array([target[here == state].mean() for state in (0, 1)])
        np.testing.assert_allclose(table, values, rtol=1e-5)
        np.testing.assert_allclose(
            target, np.asarray(values)[here], rtol=1e-5
        )  # each by itself: nothing cancels in the mean
