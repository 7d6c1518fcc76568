"""A run's folder and its ``metrics.jsonl``: what is written of each chunk, and what can be read of
a file that was damaged."""

import dataclasses
import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest

from ddpg_jax import reporting
from ddpg_jax.runs.config.run_config import make_config
from ddpg_jax.runs.folder import lock, output_path
from ddpg_jax.runs.folder.files import write_json
from ddpg_jax.runs.folder.metrics import (
    Clock,
    mean_over_members,
    metrics_row,
    read_curve,
    read_metrics,
)
from ddpg_jax.runs.folder.metrics_log import MetricsLog, write_metrics
from ddpg_jax.runs.options.validation import RunError
from ddpg_jax.runs.results import plots
from ddpg_jax.runs.training import startup
from ddpg_jax.runs.training.progress import Display


def row(steps, returns=None, **more):
    return {"env_steps": steps, "evaluation_return": returns, **more}


def written(folder, *lines: bytes):
    (folder / "metrics.jsonl").write_bytes(b"\n".join(lines))
    return folder


GOOD = [json.dumps(row(steps, [float(-steps)])).encode() for steps in (10, 20, 30)]


def test_a_seed_without_an_episode_hides_no_other(tmp_path, capsys):
    """Three members of 4 chunks of 100 steps: two episodes of returns 3 and 5, none, one of 7."""
    config = make_config(
        "pendulum", total_timesteps=1_400, learning_starts=1_000, steps_per_chunk=100, seeds=3
    )
    episodes = reporting.Episodes(
        count=np.float32([2, 0, 1]),
        return_sum=np.float32([8, 0, 7]),
        length_sum=np.float32([30, 0, 9]),
        broken=np.float32([0, 1, 0]),
    )
    report = reporting.Report(episodes=episodes, metrics={}, first_bad_step={}, finite={})
    clock = Clock()
    clock.add(2.0)
    found = metrics_row(config, report, 1_100, 100, clock, None)
    assert found["episode_return"] == [4.0, None, 7.0]
    assert found["episode_length"] == [15.0, None, 9.0]
    assert found["broken_episodes"] == [0.0, 1.0, 0.0]
    assert mean_over_members(found["episode_return"]) == 5.5
    text = json.dumps(found, allow_nan=False)
    assert read_metrics(written(tmp_path, text.encode(), b"")) == [json.loads(text)]
    nobody = dataclasses.replace(report, episodes=reporting.Episodes(*np.zeros((4, 3), np.float32)))
    assert metrics_row(config, nobody, 1_100, 100, clock, None)["episode_return"] == [None] * 3
    assert mean_over_members([None] * 3) is None
    with Display(config, tmp_path) as shown:
        shown.show(found)
        shown.show(metrics_row(config, nobody, 1_400, 100, clock, None))
    said = capsys.readouterr().out.splitlines()
    assert ["training return 5.5" in said[1], "return" in said[2]] == [True, False]


@pytest.mark.parametrize(
    "damage",
    [
        b"5",
        b"null",
        b"[]",
        b'"text"',
        b"{}",
        b'{"env_steps": 15}',
        b'{"evaluation_return": [1.0]}',
        b'{"env_steps": "15", "evaluation_return": [1.0]}',
        b'{"env_steps": -15, "evaluation_return": [1.0]}',
        b'{"env_steps": true, "evaluation_return": [1.0]}',
        b'{"env_steps": 1e999, "evaluation_return": [1.0]}',
        b'{"env_steps": 15, "evaluation_return": 1.0}',
        b'{"env_steps": 15, "evaluation_return": []}',
        b'{"env_steps": 15, "evaluation_return": [null, "1.0"]}',
        b'{"env_steps": 15, "evaluation_return": [NaN]}',
        b'{"env_steps": 15, "evaluation_return": [[1.0]]}',
        b'{"env_steps": 15, "evaluation_return": [1' + b"0" * 400 + b"]}",  # no float is as large
        b'{"env_steps": 1' + b"0" * 5_000 + b', "evaluation_return": [1.0]}',
        b'{"env_steps": 15.5, "evaluation_return": [1.0]}',
        b'{"env_steps": 15, "evalu',
        b"\xff\xfe\x00",
        b"[" * 100_000,
        b"\x00" * 50,
    ],
)
def test_a_damaged_line_hides_no_good_one(tmp_path, damage):
    said: list[str] = []
    found = read_metrics(written(tmp_path, GOOD[0], damage, GOOD[1], GOOD[2], b""), said.append)
    assert [line["env_steps"] for line in found] == [10, 20, 30]
    assert said == [f"{tmp_path / 'metrics.jsonl'}: 1 of 4 lines are damaged and are ignored."]
    steps, returns = read_curve(tmp_path)
    assert steps.tolist() == [10, 20, 30]
    assert returns.tolist() == [[-10.0], [-20.0], [-30.0]]


def test_the_largest_float_is_a_return(tmp_path):
    line = b'{"env_steps": 15, "evaluation_return": [1.7976931348623157e308]}'
    assert read_curve(written(tmp_path, line, b""))[1].tolist() == [[1.7976931348623157e308]]


def test_a_last_line_that_a_kill_cut_is_no_damage(tmp_path):
    said: list[str] = []
    assert len(read_metrics(written(tmp_path, *GOOD, GOOD[0][:-3]), said.append)) == 3
    assert len(read_metrics(written(tmp_path, *GOOD), said.append)) == 3, "a last line needs no end"
    assert not said
    assert read_metrics(tmp_path / "nowhere") == []


def test_steps_that_come_again_and_out_of_order(tmp_path):
    """The last of each counts; lines of another number of seeds are left out of the curve."""
    again = json.dumps(row(20, [5.0])).encode()
    other = json.dumps(row(40, [5.0, 6.0])).encode()
    unevaluated = json.dumps(row(25)).encode()
    folder = written(tmp_path, GOOD[2], GOOD[1], other, again, unevaluated, GOOD[0], b"")
    assert [line["env_steps"] for line in read_metrics(folder)] == [10, 20, 25, 30, 40]
    steps, returns = read_curve(folder)
    assert steps.tolist() == [10, 20, 30]
    assert returns.tolist() == [[-10.0], [5.0], [-30.0]]
    write_json(
        folder / "config.json", {"env": "pendulum", "preset": "default", "seed": 0, "seeds": 1}
    )
    plots.plot([folder], folder / "curve.png")
    assert (folder / "curve.png").stat().st_size > 1_000


# Where nothing can be written


@pytest.mark.parametrize(
    "place",
    ["file", "file/run", "/dev/null/x", "x" * 300, "new/" + "x" * 300, "new/" + "x" * 300 + "/y"],
)
def test_a_folder_that_cannot_be_made_leaves_nothing(tmp_path, place):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(
        RunError, match=r"^the run folder .* cannot be made \(.+\): choose another --run-dir\.$"
    ):
        lock.locked_folder(tmp_path / place).__enter__()
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize(
    "name", ["config.json", "metrics.jsonl", "summary.json", "curve.png", "checkpoints"]
)
def test_what_is_in_the_way_of_a_file(tmp_path, name, resume):
    if name == "checkpoints":
        (tmp_path / name).write_text("mine")
    else:
        (tmp_path / name).mkdir()
    config = make_config("pendulum", total_timesteps=1_400, steps_per_chunk=100)
    with pytest.raises(RunError, match=rf"{name} is a f.*: choose another --run-dir"):
        startup.check_folder(config, tmp_path, resume)


def full(*arguments, **options):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_line_that_finds_no_space(tmp_path, monkeypatch):
    log = MetricsLog(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", full)
        with pytest.raises(
            RunError,
            match=r"metrics\.jsonl could not be written \(No space left on device\): \d+ bytes are",
        ):
            log.add(row(10))
    log.close()
    write_metrics(tmp_path, [row(10)])
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(
        RunError, match=r"metrics\.jsonl could not be written \(No space left on device\)"
    ):
        write_metrics(tmp_path, [])
    assert read_metrics(tmp_path) == [row(10)], "replaced as a whole or not at all"
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has it")
def test_a_device_is_not_replaced_by_a_file():
    with pytest.raises(
        ValueError,
        match="/dev/full is not an ordinary file",
    ):
        output_path.require_writable(Path("/dev/full"))
    assert Path("/dev/full").is_char_device()
