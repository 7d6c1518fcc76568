"""What a ray meets first, and the arithmetic that all shapes share: everything is dense, ``[N, P]``
for N shapes and P rays.
"""

from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import Array

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

    distance: Array
    normal: Array
    color: Array
    shape: Array


class Shapes(Protocol):
    """Any dataclass of arrays with this method is a group of shapes of one kind, and may lie in a
    `Scene`.
    """

    def hit(self, rays: Rays, /) -> Hit:
        """The nearest of the group along each ray, in front of its origin."""
        ...


def along(vectors: Array, rays: Rays) -> Array:
    """Scalar products ``[N, P]`` of ``vectors: [N, 3]`` and the rays' directions."""
    x, y, z = (vectors[:, i, None] * rays.direction[None, i] for i in range(3))
    return x + y + z


def dot(a: Array, b: Array) -> Array:
    """Scalar products over the leading axis, which is 3."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def done(arrays: PyTree) -> PyTree:
    """The same arrays, made before what uses them: XLA would else make them again in each kernel
    that does, and for the CPU number by number inside reductions.
    """
    return jax.lax.optimization_barrier(arrays)


def where_met(met: Array, distance: Array) -> Array:
    """The distance where there is a point in front of the origin, else `NOTHING`."""
    return jnp.where(met & (distance > 0), distance, NOTHING)


def nearest(distances: Array) -> tuple[Array, Array]:
    """``(distance [P], shape [P])`` of the nearest among ``distances: [N, P]``."""
    distances, count = done(distances), len(distances)
    if count == 1:
        return distances[0], jnp.zeros(distances.shape[1:], jnp.int32)
    nearest, numbers = jnp.min(distances, axis=0), jnp.arange(count, dtype=jnp.int32)
    last = jnp.int32(count - 1)
    return nearest, jnp.min(jnp.where(distances == nearest[None], numbers[:, None], last), axis=0)


def first_root(square: Array | float, half: Array | float, rest: Array) -> tuple[Array, Array]:
    """Whether ``square t^2 + 2 half t + rest = 0`` has a solution, and its smaller one."""
    root = half**2 - square * rest
    return root >= 0, (-half - jnp.sqrt(jnp.maximum(root, 0))) / square


def meet(rays: Rays, distances: Array, start: Array, *numbers: Array) -> list[Array]:
    """Of the nearest shape along each ray: its distance, its number, the point from its ``start``
    ``[3, P]``, and ``numbers`` as `of` it.
    """
    distance, shape = nearest(distances)
    origin, *rest = of(shape, rays.origin[None] - start, *numbers)
    return [distance, shape, origin + distance[None] * rays.direction, *rest]


def of(shape: Array, *numbers: Array) -> list[Array]:
    """From ``numbers: [N, ...]`` of each shape to those of the shape that each ray met,
    ``[..., P]``.
    """
    if len(numbers[0]) == 1:
        return [jnp.broadcast_to(x[0, ..., None], (*x.shape[1:], *shape.shape)) for x in numbers]
    table = jnp.concatenate([x.reshape(len(x), -1) for x in numbers], axis=1).T
    rows = done(table.at[:, shape].get(mode="promise_in_bounds"))
    parts = jnp.split(rows, np.cumsum([x[0].size for x in numbers])[:-1])
    return [part.reshape(*x.shape[1:], -1) for part, x in zip(parts, numbers, strict=True)]
