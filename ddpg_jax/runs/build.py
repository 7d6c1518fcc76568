"""From a configuration to compiled programs."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ddpg_jax import compiling, envs, host, rollout, train
from ddpg_jax.learner import TrainState
from ddpg_jax.population import Member, Numbers, Population, Programs, compiled, make_population
from ddpg_jax.runs import fits
from ddpg_jax.runs.config import Config, RunError
from ddpg_jax.runs.presets import Parts
from ddpg_jax.types import Agent, AgentState, Environment, HostEnvironment, PyTree, strong

FINAL_EPISODES = 100
# Streams of evaluation keys, folded into a member's seed.
DURING, FINAL, LATER = 0x7E570, 0x7E571, 0x7E572
# And of the beginnings of environments on the host.
BEGINNING = 0x7E573


class Built(NamedTuple):
    """The functions of a run, not yet compiled."""

    agent: Agent
    population: Population
    """Of the run's members; of one where it has one seed."""
    state: PyTree
    """Shapes of the training state."""
    host: host.HostTrain | None = None
    """Only of an environment on the host: ``start`` and ``chunk`` are then loops, not to be jitted."""


def environment(config: Config, num_envs: int) -> Environment | HostEnvironment:
    """The run's environment, with as many copies as asked.

    Raises:
        ValueError: it is unknown, refuses its options, or is nothing that the presets' networks can act in.
    """
    fits.require_few(config.env, num_envs)
    env = envs.make(config.env, num_envs=num_envs, **config.env_options)
    fits.require_seen(config.preset, config.env, env)
    return env if config.preset.around is None else config.preset.around(env)


def member_keys(config: Config) -> jax.Array:
    """One key, or ``[seeds]`` of them; member i of a run with seed s is the run with seed s + i."""
    if config.seeds == 1:
        return jax.random.key(config.seed)
    return jax.vmap(jax.random.key)(jnp.arange(config.seed, config.seed + config.seeds))


def build(
    config: Config,
    stopped: Callable[[], bool] = lambda: False,
    weigh: Callable[[list[fits.Part]], None] = lambda parts: fits.require_memory(parts),
) -> Built:
    """Compose a configuration's functions; on the host ``stopped`` is looked at in each step of the warm-up and of evaluations
    (`ddpg_jax.host.Stopped`). ``weigh`` refuses what is too much for this machine, where it is to run here.

    Raises:
        ValueError: a part refuses its numbers, or the state does not fit into memory.
    """
    if envs.on_host(config.env):
        built = _build_on_host(config, stopped)
    else:
        population = make_population(member_of(config), many=config.seeds > 1)
        state = jax.eval_shape(population.start, member_keys(config), {})
        built = Built(compose(config, environment(config, config.numbers.num_envs)).agent, population, state)
    weigh([*fits.kept(config, built.state), *fits.guessed(config, built.state)])
    return built


def member_of(config: Config) -> Callable[[Numbers], Member]:
    """``member(numbers)``: what one seed of this run does, with some of its numbers replaced by traced ones."""
    env, played = environment(config, config.numbers.num_envs), environment(config, config.evaluation_episodes)
    assert isinstance(played, Environment)

    def member(numbers: Numbers) -> Member:
        parts = compose(config, env, **numbers)
        trainer = _make_train(train.make_train, config, parts, env)
        start = lambda key: trainer.warm_up(trainer.init(key))
        return Member(start, trainer.chunk, rollout.make_evaluate(parts.agent, played))

    return member


def compose(config: Config, env: Any, **replaced: Any) -> Parts:
    """The run's agent, replay and behaviour in such an environment, with some of its numbers replaced."""
    return config.preset.compose(dataclasses.replace(config.numbers, **replaced), env)


def _make_train(make: Callable, config: Config, parts: Parts, env: Any) -> Any:
    return make(
        parts.agent,
        env,
        parts.replay,
        parts.behaviour,
        learning_starts=config.schedule.learning_starts,
        updates_per_step=config.schedule.updates_per_step,
        collect_steps=config.schedule.collect_steps,
        steps_per_chunk=config.schedule.steps_per_chunk,
        warm_up=parts.warm_up,
        window=parts.window,
    )


def _build_on_host(config: Config, stopped: Callable[[], bool]) -> Built:
    if config.seeds > 1:
        raise ValueError(f"seeds={config.seeds}: environments on the host are trained one seed at a time; start several runs.")
    env = environment(config, config.numbers.num_envs)
    parts = compose(config, env)
    trainer = _make_train(functools.partial(host.make_train, stopped=stopped), config, parts, env)
    init = jax.jit(lambda key: strong(trainer.init(key)))

    def start(key: jax.Array, numbers: Numbers) -> TrainState:
        trainer.begin(host_seed(evaluation_keys(config, BEGINNING, 0)))
        return trainer.warm_up(init(key))

    play = evaluator(config, parts.agent, config.evaluation_episodes, stopped)
    population = Population(start, lambda state, numbers: trainer.chunk(state), lambda state, key, numbers: play(state, key))
    return Built(parts.agent, population, jax.eval_shape(init, member_keys(config)), trainer)


def host_seed(key: jax.Array) -> int:
    """A seed for environments on the host, of all bits of a key."""
    return int.from_bytes(np.asarray(jax.random.key_data(key)).tobytes(), "little")


def evaluator(
    config: Config, agent: Agent, episodes: int, stopped: Callable[[], bool] = lambda: False
) -> Callable[[AgentState, jax.Array], Any]:
    """``evaluate(agent_state, keys) -> returns`` of that many deterministic episodes of each member; on the host ``stopped`` is
    looked at in each step (`ddpg_jax.host.make_evaluate`)."""
    env = environment(config, episodes)
    if isinstance(env, Environment):
        one = fits.size(jax.eval_shape(env.reset, jax.random.key(0)))
        fits.require_memory([fits.Part("environments of the evaluation", config.seeds * one, "the number of episodes")])
        evaluate = rollout.make_evaluate(agent, env)
        return compiling.jit(jax.vmap(evaluate) if config.seeds > 1 else evaluate, compiling.SELDOM)
    play = host.make_evaluate(agent, env, stopped=stopped)
    return lambda agent_state, key: play(agent_state, host_seed(key))


def compile_programs(built: Built, config: Config) -> Programs:
    """Compile each program of a run once."""
    if built.host is None:
        return compiled(built.population, member_keys(config), {})
    begin = time.perf_counter()
    built.host.compile()
    return Programs(*built.population, time.perf_counter() - begin)


def evaluation_keys(config: Config, stream: int, number: int) -> jax.Array:
    """Keys for evaluation number ``number`` of a ``stream`` (`DURING`, `FINAL` or `LATER`); training never uses them."""

    def derive(key: jax.Array) -> jax.Array:
        return jax.random.fold_in(jax.random.fold_in(key, stream), number % 2**32)

    return (jax.vmap(derive) if config.seeds > 1 else derive)(member_keys(config))


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
        np.asarray(programs.evaluate(agent_state, evaluation_keys(config, FINAL, index), {})).reshape(config.seeds, -1)
        for index in range(rounds)
    ]
    return held_out(np.concatenate(parts, axis=1)[:, :FINAL_EPISODES].astype(np.float64))
