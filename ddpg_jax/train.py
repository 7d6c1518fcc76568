"""The compiled loop: collect, add, sample, update, scanned. Everything here is a pure function;
jit, vmap or shard it.
"""

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ddpg_jax import rollout
from ddpg_jax.behaviour import random_actions
from ddpg_jax.environment import Environment
from ddpg_jax.learner import Chunk, Learner, RoundKeys, TrainState, make_learner, with_behaviour
from ddpg_jax.reporting import (
    Episodes,
    Report,
    Totals,
    accumulate,
    finite_leaves,
    first_bad,
    psum_totals,
    read_totals,
    unstacked,
    zero_totals,
)
from ddpg_jax.schedule import Schedule
from ddpg_jax.types import Agent, Behaviour, Key, Metrics, Replay, Window, strong, zeros


class Train(NamedTuple):
    """Training as pure functions. Jit `chunk` with its state donated."""

    init: Callable[[Key], TrainState]
    """``init(key)``: agent, environments and an empty replay."""
    warm_up: Callable[[TrainState], TrainState]
    """Store ``learning_starts`` transitions (and what fills the last vector step), without
    learning; fewer where some of them were not valid.
    """
    chunk: Chunk
    """``steps_per_chunk`` environment steps and their updates, as one scan. The keys of a round
    follow from the vector step at which it begins, so the same steps in other chunks are the same
    training.
    """
    schedule: Schedule


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
    axis_name: str | None = None,
) -> Train:
    """Compose an agent, environments, a replay and a behaviour into training.

    Each vector step collects one transition from each of the E environments and adds them; after
    every ``collect_steps`` of them, ``updates_per_step`` times, a batch is sampled and learned
    from. Nothing leaves the device inside a chunk.

    Args:
        agent, env, replay, behaviour: see `ddpg_jax.types`.
        learning_starts, updates_per_step, collect_steps, steps_per_chunk: see
            `ddpg_jax.schedule.Schedule`.
        warm_up: what acts while the first transitions are stored; None is uniform random actions.
            Where it is ``behaviour`` itself, the behaviour's state goes on afterwards; else it
            begins anew.
        window: `ddpg_jax.returns.n_step`; None stores single steps.
        axis_name: of a mesh axis over which all this is one shard of more, under ``jax.shard_map``
            (`ddpg_jax.sharding`): its environments, replay and keys are its own, the agent, made
            with the same ``axis_name``, is one for all, and a report is of all shards, summed up
            once a chunk. Every number here is then of one shard.

    Raises:
        ValueError: a number is out of its range, or the agent and the window have different
            discount factors.
    """
    schedule = Schedule(
        num_envs=env.num_envs,
        learning_starts=learning_starts,
        updates_per_step=updates_per_step,
        collect_steps=collect_steps,
        steps_per_chunk=steps_per_chunk,
        n_step=1 if window is None else window.length,
    )
    learner = make_learner(agent, env, replay, behaviour, window)
    warming = random_actions() if warm_up is None else warm_up

    def init(key: Key) -> TrainState:
        agent_key, begin_key, key = jax.random.split(key, 3)
        begin_key, key = (of_shard(one, axis_name) for one in (begin_key, key))
        return learner.init(agent_key, key, rollout.begin(env, behaviour, begin_key))

    fill = _make_warm_up(env, behaviour, warming, learner, schedule)
    return Train(init, fill, _make_chunk(env, behaviour, learner, schedule, axis_name), schedule)


def of_shard(key: Key, axis_name: str | None) -> Key:
    """The key of this shard of an axis, another in each; without an axis the key itself."""
    return key if axis_name is None else jax.random.fold_in(key, jax.lax.axis_index(axis_name))


def _make_warm_up(
    env: Environment, behaviour: Behaviour, warming: Behaviour, learner: Learner, schedule: Schedule
) -> Callable[[TrainState], TrainState]:
    collect = _make_step(env, warming, learner)
    step = lambda state, keys, store=True: (collect(state, keys, store=store)[0], None)

    def warm_up(state: TrainState) -> TrainState:
        start_key, scan_key, key = jax.random.split(state.key, 3)
        kept = state.collector.behaviour
        if warming is not behaviour:  # a state of its own, for now
            own = warming.init(start_key, zeros(env.action, env.num_envs))
            state = with_behaviour(state, own)
        keys = RoundKeys.split(scan_key, steps=schedule.warm_up, adapts=False)
        both = (keys.act, keys.env)
        if schedule.filling:
            filling = jax.tree.map(lambda x: x[: schedule.filling], both)
            state, _ = jax.lax.scan(functools.partial(step, store=False), state, filling)
        storing = jax.tree.map(lambda x: x[schedule.filling :], both)
        state, _ = jax.lax.scan(step, state, storing)
        if warming is not behaviour:
            # What explores from now on has seen no start: its first step is one.
            reset = jnp.ones_like(state.collector.reset)
            collector = replace(state.collector, behaviour=kept, reset=reset)
            state = replace(state, collector=collector)
        result: TrainState = strong(replace(state, key=key))
        return result

    return warm_up


class RoundSums(NamedTuple):
    """What a round adds to the chunk's totals: sums over the episodes that ended, means of the
    metrics over its updates.
    """

    episodes: Episodes
    metrics: Metrics


def _make_step(
    env: Environment, behaviour: Behaviour, learner: Learner
) -> Callable[..., tuple[TrainState, Episodes]]:
    """``step(state, keys, store=True)``: collect, store, and remember in ``state.bad`` the first
    step at which something collected was not finite.
    """
    collect = rollout.collect(env, behaviour)

    def step(
        state: TrainState, keys: tuple[Key, Key], *, store: bool = True
    ) -> tuple[TrainState, Episodes]:
        collector, transition, episodes = collect(state.collector, state.agent, *keys)
        state = learner.store_step(state, collector, transition, collector.reset, store=store)
        collected = {
            "observation": (transition.next_observation, collector.observation),
            "action": transition.action,
            "reward": transition.reward,
        }
        bad = jax.tree.map(jnp.minimum, state.bad, first_bad(collected, state.steps - 1))
        return replace(state, bad=bad), episodes

    return step


def _make_chunk(
    env: Environment,
    behaviour: Behaviour,
    learner: Learner,
    schedule: Schedule,
    axis_name: str | None,
) -> Chunk:
    step, adapts = _make_step(env, behaviour, learner), behaviour.adapt is not None

    def one_round(state: TrainState, keys: RoundKeys) -> tuple[TrainState, RoundSums]:
        state, episodes = jax.lax.scan(step, state, (keys.act, keys.env))
        state, metrics = learner.update(state, keys.sample, keys.update)
        state = learner.adapt_behaviour(state, keys.adapt)
        return state, RoundSums(jax.tree.map(jnp.sum, episodes), metrics)

    def add_round(
        carry: tuple[TrainState, Totals], keys: RoundKeys
    ) -> tuple[tuple[TrainState, Totals], None]:
        state, totals = carry
        last = state.steps + schedule.collect_steps - 1
        state, sums = one_round(state, keys)
        return (state, accumulate(totals, sums, last)), None

    def chunk(state: TrainState) -> tuple[TrainState, Report]:
        starts = state.steps + schedule.collect_steps * jnp.arange(schedule.rounds, dtype=jnp.int32)
        keys = RoundKeys.of_rounds(
            state.key,
            starts,
            steps=schedule.collect_steps,
            updates=schedule.updates_per_step,
            adapts=adapts,
        )
        _, sums = jax.eval_shape(one_round, state, jax.tree.map(lambda x: x[0], keys))
        (state, totals), _ = jax.lax.scan(add_round, (state, zero_totals(sums)), keys)
        (totals, collected), shards = psum_totals((totals, state.bad), axis_name)
        sums, bad = read_totals(totals)
        return state, Report(
            episodes=sums.episodes,
            metrics=jax.tree.map(lambda x: x / (schedule.rounds * shards), sums.metrics),
            first_bad_step=unstacked(collected) | bad.metrics,
            finite=finite_leaves(state.agent),
        )

    return chunk
