import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats

from ddpg_jax import agents, networks, noise, replay, train
from ddpg_jax.behaviour import explore, noisy_network, parameter_noise, random_actions
from ddpg_jax.envs import Single, batch
from ddpg_jax.types import Agent, AgentState, Environment, NetworkState, Noise, Transition

E, A = 6, 3

# A new noise is one row here.
NOISES = {
    "gaussian": noise.gaussian(0.1),
    "gaussian per dimension": noise.gaussian(jnp.array([0.1, 0.2, 0.3])),
    "gaussian per environment": noise.gaussian(jnp.linspace(0.0, 1.0, E)[:, None]),
    "gaussian schedule": noise.gaussian(optax.linear_schedule(1.0, 0.0, 5)),
    "gaussian per episode": noise.gaussian_per_episode(0.1, 0.4),
    "ornstein_uhlenbeck": noise.ornstein_uhlenbeck(),
    "ornstein_uhlenbeck never reset": noise.ornstein_uhlenbeck(jnp.full(A, 0.3), dt=0.5, reset_at_episode_start=False),
    "clip": noise.clip(-0.5, jnp.array([0.1, 0.2, 0.3])),
    "chain": noise.chain(noise.ornstein_uhlenbeck(), noise.gaussian(0.1), noise.clip()),
}
every_noise = pytest.mark.parametrize("name", NOISES)


def draw(seed=0, shape=(E, A), dtype=jnp.float32):
    return jax.random.uniform(jax.random.key(seed), shape, dtype, -1, 1)


def inputs(dtype=jnp.float32):
    """Actions, a key, and the flags of an episode's start in two environments."""
    return draw(dtype=dtype), jax.random.key(1), jnp.arange(E) % 3 == 0


def moved(link, action):
    """A state after two steps, so that nothing is zero by chance."""
    state = link.init(jax.random.key(7), action)
    for seed in (8, 9):
        _, state = link.apply(state, action, jax.random.key(seed), jnp.zeros(E, bool))
    return state


def assert_trees(check, a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(check, a, b)


def types(tree):
    return jax.tree.map(lambda x: (x.shape, x.dtype, x.weak_type), tree)


def close(a, b):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def applied(link, action, keys, reset=None):
    """The noisy actions ``[T, E, A]`` of a scan over keys, from a new state."""
    reset = jnp.zeros(action.shape[0], bool) if reset is None else reset

    def step(state, key):
        action_out, state = link.apply(state, action, key, reset)
        return state, action_out

    return jax.jit(lambda keys: jax.lax.scan(step, link.init(jax.random.key(0), action), keys))(keys)[1]


@every_noise
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_shape_dtype_and_state_are_kept(name, dtype):
    link, (action, key, reset) = NOISES[name], inputs(dtype)
    state = link.init(key, action)
    out, new_state = jax.eval_shape(link.apply, state, action, key, reset)
    assert (out.shape, out.dtype) == (action.shape, dtype)
    assert types(new_state) == types(state)


@every_noise
def test_same_key_same_result_and_jit_changes_nothing(name):
    link, (action, key, reset) = NOISES[name], inputs()
    state, before = moved(link, action), np.array(action)
    first = link.apply(state, action, key, reset)
    assert_trees(np.testing.assert_array_equal, link.apply(state, action, key, reset), first)
    assert_trees(close, jax.jit(link.apply)(state, action, key, reset), first)
    np.testing.assert_array_equal(action, before)
    other, _ = link.apply(state, action, jax.random.key(2), reset)
    assert np.array_equal(other, first[0]) == (name == "clip")  # all but clip draw


@every_noise
def test_vmap_is_the_loop(name):
    link, members = NOISES[name], 3
    actions, keys = draw(shape=(members, E, A)), jax.random.split(jax.random.key(1), members)
    resets = jnp.arange(members * E).reshape(members, E) % 2 == 0
    states = jax.vmap(link.init)(keys, actions)
    out, new_states = jax.vmap(link.apply)(states, actions, keys, resets)
    apply = jax.jit(link.apply)
    for i in range(members):
        expected = apply(jax.tree.map(lambda x: x[i], states), actions[i], keys[i], resets[i])  # noqa: B023
        assert_trees(close, (out[i], jax.tree.map(lambda x: x[i], new_states)), expected)  # noqa: B023


@every_noise
def test_scan_is_the_loop_and_traces_once(name):
    link, (action, key, reset), traces = NOISES[name], inputs(), []

    @jax.jit
    def apply(state, action, key, reset):
        traces.append(None)
        return link.apply(state, action, key, reset)

    keys, state, looped = jax.random.split(key, 4), link.init(jax.random.key(0), action), []
    for k in keys:
        out, state = apply(state, action, k, reset)
        looped.append(out)
    assert len(traces) == 1
    close(applied(link, action, keys, reset), np.stack(looped))


def test_gaussian_is_standard_normal_times_stddev():
    action = draw(shape=(20_000, A))
    eps = applied(noise.gaussian(0.3), action, jax.random.split(jax.random.key(1), 1))[0] - action
    np.testing.assert_allclose(np.mean(eps, 0), np.zeros(A), atol=0.01)  # standard error 0.3 / sqrt(20000) = 0.002
    np.testing.assert_allclose(np.std(eps, 0), np.full(A, 0.3), rtol=0.03)
    np.testing.assert_allclose(np.corrcoef(eps.T), np.eye(A), atol=0.03)
    np.testing.assert_allclose(np.mean(np.abs(eps) < 0.3, 0), np.full(A, 0.683), atol=0.015)


def test_stddev_per_dimension_and_per_environment():
    keys = jax.random.split(jax.random.key(1), 4000)
    action = jnp.zeros((E, A))
    per_dimension, per_environment = np.array([0.0, 0.1, 0.4]), np.linspace(0.0, 1.0, E)
    stds = np.std(applied(noise.gaussian(jnp.asarray(per_dimension, jnp.float32)), action, keys), axis=0)
    np.testing.assert_allclose(stds, np.tile(per_dimension, (E, 1)), rtol=0.06)
    stds = np.std(applied(noise.gaussian(jnp.asarray(per_environment, jnp.float32)[:, None]), action, keys), axis=0)
    np.testing.assert_allclose(stds, np.tile(per_environment[:, None], (1, A)), rtol=0.06)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        # 1 - step/4, then 0
        (optax.linear_schedule(1.0, 0.0, 4), [1.0, 0.75, 0.5, 0.25, 0.0, 0.0]),
        (lambda step: jnp.where(step < 2, 0.5, 2.0), [0.5, 0.5, 2.0, 2.0, 2.0, 2.0]),
        (lambda step: jnp.full((E, 1), 0.5) ** step.astype(jnp.float32), [1, 1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32]),
    ],
    ids=["optax", "function", "per environment"],
)
def test_schedule_scales_over_steps(schedule, expected):
    action, keys = jnp.zeros((E, A)), jax.random.split(jax.random.key(1), 6)
    unit, scaled = (applied(noise.gaussian(s), action, keys) for s in (1.0, schedule))
    close(scaled, np.asarray(unit) * np.array(expected)[:, None, None])
    # The same through the process: x_0 = scale_0 eps_0 and, with theta 1 and dt 1, x_t = scale_t eps_t.
    unit, scaled = (applied(noise.ornstein_uhlenbeck(s, theta=1.0), action, keys) for s in (1.0, schedule))
    close(scaled, np.asarray(unit) * np.array(expected)[:, None, None])


def test_ornstein_uhlenbeck_step_by_hand():
    theta, dt, stddev = 0.15, 0.25, 0.2
    link, action, keys = noise.ornstein_uhlenbeck(stddev, theta=theta, dt=dt), draw(), jax.random.split(jax.random.key(1))
    reset = jnp.zeros(E, bool)
    unit = noise.ornstein_uhlenbeck(1.0, theta=0.0, dt=1.0)  # a + eps
    eps = [np.asarray(applied(unit, jnp.zeros((E, A)), key[None])[0]) for key in keys]
    first, state = link.apply(link.init(keys[0], action), action, keys[0], reset)
    # From 0: x_1 = 0.2 * sqrt(0.25) * eps = 0.1 eps
    close(first, action + 0.1 * eps[0])
    second, state = link.apply(state, action, keys[1], reset)
    # x_2 = x_1 - 0.15 * 0.25 * x_1 + 0.1 eps = 0.9625 x_1 + 0.1 eps
    x = 0.9625 * 0.1 * eps[0] + 0.1 * eps[1]
    close(second, action + x)
    close(state.x, x)
    assert state.step == 2


def test_ornstein_uhlenbeck_is_stationary_at_0_380_and_correlated():
    environments, burn_in = 500, 60
    keys = jax.random.split(jax.random.key(1), burn_in + 40)
    x = np.asarray(applied(noise.ornstein_uhlenbeck(), jnp.zeros((environments, 2)), keys))[burn_in:]
    # 0.2 / sqrt(1 - 0.85^2) = 0.2 / 0.5268 = 0.380
    assert abs(np.std(x) - 0.380) < 0.01
    assert abs(np.mean(x)) < 0.02
    assert abs(np.corrcoef(x[:-1].ravel(), x[1:].ravel())[0, 1] - 0.85) < 0.01  # 1 - theta dt
    assert abs(np.corrcoef(x[..., 0].ravel(), x[..., 1].ravel())[0, 1]) < 0.1


@pytest.mark.parametrize("resets", [True, False])
def test_ornstein_uhlenbeck_resets_only_what_is_flagged(resets):
    link, (action, key, reset) = noise.ornstein_uhlenbeck(reset_at_episode_start=resets), inputs()
    state = moved(link, action)
    _, kept = link.apply(state, action, key, jnp.zeros(E, bool))
    _, new = link.apply(state, action, key, reset)
    _, fresh = link.apply(link.init(key, action), action, key, reset)
    assert np.all(np.abs(kept.x - fresh.x) > 1e-6)
    expected = np.where(np.asarray(reset & resets)[:, None], fresh.x, kept.x)
    np.testing.assert_array_equal(new.x, expected)


def test_clip_bounds_each_dimension():
    action = jnp.array([[-2.0, 0.5, 3.0], [0.0, -0.3, 0.05]])
    out, _ = noise.clip().apply((), action, None, None)
    np.testing.assert_array_equal(out, np.array([[-1.0, 0.5, 1.0], [0.0, -0.3, 0.05]], np.float32))
    out, _ = noise.clip(jnp.array([-1.0, -0.1, 0.0]), jnp.array([0.0, 0.1, 0.2])).apply((), action, None, None)
    np.testing.assert_array_equal(out, np.array([[-1.0, 0.1, 0.2], [0.0, -0.1, 0.05]], np.float32))


def test_chain_applies_from_left_to_right():
    def link(function):
        return Noise(lambda key, action: (), lambda state, action, key, reset: (function(action), state))

    add, double = link(lambda x: x + 1), link(lambda x: 2 * x)
    action, key, reset = jnp.full((E, A), 3.0), jax.random.key(0), jnp.zeros(E, bool)
    out, _ = noise.chain(add, double).apply(((), ()), action, key, reset)
    np.testing.assert_array_equal(out, np.full((E, A), 8.0))  # 2 * (3 + 1)
    out, _ = noise.chain(double, add).apply(((), ()), action, key, reset)
    np.testing.assert_array_equal(out, np.full((E, A), 7.0))  # 2 * 3 + 1


def test_chain_gives_each_link_a_key_and_a_state_of_its_own():
    keeps_key = Noise(lambda key, action: key, lambda state, action, key, reset: (action, key))
    link, (action, key, reset) = noise.chain(keeps_key, keeps_key, keeps_key), inputs()
    initial = link.init(key, action)
    _, state = link.apply(initial, action, key, reset)
    for keys in (initial, state):
        assert len({bytes(np.asarray(jax.random.key_data(k))) for k in (*keys, key)}) == 4
    two = noise.chain(noise.gaussian(1.0), noise.gaussian(1.0))
    wide = jnp.zeros((20_000, 1))
    total = applied(two, wide, key[None])
    assert abs(np.std(total) - np.sqrt(2)) < 0.03  # independent: sqrt(1 + 1); one key for both: 2


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: noise.gaussian(-0.1), "stddev=-0.1: must be at least 0"),
        (lambda: noise.gaussian(jnp.array([0.1, -0.1])), "stddev.*at least 0"),
        (lambda: noise.gaussian(float("nan")), "stddev=nan: must be at least 0"),
        (lambda: noise.ornstein_uhlenbeck(-0.2), "stddev=-0.2: must be at least 0"),
        (lambda: noise.ornstein_uhlenbeck(theta=-1.0), "theta=-1.0: must be at least 0"),
        (lambda: noise.ornstein_uhlenbeck(dt=-1.0), "dt=-1.0: must be at least 0"),
        (lambda: noise.gaussian_per_episode(-0.1, 0.4), "low=-0.1: must be at least 0"),
        (lambda: noise.gaussian_per_episode(0.1, float("nan")), "high=nan: must be at least 0"),
        (lambda: noise.gaussian_per_episode(0.4, 0.1), "low=0.4"),
        (lambda: parameter_noise(*linear(), -0.1), "stddev=-0.1: must be at least 0"),
        (lambda: parameter_noise(*linear(), adaptation=0.9), "adaptation=0.9: must be at least 1"),
        (lambda: parameter_noise(*linear(), adapt_every=0), "adapt_every=0: must be at least 1"),
    ],
)
def test_numbers_out_of_range(build, message):
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize("build", [noise.gaussian, noise.ornstein_uhlenbeck])
def test_traced_stddev(build):
    action, key, reset = inputs()
    stddevs = jnp.array([0.0, 0.1, 0.5])

    @jax.jit
    def run(stddev):
        link = build(stddev)
        return link.apply(link.init(key, action), action, key, reset)[0]

    together = jax.vmap(run)(stddevs)
    np.testing.assert_array_equal(together[0], action)
    for stddev, out in zip(stddevs, together, strict=True):
        link = build(float(stddev))
        close(out, link.apply(link.init(key, action), action, key, reset)[0])
    assert np.all(together[1] != together[2])
    close(jax.jacfwd(run)(0.3), run(1.0) - run(0.0))  # linear in stddev


def test_explore_is_the_agents_action_plus_noise():
    agent = Agent(init=None, act=lambda state, observation: state * observation, update=None)
    link, (action, key, reset) = noise.ornstein_uhlenbeck(), inputs()
    behaviour = explore(agent, link)
    state = moved(link, action)
    assert_trees(np.testing.assert_array_equal, behaviour.init(key, action), link.init(key, action))
    out = behaviour.act(state, jnp.float32(0.5), action, key, reset)
    assert_trees(np.testing.assert_array_equal, out, link.apply(state, 0.5 * action, key, reset))


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


def test_scale_per_episode_is_redrawn_where_an_episode_begins():
    link, count, rng = noise.gaussian_per_episode(0.001, 0.4), 50, np.random.default_rng(0)
    action, resets = jnp.zeros((count, A)), rng.uniform(size=(30, count)) < 0.2
    resets[0] = True

    def step(state, inputs):
        out, state = link.apply(state, action, *inputs)
        return state, (out, state)

    keys, begun = jax.random.split(jax.random.key(1), 30), link.init(jax.random.key(0), action)
    out, scales = jax.jit(lambda *inputs: jax.lax.scan(step, begun, inputs)[1])(keys, resets)
    assert (scales.shape, scales.dtype) == ((30, count, 1), jnp.float32)
    np.testing.assert_array_equal(scales[1:, :, 0] != scales[:-1, :, 0], resets[1:])
    drawn = np.asarray(scales)[resets].ravel()
    assert len(np.unique(drawn)) == resets.sum()  # every environment its own
    # What is added is standard normal times that scale, for each action dimension by itself.
    assert stats.kstest(np.ravel(out / scales), "norm").pvalue > 1e-3
    assert np.all(out[..., 0] != out[..., 1])


def test_scale_per_episode_is_uniform():
    count = 20_000
    link, reset = noise.gaussian_per_episode(0.1, 0.4), jnp.ones(count, bool)
    action = draw(shape=(count, 1))
    out, scale = link.apply(link.init(jax.random.key(0), action), action, jax.random.key(1), reset)
    assert np.float32(0.1) <= scale.min() < 0.1001
    assert 0.3999 < scale.max() <= np.float32(0.4)
    assert stats.kstest(np.ravel(scale), stats.uniform(0.1, 0.3).cdf).pvalue > 1e-3
    assert stats.kstest(np.ravel((out - action) / scale), "norm").pvalue > 1e-3
    assert abs(np.corrcoef(np.ravel(scale), np.ravel((out - action) / scale))[0, 1]) < 0.03  # a key for each
    # The same bounds twice are a fixed scale.
    _, fixed = noise.gaussian_per_episode(0.25, 0.25).apply(scale, action, jax.random.key(1), reset)
    np.testing.assert_array_equal(fixed, np.full((count, 1), 0.25, np.float32))
    _, traced = jax.jit(lambda low: noise.gaussian_per_episode(low, 0.4).apply(scale, action, jax.random.key(1), reset))(0.1)
    close(traced, scale)


def agent_state(actor_params, carried=None):
    network = NetworkState(params=actor_params, target_params=(), opt_state=(), batch_stats=carried or {})
    return AgentState(actor=network, critic=NetworkState((), (), ()), step=jnp.zeros((), jnp.int32))


def linear(inputs=4, count=E):
    """An agent ``mu(s) = s W``, and shapes of ``count`` environments."""
    init = lambda key, observation, action: agent_state({"W": jnp.ones((observation.shape[-1], action.shape[-1]))})
    act = lambda state, observation: observation @ state.actor.params["W"]
    shapes = (jax.ShapeDtypeStruct((inputs,), jnp.float32), jax.ShapeDtypeStruct((A,), jnp.float32))
    env = Environment(reset=None, step=None, num_envs=count, observation=shapes[0], action=shapes[1], time_limit=10)
    return Agent(init, act, None), env


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
    """All environments begin an episode in every step: the pool turns over, so that one meets many perturbations."""
    behaviour = parameter_noise(*linear(), 1.0)
    state, seen = begin(behaviour), []
    act = jax.jit(behaviour.act)
    for t in range(60):
        _, state = act(state, weights(0), draw(0, (E, 4)), jax.random.key(t), jnp.ones(E, bool))
        seen.append(np.asarray(state.params["W"])[:, 0, 0])
    fresh = len(np.unique(seen))
    assert fresh == E + 59  # the pool at first, less the one that step 0 overwrites, and a fresh one in each of 60 steps
    assert min(len(np.unique(np.array(seen)[:, e])) for e in range(E)) > 20


def test_parameter_noise_leaves_layer_normalisation_alone():
    actor = networks.Actor(A, hidden=(5,), norm=networks.LayerNorm)
    init = lambda key, observation, action: agent_state(actor.init(key, observation))
    behaviour = parameter_noise(Agent(init, lambda state, x: actor.apply(state.actor.params, x), None), linear()[1], 0.3)
    learner = jax.jit(init)(jax.random.key(0), jnp.zeros(4), None)
    state = begin(behaviour)
    _, state = jax.jit(behaviour.act)(state, learner, draw(0, (E, 4)), jax.random.key(2), jnp.ones(E, bool))
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
        _, state = act(state, learner, draw(t, (E, 4)), jax.random.key(t), jnp.arange(E) % 2 == t % 2)
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
        observation=observation, action=jnp.zeros((count, A)), reward=zeros, discount=zeros, next_observation=observation
    )


def test_parameter_noise_varies_the_actions_by_about_delta():
    """A linear actor of 100 inputs of unit variance: the action's deviation is sigma sqrt(100), so sigma goes to delta / 10."""
    (agent, env), delta = linear(inputs=100, count=8), 0.2
    behaviour, learner = parameter_noise(agent, env, delta, adaptation=1.05, adapt_every=2), weights(0, 100)

    def step(state, keys):
        observation, replayed = (jax.random.normal(key, (n, 100)) for key, n in zip(keys[:2], (8, 32), strict=True))
        action, state = behaviour.act(state, learner, observation, keys[2], jnp.ones(8, bool))
        return behaviour.adapt(state, learner, items_of(replayed)), (action - agent.act(learner, observation), state.stddev)

    begun, keys = begin(behaviour, 8), jax.random.split(jax.random.key(1), (240, 3))
    added, stddev = jax.jit(lambda keys: jax.lax.scan(step, begun, keys)[1])(keys)
    np.testing.assert_array_equal(stddev[:2], np.float32([delta, delta]))
    # From delta to delta / 10 at 1.05 in every second step: ln 10 / ln 1.05 = 47.2 adaptations, 95 steps.
    assert abs(np.mean(stddev[120:]) / (delta / 10) - 1) < 0.1
    assert abs(np.std(added[120:]) / delta - 1) < 0.1
    assert np.std(added[:2]) > 5 * delta


def test_parameter_noise_under_vmap_is_the_loop():
    agent, env = linear()
    behaviour, members = parameter_noise(agent, env, 0.3, adapt_every=1), 3
    observation, data = draw(3, (E, 4)), items_of(draw(9, (8, 4)))

    def run(key, learner):
        def step(state, key):
            action, state = behaviour.act(state, learner, observation, key, jax.random.bernoulli(key, 0.5, (E,)))
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
    step = lambda state, action, key: (state + 1, see(state + 1), jnp.float32(0), jnp.zeros((), bool))
    return Single(lambda key: (jnp.zeros(()), see(jnp.zeros(()))), step, 1)


def still(agent):
    """The agent, learning nothing."""
    return agent._replace(update=lambda state, batch, key: (state, {"td_error": batch.reward}))


def test_parameter_noise_in_training():
    """The actions in an episode of 5 steps are those of one linear policy ``w_0 + w_1 t``; the next has another."""
    agent, env = still(linear()[0]), batch(counting(), 4, 5)
    behaviour = parameter_noise(agent, env, 0.2, adaptation=1.1, adapt_every=2)
    functions = train.make_train(
        agent, env, replay.uniform(80, 4), behaviour, learning_starts=40, steps_per_chunk=40, warm_up=behaviour
    )
    state = jax.jit(lambda key: functions.warm_up(functions.init(key)))(jax.random.key(0))
    assert state.collector.behaviour.step == 10
    state, _ = jax.jit(functions.chunk)(state)
    assert state.collector.behaviour.step == 20
    # The batches' observations are 1 and up to 4: d is above delta or below it, five times: 0.2 * 1.1^k, k odd.
    power = np.log(state.collector.behaviour.stddev / 0.2) / np.log(1.1)
    np.testing.assert_allclose(power, np.round(power), atol=1e-3)
    assert np.round(power) % 2 == 1
    actions = np.asarray(state.replay.storage.action).reshape(4, 5, 4)  # [episode, step, environment]
    slopes = np.diff(actions, axis=1)
    np.testing.assert_allclose(slopes, np.broadcast_to(slopes[:, :1], slopes.shape), atol=1e-5)
    assert len(np.unique(slopes[:, 0].round(5))) == 16  # episodes times environments
    np.testing.assert_array_equal(state.agent.actor.params["W"], np.ones((2, 1)))


@pytest.mark.parametrize(("collect_steps", "before"), [(1, 7), (2, 7), (3, 6)])
def test_parameter_noise_adapts_however_the_rounds_fall(collect_steps, before):
    """48 vector steps, one call of ``adapt`` after every ``collect_steps`` as in training, an adaptation in every 4th.

    ``before`` steps were a warm-up and do not count. Sigma begins far below delta: every adaptation multiplies it by 1.1.
    """
    agent, env = linear()
    behaviour = parameter_noise(agent, env, 0.1, adaptation=1.1, adapt_every=4)
    learner, observation, data = weights(0), draw(1, (E, 4)), items_of(draw(2, (8, 4)))

    def step(state, key):
        return behaviour.act(state, learner, observation, key, jnp.zeros(E, bool))[1], None

    def one_round(state, keys):
        return behaviour.adapt(jax.lax.scan(step, state, keys)[0], learner, data), None

    @jax.jit
    def run(key):
        state = dataclasses.replace(behaviour.init(key, jnp.zeros((E, A))), stddev=jnp.float32(1e-6))
        state = jax.lax.scan(step, state, jax.random.split(key, before))[0]
        return jax.lax.scan(one_round, state, jax.random.split(key, (48 // collect_steps, collect_steps)))[0]

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
    before = jax.tree.map(lambda x: np.asarray(jax.random.key_data(x)) if noise.is_key(x) else np.array(x), learner)
    # The deterministic action is that of the means alone.
    params = learner.actor.params["params"]
    layers = [(layer["kernel"], layer["bias"]) for layer in params.values()]
    (kernel, bias), (last, last_bias) = (tuple(map(np.asarray, layer)) for layer in layers)
    means = np.tanh(np.maximum(np.asarray(observation) @ kernel + bias, 0) @ last + last_bias)
    close(agent.act(learner, observation), means)

    noisy_actions = [act(state, learner, observation, jax.random.key(t), reset)[0] for t in range(5)]
    assert len(np.unique(noisy_actions)) == 5 * E * A
    assert np.all(noisy_actions != means)
    np.testing.assert_array_equal(act(state, learner, observation, jax.random.key(0), reset)[0], noisy_actions[0])
    close(agent.act(learner, observation), means)
    after = jax.tree.map(lambda x: np.asarray(jax.random.key_data(x)) if noise.is_key(x) else np.array(x), learner)
    assert_trees(np.testing.assert_array_equal, after, before)


def test_noisy_network_adds_what_the_paper_says():
    """One linear layer, ``y_j - mean_j = sigma f(e_j) (sum_i f(e_i) x_i + 1)`` with sigma = 0.5 / sqrt(4) = 0.25."""
    agent, learner = noisy(lambda x: x, hidden=())
    behaviour, observation = noisy_network(agent), jnp.array([[1.0, 0.5, -1.0, 2.0]])
    act = lambda key: behaviour.act((), learner, observation, key, jnp.zeros(1, bool))[0][0]
    added = jax.jit(jax.vmap(act))(jax.random.split(jax.random.key(1), 20_000)) - agent.act(learner, observation)
    # E f(e)^2 = E|e| = sqrt(2 / pi) = 0.798: variance 0.0625 * 0.798 * (0.798 * (1 + 0.25 + 1 + 4) + 1) = 0.2986
    np.testing.assert_allclose(np.mean(added, 0), np.zeros(A), atol=0.02)
    np.testing.assert_allclose(np.var(added, 0), np.full(A, 0.2986), rtol=0.06)


def test_noisy_network_wants_noisy_layers():
    agent, _ = linear()
    with pytest.raises(ValueError, match="noisy_network: the actor has no noisy layer; make it with networks"):
        noisy_network(agent).act((), weights(0), draw(0, (E, 4)), jax.random.key(0), jnp.zeros(E, bool))
