"""Each measuring command runs at a tiny size and writes the figures it promises; the figures themselves mean nothing here."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import pytest

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(
    not (ROOT / "benchmarks").is_dir(), reason="the benchmarks are not here: this is not a checkout"
)


def call(script: str, *arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """The command as a user starts it, with the tests' cache of compiled programs."""
    quick = {
        # Half the seconds of compiling; how fast the programs are does not matter here.
        "XLA_FLAGS": os.environ.get("XLA_FLAGS", "") + " --xla_backend_optimization_level=0",
        "JAX_COMPILATION_CACHE_DIR": str(jax.config.jax_compilation_cache_dir),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
    }
    command = [sys.executable, str(ROOT / "benchmarks" / script), *arguments]
    return subprocess.run(command, cwd=cwd, env=os.environ | quick, capture_output=True, text=True)


def measure(tmp_path: Path, script: str, *arguments: str) -> dict[str, Any]:
    """What the command wrote."""
    out = tmp_path / "out.json"
    done = call(script, "--out", str(out), *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert str(out) in done.stdout
    result = json.loads(out.read_text())
    assert {"python", "ddpg_jax", "jax", "jaxlib"} <= set(result["versions"])
    assert "(cpu)" in result["device"]
    return result


def test_throughput(tmp_path: Path) -> None:
    sizes = {
        "num-envs": 4,
        "hidden": 8,
        "batch-size": 8,
        "updates-per-step": 2,
        "iterations": 3,
        "capacity": 20_001,
        "seeds": 2,
    }
    options = [text for name, value in sizes.items() for text in (f"--{name}", str(value))]
    result = measure(tmp_path, "throughput.py", "--env", "pendulum", "--repetitions", "2", *options)
    contestants = {"env", "update", "replay_small", "replay_same_rows", "replay", "loop"}
    assert set(result["compile_seconds"]) == set(result["seconds_per_iteration"]) == contestants
    middle = {}
    for name, values in result["seconds_per_iteration"].items():
        assert len(values["values"]) == 2
        assert 0 < values["min"] <= values["median"] <= values["max"]
        middle[name] = values["median"]
    parts = middle["env"] + middle["update"] + middle["replay"]
    assert result["ratios"]["loop_over_parts"] == pytest.approx(middle["loop"] / parts)
    assert result["ratios"]["replay_large_over_small_both_full"] == pytest.approx(middle["replay"] / middle["replay_small"])
    # 2 seeds of 4 environments and of 2 updates in each iteration.
    assert result["rates"]["loop_env_steps_per_second"] == pytest.approx(8 / middle["loop"])
    assert result["rates"]["loop_updates_per_second"] == pytest.approx(4 / middle["loop"])
    assert result["rates"]["env_only_env_steps_per_second"] == pytest.approx(8 / middle["env"])
    assert result["rates"]["update_only_updates_per_second"] == pytest.approx(4 / middle["update"])


def test_pendulum_lecture(tmp_path: Path) -> None:
    result = measure(tmp_path, "studies/pendulum_lecture.py", "--seeds", "2", "--episodes", "4")
    assert [len(scores) for scores in result["scores"]] == [4, 4]
    assert all(-2_000 < score < -100 for scores in result["scores"] for score in scores)
    assert result["last_trailing_mean"] == pytest.approx([sum(scores) / 4 for scores in result["scores"]], abs=0.01)
    assert result["episodes_until_solved"] == result["episodes_until_solved_strict"] == [None, None]
    assert result["reached"] == {"episodes_until_solved": 0, "episodes_until_solved_strict": 0}
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")


def test_pendulum_lecture_counts_episodes() -> None:
    """A score of -1000, then -100: the mean of n of them, -100 - 900 / n, first exceeds -300 at n = 5."""
    code = (
        "import sys; sys.path.insert(0, 'benchmarks/studies'); import numpy as np, pendulum_lecture as study\n"
        "scores = np.full((1, 150), -100.0); scores[0, 0] = -1000.0\n"
        "means = study.trailing_mean(scores)\n"
        "assert np.allclose(means[0, [0, 1, 99, 100]], [-1000, -550, -109, -100])\n"
        "print(study.crossing(means[0], 1), study.crossing(means[0], 100), study.crossing(means[0] - 1000, 1))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "5 100 None\n", done.stderr


def test_learning(tmp_path: Path) -> None:
    options = ["--seeds", "2", "--threshold=-2000", "--cache", "warm", "--random", "--episodes", "10"]
    small = ["--", "--total-timesteps", "200", "--learning-starts", "100", "--steps-per-chunk", "100"]
    result = measure(tmp_path, "studies/learning.py", "pendulum", *options, *small, "--evaluation-episodes", "100")
    assert [run["seed"] for run in result["seeds"]] == [0, 1]
    for run in result["seeds"]:
        assert 0 < run["train_seconds"] < run["wall_seconds"]
        assert run["env_steps"] == 200
        assert -2_000 < run["final_return"] < -100
    returns = [run["final_return"] for run in result["seeds"]]
    assert returns[0] != returns[1]
    assert result["final_return"]["mean"] == pytest.approx(sum(returns) / 2)
    assert result["final_return"]["std"] == pytest.approx(abs(returns[0] - returns[1]) / 2**0.5)
    assert result["wall_seconds"]["max"] == max(run["wall_seconds"] for run in result["seeds"])
    assert result["reached"] == 2
    assert result["random_policy"]["episodes"] == 10
    assert -1_700 < result["random_policy"]["mean"] < -800
    assert result["config"]["total_timesteps"] == 200


def test_learning_reports_a_run_that_fails(tmp_path: Path) -> None:
    done = call("studies/learning.py", "pendulum", "--seeds", "1", "--", "--preset", "defualt", cwd=tmp_path)
    assert done.returncode == 1
    assert "did you mean 'default'?" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(importlib.util.find_spec("sbx") is None, reason="SBX is not installed: pip install sbx-rl")
def test_sbx(tmp_path: Path) -> None:
    sizes = ("--steps", "3", "--capacity", "64", "--batch-size", "8", "--hidden", "8", "--repetitions", "2")
    result = measure(tmp_path, "peers/sbx.py", *sizes)
    assert set(result["updates_per_second"]) == {"sbx", "ddpg_jax"}
    rates = [result["updates_per_second"][name] for name in ("ddpg_jax", "sbx")]
    assert result["ratio_of_medians"] == pytest.approx(rates[0]["median"] / rates[1]["median"])
    assert result["pair_ratios"] == pytest.approx([a / b for a, b in zip(rates[0]["values"], rates[1]["values"], strict=True)])


@pytest.mark.skipif(importlib.util.find_spec("sbx") is not None, reason="SBX is installed")
def test_sbx_that_is_missing_is_one_sentence(tmp_path: Path) -> None:
    done = call("peers/sbx.py", cwd=tmp_path)
    assert done.returncode == 1
    assert "pip install sbx-rl" in done.stderr
    assert "Traceback" not in done.stderr
