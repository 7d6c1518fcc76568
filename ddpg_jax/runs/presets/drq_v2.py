"""From images: DrQ-v2, and the DDPG paper's networks."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ddpg_jax
from ddpg_jax.runs.options.field import option
from ddpg_jax.runs.options.hyperparameters import (
    COUNT,
    EXPLORATION,
    MAX_LAYERS,
    MAX_WIDTH,
    SMOOTHING,
    WIDTH,
    Hyperparameters,
)
from ddpg_jax.runs.options.preset import Components, Preset
from ddpg_jax.runs.presets import components, ddpg

if TYPE_CHECKING:
    from ddpg_jax.environment import Environment
    from ddpg_jax.types import Agent, Array, Noise

PAPER_BOUND = 3e-4


EPISODE: dict[str, Any] = {
    "help": "Steps of an episode, at least on average: so many frames does the replay hold.",
    "group": "replay",
    "unit": "steps",
    **COUNT,
}


@dataclass(frozen=True, kw_only=True)
class PaperPixelsHyperparameters(ddpg.DDPGHyperparameters):
    """The hyper-parameters of the paper's DDPG on images."""

    episode_steps: int = option(20, **EPISODE)


@dataclass(frozen=True, kw_only=True)
class DrQHyperparameters(Hyperparameters):
    """The hyper-parameters of DrQ-v2."""

    num_envs: int = 2
    channels: int = option(32, "Channels of each layer of the encoder.", "images", **WIDTH)
    layers: int = option(
        4, "Convolutions of the encoder, the first of stride 2.", "images", low=1, high=MAX_LAYERS
    )
    stride: int = option(
        1, "Stride of all convolutions after the first.", "images", low=1, high=MAX_LAYERS
    )
    trunk: int = option(
        50,
        "Width of the linear layer after the encoder, one for the actor and one for the critics.",
        "images",
        "units",
        **WIDTH,
    )
    shift: int = option(
        4,
        "Largest random shift of an image; 0 does not shift.",
        "images",
        "pixels",
        low=0,
        high=MAX_WIDTH,
    )
    stddev: float = option(
        0.1, "Standard deviation of the exploration noise at its end.", **EXPLORATION
    )
    stddev_start: float = option(
        1.0, "Standard deviation of the exploration noise at its start.", **EXPLORATION
    )
    stddev_steps: int = option(
        500_000,
        "Environment steps over which the noise falls linearly to its end.",
        "exploration",
        "steps",
        **COUNT,
    )
    episode_steps: int = option(20, **EPISODE)
    target_noise_clip: float = option(
        0.3, "Bound of the noise of target policy smoothing.", **SMOOTHING
    )

    # The noise falls by the steps of all shards.
    split = (*Hyperparameters.split, "stddev_steps")


def drq_v2(hyperparameters: DrQHyperparameters, env: Environment) -> Components:
    """Compose DrQ-v2: one encoder that the critics train, random shifts, falling noise.

    The standard deviation falls alike in exploration and in target policy smoothing.
    """
    networks, dtype = ddpg_jax.networks, components.dtype(hyperparameters)
    convolutions = functools.partial(
        networks.drq_v2_encoder,
        hyperparameters.channels,
        hyperparameters.layers,
        hyperparameters.stride,
        dtype,
    )
    encoder, trunk = networks.Features(convolutions), networks.Trunk(hyperparameters.trunk, dtype)
    actor = networks.WithEncoder(
        trunk, components.actor_head(hyperparameters, env, final_bound=None)
    )
    critic = components.critic_head(hyperparameters, final_bound=None)
    critics = networks.WithEncoder(trunk, networks.VmappedHead(critic))

    env_steps = hyperparameters.num_envs / hyperparameters.updates_per_step
    agent = ddpg_jax.agents.scheduled(
        lambda step: ddpg_jax.agents.drq_v2(
            encoder,
            actor,
            critics,
            **components.learning_options(hyperparameters),
            target_noise=_stddev(hyperparameters, step, env_steps),
            target_noise_clip=hyperparameters.target_noise_clip,
        )
    )
    if hyperparameters.shift:
        agent = ddpg_jax.agents.augment(agent, pad=hyperparameters.shift)
    falling = ddpg_jax.noise.gaussian(
        lambda step: _stddev(hyperparameters, step, hyperparameters.num_envs)
    )
    return _assemble(hyperparameters, env, agent, falling)


def _stddev(hyperparameters: DrQHyperparameters, step: Array, env_steps: float) -> Array:
    """Return the standard deviation after ``step`` times ``env_steps`` environment steps."""
    import jax.numpy as jnp

    share = jnp.minimum(step.astype(jnp.float32) * (env_steps / hyperparameters.stddev_steps), 1.0)
    return (
        hyperparameters.stddev_start
        + (hyperparameters.stddev - hyperparameters.stddev_start) * share
    )


def paper(hyperparameters: PaperPixelsHyperparameters, env: Environment) -> Components:
    """Compose the paper's DDPG on images, with separate encoders of actor and critic."""
    networks = ddpg_jax.networks
    encoder = functools.partial(networks.Conv, dtype=components.dtype(hyperparameters))
    seen = lambda head: networks.WithEncoder(networks.Features(encoder), head)
    agent = ddpg.make_agent(
        hyperparameters,
        seen(components.actor_head(hyperparameters, env, final_bound=PAPER_BOUND)),
        seen(components.critic_head(hyperparameters, final_bound=PAPER_BOUND)),
    )
    noise = ddpg_jax.noise.ornstein_uhlenbeck(hyperparameters.stddev)
    return _assemble(hyperparameters, env, agent, noise, own_warm_up=True)


def _assemble(
    hyperparameters: DrQHyperparameters | PaperPixelsHyperparameters,
    env: Environment,
    agent: Agent,
    noise: Noise,
    **options: Any,
) -> Components:
    components.require_image_defaults(
        hyperparameters,
        scaled="images are scaled by the networks that take them",
        stored="images are stored as bytes",
    )
    storage = functools.partial(
        ddpg_jax.replay.frames,
        stack=env.stacked,
        num_envs=env.num_envs,
        n_step=hyperparameters.n_step,
        episode_steps=hyperparameters.episode_steps,
    )
    return components.assemble(
        hyperparameters, env, agent, components.clipped(noise), storage=storage, **options
    )


PRESETS = (
    Preset(
        name="drq-v2",
        summary="""
            DrQ-v2, from images: DDPG with twin critics, random shifts, and an encoder that the
            critics train.
        """,
        source="""
            Yarats et al. 2021 (arXiv:2107.09645) and facebookresearch/drqv2, medium tasks: four 3x3
            convolutions of 32 channels, trunks of 50, 1,024x1,024, batch 256, 3-step returns, gamma
            0.99, tau 0.01, Adam 1e-4, N(0, 1 to 0.1 over 500,000 steps) clipped at 0.3 in targets,
            2,000 random steps, an update every second step, replay 1e6, shifts by 4 pixels, 1.55e6
            steps. Three frames of 84x84 and actions that last two steps are options of the
            environment.
        """,
        ours="""
            two environments side by side, an update at each of their steps; dense layers start at
            fan-in (not orthogonal); no noise in the actor's loss (there as in the target); layer
            normalisation's epsilon is 1e-6 (1e-5 there); the noise falls from the first update on
            (from the first step there); n-step returns end with the episode (its last starts are
            left out there).
        """,
        hyperparameters=DrQHyperparameters(
            total_timesteps=1_550_000,
            learning_starts=2_000,
            hidden=(1024, 1024),
            n_step=3,
            tau=0.01,
            actor_learning_rate=1e-4,
            critic_learning_rate=1e-4,
        ),
        compose=drq_v2,
        images=True,
        shown={"image_size": 84, "frame_stack": 3, "action_repeat": 2},
        of_task=lambda task: task.from_pixels,
    ),
    Preset(
        name="paper-pixels",
        summary="Lillicrap et al. 2015, section 7, from images.",
        source="""
            Lillicrap et al. 2015 (arXiv:1509.02971), section 7: three convolutions of 32 filters
            without pooling, 200-200, actions at the dense layers, final layers from U[-3e-4, 3e-4],
            batch 16, Adam 1e-4 and 1e-3, L2 1e-2 on Q, gamma 0.99, tau 0.001, replay 1e6,
            Ornstein-Uhlenbeck 0.15 and 0.2, at most 2.5e6 steps. The paper states no kernels nor
            strides (3x3 of stride 2 here), no dt (1) and no batch normalisation from pixels (none).
            Its three 64x64 frames of an action that lasts three steps are options of the
            environment.
        """,
        hyperparameters=PaperPixelsHyperparameters(
            **vars(ddpg.PAPER) | {"learning_starts": 16, "batch_size": 16, "hidden": (200, 200)}
        ),
        compose=paper,
        exact=True,
        images=True,
        shown={
            "image_size": 64,
            "frame_stack": 3,
            "frames_per_action": 3,
            "action_repeat": 3,
        },
        of_task=lambda task: task.from_pixels,
    ),
)
