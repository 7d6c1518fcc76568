"""Uniform sampling, at a cost of O(batch) whatever the capacity."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from ddpg_jax import checks
from ddpg_jax.replay.rows import rows
from ddpg_jax.types import Array, Key, PyTree, Replay, Storage

ONE_WORD = 2**24
"""Up to so many rows 32 random bits tell them apart: probabilities differ by up to 2^24 / 2^32 =
0.4 %.
"""


def uniform(capacity: int, batch_size: int, *, storage: Callable[[int], Storage] = rows) -> Replay:
    """A ring of the last ``capacity`` transitions, sampled uniformly with replacement.

    ``add`` takes ``[n, ...]`` transitions; n must divide ``capacity``, so that one contiguous write
    never wraps. Where some of them may be no transitions, ``valid: [n]`` says which to store. Jit
    it with the state donated and it writes in place. ``sample`` consumes its key and never returns
    a row that was not written; sampling an empty buffer returns row 0, which is all zeros.

    Args:
        capacity: number of transitions kept.
        batch_size: number of transitions per sample.
        storage: how they lie in memory: `rows`, or with options,
            ``functools.partial(rows, observation_dtype=jnp.bfloat16)``.

    Raises:
        ValueError: a size is not positive, ``capacity`` is smaller than ``batch_size`` or greater
            than `rows` can hold, or (from ``add``, when traced) ``capacity`` is not a multiple of
            n.

    Example:
        >>> memory = uniform(capacity=4, batch_size=2)
        >>> state = memory.init({"reward": jnp.float32(0)})
        >>> state = memory.add(state, {"reward": jnp.array([3.0, 3.0])})
        >>> memory.sample(state, jax.random.key(0))["reward"].tolist()
        [3.0, 3.0]

    Source: Lillicrap et al. 2015, section 3 (finite cache, oldest samples discarded, uniform
    minibatch).
    """
    ring = stored(capacity, batch_size, storage)

    def sample(state: Any, key: Key) -> PyTree:
        words = jax.random.bits(key, (1 + (capacity > ONE_WORD), batch_size), jnp.uint32)
        return ring.get(state, below(jnp.maximum(state.size, 1), words))

    return Replay(ring.init, ring.add, sample, deal=ring.deal)


def below(size: Array, words: Array) -> Array:
    """Numbers below ``size`` (positive int32), ``[n]`` int32, of uniform uint32 ``words [1 or 2,
    n]``: one word modulo the size, in which probabilities differ by up to size / 2^32.

    Two words are a number of 64 bits, times the size, of which the 64 bits behind the point are
    dropped: they differ by size / 2^64. (``jax.random.randint`` does not help: what it makes of two
    words is below 2^32 again before it takes the remainder.)
    """
    size = jnp.broadcast_to(size, words.shape[1:]).astype(jnp.uint32)
    if len(words) == 1:
        return (words[0] % size).astype(jnp.int32)
    high, low = words
    carried = high * size + jax.lax.mulhi(low, size) < high * size  # the addition went beyond 2^32
    result: Array = jax.lax.mulhi(high, size) + carried.astype(jnp.uint32)
    return result.astype(jnp.int32)


def stored(capacity: int, batch_size: int, storage: Callable[[int], Storage]) -> Storage:
    """The storage, its size checked against that of a batch."""
    checks.between(1, batch_size=batch_size)
    if capacity < batch_size:
        raise ValueError(
            f"capacity={capacity} is smaller than batch_size={batch_size}: raise the "
            "capacity or lower the batch size."
        )
    return storage(capacity)
