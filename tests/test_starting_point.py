"""A run begins with another run's policy, agent or replay."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from click.testing import CliRunner

from ddpg_jax import runs
from ddpg_jax.runs.cli import commands
from ddpg_jax.runs.config.run_config import make_config
from ddpg_jax.runs.distributed import arrays
from ddpg_jax.runs.folder.metrics_log import write_metrics
from ddpg_jax.runs.folder.start_options import started_options
from ddpg_jax.runs.options.validation import RunError
from ddpg_jax.runs.programs.build import build
from ddpg_jax.runs.programs.setup import member_hyperparameters, member_keys
from ddpg_jax.runs.training import starting_point

SIZES = {"hidden": (8,), "batch_size": 8, "learning_starts": 50, "replay_capacity": 500}
SIZES |= {"total_timesteps": 150, "steps_per_chunk": 50, "normalize_observations": True}
SIZES |= {"evaluation_episodes": 1, "final_episodes": 1, "evaluate_every": 50}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("start") / "run"
    runs.train("pendulum", run_dir=folder, progress=False, tau=0.01, seeds=2, **SIZES)
    return folder


def begun(folder, **options):
    """The state of a run that starts from this one, before its warm-up."""
    config = make_config(**started_options({"start_from": str(folder), **options}))
    built = build(config)
    point = starting_point.read(config, built, None)
    new = jax.jit(built.population.start)(member_keys(config), member_hyperparameters(config))
    before = arrays.to_host(new)  # its replay may be donated
    return config, before, starting_point.put(point, new, config, built)


def equal(one, other):
    leaves = (jax.tree.leaves(tree) for tree in (one, other))
    return all(np.array_equal(x, y) for x, y in zip(*leaves, strict=True))


def test_options_left_out_are_those_of_the_run(folder):
    config = make_config(**started_options({"start_from": str(folder)}))
    assert (config.env, config.preset.name, config.hyperparameters.tau) == (
        "pendulum",
        "default",
        0.01,
    )
    assert (config.seeds, config.seed, config.hyperparameters.hidden) == (1, 0, (8,))
    given = {"start_from": str(folder), "tau": 0.1, "env_options": {"gravity": 8.0}}
    config = make_config(**started_options(given))
    assert (config.hyperparameters.tau, config.env_options) == (0.1, {"gravity": 8.0})
    other = make_config(**started_options({"start_from": str(folder), "preset": "td3"}))
    assert other.hyperparameters.hidden != (8,), "another preset has its own"


def test_networks_and_normaliser_are_taken_over(folder):
    theirs = runs.load(folder).agent_state
    _, new, state = begun(folder, seeds=2)
    agent = state.agent
    for name in ("actor", "critic"):
        there, here, fresh = (getattr(each, name) for each in (theirs, agent, new.agent))
        assert equal(there.params, here.params)
        assert equal(there.target_params, here.target_params)
        assert equal(fresh.opt_state, here.opt_state)
        assert not equal(there.opt_state, here.opt_state)
    assert equal(theirs.slots, agent.slots)
    assert jax.tree.leaves(agent.slots), "or the normaliser is not looked at"
    assert np.asarray(agent.step).tolist() == [0, 0]
    assert equal(new.replay, state.replay)


def test_the_agent_is_taken_over_whole(folder):
    theirs = runs.load(folder).agent_state
    _, _, state = begun(folder, seeds=2, start_with="agent")
    assert equal(theirs, state.agent)


def test_the_replay_is_taken_over_too(folder):
    _, new, state = begun(folder, seeds=2, start_with="replay")
    assert np.asarray(state.replay.size).tolist() == [150, 150]
    assert np.asarray(new.replay.size).tolist() == [0, 0]
    assert not equal(new.replay.rows, state.replay.rows)


@pytest.mark.parametrize(
    ("options", "members"),
    [
        ({"seeds": 2}, [0, 1]),
        ({"seeds": 3, "start_member": 1}, [1, 1, 1]),
        ({"start_member": 1}, [1]),
    ],
)
def test_members_begin_with_theirs_or_with_one(folder, options, members):
    theirs = runs.load(folder).agent_state.actor.params
    _, _, state = begun(folder, **options)
    wanted = jax.tree.map(lambda x: x[np.array(members)], theirs)
    found = state.agent.actor.params
    one = (
        (lambda tree: jax.tree.map(lambda x: x[None], tree))
        if len(members) == 1
        else (lambda tree: tree)
    )
    assert equal(one(found), wanted)


def test_the_best_of_it(folder):
    best = runs.load(folder, checkpoint="best")
    _, _, state = begun(folder, seeds=2, start_checkpoint="best")
    assert equal(best.agent_state.actor.params, state.agent.actor.params)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"seeds": 3}, "has 2 members and this run 3: give --start-member, or as many --seeds"),
        ({"seeds": 2, "hidden": (9,)}, r"float32\[2, 8\] where this run has .*: give the same net"),
        ({"start_member": 2}, r"member=2: this run has 2 member\(s\)"),
        (
            {"seeds": 2, "start_with": "replay", "replay_capacity": 100},
            r"start_from=.* has .*\[2, 500, \d+\] where this run has .*\[2, 100, \d+\]",
        ),
        (
            {"seeds": 2, "start_with": "replay", "reward_scale": 2.0},
            r"reward_scale=2.0 \(there: 1.0\): a critic has learned returns of scaled rewards",
        ),
        (
            {"seeds": 2, "start_with": "replay", "num_envs": 2},
            r"num_envs=2 \(there: 1\): its replay is filled in blocks of 1. Give that or a divisor",
        ),
        (
            {"seeds": 2, "start_with": "replay", "start_checkpoint": "best"},
            "the best checkpoint holds agents alone",
        ),
        ({"start_checkpoint": "bets"}, "start_checkpoint=bets: give best, last or the steps"),
        (
            {"seeds": 2, "vary": {"tau": [0.1, 0.2]}},
            "has 2 members, and those of this run differ in tau: give --start-member",
        ),
        (
            {"start_member": 0, "seeds": 2, "start_with": "replay"}
            | {"vary": {"reward_scale": [1.0, 2.0]}},
            r"reward_scale=1.0 \(there: 1.0\): a critic has learned returns",
        ),
        ({"env": "lane", "seeds": 2}, "give the same networks, and an environment with the same"),
    ],
)
def test_what_does_not_fit_is_refused(folder, options, said):
    with pytest.raises((RunError, ValueError), match=said):
        begun(folder, **options)


def test_the_command_and_a_resumed_run(folder, tmp_path):
    """It warms up with the policy; once it has begun the other run is not needed."""
    words = ["train", "--start-from", str(folder), "--start-member", "0", "--env-option"]
    words += ["gravity=8", "--run-dir", str(tmp_path / "new"), "--total-timesteps", "100"]
    result = CliRunner().invoke(commands.main, words)
    assert result.exit_code == 0, result.stderr
    new = runs.load(tmp_path / "new")
    assert (new.config.env_options, new.config.start_member) == ({"gravity": 8.0}, 0)
    assert new.config.start_from == str(folder)
    folder.rename(folder.with_name("moved"))
    try:
        more = runs.train(
            run_dir=tmp_path / "new", resume=True, total_timesteps=150, progress=False
        )
    finally:
        folder.with_name("moved").rename(folder)
    assert more.env_steps[-1] == 150
    missing = CliRunner().invoke(commands.main, ["train", "--start-from", str(tmp_path / "none")])
    assert missing.exit_code == 2
    assert "does not hold a run" in missing.stderr


def test_the_warm_up_acts_with_its_policy(folder, tmp_path):
    """A policy that pushes as hard as it can is seen in the replay before the first update."""
    from ddpg_jax.runs.programs.build import compile_warm_up

    config, _, state = begun(folder, start_member=0, learning_starts=40)
    hard = jax.tree.map(lambda x: np.full_like(x, 50.0), state.agent.actor.params)
    actor = dataclasses.replace(state.agent.actor, params=hard)
    state = dataclasses.replace(state, agent=dataclasses.replace(state.agent, actor=actor))
    warmed = compile_warm_up(config)(state, member_hyperparameters(config))
    actions = np.asarray(warmed.replay.storage.action)[: int(warmed.replay.size)]
    assert len(actions) == 40
    assert np.all(np.abs(actions) > 0.5), "random ones would be anywhere"


def test_a_loaded_run_trains_on(folder, tmp_path):
    """With another hyper-parameter, in a new folder, from all that was learned and stored."""
    loaded = runs.load(folder)
    options = {"total_timesteps": 100, "tau": 0.02, "progress": False}
    more = loaded.train(run_dir=tmp_path / "more", **options)
    assert (more.config.seeds, more.config.start_with) == (2, "replay")
    assert more.config.hyperparameters.tau == 0.02
    updates = np.asarray(loaded.agent_state.step) + 50
    np.testing.assert_array_equal(more.agent_state.step, updates)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"start_with": "agent"}, "start_with needs start_from: give --start-from as well"),
        ({"start_member": 1}, "start_member needs start_from"),
        ({"offline_share": 0.5}, "offline_share needs offline: give --offline as well"),
        ({"offline_rows": 5}, "offline_rows needs offline"),
    ],
)
def test_options_without_what_they_belong_to_are_refused(given, said):
    with pytest.raises(ValueError, match=said):
        runs.plan("pendulum", **given)


def test_a_member_s_own_hyper_parameters_are_taken_over(tmp_path):
    """Of a sweep's run, and in the end where they evolved."""
    values = {"tau": [0.01, 0.02]}
    config = make_config("pendulum", seeds=2, vary=values)
    (tmp_path / "config.json").write_text(json.dumps(config.flat()))
    taken = started_options({"start_from": str(tmp_path), "start_member": 1})
    assert taken["tau"] == 0.02
    assert started_options({"start_from": tmp_path, "start_member": 1, "tau": 0.5})["tau"] == 0.5
    with pytest.raises(ValueError, match="differ in tau: give --start-member"):
        started_options({"start_from": str(tmp_path)})
    evolve = {"ranges": {"tau": [0.001, 0.1, True]}}
    config = make_config("pendulum", seeds=2, vary=values, evolve=evolve)
    (tmp_path / "config.json").write_text(json.dumps(config.flat()))
    write_metrics(tmp_path, [{"env_steps": 5, "evaluation_return": None, "tau": [0.03, 0.04]}])
    assert started_options({"start_from": str(tmp_path), "start_member": 1})["tau"] == 0.04


def test_rates_that_fell_fall_again(tmp_path):
    """An optimiser that is taken over counts the updates of the new run."""
    options = SIZES | {"anneal": True, "progress": False}
    first = runs.train("pendulum", run_dir=tmp_path / "first", **options)
    more = first.train(run_dir=tmp_path / "more", progress=False)
    changed = jax.tree.map(
        lambda x, y: bool(np.any(x != y)),
        first.agent_state.actor.params,
        more.agent_state.actor.params,
    )
    assert jax.tree.all(changed)


def test_a_loaded_run_trains_on_from_the_checkpoint_that_was_loaded(folder, tmp_path):
    best = runs.load(folder, checkpoint="best")
    more = best.train(run_dir=tmp_path / "more", total_timesteps=100, progress=False)
    assert (more.config.start_checkpoint, more.config.start_with) == ("best", "agent")
