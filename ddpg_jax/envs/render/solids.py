"""Boxes and ellipsoids: what has a frame of its own and three half sizes."""

import jax.numpy as jnp
from flax import struct
from jax import Array

from ddpg_jax.envs.render.camera import Rays
from ddpg_jax.envs.render.hit import NOTHING, Hit, along, dot, first_root, meet, where_met


@struct.dataclass
class _Solids:
    """``N`` shapes: ``center: [N, 3]``, ``rotation: [N, 3, 3]`` whose columns are their axes,
    ``half: [N, 3]`` sizes, and ``color: [N, 3]``.
    """

    center: Array
    rotation: Array
    half: Array
    color: Array

    def _own_frame(self, columns: Array, rays: Rays) -> tuple[Array, list[Array]]:
        """Origin ``[N, 3]`` and directions, three of ``[N, P]``, along these columns."""
        from_center = rays.origin[None] - self.center
        origin = jnp.sum(from_center[:, :, None] * columns, axis=1)
        return origin, [along(columns[:, :, i], rays) for i in range(3)]

    def _met(self, distances: Array, rays: Rays) -> list[Array]:
        """The nearest shape on each ray: distance and number ``[P]``, the point in its own frame
        ``[3, P]``, its axes ``[3, 3, P]``, half sizes and colour.
        """
        numbers = self.rotation, self.half, self.color
        distance, shape, point, axes, *rest = meet(rays, distances, self.center, *numbers)
        own = jnp.stack([dot(point, axes[:, i]) for i in range(3)])
        return [distance, shape, own, axes, *rest]


@struct.dataclass
class Boxes(_Solids):
    """``N`` boxes."""

    def hit(self, rays: Rays) -> Hit:
        """See `ddpg_jax.envs.render.hit.Shapes`."""
        origin, direction = self._own_frame(self.rotation, rays)
        enter, leave = jnp.float32(-NOTHING), jnp.float32(NOTHING)
        for i in range(3):  # between two planes along each axis
            inverse = 1 / jnp.where(jnp.abs(direction[i]) < _LEAST, _LEAST, direction[i])
            middle, half = -origin[:, i, None] * inverse, self.half[:, i, None] * jnp.abs(inverse)
            enter, leave = jnp.maximum(enter, middle - half), jnp.minimum(leave, middle + half)
        distance, shape, point, axes, half, color = self._met(
            where_met(enter <= leave, enter), rays
        )
        outwards = point / half
        face = jnp.abs(outwards) >= jnp.max(jnp.abs(outwards), axis=0, keepdims=True)
        return Hit(distance, _world(axes, jnp.where(face, jnp.sign(outwards), 0.0)), color, shape)


@struct.dataclass
class Ellipsoids(_Solids):
    """``N`` ellipsoids, as `Boxes` that they fill."""

    def hit(self, rays: Rays) -> Hit:
        """See `ddpg_jax.envs.render.hit.Shapes`."""
        # Where it is a ball of radius 1.
        origin, direction = self._own_frame(self.rotation / self.half[:, None], rays)
        square = sum(x**2 for x in direction)
        half = sum(origin[:, i, None] * direction[i] for i in range(3))
        rest = jnp.sum(origin**2, axis=1, keepdims=True) - 1
        distances = where_met(*first_root(square, half, rest))
        distance, shape, point, axes, radii, color = self._met(distances, rays)
        normal = _world(axes, point / radii**2)
        length = jnp.sqrt(jnp.maximum(dot(normal, normal), _LEAST))
        return Hit(distance, normal / length[None], color, shape)


_LEAST = 1e-9


def _world(axes: Array, own: Array) -> Array:
    return jnp.stack([dot(axes[i], own) for i in range(3)])
