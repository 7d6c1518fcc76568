"""The parts of a training round, each for itself, to be timed by `benchmarks.harness`:
environments, replay, update.
"""

import jax
import jax.numpy as jnp

from benchmarks import matmul_bound
from benchmarks.harness import Part, filled, repeated, transitions
from ddpg_jax import learner
from ddpg_jax.environment import Environment
from ddpg_jax.types import Agent, Key, PyTree, Replay, Transition


def stepping(env: Environment) -> Part:
    """One step of all environments by random actions."""

    def step(state: PyTree, key: Key) -> tuple[PyTree, PyTree]:
        action_key, env_key = jax.random.split(key)
        env_state, _ = state
        action = jax.random.uniform(
            action_key, (env.num_envs, *env.action.shape), env.action.dtype, -1.0, 1.0
        )
        env_state, time_step = env.step(env_state, action, env_key)
        return (env_state, time_step.observation), time_step

    return env.reset, step


def kept(agent: Agent, like: Transition) -> Transition:
    """What the agent wants to be stored of a transition, in shapes."""
    stored = lambda key: learner.to_replay(
        agent, agent.init(key, *_example(like)), jax.tree.map(_zeros, like)
    )
    return jax.eval_shape(stored, jax.random.key(0))


def storing(
    replay: Replay, like: Transition, rows: int, num_envs: int, adds: int = 1, samples: int = 1
) -> Part:
    """``adds`` times a row of each environment is stored, then ``samples`` times a batch is drawn,
    and its errors taken back.

    ``rows`` hold data at the start: few of them stay in the caches, a full large ring does not fit.
    Errors only where the replay has priorities.
    """

    def init(key: Key) -> PyTree:
        fill_key, new_key = jax.random.split(key)
        return filled(replay, fill_key, like, rows), transitions(new_key, like, num_envs)

    def draw(state: PyTree, key: Key) -> tuple[PyTree, PyTree]:
        sampled = replay.sample(state, key)
        if replay.update is not None:
            state = replay.update(state, sampled.rows, sampled.batch.reward)
        return state, sampled

    def step(state: PyTree, key: Key) -> tuple[PyTree, PyTree]:
        stored, new = state
        stored, _ = repeated(lambda stored, _: (replay.add(stored, new), ()), adds)(stored, key)
        if replay.update is not None:
            stored, sampled = repeated(draw, samples)(stored, key)
        else:  # it is not written to, and stays out of the carry
            _, sampled = repeated(lambda _, key: ((), draw(stored, key)[1]), samples)((), key)
        return (stored, new), sampled

    return init, step


def updating(agent: Agent, replay: Replay, like: Transition) -> Part:
    """An update from one batch, as ``replay`` hands it out, again and again."""

    def init(key: Key) -> PyTree:
        agent_key, data_key = jax.random.split(key)
        return agent.init(agent_key, *_example(like)), _batch(replay, kept(agent, like), data_key)

    def step(state: PyTree, key: Key) -> tuple[PyTree, PyTree]:
        agent_state, (batch, *weight) = state
        agent_state, _, metrics = agent.update(agent_state, batch, key, *weight)
        return (agent_state, state[1]), metrics

    return init, step


def multiplying(part: Part) -> tuple[Part, int]:
    """The matrix products of a part's step alone, and how many operations they are."""
    init, step = part
    key = jax.random.key(0)
    found = matmul_bound.products(step, jax.eval_shape(init, key), key)
    return matmul_bound.alone(found), matmul_bound.flops(found)


def _zeros(shape: jax.ShapeDtypeStruct) -> jax.Array:
    return jnp.zeros(shape.shape, shape.dtype)


def _example(like: Transition) -> tuple[PyTree, jax.Array]:
    return jax.tree.map(_zeros, (like.observation, like.action))


def _batch(replay: Replay, like: Transition, key: Key) -> tuple:
    """``(batch,)`` of as many transitions as a sample has, or ``(batch, weight)`` where it has
    weights.
    """
    sampled = jax.eval_shape(
        lambda key: replay.sample(replay.init(jax.tree.map(_zeros, like)), key), key
    )
    weighted = replay.update is not None
    size = (sampled.batch if weighted else sampled).reward.shape[0]
    return transitions(key, like, size), *([jnp.ones(size)] if weighted else [])
