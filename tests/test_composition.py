"""The pieces fit into programs that are not ours."""

import os
import random
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ddpg_jax.agents import ddpg
from ddpg_jax.networks import Actor, Critic
from ddpg_jax.types import Transition

B, O, A = 8, 3, 2  # noqa: E741


def small_ddpg(action_size=A, **numbers):
    actor = Actor(action_size, hidden=(8,), final_bound=None)
    return ddpg(actor, Critic(hidden=(8,), action_layer=0, final_bound=None), **numbers)


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
    agent = small_ddpg(1, gamma=0.8, tau=0.05, actor_learning_rate=3e-3, critic_learning_rate=1e-2, critic_weight_decay=0)
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
        memory.append(BraxTransition(*(np.asarray(row, np.float32) for row in rows[:5]), extras=rows[5]))
        position = successor
        if step >= 50:
            batch = jax.tree.map(lambda *rows: np.stack(rows), *random_rows.choices(memory, k=32))
            state, _ = update(state, batch, jax.random.key(step))
    assert max(settle(-1.0), settle(1.0)) < 0.1  # the cost is the squared distance from 0


def test_vmap_over_gamma_through_the_factory():
    gammas, batches, initial = jnp.linspace(0.1, 0.99, 10), some_batches(3), start(small_ddpg())

    @jax.jit
    def run(gamma):
        agent, state = small_ddpg(gamma=gamma, tau=0.1), initial
        return jax.lax.scan(lambda state, batch: agent.update(state, batch, jax.random.key(1)), state, batches)[0]

    together = jax.vmap(run)(gammas)
    kernels = np.asarray(together.critic.params["params"]["Dense_0"]["kernel"])
    assert len({kernel.tobytes() for kernel in kernels}) == 10
    for i, gamma in enumerate(gammas):
        assert_close(member(together, i), run(gamma))
    # A traced number and a plain one are the same agent.
    agent, state = small_ddpg(gamma=0.99, tau=0.1), initial
    for i in range(3):
        state, _ = jax.jit(agent.update)(state, member(batches, i), jax.random.key(1))
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
            agent = ddpg(TanhPolicy(), QuadraticValue(), gamma=gamma, critic_learning_rate=0.01, optimizer=optax.sgd)
            state = agent.init(jax.random.key(0), batch.observation[0], batch.action[0])
            state, _ = agent.update(state, batch, jax.random.key(1))
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
        state, metrics = agent.update(state, batch, update_key)
        return (state, key, jnp.minimum(best, metrics["critic_loss"])), metrics["critic_loss"]

    (scanned, _, best), losses = jax.jit(lambda carry: jax.lax.scan(body, carry, batches))((state, jax.random.key(1), jnp.inf))
    assert best == losses.min()
    for i in range(4):
        state, metrics = jax.jit(agent.update)(state, member(batches, i), jax.random.key(0))
        np.testing.assert_allclose(losses[i], metrics["critic_loss"], rtol=1e-4)
    assert_close(scanned, state)


def check_shard_map():
    """A population, its members spread over the devices, learns as it does under vmap."""
    members, mesh = 2 * jax.device_count(), jax.make_mesh((jax.device_count(),), ("member",))
    agent, batches, keys = small_ddpg(), some_batches(members), jax.random.split(jax.random.key(0), members)
    population = jax.vmap(agent.update)
    spec = jax.sharding.PartitionSpec("member")
    sharded = jax.jit(jax.shard_map(population, mesh=mesh, in_specs=spec, out_specs=spec))
    states = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(start(agent, seed) for seed in range(members)))
    expected = jax.jit(population)(states, batches, keys)
    new = sharded(*jax.device_put((states, batches, keys), jax.NamedSharding(mesh, spec)))
    assert_close(jax.device_get(new), jax.device_get(expected))
    step = new[0].step
    assert step.shape == (members,)
    assert len(step.sharding.device_set) == jax.device_count()


def test_shard_map_on_the_available_devices():
    check_shard_map()


def test_shard_map_on_four_devices():
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=4"
    code = "import conftest, jax, test_composition as t; assert jax.device_count() == 4; t.check_shard_map(); print('same')"
    run = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parent,
        env={**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.endswith("same\n")
