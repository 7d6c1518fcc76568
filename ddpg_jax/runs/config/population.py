"""What single members of a run have of their own, and how they evolve, as plain data; imports no JAX."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ddpg_jax.runs.options.validation import LARGEST, exact, shown

EVOLUTION = {"fraction": 0.2, "change": 0.2, "resample": 0.25, "copy_replay": True}
"""As of `ddpg_jax.population.evolution.evolving`, with its defaults."""


def checked_vary(vary: Any, seeds: int, kinds: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Hyperparameters and seeds of single members, ``{name: [seeds]}``, each as its kind.

    Raises:
        ValueError: there is no such number, it cannot differ between members of one program, or they are not ``seeds`` values.
    """
    from ddpg_jax import checks

    found = {}
    for name, values in exact("vary", vary, dict).items():
        if name != "seed" and kinds.get(name) is not float:
            raise ValueError(f"vary has {name!r}: members of one program differ in their seed and in floats of the preset.")
        if not isinstance(values, list) or len(values) != seeds:
            raise ValueError(f"vary's {name} is {shown(values)}: give a list of {seeds} values, one for each member.")
        found[name] = [exact(name, value, int if name == "seed" else float) for value in values]
    checks.between(0, LARGEST, **{"seed": found["seed"]} if "seed" in found else {})
    return found


def checked_evolve(evolve: Any, vary: Mapping[str, list[Any]]) -> dict[str, Any]:
    """How members evolve: ``ranges`` as ``{name: [low, high, whether logarithmic]}``, and the hyper-parameters of `EVOLUTION`.

    Raises:
        ValueError: something is missing, unknown or out of its range.
    """
    from ddpg_jax import checks

    given = exact("evolve", evolve, dict)
    if not given:
        return {}
    ranges = exact("ranges", given.pop("ranges", {}), dict)
    if unknown := set(given) - set(EVOLUTION):
        raise ValueError(f"evolve has {min(unknown)!r}: it takes ranges, {', '.join(EVOLUTION)}.")
    if not ranges or (absent := set(ranges) - set(vary)) or "seed" in ranges:
        which = f"{min(absent)} has none" if ranges and absent else "there is no range"
        raise ValueError(f"evolution needs ranges of numbers that differ between members: {which}.")
    if any(len(members) < 2 for members in vary.values()):
        raise ValueError("evolution needs at least two members: raise --draws.")
    hyperparameters = EVOLUTION | given
    hyperparameters = {name: exact(name, value, type(EVOLUTION[name])) for name, value in hyperparameters.items()}
    checks.between(0, 0.5, fraction=hyperparameters["fraction"])
    checks.between(0, 1, change=hyperparameters["change"], resample=hyperparameters["resample"])
    found = {name: [exact(name, low, float), exact(name, high, float), bool(log)] for name, (low, high, log) in ranges.items()}
    return {"ranges": found, **hyperparameters}


def hyperparameters_of(vary: Mapping[str, list[Any]], member: int) -> dict[str, float]:
    """What one member has instead of the run's own hyper-parameters."""
    return {name: values[member] for name, values in vary.items() if name != "seed"}
