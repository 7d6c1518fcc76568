"""From a scene to a picture: the nearest shape along each ray, lit, in bytes."""

import functools
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import Array

from ddpg_jax import checks
from ddpg_jax.envs.render.camera import Camera, Rays, rays, row, vector
from ddpg_jax.envs.render.hit import NOTHING, Hit, Shapes, done, dot
from ddpg_jax.types import PyTree

LARGEST = 4096
"""Pixels along a side."""
GAP = 8
"""Pixels between two pictures side by side."""


def _vector(*values: float) -> Any:
    return struct.field(default_factory=lambda: vector(*values))


@struct.dataclass
class Light:
    """How bright things are: everywhere (``ambient``), where they face the camera (``headlight``),
    and where they face away from a ``direction: [L, 3]`` in which one of L lamps shines, of
    ``strength: [L]``.
    """

    ambient: Array | float = 0.3
    headlight: Array | float = 0.3
    direction: Array = struct.field(default_factory=lambda: row(0, 0, -1))
    strength: Array = _vector(0.4)


@struct.dataclass
class Sky:
    """The background: colours ``[3]`` overhead, at the horizon, and below it."""

    top: Array = _vector(0.3, 0.5, 0.8)
    horizon: Array = _vector(0.8, 0.9, 1.0)
    bottom: Array = _vector(0.3, 0.3, 0.3)


@struct.dataclass
class Scene:
    """What is to be seen, and from where: ``shapes``, groups of one kind each (`Capsules`, `Boxes`,
    `Planes`, ... or any object with a ``hit``), a camera, light and sky. Colours are in [0, 1].
    """

    camera: Camera
    shapes: tuple[Shapes, ...]
    light: Light = struct.field(default_factory=Light)
    sky: Sky = struct.field(default_factory=Sky)


def render(scene: Scene, height: int, width: int, *, samples: int = 1) -> Array:
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
    shown = done((color.reshape(3, height * width) * 255 + 0.5).astype(jnp.uint8))
    return jnp.reshape(shown.T, (height, width, 3))


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
    best: Hit = done(first.hit(ray))
    count = _count(first)
    for group in rest:
        hit = done(group.hit(ray))
        hit = hit.replace(shape=hit.shape + count)
        near, count = hit.distance < best.distance, count + _count(group)
        best = jax.tree.map(
            lambda new, old, near=near: jnp.where(near if new.ndim == 1 else near[None], new, old),
            hit,
            best,
        )
    return best


def film(
    scene: Callable[[PyTree], Scene],
    states: PyTree,
    height: int = 240,
    width: int = 320,
    samples: int = 2,
    on_frame: Callable[[int], None] = lambda number: None,
) -> list[np.ndarray]:
    """Pictures ``[height, width, 3]`` of states ``[T, ...]``, one after the other, on the host;
    ``on_frame(number)`` is called after each.
    """
    draw = jax.jit(lambda states, i: render(scene(_at(states, i)), height, width, samples=samples))
    frames = []
    for number in range(len(jax.tree.leaves(states)[0])):
        frames.append(np.asarray(draw(states, number)))
        on_frame(number + 1)
    return frames


def _at(states: PyTree, index: Array) -> PyTree:
    return jax.tree.map(lambda x: x[index], states)


def mapped(picture: Callable[[PyTree], Array], states: PyTree) -> np.ndarray:
    """``picture(state)`` of states ``[T, ...]``, one after the other, on the host."""
    return np.asarray(jax.jit(functools.partial(jax.lax.map, picture))(states))


def side_by_side(left: Iterable[np.ndarray], right: Iterable[np.ndarray]) -> list[np.ndarray]:
    """Pictures of one height next to each other."""
    return [
        np.concatenate([one, np.full((len(one), GAP, 3), 255, np.uint8), other], axis=1)
        for one, other in zip(left, right, strict=True)
    ]


def single_precision(scene: Scene) -> Scene:
    """In float32, also where JAX computes in 64 bits."""
    result: Scene = jax.tree.map(
        lambda x: (
            jnp.asarray(x, jnp.float32) if jnp.issubdtype(jnp.result_type(x), jnp.floating) else x
        ),
        scene,
    )
    return result


def _lit(scene: Scene, ray: Rays, hit: Hit) -> Array:
    """Colours ``[3, P]`` in [0, 1]: diffuse light without shadows, and the sky."""
    light = scene.light
    bright = light.ambient + light.headlight * jnp.maximum(-dot(hit.normal, ray.direction), 0)
    for direction, strength in zip(light.direction, light.strength, strict=True):
        away = direction / jnp.linalg.norm(direction)
        bright = bright + strength * jnp.maximum(-dot(hit.normal, away), 0)
    bright, height = done(bright), ray.direction[2][None]
    far = jnp.where(height > 0, scene.sky.top[:, None], scene.sky.bottom[:, None])
    sky = scene.sky.horizon[:, None] + jnp.abs(height) * (far - scene.sky.horizon[:, None])
    return jnp.clip(jnp.where((hit.distance < NOTHING)[None], bright[None] * hit.color, sky), 0, 1)


def _count(group: Shapes) -> int:
    return len(jax.tree.leaves(group)[0])
