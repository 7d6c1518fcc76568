"""Seconds and steps from the shell until pendulum is solved: an evaluation of 20 episodes whose
mean return is at least -200.

    pip install sbx-rl
    python benchmarks/peers solve

Ours and SBX's DDPG and TD3, each seed in a process of its own, with 64x64 networks, 20,000 steps at
most and an evaluation about every 1,000. Seconds are those that a person waits, from the start of
Python on. Once with every program compiled anew, once after an uncounted run has filled JAX's
cache. Without SBX: ours alone.
"""

import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click

from benchmarks import harness
from benchmarks.peers import sbx
from ddpg_jax.runs.tasks import TASKS

LINE = re.compile(r"^([\d,]+)/[\d,]+ steps .*return (-?[\d.]+)")
THEIRS = Path(__file__).with_name("sbx_pendulum.py")


@click.command(context_settings={"show_default": True})
@click.option("--agent", "names", multiple=True, default=("ddpg", "td3"))
@click.option("--seeds", default=5)
@click.option("--steps", default=20_000, help="Environment steps at most.")
@click.option(
    "--threshold",
    default=TASKS["pendulum"].solved,
    help="The mean return at which it counts as solved.",
)
@click.option(
    "--cache",
    "caches",
    multiple=True,
    type=click.Choice(["cold", "warm"]),
    default=("cold", "warm"),
)
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("benchmarks/results/solve_pendulum.json")
)
def main(
    names: tuple[str, ...],
    seeds: int,
    steps: int,
    threshold: float,
    caches: tuple[str, ...],
    out: Path,
) -> None:
    """Run each seed of each contestant, in turns, and write seconds and steps as JSON."""
    commands = contestants(names, steps)
    result: dict[str, Any] = {
        "settings": {"seeds": seeds, "steps": steps, "threshold": threshold},
        **{cache: {name: [] for name in commands} for cache in caches},
    }
    for cache in caches:
        with tempfile.TemporaryDirectory() as temporary:
            for seed in ([] if cache == "cold" else [0]) + list(range(seeds)):
                for name, command in commands.items():
                    where = Path(temporary) / name
                    result[cache][name].append(
                        solved([*command, "--seed", str(seed)], where, cache, threshold)
                    )
            if cache == "warm":
                for name in commands:
                    result[cache][name].pop(0)  # it filled the cache
        harness.write(out, result)
    result["median_seconds"] = {
        cache: {name: _median(runs) for name, runs in result[cache].items()} for cache in caches
    }
    harness.write(out, result)
    for cache, medians in result["median_seconds"].items():
        click.echo(
            f"{cache}: "
            + ", ".join(
                f"{name} {'never' if s is None else f'{s:.1f} s'}" for name, s in medians.items()
            )
        )
    click.echo(str(out))


def contestants(names: tuple[str, ...], steps: int) -> dict[str, list[str]]:
    """The commands, but for seed and folder."""
    ours = [
        sys.executable,
        "-m",
        "ddpg_jax.runs.cli.commands",
        "train",
        "pendulum",
        "--hidden",
        "64,64",
        "--total-timesteps",
        str(steps),
    ]
    found = {
        f"ddpg_jax_{name}": [*ours, "--preset", {"ddpg": "default"}.get(name, name)]
        for name in names
    }
    if sbx.installed():
        found |= {
            f"sbx_{name}": [sys.executable, str(THEIRS), "--agent", name, "--steps", str(steps)]
            for name in names
        }
    return found


def solved(command: list[str], where: Path, cache: str, threshold: float) -> dict[str, Any]:
    """Seconds and steps at the first evaluation that reaches the threshold, where the run is
    stopped; None if none does.

    Raises:
        click.ClickException: the command failed.
    """
    environment = os.environ | {
        "PYTHONUNBUFFERED": "1",
        "DDPG_JAX_CACHE": "off",
        "JAX_ENABLE_COMPILATION_CACHE": "false",
    }
    if cache == "warm":
        kept = {
            "JAX_COMPILATION_CACHE_DIR": str(where / "cache"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        }
        environment |= kept | {
            "DDPG_JAX_CACHE": str(where / "cache"),
            "JAX_ENABLE_COMPILATION_CACHE": "true",
        }
    best, begin = -float("inf"), time.perf_counter()
    with tempfile.TemporaryDirectory() as run, tempfile.TemporaryFile("w+") as errors:
        words = [*command, "--run-dir", f"{run}/run"]
        with subprocess.Popen(
            words, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True
        ) as process:
            assert process.stdout is not None
            for steps, score in filter(None, map(_evaluation, process.stdout)):
                best = max(best, score)
                if score >= threshold:
                    seconds = time.perf_counter() - begin
                    process.kill()
                    return {"seconds": seconds, "steps": steps, "return": score}
        if process.returncode:
            errors.seek(0)
            raise click.ClickException(
                f"{' '.join(words)} ended with {process.returncode}: {errors.read()[-500:]}"
            )
    return {"seconds": None, "steps": None, "return": best}


def _evaluation(line: str) -> tuple[int, float] | None:
    found = LINE.match(line)
    return None if found is None else (int(found[1].replace(",", "")), float(found[2]))


def _median(runs: list[dict[str, Any]]) -> float | None:
    """Of the seconds; None where fewer than all seeds solved it."""
    seconds = [run["seconds"] for run in runs]
    return None if None in seconds else statistics.median(seconds)
