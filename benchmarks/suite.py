"""Every published speed of this project by one command, one after the other, peers in virtual
environments of their own.

    python benchmarks/suite.py                  # all, a little over an hour on two quiet cores
    python benchmarks/suite.py startup updates  # some
    python benchmarks/suite.py --list

A record is a command and the JSON that it writes. One that fails is said to have failed, and the
next begins.
"""

import os
import subprocess
import sys
import time
import venv
from pathlib import Path
from typing import NamedTuple

import click

ROOT = Path(__file__).resolve().parents[1]
NO_FUSIONS = "--xla_cpu_experimental_ynn_fusion_type="


class Record(NamedTuple):
    """One measurement: arguments of Python, the JSON in ``benchmarks/results``, about how long it
    takes, and beside whom.
    """

    command: str
    json: str
    minutes: float
    peer: str | None = None


def _out(name: str) -> str:
    return f"--out benchmarks/results/{name}.json"


SPEED, PEER = "benchmarks/speed", "benchmarks/peers"
SMALL = "--num-envs 1 --hidden 64 --batch-size 64 --iterations 5000"
UPDATES = f"{SPEED} updates --batch-size 64 --batch-size 256"
FLAGS = f"--hidden 64 --hidden 256 --xla-flags={NO_FUSIONS}"
RECORDS = {
    "startup": Record("benchmarks/startup.py", "startup", 0.5),
    "updates": Record(f"{UPDATES} --batch-size 1024", "updates", 6, "sbx"),
    "updates_flags": Record(f"{UPDATES} {FLAGS}", "updates_flags", 3, "sbx"),
    "sbx_ddpg": Record(f"{PEER} updates --agent ddpg", "sbx_ddpg", 2, "sbx"),
    "sbx_td3": Record(f"{PEER} updates --agent td3", "sbx_td3", 2, "sbx"),
    "agents": Record(f"{SPEED} agents", "family", 2),
    "populations": Record(f"{SPEED} populations", "members", 5),
    "solve": Record(f"{PEER} solve", "solve_pendulum", 12, "sbx"),
    "sbx_loop": Record(f"{PEER} host-loop", "sbx_loop", 4, "sbx"),
    "sbx_loop_small": Record(
        f"{PEER} host-loop --hidden 64 --batch-size 64 {_out('sbx_loop_small')}",
        "sbx_loop_small",
        2,
        "sbx",
    ),
    "rejax_loop": Record(f"{PEER} loop", "rejax_loop", 6, "rejax"),
    "throughput": Record(f"{SPEED} loop", "throughput", 4),
    "throughput_pendulum": Record(
        f"{SPEED} loop --env pendulum {SMALL} {_out('throughput_pendulum')}",
        "throughput_pendulum",
        2,
    ),
    "throughput_cartpole": Record(
        f"{SPEED} loop --env playground/CartpoleSwingup {_out('throughput_cartpole')}",
        "throughput_cartpole",
        4,
    ),
    "throughput_cheetah": Record(
        f"{SPEED} loop --env playground/CheetahRun {_out('throughput_cheetah')}",
        "throughput_cheetah",
        5,
    ),
    "rendering": Record("benchmarks/rendering.py", "rendering", 4),
    "lane": Record(f"{SPEED} lane", "lane", 2),
}
PEERS = {
    "sbx": ("sbx-rl", "gymnasium[classic-control,mujoco]>=1.2"),
    "rejax": ("rejax", "gymnax<1"),
    "sb3": ("stable-baselines3",),
}
"""What is installed beside this project into each environment."""


def _cache() -> Path:
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (given if given.is_absolute() else Path.home() / ".cache") / "ddpg_jax" / "peers"


@click.command()
@click.argument("names", nargs=-1)
@click.option("--list", "listed", is_flag=True, help="Say what there is, and stop.")
@click.option(
    "--peers",
    type=click.Path(path_type=Path, file_okay=False),
    default=None,
    help="[default: the user's cache]",
)
def main(names: tuple[str, ...], listed: bool, peers: Path | None) -> None:
    """Run the records called NAMES, or all."""
    if unknown := [name for name in names if name not in RECORDS]:
        raise click.UsageError(f"unknown name {unknown[0]!r}: choose of {', '.join(RECORDS)}.")
    chosen = {name: RECORDS[name] for name in names or RECORDS}
    if listed:
        for name, record in chosen.items():
            click.echo(
                f"{name:20} {record.minutes:4g} min  {record.json + '.json':28} python "
                f"{record.command}"
            )
        click.echo(f"{'':20} {sum(record.minutes for record in chosen.values()):4g} min in all")
        return
    place = peers or _cache()
    failed = {name: why for name, record in chosen.items() if (why := run(name, record, place))}
    click.echo(f"{len(chosen) - len(failed)} of {len(chosen)} done.")
    for name, why in failed.items():
        click.echo(f"{name} failed: {why}")
    sys.exit(1 if failed else 0)


def run(name: str, record: Record, peers: Path) -> str | None:
    """Run one record; None, or why it failed."""
    begin, written = time.time(), ROOT / "benchmarks" / "results" / f"{record.json}.json"
    click.echo(f"== {name}, about {record.minutes:g} min")
    try:
        python = sys.executable if record.peer is None else str(interpreter(record.peer, peers))
    except subprocess.CalledProcessError as error:
        return f"{record.peer} could not be installed ({error})"
    code = subprocess.run([python, *record.command.split()], cwd=ROOT).returncode
    if code:
        return f"exit code {code}"
    if not written.is_file() or written.stat().st_mtime < begin - 1:
        return f"{written} was not written"
    click.echo(f"{name}: {(time.time() - begin) / 60:.1f} min")
    return None


def interpreter(peer: str, peers: Path) -> Path:
    """Python of the peer's own virtual environment, which is made where it is not there yet.

    Raises:
        subprocess.CalledProcessError: something cannot be installed.
    """
    folder = peers / peer
    python, ready = folder / ("Scripts" if os.name == "nt" else "bin") / "python", folder / "ready"
    if not ready.is_file():
        click.echo(f"installing {peer} into {folder}")
        venv.create(folder, clear=True, with_pip=True)
        # In one call, so that pip finds versions that suit both.
        subprocess.run(
            [str(python), "-m", "pip", "install", "-q", "-e", str(ROOT), *PEERS[peer]], check=True
        )
        ready.touch()
    return python


if __name__ == "__main__":
    main()
