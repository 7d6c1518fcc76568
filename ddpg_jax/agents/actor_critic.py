"""The skeleton that every algorithm shares: the order of steps, the optimisers and the tracking of the targets."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from ddpg_jax.types import Agent, AgentState, Key, Metrics, Network, NetworkState, PyTree


def track(params: PyTree, target_params: PyTree, tau: float | jax.Array) -> PyTree:
    """Polyak averaging, ``theta' <- tau theta + (1 - tau) theta'`` (Lillicrap et al. 2015, section 3); 1 copies, 0 freezes."""
    return jax.tree.map(lambda online, target: tau * online + (1 - tau) * target, params, target_params)


def l2(weight_decay: float | jax.Array) -> optax.GradientTransformation:
    """The gradient of ``lambda/2 |W|^2`` over weight matrices, before the optimiser sees it (not decoupled, as in AdamW)."""
    return optax.add_decayed_weights(weight_decay, mask=lambda params: jax.tree.map(lambda leaf: jnp.ndim(leaf) > 1, params))


def actor_critic(
    actor: Network,
    critic: Network,
    *,
    critic_target: Callable[[PyTree, PyTree, Any, Key], jax.Array],
    critic_loss: Callable[[PyTree, Any, jax.Array], tuple[jax.Array, Metrics]],
    actor_loss: Callable[[PyTree, PyTree, Any], tuple[jax.Array, Metrics]],
    actor_optimizer: optax.GradientTransformation,
    critic_optimizer: optax.GradientTransformation,
    tau: float | jax.Array,
) -> Agent:
    """An `Agent` from the three functions in which the algorithms differ.

    One update: target, critic step, actor step through the new critic, both targets track.

    Args:
        actor, critic: networks, ``actor(observation) -> action`` and ``critic(observation, action) -> value``.
        critic_target: ``(actor_target_params, critic_target_params, batch, key) -> target``; evaluated before, and never
            inside, the differentiated function.
        critic_loss: ``(critic_params, batch, target) -> (loss, metrics)``; metrics may hold ``td_error: [B]``.
        actor_loss: ``(actor_params, critic_params, batch) -> (loss, metrics)``.
        actor_optimizer, critic_optimizer: optax transformations; their hyper-parameters may be traced.
        tau: share of the online parameters in each tracking step, in [0, 1].

    Returns:
        The agent; its ``update`` consumes ``key`` in ``critic_target``.
    """

    def init(key: Key, observation: PyTree, action: jax.Array) -> AgentState:
        actor_key, critic_key = jax.random.split(key)
        actor_params = actor.init(actor_key, observation)
        critic_params = critic.init(critic_key, observation, action)
        return AgentState(
            actor=_network_state(actor_params, actor_optimizer),
            critic=_network_state(critic_params, critic_optimizer),
            step=jnp.zeros((), jnp.int32),
        )

    def act(state: AgentState, observation: PyTree) -> jax.Array:
        return actor.apply(state.actor.params, observation)

    def update(state: AgentState, batch: Any, key: Key) -> tuple[AgentState, Metrics]:
        target = critic_target(state.actor.target_params, state.critic.target_params, batch, key)
        critic_grads, critic_metrics = jax.grad(critic_loss, has_aux=True)(state.critic.params, batch, target)
        new_critic = _step(state.critic, critic_grads, critic_optimizer, tau)
        actor_grads, actor_metrics = jax.grad(actor_loss, has_aux=True)(state.actor.params, new_critic.params, batch)
        new_actor = _step(state.actor, actor_grads, actor_optimizer, tau)
        return AgentState(actor=new_actor, critic=new_critic, step=state.step + 1), critic_metrics | actor_metrics

    return Agent(init, act, update)


def _network_state(params: PyTree, optimizer: optax.GradientTransformation) -> NetworkState:
    # The target is a copy, not an alias: one buffer twice in a donated state is an error or a silent copy.
    return NetworkState(params=params, target_params=jax.tree.map(jnp.copy, params), opt_state=optimizer.init(params))


def _step(state: NetworkState, grads: PyTree, optimizer: optax.GradientTransformation, tau: float | jax.Array) -> NetworkState:
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    return NetworkState(params=params, target_params=track(params, state.target_params, tau), opt_state=opt_state)
