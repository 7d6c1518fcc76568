"""Several processes that train one run: what they are told, and that they end together and go on
together."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ddpg_jax.runs import hosts
from ddpg_jax.runs.folder.metrics import read_metrics
from ddpg_jax.runs.options.validation import RunError

LEARNS = [
    "pendulum",
    "--num-envs",
    "2",
    "--updates-per-step",
    "2",
    "--total-timesteps",
    "12000",
    "--evaluate-every",
    "2",
]
LEARNS += ["--replay-capacity", "12000", "--checkpoint-every", "1"]


def test_one_process_needs_nothing(monkeypatch):
    for name in (
        "SLURM_JOB_ID",
        "OMPI_COMM_WORLD_SIZE",
        "JOB_COMPLETION_INDEX",
        "JAX_COORDINATOR_ADDRESS",
    ):
        monkeypatch.delenv(name, raising=False)
    hosts.join(hosts.Asked(), None)
    hosts.join(hosts.Asked(num_processes=1), None)
    assert (hosts.count(), hosts.index(), hosts.is_first()) == (1, 0, True)
    assert hosts.gathered("a name", "a value") == ["a value"]
    hosts.wait("for nobody")
    assert [hosts.of_first("a question", answer) for answer in (True, False)] == [True, False]
    hosts.require_same({"a": 1})
    with hosts.own_folder(Path("runs/mine")) as folder:
        assert folder == Path("runs/mine")
    asked = [15]
    agreed, agree = hosts.agreeing(asked)
    agree()
    assert agreed is asked


@pytest.mark.parametrize(
    ("asked", "run_dir", "sentence"),
    [
        (
            hosts.Asked("here:1"),
            Path("x"),
            "--num-processes, --process-id missing: each process needs --coordinator HOST:PORT",
        ),
        (hosts.Asked(process_id=1), Path("x"), "--coordinator, --num-processes missing"),
        (hosts.Asked("here", 2, 0), Path("x"), "--coordinator here: give HOST:PORT"),
        (
            hosts.Asked("here:1", 2, 0),
            None,
            "several processes train one run: give each the same --run-dir",
        ),
        (
            hosts.Asked("127.0.0.1:1", 2, 5),
            Path("x"),
            "the processes of this run do not find each other",
        ),
    ],
)
def test_what_is_missing_is_named(asked, run_dir, sentence):
    with pytest.raises(RunError) as caught:
        hosts.join(asked, run_dir)
    assert sentence in str(caught.value)


def test_a_cluster_is_one_of_several_processes(monkeypatch):
    for name in list(os.environ):
        if name.startswith(("SLURM_", "OMPI_", "KUBERNETES_", "JOB_")):
            monkeypatch.delenv(name)
    assert not hosts._in_cluster()
    step = {"JOB_ID": "7", "STEP_NODELIST": "n[1-2]", "PROCID": "0", "LOCALID": "0"}
    for name, value in step.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    monkeypatch.setenv("SLURM_NTASKS", "1")
    assert not hosts._in_cluster()
    monkeypatch.setenv("SLURM_NTASKS", "2")
    assert hosts._in_cluster()
    monkeypatch.delenv("SLURM_STEP_NODELIST")  # a batch script, outside of srun
    assert not hosts._in_cluster()


def test_processes_with_different_options_are_refused(monkeypatch):
    monkeypatch.setattr(hosts, "gathered", lambda name, value: [value, value.replace("1", "2")])
    with pytest.raises(
        RunError,
        match="the processes were given different options: start all of them by the same command",
    ):
        hosts.require_same({"seed": 1})


def pair(arguments, log):
    """Both processes of a run, started."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": "", "PYTHONUNBUFFERED": "1"}
    flags = ["--coordinator", f"127.0.0.1:{port}", "--num-processes", "2"]
    with contextlib.ExitStack() as opened:
        return [
            subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "ddpg_jax.runs.cli.commands",
                    "train",
                    *arguments,
                    *flags,
                    "--process-id",
                    str(number),
                ],
                stdout=opened.enter_context((log / f"{number}.out").open("a")),
                stderr=subprocess.STDOUT,
                env=environment,
            )
            for number in (0, 1)
        ]


def until(condition, seconds):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it takes too long"
        time.sleep(0.2)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("victim", "more", "least"), [(1, (), -200), (0, ("--total-timesteps", "5000"), -2_000)]
)
def test_two_processes_train_and_go_on_after_one_died(tmp_path, victim, more, least):
    """The longer one learns the task."""
    folder, arguments = tmp_path / "run", [*LEARNS, "--run-dir", str(tmp_path / "run")]
    both = pair(arguments, tmp_path)
    until(
        lambda: any(one.poll() is not None for one in both) or len(read_metrics(folder)) >= 3, 300
    )
    assert [one.poll() for one in both] == [None, None], (tmp_path / "0.out").read_text() + (
        tmp_path / "1.out"
    ).read_text()
    both[victim].send_signal(signal.SIGKILL)
    both[victim].wait()
    begin = time.monotonic()
    assert both[1 - victim].wait(60) != 0
    took = time.monotonic() - begin
    told = (tmp_path / f"{1 - victim}.out").read_text()
    ours = r"process .* (reached|no sign of life|ended).*Start all of them again with --resume"
    assert re.search(ours if victim else "another task died", told, re.S), told
    print(f"after {took:.1f} s")
    both = pair(["--resume", "--run-dir", str(folder), *more], tmp_path)
    assert [one.wait(600) for one in both] == [0, 0], (tmp_path / "0.out").read_text() + (
        tmp_path / "1.out"
    ).read_text()
    said = (tmp_path / "0.out").read_text()
    assert "resumed at" in said
    final = float(re.search(r"final return: (-?[\d.]+)", said).group(1))
    assert final >= least


@pytest.mark.slow
def test_two_processes_stop_together_and_saved(tmp_path):
    """As at the end of a cluster's time: the checkpoint that they promise is there, in both
    parts."""
    folder = tmp_path / "run"
    both = pair([*LEARNS, "--checkpoint-every", "0", "--run-dir", str(folder)], tmp_path)
    until(
        lambda: any(one.poll() is not None for one in both) or len(read_metrics(folder)) >= 2, 300
    )
    both[1].send_signal(signal.SIGTERM)
    assert [one.wait(120) for one in both] == [143, 143], (tmp_path / "0.out").read_text() + (
        tmp_path / "1.out"
    ).read_text()
    (steps,) = re.findall(
        r"stopped by SIGTERM at (\d+) steps and saved", (tmp_path / "0.out").read_text()
    )
    assert all((folder / name / steps).is_dir() for name in ("checkpoints", "checkpoints.1"))
