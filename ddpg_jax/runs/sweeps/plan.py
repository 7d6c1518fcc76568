"""Splits a sweep into runs: members with the same programs train together, as memory allows."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

import jax

from ddpg_jax import checks, envs
from ddpg_jax.runs.config.run_config import Config, make_config
from ddpg_jax.runs.config.stored import PLACEMENT
from ddpg_jax.runs.options.field import options_of
from ddpg_jax.runs.options.validation import convert_value, short_repr
from ddpg_jax.runs.programs import build, setup
from ddpg_jax.runs.programs import memory as runs_memory
from ddpg_jax.runs.sweeps import search_space

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MEMORY_SHARE = 0.8
"""Share of the memory that members may take together."""


class Member(NamedTuple):
    """One agent of a sweep: its number, its seed, and its own hyper-parameters."""

    member: int
    seed: int
    hyperparameters: dict[str, Any]


class SweepRun(NamedTuple):
    """A run of a sweep: its options, and the members that it trains.

    The last run may also train copies that only fill it up; they are not listed.
    """

    options: dict[str, Any]
    members: list[int]


class Plan(NamedTuple):
    """A sweep as ``sweep.json`` stores it."""

    env: str
    options: dict[str, Any]
    """Arguments of `make_config` that all members share."""
    values: dict[str, Any]
    """The values of each hyper-parameter, as given."""
    draws: int | None
    members: list[Member]
    parts: list[SweepRun]

    def json(self) -> dict[str, Any]:
        """Return the plan as JSON-able data."""
        several = {
            "members": [member._asdict() for member in self.members],
            "parts": [part._asdict() for part in self.parts],
        }
        return dict(json.loads(json.dumps(self._asdict() | several)))

    @staticmethod
    def of(data: Mapping[str, Any]) -> Plan:
        """Return the plan that `json` stored."""
        several = {
            "members": [Member(**each) for each in data["members"]],
            "parts": [SweepRun(**each) for each in data["parts"]],
        }
        return Plan(**{**data, **several})

    def config(self, part: SweepRun, given: Mapping[str, Any]) -> Config:
        """Return the configuration of a run, with some options replaced."""
        own = {
            name: value
            for name, value in part.options.items()
            if name != "mesh" or not given.keys() & set(PLACEMENT)
        }
        return make_config(self.env, **{**own, **given})


def make_plan(
    env: str,
    values: Mapping[str, Any],
    *,
    seeds: int = 1,
    draws: int | None = None,
    evolve: Mapping[str, Any] | None = None,
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
    places = {name: options.pop(name) for name in PLACEMENT if name in options}
    common = make_config(env, seeds=seeds, **options)
    options = options | {"preset": common.preset.name, "seed": common.seed}
    kinds = {name: kind for name, kind, _ in options_of(type(common.hyperparameters))}
    values = {name.replace("-", "_"): given for name, given in values.items()}
    spaces = {
        name: search_space.parse_values(name, given, _type_of(name, kinds, common))
        for name, given in values.items()
    }
    if not spaces:
        raise ValueError("a sweep requires --set NAME=VALUES, for example --set tau=0.005,0.05.")
    settings = search_space.make_settings(spaces, draws, common.seed)
    checks.between(1, search_space.MAX_MEMBERS, **{"members of the sweep": len(settings) * seeds})
    pairs = [(setting, common.seed + index) for setting in settings for index in range(seeds)]
    members = [
        Member(number, seed if evolve is None else common.seed + number, setting)
        for number, (setting, seed) in enumerate(pairs)
    ]
    apart = (
        set(spaces) if envs.on_host(env) else {name for name in spaces if kinds[name] is not float}
    )
    if evolve is not None:
        options = options | {"evolve": {**evolve, "ranges": _ranges(spaces, apart, env)}}
    parts = [
        _with_chunks(env, part, places)
        for part in _runs(env, options, members, apart, memory, together=evolve is not None)
    ]
    shown_values = {
        name: given if isinstance(given, str) else spaces[name] for name, given in values.items()
    }
    return Plan(env, options, shown_values, draws, members, parts)


def _with_chunks(env: str, part: SweepRun, places: dict[str, Any]) -> SweepRun:
    """Fix the steps per chunk, which a longer sweep keeps, and the mesh where it is given."""
    config = make_config(env, **part.options, **places)
    mesh = {"mesh": config.mesh} if places else {}
    return part._replace(
        options=part.options | mesh | {"steps_per_chunk": config.schedule.steps_per_chunk}
    )


def _type_of(name: str, kinds: Mapping[str, Any], common: Config) -> Any:
    if name not in kinds:
        raise checks.nearest(
            "hyper-parameter",
            name,
            kinds,
            f"preset {common.preset.name!r} has {', '.join(sorted(kinds))}.",
        )
    return kinds[name]


def _ranges(spaces: Mapping[str, Any], apart: set[str], env: str) -> dict[str, list[Any]]:
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
    env: str,
    options: dict[str, Any],
    members: list[Member],
    apart: set[str],
    memory: int | None,
    *,
    together: bool,
) -> Iterable[SweepRun]:
    groups: dict[str, list[Member]] = {}
    for member in members:
        own = {name: value for name, value in member.hyperparameters.items() if name in apart}
        if envs.on_host(env):
            own["seed"] = member.seed
        groups.setdefault(json.dumps(own), []).append(member)
    for text, group in groups.items():
        own = options | json.loads(text)
        if envs.on_host(env):
            make_config(env, **own)
            yield SweepRun(own, [group[0].member])
            continue
        most = _members_at_once(env, own, group, apart, memory)
        if together and most < len(group):
            raise ValueError(
                f"{len(group)} members evolve together, but only {most} fit in memory: lower "
                "--draws, or their sizes."
            )
        runs = -(-len(group) // most)
        size = -(-len(group) // runs)
        for start in range(0, len(group), size):
            few = group[start : start + size]
            # The last run is filled with copies, so that all runs have the same program.
            yield SweepRun(
                own | _member_options([*few, *[few[-1]] * (size - len(few))], apart),
                [member.member for member in few],
            )


def _member_options(members: list[Member], apart: set[str]) -> dict[str, Any]:
    names = [name for name in members[0].hyperparameters if name not in apart]
    vary = {name: [member.hyperparameters[name] for member in members] for name in names}
    return {"seeds": len(members), "vary": vary | {"seed": [member.seed for member in members]}}


def _members_at_once(
    env: str, options: dict[str, Any], group: list[Member], apart: set[str], memory: int | None
) -> int:
    """Return how many members fit at once, at least one; checks all of their hyper-parameters."""
    alone = {name: value for name, value in options.items() if name != "evolve"}
    config = make_config(env, **alone)
    made = setup.environment(config, config.hyperparameters.num_envs)
    for member in group:
        floats = {
            name: value for name, value in member.hyperparameters.items() if name not in apart
        }
        make_config(env, **alone | floats)
        setup.compose(config, made, **floats)
    found = runs_memory.all_parts(config, build.build(config).state)
    if memory is not None:
        most = convert_value("memory", memory, int) // sum(part.needed for part in found)
    else:
        most = min(
            _fit(int(MEMORY_SHARE * free), where, there, len(group))
            for where, free, there in runs_memory.budgets(found)
        )
    return max(1, min(most, len(group)))


def _fit(free: int, where: str, needs: list[runs_memory.MemoryPart], members: int) -> int:
    """Return how many members a memory holds, over all devices that they are spread over."""
    devices = 1 if where in ("cpu", "host") else min(jax.device_count(), members)
    return free * devices // sum(part.needed for part in needs)
