"""Runs in a folder: what they write, that they compile once, and that stopping and resuming changes
no bit."""

import collections
import contextlib
import functools
import json
import os
import re
import signal
import subprocess
import sys
import time
import types
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import events
from matplotlib.image import imread

import ddpg_jax
from ddpg_jax import reporting, rollout
from ddpg_jax.environment import SingleEnvironment
from ddpg_jax.envs import batch
from ddpg_jax.envs.lane import held_out
from ddpg_jax.host import programs
from ddpg_jax.population import evolution
from ddpg_jax.runs.checkpoints import manifest, resharding
from ddpg_jax.runs.checkpoints.store import Checkpoints
from ddpg_jax.runs.config.run_config import Config, make_config
from ddpg_jax.runs.folder.metrics import read_curve, read_metrics
from ddpg_jax.runs.options.validation import RunError
from ddpg_jax.runs.programs import build, evaluation
from ddpg_jax.runs.results import policy
from ddpg_jax.runs.training import chunks, loop
from ddpg_jax.types import is_key

CHUNKS, STEPS, WARM_UP, SEED = 40, 100, 200, 3
TOTAL = WARM_UP + CHUNKS * STEPS
OPTIONS = {
    "total_timesteps": TOTAL,
    "learning_starts": WARM_UP,
    "steps_per_chunk": STEPS,
    "batch_size": 16,
    "evaluation_episodes": 5,
    "evaluate_every": STEPS,
    "checkpoint_every": 10 * STEPS,
    "seed": SEED,
}
TIME_LIMIT = 50
# Of a line of metrics.jsonl; the other fields are what the run computed.
TIMES = {"train_seconds", "env_steps_per_second", "updates_per_second"}
ONE = {"mesh": "members=1,data=1"}
"""The devices that a run settled on."""


def small(**options) -> Config:
    return make_config("pendulum", env_options={"time_limit": TIME_LIMIT}, **OPTIONS | options)


class Done(NamedTuple):
    """A run that ended: where, what it returned and told, and how often each program was compiled
    in it."""

    config: Config
    folder: Path
    summary: dict
    told: list[dict]
    compiled: collections.Counter


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """``finished(**options)``: the run with these options, trained once."""

    @functools.cache
    def get(**options) -> Done:
        config, told, said, compiled = small(**options), [], [], collections.Counter()

        def count(event: str, duration: float, **about) -> None:
            if (
                event == "/jax/core/compile/backend_compile_duration"
            ):  # also when the persistent cache answers
                compiled[about["fun_name"]] += 1

        folder = tmp_path_factory.mktemp("finished") / "run"
        jax.monitoring.register_event_duration_secs_listener(count)
        try:
            summary = loop.run(config, folder, on_chunk=told.append, say=said.append).summary
        finally:
            jax.monitoring.unregister_event_duration_listener(count)
        return Done(config, folder, summary, told, compiled)

    return get


@functools.cache
def shapes(seeds: int):
    return build.build(small(seeds=seeds)).state


def checkpoint_steps(folder: Path) -> list[int]:
    return sorted(
        int(path.name) for path in (folder / "checkpoints").iterdir() if path.name.isdigit()
    )


def restored(folder: Path, seeds: int = 1):
    """``(step, state)`` of the newest checkpoint; nothing may be damaged."""
    said: list[str] = []
    opened = Checkpoints(folder / "checkpoints")
    step, state, _ = opened.restore(shapes(seeds), said.append)
    opened.close()
    assert not said
    return step, state


def assert_same_state(folder: Path, expected: Path, seeds: int = 1):
    """The newest checkpoints of two runs are of one step and equal in every bit of every leaf."""
    (step, found), (expected_step, expected) = restored(folder, seeds), restored(expected, seeds)
    assert step == expected_step
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for (path, a), b in zip(
        jax.tree.leaves_with_path(found), jax.tree.leaves(expected), strict=True
    ):
        assert a.dtype == b.dtype
        a, b = (np.asarray(jax.random.key_data(x) if is_key(x) else x) for x in (a, b))
        assert a.tobytes() == b.tobytes(), (
            f"{jax.tree_util.keystr(path)} differs by up to {np.abs(a - b).max()}"
        )


def assert_same_metrics(folder: Path, expected: Path):
    """The same lines, but for the time they took; none twice, none missing."""
    found, expected = ([strip(row) for row in read_metrics(x)] for x in (folder, expected))
    assert [row["env_steps"] for row in found] == [row["env_steps"] for row in expected]
    assert found == expected


def strip(row: dict) -> dict:
    return {name: value for name, value in row.items() if name not in TIMES}


def flatten(value):
    return [x for item in value for x in flatten(item)] if isinstance(value, list) else [value]


# What a run writes


def test_folder_of_a_run(finished):
    done = finished()
    names = {path.name for path in done.folder.iterdir()}
    assert {"config.json", "metrics.jsonl", "checkpoints", "curve.png", "summary.json"} <= names
    assert not [name for name in names if name.endswith(".partial")]
    assert json.loads((done.folder / "config.json").read_text()) == done.config.flat() | ONE


@pytest.mark.parametrize("seeds", [1, 4])
def test_metrics_have_a_line_per_chunk(finished, seeds):
    done = finished(seeds=seeds)
    lines = (done.folder / "metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert rows == done.told, "the display is told each line"
    assert [row["env_steps"] for row in rows] == list(range(WARM_UP + STEPS, TOTAL + 1, STEPS))
    assert [row["updates"] for row in rows] == list(range(STEPS, CHUNKS * STEPS + 1, STEPS))
    for row in rows:
        assert {"critic_loss", "actor_loss", "episode_return", "evaluation_return"} <= set(row)
        assert all(len(value) == seeds for value in row.values() if isinstance(value, list))
        assert np.isfinite([x for value in row.values() for x in flatten(value)]).all()
        # Episodes of 50 steps, chunks of 100.
        assert row["episodes"] == [2.0] * seeds
        assert row["episode_length"] == [50.0] * seeds
    seconds = [row["train_seconds"] for row in rows]
    assert seconds == sorted(seconds)
    assert seconds[0] > 0


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """``{tag: [(step, value)]}`` of the TensorBoard events in a folder."""
    found = collections.defaultdict(list)
    for event in events(folder):
        for value in event.summary.value:
            found[value.tag].append((event.step, value.simple_value))
    return found


def test_tensorboard_shows_the_same_numbers(finished):
    done = finished()
    found = scalars(done.folder)
    for name in ("critic_loss", "evaluation_return", "episode_return", "updates_per_second"):
        expected = [(row["env_steps"], np.mean(row[name])) for row in done.told]
        np.testing.assert_allclose(found[name], expected, rtol=1e-6)


@pytest.mark.parametrize("seeds", [1, 4])
def test_curve_is_a_picture(finished, seeds):
    picture = imread(finished(seeds=seeds).folder / "curve.png")
    assert min(picture.shape[:2]) >= 200
    blue = picture[..., 2] > picture[..., 0] + 0.1
    assert blue.sum() > 300, "a line is to be seen"
    assert blue.any(axis=0).sum() > picture.shape[1] / 2, "it spans the axes"


@pytest.mark.parametrize("seeds", [1, 4])
def test_summary(finished, seeds):
    done = finished(seeds=seeds)
    summary = json.loads((done.folder / "summary.json").read_text())
    assert summary == json.loads(json.dumps(done.summary))
    assert len(summary["final_returns"]) == len(summary["final_return_std"]) == seeds
    assert (summary["env_steps"], summary["updates"]) == (TOTAL, CHUNKS * STEPS), "of each"
    last = done.told[-1]
    assert summary["train_seconds"] == last["train_seconds"]
    assert 0 < summary["compile_seconds"] < summary["wall_seconds"]
    assert summary["updates_per_second"] == pytest.approx(
        seeds * summary["updates"] / summary["train_seconds"]
    )
    assert summary["env_steps_per_second"] == summary["updates_per_second"], (
        "one update per step here"
    )
    assert summary["versions"]["jax"] == jax.__version__
    assert {"python", "ddpg_jax", "flax", "optax"} <= set(summary["versions"])
    assert jax.devices()[0].platform in summary["device"]
    assert summary["config"] == done.config.flat() | ONE


def test_summary_of_several_seeds_has_an_interval(finished):
    summary, single = finished(seeds=4).summary, finished().summary
    low, high = summary["interquartile_mean_interval"]
    # Of four, the middle two.
    assert summary["interquartile_mean"] == pytest.approx(
        np.mean(sorted(summary["final_returns"])[1:3])
    )
    assert low < summary["interquartile_mean"] < high
    assert len(set(summary["final_returns"])) == 4
    assert "interquartile_mean" not in single


@pytest.mark.parametrize("seeds", [1, 4])
def test_final_returns_are_of_100_fresh_episodes(finished, seeds):
    done = finished(seeds=seeds)
    compiled = build.compile_programs(build.build(done.config), done.config)
    agent_state = restored(done.folder, seeds)[1].agent
    returns = evaluation.final_returns(done.config, compiled, agent_state)
    assert returns.shape == (seeds, 100)
    np.testing.assert_allclose(done.summary["final_returns"], returns.mean(axis=1), rtol=1e-6)
    np.testing.assert_allclose(done.summary["final_return_std"], returns.std(axis=1), rtol=1e-6)
    keys = evaluation.evaluation_keys(done.config, evaluation.TRAINING_STREAM, TOTAL)
    during = np.asarray(compiled.evaluate(agent_state, keys, {})).reshape(seeds, -1)
    np.testing.assert_allclose(during.mean(axis=1), done.told[-1]["evaluation_return"], rtol=1e-6)
    for member in range(seeds):
        # Different starts may end in one float32: at most one pair in a hundred.
        assert len(set(returns[member])) >= 99, "a hundred different starts"
        assert len(set(returns[member]) & set(during[member].tolist())) <= 1, (
            "none that was seen while training"
        )


def test_the_newest_checkpoints_are_kept(finished):
    assert checkpoint_steps(finished().folder) == [TOTAL - 10 * STEPS, TOTAL]  # --keep 2 of four


def test_evaluation_draws_fresh_starts_each_time(finished):
    key = lambda steps: jax.random.key_data(
        evaluation.evaluation_keys(finished().config, evaluation.TRAINING_STREAM, steps)
    )
    assert not np.array_equal(key(300), key(400))


# What a run computes


@pytest.mark.parametrize("seeds", [1, 4])
def test_each_program_is_compiled_once(finished, seeds):
    """Counted by JAX's own event for each call of the compiler, by the name of the jitted
    function."""
    compiled = finished(seeds=seeds).compiled
    ours = {name for name in compiled if re.search(r"chunk|evaluate|start|lambda", name)}
    assert len(ours) == 3, f"start, chunk and evaluate, but found {compiled}"
    assert {"jit(chunk)", "jit(evaluate)"} < ours
    assert set(compiled.values()) == {1}, compiled


@pytest.mark.parametrize("member", range(4))
def test_member_of_many_is_the_single_run(finished, member):
    """Matrix products over a further axis add up in another order, and learning amplifies that: 2
    chunks are held to 1e-4."""
    many = finished(seeds=4).told[:2]
    single = finished(
        seed=SEED + member, total_timesteps=WARM_UP + 2 * STEPS, checkpoint_every=0
    ).told
    for row, expected in zip(many, single, strict=True):
        for name in ("episode_return", "critic_loss", "actor_loss", "value", "evaluation_return"):
            np.testing.assert_allclose(
                row[name][member], expected[name][0], rtol=1e-3, err_msg=name
            )
    others = [value for i, value in enumerate(many[0]["critic_loss"]) if i != member]
    assert not np.isclose(others, many[0]["critic_loss"][member], rtol=1e-3).any(), "members differ"


@pytest.mark.parametrize("seeds", [1, 4])
def test_evaluation_and_checkpoints_change_no_bit(finished, seeds):
    watched, quiet = (
        finished(seeds=seeds),
        finished(seeds=seeds, evaluate_every=0, checkpoint_every=0),
    )
    assert [row["evaluation_return"] for row in quiet.told[:-1]] == [None] * (CHUNKS - 1)
    assert quiet.told[-1]["evaluation_return"] == watched.told[-1]["evaluation_return"]
    assert checkpoint_steps(quiet.folder) == [TOTAL]
    assert_same_state(quiet.folder, watched.folder, seeds)


def test_rates_are_without_the_warm_up(tmp_path):
    """The clock starts when the warm-up is done, not when it is dispatched."""
    waited = []

    def with_slow_start(compiled):
        class Pending:
            """A warm-up that is under way: `jax.block_until_ready` waits for it."""

            def __init__(self, state):
                self.state, self.first_bad_step = state, state.first_bad_step

            def block_until_ready(self):
                waited.append(True)
                return self

        chunk = lambda state, hyperparameters: compiled.chunk(
            state.state if isinstance(state, Pending) else state, hyperparameters
        )
        return compiled._replace(
            start=lambda keys, hyperparameters: Pending(compiled.start(keys, hyperparameters)),
            chunk=chunk,
        )

    config = small(total_timesteps=WARM_UP + STEPS, evaluate_every=0, checkpoint_every=0)
    loop.run(config, tmp_path / "run", say=lambda text: None, watch=with_slow_start)
    assert waited


# Stopping and resuming

CHILD = """
import sys, time
from pathlib import Path
from ddpg_jax.runs.cli import commands
from ddpg_jax.runs.console import signals
from ddpg_jax.runs.folder.metrics import read_metrics
from ddpg_jax.runs.training import progress

folder, chunks = Path(sys.argv.pop(1)), int(sys.argv.pop(1))
show = progress.Display.show

def paused(self, row):  # until a signal comes
    show(self, row)
    if len(read_metrics(folder)) == chunks:
        print("paused", flush=True)
        while not signals._running[-1]:
            time.sleep(0.01)

progress.Display.show = paused
commands.main()
"""


def command_line(folder: Path, seeds: int) -> list[str]:
    names = {**OPTIONS, "seeds": seeds, "time_limit": TIME_LIMIT}
    options = [
        word
        for name, value in names.items()
        for word in (f"--{name.replace('_', '-')}", str(value))
    ]
    return ["train", "pendulum", "--run-dir", str(folder), *options]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONUNBUFFERED": "1"}


def stop_when(folder: Path, seeds: int, chunks: int, number: int) -> tuple[int, str]:
    """Start a run, which pauses after some chunks, and send it a signal; its return code and what
    it printed."""
    words = [str(folder), str(chunks), *command_line(folder, seeds)]
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment(),
        cwd=folder.parent,
    ) as process:
        assert process.stdout is not None
        printed = []
        for line in process.stdout:
            printed.append(line)
            if line == "paused\n":
                wanted = WARM_UP + (chunks - 2) * STEPS if number == signal.SIGKILL else 0
                while wanted and max(checkpoint_steps(folder), default=0) < wanted:
                    time.sleep(0.01)  # it is being written
                    assert process.poll() is None
                process.send_signal(number)
    return process.returncode, "".join(printed)


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [1, 4])
def test_killed_and_resumed_is_bitwise_one_run(finished, tmp_path, seeds):
    folder, middle = tmp_path / "run", CHUNKS // 2
    code, output = stop_when(folder, seeds, middle + 2, signal.SIGKILL)
    assert code == -signal.SIGKILL, output
    rows = read_metrics(folder)
    assert middle + 2 <= len(rows) < CHUNKS, (
        "killed past the checkpoint in the middle, and before the end"
    )
    assert not (folder / "summary.json").exists()
    kept = checkpoint_steps(folder)[-1]
    assert WARM_UP + middle * STEPS <= kept < TOTAL
    resumed = subprocess.run(
        [
            sys.executable,
            "-m",
            "ddpg_jax.runs.cli.commands",
            "train",
            "--resume",
            "--run-dir",
            str(folder),
        ],
        capture_output=True,
        text=True,
        env=environment(),
        cwd=tmp_path,
        check=False,
    )
    assert resumed.returncode == 0, resumed.stderr
    assert f"resumed at {kept} steps." in resumed.stdout
    whole = finished(seeds=seeds)
    assert_same_state(folder, whole.folder, seeds)
    assert_same_metrics(folder, whole.folder)
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["final_returns"] == whole.summary["final_returns"]
    assert summary["config"] == whole.summary["config"]


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)]
)
def test_a_signal_ends_the_chunk_and_saves(finished, tmp_path, number):
    folder = tmp_path / "run"
    code, output = stop_when(folder, 1, 3, number)
    assert code == 128 + number, output
    assert "Traceback" not in output
    rows = read_metrics(folder)
    steps = rows[-1]["env_steps"]
    assert WARM_UP + 3 * STEPS <= steps < TOTAL
    assert (
        f"stopped by {number.name} at {steps} steps and saved; continue with --resume "
        f"--run-dir {folder}" in output
    )
    assert checkpoint_steps(folder)[-1] == steps
    said: list[str] = []
    loop.run(small(), folder, resume=True, say=said.append)
    assert f"resumed at {steps} steps." in said
    assert_same_state(folder, finished().folder)
    assert_same_metrics(folder, finished().folder)


@pytest.mark.slow
def test_longer_than_planned(finished, tmp_path):
    """What decides nothing of the training may change on the way: the total, and how often it is
    looked at."""
    half = WARM_UP + CHUNKS // 2 * STEPS
    loop.run(
        small(total_timesteps=half, evaluate_every=7 * STEPS, checkpoint_every=0), tmp_path / "run"
    )
    loop.run(small(), tmp_path / "run", resume=True, say=lambda text: None)
    assert_same_state(tmp_path / "run", finished().folder)
    assert json.loads((tmp_path / "run" / "config.json").read_text()) == small().flat() | ONE


def test_other_chunks_and_a_shorter_last_one_are_the_same_run(tmp_path):
    """400 steps in 4 chunks, in 3 of 150 of which the last one is shorter, and in one and a rest
    after a stop at 350: the same state, evaluations at the same steps, all steps trained."""
    total, each = WARM_UP + 400, {"evaluate_every": 200, "checkpoint_every": 0}
    for name, steps in (("four", 100), ("three", 150), ("stopped", 350)):
        config = small(total_timesteps=total, steps_per_chunk=steps, **each)
        assert config.num_chunks == -(-400 // steps)
        if name == "stopped":
            half = small(total_timesteps=WARM_UP + 350, steps_per_chunk=steps, **each)
            loop.run(half, tmp_path / name)
        done = loop.run(config, tmp_path / name, resume=name == "stopped", say=lambda text: None)
        assert done.summary["env_steps"] == total
        assert read_metrics(tmp_path / name)[-1]["updates"] == 400
        assert_same_state(tmp_path / name, tmp_path / "four")
        found = json.loads((tmp_path / "four" / "summary.json").read_text())["final_returns"]
        assert done.summary["final_returns"] == found
        last = read_curve(tmp_path / name)[1][-1], read_curve(tmp_path / "four")[1][-1]
        np.testing.assert_array_equal(*last)
    assert [row["env_steps"] for row in read_metrics(tmp_path / "three")] == [350, 500, 600]


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("reward", "The environment returned it: see what `ddpg-jax check pendulum` finds."),
        ("critic_loss", "Lower the learning rates, or check the environment."),
        ("action", "Lower the learning rates, or check the environment."),
    ],
)
def test_what_became_nan_is_blamed_on_what_made_it(name, remedy):
    first = {"action": reporting.NEVER, "reward": reporting.NEVER, "critic_loss": reporting.NEVER}
    with pytest.raises(RunError) as refused:
        chunks.require_finite(small(), first | {name: 6}, {}, 300, None)
    assert str(refused.value) == (
        f"{name} became NaN or infinite at step 7; no checkpoint had been written yet. {remedy}"
    )


@pytest.mark.slow
def test_a_run_is_saved_by_the_clock_too(tmp_path, monkeypatch):
    """Every five minutes, or less often where it takes long; what is saved does not depend on
    it."""
    clock, saved = [0.0], []
    monkeypatch.setattr(
        chunks,
        "time",
        types.SimpleNamespace(monotonic=lambda: clock[0], perf_counter=time.perf_counter),
    )
    save, metrics_row = Checkpoints.save, chunks.metrics_row

    def slowly(self, step, *arguments):
        saved.append(step)
        clock[0] += 30.0  # a twentieth of ten minutes
        save(self, step, *arguments)

    def passing(*arguments):
        clock[0] += 200.0
        return metrics_row(*arguments)

    monkeypatch.setattr(Checkpoints, "save", slowly)
    monkeypatch.setattr(chunks, "metrics_row", passing)
    options = {"total_timesteps": WARM_UP + 8 * STEPS, "evaluate_every": 0}
    loop.run(small(checkpoint_every=8 * STEPS, **options), tmp_path / "run")
    assert saved == [400, 700, 1_000]
    saved.clear()
    loop.run(small(checkpoint_every=0, **options), tmp_path / "other")
    assert saved == [1_000], "who wants none but the last has none"


def test_a_total_that_is_past_changes_nothing(tmp_path):
    short = small(total_timesteps=WARM_UP + 2 * STEPS, evaluate_every=0)
    loop.run(short, tmp_path / "run")
    with pytest.raises(RunError, match=r"already past total_timesteps=300: raise it"):
        loop.run(
            small(total_timesteps=WARM_UP + STEPS),
            tmp_path / "run",
            resume=True,
            say=lambda text: None,
            compiler=lambda *_: pytest.fail("nothing needs to be compiled"),
        )
    assert json.loads((tmp_path / "run" / "config.json").read_text()) == short.flat() | ONE
    assert len(read_metrics(tmp_path / "run")) == 2


def test_a_checkpoint_that_cannot_be_written(tmp_path, monkeypatch):
    write = Checkpoints._write

    def full_at_the_second(self, step, *arguments):
        if step == 400:
            monkeypatch.setattr(manifest, "digests", lambda folder: 1 / 0)
        write(self, step, *arguments)

    monkeypatch.setattr(Checkpoints, "_write", full_at_the_second)
    with pytest.raises(
        RunError,
        match=r"/400 could not be written .*: [\d,]+ bytes are needed, .* before it are intact",
    ):
        loop.run(small(checkpoint_every=1, evaluate_every=0), tmp_path / "run")
    monkeypatch.undo()
    assert restored(tmp_path / "run")[0] == WARM_UP + STEPS


def test_a_checkpoint_of_another_version_is_refused_in_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(manifest, "FORMAT", 1)
    loop.run(
        small(total_timesteps=WARM_UP + STEPS, evaluate_every=0),
        tmp_path / "run",
        say=lambda text: None,
    )
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    monkeypatch.undo()
    told = (
        r"checkpoint 300 has format 1, of another version of ddpg_jax, .* format 5: "
        r"resume with that version, or train again"
    )
    with pytest.raises(RunError, match=told):
        loop.run(small(), tmp_path / "run", resume=True, say=lambda text: None)
    with pytest.raises(ValueError, match=told):
        policy.evaluate(tmp_path / "run", 3, 0)
    assert {
        path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()
    } == before


# From Python


@pytest.mark.slow
def test_one_line_of_python(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    sizes = {
        "total_timesteps": 500,
        "learning_starts": 100,
        "steps_per_chunk": 100,
        "batch_size": 8,
        "evaluation_episodes": 2,
        "final_episodes": 4,
    }
    result = ddpg_jax.runs.train(
        "pendulum", preset="default", seeds=2, tau=0.25, env_options={"time_limit": 20}, **sizes
    )
    assert result.folder.parent == Path("runs")
    assert (
        capsys.readouterr().out.splitlines()[0]
        == f"pendulum, preset default, 2 seeds, on cpu -> {result.folder}"
    )
    assert (result.config.hyperparameters.tau, result.config.flat() | ONE) == (
        0.25,
        json.loads((result.folder / "config.json").read_text()),
    )
    assert result.summary == json.loads((result.folder / "summary.json").read_text())
    assert (
        [row["env_steps"] for row in result.metrics]
        == result.env_steps.tolist()
        == [200, 300, 400, 500]
    )
    assert result.returns.tolist() == [row["evaluation_return"] for row in result.metrics]
    assert result.returns.shape == (4, 2)
    observation = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 3.0]], np.float32)
    first, second = (np.asarray(result.policy(member)(observation)) for member in (0, 1))
    state = jax.tree.map(lambda x: x[1], result.agent_state)
    np.testing.assert_allclose(
        second, 2.0 * result.agent.act(state, observation), rtol=1e-5
    )  # in N m
    assert not np.allclose(first, second)
    with pytest.raises(ValueError, match="member=2: this run has 2 member"):
        result.policy(2)


def test_python_goes_on_with_a_run_in_silence(tmp_path, capsys):
    sizes = {
        "total_timesteps": 300,
        "learning_starts": 100,
        "steps_per_chunk": 100,
        "batch_size": 8,
        "evaluation_episodes": 2,
        "final_episodes": 4,
    }
    ddpg_jax.runs.train(run_dir=tmp_path / "run", progress=False, **sizes)
    result = ddpg_jax.runs.train(
        run_dir=tmp_path / "run", resume=True, progress=False, total_timesteps=400
    )
    assert result.env_steps.tolist() == [200, 300, 400]
    assert capsys.readouterr().out == ""
    for options, told in (
        ({"run_dir": tmp_path / "run"}, "already holds a run"),
        (
            {"run_dir": tmp_path / "run", "resume": True, "env": "brax/ant"},
            "env .run: pendulum, given: brax/ant",
        ),
        ({"resume": True}, "requires --run-dir"),
        ({"taw": 0.1}, "preset 'default' has no taw"),
    ):
        with pytest.raises(ValueError, match=told):
            ddpg_jax.runs.train(**options)


# Hyperparameters that are not finite


def broken(first: dict[str, int], finite: dict[str, bool]) -> reporting.Report:
    zero = jnp.zeros(())
    first = {
        "action": reporting.NEVER,
        "actor_loss": reporting.NEVER,
        "observation": reporting.NEVER,
        "reward": reporting.NEVER,
    } | first
    return reporting.Report(
        episodes=reporting.Episodes(count=zero, return_sum=zero, length_sum=zero, broken=zero),
        metrics={},
        first_bad_step={name: jnp.array(value, jnp.int32) for name, value in sorted(first.items())},
        finite={name: jnp.array(value) for name, value in finite.items()},
    )


@pytest.mark.parametrize(
    ("first", "finite", "saved", "message"),
    [
        # Vector step 9 is the tenth: 40 environment steps of 4 environments.
        (
            {"reward": 9, "actor_loss": 11},
            {"a": False},
            36,
            r"^reward became NaN or infinite at step 40; .* at 36 steps, is kept",
        ),
        # What was observed comes before what is learned from it in the same step.
        (
            {"actor_loss": 9, "observation": 9},
            {"a": True},
            None,
            "^observation .* step 40; no checkpoint had been written",
        ),
        ({"action": 9, "observation": 9}, {"a": True}, None, "^action .* at step 40"),
        (
            {},
            {"actor": True, "critic": False},
            None,
            "^parameters critic became NaN or infinite at step 999",
        ),
    ],
)
def test_the_first_quantity_that_is_not_finite_is_named(first, finite, saved, message):
    report = broken(first, finite)
    with pytest.raises(RunError, match=message):
        chunks.require_finite(small(num_envs=4), report.first_bad_step, report.finite, 999, saved)


def test_finite_numbers_pass():
    report = broken({}, {"actor": True})
    chunks.require_finite(small(), report.first_bad_step, report.finite, 999, None)


def breaks_at_the_third_step(num_envs):
    """A device environment whose third reward is NaN."""
    step = lambda count, action, key: (
        count + 1,
        count[None],
        jnp.where(count == 2, jnp.nan, 1.0),
        jnp.zeros((), bool),
    )
    return batch(
        SingleEnvironment(lambda key: (jnp.zeros(()), jnp.zeros(1)), step, 1), num_envs, 50
    )


def test_a_warm_up_that_is_not_finite_ends_the_run_before_it_learns(tmp_path):
    config = make_config(
        f"{__name__}:{breaks_at_the_third_step.__name__}",
        **OPTIONS | {"num_envs": 4, "hidden": (4,)},
    )
    # 3 vector steps of 4
    sentence = r"^reward became NaN or infinite at step 12; no checkpoint had been written yet"
    with pytest.raises(RunError, match=sentence):
        loop.run(config, tmp_path / "run")
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_the_environments_of_an_evaluation_are_weighed_for_all_seeds(monkeypatch):
    weighed = []
    monkeypatch.setattr(
        build.memory, "require_memory", lambda parts: weighed.append(parts[0].needed)
    )
    for seeds in (1, 3):
        config = make_config("pendulum", seeds=seeds)
        evaluation.make_evaluator(config, None, 4, contextlib.ExitStack())
    # Of each pendulum angle, speed, torque, steps and 3 numbers observed, and one number for all,
    # of 4 bytes each.
    assert weighed == [4 * (4 * 7 + 1), 3 * 4 * (4 * 7 + 1)]


def test_streams_of_keys_are_apart():
    """Of training, evaluations, resets and resharding no two are folded into a key alike."""
    streams = [
        *(evaluation.TRAINING_STREAM, evaluation.FINAL_STREAM, evaluation.LATER_STREAM),
        *(evaluation.HOST_RESET_STREAM, resharding.NEW_SHARDS, evolution.EVOLUTION),
        *(programs.LEARNING, programs.ACTING, rollout._ACTING, held_out.STREAM, reporting.NEVER),
    ]
    assert len(set(streams)) == len(streams)
