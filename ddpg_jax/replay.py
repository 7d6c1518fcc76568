"""Experience replay on the device: a ring written in place, so that adding and sampling cost O(batch) at any capacity."""

import jax
import jax.numpy as jnp
from flax import struct

from ddpg_jax import checks
from ddpg_jax.types import Key, PyTree, Replay


@struct.dataclass
class RingState:
    """``storage``: leaves ``[capacity, ...]``; ``position``: the row written next; ``size``: rows with data."""

    storage: PyTree
    position: jax.Array
    size: jax.Array


def uniform(capacity: int, batch_size: int) -> Replay:
    """A ring of the last ``capacity`` transitions, sampled uniformly with replacement.

    ``add`` takes ``[n, ...]`` transitions; n must divide ``capacity``, so that one contiguous write never wraps. Jit it with
    the state donated and it writes in place. ``sample`` consumes its key and never returns a row that was not written;
    sampling an empty buffer returns row 0, which is all zeros.

    Args:
        capacity: number of transitions kept.
        batch_size: number of transitions per sample.

    Raises:
        ValueError: a size is not positive, ``capacity`` is smaller than ``batch_size``, or (from ``add``, when traced)
            ``capacity`` is not a multiple of n.

    Source: Lillicrap et al. 2015, section 3 (finite cache, oldest samples discarded, uniform minibatch).
    """
    checks.between(1, float("inf"), batch_size=batch_size)
    if capacity < batch_size:
        raise ValueError(
            f"capacity={capacity} is smaller than batch_size={batch_size}: raise the capacity or lower the batch size."
        )

    def init(transition: PyTree) -> RingState:
        storage = jax.tree.map(lambda x: jnp.zeros((capacity, *jnp.shape(x)), jnp.result_type(x)), transition)
        # Two buffers, not one twice: the state is donated.
        return RingState(storage=storage, position=jnp.zeros((), jnp.int32), size=jnp.zeros((), jnp.int32))

    def add(state: RingState, transitions: PyTree) -> RingState:
        count = jax.tree.leaves(transitions)[0].shape[0]
        if count == 0 or capacity % count:
            raise ValueError(
                f"capacity={capacity} is not a multiple of the {count} transitions added at once: "
                f"choose for example {max(1, capacity // max(count, 1)) * count}."
            )

        def write(buffer: jax.Array, rows: jax.Array) -> jax.Array:
            return jax.lax.dynamic_update_slice_in_dim(buffer, rows.astype(buffer.dtype), state.position, axis=0)

        return RingState(
            storage=jax.tree.map(write, state.storage, transitions),
            position=(state.position + count) % capacity,
            size=jnp.minimum(state.size + count, capacity),
        )

    def sample(state: RingState, key: Key) -> PyTree:
        # One draw modulo the size: rows differ in probability by less than size / 2^32, and it costs half of randint.
        bits = jax.random.bits(key, (batch_size,), jnp.uint32)
        rows = (bits % jnp.maximum(state.size, 1).astype(jnp.uint32)).astype(jnp.int32)
        return jax.tree.map(lambda buffer: buffer.at[rows].get(mode="promise_in_bounds"), state.storage)

    return Replay(init, add, sample)
