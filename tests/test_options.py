"""An option is declared once: what is made from its declaration, and that one line is enough."""

import dataclasses
import json
import math
import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import ddpg_jax
from ddpg_jax.runs.config.run_config import make_config
from ddpg_jax.runs.config.stored import FREE, PLACEMENT, resumed_config
from ddpg_jax.runs.options import field
from ddpg_jax.runs.options.launch_options import LaunchOptions
from ddpg_jax.runs.options.run_options import EnvironmentOptions, RunOptions
from ddpg_jax.runs.options.sweep_options import EvolveOptions, SweepOptions
from ddpg_jax.runs.presets import PRESETS

ROOT = Path(ddpg_jax.__file__).parent
DOCS = ROOT.parent / "docs"
RECORDS = [RunOptions, EnvironmentOptions, LaunchOptions, SweepOptions, EvolveOptions]
RECORDS += list(dict.fromkeys(type(preset.hyperparameters) for preset in PRESETS.values()))


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.__name__)
def test_every_field_is_declared(record):
    declared = field.options_of(record)
    assert set(declared) == {each.name for each in dataclasses.fields(record)}
    for name, option in declared.items():
        assert option.help.endswith(".") or ";" in option.help, name
        assert option.group, name


@pytest.mark.parametrize("preset", PRESETS.values(), ids=lambda preset: preset.name)
def test_a_value_below_its_range_is_refused(preset):
    env = "lane" if preset.name == "drive" else "pendulum"
    for name, option in field.options_of(type(preset.hyperparameters)).items():
        if option.low == -math.inf and not option.positive:
            continue
        value = 0 if option.positive else option.low - 1
        with pytest.raises(ValueError, match=f"^{name}={option.kind(value)}: must be") as refusal:
            make_config(env, preset.name, **{name: value})
        assert "\n" not in str(refusal.value)


def test_the_page_of_options_is_the_declared_one():
    assert (DOCS / "options.md").read_text() == runpy.run_path(str(DOCS / "make_options.py"))[
        "page"
    ](), "write it: python docs/make_options.py"


def test_what_a_resumed_run_may_change_is_what_its_fields_declare(tmp_path):
    config = make_config("pendulum", total_timesteps=2_000, learning_starts=200)
    (tmp_path / "config.json").write_text(json.dumps(config.flat()))
    assert {"keep", "evaluate_every", "total_timesteps"} <= set(FREE)
    assert set(PLACEMENT) == {"devices", "mesh"}
    assert resumed_config(tmp_path, {"keep": 7}).keep == 7
    for fixed in ({"seed": 5}, {"tau": 0.1}):
        with pytest.raises(
            ValueError, match=rf"{min(fixed)} \(run: .*, given: {fixed[min(fixed)]}"
        ):
            resumed_config(tmp_path, fixed)


# One line each, in a copy of the package: a run option that may change, one that may not, and a
# hyper-parameter.
ADDED = (
    (
        "options/run_options.py",
        "    keep: int = option(",
        '    laps: int = option(3, "Laps.", group="run", low=1, high=9, resume="free")\n'
        '    lanes: int = option(2, "Lanes.", group="run", low=1, high=4)\n',
    ),
    (
        "options/hyperparameters.py",
        "    tau: float = option(",
        '    zeal: float = option(0.5, "How eager.", group="targets", low=0, high=1)\n',
    ),
)
SCRIPT = """
import sys
from pathlib import Path
from click.testing import CliRunner
import ddpg_jax
from ddpg_jax.runs.cli import commands
import runpy
page = runpy.run_path(sys.argv[2])["page"]()
from ddpg_jax.runs.config.run_config import make_config
from ddpg_jax.runs.config.stored import resumed_config
assert ddpg_jax.__file__.startswith(sys.argv[1])
invoke = lambda *words: CliRunner().invoke(commands.main, words)
text = " ".join(invoke("train", "--help-all").stdout.split())
assert "--laps INTEGER Laps. [1 to 9; default: 3]" in text, text
assert "--zeal FLOAT How eager. [0 to 1; default: 0.5]" in text, text
assert "--lanes" not in invoke("train", "--help").stdout
assert "| `zeal` | float | 0 to 1 |" in page
assert "| `laps` | int | 1 to 9 | 3 | free | Laps. |" in page
sizes = {"total_timesteps": 2_000, "learning_starts": 200}
config = make_config("pendulum", laps=4, zeal=0.25, **sizes)
assert (config.flat()["laps"], config.flat()["zeal"]) == (4, 0.25)
folder = Path(sys.argv[1]) / "run"
folder.mkdir()
import json
(folder / "config.json").write_text(json.dumps(config.flat()))
assert resumed_config(folder, {"laps": 5}).laps == 5
for name, value in (("lanes", 3), ("zeal", 0.75)):
    done = invoke("train", "--resume", "--run-dir", str(folder), f"--{name}", str(value))
    assert done.exit_code == 2 and f"{name} (run: " in done.stderr, done.stderr
for name, value in (("laps", 10), ("zeal", 1.5)):
    done = invoke("train", f"--{name}", str(value), "--dry-run")
    assert done.exit_code == 2 and f"{name}={value}: must be between" in done.stderr, done.stderr
"""


def test_an_option_is_added_by_one_line(tmp_path):
    shutil.copytree(ROOT, tmp_path / "ddpg_jax", ignore=shutil.ignore_patterns("__pycache__"))
    for file, before, text in ADDED:
        path = tmp_path / "ddpg_jax" / "runs" / file
        old = path.read_text()
        assert old.count(before) == 1, (file, before)
        path.write_text(old.replace(before, text + before))
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path), str(DOCS / "make_options.py")],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
