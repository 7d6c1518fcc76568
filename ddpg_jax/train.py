"""The compiled loop: collect, add, sample, update, scanned. Everything here is a pure function; jit, vmap or shard it."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from ddpg_jax import checks, rollout
from ddpg_jax import noise as noises
from ddpg_jax.types import Agent, AgentState, Behaviour, Environment, Key, Metrics, PyTree, Replay, Transition, strong

NEVER = jnp.iinfo(jnp.int32).max


@struct.dataclass
class TrainState:
    """All that training needs to go on. ``steps``: vector steps taken, so ``steps * num_envs`` environment steps (int32)."""

    agent: AgentState
    replay: PyTree
    collector: rollout.Collector
    key: Key
    steps: jax.Array


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
    """Store at least ``learning_starts`` transitions, without learning."""
    chunk: Callable[[TrainState], tuple[TrainState, Report]]
    """``steps_per_chunk`` environment steps and their updates, as one scan."""
    warm_up_steps: int
    """Environment steps (over all environments) that `warm_up` takes."""
    steps_per_chunk: int
    """Environment steps (over all environments) that `chunk` takes."""


def make_train(
    agent: Agent,
    env: Environment,
    replay: Replay,
    behaviour: Behaviour,
    *,
    learning_starts: int = 1_000,
    updates_per_step: int = 1,
    steps_per_chunk: int = 1_000,
    warm_up: Behaviour | None = None,
) -> Train:
    """Compose an agent, environments, a replay and a behaviour into training.

    Each vector step collects one transition from each of the E environments, adds them, then ``updates_per_step`` times
    samples a batch and updates. Nothing leaves the device inside a chunk.

    Args:
        agent, env, replay, behaviour: see `ddpg_jax.types`.
        learning_starts: transitions stored before the first update, at least 1 (rounded up to whole vector steps).
        updates_per_step: updates per vector step, at least 1.
        steps_per_chunk: environment steps over all environments per chunk, a multiple of ``env.num_envs``.
        warm_up: what acts while the first transitions are stored; None is uniform random actions. Where it is ``behaviour``
            itself, the behaviour's state goes on afterwards; else it begins anew.

    Raises:
        ValueError: a number is out of its range.
    """
    count = env.num_envs
    checks.between(1, float("inf"), learning_starts=learning_starts, updates_per_step=updates_per_step)
    if steps_per_chunk < 1 or steps_per_chunk % count:
        near = max(1, round(steps_per_chunk / count)) * count
        raise ValueError(f"steps_per_chunk={steps_per_chunk}: must be a multiple of num_envs={count}, for example {near}.")
    warm_up_length = -(-learning_starts // count)
    chunk_length = steps_per_chunk // count
    collect = rollout.collect(env, behaviour)

    def init(key: Key) -> TrainState:
        agent_key, begin_key, key = jax.random.split(key, 3)
        observation, action = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), (env.observation, env.action))
        scalar = jnp.zeros((), jnp.float32)
        example = Transition(
            observation=observation, action=action, reward=scalar, discount=scalar, next_observation=observation
        )
        return strong(
            TrainState(
                agent=agent.init(agent_key, observation, action),
                replay=replay.init(example),
                collector=rollout.begin(env, behaviour, begin_key),
                key=key,
                steps=jnp.zeros((), jnp.int32),
            )
        )

    def warm_up_fn(state: TrainState) -> TrainState:
        acting = noises.uniform() if warm_up is None else warm_up
        explore = rollout.collect(env, acting)
        start_key, scan_key, key = jax.random.split(state.key, 3)
        kept = state.collector.behaviour
        if acting is not behaviour:  # a state of its own, for now
            begun = acting.init(start_key, jnp.zeros((count, *env.action.shape), env.action.dtype))
            state = dataclasses.replace(state, collector=dataclasses.replace(state.collector, behaviour=begun))

        def step(carry: Any, keys: Key) -> tuple[Any, None]:
            collector, replay_state = carry
            collector, transition, _ = explore(collector, state.agent, keys[0], keys[1])
            return (collector, replay.add(replay_state, transition)), None

        keys = jax.random.split(scan_key, (warm_up_length, 2))
        (collector, replay_state), _ = jax.lax.scan(step, (state.collector, state.replay), keys)
        if acting is not behaviour:
            collector = dataclasses.replace(collector, behaviour=kept)
        steps = state.steps + warm_up_length
        return strong(dataclasses.replace(state, collector=collector, replay=replay_state, key=key, steps=steps))

    def update(agent_state: AgentState, replay_state: PyTree, keys: Key) -> tuple[AgentState, Metrics]:
        def once(agent_state: AgentState, keys: Key) -> tuple[AgentState, Metrics]:
            batch = replay.sample(replay_state, keys[0])
            agent_state, metrics = agent.update(agent_state, batch, keys[1])
            return agent_state, jax.tree.map(jnp.mean, metrics)

        agent_state, metrics = jax.lax.scan(once, agent_state, keys.reshape(updates_per_step, 2))
        return agent_state, jax.tree.map(jnp.mean, metrics)

    def chunk(state: TrainState) -> tuple[TrainState, Report]:
        scan_key, key = jax.random.split(state.key)
        # All keys of the chunk in one wide kernel: [vector steps, acting + stepping + 2 per update].
        keys = jax.random.split(scan_key, (chunk_length, 2 + 2 * updates_per_step))

        def step(carry: Any, keys: Key) -> tuple[Any, None]:
            state, sums = carry
            collector, transition, episodes = collect(state.collector, state.agent, keys[0], keys[1])
            replay_state = replay.add(state.replay, transition)
            agent_state, metrics = update(state.agent, replay_state, keys[2:])
            watched = {
                "observation": (transition.next_observation, collector.observation),
                "action": transition.action,
                "reward": transition.reward,
            } | metrics
            now = {name: jnp.where(_finite(value), NEVER, state.steps) for name, value in watched.items()}
            episodes, metrics = jax.tree.map(jnp.add, sums[:2], (episodes, metrics))
            sums = (episodes, metrics, jax.tree.map(jnp.minimum, sums[2], now))
            state = TrainState(agent=agent_state, replay=replay_state, collector=collector, key=key, steps=state.steps + 1)
            return (state, sums), None

        shapes = jax.eval_shape(lambda s: _report_shapes(s, collect, update, keys[0]), state)
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
        bad = {name: jnp.asarray(NEVER, jnp.int32) for name in ("observation", "action", "reward", *shapes[1])}
        (state, (episodes, metrics, bad)), _ = jax.lax.scan(step, (dataclasses.replace(state, key=key), (*zeros, bad)), keys)
        metrics = jax.tree.map(lambda x: x / chunk_length, metrics)
        return state, Report(episodes=episodes, metrics=metrics, first_bad_step=bad, finite=_finite_leaves(state.agent))

    return Train(init, warm_up_fn, chunk, warm_up_length * count, steps_per_chunk)


def _report_shapes(state: TrainState, collect: Callable, update: Callable, keys: Key) -> tuple[rollout.Episodes, Metrics]:
    _, _, episodes = collect(state.collector, state.agent, keys[0], keys[1])
    return episodes, update(state.agent, state.replay, keys[2:])[1]


def _finite(tree: PyTree) -> jax.Array:
    finite = [jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    return jnp.all(jnp.stack(finite)) if finite else jnp.asarray(True)


def _finite_leaves(agent_state: AgentState) -> dict[str, jax.Array]:
    networks = {"actor": agent_state.actor, "critic": agent_state.critic}
    params = {name: (network.params, network.target_params) for name, network in networks.items()}
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return {jax.tree_util.keystr(path): _finite(leaf) for path, leaf in leaves}
