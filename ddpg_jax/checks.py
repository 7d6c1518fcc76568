"""Checks at the border: what was given, what is allowed, what to do. Traced values and schedules
pass: their range is not known.
"""

import difflib
import inspect
import math
import os
import sysconfig
from collections.abc import Callable, Iterable
from pathlib import Path
from traceback import walk_tb
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

Called = TypeVar("Called")
"""A type of functions (`guarded`)."""


class BrokenEnvironment(ValueError):
    """An environment that raised, or that returned what its contract does not allow; the sentence
    names it and its function.

    What it raised itself is the ``__cause__``.
    """


class UnknownName(ValueError):
    """A name that nothing is registered under: ``kind`` is "environment", "preset", ..."""

    def __init__(self, kind: str, name: str, rest: str) -> None:
        """The sentence is made from the three."""
        super().__init__(f"unknown {kind} {name!r}: {rest}")
        self.kind, self.name = kind, name


def is_known(value: Any) -> bool:
    """Whether a number or array has its value now: it is neither traced nor a schedule."""
    return not (isinstance(value, jax.core.Tracer) or callable(value))


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


def require_image(where: str, observation: Any, *, leading: int, alone: bool = True) -> None:
    """Refuse an observation with an image that is not uint8, or with no image.

    Args:
        where: what needs it.
        observation: a pytree of arrays or shapes.
        leading: axes before those of an image or vector.
        alone: whether vectors alone are refused too.

    Raises:
        ValueError: names the leaf.
    """
    leaves = jax.tree.leaves(observation)
    for x in leaves:
        if len(x.shape) >= leading + 3 and not is_image(x):
            raise ValueError(
                f"{where}: {x.dtype}{list(x.shape[leading:])} is neither an image nor a vector: "
                "give images as uint8 [H, W, channels], from 0 to 255."
            )
    if alone and not any(len(x.shape) >= leading + 3 for x in leaves):
        raise ValueError(
            f"{where}: no leaf of the observation is an image, uint8 [H, W, channels]: leave it "
            "out where vectors are observed."
        )


def channels_first(x: Any) -> bool:
    """Whether an image looks as if its channels came first: ``[3, 84, 84]``."""
    return is_image(x) and x.shape[-3] < min(x.shape[-2:])


def between(low: float, high: float = math.inf, /, **values: Any) -> None:
    """Raise ``ValueError`` if a concrete number or array among ``values`` leaves [low, high] or is
    not a number.
    """
    allowed = f"at least {low}" if math.isinf(high) else f"between {low} and {high}"
    _require(allowed, lambda x: (x >= low) & (x <= high), values)


def whole(low: float, high: float = math.inf, /, **values: Any) -> None:
    """Raise ``ValueError`` if one of ``values`` is not a whole number between low and high."""
    allowed = f"at least {low}" if math.isinf(high) else f"between {low} and {high}"
    for name, value in values.items():
        if not _is_number(value) or np.asarray(value).dtype.kind not in "iu" or np.ndim(value):
            raise ValueError(f"{name}={_shown(value)}: must be a whole number, {allowed}.")
    between(low, high, **values)


def switch(**values: Any) -> None:
    """Raise ``ValueError`` if one of ``values`` is neither True nor False."""
    for name, value in values.items():
        if not isinstance(value, bool | np.bool_):
            raise ValueError(f"{name}={_shown(value)}: must be True or False.")


def finite(**values: Any) -> None:
    """Raise ``ValueError`` if a concrete number or array among ``values`` is infinite or is not a
    number.
    """
    _require("a finite number", lambda x: np.isfinite(x.astype(np.float64)), values)


def at_least_zero(**values: Any) -> None:
    """Raise ``ValueError`` if a concrete number or array among ``values`` is negative, infinite or
    not a number.
    """
    between(0, **values)
    finite(**values)


def positive(**values: Any) -> None:
    """Raise ``ValueError`` if a concrete number or array among ``values`` is not greater than 0."""
    _require("greater than 0", lambda x: x > 0, values)


def _require(allowed: str, holds: Callable[[Any], Any], values: dict[str, Any]) -> None:
    for name, value in values.items():
        if is_known(value) and not (_is_number(value) and np.all(holds(np.asarray(value)))):
            raise ValueError(f"{name}={_shown(value)}: must be {allowed}.")


def _is_number(value: Any) -> bool:
    """Whether it can be compared: text, None and ragged lists cannot."""
    try:
        return bool(jnp.issubdtype(np.asarray(value).dtype, jnp.number))
    except (ValueError, TypeError):  # ragged
        return False


def _shown(value: Any) -> str:
    return repr(value) if isinstance(value, str) else str(value)


def below(equal: bool = False, /, **values: Any) -> None:
    """Raise ``ValueError`` unless two concrete numbers, named as the user gave them, are finite and
    rise, or do not fall.
    """
    (low, a), (high, b) = values.items()
    rises = np.less_equal if equal else np.less
    if is_known(a) and is_known(b) and not np.all(rises(a, b)):
        raise ValueError(
            f"{low}={a}, {high}={b}: {low} must "
            f"{'not be greater' if equal else 'be less'} than {high}."
        )
    finite(**values)


def nearest(
    kind: str, name: str, known: Iterable[str], where: str, prefix: str = ""
) -> UnknownName:
    """The error for an unknown name: the nearest known one, large and small letters
    alike, and where to find all of them.
    """
    own = {each.lower(): each for each in known}
    close = difflib.get_close_matches(name.lower(), own, n=1, cutoff=0.3)
    hint = f"did you mean {prefix + own[close[0]]!r}? " if close else ""
    return UnknownName(kind, prefix + name, f"{hint}{where}")


def first_line(error: BaseException) -> str:
    """The first line of what an exception says, or its kind."""
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:120]


UNKNOWN_VALUES: tuple[tuple[type[Exception], str], ...] = (
    (jax.errors.TracerBoolConversionError, "jnp.where or jax.lax.select in place of if, and, or"),
    (jax.errors.TracerIntegerConversionError, "jax.lax.fori_loop or jnp in place of range, lists"),
    (jax.errors.TracerArrayConversionError, "jax.numpy in place of NumPy"),
    (jax.errors.NonConcreteBooleanIndexError, "jnp.where in place of an index by a mask"),
    (jax.errors.ConcretizationTypeError, "arrays and x.astype in place of float(), int(), item()"),
)
"""Errors of code that needs the value of an array while JAX traces it, and what to use there."""


def broken(name: str, what: str, error: BaseException) -> BrokenEnvironment:
    """The error for an environment called ``name`` whose function ``what`` raised ``error``; it
    names the line of the environment's own code.
    """
    said = f": {first_line(error)}" if str(error).strip() else ""
    remedy = next((use for kind, use in UNKNOWN_VALUES if isinstance(error, kind)), None)
    if remedy:
        said = f": an array has no value while JAX traces {what}: use {remedy}"
    frames = [(frame.f_code.co_filename, line) for frame, line in walk_tb(error.__traceback__)]
    places = [_place(*frame) for frame in frames if not frame[0].startswith(LIBRARIES)]
    where = f" ({places[-1]})" if places else ""
    return BrokenEnvironment(f"{name}: {what} raised {type(error).__name__}{said}{where}")


LIBRARIES = (
    "<",
    *(str(Path(str(module.__file__)).parent) for module in (jax, np, difflib)),
    *(sysconfig.get_path(name) for name in ("purelib", "platlib")),
    str(Path(__file__).parent),
)
"""How the files of code begin that is not an environment's own."""


def place_of(function: Callable[..., Any]) -> str:
    """The file and the line of a Python function; empty of others."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    return f" ({_place(code.co_filename, code.co_firstlineno)})" if code else ""


def _place(file: str, line: int) -> str:
    here = f"{Path.cwd()}{os.sep}"
    return f"{file.removeprefix(here)}, line {line}"


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
