"""A run's environment, keys and components, as its configuration names them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from ddpg_jax import envs, sharding
from ddpg_jax.runs import hosts
from ddpg_jax.runs.config import mesh
from ddpg_jax.runs.config.run_config import Config
from ddpg_jax.runs.presets import Components
from ddpg_jax.runs.programs import compatibility
from ddpg_jax.types import Environment, HostEnvironment


def environment(config: Config, num_envs: int) -> Environment | HostEnvironment:
    """The run's environment, with as many copies as asked.

    Raises:
        ValueError: it is unknown, refuses its options, or is nothing that the presets' networks can
            act in.
    """
    compatibility.require_host_copies(config.env, num_envs)
    env = envs.make(config.env, num_envs=num_envs, **config.env_options)
    compatibility.require_compatible(config.preset, config.env, env)
    return env if config.preset.around is None else config.preset.around(env)


def member_keys(config: Config) -> jax.Array:
    """One key, or ``[seeds]`` of them; member i of a run with seed s is the run with seed s + i, if
    it has none of its own."""
    seeds = config.vary.get("seed", range(config.seed, config.seed + config.seeds))
    return (
        jax.random.key(seeds[0])
        if config.seeds == 1
        else jax.vmap(jax.random.key)(jnp.array(seeds))
    )


def member_hyperparameters(config: Config) -> dict[str, jax.Array]:
    """The hyper-parameters that members have of their own, ``[seeds]`` each, or scalars of a run
    with one."""
    hyperparameters = {
        name: jnp.array(values, jnp.float32)
        for name, values in config.vary.items()
        if name != "seed"
    }
    return (
        {name: values[0] for name, values in hyperparameters.items()}
        if config.seeds == 1
        else hyperparameters
    )


def compose(config: Config, env: Any, shards: int = 1, **replaced: Any) -> Components:
    """The run's agent, replay and behaviour in such an environment, with some of its
    hyper-parameters replaced; of one of its shards."""
    hyperparameters = dataclasses.replace(config.hyperparameters, **replaced)
    return config.preset.compose(
        hyperparameters if shards == 1 else hyperparameters.of_shard(shards, sharding.DATA), env
    )


def with_chosen_mesh(config: Config, say: Callable[[str], None], resume: bool) -> Config:
    """The configuration with its mesh settled (`ddpg_jax.runs.config.mesh.choose_mesh`): on the
    devices of all processes."""
    import jax

    hosts.require_same([resume, config.flat()])
    return dataclasses.replace(
        config,
        mesh=mesh.choose_mesh(
            config, jax.device_count(), say, processes=hosts.count(), resume=resume
        ),
    )
