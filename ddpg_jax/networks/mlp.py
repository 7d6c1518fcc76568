"""Multi-layer actors and critics, and ensembles of networks."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from ddpg_jax.networks.layers import Activation, Dense, Norm, normalized
from ddpg_jax.types import Array, Key, Network, PyTree


@jax.custom_vjp
def inverting(x: Array) -> Array:
    """``clip(x, -1, 1)`` with inverted gradients: what came to a bound leaves it at the gradient's
    full speed.

    Descent is slowed down by what is left to the bound it goes to, ``(1 - x) / 2`` upwards and
    ``(1 + x) / 2`` downwards, and beyond a bound it turns back. The gradient of ``tanh`` vanishes
    at the bounds in both directions.

    Source: Hausknecht and Stone 2016 (arXiv:1511.04143), "inverting gradients".
    """
    return jnp.clip(x, -1.0, 1.0)


def _inverted(x: Array, gradient: Array) -> tuple[Array]:
    return (gradient * jnp.where(gradient < 0, 1 - x, 1 + x) / 2,)


inverting.defvjp(lambda x: (inverting(x), x), _inverted)


class Actor(nn.Module):
    """The policy mu: ``observation: [..., O]`` to ``action: [..., action_size]`` in [-1, 1].

    Args:
        action_size: number of action dimensions.
        hidden: width of each hidden layer; (400, 300) is the paper's.
        activation: non-linearity of the hidden layers.
        output: what squashes the last layer; ``jnp.tanh`` and `inverting` bound the action, the
            identity does not.
        final_bound: weights and biases of the last layer start in U[-final_bound, final_bound];
            None means fan-in.
        dtype: of the computation (``jnp.bfloat16`` halves memory traffic); parameters and the type
            of the output stay float32, but a value keeps bfloat16's 8 bits: 500 is known to 2.
        norm: `LayerNorm`, `BatchNorm` or None, after each hidden layer and before its
            non-linearity.
        input_norm: the same, on the observation.
        dense: the layer, `Dense`, `GlorotDense` or `NoisyDense`.

    Source: Lillicrap et al. 2015, section 7.
    """

    action_size: int
    hidden: Sequence[int] = (400, 300)
    activation: Activation = nn.relu
    output: Activation = jnp.tanh
    final_bound: float | None = 3e-3
    dtype: jnp.dtype = jnp.float32
    norm: Norm | None = None
    input_norm: Norm | None = None
    dense: Callable[..., nn.Module] = Dense

    @nn.compact
    def __call__(self, observation: Array) -> Array:
        """``[..., O]`` to ``[..., action_size]``."""
        x = normalized(self.input_norm, observation)
        for width in self.hidden:
            x = self.activation(normalized(self.norm, self.dense(width, dtype=self.dtype)(x)))
        return self.output(
            self.dense(self.action_size, self.final_bound, self.dtype)(x).astype(jnp.float32)
        )


class Critic(nn.Module):
    """The action value Q: ``observation: [..., O]``, ``action: [..., A]`` to ``[...]``, or logits
    ``[..., num_atoms]``.

    Args:
        hidden: width of each hidden layer; (400, 300) is the paper's.
        action_layer: index of the hidden layer whose input the action joins. 1 is the paper's
            ("actions were not included until the 2nd hidden layer of Q"), 0 is the usual
            ``Q([s, a])``.
        activation, final_bound, dtype, input_norm: as in `Actor`.
        norm: as in `Actor`, for the hidden layers before the action joins.
        action_norm: the same, for those after it; batch normalisation does not belong there (the
            paper has none: actions of the replay and of the policy are distributed differently).
        num_atoms: of a categorical critic (Barth-Maron et al. 2018), whose output are logits; None
            is a scalar value.
        dense: the layer, `Dense` or `GlorotDense`.

    Raises:
        ValueError: ``action_layer`` is not the index of a hidden layer or of the output layer, or
            ``num_atoms`` is less than 2.

    Source: Lillicrap et al. 2015, section 7.
    """

    hidden: Sequence[int] = (400, 300)
    action_layer: int = 1
    activation: Activation = nn.relu
    final_bound: float | None = 3e-3
    dtype: jnp.dtype = jnp.float32
    norm: Norm | None = None
    action_norm: Norm | None = None
    input_norm: Norm | None = None
    num_atoms: int | None = None
    dense: Callable[..., nn.Module] = Dense

    @nn.compact
    def __call__(self, observation: Array, action: Array) -> Array:
        """``[..., O]`` and ``[..., A]`` to ``[...]`` or ``[..., num_atoms]``."""
        if not 0 <= self.action_layer <= len(self.hidden):
            raise ValueError(
                f"action_layer={self.action_layer}: the critic has {len(self.hidden)} "
                "hidden layers, so the action can join "
                f"the input of layer 0 to {len(self.hidden)}; choose one of these."
            )
        if self.num_atoms is not None and self.num_atoms < 2:
            raise ValueError(
                f"num_atoms={self.num_atoms}: a categorical critic has at least 2 atoms; "
                "None is a scalar value."
            )
        x = normalized(self.input_norm, observation)
        for index, width in enumerate(self.hidden):
            if index == self.action_layer:
                x = jnp.concatenate([x, action], axis=-1, dtype=self.dtype)
            norm = self.norm if index < self.action_layer else self.action_norm
            x = self.activation(normalized(norm, self.dense(width, dtype=self.dtype)(x)))
        if self.action_layer == len(self.hidden):
            x = jnp.concatenate([x, action], axis=-1, dtype=self.dtype)
        x = self.dense(self.num_atoms or 1, self.final_bound, self.dtype)(x).astype(jnp.float32)
        value: Array = x if self.num_atoms else x.squeeze(-1)
        return value


class Ensemble(NamedTuple):
    """``size`` copies of a network with parameters of their own, as one leading axis of parameters
    and outputs.

    ``init`` draws each copy's parameters from its own key; ``apply(params, *inputs)`` gives every
    copy the same inputs and returns ``[size, ...]``. TD3's twin critics are
    ``Ensemble(critic, 2)``.
    """

    network: Network
    size: int

    def init(self, key: Key, /, *inputs: Any) -> PyTree:
        """Parameters ``[size, ...]``, of each copy from a key of its own."""
        return jax.vmap(lambda key: self.network.init(key, *inputs))(
            jax.random.split(key, self.size)
        )

    def apply(self, params: PyTree, /, *inputs: Any, **options: Any) -> Any:
        """Outputs ``[size, ...]`` for the same inputs."""
        # Inputs are repeated, which XLA does not carry out: shared ones would make it transpose the
        # weights of the first layer.
        inputs = jax.tree.map(lambda x: jnp.broadcast_to(x, (self.size, *jnp.shape(x))), inputs)
        return jax.vmap(lambda params, inputs: self.network.apply(params, *inputs, **options))(
            params, inputs
        )


def first_critic(params: PyTree) -> PyTree:
    """The parameters of an ensemble's first member."""
    return jax.tree.map(lambda x: x[0], params)
