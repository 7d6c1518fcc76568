"""Capsules, spheres and cylinders: what has an axis and a radius."""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from flax import struct
from jax import Array

from ddpg_jax.envs.render.camera import Rays
from ddpg_jax.envs.render.hit import Hit, along, dot, first_root, meet, where_met


class _Axes(NamedTuple):
    """Rays against endless tubes. Of each tube: ``length``, ``offset`` (of the origin along the
    axis) and ``near`` (its distance from the start squared, less the radius squared), ``[N, 1]``.
    Of each ray too, ``[N, P]``: ``along`` and ``ahead``, its products with the axis and with the
    way from the start to the origin; the ``place`` on the axis where it meets the tube.
    """

    length: Array
    offset: Array
    near: Array
    along: Array
    ahead: Array
    place: Array


@struct.dataclass
class _Tubes:
    """``N`` shapes, each from ``start: [N, 3]`` to ``end: [N, 3]`` with ``radius: [N]`` and
    ``color: [N, 3]``.
    """

    start: Array
    end: Array
    radius: Array
    color: Array

    def _met(self, rays: Rays, at_end: Callable[[_Axes], tuple[Array, Array]]) -> list[Array]:
        """The nearest tube on each ray: distance and number ``[P]``, the point from its start
        ``[3, P]``, its unit vector, length, radius and colour. ``at_end(axis)``: whether it is met
        at an end, and at which distance.

        ``|p - (p.u) u| = r`` for ``p = m + t d``, with m from the start to the origin and u along
        the axis, is a square equation in t.
        """
        from_start, axis = rays.origin[None] - self.start, self.end - self.start
        length = jnp.linalg.norm(axis, axis=1, keepdims=True)
        unit = axis / jnp.maximum(length, _LEAST)
        offset = jnp.sum(from_start * unit, axis=1, keepdims=True)
        near = jnp.sum(from_start**2, axis=1, keepdims=True) - self.radius[:, None] ** 2
        towards, ahead = along(unit, rays), along(from_start, rays)
        square = jnp.maximum(1 - towards**2, _LEAST)
        half = ahead - towards * offset
        met, distance = first_root(square, half, near - offset**2)
        place = offset + distance * towards
        met_at_end, end = at_end(_Axes(length, offset, near, towards, ahead, place))
        inside = (place > 0) & (place < length)
        distances = where_met(met & (inside | met_at_end), jnp.where(inside, distance, end))
        return meet(rays, distances, self.start, unit, length[:, 0], self.radius, self.color)


@struct.dataclass
class Capsules(_Tubes):
    """Capsules; a sphere, where both ends are one point."""

    def hit(self, rays: Rays) -> Hit:
        """See `ddpg_jax.envs.render.hit.Shapes`."""
        distance, shape, point, unit, length, radius, color = self._met(rays, _ball)
        place = jnp.clip(dot(point, unit), 0, length)
        return Hit(distance, (point - place[None] * unit) / radius[None], color, shape)


def _ball(axis: _Axes) -> tuple[Array, Array]:
    """Where the tube is not met between its ends, it is the ball at one of them."""
    low, length = axis.place <= 0, axis.length
    middle = jnp.where(low, axis.ahead, axis.ahead - length * axis.along)
    apart = jnp.where(low, axis.near, axis.near - 2 * length * axis.offset + length**2)
    return first_root(1, middle, apart)


@struct.dataclass
class Cylinders(_Tubes):
    """Cylinders with flat ends."""

    def hit(self, rays: Rays) -> Hit:
        """See `ddpg_jax.envs.render.hit.Shapes`."""
        distance, shape, point, unit, length, radius, color = self._met(rays, _disc)
        place = dot(point, unit)
        outwards = point - place[None] * unit
        apart = jnp.sqrt(dot(outwards, outwards))
        flat = jnp.minimum(jnp.abs(place), jnp.abs(length - place)) < radius - apart
        side = outwards / jnp.maximum(apart, _LEAST)[None]
        normal = jnp.where(flat[None], jnp.where(place > length / 2, 1.0, -1.0)[None] * unit, side)
        return Hit(distance, normal, color, shape)


def _disc(axis: _Axes) -> tuple[Array, Array]:
    """The end that faces the origin."""
    end = jnp.where(axis.along > 0, 0.0, axis.length)
    disc = (end - axis.offset) / jnp.where(jnp.abs(axis.along) < _LEAST, _LEAST, axis.along)
    # `near` is less the radius squared.
    return axis.near + disc * (2 * axis.ahead + disc) - end**2 <= 0, disc


def spheres(center: Array, radius: Array, color: Array) -> Capsules:
    """``N`` spheres: ``center: [N, 3]``, ``radius: [N]``, ``color: [N, 3]``."""
    return Capsules(center, center, radius, color)


_LEAST = 1e-9
