"""Wrappers ``Environment -> Environment``. Normalising observations by what was seen is not one of
them: those statistics belong to the agent (`ddpg_jax.agents.normalize_observations`), so that
evaluation and export use the same.
"""

import functools
from collections.abc import Callable
from dataclasses import replace

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from ddpg_jax import checks
from ddpg_jax.environment import Environment, Goal, ResetResult, StepResult, TimeStep
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
    checks.whole(1, times=times)

    def step(state: PyTree, action: Array, key: Key) -> StepResult:
        def once(carry: StepResult, key: Key) -> tuple[StepResult, None]:
            state, before = carry
            ended = before.terminated | before.truncated
            new_state, now = env.step(state, action, key)
            still = lambda old, new: (
                select(ended, old, new) if new.shape[:1] == (env.num_envs,) else new
            )
            kept = jax.tree.map(still, state, new_state)
            both = select(ended, before, now)
            reward = before.reward + jnp.where(ended, 0.0, now.reward)
            return (kept, replace(both, reward=reward)), None

        keys = jax.random.split(key, times)
        return jax.lax.scan(once, env.step(state, action, keys[0]), keys[1:])[0]

    return env._replace(
        step=step,
        time_limit=-(-env.time_limit // times),
        renderer=env.renderer._replace(fps=env.renderer.fps / times),
        goal=env.goal if times == 1 else None,
    )


def frame_stack(env: Environment, count: int) -> Environment:
    """Show the last ``count`` observations, oldest first, joined along their last axis:
    ``[..., C]`` to ``[..., count * C]``.

    An episode begins with its first observation ``count`` times.

    Raises:
        ValueError: ``count`` is less than 1, or an observation has no axis.

    Source: Mnih et al. 2015; Lillicrap et al. 2015, section 4.
    """
    checks.whole(1, count=count)
    if any(not x.shape for x in jax.tree.leaves(env.observation)):
        raise ValueError(
            "frame_stack joins observations along their last axis, but one of them is a "
            "scalar: map_observation first."
        )
    repeat = lambda x: jnp.concatenate([x] * count, axis=-1)
    push = lambda old, new: jnp.concatenate([old[..., new.shape[-1] :], new], axis=-1)
    begin = functools.partial(jax.tree.map, repeat)

    def after(frames: PyTree, now: TimeStep) -> StepResult:
        following = jax.tree.map(push, frames, now.next_observation)
        frames = select(now.terminated | now.truncated, begin(now.observation), following)
        return frames, replace(now, observation=frames, next_observation=following)

    shape = jax.eval_shape(begin, env.observation)
    wrapped = _remembering(env, lambda observation: (begin(observation),) * 2, after, shape)
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

    def with_time(observation: Array, steps: Array) -> Array:
        remaining = 1.0 - steps.astype(observation.dtype) / env.time_limit
        return jnp.concatenate([observation, remaining[..., None]], axis=-1)

    def begin(observation: Array) -> ResetResult:
        steps = jnp.zeros((env.num_envs,), jnp.int32)
        return steps, with_time(observation, steps)

    def after(steps: Array, now: TimeStep) -> StepResult:
        steps = steps + 1
        begun = jnp.where(now.terminated | now.truncated, 0, steps)
        shown, following = with_time(now.observation, begun), with_time(now.next_observation, steps)
        return begun, replace(now, observation=shown, next_observation=following)

    shape = jax.ShapeDtypeStruct((env.observation.shape[0] + 1,), env.observation.dtype)
    return _remembering(env, begin, after, shape)


def scale_reward(env: Environment, scale: float | Array) -> Environment:
    """Multiply rewards, in evaluation too; `ddpg_jax.agents.scale_rewards` leaves what is reported
    alone.
    """
    scaled = _showing(env, lambda now: replace(now, reward=now.reward * scale))
    if (goal := env.goal) is None:
        return scaled
    reward = lambda *goals: goal.reward(*goals) * scale
    return scaled._replace(goal=Goal(reward, goal.success, goal.ends))


def map_observation(env: Environment, function: Callable[[PyTree], PyTree]) -> Environment:
    """Show ``function(observation)``, of one observation without batch axis: choose or join parts
    of a dict, scale pixels.
    """
    each = jax.vmap(function)

    def reset(key: Key) -> ResetResult:
        state, observation = env.reset(key)
        return state, each(observation)

    change = lambda now: replace(
        now, observation=each(now.observation), next_observation=each(now.next_observation)
    )
    shape = jax.eval_shape(function, env.observation)
    return _showing(env, change)._replace(reset=reset, observation=shape)


def _showing(env: Environment, change: Callable[[TimeStep], TimeStep]) -> Environment:
    """With ``change(time_step)`` instead of each."""

    def step(state: PyTree, action: Array, key: Key) -> StepResult:
        state, now = env.step(state, action, key)
        return state, change(now)

    return env._replace(step=step)


def _remembering(
    env: Environment,
    begin: Callable[[PyTree], ResetResult],
    after: Callable[[PyTree, TimeStep], StepResult],
    shape: PyTree,
) -> Environment:
    """With a memory of its own: ``begin(observation)`` and ``after(memory, time_step)`` return it,
    and what is shown instead.
    """

    def reset(key: Key) -> ResetResult:
        state, observation = env.reset(key)
        extra, shown = begin(observation)
        return WrappedState(state, extra), shown

    def step(state: WrappedState, action: Array, key: Key) -> StepResult:
        inner, now = env.step(state.env, action, key)
        extra, shown = after(state.extra, now)
        return WrappedState(inner, extra), shown

    inside = lambda state: env.single_state(state.env)
    return env._replace(reset=reset, step=step, observation=shape, single_state=inside)
