"""From hyper-parameters to the components of a run: what presets have in common.

The library is reached through the package, which loads modules on first use, so that importing
this is cheap.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import ddpg_jax
from ddpg_jax.runs.options.hyperparameters import Hyperparameters
from ddpg_jax.runs.options.preset import Components

if TYPE_CHECKING:
    from collections.abc import Callable

    from ddpg_jax.environment import Environment
    from ddpg_jax.networks import Actor, Critic
    from ddpg_jax.types import Agent, Behaviour, Network, Noise, Replay


def actor(hyperparameters: Hyperparameters, env: Environment, **options: Any) -> Network:
    """Return the actor, of the stream ``actor_stream`` where observations are a dict.

    ``options`` as in `actor_head`.
    """
    return _on_stream(
        hyperparameters.actor_stream,
        "actor_stream",
        actor_head(hyperparameters, env, **options),
        env,
    )


def critic(hyperparameters: Hyperparameters, env: Environment, **options: Any) -> Network:
    """Return the critic, of the stream ``critic_stream`` where observations are a dict.

    ``options`` as in `critic_head`.
    """
    return _on_stream(
        hyperparameters.critic_stream, "critic_stream", critic_head(hyperparameters, **options), env
    )


def actor_head(hyperparameters: Hyperparameters, env: Environment, **options: Any) -> Actor:
    """Return the actor of a vector; ``options`` of `ddpg_jax.networks.Actor` take precedence."""
    known: dict[str, Any] = {"dtype": dtype(hyperparameters)}
    known |= {"norm": ddpg_jax.networks.LayerNorm} if hyperparameters.layer_norm else {}
    known |= {"output": ddpg_jax.networks.inverting} if hyperparameters.inverting_gradients else {}
    return ddpg_jax.networks.Actor(env.action.shape[-1], hyperparameters.hidden, **known | options)


def critic_head(
    hyperparameters: Hyperparameters, *, action_layer: int = 0, **options: Any
) -> Critic:
    """Return a critic of a vector; ``options`` of `ddpg_jax.networks.Critic` take precedence."""
    layer_norm = ddpg_jax.networks.LayerNorm
    known: dict[str, Any] = {"dtype": dtype(hyperparameters)}
    known |= {"norm": layer_norm, "action_norm": layer_norm} if hyperparameters.layer_norm else {}
    return ddpg_jax.networks.Critic(
        hyperparameters.critic_hidden or hyperparameters.hidden, action_layer, **known | options
    )


def _on_stream(stream: str, option: str, network: Network, env: Environment) -> Network:
    """Return the network, on one stream of the observation where that is a dict."""
    if not isinstance(env.observation, dict):
        return network
    if stream not in env.observation:
        there = ", ".join(map(str, env.observation))
        raise ValueError(
            f"{option}={stream!r}: not a stream of the observation; choose one of {there}."
        )
    return ddpg_jax.networks.stream(stream, network)


def require_image_defaults(hyperparameters: Hyperparameters, *, scaled: str, stored: str) -> None:
    """Refuse hyper-parameters without effect on networks of images.

    ``scaled`` and ``stored`` say how observations are treated instead.

    Raises:
        ValueError: such a hyper-parameter was given.
    """
    streams = "networks of images read all of the observation"
    given = hyperparameters
    refused = {
        f"normalize_observations: {scaled}": given.normalize_observations,
        f"observation_dtype={given.observation_dtype}: {stored}": (
            given.observation_dtype != Hyperparameters.observation_dtype
        ),
        f"actor_stream={given.actor_stream!r}: {streams}": (
            given.actor_stream != Hyperparameters.actor_stream
        ),
        f"critic_stream={given.critic_stream!r}: {streams}": (
            given.critic_stream != Hyperparameters.critic_stream
        ),
    }
    for reason, is_given in refused.items():
        if is_given:
            raise ValueError(f"{reason}; leave it out.")


def dtype(hyperparameters: Hyperparameters) -> Any:
    """Return the type in which the networks compute."""
    import jax.numpy as jnp

    return getattr(jnp, hyperparameters.dtype)


def learning_options(hyperparameters: Hyperparameters) -> dict[str, Any]:
    """Return the arguments that all algorithms share: discount, tau, rates and optimiser.

    Each rate falls over its network's own steps; the actor has one per update of the agent.
    """
    agents, updates = ddpg_jax.agents, hyperparameters.anneal_updates
    actor_updates = updates // hyperparameters.batches_per_update
    return {
        "gamma": hyperparameters.gamma,
        "tau": hyperparameters.tau,
        "actor_learning_rate": agents.annealed(hyperparameters.actor_learning_rate, actor_updates),
        "critic_learning_rate": agents.annealed(hyperparameters.critic_learning_rate, updates),
        "critic_weight_decay": hyperparameters.critic_weight_decay,
        "optimizer": agents.adam(
            weight_decay=hyperparameters.weight_decay, max_grad_norm=hyperparameters.max_grad_norm
        ),
        "axis_name": hyperparameters.axis_name,
    }


def clipped(noise: Noise) -> Callable[[Agent], Behaviour]:
    """Explore with this noise on actions, clipped to their range."""
    bounded = ddpg_jax.noise.chain(noise, ddpg_jax.noise.clip())
    return lambda agent: ddpg_jax.behaviour.explore(agent, bounded)


def assemble(
    hyperparameters: Hyperparameters,
    agent: Agent,
    explore: Callable[[Agent], Behaviour],
    *,
    own_warm_up: bool = False,
    **kept: Any,
) -> Components:
    """Wrap the agent, and add the components that all algorithms share.

    Args:
        hyperparameters: of the run.
        agent: of the algorithm.
        explore: makes the behaviour of the wrapped agent.
        own_warm_up: explore from the first step on, instead of acting at random.
        **kept: options of the replay, such as ``storage``.
    """
    agent = ddpg_jax.agents.scale_rewards(agent, hyperparameters.reward_scale)
    if hyperparameters.normalize_observations:
        agent = ddpg_jax.agents.normalize_observations(agent, axis_name=hyperparameters.axis_name)
    behaviour = explore(agent)
    window = (
        ddpg_jax.returns.n_step(hyperparameters.n_step, hyperparameters.gamma)
        if hyperparameters.n_step > 1
        else None
    )
    return Components(
        agent,
        _replay(hyperparameters, **kept),
        behaviour,
        behaviour if own_warm_up else None,
        window,
    )


def _replay(hyperparameters: Hyperparameters, **kept: Any) -> Replay:
    import optax

    from ddpg_jax import checks

    rows = hyperparameters.batch_size * hyperparameters.batches_per_update
    if hyperparameters.observation_dtype != "float32":
        stored = hyperparameters.observation_dtype
        kept = {"storage": functools.partial(ddpg_jax.replay.rows, observation_dtype=stored)} | kept
    if checks.is_zero(hyperparameters.priority_exponent):
        return ddpg_jax.replay.uniform(hyperparameters.replay_capacity, rows, **kept)
    batches = hyperparameters.importance_updates // hyperparameters.batches_per_update
    beta = optax.linear_schedule(hyperparameters.importance_exponent, 1.0, batches)
    return ddpg_jax.replay.prioritised(
        hyperparameters.replay_capacity,
        rows,
        priority_exponent=hyperparameters.priority_exponent,
        importance_exponent=beta,
        axis_name=hyperparameters.axis_name,
        **kept,
    )
