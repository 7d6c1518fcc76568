"""What chooses actions while collecting: an agent with noise, random actions, a perturbed policy, a
noisy network.

A `Behaviour` is built from an agent and acts for ``E`` environments at once, on the device and for
those on the host alike.
"""

import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
from flax import struct

from ddpg_jax import checks
from ddpg_jax.environment import Environment, HostEnvironment
from ddpg_jax.types import (
    Agent,
    AgentState,
    Array,
    Batch,
    Behaviour,
    Key,
    Noise,
    Numeric,
    PyTree,
    is_key,
    zeros,
)


def explore(agent: Agent, noise: Noise) -> Behaviour:
    """The usual behaviour: the agent's deterministic action, with noise added."""
    return Behaviour(
        noise.init,
        lambda state, agent_state, observation, key, reset: noise.apply(
            state, agent.act(agent_state, observation), key, reset
        ),
    )


def random_actions() -> Behaviour:
    """Actions drawn from U[-1, 1], whatever the agent thinks: the warm-up. Its state is the shape
    to draw.
    """
    return Behaviour(
        lambda key, action: zeros(action),
        lambda state, agent_state, observation, key, reset: (
            jax.random.uniform(key, state.shape, state.dtype, -1.0, 1.0),
            state,
        ),
    )


@struct.dataclass
class ParameterNoiseState:
    """``params``, ``pool``: of each environment, leading axis ``E``, the policy it follows and its
    next unit noise; ``stddev``: sigma; ``step``: how often it acted; ``rounds``: how often it was
    asked to adapt.
    """

    params: PyTree
    pool: PyTree
    stddev: Array
    step: Array
    rounds: Array


def parameter_noise(
    agent: Agent,
    env: Environment | HostEnvironment,
    stddev: Numeric = 0.2,
    *,
    adaptation: Numeric = 1.01,
    adapt_every: int = 50,
) -> Behaviour:
    r"""Explore by perturbing the policy's parameters, once per environment and episode.

    .. math::

        \tilde\theta &= \theta + \sigma \epsilon, \quad \epsilon \sim N(0, I)
                     && \text{at the start of each episode} \\
        d            &= \sqrt{\tfrac{1}{A} \sum_i E_s[(\mu(s) - \tilde\mu(s))_i^2]}
                     && \text{on a replayed batch} \\
        \sigma       &\leftarrow \alpha \sigma \text{ if } d \le \delta
                        \text{ else } \sigma / \alpha

    With delta = ``stddev`` the actions vary as under N(0, stddev). Parameters of layer
    normalisation are left alone. Each step draws one fresh perturbation into a pool of E, which
    environments take from in shifting order; an environment whose episodes are shorter than E steps
    may meet one again. Memory: 2 E copies of the actor.

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
    checks.between(0, stddev=stddev)
    checks.between(1, adaptation=adaptation, adapt_every=adapt_every)
    count = env.num_envs

    def init(key: Key, action: Array) -> ParameterNoiseState:
        seen = zeros((env.observation, env.action))
        shapes = jax.eval_shape(lambda: agent.init(jax.random.key(0), *seen).actor.params)
        return ParameterNoiseState(
            params=zeros(shapes, count),
            pool=jax.vmap(lambda key: _unit_noise(key, shapes))(jax.random.split(key, count)),
            # A buffer of its own: the state is donated.
            stddev=jnp.asarray(stddev, jnp.float32) + 0.0,
            step=jnp.int32(0),
            rounds=jnp.int32(0),
        )

    def act(
        state: ParameterNoiseState,
        agent_state: AgentState,
        observation: PyTree,
        key: Key,
        reset: Array,
    ) -> tuple[Array, ParameterNoiseState]:
        draw_key, rotation_key = jax.random.split(key)
        online = agent_state.actor.params
        fresh = _unit_noise(draw_key, online)
        pool = jax.tree.map(lambda x, new: x.at[state.step % count].set(new), state.pool, fresh)
        rotation = jax.random.randint(rotation_key, (), 0, count, jnp.int32)

        def renewed(kept: Array, x: Array, noise: Array) -> Array:  # where an episode begins
            start = x[None] + state.stddev * jnp.roll(noise, rotation, axis=0)
            return jnp.where(reset.reshape(-1, *(1,) * x.ndim), start, kept)

        params = jax.tree.map(renewed, state.params, online, pool)
        each = jax.vmap(functools.partial(_act_by, agent, agent_state))
        action = each(observation, params=params)
        return action, replace(state, params=params, pool=pool, step=state.step + 1)

    def adapt(
        state: ParameterNoiseState, agent_state: AgentState, batch: Batch
    ) -> ParameterNoiseState:
        newest = jax.tree.map(lambda x: x[(state.step - 1) % count], state.pool)
        perturbed = jax.tree.map(
            lambda x, eps: x + state.stddev * eps, agent_state.actor.params, newest
        )
        other = _act_by(agent, agent_state, batch.observation, params=perturbed)
        distance = jnp.sqrt(jnp.mean(jnp.square(agent.act(agent_state, batch.observation) - other)))
        new = jnp.where(distance <= stddev, state.stddev * adaptation, state.stddev / adaptation)
        rounds = state.rounds + 1
        stddev_now = jnp.where(rounds % adapt_every == 0, new, state.stddev)
        return replace(state, stddev=stddev_now, rounds=rounds)

    return Behaviour(init, act, adapt)


def _unit_noise(key: Key, params: PyTree) -> PyTree:
    """Standard normal where the policy may be perturbed, zero for layer normalisation."""
    leaves, tree = jax.tree_util.tree_flatten_with_path(params)
    keys = jax.random.split(key, len(leaves))
    drawn = [
        jnp.zeros(leaf.shape, leaf.dtype)
        if "LayerNorm" in jax.tree_util.keystr(path)
        else jax.random.normal(k, leaf.shape, leaf.dtype)
        for (path, leaf), k in zip(leaves, keys, strict=True)
    ]
    return jax.tree.unflatten(tree, drawn)


def _act_by(agent: Agent, state: AgentState, observation: PyTree, **changed: PyTree) -> Array:
    """The agent's action where parts of its actor's state are ``changed``."""
    return agent.act(replace(state, actor=replace(state.actor, **changed)), observation)


def noisy_network(agent: Agent) -> Behaviour:
    """Explore by the learned noise of an actor made of `ddpg_jax.networks.NoisyDense`, drawn anew
    in every vector step.

    Raises:
        ValueError: the actor has no such layer (from ``act``, when traced).

    Source: Fortunato et al. 2018 (arXiv:1706.10295), section 3.
    """

    def act(
        state: PyTree, agent_state: AgentState, observation: PyTree, key: Key, reset: Array
    ) -> tuple[Array, PyTree]:
        carried = agent_state.actor.batch_stats
        if "noise" not in carried:
            raise ValueError(
                "noisy_network: the actor has no noisy layer; make it with "
                "networks.Actor(dense=NoisyDense)."
            )
        leaves, tree = jax.tree.flatten(carried["noise"])
        keys = jax.random.split(key, len(leaves))
        leaves = [
            k if is_key(leaf) else jnp.ones_like(leaf) for leaf, k in zip(leaves, keys, strict=True)
        ]
        noisy = carried | {"noise": jax.tree.unflatten(tree, leaves)}
        return _act_by(agent, agent_state, observation, batch_stats=noisy), state

    return Behaviour(lambda key, action: (), act)
