"""Planes with a pattern of two colours, seen from above: the ground, walls."""

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from flax import struct

from ddpg_jax.envs.render.camera import Rays
from ddpg_jax.envs.render.hit import Hit, along, dot, nearest, of, where_met

if TYPE_CHECKING:
    from collections.abc import Callable


@struct.dataclass
class Planes:
    """``N`` planes: ``center: [N, 3]``; ``rotation: [N, 3, 3]``, columns along, across and up;
    ``half: [N, 2]``, inf without an end; ``color: [N, 3]`` and ``other: [N, 3]``, in squares with
    sides of ``square: [N, 2]``.
    """

    center: jax.Array
    rotation: jax.Array
    half: jax.Array
    color: jax.Array
    other: jax.Array
    square: jax.Array

    def hit(self, rays: Rays) -> Hit:
        """See `ddpg_jax.envs.render.hit.Shapes`."""
        from_center = rays.origin[None] - self.center
        height = jnp.sum(from_center * self.rotation[:, :, 2], axis=1, keepdims=True)
        down = -along(self.rotation[:, :, 2], rays)
        distance = height / jnp.maximum(down, _LEAST)
        met = (down > _LEAST) & (height > 0)
        for i in range(2):
            axis = self.rotation[:, :, i]
            place = jnp.sum(from_center * axis, axis=1, keepdims=True) + distance * along(
                axis, rays
            )
            met = met & (jnp.abs(place) <= self.half[:, i, None])
        distance, shape = nearest(where_met(met, distance))
        start, axes, *pattern = of(
            shape,
            from_center,
            self.rotation,
            self.color,
            self.other,
            self.square,
            jnp.min(self.square, axis=1),
        )
        point, up = start + distance[None] * rays.direction, axes[:, 2]
        width = (
            rays.angle * distance / jnp.maximum(-dot(up, rays.direction), 0.01)
        )  # that a pixel covers on the plane
        return Hit(
            distance,
            up,
            _pattern(jnp.stack([dot(point, axes[:, i]) for i in range(2)]), width, *pattern),
            shape,
        )


_LEAST = 1e-6


def _pattern(
    place: jax.Array,
    width: jax.Array,
    color: jax.Array,
    other: jax.Array,
    square: jax.Array,
    least: jax.Array,
) -> jax.Array:
    """Squares; their mean where a pixel covers more than one of them, so that they do not flicker
    far away.
    """
    signs = 1 - 2 * (jnp.floor(place / square) % 2)
    odd = signs[0] * signs[1] * jnp.clip(1.5 - width / least, 0, 1)
    return color * (0.5 + 0.5 * odd)[None] + other * (0.5 - 0.5 * odd)[None]


def ground(
    color: tuple[float, float, float], other: tuple[float, float, float], square: float = 1.0
) -> Planes:
    """An endless chequered ground at height 0."""
    row: Callable[..., Any] = lambda *values: jnp.array([values], jnp.float32)
    endless = row(jnp.inf, jnp.inf)
    return Planes(
        row(0, 0, 0),
        jnp.eye(3, dtype=jnp.float32)[None],
        endless,
        row(*color),
        row(*other),
        row(square, square),
    )
