"""Builds the documentation site: ``python docs/make_site.py [FOLDER]``, ``build/site`` by default.

The sources are gathered in one folder: the guides, the README, the notebooks, the API's pages and
the gallery. Warnings are errors.
"""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import site_api
import site_gallery

DOCS = Path(__file__).parent
ROOT = DOCS.parent
COPIED = ("docs", "notebooks", "README.md", ".github/CONTRIBUTING.md", "LICENSE")


def gather(target: Path) -> None:
    """Write all sources of the site into an empty folder."""
    for name in COPIED:
        place = target / name
        place.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, place, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, place)
    (target / "docs" / "api").mkdir()
    for name, text in site_api.pages().items():
        (target / "docs" / "api" / name).write_text(text)
    site_gallery.write(target / "docs")
    index = target / "docs" / "index.md"
    index.write_text(index.read_text() + contents(index.read_text()))


def contents(index: str) -> str:
    """The tables of contents that Sphinx wants: the guides as the index's tables name them."""
    sections = re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", index, re.S | re.M)
    listed = {title: re.findall(r"\[(.+?)\]\(([\w./]+)\.md\)", text) for title, text in sections}
    notebooks = sorted((ROOT / "notebooks").glob("*.ipynb"))
    listed["Notebooks"] = [(path.stem.title(), f"../notebooks/{path.stem}") for path in notebooks]
    listed["API and gallery"] = [
        ("API", "api/index"),
        ("Gallery", "gallery"),
        ("Predicted scaling", "scaling"),
        ("README", "../README"),
    ]
    return "".join(
        f"\n```{{toctree}}\n:hidden:\n:caption: {title}\n\n"
        + "".join(f"{name} <{page}>\n" for name, page in pages)
        + "```\n"
        for title, pages in listed.items()
    )


def build(folder: Path) -> int:
    """Build the site into ``folder``; returns Sphinx's exit code."""
    from sphinx.cmd.build import main

    sources = folder.with_name(f"{folder.name}-sources")
    for old in (sources, folder):
        shutil.rmtree(old, ignore_errors=True)
    gather(sources)
    strict = ["--fail-on-warning", "--keep-going", "--nitpicky", "--quiet"]
    code = main([*strict, "-c", str(DOCS), str(sources), str(folder)])
    leads = '<meta http-equiv="refresh" content="0; url=docs/index.html">\n'
    (folder / "index.html").write_text(leads)
    return code


if __name__ == "__main__":
    sys.exit(build(Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "build" / "site").resolve()))
