"""Does this JAX still write into a ring in place, and compute what its eager mode does?

    python benchmarks/canary.py

Rows are added in a scan, and a batch is drawn, in rings of 10,000 and 1,000,000 rows of 36 bytes
and of 1 kB: temporary bytes, bytes that are not aliased and copies in the compiled program may not
grow with the ring, by more than a hundredth of it. Beside it the seconds of a step. Then storing,
sampling and an update of each storage, compiled for one device and for eight (of the host, where
there are no others), against eager mode. Exit code 1 where one of it fails.
"""

import functools
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    flags = os.environ.get("XLA_FLAGS", "")
    os.environ["XLA_FLAGS"] = f"{flags} --xla_force_host_platform_device_count=8"

import click
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from benchmarks import components, harness
from benchmarks.compiled import hlo
from ddpg_jax import agents, replay
from ddpg_jax.runs.folder import files
from ddpg_jax.types import Agent, Key, PyTree, Replay, Storage

ROWS = {36: (3, 1), 1_024: (126, 2)}
"""Bytes of a row, and the components of its observation and action."""
REPLAYS = {"uniform": replay.uniform, "prioritised": replay.prioritised}
SHARE = 0.01
"""Of a ring's bytes, by which nothing may grow with it."""
ENVS, STACK = 4, 2
CLOSE: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-5}
"""A fused sum has other roundings than one in parts."""


def ring(kind: str, row: int, capacity: int, steps: int, filled: int) -> tuple[Any, PyTree]:
    """``steps`` of adding and sampling in one compiled program, and its state."""
    observation, action = (jax.ShapeDtypeStruct((size,), jnp.float32) for size in ROWS[row])
    part = components.storing(
        REPLAYS[kind](capacity, 256), harness.shaped(observation, action), filled, num_envs=8
    )
    start, run = harness.program(*part, steps)
    state = jax.jit(start)(jax.random.key(0))
    return jax.jit(run, donate_argnums=0).lower(state).compile(), state


def figures(compiled: Any) -> dict[str, int]:
    """What may not grow with the ring: bytes."""
    memory = compiled.memory_analysis()
    copies = [hlo.size_of(one.shape) for one in _copies(hlo.read(compiled.as_text()))]
    return {
        "temporary": memory.temp_size_in_bytes,
        "not aliased": memory.argument_size_in_bytes - memory.alias_size_in_bytes,
        "copied": sum(copies),
    }


def _copies(loop: hlo.Loop) -> Iterator[hlo.Instruction]:
    yield from loop.copies
    for inner in (*loop.loops, *(each for branches in loop.conditionals for each in branches)):
        yield from _copies(inner)


def rings(small: int, large: int, steps: int, repetitions: int) -> tuple[list[Any], list[str]]:
    """The figures of every ring, and a sentence for each that grows with it."""
    measured, found = [], []
    for kind in REPLAYS:
        for row in ROWS:
            each = {}
            for capacity in (small, large):
                compiled, state = ring(kind, row, capacity, steps, small)
                each[capacity] = figures(compiled)
                seconds = harness.alternate({"": _again(compiled, state)}, repetitions)[""]
                taken = harness.spread([one / steps for one in seconds])
                what = {"replay": kind, "row_bytes": row, "capacity": capacity}
                measured.append(what | each[capacity] | {"seconds_per_step": taken})
            most = SHARE * row * (large - small)
            grown = {name: each[large][name] - each[small][name] for name in each[large]}
            found += [
                f"{kind}, rows of {row} bytes: {name} grows by {by:,} bytes with the ring"
                for name, by in grown.items()
                if by > most
            ]
    return measured, found


def _again(compiled: Any, state: PyTree) -> Callable[[], None]:
    held = [state]

    def call() -> None:
        held[0], _ = jax.block_until_ready(compiled(held[0]))

    return call


class Linear:
    """A network without Flax: one layer of all inputs' means."""

    def init(self, key: Key, *inputs: PyTree) -> PyTree:
        """Weights for as many leaves as the inputs have."""
        return jax.random.normal(key, (len(jax.tree.leaves(inputs)),))

    def apply(self, params: PyTree, *inputs: PyTree, **_: Any) -> jax.Array:
        """A value of each example, or an action where there is no action among the inputs."""
        means = [
            jnp.mean(x.astype(jnp.float32).reshape(*x.shape[: -_rank(x)], -1), axis=-1)
            for x in jax.tree.leaves(inputs)
        ]
        value = jnp.tanh(sum(weight * mean for weight, mean in zip(params, means, strict=True)))
        return value if len(inputs) > 1 else value[..., None]


def _rank(x: jax.Array) -> int:
    return 3 if x.dtype == jnp.uint8 else 1


def storages() -> dict[str, Replay]:
    """Every storage with either way of sampling."""
    kinds: dict[str, Callable[[int], Storage]] = {
        "rows": replay.rows,
        "rows in bfloat16": functools.partial(replay.rows, observation_dtype=jnp.bfloat16),
        "frames": functools.partial(replay.frames, stack=STACK, num_envs=ENVS),
    }
    return {
        f"{name}, {how}": made(64, 16, storage=storage)
        for name, storage in kinds.items()
        for how, made in REPLAYS.items()
    }


def learned(agent: Agent, memory: Replay, image: bool, key: Key) -> PyTree:
    """What is stored, sampled and learned from a few steps: agent and replay."""
    shape, dtype = ((4, 4, STACK), jnp.uint8) if image else ((3,), jnp.float32)
    like = harness.shaped(
        jax.ShapeDtypeStruct(shape, dtype), jax.ShapeDtypeStruct((1,), jnp.float32)
    )
    agent_key, *keys = jax.random.split(key, 7)
    new = [harness.transitions(each, like, ENVS) for each in keys[:3]]
    example = jax.tree.map(lambda x: x[0], new[0])
    state = agent.init(agent_key, example.observation, example.action)
    stored = memory.init(example)
    for step in new:
        stored = memory.add(stored, step)
    sampled = memory.sample(stored, keys[3])
    weighted = (sampled.batch, keys[4], sampled.weight) if memory.update else (sampled, keys[4])
    state, priority, _ = agent.update(state, *weighted)
    if memory.update is not None:
        stored = memory.update(stored, sampled.rows, priority)
    return state, stored


def differences(devices: int) -> list[str]:
    """The storages whose compiled program, one of ``devices`` a shard, is not the eager one."""
    agent, found = agents.ddpg(Linear(), Linear()), []
    mesh = Mesh(np.array(jax.devices()[:devices]), "data")
    keys = jax.random.split(jax.random.key(1), devices)
    for name, memory in storages().items():
        each = functools.partial(learned, agent, memory, name.startswith("frames"))
        spec = PartitionSpec("data")
        lead = lambda keys, each=each: jax.tree.map(lambda x: x[None], each(keys[0]))
        program = jax.shard_map(lead, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False)
        compiled = jax.jit(program)(keys)
        with jax.disable_jit():
            eager = [each(key) for key in keys]
        for shard, wanted in enumerate(eager):
            own = jax.tree.map(lambda x, shard=shard: x[shard], compiled)
            pairs = zip(jax.tree.leaves(own), jax.tree.leaves(wanted), strict=True)
            if not all(np.allclose(_plain(a), _plain(b), **CLOSE) for a, b in pairs):
                found.append(f"{name}: shard {shard} of {devices} is not what eager mode computes")
    return found


def _plain(x: jax.Array) -> np.ndarray:
    return np.asarray(x, np.float64)


@click.command(context_settings={"show_default": True})
@click.option("--small", default=10_000, help="Rows of the small ring, a multiple of 8.")
@click.option("--large", default=1_000_000, help="Rows of the large one, a multiple of --small.")
@click.option("--steps", default=200, help="Of adding and sampling in a call.")
@harness.options("canary")
def main(small: int, large: int, steps: int, repetitions: int, out: Path) -> None:
    """Measure, write JSON, and say what is no longer as it was."""
    measured, found = rings(small, large, steps, repetitions)
    shards = (1, min(8, jax.device_count()))
    found += [said for devices in dict.fromkeys(shards) for said in differences(devices)]
    settings = {"small": small, "large": large, "steps": steps, "shards": shards}
    result = {**harness.context(), "settings": settings, "rings": measured, "found": found}
    files.write_json(out, result)
    for each in measured:
        names = ("replay", "row_bytes", "capacity", "temporary", "not aliased", "copied")
        rate = f"{1e6 * each['seconds_per_step']['median']:,.1f} us a step"
        click.echo(", ".join(f"{name} {each[name]}" for name in names) + f", {rate}")
    click.echo("\n".join([*found, str(out)]))
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
