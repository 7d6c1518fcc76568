"""Capsules, spheres and cylinders: what has an axis and a radius."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from ddpg_jax.envs.render.camera import Rays
from ddpg_jax.envs.render.hit import Hit, along, dot, nearest, of, where_met


@struct.dataclass
class Capsules:
    """``N`` capsules, each from ``start: [N, 3]`` to ``end: [N, 3]`` with ``radius: [N]`` and
    ``color: [N, 3]``; a sphere, where both are one point.
    """

    start: jax.Array
    end: jax.Array
    radius: jax.Array
    color: jax.Array

    def hit(self, rays: Rays) -> Hit:
        """See `ddpg_jax.envs.render.hit.Shapes`."""
        axis = _axes(self.start, self.end, self.radius, rays)
        low = axis.place <= 0
        # Where the tube is not met between its ends, it is the ball at one of them.
        middle = jnp.where(low, axis.ahead, axis.ahead - axis.length * axis.along)
        apart = jnp.where(
            low, axis.near, axis.near - 2 * axis.length * axis.offset + axis.length**2
        )
        root = middle**2 - apart
        inside = (axis.place > 0) & (axis.place < axis.length)
        ball = -middle - jnp.sqrt(jnp.maximum(root, 0))
        met = axis.met & (inside | (root >= 0))
        distance, shape = nearest(where_met(met, jnp.where(inside, axis.distance, ball)))
        point, unit, length, radius, color = _met(self, axis, distance, shape, rays)
        place = jnp.clip(dot(point, unit), 0, length)
        return Hit(distance, (point - place[None] * unit) / radius[None], color, shape)


@struct.dataclass
class Cylinders:
    """``N`` cylinders with flat ends, each from ``start: [N, 3]`` to ``end: [N, 3]``,
    ``radius: [N]`` and ``color: [N, 3]``.
    """

    start: jax.Array
    end: jax.Array
    radius: jax.Array
    color: jax.Array

    def hit(self, rays: Rays) -> Hit:
        """See `ddpg_jax.envs.render.hit.Shapes`."""
        axis = _axes(self.start, self.end, self.radius, rays)
        inside = (axis.place > 0) & (axis.place < axis.length)
        end = jnp.where(axis.along > 0, 0.0, axis.length)  # the one that faces the origin
        disc = (end - axis.offset) / jnp.where(jnp.abs(axis.along) < _LEAST, _LEAST, axis.along)
        apart = (
            axis.near + disc * (2 * axis.ahead + disc) - end**2
        )  # `near` is less the radius squared
        met = axis.met & (inside | (apart <= 0))
        distance, shape = nearest(where_met(met, jnp.where(inside, axis.distance, disc)))
        point, unit, length, radius, color = _met(self, axis, distance, shape, rays)
        place = dot(point, unit)
        outwards = point - place[None] * unit
        apart = jnp.sqrt(dot(outwards, outwards))
        flat = jnp.minimum(jnp.abs(place), jnp.abs(length - place)) < radius - apart
        side = outwards / jnp.maximum(apart, _LEAST)[None]
        normal = jnp.where(flat[None], jnp.where(place > length / 2, 1.0, -1.0)[None] * unit, side)
        return Hit(distance, normal, color, shape)


def spheres(center: jax.Array, radius: jax.Array, color: jax.Array) -> Capsules:
    """``N`` spheres: ``center: [N, 3]``, ``radius: [N]``, ``color: [N, 3]``."""
    return Capsules(center, center, radius, color)


_LEAST = 1e-9


class _Axes(NamedTuple):
    """Rays against endless tubes. Of each tube: ``unit: [N, 3]``; ``length``, ``offset`` (of the
    origin along the axis) and ``near`` (its distance from the start squared, less the radius
    squared), ``[N, 1]``. Of each ray too, ``[N, P]``: ``along`` and ``ahead``, its products with
    the axis and with the way from the start to the origin; whether it ``met`` the tube, at which
    ``distance``, and at which ``place`` on the axis.
    """

    unit: jax.Array
    length: jax.Array
    offset: jax.Array
    near: jax.Array
    along: jax.Array
    ahead: jax.Array
    met: jax.Array
    distance: jax.Array
    place: jax.Array


def _axes(start: jax.Array, end: jax.Array, radius: jax.Array, rays: Rays) -> _Axes:
    """Where ``|p - (p.u) u| = r`` for ``p = m + t d``, with m from the start to the origin and u
    along the axis: a square equation in t.
    """
    from_start, axis = rays.origin[None] - start, end - start
    length = jnp.linalg.norm(axis, axis=1, keepdims=True)
    unit = axis / jnp.maximum(length, _LEAST)
    offset = jnp.sum(from_start * unit, axis=1, keepdims=True)
    near = jnp.sum(from_start**2, axis=1, keepdims=True) - radius[:, None] ** 2
    towards, ahead = along(unit, rays), along(from_start, rays)
    square = jnp.maximum(1 - towards**2, _LEAST)
    half = ahead - towards * offset
    root = half**2 - square * (near - offset**2)
    distance = (-half - jnp.sqrt(jnp.maximum(root, 0))) / square
    return _Axes(
        unit, length, offset, near, towards, ahead, root >= 0, distance, offset + distance * towards
    )


def _met(
    tubes: Capsules | Cylinders, axis: _Axes, distance: jax.Array, shape: jax.Array, rays: Rays
) -> list[jax.Array]:
    """Of the tube that each ray met: the point from its start ``[3, P]``, its unit vector, length,
    radius and colour.
    """
    from_start = rays.origin[None] - tubes.start
    start, *rest = of(shape, from_start, axis.unit, axis.length[:, 0], tubes.radius, tubes.color)
    return [start + distance[None] * rays.direction, *rest]
