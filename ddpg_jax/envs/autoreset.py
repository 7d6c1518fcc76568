"""Autoreset: from one environment to ``num_envs``, where the ends of episodes are put
right, once.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from ddpg_jax import checks
from ddpg_jax.environment import (
    BatchRecipe,
    Environment,
    Renderer,
    Reset,
    ResetResult,
    SingleEnvironment,
    StepResult,
    TimeStep,
    unit_action,
)
from ddpg_jax.types import Key, PyTree, strong

STARTED, STEPPED = "(state, observation)", "(state, observation, reward, terminated)"
"""What the functions of a `SingleEnvironment` return."""


@struct.dataclass
class BatchState:
    """``state``, ``steps`` (of the running episode): leading axis ``E``. ``pool``: the next start
    of each environment.
    """

    state: PyTree
    steps: Array
    pool: PyTree
    cursor: Array


def batch(
    single: SingleEnvironment,
    num_envs: int,
    time_limit: int,
    *,
    fresh_per_step: int | None = None,
    native_action: Callable[[Array], Array] = unit_action,
    renderer: Renderer | None = None,
) -> Environment:
    """``num_envs`` copies that reset themselves.

    An episode that ends takes its next start from a pool with one start per environment. Each step
    draws ``fresh_per_step`` new starts into the pool, and which environment takes which start is
    shuffled by a random rotation, so no environment sees one start again and again, and
    environments that end together start apart. A start may recur while it is in the pool, for
    ``num_envs / fresh_per_step`` steps.

    Args:
        single: the environment.
        num_envs: E, at least 1.
        time_limit: steps after which an episode is truncated (never terminated), at least 1.
        fresh_per_step: starts drawn in each step, 1 to ``num_envs``; None draws all (right where a
            reset is cheap).
        native_action, renderer: see `ddpg_jax.environment.Environment`.

    Raises:
        ValueError: a number is out of its range.
    """
    fresh = num_envs if fresh_per_step is None else fresh_per_step
    checks.whole(1, num_envs=num_envs, time_limit=time_limit)
    checks.whole(1, num_envs, fresh_per_step=fresh)
    # Whole slices of the pool.
    fresh = next(n for n in range(fresh, num_envs + 1) if num_envs % n == 0)
    reset, draw = _starts(single, num_envs, fresh)

    def step(env_state: BatchState, action: Array, key: Key) -> StepResult:
        step_key, start_key = jax.random.split(key)
        keys = jax.random.split(step_key, num_envs)
        stepped = _stepped(single, env_state.state, action, keys)
        state, next_observation, reward, terminated = stepped
        steps = env_state.steps + 1
        pool, start, cursor = draw(env_state, start_key)
        _require_alike(single, "observation", next_observation, start[1])
        terminated, truncated = terminated.astype(bool), steps >= time_limit
        if single.truncated is not None:
            truncated = truncated | jax.vmap(single.truncated)(state)
        truncated, valid = truncated & ~terminated, None
        if single.valid is not None:  # nothing that is not finite leaves here
            valid = jax.vmap(single.valid)(state, next_observation, reward)
            terminated, truncated = terminated & valid, truncated | ~valid
            next_observation = select(valid, next_observation, start[1])
            reward = jnp.where(valid, reward, 0.0)
        done = terminated | truncated
        state, observation = select(done, start, (state, next_observation))
        new = BatchState(state, jnp.where(done, 0, steps), pool, cursor)
        reward = reward.astype(jnp.float32)
        return new, TimeStep(observation, reward, terminated, truncated, next_observation, valid)

    seen = lambda key: _single_precision(
        _returned("reset", single.reset, single.reset(key), STARTED)[1]
    )
    another = functools.partial(
        batch, num_envs=num_envs, fresh_per_step=fresh_per_step, native_action=native_action
    )
    return Environment(
        reset,
        step,
        num_envs,
        observation=jax.eval_shape(seen, jax.random.key(0)),
        action=jax.ShapeDtypeStruct((single.action_size,), jnp.float32),
        time_limit=time_limit,
        breaks=single.valid is not None,
        native_action=native_action,
        single=single,
        single_state=lambda env_state: env_state.state,
        renderer=renderer or Renderer(),
        recipe=BatchRecipe(another, step),
        goal=single.goal,
    )


def _stepped(single: SingleEnvironment, state: PyTree, action: Array, keys: Array) -> Any:
    """What each environment's step returned, of the dtypes that are kept.

    Raises:
        ValueError: it is not four values, the state is not as that of ``reset``, or the reward is
            no number.
    """
    found = _returned("step", single.step, jax.vmap(single.step)(state, action, keys), STEPPED)
    following, observation, reward, terminated = found
    _require_alike(single, "state", following, state)
    if reward.dtype == bool:
        raise ValueError(
            f"the reward of step{checks.place_of(single.step)} is a bool where {STEPPED} is meant."
        )
    return following, _single_precision(observation), reward, terminated


def _returned(what: str, function: Callable[..., Any], found: Any, meant: str) -> Any:
    """What ``reset`` or ``step`` returned, of the dtypes that are kept.

    Raises:
        ValueError: it is not as many values as ``meant`` has.
    """
    if not isinstance(found, tuple) or len(found) != meant.count(",") + 1:
        given = "one array" if isinstance(found, Array) else type(found).__name__
        given = f"{len(found)} values" if isinstance(found, tuple) else given
        place = checks.place_of(function)
        raise ValueError(f"{what}{place} returned {given} where {meant} is meant.")
    return strong(found)


def _require_alike(single: SingleEnvironment, what: str, given: PyTree, wanted: PyTree) -> None:
    """Refuse what a step returned where its structure, shapes or dtypes are not those of reset."""
    found, known = (
        ", ".join(
            f"{jax.tree_util.keystr(path)} {x.dtype}{list(x.shape[1:])}".lstrip()
            for path, x in jax.tree_util.tree_leaves_with_path(tree)
        )
        for tree in (given, wanted)
    )
    if found != known:
        raise ValueError(
            f"the {what} of step{checks.place_of(single.step)} is {found} where that of reset "
            f"is {known}: they must be alike."
        )


def _starts(
    single: SingleEnvironment, num_envs: int, fresh: int
) -> tuple[Reset, Callable[[BatchState, Key], Any]]:
    """Where episodes begin: ``reset(key)``, and ``draw(env_state, key)``, which returns the new
    pool, a start ``(state, observation)`` for each, and the cursor.
    """

    def begin(key: Key, count: int) -> ResetResult:
        found = jax.vmap(single.reset)(jax.random.split(key, count))
        state, observation = _returned("reset", single.reset, found, STARTED)
        return state, _single_precision(observation)

    def reset(key: Key) -> ResetResult:
        if fresh == num_envs:  # every step draws a whole new pool: none is carried
            (state, observation), pool = begin(key, num_envs), ()
        else:  # one draw, so that the simulator's reset is compiled once
            both = begin(key, 2 * num_envs)
            state, observation = jax.tree.map(lambda x: x[:num_envs], both)
            pool = jax.tree.map(lambda x: x[num_envs:], both)
        steps = jnp.zeros((num_envs,), jnp.int32)
        return BatchState(state, steps, pool, jnp.int32(0)), observation

    def draw(env_state: BatchState, key: Key) -> tuple[PyTree, PyTree, Array]:
        if fresh == num_envs:
            return (), begin(key, num_envs), env_state.cursor
        draw_key, rotation_key = jax.random.split(key)
        drawn = begin(draw_key, fresh)
        write = lambda pool, new: jax.lax.dynamic_update_slice_in_dim(
            pool, new, env_state.cursor, axis=0
        )
        pool = jax.tree.map(write, env_state.pool, drawn)
        rotation = jax.random.randint(rotation_key, (), 0, num_envs, jnp.int32)
        rows = (jnp.arange(num_envs, dtype=jnp.int32) + rotation) % num_envs
        return pool, jax.tree.map(lambda x: x[rows], pool), (env_state.cursor + fresh) % num_envs

    return reset, draw


def _single_precision(observation: PyTree) -> PyTree:
    """What agents see, in float32 also where JAX computes in 64 bits (``JAX_ENABLE_X64``)."""
    return jax.tree.map(
        lambda x: x.astype(jnp.float32) if x.dtype == jnp.float64 else x, observation
    )


def select(condition: Array, new: Any, old: Any) -> Any:
    """``where`` on every leaf of two pytrees with leading axis ``E``; ``condition: [E]``."""
    return jax.tree.map(
        lambda a, b: jnp.where(condition.reshape(-1, *[1] * (a.ndim - 1)), a, b), new, old
    )
