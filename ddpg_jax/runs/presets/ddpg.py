"""DDPG: today's sizes, the paper with and without batch normalisation, parameter noise, and the
lecture on Pendulum.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import ddpg_jax
from ddpg_jax.runs.options.field import option
from ddpg_jax.runs.options.hyperparameters import EXPLORATION, Hyperparameters
from ddpg_jax.runs.options.preset import Components, Preset
from ddpg_jax.runs.presets import components

if TYPE_CHECKING:
    from ddpg_jax.environment import Environment, TimeStep
    from ddpg_jax.types import Agent, Array, Network, PyTree


@dataclass(frozen=True, kw_only=True)
class DDPGHyperparameters(Hyperparameters):
    """The hyper-parameters of DDPG."""

    stddev: float = option(0.1, "Standard deviation of the exploration noise.", **EXPLORATION)


def make_agent(hyperparameters: Hyperparameters, actor: Network, critic: Network) -> Agent:
    """Return DDPG with these hyper-parameters and networks."""
    return ddpg_jax.agents.ddpg(actor, critic, **components.learning_options(hyperparameters))


def compose(hyperparameters: DDPGHyperparameters, env: Environment) -> Components:
    """Compose DDPG with Q([s, a]) and clipped Gaussian noise."""
    agent = make_agent(
        hyperparameters,
        components.actor(hyperparameters, env),
        components.critic(hyperparameters, env),
    )
    noise = ddpg_jax.noise.gaussian(hyperparameters.stddev)
    return components.assemble(hyperparameters, env, agent, components.clipped(noise))


def paper(hyperparameters: DDPGHyperparameters, env: Environment, **norms: Any) -> Components:
    """Compose the paper's DDPG: the action joins Q at its second layer; Ornstein-Uhlenbeck noise.

    The noise acts from the first step on.
    """
    agent = make_agent(
        hyperparameters,
        components.actor(hyperparameters, env, **norms),
        components.critic(hyperparameters, env, action_layer=1, **norms),
    )
    noise = ddpg_jax.noise.ornstein_uhlenbeck(hyperparameters.stddev)
    return components.assemble(
        hyperparameters, env, agent, components.clipped(noise), own_warm_up=True
    )


def paper_batch_norm(hyperparameters: DDPGHyperparameters, env: Environment) -> Components:
    """Compose the paper's DDPG with batch normalisation of state, mu and Q before the action."""
    batch_norm = ddpg_jax.networks.BatchNorm
    return paper(hyperparameters, env, norm=batch_norm, input_norm=batch_norm)


PAPER = DDPGHyperparameters(
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


@dataclass(frozen=True, kw_only=True)
class ParameterNoiseHyperparameters(Hyperparameters):
    """The hyper-parameters of DDPG with parameter noise."""

    layer_norm: bool = True
    stddev: float = option(
        0.2,
        "Distance between the actions of the perturbed policy and of the policy.",
        **EXPLORATION,
    )


def parameter_noise(hyperparameters: ParameterNoiseHyperparameters, env: Environment) -> Components:
    """Compose DDPG that follows a perturbed policy in each episode."""
    agent = make_agent(
        hyperparameters,
        components.actor(hyperparameters, env),
        components.critic(hyperparameters, env),
    )
    return components.assemble(
        hyperparameters,
        env,
        agent,
        lambda agent: ddpg_jax.behaviour.parameter_noise(agent, env, stddev=hyperparameters.stddev),
    )


def lecture(hyperparameters: DDPGHyperparameters, env: Environment) -> Components:
    """Compose the PyTorch lecture's DDPG, with its deviations from the paper.

    A linear actor whose action is the torque in N m, stored as it is and clipped only by the
    environment; the action joins the critic at its first layer; all layers start at fan-in; the
    time limit counts as terminal; the noise never resets.
    """
    if hyperparameters.inverting_gradients:
        raise ValueError(
            "inverting_gradients=True: the lecture's actions are unbounded; leave it False."
        )
    linear = components.actor(hyperparameters, env, output=lambda x: x, final_bound=None)
    agent = make_agent(
        hyperparameters, linear, components.critic(hyperparameters, env, final_bound=None)
    )
    noise = ddpg_jax.noise.ornstein_uhlenbeck(hyperparameters.stddev, reset_at_episode_start=False)
    return components.assemble(
        hyperparameters,
        env,
        agent,
        lambda agent: ddpg_jax.behaviour.explore(agent, noise),
        own_warm_up=True,
    )


def in_torques(env: Environment) -> Environment:
    """Wrap an environment: actions are torques in N m, and the time limit terminates."""
    from ddpg_jax.envs.pendulum import MAX_TORQUE

    def step(state: PyTree, action: Array, key: Array) -> tuple[PyTree, TimeStep]:
        state, time_step = env.step(state, action / MAX_TORQUE, key)
        done = time_step.terminated | time_step.truncated
        return state, replace(time_step, terminated=done, truncated=done & False)

    return env._replace(
        step=step, native_action=lambda action: env.native_action(action / MAX_TORQUE)
    )


PRESETS = (
    Preset(
        name="default",
        summary="DDPG with the sizes that are in use today.",
        source="""
            Fujimoto et al. 2018, section 6.1, and the authors' OurDDPG.py: 256x256 ReLU, Q([s, a]),
            N(0, 0.1), tau 0.005, gamma 0.99, batch 256, Adam 3e-4, replay 1e6, 1e6 steps.
        """,
        ours="""
            1,000 random steps (25,000 there); final layers start in U[-3e-3, 3e-3] (at fan-in
            there).
        """,
        hyperparameters=DDPGHyperparameters(),
        compose=compose,
    ),
    Preset(
        name="paper",
        summary="""
            Lillicrap et al. 2015, section 7, low-dimensional observations, without batch
            normalisation.
        """,
        source="""
            Lillicrap et al. 2015 (arXiv:1509.02971), section 7 and Algorithm 1: 400-300, Adam 1e-4
            and 1e-3, L2 1e-2 on Q, gamma 0.99, tau 0.001, batch 64, replay 1e6, Ornstein-Uhlenbeck
            0.15 and 0.2, final layers from U[-3e-3, 3e-3] and the others at fan-in, at most 2.5e6
            steps. The paper states no dt (1 here) and no warm-up (updates start with the first full
            batch).
        """,
        hyperparameters=PAPER,
        compose=paper,
        exact=True,
    ),
    Preset(
        name="paper-batch-norm",
        summary="""
            Lillicrap et al. 2015, section 7, low-dimensional observations, with the paper's batch
            normalisation.
        """,
        source="""
            Lillicrap et al. 2015 (arXiv:1509.02971), section 3: batch normalisation of the state,
            of all layers of mu and of the layers of Q before the action; all else as preset
            'paper'. Momentum is 0.99 (the paper states none); mu's hidden layers are normalised,
            before their non-linearity, its output is not.
        """,
        hyperparameters=PAPER,
        compose=paper_batch_norm,
        exact=True,
    ),
    Preset(
        name="parameter-noise",
        summary="DDPG that explores in parameter space.",
        source="""
            Plappert et al. 2018 (arXiv:1706.01905), section 3 and appendix C: adaptive parameter
            noise, delta 0.2, alpha 1.01, layer normalisation in both networks; every 50 updates,
            gamma 0.99, replay 1e6 and final layers from U[-3e-3, 3e-3] as in OpenAI's baselines;
            1e6 steps.
        """,
        ours="""
            as preset 'default' 256x256, Adam 3e-4, tau 0.005, batch 256, an update a step after
            1,000 random ones (baselines: 1e-4 and 1e-3, 0.01, 64, one in two steps, L2 1e-2 on Q,
            observations normalised).
        """,
        hyperparameters=ParameterNoiseHyperparameters(),
        compose=parameter_noise,
    ),
    Preset(
        name="pendulum-lecture",
        summary="The PyTorch lecture on Pendulum, with its deviations from the paper.",
        source="""
            A lecture's DDPG in PyTorch: 2x64 ReLU, Adam 1e-3 both, tau 0.001, batch 64, buffer
            10,000, Ornstein-Uhlenbeck 0.15 and 0.2 (in N m, dt 1) that never resets, linear actor,
            action unclipped, time limit terminal, gamma 0.99, 1,000 episodes after the first full
            batch.
        """,
        ours="""
            all episodes are played (there it ends once the mean of the last 100 returns is above
            -300).
        """,
        hyperparameters=DDPGHyperparameters(
            total_timesteps=200_064,
            learning_starts=64,
            batch_size=64,
            replay_capacity=10_000,
            hidden=(64, 64),
            tau=0.001,
            actor_learning_rate=1e-3,
            critic_learning_rate=1e-3,
            stddev=0.2,
        ),
        compose=lecture,
        exact=True,
        only_for="pendulum",
        around=in_torques,
    ),
)
