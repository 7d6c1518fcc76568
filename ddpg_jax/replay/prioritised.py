"""Prioritised sampling with importance weights; a step costs O(batch log capacity)."""

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from ddpg_jax import checks
from ddpg_jax.replay.dealing import laid
from ddpg_jax.replay.ring import stored
from ddpg_jax.replay.rows import RingState, free_rows, rows
from ddpg_jax.types import Array, Dealt, Key, Numeric, PyTree, Replay, Sample, Storage


@struct.dataclass
class PrioritisedState:
    """``ring``: the data. ``levels``: the sum tree, leaves ``[ceil(capacity / F), F]`` first, root
    ``[1, F]`` last; a leaf is p^alpha, any other node the sum of its F children. ``maximum``: the
    largest leaf ever. ``samples``: samples so far.
    """

    ring: RingState
    levels: tuple[Array, ...]
    maximum: Array
    samples: Array


# Children per node. Wide, so that a million rows are four levels: each is one gather, one small
# matrix product, two reductions.
FANOUT = 32
"""Children of a node in the tree of sums."""


def prioritised(
    capacity: int,
    batch_size: int,
    *,
    priority_exponent: Numeric = 0.6,
    importance_exponent: Numeric | Callable[[Array], Array] = 0.4,
    epsilon: Numeric = 1e-6,
    axis_name: str | None = None,
    storage: Callable[[int], Storage] = rows,
) -> Replay:
    r"""A ring of the last ``capacity`` transitions, sampled in proportion to priorities.

    .. math::

        p_i  &= |\text{priority}_i| + \epsilon
             && \text{new transitions: the largest p so far, at first 1} \\
        P(i) &= p_i^\alpha / \sum_k p_k^\alpha
             && \text{one sample from each of B segments of equal probability, in random order} \\
        w_i  &= (N P(i))^{-\beta} / \max_j w_j
             && \text{N: rows with data; the maximum is over the batch}

    ``sample`` hands out a `ddpg_jax.types.Sample`, ``update(state, rows, priority)`` takes
    priorities back. A row that was never written, and a row of priority zero, is never handed out:
    sums are kept in float32 and may round, but a child is only ever chosen where its own sum is
    positive. Every parent is the fresh sum of its children, so errors do not pile up. Nor do they
    with the capacity: each level draws anew within its node, so a child's share is right to about
    1e-6 of the node's sum, and P(i) to the sum of such errors over ``log_32 capacity`` levels.

    Args:
        capacity, batch_size, storage: as in `uniform`.
        priority_exponent: alpha in [0, 1]; 0 is uniform.
        importance_exponent: beta in [0, 1], or a schedule ``samples -> beta`` of the number of
            batches sampled so far (``optax.linear_schedule(0.4, 1.0, updates)``).
        epsilon: at least 0; with 0 a row whose priority is 0 is not sampled again.
        axis_name: of a mesh axis over which this is one ring of more: ``w`` is then of the batch of
            all of them.

    Raises:
        ValueError: as in `uniform`, or an exponent is out of its range.

    Source: Schaul et al. 2016 (arXiv:1511.05952), section 3.3 (proportional), 3.4, Algorithm 1 and
    appendix B.2.1.
    """
    ring = stored(capacity, batch_size, storage)
    checks.between(
        0, 1, priority_exponent=priority_exponent, importance_exponent=importance_exponent
    )
    checks.between(0, epsilon=epsilon)

    def beta(samples: Array) -> Array:
        given = importance_exponent
        return jnp.asarray(given(samples) if callable(given) else given, jnp.float32)

    def init(transition: PyTree) -> PrioritisedState:
        nodes, levels = capacity, list[Array]()
        while not levels or nodes > 1:
            nodes = -(-nodes // FANOUT)
            levels.append(jnp.zeros((nodes, FANOUT), jnp.float32))
        return PrioritisedState(
            ring=ring.init(transition),
            levels=tuple(levels),
            maximum=jnp.float32(1),
            samples=jnp.int32(0),
        )

    def add(
        state: PrioritisedState, transitions: PyTree, valid: Array | None = None
    ) -> PrioritisedState:
        if valid is None:
            rows = state.ring.position + jnp.arange(
                jax.tree.leaves(transitions)[0].shape[0], dtype=jnp.int32
            )
        else:
            rows = free_rows(state.ring, valid, capacity)
        priorities = jnp.full(rows.shape, state.maximum)
        levels = _write(state.levels, rows, priorities)
        return replace(state, ring=ring.add(state.ring, transitions, valid), levels=levels)

    def sample(state: PrioritisedState, key: Key) -> Sample:
        shape = (1 + len(state.levels), batch_size)
        words = jax.random.bits(key, shape, jnp.uint32)  # one draw, one kernel
        segment = _shuffled(words[0]).astype(jnp.float32)  # rows of a batch are exchangeable
        uniforms = (words[1:] >> 8).astype(jnp.float32) * 2.0**-24
        rows, priorities = _descend(
            state.levels, segment / batch_size, (segment + 1) / batch_size, uniforms
        )
        weight = _weights(priorities, jnp.sum(state.levels[-1]), beta(state.samples), axis_name)
        return Sample(batch=ring.get(state.ring, rows), weight=weight, rows=rows)

    def update(state: PrioritisedState, rows: Array, priority: Array) -> PrioritisedState:
        priorities = (jnp.abs(priority) + epsilon) ** priority_exponent
        maximum = jnp.maximum(state.maximum, jnp.max(priorities))
        levels = _write(state.levels, rows, priorities)
        return replace(state, levels=levels, maximum=maximum, samples=state.samples + 1)

    deal = None if ring.deal is None else functools.partial(_deal, ring.deal, capacity)
    return Replay(init, add, sample, update, deal)


def _deal(deal: Callable[[Any, int], Dealt], capacity: int, states: Any, count: int) -> Dealt:
    dealt = deal(states.ring, count)
    priorities = states.levels[0].reshape(len(states.samples), -1)
    leaves = laid(priorities, dealt.places, capacity + -capacity % FANOUT)
    own: list[Any] = [np.full(count, x.max()) for x in (states.maximum, states.samples)]
    return dealt._replace(state=PrioritisedState(dealt.state, _levels(leaves), *own))


def _levels(leaves: np.ndarray) -> Any:
    """The sum trees above leaves ``[D, n]``, n a multiple of the fan-out."""
    levels = [leaves.reshape(len(leaves), -1, FANOUT)]
    while levels[-1].shape[1] > 1:
        sums = levels[-1].sum(axis=-1)
        padded = np.pad(sums, ((0, 0), (0, -sums.shape[1] % FANOUT)))
        levels.append(padded.reshape(len(leaves), -1, FANOUT))
    return tuple(levels)


def _weights(priorities: Array, total: Array, beta: Array, axis_name: str | None) -> Array:
    """``(N P)^-beta`` over its maximum: N and the total cancel, of several shards N alone."""
    shares = priorities if axis_name is None else priorities / total
    least = jnp.min(shares) if axis_name is None else jax.lax.pmin(jnp.min(shares), axis_name)
    return (least / jnp.maximum(shares, jnp.finfo(jnp.float32).tiny)) ** beta


def _shuffled(words: Array) -> Array:
    """The numbers below B, in the order of random ``words: [B]`` that take them as their last bits
    and are sorted.

    On a CPU a sixth of the time of ``jax.random.permutation``, which sorts pairs.
    """
    bits = words.size.bit_length()
    words = words >> bits << bits | jnp.arange(words.size, dtype=jnp.uint32)
    result: Array = jnp.sort(words) & jnp.uint32(2**bits - 1)
    return result


def _write(levels: tuple[Array, ...], rows: Array, priorities: Array) -> tuple[Array, ...]:
    """Set leaves ``rows: [B]``; of a row that comes twice the larger priority stays, on every
    machine alike. O(B) per level.

    A row beyond all (`free_rows`) is beyond all nodes of every level, and JAX drops what is written
    there.
    """
    nodes, children = rows // FANOUT, rows % FANOUT
    leaves = levels[0].at[nodes, children].set(0.0).at[nodes, children].max(priorities)
    new = [leaves]
    for level in levels[1:]:
        sums = jnp.sum(new[-1][nodes], axis=-1)
        nodes, children = nodes // FANOUT, nodes % FANOUT
        new.append(level.at[nodes, children].set(sums))
    return tuple(new)


def _descend(
    levels: tuple[Array, ...], low: Array, high: Array, uniforms: Array
) -> tuple[Array, Array]:
    """A leaf drawn in proportion to its priority from each segment ``[low, high)`` of the whole
    (``[B]``, in [0, 1]), and the priority; ``uniforms: [levels, B]``.

    In each node a point of the segment is drawn anew and chooses a child, and what the segment
    covers of that child is the segment there. One point for all levels would not do: float32 has 24
    bits, which a few levels use up.
    """
    upto = jnp.triu(jnp.ones((FANOUT, FANOUT), jnp.float32))
    numbers = jnp.arange(FANOUT, dtype=jnp.int32)[None]

    def pick(x: Array, index: Array) -> Array:
        return jnp.take_along_axis(x, index[:, None], axis=1)[:, 0]

    node = jnp.zeros(low.shape, jnp.int32)
    weight = jnp.zeros(low.shape, jnp.float32)
    for level, uniform in zip(reversed(levels), uniforms, strict=True):
        weights = level[node]
        sums = jnp.dot(weights, upto, precision="highest")
        total = sums[:, -1]
        mass = (low + uniform * (high - low)) * total
        # The first child that the mass falls into, or, where rounding leaves mass beyond the last
        # sum, the last positive one: such count backwards from 2 F - 1, so that one reduction finds
        # both.
        rank = jnp.where(sums > mass[:, None], numbers, 2 * FANOUT - 1 - numbers)
        found = jnp.min(jnp.where(weights > 0, rank, 2 * FANOUT - 1), axis=1)
        child = jnp.where(found < FANOUT, found, 2 * FANOUT - 1 - found)
        weight = pick(weights, child)
        before, scale = pick(sums, child) - weight, jnp.maximum(weight, jnp.finfo(jnp.float32).tiny)
        low, high = (jnp.clip((end * total - before) / scale, 0.0, 1.0) for end in (low, high))
        node = node * FANOUT + child
    return node, weight
