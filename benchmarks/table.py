"""The tables of measurements in README.md and docs/results.md, made from ``benchmarks/results``.

python benchmarks/table.py --write
"""

import json
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import click

from benchmarks import table_learning, table_speed
from ddpg_jax.runs.tasks import TASKS

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
BEGIN, END = "<!-- table: python benchmarks/table.py --write -->\n", "<!-- end of table -->\n"
README_ROWS = (
    "learning_pendulum",
    "pendulum_32_seeds",
    "family_brax_inverted_double_pendulum",
    "study_driving",
    "solve_pendulum",
    "accelerator_updates",
    "accelerator_members",
    "faults",
)
"""The results that the README shows, at most eight."""
RESULT_ROWS = (
    "learning_*",
    "blind_*",
    "shares_*",
    "pendulum_32_seeds",
    "pendulum_lecture",
    "family_*",
    "family",
    "study_pbt",
    "members",
    "faults",
    "memory",
    "lane",
    "study_driving",
    "study_autoencoder",
    "bfloat16_*",
    "sbx_ddpg",
    "sbx_td3",
    "sbx_loop",
    "sbx_loop_small",
    "rejax_loop",
    "solve_pendulum",
    "accelerator_updates",
    "accelerator_members",
    "accelerator_reach_ant",
    "accelerator_reach_halfcheetah",
    "throughput",
    "throughput_cartpole",
    "throughput_cheetah",
    "throughput_of_replays",
)
"""All results, in order; ``*`` is each task's, in the order of the tasks."""

ROWS: Mapping[str, Callable[[dict[str, Any]], Any]] = {
    **table_learning.ROWS,
    **table_speed.ROWS,
}
"""What makes the rows of a result, by how its name begins; the longest beginning decides."""


def load(name: str) -> dict[str, Any]:
    """Return a result."""
    found: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text())
    return found


def names_of(pattern: str) -> list[str]:
    """Return the results of a pattern.

    Raises:
        ValueError: the environment of one is no task.
    """
    if "*" not in pattern:
        return [pattern]
    names = sorted(path.stem for path in RESULTS.glob(f"{pattern}.json"))
    return sorted(names, key=lambda name: list(TASKS).index(load(name)["settings"]["env"]))


def table(patterns: Iterable[str]) -> str:
    """Return the rows of some results as a table in Markdown."""
    context = load("sbx_ddpg")
    lines = [
        f"| measured on {context['device']}, JAX {context['versions']['jax']} | |",
        "|---|---|",
    ]
    for name in (name for pattern in patterns for name in names_of(pattern)):
        lines += [f"| {what} | {figure} |" for what, figure in rows(name)]
    return "\n".join(lines) + "\n"


def rows(name: str) -> list[tuple[str, str]]:
    """Return what was measured and the figures of a result; several where it has several."""
    if name == "throughput_of_replays":
        return [table_speed.replays(load("throughput"))]
    kind = max((kind for kind in ROWS if name.startswith(kind)), key=len)
    made = ROWS[kind](load(name))
    return made if isinstance(made, list) else [made]


def written(text: str, patterns: Iterable[str]) -> str:
    """Return a page with its table replaced."""
    before, rest = text.split(BEGIN)
    return before + BEGIN + table(patterns) + END + rest.split(END)[1]


PAGES = {"README.md": README_ROWS, "docs/results.md": RESULT_ROWS}


@click.command()
@click.option("--write", is_flag=True, help=f"Into {' and '.join(PAGES)}; otherwise print.")
def main(write: bool) -> None:
    """Print or write the tables."""
    if not write:
        click.echo(table(RESULT_ROWS), nl=False)
        return
    for page, patterns in PAGES.items():
        (ROOT / page).write_text(written((ROOT / page).read_text(), patterns))


if __name__ == "__main__":
    main()
