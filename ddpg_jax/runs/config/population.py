"""Checks what members of a run have of their own, and how they evolve."""

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

from ddpg_jax.runs.options import field
from ddpg_jax.runs.options.hyperparameters import Hyperparameters
from ddpg_jax.runs.options.sweep_options import EvolveOptions
from ddpg_jax.runs.options.validation import INT32_MAX, Options, convert_value, short_repr


def checked_vary(vary: Any, seeds: int, own: Hyperparameters) -> dict[str, list[Any]]:
    """Return hyper-parameters and seeds of single members, ``{name: [seeds]}``, converted.

    Raises:
        ValueError: an unknown hyper-parameter, one that cannot differ between members of one
            program, one out of its range, or a list without ``seeds`` values.
    """
    from ddpg_jax import checks

    kinds = {name: each.kind for name, each in field.options_of(type(own)).items()}
    kinds["seed"] = int
    found = {}
    for name, values in convert_value("vary", vary, dict).items():
        if name != "seed" and kinds.get(name) is not float:
            raise ValueError(
                f"vary has {name!r}: members of one program differ in their seed and in floats of "
                "the preset."
            )
        if not isinstance(values, list) or len(values) != seeds:
            raise ValueError(
                f"vary's {name} is {short_repr(values)}: give a list of {seeds} values, one for "
                "each member."
            )
        found[name] = [convert_value(name, value, kinds[name]) for value in values]
    checks.between(0, INT32_MAX, seed=found.get("seed", 0))
    return found


def checked_evolve(evolve: Any, vary: dict[str, list[Any]], own: Hyperparameters) -> Options:
    """Return ``ranges``, ``{name: [low, high, whether logarithmic]}``, and `EvolveOptions`.

    Raises:
        ValueError: something is missing, unknown or out of its range, or a number that evolves
            stays in what a member has learned or stored.
    """
    given = convert_value("evolve", evolve, dict)
    if not given:
        return {}
    ranges = convert_value("ranges", given.pop("ranges", {}), dict)
    known = field.options_of(EvolveOptions)
    if unknown := given.keys() - known:
        raise ValueError(f"evolve has {min(unknown)!r}: it takes ranges, {', '.join(known)}.")
    absent = ranges.keys() - (vary.keys() - {"seed"})
    if absent or not ranges:
        which = f"{min(absent)} has none" if absent else "none is given"
        raise ValueError(
            f"evolution needs ranges of hyper-parameters that differ between members: {which}."
        )
    if any(len(members) < 2 for members in vary.values()):
        raise ValueError("evolution needs at least two members: raise --draws.")
    options = EvolveOptions(**field.convert_options(EvolveOptions, given))
    field.check_options(options)
    found = {
        name: [convert_value(name, low, float), convert_value(name, high, float), bool(log)]
        for name, (low, high, log) in ranges.items()
    }
    _require_none_kept(found if options.copy_replay else vary.keys() - {"seed"}, own)
    return {"ranges": found, **vars(options)}


def _require_none_kept(names: Iterable[str], own: Hyperparameters) -> None:
    for name in names:
        if kept := own.keeps(name):
            raise ValueError(
                f"{name} cannot evolve: {kept}, and a member that takes another's over has it by "
                "the old value. Leave it out, or sweep it without evolution."
            )


def possible_hyperparameters(vary: dict[str, list[Any]], evolve: Options) -> Iterator[Options]:
    """Yield what members may have instead of the run's: what each begins with, and where they
    evolve, the ends of every two ranges in all combinations.
    """
    for member in range(max(map(len, vary.values()), default=0)):
        yield own_hyperparameters(vary, member)
    ranges = evolve.get("ranges", {})
    ends = {name: [min(values), max(values)] for name, values in vary.items() if name != "seed"}
    ends |= {name: [low, high] for name, (low, high, _) in ranges.items()}
    for names in itertools.combinations(ends, min(2, len(ends))) if ranges else ():
        for corner in itertools.product(*(ends[name] for name in names)):
            yield own_hyperparameters(vary, 0) | dict(zip(names, corner, strict=True))


def own_hyperparameters(vary: dict[str, list[Any]], member: int) -> Options:
    """Return the hyper-parameters that one member has instead of the run's."""
    return {name: values[member] for name, values in vary.items() if name != "seed"}
