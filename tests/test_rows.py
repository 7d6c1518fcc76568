"""How transitions lie in a ring: packed rows give back what leaf-by-leaf storage would, whatever a
transition consists of."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ddpg_jax import replay
from ddpg_jax.types import Transition

properties = settings(max_examples=25, deadline=None, derandomize=True, database=None)
DTYPES = ["float32", "int32", "uint8", "bool", "bfloat16"]
leaves = st.tuples(st.lists(st.integers(1, 3), max_size=2), st.sampled_from(DTYPES))
observations = st.recursive(
    leaves,
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner, min_size=1, max_size=3),
    max_leaves=4,
)


def transitions(kind, count, rng):
    """``count`` random transitions whose observations are of this kind: a leaf, or a dictionary of
    kinds."""

    def observed(kind):
        if isinstance(kind, dict):
            return {name: observed(inner) for name, inner in kind.items()}
        shape, dtype = kind
        return rng.integers(0, 2 if dtype == "bool" else 100, (count, *shape)).astype(
            jnp.dtype(dtype)
        )

    number = lambda *shape: rng.normal(size=(count, *shape)).astype(np.float32)
    return Transition(
        observation=observed(kind),
        action=number(2),
        reward=number(),
        discount=number(),
        next_observation=observed(kind),
    )


def equal(a, b):
    """Structure, dtypes and values."""
    jax.tree.map(np.testing.assert_array_equal, a, b)
    assert jax.tree.map(lambda x: x.dtype, a) == jax.tree.map(lambda x: x.dtype, b)


@properties
@given(data=st.data(), kind=observations)
def test_packed_rows_are_a_ring_of_leaves(data, kind):
    """A NumPy ring, leaf by leaf: whole additions and such of which some are no transitions, round
    and round."""
    capacity, count = data.draw(st.sampled_from([(6, 2), (6, 3), (8, 8), (5, 1)]))
    masked, rng = (
        data.draw(st.booleans()),
        np.random.default_rng(data.draw(st.integers(0, 2**32 - 1))),
    )
    storage = replay.rows(capacity)
    first = transitions(kind, count, rng)
    state, model = (
        storage.init(jax.tree.map(lambda x: x[0], first)),
        jax.tree.map(lambda x: np.zeros((capacity, *x.shape[1:]), x.dtype), first),
    )
    position, size = 0, 0
    for _ in range(data.draw(st.integers(1, 4))):
        items = transitions(kind, count, rng)
        valid = rng.random(count) < 0.6 if masked else np.ones(count, bool)
        state = (
            storage.add(state, items, jnp.asarray(valid)) if masked else storage.add(state, items)
        )
        for i in np.flatnonzero(valid):
            jax.tree.map(lambda buffer, item: buffer.__setitem__(position, item[i]), model, items)  # noqa: B023
            position, size = (position + 1) % capacity, min(size + 1, capacity)
    equal(state.storage, model)
    assert (int(state.position), int(state.size)) == (position, size)
    assert len(state.rows) == len({str(leaf.dtype) for leaf in jax.tree.leaves(model)})
    rows = rng.integers(0, capacity, 7).astype(np.int32)
    equal(storage.get(state, rows), jax.tree.map(lambda buffer: buffer[rows], model))


@pytest.mark.parametrize(
    "build", [replay.uniform, replay.prioritised], ids=["uniform", "prioritised"]
)
def test_a_step_is_one_write_and_a_minibatch_one_gather(build):
    ring = build(8, 4)
    items = transitions(([3], "float32"), 2, np.random.default_rng(0))
    state = ring.init(jax.tree.map(lambda x: x[0], items))
    shapes = [
        x.shape
        for x in jax.tree.leaves(state if build is replay.uniform else state.ring)
        if x.ndim == 2
    ]
    assert shapes == [(8, 3 + 2 + 1 + 1 + 3)]
    count = lambda function, name, *given: len(
        re.findall(rf"= {name}\b", str(jax.make_jaxpr(function)(*given)))
    )
    if build is replay.uniform:
        assert count(ring.add, "dynamic_update_slice", state, items) == 1
        assert count(ring.sample, "gather", ring.add(state, items), jax.random.key(0)) == 1


BUILDS = pytest.mark.parametrize(
    "build", [replay.uniform, replay.prioritised], ids=["uniform", "prioritised"]
)


@BUILDS
@pytest.mark.parametrize(("dtype", "width"), [("bfloat16", 2), ("uint8", 1)])
def test_observations_are_stored_in_less(build, dtype, width):
    """Bytes of observations are halved and quartered; what comes back is as precise as that; the
    rest is untouched."""
    ring = build(8, 8, storage=functools.partial(replay.rows, observation_dtype=dtype))
    rng = np.random.default_rng(0)
    items = transitions({"a": ([3], "float32"), "b": ([2], "float32")}, 8, rng)
    items = items.replace(observation=jax.tree.map(lambda x: x + 0.3, items.observation))
    state = ring.add(ring.init(jax.tree.map(lambda x: x[0], items)), items)
    inner = state if build is replay.uniform else state.ring
    assert {name: rows.nbytes for name, rows in inner.rows.items()} == {
        dtype: 8 * 10 * width,
        "float32": 8 * 4 * 4,
    }
    sampled = ring.sample(state, jax.random.key(0))
    batch = sampled if build is replay.uniform else sampled.batch
    ids = [int(np.flatnonzero(items.reward == reward)[0]) for reward in batch.reward]
    precise = lambda x: (
        np.round(x).astype(np.uint8) if dtype == "uint8" else x.astype(jnp.bfloat16)
    ).astype(np.float32)
    wanted = jax.tree.map(lambda x: x[np.array(ids)], items)
    wanted = wanted.replace(
        observation=jax.tree.map(precise, wanted.observation),
        next_observation=jax.tree.map(precise, wanted.next_observation),
    )
    equal(batch, wanted)
    assert any(
        np.any(x != y)
        for x, y in zip(
            jax.tree.leaves(batch.observation), jax.tree.leaves(items.observation), strict=True
        )
    )


def test_numbers_beyond_bytes_are_clipped():
    storage = replay.rows(4, observation_dtype="uint8")
    items = transitions(([1], "float32"), 4, np.random.default_rng(0))
    items = items.replace(observation=np.array([[-3.0], [0.6], [254.4], [300.0]], np.float32))
    state = storage.add(storage.init(jax.tree.map(lambda x: x[0], items)), items)
    np.testing.assert_array_equal(state.storage.observation.ravel(), [0, 1, 254, 255])


@pytest.mark.parametrize(
    ("capacity", "options", "message"),
    [
        (0, {}, "capacity=0: must be between 1 and"),
        (
            4,
            {"observation_dtype": bool},
            "observation_dtype=.*bool.*: must be of floats or integers",
        ),
    ],
)
def test_what_rows_refuse(capacity, options, message):
    with pytest.raises(ValueError, match=message):
        replay.rows(capacity, **options)
