"""Networks on images ``[..., H, W, C]``, channels last: convolutions, what narrows their output,
and heads on top of them.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from ddpg_jax import checks
from ddpg_jax.networks.layers import Activation, Dense, LayerNorm, unbatched, uniform_symmetric
from ddpg_jax.types import Array, Key, PyTree


class Convolution(nn.Module):
    """One convolution without padding, ``[..., H, W, C]`` to ``[..., H', W', features]``; how it
    starts is said in `Conv`.
    """

    features: int
    kernel: int
    stride: int = 1
    orthogonal: bool = False
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """``[..., H, W, C]`` to ``[..., H', W', features]``."""
        shape = (self.kernel, self.kernel, x.shape[-1], self.features)
        fan_in = uniform_symmetric(1 / math.sqrt(math.prod(shape[:-1])))
        starts = (fan_in, fan_in)
        if self.orthogonal:
            starts = (_orthogonal, nn.initializers.zeros)
        kernel = self.param("kernel", starts[0], shape)
        bias = self.param("bias", starts[1], shape[-1:])
        images = x.reshape(-1, *x.shape[-3:]).astype(self.dtype)
        y = _convolved(images, kernel.astype(self.dtype), self.stride)
        y = y.reshape(*x.shape[:-3], *y.shape[1:])
        return y + jnp.broadcast_to(bias.astype(self.dtype), y.shape)


def _orthogonal(key: Key, shape: tuple[int, ...]) -> Array:
    drawn = nn.initializers.orthogonal(math.sqrt(2))
    return unbatched(lambda key: drawn(key, shape))(key)


def _convolved(images: Array, kernel: Array, stride: int) -> Array:
    """A convolution of ``images: [N, H, W, C]`` by ``kernel: [k, k, C, F]``. On a CPU it is one
    product of all windows with the kernel: of XLA's own convolutions there the gradients are,
    inside a loop, a hundred times as slow.
    """
    size = kernel.shape[0]
    rows, columns = ((n - size) // stride + 1 for n in images.shape[1:3])

    def by_product(images: Array, kernel: Array) -> Array:
        height, width = (rows - 1) * stride + 1, (columns - 1) * stride + 1
        windows = [
            images[:, i : i + height : stride, j : j + width : stride]
            for i in range(size)
            for j in range(size)
        ]
        return jnp.concatenate(windows, axis=-1) @ kernel.reshape(-1, kernel.shape[-1])

    def by_convolution(images: Array, kernel: Array) -> Array:
        return jax.lax.conv_general_dilated(
            images, kernel, (stride, stride), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    result: Array = jax.lax.platform_dependent(
        images, kernel, cpu=by_product, default=by_convolution
    )
    return result


class Conv(nn.Module):
    """Convolutions without padding, each followed by ``activation``: an image ``[..., H, W, C]`` to
    features ``[..., F]``.

    Bytes (uint8) are first divided by 255; images of other dtypes are taken as they are.

    Args:
        channels, kernels, strides: of each layer; kernels and strides are square.
        activation: of each layer.
        offset: subtracted from what the bytes became.
        orthogonal: whether kernels start orthogonal, times sqrt(2), and biases at 0; else both
            start at fan-in, as `Dense`.
        dtype: of the computation; parameters and output stay float32.

    Raises:
        ValueError: the layers are not equally many of each, or an image is smaller than they need.

    Source: Lillicrap et al. 2015, section 7: three layers of 32 filters, no pooling, fan-in.
    Kernels and strides are not stated there; with these a network on 64x64x9 has 376,000 parameters
    (there about 430,000).
    """

    channels: Sequence[int] = (32, 32, 32)
    kernels: Sequence[int] = (3, 3, 3)
    strides: Sequence[int] = (2, 2, 2)
    activation: Activation = nn.relu
    offset: float = 0.0
    orthogonal: bool = False
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, image: Array) -> Array:
        """``[..., H, W, C]`` to ``[..., F]``."""
        _require_room(image, self.kernels, self.strides)
        x = image.astype(self.dtype)
        if image.dtype == jnp.uint8:
            x = x / 255 - self.offset
        for width, kernel, stride in zip(self.channels, self.kernels, self.strides, strict=True):
            x = self.activation(Convolution(width, kernel, stride, self.orthogonal, self.dtype)(x))
        return x.reshape(*x.shape[:-3], -1).astype(jnp.float32)


def drq_v2_encoder(
    channels: int = 32, layers: int = 4, stride: int = 1, dtype: Any = jnp.float32
) -> Conv:
    """DrQ-v2's encoder: 3x3 convolutions, the first of stride 2, the others of ``stride``; the
    defaults are the paper's.

    Source: Yarats et al. 2021 (arXiv:2107.09645), and its code.
    """
    return Conv(
        (channels,) * layers,
        (3,) * layers,
        (2, *(stride,) * (layers - 1)),
        offset=0.5,
        orthogonal=True,
        dtype=dtype,
    )


def _require_room(image: Array, kernels: Sequence[int], strides: Sequence[int]) -> None:
    size, least = image.shape[-3:-1], 1
    for kernel, stride in reversed([*zip(kernels, strides, strict=True)]):
        least = (least - 1) * stride + kernel
    if min(size) < least and checks.channels_first(image):
        raise ValueError(
            f"an image of shape {image.shape[-3:]} has its channels first, and convolutions take "
            "[height, width, channels]: give channels_first=True to envs.make."
        )
    if min(size) < least:
        raise ValueError(
            f"an image of {size[0]}x{size[1]} is too small for convolutions of kernels "
            f"{tuple(kernels)} and strides "
            f"{tuple(strides)}: give one of at least {least}x{least}, or smaller kernels."
        )


class Trunk(nn.Module):
    """A linear layer, layer normalisation and tanh: features ``[..., F]`` to ``[..., width]`` in
    [-1, 1].

    Source: Yarats et al. 2021 (DrQ-v2), its code: one for the actor and one for both critics.
    """

    width: int = 50
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """``[..., F]`` to ``[..., width]``."""
        return jnp.tanh(LayerNorm()(Dense(self.width, dtype=self.dtype)(x)).astype(jnp.float32))


class Features(nn.Module):
    """Observations of any structure as one vector of features: each image through an encoder of its
    own, vectors as they are.

    For example::

        Features(Conv)  # an image, or {"image": [..., H, W, C], "speed": [..., 1]}, or two cameras

    An image is a leaf of dtype uint8, whose last three axes are ``H, W, C``; any other leaf is a
    vector ``[..., O]``.

    Args:
        encoder: makes the encoder of an image.

    Raises:
        ValueError: from ``init``, an image is of another dtype.
    """

    encoder: Callable[[], nn.Module]

    @nn.compact
    def __call__(self, observation: PyTree) -> Array:
        """An observation of any structure to ``[..., F]``."""
        if self.is_initializing():
            checks.require_image("Features", observation, leading=0, alone=False)
        parts = [
            self.encoder()(x) if checks.is_image(x) else x.astype(jnp.float32)
            for x in jax.tree.leaves(observation)
        ]
        return parts[0] if len(parts) == 1 else jnp.concatenate(parts, axis=-1)


class WithEncoder(nn.Module):
    """``head`` on what ``encoder`` makes of the observation:
    ``WithEncoder(Features(Conv), Actor(1))`` is an actor that takes images.

    Args:
        encoder: ``observation -> features``.
        head: a network whose first input is features.
    """

    encoder: nn.Module
    head: nn.Module

    def __call__(self, observation: PyTree, *inputs: Any) -> Any:
        """The head's output for the encoded observation."""
        return self.head(self.encoder(observation), *inputs)

    def encode(self, observation: PyTree) -> Any:
        """The features alone: ``apply(variables, observation, method="encode")``."""
        return self.encoder(observation)

    def on(self, features: Any, *inputs: Any) -> Any:
        """The head alone: ``apply(variables, features, *inputs, method="on")``."""
        return self.head(features, *inputs)


class VmappedHead(nn.Module):
    """``size`` copies of a module with parameters of their own, as a leading axis of its output:
    twin critics on one trunk.

    `Ensemble` is the same of whole networks, whose copies share nothing.
    """

    network: nn.Module
    size: int = 2

    def __call__(self, *inputs: Any) -> Any:
        """``[size, ...]``: the output of every copy for the same inputs."""
        return nn.vmap(
            lambda network, *inputs: network(*inputs),
            in_axes=None,
            axis_size=self.size,
            variable_axes={"params": 0},
            split_rngs={"params": True},
        )(self.network, *inputs)
