"""Gymnasium's observation spaces as arrays: which are accepted, and what arrives put into those
arrays without loss.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ddpg_jax.checks import BrokenEnvironment

if TYPE_CHECKING:
    from collections.abc import Iterator

KINDS = {"f": "f", "i": "iub", "u": "iub", "b": "b"}
"""What may arrive where numbers of a kind are declared."""


class Leaf(NamedTuple):
    """An array of an observation: the ``path`` of keys to it, and its ``shape`` and ``dtype`` as
    the agent sees it.
    """

    path: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: np.dtype


def leaves(space: Any, path: tuple[str, ...] = ()) -> Iterator[Leaf]:
    """The arrays of an observation space; 64-bit numbers as 32-bit ones.

    Raises:
        ValueError: a space is of a kind that has no array, an array or a dict is empty, or whole
            numbers within the bounds do not fit into 32 bits.
    """
    from gymnasium import spaces

    named = "the observation space" + "".join(f"[{key!r}]" for key in path)
    if isinstance(space, spaces.Dict):
        if not space.spaces or not all(isinstance(key, str) for key in space.spaces):
            raise ValueError(
                f"{named} is {space}: a Dict needs at least one entry, and names that are text."
            )
        for key, part in space.items():
            yield from leaves(part, (*path, key))
        return
    if not isinstance(
        space, spaces.Box | spaces.MultiBinary | spaces.Discrete | spaces.MultiDiscrete
    ):
        raise ValueError(
            f"{named} {space} is no Box and no Dict of them: flatten it by "
            "gymnasium.wrappers.FlattenObservation, or turn "
            "it into arrays by TransformObservation."
        )
    shape = tuple(space.shape or ())
    if not math.prod(shape):
        raise ValueError(
            f"{named} has shape {shape}, which holds no number: there is nothing to act on."
        )
    dtype = narrow(np.dtype(space.dtype))
    if dtype.kind in "iu" and not _within(space, dtype):
        raise ValueError(
            f"{named} {space} holds whole numbers beyond {dtype}, which JAX would cut "
            "off: declare the bounds that they keep, "
            "or turn them into float32 by gymnasium.wrappers.TransformObservation."
        )
    yield Leaf(path, shape, dtype)


def narrow(dtype: np.dtype) -> np.dtype:
    """JAX's own of a dtype, which has at most 32 bits."""
    return (
        np.dtype({"f": "float32", "i": "int32", "u": "uint32"}[dtype.kind])
        if dtype.itemsize > 4
        else dtype
    )


def _within(space: Any, dtype: np.dtype) -> bool:
    """Whether what a space of whole numbers may hold fits into this dtype."""
    from gymnasium import spaces

    if isinstance(space, spaces.MultiBinary):
        return True
    if isinstance(space, spaces.Box):
        low, high = space.low, space.high
    else:
        size = space.n if isinstance(space, spaces.Discrete) else space.nvec
        low, high = (
            np.asarray(space.start, object),
            np.asarray(space.start, object) + np.asarray(size, object) - 1,
        )
    limits = np.iinfo(dtype)
    return int(np.min(low)) >= limits.min and int(np.max(high)) <= limits.max


def tree(parts: list[Any], of: tuple[Leaf, ...]) -> Any:
    """An observation of these parts, one for each of its leaves: an array, or dicts of them."""
    if not of[0].path:
        return parts[0]
    whole: dict[str, Any] = {}
    for leaf, part in zip(of, parts, strict=True):
        inner = functools.reduce(
            lambda known, key: known.setdefault(key, {}), leaf.path[:-1], whole
        )
        inner[leaf.path[-1]] = part
    return whole


def put(rows: np.ndarray, given: Any, where: str) -> None:
    """Copy what an environment returned into ``rows``, whose shape and kind of number it must have.

    Raises:
        BrokenEnvironment: it has not, or a number in it does not fit into the dtype of ``rows``;
            ``where`` begins the sentence.
    """
    known = array(given)
    if known.dtype != rows.dtype or known.shape != rows.shape:
        if known.shape != rows.shape or known.dtype.kind not in KINDS[rows.dtype.kind]:
            raise BrokenEnvironment(
                f"{where} of {_described(known)} where {_described(rows)} is declared: it "
                "must be what its space says, "
                "in every step."
            )
        known = cast(known, rows.dtype, where)
    rows[...] = known


def array(given: Any) -> np.ndarray:
    """What was given as an array; of objects, where it is none."""
    try:
        return np.asarray(given)
    except ValueError:  # ragged
        return np.asarray(None)


def cast(given: np.ndarray, dtype: Any, where: str) -> np.ndarray:
    """As another dtype of its kind; fractions are rounded.

    Raises:
        BrokenEnvironment: a number is beyond the largest of that dtype.
    """
    with np.errstate(over="ignore"):
        fitted = given.astype(dtype)
    lost = fitted != given if fitted.dtype.kind in "iu" else np.isinf(fitted) & np.isfinite(given)
    if lost.any():
        raise BrokenEnvironment(
            f"{where} with {given[lost][0]} in it, beyond {np.dtype(dtype)}: scale it down."
        )
    return fitted


def _described(array: np.ndarray) -> str:
    return (
        "what is no array of numbers"
        if array.dtype.kind not in "fiubc"
        else f"{array.dtype}{list(array.shape)}"
    )
