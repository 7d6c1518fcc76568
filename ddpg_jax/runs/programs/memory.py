"""Memory that a run needs, part by part, and the memory of this machine, before compilation."""

from __future__ import annotations

import contextlib
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np

from ddpg_jax.environment import Environment, HostEnvironment
from ddpg_jax.runs.options.validation import RunError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ddpg_jax.runs.config.run_config import Config
    from ddpg_jax.types import PyTree

KEY_BYTES = 8


COPIES = 3
"""Copies of the state while a checkpoint is written: the saved one, and two of Orbax, one of them
compressed, which trained parameters hardly are (2.9 measured)."""
USABLE = 0.9
"""Share of a memory for the known parts; the rest is for unknown ones."""


class MemoryPart(NamedTuple):
    """Bytes of a part of a run, and the options that make it smaller.

    ``on_host``: it lies in the host's memory, not on the accelerator.
    """

    what: str
    needed: int
    lower: str
    on_host: bool = False


def tree_bytes(tree: PyTree) -> int:
    """Return the bytes of a pytree on each device; the devices of a CPU share one memory."""
    return sum(math.prod(_share(leaf)) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def format_bytes(size: int) -> str:
    """Return a number of bytes with a unit."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= factor:
            return f"{size / factor:,.2f} {unit}"
    return f"{size} B"


def _share(leaf: Any) -> tuple[int, ...]:
    sharding = getattr(leaf, "sharding", None)
    if sharding is None:
        return leaf.shape
    known = not isinstance(getattr(sharding, "mesh", None), jax.sharding.AbstractMesh)
    together = (
        len(sharding.device_set)
        if known and next(iter(sharding.device_set)).platform == "cpu"
        else 1
    )
    return (together, *sharding.shard_shape(leaf.shape))


def state_parts(config: Config, state: PyTree) -> list[MemoryPart]:
    """Return the parts that a run holds throughout; ``state``: shapes of its training state."""
    state = state.members if config.evolve else state
    agent, hyperparameters, seeds = state.agent, config.hyperparameters, config.seeds
    capacity = f"replay_capacity={hyperparameters.replay_capacity:,}, seeds={seeds}"
    optimisers = tree_bytes((agent.actor.opt_state, agent.critic.opt_state))
    return [
        MemoryPart(
            f"the replay ({capacity})", tree_bytes(state.replay), "--replay-capacity or --seeds"
        ),
        MemoryPart(
            f"environments (num_envs={hyperparameters.num_envs:,})",
            tree_bytes(state.collector),
            "--num-envs or --seeds",
        ),
        MemoryPart(
            "networks and their targets",
            tree_bytes(agent) - optimisers,
            "--hidden, --critic-hidden or --seeds",
        ),
        MemoryPart("optimisers", optimisers, "--hidden, --critic-hidden or --seeds"),
        MemoryPart(
            "the window of multi-step returns",
            tree_bytes(state.window),
            "--n-step, --num-envs or --seeds",
        ),
    ]


def checkpoint_part(state: PyTree) -> MemoryPart:
    """Return the host memory that a checkpoint takes while this process writes its share."""
    whole = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
    return MemoryPart(
        "a checkpoint being written",
        COPIES * whole // jax.process_count(),
        "--replay-capacity or --seeds",
        on_host=True,
    )


def estimated_parts(config: Config, state: PyTree) -> list[MemoryPart]:
    """Return lower bounds of what the programs need besides the state, before they are compiled."""
    state = state.members if config.evolve else state
    hyperparameters, schedule, seeds = config.hyperparameters, config.schedule, config.seeds
    rows = hyperparameters.batch_size * hyperparameters.batches_per_update
    wide = (
        sum(hyperparameters.hidden)
        + sum(hyperparameters.critic_hidden or hyperparameters.hidden)
        + getattr(hyperparameters, "num_atoms", 1)
    )
    # Of the devices of an accelerator each has its share; those of a CPU share one memory.
    whole = sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(state.collector))
    devices = max(1, whole // max(1, tree_bytes(state.collector)))
    batch = seeds * (
        hyperparameters.batch_size * 4 * wide
        + rows * _observation_bytes(config, state.collector.observation)
    )
    round_keys = 2 * schedule.collect_steps + 2 * schedule.updates_per_step
    return [
        MemoryPart(
            "environments of the evaluation",
            _evaluation_bytes(config, state),
            "--evaluation-episodes or --seeds",
        ),
        MemoryPart("a batch", batch // devices, "--batch-size, --hidden or --seeds"),
        MemoryPart(
            "random keys of a chunk",
            KEY_BYTES * seeds * schedule.rounds * round_keys // devices,
            "--steps-per-chunk",
        ),
        MemoryPart(
            "random keys of the warm-up",
            KEY_BYTES * seeds * schedule.warm_up * 2 // devices,
            "--learning-starts or --seeds",
        ),
        MemoryPart(
            "random keys of a round",
            KEY_BYTES * seeds * round_keys // devices,
            "--updates-per-step or --seeds",
        ),
    ]


def _observation_bytes(config: Config, observation: PyTree) -> int:
    """Return the bytes of an observation and its successor in a batch, images as float32 too."""
    one = sum(
        math.prod(x.shape) * (5 if x.dtype == np.uint8 else x.dtype.itemsize)
        for x in jax.tree.leaves(observation)
    )
    return 2 * one // (config.hyperparameters.num_envs * config.seeds)


def all_parts(config: Config, state: PyTree) -> list[MemoryPart]:
    """Return all parts known before compilation."""
    return [*state_parts(config, state), *estimated_parts(config, state), checkpoint_part(state)]


def require_playable(env: Environment | HostEnvironment, steps: int) -> None:
    """Refuse to play ``steps`` steps by `ddpg_jax.envs.check` if they do not fit in memory.

    Of observations a few are held at once, and of each step some flags.

    Raises:
        RunError: the memory is too small.
    """
    rows = env.num_envs * (8 * tree_bytes(env.observation) + 32 * steps)
    state = (
        0
        if isinstance(env, HostEnvironment)
        else tree_bytes(jax.eval_shape(env.reset, jax.random.key(0)))
    )
    require_memory(
        [
            MemoryPart("observations", rows, "--steps or --num-envs"),
            MemoryPart("environments", state, "--num-envs"),
        ]
    )


def _evaluation_bytes(config: Config, state: PyTree) -> int:
    return (
        tree_bytes(state.collector) // config.hyperparameters.num_envs * config.evaluation_episodes
    )


def require_memory(parts: Iterable[MemoryPart]) -> None:
    """Refuse parts that do not fit in this machine's memory.

    Raises:
        RunError: names the largest part, and the options to lower.
    """
    parts = list(parts)
    for where, free, there in budgets(parts):
        total, own = (
            sum(part.needed for part in there),
            [part for part in there if not part.on_host] or there,
        )
        largest = max(own, key=lambda part: part.needed)  # not the copy of a checkpoint
        if total > USABLE * free:
            raise RunError(
                f"this needs {format_bytes(total)}, {format_bytes(largest.needed)} of it for "
                f"{largest.what}, but {format_bytes(free)} are available on the {where}: lower "
                f"{largest.lower}."
            )


def budgets(parts: Sequence[MemoryPart]) -> list[tuple[str, int, list[MemoryPart]]]:
    """Return name, bytes and parts of each memory: a CPU's, or an accelerator's and its host's."""
    device = jax.local_devices()[0]
    own = _device_bytes(device)
    if own is None:
        return [(device.platform, _host_bytes(), list(parts))]
    on_device, on_host = (
        [part for part in parts if part.on_host == there] for there in (False, True)
    )
    return [
        one
        for one in ((device.platform, own, on_device), ("host", _host_bytes(), on_host))
        if one[2]
    ]


def _device_bytes(device: jax.Device) -> int | None:
    """Return the free bytes of an accelerator; None of a CPU."""
    stats = device.memory_stats() if device.platform != "cpu" else None
    return (
        stats["bytes_limit"] - stats["bytes_in_use"] if stats and "bytes_limit" in stats else None
    )


def _host_bytes() -> int:
    """Return the bytes of the machine, or of the share that this process may use."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for path in _cgroup_limits():
        with contextlib.suppress(OSError, ValueError):  # absent, or "max"
            limits.append(int(path.read_text()))
    return min(limits)


def _cgroup_limits(root: Path = Path("/")) -> Iterator[Path]:
    """Yield files of limits of this process's group and of all above it, as SLURM's jobs have."""
    groups = [(root / "sys/fs/cgroup", "/"), (root / "sys/fs/cgroup/memory", "/")]
    with contextlib.suppress(OSError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, controllers, group = line.split(":", 2)
            if "memory" in controllers.split(","):
                groups.append((root / "sys/fs/cgroup/memory", group))
            elif not controllers:
                groups.append((root / "sys/fs/cgroup", group))
    for top, group in groups:
        own = top / group.lstrip("/")
        for folder in (own, *own.parents):
            if folder.is_relative_to(top):
                yield from (folder / "memory.max", folder / "memory.limit_in_bytes")
