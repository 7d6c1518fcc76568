"""What happens between two steps of the environments, wherever those run: take a step in, sample, update."""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from ddpg_jax import rollout
from ddpg_jax.health import NEVER, first_bad
from ddpg_jax.sums import Stacked, Total, accumulate, nothing, stacked, unstacked
from ddpg_jax.types import (
    Agent,
    AgentState,
    Behaviour,
    Environment,
    HostEnvironment,
    Key,
    Metrics,
    PyTree,
    Replay,
    Transition,
    Window,
    strong,
)


@struct.dataclass
class TrainState:
    """All that training needs to go on. ``steps``: vector steps taken, so ``steps * num_envs`` environment steps (int32).

    ``window`` holds the steps that are not yet whole multi-step transitions, if any. ``bad``: for what is collected, the vector
    step at which it first was not finite, in the warm-up or after it, or `ddpg_jax.health.NEVER`.
    """

    agent: AgentState
    replay: PyTree
    collector: rollout.Collector
    key: Key
    steps: jax.Array
    bad: Stacked
    window: PyTree = ()

    @property
    def first_bad_step(self) -> dict[str, jax.Array]:
        """``bad``, by the name of what is collected: action, observation and reward."""
        return unstacked(self.bad)


@struct.dataclass
class Report:
    """What one chunk reports, of fixed shape.

    ``episodes``: sums over episodes that ended. ``metrics``: means over the chunk's updates.
    ``first_bad_step``: as of `TrainState`, with the metrics of this chunk beside what is collected.
    ``finite``: for each array of the agent's parameters, whether it is finite now.
    """

    episodes: rollout.Episodes
    metrics: Metrics
    first_bad_step: dict[str, jax.Array]
    finite: dict[str, jax.Array]


@struct.dataclass
class Sums:
    """What a chunk adds up on the device. ``total``: of `Stacked` scalars; ``bad``: the first vector step at which each of them
    was not finite, or `ddpg_jax.health.NEVER`."""

    total: Total
    bad: Stacked


def no_sums(like: Stacked) -> Sums:
    """Nothing added up yet, of scalars like these (or their shapes)."""
    return Sums(total=nothing(like), bad=jax.tree.map(lambda x: jnp.full(x.shape, NEVER, jnp.int32), like))


def add_up(sums: Sums, new: Stacked, step: jax.Array) -> Sums:
    """The sums with ``new``, of vector step ``step``, added."""
    total = accumulate(sums.total, new)
    # A sum is not finite from the first number on that is not: XLA makes one kernel of both.
    first = lambda bad, x: jnp.minimum(bad, jnp.where(jnp.isfinite(x), NEVER, step))
    return Sums(total=total, bad=jax.tree.map(first, sums.bad, total.value))


def added_up(sums: Sums) -> tuple[PyTree, PyTree]:
    """The scalars' sums, and the first vector step at which each was not finite."""
    return unstacked(sums.total.value), unstacked(sums.bad)


def of_all_shards(found: tuple[Sums, Stacked], axis_name: str | None) -> tuple[tuple[Sums, Stacked], int]:
    """What a chunk added up, and `TrainState.bad`, of all shards of a mesh axis, and how many those are; None is one alone."""
    if axis_name is None:
        return found, 1
    sums, bad = found
    value = jax.lax.psum(sums.total.value, axis_name)
    first = jax.lax.pmin((sums.bad, bad), axis_name)
    whole = Sums(total=Total(value=value, rest=sums.total.rest), bad=first[0])
    return (whole, first[1]), jax.lax.axis_size(axis_name)


class Learner(NamedTuple):
    """Functions of a `TrainState`, for `ddpg_jax.train` and `ddpg_jax.host` alike."""

    init: Callable[[Key, Key, rollout.Collector], TrainState]
    """``init(agent_key, key, collector)``: agent and empty replay around a collector that begins."""
    take: Callable[..., TrainState]
    """``take(state, collector, transition, done, store=True)``: take in a step, which ended the episodes ``done: [E]``."""
    learn: Callable[[TrainState, Key], tuple[TrainState, Stacked]]
    """``learn(state, keys)``: an update for each pair of ``keys: [updates, 2]``; metrics are means over them, `Stacked`."""
    adapt: Callable[[TrainState, Key], TrainState]
    """``adapt(state, key)``: let the behaviour look at a replayed batch, if it learns from one how far to explore."""


def make_learner(
    agent: Agent, env: Environment | HostEnvironment, replay: Replay, behaviour: Behaviour, window: Window | None
) -> Learner:
    """The functions of `Learner`; of ``env`` only the shapes are used, and whether a step may be none."""

    def init(agent_key: Key, key: Key, collector: rollout.Collector) -> TrainState:
        example = _example(env)
        agent_state = agent.init(agent_key, example.observation, example.action)
        example = kept(agent, agent_state, example)
        batched = jax.tree.map(lambda x: jnp.zeros((env.num_envs, *x.shape), x.dtype), example)
        if not env.same_step if isinstance(env, HostEnvironment) else env.breaks:
            batched = dataclasses.replace(batched, valid=jnp.zeros((env.num_envs,), bool))
        return strong(
            TrainState(
                agent=agent_state,
                replay=replay.init(example),
                collector=collector,
                key=key,
                steps=jnp.zeros((), jnp.int32),
                bad=first_bad({"action": (), "observation": collector.observation, "reward": ()}, jnp.zeros((), jnp.int32)),
                window=() if window is None else window.init(batched),
            )
        )

    def take(
        state: TrainState, collector: rollout.Collector, transition: Transition, done: jax.Array, *, store: bool = True
    ) -> TrainState:
        agent_state = state.agent if agent.observe is None else agent.observe(state.agent, transition.observation)
        stored, window_state = kept(agent, state.agent, transition), state.window
        if window is not None:
            window_state, stored = window.push(window_state, stored, done)
        replay_state = state.replay
        if store:
            valid = () if stored.valid is None else (stored.valid,)
            replay_state = replay.add(replay_state, dataclasses.replace(stored, valid=None), *valid)
        return dataclasses.replace(
            state, agent=agent_state, collector=collector, replay=replay_state, window=window_state, steps=state.steps + 1
        )

    def adapt(state: TrainState, key: Key) -> TrainState:
        if behaviour.adapt is None:
            return state
        sampled = replay.sample(state.replay, key)
        batch = sampled if replay.update is None else sampled.batch
        return with_behaviour(state, behaviour.adapt(state.collector.behaviour, state.agent, batch))

    return Learner(init, take, _make_learn(agent, replay), adapt)


def _example(env: Environment | HostEnvironment) -> Transition:
    observation, action = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), (env.observation, env.action))
    scalar = jnp.zeros((), jnp.float32)
    return Transition(observation=observation, action=action, reward=scalar, discount=scalar, next_observation=observation)


def kept(agent: Agent, state: AgentState, transition: Transition) -> Transition:
    """What the agent wants to be stored of a transition."""
    if agent.keep is None:
        return transition
    seen = (transition.observation, transition.next_observation)
    observation, next_observation = (agent.keep(state, one) for one in seen)
    return dataclasses.replace(transition, observation=observation, next_observation=next_observation)


def with_behaviour(state: TrainState, behaviour: PyTree) -> TrainState:
    """The state of training with another state of what explores."""
    return dataclasses.replace(state, collector=dataclasses.replace(state.collector, behaviour=behaviour))


def _make_learn(agent: Agent, replay: Replay) -> Callable[[TrainState, Key], tuple[TrainState, Stacked]]:
    means = lambda metrics: stacked(jax.tree.map(jnp.mean, metrics))

    def uniformly(agent_state: AgentState, keys: Key, replay_state: PyTree) -> tuple[AgentState, Stacked]:
        agent_state, metrics = agent.update(agent_state, replay.sample(replay_state, keys[0]), keys[1])
        return agent_state, means(metrics)

    def by_priority(carry: tuple[AgentState, PyTree], keys: Key) -> tuple[tuple[AgentState, PyTree], Stacked]:
        agent_state, replay_state = carry
        sampled = replay.sample(replay_state, keys[0])
        agent_state, metrics = agent.update(agent_state, sampled.batch, keys[1], sampled.weight)
        assert replay.update is not None
        replay_state = replay.update(replay_state, sampled.rows, metrics["td_error"])
        return (agent_state, replay_state), means(metrics)

    def learn(state: TrainState, keys: Key) -> tuple[TrainState, Stacked]:
        if replay.update is None:  # the replay is not written to here, and stays out of the carry
            step = lambda agent_state, keys: uniformly(agent_state, keys, state.replay)
            agent_state, metrics = jax.lax.scan(step, state.agent, keys)
            state = dataclasses.replace(state, agent=agent_state)
        else:
            (agent_state, replay_state), metrics = jax.lax.scan(by_priority, (state.agent, state.replay), keys)
            state = dataclasses.replace(state, agent=agent_state, replay=replay_state)
        return state, jax.tree.map(lambda x: jnp.mean(x, axis=0), metrics)

    return learn
