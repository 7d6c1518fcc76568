"""Exploration noise: pure ``(init, apply)`` pairs on batched actions ``[E, A]``, composed with `chain`.

A ``stddev`` is in units of the normalised action range [-1, 1]. It may be a number, an array ``[A]`` (per dimension),
``[E, 1]`` (per environment) or ``[E, A]``, traced or not, or a schedule (any optax schedule): a function from the number
of steps this noise was applied (int32) to one of those.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from ddpg_jax import checks
from ddpg_jax.types import Agent, AgentState, Behaviour, Environment, Key, Noise, PyTree, is_key

Scale = float | jax.Array | Callable[[jax.Array], jax.Array]


def gaussian(stddev: Scale) -> Noise:
    """Independent noise, ``a + stddev * eps`` with ``eps ~ N(0, I)``; its state is the step count.

    Args:
        stddev: see the module's text; at least 0.

    Raises:
        ValueError: a negative ``stddev``.

    Source: Fujimoto et al. 2018, section 6.1 (TD3 explores with N(0, 0.1)).
    """
    scale = _schedule(stddev)

    def init(key: Key, action: jax.Array) -> jax.Array:
        return jnp.zeros((), jnp.int32)

    def apply(step: jax.Array, action: jax.Array, key: Key, reset: jax.Array) -> tuple[jax.Array, jax.Array]:
        noise = jax.random.normal(key, action.shape, action.dtype)
        return action + _match(scale(step), action) * noise, step + 1

    return Noise(init, apply)


def gaussian_per_episode(low: float | jax.Array, high: float | jax.Array) -> Noise:
    """Independent noise whose scale each environment draws anew for each episode, ``stddev ~ U(low, high)``.

    A fixed spread over environments is ``gaussian(jnp.linspace(low, high, num_envs)[:, None])`` (Li et al. 2023).

    Raises:
        ValueError: a negative number, or ``low`` greater than ``high``.

    Source: Seo et al. 2025 (arXiv:2505.22642): U(0.001, 0.4), redrawn where an episode ended.
    """
    checks.between(0, float("inf"), low=low, high=high)
    checks.below(True, low=low, high=high)

    def init(key: Key, action: jax.Array) -> jax.Array:
        return jnp.zeros((action.shape[0], 1), action.dtype)

    def apply(scale: jax.Array, action: jax.Array, key: Key, reset: jax.Array) -> tuple[jax.Array, jax.Array]:
        scale_key, noise_key = jax.random.split(key)
        drawn = low + (high - low) * jax.random.uniform(scale_key, scale.shape, scale.dtype)
        scale = jnp.where(reset[:, None], drawn, scale)
        return action + scale * jax.random.normal(noise_key, action.shape, action.dtype), scale

    return Noise(init, apply)


@struct.dataclass
class OrnsteinUhlenbeckState:
    """``x: [E, A]`` the process of each environment; ``step``: how often it was applied."""

    x: jax.Array
    step: jax.Array


def ornstein_uhlenbeck(
    stddev: Scale = 0.2, *, theta: float | jax.Array = 0.15, dt: float | jax.Array = 1.0, reset_at_episode_start: bool = True
) -> Noise:
    """Temporally correlated noise around zero, one process per environment and action dimension.

        x <- x - theta x dt + stddev sqrt(dt) eps,   eps ~ N(0, I),   a + x

    theta is the rate of return to the mean, ``stddev`` the diffusion sigma. For dt = 1 the stationary standard deviation is
    ``sigma / sqrt(1 - (1 - theta)^2)`` (0.380 for the defaults).

    Args:
        stddev: sigma; see the module's text.
        theta: at least 0.
        dt: time step, at least 0 (the paper states none; 1 is the usual reading).
        reset_at_episode_start: start from zero in every episode (the paper's Algorithm 1), or never.

    Raises:
        ValueError: a number out of its range.

    Source: Uhlenbeck and Ornstein 1930; Lillicrap et al. 2015, section 7 (theta 0.15, sigma 0.2).
    """
    checks.between(0, float("inf"), theta=theta, dt=dt)
    scale = _schedule(stddev)

    def init(key: Key, action: jax.Array) -> OrnsteinUhlenbeckState:
        return OrnsteinUhlenbeckState(x=jnp.zeros(action.shape, action.dtype), step=jnp.zeros((), jnp.int32))

    def apply(
        state: OrnsteinUhlenbeckState, action: jax.Array, key: Key, reset: jax.Array
    ) -> tuple[jax.Array, OrnsteinUhlenbeckState]:
        x = jnp.where(reset[:, None], 0.0, state.x) if reset_at_episode_start else state.x
        noise = jax.random.normal(key, action.shape, action.dtype)
        x = x - theta * dt * x + _match(scale(state.step), action) * dt**0.5 * noise
        return action + x, OrnsteinUhlenbeckState(x=x, step=state.step + 1)

    return Noise(init, apply)


def clip(low: float | jax.Array = -1.0, high: float | jax.Array = 1.0) -> Noise:
    """Clip the action to [low, high], numbers or ``[A]``; the last link of a `chain`, so that what is stored was executed."""

    def apply(state: PyTree, action: jax.Array, key: Key, reset: jax.Array) -> tuple[jax.Array, PyTree]:
        return jnp.clip(action, _match(low, action), _match(high, action)), state

    return Noise(lambda key, action: (), apply)


def chain(*noises: Noise) -> Noise:
    """Apply noises from left to right, each with a key of its own."""

    def init(key: Key, action: jax.Array) -> tuple[PyTree, ...]:
        return tuple(noise.init(k, action) for noise, k in zip(noises, jax.random.split(key, len(noises)), strict=True))

    def apply(state: tuple[PyTree, ...], action: jax.Array, key: Key, reset: jax.Array) -> tuple[jax.Array, tuple[PyTree, ...]]:
        keys = jax.random.split(key, len(noises))
        new_states = []
        for noise, noise_state, noise_key in zip(noises, state, keys, strict=True):
            action, noise_state = noise.apply(noise_state, action, noise_key, reset)
            new_states.append(noise_state)
        return action, tuple(new_states)

    return Noise(init, apply)


def explore(agent: Agent, noise: Noise) -> Behaviour:
    """The usual behaviour: the agent's deterministic action, with noise added."""

    def act(
        state: PyTree, agent_state: AgentState, observation: PyTree, key: Key, reset: jax.Array
    ) -> tuple[jax.Array, PyTree]:
        return noise.apply(state, agent.act(agent_state, observation), key, reset)

    return Behaviour(noise.init, act)


def uniform() -> Behaviour:
    """Actions drawn from U[-1, 1], whatever the agent thinks: the warm-up. Its state is the shape to draw."""

    def act(
        state: jax.Array, agent_state: AgentState, observation: PyTree, key: Key, reset: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        return jax.random.uniform(key, state.shape, state.dtype, -1.0, 1.0), state

    return Behaviour(lambda key, action: jnp.zeros(action.shape, action.dtype), act)


@struct.dataclass
class ParameterNoiseState:
    """``params``, ``pool``: of each environment, leading axis ``E``, the policy it follows and its next unit noise;
    ``stddev``: sigma; ``step``: how often it acted; ``rounds``: how often it was asked to adapt."""

    params: PyTree
    pool: PyTree
    stddev: jax.Array
    step: jax.Array
    rounds: jax.Array


def parameter_noise(
    agent: Agent,
    env: Environment,
    stddev: float | jax.Array = 0.2,
    *,
    adaptation: float | jax.Array = 1.01,
    adapt_every: int = 50,
) -> Behaviour:
    """Explore by perturbing the policy's parameters, once per environment and episode.

        theta~ = theta + sigma eps,  eps ~ N(0, I)          at the start of an episode, kept until its end
        d      = sqrt(1/A sum_i E_s[(mu(s) - mu~(s))_i^2])  on a replayed batch, for a fresh perturbation
        sigma  <- alpha sigma if d <= delta else sigma / alpha

    With delta = ``stddev`` the actions vary as under N(0, stddev). Parameters of layer normalisation are left alone. Each step
    draws one fresh perturbation into a pool of E, which environments take from in shifting order; an environment whose
    episodes are shorter than E steps may meet one again. Memory: 2 E copies of the actor.

    Args:
        agent: its ``act`` is used as it is, wrappers among it.
        env: the environment, for shapes.
        stddev: delta, and the first sigma; in units of the action range [-1, 1].
        adaptation: alpha, at least 1.
        adapt_every: rounds of updates between two adaptations, at least 1.

    Raises:
        ValueError: a number is out of its range.

    Source: Plappert et al. 2018 (arXiv:1706.01905), section 3, equation 1 and appendix C.2.
    """
    checks.between(0, float("inf"), stddev=stddev)
    checks.between(1, float("inf"), adaptation=adaptation, adapt_every=adapt_every)
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), (env.observation, env.action))
    count = env.num_envs

    def unit(key: Key, params: PyTree) -> PyTree:
        leaves, tree = jax.tree_util.tree_flatten_with_path(params)
        keys = jax.random.split(key, len(leaves))
        drawn = [
            jnp.zeros_like(leaf) if "LayerNorm" in jax.tree_util.keystr(path) else jax.random.normal(k, leaf.shape, leaf.dtype)
            for (path, leaf), k in zip(leaves, keys, strict=True)
        ]
        return jax.tree.unflatten(tree, drawn)

    def perturbed(params: PyTree, noise: PyTree, stddev: jax.Array) -> PyTree:
        return jax.tree.map(lambda x, eps: x + stddev * eps, params, noise)

    def follow(agent_state: AgentState, params: PyTree, observation: PyTree) -> jax.Array:
        actor = dataclasses.replace(agent_state.actor, params=params)
        return agent.act(dataclasses.replace(agent_state, actor=actor), observation)

    def init(key: Key, action: jax.Array) -> ParameterNoiseState:
        shapes = jax.eval_shape(lambda: agent.init(jax.random.key(0), *zeros).actor.params)
        params = jax.tree.map(lambda x: jnp.zeros((count, *x.shape), x.dtype), shapes)
        single = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
        pool = jax.vmap(lambda key: unit(key, single))(jax.random.split(key, count))
        scale = jnp.asarray(stddev, jnp.float32) + 0.0  # a buffer of its own: the state is donated
        step, rounds = jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32)
        return ParameterNoiseState(params=params, pool=pool, stddev=scale, step=step, rounds=rounds)

    def act(
        state: ParameterNoiseState, agent_state: AgentState, observation: PyTree, key: Key, reset: jax.Array
    ) -> tuple[jax.Array, ParameterNoiseState]:
        draw_key, rotation_key = jax.random.split(key)
        online = agent_state.actor.params
        fresh = unit(draw_key, online)
        pool = jax.tree.map(lambda x, new: x.at[state.step % count].set(new), state.pool, fresh)
        rotation = jax.random.randint(rotation_key, (), 0, count)

        def renew(kept: jax.Array, x: jax.Array, noise: jax.Array) -> jax.Array:
            start = x[None] + state.stddev * jnp.roll(noise, rotation, axis=0)
            return jnp.where(reset.reshape(-1, *(1,) * x.ndim), start, kept)

        params = jax.tree.map(renew, state.params, online, pool)
        action = jax.vmap(follow, in_axes=(None, 0, 0))(agent_state, params, observation)
        return action, dataclasses.replace(state, params=params, pool=pool, step=state.step + 1)

    def adapt(state: ParameterNoiseState, agent_state: AgentState, batch: Any) -> ParameterNoiseState:
        newest = jax.tree.map(lambda x: x[(state.step - 1) % count], state.pool)
        other = follow(agent_state, perturbed(agent_state.actor.params, newest, state.stddev), batch.observation)
        distance = jnp.sqrt(jnp.mean(jnp.square(agent.act(agent_state, batch.observation) - other)))
        new = jnp.where(distance <= stddev, state.stddev * adaptation, state.stddev / adaptation)
        rounds = state.rounds + 1
        return dataclasses.replace(state, stddev=jnp.where(rounds % adapt_every == 0, new, state.stddev), rounds=rounds)

    return Behaviour(init, act, adapt)


def noisy_network(agent: Agent) -> Behaviour:
    """Explore by the learned noise of an actor made of `ddpg_jax.networks.NoisyDense`, drawn anew in every vector step.

    Raises:
        ValueError: the actor has no such layer (from ``act``, when traced).

    Source: Fortunato et al. 2018 (arXiv:1706.10295), section 3.
    """

    def act(
        state: PyTree, agent_state: AgentState, observation: PyTree, key: Key, reset: jax.Array
    ) -> tuple[jax.Array, PyTree]:
        carried = agent_state.actor.batch_stats
        if "noise" not in carried:
            raise ValueError("noisy_network: the actor has no noisy layer; make it with networks.Actor(dense=NoisyDense).")
        leaves, tree = jax.tree.flatten(carried["noise"])
        keys = jax.random.split(key, len(leaves))
        leaves = [k if is_key(leaf) else jnp.ones_like(leaf) for leaf, k in zip(leaves, keys, strict=True)]
        noisy = carried | {"noise": jax.tree.unflatten(tree, leaves)}
        actor = dataclasses.replace(agent_state.actor, batch_stats=noisy)
        return agent.act(dataclasses.replace(agent_state, actor=actor), observation), state

    return Behaviour(lambda key, action: (), act)


def _schedule(stddev: Scale) -> Callable[[jax.Array], jax.Array | float]:
    if callable(stddev):
        return stddev
    checks.between(0, float("inf"), stddev=stddev)
    return lambda step: stddev


def _match(scale: float | jax.Array, action: jax.Array) -> jax.Array:
    """Give a scale ``[]``, ``[A]``, ``[E, 1]`` or ``[E, A]`` the action's rank and dtype."""
    scale = jnp.asarray(scale, action.dtype)
    return scale.reshape((1,) * (action.ndim - scale.ndim) + scale.shape)
