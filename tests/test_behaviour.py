"""What explores: each behaviour fulfils the contract, on the device and for environments on the
host, and does what it says."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from ddpg_jax import agents, host, networks, noise, replay, reporting, train
from ddpg_jax.behaviour import explore, noisy_network, parameter_noise, random_actions
from ddpg_jax.environment import Environment, HostEnvironment, HostStep
from ddpg_jax.envs import SingleEnvironment, batch
from ddpg_jax.types import Agent, AgentState, Behaviour, NetworkState, Transition, Update, is_key

E, A = 6, 3

# A new behaviour is one row here: the actor's layers, and ``build(agent, env)``.
BEHAVIOURS = {
    "gaussian": (networks.Dense, lambda agent, env: explore(agent, noise.gaussian(0.1))),
    "ornstein_uhlenbeck": (
        networks.Dense,
        lambda agent, env: explore(agent, noise.ornstein_uhlenbeck()),
    ),
    "gaussian_per_episode": (
        networks.Dense,
        lambda agent, env: explore(agent, noise.gaussian_per_episode(0.1, 0.4)),
    ),
    "random_actions": (networks.Dense, lambda agent, env: random_actions()),
    "parameter_noise": (
        networks.Dense,
        lambda agent, env: parameter_noise(agent, env, 0.2, adapt_every=1),
    ),
    "noisy_network": (networks.NoisyDense, lambda agent, env: noisy_network(agent)),
}
every_behaviour = pytest.mark.parametrize("name", BEHAVIOURS)


def draw(seed=0, shape=(E, A), dtype=jnp.float32):
    return jax.random.uniform(jax.random.key(seed), shape, dtype, -1, 1)


def assert_trees(check, a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(check, raw(a), raw(b))


def raw(tree):
    return jax.tree.map(
        lambda x: np.asarray(jax.random.key_data(x)) if is_key(x) else np.array(x), tree
    )


def types(tree):
    return jax.tree.map(lambda x: (x.shape, x.dtype, jax.typeof(x).weak_type), tree)


def close(a, b):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def member(tree, i):
    return jax.tree.map(lambda x: x[i], tree)


def shapes(count=E, inputs=4, size=A):
    """Of ``count`` environments that cannot be stepped."""
    observation, action = (jax.ShapeDtypeStruct((n,), jnp.float32) for n in (inputs, size))
    return Environment(
        reset=None, step=None, num_envs=count, observation=observation, action=action, time_limit=10
    )


def small_agent(dense=networks.Dense, size=A):
    actor = networks.Actor(size, hidden=(8,), final_bound=None, dense=dense)
    return agents.ddpg(
        actor, networks.Critic(hidden=(8,), action_layer=0), tau=0.1, actor_learning_rate=0.01
    )


@functools.cache
def made(name):
    """The behaviour, what the agent learned so far, and what it observes."""
    dense, build = BEHAVIOURS[name]
    agent, observation = small_agent(dense), draw(3, (E, 4))
    learned = jax.jit(agent.init)(jax.random.key(5), observation[0], jnp.zeros(A))
    return build(agent, shapes()), learned, observation


def moved(behaviour, learned, observation, seed=7):
    """A state after two steps, so that nothing is zero by chance."""
    state, act = (
        jax.jit(behaviour.init)(jax.random.key(seed), jnp.zeros((E, A))),
        jax.jit(behaviour.act),
    )
    for number in (1, 2):
        key = jax.random.key(seed + number)
        _, state = act(state, learned, observation, key, jnp.full(E, number == 1))
    return state


SOME = jnp.arange(E) % 3 == 0
"""An episode begins in two environments."""


@every_behaviour
def test_shape_dtype_and_state_are_kept(name):
    behaviour, learned, observation = made(name)
    state = jax.eval_shape(behaviour.init, jax.random.key(0), jnp.zeros((E, A)))
    action, new_state = jax.eval_shape(
        behaviour.act, state, learned, observation, jax.random.key(1), SOME
    )
    assert (action.shape, action.dtype) == ((E, A), jnp.float32)
    assert types(new_state) == types(state)
    assert not any(leaf.weak_type for leaf in jax.tree.leaves((action, state)))
    if behaviour.adapt is not None:
        adapted = jax.eval_shape(behaviour.adapt, state, learned, items_of(draw(4, (8, 4))))
        assert types(adapted) == types(state)


@every_behaviour
def test_same_key_same_result_and_jit_changes_nothing(name):
    behaviour, learned, observation = made(name)
    state = moved(behaviour, learned, observation)
    arguments = (state, learned, observation, jax.random.key(1), SOME)
    before = raw(arguments)
    first = behaviour.act(*arguments)
    assert_trees(np.testing.assert_array_equal, behaviour.act(*arguments), first)
    assert_trees(close, jax.jit(behaviour.act)(*arguments), first)
    assert_trees(np.testing.assert_array_equal, raw(arguments), before)


@every_behaviour
def test_actions_depend_on_the_key(name):
    """Where an episode begins; within one, a perturbed policy is kept."""
    behaviour, learned, observation = made(name)
    state, act = moved(behaviour, learned, observation), jax.jit(behaviour.act)
    for reset in (jnp.ones(E, bool), jnp.zeros(E, bool)):
        actions = [
            np.asarray(act(state, learned, observation, jax.random.key(seed), reset)[0])
            for seed in (1, 2, 3)
        ]
        different = len({action.tobytes() for action in actions})
        assert different == (1 if name == "parameter_noise" and not reset[0] else 3)
        assert len(np.unique(actions[0])) == E * A


@every_behaviour
def test_vmap_is_the_loop(name):
    behaviour, learned, observation = made(name)
    states = jax.tree.map(
        lambda *x: jnp.stack(x),
        *(moved(behaviour, learned, observation, seed) for seed in (10, 20, 30)),
    )
    observations, keys = draw(6, (3, E, 4)), jax.random.split(jax.random.key(1), 3)
    resets, act = jnp.arange(3 * E).reshape(3, E) % 2 == 0, jax.jit(behaviour.act)
    together = jax.jit(jax.vmap(behaviour.act, in_axes=(0, None, 0, 0, 0)))(
        states, learned, observations, keys, resets
    )
    for i in range(3):
        alone = act(member(states, i), learned, observations[i], keys[i], resets[i])
        assert_trees(close, member(together, i), alone)


@every_behaviour
def test_scan_is_the_loop_and_traces_once(name):
    behaviour, learned, observation = made(name)
    traces, keys, act = [], jax.random.split(jax.random.key(1), 4), jax.jit(behaviour.act)
    begun = jax.jit(behaviour.init)(jax.random.key(0), jnp.zeros((E, A)))

    @jax.jit
    def run(state, keys):
        def step(state, key):
            traces.append(None)
            action, state = behaviour.act(state, learned, observation, key, SOME)
            return state, action

        return jax.lax.scan(step, state, keys)

    (state, actions), looped, expected = run(begun, keys), [], begun
    for key in keys:
        action, expected = act(expected, learned, observation, key, SOME)
        looped.append(action)
    assert_trees(close, (state, actions), (expected, jnp.stack(looped)))
    run(state, keys)
    assert len(traces) == 1


ENDS = np.array([3, 5])


def counting_on_host(same_step):
    """Two environments in NumPy, one that terminates after 3 steps and one that is cut off after 5.

    The second result is what they were told: the action of each step, and whether it is the first
    of an episode."""
    steps, over, told = np.zeros(2, int), np.zeros(2, bool), []
    see = lambda: np.stack([np.ones(2), steps / 5], axis=1).astype(np.float32)

    def reset(seed):
        steps[:], over[:] = 0, False
        return see()

    def step(action):
        valid = ~over
        told.append((np.array(action), valid & (steps == 0)))
        steps[:] = np.where(valid, steps + 1, 0)
        done, following = steps == ENDS, see()
        if same_step:
            steps[done] = 0
        else:
            over[:] = done
        ended = {"terminated": done & (ENDS == 3), "truncated": done & (ENDS == 5), "valid": valid}
        reward = -np.square(action[:, 0])
        return HostStep(observation=see(), reward=reward, next_observation=following, **ended)

    env = HostEnvironment(
        reset,
        step,
        lambda: None,
        num_envs=2,
        observation=jax.ShapeDtypeStruct((2,), np.dtype(np.float32)),
        action=jax.ShapeDtypeStruct((1,), np.dtype(np.float32)),
        time_limit=5,
        same_step=same_step,
        native_action=lambda action: action,
        draw=lambda: None,
        fps=30.0,
    )
    return env, told


def noting(behaviour, count):
    """The behaviour, with a state of ``(its own, flags [64, E] of episode starts that it was told,
    calls so far)``."""

    def init(key, action):
        return behaviour.init(key, action), jnp.zeros((64, count), bool), jnp.zeros((), jnp.int32)

    def act(state, agent_state, observation, key, reset):
        own, flags, calls = state
        action, own = behaviour.act(own, agent_state, observation, key, reset)
        return action, (own, flags.at[calls].set(reset), calls + 1)

    def adapt(state, agent_state, sampled):
        return behaviour.adapt(state[0], agent_state, sampled), *state[1:]

    return Behaviour(init, act, behaviour.adapt and adapt)


@pytest.mark.parametrize(
    ("name", "same_step"),
    [
        *((name, True) for name in BEHAVIOURS),
        ("gaussian_per_episode", False),
        ("parameter_noise", False),
    ],
)
def test_on_the_host(name, same_step):
    """A warm-up of 4 vector steps by the behaviour itself, and a chunk of 6 rounds of 2."""
    dense, build = BEHAVIOURS[name]
    (env, told), agent = counting_on_host(same_step), small_agent(dense, 1)
    behaviour = noting(build(agent, env), 2)
    sizes = {"learning_starts": 8, "steps_per_chunk": 24, "collect_steps": 2}
    trainer = host.make_train(
        agent, env, replay.uniform(40, 4), behaviour, warm_up=behaviour, **sizes
    )
    trainer.begin(0)
    begun = jax.jit(trainer.init)(jax.random.key(0))
    params = raw(begun.agent.actor.params)
    state, report = trainer.chunk(trainer.warm_up(begun))
    own, flags, calls = state.collector.behaviour
    actions, starts = (np.stack(part) for part in zip(*told, strict=True))

    assert state.steps == len(told) == 16
    assert calls == 17, "the next chunk's first action is chosen before the last updates"
    np.testing.assert_array_equal(flags[:16], starts)
    assert starts.sum() == (10 if same_step else 7), (
        "16 steps in episodes of 3 and 5, or of 4 and 6"
    )
    assert state.agent.step == 6
    assert all(
        np.any(a != b)
        for a, b in zip(
            jax.tree.leaves(params), jax.tree.leaves(state.agent.actor.params), strict=True
        )
    )
    assert {int(step) for step in report.first_bad_step.values()} == {reporting.NEVER}
    assert types(state) == types(jax.jit(trainer.init)(jax.random.key(0)))
    if same_step:  # what was executed is what is stored
        np.testing.assert_array_equal(state.replay.storage.action[:32], actions.reshape(32, 1))
    else:
        assert state.replay.size == 32 - 6
    if behaviour.adapt is not None:
        assert own.rounds == 6
        assert own.step == 17
        power = np.log(own.stddev / 0.2) / np.log(1.01)
        # Up or down in each of six rounds: an even power.
        np.testing.assert_allclose((power + 1) % 2, 1, atol=1e-2)


@pytest.mark.slow
def test_a_behaviour_that_begins_after_the_warm_up_begins_an_episode():
    """Random actions fill the replay and stop within episodes: a perturbed policy, unless told so,
    would be all zeros."""
    (hosted, _), agent = counting_on_host(True), small_agent(networks.Dense, 1)
    on_device = batch(counting(), 2, 5)
    sizes = {"learning_starts": 4, "steps_per_chunk": 8}
    for env, make in ((hosted, host.make_train), (on_device, train.make_train)):
        trainer = make(
            agent, env, replay.uniform(40, 4), noting(parameter_noise(agent, env), 2), **sizes
        )
        if env is hosted:
            trainer.begin(0)
        state, _ = trainer.chunk(trainer.warm_up(jax.jit(trainer.init)(jax.random.key(0))))
        _, flags, calls = state.collector.behaviour
        assert calls == (5 if env is hosted else 4), "the next action waits on the host"
        assert flags[0].all(), "two steps into episodes of 3 and 5"
        assert np.abs(np.asarray(state.replay.storage.action[4:8])).min() > 0


def test_explore_is_the_agents_action_plus_noise():
    agent = Agent(init=None, act=lambda state, observation: state * observation, update=None)
    link, action, key = noise.ornstein_uhlenbeck(), draw(), jax.random.key(1)
    behaviour = explore(agent, link)
    _, state = link.apply(link.init(key, action), action, jax.random.key(2), jnp.zeros(E, bool))
    assert_trees(np.testing.assert_array_equal, behaviour.init(key, action), link.init(key, action))
    out = behaviour.act(state, jnp.float32(0.5), action, key, SOME)
    assert_trees(np.testing.assert_array_equal, out, link.apply(state, 0.5 * action, key, SOME))


def test_uniform_covers_the_action_range():
    behaviour, key = random_actions(), jax.random.key(1)
    state = behaviour.init(key, jnp.zeros((5000, A)))
    action, new_state = behaviour.act(state, None, None, key, None)
    assert (action.shape, action.dtype) == ((5000, A), jnp.float32)
    assert types(new_state) == types(state)
    assert -1 <= action.min() < -0.99 < 0.99 < action.max() <= 1
    np.testing.assert_allclose(np.mean(action, 0), np.zeros(A), atol=0.04)
    np.testing.assert_allclose(np.var(action, 0), np.full(A, 1 / 3), rtol=0.05)  # (1 - -1)^2 / 12
    again, _ = behaviour.act(new_state, None, None, jax.random.key(2), None)
    assert not np.any(again == action)


def agent_state(actor_params, carried=None):
    network = NetworkState(
        params=actor_params, target_params=(), opt_state=(), batch_stats=carried or {}
    )
    return AgentState(actor=network, critic=NetworkState((), (), ()), step=jnp.zeros((), jnp.int32))


def linear(inputs=4, count=E):
    """An agent ``mu(s) = s W``, and shapes of ``count`` environments."""
    init = lambda key, observation, action: agent_state(
        {"W": jnp.ones((observation.shape[-1], action.shape[-1]))}
    )
    act = lambda state, observation: observation @ state.actor.params["W"]
    return Agent(init, act, None), shapes(count, inputs)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: parameter_noise(*linear(), -0.1), "stddev=-0.1: must be at least 0"),
        (lambda: parameter_noise(*linear(), adaptation=0.9), "adaptation=0.9: must be at least 1"),
        (lambda: parameter_noise(*linear(), adapt_every=0), "adapt_every=0: must be at least 1"),
    ],
)
def test_numbers_out_of_range(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def begin(behaviour, count=E):
    return jax.jit(behaviour.init)(jax.random.key(0), jnp.zeros((count, A)))


def weights(seed, inputs=4):
    return agent_state({"W": draw(seed, (inputs, A))})


def test_parameter_noise_is_drawn_where_an_episode_begins_and_kept_in_it():
    agent, env = linear(count=20)
    behaviour, rng = parameter_noise(agent, env, 0.3), np.random.default_rng(0)
    state, act = begin(behaviour, 20), jax.jit(behaviour.act)
    kept, drawn = np.zeros((20, 4, A), np.float32), []
    for t in range(20):
        learner, observation = weights(t), draw(100 + t, (20, 4))  # the agent learns meanwhile
        before = jax.tree.map(np.array, learner)
        reset = np.ones(20, bool) if t == 0 else rng.uniform(size=20) < 0.3
        action, state = act(state, learner, observation, jax.random.key(t), reset)
        perturbed = np.asarray(state.params["W"])
        np.testing.assert_array_equal(perturbed[~reset], kept[~reset])
        assert np.all(perturbed[reset] != kept[reset])
        close(action, np.einsum("eo,eoa->ea", observation, perturbed))  # each follows its own
        assert_trees(np.testing.assert_array_equal, learner, before)
        close(agent.act(learner, observation), observation @ before.actor.params["W"])
        eps = (perturbed[reset] - before.actor.params["W"]) / 0.3
        assert len(np.unique(eps)) == eps.size  # no two environments share one
        kept, drawn = perturbed, [*drawn, *eps.round(4).ravel()]  # some come twice, from the pool
    assert stats.kstest(np.unique(drawn), "norm").pvalue > 1e-3
    assert state.step == 20
    np.testing.assert_array_equal(state.stddev, np.float32(0.3))


def test_parameter_noise_goes_on_finding_new_perturbations():
    """All environments begin an episode in every step: the pool turns over, so that one meets many
    perturbations."""
    behaviour = parameter_noise(*linear(), 1.0)
    state, seen = begin(behaviour), []
    act = jax.jit(behaviour.act)
    for t in range(60):
        _, state = act(state, weights(0), draw(0, (E, 4)), jax.random.key(t), jnp.ones(E, bool))
        seen.append(np.asarray(state.params["W"])[:, 0, 0])
    fresh = len(np.unique(seen))
    assert (
        fresh == E + 59
    )  # the pool at first, less the one that step 0 overwrites, and a fresh one in each of 60 steps
    assert min(len(np.unique(np.array(seen)[:, e])) for e in range(E)) > 20


def test_parameter_noise_leaves_layer_normalisation_alone():
    actor = networks.Actor(A, hidden=(5,), norm=networks.LayerNorm)
    init = lambda key, observation, action: agent_state(actor.init(key, observation))
    behaviour = parameter_noise(
        Agent(init, lambda state, x: actor.apply(state.actor.params, x), None), linear()[1], 0.3
    )
    learner = jax.jit(init)(jax.random.key(0), jnp.zeros(4), None)
    state = begin(behaviour)
    _, state = jax.jit(behaviour.act)(
        state, learner, draw(0, (E, 4)), jax.random.key(2), jnp.ones(E, bool)
    )
    perturbed = jax.tree_util.tree_leaves_with_path(state.params)
    online, normal = jax.tree.leaves(learner.actor.params), 0
    for (path, leaf), own in zip(perturbed, online, strict=True):
        if "norm" in jax.tree_util.keystr(path).lower():
            np.testing.assert_array_equal(leaf, np.broadcast_to(own, leaf.shape))
            normal += 1
        else:
            assert np.all(leaf != np.asarray(own)[None])
    assert (normal, len(online)) == (2, 6)  # its scale and bias; kernel and bias of two layers


@pytest.mark.parametrize("factor", [0.99, 1.01])
def test_parameter_noise_adapts_by_the_distance_of_the_actions(factor):
    """delta just below or just above d, which NumPy computes; alpha 1.5; every third step."""
    agent, env = linear()
    sigma, learner, data = 0.7, weights(0), items_of(draw(5, (40, 4)))
    behaviour = parameter_noise(agent, env, 0.1)
    state, act = begin(behaviour), jax.jit(behaviour.act)
    for t in range(1, 8):
        _, state = act(
            state, learner, draw(t, (E, 4)), jax.random.key(t), jnp.arange(E) % 2 == t % 2
        )
        newest = np.asarray(state.pool["W"], np.float64)[(t - 1) % E]
        difference = np.asarray(data.observation) @ (sigma * newest)
        distance = np.sqrt(np.mean(difference**2))  # over the batch and the 3 dimensions
        scaled = dataclasses.replace(state, stddev=jnp.float32(sigma))
        near = parameter_noise(agent, env, float(factor * distance), adaptation=1.5, adapt_every=3)
        adapted = near.adapt(scaled, learner, data)
        moved = sigma * 1.5 if factor > 1 else sigma / 1.5
        np.testing.assert_allclose(adapted.stddev, moved if t % 3 == 0 else sigma, rtol=1e-6)
        assert types(adapted) == types(state)
        same = dataclasses.replace(adapted, stddev=state.stddev, rounds=state.rounds)
        assert_trees(np.testing.assert_array_equal, same, state)  # nothing else moves
        state = dataclasses.replace(state, rounds=adapted.rounds)


def items_of(observation):
    count = len(observation)
    zeros = jnp.zeros(count)
    return Transition(
        observation=observation,
        action=jnp.zeros((count, A)),
        reward=zeros,
        discount=zeros,
        next_observation=observation,
    )


def test_parameter_noise_varies_the_actions_by_about_delta():
    """A linear actor of 100 inputs of unit variance: the action's deviation is sigma sqrt(100), so
    sigma goes to delta / 10."""
    (agent, env), delta = linear(inputs=100, count=8), 0.2
    behaviour, learner = (
        parameter_noise(agent, env, delta, adaptation=1.05, adapt_every=2),
        weights(0, 100),
    )

    def step(state, keys):
        observation, replayed = (
            jax.random.normal(key, (n, 100)) for key, n in zip(keys[:2], (8, 32), strict=True)
        )
        action, state = behaviour.act(state, learner, observation, keys[2], jnp.ones(8, bool))
        return behaviour.adapt(state, learner, items_of(replayed)), (
            action - agent.act(learner, observation),
            state.stddev,
        )

    begun, keys = begin(behaviour, 8), jax.random.split(jax.random.key(1), (240, 3))
    added, stddev = jax.jit(lambda keys: jax.lax.scan(step, begun, keys)[1])(keys)
    np.testing.assert_array_equal(stddev[:2], np.float32([delta, delta]))
    # From delta to delta / 10 at 1.05 in every second step: ln 10 / ln 1.05 = 47.2 adaptations, 95
    # steps.
    assert abs(np.mean(stddev[120:]) / (delta / 10) - 1) < 0.1
    assert abs(np.std(added[120:]) / delta - 1) < 0.1
    assert np.std(added[:2]) > 5 * delta


def test_parameter_noise_under_vmap_is_the_loop():
    agent, env = linear()
    behaviour, members = parameter_noise(agent, env, 0.3, adapt_every=1), 3
    observation, data = draw(3, (E, 4)), items_of(draw(9, (8, 4)))

    def run(key, learner):
        def step(state, key):
            action, state = behaviour.act(
                state, learner, observation, key, jax.random.bernoulli(key, 0.5, (E,))
            )
            return behaviour.adapt(state, learner, data), action

        return jax.lax.scan(step, behaviour.init(key, jnp.zeros((E, A))), jax.random.split(key, 8))

    keys = jax.random.split(jax.random.key(1), members)
    learners = jax.tree.map(lambda *x: jnp.stack(x), *(weights(i) for i in range(members)))
    together, alone = jax.jit(jax.vmap(run))(keys, learners), jax.jit(run)
    for i in range(members):
        assert_trees(close, jax.tree.map(lambda x: x[i], together), alone(keys[i], weights(i)))  # noqa: B023
    assert np.all(together[1][0, -1] != together[1][1, -1])


def counting():
    """Its observation is 1 and the number of steps so far."""
    see = lambda state: jnp.stack([jnp.ones(()), state])
    step = lambda state, action, key: (
        state + 1,
        see(state + 1),
        jnp.float32(0),
        jnp.zeros((), bool),
    )
    return SingleEnvironment(lambda key: (jnp.zeros(()), see(jnp.zeros(()))), step, 1)


def still(agent):
    """The agent, learning nothing."""
    return agent._replace(update=lambda state, batch, key: Update(state, batch.reward, {}))


def test_parameter_noise_in_training():
    """The actions in an episode of 5 steps are those of one linear policy ``w_0 + w_1 t``; the next
    has another."""
    agent, env = still(linear()[0]), batch(counting(), 4, 5)
    behaviour = parameter_noise(agent, env, 0.2, adaptation=1.1, adapt_every=2)
    functions = train.make_train(
        agent,
        env,
        replay.uniform(80, 4),
        behaviour,
        learning_starts=40,
        steps_per_chunk=40,
        warm_up=behaviour,
    )
    state = jax.jit(lambda key: functions.warm_up(functions.init(key)))(jax.random.key(0))
    assert state.collector.behaviour.step == 10
    state, _ = jax.jit(functions.chunk)(state)
    assert state.collector.behaviour.step == 20
    # The batches' observations are 1 and up to 4: d is above delta or below it, five times: 0.2 *
    # 1.1^k, k odd.
    power = np.log(state.collector.behaviour.stddev / 0.2) / np.log(1.1)
    np.testing.assert_allclose(power, np.round(power), atol=1e-3)
    assert np.round(power) % 2 == 1
    actions = np.asarray(state.replay.storage.action).reshape(
        4, 5, 4
    )  # [episode, step, environment]
    slopes = np.diff(actions, axis=1)
    np.testing.assert_allclose(slopes, np.broadcast_to(slopes[:, :1], slopes.shape), atol=1e-5)
    assert len(np.unique(slopes[:, 0].round(5))) == 16  # episodes times environments
    np.testing.assert_array_equal(state.agent.actor.params["W"], np.ones((2, 1)))


@pytest.mark.parametrize(("collect_steps", "before"), [(1, 7), (2, 7), (3, 6)])
def test_parameter_noise_adapts_however_the_rounds_fall(collect_steps, before):
    """48 vector steps, one call of ``adapt`` after every ``collect_steps`` as in training, an
    adaptation in every 4th.

    ``before`` steps were a warm-up and do not count. Sigma begins far below delta: every adaptation
    multiplies it by 1.1."""
    agent, env = linear()
    behaviour = parameter_noise(agent, env, 0.1, adaptation=1.1, adapt_every=4)
    learner, observation, data = weights(0), draw(1, (E, 4)), items_of(draw(2, (8, 4)))

    def step(state, key):
        return behaviour.act(state, learner, observation, key, jnp.zeros(E, bool))[1], None

    def one_round(state, keys):
        return behaviour.adapt(jax.lax.scan(step, state, keys)[0], learner, data), None

    @jax.jit
    def run(key):
        state = dataclasses.replace(
            behaviour.init(key, jnp.zeros((E, A))), stddev=jnp.float32(1e-6)
        )
        state = jax.lax.scan(step, state, jax.random.split(key, before))[0]
        return jax.lax.scan(
            one_round, state, jax.random.split(key, (48 // collect_steps, collect_steps))
        )[0]

    adaptations = np.log(run(jax.random.key(0)).stddev / 1e-6) / np.log(1.1)
    np.testing.assert_allclose(adaptations, 48 // collect_steps // 4, atol=1e-3)


def noisy(output=jnp.tanh, hidden=(8,)):
    actor = networks.Actor(A, hidden=hidden, output=output, dense=networks.NoisyDense)
    agent = agents.ddpg(actor, networks.Critic(hidden=(), action_layer=0))
    return agent, jax.jit(agent.init)(jax.random.key(0), jnp.zeros(4), jnp.zeros(A))


def test_noisy_network_draws_in_every_step_and_only_there():
    (agent, learner), observation = noisy(), draw(0, (E, 4))
    behaviour, reset = noisy_network(agent), jnp.zeros(E, bool)
    state, act = begin(behaviour), jax.jit(behaviour.act)
    before = raw(learner)
    # The deterministic action is that of the means alone.
    params = learner.actor.params["params"]
    layers = [(layer["kernel"], layer["bias"]) for layer in params.values()]
    (kernel, bias), (last, last_bias) = (tuple(map(np.asarray, layer)) for layer in layers)
    means = np.tanh(np.maximum(np.asarray(observation) @ kernel + bias, 0) @ last + last_bias)
    close(agent.act(learner, observation), means)

    noisy_actions = [
        act(state, learner, observation, jax.random.key(t), reset)[0] for t in range(5)
    ]
    assert len(np.unique(noisy_actions)) == 5 * E * A
    assert np.all(noisy_actions != means)
    np.testing.assert_array_equal(
        act(state, learner, observation, jax.random.key(0), reset)[0], noisy_actions[0]
    )
    close(agent.act(learner, observation), means)
    assert_trees(np.testing.assert_array_equal, raw(learner), before)


def test_noisy_network_adds_what_the_paper_says():
    """One linear layer, ``y_j - mean_j = sigma f(e_j) (sum_i f(e_i) x_i + 1)`` with sigma = 0.5 /
    sqrt(4) = 0.25."""
    agent, learner = noisy(lambda x: x, hidden=())
    behaviour, observation = noisy_network(agent), jnp.array([[1.0, 0.5, -1.0, 2.0]])
    act = lambda key: behaviour.act((), learner, observation, key, jnp.zeros(1, bool))[0][0]
    added = jax.jit(jax.vmap(act))(jax.random.split(jax.random.key(1), 20_000)) - agent.act(
        learner, observation
    )
    # E f(e)^2 = E|e| = sqrt(2 / pi) = 0.798: variance 0.0625 * 0.798 * (0.798 * (1 + 0.25 + 1 + 4)
    # + 1) = 0.2986
    np.testing.assert_allclose(np.mean(added, 0), np.zeros(A), atol=0.02)
    np.testing.assert_allclose(np.var(added, 0), np.full(A, 0.2986), rtol=0.06)


def test_noisy_network_wants_noisy_layers():
    agent, _ = linear()
    with pytest.raises(
        ValueError, match="noisy_network: the actor has no noisy layer; make it with networks"
    ):
        noisy_network(agent).act(
            (), weights(0), draw(0, (E, 4)), jax.random.key(0), jnp.zeros(E, bool)
        )
