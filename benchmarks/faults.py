"""Kills at random moments, and whether what is left goes on bit for bit: on eight devices, and
populations on them.

    python benchmarks/faults.py                    # 60 kills, about half an hour on two cores
    python benchmarks/faults.py --kills 4 --only data

A run that nobody interrupts keeps each of its checkpoints, whose digests are what others are held
to. Another one is killed by SIGKILL again and again, half of the times while a checkpoint is being
written, and resumed each time. After each kill its complete checkpoints have to be, in every byte,
those that the undisturbed run had at these steps, and where it comes to its end, its final returns
too. Then the undisturbed run is resumed on fewer devices, one after the other."""

import hashlib
import json
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
import numpy as np
import orbax.checkpoint as ocp

from ddpg_jax.runs.checkpoints.store import Checkpoints

DEVICES, CHUNKS, CHUNK = 8, 40, 320
COMMON = [
    "pendulum",
    "--num-envs",
    "16",
    "--batch-size",
    "64",
    "--replay-capacity",
    "16000",
    "--hidden",
    "32,32",
]
COMMON += [
    "--steps-per-chunk",
    str(CHUNK),
    "--learning-starts",
    str(CHUNK),
    "--checkpoint-every",
    "1",
    "--evaluate-every",
    "0",
]
COMMON += ["--evaluation-episodes", "8", "--total-timesteps", str(CHUNK * (CHUNKS + 1))]


EVOLVING = ["--set", "actor_learning_rate=log:1e-5:1e-1", "--draws", "8", "--pbt"]


class Case(NamedTuple):
    """Options of a run, and of its continuations on other devices; its command, and where in the
    folder given its run is."""

    options: list[str]
    others: list[list[str]]
    command: str = "train"
    inside: str = "."


FEWER = [["--mesh", "members=8,data=1"], ["--devices", "2"]]
CASES = {
    "data": Case(["--devices", "8"], [["--devices", "4"], ["--devices", "1"]]),
    "population": Case(["--seeds", "8", "--mesh", "members=4,data=2"], FEWER),
    "evolving population": Case(
        [*EVOLVING, "--mesh", "members=4,data=2"], FEWER, "sweep", "part-0"
    ),
}


@click.command()
@click.option("--kills", default=60, show_default=True, help="In all.")
@click.option("--seed", default=0, show_default=True)
@click.option("--only", type=click.Choice(list(CASES)), default=None)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("benchmarks/results/faults.json"),
    show_default=True,
)
def main(kills: int, seed: int, only: str | None, out: Path) -> None:
    """Kill, look, go on; write the counts, beside what is known of other cases where it is of one
    only."""
    from benchmarks import harness
    from ddpg_jax.runs.folder import files

    names, drawn = [only] if only else list(CASES), random.Random(seed)
    result: dict[str, Any] = {
        **harness.context(),
        "devices": DEVICES,
        "chunks": CHUNKS,
        "seed": seed,
    }
    result["cases"] = json.loads(out.read_text())["cases"] if only and out.is_file() else {}
    with tempfile.TemporaryDirectory() as place:
        for name in names:
            counts = tormented(CASES[name], Path(place) / name, kills // len(names), drawn)
            result["cases"][name] = counts
            click.echo(f"{name}: {counts}")
            files.write_json(out, result)
    click.echo(str(out))
    kept = lambda counts: (
        counts["restored bit for bit"] + counts["before the first checkpoint"] == counts["kills"]
    )
    ended = lambda counts: counts["came to the end"] == counts["and were the same there"]
    said = lambda counts: (
        counts["resumed on other devices"] == counts["and it says that it is not bit for bit"]
    )
    if not all(
        kept(one) and not one["refused"] and ended(one) and said(one)
        for one in result["cases"].values()
    ):
        raise click.ClickException("not every kill was survived.")


def tormented(case: Case, place: Path, kills: int, drawn: random.Random) -> dict[str, int]:
    """What became of so many kills."""
    counts: Counter[str] = Counter({"kills": 0, "restored bit for bit": 0, "refused": 0})
    whole, fresh = place / "whole", [case.command, *COMMON, *case.options]
    require(
        run([*fresh, "--keep", "1000", "--run-dir", str(whole)], log := place / "whole.log"), log
    )
    expected, returns = digests(whole / case.inside), final_returns(whole / case.inside)
    number = 0
    while counts["kills"] < kills or (place / f"broken-{number}").exists():
        broken, log = place / f"broken-{number}", place / f"broken-{number}.log"
        arguments = (
            [case.command, "--resume"]
            if (broken / case.inside / "config.json").is_file()
            else fresh
        )
        process = start([*arguments, "--run-dir", str(broken)], log)
        how = (
            killed(process, broken / case.inside, drawn, counts)
            if counts["kills"] < kills
            else None
        )
        require(process.wait() if how is None else None, log)
        found = digests(broken / case.inside)
        same = bool(found) and found.items() <= expected.items()
        if how is None:  # it came to its end: the next one begins anew
            counts["came to the end"] += 1
            counts["and were the same there"] += (
                same and final_returns(broken / case.inside) == returns
            )
            shutil.rmtree(broken)
            number += 1
            continue
        counts.update(
            {
                "kills": 1,
                how: 1,
                "before the first checkpoint": not found,
                "restored bit for bit": same,
            }
        )
        counts["refused"] += "Error" in log.read_text()
    for other in case.others:
        counts["resumed on other devices"] += 1
        counts["and it says that it is not bit for bit"] += resumed_elsewhere(
            case, whole, place / "other", other
        )
    return dict(counts)


def killed(
    process: subprocess.Popen, folder: Path, drawn: random.Random, counts: Counter[str]
) -> str | None:
    """Kill it at a random moment of training, or, by turns, while a checkpoint is half written;
    None where it ended before."""
    writing = counts["kills"] % 2 == 0
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
        time.sleep(0.001)
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
    """Of the state in each complete checkpoint, whose files are held to their own digests."""
    if not (folder / "checkpoints").is_dir():
        return {}
    checkpoints = Checkpoints(folder / "checkpoints", read_only=True)
    try:
        return {
            step: digest(checkpoints, folder / "checkpoints" / str(step))
            for step in checkpoints.steps()
        }
    finally:
        checkpoints.close()


def digest(checkpoints: Checkpoints, folder: Path) -> str:
    """Of the arrays of a checkpoint: names and times of its files differ where they are equal."""
    checkpoints._verify(int(folder.name))
    with ocp.PyTreeCheckpointer() as checkpointer:
        names = checkpointer.metadata(folder / "state").item_metadata.tree
        wanted = dict.fromkeys(names, ocp.RestoreArgs(restore_type=np.ndarray))
        arrays = checkpointer.restore(
            folder / "state", args=ocp.args.PyTreeRestore(restore_args=wanted)
        )
    whole = hashlib.sha256()
    for name in sorted(arrays):
        whole.update(np.ascontiguousarray(arrays[name]).tobytes())
    return whole.hexdigest()


def final_returns(folder: Path) -> list[float]:
    """Of a run that has ended."""
    return json.loads((folder / "summary.json").read_text())["final_returns"]


def resumed_elsewhere(case: Case, whole: Path, place: Path, options: list[str]) -> bool:
    """Whether a copy of the run goes on so, to its end, and says what that is."""
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(whole, place)
    log = place.with_suffix(".log")
    log.unlink(missing_ok=True)
    more = ["--total-timesteps", str(CHUNK * (CHUNKS + 3))]
    require(run([case.command, "--resume", "--run-dir", str(place), *options, *more], log), log)
    return bool(
        re.search(r"was trained on mesh=.* resumed on mesh=.*not be bit-identical", log.read_text())
    )


def start(arguments: list[str], log: Path) -> subprocess.Popen:
    """A command of ``ddpg-jax`` on eight devices of the CPU."""
    flags = f"--xla_force_host_platform_device_count={DEVICES} --xla_backend_optimization_level=0"
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as file:
        command = [sys.executable, "-m", "ddpg_jax.runs.cli.commands", *arguments]
        return subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=environment)


def run(arguments: list[str], log: Path) -> int:
    """The same to its end."""
    return start(arguments, log).wait()


def require(code: int | None, log: Path) -> None:
    """That a run ended well."""
    if code:
        raise click.ClickException(f"a run ended with {code}. {log.read_text()[-2000:]}")


if __name__ == "__main__":
    main()
