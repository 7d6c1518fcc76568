"""``docs/options.md``: every option, from the records in which options are declared.

``python docs/make_options.py`` writes it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, get_origin

from ddpg_jax.runs.cli.flags import EVOLVE, declared_hyperparameters, shown_default
from ddpg_jax.runs.options.field import Option, options_of
from ddpg_jax.runs.options.launch_options import LaunchOptions
from ddpg_jax.runs.options.run_options import EnvironmentOptions, RunOptions
from ddpg_jax.runs.options.sweep_options import SweepOptions
from ddpg_jax.runs.presets import PRESETS

if TYPE_CHECKING:
    from collections.abc import Mapping

INTRODUCTION = """# Options

Made by `python docs/make_options.py` from the records in which options
are declared. Each is a flag of `ddpg-jax train` (with dashes) and a keyword of
`ddpg_jax.runs.train`; `ddpg-jax train --help-all --preset NAME` shows them with the defaults of a
preset. On resume, a *fixed* option keeps the run's value, a *free* one may change and changes no
bit of what is trained, and *placement* is where the run is trained.
"""


LAUNCH = options_of(LaunchOptions)
"""How a command starts: not part of a run."""


def page() -> str:
    """The page as Markdown."""
    run = LAUNCH | options_of(RunOptions) | options_of(EnvironmentOptions)
    sweep = options_of(SweepOptions) | EVOLVE
    parts = [INTRODUCTION, "## Options of a run\n", _tables(run)]
    parts += ["## Options of a sweep\n", _tables(sweep)]
    parts += ["## Hyper-parameters\n", _tables(declared_hyperparameters())]
    parts += ["## Hyper-parameters of each preset\n", *map(_preset, PRESETS)]
    return "\n".join(parts)


def _tables(every: Mapping[str, Option]) -> str:
    groups: dict[str, dict[str, Option]] = {}
    for name, declared in every.items():
        groups.setdefault(declared.group, {})[name] = declared
    return "\n".join(_table(group, each) for group, each in groups.items())


def _table(group: str, every: Mapping[str, Option]) -> str:
    rows = [f"### {group[:1].upper()}{group[1:]}\n"]
    rows += ["| option | type | range | default | on resume | |", "|---|---|---|---|---|---|"]
    for name, declared in every.items():
        default = shown_default(declared.default, declared)
        cells = (f"`{name}`", _type(declared.kind), _range(declared), default)
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
    for each, declared in options_of(type(found)).items():
        rows.append(f"| `{each}` | {shown_default(getattr(found, each), declared) or 'no'} |")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    Path(__file__).with_name("options.md").write_text(page())
