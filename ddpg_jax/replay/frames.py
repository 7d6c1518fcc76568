"""Images stored once: frames of stacks in a ring of their own, rows that hold where they lie; all
at a cost of O(batch).
"""

import dataclasses
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from ddpg_jax import checks
from ddpg_jax.replay.dealing import assign, moved
from ddpg_jax.replay.rows import LARGEST, RingState, columns, rows
from ddpg_jax.types import Dealt, PyTree, Storage

if TYPE_CHECKING:
    from collections.abc import Callable


class Images(NamedTuple):
    """Which leaves of an observation are images, and their shapes; ``stack``: S, the frames joined
    in each.
    """

    structure: Any
    places: tuple[int, ...]
    shapes: tuple[tuple[int, ...], ...]
    stack: int


@struct.dataclass
class Row:
    """What a row holds: the transition with an observation as
    ``(its other leaves, its frames' slots [S])``, oldest first, and which frame, counted from the
    first ever written, was the oldest of them.
    """

    transition: PyTree
    oldest: jax.Array


@struct.dataclass
class RecentFrames:
    """Frames that each environment showed in its last transitions: fingerprints ``[E, K, 2]``,
    slots and numbers ``[E, K]``.
    """

    fingerprint: jax.Array
    slot: jax.Array
    number: jax.Array


@struct.dataclass
class FramesState:
    """``ring``: a `Row` for each transition. ``frames: [F, pixels]``: one row a frame. ``head``:
    the slot written next; ``written``: frames ever written, modulo 2^32. ``seen``: where to find
    what comes again.
    """

    ring: RingState
    frames: jax.Array
    head: jax.Array
    written: jax.Array
    seen: RecentFrames
    images: Images = struct.field(pytree_node=False)

    @property
    def position(self) -> jax.Array:
        """The row written next."""
        return self.ring.position

    @property
    def size(self) -> jax.Array:
        """Rows with data."""
        return self.ring.size


def frames(
    capacity: int, *, stack: int, num_envs: int, n_step: int = 1, episode_steps: int = 20
) -> Storage:
    """The last ``capacity`` transitions, of whose images (uint8, at least three axes) every frame
    is stored once.

        functools.partial(replay.frames, stack=3, num_envs=env.num_envs)  # for `storage`

    What ``add`` is given and ``get`` gives back are whole stacks, as of
    `ddpg_jax.envs.frame_stack`, newest frame last. A frame that the same environment showed in its
    last ``n_step`` transitions is known by 64 bits of its content and not written again, so nothing
    depends on where episodes begin or how they end: any stacks come back as they were, and frames
    that are not found again cost their bytes alone. An episode of L steps has L + 1 frames,
    whatever the stack and ``n_step``; bytes are

        (capacity (1 + 1 / episode_steps) + 4 E (n_step + S)) pixels + capacity (4 (2 S + 1) + what
        is no image)

    with ``pixels`` of one frame. Where episodes are shorter than that throughout, the frames of the
    oldest transitions are written over, and newer ones are given out in their place: never a wrong
    one.

    Args:
        capacity: number of transitions kept, a multiple of ``num_envs``.
        stack: S, frames joined along the last axis of an image, each ``[H, W, C]`` of
            ``[H, W, S C]``. 1 where successive observations share nothing but the successor: the
            paper's three simulated steps to one action.
        num_envs: E, transitions added at once, always of the same environments in the same order.
        n_step: the length of the window of multi-step returns.
        episode_steps: steps of an episode, at least, on average over what is stored.

    Raises:
        ValueError: a number is out of its range, or, from ``init``, no leaf of the observation is
            an image, or the last axis of one is not a multiple of ``stack``.

    Source: one frame a step and stacks by index, as in jaxrl2's MemoryEfficientReplayBuffer;
    content in place of rules for the beginnings and ends of episodes is ours.
    """
    checks.between(
        1, float("inf"), stack=stack, num_envs=num_envs, n_step=n_step, episode_steps=episode_steps
    )
    ring = rows(capacity)
    if capacity % num_envs:
        raise ValueError(
            f"capacity={capacity} is not a multiple of num_envs={num_envs}: choose for example "
            f"{max(1, capacity // num_envs) * num_envs}."
        )
    recent = 2 * num_envs * (n_step + stack)
    room = capacity + capacity // episode_steps + 2 * recent
    checks.between(1, LARGEST, **{"frames of the replay": room})

    def init(transition: PyTree) -> FramesState:
        images = _images(transition.observation, stack)
        one = jax.tree.map(lambda x: jnp.asarray(x)[None], transition)
        slots, count = jnp.zeros((1, 2, stack), jnp.int32), jnp.zeros((), jnp.uint32)
        return FramesState(
            ring=ring.init(jax.tree.map(lambda x: x[0], _row(one, slots, count[None], images))),
            frames=jnp.zeros((room, _split(one.observation, images)[1].shape[-1]), jnp.uint8),
            head=jnp.zeros((), jnp.int32),
            written=count,
            seen=_nothing_seen(num_envs, 2 * stack * n_step),
            images=images,
        )

    def add(state: FramesState, transitions: PyTree, valid: jax.Array | None = None) -> FramesState:
        return _added(state, transitions, valid, ring, recent)

    def get(state: FramesState, rows: jax.Array) -> PyTree:
        lost = state.written - ring.get(state.ring, rows).oldest >= room
        # As many of the newest as are there even where every frame of every stack was a new one.
        newer = (state.position - 1 - rows % max(1, capacity // (2 * stack))) % capacity
        return _whole(state, ring.get(state.ring, jnp.where(lost, newer, rows)))

    def deal(states: FramesState, count: int) -> Dealt:
        return _dealt(states, count, capacity, room, num_envs)

    return Storage(init, add, get, capacity, deal)


def _added(
    state: FramesState, transitions: PyTree, valid: jax.Array | None, ring: Storage, recent: int
) -> FramesState:
    room = state.frames.shape[0]
    shown = (transitions.observation, transitions.next_observation)
    both = jnp.concatenate([_split(x, state.images)[1] for x in shown], axis=1)  # [E, 2 S, pixels]
    wanted = jnp.ones(both.shape[:1], bool) if valid is None else valid
    found, new = _found(state, _fingerprint(both), wanted, recent)
    written = state.written + jnp.sum(new, dtype=jnp.uint32)
    oldest = written - jnp.max(written - found.number, axis=1)
    row = _row(transitions, found.slot.reshape(-1, 2, state.images.stack), oldest, state.images)

    def keep(now: jax.Array, past: jax.Array) -> jax.Array:
        newest = jnp.concatenate([now, past], axis=1)[:, : past.shape[1]]
        return jnp.where(wanted.reshape(-1, *(1,) * (past.ndim - 1)), newest, past)

    return dataclasses.replace(
        state,
        ring=ring.add(state.ring, row, valid),
        frames=state.frames.at[jnp.where(new, found.slot, room)].set(both, mode="drop"),
        head=(state.head + jnp.sum(new, dtype=jnp.int32)) % room,
        written=written,
        seen=jax.tree.map(keep, found, state.seen),
    )


def _whole(state: FramesState, row: Row) -> PyTree:
    """The transitions of rows, with their stacks."""

    def stacked(part: tuple[list[jax.Array], jax.Array]) -> PyTree:
        return _join(part[0], state.frames.at[part[1]].get(mode="promise_in_bounds"), state.images)

    kept = row.transition
    return dataclasses.replace(
        kept, observation=stacked(kept.observation), next_observation=stacked(kept.next_observation)
    )


def _nothing_seen(*shape: int) -> RecentFrames:
    long_ago = jnp.full(shape, 2**31, jnp.uint32)
    return RecentFrames(
        fingerprint=jnp.zeros((*shape, 2), jnp.uint32),
        slot=jnp.zeros(shape, jnp.int32),
        number=long_ago,
    )


def _images(observation: PyTree, stack: int) -> Images:
    leaves, structure = jax.tree.flatten(observation)
    shapes = [jnp.shape(x) for x in leaves]
    places = [i for i, x in enumerate(leaves) if checks.is_image(x)]
    if not places:
        raise ValueError(
            "frames are of images, uint8 [H, W, channels], but the observation has none: "
            "store it by replay.rows."
        )
    for i in places:
        if shapes[i][-1] % stack:
            raise ValueError(
                f"stack={stack}: an image of shape {shapes[i]} is not as many frames, "
                "joined along its last axis; choose a "
                f"divisor of {shapes[i][-1]}."
            )
    return Images(structure, tuple(places), tuple(shapes[i] for i in places), stack)


def _row(transition: Any, slots: jax.Array, oldest: jax.Array, images: Images) -> Row:
    """The rows ``[n, ...]`` of transitions whose frames lie in ``slots: [n, 2, S]``."""
    return Row(
        transition=dataclasses.replace(
            transition,
            observation=(_split(transition.observation, images)[0], slots[:, 0]),
            next_observation=(_split(transition.next_observation, images)[0], slots[:, 1]),
        ),
        oldest=oldest,
    )


def _split(observation: PyTree, images: Images) -> tuple[list[jax.Array], jax.Array]:
    """Leaves that are no images, and the frames of those that are, ``[n, S, pixels]``."""
    leaves = images.structure.flatten_up_to(observation)
    shown = [
        leaves[i].reshape(leaves[i].shape[0], -1, images.stack, shape[-1] // images.stack)
        for i, shape in _each(images)
    ]
    flat = [x.swapaxes(1, 2).reshape(x.shape[0], images.stack, -1) for x in shown]
    return [x for i, x in enumerate(leaves) if i not in images.places], jnp.concatenate(
        flat, axis=-1
    )


def _join(others: list[jax.Array], shown: jax.Array, images: Images) -> PyTree:
    """The observations again."""
    leaves, begin = list(others), 0
    for i, shape in _each(images):
        channels = shape[-1] // images.stack
        width = math.prod(shape) // images.stack
        x = shown[..., begin : begin + width].reshape(*shown.shape[:2], -1, channels).swapaxes(1, 2)
        leaves.insert(i, x.reshape(x.shape[0], *shape))
        begin += width
    return jax.tree.unflatten(images.structure, leaves)


def _each(images: Images) -> Any:
    return zip(images.places, images.shapes, strict=True)


def _fingerprint(shown: jax.Array) -> jax.Array:
    """64 bits of each frame, ``[..., pixels]`` to ``[..., 2]``: sums over pixels of numbers drawn
    by place and value.
    """
    place = jnp.arange(shown.shape[-1], dtype=jnp.uint32) << 8
    x = shown.astype(jnp.uint32) | jnp.broadcast_to(place, shown.shape)

    def mixed(x: jax.Array, factor: int, shift: int) -> jax.Array:
        x = (x ^ (x >> shift)) * jnp.uint32(factor)
        return x ^ (x >> 15)

    first = mixed(mixed(x, 0x7FEB352D, 16), 0x846CA68B, 16)
    second = mixed(first + jnp.uint32(0x9E3779B9), 0x85EBCA6B, 13)
    return jnp.stack(
        [jnp.sum(first, axis=-1, dtype=jnp.uint32), jnp.sum(second, axis=-1, dtype=jnp.uint32)],
        axis=-1,
    )


def _found(
    state: FramesState, fingerprint: jax.Array, wanted: jax.Array, recent: int
) -> tuple[RecentFrames, jax.Array]:
    """Where frames ``[E, 2 S]`` lie, or will, and which of them are new."""
    room = state.frames.shape[0]
    alike: Callable[..., Any] = lambda a, b: jnp.all(a[:, :, None] == b[:, None], axis=-1)
    fresh = state.written - state.seen.number <= recent
    before = alike(fingerprint, state.seen.fingerprint) & fresh[:, None]
    again, first = jnp.any(before, axis=-1), jnp.argmax(alike(fingerprint, fingerprint), axis=-1)
    new = ~again & (first == jnp.arange(first.shape[1], dtype=first.dtype)[None]) & wanted[:, None]
    order = jnp.cumsum(new.reshape(-1), dtype=jnp.int32).reshape(new.shape)

    def where(past: jax.Array, now: jax.Array) -> jax.Array:
        at: Callable[..., Any] = lambda x, places: jnp.take_along_axis(x, places, axis=1)
        return jnp.where(again, at(past, jnp.argmax(before, axis=-1)), at(now, first))

    slot = where(state.seen.slot, (state.head + order - 1) % room)
    number = where(state.seen.number, state.written + order.astype(jnp.uint32))
    return RecentFrames(fingerprint=fingerprint, slot=slot, number=number), new


def _dealt(states: FramesState, count: int, capacity: int, room: int, num_envs: int) -> Dealt:
    """Rows that share frames stay together; their frames lie as if added row after row."""
    shards, old_room, pixels = states.frames.shape
    layout = states.ring.layout
    leaves = jax.tree.unflatten(layout.structure, range(len(layout.shapes)))
    shown = (leaves.transition.observation[1], leaves.transition.next_observation[1])
    where = [columns(layout, leaf) for leaf in (*shown, leaves.oldest)]
    *slots, oldest = (states.ring.rows[name][..., own] for name, own in where)
    holds = states.written[:, None] - oldest[..., 0] < old_room
    frame = np.concatenate(slots, axis=-1) + old_room * np.arange(shards)[:, None, None]
    places = assign(states.ring, count, capacity, _chains(frame, holds, shards * old_room))
    ring, frames = moved(states.ring, places, capacity), np.zeros((count, room, pixels), np.uint8)
    written, lost = np.zeros(count, np.uint32), int(states.ring.size.sum() - ring.size.sum())
    for new, taken in enumerate(places):
        kept = np.flatnonzero(holds[taken])
        used, first, which = np.unique(frame[taken][kept], return_index=True, return_inverse=True)
        order = np.argsort(first)
        rank, newest = np.argsort(order), order[-room:]
        place = rank[which].reshape(-1, frame.shape[-1])
        frames[new, rank[newest] % room] = states.frames.reshape(-1, pixels)[used[newest]]
        written[new], gone = used.size, used.size - room  # frames are counted from 1
        first_frame = place.min(axis=1, keepdims=True) + 1
        lost += int(np.sum(first_frame <= gone))
        laid = [*np.split(place % room, 2, axis=1), first_frame]
        for (name, own), part, absent in zip(where, laid, (0, 0, gone % 2**32), strict=True):
            ring.rows[name][new, : len(taken.row), own] = absent
            ring.rows[name][new, kept, own] = part
    state = dataclasses.replace(
        states,
        ring=ring,
        frames=frames,
        head=(written % room).astype(np.int32),
        written=written,
        seen=jax.tree.map(np.asarray, _nothing_seen(count, num_envs, states.seen.slot.shape[-1])),
    )
    return Dealt(state, places, lost)


def _chains(frame: np.ndarray, holds: np.ndarray, frames: int) -> np.ndarray:
    """A number for each row, the same where rows are joined by common frames ``[D, C, 2 S]``."""
    from scipy import sparse

    row, frame = np.flatnonzero(holds), frame[holds]
    edges = (np.repeat(row, frame.shape[-1]), holds.size + frame.reshape(-1))
    graph = sparse.coo_array((np.ones(frame.size, bool), edges), shape=(holds.size + frames,) * 2)
    _, chain = sparse.csgraph.connected_components(graph, directed=False)
    return chain[: holds.size].reshape(holds.shape)
