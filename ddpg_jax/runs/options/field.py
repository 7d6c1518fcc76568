"""Declares an option once, as a field of a frozen dataclass.

The command line, the checks, ``config.json``, resuming and ``docs/options.md`` are made from the
field's metadata (`Option`).
"""

from __future__ import annotations

import dataclasses
import types
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin, get_type_hints

from ddpg_jax.runs.options.validation import INT32_MAX, convert_value, short_repr

if TYPE_CHECKING:
    from collections.abc import Iterator

Resume = Literal["fixed", "free", "placement"]


@dataclass(frozen=True, kw_only=True)
class Option:
    """What an option declares besides its name, type and default."""

    help: str
    group: str
    unit: str = ""
    low: float | None = None
    high: float | None = None
    positive: bool = False
    """Whether it must be greater than 0."""
    choices: tuple[str, ...] = ()
    resume: Resume = "fixed"
    """A resumed run keeps it (``fixed``), may change it and train identically (``free``), or may
    change it and so where it trains (``placement``)."""
    common: bool = False
    """Whether ``ddpg-jax train --help`` shows it."""
    unset: str = ""
    """The default in words, where it is not set."""
    flag: str = ""
    """The flag, where it does not follow from the name."""
    metavar: str = ""
    kind: Any = None
    """The type of given values, where the field's type differs."""

    @property
    def range(self) -> str:
        """The range or the choices as text; empty where any value of the type is allowed."""
        if self.choices:
            return " | ".join(self.choices)
        bounded = self.high is not None and self.high < INT32_MAX // 2
        if self.positive:
            return f"> 0, <= {self.high:,}" if bounded else "> 0"
        if self.low is None:
            return ""
        return f"{self.low:,} to {self.high:,}" if bounded else f">= {self.low:,}"


def option(default: Any, help: str, group: str, unit: str = "", **declared: Any) -> Any:
    """Return a field with its `Option`; a default that is a dict is copied for each record."""
    metadata = {"option": Option(help=help, group=group, unit=unit, **declared)}
    if isinstance(default, dict):
        return field(default_factory=lambda: dict(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def option_of(record: type, name: str) -> Option | None:
    """Return the `Option` of a field, also where a subclass replaced the field's default."""
    for base in record.__mro__:
        declared = getattr(base, "__dataclass_fields__", {}).get(name)
        if declared is not None and "option" in declared.metadata:
            found: Option = declared.metadata["option"]
            return found
    return None


def options_of(record: type) -> Iterator[tuple[str, Any, Option]]:
    """Yield ``(name, type, Option)`` of each option of a record; types are without None."""
    hints = get_type_hints(record)
    for each in dataclasses.fields(record):
        declared = option_of(record, each.name)
        if declared is not None:
            yield each.name, declared.kind or _without_none(hints[each.name]), declared


def default_of(record: type, name: str) -> Any:
    """Return the default of a field."""
    made = next(each for each in dataclasses.fields(record) if each.name == name)
    return made.default_factory() if callable(made.default_factory) else made.default


def _without_none(hint: Any) -> Any:
    if get_origin(hint) in (Union, types.UnionType):
        return next(kind for kind in get_args(hint) if kind is not type(None))
    return hint


def names_by_resume(record: type, resume: Resume) -> tuple[str, ...]:
    """Return the names of a record's options with this ``resume``."""
    return tuple(name for name, _, declared in options_of(record) if declared.resume == resume)


def convert_options(
    record: type, given: dict[str, Any], *, required: bool = False
) -> dict[str, Any]:
    """Convert values to the record's types; unless ``required``, defaults are kept as they are.

    Raises:
        ValueError: a value is not of its option's type.
    """
    kinds = {name: kind for name, kind, _ in options_of(record)}
    return {
        name: value
        if not required and _is(value, default_of(record, name))
        else convert_value(name, value, kinds[name])
        for name, value in given.items()
    }


def _is(value: Any, default: Any) -> bool:
    return type(value) is type(default) and bool(value == default)


def check_options(record: Any) -> None:
    """Check the range of every option of a record.

    Raises:
        ValueError: one is out of its range.
    """
    for name, _, declared in options_of(type(record)):
        check_option(name, getattr(record, name), declared)


def check_option(name: str, value: Any, declared: Option) -> None:
    """Check a value against its range or its choices; None is not set.

    Raises:
        ValueError: it is out of its range.
    """
    from ddpg_jax import checks

    if value is None:
        return
    if declared.choices and value not in declared.choices:
        *rest, last = declared.choices
        allowed = f"one of {', '.join([*rest, last])}" if len(rest) > 1 else f"{rest[0]} or {last}"
        raise ValueError(f"{name}={short_repr(value)}: must be {allowed}.")
    if declared.positive:
        checks.positive(**{name: value})
    if declared.low is not None or declared.high is not None:
        low = float("-inf") if declared.low is None else declared.low
        high = float("inf") if declared.high is None else declared.high
        checks.between(low, high, **{name: value})
