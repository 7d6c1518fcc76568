"""Seconds that importing the package and asking the command for help take, each in a process of its
own.

python benchmarks/startup.py
"""

import functools
import subprocess
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import click

from benchmarks import harness
from ddpg_jax.runs.folder import files

COMMANDS = {
    "python": ["-c", "pass"],
    "import": ["-c", "import ddpg_jax"],
    "import_jax": ["-c", "import jax"],
    "import_train": ["-c", "import ddpg_jax; ddpg_jax.train.make_train"],
    "help": ["-m", "ddpg_jax.runs.cli.commands", "--help"],
    "train_help": ["-m", "ddpg_jax.runs.cli.commands", "train", "--help"],
}


@click.command(context_settings={"show_default": True})
@click.option("--repetitions", default=7)
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("benchmarks/results/startup.json")
)
def main(repetitions: int, out: Path) -> None:
    """Measure each in turns, and write medians and spreads as JSON."""
    start = functools.partial(subprocess.run, check=True, capture_output=True)
    calls = {
        name: functools.partial(start, [sys.executable, *words]) for name, words in COMMANDS.items()
    }
    seconds = {
        name: harness.spread(values)
        for name, values in harness.alternate(calls, repetitions).items()
    }
    files.write_json(
        out, {**harness.context(), "settings": {"repetitions": repetitions}, "seconds": seconds}
    )
    for name, one in seconds.items():
        click.echo(f"{name:14} {one['median']:6.3f} s [{one['min']:.3f}, {one['max']:.3f}]")
    click.echo(str(out))


if __name__ == "__main__":
    main()
