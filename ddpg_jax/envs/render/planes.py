"""Planes with a pattern of two colours, seen from above: the ground, walls."""

import jax.numpy as jnp
from flax import struct
from jax import Array

from ddpg_jax.envs.render.camera import Rays, row
from ddpg_jax.envs.render.hit import Hit, along, dot, meet, where_met


@struct.dataclass
class Planes:
    """``N`` planes: ``center: [N, 3]``; ``rotation: [N, 3, 3]``, columns along, across and up;
    ``half: [N, 2]``, inf without an end; ``color: [N, 3]`` and ``other: [N, 3]``, in squares with
    sides of ``square: [N, 2]``.
    """

    center: Array
    rotation: Array
    half: Array
    color: Array
    other: Array
    square: Array

    def hit(self, rays: Rays) -> Hit:
        """See `ddpg_jax.envs.render.hit.Shapes`."""
        from_center = rays.origin[None] - self.center
        height = jnp.sum(from_center * self.rotation[:, :, 2], axis=1, keepdims=True)
        down = -along(self.rotation[:, :, 2], rays)
        distance = height / jnp.maximum(down, _LEAST)
        met = (down > _LEAST) & (height > 0)
        for i in range(2):
            axis = self.rotation[:, :, i]
            start = jnp.sum(from_center * axis, axis=1, keepdims=True)
            place = start + distance * along(axis, rays)
            met = met & (jnp.abs(place) <= self.half[:, i, None])
        numbers = self.center, self.rotation, self.color, self.other, self.square
        distances = where_met(met, distance)
        distance, shape, point, axes, color, other, square = meet(rays, distances, *numbers)
        up = axes[:, 2]
        # What a pixel covers on the plane; where that is more than a square, their mean is shown,
        # so that they do not flicker far away.
        width = rays.angle * distance / jnp.maximum(-dot(up, rays.direction), 0.01)
        place = jnp.stack([dot(point, axes[:, i]) for i in range(2)])
        signs = 1 - 2 * (jnp.floor(place / square) % 2)
        odd = signs[0] * signs[1] * jnp.clip(1.5 - width / jnp.min(square, axis=0), 0, 1)
        shown = color * (0.5 + 0.5 * odd)[None] + other * (0.5 - 0.5 * odd)[None]
        return Hit(distance, up, shown, shape)


_LEAST = 1e-6


def ground(
    color: tuple[float, float, float], other: tuple[float, float, float], square: float = 1.0
) -> Planes:
    """An endless chequered ground at height 0."""
    flat, endless = jnp.eye(3, dtype=jnp.float32)[None], row(jnp.inf, jnp.inf)
    return Planes(row(0, 0, 0), flat, endless, row(*color), row(*other), row(square, square))
