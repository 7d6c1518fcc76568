"""TD3 with categorical critics on large batches from many environments, by the hyper-parameters of FastTD3 where tasks have none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import ddpg_jax
from ddpg_jax.runs.options.hyperparameters import LONGEST_DELAY, MOST_ATOMS, Hyperparameters
from ddpg_jax.runs.options.preset import Parts, Preset
from ddpg_jax.runs.presets import components

if TYPE_CHECKING:
    from ddpg_jax.types import Environment


@dataclass(frozen=True, kw_only=True)
class TD3CategoricalHyperparameters(Hyperparameters):
    """The hyper-parameters of TD3 with categorical critics."""

    stddev_low: float = 0.001
    stddev_high: float = 0.4
    """Each environment draws its noise's stddev anew in each episode, between these."""
    policy_delay: int = 2
    target_noise: float = 0.001
    target_noise_clip: float = 0.5
    v_min: float = -10.0
    v_max: float = 10.0
    num_atoms: int = 101

    @property
    def batches_per_update(self) -> int:
        """One for each critic step."""
        return self.policy_delay

    def check(self) -> None:
        """As in `Hyperparameters.check`."""
        from ddpg_jax import checks

        super().check()
        checks.between(1, LONGEST_DELAY, policy_delay=self.policy_delay)
        checks.between(2, MOST_ATOMS, num_atoms=self.num_atoms)


def compose(
    hyperparameters: TD3CategoricalHyperparameters,
    env: Environment,
    *,
    actor_bound: float | None = 3e-3,
    critic_bound: float | None = 3e-3,
) -> Parts:
    """TD3 on distributions, Gaussian noise of a spread drawn per episode; bounds: of how the networks' final layers start."""
    agent = ddpg_jax.agents.td3_categorical(
        components.actor(hyperparameters, env, final_bound=actor_bound),
        components.critic(hyperparameters, env, num_atoms=hyperparameters.num_atoms, final_bound=critic_bound),
        v_min=hyperparameters.v_min,
        v_max=hyperparameters.v_max,
        gamma=hyperparameters.gamma,
        tau=hyperparameters.tau,
        actor_learning_rate=components.actor_rate(hyperparameters),
        critic_learning_rate=components.critic_rate(hyperparameters),
        critic_weight_decay=hyperparameters.critic_weight_decay,
        target_noise=hyperparameters.target_noise,
        target_noise_clip=hyperparameters.target_noise_clip,
        policy_delay=hyperparameters.policy_delay,
        optimizer=components.optimizer(hyperparameters),
        axis_name=hyperparameters.axis_name,
    )
    noise = ddpg_jax.noise
    drawn = noise.chain(noise.gaussian_per_episode(hyperparameters.stddev_low, hyperparameters.stddev_high), noise.clip())
    return components.assemble(hyperparameters, agent, lambda agent: ddpg_jax.behaviour.explore(agent, drawn))


NUMBERS = TD3CategoricalHyperparameters(
    total_timesteps=50_000_000,
    num_envs=1_024,
    learning_starts=10 * 1_024,
    updates_per_step=2,
    batch_size=32_768,
    replay_capacity=10 * 1_024 * 1_024,
    hidden=(512, 256, 128),
    critic_hidden=(1_024, 512, 256),
    normalize_observations=True,
    gamma=0.97,
    tau=0.1,
    weight_decay=0.1,
)
"""Of FastTD3 on MuJoCo Playground, but in float32."""

PRESETS = (
    Preset(
        name="td3-categorical",
        summary="TD3 with categorical critics, on large batches from a thousand environments where a task has no hyper-parameters.",
        source=(
            "Seo et al. 2025 (arXiv:2505.22642) and its configuration for MuJoCo Playground: 1,024 environments, batch 32,768, "
            "2 updates per step, delay 2, AdamW 3e-4 with decay 0.1, tau 0.1, gamma 0.97, 101 atoms on +-10, stddev ~ U(0.001, "
            "0.4) per episode, target noise 0.001 clipped at 0.5, actor 512-256-128, critics 1,024-512-256, 10,240 steps of "
            "each environment in the replay, the first update after 10, observations normalised."
        ),
        ours=(
            "final layers start in U[-3e-3, 3e-3] (the actor's from N(0, 0.01), the critics' at fan-in there); float32 "
            "(bfloat16 there); 5e7 steps."
        ),
        hyperparameters=NUMBERS,
        compose=compose,
        scaled_down={
            "num_envs": 1,
            "learning_starts": 1_000,
            "updates_per_step": 1,
            "critic_hidden": (),
            "gamma": 0.99,
            "tau": 0.005,
            "weight_decay": 0.0,
        },
    ),
)
