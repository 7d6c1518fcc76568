"""`ddpg-jax train --dry-run`: describes a run and its memory before anything is allocated."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import jax
from rich.console import Console
from rich.table import Table

from ddpg_jax.runs.options.run_options import ANY_DEVICE
from ddpg_jax.runs.programs import memory as runs_memory
from ddpg_jax.runs.programs.build import Built, build, compile_programs
from ddpg_jax.runs.programs.compiled_memory import measured_parts
from ddpg_jax.runs.programs.memory import format_bytes
from ddpg_jax.runs.programs.setup import with_chosen_mesh

if TYPE_CHECKING:
    from ddpg_jax.runs.config.run_config import Config
    from ddpg_jax.runs.programs.memory import MemoryPart


def plan(config: Config) -> str:
    """Return the text that ``ddpg-jax train --dry-run`` prints: a sentence and a table of memory.

    Raises:
        ValueError: as in `ddpg_jax.runs.programs.build.build`, or the run does not fit in memory.
    """
    here = config.device_kind in (ANY_DEVICE, jax.default_backend())
    places: list[str] = []
    config = with_chosen_mesh(config, places.append, False) if here else config
    built = build(config) if here else build_elsewhere(config)
    found = measured_parts(config, built, compile_programs(built, config) if here else None)
    where = jax.default_backend() if here else config.device_kind
    console = Console(file=io.StringIO(), width=100, highlight=False, emoji=False)
    console.print("\n".join([describe_run(config, where), *places]), markup=False, soft_wrap=True)
    console.print(memory_table(found, where, runs_memory.budgets(found) if here else []))
    if not here:
        console.print(
            f"The memory of the compiled programs is a lower bound; only a {where} can measure it.",
            soft_wrap=True,
        )
    if here:
        runs_memory.require_memory(found)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().rstrip()


def build_elsewhere(config: Config) -> Built:
    """Build the functions and shapes of a run on another machine, without a check of memory."""
    return build(config, check_memory=lambda parts: None)


def describe_run(config: Config, where: str) -> str:
    """Return the sizes of a run as a sentence."""
    hyperparameters = config.hyperparameters
    lines = [
        f"{config.env} on a {where}, preset {config.preset.name}: {hyperparameters.num_envs:,} "
        f"environments, batch {hyperparameters.batch_size:,}, {hyperparameters.updates_per_step} "
        f"updates per vector step, replay {hyperparameters.replay_capacity:,}, networks in "
        f"{hyperparameters.dtype}, {config.seeds} seed(s), {hyperparameters.total_timesteps:,} "
        "steps.",
        config.note,
    ]
    return "\n".join(filter(None, lines))


def memory_table(
    found: list[MemoryPart], where: str, budgets: list[tuple[str, int, list[MemoryPart]]]
) -> Table:
    """Return a table of the parts with their bytes on a device and on the host; a CPU is both."""
    one = where == "cpu"
    columns = ["part", where if one else f"each {where}", *([] if one else ["host"]), "lowered by"]
    made = Table(*columns, title="memory, before any of it is allocated", title_justify="left")
    for column in made.columns[1:-1]:
        column.justify = "right"

    def row(what: str, on_device: str, on_host: str, lower: str) -> None:
        made.add_row(what, on_device, *([] if one else [on_host]), lower)

    for part in found:
        there = format_bytes(part.needed)
        row(
            part.what,
            "" if part.on_host and not one else there,
            there if part.on_host else "",
            part.lower,
        )
    on_device, on_host = (
        sum(part.needed for part in found if one or part.on_host == there)
        for there in (False, True)
    )
    made.add_section()
    row("total", format_bytes(on_device), format_bytes(on_host), "")
    free = {name: format_bytes(size) for name, size, _ in budgets}
    if free:
        row("available", free.get(where, ""), free.get("host", ""), "")
    return made
