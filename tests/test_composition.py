"""The pieces fit into programs that are not ours."""

import functools
import random

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ddpg_jax import envs, noise, replay, rollout, train
from ddpg_jax.agents import ddpg, normalize_observations, td3
from ddpg_jax.agents.minibatches import deal
from ddpg_jax.behaviour import explore
from ddpg_jax.networks import Actor, BatchNorm, Critic, Dense, NoisyDense
from ddpg_jax.population import Member, make_population, members
from ddpg_jax.types import Transition, is_key

B, O, A = 8, 3, 2  # noqa: E741


def small_ddpg(action_size=A, **hyperparameters):
    actor = Actor(action_size, hidden=(8,), final_bound=None)
    return ddpg(actor, Critic(hidden=(8,), action_layer=0, final_bound=None), **hyperparameters)


def some_batches(*leading):
    rng = np.random.default_rng(0)
    normal = lambda *shape: rng.normal(size=(*leading, B, *shape)).astype(np.float32)
    return Transition(
        observation=normal(O),
        action=np.tanh(normal(A)),
        reward=normal(),
        discount=np.ones((*leading, B), np.float32),
        next_observation=normal(O),
    )


def start(agent, seed=0):
    return jax.jit(agent.init)(jax.random.key(seed), jnp.zeros(O), jnp.zeros(A))


def member(tree, i):
    return jax.tree.map(lambda x: x[i], tree)


def assert_close(a, b):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6), a, b)


def test_a_foreign_loop_with_a_list_as_replay_and_brax_transitions():
    from brax.training.types import Transition as BraxTransition

    rng, memory, position = np.random.default_rng(0), [], 1.0
    agent = small_ddpg(
        1,
        gamma=0.8,
        tau=0.05,
        actor_learning_rate=3e-3,
        critic_learning_rate=1e-2,
        critic_weight_decay=0,
    )
    state = agent.init(jax.random.key(0), jnp.zeros(1), jnp.zeros(1))
    act, update, random_rows = jax.jit(agent.act), jax.jit(agent.update), random.Random(0)

    def walk(position, action):
        return float(np.clip(position + 0.5 * action, -1, 1))

    def settle(position):
        for _ in range(6):
            position = walk(position, float(act(state, np.array([position], np.float32))[0]))
        return abs(position)

    assert max(settle(-1.0), settle(1.0)) > 0.2  # before learning
    for step in range(600):
        position = rng.uniform(-1, 1) if step % 6 == 0 else position
        action = act(state, np.array([position], np.float32)) + 0.5 * rng.normal(size=1)
        action = np.clip(action, -1, 1).astype(np.float32)
        successor = walk(position, float(action[0]))
        rows = [position], action, -(successor**2), 1.0, [successor], ()
        memory.append(
            BraxTransition(*(np.asarray(row, np.float32) for row in rows[:5]), extras=rows[5])
        )
        position = successor
        if step >= 50:
            batch = jax.tree.map(lambda *rows: np.stack(rows), *random_rows.choices(memory, k=32))
            state, *_ = update(state, batch, jax.random.key(step))
    assert max(settle(-1.0), settle(1.0)) < 0.1  # the cost is the squared distance from 0


def test_vmap_over_gamma_through_the_factory():
    gammas, batches, initial = jnp.linspace(0.1, 0.99, 10), some_batches(3), start(small_ddpg())

    @jax.jit
    def run(gamma):
        agent, state = small_ddpg(gamma=gamma, tau=0.1), initial
        return jax.lax.scan(
            lambda state, batch: (agent.update(state, batch, jax.random.key(1)).state, ()),
            state,
            batches,
        )[0]

    together = jax.vmap(run)(gammas)
    kernels = np.asarray(together.critic.params["params"]["Dense_0"]["kernel"])
    assert len({kernel.tobytes() for kernel in kernels}) == 10
    for i, gamma in enumerate(gammas):
        assert_close(member(together, i), run(gamma))
    # A traced number and a plain one are the same agent.
    agent, state = small_ddpg(gamma=0.99, tau=0.1), initial
    for i in range(3):
        state, *_ = jax.jit(agent.update)(state, member(batches, i), jax.random.key(1))
    assert_close(member(together, 9), state)


class TanhPolicy:
    """Not a Flax module, and in float64."""

    def init(self, key, _observation):
        return jax.random.normal(key, (O, A), jnp.float64)

    def apply(self, params, observation):
        return jnp.tanh(observation @ params)


class QuadraticValue:
    def init(self, key, _observation, _action):
        return jax.random.normal(key, (O + A, O + A), jnp.float64)

    def apply(self, params, observation, action):
        x = jnp.concatenate([observation, action], axis=-1)
        return jnp.einsum("...i,ij,...j->...", x, params, x)


def test_gradient_of_the_loss_after_an_update_with_respect_to_gamma():
    with jax.enable_x64(True):
        batch = jax.tree.map(lambda x: x.astype(np.float64), some_batches())

        @jax.jit
        def loss_after(gamma):
            agent = ddpg(
                TanhPolicy(),
                QuadraticValue(),
                gamma=gamma,
                critic_learning_rate=0.01,
                optimizer=optax.sgd,
            )
            state = agent.init(jax.random.key(0), batch.observation[0], batch.action[0])
            state, *_ = agent.update(state, batch, jax.random.key(1))
            value = QuadraticValue().apply(state.critic.params, batch.observation, batch.action)
            return jnp.mean((value - batch.reward) ** 2)

        gradient, step = jax.grad(loss_after)(0.9), 1e-5
        difference = (loss_after(0.9 + step) - loss_after(0.9 - step)) / (2 * step)
        assert abs(difference) > 1e-2
        np.testing.assert_allclose(gradient, difference, rtol=1e-7)


def test_update_in_a_users_scan():
    agent, batches = small_ddpg(), some_batches(4)
    state = start(agent)

    def body(carry, batch):  # a carry of the user's own around the agent
        state, key, best = carry
        key, update_key = jax.random.split(key)
        state, _, metrics = agent.update(state, batch, update_key)
        return (state, key, jnp.minimum(best, metrics["critic_loss"])), metrics["critic_loss"]

    (scanned, _, best), losses = jax.jit(lambda carry: jax.lax.scan(body, carry, batches))(
        (state, jax.random.key(1), jnp.inf)
    )
    assert best == losses.min()
    for i in range(4):
        state, _, metrics = jax.jit(agent.update)(state, member(batches, i), jax.random.key(0))
        np.testing.assert_allclose(losses[i], metrics["critic_loss"], rtol=1e-4)
    assert_close(scanned, state)


def check_shard_map():
    """A population, its members spread over the devices, learns as it does under vmap."""
    members, mesh = 2 * jax.device_count(), jax.make_mesh((jax.device_count(),), ("member",))
    agent, batches, keys = (
        small_ddpg(),
        some_batches(members),
        jax.random.split(jax.random.key(0), members),
    )
    population = jax.vmap(agent.update)
    spec = jax.sharding.PartitionSpec("member")
    sharded = jax.jit(jax.shard_map(population, mesh=mesh, in_specs=spec, out_specs=spec))
    states = jax.tree.map(
        lambda *leaves: jnp.stack(leaves), *(start(agent, seed) for seed in range(members))
    )
    expected = jax.jit(population)(states, batches, keys)
    new = sharded(*jax.device_put((states, batches, keys), jax.NamedSharding(mesh, spec)))
    assert_close(jax.device_get(new), jax.device_get(expected))
    step = new[0].step
    assert step.shape == (members,)
    assert len(step.sharding.device_set) == jax.device_count()


def test_shard_map_on_the_available_devices():
    check_shard_map()


@pytest.mark.eight_devices
def test_shard_map_on_eight_devices():
    assert jax.device_count() == 8
    check_shard_map()


@pytest.mark.eight_devices
def test_axis_name_on_two_devices():
    """One update of a batch that is spread over the devices is that of the whole batch, and the
    state is one for all."""
    mesh, spec = jax.make_mesh((2,), ("data",)), jax.sharding.PartitionSpec
    whole, parts = spec(), spec("data")
    batch, key = some_batches(), jax.random.key(1)
    # The order in which both devices, who deal their 4 rows alike, have TD3's two minibatches of
    # all 8 rows.
    halves, deal_key = np.zeros(B, int), jax.random.split(key, 3)[-1]
    for own, all_rows in zip(*(deal(deal_key, size, 2)[0] for size in (B // 2, B)), strict=True):
        halves[np.concatenate([own, B // 2 + own])] = all_rows

    def sharded(function, *arguments):
        in_specs = (whole, parts, whole)
        placed = [
            jax.device_put(x, jax.NamedSharding(mesh, s))
            for x, s in zip(arguments, in_specs, strict=True)
        ]
        mapped = jax.shard_map(function, mesh=mesh, in_specs=in_specs, out_specs=(whole, parts))
        return jax.device_get(jax.jit(mapped)(*placed))

    def update(agent):
        def function(state, batch, key):
            state = state if agent.observe is None else agent.observe(state, batch.observation)
            state, priority, _ = agent.update(state, batch, key)
            return jax.tree.map(
                lambda x: jax.random.key_data(x) if is_key(x) else x, state
            ), priority

        return function

    def both(build, order=slice(None)):
        state = start(build(axis_name=None))
        ordered = jax.tree.map(lambda x: x[order], batch)
        given, expected = (
            sharded(update(build(axis_name="data")), state, ordered, key),
            update(build(axis_name=None)),
        )
        return given, jax.device_get(jax.jit(expected)(state, batch, key))

    def same(given, expected, order=slice(None)):
        jax.tree.map(
            lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-5),
            given[0],
            expected[0],
        )
        np.testing.assert_allclose(given[1], expected[1][order], rtol=1e-5, atol=1e-5)

    def built(algorithm=ddpg, norms=None, dense=Dense, **hyperparameters):
        # Adam blows up the rounding of a gradient that is almost 0, unless its epsilon is larger.
        calm = functools.partial(optax.adam, eps=1e-4)
        actor, critic = (
            Actor(A, hidden=(8,), dense=dense, **norms or {}),
            Critic(hidden=(8,), **norms or {}),
        )
        return lambda axis_name: algorithm(
            actor, critic, optimizer=calm, axis_name=axis_name, **hyperparameters
        )

    same(*both(lambda axis_name: normalize_observations(built()(axis_name), axis_name=axis_name)))
    same(*both(built(dense=NoisyDense)))  # whose state holds a random key
    same(*both(built(td3, policy_delay=2, target_noise=0.0), halves), halves)
    # Batch normalisation sees the rows of each device alone, so that is another update; its
    # statistics are the means over both.
    (given, _), _ = both(built(norms={"norm": BatchNorm, "input_norm": BatchNorm}))
    statistics = given.critic.batch_stats["batch_stats"]["BatchNorm_0"]["BatchNorm_0"]
    np.testing.assert_allclose(
        statistics["mean"], 0.01 * batch.observation.mean(axis=0), rtol=1e-4, atol=1e-6
    )
    spread = np.mean([batch.observation[:4].var(axis=0), batch.observation[4:].var(axis=0)], axis=0)
    np.testing.assert_allclose(statistics["var"], 0.99 + 0.01 * spread, rtol=1e-4)


def test_every_seed_with_every_row_of_numbers():
    keys = jax.random.split(jax.random.key(0), 2)
    many, hyperparameters = members(keys, {"tau": [0.1, 0.2, 0.3], "gamma": [0.7, 0.8, 0.9]})
    assert many.shape == (6,)
    raw = jax.random.key_data
    np.testing.assert_array_equal(raw(many), np.tile(raw(keys), (3, 1)))
    np.testing.assert_array_equal(
        hyperparameters["tau"], np.float32([0.1, 0.1, 0.2, 0.2, 0.3, 0.3])
    )
    np.testing.assert_array_equal(
        hyperparameters["gamma"], np.float32([0.7, 0.7, 0.8, 0.8, 0.9, 0.9])
    )
    alone, hyperparameters = members(keys)
    np.testing.assert_array_equal(raw(alone), raw(keys))
    assert hyperparameters == {}
    with pytest.raises(
        ValueError, match=r"values={'tau': 2, 'gamma': 1}: give equally many values of each number"
    ):
        members(keys, {"tau": [0.1, 0.2], "gamma": [0.7]})
    with pytest.raises(ValueError, match="tau=0: must be at least 1"):
        members(keys, {"tau": []})


def test_a_population_is_its_members():
    """Two seeds with two values of tau; each member is a run of its own. Other numbers are the same
    program."""
    env, traces = envs.make("pendulum", 2, time_limit=6), []

    def trained(hyperparameters):
        traces.append(hyperparameters)
        agent = small_ddpg(1, tau=hyperparameters["tau"], actor_learning_rate=1e-2)
        behaviour = explore(agent, noise.gaussian(0.1))
        trainer = train.make_train(
            agent, env, replay.uniform(60, 4), behaviour, learning_starts=8, steps_per_chunk=20
        )
        return Member(
            lambda key: trainer.warm_up(trainer.init(key)),
            trainer.chunk,
            rollout.make_evaluate(agent, env),
        )

    people = make_population(trained)
    start, chunk, evaluate = jax.jit(people.start), jax.jit(people.chunk), jax.jit(people.evaluate)
    keys, hyperparameters = members(jax.random.split(jax.random.key(3), 2), {"tau": [0.01, 0.5]})
    state, report = chunk(start(keys, hyperparameters), hyperparameters)
    together = state, report, evaluate(state.agent, keys, hyperparameters)
    assert (together[2].shape, report.episodes.count.shape) == ((4, 2), (4,))
    traced = len(traces)
    chunk(state, {"tau": hyperparameters["tau"] / 2})
    assert (len(traces), chunk._cache_size()) == (traced, 1)

    alone = make_population(trained, many=False)

    @jax.jit
    def run(key, tau):
        state, report = alone.chunk(alone.start(key, {"tau": tau}), {"tau": tau})
        return state, report, alone.evaluate(state.agent, key, {"tau": tau})

    first, second = jax.random.split(jax.random.key(3), 2)
    for number, (key, tau) in enumerate(
        [(first, 0.01), (second, 0.01), (first, 0.5), (second, 0.5)]
    ):
        raw = lambda tree: jax.tree.map(lambda x: jax.random.key_data(x) if is_key(x) else x, tree)
        ours, theirs = raw(member(together, number)), raw(run(key, tau))
        jax.tree.map(
            lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5), ours, theirs
        )
    targets = state.agent.critic.target_params["params"]["Dense_0"]["kernel"]
    assert len({np.asarray(target).tobytes() for target in targets}) == 4
