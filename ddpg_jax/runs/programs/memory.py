"""Memory that a run needs, part by part, and what this machine has; known before anything is
compiled."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np

from ddpg_jax.runs.options.validation import RunError
from ddpg_jax.types import Environment, HostEnvironment, PyTree

if TYPE_CHECKING:
    from ddpg_jax.runs.config.run_config import Config

KEY_BYTES = 8


COPIES = 3
"""Of the state while a checkpoint is written: the one that is saved, and the two that the storage
makes of it, one of them compressed, which numbers that are used hardly are (2.9 measured)."""
USABLE = 0.9
"""Of a memory, by what is known to lie there; the rest is for what is not."""


class MemoryPart(NamedTuple):
    """Bytes of a part of a run, and the options that make it smaller; ``on_host``: not beside the
    others on an accelerator."""

    what: str
    needed: int
    lower: str
    on_host: bool = False


def tree_bytes(tree: PyTree) -> int:
    """Bytes of a pytree of arrays or shapes, on each device; of those that say how they are spread,
    their share; the devices of a CPU have one memory."""
    return sum(math.prod(_share(leaf)) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


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
    """What a run holds from its beginning to its end; ``state``: the shapes of its training
    state."""
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
    """What a checkpoint takes of the host's memory while it is written: by each process what its
    devices hold."""
    whole = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
    return MemoryPart(
        "a checkpoint being written",
        COPIES * whole // jax.process_count(),
        "--replay-capacity or --seeds",
        on_host=True,
    )


def estimated_parts(config: Config, state: PyTree) -> list[MemoryPart]:
    """What its programs need besides, at the least, as far as that is known before they are
    compiled."""
    state = state.members if config.evolve else state
    hyperparameters, schedule, seeds = config.hyperparameters, config.schedule, config.seeds
    rows = hyperparameters.batch_size * hyperparameters.batches_per_update
    wide = (
        sum(hyperparameters.hidden)
        + sum(hyperparameters.critic_hidden or hyperparameters.hidden)
        + getattr(hyperparameters, "num_atoms", 1)
    )
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
        MemoryPart("a batch", batch, "--batch-size, --hidden or --seeds"),
        MemoryPart(
            "random keys of a chunk",
            KEY_BYTES * seeds * schedule.rounds * round_keys,
            "--steps-per-chunk",
        ),
        MemoryPart(
            "random keys of the warm-up",
            KEY_BYTES * seeds * schedule.warm_up * 2,
            "--learning-starts or --seeds",
        ),
        MemoryPart(
            "random keys of a round",
            KEY_BYTES * seeds * round_keys,
            "--updates-per-step or --seeds",
        ),
    ]


def _observation_bytes(config: Config, observation: PyTree) -> int:
    """Bytes of an observation and its successor as a batch has them: as they come, and bytes of
    images as float32 too."""
    one = sum(
        math.prod(x.shape) * (5 if x.dtype == np.uint8 else x.dtype.itemsize)
        for x in jax.tree.leaves(observation)
    )
    return 2 * one // (config.hyperparameters.num_envs * config.seeds)


def all_parts(config: Config, state: PyTree) -> list[MemoryPart]:
    """All that is known before anything is compiled."""
    return [*state_parts(config, state), *estimated_parts(config, state), checkpoint_part(state)]


def require_playable(env: Environment | HostEnvironment, steps: int) -> None:
    """Refuse what cannot be played by `ddpg_jax.envs.check` for so many steps, and kept.

    Raises:
        RunError: the memory is too small.
    """
    rows = 2 * steps * env.num_envs * tree_bytes(env.observation)
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
    """Refuse what this machine cannot hold.

    Raises:
        RunError: which part is the largest, and what to lower.
    """
    parts = list(parts)
    for where, free, there in budgets(parts):
        total, own = (
            sum(part.needed for part in there),
            [part for part in there if not part.on_host] or there,
        )
        largest = max(own, key=lambda part: part.needed)  # a copy is as large as what it is of
        if total > USABLE * free:
            raise RunError(
                f"this needs {total:,} bytes, of which {largest.what} {largest.needed:,}, but the {where} has {free:,} in all: "
                f"lower {largest.lower}."
            )


def budgets(parts: Sequence[MemoryPart]) -> list[tuple[str, int, list[MemoryPart]]]:
    """Each memory there is, its bytes, and the parts that lie there: one on a CPU, else an
    accelerator's and its host's."""
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
    """Of an accelerator that says what it has; None of a CPU."""
    stats = device.memory_stats() if device.platform != "cpu" else None
    return (
        stats["bytes_limit"] - stats["bytes_in_use"] if stats and "bytes_limit" in stats else None
    )


def _host_bytes() -> int:
    """Of the machine, or of the share of it that this process may have."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):  # not there, or "max"
            limits.append(int(Path(path).read_text()))
    return min(limits)
