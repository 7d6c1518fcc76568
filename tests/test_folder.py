"""The files of a run: who may write into its folder, and what is read of files that are damaged."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ddpg_jax.learner import Report
from ddpg_jax.rollout import Episodes
from ddpg_jax.runs import claim, folder, start
from ddpg_jax.runs.config import RunError, make_config
from ddpg_jax.runs.display import Display
from ddpg_jax.runs.folder import Clock, curve, metrics_row, read_metrics
from ddpg_jax.runs.log import Log, write_lines
from ddpg_jax.runs.statistics import plot
from ddpg_jax.runs.terminal import Tolerant

SMALL = make_config("pendulum", seeds=2, total_timesteps=300, learning_starts=100, steps_per_chunk=100)


def line(steps: int, returns: list | None = None, **others) -> dict:
    return {"env_steps": steps, "evaluation_return": [1.0, 2.0] if returns is None else returns, **others}


def lines_of(path: Path, *lines: bytes | dict) -> Path:
    """A run's folder with these lines in its ``metrics.jsonl``."""
    path.mkdir(exist_ok=True)
    data = [text if isinstance(text, bytes) else json.dumps(text).encode() for text in lines]
    (path / "metrics.jsonl").write_bytes(b"".join(text + b"\n" for text in data))
    (path / "config.json").write_text(json.dumps(SMALL.flat()))
    return path


# A folder is one run's


def test_a_folder_is_held_by_one(tmp_path):
    run = tmp_path / "of a user" / "run"
    with claim.claimed(run), pytest.raises(RunError, match=rf"in use by another run \(process {os.getpid()}\): wait for"):
        claim.claimed(run).__enter__()
    assert not (tmp_path / "of a user").exists(), "nothing was left in it"
    run.mkdir(parents=True)
    (run / "config.json").write_text("{}")
    with claim.claimed(run):
        pass
    assert os.listdir(run) == ["config.json"]


HOLD = """
import sys, time
from pathlib import Path
from ddpg_jax.runs.claim import claimed
with claimed(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.mark.skipif(os.name == "nt", reason="POSIX locks")
def test_a_kill_lets_go_of_the_folder(tmp_path):
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(RunError, match=rf"process {other.pid}"), claim.claimed(tmp_path):
            pass
        other.kill()
    assert (tmp_path / claim.LOCK).exists(), "as a kill leaves it"
    with claim.claimed(tmp_path):
        pass
    assert not os.listdir(tmp_path)


def test_a_new_folder_is_nobodys(tmp_path):
    name = tmp_path / "runs" / "pendulum"
    made = [claim.make_new(name) for _ in range(3)]
    assert [path.name for path, _ in made] == ["pendulum", "pendulum-2", "pendulum-3"]
    for _, folders in reversed(made):
        claim.remove_empty(folders)
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("place", ["file", "file/run", "/dev/null/x", "x" * 300, "new/" + "x" * 300])
def test_no_place_for_a_folder(tmp_path, place):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(RunError, match=r"^the run folder .* cannot be made \(.+\): choose another --run-dir\.$"):
        claim.claimed(tmp_path / place).__enter__()
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("name", ["config.json", "metrics.jsonl", "summary.json", "curve.png", "checkpoints"])
def test_what_is_in_the_way_of_a_file(tmp_path, name):
    if name == "checkpoints":
        (tmp_path / name).write_text("mine")
    else:
        (tmp_path / name).mkdir()
    with pytest.raises(RunError, match=rf"{name} is .*in the way of .*choose another --run-dir"):
        start.check_folder(SMALL, tmp_path, False)


# metrics.jsonl

DAMAGED = [
    b'{"env_steps": 200, "evaluation_re',
    b"5",
    b"null",
    b"[]",
    b"{}",
    b'"text"',
    b'{"evaluation_return": null}',
    b'{"env_steps": 200}',
    b'{"env_steps": "200", "evaluation_return": null}',
    b'{"env_steps": 2.5, "evaluation_return": null}',
    b'{"env_steps": true, "evaluation_return": null}',
    b'{"env_steps": -1, "evaluation_return": null}',
    b'{"env_steps": 1' + b"0" * 30 + b', "evaluation_return": null}',
    b'{"env_steps": 1' + b"0" * 5000 + b', "evaluation_return": null}',
    b'{"env_steps": 200, "evaluation_return": 5}',
    b'{"env_steps": 200, "evaluation_return": []}',
    b'{"env_steps": 200, "evaluation_return": ["a", 1]}',
    b'{"env_steps": 200, "evaluation_return": [NaN, 1]}',
    b'{"env_steps": 200, "evaluation_return": [[1], 2]}',
    b'{"env_steps": 200, "evaluation_return": [1' + b"0" * 400 + b"]}",
    b"\xff\xfe\x00\x01",
    b"\x00" * 50,
    b"[" * 100_000,
]


@pytest.mark.parametrize("damage", DAMAGED, ids=lambda line: str(line[:48]))
def test_a_damaged_line_costs_itself_alone(tmp_path, damage):
    good, said = [line(100), line(300)], []
    run = lines_of(tmp_path / "run", good[0], damage, good[1])
    assert read_metrics(run, said.append) == good
    assert said == [f"{run / 'metrics.jsonl'}: 1 of 3 lines are damaged and are passed over."]
    steps, values = curve(run)
    assert (steps.tolist(), values.tolist()) == ([100, 300], [[1.0, 2.0], [1.0, 2.0]])


def test_a_last_line_cut_short_is_no_damage(tmp_path):
    run, said = lines_of(tmp_path / "run", line(100)), []
    with (run / "metrics.jsonl").open("ab") as file:
        file.write(json.dumps(line(200)).encode()[:-9])
    assert read_metrics(run, said.append) == [line(100)]
    assert not said


def test_lines_are_in_the_order_of_steps_each_once(tmp_path):
    run = lines_of(tmp_path / "run", line(300), line(100, [5, 5]), line(200), line(100, [7, 7]))
    assert [(row["env_steps"], row["evaluation_return"]) for row in read_metrics(run)] == [
        (100, [7, 7]),
        (200, [1, 2]),
        (300, [1, 2]),
    ]


def test_pictures_of_damaged_lines(tmp_path):
    """Repeated, unordered, of other numbers of seeds, not UTF-8: what is left is drawn."""
    run = lines_of(tmp_path / "run", line(300), *DAMAGED, line(100), line(100), line(200, [1.0]))
    assert curve(run)[0].tolist() == [100, 300]
    plot([run, run], tmp_path / "curve.png")
    with pytest.raises(ValueError, match="none of these runs holds an evaluation yet"):
        plot([lines_of(tmp_path / "other", *DAMAGED)], tmp_path / "none.png")


# One member without an episode


def report(counts: list[float]) -> Report:
    counts = np.array(counts, np.float32)
    episodes = Episodes(count=counts, return_sum=-10 * counts, length_sum=5 * counts, broken=0 * counts)
    return Report(episodes=episodes, metrics={"critic_loss": np.ones(2)}, first_bad_step={}, finite={})


def row_of(counts: list[float]) -> dict:
    clock = Clock()
    clock.add(1.0)
    return metrics_row(SMALL, report(counts), 1, clock, None)


@pytest.mark.parametrize(
    ("counts", "returns", "mean"), [([2, 0], [-10.0, None], -10.0), ([0, 0], [None, None], None), ([1, 3], [-10.0, -10.0], -10.0)]
)
def test_a_member_without_an_episode_is_null_alone(tmp_path, capsys, counts, returns, mean):
    row = json.loads(json.dumps(row_of(counts)))
    assert row["episode_return"] == returns
    assert row["episode_length"] == [5.0 if value else None for value in returns]
    run = lines_of(tmp_path / "run", row, row | {"env_steps": 300, "evaluation_return": [1.0, 3.0]})
    plot([run], tmp_path / "curve.png")
    Display(SMALL, run).show(row)
    assert f"return {'-' if mean is None else mean}" in capsys.readouterr().out
    log = Log(run)
    log.anew(read_metrics(run))
    log.close()
    assert folder.mean(row["episode_return"]) == mean


# Where nothing can be written


class Full:
    """A file on a full disk."""

    def __init__(self, *_, **__):
        pass

    def write(self, text):
        raise OSError(errno.ENOSPC, "No space left on device")

    def flush(self):
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


def test_a_line_that_finds_no_space_is_a_sentence(tmp_path, monkeypatch):
    log = Log(tmp_path)
    monkeypatch.setattr(Path, "open", Full)
    with pytest.raises(RunError, match=r"metrics\.jsonl could not be written \(No space left on device\): \d+ bytes are needed"):
        log.add(line(100))
    log.close()


def test_replacing_lines_is_atomic(tmp_path, monkeypatch):
    run = lines_of(tmp_path / "run", line(100))

    def full(self, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(RunError, match=r"metrics\.jsonl could not be written \(No space left on device\)"):
        write_lines(run, [])
    assert read_metrics(run) == [line(100)]
    assert sorted(os.listdir(run)) == ["config.json", "metrics.jsonl"]


def test_nobody_reads_the_display(monkeypatch):
    """A full disk or a closed pipe under standard output: training is not told."""
    monkeypatch.setattr(sys, "stdout", Full())
    with Display(SMALL, Path("run")) as shown:
        shown.show(row_of([1, 1]))
    stream = Tolerant(Full())
    assert (stream.write("text"), stream.flush()) == (0, None)
