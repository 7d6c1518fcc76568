"""Running sums in float32 that do not stop growing: what rounding leaves out of a sum is kept beside it.

Scalars that are summed together are one vector: ten of them are then one operation, or one kernel, instead of ten.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from ddpg_jax.types import PyTree


@struct.dataclass
class Total:
    """``value + rest`` of each array in a pytree, float32: ``value`` is the sum, rounded; ``rest`` what that left out of it.

    A single float32 stops at 2^24 ones. The two of a total together have 48 bits, enough for 2^48 ones.
    """

    value: PyTree
    rest: PyTree


def nothing(like: PyTree) -> Total:
    """A total of zeros with these shapes."""
    zeros = lambda: jax.tree.map(lambda x: jnp.zeros(jnp.shape(x), jnp.float32), like)
    return Total(value=zeros(), rest=zeros())  # two buffers, not one twice: the state is donated


def accumulate(total: Total, new: PyTree) -> Total:
    """The total with ``new`` added to it, array by array.

    Source: Knuth, The Art of Computer Programming, volume 2, section 4.2.2, theorem B (the exact error of a float addition).
    """

    def add(value: jax.Array, rest: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        x = jnp.asarray(x, jnp.float32)
        rounded = value + x
        part = rounded - value
        left = rest + ((value - (rounded - part)) + (x - part))
        whole = rounded + left
        return whole, left - (whole - rounded)

    both = jax.tree.map(add, total.value, total.rest, new)
    value, rest = jax.tree.transpose(jax.tree.structure(total.value), jax.tree.structure((0, 0)), both)
    return Total(value=value, rest=rest)


@struct.dataclass
class Stacked:
    """The scalars of a pytree as one vector ``values: [..., K]``."""

    values: jax.Array
    structure: Any = struct.field(pytree_node=False)


def stacked(scalars: PyTree, dtype: Any = jnp.float32) -> Stacked:
    """A pytree of scalars as one vector of this dtype."""
    leaves, structure = jax.tree.flatten(scalars)
    places, values = jnp.arange(len(leaves)), jnp.zeros(len(leaves), dtype)
    for place, x in enumerate(leaves):  # XLA fuses this with what follows; a concatenation is a kernel for each use
        values = jnp.where(places == place, jnp.asarray(x, dtype), values)
    return Stacked(values=values, structure=structure)


def unstacked(vector: Stacked) -> PyTree:
    """The pytree again, its leaves ``[...]``."""
    return jax.tree.unflatten(vector.structure, [vector.values[..., place] for place in range(vector.values.shape[-1])])
