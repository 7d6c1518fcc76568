"""Simulations that break down: the environment begins anew, and nothing of the broken step is
learned from or counted.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddpg_jax import agents, envs, networks, noise, replay, reporting, returns, rollout, train
from ddpg_jax.behaviour import explore
from ddpg_jax.environment import TimeStep
from ddpg_jax.envs import SingleEnvironment, batch
from ddpg_jax.runs.config.run_config import make_config
from ddpg_jax.runs.options.validation import RunError
from ddpg_jax.runs.programs import evaluation
from ddpg_jax.types import Transition

E, LIMIT, BREAKS_AT = 4, 6, 3


def fragile():
    """Observes ``[start, step]``, reward is the step; half of all episodes become NaN at their
    third step.
    """

    def reset(key):
        start = jax.random.uniform(key)
        return (start, jnp.zeros(())), jnp.stack([start, jnp.zeros(())])

    def step(state, action, key):
        start, count = state[0], state[1] + 1
        count = jnp.where((start < 0.5) & (count >= BREAKS_AT), jnp.nan, count)
        return (
            (start, count),
            jnp.stack([start, count]),
            count,
            jnp.isnan(count),
        )  # as Playground: NaN is done

    def valid(state, observation, reward):
        return jnp.isfinite(reward) & jnp.all(jnp.isfinite(observation))

    return SingleEnvironment(reset, step, 1, valid=valid)


@pytest.fixture(scope="module")
def played():
    env = batch(fragile(), E, LIMIT)

    def run(key):
        state, observation = env.reset(key)
        keys = jax.random.split(key, 60)

        def one(carry, key):
            state, before = carry
            state, now = env.step(state, jnp.zeros((E, 1)), key)
            return (state, now.observation), (before, now)

        return jax.lax.scan(one, (state, observation), keys)[1]

    return jax.device_get(jax.jit(run)(jax.random.key(0)))


def test_a_broken_step_is_cut_off_and_finite(played):
    before, now = played
    broken = ~now.valid
    assert 10 < broken.sum() < 100
    for leaf in jax.tree.leaves(now):
        assert np.all(np.isfinite(leaf))
    np.testing.assert_array_equal(
        broken, (before[..., 0] < 0.5) & (before[..., 1] == BREAKS_AT - 1)
    )
    assert np.all(now.truncated[broken])
    assert not np.any(now.terminated)
    assert np.all(now.reward[broken] == 0)
    assert np.all(now.observation[broken][:, 1] == 0), "an episode begins"
    assert np.all(now.next_observation[now.valid][:, 1] == before[now.valid][:, 1] + 1)


def test_the_check_knows_a_breakdown_from_a_lost_successor():
    assert envs.check(batch(fragile(), E, LIMIT)) == []
    unsure = batch(fragile()._replace(valid=None), E, LIMIT)
    assert any("NaN or infinite" in finding for finding in envs.check(unsure))


def expected(before, now, n, gamma):
    """The n-step transitions of every valid start, in float64: ``(start, step, reward, discount,
    step of the successor)``.
    """
    found = set()
    for e in range(E):
        for t in range(len(before) - n + 1):
            if not now.valid[t, e]:
                continue
            total, last = 0.0, t
            for i in range(n):
                if not now.valid[t + i, e]:
                    break
                total, last = total + gamma**i * float(now.reward[t + i, e]), t + i
                if now.truncated[t + i, e]:
                    break
            row = (
                before[t, e, 0],
                before[t, e, 1],
                total,
                gamma ** (last - t),
                now.next_observation[last, e, 1],
            )
            found.add(tuple(round(float(x), 4) for x in row))
    return found


def stored(state, size):
    rows = jax.device_get(jax.tree.map(lambda x: x[:size], state.storage))
    columns = np.column_stack(
        [rows.observation, rows.reward, rows.discount, rows.next_observation[:, 1]]
    )
    return {tuple(round(float(x), 4) for x in row) for row in columns}


@pytest.mark.parametrize(
    "build", [replay.uniform, replay.prioritised], ids=["uniform", "prioritised"]
)
@pytest.mark.parametrize("n", [1, 3])
def test_only_whole_transitions_are_stored(played, build, n):
    before, now = played
    ring, window = build(400, 2), returns.n_step(n, 0.9)
    step = lambda t: Transition(
        observation=before[t],
        action=np.zeros((E, 1), np.float32),
        reward=now.reward[t],
        discount=np.ones(E, np.float32),
        next_observation=now.next_observation[t],
        valid=now.valid[t],
    )
    example = dataclasses.replace(jax.tree.map(lambda x: x[0], step(0)), valid=None)
    state, waiting = ring.init(example), window.init(step(0))

    @jax.jit
    def add(state, waiting, row, done):
        waiting, begun = window.push(waiting, row, done)
        return ring.add(state, dataclasses.replace(begun, valid=None), begun.valid), waiting

    for t in range(len(before)):
        new, waiting = add(state, waiting, step(t), now.truncated[t])
        state = new if t >= n - 1 else state
    inner = state.ring if build is replay.prioritised else state
    wanted = expected(before, now, n, 0.9)
    assert inner.size == inner.position == now.valid[: len(before) - n + 1].sum()
    assert stored(inner, int(inner.size)) == wanted
    if build is replay.prioritised:
        levels = state.levels[0].reshape(-1)
        np.testing.assert_array_equal(levels[: int(inner.size)] > 0, True)
        np.testing.assert_array_equal(levels[int(inner.size) :], 0)
        assert float(state.levels[-1].sum()) == pytest.approx(int(inner.size))
        assert np.isfinite(ring.sample(state, jax.random.key(0)).weight).all()


@pytest.mark.parametrize(
    "build", [replay.uniform, replay.prioritised], ids=["uniform", "prioritised"]
)
def test_a_full_ring_goes_round_without_gaps(build):
    ring = build(8, 2)
    state, kept = ring.init(jnp.zeros(())), []
    valid = np.random.default_rng(0).uniform(size=(30, 4)) < 0.6
    add = jax.jit(ring.add)
    for number, mask in enumerate(valid):
        ids = 4.0 * number + np.arange(4, dtype=np.float32)
        state = add(state, jnp.asarray(ids), jnp.asarray(mask))
        kept += ids[mask].tolist()
    inner = state.ring if build is replay.prioritised else state
    assert inner.size == 8
    assert sorted(np.asarray(inner.storage).tolist()) == kept[-8:]
    if build is replay.prioritised:
        np.testing.assert_array_equal(np.asarray(state.levels[0]).reshape(-1)[:8], 1.0)


@pytest.mark.parametrize("n", [1, 3])
def test_training_goes_on_and_counts_what_broke(n):
    env = batch(fragile(), E, LIMIT)
    agent = agents.ddpg(
        networks.Actor(1, hidden=(8,)), networks.Critic(hidden=(8,), action_layer=0)
    )
    behaviour = explore(agent, noise.chain(noise.gaussian(0.1), noise.clip()))
    window = None if n == 1 else returns.n_step(n, 0.99)
    functions = train.make_train(
        agent,
        env,
        replay.uniform(400, 8),
        behaviour,
        learning_starts=20,
        steps_per_chunk=200,
        window=window,
    )
    state, report = jax.jit(lambda key: functions.chunk(functions.warm_up(functions.init(key))))(
        jax.random.key(0)
    )
    assert all(int(step) == reporting.NEVER for step in report.first_bad_step.values())
    assert all(bool(finite) for finite in report.finite.values())
    episodes = report.episodes
    assert episodes.broken > 5
    assert episodes.length_sum == LIMIT * episodes.count > 0, "whole episodes alone are counted"
    assert episodes.return_sum == 21 * episodes.count
    assert 150 < int(state.replay.size) <= 220 + (n - 1) * E - int(episodes.broken)
    assert np.isfinite(jax.tree.leaves(jax.device_get(state.replay.storage))[0]).all()
    values = jax.jit(rollout.make_evaluate(agent, env))(state.agent, jax.random.key(1))
    assert set(np.asarray(values).tolist()) == {21.0}, "what broke is played again"


@pytest.mark.parametrize(
    ("breaks", "value"),
    [((rollout.TRIES - 1) * LIMIT, float(LIMIT)), ((rollout.TRIES - 1) * LIMIT + 1, None)],
)
def test_an_evaluation_waits_as_long_as_it_says(breaks, value):
    """So many steps break down, and then an episode of ``LIMIT`` steps holds out: within ``TRIES``
    time limits, or just not.
    """

    def step(count, action, key):
        valid = jnp.full((1,), count >= breaks)
        now = TimeStep(
            observation=jnp.zeros((1, 2)),
            reward=jnp.where(valid, 1.0, 0.0),
            terminated=jnp.zeros(1, bool),
            truncated=~valid | (count + 1 >= breaks + LIMIT),
            next_observation=jnp.zeros((1, 2)),
            valid=valid,
        )
        return count + 1, now

    env = batch(fragile(), 1, LIMIT)._replace(
        reset=lambda key: (jnp.zeros((), jnp.int32), jnp.zeros((1, 2))), step=step
    )
    agent = agents.ddpg(
        networks.Actor(1, hidden=(8,)), networks.Critic(hidden=(8,), action_layer=0)
    )
    state = agent.init(jax.random.key(0), jnp.zeros(2), jnp.zeros(1))
    (found,) = jax.jit(rollout.make_evaluate(agent, env))(state, jax.random.key(1)).tolist()
    assert found == value or (value is None and np.isnan(found))


def test_an_evaluation_that_never_holds_out_comes_to_an_end():
    single = fragile()
    hopeless = batch(single._replace(valid=lambda state, observation, reward: reward < 2), E, LIMIT)
    agent = agents.ddpg(
        networks.Actor(1, hidden=(8,)), networks.Critic(hidden=(8,), action_layer=0)
    )
    state = agent.init(jax.random.key(0), jnp.zeros(2), jnp.zeros(1))
    values = jax.jit(rollout.make_evaluate(agent, hopeless))(state, jax.random.key(1))
    assert np.isnan(values).all()
    with pytest.raises(RunError, match="a return of an evaluation is NaN"):
        evaluation.require_finite_returns(np.asarray(values), make_config("pendulum"))


def test_the_check_sees_what_is_wrong_with_validity():
    env = batch(fragile(), E, LIMIT)

    def changed(change):
        def step(state, action, key):
            state, now = env.step(state, action, key)
            return state, change(now)

        return env._replace(step=step)

    as_terminated = changed(
        lambda now: dataclasses.replace(
            now, truncated=now.truncated & now.valid, terminated=~now.valid
        )
    )
    assert any(
        "not valid is terminated, or not truncated" in finding
        for finding in envs.check(as_terminated)
    )
    assert any(
        "valid is bool[4] where" in finding for finding in envs.check(env._replace(breaks=False))
    )


def test_repeated_actions_keep_the_breakdown():
    env = envs.action_repeat(batch(fragile(), E, LIMIT), 2)
    state, _ = env.reset(jax.random.key(0))
    _, steps = jax.lax.scan(
        lambda s, key: env.step(s, jnp.zeros((E, 1)), key),
        state,
        jax.random.split(jax.random.key(1), 30),
    )
    assert np.any(~steps.valid)
    assert np.all(steps.truncated[~steps.valid])
    assert envs.check(env) == []


@pytest.mark.usefixtures("standard_promotion")
@pytest.mark.parametrize("backend", ["spring", "generalized"])
def test_brax_is_watched_too(backend):
    """A simulation that became NaN breaks off its episode, whether what is observed shows it or
    not."""
    env = envs.make("brax/inverted_pendulum", 2, backend=backend, time_limit=5)
    assert env.breaks
    state, observation = jax.eval_shape(env.single.reset, jax.random.key(0))
    fill = lambda value: (
        lambda x: jnp.full(x.shape, value, x.dtype) if jnp.issubdtype(x.dtype, jnp.inexact) else x
    )
    sound = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), (state, observation))
    assert env.single.valid(*sound, jnp.float32(0))
    assert not env.single.valid(*sound, jnp.float32(jnp.nan))
    state, observation = sound
    for name in ("q", "qd"):
        inside = state.pipeline_state.replace(
            **{name: fill(jnp.nan)(getattr(state.pipeline_state, name))}
        )
        assert not env.single.valid(
            state.replace(pipeline_state=inside), observation, jnp.float32(0)
        )
