"""A row of the tables for each result of speed, memory and faults: what was measured, figures."""

from typing import Any

Row = tuple[str, str]


def device(result: dict[str, Any]) -> str:
    """Return the name of the accelerator."""
    return str(result["device"]).split(" x1 ")[0]


def agents_speed(result: dict[str, Any]) -> list[Row]:
    """Of `benchmarks/speed agents`."""
    rates = result["updates_per_second"].items()
    each = [f"{name.upper().replace('_', ' ')} {rate:,.0f}" for name, rate in rates]
    ratios, atoms = result["ratios"], result["settings"]["num_atoms"]
    return [
        (f"updates/s of every agent, batch 256, 256x256, {atoms} atoms", ", ".join(each)),
        (
            "prioritised replay: a step at 1e6 rows over one at 1e4; what it adds to an update",
            f"{ratios['prioritised_large_over_small']:.2f}; {ratios['priorities_over_update']:.0%}",
        ),
    ]


def populations(result: dict[str, Any]) -> Row:
    """Of `benchmarks/speed populations`."""
    devices = result["settings"]["devices"]
    found = {one["members"]: one["over_one"] for one in result["measured"]}
    way = f"vmap_{devices}_devices"
    return (
        f"updates/s of many members over {devices} devices of the host, batch 64, 64 "
        "wide, times one member's",
        ", ".join(f"{count}: {over[way]:.2f}" for count, over in found.items() if way in over),
    )


def faults(result: dict[str, Any]) -> Row:
    """Of `benchmarks/faults.py`."""
    cases = result["cases"]
    in_all = lambda name: sum(each.get(name, 0) for each in cases.values())
    each = [
        f"{name}: {one['restored bit for bit']} of {one['kills']}" for name, one in cases.items()
    ]
    return (
        f"{in_all('kills')} times SIGKILL at random on {result['devices']} devices, "
        f"{in_all('while a checkpoint was half written')} of them while a checkpoint was half "
        "written: resumed bit for bit",
        "; ".join(each),
    )


def memory(result: dict[str, Any]) -> Row:
    """Of `benchmarks/resident_memory.py`."""
    each = [
        f"{name} ({one['grown'] / 1e9:.1f} GB): {one['sum_over_grown']:.2f}"
        for name, one in result["runs"].items()
    ]
    return "memory that a run says it needs, over what its process grew by", "; ".join(each)


def lane(result: dict[str, Any]) -> Row:
    """Of `benchmarks/speed lane`."""
    rates = result["steps_per_second"].items()
    count = result["settings"]["num_envs"]
    return (
        f"steps/s of {count} cars in the lane, by what they see",
        ", ".join(f"{name.replace('_', ' ')} {one['median']:,.0f}" for name, one in rates),
    )


def beside_sbx(result: dict[str, Any]) -> Row:
    """Of `benchmarks/peers updates`."""
    rates = result["updates_per_second"]
    ours, theirs = (rates[name]["median"] for name in ("ddpg_jax", "sbx"))
    agent = result["settings"]["agent"].upper()
    return (
        f"updates/s, batch 256, 256x256, 1,000 a call, beside sbx-rl's {agent} in one run",
        f"{ours:.0f} against {theirs:.0f} (medians; ratio {result['ratio_of_medians']:.2f})",
    )


def host_loop(result: dict[str, Any]) -> Row:
    """Of `benchmarks/peers host-loop`."""
    settings, ratios = result["settings"], result["ratios"]
    rates = {name: one["median"] for name, one in result["env_steps_per_second"].items()}
    count = settings["num_envs"]
    ours, theirs = rates[f"ddpg_jax_{count}_envs"], rates[f"sbx_{count}_envs"]
    return (
        f"env-steps/s on {settings['env']}, one update each, batch {settings['batch_size']}, "
        f"{settings['hidden']} wide, beside sbx-rl's TD3 in one run: one environment; {count}",
        f"{rates['ddpg_jax']:.0f} against {rates['sbx']:.0f} ({ratios['ddpg_jax']:.2f}); "
        f"{ours:.0f} against {theirs:.0f} ({ratios[f'both_{count}_envs']:.2f})",
    )


def beside_rejax(result: dict[str, Any]) -> list[Row]:
    """Of `benchmarks/peers loop`, one for each environment."""
    found: dict[str, list[str]] = {}
    for one in result["measured"]:
        rates = one["vector_steps_per_second"]
        ours, theirs = (rates[name]["median"] for name in ("ddpg_jax", "rejax"))
        text = f"{one['num_envs']}: {ours:,.0f} against {theirs:,.0f} ({one['ratio']:.2f})"
        found.setdefault(one["env"], []).append(text)
    sizes = result["settings"]
    what = f"an update each, batch {sizes['batch_size']}, {sizes['hidden']} wide"
    what += ", beside rejax's TD3, by environments"
    return [(f"vector steps/s on {env}, {what}", "; ".join(each)) for env, each in found.items()]


def solving(result: dict[str, Any]) -> Row:
    """Of `benchmarks/peers solve`."""
    settings = result["settings"]
    word = lambda name, seconds: f"{name} {'not by all' if seconds is None else f'{seconds:.1f}'}"
    each = [
        f"{cache} cache: " + ", ".join(word(name, seconds) for name, seconds in found.items())
        for cache, found in result["median_seconds"].items()
    ]
    return (
        f"pendulum solved (mean return {settings['threshold']:g}): seconds from the "
        f"shell, median of {settings['seeds']} seeds",
        "; ".join(each),
    )


def accelerator_updates(result: dict[str, Any]) -> Row:
    """Of `benchmarks/accelerator.py updates`, at the usual sizes."""
    each = []
    for one in result["measured"]:
        settings = one["settings"]
        usual = settings["batch_size"] == settings["hidden"] == 256
        if usual and settings["dtype"] == "float32":
            rates = one["updates_per_second"].items()
            text = ", ".join(f"{who} {rate:,.0f}" for who, rate in rates)
            each.append(f"{settings['agent']}: {text}")
    return f"{device(result)}: updates/s, batch 256, 256x256, one agent", "; ".join(each)


def accelerator_members(result: dict[str, Any]) -> Row:
    """Of `benchmarks/accelerator.py members`, the most updates."""
    measured = [one for one in result["measured"] if "error" not in one]
    many = max(measured, key=lambda one: one["updates_per_second"]["ddpg_jax"])
    settings = many["settings"]
    return (
        f"{device(result)}: updates/s of {settings['members']:,} agents in one program, "
        f"batch {settings['batch_size']}, {settings['hidden']}x{settings['hidden']}",
        f"{many['updates_per_second']['ddpg_jax']:,.0f}",
    )


def loop_over_parts(result: dict[str, Any]) -> Row:
    """Of `benchmarks/speed loop`."""
    settings = result["settings"]
    backend = f" ({settings['backend']})" if settings["backend"] else ""
    rate = result["rates"]["loop_env_steps_per_second"]
    return (
        f"whole loop over its parts, {settings['env']}{backend}, {settings['num_envs']} "
        "environments",
        f"{result['ratios']['loop_over_parts']:.2f}; {rate:,.0f} env-steps/s",
    )


def replays(result: dict[str, Any]) -> Row:
    """Of `benchmarks/speed loop`, what a large replay costs."""
    ratios = [
        result["ratios"][f"replay_large_over_small_{kind}"] for kind in ("same_rows", "both_full")
    ]
    return (
        "add and sample at capacity 1e6 over 1e4: equally many rows stored, and both rings full",
        "{:.2f}; {:.2f} (cache misses)".format(*ratios),
    )


ROWS = {
    "family": agents_speed,
    "members": populations,
    "faults": faults,
    "memory": memory,
    "lane": lane,
    "sbx_": beside_sbx,
    "sbx_loop": host_loop,
    "rejax_loop": beside_rejax,
    "solve_pendulum": solving,
    "accelerator_updates": accelerator_updates,
    "accelerator_members": accelerator_members,
    "throughput": loop_over_parts,
}
"""By how the names of results begin."""
