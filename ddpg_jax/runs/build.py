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

from ddpg_jax import compiling, envs, host, rollout, sharding, train
from ddpg_jax.learner import TrainState
from ddpg_jax.population import Member, Numbers, Population, Programs, compiled, make_population
from ddpg_jax.population.evolution import Range, evolving
from ddpg_jax.runs import devices, fits, layout, members
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
    """One key, or ``[seeds]`` of them; member i of a run with seed s is the run with seed s + i, if it has none of its own."""
    seeds = config.vary.get("seed", range(config.seed, config.seed + config.seeds))
    return jax.random.key(seeds[0]) if config.seeds == 1 else jax.vmap(jax.random.key)(jnp.array(seeds))


def member_numbers(config: Config) -> dict[str, jax.Array]:
    """The numbers that members have of their own, ``[seeds]`` each, or scalars of a run with one."""
    numbers = {name: jnp.array(values, jnp.float32) for name, values in config.vary.items() if name != "seed"}
    return {name: values[0] for name, values in numbers.items()} if config.seeds == 1 else numbers


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
        env = environment(config, config.numbers.num_envs)
        for member in range(config.seeds if config.vary else 0):
            own: dict[str, Any] = members.numbers_of(config.vary, member)
            compose(config, env, **own)  # refuses what is out of its range
        population, state = population_of(config), shapes(config)
        state = state if population.place is None else population.place.state(state)
        built = Built(compose(config, env).agent, population, state)
    weigh(fits.parts_of(config, built.state))
    return built


def population_of(config: Config) -> Population:
    """The run's members, over the devices of its mesh."""
    mesh, many = devices.of(config.mesh), config.seeds > 1
    if mesh.devices == 1:
        population = make_population(member_of(config), many=many)
    else:
        population = sharding.spread(member_of(config), sharding.make_mesh(*mesh), many=many)
    return _evolving(config, population) if config.evolve else population


def shapes(config: Config) -> PyTree:
    """Of the training state on the run's mesh, whether its devices are here or not."""
    start = sharding.start_of_shards(member_of(config), devices.of(config.mesh).data, many=config.seeds > 1)
    if config.evolve:
        never: Any = None
        start = _evolving(config, Population(start, never, never)).start
    return jax.eval_shape(start, member_keys(config), member_numbers(config))


def _evolving(config: Config, population: Population) -> Population:
    options = dict(config.evolve)
    ranges = {name: Range(*each) for name, each in options.pop("ranges").items()}
    return evolving(population, ranges, **options)


def member_of(config: Config) -> Callable[[Numbers], Member]:
    """``member(numbers)``: what one seed of this run does, with some of its numbers replaced by traced ones; one of its shards,
    where the run's mesh has more of each."""
    shards = devices.of(config.mesh).data
    env = environment(config, config.numbers.num_envs // shards)
    played = environment(config, -(-config.evaluation_episodes // shards))
    assert isinstance(played, Environment)

    def member(numbers: Numbers) -> Member:
        parts = compose(config, env, shards, **numbers)
        trainer = _make_train(train.make_train, config, parts, env, shards)
        start = lambda key: trainer.warm_up(trainer.init(key))
        return Member(start, trainer.chunk, rollout.make_evaluate(parts.agent, played))

    return member


def compose(config: Config, env: Any, shards: int = 1, **replaced: Any) -> Parts:
    """The run's agent, replay and behaviour in such an environment, with some of its numbers replaced; of one of its shards."""
    numbers = dataclasses.replace(config.numbers, **replaced)
    return config.preset.compose(numbers if shards == 1 else numbers.of_shard(shards, sharding.DATA), env)


def _make_train(make: Callable, config: Config, parts: Parts, env: Any, shards: int = 1) -> Any:
    return make(
        parts.agent,
        env,
        parts.replay,
        parts.behaviour,
        warm_up=parts.warm_up,
        window=parts.window,
        **devices.shard_of(config, shards),
        **({} if shards == 1 else {"axis_name": sharding.DATA}),
    )


def _build_on_host(config: Config, stopped: Callable[[], bool]) -> Built:
    if config.seeds > 1 or config.vary:
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
        return compiled(built.population, member_keys(config), member_numbers(config))
    begin = time.perf_counter()
    built.host.compile()
    return Programs(*built.population[:3], time.perf_counter() - begin)


def evaluation_keys(config: Config, stream: int, number: int) -> jax.Array:
    """Keys for evaluation number ``number`` of a ``stream`` (`DURING`, `FINAL` or `LATER`); training never uses them."""

    def derive(key: jax.Array) -> jax.Array:
        return jax.random.fold_in(jax.random.fold_in(key, stream), number % 2**32)

    return (jax.vmap(derive) if config.seeds > 1 else derive)(member_keys(config))


def held_out(returns: np.ndarray, config: Config) -> np.ndarray:
    """The returns of an evaluation, all of them numbers, or NaN of members that broke down where members differ.

    Raises:
        RunError: one of them is NaN, and members do not differ.
    """
    if np.isnan(returns).any() and not config.vary:
        raise RunError(
            "a return of an evaluation is not a number: the simulation broke down, and where such episodes are begun anew it "
            "did so every time. Look at the environment; the checkpoints are intact."
        )
    return returns


def played(config: Config, returns: Any) -> np.ndarray:
    """``[seeds, evaluation_episodes]`` of what `Programs.evaluate` returned; shards may have played some more."""
    return layout.fetched(returns).reshape(config.seeds, -1)[:, : config.evaluation_episodes]


def final_returns(config: Config, programs: Programs, agent_state: AgentState) -> np.ndarray:
    """``[seeds, >= 100]`` returns of fresh deterministic episodes that no evaluation before has seen."""
    rounds, numbers = -(-FINAL_EPISODES // config.evaluation_episodes), member_numbers(config)
    parts = [
        played(config, programs.evaluate(agent_state, evaluation_keys(config, FINAL, index), numbers))
        for index in range(rounds)
    ]
    return held_out(np.concatenate(parts, axis=1)[:, :FINAL_EPISODES].astype(np.float64), config)
