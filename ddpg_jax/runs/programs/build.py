"""Builds a configuration's functions and compiles its programs."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp

from ddpg_jax import envs, host, rollout, sharding, train
from ddpg_jax.environment import Environment
from ddpg_jax.envs.described import describe
from ddpg_jax.population import (
    Hyperparameters,
    Member,
    Population,
    Programs,
    compiled,
    compiled_chunk,
    make_population,
)
from ddpg_jax.population.evolution import Range, evolving
from ddpg_jax.runs.config import mesh as runs_mesh
from ddpg_jax.runs.config import population as runs_population
from ddpg_jax.runs.programs import compatibility, memory
from ddpg_jax.runs.programs.evaluation import (
    HOST_RESET_STREAM,
    evaluation_keys,
    host_seed,
    play_on_host,
)
from ddpg_jax.runs.programs.setup import (
    close_after,
    compose,
    environment,
    member_hyperparameters,
    member_keys,
)
from ddpg_jax.types import Agent, AgentState, PyTree, strong

if TYPE_CHECKING:
    from collections.abc import Callable

    from ddpg_jax.learner import TrainState
    from ddpg_jax.runs.config.run_config import Config
    from ddpg_jax.runs.options.validation import Options
    from ddpg_jax.runs.presets import Components


class Built(NamedTuple):
    """The functions of a run, not yet compiled."""

    agent: Agent
    population: Population
    """The members of the run."""
    state: PyTree
    """Shapes of the training state."""
    host: host.HostTrain | None = None
    """Only of host environments: ``start`` and ``chunk`` are then loops and cannot be jitted."""
    opened: contextlib.ExitStack = contextlib.ExitStack()
    """Closes the host environments that were made."""
    described: Options | None = None
    """Of host environments, `ddpg_jax.envs.described.describe`."""
    note: str = ""
    """A sentence on what the networks see, where it is not all of the observation as it is."""
    drawable: bool = True
    """Whether the environment can be drawn."""


def build(
    config: Config,
    stopped: Callable[[], bool] = lambda: False,
    check_memory: Callable[[list[memory.MemoryPart]], None] = lambda parts: memory.require_memory(
        parts
    ),
    here: bool = True,
) -> Built:
    """Compose a configuration's functions.

    Args:
        config: of the run.
        stopped: polled in each step of the warm-up and of evaluations on the host
            (`ddpg_jax.host.Stopped`).
        check_memory: refuses parts that do not fit in this machine's memory.
        here: False where the run's devices are another machine's, for the shapes of its state.

    Raises:
        ValueError: a component refuses its hyper-parameters, or the state does not fit in memory.
    """
    if envs.on_host(config.env):
        with contextlib.ExitStack() as opened:
            built = _build_on_host(config, stopped, opened)
            check_memory(memory.all_parts(config, built.state))
            return built._replace(opened=opened.pop_all())
    if config.shared_environment:
        raise ValueError(
            f"shared_environment is for environments on the host, and {config.env} is not one: "
            "leave --shared-environment out."
        )
    env = environment(config, config.hyperparameters.num_envs)
    for own in runs_population.possible_hyperparameters(config.vary, config.evolve):
        compose(config, env, **own)  # checks the ranges
    agent = compose(config, env).agent
    _require_replay_of_encoder(config, agent)
    population = population_of(config, here)
    if population.place is None:  # traced once, here and where it is compiled
        state = jax.eval_shape(
            population.start, member_keys(config), member_hyperparameters(config)
        )
    else:
        state = population.place.state(state_shapes(config))
    check_memory(memory.all_parts(config, state))
    note = compatibility.describe_streams(config, env.observation)
    return Built(agent, population, state, note=note, drawable=env.drawable)


def _require_replay_of_encoder(config: Config, agent: Agent) -> None:
    if agent.to_replay is not None and not config.evolve.get("copy_replay", True):
        raise ValueError(
            f"copy_replay=False: preset {config.preset.name} stores what its agent's encoder made "
            "of observations, so a member that takes over another's encoder has to take its "
            "replay with it: leave --no-pbt-copy-replay out."
        )


def population_of(config: Config, here: bool = True, *, warming: bool = False) -> Population:
    """Return the run's members, spread over the devices of its mesh, which may be elsewhere; what
    is ``warming`` as of `member_of`.
    """
    mesh, many = runs_mesh.parse_mesh(config.mesh), config.seeds > 1
    member = member_of(config, warming=warming)
    if mesh.devices == 1:
        population = make_population(member, many=many)
    else:
        axes = sharding.MEMBERS, sharding.DATA
        made: Any = sharding.make_mesh(*mesh) if here else jax.sharding.AbstractMesh((*mesh,), axes)
        population = sharding.spread(member, made, many=many)
    return _evolving(config, population) if config.evolve else population


def agent_of(config: Config, env: Any) -> tuple[Agent, AgentState]:
    """Return the run's agent, and the shapes of its state, those of all members.

    ``env`` has the environment's shapes (`ddpg_jax.runs.programs.setup.declared`).
    """
    agent = compose(config, env).agent

    def init(key: jax.Array) -> AgentState:
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), (env.observation, env.action))
        state: AgentState = strong(agent.init(key, *zeros))
        return state

    return agent, jax.eval_shape(jax.vmap(init) if config.seeds > 1 else init, member_keys(config))


def state_shapes(config: Config) -> PyTree:
    """Return the shapes of the training state on the run's mesh; needs none of its devices."""
    start = sharding.start_of_shards(
        member_of(config), runs_mesh.parse_mesh(config.mesh).data, many=config.seeds > 1
    )
    if config.evolve:
        never: Any = None
        start = _evolving(config, Population(start, never, never)).start
    return jax.eval_shape(start, member_keys(config), member_hyperparameters(config))


def _evolving(config: Config, population: Population) -> Population:
    options = dict(config.evolve)
    ranges = {name: Range(*each) for name, each in options.pop("ranges").items()}
    return evolving(population, ranges, **options)


def member_of(config: Config, *, warming: bool = False) -> Callable[[Hyperparameters], Member]:
    """Return ``member(hyperparameters)``: the functions of one seed, or of one of its shards.

    ``hyperparameters`` replace the run's and may be traced. A run that `Config.has_start` begins
    without its warm-up, which is what its chunk is while ``warming``.
    """
    shards = runs_mesh.parse_mesh(config.mesh).data
    env = environment(config, config.hyperparameters.num_envs // shards)
    played = environment(config, -(-config.evaluation_episodes // shards))
    assert isinstance(played, Environment)

    def member(hyperparameters: Hyperparameters) -> Member:
        parts = compose(config, env, shards, **hyperparameters)
        trainer = _make_train(train.make_train, config, parts, env, shards)
        start = lambda key: trainer.warm_up(trainer.init(key))
        start = trainer.init if config.has_start else start
        chunk = (lambda state: (trainer.warm_up(state), {})) if warming else trainer.chunk
        return Member(start, chunk, rollout.make_evaluate(parts.agent, played))

    return member


def _make_train(
    make: Callable[..., Any], config: Config, parts: Components, env: Any, shards: int = 1
) -> Any:
    return make(
        parts.agent,
        env,
        parts.replay,
        parts.behaviour,
        warm_up=parts.behaviour if config.start_from else parts.warm_up,
        window=parts.window,
        **runs_mesh.schedule_of_shard(config, shards),
        **({} if shards == 1 else {"axis_name": sharding.DATA}),
    )


def _build_on_host(
    config: Config, stopped: Callable[[], bool], opened: contextlib.ExitStack
) -> Built:
    if config.seeds > 1 or config.vary:
        raise ValueError(
            f"seeds={config.seeds}: host environments train one seed at a time; start several runs."
        )
    env: Any = environment(config, config.hyperparameters.num_envs)
    close_after(opened, env)
    parts = compose(config, env)
    trainer = _make_train(functools.partial(host.make_train, stopped=stopped), config, parts, env)
    init = jax.jit(lambda key: strong(trainer.init(key)))

    def start(key: jax.Array, hyperparameters: Hyperparameters) -> TrainState:
        trainer.begin(host_seed(evaluation_keys(config, HOST_RESET_STREAM, 0)))
        state: TrainState = init(key)
        return state if config.has_start else trainer.warm_up(state)

    episodes, played = config.evaluation_episodes, env
    if not config.shared_environment:
        played = environment(config, episodes)
        close_after(opened, played)
    play = play_on_host(parts.agent, played, episodes, stopped)
    chunk, evaluate = _taking_turns(trainer, play, shared=config.shared_environment)
    population = Population(start, chunk, evaluate)
    state = jax.eval_shape(init, member_keys(config))
    return Built(
        parts.agent,
        population,
        state,
        trainer,
        described=describe(env),
        note=compatibility.describe_streams(config, env.observation),
        drawable=env.drawable,
    )


def _taking_turns(
    trainer: host.HostTrain, play: Callable[..., Any], *, shared: bool
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Return ``chunk`` and ``evaluate``; where they share environments, training begins again."""
    interrupting: list[jax.Array] = []

    def chunk(state: TrainState, hyperparameters: Hyperparameters, *rounds: int) -> Any:
        if interrupting:
            key = jax.random.fold_in(interrupting.pop(), HOST_RESET_STREAM)
            trainer.begin(host_seed(key))
        return trainer.chunk(state, *rounds)

    def evaluate(state: AgentState, key: jax.Array, hyperparameters: Hyperparameters) -> Any:
        if shared:
            interrupting[:] = [key]
        return play(state, key)

    return chunk, evaluate


def compile_shorter(built: Built, config: Config, steps: int) -> Callable[..., Any]:
    """Return a chunk of so many environment steps: that which ends a run may be shorter."""
    schedule = dataclasses.replace(config.schedule, steps_per_chunk=steps)
    if built.host is not None:
        chunk: Any = built.population.chunk
        return lambda state, hyperparameters: chunk(state, hyperparameters, schedule.rounds)
    population = population_of(dataclasses.replace(config, schedule=schedule))
    return compiled_chunk(population, member_keys(config), member_hyperparameters(config))


def compile_warm_up(
    config: Config, on_host: host.HostTrain | None = None
) -> Callable[[TrainState, Any], TrainState]:
    """Return ``warm_up(state, hyperparameters)``, of a run that `Config.has_start`."""
    if on_host is not None:
        return lambda state, hyperparameters: on_host.warm_up(state)
    population = population_of(config, warming=True)
    chunk = compiled_chunk(population, member_keys(config), member_hyperparameters(config))
    return lambda *given: chunk(*given)[0]


def compile_programs(built: Built, config: Config) -> Programs:
    """Compile each program of a run once."""
    if built.host is None:
        return compiled(built.population, member_keys(config), member_hyperparameters(config))
    begin = time.perf_counter()
    inside = built.host.compile()
    return Programs(*built.population[:3], time.perf_counter() - begin, inside)
