"""The site's gallery: films, and each picture of ``benchmarks/results`` with its figures."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
sys.path.insert(0, str(ROOT))
KINDS = {
    "family_": "DDPG, TD3 and D4PG on",
    "learning_": "Seeds from the shell on",
    "bfloat16_": "Networks in float32 and in bfloat16 on",
}
INTRODUCTION = """# Gallery

Made from the files in `benchmarks/results/` when the site is built; [results](results.md) has all
figures in one table, and [speed](speed.md) says how they are measured.

## Films

![A pendulum swings up and stays upright](images/pendulum.gif)

A member of `ddpg-jax train --seeds 6 --seed 1`, filmed by `ddpg-jax render`. The notebooks film the
[driving](../notebooks/driving.ipynb) and [pixels](../notebooks/pixels.ipynb) agents.

## Measured

{table}
## Curves and studies
"""


def write(docs: Path) -> None:
    """Write ``gallery.md``, the pictures that it shows, and the page of predicted scaling."""
    from benchmarks import table

    places = docs / "images" / "results"
    places.mkdir(parents=True)
    parts = [INTRODUCTION.format(table=table.table(table.README_ROWS))]
    for picture in sorted(RESULTS.glob("*.png")):
        shutil.copy(picture, places)
        parts.append(_shown(picture))
    (docs / "gallery.md").write_text("\n".join(parts))
    shutil.copy(RESULTS / "scaling.md", docs / "scaling.md")


def _shown(picture: Path) -> str:
    """A picture, what it shows, its figures, and where it was measured."""
    found = json.loads(picture.with_suffix(".json").read_text())
    figures = "".join(f"\n- {what}: {figure}" for what, figure in _rows(picture.stem))
    title = _title(picture.stem, found.get("settings", {}))
    return (
        f"### {title}\n\n![{title}](images/results/{picture.name})\n"
        f"{figures}\n- {found['device']}, JAX {found['versions']['jax']}; "
        f"`benchmarks/results/{picture.stem}.json`\n"
    )


def _rows(stem: str) -> list[tuple[str, str]]:
    """The rows that the tables have of a result; none of a study without one."""
    from benchmarks import table

    return table.rows(stem) if any(stem.startswith(kind) for kind in table.ROWS) else []


def _title(stem: str, settings: dict[str, object]) -> str:
    """The agents or the task of a result; of a study what the list of benchmarks says."""
    for begins, title in KINDS.items():
        if stem.startswith(begins):
            return f"{title} `{settings['env']}`"
    text = (ROOT / "docs" / "benchmarks.md").read_text()
    said = re.search(rf"studies/{stem.removeprefix('study_')}\.py *[\w/]* *# (.*)", text)
    title = said[1] if said else stem.replace("_", " ")
    return title[:1].upper() + title[1:]
