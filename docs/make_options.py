"""``docs/options.md``: every option, from the records in which options are declared.

``python docs/make_options.py`` writes it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, get_origin

from ddpg_jax.runs.cli.flags import Declared, declared_hyperparameters, declared_in, shown_default
from ddpg_jax.runs.options.field import Option, options_of
from ddpg_jax.runs.options.run_options import (
    EnvironmentOptions,
    EvolveOptions,
    LaunchOptions,
    RunOptions,
    SweepOptions,
)
from ddpg_jax.runs.presets import PRESETS

if TYPE_CHECKING:
    from collections.abc import Iterable

INTRODUCTION = """# Options

Made by `python docs/make_options.py` from the records in which options
are declared. Each is a flag of `ddpg-jax train` (with dashes) and a keyword of
`ddpg_jax.runs.train`; `ddpg-jax train --help-all --preset NAME` shows them with the defaults of a
preset. On resume, a *fixed* option keeps the run's value, a *free* one may change and changes no
bit of what is trained, and *placement* is where the run is trained.
"""


LAUNCH = {name for name, *_ in options_of(LaunchOptions)}
"""How a command starts: not part of a run."""


def page() -> str:
    """The page as Markdown."""
    run = (*declared_in(LaunchOptions), *declared_in(RunOptions), *declared_in(EnvironmentOptions))
    sweep = (*declared_in(SweepOptions), *declared_in(EvolveOptions, prefix="pbt_"))
    parts = [INTRODUCTION, "## Options of a run\n", _tables(run)]
    parts += ["## Options of a sweep\n", _tables(sweep)]
    parts += ["## Hyper-parameters\n", _tables(declared_hyperparameters())]
    parts += ["## Hyper-parameters of each preset\n", *map(_preset, PRESETS)]
    return "\n".join(parts)


def _tables(every: Iterable[Declared]) -> str:
    groups: dict[str, list[Declared]] = {}
    for each in every:
        groups.setdefault(each[2].group, []).append(each)
    return "\n".join(_table(group, each) for group, each in groups.items())


def _table(group: str, every: list[Declared]) -> str:
    rows = [f"### {group[:1].upper()}{group[1:]}\n"]
    rows += ["| option | type | range | default | on resume | |", "|---|---|---|---|---|---|"]
    for name, kind, declared, default in every:
        cells = (f"`{name}`", _type(kind), _range(declared), shown_default(default, declared))
        resume = "" if name in LAUNCH else declared.resume
        rows.append(f"| {' | '.join(cells)} | {resume} | {declared.help} |")
    return "\n".join(rows) + "\n"


def _type(kind: type) -> str:
    return (get_origin(kind) or kind).__name__


def _range(declared: Option) -> str:
    said = " ".join(filter(None, (declared.range, declared.unit)))
    return said.replace("|", "or")


def _preset(name: str) -> str:
    found = PRESETS[name].hyperparameters
    rows = [f"### `{name}`\n", "| hyper-parameter | value |", "|---|---|"]
    for each, _, declared in options_of(type(found)):
        rows.append(f"| `{each}` | {shown_default(getattr(found, each), declared) or 'no'} |")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    Path(__file__).with_name("options.md").write_text(page())
