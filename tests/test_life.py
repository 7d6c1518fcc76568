"""How a run lives and dies: its folder is its own, and whatever ends it, what was there is there
when it goes on."""

import contextlib
import functools
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import gymnasium
import jax
import numpy as np
import pytest
from click.testing import CliRunner
from gymnasium import spaces
from helpers import events
from hypothesis import given, settings
from hypothesis import strategies as st

from ddpg_jax import host, runs
from ddpg_jax.runs.checkpoints.store import Checkpoints
from ddpg_jax.runs.cli import commands
from ddpg_jax.runs.config.run_config import make_config
from ddpg_jax.runs.console import output, signals
from ddpg_jax.runs.folder import lock
from ddpg_jax.runs.folder.metrics import read_metrics
from ddpg_jax.runs.folder.metrics_log import MetricsLog
from ddpg_jax.runs.options.validation import RunError
from ddpg_jax.runs.programs import build
from ddpg_jax.runs.results import policy, run_pictures
from ddpg_jax.runs.training import loop
from ddpg_jax.types import is_key

TIMES = {"train_seconds", "env_steps_per_second", "updates_per_second"}
WARM_UP, STEPS, CHUNKS = 40, 50, 5
DEVICE = {"total_timesteps": WARM_UP + 2 + CHUNKS * STEPS, "n_step": 3, "priority_exponent": 0.6}
HOST = {"total_timesteps": WARM_UP + 2 + 3 * STEPS, "n_step": 3}


def tiny(env: str = "pendulum", **options):
    """Episodes of 25 steps, three to a row, by priorities."""
    sizes = {
        "hidden": (8, 8),
        "batch_size": 8,
        "learning_starts": WARM_UP,
        "steps_per_chunk": STEPS,
        "replay_capacity": 500,
    }
    looks = {
        "evaluation_episodes": 2,
        "final_episodes": 20,
        "checkpoint_every": 1,
        "keep": 9,
        "seed": 5,
    }
    own = DEVICE if env == "pendulum" else HOST
    return make_config(env, env_options={"time_limit": 25}, **sizes | looks | own | options)


class Killed(BaseException):
    """Ends a run as a kill does: nobody catches it."""


class Ids(gymnasium.Env):
    """Observation ``[episode, step]``, no episode twice in this process; never ends by itself; each
    reward is 1."""

    observation_space = spaces.Box(-np.inf, np.inf, (2,))
    action_space = spaces.Box(-1, 1, (1,))
    numbers = itertools.count()

    def reset(self, *, seed=None, options=None):  # noqa: ARG002
        super().reset(seed=seed)
        self.id, self.steps = next(self.numbers), 0
        return np.array([self.id, 0], np.float32), {}

    def step(self, action):  # noqa: ARG002
        self.steps += 1
        return np.array([self.id, self.steps], np.float32), 1.0, False, False, {}


class Prepared:
    """What is built and compiled once for all runs of an environment; ``stopped`` is the newest
    run's."""

    def __init__(self, env: str) -> None:
        self.stopped = lambda: False
        self.built = build.build(tiny(env), lambda: self.stopped())
        self.programs = build.compile_programs(self.built, tiny(env))


@pytest.fixture(scope="module", autouse=True)
def once():
    """All runs here of an environment are of one configuration, but for what changes no program."""
    prepared = functools.cache(Prepared)

    def built(config, stopped):
        ready = prepared(config.env)
        ready.stopped = stopped
        return ready.built

    gymnasium.register("Ids-v0", Ids)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "build", built)
        patch.setattr(loop, "compile_programs", lambda built, config: prepared(config.env).programs)
        yield
    del gymnasium.registry["Ids-v0"]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A run that ended by itself."""
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    loop.run(tiny(), folder, say=lambda text: None)
    return folder


def go(folder: Path, config=None, **options) -> list[str]:
    said: list[str] = []
    loop.run(config or tiny(), folder, say=said.append, **options)
    return said


def stored(folder: Path, config=None):
    opened = Checkpoints(folder / "checkpoints", read_only=True)
    step, state, record = opened.restore(
        loop.build(config or tiny(), lambda: False).state, lambda text: pytest.fail(text)
    )
    opened.close()
    return step, state, record


def lines(folder: Path) -> list[dict]:
    return [
        {name: value for name, value in row.items() if name not in TIMES}
        for row in read_metrics(folder)
    ]


def assert_same(folder: Path, expected: Path):
    """State, metrics, final returns and the best agent, in every bit."""
    (step, found, _), (last, wanted, _) = stored(folder), stored(expected)
    (*_, chosen, best), (*_, when, kept) = (
        policy.restore_policy(x, "best") for x in (folder, expected)
    )
    assert (step, chosen) == (last, when)
    found, wanted = (found, best), (wanted, kept)
    for (path, a), b in zip(jax.tree.leaves_with_path(found), jax.tree.leaves(wanted), strict=True):
        a, b = (np.asarray(jax.random.key_data(x) if is_key(x) else x) for x in (a, b))
        assert a.tobytes() == b.tobytes(), jax.tree_util.keystr(path)
    assert lines(folder) == lines(expected)
    summaries = [json.loads((x / "summary.json").read_text()) for x in (folder, expected)]
    for name in ("final_returns", "best_returns", "best_env_steps", "best_evaluation_returns"):
        assert summaries[0][name] == summaries[1][name]


def interposed(monkeypatch, name: str, at: int, act):
    """Before call number ``at`` of a program, ``act()``; counted over evaluations alike."""
    made = loop.compile_programs

    def with_interposed(built, config):
        programs, calls = made(built, config), itertools.count()
        call = getattr(programs, name)

        def called(*arguments):
            if next(calls) == at:
                act()
            return call(*arguments)

        return programs._replace(**{name: called})

    monkeypatch.setattr(loop, "compile_programs", with_interposed)


def raiser(error: BaseException):
    def act():
        raise error

    return act


# The folder


def test_a_folder_is_one_runs_at_a_time(tmp_path, undisturbed):
    shutil.copytree(undisturbed, tmp_path / "run")
    before = (tmp_path / "run" / "metrics.jsonl").read_bytes()
    with lock.locked_folder(tmp_path / "run"):
        for resume in (False, True):
            with pytest.raises(
                RunError,
                match=rf"is in use by another run \(process {os.getpid()}\): wait until it ends, "
                "or",
            ):
                go(tmp_path / "run", resume=resume)
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == before
    go(tmp_path / "run", resume=True)  # it is free again
    assert not (tmp_path / "run" / lock.LOCK).exists()


def test_a_kill_lets_go_of_the_folder(tmp_path):
    code = "import sys; from pathlib import Path\n"
    code += "from ddpg_jax.runs.folder.lock import locked_folder\n"
    code += "with locked_folder(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code, tmp_path / "run"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with (
            pytest.raises(RunError, match=rf"in use by another run \(process {holder.pid}\)"),
            lock.locked_folder(tmp_path / "run"),
        ):
            pass
        holder.kill()
        holder.wait()
    with lock.locked_folder(tmp_path / "run"):
        pass


def test_runs_of_one_second_have_folders_of_their_own(tmp_path):
    found = [lock.make_new_folder(tmp_path / "runs" / "pendulum")[0].name for _ in range(3)]
    assert found == ["pendulum", "pendulum-2", "pendulum-3"]


@pytest.mark.parametrize("place", ["/dev/null/run", "file/run", "file"])
def test_a_folder_that_cannot_be_is_found_out_first(tmp_path, monkeypatch, place):
    (tmp_path / "file").write_text("mine")
    monkeypatch.setattr(loop, "build", lambda *arguments: pytest.fail("nothing is built for it"))
    with pytest.raises(
        RunError, match=r"run folder .* cannot be made \(.*\): choose another --run-dir"
    ):
        go(tmp_path / place)
    assert os.listdir(tmp_path) == ["file"]
    assert (tmp_path / "file").read_text() == "mine"


def test_a_run_that_is_refused_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(
        loop, "build", lambda *arguments: (_ for _ in ()).throw(ValueError("no such environment"))
    )
    with pytest.raises(RunError, match="no such environment"):
        go(tmp_path / "runs" / "deep" / "run")
    assert not os.listdir(tmp_path)


def test_a_run_that_is_refused_takes_nobodys_files(tmp_path, monkeypatch):
    """Neither those that were there, nor those that came meanwhile, as the output of a shell."""

    def fails(*arguments):
        (tmp_path / "run" / "out.txt").write_text("of the shell")
        raise ValueError("the simulator is lost")

    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("mine")
    interposed(monkeypatch, "start", 0, fails)
    with pytest.raises(ValueError, match="the simulator is lost"):
        go(tmp_path / "run")
    assert sorted(os.listdir(tmp_path / "run")) == ["notes.txt", "out.txt"]


LOST = raiser(ValueError("the simulator is lost"))


@pytest.mark.parametrize(("program", "call"), [("start", 0), ("chunk", 0), ("chunk", 2)])
def test_a_run_that_fails_before_its_first_checkpoint_is_not_in_the_way(
    tmp_path, monkeypatch, undisturbed, program, call
):
    config = tiny(checkpoint_every=0)
    with monkeypatch.context() as patch:
        interposed(patch, program, call, LOST)
        with pytest.raises(ValueError, match="the simulator is lost"):
            go(tmp_path / "run", config)
    assert (tmp_path / "run").exists() == (call == 2), "of what was trained the lines are kept"
    if call == 2:
        assert len(read_metrics(tmp_path / "run")) == 2
        reason = json.loads((tmp_path / "run" / "failed.json").read_text())
        assert reason == {"reason": "the simulator is lost"}
    said = go(tmp_path / "run", tiny())
    replaced = f"the run in {tmp_path / 'run'} failed before its first checkpoint: this one"
    assert any(text.startswith(replaced) for text in said) == (call == 2)
    assert_same(tmp_path / "run", undisturbed)
    assert not (tmp_path / "run" / "failed.json").exists()
    assert len([*(tmp_path / "run").glob("events.out.tfevents.*")]) == 1


def test_a_run_that_failed_after_a_checkpoint_or_ended_is_in_the_way(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        interposed(patch, "chunk", 2, LOST)
        with pytest.raises(ValueError, match="the simulator is lost"):
            go(tmp_path / "run")
    with pytest.raises(RunError, match="already holds a run: choose another --run-dir, or resume"):
        go(tmp_path / "run")
    go(tmp_path / "run", resume=True)
    with pytest.raises(RunError, match="already holds a run"):
        go(tmp_path / "run")


# Kills, errors and signals


def test_killed_before_the_first_checkpoint(tmp_path, monkeypatch, undisturbed):
    with monkeypatch.context() as patch:
        interposed(patch, "start", 0, raiser(Killed()))
        with pytest.raises(Killed):
            go(tmp_path / "run")
    on_one = {"mesh": "members=1,data=1"}  # what was settled
    assert json.loads((tmp_path / "run" / "config.json").read_text()) == tiny().flat() | on_one
    with pytest.raises(
        RunError,
        match="already holds a run: choose another --run-dir, or resume it with --resume",
    ):
        go(tmp_path / "run")
    said = go(tmp_path / "run", resume=True)
    assert f"{tmp_path / 'run'} has no checkpoint yet: the run starts from the beginning." in said
    assert_same(tmp_path / "run", undisturbed)


@pytest.mark.parametrize("killed", range(1, CHUNKS))
def test_killed_after_any_chunk(tmp_path, undisturbed, killed):
    """As if the newest checkpoint were of that chunk, and the lines of one more had been written,
    the last in half."""
    folder = tmp_path / "run"
    shutil.copytree(undisturbed, folder)
    for path in (folder / "checkpoints").iterdir():
        if path.name.isdigit() and int(path.name) > WARM_UP + 2 + killed * STEPS:
            shutil.rmtree(path)
    rows = (folder / "metrics.jsonl").read_text().splitlines(keepends=True)
    (folder / "metrics.jsonl").write_text("".join(rows[: killed + 1])[:-7])
    (folder / "summary.json").unlink()
    assert f"resumed at {WARM_UP + 2 + killed * STEPS} steps." in go(folder, resume=True)
    assert_same(folder, undisturbed)


@pytest.mark.parametrize(
    ("error", "every"), [(RuntimeError("the simulator is lost"), 0), (Killed(), 1), (Killed(), 0)]
)
def test_an_evaluation_that_fails_loses_no_chunk(tmp_path, monkeypatch, undisturbed, error, every):
    """The third chunk's. A kill loses it where no checkpoint was due."""
    with monkeypatch.context() as patch:
        interposed(patch, "evaluate", 2, raiser(error))
        with pytest.raises(type(error)):
            go(tmp_path / "run", tiny(checkpoint_every=every))
    if every or not isinstance(error, Killed):
        assert stored(tmp_path / "run")[0] == WARM_UP + 2 + 3 * STEPS
    go(tmp_path / "run", resume=True)
    assert_same(tmp_path / "run", undisturbed)


def test_a_final_evaluation_that_fails(tmp_path, monkeypatch, undisturbed):
    with monkeypatch.context() as patch:
        interposed(patch, "evaluate", CHUNKS, raiser(RuntimeError("lost")))
        with pytest.raises(RuntimeError, match="lost"):
            go(tmp_path / "run")
    assert lines(tmp_path / "run") == lines(undisturbed)
    go(tmp_path / "run", resume=True)
    assert_same(tmp_path / "run", undisturbed)


def test_lines_that_cannot_be_written(tmp_path, monkeypatch, undisturbed):
    """The disk is full of a sudden: the chunk is saved, though no checkpoint was due."""
    write = Path.open

    def full(self, mode="r", *arguments, **options):
        if self.name == "metrics.jsonl" and mode == "a" and len(read_metrics(self.parent)) == 2:
            raise OSError(28, "No space left on device")
        return write(self, mode, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", full)
        with pytest.raises(
            RunError,
            match=r"metrics.jsonl could not be written \(No space left on device\): "
            r"[\d,]+ bytes are",
        ):
            go(tmp_path / "run", tiny(checkpoint_every=0))
    assert stored(tmp_path / "run")[0] == WARM_UP + 2 + 3 * STEPS
    go(tmp_path / "run", resume=True)
    assert_same(tmp_path / "run", undisturbed)


def test_a_picture_that_cannot_be_drawn(tmp_path, monkeypatch, undisturbed):
    monkeypatch.setattr(
        run_pictures.plots, "plot", lambda *arguments: raiser(ValueError("no fonts"))()
    )
    assert any("curve.png could not be drawn (no fonts)" in text for text in go(tmp_path / "run"))
    assert_same(tmp_path / "run", undisturbed)


def test_a_signal_that_was_lost_is_told_to_a_run_that_has_begun(monkeypatch):
    """What was raised went into a callback, and the run began before the watcher had looked."""
    monkeypatch.setattr(signals, "GRACE_SECONDS", 0.05)
    read, write = socket.socketpair()
    with signals.collect_signals() as stop, write:
        watcher = threading.Thread(target=signals._watch, args=(read,), daemon=True)
        watcher.start()
        write.send(bytes([signal.SIGTERM]))
        while not stop:
            watcher.join(0.01)
            assert watcher.is_alive()
        assert stop == [signal.SIGTERM]
        signal.raise_signal(
            signal.SIGTERM
        )  # Python's turn comes late: it is the same signal, no second one
        assert stop == [signal.SIGTERM]
    watcher.join()


ENDED = "with everything trained and saved"


@pytest.mark.parametrize(
    ("name", "at", "told", "number"),
    [
        ("start", 0, "before the first chunk", signal.SIGTERM),
        ("chunk", 1, f"at {WARM_UP + 2 + 2 * STEPS} steps and saved", signal.SIGTERM),
        ("evaluate", 1, f"at {WARM_UP + 2 + 2 * STEPS} steps and saved", signal.SIGINT),
        ("chunk", CHUNKS - 1, ENDED, signal.SIGINT),
        ("evaluate", CHUNKS - 1, ENDED, signal.SIGTERM),
        ("evaluate", CHUNKS + 7, ENDED, signal.SIGINT),
    ],
)
def test_a_signal_to_the_command_is_a_line_and_an_exit_code(
    tmp_path, monkeypatch, undisturbed, number, name, at, told
):
    """Wherever it comes, also in the final evaluation; where no checkpoint is due, too."""
    folder, config = tmp_path / "run", tiny(checkpoint_every=0)
    monkeypatch.setattr(
        "ddpg_jax.runs.config.run_config.make_config", lambda *arguments, **options: config
    )
    with monkeypatch.context() as patch:
        interposed(patch, name, at, lambda: signal.raise_signal(number))
        result = CliRunner().invoke(commands.main, ["train", "--run-dir", str(folder)])
    assert (result.exit_code, result.stderr) == (128 + number, "")
    assert (
        result.stdout.splitlines()[-1]
        == f"stopped by {number.name} {told}; continue with --resume --run-dir {folder}"
    )
    assert result.stdout.count("stopped by") == 1
    monkeypatch.undo()
    go(folder, resume=True)
    assert_same(folder, undisturbed)


def test_a_signal_between_two_steps_on_the_host(tmp_path, monkeypatch):
    """The warm-up and evaluations are left, a chunk is ended and saved."""
    config = tiny("gymnasium/Pendulum-v1")
    taken = itertools.count(1)
    step = host.loop.heed

    def heed(stopped):
        if next(taken) == WARM_UP // 2:
            signal.raise_signal(signal.SIGTERM)
        step(stopped)

    with monkeypatch.context() as patch:
        patch.setattr(host.loop, "heed", heed)
        with pytest.raises(signals.Interrupted, match="stopped by SIGTERM before the first chunk"):
            go(tmp_path / "run", config)
    assert next(taken) == WARM_UP // 2 + 1, "at once"
    taken = itertools.count(1)
    with monkeypatch.context() as patch:
        patch.setattr(host, "heed", heed)
        patch.setattr(sys.modules["ddpg_jax.host"], "heed", heed)
        with pytest.raises(
            signals.Interrupted,
            match=rf"stopped by SIGTERM at {WARM_UP + 2 + STEPS} steps and saved",
        ):
            go(tmp_path / "run", config, resume=True)
    assert stored(tmp_path / "run", config)[0] == WARM_UP + 2 + STEPS
    assert "Host environments were reset; all other state was restored." in go(
        tmp_path / "run", config, resume=True
    )
    assert [row["env_steps"] for row in read_metrics(tmp_path / "run")] == [
        WARM_UP + 2 + n * STEPS for n in (1, 2, 3)
    ]
    assert all(row["evaluation_return"] for row in read_metrics(tmp_path / "run"))


def test_a_configuration_that_is_not_the_checkpoints(tmp_path, undisturbed):
    shutil.copytree(undisturbed, tmp_path / "run")
    data = json.loads((tmp_path / "run" / "config.json").read_text())
    (tmp_path / "run" / "config.json").write_text(json.dumps(data | {"tau": 0.5}))
    told = r"made with another configuration: tau \(run: 0.005, given: 0.5\)"
    with pytest.raises(RunError, match=told):
        go(tmp_path / "run", tiny(tau=0.5), resume=True)
    with pytest.raises(RunError, match=told):
        policy.evaluate(tmp_path / "run", 1, 0)


def test_what_may_change_is_no_other_configuration(tmp_path, undisturbed):
    shutil.copytree(undisturbed, tmp_path / "run")
    data = json.loads((tmp_path / "run" / "config.json").read_text())
    free = {"keep": 5, "evaluate_every": 3, "total_timesteps": 1_000, "source": "elsewhere"}
    (tmp_path / "run" / "config.json").write_text(json.dumps(data | free))
    assert policy.restore_policy(tmp_path / "run")[2] == [WARM_UP + 2 + CHUNKS * STEPS]


# Cut anywhere


@settings(max_examples=3, deadline=None, derandomize=True, database=None)
@given(cuts=st.sets(st.integers(1, CHUNKS - 1), min_size=1, max_size=3))
def test_cut_anywhere_it_is_one_run(tmp_path_factory, undisturbed, cuts):
    folder = tmp_path_factory.mktemp("cut") / "run"
    for index, cut in enumerate([*sorted(cuts), CHUNKS]):
        go(folder, tiny(total_timesteps=WARM_UP + 2 + cut * STEPS), resume=index > 0)
    assert_same(folder, undisturbed)


@pytest.mark.slow
@settings(max_examples=2, deadline=None, derandomize=True, database=None)
@given(cut=st.integers(1, 2))
def test_cut_anywhere_no_row_joins_two_episodes(tmp_path_factory, cut):
    """On the host, where environments begin anew: what was stored stays, and no row reaches across
    the cut."""
    folder, config = tmp_path_factory.mktemp("cut") / "run", tiny("gymnasium/Ids-v0")
    steps = WARM_UP + 2 + cut * STEPS
    go(folder, tiny("gymnasium/Ids-v0", total_timesteps=steps))
    before = stored(folder, config)[1].replay.storage
    go(folder, config, resume=True)
    after = stored(folder, config)[1].replay.storage
    rows = steps - 2  # the newest two steps are in the window yet
    for old, new in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True):
        assert np.asarray(old)[:rows].tobytes() == np.asarray(new)[:rows].tobytes()
    count = WARM_UP + 3 * STEPS
    begin, end = np.asarray(after.observation)[:count], np.asarray(after.next_observation)[:count]
    np.testing.assert_array_equal(begin[:, 0], end[:, 0], "of one episode")
    length = (end - begin)[:, 1]
    assert length[rows : rows + 2].tolist() == [2, 1], "cut as by a time limit"
    # Rewards are 1: k steps have the sum of gamma^i over i < k, and bootstrap with gamma^(k - 1).
    np.testing.assert_allclose(
        np.asarray(after.reward)[:count], (1 - 0.99**length) / (1 - 0.99), rtol=1e-5
    )
    np.testing.assert_allclose(np.asarray(after.discount)[:count], 0.99 ** (length - 1), rtol=1e-5)


@pytest.mark.parametrize("damage", [b"5", b"\xff\xfe"], ids=str)
def test_a_damaged_line_is_passed_over_on_resuming(tmp_path, undisturbed, damage):
    folder = tmp_path / "run"
    shutil.copytree(undisturbed, folder)
    shutil.rmtree(folder / "checkpoints" / str(WARM_UP + 2 + CHUNKS * STEPS))
    text = (folder / "metrics.jsonl").read_bytes().split(b"\n")
    (folder / "metrics.jsonl").write_bytes(b"\n".join([text[0], damage, *text[2:]]))
    said = go(folder, resume=True)
    assert f"{folder / 'metrics.jsonl'}: 1 of {CHUNKS} lines are damaged and are ignored." in said
    assert lines(folder) == lines(undisturbed)[:1] + lines(undisturbed)[2:]
    assert stored(folder)[0] == WARM_UP + 2 + CHUNKS * STEPS


def test_a_last_line_without_its_numbers_comes_from_the_checkpoint(tmp_path, undisturbed):
    """Also to the display, which shows it again where its evaluation is made up for."""
    folder = tmp_path / "run"
    shutil.copytree(undisturbed, folder)
    text = (folder / "metrics.jsonl").read_text().splitlines()
    text[-1] = json.dumps({"env_steps": WARM_UP + 2 + CHUNKS * STEPS, "evaluation_return": None})
    (folder / "metrics.jsonl").write_text("\n".join(text) + "\n")
    runs.train(run_dir=folder, resume=True)
    assert_same(folder, undisturbed)


# What is shown


def shown_by_tensorboard(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Points by name: files in the order of their names; a session that starts drops what was there
    from its step on."""
    from tensorboardX.proto.event_pb2 import SessionLog

    points: dict[str, list[tuple[int, float]]] = {}
    for event in events(folder):
        if event.session_log.status == SessionLog.START:
            points = {
                name: [point for point in old if point[0] < event.step]
                for name, old in points.items()
            }
        for value in event.summary.value:
            points.setdefault(value.tag, []).append((event.step, value.simple_value))
    return points


def test_tensorboard_lacks_no_line_after_a_kill(tmp_path):
    """A checkpoint at step 20. Of its line TensorBoard was not told, but of step 30, which comes
    again."""
    rows = [
        {"env_steps": steps, "episode_return": [float(steps), None], "evaluation_return": None}
        for steps in (10, 20, 30)
    ]
    with contextlib.closing(MetricsLog(tmp_path)) as first:
        first.add(rows[0])
        first.add(rows[2])
    (path,) = tmp_path.glob("*tfevents*")
    path.rename(tmp_path / "events.out.tfevents.1.killed")
    with contextlib.closing(MetricsLog(tmp_path)) as second:
        second.replace_all(rows[:2])
        second.add(rows[2])
    assert len(list(tmp_path.glob("*tfevents*"))) == 2
    assert shown_by_tensorboard(tmp_path) == {
        "episode_return": [(10, 10.0), (20, 20.0), (30, 30.0)]
    }
    assert read_metrics(tmp_path) == rows


@pytest.mark.parametrize("kept", [0.5, 1.0])
def test_tensorboard_shows_a_resumed_run_once(tmp_path, undisturbed, kept):
    """Whatever a kill left of its file, also an event cut in half."""
    folder, steps = (
        tmp_path / "run",
        [WARM_UP + 2 + chunks * STEPS for chunks in range(1, CHUNKS + 1)],
    )
    shutil.copytree(undisturbed, folder)
    shutil.rmtree(folder / "checkpoints" / str(steps[-1]))
    (path,) = folder.glob("*tfevents*")
    data = path.read_bytes()
    path.unlink()
    # TensorBoard reads no further in a file where an event is cut: the reader here is spared that.
    ends = list(itertools.takewhile(lambda end: end <= kept * len(data), ends_of_events(data)))
    (folder / "events.out.tfevents.1.killed").write_bytes(data[: ends[-1]])
    go(folder, resume=True)
    found = shown_by_tensorboard(folder)
    for name in ("critic_loss", "episode_return", "evaluation_return"):
        expected = [(row["env_steps"], np.mean(row[name])) for row in read_metrics(folder)]
        assert [step for step, _ in expected] == steps
        np.testing.assert_allclose(found[name], expected, rtol=1e-6)


def ends_of_events(data: bytes):
    end = 0
    while end <= len(data):
        yield end
        end += 16 + int.from_bytes(data[end : end + 8], "little")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has a disk that is always full")
def test_training_does_not_need_to_be_seen(tmp_path, monkeypatch):
    with open("/dev/full", "w", buffering=1) as full:
        monkeypatch.setattr(sys, "stdout", full)
        loop.run(tiny(), tmp_path / "run")
        output.say("nobody reads this")
    assert (tmp_path / "run" / "summary.json").exists()


def test_a_reader_that_leaves(tmp_path):
    """As ``ddpg-jax train ... | head -1``."""
    small = {
        "total-timesteps": 300,
        "learning-starts": 100,
        "steps-per-chunk": 100,
        "batch-size": 8,
        "hidden": "8,8",
    }
    words = [word for name, value in small.items() for word in (f"--{name}", str(value))]
    command = [
        sys.executable,
        "-m",
        "ddpg_jax.runs.cli.commands",
        "train",
        "--time-limit",
        "20",
        "--run-dir",
        tmp_path / "run",
        *words,
    ]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().startswith("pendulum, preset default")
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 0
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["env_steps"] == 300


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has a disk that is always full")
def test_the_command_on_a_full_disk(tmp_path):
    small = (
        "--total-timesteps 300 --learning-starts 100 --steps-per-chunk 100 --batch-size 8 "
        "--hidden 8,8 --time-limit 20"
    )
    command = [
        sys.executable,
        "-m",
        "ddpg_jax.runs.cli.commands",
        "train",
        "--run-dir",
        tmp_path / "run",
        *small.split(),
    ]
    with open("/dev/full", "w") as full:
        run = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert (run.returncode, run.stderr) == (0, "")
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["env_steps"] == 300
