"""Converts values from Python, a shell or a file to an option's type, without loss."""

import ast
import json
import re
from collections.abc import Callable
from typing import Any, get_origin

Options = dict[str, Any]
"""Values by name: of options, of hyper-parameters, or of a JSON object."""
INT32_MAX = 2**31 - 1
"""Rows, steps of an environment and updates are int32 on the device."""
MAX_ROWS = 2**30
"""Rows of a replay, as `ddpg_jax.replay.ring.LARGEST`, without importing JAX."""
MAX_STEPS = 2**62
"""Above any number of environment steps."""
FLOAT32_MAX = 3.4028234663852886e38
MAX_SHOWN = 60
NEARLY = re.compile(
    r"[-+]?[\d.,'_]*\d[\d.,'_]*(e[-+]?\d+)?%?|[-+]?(nan|inf|infinity)"
    r"|true|false|yes|no|on|off|none|null",
    re.IGNORECASE,
)
"""Text that is not meant as text."""


class RunError(ValueError):
    """A run that cannot start or continue; the message is one sentence for the user."""


class Diverged(RunError):
    """A run whose training, or whose return, became NaN or infinite; a sweep leaves it there."""


def convert_value(name: str, value: Any, kind: Any) -> Any:
    """Convert a value to ``kind``: int, float, bool, str, dict, or a tuple of whole numbers.

    Accepts scalars of NumPy and JAX, and text where nothing is lost: ``"1e5"`` is 100,000.

    Raises:
        ValueError: it has another type, or is not finite; names the option ``name``.
    """
    convert, wanted = _KINDS[get_origin(kind) or kind]
    try:
        if getattr(value, "shape", None) == () and hasattr(value, "item"):
            value = value.item()
        found = convert(value)
    except (ValueError, TypeError, OverflowError, AttributeError, RecursionError) as error:
        seeds = "; several seeds at once are seeds=N (--seeds N)" if name == "seed" else ""
        raise ValueError(f"{name}={short_repr(value)}: must be {wanted}{seeds}.") from error
    if kind is int and abs(found) >= 2**63:
        raise ValueError(f"{name}={short_repr(value)}: must be less than 2**63 in size.")
    return found


def parse_text(name: str, text: str) -> Any:
    """Return the value that JSON or Python writes so; other text is text.

    Raises:
        ValueError: it looks like a number or a switch, and neither of them writes it so.
    """
    for read in (json.loads, ast.literal_eval):
        try:
            found = read(text)
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            continue
        if not isinstance(found, tuple) or text.strip().startswith("("):
            return found
    if NEARLY.fullmatch(text.strip()):
        raise ValueError(
            f"{name}={text}: give a number, True, False or None as Python writes it, a list as "
            f"[1, 2], or text in quotes: '{name}=\"{text}\"'."
        )
    return text


def short_repr(value: Any) -> str:
    """Return a value for an error message: on one line, and not long."""
    try:
        text = " ".join(repr(value).split())
    except ValueError:  # more than 4,300 digits
        text = "a very long number"
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError
    try:
        return int(value) if isinstance(value, str) else value
    except ValueError:
        return float(value)


def _integer(value: Any) -> int:
    number = _number(value)
    if int(number) != number:
        raise ValueError
    return int(number)


def _real(value: Any) -> float:
    number = float(_number(value))
    if not abs(number) <= FLOAT32_MAX:
        raise ValueError
    return number


def _switch(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError
    return value


def _text(value: Any) -> str:
    if not (isinstance(value, str) and value and value.isprintable()):
        raise ValueError
    return value


def _widths(value: Any) -> tuple[int, ...]:
    parts = value.split(",") if isinstance(value, str) else value
    return tuple(_integer(part.item() if hasattr(part, "item") else part) for part in parts)


def _options(value: Any) -> Options:
    if not isinstance(value, dict) or not all(isinstance(name, str) for name in value):
        raise ValueError
    return json.loads(json.dumps(value, default=lambda part: part.item(), allow_nan=False))


_KINDS: dict[Any, tuple[Callable[[Any], Any], str]] = {
    int: (_integer, "a whole number"),
    float: (_real, "a finite number"),
    bool: (_switch, "True or False"),
    str: (_text, "a name"),
    tuple: (_widths, "whole numbers separated by commas, as 256,256"),
    dict: (_options, "a dict of options by name, with JSON values"),
}
