"""The equations, on plain arrays. Shapes must match exactly: ``[B]`` against ``[B, 1]`` is an error, never a broadcast."""

import chex
import jax
import jax.numpy as jnp


def td_target(reward: jax.Array, discount: jax.Array, next_value: jax.Array, gamma: float | jax.Array) -> jax.Array:
    """The one-sample Bellman target ``y = r + gamma * d * Q'(s', mu'(s'))``.

    Args:
        reward: ``[B]`` r, in units of reward (the discounted sum under n-step returns).
        discount: ``[B]`` d, 0 where the episode terminated (see `ddpg_jax.types.Transition`).
        next_value: ``[B]`` the value of what followed, from the target networks.
        gamma: discount factor, scalar.

    Returns:
        ``[B]`` y.

    Raises:
        AssertionError: the three arrays differ in shape.

    Source: Lillicrap et al. 2015, Algorithm 1.
    """
    chex.assert_equal_shape([reward, discount, next_value])
    return reward + gamma * discount * next_value


def squared_error(value: jax.Array, target: jax.Array) -> jax.Array:
    """The critic's loss ``L = 1/B sum_i (y_i - Q(s_i, a_i))^2``, a scalar, from two arrays ``[B]``.

    Raises:
        AssertionError: the two arrays differ in shape.

    Source: Lillicrap et al. 2015, Algorithm 1.
    """
    chex.assert_equal_shape([value, target])
    return jnp.mean(jnp.square(target - value))


def deterministic_policy_gradient(value: jax.Array) -> jax.Array:
    """The actor's loss ``-1/B sum_i Q(s_i, mu(s_i))``, a scalar, from ``value: [B]``.

    Its gradient with respect to the actor's parameters is minus the deterministic policy gradient
    ``1/B sum_i grad_a Q(s_i, a)|_{a=mu(s_i)} grad_theta mu(s_i)`` by the chain rule.

    Source: Silver et al. 2014, equation 9; Lillicrap et al. 2015, equation 6.
    """
    chex.assert_rank(value, 1)
    return -jnp.mean(value)
