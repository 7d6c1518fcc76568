"""Flax modules for actors and critics. Nothing here is required: any object with ``init`` and ``apply`` is a network."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

Initializer = Callable[..., jax.Array]


def uniform_symmetric(bound: float) -> Initializer:
    """An initialiser that draws from U[-bound, bound] (Lillicrap et al. 2015, section 7, for the final layers)."""

    def init(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


class Dense(nn.Module):
    """A linear layer whose weights and biases are both drawn from U[-1/sqrt(f), 1/sqrt(f)], f the fan-in, or U[-bound, bound].

    Source: Lillicrap et al. 2015, section 7. Differs from ``flax.linen.Dense``: there biases start at zero.
    """

    features: int
    bound: float | None = None
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        fan_in = x.shape[-1]
        init = uniform_symmetric(1 / math.sqrt(fan_in) if self.bound is None else self.bound)
        kernel = self.param("kernel", init, (fan_in, self.features))
        bias = self.param("bias", init, (self.features,))
        x = x.astype(self.dtype) @ kernel.astype(self.dtype)
        return x + jnp.broadcast_to(bias.astype(self.dtype), x.shape)


class Actor(nn.Module):
    """The policy mu: ``observation: [..., O]`` to ``action: [..., action_size]`` in [-1, 1].

    Args:
        action_size: number of action dimensions.
        hidden: width of each hidden layer; (400, 300) is the paper's.
        activation: non-linearity of the hidden layers.
        output: what squashes the last layer; ``jnp.tanh`` bounds the action, the identity does not.
        final_bound: weights and biases of the last layer start in U[-final_bound, final_bound]; None means fan-in.
        dtype: of the computation (``jnp.bfloat16`` halves memory traffic); parameters and output stay float32.

    Source: Lillicrap et al. 2015, section 7.
    """

    action_size: int
    hidden: Sequence[int] = (400, 300)
    activation: Callable[[jax.Array], jax.Array] = nn.relu
    output: Callable[[jax.Array], jax.Array] = jnp.tanh
    final_bound: float | None = 3e-3
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, observation: jax.Array) -> jax.Array:
        x = observation
        for width in self.hidden:
            x = self.activation(Dense(width, dtype=self.dtype)(x))
        return self.output(Dense(self.action_size, self.final_bound, self.dtype)(x).astype(jnp.float32))


class Critic(nn.Module):
    """The action value Q: ``observation: [..., O]``, ``action: [..., A]`` to ``[...]``.

    Args:
        hidden: width of each hidden layer; (400, 300) is the paper's.
        action_layer: index of the hidden layer whose input the action joins. 1 is the paper's ("actions were not included
            until the 2nd hidden layer of Q"), 0 is the usual ``Q([s, a])``.
        activation, final_bound, dtype: as in `Actor`.

    Raises:
        ValueError: ``action_layer`` is not the index of a hidden layer or of the output layer.

    Source: Lillicrap et al. 2015, section 7.
    """

    hidden: Sequence[int] = (400, 300)
    action_layer: int = 1
    activation: Callable[[jax.Array], jax.Array] = nn.relu
    final_bound: float | None = 3e-3
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, observation: jax.Array, action: jax.Array) -> jax.Array:
        if not 0 <= self.action_layer <= len(self.hidden):
            raise ValueError(
                f"action_layer={self.action_layer}: the critic has {len(self.hidden)} hidden layers, so the action can join "
                f"the input of layer 0 to {len(self.hidden)}; choose one of these."
            )
        x = observation
        for index, width in enumerate(self.hidden):
            if index == self.action_layer:
                x = jnp.concatenate([x, action], axis=-1, dtype=self.dtype)
            x = self.activation(Dense(width, dtype=self.dtype)(x))
        if self.action_layer == len(self.hidden):
            x = jnp.concatenate([x, action], axis=-1, dtype=self.dtype)
        return Dense(1, self.final_bound, self.dtype)(x).astype(jnp.float32).squeeze(-1)
