"""Updates/s of 1 to 128 members of DDPG in one program, 64 wide, batch 64.

    python benchmarks/speed populations
    python benchmarks/speed populations --members 32 --at-once 1 --at-once 4 --at-once 32

Ways: ``vmap`` of all members on one device; ``loop`` over members on one device, ``--at-once`` of
them by vmap; and each of them with the members over ``--devices`` devices of the host. Ratios are
to one member.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from benchmarks import harness, workloads

FLAG = "--xla_force_host_platform_device_count"


@click.command(context_settings={"show_default": True})
@click.option("--agent", default="ddpg")
@click.option("--members", "counts", multiple=True, type=int, default=(1, 2, 4, 8, 16, 32, 64, 128))
@click.option(
    "--at-once", multiple=True, type=int, default=(1,), help="By vmap inside a loop over members."
)
@click.option("--devices", default=2, help="Of the host.")
@click.option("--batch-size", default=64)
@click.option("--hidden", default=64)
@click.option("--updates", default=12_000, help="A call, of all members together.")
@harness.options("members")
def main(
    agent: str,
    counts: tuple[int, ...],
    at_once: tuple[int, ...],
    devices: int,
    batch_size: int,
    hidden: int,
    updates: int,
    repetitions: int,
    out: Path,
) -> None:
    """Measure each number of members, write JSON after each and a picture at the end."""
    flags = os.environ.get("XLA_FLAGS", "")
    if FLAG not in flags:
        os.environ["XLA_FLAGS"] = (
            f"{flags} {FLAG}={devices}".strip()
        )  # read when JAX first computes
    sizes = {"batch_size": batch_size, "hidden": hidden, "observations": 3, "actions": 1}
    sizes |= {"capacity": 20_000}
    settings = {"agent": agent, **sizes, "updates": updates, "repetitions": repetitions}
    settings |= {"devices": devices, "xla_flags": os.environ["XLA_FLAGS"]}
    result: dict[str, Any] = {"settings": settings, "measured": []}
    for count in counts:
        ways = ways_of(count, [size for size in at_once if size <= count], devices)
        found = measure(workloads.part_of(agent, **sizes), count, ways, updates, repetitions)  # type: ignore[arg-type]
        result["measured"].append(found)
        harness.write(out, result)
        rates = ", ".join(f"{way} {ratio:.2f}" for way, ratio in found["over_one"].items())
        one = found["updates_per_second"]["one"]["median"]
        click.echo(f"{count:4} members, times one member's {one:,.0f} updates/s: {rates}")
    draw(result, out.with_suffix(".png"))
    click.echo(f"{out}\n{out.with_suffix('.png')}")


def ways_of(count: int, at_once: list[int], devices: int) -> dict[str, tuple[Callable, int]]:
    """Return how members are spread, and over how many devices, by name."""
    ways: dict[str, tuple[Callable, int]] = {"vmap": (jax.vmap, 1)}
    ways |= {f"loop_{size}": (looped(size), 1) for size in at_once}
    if count >= devices:
        ways |= {f"vmap_{devices}_devices": (jax.vmap, devices)}
        fit = [size for size in at_once if size <= count // devices]
        ways |= {f"loop_{size}_{devices}_devices": (looped(size), devices) for size in fit}
    return ways


def measure(
    made: tuple[harness.Part, int],
    count: int,
    ways: dict[str, tuple[Callable, int]],
    updates: int,
    repetitions: int,
) -> dict[str, Any]:
    """Return the rates of every way and of one member alone, in turns."""
    part, batches = made
    each = max(batches, updates // count // batches * batches)
    contestants = {"one": contestant(part, 1, updates // batches, jax.vmap, 1)}
    for way, (over, on) in ways.items():
        contestants[way] = contestant(part, count, each // batches, over, on)
    seconds, compile_seconds = harness.race(contestants, repetitions)
    done = dict.fromkeys(ways, each * count) | {"one": updates // batches * batches}
    rates = {way: harness.rates({way: values}, done[way])[way] for way, values in seconds.items()}
    return {
        "members": count,
        "updates_per_second": rates,
        "over_one": {way: rates[way]["median"] / rates["one"]["median"] for way in ways},
        "compile_seconds": compile_seconds,
    }


def looped(at_once: int) -> Callable[[Callable], Callable]:
    """Return what runs ``at_once`` members in every operation, one group after the other.

    The states are updated in place. One member at a time is what runs alone: by `jax.vmap` of one,
    products would be batched and rows scattered.
    """
    group = () if at_once == 1 else (at_once,)
    grouped = lambda x: x.reshape(x.shape[0] // at_once, *group, *x.shape[1:])
    flat = lambda x: x.reshape(x.shape[0] * at_once, *x.shape[1 + len(group) :])

    def over(function: Callable) -> Callable:
        across = jax.vmap(function) if group else function

        def one(states: Any, index: Any) -> Any:
            state, output = across(jax.tree.map(lambda x: x[index], states))
            return jax.tree.map(lambda all, one: all.at[index].set(one), states, state), output

        def turns(state: Any) -> Any:
            groups = jax.tree.map(grouped, state)
            indices = jnp.arange(jax.tree.leaves(groups)[0].shape[0])
            return jax.tree.map(flat, jax.lax.scan(one, groups, indices))

        return turns

    return over


def contestant(
    part: harness.Part, count: int, iterations: int, over: Callable, devices: int
) -> harness.Contestant:
    """Return ``iterations`` updates of each of ``count`` members, over so many devices."""
    start, run = harness.program(*part, iterations, (1, 2))
    if count == 1:
        return harness.Contestant(run, jax.jit(start)(jax.random.key(0)))
    mesh = jax.make_mesh((devices,), ("members",), devices=jax.devices()[:devices])
    spec = PartitionSpec("members")
    keys = jax.random.split(jax.random.key(0), count)
    state = jax.device_put(jax.jit(jax.vmap(start))(keys), NamedSharding(mesh, spec))
    spread = jax.shard_map(over(run), mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False)
    return harness.Contestant(spread, state)


def draw(result: dict[str, Any], path: Path) -> None:
    """Times one member, against members."""
    from benchmarks.studies.common import canvas

    figure, axes = canvas(1, 1, 6.0, 4.0)
    curves: dict[str, list[tuple[int, float]]] = {}
    for found in result["measured"]:
        for way, ratio in found["over_one"].items():
            curves.setdefault(way, []).append((found["members"], ratio))
    for way, points in curves.items():
        axes[0, 0].plot(*zip(*points, strict=True), marker="o", ms=3, label=way.replace("_", " "))
    axes[0, 0].axhline(2.0, color="black", lw=0.6, ls=":")
    axes[0, 0].set(
        xscale="log",
        xlabel="members",
        ylabel="updates/s of all, times one member's",
        ylim=(0, None),
    )
    axes[0, 0].set_xticks(
        [found["members"] for found in result["measured"]],
        [f["members"] for f in result["measured"]],
    )
    axes[0, 0].grid(alpha=0.3)
    axes[0, 0].legend(fontsize="x-small")
    figure.savefig(path)
