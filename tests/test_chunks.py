"""The chunks of a run, with programs that train nothing: what is saved, evaluated and reported, in
which order, and what is kept where one fails or a signal comes."""

import signal
import types
from pathlib import Path

import jax
import numpy as np
import pytest

from ddpg_jax import reporting
from ddpg_jax.checks import BrokenEnvironment
from ddpg_jax.host import NotFinite, Stopped
from ddpg_jax.population import Programs
from ddpg_jax.runs.config.run_config import make_config
from ddpg_jax.runs.console.signals import Interrupted
from ddpg_jax.runs.folder.metrics import Clock
from ddpg_jax.runs.folder.metrics_log import write_metrics
from ddpg_jax.runs.options.validation import Diverged, RunError
from ddpg_jax.runs.training import chunks, loop, reports
from ddpg_jax.runs.training.phases import Phases

SIZES = {"learning_starts": 100, "steps_per_chunk": 200, "total_timesteps": 1_000}
EVERY = {"evaluate_every": 400, "checkpoint_every": 600, "evaluation_episodes": 2}


def report(first_bad=reporting.NEVER):
    number = lambda value: np.array([value, 2 * value], np.float32)
    episodes = reporting.Episodes(number(2), number(-8), number(100), np.zeros(2))
    never = np.array([reporting.NEVER, first_bad], np.int32)
    return reporting.Report(episodes, {"value": number(0.5)}, {"reward": never}, {})


class Loop:
    """A `ChunkLoop` of two seeds and what is done in it, by name: ``save 700``."""

    def __init__(self, folder, monkeypatch, report=report, returns=lambda: 1.0, **options):
        self.done, self.rows, self.kept, self.stop, self.keys = [], [], {}, [], []
        self.offered, self.bests = [], []
        self.returns, self.config = (
            returns,
            make_config("pendulum", seeds=2, **SIZES | EVERY | options),
        )

        def chunk(state, hyperparameters):
            self.done.append("train")
            return types.SimpleNamespace(agent=state.agent + 1), report()

        def evaluate(agent, keys, hyperparameters):
            self.done.append("evaluate")
            self.keys.append(jax.random.key_data(keys).tolist())
            return np.array([[self.returns(), 3.0, 99.0], [agent, agent, 99.0]], np.float32)

        def shorter(built, config, length):
            self.done.append(f"compile {length}")
            return chunk

        def save(steps, state, record):
            self.done.append(f"save {steps}")
            self.kept[steps] = state.agent, record

        waited = lambda until_done: self.done.extend(["wait"] * until_done)
        monkeypatch.setattr(chunks, "compile_shorter", shorter)
        self.log = types.SimpleNamespace(add=lambda row: None, replace_all=self.rows.extend)
        self.loop = chunks.ChunkLoop(
            config=self.config,
            run_dir=Path("run"),
            folder=folder,
            programs=Programs(None, chunk, evaluate, 0.0),
            checkpoints=types.SimpleNamespace(save=save, wait=waited),
            log=self.log,
            on_chunk=self.rows.append,
            stop=self.stop,
            agree=lambda: None,
            seconds={"evaluation": 0.0, "checkpoint": 0.0},
            phases=Phases(lambda name: None, lambda text: None),
            built=None,
            best=types.SimpleNamespace(
                save=lambda: self.bests.append(len(self.rows)),
                restore=lambda evaluated: None,
                lacks=lambda returns: returns[0] > 8.0,
                offer=lambda *given: self.offered.append(given),
                agent_state=None,
            ),
            call=lambda row, state: "",
        )

    def run(self, trained=100):
        self.clock = Clock()
        return self.loop.run(types.SimpleNamespace(agent=0), trained, self.clock).state


def test_each_chunk_is_saved_before_it_is_evaluated_where_they_are_due(tmp_path, monkeypatch):
    """Every 400 and 600 steps from the warm-up on, and at the end, which is a shorter chunk."""
    made = Loop(tmp_path, monkeypatch)
    assert made.run().agent == 5
    assert made.done == [
        *("train", "train", "evaluate"),
        *("train", "save 700", "train", "evaluate"),
        *("compile 100", "train", "save 1000", "evaluate", "wait"),
    ]
    assert [row["env_steps"] for row in made.rows] == [300, 500, 700, 900, 1_000]
    returns = [row["evaluation_return"] for row in made.rows]
    assert made.offered == [(2, [2.0, 2.0], 500), (4, [2.0, 4.0], 900), (5, [2.0, 5.0], 1_000)]
    assert returns == [None, [2.0, 2.0], None, [2.0, 4.0], [2.0, 5.0]]
    assert len({str(keys) for keys in made.keys}) == 3, "other episodes each time"
    assert [row["updates"] for row in made.rows] == [200, 400, 600, 800, 900]
    for steps, agent in ((700, 3), (1_000, 5)):
        kept, record = made.kept[steps]
        assert kept == agent
        assert record["config"] == made.config.flat()
        assert record["row"]["env_steps"] == steps
        assert record["row"]["evaluation_return"] is None
        assert record["train_seconds"] == record["row"]["train_seconds"] > 0
    row = made.rows[-1]
    assert row["train_seconds"] == made.clock.total
    assert row["env_steps_per_second"] == pytest.approx(2 * 100 / made.clock.last)
    assert row["episode_return"] == [-4.0, -4.0]
    assert row["value"] == [0.5, 1.0]
    assert made.loop.seconds["evaluation"] > 0


def test_a_run_that_goes_on_begins_where_it_was(tmp_path, monkeypatch):
    made = Loop(tmp_path, monkeypatch, evaluate_every=0, checkpoint_every=0)
    made.run(700)
    assert made.done == ["train", "compile 100", "train", "save 1000", "evaluate", "wait"]
    made.done.clear()
    made.run(1_000)
    assert made.done == ["wait"]


def test_a_signal_is_answered_after_a_chunk_which_is_saved_and_not_evaluated(tmp_path, monkeypatch):
    made = Loop(tmp_path, monkeypatch)
    agree = lambda: made.stop.extend([signal.SIGTERM] * (made.done.count("train") == 2))
    made.loop = made.loop._replace(agree=agree)
    with pytest.raises(Interrupted, match="stopped by SIGTERM at 500 steps and saved") as stopped:
        made.run()
    assert "continue with --resume --run-dir run" in str(stopped.value)
    assert made.done == ["train", "train", "save 500", "wait"]
    assert [row["evaluation_return"] for row in made.rows] == [None, None]


def test_a_signal_during_an_evaluation_leaves_it_out_and_one_at_the_end_is_not_too_late(
    tmp_path, monkeypatch
):
    def interrupted():
        made.stop.append(signal.SIGINT)
        raise Stopped

    made = Loop(tmp_path, monkeypatch, returns=interrupted)
    with pytest.raises(Interrupted, match="SIGINT at 500 steps and saved"):
        made.run()
    assert made.done == ["train", "train", "evaluate", "save 500", "wait"]
    assert made.rows[-1]["evaluation_return"] is None
    made = Loop(tmp_path, monkeypatch, evaluate_every=0)
    made.loop = made.loop._replace(
        agree=lambda: made.stop.extend([signal.SIGINT] * (made.done.count("train") == 5))
    )
    assert made.run().agent == 5, "all is trained"
    assert made.done[-2:] == ["save 1000", "wait"]
    with pytest.raises(Interrupted, match="stopped by SIGINT with everything trained and saved"):
        made.loop.final(5, 1_000)


@pytest.mark.parametrize(("at", "saved"), [(2, ["save 500"]), (5, [])])
def test_who_fails_in_an_evaluation_has_saved_what_it_trained_once(
    tmp_path, monkeypatch, at, saved
):
    made = Loop(tmp_path, monkeypatch, returns=lambda: np.nan if len(made.rows) + 1 == at else 1.0)
    with pytest.raises(Diverged, match="a return of an evaluation is NaN"):
        made.run()
    ends = made.done.index("evaluate") if at == 2 else len(made.done) - 2
    assert made.done[ends:] == ["evaluate", *saved, "wait"]
    assert len(made.rows) == at - 1


def test_of_several_processes_one_that_fails_alone_saves_nothing(tmp_path, monkeypatch):
    """But a signal is of all of them."""
    monkeypatch.setattr(chunks.processes, "process_count", lambda: 2)
    monkeypatch.setattr(chunks.processes, "from_first", lambda value: value)
    made = Loop(tmp_path, monkeypatch, returns=lambda: np.nan)
    with pytest.raises(Diverged):
        made.run()
    assert made.done == ["train", "train", "evaluate", "wait"]
    assert made.bests == []
    made = Loop(tmp_path, monkeypatch, returns=lambda: made.stop.append(signal.SIGINT) or 1.0)
    with pytest.raises(Interrupted, match="SIGINT at 500 steps and saved"):
        made.run()
    assert made.done == ["train", "train", "evaluate", "save 500", "wait"]
    assert made.bests == [2, 2]


def test_the_best_is_kept_before_a_checkpoint_after_which_it_is_not_evaluated_again(
    tmp_path, monkeypatch
):
    """Of 500 steps, at 700; a callback that leaves by an exit is an error of its own."""

    def leave(row, state):
        if row["env_steps"] == 900:
            raise SystemExit(3)
        return ""

    made = Loop(tmp_path, monkeypatch)
    save = made.loop.best.save
    made.loop.best.save = lambda: save() or made.done.append("best")
    made.loop = made.loop._replace(call=leave)
    with pytest.raises(SystemExit):
        made.run()
    assert made.done == [
        *("train", "train", "evaluate", "train", "best", "save 700", "best"),
        *("train", "evaluate", "best", "save 900", "best", "wait"),
    ]


def test_an_evaluation_whose_agent_was_not_kept_is_not_lost_by_a_signal(tmp_path, monkeypatch):
    made = Loop(tmp_path, monkeypatch)
    write_metrics(tmp_path, [{"env_steps": 500, "evaluation_return": [9.0, 9.0]}])
    made.stop.append(signal.SIGINT)
    made.loop.catch_up(7, 500)
    assert made.rows[-1]["evaluation_return"] == [9.0, 9.0]


def test_what_is_not_finite_ends_a_run_before_it_is_saved(tmp_path, monkeypatch):
    """The newest checkpoint is named when it is written."""
    count = []
    bad = lambda: count.append(1) or report(649 if len(count) == 4 else reporting.NEVER)
    made = Loop(tmp_path, monkeypatch, report=bad)
    sentence = r"reward of seed 1 became NaN .* at step 650; .* at 700 steps, is kept"
    with pytest.raises(Diverged, match=sentence):
        made.run()
    assert made.done == ["train", "train", "evaluate", "train", "save 700", "train", "wait"]
    made = Loop(tmp_path, monkeypatch, report=lambda: report(150))
    with pytest.raises(Diverged, match="at step 151; no checkpoint had been written yet"):
        made.run()
    made = Loop(tmp_path, monkeypatch, report=lambda: report(550))
    with pytest.raises(Diverged, match=r"at step 551; .* at 500 steps, is kept"):
        made.run(500)


def test_the_clock_saves_where_steps_do_not(monkeypatch):
    """After five minutes, or where it takes 30 s after ten; all that is wanted is the last one:
    never."""
    clock = [1_000.0]
    monkeypatch.setattr(chunks.time, "monotonic", lambda: clock[0])
    saving = chunks.SaveTimer()

    def due_at(seconds, every=1):
        clock[0] = seconds
        return saving.is_due(every)

    assert [due_at(x) for x in (1_000, 1_299, 1_300, 1_400)] == [False, False, True, True]
    assert not due_at(1_400, every=0)

    def save(first, second):
        clock[0] += second
        return first

    assert saving.time(save, 700, 10.0) == 700
    assert [due_at(x) for x in (1_709, 1_710)] == [False, True]
    saving.time(save, 0, 30.0)
    assert [due_at(x) for x in (2_339, 2_340)] == [False, True]


@pytest.mark.parametrize(
    ("rows", "trained", "found"),
    [
        ([(300, None), (500, None)], 500, [2.0, 7.0]),
        ([(300, None), (500, [8.0, 9.0])], 500, None),
        ([(300, None), (500, [8.5, 9.0])], 500, [2.0, 7.0]),  # a kill before its agent was kept
        ([(300, None)], 300, None),
        ([(300, None), (500, None), (700, None)], 700, None),
        ([(300, None), (500, None), (700, None), (900, None)], 900, [2.0, 7.0]),
        ([(500, None)], 500, [2.0, 7.0]),
        ([(900, None), (1_000, None)], 1_000, [2.0, 7.0]),
        ([], 500, None),
    ],
)
def test_an_evaluation_that_an_interruption_left_out_is_made_up_for(
    tmp_path, monkeypatch, rows, trained, found
):
    made = Loop(tmp_path, monkeypatch)
    lines = [{"env_steps": steps, "evaluation_return": returns} for steps, returns in rows]
    write_metrics(tmp_path, lines)
    replaced = []
    made.loop = made.loop._replace(log=types.SimpleNamespace(replace_all=replaced.extend))
    made.loop.catch_up(7, trained)
    if found is None:
        assert (made.done, made.rows, replaced) == ([], [], lines)
    else:
        assert made.done == ["evaluate"]
        assert made.rows == [{"env_steps": trained, "evaluation_return": found}]
        assert replaced == [*lines[:-1], *made.rows]


def test_episodes_that_are_shorter_than_planned_are_told_of_once(tmp_path):
    """Where frames are stored: of 20 steps they are 1.05 a step, of 5.5 they are 1.18."""
    pixels = {"pixels": True, "image_size": 48}
    config = make_config("pendulum", "drq-v2", env_options=pixels, episode_steps=20)
    seen, said = [], []
    report = reports.watched(config, tmp_path, seen.append, said.append)
    for lengths in ([None, None], [20.0, 21.0], [None, 5.5], [4.0, 4.0]):
        report({"episode_length": lengths, "evaluation_return": None})
        assert len(said) == (lengths[-1] in (5.5, 4.0)), lengths
    assert len(seen) == 4
    assert said[0].startswith("episodes last 5.5 steps, fewer than episode_steps=20, for which")
    assert "up to 11% of its transitions" in said[0]
    assert said[0].endswith("Give --episode-steps 5 to a new run.")
    plain = reports.watched(make_config("pendulum"), tmp_path, seen.append, said.append)
    plain({"episode_length": [0.5], "evaluation_return": None})
    assert (len(seen), len(said)) == (5, 1)


@pytest.mark.parametrize(
    ("error", "steps", "kind", "told"),
    [
        (
            BrokenEnvironment("it broke."),
            [100, 200, 300],
            RunError,
            "it broke; the checkpoint at 300 steps is kept, continue from it with --resume "
            "--run-dir run.",
        ),
        (NotFinite("it broke"), [], Diverged, "it broke; no checkpoint had been written yet."),
        (KeyError("x"), [100], KeyError, "'x'"),
    ],
)
def test_where_an_environment_breaks_the_newest_checkpoint_is_named(error, steps, kind, told):
    """Once it is written."""
    waited = []
    kept = types.SimpleNamespace(wait=lambda: waited.append(1), steps=lambda: steps)

    def fail():
        with loop._named_if_lost(kept, Path("run")) as opened:
            assert opened is kept
            raise error

    with pytest.raises(kind) as raised:
        fail()
    assert type(raised.value) is kind
    assert str(raised.value) == told
    assert waited == [1] * isinstance(error, BrokenEnvironment)


@pytest.mark.parametrize("host", [True, False])
def test_a_run_begins_after_its_warm_up_or_where_it_was(monkeypatch, host):
    """Environments of the host begin anew where it goes on."""
    config = make_config("pendulum", seeds=2, **SIZES)
    begun, phases, said = [], [], []
    bad = {"reward": np.full((2, 2), reporting.NEVER, np.int32)}
    state = types.SimpleNamespace(first_bad_step=bad)
    programs = types.SimpleNamespace(start=lambda keys, own: begun.append(keys.shape) or state)
    built = types.SimpleNamespace(host=types.SimpleNamespace(begin=begun.append) if host else None)
    monkeypatch.setattr(loop.jax, "block_until_ready", lambda state: state)
    begin = lambda kept: loop._begin(
        config, None, built, programs, kept, said.append, Phases(phases.append, print), None
    )
    made, steps, clock = begin(None)
    assert (made, steps, clock.total) == (state, 100, 0.0)
    assert (begun, phases, said) == ([(2,)], ["warming up"], [])
    bad["reward"][1, 0] = 30  # of the first of two shards
    with pytest.raises(Diverged, match="reward of seed 1 became NaN or infinite at step 31; no"):
        begin(None)
    for names in (begun, phases):
        names.clear()
    monkeypatch.setattr(loop, "restore", lambda *arguments: ("restored", 300, Clock(7.0)))
    monkeypatch.setattr(loop, "evaluation_keys", lambda config, *about: about)
    monkeypatch.setattr(loop, "host_seed", lambda about: about)
    made, steps, clock = begin("kept")
    assert (made, steps, clock.total) == ("restored", 300, 7.0)
    assert phases == ["restoring"]
    assert begun == [(loop.HOST_RESET_STREAM, 300)] * host
    assert said == ["Host environments were reset; all other state was restored."] * host
    monkeypatch.setattr(loop, "restore", lambda *arguments: None)
    bad["reward"][:] = reporting.NEVER
    assert begin("kept")[1] == 100
    assert phases == ["restoring", "restoring", "warming up"]
