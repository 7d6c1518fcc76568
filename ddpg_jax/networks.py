"""Flax modules for actors and critics. Nothing here is required: any object with ``init`` and ``apply`` is a network."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from ddpg_jax.types import Key, Network, PyTree

Initializer = Callable[..., jax.Array]
Norm = Callable[[], nn.Module]


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


class NoisyDense(nn.Module):
    """A linear layer with learned noise, ``y = (mu_w + sigma_w * eps_w) x + mu_b + sigma_b * eps_b``, to stand in for `Dense`.

    The noise is factorised, ``eps_w[i, j] = f(eps_i) f(eps_j)`` with ``f(x) = sign(x) sqrt|x|``, one draw for the whole batch,
    from the collection "noise": drawn anew in every pass that may write it (an agent's update), times its ``active`` in any
    other, which is 0 (the means alone act, are evaluated and make targets) unless `ddpg_jax.noise.noisy_network` explores.
    ``bound`` is not used: both parameters start as the paper says.

    Source: Fortunato et al. 2018 (arXiv:1706.10295), section 3, equations 9 to 11; sigma_0 = 0.5.
    """

    features: int
    bound: float | None = None
    dtype: jnp.dtype = jnp.float32
    sigma: float = 0.5

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        fan_in = x.shape[-1]
        mean, spread = uniform_symmetric(1 / math.sqrt(fan_in)), nn.initializers.constant(self.sigma / math.sqrt(fan_in))
        kernel, bias = self.param("kernel", mean, (fan_in, self.features)), self.param("bias", mean, (self.features,))
        kernel_sigma = self.param("kernel_sigma", spread, (fan_in, self.features))
        bias_sigma = self.param("bias_sigma", spread, (self.features,))
        key = self.variable("noise", "key", lambda: self.make_rng("params"))
        active = self.variable("noise", "active", lambda: jnp.zeros(()))
        scale, (next_key, in_key, out_key) = active.value, jax.random.split(key.value, 3)
        if self.is_mutable_collection("noise") and not self.is_initializing():
            scale, key.value = jnp.ones(()), next_key
        shaped = lambda normal: jnp.sign(normal) * jnp.sqrt(jnp.abs(normal))
        noise_in, noise_out = shaped(jax.random.normal(in_key, (fan_in, 1))), shaped(jax.random.normal(out_key, bias.shape))
        kernel = kernel + kernel_sigma * (scale * noise_in * jnp.broadcast_to(noise_out, (1, self.features)))
        bias = bias + bias_sigma * (scale * noise_out)
        x = x.astype(self.dtype) @ kernel.astype(self.dtype)
        return x + jnp.broadcast_to(bias.astype(self.dtype), x.shape)


class LayerNorm(nn.Module):
    """Layer normalisation; ``Actor(norm=LayerNorm)`` puts it after each hidden layer, before the non-linearity.

    Source: Ba et al. 2016; Plappert et al. 2018, section 4.1.
    """

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return nn.LayerNorm(dtype=x.dtype)(x)


class BatchNorm(nn.Module):
    """Batch normalisation with running statistics; as ``norm`` and ``input_norm`` of both networks it is the paper's.

    A pass that may write the collection "batch_stats" (an agent's losses, and its target critic, which keeps none of it)
    normalises by the batch's own moments; the losses move the running ones. Any other pass (acting, evaluation, the target
    actor) normalises by the running ones. A target critic that did so too would differ from the critic in training by a
    small bias, which bootstrapping multiplies by 1 / (1 - gamma).

    Source: Ioffe and Szegedy 2015; Lillicrap et al. 2015, section 3. The paper states neither the momentum (0.99 here) nor
    which moments the targets use.
    """

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return nn.BatchNorm(use_running_average=not self.is_mutable_collection("batch_stats"), dtype=x.dtype)(x)


class Actor(nn.Module):
    """The policy mu: ``observation: [..., O]`` to ``action: [..., action_size]`` in [-1, 1].

    Args:
        action_size: number of action dimensions.
        hidden: width of each hidden layer; (400, 300) is the paper's.
        activation: non-linearity of the hidden layers.
        output: what squashes the last layer; ``jnp.tanh`` bounds the action, the identity does not.
        final_bound: weights and biases of the last layer start in U[-final_bound, final_bound]; None means fan-in.
        dtype: of the computation (``jnp.bfloat16`` halves memory traffic); parameters and output stay float32.
        norm: `LayerNorm`, `BatchNorm` or None, after each hidden layer and before its non-linearity.
        input_norm: the same, on the observation.
        dense: the layer, `Dense` or `NoisyDense`.

    Source: Lillicrap et al. 2015, section 7.
    """

    action_size: int
    hidden: Sequence[int] = (400, 300)
    activation: Callable[[jax.Array], jax.Array] = nn.relu
    output: Callable[[jax.Array], jax.Array] = jnp.tanh
    final_bound: float | None = 3e-3
    dtype: jnp.dtype = jnp.float32
    norm: Norm | None = None
    input_norm: Norm | None = None
    dense: Callable[..., nn.Module] = Dense

    @nn.compact
    def __call__(self, observation: jax.Array) -> jax.Array:
        x = _normalized(self.input_norm, observation)
        for width in self.hidden:
            x = self.activation(_normalized(self.norm, self.dense(width, dtype=self.dtype)(x)))
        return self.output(self.dense(self.action_size, self.final_bound, self.dtype)(x).astype(jnp.float32))


class Critic(nn.Module):
    """The action value Q: ``observation: [..., O]``, ``action: [..., A]`` to ``[...]``, or logits ``[..., num_atoms]``.

    Args:
        hidden: width of each hidden layer; (400, 300) is the paper's.
        action_layer: index of the hidden layer whose input the action joins. 1 is the paper's ("actions were not included
            until the 2nd hidden layer of Q"), 0 is the usual ``Q([s, a])``.
        activation, final_bound, dtype, input_norm: as in `Actor`.
        norm: as in `Actor`, for the hidden layers before the action joins.
        action_norm: the same, for those after it; batch normalisation does not belong there (the paper has none: actions of
            the replay and of the policy are distributed differently).
        num_atoms: of a categorical critic (Barth-Maron et al. 2018), whose output are logits; None is a scalar value.

    Raises:
        ValueError: ``action_layer`` is not the index of a hidden layer or of the output layer, or ``num_atoms`` is less than 2.

    Source: Lillicrap et al. 2015, section 7.
    """

    hidden: Sequence[int] = (400, 300)
    action_layer: int = 1
    activation: Callable[[jax.Array], jax.Array] = nn.relu
    final_bound: float | None = 3e-3
    dtype: jnp.dtype = jnp.float32
    norm: Norm | None = None
    action_norm: Norm | None = None
    input_norm: Norm | None = None
    num_atoms: int | None = None

    @nn.compact
    def __call__(self, observation: jax.Array, action: jax.Array) -> jax.Array:
        if not 0 <= self.action_layer <= len(self.hidden):
            raise ValueError(
                f"action_layer={self.action_layer}: the critic has {len(self.hidden)} hidden layers, so the action can join "
                f"the input of layer 0 to {len(self.hidden)}; choose one of these."
            )
        if self.num_atoms is not None and self.num_atoms < 2:
            raise ValueError(f"num_atoms={self.num_atoms}: a categorical critic has at least 2 atoms; None is a scalar value.")
        x = _normalized(self.input_norm, observation)
        for index, width in enumerate(self.hidden):
            if index == self.action_layer:
                x = jnp.concatenate([x, action], axis=-1, dtype=self.dtype)
            norm = self.norm if index < self.action_layer else self.action_norm
            x = self.activation(_normalized(norm, Dense(width, dtype=self.dtype)(x)))
        if self.action_layer == len(self.hidden):
            x = jnp.concatenate([x, action], axis=-1, dtype=self.dtype)
        x = Dense(self.num_atoms or 1, self.final_bound, self.dtype)(x).astype(jnp.float32)
        return x if self.num_atoms else x.squeeze(-1)


def _normalized(norm: Norm | None, x: jax.Array) -> jax.Array:
    return x if norm is None else norm()(x)


class Ensemble(NamedTuple):
    """``size`` copies of a network with parameters of their own, as one leading axis of parameters and outputs.

    ``init`` draws each copy's parameters from its own key; ``apply(params, *inputs)`` gives every copy the same inputs and
    returns ``[size, ...]``. TD3's twin critics are ``Ensemble(critic, 2)``.
    """

    network: Network
    size: int

    def init(self, key: Key, /, *inputs: Any) -> PyTree:
        return jax.vmap(lambda key: self.network.init(key, *inputs))(jax.random.split(key, self.size))

    def apply(self, params: PyTree, /, *inputs: Any, **options: Any) -> Any:
        return jax.vmap(lambda params: self.network.apply(params, *inputs, **options))(params)


def first(params: PyTree) -> PyTree:
    """The parameters of an ensemble's first member."""
    return jax.tree.map(lambda x: x[0], params)
