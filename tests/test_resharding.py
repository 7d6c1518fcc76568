"""Replays and runs on another number of shards: every transition is what it was, pictures
included."""

import dataclasses
import functools
import itertools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddpg_jax import envs, replay, runs
from ddpg_jax.envs.autoreset import batch
from ddpg_jax.replay.prioritised import FANOUT
from ddpg_jax.runs.checkpoints import resharding
from ddpg_jax.runs.checkpoints.store import Checkpoints
from ddpg_jax.runs.config.mesh import Mesh, parse_mesh
from ddpg_jax.runs.config.run_config import make_config
from ddpg_jax.runs.config.stored import load_config
from ddpg_jax.runs.programs import build
from ddpg_jax.runs.results import policy
from ddpg_jax.types import Transition

ENVS, CAPACITY, STACK = 8, 96, 3  # environments and rows of all shards
SAMPLINGS = {"uniform": replay.uniform, "prioritised": replay.prioritised}


def picture(shard, env, time):
    """A frame that no other environment and time shows."""
    return np.array([[[shard], [env]], [[time % 251], [time // 251]]], np.uint8)


def steps(shard, envs, count, n_step, breaks, seed=0):
    """``count`` steps of the environments of a shard, with episodes of random lengths; the reward
    is a number that no other transition has."""
    random = np.random.default_rng(seed + shard)
    clock = itertools.count()
    shown = [[next(clock)] * STACK for _ in range(envs)]  # times of the frames of a stack
    past = [[] for _ in range(envs)]
    for step in range(count):
        made, valid = [], []
        for env in range(envs):
            before, time = shown[env], next(clock)
            after = [*before[1:], time]
            past[env].append(before)
            if len(past[env]) < n_step:
                valid.append(False)
                first = before
            else:
                valid.append(not breaks or random.random() < 0.8)
                first = past[env][-n_step]
            made.append((first, after, env, 1_000.0 * shard + step * envs + env))
            if random.random() < 0.15:
                after, past[env] = [next(clock)] * STACK, []
            shown[env] = after
        yield made, np.array(valid)


def transitions(shard, made, images):
    def seen(times, env):
        stack = np.concatenate([picture(shard, env, time) for time in times], axis=-1)
        return {"image": stack, "speed": np.float32([times[-1]])} if images else np.float32(times)

    rows = [
        Transition(
            observation=seen(first, env),
            action=np.float32([number]),
            reward=np.float32(number),
            discount=np.float32(1),
            next_observation=seen(after, env),
        )
        for first, after, env, number in made
    ]
    return jax.tree.map(lambda *x: np.stack(x), *rows)


def make(storage, sampling, shards, n_step):
    made = (
        functools.partial(
            replay.frames, stack=STACK, num_envs=ENVS // shards, n_step=n_step, episode_steps=2
        )
        if storage == "frames"
        else replay.rows
    )
    return SAMPLINGS[sampling](CAPACITY // shards, 2, storage=made), made(CAPACITY // shards)


def filled(storage, sampling, shards, n_step, count, breaks):
    """Replays of ``shards``, NumPy arrays with a leading axis, and every transition that was ever
    stored, by its number."""
    ring, _ = make(storage, sampling, shards, n_step)
    known, states = {}, []
    add = jax.jit(ring.add)
    for shard in range(shards):
        state = None
        for made, valid in steps(shard, ENVS // shards, count, n_step, breaks):
            given = transitions(shard, made, storage == "frames")
            if state is None:
                state = ring.init(jax.tree.map(lambda x: x[0], given))
            state = add(state, given, valid) if breaks else add(state, given)
            for env in np.flatnonzero(valid):
                one = jax.tree.map(lambda x, env=env: x[env], given)
                known[float(one.reward)] = one
        states.append(state)
    return jax.tree.map(lambda *x: np.stack(x), *states), known


def contents(storage, sampling, n_step, states):
    """The transitions of each shard, oldest first."""
    shards = len(states.position if sampling == "uniform" else states.ring.position)
    _, stored = make(storage, sampling, shards, n_step)
    rings = states if sampling == "uniform" else states.ring
    found = []
    for shard in range(shards):
        ring = jax.tree.map(lambda x, shard=shard: jnp.asarray(x[shard]), rings)
        size, position = int(ring.size), int(ring.position)
        rows = (position - size + np.arange(size)) % stored.capacity
        got = stored.get(ring, jnp.asarray(rows, jnp.int32)) if size else ()
        got = jax.tree.map(np.asarray, got)
        found.append([jax.tree.map(lambda x, i=i: x[i], got) for i in range(size)])
    return found


def numbers(found):
    return [[float(one.reward) for one in shard] for shard in found]


# The first steps of an n-step window are no transitions.
@pytest.mark.parametrize(
    ("n_step", "breaks"), [(1, False), pytest.param(1, True, marks=pytest.mark.slow), (3, True)]
)
@pytest.mark.parametrize("count", [5, 40])
@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("storage", ["rows", "frames"])
def test_every_transition_is_what_it_was(storage, sampling, n_step, count, breaks):
    for old, new in [(1, 2), (2, 1), (2, 8), (8, 4), (4, 1), (1, 8)]:
        states, known = filled(storage, sampling, old, n_step, count, breaks)
        before = numbers(contents(storage, sampling, n_step, states))
        ring, _ = make(storage, sampling, new, n_step)
        dealt = ring.deal(states, new)
        after = contents(storage, sampling, n_step, dealt.state)
        kept = list(itertools.chain.from_iterable(numbers(after)))
        assert len(set(kept)) == len(kept)
        assert dealt.lost == sum(map(len, before)) - len(kept) <= new - 1
        assert set(kept) <= set(itertools.chain.from_iterable(before))
        for one in itertools.chain.from_iterable(after):
            jax.tree.map(np.testing.assert_array_equal, one, known[float(one.reward)])
        assert len({len(shard) for shard in after}) == 1
        for shard in numbers(after):  # of each old shard and environment in their order
            for was in before:
                assert [x for x in shard if x in was] == [x for x in was if x in shard]


def pooled(num_envs):
    """An environment that keeps starts for later where there are several of it."""
    single = envs.make("pendulum", 1).single
    return batch(single, num_envs, 9, fresh_per_step=1)


def seen(env):
    """A picture of its own for every angle, drawn by one product; three of them are observed."""
    waves = lambda x: jnp.cos(x * jnp.arange(12.0))
    picture = lambda x: 127 * (jnp.outer(waves(x[0]), waves(x[1])) + 1)
    shown = lambda x: picture(x).astype(jnp.uint8)[..., None]
    return envs.frame_stack(envs.map_observation(env, shown), STACK)


def seen_fresh(num_envs):
    return seen(envs.make("pendulum", num_envs))


def seen_pooled(num_envs):
    return seen(pooled(num_envs))


ENVIRONMENTS = {
    ("rows", "fresh"): "pendulum",
    ("rows", "pooled"): "test_resharding:pooled",
    ("frames", "fresh"): "test_resharding:seen_fresh",
    ("frames", "pooled"): "test_resharding:seen_pooled",
}
STORAGES = {
    "rows": {"hidden": (8,)},
    "frames": {
        "preset": "drq-v2",
        "hidden": (8,),
        "channels": 2,
        "layers": 1,
        "trunk": 4,
        "shift": 1,
    },
}
# Storage, alpha, n-step, starts, environments, and shards of one run after the other: every pair of
# values is among them.
PAIRWISE = [
    ("rows", 0.0, 1, "fresh", 8, (8, 1)),
    ("rows", 0.6, 3, "pooled", 8, (2, 8)),
    ("frames", 0.0, 3, "pooled", 4, (4, 2)),
    ("frames", 0.6, 1, "fresh", 4, (1, 4)),
    ("frames", 0.6, 1, "pooled", 8, (4, 8)),
]
ALL = [
    pytest.param(*case, marks=pytest.mark.slow)
    for case in itertools.product(
        STORAGES,
        (0.0, 0.6),
        (1, 3),
        ("fresh", "pooled"),
        (8,),  # on 8 shards one of each, on fewer several
        ((1, 2, 4, 8, 4, 2, 1),),
    )
]


def stored_transitions(folder):
    """The transitions in a run's newest checkpoint, by their bytes, the oldest of each shard
    first."""
    config = load_config(folder)
    shards = parse_mesh(config.mesh).data
    found = Checkpoints(folder / "checkpoints", read_only=True).newest(
        lambda about: build.state_shapes(config), pytest.fail
    )
    states = found.state.replay
    states = states if shards > 1 else jax.tree.map(lambda x: x[None], states)
    storage = states.ring if hasattr(states, "levels") else states
    own = config.hyperparameters
    made = replay.rows(own.replay_capacity // shards)
    if hasattr(storage, "frames"):
        made = replay.frames(
            own.replay_capacity // shards,
            stack=STACK,
            num_envs=own.num_envs // shards,
            n_step=own.n_step,
            episode_steps=own.episode_steps,
        )
    rows = []
    for shard in range(shards):
        one = jax.tree.map(lambda x, shard=shard: jnp.asarray(x[shard]), storage)
        capacity = len(getattr(one, "ring", one).rows["float32"])
        index = (int(one.position) - int(one.size) + np.arange(int(one.size))) % capacity
        got = jax.tree.map(np.asarray, made.get(one, jnp.asarray(index, jnp.int32)))
        rows.append(
            [b"".join(x[i].tobytes() for x in jax.tree.leaves(got)) for i in range(len(index))]
        )
    return rows


@pytest.mark.eight_devices
@pytest.mark.parametrize(
    ("storage", "alpha", "n_step", "starts", "count", "shards"), PAIRWISE + ALL
)
def test_a_run_on_other_shards_keeps_its_transitions(
    tmp_path, storage, alpha, n_step, starts, count, shards
):
    options = {
        "num_envs": count,
        "batch_size": 16,
        "replay_capacity": 100 * count,  # more than all runs store
        "learning_starts": 5 * count,
        "steps_per_chunk": 8 * count,
        "checkpoint_every": 1,
        "evaluate_every": 0,
        "evaluation_episodes": 2,
        "final_episodes": 2,
        "n_step": n_step,
        "priority_exponent": alpha,
        **STORAGES[storage],
    }
    steps = lambda chunks: {"total_timesteps": (5 + n_step - 1 + 8 * chunks) * count}
    folder, before = tmp_path / "run", None
    for number, data in enumerate(shards):
        more = {"resume": True} if number else {"env": ENVIRONMENTS[storage, starts], **options}
        runs.train(
            run_dir=folder,
            progress=False,
            mesh=f"members=1,data={data}",
            **more,
            **steps(number + 1),
        )
        now = stored_transitions(folder)
        assert len(now) == data
        kept = set(itertools.chain.from_iterable(now))
        if before is not None:
            assert len(before - kept) <= data - 1
        before = kept
    returns = policy.evaluate(folder, 3, 0)["returns"]
    assert len(returns) == 1
    assert policy.restore_policy(folder)[2] == [steps(len(shards))["total_timesteps"]]
    assert load_config(folder).mesh == f"members=1,data={shards[-1]}"


def rings(make, shards, stored):
    """A replay of each shard that has ``stored`` items, number ``1000 shard + i``, in a ring of
    8."""
    ring = make(8, 2)

    def one(shard):
        state = ring.init(jnp.zeros((1,)))
        for i in range(stored[shard]):
            state = ring.add(state, jnp.full((1, 1), 1_000.0 * shard + i))
        return state

    states = [one(shard) for shard in range(shards)]
    return jax.tree.map(lambda *leaves: np.stack(leaves), *states)


def dealt(states, count, make=replay.uniform, capacity=8):
    return make(capacity, 2).deal(states, count).state


def held(state):
    """What each shard has, the oldest first."""
    rows, sizes = state.rows["float32"][..., 0], state.size
    place = lambda shard, i: (state.position[shard] - sizes[shard] + i) % rows.shape[1]
    return [
        [int(rows[shard, place(shard, i)]) for i in range(sizes[shard])]
        for shard in range(len(sizes))
    ]


def test_rings_are_dealt_by_age():
    state = rings(replay.uniform, 2, [11, 11])  # a ring keeps the last 8: 3 to 10
    four = dealt(state, 4, capacity=4)
    assert held(four) == [
        [4, 6, 8, 10],
        [1004, 1006, 1008, 1010],
        [3, 5, 7, 9],
        [1003, 1005, 1007, 1009],
    ]
    one = dealt(state, 1, capacity=16)
    assert held(one) == [[value for i in range(3, 11) for value in (1_000 + i, i)]]
    assert (one.rows["float32"].shape, one.position.tolist()) == ((1, 16, 1), [0])
    # Shards that hold unequally many, as where some steps were none: the oldest that does not
    # divide is lost.
    uneven = replay.uniform(4, 2).deal(rings(replay.uniform, 2, [3, 2]), 4)
    assert (held(uneven.state), uneven.lost) == ([[2], [1001], [1], [1000]], 1)
    assert not uneven.state.rows["float32"][:, 1:].any(), "zeros where nothing lies"
    assert held(dealt(four, 2)) == held(state)
    small = replay.uniform(3, 2).deal(state, 2)  # fewer rows than before: the newest
    assert (held(small.state), small.lost) == ([[8, 9, 10], [1008, 1009, 1010]], 10)


def test_priorities_go_with_their_rows():
    state = rings(replay.prioritised, 2, [5, 5])
    leaves = state.levels[0].copy()
    leaves[:, 0, :8] = np.arange(16).reshape(2, 8) / 16
    state = dataclasses.replace(
        state, levels=(leaves,), maximum=np.float32([1, 3]), samples=np.int32([7, 7])
    )
    new = dealt(state, 1, replay.prioritised, 16)
    values, priorities = held(new.ring)[0], new.levels[0].reshape(-1)[:10]
    assert [round(16 * p) for p in priorities] == [
        value % 1_000 + 8 * (value // 1_000) for value in values
    ]
    assert (new.maximum.tolist(), new.samples.tolist()) == ([3], [7])
    wide = replay.prioritised(FANOUT * 4, 2)
    full = jax.jit(lambda state: wide.add(state, jnp.ones((FANOUT * 4, 1))))(
        wide.init(jnp.zeros((1,)))
    )
    both = jax.tree.map(lambda x: np.stack([x, x]), full)
    four = dealt(both, 4, replay.prioritised, FANOUT * 2)
    assert [level.shape for level in four.levels] == [(4, 2, FANOUT), (4, 1, FANOUT)]
    assert four.levels[-1].sum(axis=(1, 2)).tolist() == [FANOUT * 2] * 4


def test_frames_that_were_lost_stay_lost_and_are_counted_once():
    """Episodes shorter than planned for: the oldest rows have lost frames, and give newer
    transitions."""
    made = functools.partial(replay.frames, stack=STACK, num_envs=2, n_step=1, episode_steps=1_000)
    ring = replay.uniform(60, 2, storage=made)
    known, state = {}, None
    for given, _ in steps(0, 2, 60, 1, breaks=False):
        times = [2 * int(x[-1]) for x in given]  # no frame is shown twice
        given = [([t] * STACK, [t + 1] * STACK, *x[2:]) for t, x in zip(times, given, strict=True)]
        rows = transitions(0, given, images=True)
        state = ring.init(jax.tree.map(lambda x: x[0], rows)) if state is None else state
        state = ring.add(state, rows)
        known |= {
            float(n): jax.tree.map(lambda x, i=i: x[i], rows) for i, n in enumerate(rows.reward)
        }
    whole = lambda state, at: state.written[at] - oldest(state, at) < state.frames.shape[-2]
    states = jax.tree.map(lambda x: np.asarray(x)[None], state)
    lost = int(np.sum(~whole(states, 0)))
    assert 0 < lost < 60
    half = functools.partial(replay.frames, stack=STACK, num_envs=1, n_step=1, episode_steps=1_000)
    new = replay.uniform(30, 2, storage=half).deal(states, 2)
    now = sum(int(np.sum(~whole(new.state, shard))) for shard in range(2))
    assert now == lost + new.lost
    for shard in range(2):
        one = jax.tree.map(lambda x, shard=shard: jnp.asarray(x[shard]), new.state)
        got = half(30).get(one, jnp.arange(30, dtype=jnp.int32))
        for i in range(30):
            row = jax.tree.map(lambda x, i=i: np.asarray(x[i]), got)
            jax.tree.map(np.testing.assert_array_equal, row, known[float(row.reward)])


def oldest(state, shard):
    return state.ring.rows["uint32"][shard, :, 0]


def test_a_replay_that_cannot_be_dealt_is_refused(monkeypatch):
    storage = lambda capacity: replay.rows(capacity)._replace(deal=None)
    assert replay.uniform(8, 2, storage=storage).deal is None
    assert replay.prioritised(8, 2, storage=storage).deal is None
    composed = types.SimpleNamespace(replay=replay.uniform(8, 2, storage=storage))
    monkeypatch.setattr(resharding, "compose", lambda *arguments: composed)
    with pytest.raises(ValueError, match="cannot be dealt from data=2 to data=1: resume on --mesh"):
        resharding._dealer(make_config("pendulum"), Mesh(1, 2), Mesh(1, 1))


@pytest.mark.parametrize(
    ("saved", "now", "lost", "told"),
    [
        ("", "", 0, None),
        ("members=1,data=2", "members=1,data=2", 0, None),
        (
            "members=2,data=1",
            "",
            0,
            "mesh=members=2,data=1 and is resumed on mesh=members=1,data=1. State is fully",
        ),
        (
            "",
            "members=1,data=2",
            0,
            "mesh=members=1,data=2. Agents and replay are restored, environments begin new",
        ),
        (
            "members=1,data=4",
            "members=2,data=2",
            3,
            "Agents and replay are restored but for the oldest 3 transitions, environments begin",
        ),
    ],
)
def test_another_mesh_is_told_with_what_it_costs(monkeypatch, saved, now, lost, told):
    config = make_config("pendulum", seeds=2, num_envs=4, batch_size=8, replay_capacity=8_000)
    config = dataclasses.replace(config, mesh=now)
    asked, said, dealt = [], [], []
    monkeypatch.setattr(resharding.build, "state_shapes", lambda config: f"of {config.mesh}")
    monkeypatch.setattr(resharding.arrays, "to_devices", lambda state, like: (state, like))
    monkeypatch.setattr(resharding, "_dealer", lambda config, *meshes: meshes)

    def resharded(state, begun, deal, many):
        dealt.append((state, begun, deal, many))
        return "dealt", lost

    monkeypatch.setattr(resharding, "resharded", resharded)
    record = {"config": {"mesh": saved}}

    def newest(shapes, say):
        asked.append(shapes({"record": record}))
        return types.SimpleNamespace(record=record, processes=1, state="state", step=700)

    checkpoints = types.SimpleNamespace(newest=newest)
    programs = types.SimpleNamespace(start=lambda keys, own: jax.random.key_data(keys).tolist())
    found = resharding.restore_run(checkpoints, config, "like", programs, said.append)
    old, new = parse_mesh(saved), parse_mesh(now)
    moved = old.data != new.data
    assert asked == [f"of {old}" if moved else "like"]
    assert found == (700, ("dealt" if moved else "state", "like"), record)
    assert len(said) == (told is not None)
    if told:
        assert told in said[0]
    keys = [jax.random.fold_in(jax.random.key(seed), resharding.NEW_SHARDS) for seed in range(2)]
    keys = [jax.random.key_data(jax.random.fold_in(key, 700)).tolist() for key in keys]
    assert dealt == [("state", keys, (old, new), True)] * moved


def test_several_processes_are_told_and_one_is_not():
    mesh = Mesh(2, 3)
    assert resharding._told(mesh, 1) == "mesh=members=2,data=3"
    assert resharding._told(mesh, 2) == "mesh=members=2,data=3 of 2 processes"


@pytest.mark.parametrize(
    ("saved", "begun", "axis", "before", "after", "found"),
    [
        (7, np.zeros(()), 0, False, False, 7),
        ([5, 3], np.zeros(()), 0, True, False, 3),
        (7, np.zeros(2), 0, False, True, [7, 7]),
        ([5, 3], np.zeros(4), 0, True, True, [3] * 4),
        ([[5, 3], [8, 9]], np.zeros((2, 3)), 1, True, True, [[3] * 3, [8] * 3]),
        ([[5, 3], [8, 9]], np.zeros(2), 1, True, False, [3, 8]),
        ([[1, 2], [3, 4]], np.full((3, 2), 9), 0, True, True, [[1, 2]] * 3),
        ([1, 2, 3], np.full(5, 9), 0, False, False, [9] * 5),  # of each environment
        (np.ones((2, 3)), np.full((4, 5), 9), 0, True, True, [[9] * 5] * 4),
    ],
)
def test_counts_are_the_least_over_the_shards(saved, begun, axis, before, after, found):
    least = resharding._least(np.array(saved), begun, axis=axis, before=before, after=after)
    np.testing.assert_array_equal(least, found)
