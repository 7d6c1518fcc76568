"""How transitions lie in memory: a ring of packed rows, written in place; adding and gathering cost
O(batch).
"""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from ddpg_jax import checks
from ddpg_jax.replay.dealing import assign, moved
from ddpg_jax.types import Array, Dealt, PyTree, Storage

LARGEST = 2**30
"""Rows of the largest ring: positions are int32, and a position plus what is added must be one."""


class Layout(NamedTuple):
    """Where the leaves of a transition are in a row: its structure; of each leaf its shape, its
    dtype, and that of the row it lies in.
    """

    structure: Any
    shapes: tuple[tuple[int, ...], ...]
    dtypes: tuple[np.dtype, ...]
    stored: tuple[np.dtype, ...]


@struct.dataclass
class RingState:
    """``rows``: one array ``[capacity, width]`` for each dtype, by its name; ``position``: the row
    written next; ``size``: rows with data.
    """

    rows: dict[str, Array]
    position: Array
    size: Array
    layout: Layout = struct.field(pytree_node=False)

    @property
    def storage(self) -> PyTree:
        """All rows as transitions, leaves ``[capacity, ...]``: a copy, to look at."""
        return unpack(self.rows, self.layout)


def rows(capacity: int, *, observation_dtype: Any = None) -> Storage:
    """The last ``capacity`` transitions, each one row for each dtype that its leaves have.

    One write adds a step of all environments, one gather fetches a minibatch, whatever a transition
    consists of.

    Args:
        capacity: number of transitions kept.
        observation_dtype: what ``observation`` and ``next_observation`` are stored as, and turned
            back from when they are fetched: bfloat16 halves their bytes and keeps 8 bits of
            precision; uint8 quarters them, for whole numbers from 0 to 255 (others are rounded, and
            clipped). None stores them as they come.

    Raises:
        ValueError: ``capacity`` is not positive or greater than `LARGEST`, the dtype is neither of
            floats nor of integers, or (from ``add``, when traced) ``capacity`` is not a multiple of
            what is added at once.
    """
    checks.between(1, LARGEST, capacity=capacity)
    seen = None if observation_dtype is None else np.dtype(observation_dtype)
    if seen is not None and not (
        jnp.issubdtype(seen, jnp.floating) or jnp.issubdtype(seen, jnp.integer)
    ):
        raise ValueError(
            f"observation_dtype={observation_dtype}: must be of floats or integers, as "
            "bfloat16, float32 or uint8."
        )

    def init(transition: PyTree) -> RingState:
        layout = _layout(transition, seen)
        # Two counters, not one twice: the state is donated.
        return RingState(
            rows={
                name: jnp.zeros((capacity, sum(math.prod(layout.shapes[i]) for i in places)), name)
                for name, places in _groups(layout).items()
            },
            position=jnp.int32(0),
            size=jnp.int32(0),
            layout=layout,
        )

    def add(state: RingState, transitions: PyTree, valid: Array | None = None) -> RingState:
        count = jax.tree.leaves(transitions)[0].shape[0]
        if count == 0 or capacity % count:
            raise ValueError(
                f"capacity={capacity} is not a multiple of the {count} transitions added at once: "
                f"choose for example {max(1, capacity // max(count, 1)) * count}."
            )

        def write(buffer: Array, items: Array) -> Array:
            if valid is None:
                return jax.lax.dynamic_update_slice_in_dim(buffer, items, state.position, axis=0)
            return buffer.at[free].set(items, mode="drop")

        free = None if valid is None else free_rows(state, valid, capacity)
        added = count if valid is None else jnp.sum(valid, dtype=jnp.int32)
        return RingState(
            rows=jax.tree.map(write, state.rows, pack(transitions, state.layout)),
            position=(state.position + added) % capacity,
            size=jnp.minimum(state.size + added, capacity),
            layout=state.layout,
        )

    def get(state: RingState, rows: Array) -> PyTree:
        fetched = jax.tree.map(
            lambda buffer: buffer.at[rows].get(mode="promise_in_bounds"), state.rows
        )
        return unpack(fetched, state.layout)

    def deal(states: Any, count: int, places: Any = None) -> Dealt:
        places = assign(states, count, capacity) if places is None else places
        ring = moved(states, places, capacity)
        return Dealt(ring, places, int(states.size.sum() - ring.size.sum()))

    return Storage(init, add, get, capacity, deal)


def free_rows(ring: RingState, valid: Array, capacity: int) -> Array:
    """Where each valid one of ``[n]`` new items goes, without gaps; the others beyond all rows."""
    rows = (ring.position + jnp.cumsum(valid, dtype=jnp.int32) - 1) % capacity
    return jnp.where(valid, rows, jnp.iinfo(jnp.int32).max)


def pack(tree: PyTree, layout: Layout) -> dict[str, Array]:
    """Leaves ``[n, ...]`` as rows ``[n, width]``, by dtype."""
    leaves = layout.structure.flatten_up_to(tree)
    flat = [
        _stored(x.reshape(x.shape[0], -1), dtype)
        for x, dtype in zip(leaves, layout.stored, strict=True)
    ]
    return {
        name: jnp.concatenate([flat[i] for i in places], axis=1)
        for name, places in _groups(layout).items()
    }


def columns(layout: Layout, leaf: int) -> tuple[str, slice]:
    """Where a leaf, by its number, lies: the dtype of its rows, and the columns."""
    name = layout.stored[leaf].name
    before = sum(math.prod(layout.shapes[i]) for i in _groups(layout)[name] if i < leaf)
    return name, slice(before, before + math.prod(layout.shapes[leaf]))


def unpack(rows: dict[str, Array], layout: Layout) -> PyTree:
    """The leaves ``[n, ...]`` again, in their own dtypes; of members as well, ``[M, n, ...]``."""
    leaves = []
    for leaf, (shape, dtype) in enumerate(zip(layout.shapes, layout.dtypes, strict=True)):
        name, own = columns(layout, leaf)
        part = rows[name][..., own]
        leaves.append(part.reshape(*part.shape[:-1], *shape).astype(dtype))
    return jax.tree.unflatten(layout.structure, leaves)


def _layout(transition: PyTree, seen: np.dtype | None) -> Layout:
    leaves, structure = jax.tree_util.tree_flatten_with_path(transition)
    dtypes = tuple(np.dtype(jnp.result_type(x)) for _, x in leaves)
    observed = ("observation", "next_observation")
    stored = tuple(
        seen if seen and path and getattr(path[0], "name", "") in observed else dtype
        for (path, _), dtype in zip(leaves, dtypes, strict=True)
    )
    return Layout(structure, tuple(jnp.shape(x) for _, x in leaves), dtypes, stored)


@functools.cache
def _groups(layout: Layout) -> dict[str, list[int]]:
    """Which leaves are in the rows of each dtype."""
    found: dict[str, list[int]] = {}
    for i, dtype in enumerate(layout.stored):
        found.setdefault(dtype.name, []).append(i)
    return found


def _stored(x: Array, dtype: np.dtype) -> Array:
    if jnp.issubdtype(dtype, jnp.integer) and jnp.issubdtype(x.dtype, jnp.floating):
        info = jnp.iinfo(dtype)
        x = jnp.clip(jnp.round(x), info.min, info.max)
    return x.astype(dtype)
