"""The search space of a sweep: lists, evenly spaced values and random draws; imports no JAX."""

import itertools
import math
from typing import Any, NamedTuple, get_origin

from ddpg_jax import checks
from ddpg_jax.runs.options.validation import Options, convert_value, short_repr

MAX_MEMBERS = 100_000
"""Members of a sweep."""
TINY = 2.0**-126
"""The least positive float32 that no device takes for 0."""
TRIES = 1_000
"""Settings drawn for each one that is wanted, before a range counts as exhausted."""
SYNTAX = (
    "give values (1e-4,1e-3), log:LOW:HIGH or uniform:LOW:HIGH to draw from, or either with "
    ":COUNT for evenly spaced values"
)


class SearchRange(NamedTuple):
    """A range from which values are drawn; of integers both ends are included."""

    low: float
    high: float
    log: bool
    whole: bool

    def at(self, place: float) -> float:
        """Return the value at a place in [0, 1] between both ends."""
        edge = 0.5 if self.whole else 0.0
        low, high = self.low - edge, self.high + edge
        value = low * (high / low) ** place if self.log else low + (high - low) * place
        return min(max(round(value) if self.whole else value, self.low), self.high)

    def spaced(self, count: int) -> list[float]:
        """Return ``count`` values from end to end."""
        whole = self._replace(whole=False)
        values = [whole.at(index / (count - 1)) for index in range(count)]
        return list(dict.fromkeys(map(round, values))) if self.whole else values


def parse_values(name: str, given: Any, kind: Any) -> list[Any] | SearchRange:
    """Return the values of a hyper-parameter, or the range from which they are drawn.

    Args:
        name: of the hyper-parameter.
        given: a list of values, or text: ``1e-4,1e-3``, ``log:1e-5:1e-1``, ``uniform:0.9:0.99``,
            ``log:1e-5:1e-1:5``; widths are ``64x64,256x256``.
        kind: type of the hyper-parameter.

    Raises:
        ValueError: ``given`` is none of these.
    """
    values = given if hasattr(given, "__iter__") else [given]
    if isinstance(given, str):
        scale, *ends = given.split(":")
        if ends:
            return _range(name, given, scale, ends, kind)
        values = given.split(",")
    found = [convert_value(name, _plain(value, kind), kind) for value in values]
    if not found:
        raise ValueError(f"{name} has no values: {SYNTAX}.")
    _require_different(name, given, found)
    return found


def _require_different(name: str, given: Any, found: list[Any]) -> None:
    if small := [value for value in found if value and as_trained(value) == 0]:
        raise ValueError(
            f"{name}={small[0]}: float32, in which members train, has no number between 0 and "
            f"{TINY:.2g}."
        )
    if len(set(map(as_trained, found))) < len(found):
        raise ValueError(
            f"{name}={short_repr(given)}: a value is repeated, or is another's in float32, in "
            "which members train; give each once, and --seeds for more members of it."
        )


def as_trained(value: Any) -> Any:
    """Return a value as members train with it: floats in float32, 0 below `TINY`."""
    import numpy as np

    if not isinstance(value, float):
        return value
    return float(np.float32(value)) if abs(value) >= TINY else 0.0


def _plain(value: Any, kind: Any) -> Any:
    if isinstance(value, str):
        value = value.strip()
        if kind is bool:
            return {"true": True, "false": False}.get(value.lower(), value)
        if (get_origin(kind) or kind) is tuple:
            return value.replace("x", ",")
    return value


def _range(
    name: str, given: str, scale: str, ends: list[str], kind: Any
) -> list[Any] | SearchRange:
    if scale not in ("log", "uniform") or len(ends) not in (2, 3) or kind not in (int, float):
        raise ValueError(f"{name}={short_repr(given)}: {SYNTAX}.")
    low, high = (convert_value(name, end, kind) for end in ends[:2])
    if not low < high or (scale == "log" and low <= 0):
        above = ", above 0," if scale == "log" else ""
        raise ValueError(
            f"{name}={short_repr(given)}: the first end{above} must be less than the second."
        )
    found = SearchRange(low, high, scale == "log", kind is int)
    _require_different(name, given, [low, high])
    if len(ends) == 2:
        return found
    count = convert_value(f"{name}'s count", ends[2], int)
    checks.between(2, MAX_MEMBERS, **{f"{name}'s count": count})
    values = found.spaced(count)
    _require_different(name, given, values)
    return values


def make_settings(
    spaces: dict[str, list[Any] | SearchRange], draws: int | None, seed: int
) -> list[Options]:
    """Return every combination of the listed values, each with the same ``draws`` draws.

    Args:
        spaces: values or range by name, from `parse_values`.
        draws: from the ranges, no two equal; at least 1 where there are ranges, else None.
        seed: of the draws.

    Raises:
        ValueError: draws without a range, ranges without draws, or too many settings.
    """
    lists = {name: space for name, space in spaces.items() if isinstance(space, list)}
    drawn = spaces.keys() - lists
    if drawn and draws is None:
        raise ValueError(
            f"{min(drawn)} is drawn from a range: give --draws N, or :COUNT for evenly "
            "spaced values."
        )
    if draws is not None and not drawn:
        raise ValueError(f"draws={draws} requires a range; {SYNTAX}.")
    times = 1 if draws is None else draws
    checks.between(1, MAX_MEMBERS, draws=times)
    if (count := math.prod(map(len, lists.values())) * times) > MAX_MEMBERS:
        raise ValueError(f"{count:,} settings: a sweep has at most {MAX_MEMBERS:,}.")
    ranges = {name: space for name, space in spaces.items() if isinstance(space, SearchRange)}
    each = _drawn(ranges, times, seed)
    settings = [
        dict(zip(lists, values, strict=True)) | own
        for values in itertools.product(*lists.values())
        for own in each
    ]
    return [{name: own[name] for name in spaces} for own in settings]


def _drawn(ranges: dict[str, SearchRange], draws: int, seed: int) -> list[Options]:
    """Return ``draws`` settings from the ranges, no two of them equal as they are trained."""
    import numpy as np

    random = np.random.default_rng(seed)
    found: dict[tuple[Any, ...], Options] = {}
    most = math.prod(
        space.high - space.low + 1 if space.whole else math.inf for space in ranges.values()
    )
    for _ in range(TRIES * draws if draws <= most else 0):
        own = {name: space.at(random.uniform()) for name, space in ranges.items()}
        found.setdefault(tuple(map(as_trained, own.values())), own)
        if len(found) == draws:
            return [*found.values()]
    raise ValueError(
        f"draws={draws}: the ranges of {', '.join(ranges)} do not have so many different values: "
        "lower --draws, or list the values."
    )
