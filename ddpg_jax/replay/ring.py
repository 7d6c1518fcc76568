"""A ring written in place, and uniform sampling from it; both cost O(batch) at any capacity."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import struct

from ddpg_jax import checks
from ddpg_jax.types import Key, PyTree, Replay

LARGEST = 2**30
"""Rows of the largest ring: positions are int32, and a position plus what is added must be one."""
ONE_WORD = 2**24
"""Up to so many rows 32 random bits tell them apart: probabilities differ by up to 2^24 / 2^32 = 0.4 %."""


@struct.dataclass
class RingState:
    """``storage``: leaves ``[capacity, ...]``; ``position``: the row written next; ``size``: rows with data."""

    storage: PyTree
    position: jax.Array
    size: jax.Array


def uniform(capacity: int, batch_size: int) -> Replay:
    """A ring of the last ``capacity`` transitions, sampled uniformly with replacement.

    ``add`` takes ``[n, ...]`` transitions; n must divide ``capacity``, so that one contiguous write never wraps. Where some of
    them may be no transitions, ``valid: [n]`` says which to store. Jit it with the state donated and it writes in place.
    ``sample`` consumes its key and never returns a row that was not written; sampling an empty buffer returns row 0, which
    is all zeros.

    Args:
        capacity: number of transitions kept.
        batch_size: number of transitions per sample.

    Raises:
        ValueError: a size is not positive, ``capacity`` is smaller than ``batch_size`` or greater than `LARGEST`, or (from
            ``add``, when traced) ``capacity`` is not a multiple of n.

    Source: Lillicrap et al. 2015, section 3 (finite cache, oldest samples discarded, uniform minibatch).
    """
    init, add = make_ring(capacity, batch_size)

    def sample(state: RingState, key: Key) -> PyTree:
        size = jnp.maximum(state.size, 1).astype(jnp.uint32)
        rows = _below(size, key, batch_size, exact=capacity > ONE_WORD).astype(jnp.int32)
        return jax.tree.map(lambda buffer: buffer.at[rows].get(mode="promise_in_bounds"), state.storage)

    return Replay(init, add, sample)


def _below(size: jax.Array, key: Key, count: int, exact: bool) -> jax.Array:
    """``count`` numbers below ``size``: 32-bit draws modulo the size, in which probabilities differ by up to size / 2^32.

    With ``exact`` a 64-bit draw times the size, of which the 64 bits behind the point are dropped: they differ by size / 2^64.
    (``jax.random.randint`` does not help: what it makes of two words is below 2^32 again before it takes the remainder.)
    """
    if not exact:
        return jax.random.bits(key, (count,), jnp.uint32) % size
    high, low = jax.random.bits(key, (2, count), jnp.uint32)
    size = jnp.broadcast_to(size, high.shape)
    carried = high * size + jax.lax.mulhi(low, size) < high * size  # the addition went beyond 2^32
    return jax.lax.mulhi(high, size) + carried.astype(jnp.uint32)


def free_rows(ring: RingState, valid: jax.Array, capacity: int) -> jax.Array:
    """Where each valid one of ``[n]`` new items goes, without gaps; the others beyond all rows."""
    rows = (ring.position + jnp.cumsum(valid, dtype=jnp.int32) - 1) % capacity
    return jnp.where(valid, rows, jnp.iinfo(jnp.int32).max)


def make_ring(capacity: int, batch_size: int) -> tuple[Callable[[PyTree], RingState], Callable[..., RingState]]:
    """``init`` and ``add`` of a ring, its sizes checked."""
    checks.between(1, float("inf"), batch_size=batch_size)
    if capacity < batch_size:
        raise ValueError(
            f"capacity={capacity} is smaller than batch_size={batch_size}: raise the capacity or lower the batch size."
        )
    checks.between(1, LARGEST, capacity=capacity)

    def init(transition: PyTree) -> RingState:
        storage = jax.tree.map(lambda x: jnp.zeros((capacity, *jnp.shape(x)), jnp.result_type(x)), transition)
        # Two buffers, not one twice: the state is donated.
        return RingState(storage=storage, position=jnp.zeros((), jnp.int32), size=jnp.zeros((), jnp.int32))

    def add(state: RingState, transitions: PyTree, valid: jax.Array | None = None) -> RingState:
        count = jax.tree.leaves(transitions)[0].shape[0]
        if count == 0 or capacity % count:
            raise ValueError(
                f"capacity={capacity} is not a multiple of the {count} transitions added at once: "
                f"choose for example {max(1, capacity // max(count, 1)) * count}."
            )

        def write(buffer: jax.Array, items: jax.Array) -> jax.Array:
            if valid is None:
                return jax.lax.dynamic_update_slice_in_dim(buffer, items.astype(buffer.dtype), state.position, axis=0)
            return buffer.at[rows].set(items.astype(buffer.dtype), mode="drop")

        rows = None if valid is None else free_rows(state, valid, capacity)
        added = count if valid is None else jnp.sum(valid, dtype=jnp.int32)
        return RingState(
            storage=jax.tree.map(write, state.storage, transitions),
            position=(state.position + added) % capacity,
            size=jnp.minimum(state.size + added, capacity),
        )

    return init, add
