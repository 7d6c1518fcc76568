import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats

from ddpg_jax import replay
from ddpg_jax.replay.prioritised import FANOUT, _descend
from ddpg_jax.replay.rows import LARGEST
from ddpg_jax.types import Sample, Transition

# A new replay is one row here: ``build(capacity, batch_size) -> Replay``.
REPLAYS = {"uniform": replay.uniform, "prioritised": replay.prioritised}
every_replay = pytest.mark.parametrize("build", REPLAYS.values(), ids=REPLAYS.keys())


def items(ids):
    """Transitions that carry their id in every leaf, in several dtypes. Id 0 marks a row that was
    never written."""
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


def data(sampled):
    """The transitions, without what a prioritised replay hands out beside them."""
    return sampled.batch if isinstance(sampled, Sample) else sampled


def ids_of(sampled):
    """The ids of a batch; all leaves of a row must tell the same one."""
    batch = data(sampled)
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
            # 200 batches miss a given row of at most 25 with probability (24/25)^200 < 3e-4 at
            # batch size 1.
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
    batch, wanted = data(link.sample(state, jax.random.key(0))), items([0] * 4)
    assert jax.tree.structure(batch) == jax.tree.structure(wanted)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), batch) == jax.tree.map(
        lambda x: (x.shape, x.dtype), wanted
    )
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
    jax.tree.map(np.testing.assert_array_equal, first, second)
    state = jax.jit(link.add)(state, items([5, 6, 7, 8]))
    others = [tuple(ids_of(sample(state, jax.random.key(seed)))) for seed in range(10)]
    assert len(set(others)) > 5
    assert len(traces) == 1
    jax.tree.map(
        np.testing.assert_array_equal,
        sample(state, jax.random.key(3)),
        link.sample(state, jax.random.key(3)),
    )


@every_replay
def test_empty_buffer_hands_out_zeros(build):
    link = build(8, 4)
    sampled = link.sample(new(link), jax.random.key(0))
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(sampled))
    np.testing.assert_array_equal(data(sampled).reward, np.zeros(4))


@every_replay
def test_vmap_is_the_loop(build):
    members, link = 3, build(6, 4)
    transitions = items(np.arange(1, 1 + members * 4 * 2).reshape(members, 4, 2))
    keys = jax.random.split(jax.random.key(0), members)

    def run(transitions, key):
        state, _ = jax.lax.scan(
            lambda state, rows: (link.add(state, rows), None), new(link), transitions
        )
        return state, link.sample(state, key)

    together, alone = jax.jit(jax.vmap(run))(transitions, keys), jax.jit(run)
    for i in range(members):
        member = lambda tree: jax.tree.map(lambda x: x[i], tree)  # noqa: B023
        jax.tree.map(
            np.testing.assert_array_equal, member(together), alone(member(transitions), keys[i])
        )


@every_replay
@pytest.mark.parametrize(
    ("capacity", "batch_size", "message"),
    [
        (10, 0, "batch_size=0: must be at least 1"),
        (10, -1, "batch_size=-1: must be at least 1"),
        (7, 8, "capacity=7 .*batch_size=8"),
        (0, 1, "capacity=0"),
        (2**30 + 1, 1, "capacity=1073741825: must be between 1 and 1073741824"),
    ],
)
def test_sizes_out_of_range(build, capacity, batch_size, message):
    with pytest.raises(ValueError, match=message):
        build(capacity, batch_size)


@every_replay
@pytest.mark.parametrize("count", [0, 3, 4, 20])
def test_add_of_a_count_that_does_not_divide_the_capacity(build, count):
    link = build(10, 2)
    with pytest.raises(
        ValueError, match=f"capacity=10 is not a multiple of the {count} transitions"
    ):
        link.add(new(link), items(np.ones(count, int)))


def once(link):
    def step(state, transitions, key):
        state = link.add(state, transitions)
        sampled = link.sample(state, key)
        if link.update is not None:
            state = link.update(state, sampled.rows, sampled.batch.reward)
        return state, sampled

    return step


def scanned(link):
    def steps(state, transitions, key):
        return jax.lax.scan(
            lambda state, key: once(link)(state, transitions, key), state, jax.random.split(key, 10)
        )

    return steps


def memory(build, program, capacity, donate=0):
    link = build(capacity, 256)
    row = jax.tree.map(lambda x: x[0], items([0]))
    state, rows = jax.eval_shape(link.init, row), items(np.ones(8, int))
    compiled = (
        jax.jit(program(link), donate_argnums=donate)
        .lower(state, rows, jax.random.key(0))
        .compile()
    )
    return compiled.memory_analysis(), sum(
        leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state)
    )


@every_replay
@pytest.mark.parametrize("program", [once, scanned])
def test_a_donated_ring_is_written_in_place(build, program):
    small, _ = memory(build, program, 10_000)
    large, size = memory(build, program, 1_000_000)
    assert size > 28_000_000
    # The prioritised tree has 3 levels at 10,000 and 4 at 1,000,000: one more step of a few [256,
    # 32] float32, 32 KB each.
    deeper = 0 if build is replay.uniform else 8 * 256 * 32 * 4
    assert large.temp_size_in_bytes <= small.temp_size_in_bytes + deeper
    assert large.alias_size_in_bytes >= size
    undonated, _ = memory(build, program, 1_000_000, donate=())
    assert undonated.alias_size_in_bytes < size  # so the figure above says something


def prioritised(priorities, batch_size, capacity=None, **options):
    """A replay, and its state with ids 1, 2, ... whose leaves hold ``priorities``."""
    priorities = np.asarray(priorities, np.float32)
    capacity = len(priorities) if capacity is None else capacity
    link = replay.prioritised(
        capacity, batch_size, **{"priority_exponent": 1.0, "epsilon": 0.0} | options
    )
    state = fill(
        link, np.arange(1, len(priorities) + 1).reshape(-1, math.gcd(capacity, len(priorities)))
    )
    return link, jax.jit(link.update)(state, jnp.arange(len(priorities)), priorities)


def leaves_of(state):
    return np.asarray(state.levels[0]).ravel()


@pytest.mark.parametrize(
    "capacity", [20, 32, 50, 1100], ids=["below 32", "32", "two levels", "three levels"]
)
@pytest.mark.parametrize("alpha", [0.0, 0.6, 1.0])
def test_frequencies_follow_the_priorities(capacity, alpha):
    """One sample per batch, so that draws are independent; every third row has the priority 0
    (alpha 0: all are equal)."""
    rng = np.random.default_rng(capacity)
    errors = np.where(np.arange(capacity) % 3 == 1, 0, rng.uniform(0.2, 5, capacity))
    link, state = prioritised(errors * rng.choice([-1, 1], capacity), 1, priority_exponent=alpha)
    counts = np.bincount(draws(link, state, 40_000).ravel() - 1, minlength=capacity)
    expected = errors**alpha  # 0^0 is 1
    expected *= 40_000 / expected.sum()
    assert np.all(counts[expected == 0] == 0)
    positive = expected > 0
    assert stats.chisquare(counts[positive], expected[positive]).pvalue > 1e-3


def test_one_sample_of_each_segment():
    # 64 equal rows, 16 segments: segment i is rows 4 i to 4 i + 3.
    link, state = prioritised(np.ones(64), 16)
    rows = np.sort(draws(link, state, 300) - 1, axis=1)
    np.testing.assert_array_equal(rows // 4, np.tile(np.arange(16), (300, 1)))
    assert len(np.unique(rows)) == 64

    # Unequal ones: row r covers [begin_r, end_r) of the total, segment i of 16 covers [i, i + 1)
    # total / 16.
    priorities = np.random.default_rng(0).integers(20, 100, 77)
    link, state = prioritised(priorities, 16)
    rows, end, width = (
        np.sort(draws(link, state, 300) - 1, axis=1),
        np.cumsum(priorities),
        priorities.sum() / 16,
    )
    begin, slack = end - priorities, 1e-3
    assert np.all(end[rows] > np.arange(16) * width - slack)
    assert np.all(begin[rows] < (np.arange(16) + 1) * width + slack)
    assert len(np.unique(rows)) == 77


@every_replay
@pytest.mark.parametrize("batch_size", [2, 16, 23])
def test_rows_of_a_batch_are_exchangeable(build, batch_size):
    """What a row is says nothing about its place in the batch: each place is as likely to hold the
    lower ids as any other."""
    link = build(64, batch_size)
    seen, count = draws(link, fill(link, np.arange(1, 65).reshape(-1, 8)), 3000), 3000
    # Ids 1 to 64: mean 32.5, variance (64^2 - 1) / 12 = 341; at one place in 3000 batches, five
    # standard deviations.
    np.testing.assert_allclose(seen.mean(axis=0), 32.5, atol=5 * np.sqrt(341.25 / count))
    # Of two places the first holds the lower id as often as not; ties count half.
    lower = [
        np.mean(seen[:, i] < seen[:, j]) + np.mean(seen[:, i] == seen[:, j]) / 2
        for i, j in ((0, 1), (0, -1))
    ]
    np.testing.assert_allclose(lower, 0.5, atol=5 * np.sqrt(0.25 / count))
    # The order is drawn anew in each batch.
    assert len({tuple(np.argsort(row, kind="stable")) for row in seen}) >= min(
        2, math.factorial(batch_size)
    )


@pytest.mark.parametrize("written", [45, 77, 100], ids=["partly filled", "full", "wrapped"])
@pytest.mark.parametrize("beta", [0.0, 0.4, 1.0])
def test_weights_are_the_papers(written, beta):
    """w_i = (N P(i))^-beta / max_j w_j, in float64."""
    rng, link = (
        np.random.default_rng(0),
        replay.prioritised(77, 16, importance_exponent=beta, epsilon=0.01),
    )
    state, rows = (
        fill(link, np.arange(1, written + 1)[:, None]),
        rng.permutation(min(written, 77))[:60].astype(np.int32),
    )
    state = link.update(state, rows, rng.normal(0, 3, rows.size).astype(np.float32))
    sampled = jax.jit(link.sample)(state, jax.random.key(1))
    leaf = leaves_of(state)[:77].astype(np.float64)
    probability = leaf / leaf.sum()
    weight = (min(written, 77) * probability[sampled.rows]) ** -beta
    np.testing.assert_allclose(sampled.weight, weight / weight.max(), rtol=1e-5)
    assert np.max(sampled.weight) == 1
    assert (sampled.weight.shape, sampled.weight.dtype, sampled.rows.dtype) == (
        (16,),
        jnp.float32,
        jnp.int32,
    )
    np.testing.assert_array_equal(
        ids_of(sampled), np.asarray(state.ring.storage.reward)[sampled.rows]
    )


def test_weights_of_shards_are_of_their_whole_batch():
    """P(i) = p_i / (D T), of D rings with totals T; one maximum over all of them."""
    link = replay.prioritised(40, 8, importance_exponent=0.7, epsilon=0.01, axis_name="shards")
    rng, rows = np.random.default_rng(0), np.arange(40, dtype=np.int32)
    filled = fill(link, np.arange(40)[:, None])
    both = [
        link.update(filled, rows, rng.normal(0, scale, 40).astype(np.float32)) for scale in (1, 30)
    ]
    states = jax.tree.map(lambda *x: jnp.stack(x), *both)
    sampled = jax.vmap(link.sample, axis_name="shards")(states, jax.random.split(jax.random.key(1)))
    leaves = np.stack([leaves_of(state)[:40] for state in both]).astype(np.float64)
    probability = leaves / leaves.sum(axis=1, keepdims=True) / 2
    weight = (80 * np.take_along_axis(probability, np.asarray(sampled.rows), 1)) ** -0.7
    np.testing.assert_allclose(sampled.weight, weight / weight.max(), rtol=1e-5)


def test_weight_and_leaf_by_hand():
    # alpha 1/2: p = |error| + 1 = 1, 4, 9, 16 gives 1, 2, 3, 4 of 10. Equal segments [0, 5) and [5,
    # 10) of rows 0..2, 2..3.
    options = {"priority_exponent": 0.5, "epsilon": 1.0, "importance_exponent": 1.0}
    link, state = prioritised([0, -3, 8, -15], 2, **options)
    sample = jax.jit(link.sample)
    np.testing.assert_allclose(leaves_of(state)[:4], [1, 2, 3, 4], rtol=1e-6)
    seen = set()
    for seed in range(20):
        sampled = sample(state, jax.random.key(seed))
        # (4 P)^-1 over its maximum: the smaller leaf over each.
        expected = (sampled.rows.min() + 1) / (np.asarray(sampled.rows) + 1)
        np.testing.assert_allclose(sampled.weight, expected, rtol=1e-6)
        seen.add(tuple(sorted(sampled.rows.tolist())))
    assert seen <= {(a, b) for a in (0, 1, 2) for b in (2, 3)}
    assert len(seen) > 3


def test_importance_exponent_follows_the_number_of_samples():
    # 0.4, 0.7, 1 after 0, 1, 2 updates, then 1; leaves 1 and 4: the weight of the larger is (1 /
    # 4)^beta.
    link, state = prioritised([1, 4], 2, importance_exponent=optax.linear_schedule(0.4, 1.0, 2))
    assert state.samples == 1  # by `prioritised`
    state = dataclasses.replace(state, samples=jnp.zeros((), jnp.int32))
    sample, seen = jax.jit(link.sample), []
    for _ in range(4):
        sampled = next(
            x
            for x in (sample(state, jax.random.key(i)) for i in range(100))
            if set(x.rows.tolist()) == {0, 1}
        )
        seen.append(float(np.min(sampled.weight)))
        state = link.update(state, sampled.rows, jnp.array([1.0, 4.0])[sampled.rows])
    np.testing.assert_allclose(seen, 0.25 ** np.array([0.4, 0.7, 1.0, 1.0]), rtol=1e-5)


def test_new_transitions_get_the_largest_priority_so_far():
    link = replay.prioritised(6, 1, priority_exponent=0.5, epsilon=0.0)
    state = fill(link, [[1, 2]])
    np.testing.assert_array_equal(leaves_of(state)[:4], [1, 1, 0, 0])  # at first 1
    state = link.update(
        state, jnp.array([0, 1]), jnp.array([0.25, 0.01])
    )  # both smaller: sqrt is 0.5 and 0.1
    state = link.add(state, items([3, 4]))
    np.testing.assert_allclose(leaves_of(state)[:6], [0.5, 0.1, 1, 1, 0, 0], rtol=1e-6)
    state = link.update(state, jnp.array([1]), jnp.array([-9.0]))  # 3
    state = link.update(
        state, jnp.array([1]), jnp.array([4.0])
    )  # 2, but 3 stays the largest so far
    state = link.add(state, items([5, 6]))
    np.testing.assert_allclose(leaves_of(state)[:6], [0.5, 2, 1, 1, 3, 3], rtol=1e-6)
    state = link.add(state, items([7, 8]))  # over the first two
    np.testing.assert_allclose(leaves_of(state)[:6], [3, 3, 1, 1, 3, 3], rtol=1e-6)


def test_of_a_row_that_comes_twice_the_larger_priority_stays():
    link, state = prioritised([9, 9, 9, 9], 1)
    state = link.update(state, jnp.array([3, 1, 3, 0, 3]), jnp.array([2.0, 1.0, -6.0, 0.0, 4.0]))
    np.testing.assert_array_equal(leaves_of(state)[:4], [0, 1, 9, 6])
    assert np.sum(state.levels[-1]) == 0 + 1 + 9 + 6


@pytest.mark.parametrize("capacity", [24, 1000, 1100])
def test_parents_are_the_sums_of_their_children_after_many_writes(capacity):
    """Against a NumPy array of leaves; priorities over twelve decades, where a difference added to
    a sum would drift."""
    link, rng, rounds = (
        replay.prioritised(capacity, 8, priority_exponent=1.0, epsilon=0.0),
        np.random.default_rng(0),
        700,
    )
    rows = rng.integers(0, capacity, (rounds, 8)).astype(np.int32)
    errors = (10 ** rng.uniform(-6, 6, (rounds, 8)) * rng.choice([0, 1, -1], (rounds, 8))).astype(
        np.float32
    )
    errors[-200:] *= np.float32(1e-6)  # at the end most are small again

    def step(state, inputs):
        index, rows, errors = inputs
        state = jax.lax.cond(
            index % 5 == 0, lambda s: link.add(s, items([1, 2])), lambda s: s, state
        )
        return link.update(state, rows, errors), None

    state = jax.jit(lambda state: jax.lax.scan(step, state, (jnp.arange(rounds), rows, errors))[0])(
        new(link)
    )
    leaf, maximum, position = np.zeros(capacity, np.float32), np.float32(1), 0
    for t in range(rounds):
        if t % 5 == 0:
            leaf[position : position + 2], position = maximum, (position + 2) % capacity
        for row in set(rows[t].tolist()):
            leaf[row] = np.abs(errors[t][rows[t] == row]).max()
        maximum = max(maximum, np.abs(errors[t]).max())
    np.testing.assert_array_equal(leaves_of(state)[:capacity], leaf)
    np.testing.assert_array_equal(leaves_of(state)[capacity:], 0)
    for children, parents in zip(state.levels, state.levels[1:], strict=False):
        sums = np.asarray(children, np.float64).sum(axis=-1)
        np.testing.assert_allclose(np.asarray(parents).ravel()[: len(sums)], sums, rtol=1e-6)
        np.testing.assert_array_equal(np.asarray(parents).ravel()[len(sums) :], 0)
    assert len(state.levels) == {24: 1, 1000: 2, 1100: 3}[capacity]


MILLION, WRITTEN = 1_000_000, 250_000


@jax.jit
def at(levels, shares):
    """The rows at these shares of the whole: segments without width."""
    return _descend(levels, shares, shares, jnp.zeros((len(levels), shares.size)))


@pytest.fixture(scope="module")
def million():
    """A replay of 1,000,000 rows of which 250,000 are written, all with priority 1."""
    link = replay.prioritised(MILLION, 4096, priority_exponent=1.0, epsilon=0.0)
    state = jax.jit(link.add, donate_argnums=0)(
        link.init(jnp.float32(0)), jnp.arange(1.0, WRITTEN + 1)
    )
    return link, state, jax.jit(link.sample), jax.jit(link.update)


def test_a_million_equal_rows_are_sampled_evenly(million):
    _, state, sample, _ = million
    sampled = sample(state, jax.random.key(0))
    np.testing.assert_array_equal(sampled.batch, sampled.rows + 1)
    # Segment i of 4096 is 250,000 / 4096 = 61.04 rows: exactly its own, up to one row of rounding.
    segment = (np.sort(sampled.rows) + 0.5) * 4096 / WRITTEN
    np.testing.assert_allclose(segment, np.arange(4096) + 0.5, atol=0.5 + 1.5 / 61)
    assert stats.kstest(segment % 1, "uniform").pvalue > 1e-3


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("positive", [1, 40, 3000])
def test_never_a_row_of_priority_zero_or_one_not_written(million, positive, seed):
    _, state, sample, update = million
    rng = np.random.default_rng(seed)
    errors = np.zeros(WRITTEN, np.float32)
    rows = rng.choice(WRITTEN, positive, replace=False)
    errors[rows] = 10 ** rng.uniform(-6, 6, positive) * rng.choice([1, -1], positive)
    state = update(state, jnp.arange(WRITTEN), errors)
    for key in jax.random.split(jax.random.key(seed), 3):
        sampled = sample(state, key)
        assert np.all(sampled.rows < WRITTEN)
        assert np.all(errors[sampled.rows] != 0)
        np.testing.assert_array_equal(sampled.batch, sampled.rows + 1)
        assert np.all(np.isfinite(sampled.weight))
        assert np.all(sampled.weight >= 0)

    # The edges: nothing, all, a little more than all; and just before and after each of the sums
    # that the root holds.
    sums = np.cumsum(np.asarray(state.levels[-1][0]))
    shares, beyond = sums / sums[-1], np.float32(1 + 1e-6)
    edges = np.array(
        [
            0,
            1,
            beyond,
            *shares,
            *np.nextafter(shares, np.float32(0)),
            *np.nextafter(shares, beyond),
        ],
        np.float32,
    )
    found, priorities = at(state.levels, edges)
    assert np.all(errors[np.minimum(found, WRITTEN - 1)] != 0)
    assert np.all(found < WRITTEN)
    np.testing.assert_array_equal(priorities, np.abs(errors[found]))
    assert found[0] == rows.min()
    # Each lies where the running sum, in float64, passes its share; float32 tells 1e-6 of the total
    # apart.
    upto = np.cumsum(np.abs(errors).astype(np.float64)) / np.sum(np.abs(errors), dtype=np.float64)
    assert np.all(upto[found] >= edges - 3e-6)
    assert np.all(
        upto[found] - priorities / np.sum(np.abs(errors), dtype=np.float64) <= edges + 3e-6
    )


@pytest.mark.parametrize("capacity", [5, 32, 40, 1100])
def test_the_last_row_with_data_is_reached_and_none_beyond_it(capacity):
    """Of r equal rows, row i is what lies from share i / r up to (i + 1) / r; looked for a little
    inside."""
    written = capacity - 2
    _, state = prioritised(np.ones(written), 1, capacity=capacity)
    for inside in (1e-3, 0.5, 1 - 1e-3):
        shares = ((np.arange(written) + inside) / written).astype(np.float32)
        np.testing.assert_array_equal(at(state.levels, shares)[0], np.arange(written))
    np.testing.assert_array_equal(
        at(state.levels, np.float32([1, 1 + 1e-6, 2]))[0], [written - 1] * 3
    )


def huge_tree(rows, leaf):
    """Levels of a tree over ``rows`` rows with priorities ``leaf(row)``, the sums of each level
    from the one below."""
    leaves = leaf(jnp.arange(-(-rows // FANOUT) * FANOUT, dtype=jnp.int32)).reshape(-1, FANOUT)
    levels = [leaves]
    while levels[-1].shape[0] > 1:
        sums = jnp.sum(levels[-1], axis=1)
        levels.append(jnp.pad(sums, (0, -len(sums) % FANOUT)).reshape(-1, FANOUT))
    return tuple(levels)


@pytest.mark.parametrize(
    ("rows", "draws"),
    [(33_000_000, 300_000), pytest.param(100_000_000, 2_000_000, marks=pytest.mark.slow)],
)
@pytest.mark.parametrize(
    ("batch_size", "odd"), [(1, 1.0), (4096, 10.0)], ids=["equal", "unequal, in segments"]
)
def test_probabilities_are_right_to_one_percent_whatever_the_capacity(rows, draws, batch_size, odd):
    """Rows modulo 2, modulo 32 and in 64 bins; odd rows have the priority ``odd``, even ones 1."""
    leaf = lambda row: jnp.where(row < rows, jnp.where(row % 2 == 1, odd, 1.0), 0.0)
    levels, draws = jax.jit(lambda: huge_tree(rows, leaf))(), draws // batch_size * batch_size
    low = jnp.tile(jnp.arange(batch_size, dtype=jnp.float32), draws // batch_size) / batch_size
    uniforms = jax.random.uniform(jax.random.key(0), (len(levels), draws))
    found, priorities = map(
        np.asarray, jax.jit(_descend)(levels, low, low + 1 / batch_size, uniforms)
    )
    assert found.max() < rows
    np.testing.assert_array_equal(priorities, np.asarray(leaf(found)))
    shares = np.array([1, odd]) / (1 + odd)

    def right(counts, share):  # 1 %, and what chance adds: four standard deviations of a count
        np.testing.assert_allclose(
            counts, draws * share, rtol=0.01, atol=4 * np.sqrt(draws * np.max(share))
        )

    right(np.bincount(found % 2), shares)
    right(np.bincount(found % 32), np.tile(shares, 16) / 16)
    right(np.bincount(found.astype(np.int64) * 64 // rows), np.full(64, 1 / 64))
    # No row comes more often than chance has it, of a Poisson count with the mean of the more
    # likely ones.
    hits = np.unique(found, return_counts=True)[1]
    assert hits.max() <= stats.poisson.ppf(1 - 1e-9, draws * 2 * shares.max() / rows) + 1


@pytest.mark.parametrize("size", [3, 2**24 + 1, 100_000_000, LARGEST])
def test_exact_draws_below_a_size_are_a_long_multiplication(size):
    """Python's integers: (64-bit draw x size) / 2^64, rounded down; so probabilities differ by size
    / 2^64."""
    key = jax.random.key(size)
    high, low = np.asarray(jax.random.bits(key, (2, 5000), jnp.uint32)).astype(object)
    found = replay.ring.below(jnp.int32(size), jax.random.bits(key, (2, 5000), jnp.uint32))
    np.testing.assert_array_equal(found, ((high * 2**32 + low) * size >> 64).astype(np.int64))


def test_uniform_draws_are_right_to_one_percent_at_a_hundred_million_rows():
    """The rows that 2^32 modulo the size would favour by 2.4 % (43 against 42 of 2^32 words) make
    0.94967 of all."""
    size, count = 100_000_000, 4_000_000
    link, favoured = replay.uniform(size, count), 2**32 % size
    stored = {"bool": (jnp.arange(size, dtype=jnp.int32) < favoured)[:, None]}
    state = link.init(jnp.zeros((), bool)).replace(rows=stored, size=jnp.int32(size))
    batch, share = jax.jit(link.sample)(state, jax.random.key(1)), favoured / size
    # Five standard deviations are 0.0005; one word's bias is 43 * 0.94967 / (43 * 0.94967 + 42 *
    # 0.05033) - 0.94967 = 0.0011.
    assert abs(np.mean(batch) - share) < 5 * np.sqrt(share * (1 - share) / count)


def prioritised_run(link, errors, key):
    """Adds, samples and updates, two rounds; errors ``[2, B]``."""
    state, sampled = new(link), []
    for t in range(2):
        state = link.add(state, items([4 * t + i for i in range(1, 5)]))
        for step_key in jax.random.split(jax.random.fold_in(key, t)):
            sampled.append(link.sample(state, step_key))
            state = link.update(state, sampled[-1].rows, errors[t])
    return state, sampled


def test_prioritised_updates_under_vmap_are_the_loop():
    link, members = replay.prioritised(40, 4), 3
    errors = np.random.default_rng(0).normal(0, 3, (members, 2, 4)).astype(np.float32)
    keys, run = (
        jax.random.split(jax.random.key(0), members),
        functools.partial(prioritised_run, link),
    )
    together, jitted = jax.jit(jax.vmap(run))(errors, keys), jax.jit(run)
    close = functools.partial(
        jax.tree.map, lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5)
    )
    for i in range(members):
        alone = jitted(errors[i], keys[i])
        close(jax.tree.map(lambda x: x[i], together), alone)  # noqa: B023
        assert len(set(np.concatenate([x.rows for x in alone[1]]).tolist())) > 2


def test_exponents_may_be_traced():
    def run(alpha, beta):
        link = replay.prioritised(
            4, 4, priority_exponent=alpha, importance_exponent=beta, epsilon=0.0
        )
        state = link.add(new(link), items([1, 2, 3, 4]))
        state = link.update(state, jnp.arange(4), jnp.array([1.0, 4.0, 9.0, 16.0]))
        return state.levels[0][0, :4], link.sample(state, jax.random.key(0))

    leaf, sampled = jax.jit(jax.vmap(run))(jnp.array([0.0, 0.5]), jnp.array([0.4, 1.0]))
    np.testing.assert_allclose(leaf, [[1, 1, 1, 1], [1, 2, 3, 4]], rtol=1e-6)
    np.testing.assert_array_equal(sampled.weight[0], np.ones(4))
    np.testing.assert_allclose(
        sampled.weight[1],
        (sampled.rows[1].min() + 1) / (np.asarray(sampled.rows[1]) + 1),
        rtol=1e-5,
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"priority_exponent": 1.5}, "priority_exponent=1.5: must be between 0 and 1"),
        ({"priority_exponent": -0.1}, "priority_exponent=-0.1: must be between 0 and 1"),
        ({"importance_exponent": 2.0}, "importance_exponent=2.0: must be between 0 and 1"),
        ({"epsilon": -1e-6}, "epsilon=-1e-06: must be at least 0"),
    ],
)
def test_prioritised_numbers_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        replay.prioritised(10, 2, **options)
