"""A perspective camera, and the rays it looks along."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct


@struct.dataclass
class Camera:
    """``position: [3]``; ``rotation: [3, 3]``, its columns point right, up and backwards;
    ``field_of_view``: rad, from the lowest pixel to the highest.
    """

    position: jax.Array
    rotation: jax.Array
    field_of_view: jax.Array | float = math.pi / 4


@struct.dataclass
class Rays:
    """``P`` rays from one point: ``origin: [3]``, ``direction: [3, P]`` of length 1, and the
    ``angle`` (rad) between two of them.
    """

    origin: jax.Array
    direction: jax.Array
    angle: jax.Array


def look_at(
    position: jax.Array,
    target: jax.Array,
    *,
    up: jax.Array | None = None,
    field_of_view: jax.Array | float = math.pi / 4,
) -> Camera:
    """A camera at ``position: [3]`` that looks at ``target: [3]``.

    ``up: [3]`` is where the sky is; None is (0, 0, 1), which will not do for a camera that looks
    along it.
    """
    position, target = jnp.asarray(position, jnp.float32), jnp.asarray(target, jnp.float32)
    back = _unit(position - target)
    right = _unit(
        jnp.cross(
            jnp.array([0.0, 0.0, 1.0], jnp.float32) if up is None else jnp.asarray(up, jnp.float32),
            back,
        )
    )
    return Camera(position, jnp.stack([right, jnp.cross(back, right), back], axis=1), field_of_view)


def rays(camera: Camera, height: int, width: int) -> Rays:
    """One ray through the middle of each pixel, row by row from the top: ``P = height * width``."""
    slope = jnp.tan(jnp.asarray(camera.field_of_view, jnp.float32) / 2)
    up, right = np.meshgrid(_centres(height)[::-1], _centres(width) * width / height, indexing="ij")
    seen = [
        right.reshape(1, -1).astype(np.float32) * slope,
        up.reshape(1, -1).astype(np.float32) * slope,
    ]
    columns = jnp.asarray(camera.rotation, jnp.float32)
    # Sums of products, not a matrix product: accelerators round the factors of those.
    direction = columns[:, :1] * seen[0] + columns[:, 1:2] * seen[1] - columns[:, 2:]
    length = jnp.sqrt(1 + seen[0] ** 2 + seen[1] ** 2)
    return Rays(jnp.asarray(camera.position, jnp.float32), direction / length, 2 * slope / height)


def _centres(count: int) -> np.ndarray:
    return (2 * np.arange(count) + 1 - count) / count


def _unit(vector: jax.Array) -> jax.Array:
    result: jax.Array = vector / jnp.linalg.norm(vector)
    return result
