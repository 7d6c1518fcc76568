"""What each preset can, and where presets and functions differ from their sources.

``python docs/make_algorithms.py`` writes the table of ``docs/algorithms.md`` and all of
``docs/differences_from_papers.md``, from the records of presets and from docstrings.
"""

from __future__ import annotations

import ast
import dataclasses
import re
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parent))
import site_api

from ddpg_jax.runs.presets import PRESETS

if TYPE_CHECKING:
    from ddpg_jax.runs.options.preset import Preset

DOCS = Path(__file__).parent
BEGIN, END = "<!-- table: python docs/make_algorithms.py -->\n", "<!-- end of table -->\n"
HEADER = (
    "| preset | observations | critic | return | replay | floats that may differ | its values |\n"
    "|---|---|---|---|---|---|---|\n"
)
INTRODUCTION = """# Differences from the papers

Made by `python docs/make_algorithms.py` from the records of presets and from docstrings. Each run
prints what its preset does differently from its source; `ddpg-jax presets` lists all of them.

## Presets

A preset with `paper` in its name has the hyper-parameters of the publication; what is listed for
it is what this code does in another way.
"""


def table() -> str:
    """The table of what each preset can."""
    return HEADER + "".join(_row(preset) for preset in PRESETS.values())


def differences() -> str:
    """The page of differences from the papers."""
    parts = [INTRODUCTION]
    for preset in PRESETS.values():
        ours = preset.ours or "as there, as far as is known."
        parts.append(f"### `{preset.name}`\n\n{_filled(f'Source: {preset.source}')}\n")
        parts.append(_filled(f"Here: {ours}") + "\n")
    parts.append("## Functions\n")
    for name, text in _documented().items():
        parts.append(textwrap.fill(f"- `{name}`: {text}", 100, subsequent_indent="  "))
    return "\n".join(parts) + "\n"


def written(page: str) -> str:
    """A page with its table replaced."""
    before, rest = page.split(BEGIN)
    return before + BEGIN + table() + END + rest.split(END)[1]


def _row(preset: Preset) -> str:
    found = preset.hyperparameters
    fields = {each.name for each in dataclasses.fields(found)}
    floats = [name for name in fields if isinstance(getattr(found, name), float)]
    atoms = "num_atoms" in fields and f"categorical, {vars(found)['num_atoms']} atoms"
    cells = (
        f"`{preset.name}`" + f", for `{preset.only_for}` alone" * bool(preset.only_for),
        "images, dicts with images" if preset.images else "vectors, dicts of vectors",
        atoms or "a value",
        f"{found.n_step} step{'s' * (found.n_step > 1)}",
        "prioritised" if found.priority_exponent else "uniform",
        str(len(floats)),
        "the publication's" if preset.exact else "ours",
    )
    return f"| {' | '.join(cells)} |\n"


def _documented() -> dict[str, str]:
    """``{name: sentences}`` that begin with "Differs from" in docstrings of public names."""
    found = {}
    trees = site_api.modules()
    for each in site_api.public_names():
        for node in trees[each.home].body:
            if getattr(node, "name", None) == each.name:
                text = " ".join((ast.get_docstring(node) or "").split())
                if said := re.search(r"Differs from .*", text):
                    found[f"{each.module}.{each.name}"] = said[0].replace("``", "`")
    return found


def _filled(text: str) -> str:
    return textwrap.fill(text, 100, break_long_words=False, break_on_hyphens=False)


if __name__ == "__main__":
    page = DOCS / "algorithms.md"
    page.write_text(written(page.read_text()))
    (DOCS / "differences_from_papers.md").write_text(differences())
