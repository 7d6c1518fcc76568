import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddpg_jax import losses


@pytest.fixture(scope="module")
def rlax():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import rlax

        return rlax


def test_td_target_by_hand():
    reward = jnp.array([1.0, -2.0, 0.5])
    discount = jnp.array([1.0, 1.0, 0.5])
    next_value = jnp.array([10.0, 4.0, 8.0])
    # 1 + 0.9*1*10 = 10;  -2 + 0.9*1*4 = 1.6;  0.5 + 0.9*0.5*8 = 4.1
    np.testing.assert_allclose(
        losses.td_target(reward, discount, next_value, 0.9), [10.0, 1.6, 4.1], rtol=1e-6
    )


def test_td_target_discount_0_cuts_the_next_value():
    reward, discount = jnp.array([3.0, 3.0]), jnp.zeros(2)
    target = losses.td_target(reward, discount, jnp.array([1e6, -1e6]), 0.99)
    np.testing.assert_array_equal(target, reward)


def test_squared_error_by_hand():
    # (4 - 1)^2 = 9, (0 - 2)^2 = 4, (5 - 5)^2 = 0, (1 - 0)^2 = 1
    value, target = jnp.array([1.0, 2.0, 5.0, 0.0]), jnp.array([4.0, 0.0, 5.0, 1.0])
    np.testing.assert_array_equal(losses.squared_error(value, target), [9.0, 4.0, 0.0, 1.0])
    # d/dvalue = 2 (value - target)
    gradient = jax.grad(lambda value: losses.squared_error(value, target).sum())(value)
    np.testing.assert_array_equal(gradient, [-6.0, 4.0, 0.0, -2.0])


@pytest.mark.parametrize("wrong", range(3))
def test_td_target_refuses_to_broadcast(wrong):
    arrays = [jnp.ones(4)] * 3
    arrays[wrong] = jnp.ones((4, 1))
    # With JAX's own promotion, only the function's check stands between [B] and [B, 1].
    with jax.numpy_rank_promotion("allow"), pytest.raises(AssertionError, match="shape"):
        losses.td_target(*arrays, 0.9)


@pytest.mark.parametrize(
    ("value", "target"), [((4,), (4, 1)), ((4, 1), (4,)), ((4,), ()), ((4,), (1,))]
)
def test_squared_error_refuses_to_broadcast(value, target):
    with jax.numpy_rank_promotion("allow"), pytest.raises(AssertionError, match="shape"):
        losses.squared_error(jnp.ones(value), jnp.ones(target))


def test_deterministic_policy_gradient_refuses_a_matrix():
    with pytest.raises(AssertionError, match="rank"):
        losses.deterministic_policy_gradient(jnp.ones((4, 1)))


def test_deterministic_policy_gradient_is_the_chain_rule():
    batch, observation_size, action_size = 16, 3, 2
    rng = np.random.default_rng(0)
    s = rng.normal(size=(batch, observation_size)).astype(np.float32)
    w = rng.normal(size=(observation_size, action_size)).astype(np.float32)  # mu(s) = s W
    m = rng.normal(size=(observation_size, action_size)).astype(np.float32)
    h = np.array([[2.0, 0.5], [0.5, 1.0]], np.float32)  # Q(s, a) = s M a - a H a / 2

    def loss(w):
        a = jnp.asarray(s) @ w
        value = jnp.einsum("bo,oa,ba->b", s, m, a) - 0.5 * jnp.einsum("ba,ac,bc->b", a, h, a)
        return losses.deterministic_policy_gradient(value)

    expected = np.zeros_like(w)
    for i in range(batch):
        grad_a = s[i] @ m - h @ (s[i] @ w)  # grad_a Q at a = mu(s)
        expected += np.outer(s[i], grad_a) / batch  # grad_W mu(s), times it
    np.testing.assert_allclose(-jax.grad(loss)(jnp.asarray(w)), expected, rtol=1e-5, atol=1e-6)


# Twin critics


def test_clipped_double_q_is_the_least_of_each_example():
    values = jnp.array([[1.0, 5.0, -2.0], [3.0, 4.0, -2.5], [2.0, 9.0, 0.0]])
    np.testing.assert_array_equal(losses.clipped_double_q(values), [1.0, 4.0, -2.5])
    with pytest.raises(AssertionError, match="rank"):
        losses.clipped_double_q(values[0])


def test_smoothing_noise_is_clipped_twice():
    action = np.linspace(-1, 1, 20001, dtype=np.float32)
    smoothed = losses.smoothed_action(jax.random.key(0), jnp.asarray(action), 0.2, 0.5)
    assert (np.min(smoothed), np.max(smoothed)) == (-1, 1)
    inside = np.abs(action) <= 0.5  # there only the noise itself is clipped
    noise = (smoothed - action)[inside]
    np.testing.assert_allclose((noise.min(), noise.max()), (-0.5, 0.5), atol=1e-6)
    # N(0, 0.2) beyond 2.5 standard deviations: 1.24 % of the draws lie at the two bounds.
    np.testing.assert_allclose(np.mean(np.abs(noise) > 0.5 - 1e-6), 0.0124, atol=0.004)
    np.testing.assert_allclose((np.mean(noise), np.std(noise)), (0, 0.2), atol=0.006)
    np.testing.assert_array_equal(
        losses.smoothed_action(jax.random.key(0), jnp.asarray(action), 0.0, 0.5), action
    )
    np.testing.assert_array_equal(
        losses.smoothed_action(jax.random.key(0), jnp.asarray(action), 0.2, 0.0), action
    )


def test_smoothing_noise_is_independent_of_every_component():
    zeros = jnp.zeros((2000, 3))
    noise = np.asarray(losses.smoothed_action(jax.random.key(0), zeros, 0.1, 1.0))
    np.testing.assert_allclose(np.cov(noise.T), 0.01 * np.eye(3), atol=0.001)
    assert not np.array_equal(noise, losses.smoothed_action(jax.random.key(1), zeros, 0.1, 1.0))


# Categorical critics

SUPPORT = np.linspace(-2, 3, 11)  # spacing 0.5
l = len(SUPPORT)  # noqa: E741


def slow_projection(probabilities, values, support):
    """Algorithm 1 of Bellemare et al. 2017, in float64."""
    out = np.zeros((len(probabilities), len(support)))
    spacing = support[1] - support[0]
    for row, (masses, atoms) in enumerate(zip(probabilities, values, strict=True)):
        for mass, atom in zip(masses, atoms, strict=True):
            b = (min(max(atom, support[0]), support[-1]) - support[0]) / spacing
            lower, upper = int(np.floor(b)), int(np.ceil(b))
            if lower == upper:
                out[row, lower] += mass
            else:
                out[row, lower] += mass * (upper - b)
                out[row, upper] += mass * (b - lower)
    return out


def some_logits(seed=0, rows=6, atoms=l):
    return np.random.default_rng(seed).normal(size=(rows, atoms)).astype(np.float32)


def softmax(logits):
    e = np.exp(np.asarray(logits, np.float64))
    return e / e.sum(-1, keepdims=True)


def float32(*arrays):
    return [jnp.asarray(x, jnp.float32) for x in arrays]


VALUES = {
    "on atoms": SUPPORT[None],
    "halfway": SUPPORT[None] - 0.25,
    "shrunk": 0.3 + 0.7 * SUPPORT[None],
    "beyond both ends": 10 * SUPPORT[None],
    "all above": 100 + 0 * SUPPORT[None],
    "all below": -100 + 0 * SUPPORT[None],
    "the ends": np.where(np.arange(l) % 2, SUPPORT[0], SUPPORT[-1])[None],
    "in any order": np.random.default_rng(3).normal(0, 3, (6, l)),
}
every_kind_of_value = pytest.mark.parametrize("values", VALUES.values(), ids=VALUES.keys())


@every_kind_of_value
def test_projection_is_the_double_loop_and_conserves_mass(values):
    probabilities, values = softmax(some_logits()), np.broadcast_to(values, (6, l))
    projected = losses.categorical_projection(*float32(probabilities, values, SUPPORT))
    np.testing.assert_allclose(
        projected, slow_projection(probabilities, values, SUPPORT), atol=2e-6
    )
    np.testing.assert_allclose(np.sum(projected, axis=1), 1, rtol=1e-6)
    # The mean of what lies inside the support is kept.
    np.testing.assert_allclose(
        projected @ SUPPORT, np.sum(probabilities * np.clip(values, -2, 3), axis=1), atol=1e-5
    )


@every_kind_of_value
def test_projection_is_rlaxs(values, rlax, standard_promotion):
    probabilities, values, support = float32(
        softmax(some_logits()), np.broadcast_to(values, (6, l)), SUPPORT
    )
    expected = jax.vmap(rlax.categorical_l2_project, in_axes=(0, 0, None))(
        values, probabilities, support
    )
    np.testing.assert_allclose(
        losses.categorical_projection(probabilities, values, support), expected, atol=2e-6
    )


def test_projection_by_hand():
    support = jnp.array([0.0, 1.0, 2.0])
    probabilities = jnp.array(
        [[0.2, 0.3, 0.5], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.25, 0.5, 0.25]]
    )
    values = jnp.array([[0.0, 1.0, 2.0], [7.0, 0.0, 0.0], [0.0, 0.0, -7.0], [0.5, 1.25, 3.0]])
    # 0.25 at 0.5 is shared 1 : 1, 0.5 at 1.25 is shared 3 : 1, 0.25 beyond the end goes there:
    # 0.125; 0.125 + 0.375; 0.125 + 0.25
    expected = [[0.2, 0.3, 0.5], [0, 0, 1], [1, 0, 0], [0.125, 0.5, 0.375]]
    np.testing.assert_allclose(
        losses.categorical_projection(probabilities, values, support), expected, atol=1e-7
    )


@pytest.mark.parametrize(
    ("low", "high", "atoms"),
    [(-150, 150, 51), (-10, 10, 101), (0.1, 0.7, 7), (-1e4, 1e4, 201), (0, 1, 2)],
)
def test_the_identity_projects_to_itself_up_to_both_ends(low, high, atoms):
    support = jnp.linspace(low, high, atoms)
    probabilities = jnp.eye(atoms)
    projected = losses.categorical_projection(
        probabilities, jnp.broadcast_to(support, (atoms, atoms)), support
    )
    np.testing.assert_allclose(projected, probabilities, atol=5e-5)


def test_categorical_td_target_is_the_double_loop():
    rng, logits = np.random.default_rng(1), some_logits(1)
    reward, discount = (
        rng.normal(size=6).astype(np.float32),
        np.array([1, 0, 0.9, 1, 0, 0.5], np.float32),
    )
    values = np.array([[reward[i] + 0.9 * discount[i] * z for z in SUPPORT] for i in range(6)])
    target = losses.categorical_td_target(*float32(reward, discount, logits, SUPPORT), 0.9)
    np.testing.assert_allclose(target, slow_projection(softmax(logits), values, SUPPORT), atol=2e-6)


def test_categorical_td_target_discount_0_cuts_the_next_logits():
    reward, support = jnp.array([0.5, -9.0, 1.25]), jnp.asarray(SUPPORT, jnp.float32)
    target = losses.categorical_td_target(
        reward, jnp.zeros(3), jnp.asarray(some_logits(rows=3)), support, 0.9
    )
    expected = np.zeros((3, l))
    expected[0, 5] = 1  # -2 + 5 * 0.5 = 0.5
    expected[1, 0] = 1  # below the support
    expected[2, [6, 7]] = 0.5  # between 1 and 1.5
    np.testing.assert_allclose(target, expected, atol=1e-6)


def test_categorical_cross_entropy_divergence_and_mean_are_the_double_loops():
    p, logits = softmax(some_logits(1)), some_logits(2)
    p[0] = np.eye(l)[3]  # zeros, whose logarithm is none
    q = softmax(logits)
    cross_entropy, divergence = np.zeros(6), np.zeros(6)
    for i in range(6):
        for j in range(l):
            cross_entropy[i] -= p[i, j] * np.log(q[i, j])
            divergence[i] += p[i, j] * (np.log(p[i, j]) - np.log(q[i, j])) if p[i, j] else 0
    target = jnp.asarray(p, jnp.float32)
    np.testing.assert_allclose(
        losses.categorical_cross_entropy(jnp.asarray(logits), target), cross_entropy, rtol=1e-5
    )
    np.testing.assert_allclose(
        losses.categorical_divergence(target, jnp.asarray(logits)), divergence, rtol=1e-5, atol=1e-6
    )
    mean = losses.categorical_mean(jnp.asarray(logits), jnp.asarray(SUPPORT, jnp.float32))
    np.testing.assert_allclose(
        mean,
        [sum(z * m for z, m in zip(SUPPORT, row, strict=True)) for row in q],
        rtol=1e-5,
        atol=1e-6,
    )


def test_categorical_gradient_and_least_divergence():
    p, logits = jnp.asarray(softmax(some_logits(1)), jnp.float32), jnp.asarray(some_logits(2))
    gradient = jax.grad(lambda logits: losses.categorical_cross_entropy(logits, p).sum())(logits)
    np.testing.assert_allclose(
        gradient, jax.nn.softmax(logits) - p, atol=1e-6
    )  # d/dlogits of -sum p log q is q - p
    assert np.min(losses.categorical_divergence(p, logits)) > 0.1
    np.testing.assert_allclose(losses.categorical_divergence(p, jnp.log(p)), 0, atol=1e-6)


def test_categorical_mean_by_hand():
    # logits (0, log 3): (1 * -1 + 3 * 5) / 4 = 3.5, whatever the leading axes
    logits = jnp.broadcast_to(jnp.array([0.0, np.log(3)]), (2, 3, 2))
    np.testing.assert_allclose(
        losses.categorical_mean(logits, jnp.array([-1.0, 5.0])), np.full((2, 3), 3.5), rtol=1e-6
    )


@pytest.mark.parametrize(
    ("function", "shapes"),
    [
        (losses.categorical_projection, [(4, 3), (4, 2), (3,)]),
        (losses.categorical_projection, [(4, 3), (1, 3), (3,)]),
        (losses.categorical_projection, [(4, 3), (4, 3), (1,)]),
        (losses.categorical_cross_entropy, [(4, 3), (1, 3)]),
        (losses.categorical_divergence, [(4, 3), (3,)]),
        (lambda *arrays: losses.categorical_td_target(*arrays, 0.9), [(4,), (4, 1), (4, 3), (3,)]),
        (lambda *arrays: losses.categorical_td_target(*arrays, 0.9), [(4,), (4,), (1, 3), (3,)]),
        (lambda *arrays: losses.categorical_td_target(*arrays, 0.9), [(4,), (4,), (4, 3), (1,)]),
    ],
)
def test_categorical_losses_refuse_to_broadcast(function, shapes):
    with jax.numpy_rank_promotion("allow"), pytest.raises(AssertionError, match="shape"):
        function(*(jnp.ones(shape) for shape in shapes))


# Against RLax


@pytest.mark.parametrize("seed", range(3))
def test_scalar_losses_are_rlaxs(seed, rlax, standard_promotion):
    reward, value, next_value = np.random.default_rng(seed).normal(size=(3, 6)).astype(np.float32)
    discount = np.array([1, 0, 1, 0.9, 0, 1], np.float32)
    target = losses.td_target(reward, discount, next_value, 0.9)
    td_error = jax.vmap(rlax.td_learning)(value, reward, 0.9 * discount, next_value)
    np.testing.assert_allclose(target - value, td_error, rtol=1e-5, atol=1e-6)
    half = rlax.l2_loss(jnp.asarray(value), target)  # 0.5 (value - target)^2
    np.testing.assert_allclose(
        losses.squared_error(jnp.asarray(value), target), 2 * half, rtol=1e-5
    )


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning:rlax")
@pytest.mark.parametrize("seed", range(3))
def test_categorical_loss_is_rlaxs(seed, rlax, standard_promotion):
    reward = 3 * np.random.default_rng(seed).normal(size=6).astype(np.float32)
    discount, support = (
        np.array([1, 0, 1, 0.9, 0, 1], np.float32),
        jnp.asarray(SUPPORT, jnp.float32),
    )
    logits, next_logits = some_logits(seed), some_logits(seed + 10)
    target = losses.categorical_td_target(reward, discount, next_logits, support, 0.9)
    expected = jax.vmap(rlax.categorical_td_learning, in_axes=(None, 0, 0, 0, None, 0))(
        support, logits, reward, 0.9 * discount, support, next_logits
    )
    np.testing.assert_allclose(
        losses.categorical_cross_entropy(logits, target), expected, rtol=1e-5, atol=1e-6
    )


def test_policy_gradient_is_rlaxs(rlax, standard_promotion):
    action, matrix = (
        np.random.default_rng(seed).normal(size=size).astype(np.float32)
        for seed, size in ((0, (6, 2)), (1, (2, 2)))
    )
    value = lambda action: -jnp.einsum("bi,ij,bj->b", action, matrix, action)
    slope = jax.grad(lambda action: value(action).sum())(action)
    ours = jax.grad(lambda action: losses.deterministic_policy_gradient(value(action)))(action)
    loss = lambda action: jnp.mean(
        jax.vmap(rlax.dpg_loss, in_axes=(0, 0, None))(action, slope, None)
    )
    theirs = 2 * jax.grad(loss)(action)  # theirs is a mean over the two components of the action
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


# Fixed points


@pytest.mark.parametrize("n_step", [1, 3, 5])
def test_constant_reward_is_worth_100_whatever_n(n_step):
    # v = R + gamma^n v with R = (1 - gamma^n) / (1 - gamma), so v = 1 / (1 - 0.99) = 100
    reward = jnp.full(1, sum(0.99**k for k in range(n_step)))
    discount = jnp.full(1, 0.99 ** (n_step - 1))
    iterate = lambda backup, x: jax.jit(
        lambda x: jax.lax.fori_loop(0, 2000, lambda _, x: backup(x), x)
    )(x)
    value = iterate(lambda value: losses.td_target(reward, discount, value, 0.99), jnp.zeros(1))
    np.testing.assert_allclose(value, 100, rtol=1e-4)

    # gamma z + 1 never leaves [-50, 150], so no mass is clipped and the mean follows the scalar
    # equation.
    support = jnp.linspace(-50, 150, 21)
    backup = lambda logits: jnp.log(
        losses.categorical_td_target(reward, discount, logits, support, 0.99)
    )
    logits = iterate(backup, jnp.zeros((1, 21)))
    np.testing.assert_allclose(losses.categorical_mean(logits, support), 100, rtol=1e-3)
