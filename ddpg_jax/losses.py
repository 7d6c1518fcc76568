"""The equations, on plain arrays. Shapes must match exactly: ``[B]`` against ``[B, 1]`` is an
error, never a broadcast.
"""

import chex
import jax
import jax.numpy as jnp
from jax import Array


def td_target(
    reward: Array,
    discount: Array,
    next_value: Array,
    gamma: float | Array,
    target_range: tuple[float | Array, float | Array] | None = None,
) -> Array:
    r"""The one-sample Bellman target.

    .. math:: y = r + \gamma d\, Q'(s', \mu'(s'))

    Args:
        reward: ``[B]`` r, in units of reward (the discounted sum under n-step returns).
        discount: ``[B]`` d, 0 where the episode terminated (see `ddpg_jax.types.Transition`).
        next_value: ``[B]`` the value of what followed, from the target networks.
        gamma: discount factor, scalar.
        target_range: least and largest possible return, to which targets are clipped; None does
            not (Andrychowicz et al. 2017, appendix A).

    Returns:
        ``[B]`` y.

    Raises:
        AssertionError: the three arrays differ in shape.

    Example:
        >>> reward, discount = jnp.array([1.0, 1.0]), jnp.array([1.0, 0.0])  # one terminated
        >>> td_target(reward, discount, jnp.array([10.0, 10.0]), gamma=0.5).tolist()
        [6.0, 1.0]

    Source: Lillicrap et al. 2015, Algorithm 1.
    """
    chex.assert_equal_shape([reward, discount, next_value])
    target = reward + gamma * discount * next_value
    return target if target_range is None else jnp.clip(target, *target_range)


def clipped_double_q(values: Array) -> Array:
    r"""The least of N critics, ``[N, B]`` values to ``[B]``, against overestimation.

    .. math:: \min_i Q'_i

    Source: Fujimoto et al. 2018, equation 10.
    """
    chex.assert_rank(values, 2)
    return jnp.min(values, axis=0)


def smoothed_action(
    key: Array,
    action: Array,
    target_noise: float | Array,
    target_noise_clip: float | Array,
) -> Array:
    r"""Target policy smoothing, for actions of any shape.

    .. math::

        \mathrm{clip}(a + \mathrm{clip}(\epsilon, -c, c), -1, 1),
        \quad \epsilon \sim N(0, \tilde\sigma)

    Source: Fujimoto et al. 2018, equation 14 and Algorithm 1.
    """
    noise = target_noise * jax.random.normal(key, action.shape, action.dtype)
    return jnp.clip(action + jnp.clip(noise, -target_noise_clip, target_noise_clip), -1.0, 1.0)


def categorical_projection(probabilities: Array, values: Array, support: Array) -> Array:
    r"""Project a distribution on arbitrary atoms onto a fixed, evenly spaced support.

    .. math::

        p_j = \sum_i \mathrm{clip}\left(
            1 - |\mathrm{clip}(v_i, V_{min}, V_{max}) - z_j| / \Delta, 0, 1\right) p_i

    Mass between two atoms is shared in proportion to nearness, mass beyond an end goes to that end;
    none is lost or made.

    Args:
        probabilities: ``[B, l]`` of the atoms ``values``.
        values: ``[B, l]``, for example ``r + gamma d z``.
        support: ``[l]`` z, evenly spaced, rising; l at least 2.

    Returns:
        ``[B, l]`` probabilities of the atoms ``support``.

    Raises:
        AssertionError: the shapes do not match.

    Example:
        >>> support = jnp.array([0.0, 1.0, 2.0])
        >>> probabilities, values = jnp.array([[0.5, 0.5, 0.0]]), support[None] + 0.5
        >>> categorical_projection(probabilities, values, support).tolist()
        [[0.25, 0.5, 0.25]]

    Source: Bellemare et al. 2017, equation 7; Barth-Maron et al. 2018, section 3. The sum over i is
    one fused kernel: no ``[B, l, l]`` array is stored.
    """
    chex.assert_rank([probabilities, values], 2)
    chex.assert_equal_shape([probabilities, values])
    chex.assert_shape(support, (probabilities.shape[-1],))
    chex.assert_axis_dimension_gt(support, 0, 1)
    spacing = (support[-1] - support[0]) / (support.shape[0] - 1)
    position = (jnp.clip(values, support[0], support[-1]) - support[0]) / spacing
    atoms = jnp.arange(support.shape[0], dtype=position.dtype)[None, None, :]
    share = jnp.maximum(1.0 - jnp.abs(position[:, :, None] - atoms), 0.0)
    return jnp.sum(share * probabilities[:, :, None], axis=1)


def categorical_td_target(
    reward: Array,
    discount: Array,
    next_logits: Array,
    support: Array,
    gamma: float | Array,
) -> Array:
    r"""The distributional Bellman target: `td_target` for distributions.

    .. math:: Y = \Phi(r + \gamma d z \mid \mathrm{softmax}(\text{next logits}))

    Args:
        reward, discount: ``[B]``.
        next_logits: ``[B, l]`` from the target networks.
        support: ``[l]`` z.
        gamma: discount factor, scalar.

    Returns:
        ``[B, l]`` probabilities.

    Raises:
        AssertionError: the shapes do not match.

    Source: Barth-Maron et al. 2018, Algorithm 1.
    """
    chex.assert_equal_shape([reward, discount])
    chex.assert_shape(next_logits, (*reward.shape, *support.shape))
    values = reward[:, None] + gamma * discount[:, None] * support[None]
    return categorical_projection(jax.nn.softmax(next_logits), values, support)


def categorical_cross_entropy(logits: Array, target: Array) -> Array:
    r"""The cross-entropy of each example, from ``logits: [B, l]`` of q and ``target: [B, l]``
    probabilities p, to ``[B]``.

    .. math:: H(p, q) = -\sum_j p_j \log q_j

    Source: Barth-Maron et al. 2018, section 3.
    """
    chex.assert_equal_shape([logits, target])
    return -jnp.sum(target * jax.nn.log_softmax(logits), axis=-1)


def categorical_divergence(target: Array, logits: Array) -> Array:
    r"""The divergence of q from p, at least 0; arguments as in `categorical_cross_entropy`, to
    ``[B]``.

    .. math:: KL(p \,|\, q) = \sum_j p_j (\log p_j - \log q_j)
    """
    entropy = jnp.sum(jax.scipy.special.entr(target), axis=-1)
    return categorical_cross_entropy(logits, target) - entropy


def categorical_mean(logits: Array, support: Array) -> Array:
    r"""The mean of a distribution: ``[..., l]`` logits and ``[l]`` support to ``[...]``.

    .. math:: E[Z] = \sum_j z_j q_j
    """
    return jax.nn.softmax(logits) @ support


def squared_error(value: Array, target: Array) -> Array:
    r"""The critic's loss of each example, from two arrays ``[B]``; the agent averages it.

    .. math:: (y_i - Q(s_i, a_i))^2

    Raises:
        AssertionError: the two arrays differ in shape.

    Source: Lillicrap et al. 2015, Algorithm 1.
    """
    chex.assert_equal_shape([value, target])
    return jnp.square(target - value)


def deterministic_policy_gradient(
    value: Array, action: Array | None = None, action_penalty: float | Array | None = None
) -> Array:
    r"""The actor's loss, a scalar, from ``value: [B]`` and, with a penalty c, ``action: [B, A]``.

    .. math::

        -\tfrac{1}{B} \sum_i Q(s_i, \mu(s_i))
        + \tfrac{c}{B A} \sum_{i,j} \mu_j(s_i)^2

    Without the penalty its gradient with respect to the actor's parameters is minus the
    deterministic policy gradient, by the chain rule:

    .. math::

        \tfrac{1}{B} \sum_i
        \nabla_a Q(s_i, a)|_{a=\mu(s_i)} \nabla_\theta\, \mu(s_i)

    Source: Silver et al. 2014, equation 9; Lillicrap et al. 2015, equation 6; the penalty Plappert
    et al. 2018 (arXiv:1802.09464), appendix B.
    """
    chex.assert_rank(value, 1)
    if action is None or action_penalty is None:
        return -jnp.mean(value)
    return -jnp.mean(value) + action_penalty * jnp.mean(jnp.square(action))
