"""The documentation site's sources: every public name has words, examples are true, what is made
from records is of today. `.ci/run docs` builds the site itself."""

import doctest
import importlib
import inspect
import json
import re
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from source_tree import FILES

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
sys.path.insert(0, str(DOCS))

import make_algorithms  # noqa: E402
import make_site  # noqa: E402
import site_api  # noqa: E402
import site_gallery  # noqa: E402

import ddpg_jax  # noqa: E402
from ddpg_jax.runs.cli import commands  # noqa: E402
from ddpg_jax.runs.presets import PRESETS  # noqa: E402

WITH_EXAMPLES = [name for name, path in FILES.items() if ">>>" in path.read_text()]


def test_every_public_name_has_an_entry():
    """Of the library every name without an underscore, where users find it."""
    text = "\n".join(site_api.pages().values())
    entries = re.findall(r"^\.\. auto(\w+):: (ddpg_jax[\w.]*)::(\w+)$", text, re.M)
    assert len(entries) == len(set(entries)) > 400
    for kind, module, name in entries:
        found = inspect.getattr_static(importlib.import_module(module), name)
        assert inspect.isclass(found) == (kind == "class") or kind == "data"
    names = {name for *_, name in entries}
    for package in ddpg_jax.__all__:
        room = importlib.import_module(f"ddpg_jax.{package}")
        exported = getattr(room, "__all__", ())
        assert {each for each in exported if not inspect.ismodule(getattr(room, each))} <= names
    assert {"td3", "train", "BatchState"} <= names
    assert not [name for name in names if name.startswith("_")]


@pytest.mark.parametrize(
    ("source", "name"),
    [("def bare():\n    pass", "bare"), ("class Bare:\n    pass", "Bare"), ("BARE = 1", "BARE")],
)
def test_a_public_name_without_words_is_an_error(source, name, tmp_path, monkeypatch):
    (tmp_path / "new.py").write_text(f'"""A module."""\n\n{source}\n_hidden = 1\n')
    monkeypatch.setattr(site_api, "PACKAGE", tmp_path)
    with pytest.raises(ValueError, match=rf"docstring: ddpg_jax\.new\.{name}\.$"):
        site_api.pages()


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples_of_docstrings(name):
    module = importlib.import_module(f"ddpg_jax.{name}")
    found = doctest.testmod(module)
    assert found.attempted
    assert not found.failed


def test_the_most_important_functions_have_examples():
    assert set(WITH_EXAMPLES) >= {"losses", "noise", "envs", "agents.ddpg", "replay.ring"}


def test_tables_of_presets_are_of_today():
    page = (DOCS / "algorithms.md").read_text()
    assert make_algorithms.written(page) == page, "write it: python docs/make_algorithms.py"
    assert (DOCS / "differences_from_papers.md").read_text() == make_algorithms.differences()
    for name in PRESETS:
        assert f"| `{name}`" in make_algorithms.table()


def test_figures_of_guides_are_those_that_were_measured():
    """Of `benchmarks/studies/collapse.py` and `starting.py`."""
    results, rows = ROOT / "benchmarks" / "results", []
    named = {"none": "none", "layer_norm": "`--layer-norm`", "anneal": "`--anneal`"}
    named |= {"weight_decay": "`--weight-decay 0.01`"}
    for stage, others in (("tune", ""), ("report", ", other seeds")):
        found = json.loads((results / f"collapse_{stage}.json").read_text())["rows"]
        for name, row in found.items():
            remedy = named[name.split(", ")[1]]
            rows.append(
                f"| {remedy}{others} | {row['events']} of {row['seeds']} | "
                f"{row['median_steps_to_solve']:,.0f} |"
            )
    text = (DOCS / "reading_curves.md").read_text()
    assert [row for row in rows if row not in text] == []
    assert text.count(" of 32 |") + text.count(" of 64 |") == len(rows)
    found = json.loads((results / "starting.json").read_text())["rows"]
    text = " ".join((DOCS / "load_and_continue.md").read_text().split())
    stored, *gravities = (row["ratio"] for row in found.values())
    assert f"after {gravities[0]:.2f} and {gravities[1]:.2f} of its steps" in text
    (steps, nothing), *_ = (
        (row["median_steps"], row["median_steps_from_nothing"]) for row in found.values()
    )
    assert f"after {steps:.0f} steps of the environment instead of {nothing:,.0f}" in text
    assert f"({stored:.2f})" in text


def test_the_contents_list_every_guide_in_the_order_of_the_index():
    contents = make_site.contents((DOCS / "index.md").read_text())
    for path in DOCS.glob("*.md"):
        assert path.stem == "index" or f" <{path.stem}>\n" in contents, path
    assert contents.index("getting_started") < contents.index("own_algorithm")
    assert "../notebooks/quickstart" in contents


def test_the_gallery_shows_every_picture(tmp_path):
    site_gallery.write(tmp_path)
    text = (tmp_path / "gallery.md").read_text()
    pictures = sorted(path.name for path in (ROOT / "benchmarks" / "results").glob("*.png"))
    assert re.findall(r"\(images/results/(.*)\)", text) == pictures
    assert all((tmp_path / "images" / "results" / name).is_file() for name in pictures)
    titles = re.findall(r"^### (.*)$", text, re.M)
    assert len(set(titles)) == len(titles) == len(pictures)


def test_the_environment_of_the_guide(tmp_path, monkeypatch):
    """Its file, checked and trained as the guide's commands do."""
    text = (DOCS / "own_environment.md").read_text()
    (tmp_path / "my_cart.py").write_text(re.search(r"```python\n(.*?)```", text, re.S)[1])
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    lines = [line.split() for line in text.splitlines() if line.startswith("ddpg-jax ")]
    assert [words[1] for words in lines] == ["check", "train", "evaluate", "render"]
    few = ["--total-timesteps", "300", "--learning-starts", "100", "--steps-per-chunk", "100"]
    few += ["--evaluation-episodes", "2", "--final-episodes", "2", "--env-option", "time_limit=40"]
    for words in lines[:3]:
        given = [*words[1:], *few] if words[1] == "train" else words[1:]
        found = CliRunner().invoke(commands.main, given, catch_exceptions=False)
        assert found.exit_code == 0, (words, found.output)
