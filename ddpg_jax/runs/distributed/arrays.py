"""Between arrays on the devices of one or several processes and NumPy's arrays on the host."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from ddpg_jax.types import is_key

if TYPE_CHECKING:
    from ddpg_jax.types import PyTree


def raw(leaf: Any) -> Any:
    """The array itself; of random keys their data."""
    return jax.random.key_data(leaf) if is_key(leaf) else leaf


def raw_shapes(tree: PyTree) -> PyTree:
    """The shapes of `raw` of each leaf, without shardings."""
    return jax.tree.map(lambda x: jax.eval_shape(raw, jax.ShapeDtypeStruct(x.shape, x.dtype)), tree)


def to_host(tree: PyTree) -> PyTree:
    """NumPy's arrays, of random keys their data.

    Of arrays that lie in several processes too: then all processes call this.
    """
    arrays = [x for x in jax.tree.leaves(tree) if isinstance(x, jax.Array)]
    if all(x.is_fully_addressable or x.is_fully_replicated for x in arrays):
        return jax.tree.map(lambda x: np.asarray(raw(x)), tree)
    from jax.experimental import multihost_utils

    return multihost_utils.process_allgather(jax.tree.map(raw, tree), tiled=True)


def to_default_device(tree: PyTree) -> PyTree:
    """As `to_host`, as JAX's arrays on the default device of this process, random keys among
    them.
    """
    return jax.tree.map(lambda x, like: _typed(jnp.asarray(x), like), to_host(tree), tree)


def to_devices(tree: PyTree, like: PyTree, *, donated: bool = True) -> PyTree:
    """Arrays with the shardings of ``like``, random keys among them.

    Args:
        tree: NumPy's arrays, whole and the same in all processes; JAX's arrays stay where they are.
        like: shapes with shardings; an array without one comes to JAX's default device.
        donated: whether they may be written over later: then they share no memory with ``tree``.
    """

    def one(x: Any, like: Any) -> jax.Array:
        sharding = getattr(like, "sharding", None)
        if isinstance(x, jax.Array):
            array = x
        elif sharding is None:
            array = jnp.array(x, copy=True) if donated else jax.device_put(x)
        else:
            array = jax.make_array_from_callback(x.shape, sharding, lambda index: x[index])
        return _typed(array, like)

    return jax.tree.map(one, tree, like)


def _typed(array: jax.Array, like: Any) -> jax.Array:
    return jax.random.wrap_key_data(array) if is_key(like) and not is_key(array) else array
