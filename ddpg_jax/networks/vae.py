"""A variational autoencoder of images: what a picture is, in a few numbers. Pure functions on a
pytree of parameters.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from ddpg_jax import checks
from ddpg_jax.networks.layers import Dense, unbatched
from ddpg_jax.types import Array, Key, Metrics, Numeric, PyTree

LINEAR, SPREAD = "linear", "spread"
"""Names of layers."""


class VAE(NamedTuple):
    """Functions of a variational autoencoder of images ``[..., S, S, C]`` uint8."""

    init: Callable[[Key], PyTree]
    """``init(key)``: its parameters."""
    encode: Callable[[PyTree, Array], tuple[Array, Array]]
    """``encode(params, images)``: means and logarithms of the variances of the latents,
    ``[..., Z]`` each.
    """
    decode: Callable[[PyTree, Array], Array]
    """``decode(params, latents)``: images, float32 in about [0, 1]."""
    begin: Callable[[PyTree, Array, Key], PyTree]
    """``begin(params, images [N, ...], key)``: the parameters, of which the linear part is the best
    there is.
    """
    loss: Callable[[PyTree, Array, Key], tuple[Array, Metrics]]
    """``loss(params, images [B, ...], key)``: a scalar, and its parts."""
    size: int
    latent_size: int


class _Encoder(nn.Module):
    latent_size: int
    channels: int
    layers: int

    @nn.compact
    def __call__(self, image: Array) -> tuple[Array, Array]:
        x = image.astype(jnp.float32) / 255 - 0.5
        linear = nn.Dense(self.latent_size, name=LINEAR)(_flat(x))
        for _ in range(self.layers):
            x = nn.relu(_halved(x, self.channels))
        x = _flat(x)
        return linear + _nothing(self.latent_size)(x), jnp.clip(
            _nothing(self.latent_size, name=SPREAD)(x), -10.0, 10.0
        )


class _Decoder(nn.Module):
    size: int
    depth: int
    channels: int
    layers: int

    @nn.compact
    def __call__(self, latent: Array) -> Array:
        side = self.size // 2**self.layers
        x = nn.relu(Dense(side * side * self.channels)(latent)).reshape(
            *latent.shape[:-1], side, side, self.channels
        )
        for _ in range(self.layers - 1):
            # A transposed convolution of kernel 2 and stride 2.
            x = nn.relu(_pixels(Dense(4 * self.channels)(x), self.channels))
        linear = nn.Dense(self.size**2 * self.depth, name=LINEAR)(latent)
        drawn = _pixels(_nothing(4 * self.depth)(x), self.depth)
        return drawn + linear.reshape(drawn.shape) + 0.5


def _nothing(features: int, **options: Any) -> nn.Module:
    """A layer that begins as zero: what is beside it stands alone at first."""
    return nn.Dense(features, kernel_init=nn.initializers.zeros, **options)


def _flat(x: Array) -> Array:
    return x.reshape(*x.shape[:-3], -1)


def _halved(x: Array, features: int) -> Array:
    """A convolution, kernel 2 and stride 2: ``[..., 2 H, 2 W, C]`` to ``[..., H, W, features]``."""
    height, width, depth = x.shape[-3] // 2, x.shape[-2] // 2, x.shape[-1]
    y = jnp.moveaxis(x.reshape(*x.shape[:-3], height, 2, width, 2, depth), -4, -3)
    return Dense(features)(y.reshape(*y.shape[:-3], 4 * depth))


def _pixels(y: Array, features: int) -> Array:
    """``[..., H, W, 4 features]`` as ``[..., 2 H, 2 W, features]``."""
    height, width = y.shape[-3:-1]
    y = jnp.moveaxis(y.reshape(*y.shape[:-1], 2, 2, features), -3, -4)
    return y.reshape(*y.shape[:-5], 2 * height, 2 * width, features)


def vae(
    size: int,
    *,
    depth: int = 3,
    latent_size: int = 32,
    channels: int = 16,
    layers: int = 4,
    beta: Numeric = 1.0,
) -> VAE:
    r"""A variational autoencoder of square images.

    .. math::

        L &= \tfrac{1}{B} \sum |x - \text{decode}(z)|^2 / (2 \sigma^2)
             + \beta\, KL(N(\text{mean}, \text{variance}) \,|\, N(0, I)) \\
        z &= \text{mean} + \sqrt{\text{variance}}\; \epsilon

    ``layers`` convolutions of kernel 2 and stride 2 encode, beside a linear map of the whole image,
    and as many transposed ones decode, beside another: all are matrix products. sigma is 0.1 of the
    range of a colour; the sum is over pixels and colours.

    Args:
        size: S, pixels along each side, a multiple of 2^layers and at least twice that.
        depth: C, colours.
        latent_size: Z, components of a latent.
        channels, layers: of each convolution, and how many.
        beta: weight of the divergence; may be traced.

    ``loss`` consumes its key.

    Raises:
        ValueError: a number is out of its range.

    Source: Kingma and Welling 2014 (arXiv:1312.6114), equation 10; beta: Higgins et al. 2017.
    Kendall et al. 2018 (arXiv:1807.00412), section III-C: KL and L2 loss, the decoder mirrors the
    encoder of four 3x3 layers of 16 channels. Differs from the paper: its kernels are 3x3, which
    XLA takes half a minute to compile on a CPU inside a loop, these 2x2; the linear maps are ours,
    which it can begin with (`principal`); it states neither beta nor the size of the latent.
    """
    checks.whole(1, depth=depth, latent_size=latent_size, channels=channels, layers=layers)
    checks.whole(1, size=size)
    multiple = 2**layers
    if size % multiple or size < 2 * multiple:
        near = max(2, round(size / multiple)) * multiple
        raise ValueError(
            f"size={size}: an autoencoder's images must have a multiple of {multiple} pixels along "
            f"each side, and at least {2 * multiple}: choose for example {near}."
        )
    if latent_size > size * size * depth:
        raise ValueError(
            f"latent_size={latent_size}: an image has {size * size * depth} numbers, and a latent "
            "at most as many."
        )
    encoder = _Encoder(latent_size, channels, layers)
    decoder = _Decoder(size, depth, channels, layers)

    def init(key: Key) -> PyTree:
        encoder_key, decoder_key = jax.random.split(key)
        image = jnp.zeros((size, size, depth), jnp.uint8)
        latent = jnp.zeros(latent_size, jnp.float32)
        return {
            "encoder": encoder.init(encoder_key, image),
            "decoder": decoder.init(decoder_key, latent),
        }

    def encode(params: PyTree, images: Array) -> tuple[Array, Array]:
        if images.shape[-3:] != (size, size, depth):
            raise ValueError(
                f"an image of shape {images.shape[-3:]}: this autoencoder takes "
                f"{(size, size, depth)}."
            )
        return cast("tuple[Array, Array]", encoder.apply(params["encoder"], images))

    def decode(params: PyTree, latents: Array) -> Array:
        return cast("Array", decoder.apply(params["decoder"], latents))

    def loss(params: PyTree, images: Array, key: Key) -> tuple[Array, Metrics]:
        mean, log_variance = encode(params, images)
        drawn = mean + jnp.exp(log_variance / 2) * jax.random.normal(key, mean.shape, mean.dtype)
        apart = jnp.sum(
            jnp.square(images.astype(jnp.float32) / 255 - decode(params, drawn)), axis=(1, 2, 3)
        )
        divergence = 0.5 * jnp.sum(jnp.exp(log_variance) + mean**2 - 1 - log_variance, axis=-1)
        whole = jnp.mean(apart / (2 * _SIGMA**2) + beta * divergence)
        return whole, {"reconstruction": jnp.mean(apart), "divergence": jnp.mean(divergence)}

    def begin(params: PyTree, images: Array, key: Key) -> PyTree:
        checks.whole(1, images=len(images))
        flat, variance = images.reshape(len(images), -1), beta * _SIGMA**2
        into, back, spread = principal(flat, latent_size, variance, key)
        encoding, decoding = (params[name]["params"] for name in ("encoder", "decoder"))
        encoding = encoding | {LINEAR: into, SPREAD: encoding[SPREAD] | {"bias": spread}}
        return {"encoder": {"params": encoding}, "decoder": {"params": decoding | {LINEAR: back}}}

    return VAE(init, encode, decode, begin, loss, size, latent_size)


_SIGMA = 0.1
SWEEPS, MORE = 4, 8
"""How often a subspace is multiplied by the covariance, and by how many directions it is larger
than asked.
"""


def principal(
    images: Array, latent_size: int, variance: Numeric, key: Key
) -> tuple[PyTree, PyTree, Array]:
    r"""The best linear autoencoder of ``images: [N, P]`` uint8:
    ``(into latents, back, logarithms of the latents' variances)``.

    .. math::

        W = U (L - v)^{1/2}, \quad z = L^{-1} W^T (x - \text{mean}),
        \quad \text{variance of } z: v / L

    with U, L the largest eigenvectors and eigenvalues.

    Both maps are a ``kernel`` and a ``bias``, of colours in [-0.5, 0.5]. The eigenvectors are found
    by subspace iteration from random directions.

    Args:
        images, latent_size: as of `vae`.
        variance: v, of a colour given its latent.
        key: consumed.

    Source: Tipping and Bishop 1999, equations 6 to 15 (probabilistic principal components); Lucas
    et al. 2019 (arXiv:1911.02469): these are the optimum of a linear variational autoencoder.
    """
    x = images.astype(jnp.float32) / 255 - 0.5
    mean = jnp.mean(x, axis=0)
    values, vectors = _largest_eigenvectors(x - mean[None], key, latent_size)
    values = jnp.maximum(values, 2 * variance)  # a direction of less is as good as none
    root = jnp.sqrt(values - variance)[None]
    into, back = vectors * root / values[None], (vectors * root).T
    return (
        {"kernel": into, "bias": -mean @ into},
        {"kernel": back, "bias": mean},
        jnp.log(variance / values),
    )


def _largest_eigenvectors(x: Array, key: Key, count: int) -> tuple[Array, Array]:
    """Of the covariance of ``x: [N, P]``, and their values."""

    def found(x: Array, key: Key) -> tuple[Array, Array]:
        # Also more directions than images: QR fills the basis, with eigenvalues of 0.
        basis = jax.random.normal(key, (x.shape[1], min(count + MORE, x.shape[1])))
        for _ in range(SWEEPS):
            basis, _ = jnp.linalg.qr(x.T @ (x @ basis))
        seen = x @ basis
        values, vectors = jnp.linalg.eigh(seen.T @ seen / x.shape[0])
        return values[::-1][:count], basis @ vectors[:, ::-1][:, :count]

    return unbatched(found)(x, key)


def fit_vae(
    vae: VAE,
    images: Array,
    key: Key,
    *,
    updates: int = 2_000,
    batch_size: int = 64,
    learning_rate: Numeric = 1e-3,
) -> tuple[PyTree, Metrics]:
    """Train an autoencoder on ``images: [N, S, S, C]`` uint8 by Adam, whose rate falls to zero
    along half a cosine, from the best linear one on; ``(parameters, metrics [updates])``.

    Args:
        vae: see `vae`.
        images: all that there are; batches are drawn from them, with replacement.
        key: consumed.
        updates, batch_size: at least 1.
        learning_rate: the first; may be traced.

    Raises:
        ValueError: a number is out of its range.
    """
    checks.whole(1, updates=updates, batch_size=batch_size, images=len(images))
    falling = lambda count: (
        learning_rate * (1 + jnp.cos(count.astype(jnp.float32) * (jnp.pi / updates))) / 2
    )
    optimizer = optax.adam(falling)
    init_key, begin_key, loop_key = jax.random.split(key, 3)
    params = vae.begin(vae.init(init_key), images, begin_key)

    def step(carry: tuple[PyTree, PyTree], key: Key) -> tuple[tuple[PyTree, PyTree], Metrics]:
        params, opt_state = carry
        row_key, loss_key = jax.random.split(key)
        rows = jax.random.randint(row_key, (batch_size,), 0, images.shape[0])
        gradient, metrics = jax.grad(vae.loss, has_aux=True)(params, images[rows], loss_key)
        change, opt_state = optimizer.update(gradient, opt_state, params)
        return (optax.apply_updates(params, change), opt_state), metrics

    (params, _), metrics = jax.lax.scan(
        step, (params, optimizer.init(params)), jax.random.split(loop_key, updates)
    )
    return params, metrics
