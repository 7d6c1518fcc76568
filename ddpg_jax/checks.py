"""Checks at the border: what was given, what is allowed, what to do. Traced values pass: their
range is not known.
"""

import difflib
import math
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import jax
import numpy as np

Called = TypeVar("Called")


class BrokenEnvironment(ValueError):
    """An environment that raised, or that returned what its contract does not allow; the sentence
    names it and its function.

    What it raised itself is the ``__cause__``.
    """


def is_known(value: Any) -> bool:
    """Whether a number or array has its value now, and is not traced."""
    return not isinstance(value, jax.core.Tracer)


def is_zero(value: Any) -> bool:
    """Whether a concrete number is 0, which leaves out what it scales; a traced one may be
    anything.
    """
    return is_known(value) and not np.any(np.asarray(value))


def is_image(x: Any) -> bool:
    """Whether an array, or its shape, is of images ``[..., H, W, C]`` in bytes; other leaves of
    observations are vectors.
    """
    return len(x.shape) >= 3 and x.dtype == np.uint8


def between(low: float, high: float = math.inf, /, **values: Any) -> None:
    """Raise ``ValueError`` if a concrete number or array among ``values`` leaves [low, high] or is
    not a number.
    """
    for name, value in values.items():
        if is_known(value) and not np.all((np.asarray(value) >= low) & (np.asarray(value) <= high)):
            allowed = f"at least {low}" if math.isinf(high) else f"between {low} and {high}"
            raise ValueError(f"{name}={value}: must be {allowed}.")


def finite(**values: Any) -> None:
    """Raise ``ValueError`` if a concrete number or array among ``values`` is infinite or is not a
    number.
    """
    for name, value in values.items():
        if is_known(value) and not np.all(np.isfinite(np.asarray(value, np.float64))):
            raise ValueError(f"{name}={value}: must be a finite number.")


def at_least_zero(**values: Any) -> None:
    """Raise ``ValueError`` if a concrete number or array among ``values`` is negative, infinite or
    not a number.
    """
    between(0, **values)
    finite(**values)


def positive(**values: Any) -> None:
    """Raise ``ValueError`` if a concrete number or array among ``values`` is not greater than 0."""
    for name, value in values.items():
        if is_known(value) and not np.all(np.asarray(value) > 0):
            raise ValueError(f"{name}={value}: must be greater than 0.")


def below(equal: bool = False, /, **values: Any) -> None:
    """Raise ``ValueError`` unless two concrete numbers, named as the user gave them, are finite and
    rise, or do not fall.
    """
    (low, a), (high, b) = values.items()
    if (
        is_known(a)
        and is_known(b)
        and not np.all(np.asarray(a) <= np.asarray(b) if equal else np.asarray(a) < np.asarray(b))
    ):
        raise ValueError(
            f"{low}={a}, {high}={b}: {low} must "
            f"{'not be greater' if equal else 'be less'} than {high}."
        )
    finite(**values)


def nearest(kind: str, name: str, known: Iterable[str], where: str, prefix: str = "") -> ValueError:
    """The error for an unknown name: the nearest known one, and where to find all of them."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.3)
    hint = f"did you mean {prefix + close[0]!r}? " if close else ""
    return ValueError(f"unknown {kind} {prefix + name!r}: {hint}{where}")


def first_line(error: BaseException) -> str:
    """The first line of what an exception says, or its kind."""
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:120]


def broken(name: str, what: str, error: BaseException) -> BrokenEnvironment:
    """The error for an environment called ``name`` whose function ``what`` raised ``error``."""
    said = f": {first_line(error)}" if str(error).strip() else ""
    return BrokenEnvironment(f"{name}: {what} raised {type(error).__name__}{said}")


def guarded(name: str, what: str, function: Callable[..., Called]) -> Callable[..., Called]:
    """``function``, which is ``what`` of the environment called ``name``; what it raises becomes a
    `BrokenEnvironment`.
    """

    def call(*args: Any, **options: Any) -> Called:
        try:
            return function(*args, **options)
        except BrokenEnvironment:
            raise
        except Exception as error:  # whatever the author of an environment thought of
            raise broken(name, what, error) from error

    return call
