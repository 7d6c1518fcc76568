"""MuJoCo Playground's environments, with automatic reset of our own; a simulation that breaks down is reset and counted."""

from __future__ import annotations

import copy
import difflib
import functools
import subprocess
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from ddpg_jax.envs import quiet
from ddpg_jax.envs.autoreset import Single, batch, one_by_one, randomized
from ddpg_jax.types import Environment, Key, PyTree

PREFIX = "playground/"


def make(
    name: str,
    num_envs: int,
    *,
    time_limit: int | None = None,
    randomize: Callable[[Any, Key], Any] | None = None,
    **options: Any,
) -> Environment:
    """``num_envs`` copies of an environment of MuJoCo Playground, simulated by MJX in JAX (not Warp).

    Args:
        name: as in ``mujoco_playground.registry.ALL_ENVS`` (without ``playground/``), for example ``CheetahRun``.
        num_envs: E.
        time_limit: steps after which an episode is truncated; None is the environment's ``episode_length``.
        randomize: a domain randomisation function of Playground's kind (``registry.get_domain_randomizer``),
            `autoreset.randomized`.
        **options: overrides of the environment's configuration, for example ``ctrl_dt=0.02``.

    Raises:
        ValueError: an unknown name (the nearest known one is named), or an unknown override.
        ImportError: Playground is not installed.
        OSError: the environment's models are downloaded on first use, and could not be.
    """
    env, config = load(name, options)
    fresh = max(1, num_envs // 16)  # a reset costs about as much as a step
    limit = config.episode_length if time_limit is None else time_limit
    one = single(env) if randomize is None else randomized(lambda model: single(_with(env, model)), env.mjx_model, randomize)
    return batch(one, num_envs, limit, fresh_per_step=fresh, draw=functools.partial(draw, env), fps=1 / env.dt)


def single(env: Any) -> Single:
    """Any ``mujoco_playground`` environment (not one of its wrappers) as a `Single`."""

    def reset(key: Key) -> tuple[PyTree, PyTree]:
        state = env.reset(key)
        return state, state.obs

    def step(state: PyTree, action: jax.Array, key: Key) -> tuple[PyTree, PyTree, jax.Array, jax.Array]:
        state = env.step(state, jnp.clip(action, -1.0, 1.0))
        return state, state.obs, state.reward, state.done > 0

    def valid(state: PyTree, observation: PyTree, reward: jax.Array) -> jax.Array:
        # These environments call it done as well; a policy is not to blame for it, nor to profit.
        watched = (state.data.qpos, state.data.qvel, observation, reward)
        return jnp.all(jnp.stack([jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves(watched)]))

    return Single(reset, step, env.action_size, valid)


def load(name: str, options: dict[str, Any]) -> tuple[Any, Any]:
    """Playground's environment and its configuration; raises as `make`."""
    with quiet.quiet():
        try:
            from mujoco_playground import registry
        except ImportError as error:
            raise ImportError(
                f"MuJoCo Playground could not be imported ({error}); install it with: pip install playground"
            ) from error
        if name not in registry.ALL_ENVS:
            close = difflib.get_close_matches(name, registry.ALL_ENVS, n=1, cutoff=0.3)
            hint = f"did you mean {PREFIX}{close[0]}? " if close else ""
            raise ValueError(
                f"unknown environment {PREFIX}{name}: {hint}Playground's names are in mujoco_playground.registry.ALL_ENVS."
            )
        config = registry.get_default_config(name)
        if unknown := set(options) - set(config):
            raise ValueError(f"{PREFIX}{name} has no option {sorted(unknown)[0]!r}: choose one of {', '.join(sorted(config))}.")
        if "impl" in config:
            config.impl = "jax"
        try:
            return registry.load(name, config=config, config_overrides=options), config
        except (subprocess.CalledProcessError, ValueError, OSError) as error:
            if not isinstance(error, subprocess.CalledProcessError) and "menagerie" not in str(error):
                raise
            raise OSError(
                f"the models of {PREFIX}{name} are downloaded on first use, which failed: try again with a connection, or "
                "choose a task of the DM Control Suite, which needs none."
            ) from error


def _with(env: Any, model: Any) -> Any:
    """A copy of an environment with another model; the attribute is the one that Playground's own randomisation sets."""
    env = copy.copy(env)
    env._mjx_model = model
    return env


def draw(env: Any, states: PyTree) -> list[Any]:
    """Frames ``[H, W, 3]`` of one environment's states ``[T, ...]``, by MuJoCo's renderer, from the model's own camera."""
    camera = 0 if env.mj_model.ncam else None
    return list(env.render(one_by_one(states), height=240, width=320, camera=camera))
