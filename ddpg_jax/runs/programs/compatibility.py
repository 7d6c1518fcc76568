"""Checks that a configuration is compatible with its environment."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from ddpg_jax import checks, envs
from ddpg_jax.environment import Environment, HostEnvironment
from ddpg_jax.runs.options.validation import RunError
from ddpg_jax.runs.presets import PRESETS, components

if TYPE_CHECKING:
    from ddpg_jax.runs.config.run_config import Config
    from ddpg_jax.types import PyTree
MOST_ON_HOST = 10_000
"""Copies of a host environment: each is a Python object with its own simulator."""


def require_host_copies(name: str, num_envs: int) -> None:
    """Refuse more copies of an environment than the host can make.

    Raises:
        ValueError: ``num_envs`` is too large.
    """
    if envs.on_host(name):
        checks.between(1, MOST_ON_HOST, **{"environments on the host": num_envs})


def require_compatible(config: Config, env: Environment | HostEnvironment) -> None:
    """Refuse an environment whose observations or actions the preset's networks cannot take.

    Raises:
        RunError: an observation is neither a vector nor a dict of vectors, nor, where the preset
            takes images, an image alone or in a dict with vectors; or an action has no element.
    """
    shape, name = tuple(env.action.shape), config.env
    if config.preset.images:
        _require_images(config, env)
    else:
        _require_vector(name, env, _looked_at(config.hyperparameters, env.observation))
    if len(shape) != 1 or 0 in shape:
        raise RunError(
            f"{name} takes actions of shape {shape}, but the presets require a vector of at least "
            "one element."
        )


def describe_streams(config: Config, observation: PyTree) -> str:
    """Return a sentence on streams of a dict that are joined, or that no network sees; or ""."""
    if config.preset.images or not isinstance(observation, dict):
        return ""
    seen, of_critic = components.streams(config.hyperparameters, observation).values()
    unseen = sorted(observation.keys() - {*seen, *of_critic})
    joined = f"Actor and critic see {', '.join(seen)}, joined in this order. "
    left_out = f"Neither actor nor critic sees {', '.join(unseen)}."
    return (joined * (len(seen) > 1) + left_out * bool(unseen)).rstrip()


def _looked_at(hyperparameters: Any, observation: PyTree) -> PyTree:
    """Return the streams of an actor and a critic, where an observation has all; or all of it."""
    if not isinstance(observation, dict):
        return observation
    names = {*itertools.chain(*components.streams(hyperparameters, observation).values())}
    if not names <= observation.keys():
        return observation
    return {name: part for name, part in observation.items() if name in names}


def _require_vector(name: str, env: Environment | HostEnvironment, observation: PyTree) -> None:
    if any(map(_is_image, jax.tree.leaves(observation))):
        takes = " or ".join(name for name, preset in PRESETS.items() if preset.images)
        raise RunError(
            f"{name} shows {_described(observation)}, an image: choose a preset of images, "
            f"--preset {takes}."
        )
    streams = list(observation.values()) if isinstance(observation, dict) else [observation]
    if not streams or not all(
        isinstance(x, jax.ShapeDtypeStruct) and len(x.shape) == 1 and 0 not in x.shape
        for x in streams
    ):
        remedy = (
            "wrap it by gymnasium.wrappers.FlattenObservation"
            if isinstance(env, HostEnvironment)
            else "turn it into one by ddpg_jax.envs.map_observation"
        )
        raise RunError(
            f"{name} shows {_described(observation)}, but the presets' networks take one vector "
            f"of numbers (a Box of one dimension), or a dict of some: {remedy}, or compose "
            "networks of your own in Python (README)."
        )


def _require_images(config: Config, env: Environment | HostEnvironment) -> None:
    preset, name = config.preset, config.env
    leaves = jax.tree.leaves(env.observation)
    images = [x for x in leaves if _is_image(x)]
    vectors = [x for x in leaves if len(x.shape) == 1 and x.shape[0] and x.dtype != np.uint8]
    if not images or len(images) + len(vectors) < len(leaves):
        raise RunError(
            f"{name} shows {_described(env.observation)}, but the networks of preset "
            f"{preset.name} take images (uint8, height, width, channels), and vectors beside them "
            "in a dict: show pixels by --pixels, or choose another preset."
        )
    first = [x.shape for x in images if checks.channels_first(x)]
    if first and "channels_first" not in config.env_options:
        raise RunError(
            f"{name} shows an image of shape {first[0]}, which looks like {first[0][0]} channels "
            "before height and width: give --channels-first to turn it into [height, width, "
            f"channels], or --no-channels-first if it has {first[0][0]} rows."
        )


def _is_image(observation: Any) -> bool:
    return (
        checks.is_image(observation) and len(observation.shape) == 3 and 0 not in observation.shape
    )


def _described(observation: PyTree) -> str:
    if isinstance(observation, dict):
        named = (f"{name} {getattr(x, 'shape', '')}".strip() for name, x in observation.items())
        return f"a dict of {', '.join(named) or 'nothing'}"
    if not isinstance(observation, jax.ShapeDtypeStruct):
        return f"a {type(observation).__name__}"
    return (
        f"an observation of shape {observation.shape}"
        if observation.shape
        else "a scalar (shape ())"
    )
