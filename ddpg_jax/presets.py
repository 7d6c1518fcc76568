"""Named, cited sets of hyper-parameters, in plain Python.

A preset is a function from the environment's name to a `Preset`: numbers, and one function that composes the parts from
them. Every number is an option of ``ddpg-jax train``. A new preset is a function here and a line in `PRESETS`.

JAX is imported inside the functions that compose: ``ddpg-jax --help`` lists these numbers and must answer at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import jax
    import optax

    from ddpg_jax.types import Agent, Behaviour, Environment, Noise, PyTree, Replay, TimeStep


class Parts(NamedTuple):
    """What `ddpg_jax.train.make_train` composes; ``warm_up`` None is uniform random actions."""

    agent: Agent
    replay: Replay
    behaviour: Behaviour
    warm_up: Behaviour | None


@dataclass(frozen=True, kw_only=True)
class Preset:
    """Everything that defines a training run but the seed. Numbers are as in `ddpg_jax.agents.ddpg` and `make_train`."""

    source: str
    """Where the numbers are from, and what differs from there."""
    compose: Callable[[Preset, Environment], Parts]
    """``compose(preset, env)``: the parts, from the numbers below."""
    adapt: Callable[[Environment], Environment] | None = None
    """A wrapper around the environment, also in evaluation."""
    total_timesteps: int
    num_envs: int = 1
    learning_starts: int = 1_000
    updates_per_step: int = 1
    batch_size: int = 256
    replay_capacity: int = 1_000_000
    hidden: tuple[int, ...] = (256, 256)
    gamma: float = 0.99
    tau: float = 0.005
    actor_learning_rate: float = 3e-4
    critic_learning_rate: float = 3e-4
    critic_weight_decay: float = 0.0
    anneal_updates: int = 0
    """Updates over which both learning rates fall linearly to zero; 0 keeps them constant."""
    stddev: float = 0.1


def default(environment: str) -> Preset:
    """DDPG with the sizes that are in use today; some tasks have numbers of their own."""
    base = Preset(
        source=(
            "Fujimoto et al. 2018, section 6.1, and the authors' OurDDPG.py: 256x256 ReLU, Q([s, a]), N(0, 0.1), tau 0.005, "
            "batch 256, Adam 3e-4. Tasks with numbers of their own: " + ", ".join(_TUNED)
        ),
        compose=_ddpg_gaussian,
        total_timesteps=1_000_000,
    )
    return replace(base, **_TUNED.get(environment, {}))


def paper(environment: str) -> Preset:
    """Lillicrap et al. 2015, section 7, low-dimensional observations, without batch normalisation."""
    return Preset(
        source=(
            "Lillicrap et al. 2015 (arXiv:1509.02971), section 7 and Algorithm 1: 400-300, Adam 1e-4 and 1e-3, L2 1e-2 on Q, "
            "tau 0.001, batch 64, replay 1e6, Ornstein-Uhlenbeck 0.15 and 0.2. The paper states no dt (1 here) and no warm-up "
            "(updates start with the first full batch)."
        ),
        compose=_ddpg_ornstein_uhlenbeck,
        total_timesteps=2_500_000,
        learning_starts=64,
        batch_size=64,
        hidden=(400, 300),
        tau=0.001,
        actor_learning_rate=1e-4,
        critic_learning_rate=1e-3,
        critic_weight_decay=1e-2,
        stddev=0.2,
    )


def pendulum_lecture(environment: str) -> Preset:
    """The PyTorch lecture on Pendulum, with its deviations from the paper.

    A linear actor whose action is the torque in N m, stored as it is and clipped only by the environment; the action joins
    the critic at its first layer; all layers start at fan-in; the time limit counts as terminal; the noise never resets.
    """
    if environment != "pendulum":
        raise ValueError(
            f"preset 'pendulum-lecture' is for the environment 'pendulum', not {environment!r}: choose another preset."
        )
    return Preset(
        source=(
            "A lecture's DDPG in PyTorch: 2x64 ReLU, Adam 1e-3 both, tau 0.001, batch 64, buffer 10,000, Ornstein-Uhlenbeck "
            "0.15 and 0.2 (in N m) that never resets, linear actor, action unclipped, time limit terminal, 1,000 episodes."
        ),
        compose=_lecture,
        adapt=_lecture_environment,
        total_timesteps=200_064,
        learning_starts=64,
        batch_size=64,
        replay_capacity=10_000,
        hidden=(64, 64),
        tau=0.001,
        actor_learning_rate=1e-3,
        critic_learning_rate=1e-3,
        stddev=0.2,
    )


PRESETS: dict[str, Callable[[str], Preset]] = {"default": default, "paper": paper, "pendulum-lecture": pendulum_lecture}

_TUNED: dict[str, dict] = {
    "pendulum": {
        "total_timesteps": 20_000,
        "batch_size": 64,
        "replay_capacity": 20_000,
        "hidden": (64, 64),
        "actor_learning_rate": 1e-3,
        "critic_learning_rate": 1e-3,
    },
    "brax/inverted_pendulum": {
        "total_timesteps": 80_000,
        "num_envs": 8,
        "updates_per_step": 4,
        "batch_size": 128,
        "replay_capacity": 80_000,
        "hidden": (64, 64),
        "critic_learning_rate": 1e-3,
    },
    "brax/inverted_double_pendulum": {
        "total_timesteps": 130_000,
        "num_envs": 8,
        "updates_per_step": 4,
        "replay_capacity": 130_000,
        "hidden": (128, 128),
        "critic_learning_rate": 1e-3,
        "anneal_updates": 64_000,
    },
}


def _ddpg(preset: Preset, env: Environment, noise: Noise, *, action_layer: int) -> Parts:
    from ddpg_jax import agents, networks, replay
    from ddpg_jax.noise import explore

    actor = networks.Actor(env.action.shape[-1], preset.hidden)
    agent = agents.ddpg(actor, networks.Critic(preset.hidden, action_layer), **_settings(preset))
    return Parts(agent, replay.uniform(preset.replay_capacity, preset.batch_size), explore(agent, noise), None)


def _adam(preset: Preset) -> Callable[[float], optax.GradientTransformation]:
    import optax

    if not preset.anneal_updates:
        return optax.adam
    return lambda rate: optax.adam(optax.linear_schedule(rate, 0.0, preset.anneal_updates))


def _ddpg_gaussian(preset: Preset, env: Environment) -> Parts:
    from ddpg_jax import noise

    return _ddpg(preset, env, noise.chain(noise.gaussian(preset.stddev), noise.clip()), action_layer=0)


def _ddpg_ornstein_uhlenbeck(preset: Preset, env: Environment) -> Parts:
    from ddpg_jax import noise

    parts = _ddpg(preset, env, noise.chain(noise.ornstein_uhlenbeck(preset.stddev), noise.clip()), action_layer=1)
    return parts._replace(warm_up=parts.behaviour)


def _lecture(preset: Preset, env: Environment) -> Parts:
    from ddpg_jax import agents, networks, noise, replay

    actor = networks.Actor(1, preset.hidden, output=lambda x: x, final_bound=None)
    critic = networks.Critic(preset.hidden, action_layer=0, final_bound=None)
    agent = agents.ddpg(actor, critic, **_settings(preset))
    behaviour = noise.explore(agent, noise.ornstein_uhlenbeck(preset.stddev, reset_at_episode_start=False))
    return Parts(agent, replay.uniform(preset.replay_capacity, preset.batch_size), behaviour, behaviour)


def _lecture_environment(env: Environment) -> Environment:
    from ddpg_jax.envs.pendulum import MAX_TORQUE

    def step(state: PyTree, action: jax.Array, key: jax.Array) -> tuple[PyTree, TimeStep]:
        state, time_step = env.step(state, action / MAX_TORQUE, key)
        done = time_step.terminated | time_step.truncated
        return state, replace(time_step, terminated=done, truncated=done & False)

    return env._replace(step=step)


def _settings(preset: Preset) -> dict[str, Any]:
    """The keyword arguments of the agent."""
    names = ("gamma", "tau", "actor_learning_rate", "critic_learning_rate", "critic_weight_decay")
    return {name: getattr(preset, name) for name in names} | {"optimizer": _adam(preset)}
