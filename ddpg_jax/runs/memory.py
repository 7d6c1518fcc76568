"""What a run will hold in memory, part by part, before any of it is allocated; `fits` refuses what is too much."""

from __future__ import annotations

import io
from typing import Any

import jax
from rich.console import Console
from rich.table import Table

from ddpg_jax.population import Programs
from ddpg_jax.runs import fits
from ddpg_jax.runs.build import Built, build, compile_programs
from ddpg_jax.runs.config import Config
from ddpg_jax.runs.device import ASKED
from ddpg_jax.runs.fits import Part

COPIES = 2
"""Of the state while a checkpoint is written: the one that is saved, and what the storage makes of it."""
LOWER = {
    "start": "--num-envs, --learning-starts or --seeds",
    "chunk": "--batch-size, --hidden, --num-envs or --seeds",
    "evaluate": "--evaluation-episodes or --seeds",
}


def parts(config: Config, built: Built, programs: Programs | None) -> list[Part]:
    """All of a run's parts; ``programs`` None: not compiled, what they need is guessed, at the least.

    Two programs never run at once, so the one that needs most counts; a checkpoint is written beside the later ones, and not
    beside the first, which makes the state.
    """
    found = fits.kept(config, built.state)
    copy = Part("a checkpoint being written", COPIES * fits.size(built.state), "--replay-capacity or --seeds", on_host=True)
    if programs is None or built.host is not None:
        return [*found, *fits.guessed(config, built.state), copy]
    needs = {name: _needs(getattr(programs, name)) for name in LOWER}
    later = max(("chunk", "evaluate"), key=needs.__getitem__)
    found.append(Part(f"temporaries of the compiled programs ({later})", needs[later], LOWER[later]))
    beside = copy.needed if jax.default_backend() == "cpu" else 0
    if (more := needs["start"] - needs[later] - beside) > 0:
        found.append(Part("more of them at the start", more, LOWER["start"]))
    if (padding := _arguments(programs.chunk) - sum(part.needed for part in fits.kept(config, built.state))) > 0:
        found.append(Part("counters, keys, and padding as the device lays arrays", padding, "--replay-capacity or --seeds"))
    return [*found, copy]


def _needs(program: Any) -> int:
    memory = program.memory_analysis()
    return memory.temp_size_in_bytes + memory.generated_code_size_in_bytes


def _arguments(program: Any) -> int:
    return program.memory_analysis().argument_size_in_bytes


def plan(config: Config) -> str:
    """What ``ddpg-jax train --dry-run`` prints: the run in a sentence, and a table of its parts.

    Raises:
        ValueError: as `ddpg_jax.runs.build.build`, or it is too much for this machine.
    """
    here = config.device_kind in (ASKED, jax.default_backend())
    built = build(config) if here else build_elsewhere(config)
    found = parts(config, built, compile_programs(built, config) if here else None)
    where = jax.default_backend() if here else config.device_kind
    console = Console(file=io.StringIO(), width=100, highlight=False, emoji=False)
    console.print(summary(config, where), markup=False, soft_wrap=True)
    console.print(table(found, where, fits.budgets(found) if here else []))
    if not here:
        console.print(f"Of what the programs need besides, this is the least; a {where} would say more.", soft_wrap=True)
    if here:
        fits.require_memory(found)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().rstrip()


def build_elsewhere(config: Config) -> Built:
    """The functions and shapes of a run that another machine is to hold: nothing is refused here."""
    return build(config, weigh=lambda parts: None)


def summary(config: Config, where: str) -> str:
    """The sizes of a run."""
    numbers = config.numbers
    lines = [
        f"{config.env} on a {where}, preset {config.preset.name}: {numbers.num_envs:,} environments, batch "
        f"{numbers.batch_size:,}, {numbers.updates_per_step} updates per vector step, replay {numbers.replay_capacity:,}, "
        f"networks in {numbers.dtype}, {config.seeds} seed(s), {numbers.total_timesteps:,} steps.",
        config.note,
    ]
    return "\n".join(filter(None, lines))


def table(found: list[Part], where: str, budgets: list[tuple[str, int, list[Part]]]) -> Table:
    """The parts with their bytes on each device and on the host, which are one on a CPU."""
    one = where == "cpu"
    columns = ["part", where if one else f"each {where}", *([] if one else ["host"]), "lowered by"]
    made = Table(*columns, title="memory, before any of it is allocated", title_justify="left")
    for column in made.columns[1:-1]:
        column.justify = "right"
    row = lambda what, on_device, on_host, lower: made.add_row(what, on_device, *([] if one else [on_host]), lower)
    for part in found:
        row(part.what, *(said(part.needed) if one or part.on_host == there else "" for there in (False, True)), part.lower)
    totals = [sum(part.needed for part in found if one or part.on_host == there) for there in (False, True)]
    made.add_section()
    row("in all", *map(said, totals), "")
    free = {name: said(size) for name, size, _ in budgets}
    if free:
        row("there is", free.get(where, ""), free.get("host", ""), "")
    return made


def said(size: int) -> str:
    """Bytes for a person."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= factor:
            return f"{size / factor:,.2f} {unit}"
    return f"{size} B"
