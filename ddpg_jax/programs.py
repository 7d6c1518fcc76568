"""A configuration turned into compiled programs."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ddpg_jax import envs, host, rollout, train
from ddpg_jax.config import Config, RunError
from ddpg_jax.types import Agent, AgentState, PyTree, strong

FINAL_EPISODES = 100
# Streams of evaluation keys, folded into a member's seed.
DURING, FINAL, LATER = 0x7E570, 0x7E571, 0x7E572


class Built(NamedTuple):
    """The pure functions of a run; those with a batch of seeds are already mapped over them."""

    agent: Agent
    start: Callable[[jax.Array], train.TrainState]
    chunk: Callable[[train.TrainState], tuple[train.TrainState, train.Report]]
    evaluate: Callable[[AgentState, jax.Array], jax.Array]
    state: PyTree
    """Shapes of the training state."""
    host: host.HostTrain | None = None
    """Only of an environment on the host: ``start`` and ``chunk`` are then loops, not to be jitted."""


def environment(config: Config, num_envs: int) -> Any:
    """The run's environment, with as many copies as asked: an `Environment`, or one on the host."""
    env = envs.make(config.env, num_envs=num_envs, **config.env_options)
    return env if config.preset.adapt is None else config.preset.adapt(env)


def member_keys(config: Config) -> jax.Array:
    """One key, or ``[seeds]`` of them; member i of a run with seed s is the run with seed s + i."""
    if config.seeds == 1:
        return jax.random.key(config.seed)
    return jax.vmap(jax.random.key)(jnp.arange(config.seed, config.seed + config.seeds))


def over_seeds(config: Config, function: Callable) -> Callable:
    """``function``, mapped over the members where there are several."""
    return function if config.seeds == 1 else jax.vmap(function)


def build(config: Config) -> Built:
    """Compose a configuration's functions.

    Raises:
        ValueError: a part refuses its numbers, or the replay does not fit into memory.
    """
    preset = config.preset
    env = environment(config, preset.num_envs)
    parts = preset.compose(preset, env)
    make_train = host.make_train if envs.on_host(config.env) else train.make_train
    trainer = make_train(
        parts.agent,
        env,
        parts.replay,
        parts.behaviour,
        learning_starts=preset.learning_starts,
        updates_per_step=preset.round[0],
        collect_steps=preset.round[1],
        steps_per_chunk=config.steps_per_chunk,
        warm_up=parts.warm_up,
        window=parts.window,
    )
    if isinstance(trainer, host.HostTrain):
        return _build_on_host(config, parts.agent, trainer)
    evaluate = player(config, parts.agent, config.evaluation_episodes)
    start = over_seeds(config, lambda key: trainer.warm_up(trainer.init(key)))
    state = jax.eval_shape(start, member_keys(config))
    _check_memory(config, state.replay)
    return Built(parts.agent, start, over_seeds(config, trainer.chunk), evaluate, state)


def _build_on_host(config: Config, agent: Agent, trainer: host.HostTrain) -> Built:
    if config.seeds > 1:
        raise ValueError(f"seeds={config.seeds}: environments on the host are trained one seed at a time; start several runs.")
    init = jax.jit(lambda key: strong(trainer.init(key)))

    def start(key: jax.Array) -> train.TrainState:
        trainer.begin(config.seed)
        return trainer.warm_up(init(key))

    state = jax.eval_shape(init, member_keys(config))
    _check_memory(config, state.replay)
    return Built(agent, start, trainer.chunk, player(config, agent, config.evaluation_episodes), state, trainer)


def player(config: Config, agent: Agent, episodes: int) -> Callable[[AgentState, jax.Array], Any]:
    """``play(agent_state, keys) -> returns`` of that many deterministic episodes of each member, compiled."""
    env = environment(config, episodes)
    if not envs.on_host(config.env):
        return jax.jit(over_seeds(config, rollout.make_evaluate(agent, env)))
    evaluate = host.make_evaluate(agent, env)
    return lambda agent_state, key: evaluate(agent_state, int(jax.random.bits(key) >> 1))


def _check_memory(config: Config, replay: PyTree) -> None:
    needed = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(replay))
    stats = jax.devices()[0].memory_stats()
    if stats and "bytes_limit" in stats:
        free = stats["bytes_limit"] - stats["bytes_in_use"]
    else:
        free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > 0.9 * free:
        raise ValueError(
            f"the replay needs {needed:,} bytes (replay_capacity={config.preset.replay_capacity:,}, seeds={config.seeds}) "
            f"but the {jax.devices()[0].platform} has {free:,} in all: lower --replay-capacity or --seeds."
        )


class Programs(NamedTuple):
    """The compiled programs of a run."""

    start: Any
    chunk: Any
    evaluate: Any
    seconds: float


def compile_programs(built: Built, config: Config) -> Programs:
    """Compile each program once, side by side; XLA works outside Python's lock."""
    begin = time.perf_counter()
    if built.host is not None:
        built.host.compile()
        return Programs(built.start, built.chunk, built.evaluate, time.perf_counter() - begin)
    keys = member_keys(config)
    with ThreadPoolExecutor() as pool:

        def submit(function: Callable, *args: Any, **options: Any) -> Future:
            return pool.submit(jax.jit(function, **options).lower(*args).compile)

        chunk = submit(built.chunk, built.state, donate_argnums=0)
        start = submit(built.start, keys)
        evaluate = submit(built.evaluate, built.state.agent, keys)
        return Programs(start.result(), chunk.result(), evaluate.result(), time.perf_counter() - begin)


def evaluation_keys(config: Config, stream: int, number: int) -> jax.Array:
    """Keys for evaluation number ``number`` of a ``stream`` (`DURING`, `FINAL` or `LATER`); training never uses them."""

    def derive(key: jax.Array) -> jax.Array:
        return jax.random.fold_in(jax.random.fold_in(key, stream), number % 2**32)

    return over_seeds(config, derive)(member_keys(config))


def held_out(returns: np.ndarray) -> np.ndarray:
    """The returns of an evaluation, all of them numbers.

    Raises:
        RunError: one of them is NaN.
    """
    if np.isnan(returns).any():
        raise RunError(
            "a return of an evaluation is not a number: the simulation broke down, and where such episodes are begun anew it "
            "did so every time. Look at the environment; the checkpoints are intact."
        )
    return returns


def final_returns(config: Config, programs: Programs, agent_state: AgentState) -> np.ndarray:
    """``[seeds, >= 100]`` returns of fresh deterministic episodes that no evaluation before has seen."""
    rounds = -(-FINAL_EPISODES // config.evaluation_episodes)
    parts = [
        np.asarray(programs.evaluate(agent_state, evaluation_keys(config, FINAL, index))).reshape(config.seeds, -1)
        for index in range(rounds)
    ]
    return held_out(np.concatenate(parts, axis=1)[:, :FINAL_EPISODES].astype(np.float64))
