"""What a ray meets first, and the arithmetic that all shapes share: everything is dense, ``[N, P]``
for N shapes and P rays.
"""

from typing import Protocol

import jax
import jax.numpy as jnp
from flax import struct

from ddpg_jax.envs.render.camera import Rays
from ddpg_jax.types import PyTree

NOTHING = 1e9
"""The distance where a ray meets nothing."""


@struct.dataclass
class Hit:
    """Where each of ``P`` rays ends: ``distance: [P]`` (`NOTHING` where it meets nothing),
    ``normal: [3, P]`` of length 1 and ``color: [3, P]`` in [0, 1] there, and the number of the
    shape, ``shape: [P]`` int32.
    """

    distance: jax.Array
    normal: jax.Array
    color: jax.Array
    shape: jax.Array


class Shapes(Protocol):
    """Any dataclass of arrays with this method is a group of shapes of one kind, and may lie in a
    `Scene`.
    """

    def hit(self, rays: Rays, /) -> Hit:
        """The nearest of the group along each ray, in front of its origin."""
        ...


def along(vectors: jax.Array, rays: Rays) -> jax.Array:
    """Scalar products ``[N, P]`` of ``vectors: [N, 3]`` and the rays' directions."""
    return sum(
        (vectors[:, i, None] * rays.direction[None, i] for i in range(1, 3)),
        vectors[:, :1] * rays.direction[None, 0],
    )


def dot(a: jax.Array, b: jax.Array) -> jax.Array:
    """Scalar products over the leading axis, which is 3."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def done(arrays: PyTree) -> PyTree:
    """The same arrays, made before what uses them: XLA would else make them again in each kernel
    that does, and for the CPU number by number inside reductions.
    """
    return jax.lax.optimization_barrier(arrays)


def where_met(met: jax.Array, distance: jax.Array) -> jax.Array:
    """The distance where there is a point in front of the origin, else `NOTHING`."""
    return jnp.where(met & (distance > 0), distance, NOTHING)


def nearest(distances: jax.Array) -> tuple[jax.Array, jax.Array]:
    """``(distance [P], shape [P])`` of the nearest among ``distances: [N, P]``."""
    distances = done(distances)
    if distances.shape[0] == 1:
        return distances[0], jnp.zeros(distances.shape[1:], jnp.int32)
    nearest, numbers = jnp.min(distances, axis=0), jnp.arange(distances.shape[0], dtype=jnp.int32)
    last = jnp.int32(distances.shape[0] - 1)
    return nearest, jnp.min(jnp.where(distances == nearest[None], numbers[:, None], last), axis=0)


def of(shape: jax.Array, *numbers: jax.Array) -> list[jax.Array]:
    """From ``numbers: [N, ...]`` of each shape to those of the shape that each ray met,
    ``[..., P]``.
    """
    widths = [x[0].size for x in numbers]
    if numbers[0].shape[0] == 1:
        return [jnp.broadcast_to(x[0, ..., None], (*x.shape[1:], *shape.shape)) for x in numbers]
    table = jnp.concatenate([x.reshape(x.shape[0], -1) for x in numbers], axis=1).T
    rows = done(table.at[:, shape].get(mode="promise_in_bounds"))
    ends = [sum(widths[: i + 1]) for i in range(len(widths))]
    return [
        rows[end - width : end].reshape(*x.shape[1:], -1)
        for x, width, end in zip(numbers, widths, ends, strict=True)
    ]
