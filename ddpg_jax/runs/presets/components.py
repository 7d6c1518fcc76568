"""From hyper-parameters to the components of a run: what presets have in common.

The library is reached through the package, which loads modules on first use, so that importing
this is cheap.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any

import ddpg_jax
from ddpg_jax.runs.options.hyperparameters import Hyperparameters
from ddpg_jax.runs.options.preset import Components

if TYPE_CHECKING:
    from collections.abc import Callable

    from ddpg_jax.environment import Environment
    from ddpg_jax.networks import Actor, Critic
    from ddpg_jax.types import Agent, Behaviour, Network, Noise, PyTree, Replay, Window

STREAMS = "actor_stream", "critic_stream"
ACHIEVED_GOAL = "achieved_goal"
"""What environments with goals add for their rewards; no network sees it unless it is named."""
GOALS_NORMALIZED: dict[str, Any] = {"limit": 5.0, "alike": (ACHIEVED_GOAL, "desired_goal")}
"""How observations with goals are normalised (Plappert et al. 2018, appendix B); their statistics
are of goals as collected, there of those that were given in hindsight too."""


def actor(hyperparameters: Hyperparameters, env: Environment, **options: Any) -> Network:
    """Return the actor, of its `streams` where observations are a dict.

    ``options`` as in `actor_head`.
    """
    network = actor_head(hyperparameters, env, **options)
    return _on_streams("actor_stream", network, hyperparameters, env)


def critic(hyperparameters: Hyperparameters, env: Environment, **options: Any) -> Network:
    """Return the critic, of its `streams` where observations are a dict.

    ``options`` as in `critic_head`.
    """
    network = critic_head(hyperparameters, **options)
    return _on_streams("critic_stream", network, hyperparameters, env)


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


def streams(hyperparameters: Hyperparameters, observation: PyTree) -> dict[str, tuple[str, ...]]:
    """Return the names that actor and critic see of an observation that is a dict of shapes.

    Where no option names them, and a dict of vectors has not both streams of the options' defaults,
    both networks see all vectors but `ACHIEVED_GOAL`, joined in alphabetical order.
    """
    given, usual = (
        {option: getattr(source, option) for option in STREAMS}
        for source in (hyperparameters, Hyperparameters)
    )
    seen = sorted(observation.keys() - {ACHIEVED_GOAL})
    axes = {len(getattr(observation[name], "shape", ())) for name in seen}
    if given != usual or observation.keys() >= {*usual.values()} or axes != {1}:
        return {option: (name,) for option, name in given.items()}
    return dict.fromkeys(STREAMS, tuple(seen))


def _on_streams(
    option: str, network: Network, hyperparameters: Hyperparameters, env: Environment
) -> Network:
    """Return the network, on its streams of the observation where that is a dict."""
    if not isinstance(env.observation, dict):
        return network
    names = streams(hyperparameters, env.observation)[option]
    if not env.observation.keys() >= {*names}:
        there = ", ".join(map(str, env.observation))
        raise ValueError(
            f"{option}={names[0]!r}: not a stream of the observation; choose one of {there}."
        )
    return ddpg_jax.networks.stream(names, network)


def require_image_defaults(hyperparameters: Hyperparameters, *, scaled: str, stored: str) -> None:
    """Refuse hyper-parameters without effect on networks of images.

    ``scaled`` and ``stored`` say how observations are treated instead.

    Raises:
        ValueError: such a hyper-parameter was given.
    """
    read_all = "networks of images read all of the observation"
    given = hyperparameters
    refused = {
        f"normalize_observations: {scaled}": given.normalize_observations,
        f"observation_dtype={given.observation_dtype}: {stored}": (
            given.observation_dtype != Hyperparameters.observation_dtype
        ),
        f"actor_stream={given.actor_stream!r}: {read_all}": (
            given.actor_stream != Hyperparameters.actor_stream
        ),
        f"critic_stream={given.critic_stream!r}: {read_all}": (
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


def goal_options(hyperparameters: Any, env: Environment) -> dict[str, Any]:
    """Return the arguments of DDPG and TD3 for goals: a penalty, and the range of returns."""
    factor = hyperparameters.reward_scale / (1 - hyperparameters.gamma)
    ends = () if env.goal is None else env.goal.rewards
    known = len(ends) == 2 and all(map(math.isfinite, ends))
    return {
        "action_penalty": hyperparameters.action_penalty,
        "target_range": tuple(end * factor for end in ends) if known else None,
    }


def random_at_times(stddev: Any, probability: Any) -> Callable[[Agent], Behaviour]:
    """Explore with clipped Gaussian noise, and with this probability at random."""
    noise = ddpg_jax.noise
    link = noise.chain(noise.gaussian(stddev), noise.clip(), noise.uniform(probability))
    return lambda agent: ddpg_jax.behaviour.explore(agent, link)


def clipped(noise: Noise) -> Callable[[Agent], Behaviour]:
    """Explore with this noise on actions, clipped to their range."""
    bounded = ddpg_jax.noise.chain(noise, ddpg_jax.noise.clip())
    return lambda agent: ddpg_jax.behaviour.explore(agent, bounded)


def assemble(
    hyperparameters: Hyperparameters,
    env: Environment,
    agent: Agent,
    explore: Callable[[Agent], Behaviour],
    *,
    own_warm_up: bool = False,
    **kept: Any,
) -> Components:
    """Wrap the agent, and add the components that all algorithms share.

    Args:
        hyperparameters: of the run.
        env: of the run.
        agent: of the algorithm.
        explore: makes the behaviour of the wrapped agent.
        own_warm_up: explore from the first step on, instead of acting at random.
        **kept: options of the replay, such as ``storage``.
    """
    agent = ddpg_jax.agents.scale_rewards(agent, hyperparameters.reward_scale)
    if hyperparameters.normalize_observations:
        of_goals = {} if hyperparameters.hindsight == "none" else GOALS_NORMALIZED
        agent = ddpg_jax.agents.normalize_observations(
            agent, axis_name=hyperparameters.axis_name, **of_goals
        )
    behaviour = explore(agent)
    window = (
        ddpg_jax.returns.n_step(hyperparameters.n_step, hyperparameters.gamma)
        if hyperparameters.n_step > 1
        else None
    )
    if hyperparameters.observation_dtype != "float32":
        stored = hyperparameters.observation_dtype
        kept = {"storage": functools.partial(ddpg_jax.replay.rows, observation_dtype=stored)} | kept
    if hyperparameters.hindsight == "none":
        replay = _replay(hyperparameters, **kept)
    else:
        replay, window = _hindsight(hyperparameters, env, window, **kept), None
    return Components(agent, replay, behaviour, behaviour if own_warm_up else None, window)


def _hindsight(
    hyperparameters: Hyperparameters, env: Environment, window: Window | None, **kept: Any
) -> Replay:
    from ddpg_jax import checks
    from ddpg_jax.replay.hindsight import STRATEGIES

    given = hyperparameters
    if env.goal is None:
        raise ValueError(
            f"hindsight={given.hindsight!r} needs an environment with goals, whose reward is known "
            "as a function of them (ddpg_jax.environment.Goal), and this one has none: choose "
            "another environment, or leave hindsight out."
        )
    if not checks.is_zero(given.priority_exponent):
        raise ValueError(
            f"hindsight={given.hindsight!r} with a priority_exponent: a priority is of a step with "
            "the goal that it had, and hindsight gives it another: leave one of the two out."
        )
    return ddpg_jax.replay.hindsight(
        given.replay_capacity,
        given.batch_size * given.batches_per_update,
        env.goal,
        num_envs=env.num_envs,
        strategy=STRATEGIES[given.hindsight],
        goals_per_step=given.goals_per_step,
        window=window,
        **kept,
    )


def _replay(hyperparameters: Hyperparameters, **kept: Any) -> Replay:
    import optax

    from ddpg_jax import checks

    rows = hyperparameters.batch_size * hyperparameters.batches_per_update
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
