"""What a sweep's folder says of its members, and what of it is trained, with runs that are written
by hand."""

import dataclasses
import json
import types

import numpy as np
import pytest

from ddpg_jax.runs.config.run_config import make_config
from ddpg_jax.runs.console.signals import Interrupted
from ddpg_jax.runs.folder.metrics_log import write_metrics
from ddpg_jax.runs.options.validation import Diverged, RunError
from ddpg_jax.runs.sweeps import run_sweep, sweep_results
from ddpg_jax.runs.sweeps.groups import Member
from ddpg_jax.runs.sweeps.plan import Plan, SweepRun

SIZES = {"total_timesteps": 400, "learning_starts": 100, "steps_per_chunk": 100}
SIZES |= {"evaluation_episodes": 3}


def options(members, **more):
    vary = {"tau": [one.hyperparameters["tau"] for one in members]}
    seeds = {"seeds": len(members), "vary": vary | {"seed": [one.seed for one in members]}}
    return SIZES | {"preset": "default"} | seeds | more


@pytest.fixture
def swept(tmp_path):
    """Two settings of two seeds in two runs, each of three members: the second has two copies of
    its only one. The first has ended."""
    members = [Member(i, 5 + i % 2, {"tau": (0.1, 0.2)[i // 2]}) for i in range(4)]
    groups = [members[:3], [members[3]] * 3]
    runs = [
        SweepRun(options(group), own) for group, own in zip(groups, ([0, 1, 2], [3]), strict=True)
    ]
    plan = Plan("pendulum", SIZES | {"preset": "default"}, {"tau": [0.1, 0.2]}, None, members, runs)
    (tmp_path / "sweep.json").write_text(json.dumps(dataclasses.asdict(plan)))
    for index, part in enumerate(runs):
        folder = tmp_path / f"part-{index}"
        folder.mkdir()
        config = make_config("pendulum", **part.options).flat()
        (folder / "config.json").write_text(json.dumps(config))
    summary = {"final_returns": [-4.0, -1.0, None], "final_return_std": [0.5, 0.25, None]}
    (tmp_path / "part-0" / "summary.json").write_text(json.dumps(summary))
    rows = [{"env_steps": 200, "evaluation_return": [-9.0, -8.0, -7.0]}]
    write_metrics(tmp_path / "part-0", rows)
    return tmp_path


def test_members_are_found_in_their_runs(swept):
    plan = sweep_results.read_plan(swept)
    members = sweep_results.read_members(swept, plan)
    assert [one["member"] for one in members] == [0, 1, 2, 3]
    assert [(one["run"], one["place"]) for one in members] == [
        *(("part-0", 0), ("part-0", 1), ("part-0", 2)),
        ("part-1", 0),
    ]
    assert [one["final_return"] for one in members] == [-4.0, -1.0, None, None]
    assert [one["final_return_std"] for one in members] == [0.5, 0.25, None, None]
    assert [(one["seed"], one["hyperparameters"]["tau"]) for one in members] == [
        *((5, 0.1), (6, 0.1), (5, 0.2)),
        (6, 0.2),
    ]
    assert sweep_results.locate_member(swept, None) == (swept / "part-0", 1)
    assert sweep_results.locate_member(swept, 3) == (swept / "part-1", 0)
    assert sweep_results.locate_member(swept / "part-1", 2) == (swept / "part-1", 2)
    assert sweep_results.locate_member(swept / "part-1", None) == (swept / "part-1", 0)
    for wrong in (4, -1):
        with pytest.raises(ValueError, match=rf"member={wrong}: this sweep has 4 member\(s\)"):
            sweep_results.locate_member(swept, wrong)
    steps, returns = sweep_results.member_curve(swept, members[1])
    assert (steps.tolist(), returns.tolist()) == ([200], [-8.0])
    steps, returns = sweep_results.member_curve(swept, members[3])
    assert (steps.tolist(), returns.tolist()) == ([], [])
    assert sweep_results.runs_in(swept) == [swept / "part-0", swept / "part-1"]
    assert sweep_results.runs_in(swept / "part-0") == [swept / "part-0"]
    for index in range(2):
        (swept / f"part-{index}" / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"no run of the sweep .* has begun"):
        sweep_results.runs_in(swept)


def test_hyper_parameters_that_evolved_are_their_last_ones(swept):
    plan = sweep_results.read_plan(swept)
    plan.parts[0].options["evolve"] = {"ranges": {"tau": [0, 1, False]}}
    rows = [{"env_steps": 200 + i, "evaluation_return": None} for i in range(2)]
    write_metrics(
        swept / "part-0",
        [row | {"tau": [i, i + 0.25, i + 0.5]} for i, row in enumerate(rows)],
    )
    members = sweep_results.read_members(swept, plan)
    assert [one["hyperparameters"] for one in members] == [
        *({"tau": 1}, {"tau": 1.25}, {"tau": 1.5}),
        {"tau": 0.2},
    ]
    write_metrics(swept / "part-0", [])
    assert sweep_results.read_members(swept, plan)[0]["hyperparameters"] == {"tau": 0.1}


def test_settings_are_in_the_order_of_their_means():
    one = lambda number, tau, value: {
        "member": number,
        "hyperparameters": {"tau": tau},
        "final_return": value,
    }
    members = [one(0, 0.1, -3.0), one(1, 0.2, -1.0), one(2, 0.3, None), one(3, 0.1, -2.0)]
    assert sweep_results.settings(members) == [
        {"hyperparameters": {"tau": 0.2}, "members": [1], "returns": [-1.0]},
        {"hyperparameters": {"tau": 0.1}, "members": [0, 3], "returns": [-3.0, -2.0]},
        {"hyperparameters": {"tau": 0.3}, "members": [2], "returns": [None]},
    ]
    assert [sweep_results.short_text(x) for x in (0.123456, 1e-7, [8, 4], True, 12345678)] == [
        *("0.1235", "1e-07", "8x4"),
        *("True", "12345678"),
    ]


def test_every_member_is_evaluated_once_and_copies_are_none(swept, monkeypatch):
    played = []

    def evaluate(run, episodes, seed, *more, checkpoint="last"):
        assert checkpoint == "last"
        played.append((run.name, episodes, seed, *more))
        number = int(run.name[-1])
        count, means = 1 if more else 3, [-10.0 * number - i for i in range(3)]
        return {"returns": means[:count], "return_std": [0.5, 0.25, 0.75][:count]}

    monkeypatch.setattr(sweep_results.policy, "evaluate", evaluate)
    found = sweep_results.evaluate_sweep(swept, 7, 3)
    assert played == [("part-0", 7, 3), ("part-1", 7, 3)]
    assert found["returns"] == [0.0, -1.0, -2.0, -10.0]
    assert found["return_std"] == [0.5, 0.25, 0.75, 0.5]
    assert (found["mean_return"], found["interquartile_mean"]) == (-3.25, -1.5)
    assert [found[name] for name in ("run", "env", "episodes", "seed")] == [
        *(str(swept), "pendulum"),
        *(7, 3),
    ]
    (swept / "part-1" / "diverged.json").write_text("{}")
    assert sweep_results.evaluate_sweep(swept, 7, 3)["returns"] == [0.0, -1.0, -2.0, None]
    (alone,) = [sweep_results.evaluate_member(swept, 7, 3, 2)]
    assert played[-1] == ("part-0", 7, 3, 2)
    assert (alone["run"], alone["member"]) == (str(swept), 2)
    report = sweep_results.with_report(swept, {"run": "part-1", "place": 0, "member": 3})
    assert played[-1] == ("part-1", 100, 2**32 - 1, 0, 3), "as many at once as in an evaluation"
    assert (report["fresh_return"], report["fresh_return_std"]) == (-10.0, 0.5)
    assert report["member"] == 3


def test_runs_that_have_not_begun_have_no_returns(swept, monkeypatch):
    def missing(run, *arguments, **options):
        raise FileNotFoundError(f"no {run.name}")

    monkeypatch.setattr(sweep_results.policy, "evaluate", missing)
    with pytest.raises(FileNotFoundError, match="no part-1"):
        sweep_results.evaluate_sweep(swept, 2, 0)
    first = lambda run, *arguments, **options: (
        {"returns": [1.0] * 3, "return_std": [0.0] * 3} if run.name == "part-0" else missing(run)
    )
    monkeypatch.setattr(sweep_results.policy, "evaluate", first)
    assert sweep_results.evaluate_sweep(swept, 2, 0)["returns"] == [1.0, 1.0, 1.0, None]


def test_a_plan_has_its_fields_and_no_others(swept):
    data = json.loads((swept / "sweep.json").read_text())
    assert Plan.of(data) == sweep_results.read_plan(swept)
    for wrong, name in (({**data, "more": 1}, "more"), ({"env": "a"}, "draws")):
        with pytest.raises(ValueError, match=f"^{name} is missing, or is one too many"):
            Plan.of(wrong)


# What is trained


@pytest.fixture
def trained(monkeypatch):
    """The runs that a sweep trains, and what one raises."""
    done, raised = [], {}

    def run(config, folder, resume, builder, compiler, say, **shown):
        done.append((folder.name, resume, config.hyperparameters.total_timesteps, sorted(shown)))
        if folder.name in raised:
            raise raised[folder.name]

    monkeypatch.setattr(run_sweep.loop, "run", run)
    return done, raised


def train(folder, given=None, progress=False):
    plan = sweep_results.read_plan(folder)
    for index, part in enumerate(plan.parts):
        run = sweep_results.run_folder(folder, index)
        run_sweep._train(plan, part, run, given or {}, run_sweep._Programs(), progress)


def test_what_has_ended_is_not_trained_again_unless_it_is_longer(swept, trained):
    done, _ = trained
    train(swept)
    assert done == [("part-1", True, 400, [])]
    done.clear()
    (swept / "part-1" / "config.json").unlink()
    train(swept, {"total_timesteps": 600})
    assert done == [("part-0", True, 600, []), ("part-1", False, 600, [])]
    done.clear()
    (swept / "part-1" / "diverged.json").write_text("{}")
    train(swept)
    assert done == []
    (swept / "part-1" / "diverged.json").unlink()
    train(swept, progress=True)
    assert done == [("part-1", False, 400, ["on_chunk", "on_phase"])]


def test_who_diverges_is_written_down_and_a_signal_is_of_the_whole_sweep(swept, trained, capsys):
    _, raised = trained
    raised["part-1"] = Diverged("reward became NaN")
    train(swept, progress=True)
    reason = json.loads((swept / "part-1" / "diverged.json").read_text())
    assert reason == {"reason": "reward became NaN"}
    (swept / "part-1" / "diverged.json").unlink()
    raised["part-1"] = Interrupted(f"continue with --run-dir {swept / 'part-1'}", 15)
    with pytest.raises(Interrupted, match=rf"continue with --run-dir {swept}$") as stopped:
        train(swept)
    assert stopped.value.signal == 15


def test_programs_are_built_again_where_they_differ(monkeypatch):
    """Not for another seed, other values of a float, or another folder; but for each environment of
    the host."""
    built, compiled = [], []
    programs = types.SimpleNamespace(seconds=3.0, _replace=lambda seconds: ("again", seconds))
    monkeypatch.setattr(run_sweep.build, "build", lambda *a: built.append(a) or len(built))
    monkeypatch.setattr(
        run_sweep.build, "compile_programs", lambda *a: compiled.append(a) or programs
    )
    known = run_sweep._Programs()

    def made(env="pendulum", **more):
        config = make_config(env, seeds=2, **SIZES | more)
        return known.built(config, None), known.compile_programs(None, config)

    vary = lambda *tau: {"vary": {"tau": [*tau], "seed": [0, 1]}}
    assert made(**vary(0.1, 0.2)) == (1, programs)
    for same in (vary(0.3, 0.4), vary(0.1, 0.2) | {"seed": 7, "keep": 5}):
        assert made(**same) == (1, ("again", 0.0))
    assert made() == (2, programs), "a float that does not vary is of the program"
    assert made(batch_size=8) == (3, programs)
    assert made(batch_size=8, evaluation_episodes=4) == (4, programs)
    for number in (5, 6):
        found = known.built(make_config("gymnasium/Pendulum-v1", **SIZES), None)
        assert found == number
    assert len(compiled) == 4


def test_a_folder_is_new_or_one_in_which_all_failed(swept, tmp_path):
    with pytest.raises(RunError, match="already holds a sweep: choose another --run-dir"):
        run_sweep._require_new(swept)
    for index in range(2):
        with pytest.raises(RunError, match="already holds a sweep"):
            run_sweep._require_new(swept)
        (swept / f"part-{index}" / "failed.json").write_text("{}")
    (swept / "part-0" / "diverged.json").write_text("{}")
    run_sweep._require_new(swept)
    assert not (swept / "part-0" / "diverged.json").exists()
    (swept / "sweep.json").unlink()
    with pytest.raises(RunError, match="already holds a run: choose another --run-dir"):
        run_sweep._require_new(swept)
    with pytest.raises(RunError, match="already holds a run"):
        run_sweep._require_new(swept / "part-0")
    (tmp_path / "new").mkdir()
    run_sweep._require_new(tmp_path / "new")


def test_a_plan_of_which_nothing_ran_is_not_in_the_way(tmp_path):
    path = tmp_path / "sweep.json"
    for kind, part, left in (
        (ValueError, False, False),
        (None, False, True),
        (KeyboardInterrupt, False, True),
        (ValueError, True, True),
    ):
        path.write_text("{}")
        if part:
            (tmp_path / "part-0").mkdir()
        run_sweep._free_if_nothing_ran(tmp_path, kind, None, None)
        assert path.exists() == left


def test_the_best_member_is_told_with_those_that_it_was_chosen_from(swept, monkeypatch):
    drawable = types.SimpleNamespace(drawable=True)
    monkeypatch.setattr(run_sweep.policy, "declared_environment", lambda run: (None, drawable))
    one = lambda number, tau, value: {
        "member": number,
        "hyperparameters": {"tau": tau},
        "final_return": value,
    }
    members = [one(0, 0.1, -3.0), one(1, 0.1, -1.0), one(2, 0.2, -9.0)]
    best = {"member": 1, "run": "part-0", "fresh_return": -1_234.56, "fresh_return_std": 7.89}
    told = lambda best, members: run_sweep._best_sentence(best, members, swept)
    look = f"; render it: ddpg-jax render {swept}"
    assert told(best, members) == (
        "best: member 1, of those with the best mean (members 0-1): -1,234.6 +- 7.9 over 100 fresh "
        f"episodes{look}"
    )
    drawable.drawable = False
    assert told(best | {"fresh_return": None}, members[1:]) == (
        "best: member 1: diverged over 100 fresh episodes"
    )


def test_a_sweep_of_which_all_diverged_ends_in_a_sentence(swept):
    (swept / "part-0" / "summary.json").unlink()
    with pytest.raises(RunError, match=r"every member of .* diverged: lower the learning rates"):
        run_sweep._finish(swept, progress=False)


def test_statistics_leave_out_who_diverged():
    found = sweep_results.statistics.return_statistics(
        np.array([1.0, np.nan, 2.0, 4.0, 9.0]), np.array([0.5, np.nan, 1.0, 1.0, 1.0])
    )
    assert found == {
        "mean_return": 4.0,
        "returns": [1.0, None, 2.0, 4.0, 9.0],
        "return_std": [0.5, None, 1.0, 1.0, 1.0],
        "interquartile_mean": 3.0,
    }
    nobody = sweep_results.statistics.return_statistics(np.full(2, np.nan), np.full(2, np.nan))
    assert (nobody["mean_return"], nobody["interquartile_mean"]) == (None, None)
