"""TD3 with categorical critics on large batches from many environments: ours, and FastTD3."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass, replace
from typing import Any

import ddpg_jax
from ddpg_jax.runs.options.field import option
from ddpg_jax.runs.options.hyperparameters import EXPLORATION, MAX_ATOMS, SUPPORT
from ddpg_jax.runs.options.preset import Components, Preset
from ddpg_jax.runs.presets import components, td3


@dataclass(frozen=True, kw_only=True)
class TD3CategoricalHyperparameters(td3.DelayedHyperparameters):
    """The hyper-parameters of TD3 with categorical critics."""

    target_noise: float = 0.001
    stddev_low: float = option(
        0.001,
        "Least standard deviation of the noise; each environment draws one per episode.",
        **EXPLORATION,
    )
    stddev_high: float = option(0.4, "Greatest standard deviation of the noise.", **EXPLORATION)
    v_min: float = option(-10.0, "Lower end of the critic's support.", **SUPPORT)
    v_max: float = option(10.0, "Upper end of the critic's support.", **SUPPORT)
    num_atoms: int = option(101, "Atoms of the critic's support.", "targets", low=2, high=MAX_ATOMS)


def compose(
    hyperparameters: TD3CategoricalHyperparameters,
    env: ddpg_jax.environment.Environment,
    *,
    actor_bound: float | None = 3e-3,
    critic_bound: float | None = 3e-3,
) -> Components:
    """Compose TD3 with categorical critics and Gaussian noise of a spread drawn per episode.

    The bounds are those of the initial weights of the final layers.
    """
    agent = ddpg_jax.agents.td3_categorical(
        components.actor(hyperparameters, env, final_bound=actor_bound),
        components.critic(
            hyperparameters, env, num_atoms=hyperparameters.num_atoms, final_bound=critic_bound
        ),
        v_min=hyperparameters.v_min * hyperparameters.reward_scale,
        v_max=hyperparameters.v_max * hyperparameters.reward_scale,
        **components.learning_options(hyperparameters),
        target_noise=hyperparameters.target_noise,
        target_noise_clip=hyperparameters.target_noise_clip,
        policy_delay=hyperparameters.policy_delay,
    )
    noise = ddpg_jax.noise.gaussian_per_episode(
        hyperparameters.stddev_low, hyperparameters.stddev_high
    )
    return components.assemble(hyperparameters, env, agent, components.clipped(noise))


FAST_TD3 = TD3CategoricalHyperparameters(
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
"""FastTD3 on MuJoCo Playground, but in float32."""

ACTOR_BOUND = 0.01 * 3**0.5
"""U[-b, b] has the standard deviation b / sqrt(3)."""
FAST_TD3_BY_TASK = {
    r"playground/CheetahRun": {
        "n_step": 3,
        "stddev_low": 0.1,
        "target_noise": 0.1,
        "v_min": -500.0,
        "v_max": 500.0,
    },
    r"playground/LeapCubeReorient": {
        "n_step": 3,
        "gamma": 0.99,
        "target_noise": 0.2,
        "v_min": -50.0,
        "v_max": 50.0,
    },
    r"playground/LeapCubeRotateZAxis": {"gamma": 0.99, "target_noise": 0.2},
    r"playground/Go1(Joystick\w*|Getup)": {
        "updates_per_step": 8,
        "stddev_low": 0.2,
        "stddev_high": 0.8,
        "target_noise": 0.2,
    },
}
"""Tasks for which FastTD3 has other hyper-parameters."""


def fast_td3_on(env: str) -> dict[str, Any]:
    """Return the hyper-parameters that FastTD3 replaces on this environment."""
    found = (own for name, own in FAST_TD3_BY_TASK.items() if re.fullmatch(name, env))
    return next(found, {})


PRESETS = (
    Preset(
        name="td3-categorical",
        summary="""
            TD3 with categorical critics, on large batches from a thousand environments where a task
            has no hyper-parameters.
        """,
        source="""
            Seo et al. 2025 (arXiv:2505.22642) and its configuration for MuJoCo Playground: 1,024
            environments, batch 32,768, 2 updates per step, delay 2, AdamW 3e-4 with decay 0.1, tau
            0.1, gamma 0.97, 101 atoms on +-10, stddev ~ U(0.001, 0.4) per episode, target noise
            0.001 clipped at 0.5, actor 512-256-128, critics 1,024-512-256, 10,240 steps of each
            environment in the replay, the first update after 10, observations normalised.
        """,
        ours="""
            a target actor chooses the next action (the online actor there), and targets follow once
            an update of the actor (the critics' after each of their steps there); the smaller
            critic's distribution is chosen before it is projected (after, there); the first 10
            steps are random (the policy's there); stored actions are clipped as they were executed;
            final layers start in U[-3e-3, 3e-3] (the actor's from N(0, 0.01), the critics' at
            fan-in there); float32 (bfloat16 there); 5e7 steps.
        """,
        hyperparameters=FAST_TD3,
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
    Preset(
        name="fast-td3",
        summary="""
            FastTD3: TD3 with categorical critics, on large batches from a thousand environments;
            the choice on a GPU.
        """,
        source="""
            Seo et al. 2025 (arXiv:2505.22642) and its configuration for MuJoCo Playground: 1,024
            environments, batch 32,768, 2 updates per step, delay 2, AdamW 3e-4 with decay 0.1, tau
            0.1, gamma 0.97, 101 atoms on +-10, stddev ~ U(0.001, 0.4) per episode, target noise
            0.001 clipped at 0.5, actor 512-256-128, critics 1,024-512-256, 10,240 steps of each
            environment in the replay, the first update after 10, observations normalised, networks
            in bfloat16; CheetahRun: 3-step returns, +-500, stddev from 0.1, target noise 0.1; Go1's
            joystick and Getup: 8 updates per step, stddev ~ U(0.2, 0.8), target noise 0.2;
            LeapCubeReorient: 3-step returns, gamma 0.99, +-50, target noise 0.2;
            LeapCubeRotateZAxis: gamma 0.99, target noise 0.2.
        """,
        ours="""
            a target actor chooses the next action (the online actor there), and targets follow once
            an update of the actor (the critics' after each of their steps there); the smaller
            critic's distribution is chosen before it is projected (after, there), also on LeapCube
            (the mean of both there); the first 10 steps are random (the policy's there); stored
            actions are clipped as they were executed; the actor's final layer starts in U of the
            same spread (N(0, 0.01) and bias 0 there); 5e7 steps.
        """,
        hyperparameters=replace(FAST_TD3, dtype="bfloat16"),
        compose=functools.partial(compose, actor_bound=ACTOR_BOUND, critic_bound=None),
        of_task=lambda task: {},
        published_for=fast_td3_on,
    ),
)
