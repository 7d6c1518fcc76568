"""Layers and normalisations, as Flax modules."""

import math
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from ddpg_jax.types import Array

Initializer = Callable[..., Array]
"""``initializer(key, shape, dtype)``: the first values of parameters."""
Norm = Callable[[], nn.Module]
"""A factory of a normalising layer, such as `LayerNorm`."""
Activation = Callable[[Array], Array]
"""Elementwise, as of `jax.nn`."""
Function = TypeVar("Function", bound=Callable[..., Any])
"""A type of functions (`unbatched`)."""
NARROW = 16
"""Outputs of a layer from which on a CPU's products of that many columns are fast."""


def unbatched(function: Function) -> Function:
    """``function`` of arrays, of members one after the other under ``jax.vmap``.

    For LAPACK: on a CPU that is several devices a batch of it waits for threads that wait for it.
    """
    sequential: Function = jax.custom_batching.sequential_vmap(function)
    return sequential


def uniform_symmetric(bound: float) -> Initializer:
    """An initialiser that draws from U[-bound, bound] (Lillicrap et al. 2015, section 7, for the
    final layers).
    """

    def init(key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


class Dense(nn.Module):
    """A linear layer whose weights and biases are both drawn from U[-1/sqrt(f), 1/sqrt(f)], f the
    fan-in, or U[-bound, bound].

    Source: Lillicrap et al. 2015, section 7. Differs from ``flax.linen.Dense``: there biases start
    at zero.
    """

    features: int
    bound: float | None = None
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """``[..., I]`` to ``[..., features]``."""
        of_kernel, of_bias = self.initializers(x.shape[-1])
        kernel = self.param("kernel", of_kernel, (x.shape[-1], self.features))
        bias = self.param("bias", of_bias, (self.features,))
        x = _product(x.astype(self.dtype), kernel.astype(self.dtype))
        return x + jnp.broadcast_to(bias.astype(self.dtype), x.shape)

    def initializers(self, fan_in: int) -> tuple[Initializer, Initializer]:
        """Of weights and of biases."""
        init = uniform_symmetric(1 / math.sqrt(fan_in) if self.bound is None else self.bound)
        return init, init


class GlorotDense(Dense):
    """A linear layer whose weights are drawn from U[-sqrt(6 / (f + g)), sqrt(6 / (f + g))], f its
    inputs and g its outputs, and whose biases start at zero; ``bound`` is without effect.

    Source: Glorot and Bengio 2010, equation 16.
    """

    def initializers(self, fan_in: int) -> tuple[Initializer, Initializer]:
        """Of weights and of biases."""
        bound = math.sqrt(6 / (fan_in + self.features))
        return uniform_symmetric(bound), lambda key, shape: jnp.zeros(shape, jnp.float32)


def _product(x: Array, kernel: Array) -> Array:
    """``x @ kernel``. Of a few outputs a CPU is given the kernel transposed: its gradient is then a
    product with few rows instead of few columns, a tenth of the time (an update of DDPG, 256 wide:
    1.08 times as fast).
    """
    if kernel.shape[1] >= NARROW:
        return x @ kernel

    def transposed(x: Array, kernel: Array) -> Array:
        kernel = jax.lax.optimization_barrier(kernel.T)  # else XLA turns it back
        return jax.lax.dot_general(x, kernel, (((x.ndim - 1,), (1,)), ((), ())))

    result: Array = jax.lax.platform_dependent(x, kernel, cpu=transposed, default=jnp.matmul)
    return result


class NoisyDense(nn.Module):
    """A linear layer with learned noise,
    ``y = (mu_w + sigma_w * eps_w) x + mu_b + sigma_b * eps_b``, to stand in for `Dense`.

    The noise is factorised, ``eps_w[i, j] = f(eps_i) f(eps_j)`` with ``f(x) = sign(x) sqrt|x|``,
    one draw for the whole batch, from the collection "noise": drawn anew in every pass that may
    write it (an agent's update), times its ``active`` in any other, which is 0 (the means alone
    act, are evaluated and make targets) unless `ddpg_jax.behaviour.noisy_network` explores.
    ``bound`` is not used: both parameters start as the paper says.

    Source: Fortunato et al. 2018 (arXiv:1706.10295), section 3, equations 9 to 11; sigma_0 = 0.5.
    """

    features: int
    bound: float | None = None
    dtype: jnp.dtype = jnp.float32
    sigma: float = 0.5

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """``[..., I]`` to ``[..., features]``."""
        fan_in = x.shape[-1]
        shape = (fan_in, self.features)
        mean = uniform_symmetric(1 / math.sqrt(fan_in))
        spread = nn.initializers.constant(self.sigma / math.sqrt(fan_in))
        kernel = self.param("kernel", mean, shape)
        bias = self.param("bias", mean, shape[1:])
        kernel_sigma = self.param("kernel_sigma", spread, shape, jnp.float32)
        bias_sigma = self.param("bias_sigma", spread, shape[1:], jnp.float32)
        key = self.variable("noise", "key", lambda: self.make_rng("params"))
        active = self.variable("noise", "active", lambda: jnp.float32(0))
        scale, (next_key, in_key, out_key) = active.value, jax.random.split(key.value, 3)
        if self.is_mutable_collection("noise") and not self.is_initializing():
            scale, key.value = jnp.float32(1), next_key

        def drawn(key: Array, *shape: int) -> Array:
            normal = jax.random.normal(key, shape, jnp.float32)
            return jnp.sign(normal) * jnp.sqrt(jnp.abs(normal))

        noise_in, noise_out = drawn(in_key, fan_in, 1), drawn(out_key, self.features)
        kernel = kernel + kernel_sigma * (
            scale * noise_in * jnp.broadcast_to(noise_out, (1, self.features))
        )
        bias = bias + bias_sigma * (scale * noise_out)
        x = x.astype(self.dtype) @ kernel.astype(self.dtype)
        return x + jnp.broadcast_to(bias.astype(self.dtype), x.shape)


class LayerNorm(nn.Module):
    """Layer normalisation; ``Actor(norm=LayerNorm)`` puts it after each hidden layer, before the
    non-linearity.

    Computed in float32, whatever the network computes in: a mean of many numbers of 8 bits would
    have few bits left.

    Source: Ba et al. 2016; Plappert et al. 2018, section 4.1.
    """

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """``[..., F]`` normalised, in the dtype that it came in."""
        return jnp.asarray(nn.LayerNorm(dtype=jnp.float32)(x.astype(jnp.float32)), x.dtype)


class BatchNorm(nn.Module):
    """Batch normalisation with running statistics; as ``norm`` and ``input_norm`` of both networks
    it is the paper's.

    A pass that may write the collection "batch_stats" (an agent's losses, and its target critic,
    which keeps none of it) normalises by the batch's own moments; the losses move the running ones.
    Any other pass (acting, evaluation, the target actor) normalises by the running ones. A target
    critic that did so too would differ from the critic in training by a small bias, which
    bootstrapping multiplies by 1 / (1 - gamma). Computed in float32, as `LayerNorm`.

    Source: Ioffe and Szegedy 2015; Lillicrap et al. 2015, section 3. The paper states neither the
    momentum (0.99 here) nor which moments the targets use.
    """

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """``[..., F]`` normalised, in the dtype that it came in."""
        running = not self.is_mutable_collection("batch_stats")
        norm = nn.BatchNorm(use_running_average=running, dtype=jnp.float32)
        return jnp.asarray(norm(x.astype(jnp.float32)), x.dtype)


def normalized(norm: Norm | None, x: Array) -> Array:
    """``x``, normalised by a layer of this kind; None leaves it alone."""
    return x if norm is None else norm()(x)
