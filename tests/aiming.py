"""An environment with goals that learns in seconds; on the command line ``aiming:aiming``."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ddpg_jax.environment import Environment, Goal, SingleEnvironment
from ddpg_jax.envs import batch


class AimState(NamedTuple):
    """``place`` and ``goal``: ``[2]``, in metres."""

    place: jax.Array
    goal: jax.Array


def aiming(num_envs: int, *, ends: bool = False, time_limit: int = 10) -> Environment:
    """A point that an action moves by up to 0.2 m; its goal is reached within 0.1 m."""

    def shown(state: AimState) -> dict[str, jax.Array]:
        return {
            "observation": state.place * 2.0,
            "achieved_goal": state.place,
            "desired_goal": state.goal,
        }

    def reset(key: jax.Array) -> tuple[AimState, dict[str, jax.Array]]:
        state = AimState(*jax.random.uniform(key, (2, 2), minval=-1.0, maxval=1.0))
        return state, shown(state)

    def success(achieved: jax.Array, desired: jax.Array) -> jax.Array:
        return jnp.sum(jnp.square(achieved - desired)) < 0.1**2

    def reward(achieved: jax.Array, desired: jax.Array) -> jax.Array:
        return success(achieved, desired).astype(jnp.float32) - 1.0

    def step(state: AimState, action: jax.Array, key: jax.Array) -> Any:
        place = jnp.clip(state.place + 0.2 * jnp.clip(action, -1.0, 1.0), -1.0, 1.0)
        state = state._replace(place=place)
        reached = success(place, state.goal)
        return state, shown(state), reward(place, state.goal), reached & ends

    goal = Goal(reward, success, ends=ends, rewards=(-1.0, 0.0))
    single = SingleEnvironment(reset, step, action_size=2, goal=goal)
    return batch(single, num_envs, time_limit)
