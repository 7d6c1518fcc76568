"""Figures of compiled programs that need no quiet machine, and may not grow by more than a tenth
unseen.

    python benchmarks/compiled/guard.py             # compare with the committed ones
    python benchmarks/compiled/guard.py --write     # what was found is what is wanted

Of updates on the CPU: instructions and copies in an update, bytes. Where the compiler for the H100
is installed: its kernels.
"""

import importlib.metadata
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import click

from benchmarks import harness
from benchmarks.compiled import accelerators, hlo, lowered
from ddpg_jax.runs.folder import files

KEPT = Path(__file__).parents[1] / "results" / "guard.json"
AGENTS = ("ddpg", "td3", "d4pg")
MORE = 1.1
Figures = dict[str, dict[str, int]]
"""By agent and by what is counted; less is better."""


def cpu() -> Figures:
    """Of small updates, for the CPU that this runs on."""
    found, place = {}, accelerators.place_over(None)
    for name in AGENTS:
        lower = lambda place, name=name: lowered.update(
            name, place, width=64, batch_size=64, capacity=10_000
        )
        done = accelerators.compiled(lower, place)
        loop = hlo.busiest(done.program)
        found[name] = {
            "instructions": loop.called(),
            "copies": loop.copied(),
            "temporary bytes": done.bytes["temporary"],
            "bytes not aliased": done.bytes["argument"] - done.bytes["aliased"],
        }
    return found


def h100() -> Figures:
    """Of the updates that `benchmarks/compiled` compiles."""
    found, place = {}, accelerators.place_on("h100")
    for name in AGENTS:
        loop = hlo.busiest(accelerators.compiled(lowered.OURS[name].lower, place).program)
        found[name] = {"kernels": loop.count(), "copies": loop.copied()}
    return found


MEASURES: dict[str, Callable[[], Figures]] = {"cpu": cpu, "h100": h100}


def grown(found: Figures, kept: Figures) -> Iterator[str]:
    """A sentence for each figure that is more than a tenth above the one that is kept, or not among
    those.
    """
    for name, figures in found.items():
        for what, value in figures.items():
            before = kept.get(name, {}).get(what)
            if before is None or value > MORE * before:
                known = before if before is None else format(before, ",")
                yield f"{name}: {value:,} {what}, kept are {known}"


@click.command()
@click.option(
    "--only",
    type=click.Choice(list(MEASURES)),
    default=None,
    help="[default: those whose compiler is here]",
)
@click.option(
    "--write",
    is_flag=True,
    help=f"Put what is found into {KEPT.name}, instead of comparing with it.",
)
@click.option(
    "--kept",
    "path",
    type=click.Path(path_type=Path),
    default=KEPT,
    help="Other figures than the committed ones.",
)
def main(only: str | None, write: bool, path: Path) -> None:
    """Compile a few updates and count."""
    accelerators.only_cpu()
    names = (
        [only]
        if only
        else [name for name in MEASURES if name == "cpu" or not accelerators.missing(name)]
    )
    kept = json.loads(path.read_text()) if path.is_file() else {}
    if not write:
        _require_version(kept, path)
    found = {name: MEASURES[name]() for name in names}
    for name, agents in found.items():
        for agent, figures in agents.items():
            click.echo(
                f"{name:5} {agent:5} "
                + ", ".join(f"{value:,} {what}" for what, value in figures.items())
            )
    if write:
        _write(path, kept, found)
    elif worse := [
        f"{name}, {sentence}"
        for name in names
        for sentence in grown(found[name], kept["figures"].get(name, {}))
    ]:
        again = (
            "Look what came to it, or if it has to be: python benchmarks/compiled/guard.py --write"
        )
        raise click.ClickException(
            "\n".join(["More than a tenth above what is kept.", *worse, again])
        )


def _require_version(kept: dict[str, Any], path: Path) -> None:
    """Compare only what the same compiler made.

    Raises:
        click.UsageError: the kept figures are of another jaxlib, or there are none.
    """
    here, there = importlib.metadata.version("jaxlib"), kept.get("versions", {}).get("jaxlib")
    if here != there:
        raise click.UsageError(
            f"{path.name} was made with jaxlib {there}, and here is {here}: the figures "
            "cannot be compared."
        )


def _write(path: Path, kept: dict[str, Any], found: dict[str, Figures]) -> None:
    context = harness.context()
    same = kept.get("versions", {}).get("jaxlib") == context["versions"]["jaxlib"]
    figures = (kept["figures"] if same else {}) | found
    files.write_json(
        path,
        {**context, "command": "python benchmarks/compiled/guard.py --write", "figures": figures},
    )
    for name in figures.keys() - found.keys():
        click.echo(
            f"The figures of {name} are kept: its compiler is not here or was not asked for."
        )
    click.echo(str(path))


if __name__ == "__main__":
    main()
