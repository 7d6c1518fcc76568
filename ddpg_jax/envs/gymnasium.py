"""Gymnasium's vector environments, stepped on the host: the same contract as on the device, in NumPy."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ddpg_jax import checks
from ddpg_jax.envs import quiet
from ddpg_jax.types import HostEnvironment, HostStep

PREFIX = "gymnasium/"


def make(name: str, num_envs: int, *, time_limit: int | None = None, **options: Any) -> HostEnvironment:
    """``num_envs`` copies of a registered environment, in one process.

    Args:
        name: an id such as ``HalfCheetah-v5``, or ``module:id`` to import the module that registers it first.
        num_envs: E, at least 1.
        time_limit: steps after which an episode is truncated; None is the registered one.
        **options: handed to ``gymnasium.make_vec``, for the environment's constructor.

    Raises:
        ValueError: an unknown id (the nearest known one is named), or spaces that do not fit (see `vector`).
        ImportError: what the environment needs is not installed.
    """
    import gymnasium
    from gymnasium.vector import AutoresetMode

    checks.between(1, float("inf"), num_envs=num_envs, **({} if time_limit is None else {"time_limit": time_limit}))
    limit: dict[str, Any] = {} if time_limit is None else {"max_episode_steps": time_limit}
    try:
        with quiet.quiet():
            env = gymnasium.make_vec(
                name,
                num_envs,
                vectorization_mode="sync",
                vector_kwargs={"autoreset_mode": AutoresetMode.SAME_STEP},
                **limit,
                **options,
            )
    except (gymnasium.error.DependencyNotInstalled, ModuleNotFoundError) as error:
        raise ImportError(
            f"{name} needs more than Gymnasium itself ({error}); install: pip install 'gymnasium[mujoco]'"
        ) from error
    except gymnasium.error.UnregisteredEnv as error:
        where = "Gymnasium's ids are in gymnasium.registry."
        raise checks.nearest("environment", name, gymnasium.registry, where, PREFIX) from error
    except TypeError as error:
        raise ValueError(f"{PREFIX}{name} does not take these options: {error}.") from error
    return vector(env, time_limit or (env.spec.max_episode_steps if env.spec else None))


def film(
    name: str, act: Callable[[Any], np.ndarray], steps: int | None, seed: int, **options: Any
) -> tuple[list[np.ndarray], float]:
    """Play one episode, or ``steps`` steps, of ``act(observation [1, ...]) -> [1, A]``; frames ``[H, W, 3]``, and their rate.

    Raises:
        ValueError: the environment draws no pictures.
    """
    env = make(name, 1, render_mode="rgb_array", **options)
    try:
        observation, frames = env.reset(seed), [env.draw()]
        while len(frames) <= (steps or env.time_limit or 1_000):
            now = env.step(np.asarray(act(observation)))
            observation = now.observation
            if (now.terminated | now.truncated)[0] and steps is None:
                break
            frames.append(env.draw())
    finally:
        env.close()
    drawn = [frame for frame in frames if frame is not None]
    if not drawn:
        raise ValueError(f"{PREFIX}{name} draws no pictures.")
    return drawn, env.fps


def vector(env: Any, time_limit: int | None = None) -> HostEnvironment:
    """Any ``gymnasium.vector.VectorEnv`` in same-step or next-step autoreset mode.

    Actions are scaled per dimension from [-1, 1] to the bounds of the action space, and clipped there.

    Args:
        env: the vector environment; it is closed by ``close``.
        time_limit: for information; what truncates is the environment itself.

    Raises:
        ValueError: the action space is not a bounded, one-dimensional Box, an observation space is of a kind that has
            no array, or the autoreset mode is disabled.
    """
    from gymnasium.vector import AutoresetMode

    mode = AutoresetMode(env.metadata.get("autoreset_mode", AutoresetMode.NEXT_STEP))
    if mode is AutoresetMode.DISABLED:
        raise ValueError("this vector environment does not reset itself: make it with AutoresetMode.SAME_STEP or NEXT_STEP.")
    low, high = _bounds(env.single_action_space)
    same_step, count = mode is AutoresetMode.SAME_STEP, env.num_envs
    begins = np.zeros(count, bool)  # next-step: which environments ignore the next action
    scale = functools.partial(_scale, ((high - low) / 2, (high + low) / 2))

    def reset(seed: int) -> Any:
        begins[:] = False
        return _cast(env.reset(seed=seed)[0])

    def step(action: np.ndarray) -> HostStep:
        # An actor that became NaN is for the training loop to report; a simulator may not survive it.
        scaled = scale(np, np.nan_to_num(action).astype(np.float64)).astype(env.single_action_space.dtype)
        raw, reward, terminated, truncated, info = env.step(scaled)
        valid = ~begins
        observation = _cast(raw)
        done = (terminated | truncated) & valid
        following = observation
        if same_step:
            ended = info.get("_final_obs", np.zeros(count, bool))
            following = _with_final(observation, info["final_obs"], ended) if ended.any() else observation
        else:
            begins[:] = done
        return HostStep(
            observation, reward.astype(np.float32), terminated & valid, (truncated & ~terminated) & valid, following, valid
        )

    return HostEnvironment(
        reset,
        step,
        env.close,
        count,
        observation=_shape(env.single_observation_space),
        action=jax.ShapeDtypeStruct(low.shape, np.dtype(np.float32)),
        time_limit=time_limit,
        same_step=same_step,
        native_action=functools.partial(scale, jnp),
        draw=lambda: (env.render() or (None,))[0] if env.render_mode else None,
        fps=float(env.metadata.get("render_fps") or 30),
    )


def _scale(parts: tuple[np.ndarray, np.ndarray], xp: Any, action: Any) -> Any:
    """From [-1, 1] to half a range around its middle, in NumPy or JAX."""
    half, middle = (xp.broadcast_to(xp.asarray(part, action.dtype), action.shape) for part in parts)
    return xp.clip(action, -1.0, 1.0) * half + middle


def _bounds(space: Any) -> tuple[np.ndarray, np.ndarray]:
    from gymnasium.spaces import Box

    if not isinstance(space, Box):
        raise ValueError(
            f"the action space is {space}, but a deterministic policy gradient needs continuous actions: choose an environment "
            "whose action space is a Box."
        )
    if len(space.shape) != 1:
        raise ValueError(f"the action space has shape {space.shape}: flatten it to one dimension by a Gymnasium wrapper.")
    low, high = space.low.astype(np.float64), space.high.astype(np.float64)
    if not np.all(np.isfinite(low) & np.isfinite(high)):
        raise ValueError(
            f"the action space {space} has no bounds to scale to: wrap it by gymnasium.wrappers.RescaleAction or ClipAction."
        )
    return low, high


def _shape(space: Any) -> Any:
    from gymnasium import spaces

    if isinstance(space, spaces.Dict):
        return {name: _shape(part) for name, part in space.items()}
    if isinstance(space, spaces.Box | spaces.MultiBinary | spaces.Discrete | spaces.MultiDiscrete):
        return jax.ShapeDtypeStruct(space.shape, _dtype(space.dtype))
    raise ValueError(
        f"the observation space {space} is no Box and no Dict of them: flatten it by gymnasium.wrappers.FlattenObservation."
    )


def _dtype(dtype: Any) -> np.dtype:
    dtype = np.dtype(dtype)
    return np.dtype({8: {"f": "float32", "i": "int32"}}.get(dtype.itemsize, {}).get(dtype.kind, dtype))


def _cast(observation: Any) -> Any:
    """A copy (Gymnasium may write the next observation into the same array), float64 as float32."""
    return jax.tree.map(lambda x: np.array(x, _dtype(np.asarray(x).dtype)), observation)


def _with_final(observation: Any, final: np.ndarray, ended: np.ndarray) -> Any:
    """The observations, those of environments that ended replaced by the last of the old episode."""
    following = jax.tree.map(np.copy, observation)
    for index in np.flatnonzero(ended):
        jax.tree.map(lambda rows, last, index=index: rows.__setitem__(index, last), following, final[index])
    return following
