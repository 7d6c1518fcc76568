"""Batches: dealt into the minibatches of a policy delay, or with some of their parts replaced."""

from typing import Any

import jax
import jax.numpy as jnp

from ddpg_jax.types import Array, Batch, Key, Transition


def deal(key: Key, size: int, count: int) -> tuple[Array, Array]:
    """Rows of ``count`` minibatches ``[count, B / count]``, and where each row of the batch is in
    them, ``[B]``.

    Of every ``count`` rows that follow one another each minibatch gets one, beginning with a
    minibatch that is drawn for them alone: each row is equally likely in each minibatch,
    independently of those of other groups. So a batch in strata stays in strata, and there is
    nothing to sort: on a CPU 5 us for 512 rows, where a random permutation takes 67 us.
    """
    if size % count:
        raise ValueError(
            f"a batch of {size} does not split into policy_delay={count} minibatches: "
            f"sample for example {max(1, round(size / count)) * count}."
        )
    groups, numbers = size // count, jnp.arange(size, dtype=jnp.int32).reshape(-1, count)
    first = (jax.random.bits(key, (groups, 1), jnp.uint32) % count).astype(jnp.int32)
    minibatch = (numbers + first) % count  # [groups, count]
    rows = jnp.take_along_axis(numbers, (numbers - first) % count, axis=1).T
    return rows, (minibatch * groups + numbers // count).reshape(-1)


def with_parts(batch: Batch, **parts: Any) -> Transition:
    """A batch, whatever its type, with some of its parts replaced."""
    names = ("observation", "action", "reward", "discount", "next_observation")
    return Transition(**{name: getattr(batch, name) for name in names} | parts)
