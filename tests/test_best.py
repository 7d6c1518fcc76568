"""The agent of the best evaluation is kept beside the newest checkpoints, and found there."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest
from click.testing import CliRunner

from ddpg_jax import runs
from ddpg_jax.runs.checkpoints.best import Best
from ddpg_jax.runs.checkpoints.store import Checkpoints
from ddpg_jax.runs.cli import commands
from ddpg_jax.runs.config.run_config import make_config
from ddpg_jax.runs.folder.metrics import read_curve
from ddpg_jax.runs.programs.build import build
from ddpg_jax.runs.results import policy

SIZES = {"hidden": (8,), "batch_size": 8, "learning_starts": 50, "replay_capacity": 500}
SIZES |= {"total_timesteps": 450, "steps_per_chunk": 50, "evaluate_every": 50, "keep": 3}
SIZES |= {"evaluation_episodes": 2, "final_episodes": 3, "checkpoint_every": 100}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Three members; a learning rate at which they get worse as well as better."""
    folder = tmp_path_factory.mktemp("best") / "run"
    options = SIZES | {"seeds": 3, "actor_learning_rate": 0.05}
    return runs.train("pendulum", run_dir=folder, progress=False, **options)


def leaves(tree, member=None):
    pick = (lambda x: x) if member is None else (lambda x: x[member])
    return [np.asarray(pick(x)) for x in jax.tree.leaves(tree)]


def test_each_member_has_its_best_evaluation(run):
    steps, returns = read_curve(run.folder)
    best = returns.argmax(axis=0)
    assert run.summary["best_env_steps"] == steps[best].tolist()
    assert len({*best}) > 1, "or this shows nothing"
    np.testing.assert_allclose(run.summary["best_evaluation_returns"], returns.max(axis=0))
    *_, found, agent_state = policy.restore_policy(run.folder, "best")
    assert found == run.summary["best_env_steps"]
    for member, at in enumerate(found):
        if at == steps[-1]:
            kept = run.agent_state
        elif str(at) in {path.name for path in (run.folder / "checkpoints").iterdir()}:
            kept = policy.restore_policy(run.folder, str(at))[-1]
        else:
            continue
        for x, y in zip(leaves(agent_state, member), leaves(kept, member), strict=True):
            np.testing.assert_array_equal(x, y)


def test_it_is_measured_in_episodes_that_did_not_choose_it(run):
    """In the same as the last agent: a member whose best is the last has one figure."""
    summary, last = run.summary, run.env_steps[-1]
    pairs = zip(summary["best_returns"], summary["final_returns"], strict=True)
    for (best, final), at in zip(pairs, summary["best_env_steps"], strict=True):
        assert (best == final) == (at == last)
    assert summary["best_returns"] != summary["best_evaluation_returns"]
    assert np.shape(summary["best_return_std"]) == (3,)


def test_the_commands_take_it(run):
    def answered(*words):
        result = CliRunner().invoke(commands.main, [str(word) for word in words])
        assert result.exit_code == 0, result.stderr
        return result.stdout

    told = [
        json.loads(answered("evaluate", run.folder, "--episodes", 2, "--checkpoint", name))
        for name in ("best", "last", "450", "250")
    ]
    assert [each["checkpoint"] for each in told] == ["best", "last", "450", "250"]
    assert told[0]["env_steps"] == run.summary["best_env_steps"]
    assert [each["env_steps"] for each in told[1:]] == [450, 450, 250]
    assert told[1]["returns"] == told[2]["returns"] != told[3]["returns"]
    one = json.loads(answered("evaluate", run.folder, "--member", 1, "--checkpoint", "best"))
    assert one["env_steps"] == run.summary["best_env_steps"][1]
    member = next(i for i, at in enumerate(run.summary["best_env_steps"]) if at != 450)
    files = [
        answered("export", run.folder, "--member", member, "--out", run.folder / name, *more)
        for name, more in (("a", ()), ("b", ("--checkpoint", "best")))
    ]
    contents = [(run.folder / name).read_bytes() for name in ("a", "b")]
    assert contents[0] != contents[1], files
    animated = ("render", run.folder, "--steps", 2, "--out", run.folder / "e", "--checkpoint")
    assert answered(*animated, "best").strip() == f"{run.folder / 'e'}.gif"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("first", "checkpoint=first: give best, last or the environment steps of one that is kept"),
        ("77", "no checkpoint at 77 steps (kept: 250, 350, 450): choose"),
        ("-1", "checkpoint=-1: give best, last or the environment steps"),
    ],
)
def test_a_checkpoint_that_is_not_there(run, given, said):
    result = CliRunner().invoke(commands.main, ["evaluate", str(run.folder), "--checkpoint", given])
    assert result.exit_code == 2
    assert said in result.stderr


def test_a_run_of_before_it_was_kept_has_none(run, tmp_path):
    shutil.copytree(run.folder, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "best")
    with pytest.raises(FileNotFoundError, match="best has no checkpoint: choose another"):
        policy.restore_policy(tmp_path / "run", "best")
    assert policy.restore_policy(tmp_path / "run")[2] == [450] * 3


def offered(folder, seeds=1):
    config = make_config("pendulum", seeds=seeds, **{**SIZES, "total_timesteps": 1_000})
    like = build(config).state.agent
    best = Best(config, folder, like, pytest.fail)
    full = lambda value: jax.tree.map(lambda x: np.full(x.shape, value, x.dtype), like)
    return best, full


def values(best):
    return np.asarray(best.agent_state.actor.params["params"]["Dense_0"]["bias"])[..., 0].tolist()


def test_only_what_is_better_is_kept(tmp_path):
    best, full = offered(tmp_path, seeds=3)
    assert best.agent_state is None
    best.save()
    assert not (tmp_path / "best").exists(), "nothing to write"
    best.offer(full(1), [1.0, None, -5.0], 10)
    best.offer(full(2), [1.0, None, -6.0], 20)  # no better
    best.offer(full(3), [0.5, -9.0, float("inf")], 30)
    best.offer(full(4), None, 40)  # an evaluation that was interrupted
    best.offer(full(5), [2.0, None, None], 50)
    assert values(best) == [5.0, 3.0, 3.0]
    assert best.env_steps.tolist() == [50, 30, 30]
    best.save()
    best.close()
    again, _ = offered(tmp_path, seeds=3)
    again.restore()
    assert values(again) == [5.0, 3.0, 3.0]
    assert again.env_steps.tolist() == [50, 30, 30]
    assert again.returns[:2].tolist() == [2.0, -9.0]


def test_what_is_kept_lacks_a_better_evaluation_of_any_member(tmp_path):
    best, full = offered(tmp_path, seeds=2)
    assert best.lacks([None, -9.0])
    assert not best.lacks([None, None])
    best.offer(full(1), [1.0, -9.0], 10)
    assert not best.lacks([1.0, -9.0])
    assert not best.lacks([0.0, None])
    assert best.lacks([0.0, -8.0])


def test_a_member_without_a_return_is_not_lost_by_a_restart(tmp_path):
    best, full = offered(tmp_path, seeds=2)
    best.offer(full(1), [1.0, None], 10)
    best.save()
    best.close()
    again, full = offered(tmp_path, seeds=2)
    again.restore()
    again.offer(full(2), [0.0, -100.0], 20)
    assert values(again) == [1.0, 2.0]


def test_it_is_written_once(tmp_path):
    best, full = offered(tmp_path)
    for steps, value in ((10, 1.0), (20, 0.5), (30, 2.0)):
        best.offer(full(steps), [value], steps)
        best.save()
        best.save()
    best.close()
    assert [path.name for path in (tmp_path / "best").iterdir()] == ["30"]
    found = Checkpoints(tmp_path / "best", read_only=True).newest(lambda about: best._like, print)
    assert found.record["episodes"] == SIZES["evaluation_episodes"]
    assert found.record["returns"] == [2.0]


def test_a_run_is_loaded_in_one_line(run):
    loaded = runs.load(str(run.folder))
    for x, y in zip(leaves(loaded.agent_state), leaves(run.agent_state), strict=True):
        np.testing.assert_array_equal(x, y)
    placed = dataclasses.replace(run.config, mesh="")
    assert (loaded.config, loaded.metrics) == (placed, run.metrics)
    assert loaded.summary == json.loads((run.folder / "summary.json").read_text())
    np.testing.assert_array_equal(loaded.returns, run.returns)
    np.testing.assert_array_equal(loaded.env_steps, run.env_steps)
    assert loaded.checkpoint_steps == run.checkpoint_steps == [450] * 3
    assert (
        runs.load(run.folder, checkpoint="best").checkpoint_steps == (run.summary["best_env_steps"])
    )
    assert runs.load(run.folder, checkpoint=250).checkpoint_steps == [250] * 3


def test_it_acts_in_numpy_and_compiles_once(run):
    loaded = runs.load(run.folder)
    observation = np.array([[1.0, 0.0, 0.5], [0.0, 1.0, -3.0]], np.float32)
    actions = [loaded.act(observation, member) for member in (0, 2, 0)]
    assert [type(action) for action in actions] == [np.ndarray] * 3
    assert actions[0].shape == (2, 1)
    for action, member in zip(actions, (0, 2, 0), strict=True):
        np.testing.assert_array_equal(action, run.policy(member)(observation))
    assert loaded._policies.keys() == {0, 2}
    with pytest.raises(ValueError, match=r"member=3: this run has 3 member\(s\)"):
        loaded.act(observation, 3)


def test_a_run_that_has_not_ended_is_loaded(run, tmp_path):
    shutil.copytree(run.folder, tmp_path / "run")
    (tmp_path / "run" / "summary.json").unlink()
    loaded = runs.load(tmp_path / "run")
    assert loaded.summary == {}
    assert len(loaded.returns) == len(run.returns)
    with pytest.raises(FileNotFoundError, match="does not hold a run"):
        runs.load(tmp_path / "other")


def test_a_run_without_a_known_best_claims_none(tmp_path):
    best, full = offered(tmp_path)
    assert best.summary(np.zeros((1, 3))) == {}
    said = []
    best._say = said.append
    best.restore()
    best.restore(evaluated=True)
    assert said == ["no best agent is kept: it is chosen among evaluations from here on."]
    best.offer(full(1), [1.0], 10)
    best.save()
    best.close()
    other = Best(
        make_config("pendulum", **SIZES | {"evaluation_episodes": 5}), tmp_path, best._like
    )
    said = []
    other._say = said.append
    other.restore(evaluated=True)
    assert "was chosen by evaluations of 2 episodes, and is compared with those of 5" in said[0]
