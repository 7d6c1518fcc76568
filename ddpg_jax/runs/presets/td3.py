"""TD3: the sizes of its authors' code, and the paper."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from typing import Any

import ddpg_jax
from ddpg_jax.runs.options.field import option
from ddpg_jax.runs.options.hyperparameters import EXPLORATION, MAX_DELAY, SMOOTHING, Hyperparameters
from ddpg_jax.runs.options.preset import Components, Preset
from ddpg_jax.runs.presets import components


@dataclass(frozen=True, kw_only=True)
class DelayedHyperparameters(Hyperparameters):
    """The hyper-parameters of a policy delay and of target policy smoothing."""

    policy_delay: int = option(
        2, "Critic updates per actor update.", "targets", "updates", low=1, high=MAX_DELAY
    )
    target_noise: float = option(0.2, "Standard deviation of target policy smoothing.", **SMOOTHING)
    target_noise_clip: float = option(
        0.5, "Bound of the noise of target policy smoothing.", **SMOOTHING
    )

    @property
    def batches_per_update(self) -> int:
        """One for each critic step."""
        return self.policy_delay


@dataclass(frozen=True, kw_only=True)
class TD3Hyperparameters(DelayedHyperparameters):
    """The hyper-parameters of TD3."""

    stddev: float = option(0.1, "Standard deviation of the exploration noise.", **EXPLORATION)


def compose(
    hyperparameters: TD3Hyperparameters, env: ddpg_jax.environment.Environment, **start: Any
) -> Components:
    """Compose TD3 with clipped Gaussian noise."""
    agent = ddpg_jax.agents.td3(
        components.actor(hyperparameters, env, **start),
        components.critic(hyperparameters, env, **start),
        **components.learning_options(hyperparameters),
        target_noise=hyperparameters.target_noise,
        target_noise_clip=hyperparameters.target_noise_clip,
        policy_delay=hyperparameters.policy_delay,
    )
    noise = ddpg_jax.noise.gaussian(hyperparameters.stddev)
    return components.assemble(hyperparameters, env, agent, components.clipped(noise))


def random_steps(env: str) -> dict[str, Any]:
    """Return 10,000 steps of random actions on HalfCheetah and Ant; 1,000 elsewhere."""
    long = re.fullmatch(r"(.*[/:])?(halfcheetah|ant)(-v\d+)?", env.lower())
    return {"learning_starts": 10_000} if long else {}


PRESETS = (
    Preset(
        name="td3",
        summary="TD3 with the sizes of its authors' code.",
        source="""
            Fujimoto et al. 2018 (arXiv:1802.09477), section 6.1 and the authors' TD3.py: 256x256,
            batch 256, Adam 3e-4, tau 0.005, gamma 0.99, N(0, 0.1), target noise 0.2 clipped at 0.5,
            delay 2, replay 1e6, 1e6 steps.
        """,
        ours="""
            1,000 random steps (25,000 there); final layers start in U[-3e-3, 3e-3] (at fan-in
            there).
        """,
        hyperparameters=TD3Hyperparameters(),
        compose=compose,
    ),
    Preset(
        name="td3-paper",
        summary="Fujimoto et al. 2018, section 6.1.",
        source="""
            Fujimoto et al. 2018 (arXiv:1802.09477), section 6.1: 400-300, Q([s, a]), Adam 1e-3,
            batch 100, tau 0.005, delay 2, target noise 0.2 clipped at 0.5, N(0, 0.1), the whole
            history of 1e6 steps in the replay, 10,000 random steps on HalfCheetah and Ant and 1,000
            elsewhere. All layers start at fan-in, as in the authors' code; gamma 0.99 is from there
            too.
        """,
        hyperparameters=TD3Hyperparameters(
            batch_size=100, hidden=(400, 300), actor_learning_rate=1e-3, critic_learning_rate=1e-3
        ),
        compose=functools.partial(compose, final_bound=None),  # as the other layers
        exact=True,
        published_for=random_steps,
    ),
)
