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
import types
from pathlib import Path

import jax
import numpy as np
import pytest

from ddpg_jax.runs.console.signals import Interrupted
from ddpg_jax.runs.distributed import processes
from ddpg_jax.runs.distributed.processes import ProcessFlags
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
    "1100",
]
LEARNS += ["--replay-capacity", "12000", "--checkpoint-every", "1"]


def test_each_process_hears_of_all(monkeypatch):
    from jax.experimental import multihost_utils

    monkeypatch.setattr(processes, "process_count", lambda: 2)
    monkeypatch.setattr(multihost_utils, "process_allgather", lambda value: np.array([value, 9]))
    assert processes.gather(7) == [7, 9]
    assert processes.from_first(True) == 1


@pytest.mark.parametrize("number", [0, 1])
def test_the_first_process_is_number_0(monkeypatch, number):
    monkeypatch.setattr(jax.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(jax, "process_index", lambda: number)
    assert processes.is_first() == (number == 0)


def test_one_process_needs_nothing(monkeypatch):
    for name in (
        "SLURM_JOB_ID",
        "OMPI_COMM_WORLD_SIZE",
        "JOB_COMPLETION_INDEX",
        "JAX_COORDINATOR_ADDRESS",
    ):
        monkeypatch.delenv(name, raising=False)
    processes.initialize(ProcessFlags(), None)
    processes.initialize(ProcessFlags(num_processes=1), None)
    assert (processes.process_count(), processes.is_first()) == (1, True)
    assert processes.gather(7) == [7]
    processes.barrier("nobody else")
    assert [processes.from_first(value) for value in (True, False, 7)] == [1, 0, 7]
    processes.require_same_options({"a": 1})
    with processes.end_together(), processes.output_folder(Path("runs/mine")) as folder:
        assert folder == Path("runs/mine")
    asked = [15]
    shared, exchange = processes.share_signals(asked)
    exchange()
    assert shared is asked


@pytest.mark.parametrize(
    ("asked", "run_dir", "sentence"),
    [
        (
            ProcessFlags("here:1"),
            Path("x"),
            "--num-processes, --process-id missing: each process needs --coordinator",
        ),
        (ProcessFlags(process_id=1), Path("x"), "--coordinator, --num-processes missing"),
        (
            ProcessFlags("here", 2, 0),
            Path("x"),
            "--coordinator here: give HOST:PORT, with a free port",
        ),
        (
            ProcessFlags("here:1", 2, 0),
            None,
            "several processes train one run: give each the same --run-dir",
        ),
        (
            ProcessFlags("127.0.0.1:1", 2, 5),
            Path("x"),
            "the processes of this run do not find each other",
        ),
    ],
)
def test_what_is_missing_is_named(asked, run_dir, sentence):
    with pytest.raises(RunError) as caught:
        processes.initialize(asked, run_dir)
    assert sentence in str(caught.value)


def test_a_cluster_is_one_of_several_processes(monkeypatch):
    for name in list(os.environ):
        if name.startswith(("SLURM_", "OMPI_", "KUBERNETES_", "JOB_")):
            monkeypatch.delenv(name)
    assert not processes._in_cluster()
    step = {"JOB_ID": "7", "STEP_NODELIST": "n[1-2]", "PROCID": "0", "LOCALID": "0"}
    for name, value in step.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    monkeypatch.setenv("SLURM_NTASKS", "1")
    assert not processes._in_cluster()
    monkeypatch.setenv("SLURM_NTASKS", "2")
    assert processes._in_cluster()
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "1")  # an interactive step of a larger job
    assert not processes._in_cluster()
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "")
    assert processes._in_cluster()
    monkeypatch.delenv("SLURM_STEP_NODELIST")  # a batch script, outside of srun
    assert not processes._in_cluster()


def test_empty_variables_are_no_cluster(monkeypatch):
    for name in [*os.environ]:
        if name.startswith(("SLURM_", "OMPI_", "KUBERNETES_", "JOB_")):
            monkeypatch.delenv(name)
    for name in ("SLURM_NTASKS", "JAX_COORDINATOR_ADDRESS", "OMPI_MCA_orte_hnp_uri"):
        monkeypatch.setenv(name, "")
    assert not processes._in_cluster()


def test_a_folder_that_is_not_shared_is_refused(monkeypatch, tmp_path):
    """Of two processes the second looks into a folder of its own."""
    monkeypatch.setattr(processes, "process_count", lambda: 2)
    monkeypatch.setattr(processes, "SHARED_SECONDS", 0.0)
    monkeypatch.setattr(processes, "barrier", lambda name: None)
    monkeypatch.setattr(processes, "from_first", lambda value: value)
    second: list[int] = []
    monkeypatch.setattr(processes, "gather", lambda value: [value, *second])
    second[:] = [1]
    processes.require_shared(tmp_path)
    assert not list(tmp_path.iterdir())
    second[:] = [0]
    with pytest.raises(RunError, match=r"process 1 does not find in .* what process 0 writes"):
        processes.require_shared(tmp_path)
    assert not list(tmp_path.iterdir())


def test_processes_with_different_options_are_refused(monkeypatch):
    sent: list[int] = []
    monkeypatch.setattr(processes, "gather", lambda value: sent.append(value) or sent)
    processes.require_same_options({"seed": 1, "env": "pendulum"})
    processes.require_same_options({"env": "pendulum", "seed": 1})
    with pytest.raises(RunError, match="different options: start all of them by the same command"):
        processes.require_same_options({"seed": 2, "env": "pendulum"})


@pytest.mark.parametrize(
    ("variables", "several"),
    [
        ({"OMPI_MCA_orte_hnp_uri": "x", "OMPI_COMM_WORLD_SIZE": "2"}, True),
        ({"OMPI_MCA_ess_base_jobid": "x", "OMPI_COMM_WORLD_SIZE": "2"}, True),
        ({"OMPI_MCA_ess_base_jobid": "x", "OMPI_COMM_WORLD_SIZE": "1"}, False),
        ({"OMPI_COMM_WORLD_SIZE": "2"}, False),
        ({"KUBERNETES_SERVICE_HOST": "x", "JOB_COMPLETION_INDEX": "0"}, True),
        ({"KUBERNETES_SERVICE_HOST": "x"}, False),
        ({"JOB_COMPLETION_INDEX": "0"}, False),
        ({"JAX_COORDINATOR_ADDRESS": "a:1"}, True),
    ],
)
def test_clusters_that_jax_detects(monkeypatch, variables, several):
    for name in [*os.environ]:
        if name.startswith(("SLURM_", "OMPI_", "KUBERNETES_", "JOB_", "JAX_COORD")):
            monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert processes._in_cluster() == several
    asked = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda *a, **k: asked.append((a, k)))
    processes.initialize(ProcessFlags(), Path("run"))
    processes.initialize(ProcessFlags("a:1", 2, 0), Path("run"))
    processes.initialize(ProcessFlags("a:1", 1, 0), Path("run"))
    seconds = {"heartbeat_timeout_seconds": 30, "shutdown_timeout_seconds": 30}
    detected = ((None,) * 3, seconds | {"cluster_detection_method": None})
    given = (("a:1", 2, 0), seconds | {"cluster_detection_method": "deactivate"})
    assert asked == [*[detected] * several, given]


def test_a_signal_to_any_process_is_one_to_all(monkeypatch):
    """The first of the first one that has one, from then on."""
    sent, answers = [], [[0, 0], [0, 15], [2, 15]]
    monkeypatch.setattr(processes, "process_count", lambda: 2)
    monkeypatch.setattr(processes, "gather", lambda value: sent.append(value) or answers.pop(0))
    received = []
    shared, exchange = processes.share_signals(received)
    exchange()
    assert shared == []
    exchange()
    assert shared == [15]
    received += [2, 15]
    exchange()
    assert shared == [15]
    assert sent == [0, 0, 2]


def test_another_process_writes_into_a_folder_that_goes(monkeypatch):
    monkeypatch.setattr(processes, "is_first", lambda: False)
    with processes.output_folder(Path("runs/mine")) as folder:
        assert folder.is_dir()
        assert folder.name.startswith("ddpg_jax-")
    assert not folder.exists()


@pytest.mark.parametrize(
    ("raised", "told", "barriers", "left"),
    [
        (None, None, ["the run has ended"], 0),
        (Interrupted("stop", 15), Interrupted, ["the run was stopped"], 0),
        (RuntimeError("Gloo\n x " + "y" * 300), RunError, [], 1),
        (RuntimeError("of mine"), RuntimeError, [], 1),
        (KeyboardInterrupt("Gloo"), KeyboardInterrupt, [], 1),
    ],
)
def test_processes_end_together(monkeypatch, raised, told, barriers, left):
    """They wait for each other at the end and where all were stopped; where one fails it leaves."""
    met, handlers, leaving = [], [], []
    library = types.SimpleNamespace(signal=lambda number, handler: handlers.append(handler))
    monkeypatch.setattr(processes, "process_count", lambda: 2)
    monkeypatch.setattr(processes, "barrier", met.append)
    monkeypatch.setattr(processes.ctypes, "CDLL", lambda name: library)
    monkeypatch.setattr(processes.atexit, "register", leaving.append)

    def work():
        with processes.end_together():
            if raised is not None:
                raise raised

    if told is None:
        work()
    else:
        with pytest.raises(told) as caught:
            work()
        assert (caught.value is raised) == (told is not RunError)
    assert met == barriers
    assert handlers == [processes._on_abort, *[None] * len(barriers)]
    assert leaving == [processes._leave] * left
    if told is RunError:
        assert str(caught.value) == f"{processes.LOST} (Gloo x {'y' * 193})"


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


WAITING = """
import sys, time
from pathlib import Path
from ddpg_jax.runs.distributed import processes
flags = processes.ProcessFlags(f"127.0.0.1:{sys.argv[1]}", 2, int(sys.argv[2]))
processes.initialize(flags, Path("run"))
with processes.end_together():
    processes.barrier("both are here")
    print("ready", flush=True)
    while sys.argv[3] == "together":
        processes.barrier("again and again")
    time.sleep(600)
"""


@pytest.mark.parametrize(
    ("victim", "doing"),
    [
        (0, "together"),
        (0, "alone"),
        (1, "together"),
        pytest.param(1, "alone", marks=pytest.mark.slow),
    ],
)
def test_where_one_process_dies_the_other_says_so_and_ends(victim, doing):
    """In a collective and outside of one; where process 0 lives on it notices by itself after a
    time."""
    port, environment = str(free_port()), {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""}
    both = [
        subprocess.Popen(
            [sys.executable, "-c", WAITING, port, str(number), doing],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
        )
        for number in (0, 1)
    ]
    try:
        for one in both:
            assert any(line == "ready\n" for line in one.stdout)
        both[victim].kill()
        told, _ = both[1 - victim].communicate(timeout=60)
    finally:
        for one in both:
            one.kill()
            one.communicate()
    assert both[1 - victim].returncode == 1, told
    assert (
        "died or cannot be reached: this process ends too. Start all of them again with --resume"
        in told
    )


def pair(arguments, log):
    """Both processes of a run, started."""
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": "", "PYTHONUNBUFFERED": "1"}
    flags = ["--coordinator", f"127.0.0.1:{free_port()}", "--num-processes", "2"]
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
    assert (
        "died or cannot be reached: this process ends too. Start all of them again with --resume"
        in told
    )
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
    """As at the end of a cluster's time: the checkpoint that they promise is there, and one process
    resumes from it."""
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
    assert (folder / "checkpoints" / steps).is_dir()
    more = ["--total-timesteps", str(int(steps) + 1_000), "--num-processes", "1"]
    alone = [
        sys.executable,
        "-m",
        "ddpg_jax.runs.cli.commands",
        "train",
        "--resume",
        "--run-dir",
        str(folder),
        *more,
    ]
    run = subprocess.run(
        alone,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert (
        "was trained on mesh=members=1,data=2 of 2 processes and is resumed on "
        "mesh=members=1,data=1. Agents and replay are restored" in run.stdout
    )
    assert f"resumed at {steps} steps." in run.stdout
