import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddpg_jax import losses


def test_td_target_by_hand():
    reward = jnp.array([1.0, -2.0, 0.5])
    discount = jnp.array([1.0, 1.0, 0.5])
    next_value = jnp.array([10.0, 4.0, 8.0])
    # 1 + 0.9*1*10 = 10;  -2 + 0.9*1*4 = 1.6;  0.5 + 0.9*0.5*8 = 4.1
    np.testing.assert_allclose(losses.td_target(reward, discount, next_value, 0.9), [10.0, 1.6, 4.1], rtol=1e-6)


def test_td_target_discount_0_cuts_the_next_value():
    reward, discount = jnp.array([3.0, 3.0]), jnp.zeros(2)
    target = losses.td_target(reward, discount, jnp.array([1e6, -1e6]), 0.99)
    np.testing.assert_array_equal(target, reward)


def test_squared_error_by_hand():
    # ((4 - 1)^2 + (0 - 2)^2 + (5 - 5)^2 + (1 - 0)^2) / 4 = (9 + 4 + 0 + 1) / 4 = 3.5
    value, target = jnp.array([1.0, 2.0, 5.0, 0.0]), jnp.array([4.0, 0.0, 5.0, 1.0])
    assert losses.squared_error(value, target) == 3.5
    # d/dvalue = 2 (value - target) / 4
    gradient = jax.grad(losses.squared_error)(value, target)
    np.testing.assert_array_equal(gradient, [-1.5, 1.0, 0.0, -0.5])


@pytest.mark.parametrize("wrong", range(3))
def test_td_target_refuses_to_broadcast(wrong):
    arrays = [jnp.ones(4)] * 3
    arrays[wrong] = jnp.ones((4, 1))
    # With JAX's own promotion, only the function's check stands between [B] and [B, 1].
    with jax.numpy_rank_promotion("allow"), pytest.raises(AssertionError, match="shape"):
        losses.td_target(*arrays, 0.9)


@pytest.mark.parametrize(("value", "target"), [((4,), (4, 1)), ((4, 1), (4,)), ((4,), ()), ((4,), (1,))])
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
