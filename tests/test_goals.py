"""Runs on an environment with goals: learnt with hindsight, of many seeds, evolving, resumed, on
several devices, exported and loaded.
"""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from aiming import aiming

from ddpg_jax import agents, networks, runs
from ddpg_jax.runs.checkpoints.store import Checkpoints
from ddpg_jax.runs.checkpoints.stored_replay import read_replay, transitions_in
from ddpg_jax.runs.config.stored import load_config
from ddpg_jax.runs.programs import build
from ddpg_jax.runs.results.export import export

ENV = "aiming:aiming"
GOALS = ("achieved_goal", "desired_goal")
SMALL = {
    "preset": "her",
    "num_envs": 4,
    "batch_size": 64,
    "replay_capacity": 8_000,
    "hidden": (64, 64),
    "learning_starts": 400,
    "updates_per_step": 4,
    "progress": False,
}
TINY = SMALL | {
    "batch_size": 8,
    "hidden": (8,),
    "replay_capacity": 400,
    "learning_starts": 40,
    "updates_per_step": 1,
    "steps_per_chunk": 40,
    "evaluation_episodes": 4,
    "final_episodes": 4,
}


def newest(folder):
    """The step of the newest checkpoint, and its state as bytes."""
    shapes = build.state_shapes(load_config(folder))
    with_path = Checkpoints(folder / "checkpoints", read_only=True)
    found = with_path.newest(lambda about: shapes, pytest.fail)
    return found.step, [x.tobytes() for x in jax.tree.leaves(found.state)]


@pytest.mark.slow
def test_hindsight_learns_what_nothing_else_does(tmp_path):
    """Four seeds: a return of -10 is an episode that never was at its goal."""
    given = SMALL | {"total_timesteps": 6_000, "seeds": 4, "evaluate_every": 0}
    with_it = runs.train(ENV, run_dir=tmp_path / "with", **given)
    without = runs.train(ENV, run_dir=tmp_path / "without", hindsight="none", **given)
    assert min(with_it.summary["final_returns"]) > -6.5
    assert max(without.summary["final_returns"]) < -8.5


def test_many_seeds_are_one_program_each_as_alone(tmp_path):
    given = TINY | {"total_timesteps": 120, "evaluate_every": 0}
    many = runs.train(ENV, run_dir=tmp_path / "many", seeds=32, **given)
    assert len(many.summary["final_returns"]) == 32
    alone = runs.train(ENV, run_dir=tmp_path / "alone", seed=7, **given)
    ours = jax.tree.map(lambda x: np.asarray(x)[7], many.agent_state)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-4), ours, alone.agent_state
    )


def test_gamma_and_noise_evolve(tmp_path):
    given = TINY | {"total_timesteps": 160}
    found = runs.sweep(
        ENV,
        {"gamma": "uniform:0.9:0.99", "stddev": "log:0.05:0.5"},
        draws=4,
        evolve={"fraction": 0.25, "copy_replay": False},
        run_dir=tmp_path / "pbt",
        **given,
    )
    assert len(found.members) == 4


def test_resumed_is_bitwise_one_run(tmp_path):
    given = TINY | {"checkpoint_every": 1, "evaluate_every": 0, "keep": 9}
    runs.train(ENV, run_dir=tmp_path / "whole", total_timesteps=160, **given)
    runs.train(ENV, run_dir=tmp_path / "broken", total_timesteps=120, **given)
    runs.train(run_dir=tmp_path / "broken", resume=True, total_timesteps=160, progress=False)
    assert newest(tmp_path / "broken") == newest(tmp_path / "whole")


@pytest.mark.eight_devices
def test_goals_on_four_devices_and_on_two_after_it(tmp_path):
    given = TINY | {"evaluate_every": 0, "total_timesteps": 120}
    runs.train(ENV, run_dir=tmp_path / "run", devices=4, **given)
    assert load_config(tmp_path / "run").mesh == "members=1,data=4"
    fewer = runs.train(
        run_dir=tmp_path / "run", resume=True, devices=2, total_timesteps=200, progress=False
    )
    assert fewer.metrics[-1]["env_steps"] == 200
    assert fewer.config.mesh == "members=1,data=2"


def test_a_policy_of_goals_is_loaded_and_exported(tmp_path):
    """It needs the observation and the desired goal alone."""
    given = TINY | {"evaluate_every": 0, "total_timesteps": 120}
    runs.train(ENV, run_dir=tmp_path / "run", **given)
    observation = aiming(5).reset(jax.random.key(1))[1]
    whole = jax.tree.map(np.asarray, observation)
    seen = {name: whole[name] for name in ("observation", "desired_goal")}
    loaded = runs.load(tmp_path / "run")
    expected = loaded.act(whole)
    np.testing.assert_array_equal(loaded.act(seen), expected)
    file = export(tmp_path / "run", tmp_path / "policy.npz", 0)
    weights = dict(np.load(file))
    contract = json.loads((tmp_path / "policy.npz.json").read_text())
    names = [part["name"] for part in contract["inputs"]]
    assert "achieved_goal" not in names
    assert weights


def test_goals_are_normalised_alike():
    """Desired and achieved goals have the moments of both; the observation has its own."""
    one = functools.partial(networks.stream, "observation")
    inner = agents.ddpg(one(networks.Actor(2, hidden=(4,))), one(networks.Critic(hidden=(4, 4))))
    agent = agents.normalize_observations(inner, alike=GOALS)
    draw = np.random.default_rng(0).normal
    shown = [
        {
            "observation": draw(3.0, 2.0, (5, 4)).astype(np.float32),
            "achieved_goal": draw(-1.0, 0.5, (5, 2)).astype(np.float32),
            "desired_goal": draw(2.0, 0.1, (5, 2)).astype(np.float32),
        }
        for _ in range(6)
    ]
    state = agent.init(jax.random.key(0), jax.tree.map(lambda x: x[0], shown[0]), jnp.zeros(2))
    for one in shown:
        state = agent.observe(state, one)
    found = state.slots["normalizer"]
    whole = jax.tree.map(lambda *x: np.concatenate(x), *shown)
    goals = np.concatenate([whole["achieved_goal"], whole["desired_goal"]])
    assert float(found.count.value) == 30
    for name, seen in (("observation", whole["observation"]), *((x, goals) for x in GOALS)):
        np.testing.assert_allclose(found.mean.value[name], seen.mean(axis=0), rtol=1e-5)
        np.testing.assert_allclose(
            found.squares.value[name] / 30, seen.var(axis=0), rtol=1e-5, err_msg=name
        )


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"hindsight": "later"}, "hindsight='later'"),
        ({"goals_per_step": -1.0}, r"goals_per_step=-1\.0"),
        ({"offline": {}}, "hindsight=future needs: leave one of the two out"),
        ({"offline": {}, "offline_share": 0.5}, "which hindsight needs"),
    ],
)
def test_options_that_do_not_go_with_goals_are_refused(tmp_path, options, sentence):
    if "offline" in options:  # a run without hindsight, on the same environment
        given = TINY | {"evaluate_every": 0, "total_timesteps": 80, "hindsight": "none"}
        options = options | {
            "offline": str(runs.train(ENV, run_dir=tmp_path / "0", **given).folder)
        }
    with pytest.raises(ValueError, match=sentence):
        runs.train(ENV, run_dir=tmp_path / "run", total_timesteps=120, **TINY | options)


def test_steps_in_hindsight_are_offline_transitions_of_another_run(tmp_path):
    given = TINY | {"evaluate_every": 0, "total_timesteps": 120}
    first = runs.train(ENV, run_dir=tmp_path / "first", n_step=3, **given)
    config = load_config(first.folder)
    (found,) = transitions_in(read_replay(first.folder, config, "last"))
    assert found.reward.shape == (120,)
    assert set(np.unique(found.discount)) == {1.0}, "single steps"
    again = runs.train(
        ENV, run_dir=tmp_path / "again", offline=str(first.folder), **given | {"hindsight": "none"}
    )
    assert again.summary["final_returns"]
