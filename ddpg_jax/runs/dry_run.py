"""`ddpg-jax train --dry-run`: describes a run and its memory before anything is allocated."""

import io
from typing import Any

import jax
from rich.console import Console
from rich.table import Table

from ddpg_jax.runs.config import default_preset
from ddpg_jax.runs.config.run_config import Config
from ddpg_jax.runs.programs import build, compiled_memory, memory, setup


def plan(config: Config) -> str:
    """Return the text that ``ddpg-jax train --dry-run`` prints: a sentence and a table of memory.

    Raises:
        ValueError: as in `ddpg_jax.runs.programs.build.build`, or the run does not fit in memory.
    """
    here = config.device_kind in (default_preset.ANY_DEVICE, jax.default_backend())
    places: list[str] = []
    programs: Any = None
    if here:
        where, config = jax.default_backend(), setup.with_chosen_mesh(config, places.append, False)
        built = build.build(config)
        with built.opened:
            programs = build.compile_programs(built, config)
    else:  # this machine's memory does not matter
        where, built = (
            config.device_kind,
            build.build(config, check_memory=lambda parts: None, here=False),
        )
        built.opened.close()
    found = compiled_memory.measured_parts(config, built, programs)
    own = config.hyperparameters
    about = (
        f"{config.env} on a {where}, preset {config.preset.name}: {own.num_envs:,} environments, "
        f"batch {own.batch_size:,}, {own.updates_per_step} updates per vector step, replay "
        f"{own.replay_capacity:,}, networks in {own.dtype}, {config.seeds} seed(s), "
        f"{own.total_timesteps:,} steps.",
        config.note,
        built.note,
        *places,
    )
    text = io.StringIO()
    console = Console(file=text, width=100, highlight=False, emoji=False)
    console.print("\n".join(filter(None, about)), markup=False, soft_wrap=True)
    console.print(memory_table(found, where, memory.budgets(found) if here else []))
    if here:
        memory.require_memory(found)
    else:
        console.print(
            f"The memory of the compiled programs is a lower bound; only a {where} can measure it.",
            soft_wrap=True,
        )
    return text.getvalue().rstrip()


def memory_table(
    found: list[memory.MemoryPart],
    where: str,
    budgets: list[tuple[str, int, list[memory.MemoryPart]]],
) -> Table:
    """Return a table of the parts with their bytes on a device and on the host; a CPU is both."""
    memories = {where: where} if where == "cpu" else {where: f"each {where}", "host": "host"}
    of_part = lambda part: "host" if part.on_host and "host" in memories else where
    title = "memory, before any of it is allocated"
    made = Table("part", *memories.values(), "lowered by", title=title, title_justify="left")
    for column in made.columns[1:-1]:
        column.justify = "right"

    def row(what: str, sizes: dict[str, int], lower: str = "") -> None:
        cells = (memory.format_bytes(sizes[name]) if name in sizes else "" for name in memories)
        made.add_row(what, *cells, lower)

    totals = dict.fromkeys(memories, 0)
    for part in found:
        row(part.what, {of_part(part): part.needed}, part.lower)
        totals[of_part(part)] += part.needed
    made.add_section()
    row("total", totals)
    if budgets:
        row("available", {name: size for name, size, _ in budgets})
    return made
