"""Checks what members of a run have of their own, and how they evolve."""

from dataclasses import replace
from typing import Any

from ddpg_jax.runs.options import field
from ddpg_jax.runs.options.hyperparameters import Hyperparameters
from ddpg_jax.runs.options.run_options import EvolveOptions
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
    for member in range(seeds if found else 0):
        replace(own, **own_hyperparameters(found, member)).check()
    return found


def checked_evolve(evolve: Any, vary: dict[str, list[Any]]) -> Options:
    """Return ``ranges``, ``{name: [low, high, whether logarithmic]}``, and `EvolveOptions`.

    Raises:
        ValueError: something is missing, unknown or out of its range.
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
    return {"ranges": found, **vars(options)}


def own_hyperparameters(vary: dict[str, list[Any]], member: int) -> Options:
    """Return the hyper-parameters that one member has instead of the run's."""
    return {name: values[member] for name, values in vary.items() if name != "seed"}
