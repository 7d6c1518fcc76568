"""What happens between two steps of the environments, wherever those run: take a step in, sample,
update.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from ddpg_jax import checks, rollout
from ddpg_jax.environment import Environment, HostEnvironment
from ddpg_jax.reporting import Report, Stacked, first_bad, stacked, unstacked
from ddpg_jax.types import (
    Agent,
    AgentState,
    Array,
    Behaviour,
    Key,
    Metrics,
    PyTree,
    Replay,
    Transition,
    Window,
    strong,
    zeros,
)


@struct.dataclass
class TrainState:
    """All that training needs to go on. ``steps``: vector steps taken, so ``steps * num_envs``
    environment steps (int32).

    ``key`` stays the same after the warm-up: what is drawn later follows from it and ``steps``.
    ``window`` holds the steps that are not yet whole multi-step transitions, if any. ``bad``: for
    what is collected, the vector step at which it first was not finite, in the warm-up or after it,
    or `ddpg_jax.reporting.NEVER`.
    """

    agent: AgentState
    replay: PyTree
    collector: rollout.Collector
    key: Key
    steps: Array
    bad: Stacked
    window: PyTree = ()

    @property
    def first_bad_step(self) -> dict[str, Array]:
        """``bad``, by the name of what is collected: action, observation and reward."""
        return dict(unstacked(self.bad))


Chunk = Callable[[TrainState], tuple[TrainState, Report]]
"""A chunk of training; consumes its argument."""


class Learner(NamedTuple):
    """Functions of a `TrainState`, for `ddpg_jax.train` and `ddpg_jax.host` alike."""

    init: Callable[[Key, Key, rollout.Collector], TrainState]
    """``init(agent_key, key, collector)``: agent and empty replay around a collector that begins.
    """
    store_step: Callable[..., TrainState]
    """``store_step(state, collector, transition, ended, store=True)``: store a step that ended the
    episodes ``ended: [E]``.
    """
    update: Callable[[TrainState, Key, Key], tuple[TrainState, Metrics]]
    """``update(state, sample_keys, update_keys)``: an update for each of the keys ``[updates]``;
    metrics are means over them.
    """
    adapt_behaviour: Callable[[TrainState, Key | None], TrainState]
    """``adapt_behaviour(state, key)``: show the behaviour a replayed batch, if it learns from one
    how far to explore; the key is None where it does not.
    """


class RoundKeys(NamedTuple):
    """The random keys of a round, each used once; of many rounds with a leading axis."""

    act: Key
    """``[collect_steps]``"""
    env: Key
    """``[collect_steps]``"""
    sample: Key
    """``[updates]``"""
    update: Key
    """``[updates]``"""
    adapt: Key | None
    """``[]``; None where the behaviour does not adapt."""

    @classmethod
    def split(
        cls,
        key: Key,
        *,
        steps: int = 0,
        updates: int = 0,
        adapts: bool,
    ) -> "RoundKeys":
        """All of them in one wide kernel; consumes ``key``."""
        return cls._dealt(
            jax.random.split(key, 2 * (steps + updates) + adapts), steps, updates, adapts
        )

    @classmethod
    def of_rounds(
        cls, key: Key, starts: Array, *, steps: int = 0, updates: int = 0, adapts: bool
    ) -> "RoundKeys":
        """Those of the rounds that begin at the vector steps ``starts``, all in one wide kernel.

        They depend on nothing but ``key``, which is for nothing else and stays as it is, and each
        start: not on the chunk that a round is in.
        """
        count = 2 * (steps + updates) + adapts

        def split(start: Array) -> Key:
            return jax.random.split(jax.random.fold_in(key, start), count)

        return cls._dealt(jax.vmap(split)(starts), steps, updates, adapts)

    @classmethod
    def _dealt(cls, keys: Key, steps: int, updates: int, adapts: bool) -> "RoundKeys":
        collecting, learning, last = jnp.split(keys, (2 * steps, 2 * (steps + updates)), axis=-1)
        act, env = _pairs(collecting)
        sample, update = _pairs(learning)
        return cls(act, env, sample, update, last[..., 0] if adapts else None)


def _pairs(keys: Key) -> tuple[Key, Key]:
    """Keys ``[..., 2 n]`` dealt in turn to two uses, ``[..., n]`` each."""
    pairs = keys.reshape(*keys.shape[:-1], -1, 2)
    return pairs[..., 0], pairs[..., 1]


def make_learner(
    agent: Agent,
    env: Environment | HostEnvironment,
    replay: Replay,
    behaviour: Behaviour,
    window: Window | None,
) -> Learner:
    """The functions of `Learner`; of ``env`` only the shapes are used, and whether a step may be
    none.

    Raises:
        ValueError: the agent and the window have different discount factors, or there is a window
            around a replay that makes returns itself.
    """
    if window is not None:
        _require_fitting(window, agent, replay)

    def init(agent_key: Key, key: Key, collector: rollout.Collector) -> TrainState:
        observation, action = zeros((env.observation, env.action))
        scalar = jnp.float32(0)
        example = Transition(
            observation=observation,
            action=action,
            reward=scalar,
            discount=scalar,
            next_observation=observation,
        )
        agent_state = agent.init(agent_key, example.observation, example.action)
        example = to_replay(agent, agent_state, example)
        batched = zeros(example, env.num_envs)
        if not env.same_step if isinstance(env, HostEnvironment) else env.breaks:
            batched = replace(batched, valid=jnp.zeros(env.num_envs, bool))
        result: TrainState = strong(
            TrainState(
                agent=agent_state,
                replay=replay.init(example),
                collector=collector,
                key=key,
                steps=jnp.int32(0),
                bad=first_bad(
                    {"action": (), "observation": collector.observation, "reward": ()}, jnp.int32(0)
                ),
                window=() if window is None else window.init(batched),
            )
        )
        return result

    def store_step(
        state: TrainState,
        collector: rollout.Collector,
        transition: Transition,
        ended: Array,
        *,
        store: bool = True,
    ) -> TrainState:
        agent_state = state.agent
        if agent.observe is not None:
            agent_state = agent.observe(agent_state, transition.observation)
        stored, window_state = to_replay(agent, state.agent, transition), state.window
        if window is not None:
            window_state, stored = window.push(window_state, stored, ended)
        replay_state = state.replay
        if store:
            valid = () if stored.valid is None else (stored.valid,)
            ends = {"ended": ended} if replay.of_episodes else {}
            with jax.named_scope("replay"):
                replay_state = replay.add(replay_state, replace(stored, valid=None), *valid, **ends)
        return replace(
            state,
            agent=agent_state,
            collector=collector,
            replay=replay_state,
            window=window_state,
            steps=state.steps + 1,
        )

    def adapt_behaviour(state: TrainState, key: Key | None) -> TrainState:
        if behaviour.adapt is None or key is None:
            return state
        sampled = replay.sample(state.replay, key)
        batch = sampled if replay.update is None else sampled.batch
        return with_behaviour(state, behaviour.adapt(state.collector.behaviour, state.agent, batch))

    return Learner(init, store_step, _make_update(agent, replay), adapt_behaviour)


def _require_fitting(window: Window, agent: Agent, replay: Replay) -> None:
    """Refuse a window around a replay that makes returns itself, or with another gamma than the
    agent's.
    """
    if replay.of_episodes:
        raise ValueError(
            "window: this replay makes n-step returns of the single steps that it stores: give the "
            "window to it, and none here."
        )
    both = agent.gamma, window.gamma
    if window.length == 1 or any(x is None or not checks.is_known(x) for x in both):
        return
    own, its = (np.asarray(x, np.float32) for x in both)
    if not np.array_equal(own, its):
        raise ValueError(
            f"gamma={agent.gamma} of the agent is not gamma={window.gamma} of the n-step window: "
            "an n-step target needs one discount factor, so give both the same."
        )


def to_replay(agent: Agent, state: AgentState, transition: Transition) -> Transition:
    """What the agent wants to be stored of a transition."""
    if agent.to_replay is None:
        return transition
    return replace(
        transition,
        observation=agent.to_replay(state, transition.observation),
        next_observation=agent.to_replay(state, transition.next_observation),
    )


def with_behaviour(state: TrainState, behaviour: PyTree) -> TrainState:
    """The state of training with another state of what explores."""
    return replace(state, collector=replace(state.collector, behaviour=behaviour))


def _make_update(
    agent: Agent, replay: Replay
) -> Callable[[TrainState, Key, Key], tuple[TrainState, Metrics]]:
    def update(state: TrainState, sample_keys: Key, update_keys: Key) -> tuple[TrainState, Metrics]:
        def step(
            carry: tuple[AgentState, PyTree], keys: tuple[Key, Key]
        ) -> tuple[tuple[AgentState, PyTree], Stacked]:
            agent_state, written = carry
            sample_key, update_key = keys
            with jax.named_scope("replay"):
                sampled = replay.sample(state.replay if written is None else written, sample_key)
            batch, weight = (
                (sampled, ()) if replay.update is None else (sampled.batch, (sampled.weight,))
            )
            with jax.named_scope("update"):
                new = agent.update(agent_state, batch, update_key, *weight)
            if replay.update is not None:
                with jax.named_scope("replay"):
                    written = replay.update(written, sampled.rows, new.priority)
            return (new.state, written), stacked(new.metrics)

        # A replay that is not written to here stays out of the carry.
        written = None if replay.update is None else state.replay
        (agent_state, written), metrics = jax.lax.scan(
            step, (state.agent, written), (sample_keys, update_keys)
        )
        state = replace(
            state, agent=agent_state, replay=state.replay if written is None else written
        )
        return state, unstacked(jax.tree.map(lambda x: jnp.mean(x, axis=0), metrics))

    return update
