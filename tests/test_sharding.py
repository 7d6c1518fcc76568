"""Many devices: on eight of a CPU what one does, and nothing but all-reduces in the loop."""

import dataclasses
import functools
import re
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from ddpg_jax import envs, learner, noise, replay, rollout, sharding, train
from ddpg_jax.agents import ddpg, normalize_observations
from ddpg_jax.behaviour import explore
from ddpg_jax.networks import Actor, Critic
from ddpg_jax.population import Member, compiled, make_population, members
from ddpg_jax.population.evolution import Range, evolving
from ddpg_jax.reporting import Report
from ddpg_jax.types import Transition, is_key

SHARDS, ENVS, ROWS = 8, 16, 32  # environments and rows of a batch of all shards
ROUNDS, CAPACITY = 5, 160


def small_agent(axis_name, tau=0.05):
    # Adam blows up the rounding of a gradient that is almost 0, unless its epsilon is larger.
    actor, critic = Actor(1, hidden=(8,)), Critic(hidden=(8,), action_layer=0)
    agent = ddpg(
        actor,
        critic,
        tau=tau,
        optimizer=functools.partial(optax.adam, eps=1e-3),
        axis_name=axis_name,
    )
    return normalize_observations(agent, axis_name=axis_name)


def member_of(shards):
    """One shard of a member that has 16 environments, batches of 32 rows and 160 rows of replay in
    all."""
    axis_name = sharding.DATA if shards > 1 else None
    env = envs.make("pendulum", ENVS // shards, time_limit=6)

    def member(hyperparameters):
        agent = small_agent(axis_name, hyperparameters.get("tau", 0.05))
        behaviour = explore(agent, noise.chain(noise.gaussian(0.1), noise.clip()))
        ring, steps = replay.uniform(CAPACITY // shards, ROWS // shards), ROUNDS * ENVS // shards
        trainer = train.make_train(
            agent,
            env,
            ring,
            behaviour,
            learning_starts=2,
            steps_per_chunk=steps,
            axis_name=axis_name,
        )
        return Member(
            lambda key: trainer.warm_up(trainer.init(key)),
            trainer.chunk,
            rollout.make_evaluate(agent, env),
        )

    return member


def raw(tree):
    return jax.tree.map(lambda x: np.asarray(jax.random.key_data(x) if is_key(x) else x), tree)


def same(given, expected, tolerance=2e-4):
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance),
        raw(given),
        raw(expected),
    )


def loop_of(population, state, hyperparameters):
    """The compiled chunk's text, the loop over rounds in it, and the whole of it as it is read."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from benchmarks.compiled import hlo

    done = jax.jit(population.chunk, donate_argnums=0).lower(state, hyperparameters).compile()
    program = hlo.read(done.as_text())
    return done, hlo.busiest(program), program


@pytest.mark.eight_devices
def test_the_loop_on_eight_devices():
    """The loop on eight devices is that of eight shards on one; its text has all-reduces alone, and
    the state stays its own."""
    mesh, key = sharding.make_mesh(data=SHARDS), jax.random.key(3)
    population = sharding.spread(member_of(SHARDS), mesh, many=False)
    programs = compiled(population, key, {})
    state = programs.start(key, {})
    first = jax.tree.map(np.asarray, raw(state))
    new, report = programs.chunk(state, {})
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state.replay)), "donated"
    returns = np.asarray(programs.evaluate(new.agent, key, {}))
    assert returns.shape == (ENVS,)
    assert len(set(returns.tolist())) == ENVS  # another episode in each
    for leaf in jax.tree.leaves(raw_on_devices(new.agent)):
        copies = {np.asarray(shard.data).tobytes() for shard in leaf.addressable_shards}
        assert len(copies) == 1, "the agent is one for all, in every bit"
    assert new.replay.rows["float32"].sharding.spec == PartitionSpec(sharding.DATA)
    assert new.replay.rows["float32"].addressable_shards[0].data.shape[1] == CAPACITY // SHARDS
    seen = {
        np.asarray(shard.data).tobytes() for shard in new.replay.rows["float32"].addressable_shards
    }
    assert len(seen) == SHARDS, "each shard has its own environments"
    statistics = new.agent.slots["normalizer"]
    assert float(statistics.count.value) == ENVS * (1 + ROUNDS), "of the observations of all shards"

    done, loop, program = loop_of(population, population.place.state(state_like(state)), {})
    # Gradients of the critic and of the actor, and the normaliser's mean and squares.
    assert loop.collectives == {"all-reduce": 4}
    # Once a chunk: the report's sums, and the first steps at which something was not finite.
    assert program.collectives == {"all-reduce": 4 * ROUNDS + 2}
    networks = sum(
        leaf.size for leaf in jax.tree.leaves((new.agent.actor.params, new.agent.critic.params))
    )
    assert loop.reduced_bytes == 4 * (networks + 2 * 3)
    assert not re.search(r" (infeed|outfeed|send|recv|custom-call)\(", transfers(done.as_text()))
    own = sum(
        leaf.addressable_shards[0].data.nbytes for leaf in jax.tree.leaves(raw_on_devices(new))
    )
    assert done.memory_analysis().alias_size_in_bytes >= own

    expected = on_one_device(jax.tree.map(jnp.asarray, typed(first, state)))
    same((new.agent, new.collector, new.replay), expected)
    assert float(report.episodes.count) == ENVS  # each has one end in steps 2 to 6
    assert report.metrics["critic_loss"].shape == ()


@jax.jit
def on_one_device(state):
    """A chunk on one device: all shards act and store side by side, and one agent learns from what
    all of them sample."""
    agent, ring = small_agent(None), replay.uniform(CAPACITY // SHARDS, ROWS // SHARDS)
    env = envs.make("pendulum", ENVS // SHARDS, time_limit=6)
    collect = rollout.collect(env, explore(agent, noise.chain(noise.gaussian(0.1), noise.clip())))
    joined = lambda tree: jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), tree)

    def one_round(carry, keys):
        learned, collector, stored = carry
        acting, stepping, sampling, updating = keys.T
        collector, transition, _ = jax.vmap(collect, in_axes=(0, None, 0, 0))(
            collector, learned, acting, stepping
        )
        learned = agent.observe(learned, joined(transition.observation))
        stored = jax.vmap(ring.add)(stored, dataclasses.replace(transition, valid=None))
        learned, *_ = agent.update(
            learned, joined(jax.vmap(ring.sample)(stored, sampling)), updating[0]
        )
        return (learned, collector, stored), None

    number = jnp.arange(ROUNDS)
    split = lambda key, steps: jax.random.split(jax.random.fold_in(key, steps), 4)
    keys = jax.vmap(lambda steps: jax.vmap(split)(state.key, state.steps + steps))(number)
    return jax.lax.scan(one_round, (state.agent, state.collector, state.replay), keys)[0]


def raw_on_devices(tree):
    return jax.tree.map(lambda x: jax.random.key_data(x) if is_key(x) else x, tree)


def state_like(state):
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), state)


def typed(data, like):
    return jax.tree.map(
        lambda x, y: jax.random.wrap_key_data(jnp.asarray(x)) if is_key(y) else x, data, like
    )


def transfers(text):
    """Lines of what XLA's own kernels are not: their calls are custom calls as well on some
    devices."""
    return "\n".join(
        line
        for line in text.splitlines()
        if "__onednn" not in line and "AllocateBuffer" not in line
    )


@pytest.mark.eight_devices
def test_one_global_batch():
    """A batch that is spread over eight devices gives the update of one device."""
    mesh, key = sharding.make_mesh(data=SHARDS), jax.random.key(1)
    rng = np.random.default_rng(0)
    draw = lambda *shape: rng.normal(size=(ROWS, *shape)).astype(np.float32)
    batch = Transition(
        observation=draw(3),
        action=np.tanh(draw(1)),
        reward=draw(),
        discount=np.ones(ROWS, np.float32),
        next_observation=draw(3),
    )
    state = jax.jit(small_agent(None).init)(jax.random.key(0), jnp.zeros(3), jnp.zeros(1))

    def learned(agent):
        return lambda state, batch: agent.update(
            agent.observe(state, batch.observation), batch, key
        )[0]

    whole, parts = PartitionSpec(), PartitionSpec(sharding.DATA)
    spread = jax.shard_map(
        learned(small_agent(sharding.DATA)),
        mesh=mesh,
        in_specs=(whole, parts),
        out_specs=whole,
        check_vma=False,
    )
    placed = [
        jax.device_put(x, NamedSharding(mesh, spec)) for x, spec in ((state, whole), (batch, parts))
    ]
    same(jax.jit(spread)(*placed), jax.jit(learned(small_agent(None)))(state, batch), 1e-5)


@pytest.mark.eight_devices
def test_members_by_data():
    """Members on one axis and shards of each on the other; each is the run of its key and
    number."""
    keys, hyperparameters = members(jax.random.split(jax.random.key(5), 2), {"tau": [0.01, 0.5]})
    population = sharding.spread(member_of(2), sharding.make_mesh(members=4, data=2))
    programs = compiled(population, keys, hyperparameters)
    state, report = programs.chunk(programs.start(keys, hyperparameters), hyperparameters)
    assert state.agent.step.sharding.spec == PartitionSpec(sharding.MEMBERS)
    assert state.key.sharding.spec == PartitionSpec(sharding.MEMBERS, sharding.DATA)
    assert (report.episodes.count.shape, state.steps.shape) == ((4,), (4, 2))
    assert np.asarray(programs.evaluate(state.agent, keys, hyperparameters)).shape == (4, ENVS)
    _, loop, program = loop_of(
        population,
        population.place.state(state_like(state)),
        population.place.members(hyperparameters),
    )
    assert loop.collectives == {"all-reduce": 4}
    assert set(program.collectives) == {"all-reduce"}
    alone = sharding.spread(member_of(2), sharding.make_mesh(data=2), many=False)
    one, tau = keys[2], hyperparameters["tau"][2]
    begun = jax.jit(alone.start)(one, {"tau": tau})
    expected, _ = jax.jit(alone.chunk)(begun, {"tau": tau})
    same(jax.tree.map(lambda x: x[2], raw(state)), expected)


@pytest.mark.slow
@pytest.mark.eight_devices
def test_evolution():
    """Members that evolve over devices are those that evolve on one: the same parents and numbers,
    the same states."""
    keys, hyperparameters = members(
        jax.random.split(jax.random.key(7), 2), {"tau": [0.01, 0.05, 0.1, 0.5]}
    )
    found = []
    for population in (
        sharding.spread(member_of(1), sharding.make_mesh(members=4)),
        make_population(member_of(1)),
    ):
        programs = compiled(
            evolving(population, {"tau": Range(0.005, 0.5, log=True)}, fraction=0.5),
            keys,
            hyperparameters,
        )
        state, reports = programs.start(keys, hyperparameters), []
        for _ in range(2):
            state, report = programs.chunk(state, hyperparameters)
            reports.append(raw(report.metrics))
        found.append((state, reports))
    (state, reports), (_, on_one) = found
    parents = reports[1]["parent"]
    assert (parents != np.arange(8)).any()
    np.testing.assert_array_equal(parents, on_one[1]["parent"])
    np.testing.assert_array_equal(reports[1]["tau"], on_one[1]["tau"])
    same(*(raw(state) for state, _ in found))
    assert state.members.replay.rows["float32"].sharding.spec[0] == sharding.MEMBERS


@pytest.mark.eight_devices
@pytest.mark.parametrize("shards", [1, 2])
def test_a_member_taken_over_is_the_other_bit_for_bit(shards):
    """Whatever its leaves are, a negative zero, NaNs and random keys among them."""
    count = 8
    rng = np.random.default_rng(0)
    lead = (count, shards) if shards > 1 else (count,)
    floats = np.array([-0.0, 0.0, np.nan, -np.inf, 1e-40, 1.5], np.float32)
    own = {
        "float32": np.broadcast_to(floats, (*lead, 6)) * rng.integers(1, 9, (*lead, 1)),
        "bfloat16": jnp.asarray(rng.normal(size=(*lead, 3)), jnp.bfloat16),
        "uint8": rng.integers(0, 256, (*lead, 5), np.uint8),
        "int32": -rng.integers(0, 99, lead, np.int32),
        "bool": rng.integers(0, 2, (*lead, 2)) == 1,
        "key": jax.vmap(jax.random.key)(jnp.arange(np.prod(lead))).reshape(lead),
    }
    own = jax.tree.map(lambda x: x.astype(jnp.float32) if x.dtype == float else x, own)
    own = jax.tree.map(jnp.asarray, own)
    agent = jnp.arange(count, dtype=jnp.float32)
    state = learner.TrainState(
        agent=agent, replay=own, collector=(), key=(), steps=own["int32"], bad=()
    )
    population = sharding.spread(member_of(shards), sharding.make_mesh(4, shards))
    replaced, parents = jnp.array([0, 5, 6]), jnp.array([7, 1, 6])
    taken = jax.jit(population.take)(state, replaced, parents)
    wanted = np.arange(count)
    wanted[np.asarray(replaced)] = parents
    bits = lambda tree: [np.asarray(x).tobytes() for x in jax.tree.leaves(raw(tree))]
    assert bits(taken) == bits(jax.tree.map(lambda x: x[wanted], state))


@pytest.mark.eight_devices
def test_evolution_sends_one_member_at_a_time():
    """No device holds another's replays, and no collective carries more than one member's."""
    rows = 200_000

    def member(hyperparameters):
        one = member_of(1)(hyperparameters)
        started = lambda key: dataclasses.replace(one.start(key), replay=jnp.zeros(rows))
        chunk = lambda state: (
            dataclasses.replace(state, steps=state.steps + 1),
            Report(episodes=(), metrics={"loss": 0.0}, first_bad_step={}, finite={}),
        )
        return Member(started, chunk, one.evaluate)

    keys, hyperparameters = members(jax.random.split(jax.random.key(7), 16), {"tau": [0.01]})
    population = sharding.spread(member, sharding.make_mesh(members=4))
    evolved = evolving(population, {"tau": Range(0.005, 0.5, log=True)}, fraction=0.5)
    program = compiled(evolved, keys, hyperparameters).chunk.program
    text = program.as_text()
    names = "all-gather|all-reduce|all-to-all|collective-permute"
    sent = [
        int(np.prod([int(size) for size in shape.split(",") if size] or [1]))
        for line in text.splitlines()
        if re.search(rf"= .*({names})(-start)?\(", line)
        for shape in re.findall(r"\[([\d,]*)\]", line.split("=")[1].split("(")[0] + line)
    ]
    assert rows in sent
    assert max(sent) == rows
    assert program.memory_analysis().temp_size_in_bytes < 3 * rows * 4


def test_a_mesh_of_more_devices_than_there_are():
    with pytest.raises(ValueError, match="members=3 times data=2 needs 6 devices, but there are"):
        sharding.make_mesh(3, 2, devices=jax.devices()[:1])
    mesh = jax.sharding.AbstractMesh((2, 1), (sharding.MEMBERS, sharding.DATA))
    with pytest.raises(ValueError, match="there is one member alone, so its mesh has members=1"):
        sharding.spread(member_of(1), mesh, many=False)


@pytest.mark.parametrize("count", [2, 4])
def test_the_shapes_of_shards_need_no_devices(count):
    shapes = jax.eval_shape(
        sharding.start_of_shards(member_of(count), count, many=False), jax.random.key(0), {}
    )
    assert isinstance(shapes, learner.TrainState)
    assert shapes.replay.rows["float32"].shape == (count, CAPACITY // count, 3 + 1 + 1 + 1 + 3)
    assert shapes.collector.observation.shape == (count, ENVS // count, 3)
    assert shapes.agent.step.shape == ()
