"""Updates/s of 1 to 128 members of DDPG in one program, 64 wide, batch 64: by vmap, in turns, over host devices.

    python benchmarks/members.py
    python benchmarks/members.py --members 32 --at-once 1 --at-once 4 --at-once 32

Ways: ``vmap`` of all members on one device; ``loop`` over members on one device, ``--at-once`` of them by vmap; and each of
them with the members over ``--devices`` devices of the host. All ways take turns in one process; ratios are to one member.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import click

FLAG = "--xla_force_host_platform_device_count"


@click.command(context_settings={"show_default": True})
@click.option("--agent", default="ddpg")
@click.option("--members", "counts", multiple=True, type=int, default=(1, 2, 4, 8, 16, 32, 64, 128))
@click.option("--at-once", "at_once", multiple=True, type=int, default=(1,), help="Members by vmap inside a loop over members.")
@click.option("--devices", default=2, help="Of the host.")
@click.option("--batch-size", default=64)
@click.option("--hidden", default=64)
@click.option("--updates", default=12_000, help="A call, of all members together.")
@click.option("--repetitions", default=5)
@click.option("--out", type=click.Path(path_type=Path), default=Path("benchmarks/results/members.json"))
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
    if FLAG not in os.environ.get("XLA_FLAGS", ""):  # read when JAX is loaded
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {FLAG}={devices}".strip()
    from benchmarks import timing
    from ddpg_jax.runs.folder import files

    sizes = {"batch_size": batch_size, "hidden": hidden, "observations": 3, "actions": 1, "capacity": 20_000}
    settings = {"agent": agent, **sizes, "updates": updates, "repetitions": repetitions, "devices": devices}
    result: dict[str, Any] = {**timing.context(), "settings": settings | {"xla_flags": os.environ["XLA_FLAGS"]}, "measured": []}
    for count in counts:
        found = measured(agent, count, [size for size in at_once if size <= count], devices, sizes, updates, repetitions)
        result["measured"].append(found)
        files.write_json(out, result)
        rates = ", ".join(f"{way} {found['over_one'][way]:.2f}" for way in found["over_one"])
        one = found["updates_per_second"]["one"]["median"]
        click.echo(f"{count:4} members, times one member's {one:,.0f} updates/s: {rates}")
    draw(result, out.with_suffix(".png"))
    click.echo(f"{out}\n{out.with_suffix('.png')}")


def measured(
    agent: str, count: int, at_once: list[int], devices: int, sizes: dict[str, int], updates: int, repetitions: int
) -> dict[str, Any]:
    """Every way beside one member alone, in turns."""
    from benchmarks import programs, timing

    part, batches = programs.part_of(agent, **sizes)  # type: ignore[arg-type]
    each = max(batches, updates // count // batches * batches)
    ways = {"vmap": (vmapped, 1)} | {f"loop_{size}": (looped(size), 1) for size in at_once}
    if count % devices == 0:
        ways |= {f"vmap_{devices}_devices": (vmapped, devices)}
        ways |= {f"loop_{size}_{devices}_devices": (looped(size), devices) for size in at_once if size <= count // devices}
    contestants: dict[str, Any] = {"one": contestant(part, 1, updates // batches, vmapped, 1)}
    contestants |= {way: contestant(part, count, each // batches, over, on) for way, (over, on) in ways.items()}
    seconds = timing.alternate(contestants, repetitions)
    done = dict.fromkeys(ways, each * count) | {"one": updates // batches * batches}
    rates = {way: timing.spread([done[way] / value for value in values]) for way, values in seconds.items()}
    over_one = {way: rates[way]["median"] / rates["one"]["median"] for way in ways}
    compile_seconds = {way: one.compile_seconds for way, one in contestants.items()}
    return {"members": count, "updates_per_second": rates, "over_one": over_one, "compile_seconds": compile_seconds}


def vmapped(function: Callable) -> Callable:
    """All members in every operation."""
    import jax

    return jax.vmap(function)


def looped(at_once: int) -> Callable[[Callable], Callable]:
    """So many members in every operation, one group after the other; the states are updated in place.

    One member at a time is what runs alone: by `jax.vmap` of one, products would be batched and rows scattered.
    """
    import jax
    import jax.numpy as jnp

    group = () if at_once == 1 else (at_once,)
    grouped = lambda x: x.reshape(x.shape[0] // at_once, *group, *x.shape[1:])
    flat = lambda x: x.reshape(x.shape[0] * at_once, *x.shape[1 + len(group) :])

    def over(function: Callable) -> Callable:
        across = vmapped(function) if group else function

        def one(states: Any, index: Any) -> Any:
            state, output = across(jax.tree.map(lambda x: x[index], states))
            return jax.tree.map(lambda all, one: all.at[index].set(one), states, state), output

        def turns(state: Any) -> Any:
            groups = jax.tree.map(grouped, state)
            return jax.tree.map(flat, jax.lax.scan(one, groups, jnp.arange(jax.tree.leaves(groups)[0].shape[0])))

        return turns

    return over


def contestant(part: Any, count: int, iterations: int, over: Callable, devices: int) -> Any:
    """``iterations`` updates of each of ``count`` members, over so many devices."""
    import jax
    from jax.sharding import NamedSharding, PartitionSpec

    from benchmarks import timing
    from ddpg_jax.types import strong

    init, step = part

    def start(key: Any) -> Any:
        init_key, run_key = jax.random.split(key)
        return strong((init(init_key), run_key))

    def run(state: Any) -> Any:
        inner, key = state
        key, scan_key = jax.random.split(key)
        inner, output = timing.repeated(step, iterations, (1, 2))(inner, scan_key)
        return (inner, key), output

    if count == 1:
        return timing.Contestant(run, jax.jit(start)(jax.random.key(0)))
    mesh, spec = jax.make_mesh((devices,), ("members",), devices=jax.devices()[:devices]), PartitionSpec("members")
    state = jax.device_put(jax.jit(jax.vmap(start))(jax.random.split(jax.random.key(0), count)), NamedSharding(mesh, spec))
    spread = jax.shard_map(over(run), mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False)
    return timing.Contestant(spread, state)


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
    axes[0, 0].set(xscale="log", xlabel="members", ylabel="updates/s of all, times one member's", ylim=(0, None))
    axes[0, 0].set_xticks([found["members"] for found in result["measured"]], [f["members"] for f in result["measured"]])
    axes[0, 0].grid(alpha=0.3)
    axes[0, 0].legend(fontsize="x-small")
    figure.savefig(path)


if __name__ == "__main__":
    main()
