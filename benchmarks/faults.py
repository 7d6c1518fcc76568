"""Kills at random moments, and whether what is left goes on bit for bit: on eight devices, and a population on them.

    python benchmarks/faults.py                    # 60 kills, about a quarter of an hour on two cores
    python benchmarks/faults.py --kills 4 --only data

A run that nobody interrupts keeps each of its checkpoints, whose digests are what others are held to. Another one is killed by
SIGKILL again and again, half of the times while a checkpoint is being written, and resumed each time. After each kill its
newest complete checkpoint has to be, in every byte, the one that the undisturbed run had at these steps. At the end it is
resumed on fewer devices, one after the other.
"""

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import click

DEVICES, CHUNKS, CHUNK = 8, 40, 320
COMMON = ["pendulum", "--num-envs", "16", "--batch-size", "64", "--replay-capacity", "16000", "--hidden", "32,32"]
COMMON += ["--steps-per-chunk", str(CHUNK), "--learning-starts", str(CHUNK), "--checkpoint-every", "1", "--evaluate-every", "0"]
COMMON += ["--evaluation-episodes", "8", "--total-timesteps", str(CHUNK * (CHUNKS + 1))]


class Case(NamedTuple):
    """Options of a run, and of its continuations on other devices."""

    options: list[str]
    others: list[list[str]]


CASES = {
    "data": Case(["--devices", "8"], [["--devices", "4"], ["--devices", "1"]]),
    "population": Case(["--seeds", "8", "--mesh", "members=4,data=2"], [["--mesh", "members=8,data=1"], ["--devices", "2"]]),
}


@click.command()
@click.option("--kills", default=60, show_default=True, help="In all.")
@click.option("--seed", default=0, show_default=True)
@click.option("--only", type=click.Choice(list(CASES)), default=None)
@click.option("--out", type=click.Path(path_type=Path), default=Path("benchmarks/results/faults.json"), show_default=True)
def main(kills: int, seed: int, only: str | None, out: Path) -> None:
    """Kill, look, go on; write the counts."""
    from benchmarks import timing
    from ddpg_jax.runs import folder

    names, drawn = [only] if only else list(CASES), random.Random(seed)
    result: dict[str, Any] = {**timing.context(), "devices": DEVICES, "chunks": CHUNKS, "seed": seed, "cases": {}}
    with tempfile.TemporaryDirectory() as place:
        for name in names:
            counts = tormented(CASES[name], Path(place) / name, kills // len(names), drawn)
            result["cases"][name] = counts
            click.echo(f"{name}: {counts}")
            folder.write_json(out, result)
    click.echo(str(out))
    if any(counts["restored bit for bit"] != counts["kills"] or counts["refused"] for counts in result["cases"].values()):
        raise click.ClickException("not every kill was survived.")


def tormented(case: Case, place: Path, kills: int, drawn: random.Random) -> dict[str, int]:
    """What became of so many kills."""
    counts: Counter[str] = Counter({"kills": 0, "restored bit for bit": 0, "refused": 0})
    whole = place / "whole"
    require(run([*COMMON, *case.options, "--keep", "1000", "--run-dir", str(whole)]))
    expected = digests(whole)
    broken, number = place / "broken-0", 0
    while counts["kills"] < kills:
        begun = (broken / "config.json").is_file()
        arguments = ["--resume"] if begun else [*COMMON, *case.options]
        process = start([*arguments, "--run-dir", str(broken)], broken.with_suffix(".log"))
        how = killed(process, broken, drawn, writing=counts["kills"] % 2 == 0)
        if how is None:  # it came to its end before: the next one begins anew
            require(process.returncode, broken.with_suffix(".log"))
            counts["compared at the end"] += digests(broken).items() <= expected.items()
            shutil.rmtree(broken)
            number += 1
            broken = place / f"broken-{number}"
            continue
        counts["kills"] += 1
        counts[how] += 1
        found = digests(broken) if (broken / "checkpoints").is_dir() else {}
        counts["before the first checkpoint"] += not found
        counts["restored bit for bit"] += found.items() <= expected.items()
        counts["refused"] += "Error" in broken.with_suffix(".log").read_text()
    if (broken / "config.json").is_file():
        require(run(["--resume", "--run-dir", str(broken)]))
        counts["compared at the end"] += digests(broken).items() <= expected.items()
    for other in case.others:
        counts["resumed on other devices"] += 1
        counts["and it says that it is not bit for bit"] += resumed_elsewhere(whole, place / "other", other)
    return dict(counts)


def killed(process: subprocess.Popen, folder: Path, drawn: random.Random, *, writing: bool) -> str | None:
    """Kill it at a random moment of training, or while a checkpoint is half written; None where it ended before."""
    rows = folder / "metrics.jsonl"
    before = rows.stat().st_mtime if rows.is_file() else 0.0
    moved = lambda: rows.is_file() and rows.stat().st_mtime > before  # it has begun to train
    wait = drawn.expovariate(1 / 1.5)
    while process.poll() is None and not moved():
        time.sleep(0.005)
    end = time.monotonic() + wait
    while process.poll() is None and time.monotonic() < end:
        time.sleep(0.002)
    while process.poll() is None and writing and not half_written(folder):
        pass
    if process.poll() is not None:
        return None
    time.sleep(drawn.uniform(0.0, 0.02) if writing else 0.0)
    process.send_signal(signal.SIGKILL)
    process.wait()
    return "while a checkpoint was half written" if half_written(folder) else "while it trained"


def half_written(folder: Path) -> bool:
    """Whether a checkpoint has been begun and not completed."""
    try:
        return any("tmp" in name for name in os.listdir(folder / "checkpoints"))
    except FileNotFoundError:
        return False


def digests(folder: Path) -> dict[int, str]:
    """Of the state in each complete checkpoint, read and held to its own digest."""
    from ddpg_jax.runs.checkpoints import Checkpoints

    checkpoints = Checkpoints(folder / "checkpoints", read_only=True)
    try:
        found = {}
        for step in checkpoints._steps():
            about = checkpoints._about(step)
            checkpoints._bytes(step, about["state"])
            found[step] = about["state"]
        return found
    finally:
        checkpoints.close()


def resumed_elsewhere(whole: Path, place: Path, options: list[str]) -> bool:
    """Whether a copy of the run goes on so, to its end, and says what that is."""
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(whole, place)
    log = place.with_suffix(".log")
    log.unlink(missing_ok=True)
    more = ["--total-timesteps", str(CHUNK * (CHUNKS + 3))]
    require(run(["--resume", "--run-dir", str(place), *options, *more], log), log)
    return bool(re.search(r"was trained on mesh=.* goes on with mesh=.*not bit for bit", log.read_text()))


def start(arguments: list[str], log: Path) -> subprocess.Popen:
    """``ddpg-jax train`` on eight devices of the CPU."""
    flags = f"--xla_force_host_platform_device_count={DEVICES} --xla_backend_optimization_level=0"
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as file:
        command = [sys.executable, "-m", "ddpg_jax.runs.cli", "train", *arguments]
        return subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=environment)


def run(arguments: list[str], log: Path = Path(os.devnull)) -> int:
    """The same to its end."""
    return start(arguments, log).wait()


def require(code: int | None, log: Path | None = None) -> None:
    """That a run ended well."""
    if code:
        raise click.ClickException(f"a run ended with {code}. {log.read_text()[-2000:] if log else ''}")


if __name__ == "__main__":
    main()
