"""Splits a sweep into runs: members with the same programs train together, as memory allows."""

import itertools
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import jax

from ddpg_jax import checks, envs
from ddpg_jax.runs.config import population, stored
from ddpg_jax.runs.config.run_config import Config, make_config
from ddpg_jax.runs.options.field import options_of
from ddpg_jax.runs.options.validation import Options, convert_value, short_repr
from ddpg_jax.runs.programs import build, setup
from ddpg_jax.runs.programs import memory as runs_memory
from ddpg_jax.runs.sweeps import search_space

MEMORY_SHARE = 0.8
"""Share of the memory that members may take together."""


@dataclass(frozen=True)
class Member:
    """One agent of a sweep: its number, its seed, and its own hyper-parameters."""

    member: int
    seed: int
    hyperparameters: Options


@dataclass(frozen=True)
class SweepRun:
    """A run of a sweep: its options, and the members that it trains.

    The last run may also train copies that only fill it up; they are not listed.
    """

    options: Options
    members: list[int]


@dataclass(frozen=True)
class Plan:
    """A sweep; ``sweep.json`` has its fields."""

    env: str
    options: Options
    """Arguments of `make_config` that all members share."""
    values: Options
    """The values of each hyper-parameter, as given."""
    draws: int | None
    members: list[Member]
    parts: list[SweepRun]

    @staticmethod
    def of(data: Options) -> "Plan":
        """Return the plan with these fields.

        Raises:
            ValueError: one is missing, or is unknown.
        """
        if wrong := {each.name for each in fields(Plan)} ^ data.keys():
            raise ValueError(f"{min(wrong)} is missing, or is one too many")
        members = [Member(**each) for each in data["members"]]
        parts = [SweepRun(**each) for each in data["parts"]]
        return Plan(**data | {"members": members, "parts": parts})

    def config(self, part: SweepRun, given: Options) -> Config:
        """Return the configuration of a run, with some options replaced."""
        mesh = {"mesh": ""} if given.keys() & stored.PLACEMENT else {}
        return make_config(self.env, **part.options | mesh | given)


def make_plan(
    env: str,
    values: Mapping[str, Any],
    *,
    seeds: int = 1,
    draws: int | None = None,
    evolve: Options | None = None,
    memory: int | None = None,
    **options: Any,
) -> Plan:
    """Choose the members of a sweep, and which of them train together.

    Args:
        env: the environment of all members.
        values: the values of each hyper-parameter, see `search_space.parse_values`.
        seeds: members of each setting, with the seeds ``seed``, ``seed + 1``, ...; where members
            evolve, each has its own.
        draws: random settings, see `search_space.make_settings`.
        evolve: as in `ddpg_jax.runs.config.population.checked_evolve` without the ranges; None does
            not evolve.
        memory: bytes that members trained together may take; None is `MEMORY_SHARE` of the memory.
        **options: of all members, as in `make_config`.

    Raises:
        ValueError: a wrong name, value or count, or members that have to train together do not fit.
    """
    places = {name: options.pop(name) for name in stored.PLACEMENT if name in options}
    common = make_config(env, seeds=seeds, **options)
    options |= {"preset": common.preset.name, "seed": common.seed}
    values = {name.replace("-", "_"): given for name, given in values.items()}
    declared = options_of(type(common.hyperparameters))
    if unknown := [name for name in values if name not in declared]:
        having = f"preset {common.preset.name!r} has {', '.join(sorted(declared))}."
        raise checks.nearest("hyper-parameter", unknown[0], declared, having)
    spaces = {
        name: search_space.parse_values(name, given, declared[name].kind)
        for name, given in values.items()
    }
    if not spaces:
        raise ValueError("a sweep requires --set NAME=VALUES, for example --set tau=0.005,0.05.")
    settings = search_space.make_settings(spaces, draws, common.seed)
    checks.between(1, search_space.MAX_MEMBERS, **{"members of the sweep": len(settings) * seeds})
    members = [
        Member(number, common.seed + (index if evolve is None else number), setting)
        for number, (setting, index) in enumerate(itertools.product(settings, range(seeds)))
    ]
    apart = {name for name in spaces if declared[name].kind is not float}
    if evolve is not None:
        options |= {"evolve": {**evolve, "ranges": _ranges(spaces, apart, env)}}
    runs = (
        [(options | one.hyperparameters | {"seed": one.seed}, [one.member]) for one in members]
        if envs.on_host(env)
        else _runs(env, options, members, apart, memory)
    )
    parts = []
    for own, few in runs:
        config = make_config(env, **own, **places)
        # A longer sweep keeps the steps per chunk.
        fixed = {"mesh": config.mesh, "steps_per_chunk": config.schedule.steps_per_chunk}
        parts.append(SweepRun(own | fixed, few))
    shown_values = {
        name: given if isinstance(given, str) else spaces[name] for name, given in values.items()
    }
    return Plan(env, options, shown_values, draws, members, parts)


def _ranges(spaces: Options, apart: set[str], env: str) -> dict[str, list[Any]]:
    if envs.on_host(env):
        raise ValueError(
            f"{env} is a host environment, whose members train one at a time and cannot evolve "
            "together."
        )
    for name, given in spaces.items():
        if name in apart or isinstance(given, list):
            raise ValueError(
                f"members evolve within ranges of floats, not {name}={short_repr(given)}: give "
                "log:LOW:HIGH or uniform:LOW:HIGH."
            )
    return {name: [given.low, given.high, given.log] for name, given in spaces.items()}


def _runs(
    env: str, options: Options, members: list[Member], apart: set[str], memory: int | None
) -> Iterable[tuple[Options, list[int]]]:
    """Yield the options of each run, and the members that it trains."""
    groups: dict[str, list[Member]] = {}
    for member in members:
        own = {name: value for name, value in member.hyperparameters.items() if name in apart}
        groups.setdefault(json.dumps(own), []).append(member)
    for text, group in groups.items():
        own = options | json.loads(text)
        most = _members_at_once(env, own, group, apart, memory)
        if "evolve" in own and most < len(group):
            raise ValueError(
                f"{len(group)} members evolve together, but only {most} fit in memory: lower "
                "--draws, or their sizes."
            )
        runs = -(-len(group) // most)
        size = -(-len(group) // runs)
        for start in range(0, len(group), size):
            few = group[start : start + size]
            # The last run is filled with copies, so that all runs have the same program.
            filled = [*few, *[few[-1]] * (size - len(few))]
            yield own | _member_options(filled, apart), [member.member for member in few]


def _member_options(members: list[Member], apart: set[str]) -> Options:
    vary = {
        name: [member.hyperparameters[name] for member in members]
        for name in members[0].hyperparameters
        if name not in apart
    }
    return {"seeds": len(members), "vary": vary | {"seed": [member.seed for member in members]}}


def _members_at_once(
    env: str, options: Options, group: list[Member], apart: set[str], memory: int | None
) -> int:
    """Return how many members fit at once, at least one; checks all of their hyper-parameters."""
    alone = options | {"evolve": None}
    config = make_config(env, **alone)
    made = setup.environment(config, config.hyperparameters.num_envs)
    vary = make_config(env, **alone | _member_options(group, apart)).vary
    for number in range(len(group)):
        setup.compose(config, made, **population.own_hyperparameters(vary, number))
    found = runs_memory.all_parts(config, build.build(config).state)
    if memory is not None:
        most = convert_value("memory", memory, int) // sum(part.needed for part in found)
    else:
        devices = min(jax.device_count(), len(group))  # an accelerator's memory is of each
        most = min(
            int(MEMORY_SHARE * free)
            * (1 if where in ("cpu", "host") else devices)
            // sum(part.needed for part in there)
            for where, free, there in runs_memory.budgets(found)
        )
    return max(1, min(most, len(group)))
