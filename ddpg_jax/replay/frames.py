"""Images stored once: frames of stacks in a ring of their own, rows that hold where they lie; all
at a cost of O(batch).
"""

import functools
import math
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from ddpg_jax import checks
from ddpg_jax.replay.frame_dealing import deal_frames
from ddpg_jax.replay.rows import LARGEST, RingState, rows
from ddpg_jax.types import Array, Dealt, PyTree, Storage


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
    oldest: Array


@struct.dataclass
class RecentFrames:
    """Frames that each environment showed in its last transitions: fingerprints ``[E, K, 2]``,
    slots and numbers ``[E, K]``.
    """

    fingerprint: Array
    slot: Array
    number: Array


@struct.dataclass
class FramesState:
    """``ring``: a `Row` for each transition. ``frames: [F, pixels]``: one row a frame. ``head``:
    the slot written next; ``written``: frames ever written, modulo 2^32. ``seen``: where to find
    what comes again.
    """

    ring: RingState
    frames: Array
    head: Array
    written: Array
    seen: RecentFrames
    images: Images = struct.field(pytree_node=False)

    @property
    def position(self) -> Array:
        """The row written next."""
        return self.ring.position

    @property
    def size(self) -> Array:
        """Rows with data."""
        return self.ring.size


def frames(
    capacity: int, *, stack: int, num_envs: int, n_step: int = 1, episode_steps: int = 20
) -> Storage:
    """The last ``capacity`` transitions, of whose images (uint8, at least three axes) every frame
    is stored once.

    For example::

        functools.partial(replay.frames, stack=3, num_envs=env.num_envs)  # for `storage`

    What ``add`` is given and ``get`` gives back are whole stacks, as of
    `ddpg_jax.envs.frame_stack`, newest frame last. A frame that the same environment showed in its
    last ``n_step`` transitions is known by 64 bits of its content and not written again, so nothing
    depends on where episodes begin or how they end: any stacks come back as they were, and frames
    that are not found again cost their bytes alone. An episode of L steps has L + 1 frames,
    whatever the stack and ``n_step``; bytes are::

        (capacity (1 + 1 / episode_steps) + 4 E (n_step + S)) pixels
            + capacity (4 (2 S + 1) + what is no image)

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
    checks.between(1, stack=stack, num_envs=num_envs, n_step=n_step, episode_steps=episode_steps)
    ring = rows(capacity)
    if capacity % num_envs:
        raise ValueError(
            f"capacity={capacity} is not a multiple of num_envs={num_envs}: choose for example "
            f"{max(1, capacity // num_envs) * num_envs}."
        )
    recent = 2 * num_envs * (n_step + stack)
    room, seen = capacity + capacity // episode_steps + 2 * recent, (num_envs, 2 * stack * n_step)
    checks.between(1, LARGEST, **{"frames of the replay": room})

    def init(transition: PyTree) -> FramesState:
        images = _images(transition.observation, stack)
        one = jax.tree.map(lambda x: jnp.asarray(x)[None], transition)
        slots, count = jnp.zeros((1, 2, stack), jnp.int32), jnp.uint32(0)
        return FramesState(
            ring=ring.init(jax.tree.map(lambda x: x[0], _row(one, slots, count[None], images))),
            frames=jnp.zeros((room, _split(one.observation, images)[1].shape[-1]), jnp.uint8),
            head=jnp.int32(0),
            written=count,
            seen=_nothing_seen(*seen),
            images=images,
        )

    def get(state: FramesState, rows: Array) -> PyTree:
        lost = state.written - ring.get(state.ring, rows).oldest >= room
        # As many of the newest as are there even where every frame of every stack was a new one.
        newer = (state.position - 1 - rows % max(1, capacity // (2 * stack))) % capacity
        found = ring.get(state.ring, jnp.where(lost, newer, rows)).transition

        def whole(others: list[Array], slots: Array) -> PyTree:
            shown = state.frames.at[slots].get(mode="promise_in_bounds")
            return _join(others, shown, state.images)

        return replace(
            found,
            observation=whole(*found.observation),
            next_observation=whole(*found.next_observation),
        )

    def deal(states: Any, count: int, places: Any = None) -> Dealt:
        dealt = deal_frames(states, count, capacity, room, places)
        nothing = _nothing_seen(count, *seen)
        return dealt._replace(state=replace(dealt.state, seen=jax.tree.map(np.asarray, nothing)))

    return Storage(init, functools.partial(_add, ring=ring, recent=recent), get, capacity, deal)


def _add(
    state: FramesState,
    transitions: PyTree,
    valid: Array | None = None,
    *,
    ring: Storage,
    recent: int,
) -> FramesState:
    room = state.frames.shape[0]
    shown = (transitions.observation, transitions.next_observation)
    both = jnp.concatenate([_split(x, state.images)[1] for x in shown], axis=1)  # [E, 2 S, pixels]
    wanted = jnp.ones(len(both), bool) if valid is None else valid
    found, new = _found(state, _fingerprint(both), wanted, recent)
    written = state.written + jnp.sum(new, dtype=jnp.uint32)
    oldest = written - jnp.max(written - found.number, axis=1)
    row = _row(transitions, found.slot.reshape(-1, 2, state.images.stack), oldest, state.images)

    def keep(now: Array, past: Array) -> Array:
        newest = jnp.concatenate([now, past], axis=1)[:, : past.shape[1]]
        return jnp.where(wanted.reshape(-1, *(1,) * (past.ndim - 1)), newest, past)

    return replace(
        state,
        ring=ring.add(state.ring, row, valid),
        frames=state.frames.at[jnp.where(new, found.slot, room)].set(both, mode="drop"),
        head=(state.head + jnp.sum(new, dtype=jnp.int32)) % room,
        written=written,
        seen=jax.tree.map(keep, found, state.seen),
    )


def _nothing_seen(*shape: int) -> RecentFrames:
    return RecentFrames(
        fingerprint=jnp.zeros((*shape, 2), jnp.uint32),
        slot=jnp.zeros(shape, jnp.int32),
        number=jnp.full(shape, 2**31, jnp.uint32),  # long ago
    )


def _images(observation: PyTree, stack: int) -> Images:
    leaves, structure = jax.tree.flatten(observation)
    places = tuple(i for i, x in enumerate(leaves) if checks.is_image(x))
    shapes = tuple(leaves[i].shape for i in places)
    if not places:
        raise ValueError(
            "frames are of images, uint8 [H, W, channels], but the observation has none: "
            "store it by replay.rows."
        )
    for shape in shapes:
        if shape[-1] % stack:
            raise ValueError(
                f"stack={stack}: an image of shape {shape} is not as many frames, joined along its "
                f"last axis; choose a divisor of {shape[-1]}."
            )
    return Images(structure, places, shapes, stack)


def _row(transition: Any, slots: Array, oldest: Array, images: Images) -> Row:
    """The rows ``[n, ...]`` of transitions whose frames lie in ``slots: [n, 2, S]``."""
    return Row(
        transition=replace(
            transition,
            observation=(_split(transition.observation, images)[0], slots[:, 0]),
            next_observation=(_split(transition.next_observation, images)[0], slots[:, 1]),
        ),
        oldest=oldest,
    )


def _split(observation: PyTree, images: Images) -> tuple[list[Array], Array]:
    """Leaves that are no images, and the frames of those that are, ``[n, S, pixels]``."""
    leaves = images.structure.flatten_up_to(observation)
    shown = [
        leaves[i].reshape(leaves[i].shape[0], -1, images.stack, shape[-1] // images.stack)
        for i, shape in zip(images.places, images.shapes, strict=True)
    ]
    flat = [x.swapaxes(1, 2).reshape(x.shape[0], images.stack, -1) for x in shown]
    others = [x for i, x in enumerate(leaves) if i not in images.places]
    return others, jnp.concatenate(flat, axis=-1)


def _join(others: list[Array], shown: Array, images: Images) -> PyTree:
    """The observations again."""
    leaves, begin = list(others), 0
    for i, shape in zip(images.places, images.shapes, strict=True):
        channels = shape[-1] // images.stack
        width = math.prod(shape) // images.stack
        x = shown[..., begin : begin + width].reshape(*shown.shape[:2], -1, channels).swapaxes(1, 2)
        leaves.insert(i, x.reshape(x.shape[0], *shape))
        begin += width
    return jax.tree.unflatten(images.structure, leaves)


def _fingerprint(shown: Array) -> Array:
    """64 bits of each frame, ``[..., pixels]`` to ``[..., 2]``: sums over pixels of numbers drawn
    by place and value.
    """
    place = jnp.arange(shown.shape[-1], dtype=jnp.uint32) << 8
    x = shown.astype(jnp.uint32) | jnp.broadcast_to(place, shown.shape)

    def mixed(x: Array, factor: int, shift: int) -> Array:
        x = (x ^ (x >> shift)) * jnp.uint32(factor)
        return x ^ (x >> 15)

    first = mixed(mixed(x, 0x7FEB352D, 16), 0x846CA68B, 16)
    second = mixed(first + jnp.uint32(0x9E3779B9), 0x85EBCA6B, 13)
    sums = [jnp.sum(x, axis=-1, dtype=jnp.uint32) for x in (first, second)]
    return jnp.stack(sums, axis=-1)


def _found(
    state: FramesState, fingerprint: Array, wanted: Array, recent: int
) -> tuple[RecentFrames, Array]:
    """Where frames ``[E, 2 S]`` lie, or will, and which of them are new."""
    room = state.frames.shape[0]

    def alike(a: Array, b: Array) -> Array:
        return jnp.all(a[:, :, None] == b[:, None], axis=-1)

    fresh = state.written - state.seen.number <= recent
    before = alike(fingerprint, state.seen.fingerprint) & fresh[:, None]
    again, first = jnp.any(before, axis=-1), jnp.argmax(alike(fingerprint, fingerprint), axis=-1)
    new = ~again & (first == jnp.arange(first.shape[1], dtype=first.dtype)[None]) & wanted[:, None]
    order = jnp.cumsum(new.reshape(-1), dtype=jnp.int32).reshape(new.shape)

    def where(past: Array, now: Array) -> Array:
        at = functools.partial(jnp.take_along_axis, axis=1)
        return jnp.where(again, at(past, jnp.argmax(before, axis=-1)), at(now, first))

    slot = where(state.seen.slot, (state.head + order - 1) % room)
    number = where(state.seen.number, state.written + order.astype(jnp.uint32))
    return RecentFrames(fingerprint=fingerprint, slot=slot, number=number), new
