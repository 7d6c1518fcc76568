"""What a release rests on: version, extras, bounds, targets of `.ci/run`, workflows, the image."""

import importlib.metadata
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

import ddpg_jax

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
RUN = (ROOT / ".ci" / "run").read_text() if (ROOT / ".ci").is_dir() else ""
BY_NAME = {"canary", "docs", "lowest", "release"}
"""Targets that `.ci/run` without a target leaves out."""
checkout = pytest.mark.skipif(not RUN, reason="this is not a checkout")


def workflow(name):
    return yaml.safe_load((ROOT / ".github" / "workflows" / name).read_text())


def test_the_version_stands_in_one_place():
    assert "version" in PROJECT["dynamic"]
    assert ddpg_jax.__version__ == importlib.metadata.version("ddpg_jax")
    assert re.fullmatch(r"\d+\.\d+\.\d+", ddpg_jax.__version__)


def test_every_dependency_has_a_lower_bound():
    """`.ci/run lowest` installs exactly these."""
    assert [
        each for each in PROJECT["dependencies"] if not re.fullmatch(r"[\w-]+>=[\d.]+", each)
    ] == []


def test_extras_for_accelerators_are_those_of_jax():
    (bound,) = [each for each in PROJECT["dependencies"] if each.startswith("jax>=")]
    for name in ("cuda12", "cuda13", "tpu"):
        assert PROJECT["optional-dependencies"][name] == [bound.replace("jax", f"jax[{name}]")]
        assert re.search(rf"\b{name}\b", (ROOT / "README.md").read_text()[:1_000])


@checkout
def test_a_run_of_all_checks_has_no_target_that_is_run_by_name_alone():
    (always,) = re.findall(r"targets=\((\w+(?: \w+)*)\)", RUN)
    (known,) = re.findall(r"^    ((?:\w+ \| )+\w+)\) ;;", RUN, re.M)
    assert set(known.split(" | ")) - set(always.split()) == BY_NAME


@checkout
def test_an_unknown_target_is_refused_before_any_is_run():
    found = subprocess.run(
        [ROOT / ".ci" / "run", "lint", "relaese"], capture_output=True, text=True, check=False
    )
    assert found.returncode == 2
    assert "relaese" in found.stderr
    assert "release" in found.stderr
    assert not found.stdout


@checkout
def test_workflows_call_the_targets():
    """On every version of Python that is supported, the lowest and the newest dependencies."""
    jobs = workflow("ci.yml")["jobs"]
    lines = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    called = {word for line in lines for word in line.split() if word.isalpha()}
    versions = jobs["versions"]["strategy"]["matrix"]["include"]
    assert called | {each["target"] for each in versions} >= BY_NAME | {
        *("fast", "lint", "types", "newest", "slow")
    }
    assert jobs["tests"]["strategy"]["matrix"]["python"] == ["3.11", "3.12", "3.13"]
    assert {each["python"] for each in versions if each["target"] == "lowest"} == {"3.11"}
    assert PROJECT["requires-python"] == ">=3.11"


@checkout
@pytest.mark.parametrize(("tag", "code"), [(f"v{ddpg_jax.__version__}", 0), ("v9.9.9", 1)])
def test_a_tag_is_published_without_a_token_if_it_is_the_version(tag, code):
    jobs = workflow("release.yml")["jobs"]
    check, release = [step["run"] for step in jobs["build"]["steps"] if "run" in step]
    found = subprocess.run(
        ["bash", "-c", check], cwd=ROOT, env=os.environ | {"GITHUB_REF_NAME": tag}, check=False
    )
    assert found.returncode == code
    assert release == ".ci/run release"
    assert jobs["publish"]["permissions"] == {"id-token": "write"}
    assert jobs["publish"]["needs"] == "build"
    assert "secrets" not in (ROOT / ".github" / "workflows" / "release.yml").read_text()


def image():
    """The instructions of the Dockerfile: ``[(word, rest)]``."""
    text = (ROOT / "benchmarks" / "cluster" / "Dockerfile").read_text()
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [tuple(line.split(" ", 1)) for line in lines]


def test_the_image_copies_what_is_there_and_installs_an_extra():
    copied = [name for word, rest in image() if word == "COPY" for name in rest.split()[:-1]]
    assert copied
    assert [name for name in copied if not (ROOT / name).exists()] == []
    (extra,) = [rest.split("=")[1] for word, rest in image() if word == "ARG"]
    assert extra in PROJECT["optional-dependencies"]
    (base,) = [rest for word, rest in image() if word == "FROM"]
    assert int(base.split(".")[1].split("-")[0]) >= 11


@pytest.mark.slow
def test_the_pip_lines_of_the_image_install_it(tmp_path):
    """In a fresh virtual environment, from what the image copies alone, with an extra without a
    GPU's gigabytes; of the image's own extra pip finds every package."""
    source = tmp_path / "src"
    for word, rest in image():
        if word == "COPY":
            *names, place = rest.split()
            for name in names:
                folder = source / place / ("" if (ROOT / name).is_file() else ".")
                folder.mkdir(parents=True, exist_ok=True)
                subprocess.run(
                    ["cp", "-r", f"{ROOT / name}{'/.' * (ROOT / name).is_dir()}", folder],
                    check=True,
                )
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    environment = os.environ | {"PATH": f"{tmp_path / 'venv' / 'bin'}:{os.environ['PATH']}"}
    environment.pop("PYTHONPATH", None)
    (own,) = [rest.split("=")[1] for word, rest in image() if word == "ARG"]
    lines = [rest for word, rest in image() if word == "RUN"]
    assert [line for line in lines if not line.startswith("pip install")] == []
    for line in lines:
        run = lambda text, extra: subprocess.run(
            ["bash", "-ec", text], cwd=source, env=environment | {"EXTRA": extra}, check=True
        )
        run(line, "gymnasium")
        run(line.replace("pip install", "pip install --dry-run"), own)
    (shown,) = [rest for word, rest in image() if word == "CMD"]
    subprocess.run(yaml.safe_load(shown), cwd=tmp_path, env=environment, check=True)
