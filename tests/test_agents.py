import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ddpg_jax.agents import (
    ActorLoss,
    CriticLoss,
    annealed,
    d4pg,
    ddpg,
    drq_v2,
    hard_update,
    make_agent,
    normalize_observations,
    scale_rewards,
    scheduled,
    soft_update,
    td3,
    td3_categorical,
    with_slot,
)
from ddpg_jax.agents.wrappers import RunningStatistics
from ddpg_jax.networks import (
    Actor,
    BatchNorm,
    Critic,
    Dense,
    NoisyDense,
    Trunk,
    VmappedHead,
    WithEncoder,
)
from ddpg_jax.reporting import CompensatedSum
from ddpg_jax.types import Transition, is_key

B, O, A = 8, 3, 2  # noqa: E741


def small(make, actor=None, critic=None, depth=1, **defaults):
    """``build(**numbers) -> Agent`` of an algorithm on small networks with these options."""

    def build(action_size=A, hidden=(8,), **hyperparameters):
        hidden = hidden * depth
        policy = Actor(action_size, hidden=hidden, final_bound=None, **actor or {})
        return make(
            policy,
            Critic(hidden=hidden, final_bound=None, **{"action_layer": 0} | (critic or {})),
            **defaults | hyperparameters,
        )

    return build


def under(wrapper, **options):
    return lambda *networks, **hyperparameters: wrapper(
        ddpg(*networks, **hyperparameters), **options
    )


small_ddpg, small_td3 = small(ddpg), small(td3)
small_d4pg, small_td3_categorical = (
    small(make, critic={"num_atoms": 11}, v_min=-6.0, v_max=6.0) for make in (d4pg, td3_categorical)
)
batch_norm = {"norm": BatchNorm, "input_norm": BatchNorm}
# A bias before batch normalisation has no gradient but rounding, which Adam would blow up without
# its epsilon.
calm_adam = functools.partial(optax.adam, eps=1e-4)
batch_norm_ddpg = small(
    ddpg, actor=batch_norm, critic={"action_layer": 1} | batch_norm, depth=2, optimizer=calm_adam
)
noisy_ddpg = small(ddpg, actor={"dense": NoisyDense})


def small_drq_v2(action_size=A, hidden=(8,), **hyperparameters):
    critic = VmappedHead(Critic(hidden, action_layer=0, final_bound=None))
    return drq_v2(
        Dense(6),
        WithEncoder(Trunk(6), Actor(action_size, hidden, final_bound=None)),
        WithEncoder(Trunk(6), critic),
        **hyperparameters,
    )


# A new agent is one row here: ``build(**numbers) -> Agent`` on observations ``[O]`` and actions
# ``[A]``.
AGENTS = {
    "ddpg": small_ddpg,
    "td3": small_td3,
    "d4pg": small_d4pg,
    "td3_categorical": small_td3_categorical,
    "ddpg batch_norm": batch_norm_ddpg,
    "ddpg noisy": noisy_ddpg,
    "ddpg normalize_observations": small(under(normalize_observations)),
    "ddpg scale_rewards": small(under(scale_rewards, scale=0.5)),
    "ddpg scheduled": lambda **hyperparameters: scheduled(
        lambda step: small_ddpg(**hyperparameters)
    ),
    "drq_v2": small_drq_v2,
}
DELAYED = {"td3", "td3_categorical"}
SMOOTHED = {*DELAYED, "drq_v2"}


@functools.cache
def default(build):
    """The agent of a row, one for all tests, so that its programs are compiled once."""
    return build()


@functools.cache
def update_with_tau(build):
    return jax.jit(lambda tau, *arguments: build(tau=tau).update(*arguments))


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


def plain(tree):
    """The tree with typed random keys as numbers, which can be compared."""
    return jax.tree.map(lambda x: jax.random.key_data(x) if is_key(x) else x, tree)


def equal(a, b):
    a, b = plain(a), plain(b)
    return jax.tree.structure(a) == jax.tree.structure(b) and all(
        np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )


def assert_close(a, b, rtol=1e-4, atol=1e-6):
    a, b = plain(a), plain(b)
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=rtol, atol=atol), a, b)


def networks(state):
    return state.actor, state.critic


@every_agent
def test_structure_and_types_are_stable(build):
    agent = default(build)
    state = jax.eval_shape(agent.init, jax.random.key(0), jnp.zeros(O), jnp.zeros(A))
    new_state, priority, metrics = jax.eval_shape(
        agent.update, state, some_batch(), jax.random.key(1)
    )
    assert types(new_state) == types(state)
    assert {leaf.dtype for leaf in jax.tree.leaves([n.params for n in networks(state)])} == {
        jnp.dtype(jnp.float32)
    }
    assert {(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(metrics)} == {
        ((), jnp.dtype(jnp.float32))
    }
    assert (priority.shape, priority.dtype) == ((B,), jnp.float32)
    for leading in ((), (B,), (2, B)):
        action = jax.eval_shape(agent.act, state, jnp.zeros((*leading, O)))
        assert (action.shape, action.dtype) == ((*leading, A), jnp.float32)


@every_agent
def test_pure_and_jit_changes_nothing(build):
    agent, batch, key = default(build), some_batch(), jax.random.key(1)
    state = start(agent)
    before = jax.tree.map(np.array, plain((state, batch)))
    first = agent.update(state, batch, key)
    assert equal(agent.update(state, batch, key), first)
    assert equal((state, batch), before)
    assert_close(jax.jit(agent.update)(state, batch, key), first)
    assert not equal(first[0].critic.params, state.critic.params)
    assert not equal(first[0].actor.params, state.actor.params)


@every_agent
def test_vmap_over_seeds_is_the_loop(build):
    agent, seeds = default(build), 3
    keys = jnp.stack([jax.random.key(seed) for seed in range(seeds)])
    batches = some_batch(leading=(seeds,))
    states = jax.jit(jax.vmap(agent.init, in_axes=(0, None, None)))(
        keys, jnp.zeros(O), jnp.zeros(A)
    )
    update = jax.jit(agent.update)
    together = jax.jit(jax.vmap(agent.update))(states, batches, keys)
    for i in range(seeds):
        member = lambda tree: jax.tree.map(lambda x: x[i], tree)  # noqa: B023
        alone = start(agent, seed=i)
        assert_close(member(states), alone)
        assert_close(member(together), update(alone, member(batches), keys[i]))


@every_agent
def test_scan_is_the_host_loop_traced_once_and_counted(build):
    agent, steps, traces = default(build), 5, []
    batches, keys = some_batch(leading=(steps,)), jax.random.split(jax.random.key(1), steps)

    def update(state, inputs):
        traces.append(None)
        new, _, metrics = agent.update(state, *inputs)
        return new, metrics

    scanned, metrics = jax.jit(lambda state: jax.lax.scan(update, state, (batches, keys)))(
        start(agent)
    )
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
    agent, batch = default(build), some_batch()
    update, state, key = jax.jit(agent.update), start(agent), jax.random.key(1)
    other = batch.replace(next_observation=batch.next_observation[::-1] * 10)
    td_error = lambda batch: update(state, batch, key).priority
    assert np.abs(td_error(batch) - td_error(other)).max() > 0.01
    ended = jnp.zeros(B)
    one, two = (
        update(state, batch.replace(discount=ended), key),
        update(state, other.replace(discount=ended), key),
    )
    if build in (small_d4pg, small_td3_categorical):  # the mass of a target is 1 up to rounding
        assert_close(one, two)
    else:
        assert equal(one, two)


def averaged(build, name, tree):
    """What of a network's parameters is averaged: all, but DrQ-v2's actor and its encoder, whose
    targets are the newest ones."""
    if build is not small_drq_v2:
        return tree
    kept = {} if name == "actor" else tree["params"]
    return {part: value for part, value in kept.items() if part != "encoder"}


@every_agent
@pytest.mark.parametrize("tau", [0.0, 1.0])
def test_tau_1_copies_and_tau_0_freezes(build, tau):
    state = start(default(build))
    new, *_ = update_with_tau(build)(tau, state, some_batch(), jax.random.key(1))
    for name, old, network in zip(("actor", "critic"), networks(state), networks(new), strict=True):
        of = functools.partial(averaged, build, name)
        assert not equal(network.params, old.params)
        expected = network.params if tau else old.target_params
        assert equal(of(network.target_params), of(expected))


def test_targets_of_drq_v2s_actor_and_encoder_are_the_newest_ones():
    agent = small_drq_v2(tau=0.25)
    new, *_ = jax.jit(agent.update)(start(agent), some_batch(), jax.random.key(1))
    assert equal(new.actor.target_params, new.actor.params)
    online, target = (tree["params"] for tree in (new.critic.params, new.critic.target_params))
    assert equal(target["encoder"], online["encoder"])
    heads = lambda params: {name: value for name, value in params.items() if name != "encoder"}
    assert not equal(heads(target), heads(online))


@every_agent
def test_tau_tracks_after_the_step(build):
    state = start(default(build))
    new, *_ = update_with_tau(build)(0.25, state, some_batch(), jax.random.key(1))
    for name, old_network, network in zip(
        ("actor", "critic"), networks(state), networks(new), strict=True
    ):
        of = functools.partial(averaged, build, name)
        old_network = old_network.replace(
            params=of(old_network.params), target_params=of(old_network.target_params)
        )
        network = network.replace(
            params=of(network.params), target_params=of(network.target_params)
        )
        expected = jax.tree.map(
            lambda online, target: 0.25 * online + 0.75 * target,
            network.params,
            old_network.target_params,
        )
        assert_close(network.target_params, expected)
        # Seen against the change itself, which is small beside the parameters.
        moved = jax.tree.map(
            lambda new, old: new - old, network.target_params, old_network.target_params
        )
        step = jax.tree.map(lambda new, old: 0.25 * (new - old), network.params, old_network.params)
        assert_close(moved, step, rtol=0.01, atol=1e-7)


def test_track_by_hand():
    # 0.1 * 5 + 0.9 * 10 = 9.5
    assert soft_update(0.1)({"w": jnp.float32(5)}, {"w": jnp.float32(10)})["w"] == 9.5


@every_agent
@pytest.mark.parametrize("jit", [False, True])
def test_targets_start_equal_and_are_no_alias(build, jit):
    agent = default(build)
    init = jax.jit(agent.init) if jit else agent.init
    update = functools.partial(update_with_tau(build), 1.0) if jit else build(tau=1.0).update
    state = init(jax.random.key(0), jnp.zeros(O), jnp.zeros(A))
    for network in networks(state):
        assert equal(network.params, network.target_params)
    updated, *_ = update(state, some_batch(), jax.random.key(1))
    for leaves in (jax.tree.leaves(state), jax.tree.leaves(updated)):
        assert len({leaf.unsafe_buffer_pointer() for leaf in leaves}) == len(leaves)


@every_agent
def test_a_donated_state_is_used(build):
    agent = default(build)
    state, batch, key = (
        agent.init(jax.random.key(0), jnp.zeros(O), jnp.zeros(A)),
        some_batch(),
        jax.random.key(1),
    )
    expected, *_ = jax.jit(agent.update)(state, batch, key)
    donated = jax.jit(agent.update, donate_argnums=0)
    new, *_ = donated(
        state, batch, key
    )  # a donation that cannot be used warns, and warnings are errors
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state))
    assert_close(new, expected)
    assert donated(new, batch, key)[0].step == 2


@every_agent
@pytest.mark.parametrize(
    ("hyperparameters", "message"),
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
def test_numbers_out_of_range(build, hyperparameters, message):
    with pytest.raises(ValueError, match=message):
        build(**hyperparameters)


# One DDPG update, in NumPy


def to_numpy(params):
    """``[W1, b1, W2, b2]`` in float64."""
    first, last = params["params"]["Dense_0"], params["params"]["Dense_1"]
    return [
        np.asarray(x, np.float64)
        for x in (first["kernel"], first["bias"], last["kernel"], last["bias"])
    ]


def forward(params, x):
    w1, b1, w2, b2 = params
    hidden = np.maximum(x @ w1 + b1, 0)
    return hidden, hidden @ w2 + b2


def backward(params, x, hidden, grad_out):
    """Gradients of sum(grad_out * out) with respect to the parameters and x."""
    w1, _, w2, _ = params
    grad_hidden = (grad_out @ w2.T) * (hidden > 0)
    return [
        x.T @ grad_hidden,
        grad_hidden.sum(0),
        hidden.T @ grad_out,
        grad_out.sum(0),
    ], grad_hidden @ w1.T


def first_step(name, params, grads, learning_rate):
    if name == "sgd":
        return [p - learning_rate * g for p, g in zip(params, grads, strict=True)]
    # Adam after one step: m / (1 - b1) = g and v / (1 - b2) = g^2.
    return [
        p - learning_rate * g / (np.sqrt(g**2) + 1e-8) for p, g in zip(params, grads, strict=True)
    ]


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
        to_numpy(p)
        for p in (state.actor.params, state.critic.params, other.actor.params, other.critic.params)
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

    new, priority, metrics = jax.jit(agent.update)(state, batch, jax.random.key(1))
    assert_close(to_numpy(new.critic.params), q_new, rtol=1e-4, atol=1e-5)
    assert_close(to_numpy(new.actor.params), mu_new, rtol=1e-4, atol=1e-5)
    blend = lambda online, target: [
        tau * x + (1 - tau) * t for x, t in zip(online, target, strict=True)
    ]
    assert_close(to_numpy(new.critic.target_params), blend(q_new, q_target), rtol=1e-4, atol=1e-5)
    assert_close(to_numpy(new.actor.target_params), blend(mu_new, mu_target), rtol=1e-4, atol=1e-5)
    assert_close(metrics["critic_loss"], critic_loss)
    assert_close(metrics["actor_loss"], -np.mean(new_value))
    assert_close(priority, np.abs(y - value[:, 0]), atol=1e-5)
    assert_close(metrics["td_error"], np.mean(y - value[:, 0]), atol=1e-5)
    assert_close(metrics["value"], np.mean(value))


def test_l2_decays_the_critics_weights_and_no_bias():
    update = lambda decay: jax.jit(
        (
            agent := small_ddpg(
                critic_learning_rate=0.1, critic_weight_decay=decay, optimizer=optax.sgd
            )
        ).update
    )(start(agent), some_batch(), jax.random.key(1))[0]
    plain, decayed = update(0.0), update(0.5)
    initial = start(small_ddpg()).critic.params["params"]
    for layer in ("Dense_0", "Dense_1"):
        without, given = (
            plain.critic.params["params"][layer],
            decayed.critic.params["params"][layer],
        )
        assert_close(
            given["kernel"], without["kernel"] - 0.1 * 0.5 * initial[layer]["kernel"], atol=1e-6
        )
        np.testing.assert_array_equal(given["bias"], without["bias"])


# Problems whose solution is known


class Constant:
    """A critic that knows one number: the value of everything."""

    def init(self, _key, _observation, _action):
        return jnp.zeros(())

    def apply(self, params, observation, _action):
        return jnp.broadcast_to(params, observation.shape[:-1])


class ConstantLogits:
    """A categorical critic of two atoms that knows one distribution."""

    def init(self, _key, _observation, _action):
        return jnp.zeros(2)

    def apply(self, params, observation, _action):
        return jnp.broadcast_to(params, (*observation.shape[:-1], 2))


class Tabular:
    """A critic linear in the observation, for one-hot states."""

    def init(self, _key, observation, _action):
        return jnp.zeros(observation.shape[-1])

    def apply(self, params, observation, _action):
        return observation @ params


def learn(agent, batch, steps):
    """Updates on one batch, and the states' critics after each."""

    def step(state, key):
        state, *_ = agent.update(state, batch, key)
        return state, state.critic.params

    keys = jax.random.split(jax.random.key(1), steps)
    return jax.jit(lambda state: jax.lax.scan(step, state, keys))(start(agent))


def constant_reward(n_step):
    """R = 1 + gamma + ... + gamma^(n-1), and the discount that carries gamma^(n-1)."""
    reward, discount = sum(0.99**k for k in range(n_step)), 0.99 ** (n_step - 1)
    return some_batch().replace(
        reward=np.full(B, reward, np.float32), discount=np.full(B, discount, np.float32)
    )


@pytest.mark.parametrize("n_step", [1, 3, 5])
def test_constant_reward_is_worth_1_over_1_minus_gamma(n_step):
    agent = ddpg(
        Actor(A, hidden=()),
        Constant(),
        gamma=0.99,
        tau=1.0,
        critic_learning_rate=0.5,
        critic_weight_decay=0,
        optimizer=optax.sgd,
    )
    _, values = learn(agent, constant_reward(n_step), 1500)
    # v <- v + 0.5 * 2 (R + 0.99^n v - v) = R + 0.99^n v, from 0: v_t = 100 (1 - 0.99^(n t))
    np.testing.assert_allclose(values, 100 * (1 - 0.99 ** (n_step * np.arange(1, 1501))), rtol=1e-3)
    np.testing.assert_allclose(values[-1], 100, rtol=1e-3)


@pytest.mark.parametrize("n_step", [1, 3, 5])
def test_constant_reward_is_worth_as_much_in_distribution(n_step):
    agent = d4pg(
        Actor(A, hidden=()),
        ConstantLogits(),
        v_min=-50.0,
        v_max=150.0,
        gamma=0.99,
        tau=1.0,
        critic_learning_rate=20.0,
        optimizer=optax.sgd,
    )
    _, logits = learn(agent, constant_reward(n_step), 1500)
    # Two atoms: -50 (1 - q) + 150 q = 100 where q = 0.75; it starts at 0.5.
    np.testing.assert_allclose(jax.nn.softmax(logits[-1]), [0.25, 0.75], rtol=2e-3)


def test_terminal_values_are_the_rewards():
    reward = np.array([1.0, -2.0, 0.5] + [1.0] * (B - 3), np.float32)
    batch = some_batch().replace(
        observation=np.eye(O, dtype=np.float32)[[0, 1, 2] + [0] * (B - 3)],
        reward=reward,
        discount=np.zeros(B, np.float32),
    )
    agent = ddpg(
        Actor(A, hidden=()),
        Tabular(),
        critic_learning_rate=0.5,
        critic_weight_decay=0,
        optimizer=optax.sgd,
    )
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
    agent = build(
        hidden=(32,), actor_learning_rate=3e-3, critic_learning_rate=1e-2, critic_weight_decay=0
    )
    state, _ = learn(agent, batch, 1000)
    found = jax.jit(agent.act)(state, observation)
    np.testing.assert_allclose(np.mean(found, axis=0), best, atol=0.15)
    assert np.std(found, axis=0).max() < 0.35


# Importance weights and errors


@every_agent
def test_weights_of_1_change_nothing(build):
    agent, batch, key = default(build), some_batch(), jax.random.key(1)
    update, state = jax.jit(agent.update), start(agent)
    assert_close(update(state, batch, key, jnp.ones(B)), update(state, batch, key))


@pytest.mark.parametrize(
    ("name", "chosen"), [("ddpg", 5), ("d4pg", 0), ("td3", 1), ("td3_categorical", 6)]
)
def test_one_weight_is_training_on_that_example_alone(name, chosen):
    # An update averages over B / policy_delay examples; the minibatch without the example has no
    # gradient.
    delayed = name in DELAYED
    size = B // 2 if delayed else B
    hyperparameters = {"optimizer": optax.sgd, "critic_weight_decay": 0.0} | (
        {"target_noise": 0.0} if delayed else {}
    )
    agent, batch, key = (
        AGENTS[name](critic_learning_rate=0.1 * size, **hyperparameters),
        some_batch(),
        jax.random.key(1),
    )
    only = AGENTS[name](
        critic_learning_rate=0.1, **hyperparameters, **({"policy_delay": 1} if delayed else {})
    )
    state, example = start(agent), jax.tree.map(lambda x: x[chosen : chosen + 1], batch)
    weight = jnp.zeros(B).at[chosen].set(1.0)
    new, priority, metrics = jax.jit(agent.update)(state, batch, key, weight)
    expected, _, alone = jax.jit(only.update)(state, example, key)
    assert_close(new.critic.params, expected.critic.params)
    assert_close(metrics["critic_loss"], alone["critic_loss"] / B)
    # Twice the weight is twice the step, and the errors are not weighted.
    twice, twice_priority, _ = jax.jit(agent.update)(state, batch, key, 2 * weight)
    step = lambda new: jax.tree.map(lambda x, y: x - y, new.critic.params, state.critic.params)
    assert_close(step(twice), jax.tree.map(lambda x: 2 * x, step(new)), rtol=1e-3, atol=1e-5)
    first = (
        dealt(key, 2)[0][0] if delayed else slice(B)
    )  # before any minibatch has moved the critic
    assert_close(twice_priority[first], priority[first])


@pytest.mark.parametrize("name", AGENTS)
def test_priorities_come_in_the_order_of_the_batch(name):
    quiet = {"target_noise": 0.0} if name in SMOOTHED else {}
    agent, batch = (
        AGENTS[name](
            actor_learning_rate=0.0, critic_learning_rate=0.0, critic_weight_decay=0.0, **quiet
        ),
        some_batch(),
    )
    update, state, key = jax.jit(agent.update), start(agent), jax.random.key(1)
    order = np.array([3, 6, 0, 7, 1, 5, 2, 4])
    errors = update(state, batch, key).priority
    assert errors.shape == (B,)
    assert len(np.unique(errors)) == B
    permuted = update(state, jax.tree.map(lambda x: x[order], batch), key).priority
    np.testing.assert_allclose(permuted, errors[order], rtol=1e-4, atol=1e-5)
    if name in {"d4pg", "td3_categorical"}:
        assert np.min(errors) > 0


# TD3, and the delay


def count(network):
    return optax.tree_utils.tree_get(network.opt_state, "count")


def repeated(tree, times=1):
    return jax.tree.map(lambda x: jnp.stack([x] * times), tree)


@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize(("single", "twin"), [("ddpg", "td3"), ("d4pg", "td3_categorical")])
def test_td3_without_its_three_additions_is_its_parent(single, twin, decay):
    shared = {
        "gamma": 0.9,
        "tau": 0.2,
        "actor_learning_rate": 0.01,
        "critic_learning_rate": 0.02,
        "critic_weight_decay": decay,
    }
    parent = AGENTS[single](**shared)
    agent = AGENTS[twin](**shared, target_noise=0.0, policy_delay=1, num_critics=1)
    expected, new = start(parent), start(agent)
    critic = new.critic.replace(
        params=repeated(expected.critic.params),
        target_params=repeated(expected.critic.target_params),
    )
    new = new.replace(actor=expected.actor, critic=critic)
    parent_update, update = jax.jit(parent.update), jax.jit(agent.update)
    for seed in range(4):
        batch, key = some_batch(seed), jax.random.key(seed)
        expected, *told = parent_update(expected, batch, key)
        new, priority, metrics = update(new, batch, key)
        told[1]["td_error"] = jnp.mean(told[0])  # where there is one critic the metric has a sign
        assert_close([priority, metrics], told)
    assert_close(new.actor, expected.actor, atol=1e-5)
    for name in ("params", "target_params"):
        assert_close(getattr(new.critic, name), repeated(getattr(expected.critic, name)), atol=1e-5)


def dealt(key, delay):
    """Rows of each minibatch, and the keys of their critic steps: of each ``delay`` rows in a row,
    one to each, in turn."""
    *keys, deal_key = jax.random.split(key, delay + 1) if delay > 1 else [key, key]
    first = np.asarray(jax.random.bits(deal_key, (B // delay,), jnp.uint32)) % delay
    hands = [[] for _ in range(delay)]
    for row in range(B):
        hands[(row + first[row // delay]) % delay].append(row)
    return [np.array(hand) for hand in hands], keys


def slow_td3(
    state,
    batch,
    key,
    *,
    actor,
    critic,
    target,
    loss,
    value,
    delay,
    gamma=0.9,
    tau=0.25,
    rate=0.01,
    sigma=0.3,
    c=0.2,
):
    """One update from Algorithm 1 of Fujimoto et al. 2018, one critic and one minibatch after
    another.

    ``state``: (mu, mu', mu's optimiser, [Q], [Q'], [Q's optimiser]), changed in place.
    """
    adam = optax.adam(rate)
    mu, mu_target, mu_opt, qs, q_targets, q_opts = state
    for rows, step_key in zip(*dealt(key, delay), strict=True):
        part = jax.tree.map(lambda x: x[rows], batch)  # noqa: B023
        noise = jnp.clip(sigma * jax.random.normal(step_key, (len(rows), A)), -c, c)
        next_action = jnp.clip(actor.apply(mu_target, part.next_observation) + noise, -1, 1)
        y = target(
            [critic.apply(q, part.next_observation, next_action) for q in q_targets],
            part.reward,
            gamma * part.discount,
        )
        for k in range(len(qs)):
            grads = jax.grad(lambda q: loss(critic.apply(q, part.observation, part.action), y))(  # noqa: B023
                qs[k]
            )
            step, q_opts[k] = adam.update(grads, q_opts[k])
            qs[k] = optax.apply_updates(qs[k], step)

    def minus_value(mu):
        action = actor.apply(mu, part.observation)
        return -jnp.mean(value([critic.apply(q, part.observation, action) for q in qs]))

    step, mu_opt = adam.update(jax.grad(minus_value)(mu), mu_opt)
    mu = optax.apply_updates(mu, step)
    blend = lambda new, old: jax.tree.map(lambda x, y: tau * x + (1 - tau) * y, new, old)
    return (
        mu,
        blend(mu, mu_target),
        mu_opt,
        qs,
        [blend(q, old) for q, old in zip(qs, q_targets, strict=True)],
        q_opts,
    )


SUPPORT = np.linspace(-6, 6, 11, dtype=np.float32)


def slow_categorical_target(outputs, reward, discount):
    """Of each example the whole distribution with the lesser mean, shifted, scaled, and shared
    among the atoms."""
    distributions, out = (
        np.stack([jax.nn.softmax(x) for x in outputs]),
        np.zeros((len(reward), 11), np.float32),
    )
    for i in range(len(reward)):
        chosen = min(distributions[:, i], key=lambda p: p @ SUPPORT)
        for mass, z in zip(chosen, SUPPORT, strict=True):
            b = (np.clip(reward[i] + discount[i] * z, -6, 6) + 6) / 1.2
            low = min(int(b), 9)
            out[i, low] += mass * (low + 1 - b)
            out[i, low + 1] += mass * (b - low)
    return jnp.asarray(out)


SLOW = {
    "td3": (
        {},
        {
            "target": lambda outputs, r, d: r + d * jnp.minimum(*outputs),
            "loss": lambda q, y: jnp.mean((q - y) ** 2),
            "value": lambda outputs: outputs[0],
        },
    ),
    "td3_categorical": (
        {"num_atoms": 11},
        {
            "target": slow_categorical_target,
            "loss": lambda logits, y: -jnp.mean(jnp.sum(y * jax.nn.log_softmax(logits), axis=1)),
            "value": lambda outputs: jnp.minimum(*(jax.nn.softmax(x) @ SUPPORT for x in outputs)),
        },
    ),
}


@pytest.mark.parametrize("name", SLOW)
@pytest.mark.parametrize("delay", [1, 2])
def test_td3_is_the_slow_loop_over_critics_and_minibatches(name, delay):
    options, equations = SLOW[name]
    hyperparameters = {
        "gamma": 0.9,
        "tau": 0.25,
        "target_noise": 0.3,
        "target_noise_clip": 0.2,
        "policy_delay": delay,
    }
    agent = AGENTS[name](**hyperparameters, actor_learning_rate=0.01, critic_learning_rate=0.01)
    actor = Actor(A, hidden=(8,), final_bound=None)
    critic = Critic(hidden=(8,), action_layer=0, final_bound=None, **options)
    state, other = start(agent), start(agent, seed=1)
    # Targets that differ from the online networks, as after many updates.
    state = state.replace(
        actor=state.actor.replace(target_params=other.actor.params),
        critic=state.critic.replace(target_params=other.critic.params),
    )
    members = lambda tree: [jax.tree.map(lambda x: x[i], tree) for i in range(2)]  # noqa: B023
    qs, q_targets, adam = (
        members(state.critic.params),
        members(other.critic.params),
        optax.adam(0.01),
    )
    mu = state.actor.params
    slow = (mu, other.actor.params, adam.init(mu), qs, q_targets, [adam.init(q) for q in qs])
    update = jax.jit(agent.update)
    for seed in range(2):
        batch, key = some_batch(seed), jax.random.key(seed)
        slow = slow_td3(slow, batch, key, actor=actor, critic=critic, delay=delay, **equations)
        state, *_ = update(state, batch, key)
        # As many critic steps as minibatches, one actor step.
        np.testing.assert_array_equal(
            (count(state.actor), count(state.critic)), (seed + 1, delay * (seed + 1))
        )
    mu, mu_target, _, qs, q_targets, _ = slow
    assert_close((state.actor.params, state.actor.target_params), (mu, mu_target), atol=2e-5)
    assert_close(
        (members(state.critic.params), members(state.critic.target_params)),
        (qs, q_targets),
        atol=2e-5,
    )


@pytest.mark.parametrize("name", sorted(DELAYED))
def test_a_batch_that_does_not_split(name):
    agent = AGENTS[name](policy_delay=3)
    with pytest.raises(
        ValueError,
        match="a batch of 8 does not split into policy_delay=3 minibatches: sample for example 9",
    ):
        jax.eval_shape(
            agent.update, jax.eval_shape(lambda: start(agent)), some_batch(), jax.random.key(1)
        )


def recording(delay):
    """An agent whose priorities, metrics and losses are the ids of the rows that reached them:
    ``action`` holds an id."""
    networks = [Actor(1, hidden=(2,)), Critic(hidden=(2,), action_layer=0)]
    nothing = lambda params: 0.0 * sum(jnp.sum(leaf) for leaf in jax.tree.leaves(params))
    return make_agent(
        *networks,
        critic_target=lambda actor, critic, batch, key: batch.reward,
        critic_loss=lambda params, batch, target: CriticLoss(
            nothing(params) + batch.reward, target, {}, {}
        ),
        actor_loss=lambda params, critic, batch: ActorLoss(
            nothing(params), {}, {"seen": batch.reward}
        ),
        actor_optimizer=optax.sgd(0.0),
        critic_optimizer=optax.sgd(0.0),
        track_actor=hard_update,
        track_critic=hard_update,
        policy_delay=delay,
    )


@pytest.mark.parametrize("delay", [2, 3])
def test_every_row_is_equally_likely_in_each_minibatch(delay):
    """Whatever the order: ids rise (a sorted batch), and even and odd ones are two sources that
    alternate."""
    size, updates = 24, 2000
    agent, ids = recording(delay), np.arange(size, dtype=np.float32)
    batch = Transition(
        observation=np.zeros((size, 1), np.float32),
        action=ids[:, None],
        reward=ids,
        discount=ids,
        next_observation=np.zeros((size, 1), np.float32),
    )
    state = agent.init(jax.random.key(0), jnp.zeros(1), jnp.zeros(1))
    keys, weight = (
        jax.random.split(jax.random.key(1), updates),
        np.where(ids == 5, 1, 0).astype(np.float32),
    )
    _, priority, metrics = jax.jit(jax.vmap(agent.update, in_axes=(None, None, 0, None)))(
        state, batch, keys, weight
    )
    np.testing.assert_array_equal(priority, np.tile(ids, (updates, 1)))  # in the order of the rows
    np.testing.assert_allclose(metrics["critic_loss"], 5 / size)  # the weight is that of row 5
    seen = np.asarray(metrics["seen"]).astype(int)  # of the last minibatch
    assert seen.shape == (updates, size // delay)
    assert all(len(set(rows)) == size // delay for rows in seen)
    # Each row is there in a share 1 / delay of the updates, up to five standard deviations of such
    # a count.
    often, spread = (
        np.bincount(seen.ravel(), minlength=size) / updates,
        np.sqrt((1 - 1 / delay) / delay / updates),
    )
    np.testing.assert_allclose(often, 1 / delay, atol=5 * spread)
    # And two kinds mix: as many even ones as odd ones, spread at least as the halves of independent
    # draws, never all alike.
    even = np.sum(seen % 2 == 0, axis=1)
    assert abs(even.mean() - size / delay / 2) < 5 * even.std() / np.sqrt(updates)
    assert even.std() < np.sqrt(size / delay) / 2 * 1.1
    assert len(set(map(tuple, seen))) > updates / 4


@pytest.mark.parametrize("name", ["td3", "td3_categorical"])
def test_errors_of_twin_critics_do_not_cancel(name):
    """Of critics that err by +10 and -10, or as KL by little and by much, the greater error is what
    counts."""
    agent, batch = (
        AGENTS[name](critic_learning_rate=0.0, target_noise=0.0, policy_delay=1),
        some_batch(),
    )
    batch, state = (
        batch.replace(discount=np.zeros(B, np.float32), reward=np.zeros(B, np.float32)),
        start(agent),
    )
    constant = jax.tree.map(
        jnp.zeros_like, state.critic.params
    )  # Q_1 = -10 and Q_2 = 10 for a target of 0
    bias = constant["params"]["Dense_1"]["bias"]
    bias = jnp.stack([jnp.full(bias.shape[1:], -10.0), jnp.full(bias.shape[1:], 10.0)])
    if (
        name == "td3_categorical"
    ):  # the first says "6" (the last atom) with p = e^9 / (e^9 + 10), the second knows nothing
        bias = jnp.stack([jnp.zeros(11).at[10].set(9.0), jnp.zeros(11)])
    constant["params"]["Dense_1"]["bias"] = bias
    _, priority, _ = jax.jit(agent.update)(
        state.replace(critic=state.critic.replace(params=constant)), batch, jax.random.key(0)
    )
    # All mass of the target is on atom 0, whose log-probability is -log(e^9 + 10) there, and
    # -log(11) here.
    expected = 10.0 if name == "td3" else np.log(np.exp(9.0) + 10)
    np.testing.assert_allclose(priority, np.full(B, expected), rtol=1e-5)


def test_twin_critics_start_apart():
    params = start(default(small_td3)).critic.params
    kernel = params["params"]["Dense_0"]["kernel"]
    assert kernel.shape == (2, O + A, 8)
    assert np.abs(kernel[0] - kernel[1]).max() > 0.1


def moved_member(state, index, shift):
    """The state with one critic's last bias moved by ``shift``."""
    params = jax.tree.map(lambda x: x, state.critic.params)
    params["params"]["Dense_1"]["bias"] = params["params"]["Dense_1"]["bias"].at[index].add(shift)
    return state.replace(critic=state.critic.replace(params=params))


def scaled_member(state, index, scale):
    factor = jnp.ones(2).at[index].set(scale)
    params = jax.tree.map(
        lambda x: x * factor.reshape(-1, *(1,) * (x.ndim - 1)), state.critic.params
    )
    return state.replace(critic=state.critic.replace(params=params))


def test_the_actor_of_td3_climbs_the_first_critic():
    agent = small_td3(
        critic_learning_rate=0.0, actor_learning_rate=1.0, policy_delay=1, optimizer=optax.sgd
    )
    update, state = jax.jit(agent.update), start(agent)
    actor = lambda state: update(state, some_batch(), jax.random.key(1))[0].actor.params
    assert equal(actor(scaled_member(state, 1, -3.0)), actor(state))
    assert not equal(actor(scaled_member(state, 0, -3.0)), actor(state))


@pytest.mark.parametrize("least", [0, 1])
def test_the_actor_of_td3_categorical_climbs_the_lesser_critic(least):
    agent = small_td3_categorical(
        critic_learning_rate=0.0, actor_learning_rate=1.0, policy_delay=1, optimizer=optax.sgd
    )
    update, state = jax.jit(agent.update), start(agent)
    actor = lambda state: update(state, some_batch(), jax.random.key(1))[0].actor.params
    # One more on the logit of the highest atom than of the others' for the greater critic, of the
    # lowest for the lesser.
    tilt = lambda index, atom: jnp.zeros((2, 11)).at[index, atom].set(5.0)
    apart = moved_member(state, slice(None), tilt(least, 0) + tilt(1 - least, 10))
    assert equal(actor(scaled_last_kernel(apart, 1 - least, -3.0)), actor(apart))
    assert not equal(actor(scaled_last_kernel(apart, least, -3.0)), actor(apart))


def scaled_last_kernel(state, index, scale):
    params = jax.tree.map(lambda x: x, state.critic.params)
    params["params"]["Dense_1"]["kernel"] = (
        params["params"]["Dense_1"]["kernel"].at[index].multiply(scale)
    )
    return state.replace(critic=state.critic.replace(params=params))


# What networks carry


def test_batch_norm_moves_its_statistics_once_per_update():
    agent, batch = default(batch_norm_ddpg), some_batch()
    state = start(agent)
    new, *_ = jax.jit(agent.update)(state, batch, jax.random.key(1))
    for network in networks(new):
        statistics = network.batch_stats["batch_stats"]
        assert "batch_stats" not in network.params
        # From mean 0 and variance 1, by 0.01 towards the batch's: the actor's loss leaves the
        # critic's alone.
        norm = statistics["BatchNorm_0"]["BatchNorm_0"]
        assert_close(norm["mean"], 0.01 * np.mean(batch.observation, axis=0))
        assert_close(norm["var"], 0.99 + 0.01 * np.var(batch.observation, axis=0))
    # Of the critic only the observation and the layer before the action: 1 + 1; of the actor the
    # observation and both layers.
    assert sorted(new.critic.batch_stats["batch_stats"]) == ["BatchNorm_0", "BatchNorm_1"]
    assert sorted(new.actor.batch_stats["batch_stats"]) == [
        "BatchNorm_0",
        "BatchNorm_1",
        "BatchNorm_2",
    ]


def test_batch_norm_acts_by_the_running_statistics_and_values_targets_by_the_batch():
    agent, batch, key = default(batch_norm_ddpg), some_batch(), jax.random.key(1)
    batch = batch.replace(discount=np.ones(B, np.float32))
    update = jax.jit(agent.update)
    state, *_ = update(start(agent), batch, key)
    act = jax.jit(agent.act)
    alone, among = act(state, batch.observation[:1]), act(state, batch.observation)
    np.testing.assert_allclose(alone[0], among[0], rtol=1e-5, atol=1e-6)
    move = lambda network: network.replace(
        batch_stats=jax.tree.map(lambda x: x + 1, network.batch_stats)
    )
    moved = state.replace(actor=move(state.actor))
    assert np.abs(act(moved, batch.observation) - among).max() > 0.01
    errors = lambda state, batch: update(state, batch, key).priority
    # The target actor acts: by its running statistics. The target critic learns: by the batch's
    # moments.
    assert np.abs(errors(moved, batch) - errors(state, batch)).max() > 1e-3
    np.testing.assert_array_equal(
        errors(state.replace(critic=move(state.critic)), batch), errors(state, batch)
    )
    other = batch.replace(
        next_observation=np.concatenate(
            [batch.next_observation[:1], 5 + batch.next_observation[1:]]
        )
    )
    assert np.abs(errors(state, other) - errors(state, batch))[0] > 1e-4


def test_batch_norm_under_twin_critics_and_a_delay():
    agent = small(td3, actor=batch_norm, critic={"action_layer": 1} | batch_norm, depth=2)()
    batch, key = some_batch(), jax.random.key(1)
    new, *_ = jax.jit(agent.update)(start(agent), batch, key)
    means = [np.mean(batch.observation[rows], axis=0) for rows in dealt(key, 2)[0]]
    norm = lambda network: network.batch_stats["batch_stats"]["BatchNorm_0"]["BatchNorm_0"]["mean"]
    # Both halves pass the critics, 0.99 * 0.01 m_1 + 0.01 m_2; the last one passes the actor.
    assert_close(norm(new.critic), np.stack([0.0099 * means[0] + 0.01 * means[1]] * 2))
    assert_close(norm(new.actor), 0.01 * means[1])


def test_a_noisy_actor_acts_by_its_means_and_learns_its_noise():
    agent, batch = default(noisy_ddpg), some_batch()
    update, act, state = jax.jit(agent.update), jax.jit(agent.act), start(agent)
    layer = lambda state, index: state.actor.params["params"][f"NoisyDense_{index}"]
    means = {
        "params": {
            f"Dense_{i}": {name: layer(state, i)[name] for name in ("kernel", "bias")}
            for i in range(2)
        }
    }
    expected = Actor(A, hidden=(8,), final_bound=None).apply(means, batch.observation)
    np.testing.assert_allclose(act(state, batch.observation), expected, rtol=1e-5, atol=1e-6)
    new, _, metrics = update(state, batch, jax.random.key(1))
    newer, *_ = update(new, batch, jax.random.key(1))
    keys = [plain(x.actor.batch_stats["noise"]["NoisyDense_0"]["key"]) for x in (state, new, newer)]
    assert len({tuple(np.ravel(key).tolist()) for key in keys}) == 3
    for name in ("kernel_sigma", "bias_sigma"):
        for index in range(2):
            assert not np.array_equal(layer(new, index)[name], layer(state, index)[name])
    # The actor's loss sees noise, so another draw is another loss.
    noise = jax.tree.map(lambda x: x, new.actor.batch_stats)
    *_, again = update(
        state.replace(actor=state.actor.replace(batch_stats=noise)), batch, jax.random.key(1)
    )
    assert abs(again["actor_loss"] - metrics["actor_loss"]) > 1e-5
    assert again["critic_loss"] == metrics["critic_loss"]


# Wrappers


class Flat:
    """A network on observations that are dictionaries."""

    def __init__(self, network):
        self.network = network

    def _flat(self, observation):
        return jnp.concatenate([observation["body"], observation["goal"]], axis=-1)

    def init(self, key, observation, *action):
        return self.network.init(key, self._flat(observation), *action)

    def apply(self, params, observation, *action, **options):
        return self.network.apply(params, self._flat(observation), *action, **options)


def dictionary_agent():
    return ddpg(
        Flat(Actor(A, hidden=(8,), final_bound=None)),
        Flat(Critic(hidden=(8,), action_layer=0, final_bound=None)),
    )


def test_normalised_observations():
    inner, rng = dictionary_agent(), np.random.default_rng(0)
    agent = normalize_observations(inner, epsilon=0.1, limit=1.5)
    draw = lambda n: {
        "body": rng.normal(1000, 3, (n, 2)).astype(np.float32),
        "goal": np.concatenate([rng.normal(-1, 0.01, (n, 1)), np.full((n, 1), 7.0)], axis=1).astype(
            np.float32
        ),
    }
    example = jax.tree.map(lambda x: x[0], draw(1))
    state = agent.init(jax.random.key(0), example, jnp.zeros(A))
    assert equal(state.actor, inner.init(jax.random.key(0), example, jnp.zeros(A)).actor)
    # Before anything was observed: mean 0, variance 1.
    shown = lambda observation, scale: jax.tree.map(
        lambda x: np.clip(x / scale, -1.5, 1.5).astype(np.float32), observation
    )
    first = jax.tree.map(lambda x: np.clip(x, -2, 2), draw(4))
    np.testing.assert_allclose(
        agent.act(state, first), inner.act(state, shown(first, np.sqrt(1.01))), atol=1e-5
    )

    chunks = [draw(n) for n in (3, 1, 16, 50)]
    for chunk in chunks:
        state = jax.jit(agent.observe)(state, chunk)
    every = jax.tree.map(lambda *x: np.concatenate(x).astype(np.float64), *chunks)
    statistics = state.slots["normalizer"]
    assert statistics.count.value == 70
    for name in every:
        np.testing.assert_allclose(statistics.mean.value[name], every[name].mean(0), rtol=1e-6)
        np.testing.assert_allclose(
            statistics.squares.value[name] / 70, every[name].var(0), rtol=1e-4, atol=1e-6
        )

    def normal(x, name):
        scale = np.sqrt(every[name].var(0) + 0.1**2)
        return np.clip((x - every[name].mean(0)) / scale, -1.5, 1.5).astype(np.float32)

    normalised = lambda observation: {name: normal(x, name) for name, x in observation.items()}
    seen, following = draw(B), draw(B)
    assert np.abs(normalised(seen)["body"]).max() == 1.5  # the limit is reached
    np.testing.assert_allclose(
        agent.act(state, seen), inner.act(state, normalised(seen)), atol=1e-3
    )
    batch, key = (
        some_batch().replace(observation=seen, next_observation=following),
        jax.random.key(1),
    )
    new, _, metrics = jax.jit(agent.update)(state, batch, key)
    told = batch.replace(observation=normalised(seen), next_observation=normalised(following))
    expected, _, expected_metrics = jax.jit(inner.update)(state, told, key)
    assert_close(metrics, expected_metrics, rtol=2e-3, atol=2e-3)
    assert_close(new.critic.params, expected.critic.params, rtol=1e-3, atol=1e-3)
    assert equal(
        new.slots["normalizer"], state.slots["normalizer"]
    )  # replayed observations are not counted again


def test_statistics_of_everything_at_once_and_one_by_one():
    agent = default(AGENTS["ddpg normalize_observations"])
    observed = np.random.default_rng(0).normal(5, 2, (12, O)).astype(np.float32)
    observe = jax.jit(agent.observe)
    one_by_one = start(agent)
    for row in observed:
        one_by_one = observe(one_by_one, row[None])
    at_once = observe(start(agent), observed)
    one, other = one_by_one.slots["normalizer"], at_once.slots["normalizer"]
    for name in ("count", "mean", "squares"):
        assert_close(getattr(one, name).value, getattr(other, name).value)
    np.testing.assert_allclose(other.squares.value, 12 * observed.var(0), rtol=1e-5)
    assert agent.act(at_once, observed).shape == (12, A)


@pytest.mark.parametrize(("seen", "envs", "steps"), [(2**33, 16_384, 300), (2**24, 1, 40_000)])
def test_statistics_go_on_after_billions_of_observations(seen, envs, steps):
    """Mean 1000 and variance 1 so far, set by hand; then observations of 1001 and 1005, as many of
    each."""
    agent = default(AGENTS["ddpg normalize_observations"])
    state, number = (
        start(agent),
        lambda x: CompensatedSum(value=jnp.float32(x), rest=jnp.float32(0)),
    )
    vector = lambda x: CompensatedSum(value=jnp.full(O, x, jnp.float32), rest=jnp.zeros(O))
    statistics = RunningStatistics(count=number(seen), mean=vector(1000), squares=vector(seen))
    state = state.replace(slots={"normalizer": statistics})
    columns = jnp.tile(jnp.array([1001.0, 1005.0])[:, None], (1, O))

    def observe(state, step):
        shown = jnp.tile(columns, (envs // 2, 1)) if envs > 1 else columns[step % 2][None]
        return agent.observe(state, shown), None

    state, _ = jax.jit(lambda state: jax.lax.scan(observe, state, jnp.arange(steps)))(state)
    found = jax.tree.map(lambda x: np.asarray(x, np.float64), state.slots["normalizer"])
    exact = lambda total: total.value + total.rest
    added = envs * steps
    assert exact(found.count) == seen + added
    # Pooled: the mean moves by 3 times the share of the new ones; deviations are 2^2 within and 3^2
    # n m / (n + m) between them.
    np.testing.assert_allclose(exact(found.mean) - 1000, 3 * added / (seen + added), rtol=1e-3)
    new = exact(found.squares) - seen
    np.testing.assert_allclose(new, 4 * added + 9 * seen * added / (seen + added), rtol=1e-3)


def test_two_stateful_wrappers_compose():
    """The outer keeps statistics of what it is told, the inner of what the outer shows; both show
    the agent."""
    bare, rng = default(small_ddpg), np.random.default_rng(0)
    inner = normalize_observations(bare, epsilon=0.5, limit=1.0, slot="inner")
    agent = normalize_observations(inner, epsilon=0.1, limit=3.0, slot="outer")
    state = start(agent)
    assert set(state.slots) == {"inner", "outer"}
    chunks = [rng.normal(5, 2, (n, O)).astype(np.float32) for n in (4, 9)]
    told, seen = np.zeros((0, O)), np.zeros((0, O))
    show = lambda x, known, epsilon, limit: np.clip(
        (x - known.mean(0)) / np.sqrt(known.var(0) + epsilon**2), -limit, limit
    )
    for chunk in chunks:  # what the outer shows while it learns
        state, told = jax.jit(agent.observe)(state, chunk), np.concatenate([told, chunk])
        seen = np.concatenate([seen, show(chunk, told, 0.1, 3.0)])
    for slot, expected in (("outer", told), ("inner", seen)):
        statistics = state.slots[slot]
        assert statistics.count.value == 13
        np.testing.assert_allclose(statistics.mean.value, expected.mean(0), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(statistics.squares.value / 13, expected.var(0), rtol=1e-4)
    both = lambda x: show(show(x, told, 0.1, 3.0), seen, 0.5, 1.0).astype(np.float32)
    assert_close(agent.act(state, chunks[0]), bare.act(state, both(chunks[0])), atol=1e-5)
    batch = some_batch()
    shown = batch.replace(
        observation=both(batch.observation), next_observation=both(batch.next_observation)
    )
    new, expected = (
        jax.jit(one.update)(state, rows, jax.random.key(1))[0]
        for one, rows in ((agent, batch), (bare, shown))
    )
    assert_close(new, expected, rtol=1e-3, atol=1e-5)
    assert equal(new.slots, state.slots)


@pytest.mark.parametrize("slot", ["normalizer", "mine"])
def test_a_slot_is_of_one_wrapper(slot):
    twice = normalize_observations(
        normalize_observations(default(small_ddpg), slot=slot), slot=slot
    )
    with pytest.raises(
        ValueError,
        match=f"slot='{slot}' is that of another wrapper around this agent: give this one another",
    ):
        twice.init(jax.random.key(0), jnp.zeros(O), jnp.zeros(A))


def test_an_agent_that_observes_is_told_through_the_wrapper():
    """It counts what it sees, in a slot of its own; it sees normalised observations."""
    bare = default(small_ddpg)

    def observe(state, observation):
        return state.replace(
            slots=state.slots | {"heard": state.slots["heard"] + jnp.sum(jnp.abs(observation))}
        )

    def init(*arguments):
        return with_slot(bare.init(*arguments), "heard", jnp.zeros(()))

    agent = normalize_observations(bare._replace(init=init, observe=observe), epsilon=1e-6)
    observed = np.array([[1.0, 10.0, 100.0], [3.0, 30.0, 300.0]], np.float32)
    state = jax.jit(agent.observe)(start(agent), observed)
    np.testing.assert_allclose(
        state.slots["heard"], 6.0, rtol=1e-5
    )  # each of the six is one deviation from the mean
    assert set(state.slots) == {"heard", "normalizer"}


def test_scaled_rewards():
    inner, batch, key = default(small_ddpg), some_batch(), jax.random.key(1)
    agent = scale_rewards(inner, 0.25)
    state = start(inner)
    expected = jax.jit(inner.update)(state, batch.replace(reward=0.25 * batch.reward), key)
    assert_close(jax.jit(agent.update)(state, batch, key), expected)
    assert not equal(
        expected[0].critic.params, jax.jit(inner.update)(state, batch, key)[0].critic.params
    )
    traced = jax.jit(lambda scale: scale_rewards(inner, scale).update(state, batch, key))
    assert_close(traced(0.25), expected)
    assert (agent.init, agent.act) == (inner.init, inner.act)
    watching = normalize_observations(inner)
    assert scale_rewards(watching, 0.25).observe is watching.observe


@pytest.mark.parametrize("name", ["ddpg normalize_observations", "ddpg scale_rewards"])
def test_wrappers_hand_on_the_weights(name):
    agent = default(AGENTS[name])
    update, state = jax.jit(agent.update), start(agent)
    loss = lambda weight: update(state, some_batch(), jax.random.key(1), weight).metrics[
        "critic_loss"
    ]
    assert loss(jnp.zeros(B)) == 0 < loss(jnp.ones(B))


class Head:
    """The actor on 4 features, whatever it is shown at first."""

    def init(self, key, _observation):
        return {"weights": jax.random.normal(key, (4, A))}

    def apply(self, params, features):
        return jnp.tanh(features @ params["weights"])


class EncodingCritic:
    """Its first layer is the encoder that the actor shares."""

    def init(self, key, _observation, _action):
        encoder, head = jax.random.split(key)
        return {
            "encoder": jax.random.normal(encoder, (O, 4)),
            "head": jax.random.normal(head, (4 + A,)),
        }

    def encode(self, params, observation):
        return jnp.tanh(observation @ params["encoder"])

    def apply(self, params, observation, action):
        return jnp.concatenate([self.encode(params, observation), action], axis=-1) @ params["head"]


def test_an_encoder_that_the_critic_trains_and_the_actor_uses():
    actor, critic, rate = Head(), EncodingCritic(), 0.01
    given = lambda params, encoder, observation: actor.apply(
        params, critic.encode(encoder, observation)
    )

    def critic_target(actor_params, critic_params, batch, key):
        action = given(actor_params, critic_params, batch.next_observation)
        return batch.reward + 0.9 * batch.discount * critic.apply(
            critic_params, batch.next_observation, action
        )

    def critic_loss(params, batch, target):
        error = target - critic.apply(params, batch.observation, batch.action)
        return CriticLoss(error**2, jnp.abs(error), {}, {})

    def actor_loss(params, critic_params, batch):
        action = given(params, jax.lax.stop_gradient(critic_params), batch.observation)
        return ActorLoss(-jnp.mean(critic.apply(critic_params, batch.observation, action)), {}, {})

    agent = make_agent(
        actor,
        critic,
        critic_target=critic_target,
        critic_loss=critic_loss,
        actor_loss=actor_loss,
        actor_optimizer=optax.sgd(rate),
        critic_optimizer=optax.sgd(rate),
        track_actor=soft_update(0.5),
        track_critic=soft_update(0.5),
        act=lambda state, observation: given(state.actor.params, state.critic.params, observation),
    )
    state, batch = start(agent), some_batch()
    new, priority, _ = jax.jit(agent.update)(state, batch, jax.random.key(1))
    target = critic_target(state.actor.target_params, state.critic.target_params, batch, None)
    slope = jax.grad(lambda params: jnp.mean(critic_loss(params, batch, target)[0]))(
        state.critic.params
    )
    taught = jax.tree.map(lambda x, g: x - rate * g, state.critic.params, slope)
    assert_close(new.critic.params, taught, rtol=1e-4, atol=1e-5)
    slope = jax.grad(lambda params: actor_loss(params, taught, batch)[0])(state.actor.params)
    assert_close(
        new.actor.params,
        jax.tree.map(lambda x, g: x - rate * g, state.actor.params, slope),
        atol=1e-5,
    )
    assert_close(new.critic.target_params, soft_update(0.5)(taught, state.critic.params), atol=1e-5)
    assert not np.any(new.critic.params["encoder"] == state.critic.params["encoder"])
    assert priority.shape == (B,)
    seen = batch.observation
    expected = np.tanh(
        np.tanh(seen @ np.asarray(new.critic.params["encoder"]))
        @ np.asarray(new.actor.params["weights"])
    )
    np.testing.assert_allclose(agent.act(new, seen), expected, rtol=1e-4, atol=1e-5)
    encoder = jax.tree.map(jnp.zeros_like, new.critic.params)
    np.testing.assert_array_equal(
        agent.act(new.replace(critic=new.critic.replace(params=encoder)), seen), np.zeros((B, A))
    )


# Learning rates, optimisers, numbers


def ends_after(steps, rate=0.1):
    return lambda count: jnp.where(count < steps, rate, 0.0)


@pytest.mark.parametrize(
    ("name", "actor_moves", "critic_moves"),
    [("ddpg", [1, 1, 0, 0], [1, 1, 1, 0]), ("td3", [1, 1, 0], [1, 1, 0])],
)
def test_learning_rate_schedules_count_the_networks_own_steps(name, actor_moves, critic_moves):
    # The actor stops after 2 of its steps, the critic after 3, which is in the middle of TD3's
    # second update.
    agent = AGENTS[name](
        actor_learning_rate=ends_after(2), critic_learning_rate=ends_after(3), optimizer=optax.sgd
    )
    update, state = jax.jit(agent.update), start(agent)
    for actor_moved, critic_moved in zip(actor_moves, critic_moves, strict=True):
        new, *_ = update(state, some_batch(), jax.random.key(1))
        assert equal(new.actor.params, state.actor.params) == (not actor_moved)
        assert equal(new.critic.params, state.critic.params) == (not critic_moved)
        state = new


def test_a_schedule_is_the_rate_it_names():
    # 0.1, then 0.02
    schedule = lambda count: jnp.where(count == 0, 0.1, 0.02)
    sgd = {"optimizer": optax.sgd}
    agents = [
        small_ddpg(actor_learning_rate=rate, critic_learning_rate=rate, **sgd)
        for rate in (schedule, 0.1, 0.02)
    ]
    state, batch, key = start(agents[0]), some_batch(), jax.random.key(1)
    scheduled = [state]
    for _ in range(2):
        scheduled.append(jax.jit(agents[0].update)(scheduled[-1], batch, key)[0])
    for agent, before, after in zip(agents[1:], scheduled, scheduled[1:], strict=False):
        fixed = start(agent)
        fixed = fixed.replace(
            actor=before.actor.replace(opt_state=fixed.actor.opt_state),
            critic=before.critic.replace(opt_state=fixed.critic.opt_state),
        )
        expected, *_ = jax.jit(agent.update)(fixed, batch, key)
        assert_close(
            (after.actor.params, after.critic.params),
            (expected.actor.params, expected.critic.params),
        )


@pytest.mark.parametrize("rate", [-1e-3, float("nan"), float("inf")])
@pytest.mark.parametrize("updates", [0, 100])
def test_a_rate_that_falls_is_checked_like_one_that_does_not(rate, updates):
    with pytest.raises(ValueError, match=f"^learning_rate={rate}: must be"):
        annealed(rate, updates)


@pytest.mark.parametrize("name", ["ddpg", "td3"])
def test_gradients_are_clipped_by_their_global_norm(name):
    def clipped(rate):
        return optax.chain(optax.clip_by_global_norm(0.01), optax.sgd(rate))

    hyperparameters = {"policy_delay": 1} if name == "td3" else {}
    agent = AGENTS[name](
        actor_learning_rate=0.5,
        critic_learning_rate=2.0,
        critic_weight_decay=0.0,
        optimizer=clipped,
        **hyperparameters,
    )
    free = AGENTS[name](
        actor_learning_rate=0.5,
        critic_learning_rate=2.0,
        critic_weight_decay=0.0,
        optimizer=optax.sgd,
        **hyperparameters,
    )
    state = start(agent)
    step = lambda agent, state: jax.tree.map(
        lambda new, old: new - old,
        jax.jit(agent.update)(state, some_batch(), jax.random.key(1))[0].critic.params,
        state.critic.params,
    )
    taken, whole = step(agent, state), step(free, start(free))
    np.testing.assert_allclose(optax.tree.norm(taken), 0.01 * 2.0, rtol=1e-3)
    assert optax.tree.norm(whole) > 0.1
    shrunk = jax.tree.map(lambda x: x * 0.02 / optax.tree.norm(whole), whole)
    assert_close(taken, shrunk, rtol=0.01, atol=1e-6)  # the direction is kept


@pytest.mark.parametrize(
    ("name", "hyperparameters", "message"),
    [
        *(
            (name, {"target_noise": -0.1}, "target_noise=-0.1: must be at least 0")
            for name in sorted(DELAYED)
        ),
        *(
            (name, {"target_noise_clip": -1}, "target_noise_clip=-1: must be at least 0")
            for name in sorted(DELAYED)
        ),
        *(
            (name, {"policy_delay": 0}, "policy_delay=0: must be at least 1")
            for name in sorted(DELAYED)
        ),
        *(
            (name, {"num_critics": 0}, "num_critics=0: must be at least 1")
            for name in sorted(DELAYED)
        ),
        *(
            (
                name,
                {"v_min": low, "v_max": high},
                f"v_min={low}, v_max={high}: v_min must be less than v_max",
            )
            for name in ("d4pg", "td3_categorical")
            for low, high in ((1.0, 1.0), (2.0, -2.0), (0.0, float("nan")))
        ),
        *(
            (name, {"v_max": float("inf")}, "v_max=inf: must be a finite number")
            for name in ("d4pg", "td3_categorical")
        ),
        *(
            (name, {rate: bad}, f"{rate}={bad}: must be ")
            for name in ("ddpg", "d4pg")
            for rate in ("actor_learning_rate", "critic_learning_rate", "critic_weight_decay")
            for bad in (float("inf"), float("nan"))
        ),
    ],
)
def test_numbers_of_one_algorithm_out_of_range(name, hyperparameters, message):
    with pytest.raises(ValueError, match=message):
        AGENTS[name](**hyperparameters)


@pytest.mark.parametrize(
    ("wrap", "message"),
    [
        (lambda agent: scale_rewards(agent, -1.0), "scale=-1.0: must be"),
        (lambda agent: normalize_observations(agent, epsilon=-1e-3), "epsilon=-0.001: must be"),
        (lambda agent: normalize_observations(agent, limit=-5), "limit=-5: must be"),
    ],
)
def test_numbers_of_wrappers_out_of_range(wrap, message):
    with pytest.raises(ValueError, match=message):
        wrap(default(small_ddpg))
