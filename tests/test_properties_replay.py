"""Both replays against a plain model, over random sequences of what is added and of which errors
come back."""

import functools

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from ddpg_jax import replay

# Capacity, transitions added at once, batch size: one level of the tree, full and not, two levels,
# three.
SIZES = [(6, 2, 4), (32, 8, 5), (70, 5, 16), (1056, 32, 3)]
DRAWS = 400
properties = settings(max_examples=12, deadline=None, derandomize=True, database=None)


@functools.cache
def programs(kind, capacity, batch_size):
    """``(init, add, sample of DRAWS batches, update)``, compiled once for each size."""
    options = (
        {"priority_exponent": 1.0, "importance_exponent": 0.5, "epsilon": 0.0}
        if kind == "prioritised"
        else {}
    )
    link = getattr(replay, kind)(capacity, batch_size, **options)
    sample = jax.jit(
        lambda state, key: jax.vmap(link.sample, in_axes=(None, 0))(
            state, jax.random.split(key, DRAWS)
        )
    )
    return jax.jit(link.init), jax.jit(link.add), sample, link.update and jax.jit(link.update)


def item(ids):
    """A transition that tells its id in two leaves of different dtypes."""
    ids = np.asarray(ids, np.int32)
    return {"id": ids, "twice": np.stack([ids, 2 * ids], axis=-1).astype(np.float32)}


class Model:
    """A ring in plain Python: ids and priorities by row, 0 where nothing was written."""

    def __init__(self, capacity):
        self.ids, self.leaves = np.zeros(capacity, int), np.zeros(capacity, np.float32)
        self.position, self.size, self.largest = 0, 0, np.float32(1)

    def add(self, ids):
        for number in ids:
            self.ids[self.position], self.leaves[self.position] = number, self.largest
            self.position = (self.position + 1) % len(self.ids)
            self.size = min(self.size + 1, len(self.ids))

    def update(self, rows, errors):
        for row in set(rows.tolist()):
            self.leaves[row] = np.abs(errors[rows == row]).max()
        self.largest = max(self.largest, np.abs(errors).max())


def played(kind, data, size, masked):
    """A state after some adding and, where there are priorities, updating; and the model after the
    same."""
    capacity, count, batch_size = size
    init, add, sample, update = programs(kind, capacity, batch_size)
    state, model, number = init(jax.tree.map(lambda x: x[0], item([0]))), Model(capacity), 1
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    for _ in range(data.draw(st.integers(1, 2 * capacity // count + 2))):
        ids, number = np.arange(number, number + count), number + count
        valid = rng.random(count) < rng.choice([0.0, 0.5, 1.0]) if masked else np.ones(count, bool)
        state = add(state, item(ids), valid) if masked else add(state, item(ids))
        model.add(ids[valid])
        if update is not None and model.size and rng.random() < 0.5:
            rows = rng.integers(0, model.size, batch_size)
            errors = (
                10 ** rng.uniform(-2, 1, batch_size) * rng.choice([1, -1], batch_size)
            ).astype(np.float32)
            state = update(state, rows.astype(np.int32), errors)
            model.update(rows, errors)
    return state, model, sample(state, jax.random.key(int(rng.integers(2**31))))


def assert_frequencies(rows, probability):
    """Each row came as often as its probability says, up to what a Poisson count does once in 10^9;
    one of none never came."""
    counts = np.bincount(rows.ravel(), minlength=len(probability))
    expected = probability * rows.size
    assert np.all(counts >= stats.poisson.ppf(1e-9, expected))
    assert np.all(counts <= stats.poisson.ppf(1 - 1e-9, expected))


@pytest.mark.parametrize("masked", [False, True], ids=["all", "valid ones"])
@pytest.mark.parametrize("size", SIZES, ids=str)
@properties
@given(data=st.data())
def test_uniform_replay_is_the_model(size, masked, data):
    state, model, batch = played("uniform", data, size, masked)
    np.testing.assert_array_equal(state.storage["id"], model.ids)
    assert (state.position, state.size) == (model.position, model.size)
    if model.size == 0:
        return np.testing.assert_array_equal(batch["id"], 0)
    np.testing.assert_array_equal(batch["twice"], item(batch["id"])["twice"])
    rows = np.searchsorted(np.sort(model.ids), batch["id"])
    written = np.sort(model.ids) > 0
    return assert_frequencies(rows, written / written.sum())


@pytest.mark.parametrize("masked", [False, True], ids=["all", "valid ones"])
@pytest.mark.parametrize("size", SIZES, ids=str)
@properties
@given(data=st.data())
def test_prioritised_replay_is_the_model(size, masked, data):
    state, model, sampled = played("prioritised", data, size, masked)
    leaves = np.asarray(state.levels[0]).ravel()
    np.testing.assert_array_equal(state.ring.storage["id"], model.ids)
    np.testing.assert_array_equal(leaves[: size[0]], model.leaves)
    assert not leaves[size[0] :].any()
    assert state.maximum == model.largest
    if model.size == 0:
        return np.testing.assert_array_equal(sampled.batch["id"], 0)
    np.testing.assert_array_equal(sampled.batch["id"], model.ids[sampled.rows])
    np.testing.assert_array_equal(sampled.batch["twice"], item(sampled.batch["id"])["twice"])
    probability = model.leaves.astype(np.float64) / model.leaves.sum(dtype=np.float64)
    assert_frequencies(np.asarray(sampled.rows), probability)
    weight = (model.size * probability[sampled.rows]) ** -0.5
    return np.testing.assert_allclose(
        sampled.weight, weight / weight.max(axis=1, keepdims=True), rtol=1e-4
    )
