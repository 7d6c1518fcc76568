"""A perspective camera, and the rays it looks along."""

import functools
import math

import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import Array
from jax.typing import ArrayLike


@struct.dataclass
class Camera:
    """``position: [3]``; ``rotation: [3, 3]``, its columns point right, up and backwards;
    ``field_of_view``: rad, from the lowest pixel to the highest.
    """

    position: Array
    rotation: Array
    field_of_view: ArrayLike = math.pi / 4


@struct.dataclass
class Rays:
    """``P`` rays from one point: ``origin: [3]``, ``direction: [3, P]`` of length 1, and the
    ``angle`` (rad) between two of them.
    """

    origin: Array
    direction: Array
    angle: Array


def look_at(
    position: ArrayLike,
    target: ArrayLike,
    *,
    up: ArrayLike | None = None,
    field_of_view: ArrayLike = math.pi / 4,
) -> Camera:
    """A camera at ``position: [3]`` that looks at ``target: [3]``.

    ``up: [3]`` is where the sky is; None is (0, 0, 1), which will not do for a camera that looks
    along it.
    """
    position, target = _single(position), _single(target)
    back = _unit(position - target)
    right = _unit(jnp.cross(_single((0.0, 0.0, 1.0) if up is None else up), back))
    return Camera(position, jnp.stack([right, jnp.cross(back, right), back], axis=1), field_of_view)


def rays(camera: Camera, height: int, width: int) -> Rays:
    """One ray through the middle of each pixel, row by row from the top: ``P = height * width``."""
    slope = jnp.tan(_single(camera.field_of_view) / 2)
    up, right = np.meshgrid(_centres(height)[::-1], _centres(width) * width / height, indexing="ij")
    seen = [x.reshape(1, -1).astype(np.float32) * slope for x in (right, up)]
    columns = _single(camera.rotation)
    # Sums of products, not a matrix product: accelerators round the factors of those.
    direction = columns[:, :1] * seen[0] + columns[:, 1:2] * seen[1] - columns[:, 2:]
    length = jnp.sqrt(1 + seen[0] ** 2 + seen[1] ** 2)
    return Rays(_single(camera.position), direction / length, 2 * slope / height)


def _centres(count: int) -> np.ndarray:
    return (2 * np.arange(count) + 1 - count) / count


def vector(*values: float) -> Array:
    """``[N]``."""
    return jnp.array(values, jnp.float32)


def row(*values: float) -> Array:
    """Of the only one of a group of shapes, ``[1, N]``."""
    return jnp.array([values], jnp.float32)


_single = functools.partial(jnp.asarray, dtype=jnp.float32)


def _unit(vector: Array) -> Array:
    result: Array = vector / jnp.linalg.norm(vector)
    return result
