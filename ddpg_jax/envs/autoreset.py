"""From one environment to ``num_envs`` with automatic reset: where the ends of episodes are put right, once."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from ddpg_jax import checks
from ddpg_jax.types import Environment, Key, PyTree, TimeStep, strong, unit_action


class Single(NamedTuple):
    """One environment, without batch axis, time limit or reset: what an adapter has to supply."""

    reset: Callable[[Key], tuple[PyTree, PyTree]]
    """``reset(key)``: ``(state, observation)``; a fresh draw from the start distribution."""
    step: Callable[[PyTree, jax.Array, Key], tuple[PyTree, PyTree, jax.Array, jax.Array]]
    """``step(state, action, key)``: ``(state, observation, reward, terminated)`` for ``action: [A]`` in [-1, 1]."""
    action_size: int
    valid: Callable[[PyTree, PyTree, jax.Array], jax.Array] | None = None
    """``valid(state, observation, reward)``: whether the simulation still holds; None where it cannot break down. Where it
    does not, the environment is reset, and the step is no transition (`ddpg_jax.types.TimeStep`)."""


@struct.dataclass
class BatchState:
    """``state``, ``steps`` (of the running episode): leading axis ``E``. ``pool``: the next start of each environment."""

    state: PyTree
    steps: jax.Array
    pool: PyTree
    cursor: jax.Array


def batch(
    single: Single,
    num_envs: int,
    time_limit: int,
    *,
    fresh_per_step: int | None = None,
    draw: Callable[[PyTree], Sequence[Any]] | None = None,
    viewer: Callable[[PyTree], str] | None = None,
    fps: float = 30.0,
    native_action: Callable[[jax.Array], jax.Array] = unit_action,
) -> Environment:
    """``num_envs`` copies that reset themselves.

    An episode that ends takes its next start from a pool with one start per environment. Each step draws ``fresh_per_step`` new
    starts into the pool, and which environment takes which start is shuffled by a random rotation, so no environment sees one
    start again and again, and environments that end together start apart. A start may recur while it is in the pool, for
    ``num_envs / fresh_per_step`` steps.

    Args:
        single: the environment.
        num_envs: E, at least 1.
        time_limit: steps after which an episode is truncated (never terminated), at least 1.
        fresh_per_step: starts drawn in each step, 1 to ``num_envs``; None draws all (right where a reset is cheap).
        draw, viewer: see `ddpg_jax.types.Environment`; they receive the stacked ``state`` of environment 0, ``[T, ...]``.
        fps, native_action: see there.

    Raises:
        ValueError: a number is out of its range.
    """
    fresh = num_envs if fresh_per_step is None else fresh_per_step
    checks.between(1, float("inf"), num_envs=num_envs, time_limit=time_limit)
    checks.between(1, num_envs, fresh_per_step=fresh)
    fresh = next(n for n in range(fresh, num_envs + 1) if num_envs % n == 0)  # whole slices of the pool

    def begin(key: Key, count: int) -> tuple[PyTree, PyTree]:
        return strong(jax.vmap(single.reset)(jax.random.split(key, count)))

    def reset(key: Key) -> tuple[BatchState, PyTree]:
        if fresh == num_envs:  # every step draws a whole new pool: none is carried
            (state, observation), pool = begin(key, num_envs), ()
        else:  # one draw, so that the simulator's reset is compiled once
            both = begin(key, 2 * num_envs)
            state, observation = jax.tree.map(lambda x: x[:num_envs], both)
            pool = jax.tree.map(lambda x: x[num_envs:], both)
        steps = jnp.zeros((num_envs,), jnp.int32)
        return BatchState(state=state, steps=steps, pool=pool, cursor=jnp.zeros((), jnp.int32)), observation

    def starts(env_state: BatchState, key: Key) -> tuple[PyTree, PyTree, jax.Array]:
        if fresh == num_envs:
            return (), begin(key, num_envs), env_state.cursor
        draw_key, rotation_key = jax.random.split(key)
        drawn = begin(draw_key, fresh)
        write = lambda pool, new: jax.lax.dynamic_update_slice_in_dim(pool, new, env_state.cursor, axis=0)
        pool = jax.tree.map(write, env_state.pool, drawn)
        rotation = jax.random.randint(rotation_key, (), 0, num_envs)
        rows = (jnp.arange(num_envs) + rotation) % num_envs
        return pool, jax.tree.map(lambda x: x[rows], pool), (env_state.cursor + fresh) % num_envs

    def step(env_state: BatchState, action: jax.Array, key: Key) -> tuple[BatchState, TimeStep]:
        step_key, start_key = jax.random.split(key)
        keys = jax.random.split(step_key, num_envs)
        stepped = jax.vmap(single.step)(env_state.state, action, keys)
        state, next_observation, reward, terminated = strong(stepped)
        steps = env_state.steps + 1
        pool, (start_state, start_observation), cursor = starts(env_state, start_key)
        terminated, valid = terminated.astype(bool), None
        truncated = (steps >= time_limit) & ~terminated
        if single.valid is not None:  # nothing that is not finite leaves here
            valid = jax.vmap(single.valid)(state, next_observation, reward)
            terminated, truncated = terminated & valid, truncated | ~valid
            next_observation = select(valid, next_observation, start_observation)
            reward = jnp.where(valid, reward, 0.0)
        done = terminated | truncated
        state, observation = select(done, (start_state, start_observation), (state, next_observation))
        new = BatchState(state=state, steps=jnp.where(done, 0, steps), pool=pool, cursor=cursor)
        return new, TimeStep(
            observation=observation,
            reward=reward.astype(jnp.float32),
            terminated=terminated,
            truncated=truncated,
            next_observation=next_observation,
            valid=valid,
        )

    _, observation = jax.eval_shape(single.reset, jax.random.key(0))
    return Environment(
        reset,
        step,
        num_envs,
        observation=jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), observation),
        action=jax.ShapeDtypeStruct((single.action_size,), jnp.float32),
        time_limit=time_limit,
        draw=_of_first(draw),
        viewer=_of_first(viewer),
        fps=fps,
        native_action=native_action,
        breaks=single.valid is not None,
    )


@struct.dataclass
class RandomizedState:
    """``state`` of the environment inside; ``system``: those arrays of its system that this episode has for itself."""

    state: PyTree
    system: list[jax.Array]


def randomized(single: Callable[[PyTree], Single], system: PyTree, randomize: Callable[[PyTree, Key], Any]) -> Single:
    """Domain randomisation: every episode is played with a system (masses, friction, gains) drawn for it.

    Args:
        single: ``single(system)``: the environment with this system.
        system: as it is; a pytree.
        randomize: ``randomize(system, keys [n]) -> (systems, in_axes)``, as Brax and MuJoCo Playground define it: the arrays
            that vary get a leading axis n. (``in_axes`` says which; the axis does too.)

    Source: Tobin et al. 2017 (arXiv:1703.06907); Peng et al. 2018 (arXiv:1710.06537), section IV (drawn per episode).
    """
    leaves, structure = jax.tree.flatten(system)

    def draw(key: Key) -> tuple[list[int], list[jax.Array]]:
        systems, _ = randomize(system, key[None])
        drawn = jax.tree.leaves(systems)
        varied = [index for index, leaf in enumerate(drawn) if jnp.ndim(leaf) > jnp.ndim(leaves[index])]
        return varied, [drawn[index][0] for index in varied]

    varied: list[int] = []
    jax.eval_shape(lambda key: varied.extend(draw(key)[0]), jax.random.key(0))

    def using(own: list[jax.Array]) -> Single:
        new = list(leaves)
        for index, leaf in zip(varied, own, strict=True):
            new[index] = leaf
        return single(jax.tree.unflatten(structure, new))

    def reset(key: Key) -> tuple[RandomizedState, PyTree]:
        system_key, reset_key = jax.random.split(key)
        own = draw(system_key)[1]
        state, observation = using(own).reset(reset_key)
        return RandomizedState(state=state, system=own), observation

    def step(state: RandomizedState, action: jax.Array, key: Key) -> tuple[RandomizedState, PyTree, jax.Array, jax.Array]:
        inner, *rest = using(state.system).step(state.state, action, key)
        return RandomizedState(state=inner, system=state.system), *rest

    plain = single(system)
    holds = plain.valid
    valid = None if holds is None else lambda state, *rest: holds(state.state, *rest)
    return Single(reset, step, plain.action_size, valid)


def _of_first(look: Callable[[PyTree], Any] | None) -> Callable[[BatchState], Any] | None:
    return None if look is None else lambda states: look(jax.tree.map(lambda x: x[:, 0], states.state))


def one_by_one(states: PyTree) -> list[PyTree]:
    """The states ``[T, ...]`` of one environment as simulators draw them: one by one and on the host."""
    states = jax.device_get(states.state if isinstance(states, RandomizedState) else states)
    count = jax.tree.leaves(states)[0].shape[0]
    return [jax.tree.map(lambda x, i=i: x[i], states) for i in range(count)]


def select(condition: jax.Array, new: Any, old: Any) -> Any:
    """``where`` on every leaf of two pytrees with leading axis ``E``; ``condition: [E]``."""
    return jax.tree.map(lambda a, b: jnp.where(condition.reshape((-1,) + (1,) * (a.ndim - 1)), a, b), new, old)
