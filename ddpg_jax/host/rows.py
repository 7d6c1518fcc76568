"""What crosses to the device: one row of bytes for each environment and vector step."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ddpg_jax.environment import HostEnvironment
from ddpg_jax.types import Array, PyTree


def row_shapes(env: HostEnvironment) -> dict[str, Any]:
    """Shapes of what a vector step returned, for one environment.

    ``done``: an episode ended with this step; ``first``: one begins with the answer to
    ``observation``.
    """
    number = jax.ShapeDtypeStruct((), np.float32)
    flag = jax.ShapeDtypeStruct((), np.bool_)
    return {
        "reward": number,
        "discount": number,
        "done": flag,
        "first": flag,
        "valid": flag,
        "observation": env.observation,
        "next_observation": env.observation,
    }


def pack(tree: PyTree) -> np.ndarray:
    """Arrays ``[E, ...]`` of any dtype as bytes ``[E, R]``."""
    leaves = [np.ascontiguousarray(leaf) for leaf in jax.tree.leaves(tree)]
    return np.concatenate([leaf.reshape(len(leaf), -1).view(np.uint8) for leaf in leaves], axis=1)


def unpack(row: Array, like: PyTree) -> PyTree:
    """The arrays ``[E, ...]`` in ``row: [E, R]``, shaped as ``like`` for each environment."""
    leaves, structure = jax.tree.flatten(like)
    arrays, start = [], 0
    for leaf in leaves:
        size, width = leaf.size, leaf.dtype.itemsize
        part = row[:, start : start + size * width]
        start += size * width
        if leaf.dtype == np.bool_:
            part = part != 0
        else:
            part = jax.lax.bitcast_convert_type(
                part if width == 1 else part.reshape(-1, size, width), leaf.dtype
            )
        arrays.append(part.reshape(-1, *leaf.shape))
    return jax.tree.unflatten(structure, arrays)


def packed(env: HostEnvironment) -> jax.ShapeDtypeStruct:
    """The shape of what `pack` makes of `row_shapes` of each environment."""
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(row_shapes(env)))
    return jax.ShapeDtypeStruct((env.num_envs, size), jnp.uint8)
