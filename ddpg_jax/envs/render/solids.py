"""Boxes and ellipsoids: what has a frame of its own and three half sizes."""

import jax
import jax.numpy as jnp
from flax import struct

from ddpg_jax.envs.render.camera import Rays
from ddpg_jax.envs.render.hit import NOTHING, Hit, along, dot, nearest, of, where_met


@struct.dataclass
class Boxes:
    """``N`` boxes: ``center: [N, 3]``, ``rotation: [N, 3, 3]`` whose columns are their axes,
    ``half: [N, 3]`` sizes, and ``color: [N, 3]``.
    """

    center: jax.Array
    rotation: jax.Array
    half: jax.Array
    color: jax.Array

    def hit(self, rays: Rays) -> Hit:
        """See `ddpg_jax.envs.render.hit.Shapes`."""
        origin, direction = _own_frame(self.center, self.rotation, rays)
        enter, leave = jnp.float32(-NOTHING), jnp.float32(NOTHING)
        for i in range(3):  # between two planes along each axis
            inverse = 1 / jnp.where(jnp.abs(direction[i]) < _LEAST, _LEAST, direction[i])
            middle, half = -origin[:, i, None] * inverse, self.half[:, i, None] * jnp.abs(inverse)
            enter, leave = jnp.maximum(enter, middle - half), jnp.minimum(leave, middle + half)
        distance, shape = nearest(where_met(enter <= leave, enter))
        point, axes, half, color = _met(self, distance, shape, rays)
        outwards = jnp.stack([dot(point, axes[:, i]) for i in range(3)]) / half
        face = jnp.abs(outwards) >= jnp.max(jnp.abs(outwards), axis=0, keepdims=True)
        return Hit(distance, _world(axes, jnp.where(face, jnp.sign(outwards), 0.0)), color, shape)


@struct.dataclass
class Ellipsoids:
    """``N`` ellipsoids, as `Boxes` that they fill."""

    center: jax.Array
    rotation: jax.Array
    half: jax.Array
    color: jax.Array

    def hit(self, rays: Rays) -> Hit:
        """See `ddpg_jax.envs.render.hit.Shapes`."""
        origin, direction = _own_frame(
            self.center, self.rotation / self.half[:, None], rays
        )  # where it is a ball of radius 1
        square, half = (
            sum(x**2 for x in direction),
            sum(origin[:, i, None] * direction[i] for i in range(3)),
        )
        root = half**2 - square * (jnp.sum(origin**2, axis=1, keepdims=True) - 1)
        distance, shape = nearest(
            where_met(root >= 0, (-half - jnp.sqrt(jnp.maximum(root, 0))) / square)
        )
        point, axes, radii, color = _met(self, distance, shape, rays)
        outwards = jnp.stack([dot(point, axes[:, i]) for i in range(3)]) / radii**2
        normal = _world(axes, outwards)
        return Hit(
            distance,
            normal / jnp.sqrt(jnp.maximum(dot(normal, normal), _LEAST))[None],
            color,
            shape,
        )


_LEAST = 1e-9


def _own_frame(
    center: jax.Array, columns: jax.Array, rays: Rays
) -> tuple[jax.Array, list[jax.Array]]:
    """Origin ``[N, 3]`` and directions, three of ``[N, P]``, along these columns."""
    from_center = rays.origin[None] - center
    origin = jnp.sum(from_center[:, :, None] * columns, axis=1)
    return origin, [along(columns[:, :, i], rays) for i in range(3)]


def _met(
    shapes: Boxes | Ellipsoids, distance: jax.Array, shape: jax.Array, rays: Rays
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Of the shape that each ray met: the point from its centre ``[3, P]``, its axes ``[3, 3, P]``,
    half sizes and colour.
    """
    from_center = rays.origin[None] - shapes.center
    start, axes, half, color = of(shape, from_center, shapes.rotation, shapes.half, shapes.color)
    return start + distance[None] * rays.direction, axes, half, color


def _world(axes: jax.Array, own: jax.Array) -> jax.Array:
    return jnp.stack([dot(axes[i], own) for i in range(3)])
