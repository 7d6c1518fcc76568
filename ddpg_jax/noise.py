"""Exploration noise: pure ``(init, apply)`` pairs on batched actions ``[E, A]``, composed with
`chain`.

A ``stddev`` is in units of the normalised action range [-1, 1]. It may be a number, an array
``[A]`` (per dimension), ``[E, 1]`` (per environment) or ``[E, A]``, traced or not, or a schedule
(any optax schedule): a function from the number of steps this noise was applied (int32) to one of
those.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import struct

from ddpg_jax import checks
from ddpg_jax.types import Array, Key, Noise, Numeric, PyTree, zeros

Scale = Numeric | Callable[[Array], Array]
"""A standard deviation, or a schedule of it: see the module's text."""


def gaussian(stddev: Scale) -> Noise:
    """Independent noise, ``a + stddev * eps`` with ``eps ~ N(0, I)``; its state is the step count.

    Args:
        stddev: see the module's text; at least 0.

    Raises:
        ValueError: a negative ``stddev``.

    Source: Fujimoto et al. 2018, section 6.1 (TD3 explores with N(0, 0.1)).
    """
    scale = _schedule(stddev)

    def apply(step: Array, action: Array, key: Key, reset: Array) -> tuple[Array, Array]:
        noise = jax.random.normal(key, action.shape, action.dtype)
        return action + _match(scale(step), action) * noise, step + 1

    return Noise(lambda key, action: jnp.int32(0), apply)


def gaussian_per_episode(low: Numeric, high: Numeric) -> Noise:
    """Independent noise whose scale each environment draws anew for each episode,
    ``stddev ~ U(low, high)``.

    A fixed spread over environments is ``gaussian(jnp.linspace(low, high, num_envs)[:, None])`` (Li
    et al. 2023).

    Raises:
        ValueError: a negative number, or ``low`` greater than ``high``.

    Source: Seo et al. 2025 (arXiv:2505.22642): U(0.001, 0.4), redrawn where an episode ended.
    """
    checks.between(0, low=low, high=high)
    checks.below(True, low=low, high=high)

    def apply(scale: Array, action: Array, key: Key, reset: Array) -> tuple[Array, Array]:
        scale_key, noise_key = jax.random.split(key)
        drawn = low + (high - low) * jax.random.uniform(scale_key, scale.shape, scale.dtype)
        scale = jnp.where(reset[:, None], drawn, scale)
        return action + scale * jax.random.normal(noise_key, action.shape, action.dtype), scale

    return Noise(lambda key, action: jnp.zeros((action.shape[0], 1), action.dtype), apply)


@struct.dataclass
class OrnsteinUhlenbeckState:
    """``x: [E, A]`` the process of each environment; ``step``: how often it was applied."""

    x: Array
    step: Array


def ornstein_uhlenbeck(
    stddev: Scale = 0.2,
    *,
    theta: Numeric = 0.15,
    dt: Numeric = 1.0,
    reset_at_episode_start: bool = True,
) -> Noise:
    r"""Temporally correlated noise around zero, one process per environment and action dimension.

    .. math::

        x \leftarrow x - \theta x\, dt + \sigma \sqrt{dt}\; \epsilon, \quad
        \epsilon \sim N(0, I), \quad \text{action: } a + x

    theta is the rate of return to the mean, ``stddev`` the diffusion sigma. For dt = 1 the
    stationary standard deviation is ``sigma / sqrt(1 - (1 - theta)^2)`` (0.380 for the defaults).

    Args:
        stddev: sigma; see the module's text.
        theta: at least 0.
        dt: time step, at least 0 (the paper states none; 1 is the usual reading).
        reset_at_episode_start: start from zero in every episode (the paper's Algorithm 1), or
            never.

    Raises:
        ValueError: a number out of its range.

    Source: Uhlenbeck and Ornstein 1930; Lillicrap et al. 2015, section 7 (theta 0.15, sigma 0.2).
    """
    checks.at_least_zero(theta=theta, dt=dt)
    scale = _schedule(stddev)

    def apply(
        state: OrnsteinUhlenbeckState, action: Array, key: Key, reset: Array
    ) -> tuple[Array, OrnsteinUhlenbeckState]:
        x = jnp.where(reset[:, None], 0.0, state.x) if reset_at_episode_start else state.x
        noise = jax.random.normal(key, action.shape, action.dtype)
        x = x - theta * dt * x + _match(scale(state.step), action) * dt**0.5 * noise
        return action + x, OrnsteinUhlenbeckState(x=x, step=state.step + 1)

    init = lambda key, action: OrnsteinUhlenbeckState(x=zeros(action), step=jnp.int32(0))
    return Noise(init, apply)


def uniform(probability: Numeric) -> Noise:
    """With this probability, in [0, 1], an action drawn uniformly from [-1, 1] in the place of all
    of an environment's action, at each step anew.

    Source: Andrychowicz et al. 2017 (arXiv:1707.01495), appendix A (0.2).
    """
    checks.between(0, 1, probability=probability)

    def apply(state: PyTree, action: Array, key: Key, reset: Array) -> tuple[Array, PyTree]:
        which_key, action_key = jax.random.split(key)
        drawn = jax.random.uniform(action_key, action.shape, action.dtype, -1.0, 1.0)
        chosen = jax.random.uniform(which_key, (len(action), 1)) < probability
        return jnp.where(chosen, drawn, action), state

    return Noise(lambda key, action: (), apply)


def clip(low: Numeric = -1.0, high: Numeric = 1.0) -> Noise:
    """Clip the action to [low, high], numbers or ``[A]``; the last link of a `chain`, so that what
    is stored was executed.
    """
    return Noise(
        lambda key, action: (),
        lambda state, action, key, reset: (
            jnp.clip(action, _match(low, action), _match(high, action)),
            state,
        ),
    )


def chain(*noises: Noise) -> Noise:
    """Apply noises from left to right, each with a key of its own.

    Example:
        >>> exploring, action = chain(gaussian(stddev=0.5), clip()), jnp.zeros((3, 2))
        >>> state = exploring.init(jax.random.key(0), action)
        >>> reset = jnp.zeros(3, bool)
        >>> noisy, state = exploring.apply(state, action, jax.random.key(1), reset)
        >>> noisy.shape, bool(jnp.all(jnp.abs(noisy) <= 1.0))
        ((3, 2), True)
    """

    def init(key: Key, action: Array) -> tuple[PyTree, ...]:
        keys = jax.random.split(key, len(noises))
        return tuple(noise.init(k, action) for noise, k in zip(noises, keys, strict=True))

    def apply(
        state: tuple[PyTree, ...], action: Array, key: Key, reset: Array
    ) -> tuple[Array, tuple[PyTree, ...]]:
        keys = jax.random.split(key, len(noises))
        new_states = []
        for noise, noise_state, noise_key in zip(noises, state, keys, strict=True):
            action, noise_state = noise.apply(noise_state, action, noise_key, reset)
            new_states.append(noise_state)
        return action, tuple(new_states)

    return Noise(init, apply)


def _schedule(stddev: Scale) -> Callable[[Array], Numeric]:
    checks.at_least_zero(stddev=stddev)
    return stddev if callable(stddev) else lambda step: stddev


def _match(scale: Numeric, action: Array) -> Array:
    """Give a scale ``[]``, ``[A]``, ``[E, 1]`` or ``[E, A]`` the action's rank and dtype."""
    scale = jnp.asarray(scale, action.dtype)
    return scale.reshape((1,) * (action.ndim - scale.ndim) + scale.shape)
