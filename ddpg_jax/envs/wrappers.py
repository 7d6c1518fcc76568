"""Wrappers ``Environment -> Environment``. Normalising observations by what was seen is not one of
them: those statistics belong to the agent (`ddpg_jax.agents.normalize_observations`), so that
evaluation and export use the same.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from ddpg_jax import checks
from ddpg_jax.environment import Environment, TimeStep
from ddpg_jax.envs.autoreset import select
from ddpg_jax.types import Key, PyTree


@struct.dataclass
class WrappedState:
    """``env``: the state of the environment inside; ``extra``: what a wrapper remembers, leading
    axis ``E``.
    """

    env: PyTree
    extra: PyTree


def action_repeat(env: Environment, times: int) -> Environment:
    """Take each action ``times`` times, or until the episode ends; the reward is the sum.

    A leaf of the state whose leading axis is E is taken to belong to the environments, and stands
    still once one has ended.

    Args:
        env: any environment; its time limit still counts its own steps.
        times: at least 1.

    Source: Lillicrap et al. 2015, section 4 (3 on pixels).
    """
    checks.between(1, float("inf"), times=times)
    own: Callable[..., Any] = lambda leaf: leaf.ndim > 0 and leaf.shape[0] == env.num_envs

    def step(state: PyTree, action: jax.Array, key: Key) -> tuple[PyTree, TimeStep]:
        def once(carry: tuple[PyTree, TimeStep], key: Key) -> tuple[tuple[PyTree, TimeStep], None]:
            state, before = carry
            ended = before.terminated | before.truncated
            new_state, now = env.step(state, action, key)
            kept = jax.tree.map(
                lambda old, new: select(ended, old, new) if own(new) else new, state, new_state
            )
            both = select(ended, before, now)
            return (
                kept,
                replace(both, reward=before.reward + jnp.where(ended, 0.0, now.reward)),
            ), None

        keys = jax.random.split(key, times)
        return jax.lax.scan(once, env.step(state, action, keys[0]), keys[1:])[0]

    return env._replace(
        step=step,
        time_limit=-(-env.time_limit // times),
        renderer=env.renderer._replace(fps=env.renderer.fps / times),
    )


def frame_stack(env: Environment, count: int) -> Environment:
    """Show the last ``count`` observations, oldest first, joined along their last axis:
    ``[..., C]`` to ``[..., count * C]``.

    An episode begins with its first observation ``count`` times.

    Raises:
        ValueError: ``count`` is less than 1, or an observation has no axis.

    Source: Mnih et al. 2015; Lillicrap et al. 2015, section 4.
    """
    checks.between(1, float("inf"), count=count)
    if any(not x.shape for x in jax.tree.leaves(env.observation)):
        raise ValueError(
            "frame_stack joins observations along their last axis, but one of them is a "
            "scalar: map_observation first."
        )

    def begin(observation: PyTree) -> PyTree:
        return jax.tree.map(lambda x: jnp.concatenate([x] * count, axis=-1), observation)

    def push(frames: PyTree, observation: PyTree) -> PyTree:
        return jax.tree.map(
            lambda old, new: jnp.concatenate([old[..., new.shape[-1] :], new], axis=-1),
            frames,
            observation,
        )

    def reset(key: Key) -> tuple[WrappedState, PyTree]:
        state, observation = env.reset(key)
        frames = begin(observation)
        return WrappedState(env=state, extra=frames), frames

    def step(state: WrappedState, action: jax.Array, key: Key) -> tuple[WrappedState, TimeStep]:
        inner, now = env.step(state.env, action, key)
        following = push(state.extra, now.next_observation)
        frames = select(now.terminated | now.truncated, begin(now.observation), following)
        return WrappedState(env=inner, extra=frames), replace(
            now, observation=frames, next_observation=following
        )

    wrapped = _wrapped(env, reset, step, jax.eval_shape(begin, env.observation))
    return wrapped._replace(stacked=count * env.stacked)


def time_aware(env: Environment) -> Environment:
    """Append to the observation ``[O]`` the share of the episode's time that remains, from 1 to 0:
    ``[O + 1]``.

    Right where the time limit is part of the task; a value function can then know it.

    Raises:
        ValueError: the observation is not one vector.

    Source: Pardo et al. 2018 (arXiv:1712.00378), section 3.
    """
    if not isinstance(env.observation, jax.ShapeDtypeStruct) or len(env.observation.shape) != 1:
        raise ValueError(
            "time_aware needs an observation that is one vector: map_observation first."
        )

    def with_time(observation: jax.Array, steps: jax.Array) -> jax.Array:
        remaining = 1.0 - steps.astype(observation.dtype) / env.time_limit
        return jnp.concatenate([observation, remaining[..., None]], axis=-1)

    def reset(key: Key) -> tuple[WrappedState, PyTree]:
        state, observation = env.reset(key)
        steps = jnp.zeros((env.num_envs,), jnp.int32)
        return WrappedState(env=state, extra=steps), with_time(observation, steps)

    def step(state: WrappedState, action: jax.Array, key: Key) -> tuple[WrappedState, TimeStep]:
        inner, now = env.step(state.env, action, key)
        steps = state.extra + 1
        after = jnp.where(now.terminated | now.truncated, 0, steps)
        shown = replace(
            now,
            observation=with_time(now.observation, after),
            next_observation=with_time(now.next_observation, steps),
        )
        return WrappedState(env=inner, extra=after), shown

    size = env.observation.shape[0] + 1
    return _wrapped(env, reset, step, jax.ShapeDtypeStruct((size,), env.observation.dtype))


def scale_reward(env: Environment, scale: float | jax.Array) -> Environment:
    """Multiply rewards, in evaluation too; `ddpg_jax.agents.scale_rewards` leaves what is reported
    alone.
    """

    def step(state: PyTree, action: jax.Array, key: Key) -> tuple[PyTree, TimeStep]:
        state, now = env.step(state, action, key)
        return state, replace(now, reward=now.reward * scale)

    return env._replace(step=step)


def map_observation(env: Environment, function: Callable[[PyTree], PyTree]) -> Environment:
    """Show ``function(observation)``, of one observation without batch axis: choose or join parts
    of a dict, scale pixels.
    """
    each = jax.vmap(function)

    def reset(key: Key) -> tuple[PyTree, PyTree]:
        state, observation = env.reset(key)
        return state, each(observation)

    def step(state: PyTree, action: jax.Array, key: Key) -> tuple[PyTree, TimeStep]:
        state, now = env.step(state, action, key)
        return state, replace(
            now, observation=each(now.observation), next_observation=each(now.next_observation)
        )

    return env._replace(
        reset=reset, step=step, observation=jax.eval_shape(function, env.observation)
    )


def _wrapped(
    env: Environment, reset: Callable[..., Any], step: Callable[..., Any], observation: Any
) -> Environment:
    inside = lambda state: env.single_state(state.env)
    return env._replace(reset=reset, step=step, observation=observation, single_state=inside)
