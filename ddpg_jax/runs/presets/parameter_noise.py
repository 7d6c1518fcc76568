"""DDPG that explores in parameter space."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import ddpg_jax
from ddpg_jax.runs.presets import ddpg, parts
from ddpg_jax.runs.presets.numbers import Numbers, Parts, Preset

if TYPE_CHECKING:
    from ddpg_jax.types import Environment


@dataclass(frozen=True, kw_only=True)
class ParameterNoiseNumbers(Numbers):
    """The numbers of DDPG with parameter noise."""

    layer_norm: bool = True
    stddev: float = 0.2
    """By how much the perturbed policy's actions shall differ, in units of the normalised action range."""


def compose(numbers: ParameterNoiseNumbers, env: Environment) -> Parts:
    """DDPG that follows a perturbed policy in each episode."""
    agent = ddpg.make(numbers, parts.actor(numbers, env), parts.critic(numbers))
    return parts.assemble(numbers, agent, lambda agent: ddpg_jax.behaviour.parameter_noise(agent, env, stddev=numbers.stddev))


PRESETS = (
    Preset(
        name="parameter-noise",
        summary="DDPG that explores in parameter space.",
        source=(
            "Plappert et al. 2018 (arXiv:1706.01905), section 3 and appendix C: adaptive parameter noise, delta 0.2, alpha "
            "1.01, every 50 steps, layer normalisation in both networks. Ours: sizes, rates and starts as preset 'default'."
        ),
        numbers=ParameterNoiseNumbers(),
        compose=compose,
    ),
)
