import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from ddpg_jax import replay
from ddpg_jax.types import Transition

# A new replay is one row here: ``build(capacity, batch_size) -> Replay``.
REPLAYS = {"uniform": replay.uniform}
every_replay = pytest.mark.parametrize("build", REPLAYS.values(), ids=REPLAYS.keys())


def items(ids):
    """Transitions that carry their id in every leaf, in several dtypes. Id 0 marks a row that was never written."""
    ids = np.asarray(ids)
    column = ids.astype(np.float32)[..., None]
    image = np.stack([ids // 256, ids % 256], axis=-1).astype(np.uint8)
    return Transition(
        observation={"vector": column, "image": image},
        action=np.concatenate([column, -column], axis=-1),
        reward=column[..., 0],
        discount=2 * column[..., 0],
        next_observation={"vector": column + 1, "image": image},
    )


def ids_of(batch):
    """The ids of a batch; all leaves of a row must tell the same one."""
    ids = np.asarray(batch.reward).astype(int)
    jax.tree.map(np.testing.assert_array_equal, batch, items(ids))
    return ids


def new(link):
    return jax.jit(link.init)(jax.tree.map(lambda x: x[0], items([0])))


def fill(link, chunks):
    add, state = jax.jit(link.add, donate_argnums=0), new(link)
    for chunk in chunks:
        state = add(state, items(chunk))
    return state


def draws(link, state, count, seed=0):
    """Ids of ``count`` batches."""
    keys = jax.random.split(jax.random.key(seed), count)
    return ids_of(jax.jit(jax.vmap(link.sample, in_axes=(None, 0)))(state, keys))


@every_replay
def test_oldest_give_way_and_no_unwritten_row_is_sampled(build):
    rng = np.random.default_rng(0)
    for case in range(5):
        count = int(rng.integers(1, 6))
        capacity = count * int(rng.integers(1, 6))
        batch_size = int(rng.integers(1, capacity + 1))
        link = build(capacity, batch_size)
        add, state, stored, next_id = jax.jit(link.add, donate_argnums=0), new(link), [], 1
        sample = jax.jit(jax.vmap(link.sample, in_axes=(None, 0)))
        for step in range(2 * capacity // count + 2):
            ids = list(range(next_id, next_id + count))
            state, next_id = add(state, items(ids)), next_id + count
            stored = (stored + ids)[-capacity:]  # the reference: a list that forgets its head
            # 200 batches miss a given row of at most 25 with probability (24/25)^200 < 3e-4 at batch size 1.
            seen = ids_of(sample(state, jax.random.split(jax.random.key(100 * case + step), 200)))
            assert seen.shape == (200, batch_size)
            assert set(seen.ravel()) <= set(stored)
            if batch_size > 1:
                assert set(seen.ravel()) == set(stored)


@every_replay
def test_rows_lie_in_order_and_wrap(build):
    link = build(6, 1)
    state = fill(link, [[1, 2], [3, 4]])
    assert set(draws(link, state, 100).ravel()) == {1, 2, 3, 4}
    state = fill(link, [[1, 2], [3, 4], [5, 6], [7, 8]])
    assert set(draws(link, state, 100).ravel()) == {3, 4, 5, 6, 7, 8}


def test_ring_layout():
    state = fill(replay.uniform(6, 1), [[1, 2], [3, 4]])
    np.testing.assert_array_equal(state.storage.reward, [1, 2, 3, 4, 0, 0])
    assert (state.position, state.size) == (4, 4)
    state = fill(replay.uniform(6, 1), [[1, 2], [3, 4], [5, 6], [7, 8]])
    np.testing.assert_array_equal(state.storage.reward, [7, 8, 3, 4, 5, 6])
    assert (state.position, state.size) == (2, 6)


@pytest.mark.parametrize(
    ("written", "stored"),
    [(40, range(1, 41)), (64, range(1, 65)), (88, range(25, 89))],
    ids=["partly filled", "full", "wrapped"],
)
def test_sampled_uniformly(written, stored):
    link = replay.uniform(64, 16)
    state = fill(link, np.arange(1, written + 1).reshape(-1, 8))
    seen = draws(link, state, 2000)
    counts = [np.sum(seen == i) for i in stored]
    assert sum(counts) == seen.size
    assert stats.chisquare(counts).pvalue > 1e-3
    # With replacement and independent: neighbours within a batch agree once in len(stored).
    expected = 2000 * 15 / len(stored)
    assert abs(np.sum(seen[:, 1:] == seen[:, :-1]) - expected) < 5 * np.sqrt(expected)


@every_replay
def test_dtypes_shapes_and_structure_are_kept(build):
    link = build(8, 4)
    state = new(link)
    types = lambda tree: jax.tree.map(lambda x: (x.shape, x.dtype, x.weak_type), tree)
    added = jax.eval_shape(link.add, state, items([1, 2]))
    assert types(added) == types(state)
    batch, wanted = link.sample(state, jax.random.key(0)), items([0] * 4)
    assert jax.tree.structure(batch) == jax.tree.structure(wanted)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), batch) == jax.tree.map(lambda x: (x.shape, x.dtype), wanted)
    assert batch.observation["image"].dtype == jnp.uint8


@every_replay
def test_sample_is_pure_and_traced_once(build):
    link, traces = build(8, 4), []
    state = fill(link, [[1, 2, 3, 4]])

    @jax.jit
    def sample(state, key):
        traces.append(None)
        return link.sample(state, key)

    first, second = (sample(state, jax.random.key(3)) for _ in range(2))
    np.testing.assert_array_equal(first.reward, second.reward)
    state = jax.jit(link.add)(state, items([5, 6, 7, 8]))
    others = [tuple(ids_of(sample(state, jax.random.key(seed)))) for seed in range(10)]
    assert len(set(others)) > 5
    assert len(traces) == 1
    np.testing.assert_array_equal(sample(state, jax.random.key(3)).reward, link.sample(state, jax.random.key(3)).reward)


@every_replay
def test_empty_buffer_hands_out_zeros(build):
    link = build(8, 4)
    np.testing.assert_array_equal(link.sample(new(link), jax.random.key(0)).reward, np.zeros(4))


@every_replay
def test_vmap_is_the_loop(build):
    members, link = 3, build(6, 4)
    transitions = items(np.arange(1, 1 + members * 4 * 2).reshape(members, 4, 2))
    keys = jax.random.split(jax.random.key(0), members)

    def run(transitions, key):
        state, _ = jax.lax.scan(lambda state, rows: (link.add(state, rows), None), new(link), transitions)
        return state, link.sample(state, key)

    together, alone = jax.jit(jax.vmap(run))(transitions, keys), jax.jit(run)
    for i in range(members):
        member = lambda tree: jax.tree.map(lambda x: x[i], tree)  # noqa: B023
        jax.tree.map(np.testing.assert_array_equal, member(together), alone(member(transitions), keys[i]))


@every_replay
@pytest.mark.parametrize(
    ("capacity", "batch_size", "message"),
    [
        (10, 0, "batch_size=0: must be at least 1"),
        (10, -1, "batch_size=-1: must be at least 1"),
        (7, 8, "capacity=7 .*batch_size=8"),
        (0, 1, "capacity=0"),
    ],
)
def test_sizes_out_of_range(build, capacity, batch_size, message):
    with pytest.raises(ValueError, match=message):
        build(capacity, batch_size)


@every_replay
@pytest.mark.parametrize("count", [0, 3, 4, 20])
def test_add_of_a_count_that_does_not_divide_the_capacity(build, count):
    link = build(10, 2)
    with pytest.raises(ValueError, match=f"capacity=10 is not a multiple of the {count} transitions"):
        link.add(new(link), items(np.ones(count, int)))


def once(link):
    def step(state, transitions, key):
        state = link.add(state, transitions)
        return state, link.sample(state, key)

    return step


def scanned(link):
    def steps(state, transitions, key):
        return jax.lax.scan(lambda state, key: once(link)(state, transitions, key), state, jax.random.split(key, 10))

    return steps


def memory(build, program, capacity, donate=0):
    link = build(capacity, 256)
    row = jax.tree.map(lambda x: x[0], items([0]))
    state, rows = jax.eval_shape(link.init, row), items(np.ones(8, int))
    compiled = jax.jit(program(link), donate_argnums=donate).lower(state, rows, jax.random.key(0)).compile()
    return compiled.memory_analysis(), sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))


@every_replay
@pytest.mark.parametrize("program", [once, scanned])
def test_a_donated_ring_is_written_in_place(build, program):
    small, _ = memory(build, program, 10_000)
    large, size = memory(build, program, 1_000_000)
    assert size > 28_000_000
    assert large.temp_size_in_bytes <= small.temp_size_in_bytes
    assert large.alias_size_in_bytes >= size
    undonated, _ = memory(build, program, 1_000_000, donate=())
    assert undonated.alias_size_in_bytes < size  # so the figure above says something
