"""From a scene to a picture: the nearest shape along each ray, lit, in bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from ddpg_jax import checks
from ddpg_jax.envs.render.camera import Camera, Rays, rays
from ddpg_jax.envs.render.hit import NOTHING, Hit, Shapes, done, dot

if TYPE_CHECKING:
    from collections.abc import Callable

    from ddpg_jax.types import PyTree

LARGEST = 4096
"""Pixels along a side."""


def _vector(*values: float) -> Any:
    return struct.field(default_factory=lambda: jnp.array(values, jnp.float32))


@struct.dataclass
class Light:
    """How bright things are: everywhere (``ambient``), where they face the camera (``headlight``),
    and where they face away from a ``direction: [L, 3]`` in which one of L lamps shines, of
    ``strength: [L]``.
    """

    ambient: jax.Array | float = 0.3
    headlight: jax.Array | float = 0.3
    direction: jax.Array = struct.field(
        default_factory=lambda: jnp.array([[0.0, 0.0, -1.0]], jnp.float32)
    )
    strength: jax.Array = _vector(0.4)


@struct.dataclass
class Sky:
    """The background: colours ``[3]`` overhead, at the horizon, and below it."""

    top: jax.Array = _vector(0.3, 0.5, 0.8)
    horizon: jax.Array = _vector(0.8, 0.9, 1.0)
    bottom: jax.Array = _vector(0.3, 0.3, 0.3)


@struct.dataclass
class Scene:
    """What is to be seen, and from where: ``shapes``, groups of one kind each (`Capsules`, `Boxes`,
    `Planes`, ... or any object with a ``hit``), a camera, light and sky. Colours are in [0, 1].
    """

    camera: Camera
    shapes: tuple[Shapes, ...]
    light: Light = struct.field(default_factory=Light)
    sky: Sky = struct.field(default_factory=Sky)


def render(scene: Scene, height: int, width: int, *, samples: int = 1) -> jax.Array:
    """A picture ``[height, width, 3]`` uint8 of one scene; `jax.vmap` makes many.

    Args:
        scene: any.
        height, width: 1 to 4,096 pixels.
        samples: rays along each side of a pixel, whose mean it shows: 2 smooths the edges at four
            times the work.

    Raises:
        ValueError: a size is out of its range, or the scene has no shape.
    """
    checks.between(1, LARGEST, height=height, width=width, samples=samples)
    scene = single_precision(scene)
    ray = done(rays(scene.camera, height * samples, width * samples))
    color = _lit(scene, ray, trace(scene, ray))
    if samples > 1:
        color = color.reshape(3, height, samples, width, samples).mean(axis=(2, 4))
    result: jax.Array = done(
        (color.reshape(3, height * width) * 255 + 0.5).astype(jnp.uint8)
    ).T.reshape(height, width, 3)
    return result


def trace(scene: Scene, ray: Rays) -> Hit:
    """What each ray meets first; ``shape`` counts on through the groups, in their order, and the
    distance says whether at all.

    Raises:
        ValueError: the scene has no shape.
    """
    if not scene.shapes:
        raise ValueError(
            "the scene has no shape: give at least one group, for example spheres(...)."
        )
    first, *rest = scene.shapes
    best, count = done(first.hit(ray)), _count(first)
    for group in rest:
        hit = done(group.hit(ray))
        hit = hit.replace(shape=hit.shape + count)
        near, count = hit.distance < best.distance, count + _count(group)
        best = jax.tree.map(
            lambda new, old, near=near: jnp.where(near if new.ndim == 1 else near[None], new, old),
            hit,
            best,
        )
    result: Hit = best
    return result


def film(
    scene: Callable[[PyTree], Scene],
    states: PyTree,
    height: int = 240,
    width: int = 320,
    samples: int = 2,
) -> list[np.ndarray]:
    """Pictures ``[height, width, 3]`` of states ``[T, ...]``, one after the other, on the host."""
    picture = lambda state: render(scene(state), height, width, samples=samples)
    return list(np.asarray(jax.jit(lambda states: jax.lax.map(picture, states))(states)))


def single_precision(scene: Scene) -> Scene:
    """In float32, also where JAX computes in 64 bits."""
    result: Scene = jax.tree.map(
        lambda x: (
            jnp.asarray(x, jnp.float32) if jnp.issubdtype(jnp.result_type(x), jnp.floating) else x
        ),
        scene,
    )
    return result


def _lit(scene: Scene, ray: Rays, hit: Hit) -> jax.Array:
    """Colours ``[3, P]`` in [0, 1]: diffuse light without shadows, and the sky."""
    light = scene.light
    bright = light.ambient + light.headlight * jnp.maximum(-dot(hit.normal, ray.direction), 0)
    for direction, strength in zip(light.direction, light.strength, strict=True):
        bright = bright + strength * jnp.maximum(
            -dot(hit.normal, direction / jnp.linalg.norm(direction)), 0
        )
    bright, height = done(bright), ray.direction[2][None]
    far = jnp.where(height > 0, scene.sky.top[:, None], scene.sky.bottom[:, None])
    sky = scene.sky.horizon[:, None] + jnp.abs(height) * (far - scene.sky.horizon[:, None])
    return jnp.clip(jnp.where((hit.distance < NOTHING)[None], bright[None] * hit.color, sky), 0, 1)


def _count(group: Shapes) -> int:
    result: int = jax.tree.leaves(group)[0].shape[0]
    return result
