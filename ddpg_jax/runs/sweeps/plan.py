"""The plan of a sweep: its members, and the runs that train them."""

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from ddpg_jax import checks, envs
from ddpg_jax.runs.config import stored
from ddpg_jax.runs.config.run_config import Config, make_config, presets_with
from ddpg_jax.runs.options.field import convert_options, options_of
from ddpg_jax.runs.options.run_options import EnvironmentOptions, RunOptions
from ddpg_jax.runs.options.suggestions import synonyms
from ddpg_jax.runs.options.validation import Options, convert_value, short_repr
from ddpg_jax.runs.sweeps import groups, search_space
from ddpg_jax.runs.sweeps.groups import Member
from ddpg_jax.runs.training import offline


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
    if memory is not None:
        memory = convert_value("memory", memory, int)
        checks.between(1, memory=memory)
    places = {name: options.pop(name) for name in stored.PLACEMENT if name in options}
    places = convert_options(RunOptions, places, keep_defaults=True)
    common, _ = offline.counted(make_config(env, seeds=seeds, **options))
    options |= {"offline_rows": common.offline_rows} if common.offline else {}
    values = _named(values, options)
    options |= {"preset": common.preset.name, "seed": common.seed}
    declared = options_of(type(common.hyperparameters))
    spaces = _spaces(values, common)
    settings = search_space.make_settings(spaces, draws, common.seed)
    checks.between(1, search_space.MAX_MEMBERS, **{"members of the sweep": len(settings) * seeds})
    members = [
        Member(number, common.seed + (index if evolve is None else number), setting)
        for number, (setting, index) in enumerate(itertools.product(settings, range(seeds)))
    ]
    apart = {name for name in spaces if declared[name].kind is not float}
    if evolve is not None:
        options |= {"evolve": {**evolve, "ranges": _ranges(spaces, apart, env)}}
    heads = [group[0] for group in groups.by_program(members, apart).values()]
    one_at_a_time = envs.on_host(env)
    groups.require_effect(env, options, heads[: 1 if one_at_a_time else None], members, apart)
    runs = (
        [(options | one.hyperparameters | {"seed": one.seed}, [one.member]) for one in members]
        if one_at_a_time
        else groups.runs_of(env, options, members, apart, memory, places)
    )
    parts = []
    for own, few in runs:
        config = make_config(env, **own, **places)
        if config.evolve and config.num_chunks < 2:
            raise ValueError(
                f"members evolve between chunks, but {config.trained_timesteps} steps are one "
                f"chunk of {config.schedule.steps_per_chunk}: lower --steps-per-chunk, or raise "
                "--total-timesteps."
            )
        # A longer sweep keeps the steps per chunk.
        fixed = {"mesh": config.mesh, "steps_per_chunk": config.schedule.steps_per_chunk}
        parts.append(SweepRun(own | fixed, few))
    shown_values = {
        name: given if isinstance(given, str) else spaces[name] for name, given in values.items()
    }
    return Plan(env, options, shown_values, draws, members, parts)


def _named(values: Mapping[str, Any], options: Options) -> Options:
    """Return the values by the names of their hyper-parameters.

    Raises:
        ValueError: a name is given twice, or its option too.
    """
    found: Options = {}
    for given, value in values.items():
        name = given.replace("-", "_")
        if name in found or name in options:
            other = f"--set {name}" if name in found else f"--{name.replace('_', '-')}"
            raise ValueError(f"--set {given} and {other}: give a hyper-parameter once.")
        found[name] = value
    return found


def _spaces(values: Options, common: Config) -> dict[str, Any]:
    """Return the values or the range of each hyper-parameter.

    Raises:
        ValueError: one is unknown, or an end of its range is none of its values.
    """
    declared = options_of(type(common.hyperparameters))
    if unknown := [name for name in values if name not in declared]:
        raise _unknown(unknown[0], declared, common.preset.name)
    found = {
        name: search_space.parse_values(name, given, declared[name].kind)
        for name, given in values.items()
    }
    if not found:
        raise ValueError("a sweep requires --set NAME=VALUES, for example --set tau=0.005,0.05.")
    for name, space in found.items():
        if declared[name].kind is float and isinstance(space, search_space.SearchRange):
            for end in (space.low, space.high):  # draws may miss what is out of the number's range
                end_of: Options = {name: end}
                replace(common.hyperparameters, **end_of).check()
    return found


def _unknown(name: str, declared: Iterable[str], preset: str) -> ValueError:
    """Return the error for what is none of a preset's hyper-parameters."""
    if name in options_of(RunOptions) | options_of(EnvironmentOptions):
        given = name.upper() if name == "env" else f"--{name.replace('_', '-')}"
        more = ", and --seeds for more members of each setting" if name == "seed" else ""
        return ValueError(
            f"{name} is an option of the whole sweep, not a hyper-parameter: give {given}{more}."
        )
    if having := presets_with(name):
        return ValueError(f"preset {preset!r} has no {name}; presets that have it: {having}.")
    if meant := synonyms(name, declared):
        return ValueError(f"unknown hyper-parameter {name!r}: did you mean {' and '.join(meant)}?")
    having = f"preset {preset!r} has {', '.join(sorted(declared))}."
    return checks.nearest("hyper-parameter", name, declared, having)


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
