"""Everything that the README and the guides show runs: Python as it stands, at a small budget, and
the commands."""

import importlib.util
import re
import shlex
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from ddpg_jax.runs.cli import commands

ROOT = Path(__file__).parents[1]
PAGES = {"README.md": (ROOT / "README.md").read_text()}
PAGES |= {f"docs/{path.name}": path.read_text() for path in sorted((ROOT / "docs").glob("*.md"))}
PAGES |= {".github/CONTRIBUTING.md": (ROOT / ".github" / "CONTRIBUTING.md").read_text()}
BLOCKS = [
    block
    for text in PAGES.values()
    for block in re.findall(r"```(bash|python)\n(.*?)```", text, re.S)
]
LINES = [
    line.split("#")[0].strip()
    for kind, text in BLOCKS
    if kind == "bash"
    for line in text.splitlines()
]
COMMANDS = list(dict.fromkeys(LINES))  # a guide may repeat a command of the README: it runs once
WIDTH, README_LINES = 100, 130
SMALL = [
    "--total-timesteps",
    "400",
    "--learning-starts",
    "100",
    "--steps-per-chunk",
    "100",
    "--batch-size",
    "8",
]
SMALL += ["--evaluation-episodes", "4"]
SHORT = ["--time-limit", "40"]
"""Of what is drawn, which takes its time."""
FEW = [*SHORT, "--num-envs", "4"]
CODES = ["--images", "32", "--image-updates", "3", "--latent-size", "4"]


def test_python_blocks_run(capsys):
    blocks = [
        text
        for kind, text in BLOCKS
        if kind == "python" and "deserialize" not in text and "runs." not in text
    ]
    assert blocks
    for text in blocks:
        small = text.replace("range(19)", "range(2)").replace("key(0), 64)", "key(0), 3)")
        assert small != text or "make_train" not in text
        small = small.replace(
            "behaviour)\n", "behaviour, learning_starts=200, steps_per_chunk=200)\n"
        )
        exec(compile(small, "README.md", "exec"), {})
    printed = [float(line) for line in capsys.readouterr().out.split()]
    assert len(printed) == 2
    assert all(-2000 < value < 0 for value in printed)


def test_the_one_line_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (text,) = [text for _, text in BLOCKS if "runs.train" in text]
    exec(compile(text.replace("5_000", "1_500"), "README.md", "exec"), {})


def test_the_sweep_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (text,) = [text for _, text in BLOCKS if "runs.sweep" in text]
    exec(compile(text.replace("5_000", "1_500"), "README.md", "exec"), {})
    assert "16 members, 8 settings" in capsys.readouterr().out


def test_first_python_block_has_twelve_lines():
    text = next(text for kind, text in BLOCKS if kind == "python")
    assert len([line for line in text.splitlines() if line.strip()]) <= 13


def test_commands_run_in_their_order(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = [shlex.split(line) for line in COMMANDS if line.startswith("ddpg-jax")]
    assert len(lines) >= 8
    for words in lines:
        if "mp4" in words and importlib.util.find_spec("imageio_ffmpeg") is None:
            continue
        if "brax" in " ".join(words) or "runs/robot" in words:
            words = [re.sub("brax/(ant|inverted_pendulum)", "pendulum", word) for word in words]
        words = [word.replace("HalfCheetah-v5", "Pendulum-v1") for word in words]  # needs no MuJoCo
        if words[1] in ("train", "sweep"):
            fewer = lambda word: word.replace("40000", "600").replace("32", "2").replace("16", "4")
            words = [*words, *SHORT] if "--pixels" in words else [fewer(word) for word in words]
            words += FEW * ("lane" in words) + CODES * ("drive" in words)
            words += [] if {"--resume", "--dry-run"} & set(words) else SMALL
        result = CliRunner().invoke(commands.main, words[1:], catch_exceptions=False)
        assert result.exit_code == 0, (words, result.output)
    loaded = {}
    exec(next(text for _, text in BLOCKS if "deserialize" in text), loaded)
    assert loaded["action"].shape == (5, 1)


@pytest.mark.parametrize(
    "line", [line for line in COMMANDS if line.startswith("python benchmarks/")]
)
def test_benchmarks_named_exist(line):
    assert (ROOT / line.split()[1]).is_file()


@pytest.mark.parametrize("page", PAGES)
def test_paths_and_links_exist(page):
    text = re.sub(r"```.*?```", "", PAGES[page], flags=re.S)
    for path in re.findall(r"`((?:ddpg_jax|tests|benchmarks|notebooks)/[\w/]+\.\w+)`", text):
        assert (ROOT / path).is_file(), path
    for link in re.findall(r"\]\((?!https?:)([^)]+)\)", text):
        place, _, heading = link.partition("#")
        target = (ROOT / page).parent / place
        assert target.is_file(), link
        headings = re.findall(r"^#+ (.*)$", target.read_text(), re.M) if heading else []
        assert not heading or heading in [name.lower().replace(" ", "-") for name in headings], link


@pytest.mark.parametrize("page", PAGES)
def test_prose_is_at_most_a_hundred_columns_wide(page):
    text = re.sub(r"```.*?```", "", PAGES[page], flags=re.S)
    assert [
        line for line in text.splitlines() if len(line) > WIDTH and not line.startswith("|")
    ] == []


def test_the_readme_is_short():
    lines = PAGES["README.md"].splitlines()
    assert len(lines) <= README_LINES
    assert [line for line in lines if len(line) > WIDTH and not line.startswith("|")] == []


def test_every_guide_is_in_the_index():
    listed = re.findall(r"\]\(([\w_]+\.md)\)", PAGES["docs/index.md"])
    assert {f"docs/{name}" for name in listed} == {
        name for name in PAGES if name.startswith("docs/")
    } - {"docs/index.md"}


def test_measured_tables_are_what_the_results_say():
    sys.path.insert(0, str(ROOT))
    from benchmarks import table

    assert table.BEGIN + table.table() + table.END in PAGES["docs/results.md"]
    rows = (
        PAGES["README.md"]
        .partition(table.BEGIN)[2]
        .partition(table.END)[0]
        .splitlines(keepends=True)
    )
    assert len(rows) == 2 + 8
    assert all(row in table.table() for row in rows)
