"""What a chunk of training reports: compensated sums of metrics, ended episodes, and where a value
was not finite.

Metrics are summed on the device in float32 by compensated (two-sum) addition. Scalars that are
summed together are one vector: ten of them are then one operation, or one kernel, instead of ten.
"""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from ddpg_jax.types import AgentState, Array, Metrics, PyTree

NEVER = jnp.iinfo(jnp.int32).max
"""The first step at which a value was not finite, of a value that always was."""


@struct.dataclass
class CompensatedSum:
    """``value + rest`` of each array in a pytree, float32: ``value`` is the rounded sum, ``rest``
    its rounding error.

    A single float32 stops growing at 2^24 ones. These two together have 48 bits, enough for 2^48
    ones.
    """

    value: PyTree
    rest: PyTree


def zero_sum(like: PyTree) -> CompensatedSum:
    """A sum of zeros with these shapes."""
    zero = lambda x: jnp.zeros(jnp.shape(x), jnp.float32)
    # Two buffers, not one twice: the state is donated.
    return CompensatedSum(value=jax.tree.map(zero, like), rest=jax.tree.map(zero, like))


def compensated_add(total: CompensatedSum, new: PyTree) -> CompensatedSum:
    """The sum with ``new`` added to it, array by array.

    Source: Knuth, The Art of Computer Programming, volume 2, section 4.2.2, theorem B (the exact
    error of a float addition).
    """

    def add(value: Array, rest: Array, x: Array) -> tuple[Array, Array]:
        x = jnp.asarray(x, jnp.float32)
        rounded = value + x
        part = rounded - value
        left = rest + ((value - (rounded - part)) + (x - part))
        whole = rounded + left
        return whole, left - (whole - rounded)

    both = jax.tree.map(add, total.value, total.rest, new)
    value, rest = jax.tree.transpose(
        jax.tree.structure(total.value), jax.tree.structure((0, 0)), both
    )
    return CompensatedSum(value=value, rest=rest)


@struct.dataclass
class Stacked:
    """The scalars of a pytree as one vector ``values: [..., K]``."""

    values: Array
    structure: Any = struct.field(pytree_node=False)


def stacked(scalars: PyTree, dtype: Any = jnp.float32) -> Stacked:
    """A pytree of scalars as one vector of this dtype."""
    leaves, structure = jax.tree.flatten(scalars)
    places, values = jnp.arange(len(leaves)), jnp.zeros(len(leaves), dtype)
    # XLA fuses this with what follows; a concatenation is a kernel for each use.
    for place, x in enumerate(leaves):
        values = jnp.where(places == place, jnp.asarray(x, dtype), values)
    return Stacked(values=values, structure=structure)


def unstacked(vector: Stacked) -> PyTree:
    """The pytree again, its leaves ``[...]``."""
    scalars = [vector.values[..., place] for place in range(vector.values.shape[-1])]
    return jax.tree.unflatten(vector.structure, scalars)


@struct.dataclass
class Totals:
    """Running totals of a chunk: ``total`` of `Stacked` scalars, and ``bad``, the first vector step
    at which each of them was not finite, or `NEVER`.
    """

    total: CompensatedSum
    bad: Stacked


def zero_totals(like: PyTree) -> Totals:
    """Totals of zero, of a pytree of scalars like these (or their shapes)."""
    vector = jax.eval_shape(stacked, like)
    return Totals(
        total=zero_sum(vector),
        bad=jax.tree.map(lambda x: jnp.full(x.shape, NEVER, jnp.int32), vector),
    )


def accumulate(totals: Totals, new: PyTree, step: Array) -> Totals:
    """The totals with the scalars ``new``, of vector step ``step``, added."""
    total = compensated_add(totals.total, stacked(new))
    # A sum is not finite from the first value on that is not: XLA makes one kernel of both.
    earliest = lambda bad, x: jnp.minimum(bad, jnp.where(jnp.isfinite(x), NEVER, step))
    return Totals(total=total, bad=jax.tree.map(earliest, totals.bad, total.value))


def read_totals(totals: Totals) -> tuple[PyTree, PyTree]:
    """The scalars' sums, and the first vector step at which each was not finite."""
    return unstacked(totals.total.value), unstacked(totals.bad)


def psum_totals(
    found: tuple[Totals, Stacked], axis_name: str | None
) -> tuple[tuple[Totals, Stacked], int]:
    """A chunk's totals and ``bad`` of `ddpg_jax.learner.TrainState` over all shards of a mesh axis,
    and the number of shards.

    Without an axis (None) they are returned as they are, with 1.
    """
    if axis_name is None:
        return found, 1
    totals, bad = found
    value = jax.lax.psum(totals.total.value, axis_name)
    earliest, bad = jax.lax.pmin((totals.bad, bad), axis_name)
    whole = Totals(total=replace(totals.total, value=value), bad=earliest)
    return (whole, bad), jax.lax.axis_size(axis_name)


@struct.dataclass
class Episodes:
    """Sums over the episodes that ended: ``count``, ``return_sum`` (undiscounted) and
    ``length_sum``, float32 scalars.

    ``broken`` counts those that a breakdown of the simulation cut off; they are in none of the
    others.
    """

    count: Array
    return_sum: Array
    length_sum: Array
    broken: Array


@struct.dataclass
class Report:
    """What one chunk reports, of fixed shape.

    ``episodes``: sums over episodes that ended. ``metrics``: means over the chunk's updates.
    ``first_bad_step``: for each of the metrics and each kind of collected data (action,
    observation, reward), the first vector step at which it was not finite, or `NEVER`. ``finite``:
    for each array of the agent's parameters, whether it is finite now.
    """

    episodes: Episodes
    metrics: Metrics
    first_bad_step: dict[str, Array]
    finite: dict[str, Array]


def first_bad(watched: dict[str, PyTree], step: Array) -> Stacked:
    """``step`` for each of the named values that is not finite, `NEVER` for the others."""
    fine = stacked({name: finite(value) for name, value in watched.items()}, bool)
    return replace(fine, values=jnp.where(fine.values, NEVER, step))


def finite(tree: PyTree) -> Array:
    """Whether all floats in a pytree are finite; integers always are."""
    leaves = [x for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.inexact)]
    return (
        jnp.all(jnp.stack([jnp.all(jnp.isfinite(x)) for x in leaves]))
        if leaves
        else jnp.asarray(True)
    )


def finite_leaves(agent_state: AgentState) -> dict[str, Array]:
    """For each array of both networks' parameters, whether it is finite."""
    networks = {"actor": agent_state.actor, "critic": agent_state.critic}
    params = {name: (network.params, network.target_params) for name, network in networks.items()}
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return {jax.tree_util.keystr(path): finite(leaf) for path, leaf in leaves}
