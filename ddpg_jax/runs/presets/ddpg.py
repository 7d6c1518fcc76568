"""DDPG: today's sizes, the paper with and without batch normalisation, and parameter noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ddpg_jax
from ddpg_jax.runs.options.field import option
from ddpg_jax.runs.options.hyperparameters import EXPLORATION, Hyperparameters
from ddpg_jax.runs.options.preset import Components, Preset
from ddpg_jax.runs.presets import components

if TYPE_CHECKING:
    from ddpg_jax.environment import Environment
    from ddpg_jax.types import Agent, Network


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
    return components.assemble(hyperparameters, agent, components.clipped(noise))


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
    return components.assemble(hyperparameters, agent, components.clipped(noise), own_warm_up=True)


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
        agent,
        lambda agent: ddpg_jax.behaviour.parameter_noise(agent, env, stddev=hyperparameters.stddev),
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
)
