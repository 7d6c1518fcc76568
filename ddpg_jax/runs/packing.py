"""A pytree as bytes, one leaf after the other, and what its leaves are."""

from __future__ import annotations

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ddpg_jax.runs.layout import raw
from ddpg_jax.types import PyTree, is_key


def specification(tree: PyTree) -> list[list]:
    """``[name, dtype, shape]`` of every leaf."""
    return [
        [jax.tree_util.keystr(path), str(x.dtype), list(x.shape)]
        for path, x in jax.tree.leaves_with_path(tree)
    ]


def require_same(step: int, found: list[list], wanted: list[list]) -> None:
    """Both of `specification`.

    Raises:
        ValueError: the checkpoint's leaves are not those that are wanted.
    """
    if found == wanted:
        return
    there, here = next(pair for pair in itertools.zip_longest(found, wanted) if pair[0] != pair[1])
    raise ValueError(
        f"checkpoint {step} is of another training state than this configuration's: "
        f"{_said(there)} there, {_said(here)} here. "
        "Go on with the version and the config.json that it was written by."
    )


def _said(leaf: list | None) -> str:
    return "nothing more" if leaf is None else f"{leaf[0]} is {leaf[1]}{leaf[2]}"


def packed(tree: PyTree) -> np.ndarray:
    """A copy of every leaf's bytes, one after the other."""
    leaves = [np.asarray(leaf) for leaf in jax.device_get(jax.tree.leaves(jax.tree.map(raw, tree)))]
    data, end = np.empty(sum(leaf.nbytes for leaf in leaves), np.uint8), 0
    for leaf in leaves:
        begin, end = end, end + leaf.nbytes
        data[begin:end] = np.ascontiguousarray(leaf).reshape(-1).view(np.uint8)
    return data


def arrays(data: np.ndarray, like: PyTree) -> PyTree:
    """What was packed, as NumPy's arrays in these bytes; of random keys their data.

    Args:
        data: of `packed`.
        like: a pytree of arrays or shapes with the same leaves.
    """
    end = 0

    def one(leaf: Any) -> np.ndarray:
        nonlocal end
        stored = jax.eval_shape(raw, leaf)
        begin, end = end, end + stored.size * stored.dtype.itemsize
        return data[begin:end].view(stored.dtype).reshape(stored.shape)

    return jax.tree.map(one, like)


def unpacked(data: np.ndarray, like: PyTree) -> PyTree:
    """The arrays that `packed` copied; ``like`` has their structure, shapes and dtypes."""

    def one(stored: np.ndarray, leaf: Any) -> jax.Array:
        array = jnp.array(stored, copy=True)
        return jax.random.wrap_key_data(array) if is_key(leaf) else array

    return jax.tree.map(one, arrays(data, like), like)
