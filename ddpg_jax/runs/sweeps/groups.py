"""Groups members of a sweep into runs: those with the same programs train together, as many as
memory allows and devices share.
"""

import contextlib
import itertools
import json
from collections.abc import Iterable
from dataclasses import dataclass

import jax

from ddpg_jax.runs.config import population
from ddpg_jax.runs.config.mesh import parse_mesh
from ddpg_jax.runs.config.run_config import Config, make_config
from ddpg_jax.runs.options.validation import Options, short_repr
from ddpg_jax.runs.programs import build, compiled_memory, effects, setup
from ddpg_jax.runs.programs import memory as runs_memory

GUESS_FACTOR = 16
"""A compiled member takes at most this times what is known before (2.7 of vectors and 13 of images
measured); where that might not fit, one is compiled, and so many take that often as much (within 2
%)."""
MEMORY_SHARE = 0.8
"""Share of the memory that members may take together."""


@dataclass(frozen=True)
class Member:
    """One agent of a sweep: its number, its seed, and its own hyper-parameters."""

    member: int
    seed: int
    hyperparameters: Options


def runs_of(
    env: str,
    options: Options,
    members: list[Member],
    apart: set[str],
    memory: int | None,
    places: Options,
) -> Iterable[tuple[Options, list[int]]]:
    """Yield the options of each run, and the members that it trains."""
    for text, group in by_program(members, apart).items():
        own = options | json.loads(text)
        most = _members_at_once(env, own, group, apart, memory)
        if "evolve" in own:
            size = _require_together(len(group), most, places)
        else:
            runs = range(-(-len(group) // most), len(group) + 1)
            sizes = (_even(-(-len(group) // count), places) for count in runs)
            size = next((each for each in sizes if each <= most), _even(1, places))
        for start in range(0, len(group), size):
            few = group[start : start + size]
            # Filled with copies: all runs have the same program, and every device its members.
            filled = [*few, *[few[-1]] * (size - len(few))]
            yield own | _member_options(filled, apart), [member.member for member in few]


def by_program(members: list[Member], apart: set[str]) -> dict[str, list[Member]]:
    """Return the members by their values of what makes another program, as JSON."""
    groups: dict[str, list[Member]] = {}
    for member in members:
        own = {name: value for name, value in member.hyperparameters.items() if name in apart}
        groups.setdefault(json.dumps(own), []).append(member)
    return groups


def _even(size: int, places: Options) -> int:
    """Return the least number of members, at least ``size``, that the devices share evenly."""
    if places.get("mesh"):
        return -(-size // (side := parse_mesh(places["mesh"]).members)) * side
    devices = places.get("devices")
    if devices is None:
        devices = jax.device_count()
        return size if size < devices else -(-size // devices) * devices
    return next(
        count for count in itertools.count(size) if not (devices % count and count % devices)
    )


def _require_together(count: int, most: int, places: Options) -> int:
    """Return the number of members that evolve together, all of them.

    Raises:
        ValueError: they do not fit in memory, or the mesh does not divide them.
    """
    if most < count:
        raise ValueError(
            f"{count} members evolve together, but only {most} fit in memory: lower --draws, or "
            "their sizes."
        )
    if places.get("mesh") and (near := _even(count, places)) != count:
        raise ValueError(
            f"mesh={places['mesh']} does not divide the {count} members that evolve together: "
            f"choose --draws times --seeds as {near}, or another mesh."
        )
    return count


def _member_options(members: list[Member], apart: set[str]) -> Options:
    vary = {
        name: [member.hyperparameters[name] for member in members]
        for name in members[0].hyperparameters
        if name not in apart
    }
    return {"seeds": len(members), "vary": vary | {"seed": [member.seed for member in members]}}


def require_effect(
    env: str, options: Options, heads: list[Member], members: list[Member], apart: set[str]
) -> None:
    """Refuse hyper-parameters that change nothing in what members train.

    ``heads`` stand for all ``members``. A float has to have a part in their program; of the values
    of another hyper-parameter, one and the next have to make different programs.
    """
    evolves = "evolve" in options
    programs: dict[str, str] = {}

    def config_of(own: Options) -> Config:
        alone = {name: own[name] for name in apart} | {"evolve": None}
        one = Member(0, members[0].seed, own)
        return make_config(env, **options | alone | _member_options([one], apart))

    def program_of(own: Options) -> str:
        config = config_of(own)
        known = json.dumps(config.flat())
        if known not in programs:
            programs[known] = effects.program_of(config)
        return programs[known]

    for own in (head.hyperparameters for head in heads):
        config = config_of(own)
        if unused := effects.without_effect(config, from_start=not evolves):
            when = "after the start of a member" if evolves else "in these runs"
            raise ValueError(
                f"{unused[0]} has no effect {when} (preset {config.preset.name}): its values would "
                "train equal members. Leave it out of --set."
            )
        for name in apart:
            values = [*dict.fromkeys(each.hyperparameters[name] for each in members)]
            other = values[(values.index(own[name]) + 1) % len(values)]
            same = False
            with contextlib.suppress(ValueError):  # no member may have this combination
                same = other != own[name] and program_of(own | {name: other}) == program_of(own)
            if same:
                raise ValueError(
                    f"{name}={short_repr(own[name])} and {short_repr(other)} make no difference "
                    f"in these runs (preset {config.preset.name}): they would train equal members. "
                    "Keep one of them in --set."
                )


def _members_at_once(
    env: str, options: Options, group: list[Member], apart: set[str], memory: int | None
) -> int:
    """Return how many members fit at once, at least one; checks all of their hyper-parameters."""
    alone = options | {"evolve": None}
    config = make_config(env, **alone)
    made = setup.environment(config, config.hyperparameters.num_envs)
    together = make_config(env, **options | _member_options(group, apart))
    for own in population.possible_hyperparameters(together.vary, together.evolve):
        setup.compose(config, made, **own)
    built = build.build(config)
    found = runs_memory.all_parts(config, built.state)
    if _at_once(found, memory, len(group)) < GUESS_FACTOR * len(group):
        programs = build.compile_programs(built, config)
        found = compiled_memory.measured_parts(config, built, programs)
    if memory is not None and memory < (needed := sum(part.needed for part in found)):
        raise ValueError(
            f"memory={memory}: one member needs {runs_memory.format_bytes(needed)}, {needed} "
            "bytes: raise --memory, or lower its sizes."
        )
    return max(1, _at_once(found, memory, len(group)))


def _at_once(found: list[runs_memory.MemoryPart], memory: int | None, count: int) -> int:
    """Return how many members with these parts fit into the memory."""
    if memory is not None:
        return memory // sum(part.needed for part in found)
    devices = min(jax.device_count(), count)  # an accelerator's memory is of each
    return min(
        int(MEMORY_SHARE * free)
        * (1 if where in ("cpu", "host") else devices)
        // sum(part.needed for part in there)
        for where, free, there in runs_memory.budgets(found)
    )
