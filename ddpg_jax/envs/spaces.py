"""Gymnasium's observation spaces as arrays: which are accepted, and what arrives put into those
arrays without loss.
"""

import math
from typing import Any

import jax
import numpy as np

from ddpg_jax.checks import BrokenEnvironment

KINDS = {"f": "f", "i": "iub", "u": "iub", "b": "b"}
"""What may arrive where numbers of a kind are declared."""


def shapes(space: Any, named: str = "the observation space") -> Any:
    """Shape and dtype of the array of an observation space, as the agent sees it, or a dict of
    them; 64-bit numbers as 32-bit ones.

    Raises:
        ValueError: a space is of a kind that has no array, an array or a dict is empty, or whole
            numbers within the bounds do not fit into 32 bits.
    """
    from gymnasium import spaces

    if isinstance(space, spaces.Dict):
        if not space.spaces or not all(isinstance(key, str) for key in space.spaces):
            raise ValueError(
                f"{named} is {space}: a Dict needs at least one entry, and names that are text."
            )
        return {key: shapes(part, f"{named}[{key!r}]") for key, part in space.items()}
    if not isinstance(
        space, spaces.Box | spaces.MultiBinary | spaces.Discrete | spaces.MultiDiscrete
    ):
        raise ValueError(
            f"{named} {space} is no Box and no Dict of them: flatten it by "
            "gymnasium.wrappers.FlattenObservation, or turn it into arrays by "
            "TransformObservation."
        )
    shape = tuple(space.shape or ())
    if not math.prod(shape):
        raise ValueError(
            f"{named} has shape {shape}, which holds no number: there is nothing to act on."
        )
    dtype = narrow(np.dtype(space.dtype))
    if dtype.kind in "iu" and not _within(space, dtype):
        raise ValueError(
            f"{named} {space} holds whole numbers beyond {dtype}, which JAX would cut off: declare "
            "the bounds that they keep, or turn them into float32 by "
            "gymnasium.wrappers.TransformObservation."
        )
    return jax.ShapeDtypeStruct(shape, dtype)


def narrow(dtype: np.dtype) -> np.dtype:
    """JAX's own of a dtype, which has at most 32 bits."""
    return np.dtype(f"{dtype.kind}4") if dtype.itemsize > 4 else dtype


def _within(space: Any, dtype: np.dtype) -> bool:
    """Whether what a space of whole numbers may hold fits into this dtype."""
    from gymnasium import spaces

    if isinstance(space, spaces.MultiBinary):
        return True
    if isinstance(space, spaces.Box):
        low, high = space.low, space.high
    else:
        low = np.asarray(space.start, object)
        high = low + (space.n if isinstance(space, spaces.Discrete) else space.nvec) - 1
    limits = np.iinfo(dtype)
    return int(np.min(low)) >= limits.min and int(np.max(high)) <= limits.max


def empty(shapes: Any, count: int) -> Any:
    """Arrays to fill, for ``count`` observations of these `shapes`."""
    if isinstance(shapes, dict):
        return {key: empty(part, count) for key, part in shapes.items()}
    return np.empty((count, *shapes.shape), shapes.dtype)


def put(rows: Any, given: Any, where: str, index: Any = ...) -> None:
    """Copy what an environment returned into ``rows``, or into those of environment ``index``: an
    array, whose shape and kind of number it must have, or a dict of them.

    Raises:
        BrokenEnvironment: it has not, or a number in it does not fit into the dtype of ``rows``;
            ``where`` begins the sentence.
    """
    if isinstance(rows, dict):
        for key, part in rows.items():
            try:
                inner = given[key]
            except (KeyError, TypeError, IndexError) as error:
                raise BrokenEnvironment(f"{where} has no {key!r}, which its space has.") from error
            put(part, inner, f"{where}[{key!r}]", index)
        return
    rows = rows if index is ... else rows[index, ...]
    known = array(given)
    if known.dtype != rows.dtype or known.shape != rows.shape:
        if known.shape != rows.shape or known.dtype.kind not in KINDS[rows.dtype.kind]:
            raise BrokenEnvironment(
                f"{where} of {_described(known)} where {_described(rows)} is declared: it must be "
                "what its space says, in every step."
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
