"""Collecting and evaluating, against plain loops over recorded numbers."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddpg_jax import agents, envs, networks, noise, replay, rollout, train
from ddpg_jax.behaviour import explore
from ddpg_jax.envs import SingleEnvironment, batch
from ddpg_jax.types import Agent, Behaviour, Policy

E = 6


def recording():
    """Episodes of 1 to 7 steps, drawn at the start; observes its number, the step and the action
    that it was given.

    Its reward is ``number + count / 100``, so that a sum tells which episode it is of and which
    steps it holds."""

    def reset(key):
        number_key, length_key = jax.random.split(key)
        number = jax.random.uniform(number_key, minval=1.0, maxval=2.0)
        length = jax.random.randint(length_key, (), 1, 8)
        state = {
            "number": number,
            "length": length,
            "count": jnp.zeros((), jnp.int32),
            "action": jnp.zeros((2,)),
        }
        return state, state

    def step(state, action, key):
        state = state | {"count": state["count"] + 1, "action": action}
        reward = state["number"] + state["count"].astype(jnp.float32) / 100
        return state, state, reward, state["count"] >= state["length"]

    return SingleEnvironment(reset, step, action_size=2)


def expected_return(number, count):
    return sum(number + i / 100 for i in range(1, count + 1))


@pytest.fixture(scope="module")
def env():
    return batch(recording(), E, time_limit=5)  # shorter than some episodes


@pytest.fixture(scope="module")
def agent():
    """Acts by what it observes; ``state`` is its bias."""
    act = lambda state, observation: jnp.stack(
        [jnp.sin(9 * observation["number"]) / 2, state * observation["number"]], axis=-1
    )
    return Agent(init=None, act=act, update=None)


def test_evaluate_counts_each_first_episode_exactly_once(env, agent):
    evaluate = jax.jit(rollout.make_evaluate(agent, env))
    lengths, results = [], []
    for seed in range(3):
        key = jax.random.key(seed)
        result = evaluate(jnp.float32(0.3), key)
        assert (result.shape, result.dtype) == ((E,), jnp.float32)
        reset_key, _ = jax.random.split(key)  # evaluate consumes the first half for the starts
        _, start = env.reset(reset_key)
        length = np.minimum(np.asarray(start["length"]), 5)
        expected = [expected_return(start["number"][e].item(), length[e]) for e in range(E)]
        np.testing.assert_allclose(result, expected, rtol=1e-6)
        np.testing.assert_array_equal(evaluate(jnp.float32(0.3), key), result)
        lengths.append(length)
        results.append(result)
    assert (
        len(np.unique(lengths)) >= 4
    )  # some environments went on, with episodes that do not count
    assert len(np.unique(results)) == 3 * E
    assert evaluate._cache_size() == 1


def test_evaluate_acts_without_noise_on_what_it_observes():
    """One-step episodes whose reward is the action."""

    def reset(key):
        start = jax.random.normal(key, (1,))
        return start, start

    single = SingleEnvironment(
        reset, lambda state, action, key: (state, state, action[0], state[0] > 0), 1
    )  # either end
    env = batch(single, E, time_limit=1)
    evaluate = rollout.make_evaluate(
        Agent(None, lambda state, observation: state * observation, None), env
    )
    key = jax.random.key(4)
    _, start = env.reset(jax.random.split(key)[0])
    np.testing.assert_allclose(evaluate(jnp.float32(0.5), key), 0.5 * start[:, 0], rtol=1e-6)


def test_evaluation_leaves_training_untouched_bitwise():
    env = envs.make("pendulum", 2, time_limit=7)
    agent = agents.ddpg(networks.Actor(1, hidden=(8,)), networks.Critic(hidden=(8,)))
    program = train.make_train(
        agent, env, replay.uniform(8, 4), explore(agent, noise.gaussian(0.1)), steps_per_chunk=2
    )
    state = jax.jit(program.init)(jax.random.key(0))
    raw = lambda x: np.array(
        jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x
    )
    before = jax.tree.map(raw, state)
    result = jax.jit(rollout.make_evaluate(agent, env))(state.agent, jax.random.key(1))
    assert np.all(result < 0)
    jax.tree.map(np.testing.assert_array_equal, jax.tree.map(raw, state), before)


def collected(env, agent, behaviour, length, seed=0):
    """Transitions, sums of episodes and collectors ``[T, ...]``, as NumPy arrays; collector t is
    the one before step t."""
    step = rollout.collect(env, behaviour)

    def scanned(collector, keys):
        new, transition, episodes = step(collector, jnp.float32(0.3), keys[0], keys[1])
        return new, (transition, episodes, collector)

    def run(key):
        begin_key, key = jax.random.split(key)
        return jax.lax.scan(
            scanned, rollout.begin(env, behaviour, begin_key), jax.random.split(key, (length, 2))
        )

    last, record = jax.device_get(jax.jit(run)(jax.random.key(seed)))
    return *record, last


@pytest.fixture(scope="module")
def record(env, agent):
    return collected(env, agent, explore(agent, noise.chain(noise.gaussian(0.8), noise.clip())), 60)


def test_the_stored_action_is_the_executed_one(record):
    transitions, *_ = record
    np.testing.assert_array_equal(transitions.action, transitions.next_observation["action"])
    assert np.abs(transitions.action).max() == 1  # some were clipped


def test_transitions_join_up_and_hold_the_true_successor(record):
    transitions, _, collectors, last = record
    observed, follows = transitions.observation, transitions.next_observation
    np.testing.assert_array_equal(follows["count"], observed["count"] + 1)
    np.testing.assert_array_equal(follows["number"], observed["number"])
    running = ~np.concatenate([collectors.reset[1:], last.reset[None]])
    for name in observed:
        then = np.concatenate([observed[name][1:], last.observation[name][None]])
        np.testing.assert_array_equal(then[running], follows[name][running])
        if name != "length":
            assert not np.any(then[~running] == follows[name][~running])


def test_sums_and_resets_are_those_of_a_slow_recount(record):
    transitions, episodes, collectors, last = record
    length = len(transitions.reward)
    total, steps, begins = np.zeros(E), np.zeros(E, int), np.ones(E, bool)
    limited = 0
    for t in range(length):
        np.testing.assert_array_equal(collectors.reset[t], begins)
        np.testing.assert_allclose(collectors.episode_return[t], total, rtol=1e-6)
        np.testing.assert_array_equal(collectors.episode_length[t], steps)
        count = returns = lengths = 0
        for e in range(E):
            total[e] += transitions.reward[t, e]
            steps[e] += 1
            terminated = steps[e] == transitions.observation["length"][t, e]
            begins[e] = terminated or steps[e] == 5
            limited += begins[e] and not terminated
            assert transitions.discount[t, e] == (0 if terminated else 1)
            if begins[e]:
                np.testing.assert_allclose(
                    total[e],
                    expected_return(transitions.observation["number"][t, e], steps[e]),
                    rtol=1e-6,
                )
                count, returns, lengths = count + 1, returns + total[e], lengths + steps[e]
                total[e], steps[e] = 0, 0
        assert episodes.count[t] == count
        np.testing.assert_allclose(episodes.return_sum[t], returns, rtol=1e-6)
        assert episodes.length_sum[t] == lengths
    np.testing.assert_array_equal(last.reset, begins)
    assert limited > 20
    assert episodes.count.sum() - limited > 20


def test_the_behaviour_is_told_where_episodes_begin(env, agent):
    """Its action is the flag that it was given: 1 in an episode's first step."""

    def act(state, agent_state, observation, key, reset):
        return jnp.stack([reset.astype(jnp.float32)] * 2, axis=-1), state + 1

    transitions, _, _, last = collected(
        env, agent, Behaviour(lambda key, action: jnp.zeros((), jnp.int32), act), 40
    )
    np.testing.assert_array_equal(transitions.action[..., 0], transitions.observation["count"] == 0)
    assert last.behaviour == 40


def test_acting_and_stepping_draw_from_their_own_keys(env, agent):
    behaviour = explore(agent, noise.gaussian(0.3))
    collector = rollout.begin(env, behaviour, jax.random.key(0))
    step = jax.jit(rollout.collect(env, behaviour))
    one, two, three = (jax.random.key(i) for i in range(3))
    ended = dataclasses.replace(
        collector, env_state=collector.env_state.replace(steps=jnp.full((E,), 4, jnp.int32))
    )  # the next step is the last one
    base, act_only, env_only = (
        step(ended, jnp.float32(0), *keys) for keys in ((one, two), (three, two), (one, three))
    )
    np.testing.assert_array_equal(base[0].observation["number"], act_only[0].observation["number"])
    assert not np.any(base[1].action == act_only[1].action)
    np.testing.assert_array_equal(base[1].action, env_only[1].action)
    assert not np.any(base[0].observation["number"] == env_only[0].observation["number"])


def test_trajectory_is_the_states_of_the_deterministic_policy(env, agent):
    states = jax.jit(rollout.make_trajectory(agent, env, 9))(jnp.float32(0.3), jax.random.key(7))
    first, _ = env.reset(jax.random.split(jax.random.key(7))[0])
    assert jax.tree.map(lambda x: x.shape[1:], states) == jax.tree.map(lambda x: x.shape, first)
    assert all(leaf.shape[0] == 9 for leaf in jax.tree.leaves(states))
    jax.tree.map(lambda x, y: np.testing.assert_array_equal(x[0], y), states, first)
    state = jax.device_get(states.state)
    went_on = state["count"][1:] > 0
    assert went_on.sum() > 10
    np.testing.assert_array_equal(state["count"][1:][went_on], state["count"][:-1][went_on] + 1)
    expected = agent.act(
        jnp.float32(0.3), jax.tree.map(jnp.asarray, jax.tree.map(lambda x: x[:-1], state))
    )
    np.testing.assert_allclose(
        state["action"][1:][went_on], np.asarray(expected)[went_on], rtol=1e-5
    )


def swinging(env):
    """Sees the pendulum's own state; ``agent_state`` is its gain; every third torque goes the other
    way, of all it gave."""

    def act(count, gain, env_state, observation, key):
        angle = env.single_state(env_state).angle
        action = gain * jnp.sin(angle) * jnp.where(count % 3 == 2, -1.0, 1.0)
        return action[:, None], count + 1

    return Policy(
        lambda key, env_state: jnp.zeros(env.single_state(env_state).angle.shape, jnp.int32), act
    )


def swung(env, key, gain, steps):
    """The same in NumPy from the same starts: angles before each step, and rewards, ``[steps,
    E]``."""
    start = env.single_state(env.reset(jax.random.split(key)[0])[0])
    angle, speed = (np.asarray(x, np.float64) for x in (start.angle, start.speed))
    angles, rewards = [], []
    for count in range(steps):
        torque = 2 * np.clip(gain * np.sin(angle) * (-1 if count % 3 == 2 else 1), -1, 1)
        wrapped = (angle + np.pi) % (2 * np.pi) - np.pi
        angles.append(angle)
        rewards.append(-(wrapped**2 + 0.1 * speed**2 + 0.001 * torque**2))
        speed = np.clip(speed + (15 * np.sin(angle) + 3 * torque) * 0.05, -8, 8)
        angle = angle + 0.05 * speed
    return np.stack(angles), np.stack(rewards)


@pytest.mark.parametrize(
    "wrap",
    [lambda env: env, lambda env: envs.time_aware(envs.frame_stack(env, 2))],
    ids=["", "wrapped"],
)
def test_a_policy_that_sees_the_state_and_remembers(wrap):
    env = wrap(envs.make("pendulum", 3, time_limit=15))
    policy, key, gain = swinging(env), jax.random.key(5), 0.7
    angles, rewards = swung(env, key, gain, 15)
    returns = jax.jit(rollout.make_evaluate(policy, env))(jnp.float32(gain), key)
    np.testing.assert_allclose(returns, rewards.sum(axis=0), rtol=1e-4)
    states = jax.jit(rollout.make_trajectory(policy, env, 15))(jnp.float32(gain), key)
    np.testing.assert_allclose(env.single_state(states).angle, angles, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(
        rollout.frames(env, states).angle, env.single_state(states).angle[:, 0]
    )
    assert (
        np.abs(np.asarray(returns) - swung(env, key, 0.0, 15)[1].sum(axis=0)).min() > 0.1
    )  # its torques matter


def test_a_policy_draws_from_a_key_of_its_own_in_every_step():
    """And from one in the beginning; the environment's starts stay what they are."""
    env, key = envs.make("pendulum", 2, time_limit=9), jax.random.key(5)
    begin = lambda key, env_state: jax.random.uniform(key, (2, 1))
    act = lambda state, agent_state, env_state, observation, key: (
        jax.random.uniform(key, (2, 1)) * 0.9 * state,
        state,
    )
    states = jax.jit(rollout.make_trajectory(Policy(begin, act), env, 20))((), key)
    torques = np.asarray(states.state.torque)[
        np.asarray(states.steps) > 0
    ]  # of the step before, in the same episode
    assert len(np.unique(torques)) == len(torques) == 2 * (20 - 3)
    still = Policy(lambda key, env_state: (), lambda state, *rest: (jnp.zeros((2, 1)), state))
    other = jax.jit(rollout.make_trajectory(still, env, 20))((), key)
    np.testing.assert_array_equal(states.state.angle[::9], other.state.angle[::9])
