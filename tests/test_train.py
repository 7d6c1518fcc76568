"""The compiled loop, against the same steps in plain Python; and what it must never contain."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats

from ddpg_jax import agents, envs, networks, noise, replay, reporting, returns, rollout, train
from ddpg_jax import host as on_host
from ddpg_jax.behaviour import explore, parameter_noise, random_actions
from ddpg_jax.environment import Environment, TimeStep
from ddpg_jax.envs import SingleEnvironment, batch
from ddpg_jax.learner import make_learner
from ddpg_jax.schedule import Schedule
from ddpg_jax.types import Agent, AgentState, NetworkState, Transition, Update

E, LENGTH, UPDATES, CAPACITY = 4, 25, 2, 200
LEARNING_STARTS = 30  # 8 vector steps, 32 transitions


def make_agent(algorithm=agents.ddpg, **options):
    actor, critic = networks.Actor(1, hidden=(16,)), networks.Critic(hidden=(16,), action_layer=0)
    return algorithm(actor, critic, **options)


def exploring(agent):
    return explore(agent, noise.chain(noise.ornstein_uhlenbeck(0.2), noise.clip()))


def make(agent=None, env=None, capacity=CAPACITY, build=replay.uniform, **options):
    agent = make_agent() if agent is None else agent
    env = envs.make("pendulum", E, time_limit=13) if env is None else env
    options = {
        "learning_starts": LEARNING_STARTS,
        "updates_per_step": UPDATES,
        "steps_per_chunk": LENGTH * E,
    } | options
    return train.make_train(agent, env, build(capacity, 8), exploring(agent), **options)


@pytest.fixture(scope="module")
def program():
    """The three functions compiled, and the agent's traces: ``(train, init, warm_up, chunk,
    traces)``."""
    agent, traces = make_agent(), []

    def update(state, batch, key):
        traces.append(batch.reward.shape)
        return agent.update(state, batch, key)

    functions = make(agent._replace(update=update))
    return (
        functions,
        jax.jit(functions.init),
        jax.jit(functions.warm_up),
        jax.jit(functions.chunk, donate_argnums=0),
        traces,
    )


@pytest.fixture(scope="module")
def warm(program):
    """The state after the warm-up, on the host; `put` gives a fresh copy, for chunk consumes it."""
    _, init, warm_up, _, _ = program
    return host(warm_up(init(jax.random.key(0))))


@pytest.fixture(scope="module")
def after(program, warm):
    """The state and the report after one chunk."""
    state, report = program[3](put(warm))
    return host(state), host(report)


def is_key(x):
    return jnp.issubdtype(x.dtype, jax.dtypes.prng_key)


def host(tree):
    return jax.tree.map(lambda x: jax.random.clone(x) if is_key(x) else np.array(x), tree)


def put(tree):
    return jax.tree.map(lambda x: jax.random.clone(x) if is_key(x) else jnp.array(x), tree)


def assert_same(one, other):
    """Bitwise."""
    raw = lambda x: np.asarray(jax.random.key_data(x) if is_key(x) else x)
    jax.tree.map(lambda x, y: np.testing.assert_array_equal(raw(x), raw(y)), one, other)


def assert_close(one, other, rtol=1e-4, atol=1e-5):
    raw = lambda x: np.asarray(jax.random.key_data(x) if is_key(x) else x)
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(raw(x), raw(y), rtol=rtol, atol=atol), one, other
    )


def test_chunk_is_the_host_loop(warm, after):
    """The same steps one by one, with the same keys. Within float32's rounding: XLA fuses the two
    programs differently."""
    agent, env = make_agent(), envs.make("pendulum", E, time_limit=13)
    behaviour, ring = exploring(agent), replay.uniform(CAPACITY, 8)
    act, step, add, sample, update = map(
        jax.jit, (behaviour.act, env.step, ring.add, ring.sample, agent.update)
    )

    state = put(warm)
    learner, buffer, acting = state.agent, state.replay, state.collector.behaviour
    env_state, observation, reset = (
        state.collector.env_state,
        state.collector.observation,
        state.collector.reset,
    )
    keys = [
        jax.random.split(jax.random.fold_in(state.key, steps), 2 + 2 * UPDATES)
        for steps in int(state.steps) + np.arange(LENGTH)
    ]
    rewards, dones, logged = [], [], []
    for t in range(LENGTH):
        action, acting = act(acting, learner, observation, keys[t][0], reset)
        env_state, time_step = step(env_state, action, keys[t][1])
        transition = {
            "observation": observation,
            "action": action,
            "reward": time_step.reward,
            "discount": jnp.where(time_step.terminated, 0.0, 1.0),
            "next_observation": time_step.next_observation,
        }
        buffer = add(buffer, type(buffer.storage)(**transition))
        for i in range(UPDATES):
            drawn = sample(buffer, keys[t][2 + 2 * i])
            learner, _, metrics = update(learner, drawn, keys[t][3 + 2 * i])
            logged.append({name: np.mean(value) for name, value in metrics.items()})
        observation, reset = time_step.observation, time_step.terminated | time_step.truncated
        rewards.append(np.asarray(time_step.reward))
        dones.append(np.asarray(reset))

    new, report = after
    assert_close(new.agent, learner)
    assert_close(new.replay, buffer)
    assert_close(new.collector.env_state, env_state)
    assert_close(new.collector.observation, observation)
    assert_close(new.collector.behaviour, acting)
    assert_same(new.collector.reset, reset)
    assert_same(new.key, state.key)
    assert new.steps == warm.steps + LENGTH
    kernel = lambda state: state.agent.actor.params["params"]["Dense_0"]["kernel"]
    assert np.abs(kernel(new) - kernel(warm)).max() > 1e-3  # it did learn

    assert set(report.metrics) == set(logged[0])
    for name, value in report.metrics.items():
        np.testing.assert_allclose(
            value, np.mean([metrics[name] for metrics in logged]), rtol=1e-3, atol=1e-5
        )
    running, steps, returns, lengths = (
        warm.collector.episode_return.copy(),
        warm.collector.episode_length.copy(),
        [],
        [],
    )
    for t in range(LENGTH):
        running, steps = running + rewards[t], steps + 1
        returns += running[dones[t]].tolist()
        lengths += steps[dones[t]].tolist()
        running[dones[t]], steps[dones[t]] = 0, 0
    assert len(returns) == 2 * E  # vector steps 9 to 33 of episodes of 13
    assert report.episodes.count == len(returns)
    np.testing.assert_allclose(report.episodes.return_sum, sum(returns), rtol=1e-4)
    assert report.episodes.length_sum == sum(lengths) == 13 * 2 * E


def host_loop(state, agent, env, ring, behaviour, window, rounds, collect_steps, updates):
    """``rounds`` of ``collect_steps`` vector steps, ``updates`` updates and an adaptation if there
    is one, call by call."""
    act, step, add, sample, update = map(
        jax.jit, (behaviour.act, env.step, ring.add, ring.sample, agent.update)
    )
    push = (
        (lambda window_state, transition, done: (window_state, transition))
        if window is None
        else jax.jit(window.push)
    )
    learner, buffer, acting, kept = (
        state.agent,
        state.replay,
        state.collector.behaviour,
        state.window,
    )
    env_state, observation, reset = (
        state.collector.env_state,
        state.collector.observation,
        state.collector.reset,
    )
    adapts = behaviour.adapt is not None
    logged = []
    for number in range(rounds):
        start = int(state.steps) + number * collect_steps
        count = 2 * collect_steps + 2 * updates + adapts
        left = iter(jax.random.split(jax.random.fold_in(state.key, start), count))
        for _ in range(collect_steps):
            action, acting = act(acting, learner, observation, next(left), reset)
            env_state, time_step = step(env_state, action, next(left))
            transition = Transition(
                observation=observation,
                action=action,
                reward=time_step.reward,
                discount=jnp.where(time_step.terminated, 0.0, 1.0),
                next_observation=time_step.next_observation,
            )
            observation, reset = time_step.observation, time_step.terminated | time_step.truncated
            kept, stored = push(kept, transition, reset)
            buffer = add(buffer, stored)
        for _ in range(updates):
            drawn = sample(buffer, next(left))
            if ring.update is None:
                learner, _, metrics = update(learner, drawn, next(left))
            else:
                learner, priority, metrics = update(learner, drawn.batch, next(left), drawn.weight)
                buffer = jax.jit(ring.update)(buffer, drawn.rows, priority)
            logged.append({name: np.mean(value) for name, value in metrics.items()})
        if adapts:
            drawn = sample(buffer, next(left))
            acting = jax.jit(behaviour.adapt)(
                acting, learner, drawn if ring.update is None else drawn.batch
            )
        assert not list(left)  # every key was used
    collector = state.collector.replace(
        env_state=env_state, observation=observation, reset=reset, behaviour=acting
    )
    steps = state.steps + rounds * collect_steps
    return state.replace(
        agent=learner, replay=buffer, collector=collector, window=kept, steps=steps
    ), logged


@pytest.mark.parametrize(
    ("algorithm", "build", "n_step", "collect_steps", "updates", "adapts"),
    [
        (agents.ddpg, replay.uniform, None, 2, 1, False),
        (agents.td3, replay.prioritised, 3, 2, 3, True),
    ],
    ids=["two steps, one update", "a policy delay, prioritised, n-step, parameter noise"],
)
def test_chunk_with_options_is_the_host_loop(
    algorithm, build, n_step, collect_steps, updates, adapts
):
    agent, env, ring = (
        make_agent(algorithm),
        envs.make("pendulum", E, time_limit=5),
        build(CAPACITY, 8),
    )
    behaviour = (
        parameter_noise(agent, env, 0.2, adapt_every=collect_steps) if adapts else exploring(agent)
    )
    window = None if n_step is None else returns.n_step(n_step, 0.99)
    options = {
        "learning_starts": LEARNING_STARTS,
        "updates_per_step": updates,
        "collect_steps": collect_steps,
    }
    rounds = 7
    functions = train.make_train(
        agent,
        env,
        ring,
        behaviour,
        steps_per_chunk=rounds * collect_steps * E,
        window=window,
        **options,
    )
    warm = host(jax.jit(lambda key: functions.warm_up(functions.init(key)))(jax.random.key(0)))
    new, report = jax.jit(functions.chunk)(put(warm))
    expected, logged = host_loop(
        put(warm), agent, env, ring, behaviour, window, rounds, collect_steps, updates
    )
    sums = {
        "episode_return": new.collector.episode_return,
        "episode_length": new.collector.episode_length,
    }
    assert_close(new, expected.replace(collector=expected.collector.replace(**sums)))
    assert new.agent.step == rounds * updates
    assert (
        new.steps == 8 + (n_step or 1) - 1 + rounds * collect_steps
    )  # 30 rounded up are 8 vector steps; then the window
    assert len(logged) == rounds * updates
    assert set(report.metrics) == set(logged[0])
    for name, value in report.metrics.items():
        np.testing.assert_allclose(
            value, np.mean([metrics[name] for metrics in logged]), rtol=1e-3, atol=1e-5
        )
    if build is replay.prioritised:
        assert new.replay.samples == rounds * updates
        written = np.asarray(new.replay.levels[0]).ravel()[: new.replay.ring.size]
        assert np.all(written > 0)
        assert len(np.unique(written)) > rounds * updates  # the errors came back
    if adapts:
        power = np.log(new.collector.behaviour.stddev / 0.2) / np.log(1.01)
        np.testing.assert_allclose(power % 2, rounds % 2, atol=1e-2)  # seven times up or down


@pytest.mark.parametrize(
    ("build", "n_step", "collect_steps", "adapts"),
    [
        pytest.param(replay.uniform, None, 1, False, id="uniform"),
        pytest.param(
            functools.partial(replay.prioritised, importance_exponent=0.5),
            3,
            2,
            True,
            id="prioritised, 3 steps, parameter noise",
        ),
    ],
)
def test_the_same_run_in_other_chunks_is_equal_bit_for_bit(build, n_step, collect_steps, adapts):
    agent, env = make_agent(agents.td3), envs.make("pendulum", E, time_limit=13)
    behaviour = parameter_noise(agent, env, 0.2, adapt_every=3) if adapts else exploring(agent)
    window = None if n_step is None else returns.n_step(n_step, 0.99)
    ends = []
    for rounds in (12, 3, 1):
        functions = train.make_train(
            agent,
            env,
            build(CAPACITY, 8),
            behaviour,
            steps_per_chunk=rounds * collect_steps * E,
            window=window,
            learning_starts=LEARNING_STARTS,
            updates_per_step=2,
            collect_steps=collect_steps,
        )
        state = jax.jit(functions.warm_up)(functions.init(jax.random.key(0)))
        for _ in range(12 // rounds):
            state, _ = jax.jit(functions.chunk)(state)
        ends.append(host(state))
    assert_same(ends[0], ends[1])
    assert_same(ends[0], ends[2])


def telling():
    """Its observation tells which episode it is and where in it: 1000 * number + 500 * kind +
    steps; its reward is steps + 1.

    Kind 1 terminates with its third step; kind 0 goes on until the time limit.
    """

    def reset(key):
        number_key, kind_key = jax.random.split(key)
        number, kind = (
            jax.random.randint(number_key, (), 1, 8000),
            jax.random.bernoulli(kind_key).astype(jnp.int32),
        )
        state = (1000 * number + 500 * kind).astype(jnp.float32)
        return state, state[None]

    def step(state, action, key):
        new = state + 1
        return new, new[None], new % 500, new % 1000 == 503

    return SingleEnvironment(reset, step, 1)


def listener():
    """An agent that acts 0, learns nothing, and writes down what it is told to observe: ``[64, E]``
    in a slot."""

    def init(key, observation, action):
        networks = [
            NetworkState(params=jnp.zeros(1), target_params=jnp.zeros(1), opt_state=())
            for _ in range(2)
        ]
        heard = (jnp.zeros((64, E)), jnp.zeros((), jnp.int32))
        return AgentState(
            actor=networks[0],
            critic=networks[1],
            step=jnp.zeros((), jnp.int32),
            slots={"heard": heard},
        )

    def update(state, batch, key, weight=None):
        return Update(state.replace(step=state.step + 1), batch.reward, {})

    def observe(state, observation):
        heard, count = state.slots["heard"]
        return state.replace(slots={"heard": (heard.at[count].set(observation[:, 0]), count + 1)})

    return Agent(
        init, lambda state, observation: jnp.zeros((*observation.shape[:-1], 1)), update, observe
    )


def told(program):
    """The states after the beginning, the warm-up and a chunk."""
    begun = jax.jit(program.init)(jax.random.key(5))
    warm = jax.jit(program.warm_up)(begun)
    return host(begun), host(warm), host(jax.jit(program.chunk)(warm)[0])


@pytest.mark.parametrize(
    ("build", "n"), [(replay.uniform, None), (replay.uniform, 3), (replay.prioritised, 3)]
)
def test_rows_are_right_from_the_first_and_across_the_write_head(build, n):
    """36 vector steps of warm-up and training into 10 rows of each environment: every row tells
    what it must hold."""
    window, length = None if n is None else returns.n_step(n, 0.5), n or 1
    options = {
        "learning_starts": 6 * E,
        "steps_per_chunk": 30 * E,
        "collect_steps": 3,
        "window": window,
    }
    program = make(listener(), batch(telling(), E, 5), capacity=10 * E, build=build, **options)
    begun, warm, end = told(program)
    ring = lambda state: state.replay if build is replay.uniform else state.replay.ring

    assert program.schedule.warm_up_steps == (6 + length - 1) * E
    assert (ring(warm).size, ring(warm).position) == (6 * E, 6 * E)
    assert warm.steps == 6 + length - 1
    np.testing.assert_array_equal(
        ring(warm).storage.observation[:E], begun.collector.observation
    )  # none was lost at first
    assert np.all(ring(warm).storage.observation[: 6 * E] >= 1000)
    assert (ring(end).size, ring(end).position) == (10 * E, 36 % 10 * E)

    oldest = ring(end).position
    rows = jax.tree.map(
        lambda x: np.roll(x, -oldest, axis=0).reshape(10, E, -1)[..., 0], ring(end).storage
    )
    for stored in (
        rows,
        jax.tree.map(lambda x: x[: 6 * E].reshape(6, E, -1)[..., 0], ring(warm).storage),
    ):
        kind, at = stored.observation % 1000 // 500, stored.observation % 500
        covered = np.minimum(
            length, np.where(kind == 1, 3, 5) - at
        )  # steps to the end of the episode, at most n
        rewards = sum(np.where(i < covered, 0.5**i * (at + i + 1), 0) for i in range(length))
        np.testing.assert_allclose(stored.reward, rewards, rtol=1e-6)
        np.testing.assert_array_equal(stored.next_observation, stored.observation + covered)
        ended = (kind == 1) & (at + covered == 3)
        np.testing.assert_allclose(
            stored.discount, np.where(ended, 0, 0.5 ** (covered - 1)), rtol=1e-6
        )
        # The next row of an environment is its next step, or a new episode's first.
        follows = stored.observation[1:] == stored.observation[:-1] + 1
        last = at == np.where(kind == 1, 2, 4)
        np.testing.assert_array_equal(follows, ~last[:-1])
        assert np.all(at[1:][~follows] == 0)
        assert np.any(ended)
        assert np.any(last & ~ended)
    assert len(np.unique(rows.observation)) == 10 * E
    # The newest row is length - 1 steps older than what the environments show now.
    assert np.all(end.collector.observation[:, 0] % 500 < 5)
    newest, now = rows.observation[-1], end.collector.observation[:, 0]
    same = newest // 500 == now // 500
    np.testing.assert_array_equal(now[same], newest[same] + length)
    assert np.any(same)


@pytest.mark.parametrize("make_train", [train.make_train, on_host.make_train])
def test_one_discount_factor(make_train):
    """The agent's and the window's; of one step, of an agent that has none, and of traced ones
    nothing is asked."""
    env = (
        envs.make("pendulum", 1)
        if make_train is train.make_train
        else envs.make("gymnasium/Pendulum-v1", 1)
    )

    def compose(agent, length, gamma):
        made = agents.normalize_observations(agent)
        return make_train(
            made, env, replay.uniform(10, 2), exploring(made), window=returns.n_step(length, gamma)
        )

    for agent in (make_agent(gamma=0.9), make_agent(agents.td3, gamma=jnp.float32(0.9))):
        compose(agent, 3, 0.9)
        compose(agent, 1, 0.99)
        with pytest.raises(
            ValueError,
            match=r"gamma=0\.[89]\d* of the agent is not gamma=0\.99 of the n-step window",
        ):
            compose(agent, 3, 0.99)
    compose(make_agent()._replace(gamma=None), 3, 0.5)
    jax.eval_shape(lambda gamma: (compose(make_agent(gamma=gamma), 3, 0.5), gamma)[1], 0.9)


@pytest.mark.parametrize(("collect_steps", "window"), [(1, None), (2, returns.n_step(3, 0.9))])
def test_every_collected_observation_is_observed_once_and_no_replayed_one(collect_steps, window):
    agent, env = listener(), batch(telling(), E, 5)
    options = {
        "learning_starts": 8 * E,
        "steps_per_chunk": 12 * E,
        "collect_steps": collect_steps,
        "window": window,
    }
    begun, warm, end = told(make(agent, env, capacity=20 * E, updates_per_step=3, **options))
    filling = 0 if window is None else 2
    assert begun.agent.slots["heard"][1] == 0
    assert warm.agent.slots["heard"][1] == warm.steps == 8 + filling
    heard, count = end.agent.slots["heard"]
    assert count == end.steps == 20 + filling
    assert end.agent.step == 3 * 12 // collect_steps
    np.testing.assert_array_equal(
        heard[:20].ravel(), end.replay.storage.observation[:, 0]
    )  # every step begins one row
    np.testing.assert_array_equal(heard[count:], 0)

    def fail(state, observation):
        raise AssertionError("evaluation told the agent an observation")

    returns_ = rollout.make_evaluate(agent._replace(observe=fail), env)(
        put(end.agent), jax.random.key(0)
    )
    assert set(np.asarray(returns_).tolist()) <= {15.0, 6.0}  # 1 + ... + 5, or 1 + 2 + 3


def test_warm_up_stores_uniform_actions_and_makes_no_update(program, warm):
    functions, init, *_ = program
    begun = init(jax.random.key(0))
    assert functions.schedule.warm_up_steps == 32  # 30 rounded up to whole steps of 4 environments
    assert begun.replay.size == 0
    assert warm.replay.size == warm.replay.position == 32
    assert warm.steps == 8
    assert_same(warm.agent, begun.agent)
    stored = warm.replay.storage.action[:32]
    assert np.all(np.abs(stored) <= 1)
    assert len(np.unique(stored)) == 32
    np.testing.assert_array_equal(warm.replay.storage.action[32:], 0)
    assert_same(warm.collector.behaviour, begun.collector.behaviour)  # its own noise has not begun


def test_warm_up_is_uniform_over_the_whole_range():
    functions = make(learning_starts=2_001, capacity=4_000)
    state = jax.jit(lambda key: functions.warm_up(functions.init(key)))(jax.random.key(0))
    assert state.replay.size == functions.schedule.warm_up_steps == 2_004
    stored = np.asarray(state.replay.storage.action[:2_004, 0])
    assert stats.kstest(stored, stats.uniform(-1, 2).cdf).pvalue > 0.001
    torque = 2 * stored[:4]  # executed as stored: the first step's speeds, from the first states
    before, speed = (
        np.asarray(state.replay.storage.observation[:4]),
        np.asarray(state.replay.storage.next_observation[:4, 2]),
    )
    np.testing.assert_allclose(
        speed, before[:, 2] + (15 * before[:, 1] + 3 * torque) * 0.05, rtol=1e-4, atol=1e-5
    )


def test_warm_up_takes_another_behaviour():
    constant = random_actions()._replace(
        act=lambda state, agent, observation, key, reset: (jnp.full_like(state, 0.25), state)
    )
    functions = make(warm_up=constant)
    state = jax.jit(lambda key: functions.warm_up(functions.init(key)))(jax.random.key(0))
    np.testing.assert_array_equal(state.replay.storage.action[:32], 0.25)


def test_warm_up_by_the_behaviour_itself_keeps_its_state():
    agent = make_agent()
    behaviour, env = exploring(agent), envs.make("pendulum", E)
    functions = train.make_train(
        agent, env, replay.uniform(CAPACITY, 8), behaviour, learning_starts=30, warm_up=behaviour
    )
    state = jax.jit(lambda key: functions.warm_up(functions.init(key)))(jax.random.key(0))
    ornstein_uhlenbeck, _ = state.collector.behaviour
    assert ornstein_uhlenbeck.step == 8
    assert np.all(ornstein_uhlenbeck.x != 0)


def test_updates_per_step_are_counted(after):
    state, _ = after
    assert state.agent.step == LENGTH * UPDATES
    assert state.replay.size == 32 + LENGTH * E


def test_one_trace_and_one_compile_over_three_chunks(program, warm):
    *_, chunk, traces = program
    state, _ = chunk(put(warm))
    traced = len(traces)
    assert traced >= 1
    for _ in range(2):
        state, _ = chunk(state)
    assert len(traces) == traced
    assert chunk._cache_size() == 1


def test_chunks_repeat_bitwise_and_go_on_from_a_copy(program, warm):
    *_, chunk, _ = program
    middle, first = chunk(put(warm))
    copy = host(middle)
    end, second = chunk(middle)
    end, first, second = host(end), host(first), host(second)
    middle, first_again = chunk(put(warm))
    assert_same(middle, copy)
    end_again, second_again = chunk(put(copy))
    assert_same(end_again, end)
    assert_same((first_again, second_again), (first, second))
    assert not np.array_equal(first.metrics["critic_loss"], second.metrics["critic_loss"])
    assert_same(copy.key, end.key)  # what is drawn follows from it and from the steps
    assert not np.array_equal(copy.collector.behaviour, end.collector.behaviour)


def test_vmap_over_seeds_is_separate_runs(program):
    """Within float32's rounding: a batched matrix product sums in another order."""
    functions, init, warm_up, chunk, _ = program
    keys = jax.random.split(jax.random.key(5), 3)
    alone = [warm_up(init(key)) for key in keys]
    together = jax.tree.map(lambda *x: jnp.stack(x), *alone)
    together, reports = jax.jit(jax.vmap(functions.chunk))(together)
    kernels = []
    for i in range(3):
        state, report = chunk(alone[i])
        assert_close(jax.tree.map(lambda x, i=i: x[i], together), state, rtol=1e-3, atol=1e-4)
        assert_close(jax.tree.map(lambda x, i=i: x[i], reports), report, rtol=1e-3, atol=1e-4)
        kernels.append(np.asarray(state.agent.critic.params["params"]["Dense_0"]["kernel"]))
    assert not np.allclose(kernels[0], kernels[1])
    assert not np.allclose(kernels[1], kernels[2])


@pytest.mark.parametrize("build", [replay.uniform, replay.prioritised])
def test_memory_beside_the_state_does_not_grow_with_the_replay_and_the_state_is_written_in_place(
    build,
):
    temporary = {}
    for capacity in (10_000, 1_000_000):
        functions = make(capacity=capacity, build=build)
        state = jax.eval_shape(functions.init, jax.random.key(0))
        memory = jax.jit(functions.chunk, donate_argnums=0).lower(state).compile().memory_analysis()
        buffer = capacity * 4 * (3 + 1 + 1 + 1 + 3 + (build is replay.prioritised))
        temporary[capacity] = memory.temp_size_in_bytes
        assert memory.alias_size_in_bytes >= buffer
        assert memory.output_size_in_bytes - memory.alias_size_in_bytes < 10_000  # the report
    deeper = (
        0 if build is replay.uniform else 8 * 32 * 8 * 4
    )  # one more level of the tree: a few [8, 32] float32
    assert temporary[1_000_000] <= temporary[10_000] + deeper
    assert temporary[10_000] < 360_000  # the smaller buffer's own size


def breaking(when):
    """Its observation counts to ``when``, then is not a number; its reward stays a number."""

    def step(state, action, key):
        state = state + 1
        return (
            state,
            jnp.where(state == when, jnp.nan, state / 100)[None],
            jnp.float32(1),
            jnp.zeros((), bool),
        )

    return SingleEnvironment(lambda key: (jnp.zeros(()), jnp.zeros((1,))), step, 1)


def test_the_first_bad_number_is_named_with_its_step():
    """Environment steps 1 to 8 warm up, so the observation of count 20 is bad in vector step 19,
    counted from 0."""
    functions = make(env=batch(breaking(20), E, 1000), steps_per_chunk=8 * E)
    chunk = jax.jit(functions.chunk)
    state, good = chunk(jax.jit(functions.warm_up)(functions.init(jax.random.key(0))))
    assert set(good.first_bad_step) == {"observation", "action", "reward", *good.metrics}
    assert {int(step) for step in good.first_bad_step.values()} == {reporting.NEVER}
    assert all(good.finite.values())

    state, bad = chunk(state)
    assert state.steps == 24
    assert bad.first_bad_step["observation"] == 19
    assert bad.first_bad_step["action"] == 20  # acting on it
    assert bad.first_bad_step["reward"] == reporting.NEVER
    assert 19 <= bad.first_bad_step["critic_loss"] <= 23  # once a batch holds it
    broken = {name for name, finite in bad.finite.items() if not finite}
    assert any("critic" in name and "kernel" in name for name in broken)
    assert any("actor" in name and "bias" in name for name in broken)


def test_only_the_array_that_is_not_finite_is_named(warm, program):
    """A learning rate of zero keeps the damage where it was done."""
    functions = make(
        make_agent(actor_learning_rate=0.0, critic_learning_rate=0.0, tau=0.0), steps_per_chunk=E
    )
    state = put(warm)
    kernel = state.agent.actor.target_params["params"]["Dense_0"]["kernel"]
    state.agent.actor.target_params["params"]["Dense_0"]["kernel"] = kernel.at[0, 0].set(jnp.inf)
    _, report = jax.jit(functions.chunk)(state)
    (name,) = [name for name, finite in report.finite.items() if not finite and "actor" in name]
    assert "Dense_0" in name
    assert "kernel" in name
    assert (
        len(report.finite) == 2 * 2 * 2 * 2
    )  # networks, online and target, layers, kernel and bias


def test_reports_are_finite_scalars_of_fixed_shape(program, warm, after):
    *_, chunk, _ = program
    state, first = chunk(put(warm))
    _, second = chunk(state)
    shapes = lambda report: jax.tree.map(lambda x: (x.shape, x.dtype), report)
    assert shapes(first) == shapes(second)
    assert {leaf.shape for leaf in jax.tree.leaves(first)} == {()}
    assert {"critic_loss", "actor_loss", "value", "td_error"} <= set(first.metrics)
    assert all(np.isfinite(value) for value in first.metrics.values())
    assert first.metrics["critic_loss"] > 0
    assert all(first.finite.values())


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        (
            {"steps_per_chunk": 102},
            "steps_per_chunk=102: must be a multiple of num_envs=4, for example 10[04]",
        ),
        (
            {"steps_per_chunk": 2},
            "steps_per_chunk=2: must be a multiple of num_envs=4, for example 4",
        ),
        (
            {"steps_per_chunk": 0},
            "steps_per_chunk=0: must be a multiple of num_envs=4, for example 4",
        ),
        (
            {"steps_per_chunk": 100, "collect_steps": 3},  # 100 / 12 = 8.3
            "steps_per_chunk=100: must be a multiple of num_envs=4 times "
            "collect_steps=3, for example 96",
        ),
        ({"collect_steps": 0}, "collect_steps=0: must be at least 1"),
        ({"learning_starts": 0}, "learning_starts=0: must be at least 1"),
        ({"updates_per_step": 0}, "updates_per_step=0: must be at least 1"),
    ],
)
def test_bad_numbers_are_named(wrong, text):
    with pytest.raises(ValueError, match=text):
        make(**wrong)


@pytest.mark.parametrize(
    ("hyperparameters", "vector_steps"),
    [
        ({"num_envs": 1}, 2**31 - 1),
        ({"num_envs": 16_384}, 2**31 - 1),  # 2^45 environment steps
        (
            {"num_envs": 4, "learning_starts": 40, "updates_per_step": 2},
            10 + 2**30 - 1,
        ),  # 2^31 - 2 updates; 10 warm up
        (
            {"num_envs": 1, "learning_starts": 8, "collect_steps": 5, "n_step": 3},
            10 + (2**31 - 1 - 10) // 5 * 5,
        ),
    ],
)
def test_the_longest_run_is_what_int32_counts(hyperparameters, vector_steps):
    schedule = Schedule(
        **{"learning_starts": 1, "steps_per_chunk": 20 * hyperparameters["num_envs"]}
        | hyperparameters
    )
    assert schedule.longest == vector_steps * schedule.num_envs
    rounds = schedule.chunks(schedule.longest) * schedule.rounds
    assert schedule.warm_up + rounds * schedule.collect_steps < 2**31
    assert rounds * schedule.updates_per_step < 2**31


def huge_then_ones():
    """Episodes of one step, of which the second earns 2^26, and every other 1. The first is the
    warm-up."""

    def reset(key):
        return jnp.zeros((1,), jnp.int32), jnp.zeros((1, 1))

    def step(count, action, key):
        ended = jnp.ones((1,), bool)
        time_step = TimeStep(
            observation=jnp.zeros((1, 1)),
            reward=jnp.where(count == 1, jnp.float32(2**26), 1.0),
            terminated=ended,
            truncated=~ended,
            next_observation=jnp.zeros((1, 1)),
        )
        return count + 1, time_step

    number = jax.ShapeDtypeStruct((1,), jnp.float32)
    return Environment(reset, step, 1, observation=number, action=number, time_limit=1)


def test_sums_of_a_chunk_lose_nothing():
    """2^26 and 63 times 1: a float32 alone, whose steps are 8 there, would stay at 2^26."""
    agent = listener()

    def update(state, batch, key, weight=None):
        metric = jnp.where(state.step == 0, jnp.float32(2**26), 1.0)
        return Update(state.replace(step=state.step + 1), batch.reward, {"metric": metric})

    agent = agent._replace(update=update, observe=None)
    functions = make(
        agent,
        huge_then_ones(),
        capacity=64,
        learning_starts=1,
        updates_per_step=1,
        steps_per_chunk=64,
    )
    _, report = jax.jit(functions.chunk)(
        jax.jit(functions.warm_up)(functions.init(jax.random.key(0)))
    )
    assert report.episodes.count == report.episodes.length_sum == 64
    assert report.episodes.return_sum == np.float32(2**26 + 63)
    assert report.metrics["metric"] == np.float32((2**26 + 63) / 64)


def test_what_is_not_finite_in_the_warm_up_is_named_with_its_step():
    """Of the 8 vector steps of the warm-up the fifth, number 4, shows NaN; learning begins after
    it."""
    functions = make(env=batch(breaking(5), E, 1000), steps_per_chunk=2 * E)
    warm = jax.jit(functions.warm_up)(functions.init(jax.random.key(0)))
    assert warm.first_bad_step == {
        "observation": 4,
        "action": reporting.NEVER,
        "reward": reporting.NEVER,
    }
    _, report = jax.jit(functions.chunk)(warm)
    assert report.first_bad_step["observation"] == 4
    assert (
        report.first_bad_step["action"] == 9
    )  # after the update of the first round, which is step 8
    starting = batch(
        breaking(0)._replace(reset=lambda key: (jnp.zeros(()), jnp.full((1,), jnp.nan))), E, 1000
    )
    assert make(env=starting).init(jax.random.key(0)).first_bad_step["observation"] == 0


class Ledger:
    """A network that acts and values 0, and carries how often each of ``CAPACITY`` rows was shown
    to its loss."""

    def init(self, *_):
        return {"params": {"w": jnp.zeros(())}, "shown": {"count": jnp.zeros(CAPACITY, jnp.int32)}}

    def apply(self, variables, observation, *action):
        shape = observation.shape[:-1] if action else (*observation.shape[:-1], 1)
        return variables["params"]["w"] + jnp.zeros(shape)


def ledger(delay):
    """An agent that writes down which rows reach each network; row r, of reward r, errs by 1 + r
    mod 5."""

    def shown(params, batch):
        return {
            "shown": {"count": params["shown"]["count"].at[batch.reward.astype(jnp.int32)].add(1)}
        }

    nothing = lambda params: 0.0 * params["params"]["w"]
    return agents.make_agent(
        Ledger(),
        Ledger(),
        critic_target=lambda actor, critic, batch, key: 1 + batch.reward % 5,
        critic_loss=lambda params, batch, target: agents.CriticLoss(
            nothing(params) + target, target, shown(params, batch), {}
        ),
        actor_loss=lambda params, critic, batch: agents.ActorLoss(
            nothing(params), shown(params, batch), {}
        ),
        actor_optimizer=optax.sgd(0.0),
        critic_optimizer=optax.sgd(0.0),
        track_actor=agents.hard_update,
        track_critic=agents.hard_update,
        policy_delay=delay,
    )


@pytest.mark.parametrize("delay", [1, 2, 3])
@pytest.mark.parametrize("build", [replay.uniform, replay.prioritised])
def test_every_row_reaches_the_actor_as_often_as_it_is_sampled(build, delay):
    """Through the learner, whatever the replay and the delay; and errors come back to the rows that
    they are of."""
    agent, size, updates, warming = ledger(delay), 12, 1500, 300
    env = envs.make("pendulum", 1)
    learner = make_learner(agent, env, build(CAPACITY, size), exploring(agent), None)
    functions = make(agent, env, build=lambda capacity, _: build(capacity, size), steps_per_chunk=1)
    rows = jnp.arange(CAPACITY, dtype=jnp.float32)

    @jax.jit
    def run(key):
        state = functions.init(key)
        column = jnp.tile(rows[:, None], (1, 3))
        stored = Transition(
            observation=column,
            action=rows[:, None],
            reward=rows,
            discount=rows,
            next_observation=column,
        )
        state = state.replace(replay=build(CAPACITY, size).add(state.replay, stored))
        sample_keys, update_keys = jax.random.split(key, (2, warming + updates))
        before, _ = learner.update(
            state, sample_keys[:warming], update_keys[:warming]
        )  # until each row has been shown and has its own priority
        return before, learner.update(before, sample_keys[warming:], update_keys[warming:])[0]

    before, after = run(jax.random.key(0))
    counts = lambda state, network: np.asarray(
        getattr(state.agent, network).batch_stats["shown"]["count"]
    )
    actor, critic = (counts(after, name) - counts(before, name) for name in ("actor", "critic"))
    assert (actor.sum(), critic.sum()) == (updates * size // delay, updates * size)
    share = np.full(CAPACITY, 1 / CAPACITY)
    if build is replay.prioritised:
        priority = (1 + np.arange(CAPACITY) % 5 + 1e-6) ** 0.6
        np.testing.assert_allclose(
            np.asarray(after.replay.levels[0]).ravel()[:CAPACITY], priority, rtol=1e-5
        )
        share = priority / priority.sum()
    for found in (actor, critic):
        expected = found.sum() * share  # at least 18: five standard deviations of a Poisson count
        assert np.all(np.abs(found - expected) < 5 * np.sqrt(expected))


def primitives(jaxpr):
    """The names of all primitives, inside sub-programs too."""
    for equation in jaxpr.eqns:
        yield equation.primitive.name
        for value in jax.tree.leaves(
            list(equation.params.values()),
            is_leaf=lambda x: hasattr(x, "eqns") or hasattr(x, "jaxpr"),
        ):
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from primitives(inner)


def test_chunk_holds_no_branch_and_no_callback():
    """A branch syncs with the host on some devices, and under vmap both sides run; a callback
    always leaves the device."""

    def canary(x):
        x = jax.lax.scan(
            lambda c, _: (jax.lax.cond(c > 0, jnp.sin, jnp.cos, c), None), x, length=2
        )[0]
        return jax.jit(lambda x: jax.pure_callback(lambda x: x, x, x))(x)

    seen = set(primitives(jax.make_jaxpr(canary)(1.0).jaxpr))
    assert {"scan", "cond", "pure_callback"} <= seen  # what this test looks for, it finds

    compiled = lambda function, shapes: jax.jit(function).lower(shapes).compile().as_text()
    assert "conditional(" in compiled(lambda x: jax.lax.cond(x > 0, jnp.sin, jnp.cos, x), 1.0)

    functions = make()
    for function in (functions.chunk, functions.warm_up):
        found = set(
            primitives(
                jax.make_jaxpr(function)(jax.eval_shape(functions.init, jax.random.key(0))).jaxpr
            )
        )
        assert {
            "scan",
            "dot_general",
            "dynamic_update_slice",
        } <= found or function is functions.warm_up
        # A choice between devices (`platform_dependent`) is made when it is compiled.
        assert "conditional(" not in compiled(
            function, jax.eval_shape(functions.init, jax.random.key(0))
        )
        assert not [
            name
            for name in found
            if "callback" in name or name in ("outfeed", "infeed", "io_effect")
        ]
