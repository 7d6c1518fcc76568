"""Population-based training on members that are one number each, whose fitness and history are
known by hand."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddpg_jax import population
from ddpg_jax.learner import TrainState
from ddpg_jax.population import Population
from ddpg_jax.population.evolution import Range, _changed, evolving
from ddpg_jax.reporting import Report
from ddpg_jax.runs.config.run_config import make_config
from ddpg_jax.runs.programs import build

M, ROWS = 10, 3
RANGES = {"rate": Range(1e-3, 10.0, log=True), "shift": Range(-1.0, 1.0)}


def start(keys, hyperparameters):
    """A member's agent is one number, its replay and its collector remember who made them."""
    own = jnp.arange(M, dtype=jnp.float32)
    return TrainState(
        agent=own,
        replay=jnp.tile(own[:, None], (1, ROWS)),
        collector={"place": own, "reset": jax.vmap(jax.random.key)(jnp.arange(M))},
        key=keys,
        steps=jnp.zeros(M, jnp.int32),
        bad=(own,),
    )


def chunk(state, hyperparameters):
    """The agent grows by its rate."""
    report = Report(episodes=(), metrics={"loss": state.agent}, first_bad_step={}, finite={})
    return dataclasses.replace(
        state, agent=state.agent + hyperparameters["rate"], steps=state.steps + 1
    ), report


def evaluate(agent, keys, hyperparameters):
    """The larger the better; the negative are broken."""
    return jnp.tile(jnp.where(agent >= 0, agent, jnp.nan)[:, None], (1, 4))


def grown(rates, *, chunks=2, **options):
    """The state and the reports after so many chunks."""
    people = evolving(Population(start, chunk, evaluate), RANGES, **options)
    hyperparameters = {"rate": jnp.array(rates, jnp.float32), "shift": jnp.linspace(-1, 1, M)}
    state = people.start(jax.random.split(jax.random.key(0), M), hyperparameters)
    step, reports = jax.jit(people.chunk), []
    for _ in range(chunks):
        state, report = step(state, hyperparameters)
        reports.append(jax.device_get(report.metrics))
    assert step._cache_size() == 1
    return state, reports


def test_the_worst_become_copies_of_the_best_with_keys_of_their_own():
    rates = np.full(M, 0.5)
    state, (first, second) = grown(rates, fraction=0.3)
    np.testing.assert_array_equal(first["parent"], range(M))  # nobody has a return yet
    np.testing.assert_allclose(first["return"], np.arange(M) + 0.5)
    parents = second["parent"]
    assert set(parents[:3]) <= {7, 8, 9}
    np.testing.assert_array_equal(parents[3:], range(3, M))
    np.testing.assert_allclose(
        second["loss"], np.arange(M)[parents] + 0.5
    )  # trained from the parent's agent on
    np.testing.assert_allclose(second["return"], np.arange(M)[parents] + 0.5 + second["rate"])
    np.testing.assert_array_equal(second["rate"][3:], np.float32(rates[3:]))
    assert not np.isin(second["rate"][:3], np.float32(0.5)).any()
    assert ((second["rate"] >= 1e-3) & (second["rate"] <= 10)).all()
    members = state.members
    np.testing.assert_array_equal(members.replay, np.tile(parents[:, None], (1, ROWS)))
    np.testing.assert_array_equal(members.collector["place"], parents)
    raw = jax.random.key_data
    np.testing.assert_array_equal(
        raw(members.collector["reset"]), raw(jax.vmap(jax.random.key)(parents))
    )
    np.testing.assert_array_equal(raw(members.key), raw(jax.random.split(jax.random.key(0), M)))
    np.testing.assert_array_equal(members.bad[0], parents)
    np.testing.assert_array_equal(members.steps, 2)


def test_a_replay_may_stay_with_its_member():
    state, reports = grown(np.full(M, 0.5), copy_replay=False)
    assert (reports[-1]["parent"][:2] >= 8).all()
    np.testing.assert_array_equal(state.members.replay, np.tile(np.arange(M)[:, None], (1, ROWS)))
    np.testing.assert_array_equal(state.members.collector["place"], reports[-1]["parent"])


def test_who_broke_down_is_replaced_first_and_a_worse_one_never_copied():
    rates = np.full(M, 0.5)
    rates[8], rates[9] = -100.0, np.nan  # the agents of both are broken
    _, (_, second) = grown(rates, fraction=0.2)
    assert set(second["parent"][8:]) <= {6, 7}
    np.testing.assert_array_equal(second["parent"][:8], range(8))
    assert np.isfinite(second["rate"]).all()
    rates[:] = np.arange(M, 0, -1)  # all returns are 10: nobody is better
    _, (first, second) = grown(rates, fraction=0.5)
    np.testing.assert_array_equal(first["return"], 10)
    np.testing.assert_array_equal(second["parent"], range(M))


def test_numbers_are_moved_or_drawn_within_their_ranges():
    count = 20_000
    key = jax.random.split(jax.random.key(3), count)
    hyperparameters = {
        "rate": jnp.full(count, 0.1),
        "shift": jnp.full(count, 0.5),
        "other": jnp.arange(count),
    }
    moved = jax.device_get(_changed(hyperparameters, RANGES, 0.2, 0.0, key))
    np.testing.assert_allclose(np.unique(moved["rate"]), [0.08, 0.12], rtol=1e-6)
    np.testing.assert_allclose(
        np.unique(moved["shift"]), [0.1, 0.9], rtol=1e-6
    )  # 0.2 of a range of 2
    assert abs(np.mean(moved["rate"] > 0.1) - 0.5) < 0.02
    assert abs(np.corrcoef(moved["rate"], moved["shift"])[0, 1]) < 0.03
    np.testing.assert_array_equal(moved["other"], hyperparameters["other"])
    drawn = jax.device_get(_changed(hyperparameters, RANGES, 0.2, 1.0, key))
    np.testing.assert_allclose(
        np.quantile(drawn["rate"], [0, 0.25, 0.5, 1]), [1e-3, 1e-2, 1e-1, 10], rtol=0.1
    )
    np.testing.assert_allclose(
        np.quantile(drawn["shift"], [0, 0.25, 0.5, 1]), [-1, -0.5, 0, 1], atol=0.03
    )
    some = jax.device_get(_changed(hyperparameters, RANGES, 0.2, 0.25, key))["rate"]
    assert abs(1 - np.isin(some, moved["rate"]).mean() - 0.25) < 0.02
    ends = jax.device_get(
        _changed({"rate": jnp.full(9, 10.0), "shift": jnp.full(9, -1.0)}, RANGES, 0.2, 0.0, key[:9])
    )
    assert ends["rate"].max() == 10
    assert ends["shift"].min() == -1


def test_the_widest_ranges_stay_within_float32():
    count = 1_000
    key = jax.random.split(jax.random.key(3), count)
    ranges = {"rate": Range(2e-38, 3e38, log=True), "shift": Range(-3e38, 3e38)}
    for own in (2e-38, 1.0, 3e38):
        numbers = {"rate": jnp.full(count, own), "shift": jnp.full(count, own)}
        for change in (0.0, 0.2, 1.0):
            moved = jax.device_get(_changed(numbers, ranges, change, 0.0, key))
            for name, values in moved.items():
                assert ((values >= ranges[name].low) & (values <= 3.1e38)).all()
            if change == 0:
                np.testing.assert_allclose(moved["shift"], np.float32(own))
        drawn = jax.device_get(_changed(numbers, ranges, 0.2, 1.0, key))
        middles = np.median(np.log10(drawn["rate"])), np.median(drawn["shift"])
        assert abs(middles[0]) < 5
        assert abs(middles[1]) < 5e37
        assert np.unique(drawn["rate"]).size == count


def test_a_population_finds_the_best_numbers():
    rates = np.geomspace(1e-3, 1e-2, M)  # the best is 10
    state, _ = grown(rates, chunks=60)
    assert np.median(state.hyperparameters["rate"]) > 1
    alone = np.arange(M) + 60 * rates
    assert np.median(state.members.agent) > 10 * alone.max()


def test_replays_are_copied_in_place():
    """Of the state nothing is held twice but what one member has, whatever that is."""
    rows = 500_000

    def large(keys, hyperparameters):
        return dataclasses.replace(start(keys, hyperparameters), replay=jnp.zeros((M, rows)))

    people = evolving(Population(large, chunk, evaluate), RANGES, fraction=0.5)
    hyperparameters = {"rate": jnp.ones(M), "shift": jnp.zeros(M)}
    state = jax.eval_shape(people.start, jax.random.split(jax.random.key(0), M), hyperparameters)
    used = (
        jax.jit(people.chunk, donate_argnums=0)
        .lower(state, hyperparameters)
        .compile()
        .memory_analysis()
    )
    assert used.alias_size_in_bytes > M * rows * 4
    assert used.temp_size_in_bytes < 1.5 * rows * 4


@pytest.mark.parametrize(
    ("options", "ranges", "message"),
    [
        ({"fraction": 0.0}, RANGES, "fraction=0.0: must be greater than 0"),
        ({"fraction": 0.6}, RANGES, "fraction=0.6: must be between 0 and 0.5"),
        ({"resample": -1}, RANGES, "resample=-1: must be between 0 and 1"),
        ({"change": 2}, RANGES, "change=2: must be between 0 and 1"),
        ({}, {"rate": Range(2.0, 1.0)}, "rate's low end=2.0, rate's high end=1.0: .* must be less"),
        ({}, {"rate": Range(0.0, 1.0, log=True)}, "rate's low end=0.0: must be greater than 0"),
    ],
)
def test_what_is_out_of_range_is_refused(options, ranges, message):
    with pytest.raises(ValueError, match=message):
        evolving(Population(start, chunk, evaluate), ranges, **options)


def test_an_encoder_is_not_taken_without_its_replay():
    """The replay of preset drive holds latents: of another's encoder they mean nothing."""
    varied = {
        "seeds": 2,
        "vary": {"tau": [0.01, 0.02]},
        "evolve": {"copy_replay": False, "ranges": {"tau": [0.001, 0.1, True]}},
    }
    sentence = "copy_replay=False: preset drive stores what its agent's encoder made"
    with pytest.raises(ValueError, match=sentence):
        build.build(make_config("lane", "drive", **varied))


def test_programs_know_how_long_it_took_to_compile_them(monkeypatch):
    clock = iter((100.0, 102.5))
    monkeypatch.setattr(population.time, "perf_counter", lambda: next(clock))
    lower = {name: lambda name=name: lambda: name for name in ("chunk", "start", "evaluate")}
    monkeypatch.setattr(population, "_lowering", lambda *arguments: lower)
    made = population.compiled(None, None, None)
    assert made[:4] == ("start", "chunk", "evaluate", 2.5)
