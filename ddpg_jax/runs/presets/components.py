"""From hyper-parameters to the parts of a training run: what the algorithms' own functions have in
common.

Components of the library are reached through the package, which loads them on first use: importing
this costs nothing."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import ddpg_jax
from ddpg_jax.runs.options.hyperparameters import Hyperparameters
from ddpg_jax.runs.options.preset import Components

if TYPE_CHECKING:
    from ddpg_jax.networks import Actor, Critic
    from ddpg_jax.types import Agent, Behaviour, Environment, Network, Replay


def actor(hyperparameters: Hyperparameters, env: Environment, **options: Any) -> Network:
    """The actor, or where an observation is a dict the actor on its stream of it; ``options`` as of
    `actor_head`."""
    return _on_stream(
        hyperparameters.actor_stream,
        "actor_stream",
        actor_head(hyperparameters, env, **options),
        env,
    )


def critic(hyperparameters: Hyperparameters, env: Environment, **options: Any) -> Network:
    """The critic, as `actor`; ``options`` as of `critic_head`."""
    return _on_stream(
        hyperparameters.critic_stream, "critic_stream", critic_head(hyperparameters, **options), env
    )


def actor_head(hyperparameters: Hyperparameters, env: Environment, **options: Any) -> Actor:
    """The actor of one vector; ``options`` of `ddpg_jax.networks.Actor` go first."""
    known: dict[str, Any] = {"dtype": dtype(hyperparameters)}
    known |= {"norm": ddpg_jax.networks.LayerNorm} if hyperparameters.layer_norm else {}
    known |= {"output": ddpg_jax.networks.inverting} if hyperparameters.inverting_gradients else {}
    return ddpg_jax.networks.Actor(env.action.shape[-1], hyperparameters.hidden, **known | options)


def critic_head(
    hyperparameters: Hyperparameters, *, action_layer: int = 0, **options: Any
) -> Critic:
    """The critic of one vector, one of an ensemble; ``options`` of `ddpg_jax.networks.Critic` go
    first."""
    layer_norm = ddpg_jax.networks.LayerNorm
    known: dict[str, Any] = {"dtype": dtype(hyperparameters)}
    known |= {"norm": layer_norm, "action_norm": layer_norm} if hyperparameters.layer_norm else {}
    return ddpg_jax.networks.Critic(
        hyperparameters.critic_hidden or hyperparameters.hidden, action_layer, **known | options
    )


def _on_stream(stream: str, option: str, network: Network, env: Environment) -> Network:
    """The network, or where an observation is a dict the network on that stream of it."""
    if not isinstance(env.observation, dict):
        return network
    if stream not in env.observation:
        there = ", ".join(map(str, env.observation))
        raise ValueError(
            f"{option}={stream!r}: the observation has no such stream; choose one of {there}."
        )
    return ddpg_jax.networks.stream(stream, network)


def require_image_defaults(hyperparameters: Hyperparameters, *, scaled: str, stored: str) -> None:
    """Refuse what networks of images have no use for; ``scaled`` and ``stored``: what happens to
    observations instead.

    Raises:
        ValueError: such a number was given.
    """
    if hyperparameters.normalize_observations:
        raise ValueError(f"normalize_observations: {scaled}; leave it out.")
    if hyperparameters.observation_dtype != "float32":
        raise ValueError(
            f"observation_dtype={hyperparameters.observation_dtype}: {stored}; leave it out."
        )
    streams = {"actor_stream": (hyperparameters.actor_stream, Hyperparameters.actor_stream)}
    streams["critic_stream"] = (hyperparameters.critic_stream, Hyperparameters.critic_stream)
    for name, (stream, default) in streams.items():
        if stream != default:
            raise ValueError(
                f"{name}={stream!r}: networks of images read all of the observation; leave it out."
            )


def dtype(hyperparameters: Hyperparameters) -> Any:
    """What the networks compute in."""
    return _dtype(hyperparameters.dtype)


def _dtype(name: str) -> Any:
    import jax.numpy as jnp

    return getattr(jnp, name)


def optimizer(hyperparameters: Hyperparameters) -> Callable[..., Any]:
    """Adam, or AdamW, of both networks."""
    return ddpg_jax.agents.adam(
        weight_decay=hyperparameters.weight_decay, max_grad_norm=hyperparameters.max_grad_norm
    )


def actor_rate(hyperparameters: Hyperparameters) -> Any:
    """The actor's learning rate over its own steps, one to an update of the agent."""
    return ddpg_jax.agents.annealed(
        hyperparameters.actor_learning_rate,
        hyperparameters.anneal_updates // hyperparameters.batches_per_update,
    )


def critic_rate(hyperparameters: Hyperparameters) -> Any:
    """The critic's learning rate over its own steps."""
    return ddpg_jax.agents.annealed(
        hyperparameters.critic_learning_rate, hyperparameters.anneal_updates
    )


def gaussian(stddev: float) -> Callable[[Agent], Behaviour]:
    """Explore by Gaussian noise on actions, clipped to their range."""
    noise = ddpg_jax.noise
    return lambda agent: ddpg_jax.behaviour.explore(
        agent, noise.chain(noise.gaussian(stddev), noise.clip())
    )


def ornstein_uhlenbeck(stddev: float) -> Callable[[Agent], Behaviour]:
    """Explore by Ornstein-Uhlenbeck noise on actions, clipped to their range."""
    noise = ddpg_jax.noise
    return lambda agent: ddpg_jax.behaviour.explore(
        agent, noise.chain(noise.ornstein_uhlenbeck(stddev), noise.clip())
    )


def assemble(
    hyperparameters: Hyperparameters,
    agent: Agent,
    explore: Callable[[Agent], Behaviour],
    *,
    own_warm_up: bool = False,
    **kept: Any,
) -> Components:
    """Wrap the agent, and add what is the same for all algorithms.

    Args:
        hyperparameters: of the run.
        agent: the algorithm's.
        explore: makes the behaviour of the wrapped agent.
        own_warm_up: explore from the first step on, instead of acting at random.
        **kept: options of the replay, as its ``storage``.
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
        stored = _dtype(hyperparameters.observation_dtype)
        kept = {"storage": functools.partial(ddpg_jax.replay.rows, observation_dtype=stored)} | kept
    if checks.is_zero(hyperparameters.priority_exponent):
        return ddpg_jax.replay.uniform(hyperparameters.replay_capacity, rows, **kept)
    batches = hyperparameters.importance_updates // hyperparameters.batches_per_update
    first: Any = hyperparameters.importance_exponent
    beta: Any = optax.linear_schedule(first, 1.0, batches)
    return ddpg_jax.replay.prioritised(
        hyperparameters.replay_capacity,
        rows,
        priority_exponent=hyperparameters.priority_exponent,
        importance_exponent=beta,
        axis_name=hyperparameters.axis_name,
        **kept,
    )
