"""Memory that a run needs, measured on its compiled programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax

from ddpg_jax.runs.programs import memory as runs_memory
from ddpg_jax.runs.programs.memory import MemoryPart

if TYPE_CHECKING:
    from ddpg_jax.population import Programs
    from ddpg_jax.runs.config.run_config import Config
    from ddpg_jax.runs.programs.build import Built

LOWER = {
    "chunk": "--batch-size, --hidden, --num-envs or --seeds",
    "start": "--num-envs, --learning-starts or --seeds",
    "evaluate": "--evaluation-episodes or --seeds",
}


def measured_parts(config: Config, built: Built, programs: Programs | None) -> list[MemoryPart]:
    """Return all parts of a run's memory; ``programs`` None: estimated before compilation.

    Programs never run at the same time, so the largest counts. A checkpoint is written beside all
    of them but the first, which makes the state.
    """
    if programs is None:
        return runs_memory.all_parts(config, built.state)
    found = runs_memory.state_parts(config, built.state)
    copy, held = runs_memory.checkpoint_part(built.state), sum(part.needed for part in found)
    # A loop on the host is not compiled itself, but the programs that it calls are.
    on_host = built.host is not None
    called = [programs.inside, (), ()] if on_host else [[getattr(programs, name)] for name in LOWER]
    chunk, start, evaluate = (max(map(_needs, each), default=0) for each in called)
    later, needed = max(("chunk", chunk), ("evaluate", evaluate), key=lambda pair: pair[1])
    found.append(
        MemoryPart(f"temporaries of the compiled programs ({later})", needed, LOWER[later])
    )
    beside = copy.needed if jax.default_backend() == "cpu" else 0
    if (more := start - needed - beside) > 0:
        found.append(MemoryPart("additional temporaries at the start", more, LOWER["start"]))
    measured = not on_host and hasattr(programs.chunk, "memory_analysis")
    if measured and (padding := _arguments(programs.chunk) - held) > 0:
        found.append(
            MemoryPart(
                "counters, keys, and padding as the device lays arrays",
                padding,
                "--replay-capacity or --seeds",
            )
        )
    return [*found, copy]


def _needs(program: Any) -> int:
    if not hasattr(program, "memory_analysis"):  # something around a compiled program
        return 0
    memory = program.memory_analysis()
    return int(memory.temp_size_in_bytes + memory.generated_code_size_in_bytes)


def _arguments(program: Any) -> int:
    return int(program.memory_analysis().argument_size_in_bytes)
