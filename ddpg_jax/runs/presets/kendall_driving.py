"""Learning to drive in a day: DDPG on an autoencoder's latents of the camera and on vectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ddpg_jax
from ddpg_jax.runs.options.field import option
from ddpg_jax.runs.options.hyperparameters import COUNT, MAX_LAYERS, WIDTH
from ddpg_jax.runs.options.preset import Components, Preset
from ddpg_jax.runs.presets import components, ddpg

if TYPE_CHECKING:
    from collections.abc import Callable

    from ddpg_jax.environment import Environment
    from ddpg_jax.networks import VAE
    from ddpg_jax.types import AgentState, Array, PyTree

SLOT = "autoencoder"
NUM_SHOWN = 12
"""Number of images in a picture of reconstructions."""
IMAGE_SPACING = 43
"""Distance of shown images, so that each is of another environment."""


@dataclass(frozen=True, kw_only=True)
class DriveHyperparameters(ddpg.DDPGHyperparameters):
    """The hyper-parameters of DDPG on an autoencoder's latents."""

    theta: float = option(
        0.6,
        "Rate at which Ornstein-Uhlenbeck noise returns to zero.",
        "exploration",
        "per step",
        low=0,
    )
    stddev_half_life: int = option(
        1_000_000, "Environment steps in which the noise halves.", "exploration", "steps", **COUNT
    )
    latent_size: int = option(64, "Size of the autoencoder's latent.", "autoencoder", **WIDTH)
    channels: int = option(16, "Channels of each layer of the autoencoder.", "autoencoder", **WIDTH)
    layers: int = option(
        3,
        "Convolutions of the autoencoder, each of stride 2.",
        "autoencoder",
        low=1,
        high=MAX_LAYERS,
    )
    beta: float = option(
        0.1, "Weight of the divergence in the autoencoder's loss.", "autoencoder", low=0
    )
    images: int = option(
        8_192,
        "Images of random episodes that the autoencoder is fitted to before the run.",
        "autoencoder",
        **WIDTH,
    )
    images_every: int = option(
        4,
        "Steps of an environment from one of these images to the next.",
        "autoencoder",
        "steps",
        **COUNT,
    )
    image_updates: int = option(
        100, "Updates of the autoencoder.", "autoencoder", "updates", **COUNT
    )
    image_batch: int = option(
        64, "Images of one update of the autoencoder.", "autoencoder", **WIDTH
    )
    image_learning_rate: float = option(
        3e-4, "Learning rate of the autoencoder.", "autoencoder", low=0
    )

    # The noise falls by the steps of all shards.
    split = (*ddpg.DDPGHyperparameters.split, "stddev_half_life")


def compose(hyperparameters: DriveHyperparameters, env: Environment) -> Components:
    """Compose DDPG on latents, with Ornstein-Uhlenbeck noise of falling standard deviation."""
    import jax

    from ddpg_jax.environment import HostEnvironment

    components.require_image_defaults(
        hyperparameters,
        scaled="the autoencoder's latents have a spread near N(0, 1)",
        stored="latents are stored as they are",
    )
    if isinstance(env, HostEnvironment):
        raise ValueError(
            "preset drive first plays random episodes, which requires an environment on the device."
        )
    made = autoencoder(hyperparameters, env)
    agent = ddpg.make_agent(
        hyperparameters,
        components.actor_head(hyperparameters, env),
        components.critic_head(hyperparameters),
    )
    encode = lambda params, images: made.encode(params, images)[0]
    seen = random_images(env, hyperparameters.images, hyperparameters.images_every)

    def fit(key: Array) -> PyTree:
        play_key, fit_key = jax.random.split(key)
        return ddpg_jax.networks.fit_vae(
            made,
            seen(play_key),
            fit_key,
            updates=hyperparameters.image_updates,
            batch_size=hyperparameters.image_batch,
            learning_rate=hyperparameters.image_learning_rate,
        )[0]

    agent = ddpg_jax.agents.encode_observations(agent, encode, fit, slot=SLOT)
    falling = lambda step: (
        hyperparameters.stddev
        * 0.5
        ** (step.astype("float32") * (hyperparameters.num_envs / hyperparameters.stddev_half_life))
    )
    noise = ddpg_jax.noise.ornstein_uhlenbeck(falling, theta=hyperparameters.theta)
    return components.assemble(hyperparameters, env, agent, components.clipped(noise))


def autoencoder(hyperparameters: DriveHyperparameters, env: Environment) -> VAE:
    """Return an autoencoder of the only image of an observation.

    Raises:
        ValueError: there is not exactly one image, it is not square, or its size cannot be halved
            ``layers`` times.
    """
    import jax

    from ddpg_jax import checks

    shapes = [x.shape for x in jax.tree.leaves(env.observation) if checks.is_image(x)]
    if len(shapes) != 1 or shapes[0][0] != shapes[0][1]:
        raise ValueError(
            f"preset drive requires one square image, but the observation has {shapes or 'none'}."
        )
    size, _, depth = shapes[0]
    return ddpg_jax.networks.vae(
        size,
        depth=depth,
        latent_size=hyperparameters.latent_size,
        channels=hyperparameters.channels,
        layers=hyperparameters.layers,
        beta=hyperparameters.beta,
    )


def random_images(env: Environment, count: int, every: int = 1) -> Callable[[Array], Array]:
    """Return ``images(key)``: about ``count`` images ``[N, H, W, C]`` of random episodes.

    They are of each environment's ``every``-th step.
    """
    import jax

    from ddpg_jax import checks

    behaviour = ddpg_jax.behaviour.random_actions()
    nobody: Any = None
    collect = ddpg_jax.rollout.collect(env, behaviour)

    def step(collector: Any, key: Array) -> tuple[Any, None]:
        return collect(collector, nobody, *jax.random.split(key))[0], None

    def look(collector: Any, keys: Array) -> tuple[Any, Array]:
        collector, _ = jax.lax.scan(step, collector, keys)
        return collector, next(filter(checks.is_image, jax.tree.leaves(collector.observation)))

    def seen(key: Array) -> Array:
        begin_key, key = jax.random.split(key)
        keys = jax.random.split(key, (-(-count // env.num_envs), every))
        found = jax.lax.scan(look, ddpg_jax.rollout.begin(env, behaviour, begin_key), keys)[1]
        return found.reshape(-1, *found.shape[2:])

    return seen


def reconstructions(
    hyperparameters: DriveHyperparameters, env: Environment, state: AgentState, key: Array
) -> dict[str, Any]:
    """Return images of new random episodes, and below each its reconstruction."""
    import jax
    import jax.numpy as jnp

    made = autoencoder(hyperparameters, env)
    seen = random_images(env, NUM_SHOWN * IMAGE_SPACING)

    def drawn(params: PyTree, key: Array) -> Array:
        found = seen(key)[::IMAGE_SPACING][:NUM_SHOWN]
        again = jnp.clip(made.decode(params, made.encode(params, found)[0]), 0.0, 1.0)
        rows = jnp.stack([found.astype(jnp.float32) / 255, again])
        return jnp.moveaxis(rows, 1, 2).reshape(2 * made.size, NUM_SHOWN * made.size, -1)

    return {"reconstructions": jax.jit(drawn)(state.slots[SLOT], key)}


PRESETS = (
    Preset(
        name="drive",
        summary="""
            Learning to drive in a day: DDPG on an autoencoder's latents of the camera, and on speed
            and steering.
        """,
        source="""
            Kendall et al. 2018 (arXiv:1807.00412), sections III-C and IV-A: an autoencoder of four
            convolutions of stride 2 and 16 channels, trained on five random episodes, prioritised
            replay, gamma 0.9, Ornstein-Uhlenbeck 0.6 and 0.4 with a half-life of 250 episodes,
            batch 64, gradients clipped at 0.005, 250 updates after each episode. It states no
            learning rates, no size of images and latents, and no exponents of the replay.
        """,
        ours="""
            64 cars side by side, each on a road and in colours of its own (one car on one road
            there), four updates from 256 transitions at each of their steps; 3-step returns, gamma
            0.95; 128x128 (8 there), inverted gradients at the actions' bounds (Hausknecht and Stone
            2016); Adam 3e-4 and 1e-3, which fall to zero over the run; a replay of all 326,400
            steps, priorities to the power of 0.6, beta 1 after 20,000 updates; the noise halves in
            120,000 steps of all cars. The autoencoder has three convolutions, latents of 64 and
            beta 0.1, starts as the best linear one, and has 100 updates (Adam 3e-4) from 64 of
            8,192 images, every fourth of random episodes.
        """,
        hyperparameters=DriveHyperparameters(
            total_timesteps=326_400,
            num_envs=64,
            learning_starts=6_400,
            updates_per_step=4,
            batch_size=256,
            replay_capacity=326_400,
            hidden=(128, 128),
            inverting_gradients=True,
            gamma=0.95,
            n_step=3,
            actor_learning_rate=3e-4,
            critic_learning_rate=1e-3,
            anneal=True,
            max_grad_norm=0.005,
            priority_exponent=0.6,
            importance_updates=20_000,
            stddev=0.4,
            stddev_half_life=120_000,
        ),
        compose=compose,
        images=True,
        of_task=lambda task: {},
        pictures=reconstructions,
    ),
)
