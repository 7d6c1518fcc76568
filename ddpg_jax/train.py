"""The compiled loop: collect, add, sample, update, scanned. Everything here is a pure function; jit, vmap or shard it."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from ddpg_jax import checks, rollout
from ddpg_jax import noise as noises
from ddpg_jax.returns import Window
from ddpg_jax.types import Agent, AgentState, Behaviour, Environment, Key, Metrics, PyTree, Replay, Transition, strong

NEVER = jnp.iinfo(jnp.int32).max


@struct.dataclass
class TrainState:
    """All that training needs to go on. ``steps``: vector steps taken, so ``steps * num_envs`` environment steps (int32).

    ``window`` holds the steps that are not yet whole multi-step transitions, if any.
    """

    agent: AgentState
    replay: PyTree
    collector: rollout.Collector
    key: Key
    steps: jax.Array
    window: PyTree = ()


@struct.dataclass
class Report:
    """What one chunk reports, of fixed shape.

    ``episodes``: sums over episodes that ended. ``metrics``: means over the chunk's updates.
    ``first_bad_step``: for each quantity, the vector step at which it first was not finite, or `NEVER`.
    ``finite``: for each array of the agent's parameters, whether it is finite now.
    """

    episodes: rollout.Episodes
    metrics: Metrics
    first_bad_step: dict[str, jax.Array]
    finite: dict[str, jax.Array]


class Train(NamedTuple):
    """Training as pure functions. Jit `chunk` with its state donated."""

    init: Callable[[Key], TrainState]
    """``init(key)``: agent, environments and an empty replay."""
    warm_up: Callable[[TrainState], TrainState]
    """Store ``learning_starts`` transitions (and what fills the last vector step), without learning; fewer where some of
    them were not valid."""
    chunk: Callable[[TrainState], tuple[TrainState, Report]]
    """``steps_per_chunk`` environment steps and their updates, as one scan."""
    warm_up_steps: int
    """Environment steps (over all environments) that `warm_up` takes."""
    steps_per_chunk: int
    """Environment steps (over all environments) that `chunk` takes."""


class Learner(NamedTuple):
    """What happens to a `TrainState` between two steps of the environments, wherever those run: here or in `ddpg_jax.host`."""

    init: Callable[[Key, Key, rollout.Collector], TrainState]
    """``init(agent_key, key, collector)``: agent and empty replay around a collector that begins."""
    take: Callable[..., TrainState]
    """``take(state, collector, transition, store=True)``: take in a vector step of `rollout.collect` or `rollout.absorb`."""
    learn: Callable[[TrainState, Key], tuple[TrainState, Metrics]]
    """``learn(state, keys)``: an update for each pair of ``keys: [updates, 2]``; metrics are means over them."""
    adapt: Callable[[TrainState, Key], TrainState]
    """``adapt(state, key)``: let a behaviour that has ``adapt`` look at a replayed batch."""


def make_learner(agent: Agent, env: Environment | Any, replay: Replay, behaviour: Behaviour, window: Window | None) -> Learner:
    """The functions of `Learner`; of ``env`` only the shapes and ``breaks`` are used."""

    def init(agent_key: Key, key: Key, collector: rollout.Collector) -> TrainState:
        observation, action = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), (env.observation, env.action))
        scalar = jnp.zeros((), jnp.float32)
        example = Transition(
            observation=observation, action=action, reward=scalar, discount=scalar, next_observation=observation
        )
        batched = jax.tree.map(lambda x: jnp.zeros((env.num_envs, *x.shape), x.dtype), example)
        if getattr(env, "breaks", False):
            batched = dataclasses.replace(batched, valid=jnp.zeros((env.num_envs,), bool))
        return strong(
            TrainState(
                agent=agent.init(agent_key, observation, action),
                replay=replay.init(example),
                collector=collector,
                key=key,
                steps=jnp.zeros((), jnp.int32),
                window=() if window is None else window.init(batched),
            )
        )

    def take(state: TrainState, collector: rollout.Collector, transition: Transition, *, store: bool = True) -> TrainState:
        agent_state = state.agent if agent.observe is None else agent.observe(state.agent, transition.observation)
        stored, window_state = transition, state.window
        if window is not None:
            window_state, stored = window.push(window_state, transition, collector.reset)
        if store:
            valid = () if stored.valid is None else (stored.valid,)
            replay_state = replay.add(state.replay, dataclasses.replace(stored, valid=None), *valid)
        else:
            replay_state = state.replay
        return dataclasses.replace(
            state, agent=agent_state, collector=collector, replay=replay_state, window=window_state, steps=state.steps + 1
        )

    def learn(state: TrainState, keys: Key) -> tuple[TrainState, Metrics]:
        def once(carry: tuple[AgentState, PyTree], keys: Key) -> tuple[tuple[AgentState, PyTree], Metrics]:
            agent_state, replay_state = carry
            # A uniform replay is not written to here, and stays out of the carry.
            sampled = replay.sample(state.replay if replay.update is None else replay_state, keys[0])
            if replay.update is None:
                agent_state, metrics = agent.update(agent_state, sampled, keys[1])
            else:
                agent_state, metrics = agent.update(agent_state, sampled.batch, keys[1], sampled.weight)
                replay_state = replay.update(replay_state, sampled.rows, metrics["td_error"])
            return (agent_state, replay_state), jax.tree.map(jnp.mean, metrics)

        carry = (state.agent, () if replay.update is None else state.replay)
        (agent_state, replay_state), metrics = jax.lax.scan(once, carry, keys)
        replay_state = state.replay if replay.update is None else replay_state
        state = dataclasses.replace(state, agent=agent_state, replay=replay_state)
        return state, jax.tree.map(jnp.mean, metrics)

    def adapt(state: TrainState, key: Key) -> TrainState:
        assert behaviour.adapt is not None
        sampled = replay.sample(state.replay, key)
        batch = sampled if replay.update is None else sampled.batch
        adapted = behaviour.adapt(state.collector.behaviour, state.agent, batch)
        return dataclasses.replace(state, collector=dataclasses.replace(state.collector, behaviour=adapted))

    return Learner(init, take, learn, adapt)


def make_train(
    agent: Agent,
    env: Environment,
    replay: Replay,
    behaviour: Behaviour,
    *,
    learning_starts: int = 1_000,
    updates_per_step: int = 1,
    collect_steps: int = 1,
    steps_per_chunk: int = 1_000,
    warm_up: Behaviour | None = None,
    window: Window | None = None,
) -> Train:
    """Compose an agent, environments, a replay and a behaviour into training.

    Each vector step collects one transition from each of the E environments and adds them; after every ``collect_steps``
    of them, ``updates_per_step`` times, a batch is sampled and learned from. Nothing leaves the device inside a chunk.

    Args:
        agent, env, replay, behaviour: see `ddpg_jax.types`.
        learning_starts: transitions stored before the first update, at least 1 (rounded up to whole vector steps).
        updates_per_step: updates after ``collect_steps`` vector steps, at least 1.
        collect_steps: vector steps between two rounds of updates, at least 1.
        steps_per_chunk: environment steps over all environments per chunk, a multiple of ``collect_steps * env.num_envs``.
        warm_up: what acts while the first transitions are stored; None is uniform random actions. Where it is ``behaviour``
            itself, the behaviour's state goes on afterwards; else it begins anew.
        window: `ddpg_jax.returns.n_step`; None stores single steps.

    Raises:
        ValueError: a number is out of its range.
    """
    count = env.num_envs
    check_sizes(count, learning_starts, updates_per_step, collect_steps, steps_per_chunk)
    whole = count * collect_steps
    filling = 0 if window is None else window.length - 1  # vector steps until the window gives out whole transitions
    warm_up_length = -(-learning_starts // count)
    rounds = steps_per_chunk // whole
    acting_keys, learning_keys = 2 * collect_steps, 2 * updates_per_step
    collect = rollout.collect(env, behaviour)
    learner = make_learner(agent, env, replay, behaviour, window)

    def init(key: Key) -> TrainState:
        agent_key, begin_key, key = jax.random.split(key, 3)
        return learner.init(agent_key, key, rollout.begin(env, behaviour, begin_key))

    def gather(state: TrainState, explore: Callable, keys: Key, *, store: bool = True) -> tuple[TrainState, Any, Any]:
        """One vector step, stored; also its single-step transitions and the episodes that ended."""
        collector, transition, episodes = explore(state.collector, state.agent, keys[0], keys[1])
        return learner.take(state, collector, transition, store=store), transition, episodes

    def warm_up_fn(state: TrainState) -> TrainState:
        acting = noises.uniform() if warm_up is None else warm_up
        explore = rollout.collect(env, acting)
        start_key, scan_key, key = jax.random.split(state.key, 3)
        kept = state.collector.behaviour
        if acting is not behaviour:  # a state of its own, for now
            begun = acting.init(start_key, jnp.zeros((count, *env.action.shape), env.action.dtype))
            state = dataclasses.replace(state, collector=dataclasses.replace(state.collector, behaviour=begun))
        keys = jax.random.split(scan_key, (filling + warm_up_length, 2))
        for store, part in ((False, keys[:filling]), (True, keys[filling:])):
            step = lambda state, keys, store=store: (gather(state, explore, keys, store=store)[0], None)
            state = jax.lax.scan(step, state, part)[0] if len(part) else state
        if acting is not behaviour:
            state = dataclasses.replace(state, collector=dataclasses.replace(state.collector, behaviour=kept))
        return strong(dataclasses.replace(state, key=key))

    def one_round(state: TrainState, keys: Key) -> tuple[TrainState, tuple]:
        """``collect_steps`` vector steps and their updates; sums, and the first step at which a quantity was not finite."""
        begun = state.steps

        def step(state: TrainState, keys: Key) -> tuple[TrainState, tuple]:
            state, transition, episodes = gather(state, collect, keys)
            watched = {
                "observation": (transition.next_observation, state.collector.observation),
                "action": transition.action,
                "reward": transition.reward,
            }
            return state, (episodes, first_bad(watched, state.steps - 1))

        acting, learning, adapting = keys[:acting_keys], keys[acting_keys:][:learning_keys], keys[acting_keys + learning_keys :]
        state, (episodes, bad) = jax.lax.scan(step, state, acting.reshape(collect_steps, 2))
        episodes, bad = jax.tree.map(jnp.sum, episodes), jax.tree.map(jnp.min, bad)
        state, metrics = learner.learn(state, learning.reshape(updates_per_step, 2))
        state = state if behaviour.adapt is None else learner.adapt(state, adapting[0])
        return state, (episodes, metrics, bad | first_bad(metrics, begun + collect_steps - 1))

    def chunk(state: TrainState) -> tuple[TrainState, Report]:
        scan_key, key = jax.random.split(state.key)
        # All keys of the chunk in one wide kernel: [rounds, (acting, stepping) per vector step, 2 per update, adapting].
        keys = jax.random.split(scan_key, (rounds, acting_keys + learning_keys + (behaviour.adapt is not None)))

        def add(carry: tuple, keys: Key) -> tuple[tuple, None]:
            state, (episodes, metrics, bad) = carry
            state, new = one_round(state, keys)
            episodes, metrics = jax.tree.map(jnp.add, (episodes, metrics), new[:2])
            return (state, (episodes, metrics, jax.tree.map(jnp.minimum, bad, new[2]))), None

        state = dataclasses.replace(state, key=key)
        _, (episodes, metrics, bad) = jax.eval_shape(one_round, state, keys[0])
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), (episodes, metrics))
        never = jax.tree.map(lambda x: jnp.full(x.shape, NEVER, x.dtype), bad)
        (state, (episodes, metrics, bad)), _ = jax.lax.scan(add, (state, (*zeros, never)), keys)
        metrics = jax.tree.map(lambda x: x / rounds, metrics)
        return state, Report(episodes=episodes, metrics=metrics, first_bad_step=bad, finite=finite_leaves(state.agent))

    return Train(init, warm_up_fn, chunk, (filling + warm_up_length) * count, steps_per_chunk)


def check_sizes(num_envs: int, learning_starts: int, updates_per_step: int, collect_steps: int, steps_per_chunk: int) -> None:
    """Raise ``ValueError`` for numbers that `make_train` cannot take."""
    checks.between(1, float("inf"), learning_starts=learning_starts, updates_per_step=updates_per_step)
    checks.between(1, float("inf"), collect_steps=collect_steps)
    whole = num_envs * collect_steps
    if steps_per_chunk < 1 or steps_per_chunk % whole:
        near = max(1, round(steps_per_chunk / whole)) * whole
        unit = f"num_envs={num_envs}" if collect_steps == 1 else f"num_envs={num_envs} times collect_steps={collect_steps}"
        raise ValueError(f"steps_per_chunk={steps_per_chunk}: must be a multiple of {unit}, for example {near}.")


def first_bad(watched: dict[str, PyTree], step: jax.Array) -> dict[str, jax.Array]:
    """``step`` for each of the named values that is not finite, `NEVER` for the others."""
    return {name: jnp.where(_finite(value), NEVER, step) for name, value in watched.items()}


def _finite(tree: PyTree) -> jax.Array:
    finite = [jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    return jnp.all(jnp.stack(finite)) if finite else jnp.asarray(True)


def finite_leaves(agent_state: AgentState) -> dict[str, jax.Array]:
    """For each array of both networks' parameters, whether it is finite."""
    networks = {"actor": agent_state.actor, "critic": agent_state.critic}
    params = {name: (network.params, network.target_params) for name, network in networks.items()}
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return {jax.tree_util.keystr(path): _finite(leaf) for path, leaf in leaves}
