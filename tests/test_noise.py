"""Noises on actions: each fulfils the contract, and adds what its definition says."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats

from ddpg_jax import noise
from ddpg_jax.types import Noise

E, A = 6, 3

# A new noise is one row here.
NOISES = {
    "gaussian": noise.gaussian(0.1),
    "gaussian per dimension": noise.gaussian(jnp.array([0.1, 0.2, 0.3])),
    "gaussian per environment": noise.gaussian(jnp.linspace(0.0, 1.0, E)[:, None]),
    "gaussian schedule": noise.gaussian(optax.linear_schedule(1.0, 0.0, 5)),
    "gaussian per episode": noise.gaussian_per_episode(0.1, 0.4),
    "ornstein_uhlenbeck": noise.ornstein_uhlenbeck(),
    "ornstein_uhlenbeck never reset": noise.ornstein_uhlenbeck(
        jnp.full(A, 0.3), dt=0.5, reset_at_episode_start=False
    ),
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

    return jax.jit(lambda keys: jax.lax.scan(step, link.init(jax.random.key(0), action), keys))(
        keys
    )[1]


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
    np.testing.assert_allclose(
        np.mean(eps, 0), np.zeros(A), atol=0.01
    )  # standard error 0.3 / sqrt(20000) = 0.002
    np.testing.assert_allclose(np.std(eps, 0), np.full(A, 0.3), rtol=0.03)
    np.testing.assert_allclose(np.corrcoef(eps.T), np.eye(A), atol=0.03)
    np.testing.assert_allclose(np.mean(np.abs(eps) < 0.3, 0), np.full(A, 0.683), atol=0.015)


def test_stddev_per_dimension_and_per_environment():
    keys = jax.random.split(jax.random.key(1), 4000)
    action = jnp.zeros((E, A))
    per_dimension, per_environment = np.array([0.0, 0.1, 0.4]), np.linspace(0.0, 1.0, E)
    stds = np.std(
        applied(noise.gaussian(jnp.asarray(per_dimension, jnp.float32)), action, keys), axis=0
    )
    np.testing.assert_allclose(stds, np.tile(per_dimension, (E, 1)), rtol=0.06)
    stds = np.std(
        applied(noise.gaussian(jnp.asarray(per_environment, jnp.float32)[:, None]), action, keys),
        axis=0,
    )
    np.testing.assert_allclose(stds, np.tile(per_environment[:, None], (1, A)), rtol=0.06)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        # 1 - step/4, then 0
        (optax.linear_schedule(1.0, 0.0, 4), [1.0, 0.75, 0.5, 0.25, 0.0, 0.0]),
        (lambda step: jnp.where(step < 2, 0.5, 2.0), [0.5, 0.5, 2.0, 2.0, 2.0, 2.0]),
        (
            lambda step: jnp.full((E, 1), 0.5) ** step.astype(jnp.float32),
            [1, 1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32],
        ),
    ],
    ids=["optax", "function", "per environment"],
)
def test_schedule_scales_over_steps(schedule, expected):
    action, keys = jnp.zeros((E, A)), jax.random.split(jax.random.key(1), 6)
    unit, scaled = (applied(noise.gaussian(s), action, keys) for s in (1.0, schedule))
    close(scaled, np.asarray(unit) * np.array(expected)[:, None, None])
    # The same through the process: x_0 = scale_0 eps_0 and, with theta 1 and dt 1, x_t = scale_t
    # eps_t.
    unit, scaled = (
        applied(noise.ornstein_uhlenbeck(s, theta=1.0), action, keys) for s in (1.0, schedule)
    )
    close(scaled, np.asarray(unit) * np.array(expected)[:, None, None])


def test_ornstein_uhlenbeck_step_by_hand():
    theta, dt, stddev = 0.15, 0.25, 0.2
    link, action, keys = (
        noise.ornstein_uhlenbeck(stddev, theta=theta, dt=dt),
        draw(),
        jax.random.split(jax.random.key(1)),
    )
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
    x = np.asarray(applied(noise.ornstein_uhlenbeck(), jnp.zeros((environments, 2)), keys))[
        burn_in:
    ]
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
    out, _ = noise.clip(jnp.array([-1.0, -0.1, 0.0]), jnp.array([0.0, 0.1, 0.2])).apply(
        (), action, None, None
    )
    np.testing.assert_array_equal(out, np.array([[-1.0, 0.1, 0.2], [0.0, -0.1, 0.05]], np.float32))


def test_chain_applies_from_left_to_right():
    def link(function):
        return Noise(
            lambda key, action: (), lambda state, action, key, reset: (function(action), state)
        )

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
    assert (
        abs(np.corrcoef(np.ravel(scale), np.ravel((out - action) / scale))[0, 1]) < 0.03
    )  # a key for each
    # The same bounds twice are a fixed scale.
    _, fixed = noise.gaussian_per_episode(0.25, 0.25).apply(scale, action, jax.random.key(1), reset)
    np.testing.assert_array_equal(fixed, np.full((count, 1), 0.25, np.float32))
    _, traced = jax.jit(
        lambda low: noise.gaussian_per_episode(low, 0.4).apply(
            scale, action, jax.random.key(1), reset
        )
    )(0.1)
    close(traced, scale)
