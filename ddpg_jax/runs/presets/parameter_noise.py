"""DDPG that explores in parameter space."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import ddpg_jax
from ddpg_jax.runs.options.hyperparameters import Hyperparameters
from ddpg_jax.runs.options.preset import Parts, Preset
from ddpg_jax.runs.presets import components, ddpg

if TYPE_CHECKING:
    from ddpg_jax.types import Environment


@dataclass(frozen=True, kw_only=True)
class ParameterNoiseHyperparameters(Hyperparameters):
    """The hyper-parameters of DDPG with parameter noise."""

    layer_norm: bool = True
    stddev: float = 0.2
    """By how much the perturbed policy's actions shall differ, in units of the normalised action range."""


def compose(hyperparameters: ParameterNoiseHyperparameters, env: Environment) -> Parts:
    """DDPG that follows a perturbed policy in each episode."""
    agent = ddpg.make(hyperparameters, components.actor(hyperparameters, env), components.critic(hyperparameters, env))
    return components.assemble(
        hyperparameters, agent, lambda agent: ddpg_jax.behaviour.parameter_noise(agent, env, stddev=hyperparameters.stddev)
    )


PRESETS = (
    Preset(
        name="parameter-noise",
        summary="DDPG that explores in parameter space.",
        source=(
            "Plappert et al. 2018 (arXiv:1706.01905), section 3 and appendix C: adaptive parameter noise, delta 0.2, alpha "
            "1.01, layer normalisation in both networks; every 50 updates, gamma 0.99, replay 1e6 and final layers from "
            "U[-3e-3, 3e-3] as in OpenAI's baselines; 1e6 steps."
        ),
        ours=(
            "as preset 'default' 256x256, Adam 3e-4, tau 0.005, batch 256, an update a step after 1,000 random ones "
            "(baselines: 1e-4 and 1e-3, 0.01, 64, one in two steps, L2 1e-2 on Q, observations normalised)."
        ),
        hyperparameters=ParameterNoiseHyperparameters(),
        compose=compose,
    ),
)
