"""Wrappers ``Agent -> Agent``: what an agent sees and is told, changed on the way in."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from ddpg_jax import checks
from ddpg_jax.agents.actor_critic import averaged
from ddpg_jax.agents.minibatches import with_parts
from ddpg_jax.reporting import CompensatedSum, compensated_add, zero_sum
from ddpg_jax.types import Agent, AgentState, Array, Batch, Key, Numeric, PyTree


@struct.dataclass
class RunningStatistics:
    """Count, mean and sum of squared deviations of every observation component so far, right for
    more than 2^40 of them.
    """

    count: CompensatedSum
    mean: CompensatedSum
    squares: CompensatedSum


def with_slot(state: AgentState, slot: str, value: PyTree) -> AgentState:
    """The state of a wrapped agent with what its wrapper remembers, from the wrapper's ``init``.

    Args:
        state: of the agent inside.
        slot: the wrapper's name for it, a key of ``AgentState.slots``.
        value: a pytree of arrays.

    Raises:
        ValueError: another wrapper inside has this slot.
    """
    if slot in state.slots:
        raise ValueError(
            f"slot={slot!r} is that of another wrapper around this agent: give this one "
            "another name."
        )
    return _updated(state, slot, value)


def _updated(state: AgentState, slot: str, value: PyTree) -> AgentState:
    return replace(state, slots=state.slots | {slot: value})


def normalize_observations(
    agent: Agent,
    *,
    epsilon: float = 1e-2,
    limit: float = 10.0,
    alike: tuple[str, ...] = (),
    slot: str = "normalizer",
    axis_name: str | None = None,
) -> Agent:
    """Show the agent ``clip((s - mean) / sqrt(variance + epsilon^2), -limit, limit)`` instead of s.

    Mean and variance are of all collected observations (`Agent.observe`), never of replayed ones,
    and live in ``AgentState.slots[slot]``: checkpoints and copies of the state hold them. Replay
    stores observations as they are, so a batch is always normalised by the newest statistics.

    Args:
        agent: any agent.
        epsilon: floor of the standard deviation, in units of the observation; greater than 0.
        limit: where normalised values are clipped.
        alike: names of an observation that is a dict, whose parts have one mean and one variance,
            of all of them: of ``achieved_goal`` and ``desired_goal``.
        slot: the name of its statistics.
        axis_name: of a mesh axis over which observations are sharded: the statistics are then of
            all shards.

    Raises:
        ValueError: a number is not greater than 0, or (from ``init``) the slot is taken.

    Source: the moments are merged as in Chan et al. 1979; epsilon and clipping as in OpenAI's
    baselines.
    """
    checks.positive(epsilon=epsilon, limit=limit)

    def init(key: Key, observation: PyTree, action: Array) -> AgentState:
        statistics = RunningStatistics(
            count=zero_sum(0.0), mean=zero_sum(observation), squares=zero_sum(observation)
        )
        return with_slot(agent.init(key, zero_sum(observation).value, action), slot, statistics)

    def normalize(state: AgentState, observation: PyTree) -> PyTree:
        statistics = state.slots[slot]
        count = statistics.count.value

        def one(x: Array, mean: Array, squares: Array) -> Array:
            variance = jnp.where(count > 0, squares / jnp.maximum(count, 1.0), 1.0)
            scale = jnp.broadcast_to(jnp.sqrt(variance + epsilon**2), x.shape)
            shifted = x.astype(jnp.float32) - jnp.broadcast_to(mean, x.shape)
            return jnp.clip(shifted / scale, -limit, limit)

        return jax.tree.map(one, observation, statistics.mean.value, statistics.squares.value)

    inner = _seeing(agent, normalize)

    def observe(state: AgentState, observation: PyTree) -> AgentState:
        state = _updated(
            state, slot, _merged(state.slots[slot], _pooled(observation, alike), axis_name)
        )
        return state if inner.observe is None else inner.observe(state, observation)

    return inner._replace(init=init, observe=observe, to_replay=None)


def _pooled(observation: PyTree, alike: tuple[str, ...]) -> PyTree:
    """What is seen of each part of an observation, ``[m, E, ...]``: itself, or all that are alike,
    together.
    """
    seen = jax.tree.map(lambda x: x[None], observation)
    if alike:
        together = jax.tree.map(lambda *x: jnp.stack(x), *(observation[name] for name in alike))
        seen |= dict.fromkeys(alike, together)
    return seen


def _merged(
    statistics: RunningStatistics, observation: PyTree, axis_name: str | None
) -> RunningStatistics:
    """The statistics with one more vector step ``[m, E, ...]``, of all shards of an axis; the m of
    an environment have together the weight of one.
    """

    def total(x: Any) -> Any:
        return x if axis_name is None else jax.lax.psum(x, axis_name)

    added = total(float(jax.tree.leaves(observation)[0].shape[1]))
    count = compensated_add(statistics.count, added)
    share = added / count.value
    # Around the mean so far, which is near: differences of large numbers would lose what the sums
    # below keep.
    shifted = jax.tree.map(
        lambda x, mean, rest: x.astype(jnp.float32) - mean[None, None] - rest[None, None],
        observation,
        statistics.mean.value,
        statistics.mean.rest,
    )
    delta = averaged(jax.tree.map(lambda x: jnp.mean(x, axis=(0, 1)), shifted), axis_name)
    within = jax.tree.map(
        lambda x, mean: total(jnp.sum(jnp.mean(jnp.square(x - mean[None, None]), axis=0), axis=0)),
        shifted,
        delta,
    )
    between = jax.tree.map(
        lambda delta: jnp.square(delta) * (statistics.count.value * share), delta
    )
    return RunningStatistics(
        count=count,
        mean=compensated_add(statistics.mean, jax.tree.map(lambda delta: delta * share, delta)),
        squares=compensated_add(compensated_add(statistics.squares, within), between),
    )


def scale_rewards(agent: Agent, scale: Numeric) -> Agent:
    """Multiply the rewards that the agent learns from; what is reported stays in the environment's
    units.

    Args:
        agent: any agent. Its ``value`` metric and its support, if any, are in scaled units.
        scale: greater than 0; may be traced. 1 is the agent itself.

    Raises:
        ValueError: ``scale`` is not greater than 0.

    Source: Henderson et al. 2018, section 4 (the effect of reward scale on DDPG).
    """
    checks.positive(scale=scale)
    if checks.is_known(scale) and np.all(np.asarray(scale) == 1):
        return agent
    return _learning_from(
        agent, lambda state, batch: with_parts(batch, reward=batch.reward * scale)
    )


def scheduled(make: Callable[[Array], Agent]) -> Agent:
    """An agent whose hyper-parameters follow its own updates: ``make(step)`` is what learns in
    update ``step`` (int32, traced).

    For example::

        scheduled(lambda step: td3(actor, critic, target_noise=jnp.maximum(0.1, 0.5 - 1e-5 * step)))

    Only its ``update`` depends on ``step``; hyper-parameters may be traced, so nothing is
    recompiled.
    """
    return make(jnp.int32(0))._replace(
        update=lambda state, batch, key, weight=None: make(state.step).update(
            state, batch, key, weight
        )
    )


def encode_observations(
    agent: Agent,
    encode: Callable[[PyTree, Array], Array],
    fit: Callable[[Key], PyTree],
    *,
    slot: str = "encoder",
) -> Agent:
    """Show the agent one vector: the latent of each image of an observation, and the observation's
    other leaves.

    ``fit`` is called once, in ``init``: the encoder's parameters never change afterwards and live
    in ``AgentState.slots[slot]``, where checkpoints and exports have them. So latents are made as
    observations are collected, and replay stores them (`Agent.to_replay`): no update encodes an
    image. A batch may have observations or latents.

    Args:
        agent: any agent of vectors.
        encode: ``encode(params, images [..., H, W, C]) -> latents [..., Z]``.
        fit: ``fit(key) -> params``; consumes its key, one that ``init`` split off.
        slot: the name of the encoder's parameters.

    `ddpg_jax.checks.is_image` decides what an image is; any other leaf is a vector ``[..., O]``.

    Raises:
        ValueError: from ``init``, the slot is taken, no leaf of the observation is an image, or one
            is of another dtype.
    """

    def encoded(params: PyTree, observation: PyTree) -> Array:
        parts = [
            encode(params, x) if checks.is_image(x) else x.astype(jnp.float32)
            for x in jax.tree.leaves(observation)
        ]
        return jnp.concatenate(parts, axis=-1)

    def init(key: Key, observation: PyTree, action: Array) -> AgentState:
        checks.require_image("encode_observations", observation, leading=0)
        fit_key, agent_key = jax.random.split(key)
        params = fit(fit_key)
        return with_slot(agent.init(agent_key, encoded(params, observation), action), slot, params)

    def view(state: AgentState, observation: PyTree) -> Array:
        return encoded(state.slots[slot], observation)

    def to_replay(state: AgentState, observation: PyTree) -> PyTree:
        latent = view(state, observation)
        return latent if agent.to_replay is None else agent.to_replay(state, latent)

    return _seeing(agent, view)._replace(init=init, to_replay=to_replay)


def _seeing(agent: Agent, view: Callable[[AgentState, PyTree], PyTree]) -> Agent:
    """The agent that is shown ``view(state, observation)`` of every observation."""
    told = agent.observe

    def changed(state: AgentState, batch: Batch) -> Batch:
        return with_parts(
            batch,
            observation=view(state, batch.observation),
            next_observation=view(state, batch.next_observation),
        )

    return _learning_from(agent, changed)._replace(
        act=lambda state, seen: agent.act(state, view(state, seen)),
        observe=None if told is None else lambda state, seen: told(state, view(state, seen)),
    )


def _learning_from(agent: Agent, changed: Callable[[AgentState, Batch], Batch]) -> Agent:
    """The agent that learns from ``changed(state, batch)`` of every batch."""
    return agent._replace(
        update=lambda state, batch, key, weight=None: agent.update(
            state, changed(state, batch), key, weight
        )
    )
