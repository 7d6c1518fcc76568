"""A run's environment, keys and components."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

import ddpg_jax
from ddpg_jax import envs, sharding
from ddpg_jax.environment import Environment, HostEnvironment
from ddpg_jax.runs.config import mesh
from ddpg_jax.runs.distributed import processes
from ddpg_jax.runs.programs import compatibility

if TYPE_CHECKING:
    from collections.abc import Callable

    from ddpg_jax.runs.config.run_config import Config
    from ddpg_jax.runs.options.hyperparameters import Hyperparameters
    from ddpg_jax.runs.presets import Components
    from ddpg_jax.types import Replay


def environment(config: Config, num_envs: int) -> Environment | HostEnvironment:
    """Return the run's environment, with ``num_envs`` copies.

    Raises:
        ValueError: it is unknown, refuses its options, or does not fit the preset's networks.
    """
    compatibility.require_host_copies(config.env, num_envs)
    env = envs.make(config.env, num_envs=num_envs, **config.env_options)
    with contextlib.ExitStack() as opened:
        close_after(opened, env)
        fitted = _fitted(config, env)
        opened.pop_all()
    return fitted


def declared(config: Config, known: Environment | HostEnvironment | None) -> Any:
    """Return the run's environment for its shapes and actions alone.

    A host environment that is not ``known`` (`ddpg_jax.envs.described`) is made and closed.

    Raises:
        ValueError: as `environment`.
    """
    if known is not None:
        return _fitted(config, known)
    with contextlib.ExitStack() as opened:
        env = environment(config, 1)
        close_after(opened, env)
        return env


def _fitted(config: Config, env: Any) -> Any:
    compatibility.require_compatible(config, env)
    return env if config.preset.around is None else config.preset.around(env)


def close_after(opened: contextlib.ExitStack, env: Environment | HostEnvironment) -> None:
    """Close a host environment when ``opened`` is left.

    An error of its ``close`` is printed: it costs no result, and hides no error on the way.
    """
    if not isinstance(env, HostEnvironment):
        return

    def close() -> None:
        try:
            env.close()
        except Exception as error:
            print(f"Warning: {error}", file=sys.stderr)

    opened.callback(close)


def member_keys(config: Config) -> jax.Array:
    """Return one key, or ``[seeds]`` of them.

    Member i of a run with seed s has the key of a run with seed s + i, unless it has its own seed.
    """
    seeds = config.vary.get("seed", range(config.seed, config.seed + config.seeds))
    return (
        jax.random.key(seeds[0])
        if config.seeds == 1
        else jax.vmap(jax.random.key)(jnp.array(seeds))
    )


def member_hyperparameters(config: Config) -> dict[str, jax.Array]:
    """Return the members' own hyper-parameters, ``[seeds]`` each; scalars with one seed."""
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
    """Return the components of a run or of one of its shards, some hyper-parameters replaced."""
    replaced = {"anneal_updates": config.anneal_updates} | replaced
    hyperparameters = dataclasses.replace(config.hyperparameters, **replaced)
    own = hyperparameters if shards == 1 else hyperparameters.of_shard(shards, sharding.DATA)
    parts = config.preset.compose(own, env)
    if not config.offline_share:
        return parts
    rest = dataclasses.replace(own, batch_size=own.batch_size - offline_batch(config, own))
    online = config.preset.compose(rest, env).replay
    return parts._replace(replay=ddpg_jax.replay.mixed(online, offline_replay(config, own, shards)))


def offline_batch(config: Config, own: Hyperparameters) -> int:
    """Return how many transitions of a batch are offline ones.

    Raises:
        ValueError: none or all of them would be.
    """
    count = round(config.offline_share * own.batch_size)
    if not 0 < count < own.batch_size:
        raise ValueError(
            f"offline_share={config.offline_share} is {count} of batch_size={own.batch_size}: give "
            "a share of at least one transition, and less than all."
        )
    return count


def offline_replay(config: Config, own: Hyperparameters, shards: int) -> Replay:
    """Return the replay of offline transitions, beside that of collected ones."""
    assert config.offline_rows is not None
    batch = offline_batch(config, own) * own.batches_per_update
    return ddpg_jax.replay.uniform(config.offline_rows // shards, batch)


def with_chosen_mesh(config: Config, say: Callable[[str], None], resume: bool) -> Config:
    """Return the configuration with its mesh chosen, over the devices of all processes.

    See `ddpg_jax.runs.config.mesh.choose_mesh`.
    """
    processes.require_same_options([resume, config.flat()])
    return dataclasses.replace(
        config,
        mesh=mesh.choose_mesh(
            config, jax.device_count(), say, processes=processes.process_count(), resume=resume
        ),
    )
