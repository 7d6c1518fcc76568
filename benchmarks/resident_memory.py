"""Whether a run takes the memory that its table says: the table's sum beside the growth of the
process's peak resident memory.

    python benchmarks/resident_memory.py

Each run is a process of its own, on the CPU. The growth is from when its programs are compiled to
its end: warm-up, chunks, evaluations, and checkpoints that are written beside them; replays are
full, for a checkpoint compresses what was never written. Linux only: the peak is reset and read in
``/proc``.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import click

OUT = Path(__file__).resolve().parent / "results" / "memory.json"
TOLERANCE = 0.15
RUN: dict[str, Any] = {"evaluate_every": 1, "checkpoint_every": 1, "evaluation_episodes": 20}
RUNS: dict[str, dict[str, Any]] = {
    "a large replay": {
        "preset": "default",
        "replay_capacity": 20_000_000,
        "num_envs": 10_000,
        "learning_starts": 20_000_000,
        "steps_per_chunk": 100_000,
        "total_timesteps": 20_300_000,
    },
    "a population": {
        "preset": "td3",
        "seeds": 32,
        "replay_capacity": 500_000,
        "hidden": (256, 256),
        "num_envs": 100,
        "learning_starts": 500_000,
        "steps_per_chunk": 1_000,
        "total_timesteps": 503_000,
    },
    "large batches": {
        "preset": "fast-td3",
        "dtype": "float32",
        "replay_capacity": 1_024 * 1_024,
        "batch_size": 16_384,
        "hidden": (256, 128),
        "critic_hidden": (512, 256),
        "learning_starts": 1_024 * 1_024,
        "steps_per_chunk": 1_024,
        "total_timesteps": (1_024 + 2) * 1_024,
    },
    "small": {"total_timesteps": 1_200, "steps_per_chunk": 100},
}
TOY = "small"


@click.command()
@click.argument("names", nargs=-1)
@click.option("--one", is_flag=True, help="Train the run here, and print its figures.")
@click.option("--out", type=click.Path(path_type=Path), default=OUT, show_default=False)
def main(names: tuple[str, ...], one: bool, out: Path) -> None:
    """Train NAMES, one after the other, and keep what is known of others; without any, all but the
    small one.
    """
    if unknown := [name for name in names if name not in RUNS]:
        raise click.UsageError(f"unknown run {unknown[0]!r}: choose of {', '.join(RUNS)}.")
    if one:
        click.echo(json.dumps(measured(names[0])))
        return
    from benchmarks import harness
    from ddpg_jax.runs.folder import files

    kept = json.loads(out.read_text())["runs"] if names and out.is_file() else {}
    result: dict[str, Any] = {**harness.context(), "tolerance": TOLERANCE, "runs": kept}
    for name in names or [name for name in RUNS if name != TOY]:
        done = subprocess.run(
            [sys.executable, __file__, "--one", name], capture_output=True, text=True
        )
        if done.returncode:
            raise click.ClickException(f"{name}: {done.stderr.strip()[-2_000:]}")
        result["runs"][name] = found = json.loads(done.stdout.splitlines()[-1])
        files.write_json(out, result)
        click.echo(
            "{name}: table {sum:,}, grown by {grown:,}: {sum_over_grown:.3f}".format(
                name=name, **found
            )
        )
    click.echo(str(out))


def measured(name: str) -> dict[str, Any]:
    """The table of a run, and by how much its process grew."""
    from ddpg_jax.runs.config.run_config import make_config
    from ddpg_jax.runs.programs import build, compiled_memory
    from ddpg_jax.runs.training import loop

    config = make_config("pendulum", **RUN | RUNS[name])
    built = build.build(config)
    found: dict[str, Any] = {}

    def watch(programs: Any) -> Any:
        found["parts"] = {
            part.what: part.needed
            for part in compiled_memory.measured_parts(config, built, programs)
        }
        Path("/proc/self/clear_refs").write_text("5")  # the peak is what is resident now
        found["before"] = _status("VmRSS")
        return programs

    with tempfile.TemporaryDirectory() as temporary:
        loop.run(config, Path(temporary) / "run", say=lambda text: None, watch=watch)
    grown, total = _status("VmHWM") - found["before"], sum(found["parts"].values())
    return {
        "config": config.flat(),
        **found,
        "sum": total,
        "grown": grown,
        "sum_over_grown": total / grown,
    }


def _status(name: str) -> int:
    line = next(
        line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name)
    )
    return 1_024 * int(line.split()[1])


if __name__ == "__main__":
    main()
