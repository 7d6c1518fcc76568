"""Gymnasium's action spaces: from [-1, 1] per dimension to what an environment takes."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from ddpg_jax.envs.spaces import narrow

EXACT = 2**24
"""Whole numbers up to here are exact in float32, in which actions are chosen."""


class Actions(NamedTuple):
    """Actions of an environment: ``executed`` of ``[..., A]`` in [-1, 1], in NumPy; ``native``: the
    same in JAX, for export; ``bounds``: what they were made `within`.
    """

    size: int
    executed: Callable[[np.ndarray], np.ndarray]
    native: Callable[[Array], Array]
    bounds: tuple[list[float], list[float], str]


def scaled(space: Any) -> Actions:
    """Scale per dimension from [-1, 1] to the bounds of an action space, and clip there.

    Of whole numbers each has an equal share of [-1, 1]:
    ``low + floor((a + 1) / 2 * (high - low + 1))``, at most ``high``.

    Raises:
        ValueError: the space is not a bounded Box of one dimension, or of whole numbers beyond
            `EXACT`.
    """
    low, high = _bounds(space)
    return within(low.tolist(), high.tolist(), str(space.dtype))


def within(lowest: list[float], highest: list[float], dtype: str) -> Actions:
    """Scale to these bounds, as `scaled`."""
    low, high, kind = np.asarray(lowest, float), np.asarray(highest, float), np.dtype(dtype)
    whole = kind.kind != "f"
    parts, function = (
        ((low, high), _chosen)
        if whole
        else ((high / 2 - low / 2, high / 2 + low / 2, low, high), _between)
    )
    exact = np.float32 if whole else np.float64
    own = [part.astype(exact) for part in parts]

    def native(action: Array) -> Any:
        bounds = (jnp.broadcast_to(jnp.asarray(x, action.dtype), action.shape) for x in parts)
        moved = function(jnp, action, *bounds)
        return moved.astype(narrow(kind)) if whole else moved

    # An actor that became NaN is for the training loop to report; a simulator may not survive it.
    executed = lambda action: function(np, np.nan_to_num(action).astype(exact), *own).astype(kind)
    return Actions(len(low), executed, native, (lowest, highest, dtype))


def _between(xp: Any, action: Any, half: Any, middle: Any, low: Any, high: Any) -> Any:
    """Half a range around its middle; rounding does not leave the range."""
    return xp.clip(xp.clip(action, -1.0, 1.0) * half + middle, low, high)


def _chosen(xp: Any, action: Any, low: Any, high: Any) -> Any:
    """One of the whole numbers of a range."""
    return xp.minimum(low + xp.floor((xp.clip(action, -1.0, 1.0) + 1) / 2 * (high - low + 1)), high)


def _bounds(space: Any) -> tuple[np.ndarray, np.ndarray]:
    from gymnasium.spaces import Box

    if not isinstance(space, Box):
        raise ValueError(
            f"the action space is {space}, but a deterministic policy gradient needs continuous "
            "actions: choose an environment whose action space is a Box."
        )
    if len(space.shape) != 1 or not space.shape[0]:
        wanted = (
            "there is nothing to choose"
            if len(space.shape) == 1
            else "flatten it to one dimension by a Gymnasium wrapper"
        )
        raise ValueError(f"the action space has shape {space.shape}: {wanted}.")
    low, high = space.low.astype(np.float64), space.high.astype(np.float64)
    whole = space.dtype.kind != "f"
    largest = EXACT if whole else float(np.finfo(np.float32).max) / 2
    if not np.all((np.abs(low) <= largest) & (np.abs(high) <= largest) & (low <= high)):
        more = f", or none within 2**{EXACT.bit_length() - 1}" if whole else ""
        raise ValueError(
            f"the action space {space} has no bounds to scale to{more}: wrap it by "
            "gymnasium.wrappers.RescaleAction or ClipAction."
        )
    return low, high
