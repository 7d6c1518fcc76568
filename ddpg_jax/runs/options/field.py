"""Declares an option once, as a field of a frozen dataclass.

The command line, the checks, ``config.json``, resuming and ``docs/options.md`` are made from the
field's metadata (`Option`).
"""

import math
import types
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args, get_type_hints

from ddpg_jax.runs.options.validation import INT32_MAX, Options, convert_value, short_repr


@dataclass(frozen=True)
class Option:
    """What an option declares besides its name, type and default."""

    help: str
    group: str
    unit: str = ""
    low: float = -math.inf
    high: float = math.inf
    positive: bool = False
    """Whether it must be greater than 0."""
    choices: tuple[str, ...] = ()
    resume: Literal["fixed", "free", "placement"] = "fixed"
    """A resumed run keeps it (``fixed``), may change it and train identically (``free``), or may
    change it and so where it trains (``placement``)."""
    common: bool = False
    """Whether ``ddpg-jax train --help`` shows it."""
    unset: str = ""
    """The default in words, where it is not set."""
    metavar: str | None = None
    kept: str = ""
    """What a member still has of its old value after it changed; empty where nothing: only such a
    number may evolve."""
    kind: Any = None
    """The type of given values; declared where the field's type differs."""
    default: Any = None
    """The field's."""

    @property
    def range(self) -> str:
        """The range or the choices as text; empty where any value of the type is allowed."""
        if self.choices:
            return " | ".join(self.choices)
        bounded = self.high < INT32_MAX // 2
        if self.positive:
            return f"> 0, <= {self.high:,}" if bounded else "> 0"
        if self.low == -math.inf:
            return ""
        return f"{self.low:,} to {self.high:,}" if bounded else f">= {self.low:,}"


def option(default: Any, help: str, group: str, unit: str = "", **declared: Any) -> Any:
    """Return a field with its `Option`; a default that is a dict is copied for each record."""
    metadata = {"option": Option(help, group, unit, **declared)}
    if isinstance(default, dict):
        return field(default_factory=default.copy, metadata=metadata)
    return field(default=default, metadata=metadata)


def options_of(record: type) -> dict[str, Option]:
    """Return the options of a record by name, each with its type, without None, and its default."""
    declared: dict[str, Option] = {
        name: each.metadata["option"]
        for base in reversed(record.__mro__)  # a subclass may replace the default alone
        for name, each in getattr(base, "__dataclass_fields__", {}).items()
        if "option" in each.metadata
    }
    defaults = vars(record())
    found = {}
    for name, hint in get_type_hints(record).items():
        if name in declared:
            kind = get_args(hint)[0] if isinstance(hint, types.UnionType) else hint
            kind = declared[name].kind or kind
            found[name] = replace(declared[name], kind=kind, default=defaults[name])
    return found


def convert_options(record: type, given: Options, *, keep_defaults: bool = False) -> Options:
    """Convert values to the record's types; with ``keep_defaults``, defaults stay as they are.

    Raises:
        ValueError: a value is not of its option's type.
    """
    declared = options_of(record)
    found = {}
    for name, value in given.items():
        default = declared[name].default
        unset = keep_defaults and type(value) is type(default) and value == default
        found[name] = value if unset else convert_value(name, value, declared[name].kind)
    return found


def check_options(record: Any) -> None:
    """Check the range or the choices of every option of a record; None is not set.

    Raises:
        ValueError: one is out of its range.
    """
    from ddpg_jax import checks

    for name, declared in options_of(type(record)).items():
        value = getattr(record, name)
        if value is None:
            continue
        if declared.choices and value not in declared.choices:
            raise ValueError(
                f"{name}={short_repr(value)}: must be one of {', '.join(declared.choices)}."
            )
        if declared.positive:
            checks.positive(**{name: value})
        if declared.kind in (int, float):
            checks.between(declared.low, declared.high, **{name: value})
