"""What a run calls after each chunk: callbacks that stop it, write, log, film and add metrics; and
what is said of returns that have collapsed."""

import contextlib
import csv
import dataclasses
import io
import json
import shutil
import types
from pathlib import Path

import jax
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from ddpg_jax import runs
from ddpg_jax.runs import callbacks
from ddpg_jax.runs.cli import commands
from ddpg_jax.runs.config.run_config import make_config
from ddpg_jax.runs.folder.metrics import read_metrics
from ddpg_jax.runs.folder.metrics_log import write_metrics
from ddpg_jax.runs.results import report
from ddpg_jax.runs.results.statistics import have_collapsed
from ddpg_jax.runs.training import reports
from ddpg_jax.runs.training.progress import Display

SIZES = {"hidden": (8,), "batch_size": 8, "learning_starts": 50, "replay_capacity": 500}
SIZES |= {"total_timesteps": 450, "steps_per_chunk": 50, "evaluate_every": 100, "keep": 9}
SIZES |= {"evaluation_episodes": 2, "final_episodes": 3, "checkpoint_every": 100}
ENV = {"env_options": {"time_limit": 20}}
TIMES = ("train_seconds", "env_steps_per_second", "updates_per_second")


def train(folder, **options):
    return runs.train("pendulum", run_dir=folder, progress=False, **SIZES | ENV | options)


def lines(folder):
    rows = read_metrics(folder)
    return [{name: x for name, x in row.items() if name not in TIMES} for row in rows]


def table(path):
    return list(csv.DictReader(io.StringIO(path.read_text())))


# With a run


class Watcher(contextlib.AbstractContextManager):
    """Keeps what it is called with; fails, or stops the run, at given steps."""

    def __init__(self, answer=None, at=0, error=None):
        self.answer, self.at, self.error = answer, at, error
        self.seen, self.norms, self.ended = [], [], []

    def __enter__(self):
        self.ended.append("entered")
        return self

    def __call__(self, chunk):
        leaves = jax.tree.leaves(chunk.agent_state.actor.params)
        assert all(isinstance(leaf, jax.Array) for leaf in leaves)
        self.norms.append(float(sum(abs(leaf).sum() for leaf in leaves)))
        self.seen.append((chunk.row["env_steps"], [row["env_steps"] for row in chunk.earlier()]))
        self.chunk = chunk
        if chunk.row["env_steps"] == self.at and self.error:
            raise self.error
        return self.answer if chunk.row["env_steps"] == self.at else None

    def end(self, summary):
        self.ended.append(summary)

    def __exit__(self, kind, error, trace):
        self.ended.append(error)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A run of two seeds without callbacks."""
    return train(tmp_path_factory.mktemp("plain") / "run", seeds=2)


@pytest.fixture(scope="module")
def called(tmp_path_factory):
    """The same one, watched by all that do not stop it."""
    watcher = Watcher()
    count = lambda chunk: {
        "seen": len(watcher.seen),
        "norm": np.array([1.5, np.inf]),
        "entropy": jax.numpy.float32(0.5),
    }
    used = [watcher, callbacks.user_metrics(count), callbacks.film_every(200)]
    folder = tmp_path_factory.mktemp("called") / "run"
    return train(folder, seeds=2, csv=True, callbacks=used), watcher


def test_a_run_that_is_watched_is_the_same(plain, called):
    run, watcher = called
    for x, y in zip(*(jax.tree.leaves(one.agent_state) for one in (run, plain)), strict=True):
        np.testing.assert_array_equal(x, y)
    added = ("seen", "norm", "entropy")
    found = [{name: x for name, x in row.items() if name not in added} for row in lines(run.folder)]
    assert found == lines(plain.folder)
    steps = list(range(100, 451, 50))
    assert watcher.seen == [(now, steps[:index]) for index, now in enumerate(steps)]
    assert len({*watcher.norms}) == len(steps), "each chunk's own networks"
    assert watcher.ended == ["entered", run.summary, None]
    assert (watcher.chunk.folder, watcher.chunk.config.seeds) == (run.folder, 2)
    assert watcher.chunk.is_first
    assert run.summary["env_steps"] == 450
    assert "stopped" not in run.summary


def test_metrics_of_the_user_are_in_the_lines(called):
    rows = lines(called[0].folder)
    assert [row["seen"] for row in rows] == list(range(1, 9))
    assert {str(row["norm"]) for row in rows} == {"[1.5, None]"}
    assert {row["entropy"] for row in rows} == {0.5}


def test_csv_has_the_lines(called):
    folder = called[0].folder
    found = table(folder / "metrics.csv")
    rows = read_metrics(folder)
    assert len(found) == len(rows) == 8
    for line, row in zip(found, rows, strict=True):
        expected = callbacks.flat(row)
        assert line == {name: "" if x is None else str(x) for name, x in expected.items()}
    assert float(found[-1]["evaluation_return/1"]) == rows[-1]["evaluation_return"][1]


def test_csv_is_whole_where_a_resumed_run_has_no_chunk_left(plain, tmp_path):
    """A kill may come in the callbacks of the last chunk; or CSV is wanted only later."""
    shutil.copytree(plain.folder, tmp_path / "run")
    table_of = lambda name: table(tmp_path / "run" / name)
    runs.train(
        run_dir=tmp_path / "run",
        resume=True,
        progress=False,
        csv=True,
        callbacks=[callbacks.csv_file("own.csv")],
    )
    assert [int(line["env_steps"]) for line in table_of("own.csv")] == [*range(100, 451, 50)]
    assert table_of("metrics.csv") == table_of("own.csv")


def test_films_are_of_each_so_many_steps(called):
    films = called[0].folder / "films"
    assert sorted(path.name for path in films.iterdir()) == ["200.gif", "400.gif"]
    frames = []
    for path in sorted(films.iterdir()):
        with Image.open(path) as picture:
            assert picture.n_frames == 20
            picture.seek(19)
            frames.append(np.asarray(picture.convert("RGB"), int))
    assert np.abs(frames[0] - frames[1]).max() > 0, "another policy's"


@pytest.mark.parametrize(
    ("answer", "said"), [("enough", "enough"), (True, "a callback asked for it")]
)
def test_a_stopped_run_is_whole_and_goes_on_when_it_is_resumed(
    plain, tmp_path, answer, said, capsys
):
    """At 250 steps, where nothing is saved or evaluated otherwise."""
    watcher, later = Watcher(answer, at=250), Watcher()
    run = runs.train(
        "pendulum", run_dir=tmp_path, seeds=2, callbacks=[watcher, later], **SIZES | ENV
    )
    assert [steps for steps, _ in later.seen] == [100, 150, 200, 250], "all are called"
    assert (run.summary["stopped"], run.summary["env_steps"]) == (said, 250)
    assert run.summary["updates"] == 200
    assert run.checkpoint_steps == [250, 250]
    assert f"stopped at 250 steps: {said}." in capsys.readouterr().out
    assert json.loads((tmp_path / "summary.json").read_text()) == run.summary
    assert runs.load(tmp_path).checkpoint_steps == [250, 250]
    resumed = runs.train(run_dir=tmp_path, resume=True, progress=False)
    assert "stopped" not in resumed.summary
    assert resumed.summary["final_returns"] == plain.summary["final_returns"]
    assert resumed.summary["best_returns"] == plain.summary["best_returns"]
    assert lines(tmp_path) == lines(plain.folder)


def test_a_run_stopped_before_its_first_evaluation_has_not_collapsed(tmp_path, capsys):
    """The display and a report count who has."""
    options = SIZES | ENV | {"run_dir": tmp_path, "callbacks": [lambda chunk: "at once"]}
    run = runs.train("pendulum", seeds=2, **options)
    assert run.summary["collapsed"] == [False, False]
    told = capsys.readouterr().out
    assert "stopped at 100 steps: at once." in told
    assert "collapsed" not in told
    report.report([tmp_path], tmp_path / "page.html")
    assert "at once" in (tmp_path / "page.html").read_text()


def test_an_error_of_a_callback_loses_nothing(plain, tmp_path):
    watcher = Watcher(at=250, error=LookupError("broken"))
    add = callbacks.user_metrics(lambda chunk: {"twice": 2 * chunk.row["env_steps"]})
    with pytest.raises(LookupError, match="broken"):
        train(tmp_path, seeds=2, csv=True, callbacks=[add, watcher])
    assert [type(each) for each in watcher.ended] == [str, LookupError]
    assert [row["env_steps"] for row in read_metrics(tmp_path)] == [100, 150, 200, 250]
    again = Watcher()
    resumed = runs.train(run_dir=tmp_path, resume=True, progress=False, callbacks=[add, again])
    assert again.seen[0] == (300, [100, 150, 200, 250])
    assert resumed.summary["final_returns"] == plain.summary["final_returns"]
    rows = read_metrics(tmp_path)
    assert [row["twice"] for row in rows] == [2 * row["env_steps"] for row in rows]
    found = table(tmp_path / "metrics.csv")
    assert [int(line["env_steps"]) for line in found] == [row["env_steps"] for row in rows]


def test_the_command_line_has_them(tmp_path):
    flags = [f"--{name.replace('_', '-')}={x}" for name, x in SIZES.items() if name != "hidden"]
    words = ["train", "pendulum", "--hidden", "8", "--time-limit", "20", *flags]
    words += ["--run-dir", str(tmp_path / "run"), "--csv", "--film-every", "100"]
    result = CliRunner().invoke(commands.main, [*words, "--stop-at", "-9e5"])
    assert result.exit_code == 0, result.output
    assert "stopped at 150 steps: the evaluation's return " in result.stdout
    assert "reached -900000." in result.stdout
    assert [path.name for path in (tmp_path / "run" / "films").iterdir()] == ["100.gif"]
    assert len((tmp_path / "run" / "metrics.csv").read_text().splitlines()) == 1 + 2
    config = runs.load(tmp_path / "run").config
    assert (config.stop_at, config.film_every, config.csv, config.wandb) == (-9e5, 100, True, None)


@pytest.mark.parametrize("name", ["stop_at", "film_every", "csv", "wandb", "callbacks"])
def test_a_sweep_does_not_take_them(name):
    with pytest.raises(ValueError, match=f"{name} is for one run: leave it out of a sweep"):
        runs.sweep("pendulum", {"tau": [0.1, 0.2]}, **{name: 1})
    flag = f"--{name.replace('_', '-')}"
    result = CliRunner().invoke(commands.main, ["sweep", "pendulum", "--set", "tau=0.1", flag])
    assert result.exit_code == 2
    assert "No such option" in result.stderr


# Without a run


def chunk(folder=Path("run"), steps=100, returns=None, earlier=(), **row):
    line = {"env_steps": steps, "episodes": [1.0], "evaluation_return": returns} | row
    config = types.SimpleNamespace(flat=lambda: {"tau": 0.1})
    state = types.SimpleNamespace(agent="state")
    given = {"row": line, "folder": folder, "config": config, "agent": "agent"}
    return callbacks.Chunk(
        **given, train_state=state, earlier=lambda: list(earlier), film=lambda path: None
    )


def test_the_mean_over_members_that_have_one_stops_a_run():
    stop = callbacks.stop_at(10)
    assert stop(chunk(returns=None)) is None
    assert stop(chunk(returns=[None, None])) is None
    assert stop(chunk(returns=[20.0, -0.1])) is None
    assert stop(chunk(returns=[20.0, None, 0.0])) == "the evaluation's return 10.0 reached 10"
    assert chunk().agent_state == "state"


def test_evaluations_without_progress_stop_a_run():
    stop = callbacks.stop_without_progress(3, by=1.0)
    answers = [stop(chunk(returns=x)) for x in ([5.0], [5.5], None, [6.0], [6.1], [7.1], [1.0])]
    assert answers == [None] * 7, "6.1 exceeds by 1"
    assert stop(chunk(returns=[7.0])) == "3 evaluations have not exceeded 6.1 by 1"
    rows = [chunk(returns=[x]).row for x in (5.0, 1.0, 4.0)]
    stop = callbacks.stop_without_progress(3)
    assert stop(chunk(returns=[5.0], earlier=rows)) == "3 evaluations have not exceeded 5.0"
    with pytest.raises(ValueError, match="evaluations=0: must be at least 1"):
        callbacks.stop_without_progress(0)


def test_films_are_due_after_so_many_steps_also_of_a_resumed_run():
    made = []
    film = callbacks.film_every(100)
    rows = [chunk(steps=250).row]
    for steps in (290, 310, 390, 600):
        own = dataclasses.replace(chunk(steps=steps, earlier=rows), film=made.append)
        assert film(own) is None
    assert made == [Path("run/films/310.gif"), Path("run/films/600.gif")]
    with pytest.raises(ValueError, match="steps=0: must be at least 1"):
        callbacks.film_every(0)


def test_a_metric_of_the_run_is_not_replaced():
    add = callbacks.user_metrics(lambda chunk: {"env_steps": 1})
    with pytest.raises(ValueError, match="a run has its own env_steps"):
        add(chunk())


def test_csv_is_written_anew_where_columns_come_later(tmp_path):
    write = callbacks.csv_file("own.csv")
    rows = [chunk(steps=1).row, chunk(steps=2, norm=3.0).row, chunk(steps=3).row]
    for count, row in enumerate(rows):
        write(dataclasses.replace(chunk(tmp_path), row=row, earlier=lambda n=count: rows[:n]))
    found = table(tmp_path / "own.csv")
    assert [line["env_steps"] for line in found] == ["1", "2", "3"]
    assert [line["norm"] for line in found] == ["", "3.0", ""]


def test_a_film_that_cannot_be_drawn_is_told_once(plain, tmp_path, monkeypatch):
    def broken(*given):
        tried.append(given)
        raise ValueError("no scene")

    tried, said = [], []
    monkeypatch.setattr(reports.run_pictures.render, "make_animation", broken)
    config = plain.config
    phases = types.SimpleNamespace(enter=lambda name: None)
    film = lambda own: own.film(Path("1.gif"))
    built = types.SimpleNamespace(agent=plain.agent)
    call = reports.Caller(config, tmp_path, built, [film], phases, said.append)
    state = types.SimpleNamespace(agent=plain.agent_state)
    assert [call({"env_steps": steps}, state) for steps in (1, 2)] == ["", ""]
    assert said == ["1.gif could not be drawn (no scene); all other results are written."]
    assert len(tried) == 1


# Weights & Biases


def test_weights_and_biases_offline(tmp_path, monkeypatch):
    """What it writes holds lines, configuration and summary; a resumed run keeps its id."""
    import wandb

    monkeypatch.setenv("WANDB_MODE", "offline")
    written = []
    for steps in (123_456, 234_567):
        with callbacks.WeightsAndBiases("project-of-ours", tags=["tag-of-ours"]) as log:
            log(chunk(tmp_path, steps=steps, returns=[0.8125], diverged=[None]))
            log.end({"final_of_ours": [6.0], "config": {"left_out": 1}})
        wandb.teardown()  # its own process writes; this waits for it
        files = {*tmp_path.glob("wandb/offline-run-*/run-*.wandb")}
        (new,) = files - {path for path, _ in written}
        written.append((new, new.read_bytes()))
    identity = (tmp_path / "wandb_id").read_text()
    for (path, content), steps in zip(written, (b"123456", b"234567"), strict=True):
        assert path.stem == f"run-{identity}"
        known = (b"project-of-ours", b"tag-of-ours", b"tau", b"evaluation_return", b"0.8125")
        for part in (*known, steps, b"final_of_ours"):
            assert part in content, part
        assert b"diverged" not in content
        assert b"left_out" not in content
    assert written[0][0] != written[1][0]


def test_weights_and_biases_is_another_package(monkeypatch, tmp_path):
    find = callbacks.importlib.util.find_spec
    own = lambda name, *rest: None if name == "wandb" else find(name, *rest)
    monkeypatch.setattr(callbacks.importlib.util, "find_spec", own)
    words = ["train", "pendulum", "--run-dir", str(tmp_path / "run"), "--wandb", "project"]
    result = CliRunner().invoke(commands.main, words)
    assert result.exit_code == 2
    assert "needs the package wandb: pip install 'ddpg_jax[wandb]'" in result.stderr
    assert not (tmp_path / "run").exists()


def test_another_process_logs_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(callbacks.WeightsAndBiases, "_begun", lambda *given: pytest.fail("logs"))
    with callbacks.WeightsAndBiases("project") as log:
        log(dataclasses.replace(chunk(tmp_path), is_first=False))
        log.end({})


# Collapse


@pytest.mark.parametrize(
    ("returns", "collapsed"),
    [
        ([0, 100, 49, 49, 49], True),
        ([0, 100, 49, 51, 49], False),  # one of three is above half of the way
        ([0, 100, 49, 49], False),  # two of three
        ([-1_500, -150, -826, -830, -900], True),
        ([-1_500, -150, -824, -830, -900], False),
        ([50, 100, 70, 70, 70, -500], True),  # what came after the best sets no bound
        ([0, 100, np.nan, 0, 0, 0], True),
        ([np.nan, 0, 100, 0, np.nan, 0], False),
        ([5, 5, 5, 5, 5], False),
        ([], False),
    ],
)
def test_a_collapse_is_a_fall_below_half_of_the_way_to_the_best(returns, collapsed):
    both = np.stack([np.array(returns, float), np.arange(len(returns))], axis=1)
    assert have_collapsed(both).tolist() == [collapsed, False]


def test_a_collapse_is_told_once_while_it_lasts(tmp_path):
    config = make_config("pendulum", seeds=2, seed=7)
    said, shown, rows = [], [], []
    report = reports.watched(config, tmp_path, shown.append, said.append)
    for steps, value in enumerate([0, 100, 0, 0, 0, 0, 90, 0, 0, 0]):
        line = chunk(steps=1_000 * steps, returns=[1.0 * steps, float(value)]).row
        rows.append(line | {"episode_length": [20.0, 20.0]})
        write_metrics(tmp_path, rows)
        report(rows[-1])
    assert len(said) == 2, "again after a better evaluation"
    assert said[0] == (
        "collapse: the return of seed 8 was 100.0 at 1,000 steps, and was 0.0, 0.0, 0.0 in the "
        "last 3 evaluations. best/ keeps the agent of the best one: --checkpoint best."
    )
    assert shown == rows


def test_what_a_resumed_run_had_reached_counts(tmp_path):
    """Lines of other numbers of seeds, and later ones, do not."""
    config = make_config("pendulum")
    said, length = [], {"episode_length": [20.0]}
    lines = [chunk(steps=i, returns=[x]).row for i, x in enumerate([0.0, 100.0, 0.0, 0.0])]
    odd = [chunk(steps=7, returns=[1.0, 500.0]).row, chunk(steps=50, returns=[-1e6]).row]
    write_metrics(tmp_path, [*lines, *odd])
    report = reports.watched(config, tmp_path, lambda row: None, said.append)
    report(chunk(steps=40).row | length)
    report(chunk(steps=41, returns=[0.0]).row | length)
    assert [text.partition(" steps")[0] for text in said] == ["collapse: the return was 100.0 at 1"]
    report(chunk(steps=42, returns=[0.0]).row | length)
    assert len(said) == 1


def test_a_collapse_is_in_the_summary_and_at_the_end_of_the_display(plain, tmp_path, capsys):
    assert plain.summary["collapsed"] == [False, False]
    with Display(plain.config, tmp_path) as display:
        display.finish(plain.summary | {"collapsed": [True, False]})
    told = capsys.readouterr().out
    assert (
        "1 of 2 collapsed after better evaluations, whose agents are kept: --checkpoint best"
        in (" ".join(told.split()))
    )
