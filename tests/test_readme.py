"""Everything that the README and the guides show runs.

Python at a small budget; the commands that train, resume, evaluate, render and export one run to
their end; what trains another run without its training; sweeps at a small size."""

import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
import textwrap
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
CLUSTER = sorted((ROOT / "benchmarks" / "cluster").glob("*.*"))
WIDTH, README_LINES = 100, 130
FEW = ["--learning-starts", "100", "--steps-per-chunk", "100", "--batch-size", "8"]
FEW += [
    "--total-timesteps",
    "400",
    "--evaluation-episodes",
    "4",
    "--final-episodes",
    "4",
    "--hidden",
    "8,8",
]
FEW += ["--time-limit", "40"]
TRAINED = "runs/many"
"""The run folder of the README: its commands run to the end, and what reads a run reads this
one."""
WITHOUT_TRAINING = ["--dry-run", "--device-kind", "gpu"]
"""All of a run's sizes and shapes on the way to a GPU; nothing is compiled."""


def invoke(words, expected=0):
    result = CliRunner().invoke(commands.main, words, catch_exceptions=False)
    assert result.exit_code == expected, (words, result.output)
    return result.stdout


def test_python_blocks_run(capsys):
    blocks = [
        text
        for kind, text in BLOCKS
        if kind == "python" and "runs/many/policy" not in text and "runs." not in text
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
    others = ("runs.load", "runs.callbacks")
    (text,) = [
        text
        for _, text in BLOCKS
        if "runs.train" in text and not any(name in text for name in others)
    ]
    exec(compile(text.replace("5_000", "1_500"), "README.md", "exec"), {})


def test_the_callbacks_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (text,) = [text for _, text in BLOCKS if "runs.callbacks" in text]
    small = "total_timesteps=1_600, learning_starts=200, steps_per_chunk=400, hidden=(8,)"
    small = text.replace('"pendulum",', f'"pendulum", run_dir="run", {small},')
    exec(compile(small.replace("5_000", "800"), "docs", "exec"), {})
    header, *rows = (tmp_path / "run" / "metrics.csv").read_text().splitlines()
    assert header.endswith(",actor_spread")
    assert len(rows) == 4
    assert len([*(tmp_path / "run" / "films").iterdir()]) == 2


def test_the_sweep_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (text,) = [text for _, text in BLOCKS if "runs.sweep" in text]
    exec(compile(text.replace("5_000", "1_500"), "README.md", "exec"), {})
    assert "16 members, 8 settings" in capsys.readouterr().out


def test_first_python_block_has_twelve_lines():
    text = next(text for kind, text in BLOCKS if kind == "python")
    assert len([line for line in text.splitlines() if line.strip()]) <= 13


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder in which the README's run was trained and resumed, at a small size."""
    folder = tmp_path_factory.mktemp("readme")
    lines = [line for line in COMMANDS if line.startswith("ddpg-jax train") and TRAINED in line]
    assert ["--resume" in line for line in lines] == [False, True]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        begin, resume = (shlex.split(line)[1:] for line in lines)
        assert "final return" in invoke([*(word.replace("32", "2") for word in begin), *FEW])
        said = invoke([word.replace("40000", "600") for word in resume])
    assert "resumed at 400 steps" in said
    return folder


def of_the_trained_run(line):
    """A command that reads a run, of the one that is there, with few episodes."""
    words = shlex.split(line)[1:]
    words = [re.sub(r"^runs/\w+", TRAINED, word) for word in words]
    if "--member" in words:
        words[words.index("--member") + 1] = "1"
    return ["4" if word == "100" else word for word in words]


def test_a_run_is_loaded_and_another_begins_with_it(trained, monkeypatch, capsys):
    monkeypatch.chdir(trained)
    (text,) = [text for _, text in BLOCKS if "runs.load" in text]
    values = {}
    exec(compile(text.replace("10_000", "300"), "docs", "exec"), values)
    assert "pendulum [" in capsys.readouterr().out
    assert values["actions"].shape == (1, 1)
    assert values["lighter"].config.env_options == {"time_limit": 40, "gravity": 8.0}


def run_blocks_about(file):
    """What the guides do with an exported policy."""
    for _, text in BLOCKS:
        if file in text and "import" in text:
            found = {}
            exec(compile(text, file, "exec"), found)
            assert found.get("action") is not None


READING = {
    tuple(of_the_trained_run(line)): line
    for line in COMMANDS
    if line.startswith("ddpg-jax ")
    and line.split()[1] in ("evaluate", "render", "plot", "export", "report")
}


@pytest.mark.parametrize("words", READING, ids=" ".join)
def test_a_command_that_reads_a_run(trained, words, monkeypatch):
    if "mp4" in words and importlib.util.find_spec("imageio_ffmpeg") is None:
        pytest.skip("needs imageio-ffmpeg")
    monkeypatch.chdir(trained)
    if "--again" in words:
        invoke(["export", TRAINED, "--out", words[-1]])
    said = invoke(words)
    if words[0] == "evaluate":
        assert len(json.loads(said)["returns"]) == 2, "of both members"
    else:
        assert Path(said.strip()).stat().st_size > 1_000
    if words[0] == "export" and "--again" not in words:
        run_blocks_about(said.strip())


@pytest.mark.parametrize(
    "line", [line for line in COMMANDS if line.startswith("ddpg-jax train") and TRAINED not in line]
)
def test_a_run_without_its_training(line, tmp_path, monkeypatch, standard_promotion):
    monkeypatch.chdir(tmp_path)
    words = shlex.split(line)[1:]
    assert "memory, before any of it is allocated" in invoke(
        words if "--dry-run" in words else words + WITHOUT_TRAINING
    )


@pytest.mark.slow
@pytest.mark.parametrize("line", [line for line in COMMANDS if line.startswith("ddpg-jax sweep")])
def test_a_sweep(line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = [word.replace("16", "4") for word in shlex.split(line)[1:]]
    if "--seeds" in words:
        words[words.index("--seeds") + 1] = "1"
    assert "4 members" in invoke([*words, *FEW])


@pytest.mark.parametrize(
    "line",
    [
        line
        for line in COMMANDS
        if line.startswith("ddpg-jax ") and line.split()[1] in ("check", "presets", "envs")
    ],
)
def test_a_command_without_a_run(line):
    """Brax's own environments are checked in test_brax.py."""
    assert invoke(shlex.split(line.replace("brax/inverted_pendulum", "pendulum"))[1:])


def test_no_other_command_is_shown():
    known = {
        "train",
        "sweep",
        "evaluate",
        "render",
        "plot",
        "export",
        "check",
        "presets",
        "envs",
    } | {"report"}
    assert {line.split()[1] for line in COMMANDS if line.startswith("ddpg-jax ")} == known


def script_of(path):
    """What a cluster's file has a shell do."""
    text = path.read_text()
    if path.suffix != ".yaml":
        return text
    (block,) = re.findall(r"args:\n *- \|\n(.*?)\n {10}\w", text, re.S)
    return textwrap.dedent(block)


@pytest.mark.parametrize("path", CLUSTER, ids=lambda path: path.name)
@pytest.mark.parametrize("begun", [pytest.param(False, marks=pytest.mark.slow), True])
def test_what_a_cluster_starts(path, begun, trained, tmp_path, monkeypatch, standard_promotion):
    """Its script runs, with programs in place of `srun` and of the command that write down what
    they are given; that runs without its training."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "srun").write_text('#!/bin/sh\nshift\nexec "$@"\n')
    (programs / "ddpg-jax").write_text('#!/bin/sh\nprintf "%s\\n" "$@" > "$GIVEN"\n')
    for program in programs.iterdir():
        program.chmod(0o755)
    run = trained / TRAINED if begun else tmp_path / "run"
    given = {"RUN_DIR": str(run), "JOB_COMPLETION_INDEX": "1", "GIVEN": str(tmp_path / "given")}
    search = f"{programs}:{os.environ['PATH']}"
    script = script_of(path).replace("/runs/ant-16", str(run))
    subprocess.run(["bash", "-ec", script], check=True, env=os.environ | given | {"PATH": search})
    words = (tmp_path / "given").read_text().splitlines()
    assert ("--resume" in words) == begun
    asked = []
    monkeypatch.setattr(
        commands.processes, "initialize", lambda flags, run_dir: asked.append(flags)
    )
    kind = WITHOUT_TRAINING[:1] if begun else WITHOUT_TRAINING
    plan = invoke([*words, *kind])
    assert "memory, before any of it is allocated" in plan
    assert "few to learn from" not in plan or begun
    assert asked[0].process_id == (1 if path.suffix == ".yaml" else None)


@pytest.mark.parametrize("host", ["a", pytest.param("b", marks=pytest.mark.slow)])
def test_what_two_hosts_start(host, tmp_path, monkeypatch, standard_promotion):
    """The guide's commands, as printed: accepted, for sizes that train something."""
    text = (ROOT / "docs" / "devices_and_hosts.md").read_text().replace("\\\n", " ")
    (line,) = re.findall(rf"host-{host}\$ (.*)", text)
    monkeypatch.setattr(commands.processes, "initialize", lambda flags, run_dir: None)
    words = [word.replace("/shared", str(tmp_path)) for word in shlex.split(line)[1:]]
    plan = invoke([*words, *WITHOUT_TRAINING])
    assert "memory, before any of it is allocated" in plan
    assert "few to learn from" not in plan


def test_benchmarks_named_exist():
    """Each runs at a tiny size in test_benchmarks.py or test_studies.py."""
    names = {line.split()[1] for line in COMMANDS if line.startswith("python benchmarks/")}
    files = [ROOT / name for name in sorted(names)]
    assert files
    assert [
        path for path in files if not (path.is_file() or (path / "__main__.py").is_file())
    ] == []


PROSE = {page: re.sub(r"```.*?```", "", text, flags=re.S) for page, text in PAGES.items()}


def test_paths_exist():
    path_of = r"`((?:ddpg_jax|tests|benchmarks|notebooks)/[\w/]+\.\w+)`"
    found = [(page, path) for page, text in PROSE.items() for path in re.findall(path_of, text)]
    assert found
    assert [(page, path) for page, path in found if not (ROOT / path).is_file()] == []


def leads_somewhere(page, link):
    """Whether a link of a page is to a file, and to a heading of it."""
    place, _, heading = link.partition("#")
    target = (ROOT / page).parent / place if place else ROOT / page
    if not target.is_file():
        return False
    headings = re.findall(r"^#+ (.*)$", target.read_text(), re.M) if heading else []
    return not heading or heading in [name.lower().replace(" ", "-") for name in headings]


def test_links_exist():
    link_of = r"\]\((?!https?:)([^)]+)\)"
    found = [(page, link) for page, text in PROSE.items() for link in re.findall(link_of, text)]
    assert found
    assert [each for each in found if not leads_somewhere(*each)] == []


def test_prose_is_at_most_a_hundred_columns_wide():
    lines = [(page, line) for page, text in PROSE.items() for line in text.splitlines()]
    assert [
        (page, line) for page, line in lines if len(line) > WIDTH and not line.startswith("|")
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

    for page, patterns in table.PAGES.items():
        text = (Path(__file__).parents[1] / page).read_text()
        assert table.written(text, patterns) == text
        assert len(patterns) <= 8 or page != "README.md"
