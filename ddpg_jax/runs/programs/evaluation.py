"""Evaluations of a run: their keys, their episodes and their returns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from ddpg_jax import compiling, envs, host, rollout
from ddpg_jax.environment import Environment
from ddpg_jax.runs.distributed import arrays
from ddpg_jax.runs.options.validation import Diverged
from ddpg_jax.runs.programs import memory
from ddpg_jax.runs.programs.setup import (
    close_after,
    environment,
    member_hyperparameters,
    member_keys,
)

if TYPE_CHECKING:
    import contextlib
    from collections.abc import Callable

    from ddpg_jax.environment import HostEnvironment
    from ddpg_jax.population import Programs
    from ddpg_jax.runs.config.run_config import Config
    from ddpg_jax.types import Agent, AgentState

# Streams of evaluation keys, folded into a member's seed.
TRAINING_STREAM, FINAL_STREAM, LATER_STREAM = 0x7E570, 0x7E571, 0x7E572
# The stream of resets of host environments.
HOST_RESET_STREAM = 0x7E573


def host_seed(key: jax.Array) -> int:
    """Return a seed for environments on the host, from all bits of a key."""
    return int.from_bytes(np.asarray(jax.random.key_data(key)).tobytes(), "little")


def make_evaluator(
    config: Config,
    agent: Agent,
    episodes: int,
    opened: contextlib.ExitStack,
    copies: int | None = None,
) -> Callable[[AgentState, jax.Array], Any]:
    """Return ``evaluate(agent_state, keys) -> returns`` of deterministic episodes of each member.

    A host environment is open until ``opened`` is left; it has so many ``copies``, by default one
    for each episode, and with `RunOptions.shared_environment` as many as in training.
    """
    if config.shared_environment:
        copies = config.hyperparameters.num_envs
    env = environment(config, copies if copies and envs.on_host(config.env) else episodes)
    close_after(opened, env)
    if isinstance(env, Environment):
        one = memory.tree_bytes(jax.eval_shape(env.reset, jax.random.key(0)))
        memory.require_memory(
            [
                memory.MemoryPart(
                    "environments of the evaluation",
                    config.seeds * one,
                    "--episodes or --evaluation-episodes",
                )
            ]
        )
        evaluate = rollout.make_evaluate(agent, env)
        return compiling.jit(
            jax.vmap(evaluate) if config.seeds > 1 else evaluate, compiling.ONE_OFF_OPTIONS
        )
    return play_on_host(agent, env, episodes)


def play_on_host(
    agent: Agent,
    env: HostEnvironment,
    episodes: int,
    stopped: Callable[[], bool] = lambda: False,
) -> Callable[[AgentState, jax.Array], np.ndarray]:
    """Return ``evaluate(agent_state, key) -> [episodes]``, as many at once as there are copies.

    ``stopped`` is polled in each step (`ddpg_jax.host.make_evaluate`).
    """
    play, rounds = host.make_evaluate(agent, env, stopped=stopped), -(-episodes // env.num_envs)

    def evaluate(agent_state: AgentState, key: jax.Array) -> np.ndarray:
        seed = host_seed(key)
        parts = [play(agent_state, seed + index) for index in range(rounds)]
        return np.concatenate(parts)[:episodes]

    return evaluate


def evaluation_keys(config: Config, stream: int, number: int) -> jax.Array:
    """Return the keys of evaluation ``number`` of a ``stream``; training never uses them."""

    def derive(key: jax.Array) -> jax.Array:
        return jax.random.fold_in(jax.random.fold_in(key, stream), number % 2**32)

    return (jax.vmap(derive) if config.seeds > 1 else derive)(member_keys(config))


def require_finite_returns(returns: np.ndarray, config: Config) -> np.ndarray:
    """Return an evaluation's returns; where members differ, diverged ones may be NaN.

    Raises:
        Diverged: a return is NaN, and members do not differ.
    """
    if np.isnan(returns).any() and not config.vary:
        raise Diverged(
            "a return of an evaluation is NaN: the simulation diverged, also in repeated episodes. "
            "Check the environment; the checkpoints are intact."
        )
    return returns


def first_episodes(config: Config, returns: Any) -> np.ndarray:
    """Return ``[seeds, evaluation_episodes]`` of the returns; shards may have played more."""
    return arrays.to_host(returns).reshape(config.seeds, -1)[:, : config.evaluation_episodes]


def final_returns(config: Config, programs: Programs, agent_state: AgentState) -> np.ndarray:
    """Return ``[seeds, final_episodes]`` returns of deterministic episodes that were not played
    before.
    """
    rounds = -(-config.final_episodes // config.evaluation_episodes)
    hyperparameters = member_hyperparameters(config)
    parts = [
        first_episodes(
            config,
            programs.evaluate(
                agent_state, evaluation_keys(config, FINAL_STREAM, index), hyperparameters
            ),
        )
        for index in range(rounds)
    ]
    return require_finite_returns(
        np.concatenate(parts, axis=1)[:, : config.final_episodes].astype(np.float64), config
    )
