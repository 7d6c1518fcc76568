"""From the numbers of a `ddpg_jax.presets.Preset` to the parts of a training run: one function per kind of agent and noise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import optax

from ddpg_jax import agents, noise, replay, returns
from ddpg_jax.envs.pendulum import MAX_TORQUE
from ddpg_jax.networks import Actor, BatchNorm, Critic, LayerNorm
from ddpg_jax.returns import Window
from ddpg_jax.types import Agent, Behaviour, Environment, PyTree, Replay, TimeStep

if TYPE_CHECKING:
    from ddpg_jax.presets import Preset


class Parts(NamedTuple):
    """What `ddpg_jax.train.make_train` composes; ``warm_up`` None is uniform random actions."""

    agent: Agent
    replay: Replay
    behaviour: Behaviour
    warm_up: Behaviour | None
    window: Window | None


def ddpg_gaussian(preset: Preset, env: Environment) -> Parts:
    """DDPG, Q([s, a]), clipped Gaussian noise."""
    return _parts(preset, env, agents.ddpg(actor(preset, env), critic(preset), **_settings(preset)), _gaussian(preset))


def ddpg_ornstein_uhlenbeck(preset: Preset, env: Environment) -> Parts:
    """DDPG as in the paper: the action joins Q at its second layer, Ornstein-Uhlenbeck noise from the first step on."""
    agent = agents.ddpg(actor(preset, env), critic(preset, action_layer=1), **_settings(preset))
    return _own_warm_up(_parts(preset, env, agent, _ornstein_uhlenbeck(preset)))


def ddpg_batch_norm(preset: Preset, env: Environment) -> Parts:
    """The same with batch normalisation of the state, of mu and of Q before the action."""
    norms = {"norm": BatchNorm, "input_norm": BatchNorm}
    agent = agents.ddpg(actor(preset, env, **norms), critic(preset, action_layer=1, **norms), **_settings(preset))
    return _own_warm_up(_parts(preset, env, agent, _ornstein_uhlenbeck(preset)))


def parameter_noise(preset: Preset, env: Environment) -> Parts:
    """DDPG that explores with adaptive parameter-space noise."""
    agent = agents.ddpg(actor(preset, env), critic(preset), **_settings(preset))
    return _parts(preset, env, agent, lambda agent: noise.parameter_noise(agent, env, _number(preset.stddev)))


def td3(preset: Preset, env: Environment) -> Parts:
    """TD3 with clipped Gaussian noise."""
    settings = _settings(preset, "target_noise", "target_noise_clip", "policy_delay")
    return _parts(preset, env, agents.td3(actor(preset, env), critic(preset), **settings), _gaussian(preset))


def d4pg(preset: Preset, env: Environment) -> Parts:
    """D4PG with clipped Gaussian noise."""
    agent = agents.d4pg(actor(preset, env), critic(preset), **_settings(preset, "v_min", "v_max"))
    return _parts(preset, env, agent, _gaussian(preset))


def td3_categorical(preset: Preset, env: Environment) -> Parts:
    """TD3 with categorical critics; each environment draws its noise's scale anew in each episode."""
    settings = _settings(preset, "target_noise", "target_noise_clip", "policy_delay", "v_min", "v_max")
    agent = agents.td3_categorical(actor(preset, env), critic(preset), **settings)
    scales = noise.gaussian_per_episode(_number(preset.stddev_low), _number(preset.stddev_high))
    return _parts(preset, env, agent, lambda agent: noise.explore(agent, noise.chain(scales, noise.clip())))


def lecture(preset: Preset, env: Environment) -> Parts:
    """The lecture's linear actor, start and noise."""
    linear = actor(preset, env, output=lambda x: x, final_bound=None)
    agent = agents.ddpg(linear, critic(preset, final_bound=None), **_settings(preset))
    noises = noise.ornstein_uhlenbeck(_number(preset.stddev), reset_at_episode_start=False)
    return _own_warm_up(_parts(preset, env, agent, lambda agent: noise.explore(agent, noises)))


def lecture_environment(env: Environment) -> Environment:
    """Actions are torques in N m, and the time limit terminates."""

    def step(state: PyTree, action: jax.Array, key: jax.Array) -> tuple[PyTree, TimeStep]:
        state, time_step = env.step(state, action / MAX_TORQUE, key)
        done = time_step.terminated | time_step.truncated
        return state, replace(time_step, terminated=done, truncated=done & False)

    return env._replace(step=step, native_action=lambda action: env.native_action(action / MAX_TORQUE))


def actor(preset: Preset, env: Environment, **options: Any) -> Actor:
    """The preset's actor; ``options`` of `ddpg_jax.networks.Actor` go first."""
    norm = {"norm": LayerNorm} if preset.layer_norm else {}
    return Actor(env.action.shape[-1], preset.hidden, **norm | options)


def critic(preset: Preset, *, action_layer: int = 0, **options: Any) -> Critic:
    """The preset's critic, one of an ensemble; ``options`` of `ddpg_jax.networks.Critic` go first."""
    norm = {"norm": LayerNorm, "action_norm": LayerNorm} if preset.layer_norm else {}
    hidden = preset.critic_hidden or preset.hidden
    return Critic(hidden, action_layer, num_atoms=preset.num_atoms, **norm | options)


def _gaussian(preset: Preset) -> Callable[[Agent], Behaviour]:
    return lambda agent: noise.explore(agent, noise.chain(noise.gaussian(_number(preset.stddev)), noise.clip()))


def _ornstein_uhlenbeck(preset: Preset) -> Callable[[Agent], Behaviour]:
    return lambda agent: noise.explore(agent, noise.chain(noise.ornstein_uhlenbeck(_number(preset.stddev)), noise.clip()))


def _number(value: float | None) -> float:
    assert value is not None
    return value


def _settings(preset: Preset, *more: str) -> dict[str, Any]:
    """The keyword arguments of the agent: those that all have, and ``more``."""

    def optimizer(rate: Any) -> optax.GradientTransformation:
        adam = optax.adamw(rate, weight_decay=preset.weight_decay) if preset.weight_decay else optax.adam(rate)
        return optax.chain(optax.clip_by_global_norm(preset.max_grad_norm), adam) if preset.max_grad_norm else adam

    def rate(value: float, steps: int) -> Any:
        return optax.linear_schedule(value, 0.0, steps) if steps else value

    names = ("gamma", "tau", "critic_weight_decay", *more)
    return {name: getattr(preset, name) for name in names} | {
        "optimizer": optimizer,
        "actor_learning_rate": rate(preset.actor_learning_rate, preset.anneal_updates // (preset.policy_delay or 1)),
        "critic_learning_rate": rate(preset.critic_learning_rate, preset.anneal_updates),
    }


def _parts(preset: Preset, env: Environment, agent: Agent, explore: Callable[[Agent], Behaviour]) -> Parts:
    """Wrap the agent, and add what is the same for all."""
    if preset.reward_scale != 1.0:
        agent = agents.scale_rewards(agent, preset.reward_scale)
    if preset.normalize_observations:
        agent = agents.normalize_observations(agent)
    rows = preset.batch_size * (preset.policy_delay or 1)
    store = replay.uniform(preset.replay_capacity, rows)
    if preset.priority_exponent:
        beta = optax.linear_schedule(preset.importance_exponent, 1.0, preset.importance_updates // (preset.policy_delay or 1))
        exponents = {"priority_exponent": preset.priority_exponent, "importance_exponent": beta}
        store = replay.prioritised(preset.replay_capacity, rows, **exponents)
    window = returns.n_step(preset.n_step, preset.gamma) if preset.n_step > 1 else None
    return Parts(agent, store, explore(agent), None, window)


def _own_warm_up(parts: Parts) -> Parts:
    """Explore from the first step on, instead of acting uniformly."""
    return parts._replace(warm_up=parts.behaviour)
