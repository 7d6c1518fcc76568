"""Evaluations of a run: which keys, how many episodes and of what environments, with programs that
play nothing."""

import contextlib
import types

import jax
import numpy as np
import pytest

from ddpg_jax.population import Programs
from ddpg_jax.runs.config.run_config import make_config
from ddpg_jax.runs.options.validation import Diverged
from ddpg_jax.runs.programs import evaluation

SIZES = {"evaluation_episodes": 2, "final_episodes": 5, "total_timesteps": 3_000}


def data(keys):
    return np.asarray(jax.random.key_data(keys)).tolist()


def test_the_final_evaluation_is_of_as_many_fresh_episodes_as_are_asked_for():
    """In rounds of two; shards have played a third one, which does not count."""
    config, keys = make_config("pendulum", seeds=3, **SIZES), []

    def evaluate(agent_state, given, hyperparameters):
        assert (agent_state, hyperparameters) == ("agent", {})
        keys.append(data(given))
        return 10 * len(keys) + np.arange(9, dtype=np.float32).reshape(3, 3)

    found = evaluation.final_returns(config, Programs(None, None, evaluate, 0.0), "agent")
    assert found.tolist() == [
        [10, 11, 20, 21, 30],
        [13, 14, 23, 24, 33],
        [16, 17, 26, 27, 36],
    ]
    assert found.dtype == np.float64
    wanted = [
        data(evaluation.evaluation_keys(config, evaluation.FINAL_STREAM, i)) for i in range(3)
    ]
    assert keys == wanted
    assert len({str(key) for each in keys for key in each}) == 9


def test_keys_of_a_seed_are_its_own_and_those_of_a_single_run():
    three, one = (make_config("pendulum", seed=seed, seeds=n) for seed, n in ((4, 3), (5, 1)))
    keys = lambda config, number: data(evaluation.evaluation_keys(config, 9, number))
    assert keys(three, 7)[1] == keys(one, 7)
    derived = jax.random.fold_in(jax.random.fold_in(jax.random.key(5), 9), 7)
    assert keys(one, 7) == data(derived)
    assert keys(one, 2**32 + 7) == keys(one, 7) != keys(one, 2**31 + 7)
    assert evaluation.host_seed(derived) == keys(one, 7)[0] + 2**32 * keys(one, 7)[1]


def test_a_return_that_is_not_a_number_ends_a_run_but_not_a_sweep():
    returns = np.array([[1.0, np.nan], [2.0, 3.0]])
    with pytest.raises(Diverged, match="a return of an evaluation is NaN"):
        evaluation.require_finite_returns(returns, make_config("pendulum", seeds=2))
    varied = make_config("pendulum", seeds=2, vary={"tau": [0.1, 0.2]})
    assert evaluation.require_finite_returns(returns, varied) is returns
    assert evaluation.require_finite_returns(returns[1:], make_config("pendulum")).size == 2
    infinite = np.array([[np.inf]])
    assert evaluation.require_finite_returns(infinite, make_config("pendulum")) is infinite


@pytest.mark.parametrize(("episodes", "rounds"), [(1, 1), (2, 1), (5, 3)])
def test_copies_on_the_host_play_in_turns_from_seeds_in_a_row(monkeypatch, episodes, rounds):
    seeds, stop = [], lambda: False
    key = jax.random.key(3)

    def make_evaluate(agent, env, stopped):
        assert (agent, env.num_envs, stopped) == ("agent", 2, stop)
        return lambda state, seed: seeds.append((state, seed)) or np.array([seed % 97, -1.0])

    monkeypatch.setattr(evaluation.host, "make_evaluate", make_evaluate)
    env = types.SimpleNamespace(num_envs=2)
    found = evaluation.play_on_host("agent", env, episodes, stop)("state", key)
    first = evaluation.host_seed(key)
    assert seeds == [("state", first + index) for index in range(rounds)]
    each = [value for _, seed in seeds for value in (seed % 97, -1.0)]
    assert found.tolist() == each[:episodes]


@pytest.mark.parametrize(
    ("env", "copies", "shared", "made"),
    [
        ("pendulum", None, False, 7),
        ("pendulum", 3, False, 7),
        ("gymnasium/Pendulum-v1", None, False, 7),
        ("gymnasium/Pendulum-v1", 3, False, 3),
        ("gymnasium/Pendulum-v1", 3, True, 4),
    ],
)
def test_an_evaluation_has_a_copy_for_each_episode_or_as_many_as_are_asked_for(
    monkeypatch, env, copies, shared, made
):
    """Those of training where there are no others."""
    config = make_config(env, num_envs=4, replay_capacity=4_000, shared_environment=shared)
    asked, closed = [], []
    host = types.SimpleNamespace(num_envs=made)
    monkeypatch.setattr(evaluation, "environment", lambda *a: asked.append(a) or host)
    monkeypatch.setattr(evaluation, "close_after", lambda *a: closed.append(a))
    monkeypatch.setattr(evaluation, "play_on_host", lambda *a: a)
    with contextlib.ExitStack() as opened:
        found = evaluation.make_evaluator(config, "agent", 7, opened, copies)
    assert asked == [(config, made)]
    assert closed == [(opened, host)]
    assert found == ("agent", host, 7)
