import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ddpg_jax.agents import ddpg, track
from ddpg_jax.networks import Actor, Critic
from ddpg_jax.types import Transition

B, O, A = 8, 3, 2  # noqa: E741


def small_ddpg(action_size=A, hidden=(8,), **numbers):
    actor = Actor(action_size, hidden=hidden, final_bound=None)
    return ddpg(actor, Critic(hidden=hidden, action_layer=0, final_bound=None), **numbers)


# A new agent is one row here: ``build(**numbers) -> Agent`` on observations ``[O]`` and actions ``[A]``.
AGENTS = {"ddpg": small_ddpg}
every_agent = pytest.mark.parametrize("build", AGENTS.values(), ids=AGENTS.keys())


def some_batch(seed=0, leading=()):
    rng = np.random.default_rng(seed)
    normal = lambda *shape: rng.normal(size=(*leading, B, *shape)).astype(np.float32)
    return Transition(
        observation=normal(O),
        action=np.tanh(normal(A)),
        reward=normal(),
        discount=(rng.random((*leading, B)) < 0.7).astype(np.float32),
        next_observation=normal(O),
    )


def start(agent, seed=0):
    return jax.jit(agent.init)(jax.random.key(seed), jnp.zeros(O), jnp.zeros(A))


def types(tree):
    return jax.tree.map(lambda x: (x.shape, x.dtype, x.weak_type), tree)


def equal(a, b):
    return jax.tree.structure(a) == jax.tree.structure(b) and all(
        np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )


def assert_close(a, b, rtol=1e-4, atol=1e-6):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=rtol, atol=atol), a, b)


def networks(state):
    return state.actor, state.critic


@every_agent
def test_structure_and_types_are_stable(build):
    agent = build()
    state = jax.eval_shape(agent.init, jax.random.key(0), jnp.zeros(O), jnp.zeros(A))
    new_state, metrics = jax.eval_shape(agent.update, state, some_batch(), jax.random.key(1))
    assert types(new_state) == types(state)
    assert {leaf.dtype for leaf in jax.tree.leaves([n.params for n in networks(state)])} == {jnp.dtype(jnp.float32)}
    assert {leaf.dtype for leaf in jax.tree.leaves(metrics)} == {jnp.dtype(jnp.float32)}
    for leading in ((), (B,), (2, B)):
        action = jax.eval_shape(agent.act, state, jnp.zeros((*leading, O)))
        assert (action.shape, action.dtype) == ((*leading, A), jnp.float32)


@every_agent
def test_pure_and_jit_changes_nothing(build):
    agent, batch, key = build(), some_batch(), jax.random.key(1)
    state = start(agent)
    before = jax.tree.map(np.array, (state, batch))
    first = agent.update(state, batch, key)
    assert equal(agent.update(state, batch, key), first)
    assert equal((state, batch), before)
    assert_close(jax.jit(agent.update)(state, batch, key), first)
    assert not equal(first[0].critic.params, state.critic.params)
    assert not equal(first[0].actor.params, state.actor.params)


@every_agent
def test_vmap_over_seeds_is_the_loop(build):
    agent, seeds = build(), 3
    keys = jnp.stack([jax.random.key(seed) for seed in range(seeds)])
    batches = some_batch(leading=(seeds,))
    states = jax.jit(jax.vmap(agent.init, in_axes=(0, None, None)))(keys, jnp.zeros(O), jnp.zeros(A))
    update = jax.jit(agent.update)
    together = jax.jit(jax.vmap(agent.update))(states, batches, keys)
    for i in range(seeds):
        member = lambda tree: jax.tree.map(lambda x: x[i], tree)  # noqa: B023
        alone = start(agent, seed=i)
        assert_close(member(states), alone)
        assert_close(member(together), update(alone, member(batches), keys[i]))


@every_agent
def test_scan_is_the_host_loop_traced_once_and_counted(build):
    agent, steps, traces = build(), 5, []
    batches, keys = some_batch(leading=(steps,)), jax.random.split(jax.random.key(1), steps)

    def update(state, inputs):
        traces.append(None)
        return agent.update(state, *inputs)

    scanned, metrics = jax.jit(lambda state: jax.lax.scan(update, state, (batches, keys)))(start(agent))
    assert metrics["critic_loss"].shape == (steps,)
    traces.clear()
    state, update = start(agent), jax.jit(update)
    assert state.step == 0
    for i in range(steps):
        state, _ = update(state, jax.tree.map(lambda x: x[i], (batches, keys)))  # noqa: B023
        assert state.step == i + 1
    assert len(traces) == 1
    assert_close(scanned, state)


@every_agent
def test_discount_0_cuts_the_next_observation(build):
    agent, batch = build(), some_batch()
    update, state, key = jax.jit(agent.update), start(agent), jax.random.key(1)
    other = batch.replace(next_observation=batch.next_observation[::-1] * 10)
    assert not equal(update(state, batch, key), update(state, other, key))
    ended = jnp.zeros(B)
    assert equal(update(state, batch.replace(discount=ended), key), update(state, other.replace(discount=ended), key))


@every_agent
def test_tau_1_copies_and_tau_0_freezes(build):
    for tau in (0.0, 1.0):
        agent = build(tau=tau)
        state = start(agent)
        new, _ = jax.jit(agent.update)(state, some_batch(), jax.random.key(1))
        for old_network, network in zip(networks(state), networks(new), strict=True):
            assert not equal(network.params, old_network.params)
            assert equal(network.target_params, network.params if tau else old_network.target_params)


@every_agent
def test_tau_tracks_after_the_step(build):
    agent = build(tau=0.25)
    state = start(agent)
    new, _ = jax.jit(agent.update)(state, some_batch(), jax.random.key(1))
    for old_network, network in zip(networks(state), networks(new), strict=True):
        expected = jax.tree.map(lambda online, target: 0.25 * online + 0.75 * target, network.params, old_network.target_params)
        assert_close(network.target_params, expected)
        # Seen against the change itself, which is small beside the parameters.
        moved = jax.tree.map(lambda new, old: new - old, network.target_params, old_network.target_params)
        step = jax.tree.map(lambda new, old: 0.25 * (new - old), network.params, old_network.params)
        assert_close(moved, step, rtol=0.01, atol=1e-7)


def test_track_by_hand():
    # 0.1 * 5 + 0.9 * 10 = 9.5
    assert track({"w": jnp.float32(5)}, {"w": jnp.float32(10)}, 0.1)["w"] == 9.5


@every_agent
@pytest.mark.parametrize("jit", [False, True])
def test_targets_start_equal_and_are_no_alias(build, jit):
    agent = build(tau=1.0)
    init, update = (jax.jit(agent.init), jax.jit(agent.update)) if jit else (agent.init, agent.update)
    state = init(jax.random.key(0), jnp.zeros(O), jnp.zeros(A))
    for network in networks(state):
        assert equal(network.params, network.target_params)
    updated, _ = update(state, some_batch(), jax.random.key(1))
    for leaves in (jax.tree.leaves(state), jax.tree.leaves(updated)):
        assert len({leaf.unsafe_buffer_pointer() for leaf in leaves}) == len(leaves)


@every_agent
def test_a_donated_state_is_used(build):
    agent = build()
    state, batch, key = agent.init(jax.random.key(0), jnp.zeros(O), jnp.zeros(A)), some_batch(), jax.random.key(1)
    expected, _ = jax.jit(agent.update)(state, batch, key)
    donated = jax.jit(agent.update, donate_argnums=0)
    new, _ = donated(state, batch, key)  # a donation that cannot be used warns, and warnings are errors
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state))
    assert_close(new, expected)
    assert donated(new, batch, key)[0].step == 2


@every_agent
@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"gamma": 1.5}, "gamma=1.5: must be between 0 and 1"),
        ({"gamma": -0.1}, "gamma=-0.1: must be between 0 and 1"),
        ({"gamma": float("nan")}, "gamma=nan: must be between 0 and 1"),
        ({"tau": -1}, "tau=-1: must be between 0 and 1"),
        ({"tau": 1.01}, "tau=1.01: must be between 0 and 1"),
        ({"actor_learning_rate": -1e-4}, "actor_learning_rate=-0.0001: must be at least 0"),
        ({"critic_learning_rate": -1e-3}, "critic_learning_rate=-0.001: must be at least 0"),
        ({"critic_weight_decay": -1e-2}, "critic_weight_decay=-0.01: must be at least 0"),
    ],
)
def test_numbers_out_of_range(build, numbers, message):
    with pytest.raises(ValueError, match=message):
        build(**numbers)


# One DDPG update, in NumPy ---------------------------------------------------------------------------------------------


def to_numpy(params):
    """``[W1, b1, W2, b2]`` in float64."""
    first, last = params["params"]["Dense_0"], params["params"]["Dense_1"]
    return [np.asarray(x, np.float64) for x in (first["kernel"], first["bias"], last["kernel"], last["bias"])]


def forward(params, x):
    w1, b1, w2, b2 = params
    hidden = np.maximum(x @ w1 + b1, 0)
    return hidden, hidden @ w2 + b2


def backward(params, x, hidden, grad_out):
    """Gradients of sum(grad_out * out) with respect to the parameters and x."""
    w1, _, w2, _ = params
    grad_hidden = (grad_out @ w2.T) * (hidden > 0)
    return [x.T @ grad_hidden, grad_hidden.sum(0), hidden.T @ grad_out, grad_out.sum(0)], grad_hidden @ w1.T


def first_step(name, params, grads, learning_rate):
    if name == "sgd":
        return [p - learning_rate * g for p, g in zip(params, grads, strict=True)]
    # Adam after one step: m / (1 - b1) = g and v / (1 - b2) = g^2.
    return [p - learning_rate * g / (np.sqrt(g**2) + 1e-8) for p, g in zip(params, grads, strict=True)]


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_ddpg_update_matches_numpy(name):
    gamma, tau, actor_lr, critic_lr, decay = 0.9, 0.2, 0.02, 0.05, 0.1
    agent = small_ddpg(
        gamma=gamma,
        tau=tau,
        actor_learning_rate=actor_lr,
        critic_learning_rate=critic_lr,
        critic_weight_decay=decay,
        optimizer=getattr(optax, name),
    )
    state, other, batch = start(agent), start(agent, seed=1), some_batch()
    # Targets that differ from the online networks, to tell which network was used where.
    state = state.replace(
        actor=state.actor.replace(target_params=other.actor.params),
        critic=state.critic.replace(target_params=other.critic.params),
    )
    mu, q, mu_target, q_target = (
        to_numpy(p) for p in (state.actor.params, state.critic.params, other.actor.params, other.critic.params)
    )
    s, a, r, d, s_next = (np.asarray(x, np.float64) for x in jax.tree.leaves(batch))

    a_next = np.tanh(forward(mu_target, s_next)[1])
    y = r + gamma * d * forward(q_target, np.hstack([s_next, a_next]))[1][:, 0]
    hidden, value = forward(q, np.hstack([s, a]))
    critic_loss = np.mean((y - value[:, 0]) ** 2)
    grads, _ = backward(q, np.hstack([s, a]), hidden, 2 * (value - y[:, None]) / B)
    grads = [g + decay * p if p.ndim == 2 else g for g, p in zip(grads, q, strict=True)]
    q_new = first_step(name, q, grads, critic_lr)

    actor_hidden, before_tanh = forward(mu, s)
    action = np.tanh(before_tanh)
    hidden, new_value = forward(q_new, np.hstack([s, action]))
    _, grad_input = backward(q_new, np.hstack([s, action]), hidden, np.full((B, 1), -1 / B))
    grads, _ = backward(mu, s, actor_hidden, grad_input[:, O:] * (1 - action**2))
    mu_new = first_step(name, mu, grads, actor_lr)

    new, metrics = jax.jit(agent.update)(state, batch, jax.random.key(1))
    assert_close(to_numpy(new.critic.params), q_new, rtol=1e-4, atol=1e-5)
    assert_close(to_numpy(new.actor.params), mu_new, rtol=1e-4, atol=1e-5)
    blend = lambda online, target: [tau * x + (1 - tau) * t for x, t in zip(online, target, strict=True)]
    assert_close(to_numpy(new.critic.target_params), blend(q_new, q_target), rtol=1e-4, atol=1e-5)
    assert_close(to_numpy(new.actor.target_params), blend(mu_new, mu_target), rtol=1e-4, atol=1e-5)
    assert_close(metrics["critic_loss"], critic_loss)
    assert_close(metrics["actor_loss"], -np.mean(new_value))
    assert_close(metrics["td_error"], y - value[:, 0], atol=1e-5)
    assert_close(metrics["value"], np.mean(value))


def test_l2_decays_the_critics_weights_and_no_bias():
    update = lambda decay: jax.jit(
        (agent := small_ddpg(critic_learning_rate=0.1, critic_weight_decay=decay, optimizer=optax.sgd)).update
    )(start(agent), some_batch(), jax.random.key(1))[0]
    plain, decayed = update(0.0), update(0.5)
    initial = start(small_ddpg()).critic.params["params"]
    for layer in ("Dense_0", "Dense_1"):
        without, given = plain.critic.params["params"][layer], decayed.critic.params["params"][layer]
        assert_close(given["kernel"], without["kernel"] - 0.1 * 0.5 * initial[layer]["kernel"], atol=1e-6)
        np.testing.assert_array_equal(given["bias"], without["bias"])


# Problems whose solution is known --------------------------------------------------------------------------------------


class Constant:
    """A critic that knows one number: the value of everything."""

    def init(self, _key, _observation, _action):
        return jnp.zeros(())

    def apply(self, params, observation, _action):
        return jnp.broadcast_to(params, observation.shape[:-1])


class Tabular:
    """A critic linear in the observation, for one-hot states."""

    def init(self, _key, observation, _action):
        return jnp.zeros(observation.shape[-1])

    def apply(self, params, observation, _action):
        return observation @ params


def learn(agent, batch, steps):
    """Updates on one batch, and the states' critics after each."""

    def step(state, key):
        state, _ = agent.update(state, batch, key)
        return state, state.critic.params

    keys = jax.random.split(jax.random.key(1), steps)
    return jax.jit(lambda state: jax.lax.scan(step, state, keys))(start(agent))


def test_constant_reward_is_worth_1_over_1_minus_gamma():
    agent = ddpg(
        Actor(A, hidden=()),
        Constant(),
        gamma=0.99,
        tau=1.0,
        critic_learning_rate=0.5,
        critic_weight_decay=0,
        optimizer=optax.sgd,
    )
    batch = some_batch().replace(reward=np.ones(B, np.float32), discount=np.ones(B, np.float32))
    _, values = learn(agent, batch, 1500)
    # v <- v + 0.5 * 2 (1 + 0.99 v - v) = 1 + 0.99 v, from 0: v_t = 100 (1 - 0.99^t)
    np.testing.assert_allclose(values, 100 * (1 - 0.99 ** np.arange(1, 1501)), rtol=1e-3)
    np.testing.assert_allclose(values[-1], 100, rtol=1e-3)


def test_terminal_values_are_the_rewards():
    reward = np.array([1.0, -2.0, 0.5] + [1.0] * (B - 3), np.float32)
    batch = some_batch().replace(
        observation=np.eye(O, dtype=np.float32)[[0, 1, 2] + [0] * (B - 3)],
        reward=reward,
        discount=np.zeros(B, np.float32),
    )
    agent = ddpg(Actor(A, hidden=()), Tabular(), critic_learning_rate=0.5, critic_weight_decay=0, optimizer=optax.sgd)
    _, values = learn(agent, batch, 200)
    np.testing.assert_allclose(values[-1], reward[:O], atol=1e-3)


@every_agent
def test_the_best_action_of_a_quadratic_reward_is_found(build):
    rng, best = np.random.default_rng(0), np.array([0.3, -0.5], np.float32)
    action = rng.uniform(-1, 1, (256, A)).astype(np.float32)
    observation = rng.normal(size=(256, O)).astype(np.float32)
    batch = Transition(
        observation=observation,
        action=action,
        reward=-np.sum((action - best[None]) ** 2, axis=1),
        discount=np.zeros(256, np.float32),
        next_observation=observation,
    )
    agent = build(hidden=(32,), actor_learning_rate=3e-3, critic_learning_rate=1e-2, critic_weight_decay=0)
    state, _ = learn(agent, batch, 1000)
    found = jax.jit(agent.act)(state, observation)
    np.testing.assert_allclose(np.mean(found, axis=0), best, atol=0.08)
    assert np.std(found, axis=0).max() < 0.2
