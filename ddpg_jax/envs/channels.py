"""Images whose channels are their first axis, turned so that they are the last."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ddpg_jax import checks
from ddpg_jax.environment import Environment, HostEnvironment, HostStep
from ddpg_jax.envs.wrappers import map_observation
from ddpg_jax.types import PyTree, zeros


def channels_last(env: Any) -> Any:
    """Show images ``[C, H, W]`` of an environment, on the device or the host, as ``[H, W, C]``.

    Raises:
        ValueError: it shows no image.
    """
    if not any(map(checks.is_image, jax.tree.leaves(env.observation))):
        raise ValueError("channels_first: the environment shows no image (uint8, three axes).")
    if isinstance(env, Environment):
        return map_observation(env, lambda observation: _turned(jnp, observation))
    return _on_host(env)


def _on_host(env: HostEnvironment) -> HostEnvironment:
    def step(action: np.ndarray) -> HostStep:
        now = env.step(action)
        shown, following = (_turned(np, x) for x in (now.observation, now.next_observation))
        return now._replace(observation=shown, next_observation=following)

    shapes = jax.eval_shape(lambda: _turned(jnp, zeros(env.observation)))
    return env._replace(
        reset=lambda seed: _turned(np, env.reset(seed)), step=step, observation=shapes
    )


def _turned(xp: Any, observation: PyTree) -> PyTree:
    turn = lambda x: xp.moveaxis(x, -3, -1) if checks.is_image(x) else x
    return jax.tree.map(turn, observation)
