"""How a training state lies in checkpoints: on how many shards, in how many processes; and how one
becomes another."""

from __future__ import annotations

import functools
from typing import Any

import jax
import numpy as np

from ddpg_jax.learner import TrainState
from ddpg_jax.replay.dealing import dealt
from ddpg_jax.replay.prioritised import PrioritisedState
from ddpg_jax.replay.rows import RingState
from ddpg_jax.types import PyTree, is_key

RESHARDED = 0x5AD0
"""Folded into a key: what the keys of new shards come from."""


def fetched(tree: PyTree) -> PyTree:
    """All of the arrays as NumPy's, of those that lie on several hosts too: then every process
    calls it."""
    if all(
        x.is_fully_addressable or x.is_fully_replicated
        for x in jax.tree.leaves(tree)
        if isinstance(x, jax.Array)
    ):
        return jax.tree.map(lambda x: np.asarray(raw(x)), tree)
    from jax.experimental import multihost_utils

    return multihost_utils.process_allgather(jax.tree.map(raw, tree), tiled=True)


def fetched_arrays(tree: PyTree) -> PyTree:
    """The same on JAX's default device of this process, random keys among them."""
    return jax.tree.map(lambda x, like: _typed(jax.numpy.asarray(x), like), fetched(tree), tree)


def _typed(array: jax.Array, like: Any) -> jax.Array:
    return jax.random.wrap_key_data(array) if is_key(like) else array


def raw(leaf: Any) -> Any:
    """The array, of random keys their data."""
    return jax.random.key_data(leaf) if is_key(leaf) else leaf


def local(tree: PyTree) -> PyTree:
    """What this process holds of each array, each part once: a block of it, as NumPy's."""
    return jax.tree.map(lambda x: _block(raw(x)), tree)


def _block(x: jax.Array) -> np.ndarray:
    parts = {
        tuple((s.start or 0, s.stop) for s in shard.index): shard for shard in x.addressable_shards
    }
    starts = [min(place[axis][0] for place in parts) for axis in range(x.ndim)]
    stops = [max(_stop(place[axis], x.shape[axis]) for place in parts) for axis in range(x.ndim)]
    block = np.empty([b - a for a, b in zip(starts, stops, strict=True)], x.dtype)
    for place, shard in parts.items():
        inside = tuple(
            slice(a - low, _stop((a, b), size) - low)
            for (a, b), low, size in zip(place, starts, x.shape, strict=True)
        )
        block[inside] = np.asarray(shard.data)
    return block


def _stop(place: tuple[int, int | None], size: int) -> int:
    return size if place[1] is None else place[1]


def placed(tree: PyTree, like: PyTree, blocks: bool = False) -> PyTree:
    """NumPy's arrays where the shapes of ``like`` say, random keys among them.

    Args:
        tree: whole arrays, the same in all processes, or with ``blocks`` what `local` gave in each.
        like: shapes with shardings; of those without one the array is on JAX's default device.
    """

    def one(x: np.ndarray, like: Any) -> Any:
        sharding = getattr(like, "sharding", None)
        if sharding is None:
            array = jax.numpy.array(x, copy=True)
        elif blocks:
            shape = jax.eval_shape(raw, jax.ShapeDtypeStruct(like.shape, like.dtype)).shape
            array = jax.make_array_from_process_local_data(
                sharding, np.asarray(x, order="C"), shape
            )
        else:
            array = jax.make_array_from_callback(x.shape, sharding, lambda index: x[index])
        return _typed(array, like)

    return jax.tree.map(one, tree, like)


def joined(parts: list[PyTree], like: PyTree) -> PyTree:
    """The whole arrays, of what each process held of them, the first process first.

    Args:
        parts: of `local`.
        like: shapes of the whole, of random keys of their data.
    """

    def one(like: Any, *blocks: np.ndarray) -> np.ndarray:
        return _assembled(list(blocks), tuple(like.shape))

    return jax.tree.map(one, like, *parts)


def _assembled(blocks: list[np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    """Blocks lie in the order of the array's axes; equal ones that several processes hold follow
    each other."""
    if blocks[0].shape == shape:
        return blocks[0]
    cuts = [size // part for size, part in zip(shape, blocks[0].shape, strict=True)]
    different = int(np.prod(cuts))
    blocks = blocks[:: len(blocks) // different]
    for axis in range(len(shape) - 1, -1, -1):
        count = cuts[axis]
        blocks = [
            np.concatenate(blocks[i : i + count], axis=axis) for i in range(0, len(blocks), count)
        ]
    return blocks[0]


def resharded(state: TrainState, old: int, new: int, like: TrainState, many: bool) -> TrainState:
    """A state on another number of shards: the same agent, everything collected, and other random
    numbers from here on.

    Args:
        state: NumPy's arrays, of random keys their data, on ``old`` shards.
        old, new: numbers of shards; of 1 there is no axis.
        like: shapes of the state on ``new`` shards, of keys of their data.
        many: whether there is an axis of members before that of shards.

    Raises:
        ValueError: a part is of a kind that is not known how to split.
    """
    if many:
        members = jax.tree.leaves(state.agent)[0].shape[0]
        at = lambda i, tree: jax.tree.map(lambda x: x[i], tree)
        below = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), like)
        single = [resharded(at(i, state), old, new, below, False) for i in range(members)]
        return jax.tree.map(lambda *x: np.stack(x), *single)
    parts = {
        name: getattr(state, name) for name in ("replay", "collector", "steps", "bad", "window")
    }
    shapes: dict[str, Any] = {name: getattr(like, name) for name in parts}
    if old == 1:
        parts, state = jax.tree.map(lambda x: x[None], parts), state.replace(key=state.key[None])  # type: ignore[attr-defined]
    if new == 1:
        shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct((1, *x.shape), x.dtype), shapes)
    is_ring = lambda x: isinstance(x, RingState | PrioritisedState)
    split = functools.partial(_split, old=old, new=new)
    made = jax.tree.map(
        lambda x, y: dealt(x, new) if is_ring(x) else split(x, y), parts, shapes, is_leaf=is_ring
    )
    made["bad"] = jax.tree.map(
        lambda x: np.repeat(x.min(axis=0, keepdims=True), new, axis=0), parts["bad"]
    )
    made["key"] = _keys(state.key, new)
    if new == 1:
        made = jax.tree.map(lambda x: x[0], made)
    return state.replace(**made)  # type: ignore[attr-defined]


def _keys(keys: Any, new: int) -> np.ndarray:
    """Of each new shard, one of its own: not what the first one's is split into, which small
    numbers folded in would be."""
    old, root = len(keys), jax.random.fold_in(jax.random.wrap_key_data(keys[0]), RESHARDED)
    fold = jax.vmap(lambda shard: jax.random.fold_in(root, shard))
    extra = np.asarray(jax.random.key_data(fold(jax.numpy.arange(old, max(old, new) + 1))))
    return np.concatenate([keys, extra])[:new]


def _split(x: np.ndarray, like: Any, *, old: int, new: int) -> np.ndarray:
    """``[old, ...]`` as ``[new, ...]``: cut anew along the axis of environments, or where there is
    none each the first's."""
    before, after = x.shape[1:], tuple(like.shape[1:])
    if before == after:
        return np.stack([x[shard % old] for shard in range(new)])
    axes = [axis for axis, (a, b) in enumerate(zip(before, after, strict=True)) if a != b]
    if len(before) != len(after) or len(axes) != 1 or before[axes[0]] * old != after[axes[0]] * new:
        raise ValueError(
            f"an array of shape {before} in each of {old} shards is not known how to "
            f"split over {new}."
        )
    axis = axes[0]
    return np.stack(np.split(np.concatenate(list(x), axis=axis), new, axis=axis))
