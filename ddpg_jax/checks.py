"""Checks at the border: what was given, what is allowed, what to do. Traced values pass: their range is not known."""

import difflib
import math
from collections.abc import Iterable
from typing import Any

import jax
import numpy as np


def between(low: float, high: float, **values: Any) -> None:
    """Raise ``ValueError`` if a concrete number or array among ``values`` leaves [low, high] or is not a number."""
    for name, value in values.items():
        if isinstance(value, jax.core.Tracer):
            continue
        array = np.asarray(value)
        if not np.all((array >= low) & (array <= high)):
            allowed = f"at least {low}" if math.isinf(high) else f"between {low} and {high}"
            raise ValueError(f"{name}={value}: must be {allowed}.")


def nearest(kind: str, name: str, known: Iterable[str], lists: str) -> ValueError:
    """The error for an unknown name: the nearest known one, and the command that lists all."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.3)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return ValueError(f"unknown {kind} {name!r}: {hint}{lists} lists all.")
