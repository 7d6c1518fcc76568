"""Updates alone by batch and width, the share of what their matrix products allow, and SBX beside them where it is installed.

    python benchmarks/updates.py
    python benchmarks/updates.py --xla-flags "--xla_cpu_experimental_ynn_fusion_type="

All contestants of a size take turns in one process. ``products`` are the matrix products of an update and nothing else, on the
same device in the same run. With ``--xla-flags`` the script starts itself again with these, which ours and SBX both get then.
"""

import os
import statistics
import sys
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import click

TOTAL = 3e9
"""Floating-point operations in the products of a call, about; at least `FEWEST` updates."""
FEWEST = 10


@click.command(context_settings={"show_default": True})
@click.option("--agent", "names", multiple=True, default=("ddpg", "td3"))
@click.option("--batch-size", "batches", multiple=True, type=int, default=(64, 256, 1_024, 4_096, 32_768))
@click.option("--hidden", "widths", multiple=True, type=int, default=(64, 256, 1_024), help="Of both hidden layers.")
@click.option("--repetitions", default=5)
@click.option("--updates", type=int, default=None, help="A call. [default: as many as take about as long at each size]")
@click.option("--xla-flags", default=None, help="Of XLA, for all contestants. [default: those of the environment]")
@click.option("--out", type=click.Path(path_type=Path), default=None, help="[default: benchmarks/results/updates[_flags].json]")
def main(
    names: tuple[str, ...],
    batches: tuple[int, ...],
    widths: tuple[int, ...],
    repetitions: int,
    updates: int | None,
    xla_flags: str | None,
    out: Path | None,
) -> None:
    """Measure each agent at each batch size and width, and write what is known after each."""
    if xla_flags is not None and os.environ.get("XLA_FLAGS") != xla_flags:
        os.environ["XLA_FLAGS"] = xla_flags  # read when JAX is loaded, by us or by whatever is imported first
        os.execv(sys.executable, [sys.executable, *sys.argv])
    from benchmarks import timing
    from ddpg_jax.runs.folder import files

    out = out or Path(f"benchmarks/results/updates{'' if xla_flags is None else '_flags'}.json")
    settings = {"repetitions": repetitions, "xla_flags": os.environ.get("XLA_FLAGS", "")}
    result: dict[str, Any] = {**timing.context(), "settings": settings, "measured": []}
    for name, batch_size, hidden in ((n, b, w) for n in names for w in widths for b in batches):
        found = measured(name, batch_size, hidden, repetitions, updates)
        result["measured"].append(found)
        files.write_json(out, result)
        rates = ", ".join(f"{who} {one['median']:,.1f}/s" for who, one in found["updates_per_second"].items())
        click.echo(f"{name} batch {batch_size:,} width {hidden:,}: {rates}; products take {found['products_over_update']:.2f}")
    click.echo(str(out))


def measured(name: str, batch_size: int, hidden: int, repetitions: int, updates: int | None) -> dict[str, Any]:
    """Ours, its products alone, and SBX's where it is installed and has the agent."""
    import jax

    from benchmarks import programs, timing
    from ddpg_jax.runs import limit

    part, batches = programs.part_of(name, batch_size=batch_size, hidden=hidden)
    shapes = jax.eval_shape(part[0], jax.random.key(0))
    found = limit.products(part[1], shapes, jax.eval_shape(lambda: jax.random.split(jax.random.key(0), (1, 2))))
    operations = limit.flops(found) // batches
    count = updates or max(FEWEST, round(TOTAL / operations))
    count = -(-count // batches) * batches
    key = jax.random.key(0)
    contestants: dict[str, Any] = {
        "ddpg_jax": timing.scanned(*part, count // batches, key, keys_each=(1, 2)),
        "products": timing.scanned(*limit.alone(found), count // batches, key),
        **_sbx(name, batch_size, hidden, count),
    }
    seconds = timing.alternate(contestants, repetitions)
    rates = {who: timing.spread([count / value for value in values]) for who, values in seconds.items()}
    result = {
        "settings": {"agent": name, "batch_size": batch_size, "hidden": hidden, "updates": count},
        "compile_seconds": {who: call.compile_seconds for who, call in contestants.items()},
        "updates_per_second": rates,
        "flops_of_products": operations,
        "products_over_update": rates["ddpg_jax"]["median"] / rates["products"]["median"],
    }
    if "sbx" in seconds:
        pairs = [their / our for our, their in zip(seconds["ddpg_jax"], seconds["sbx"], strict=True)]
        result |= {"over_sbx": statistics.median(pairs), "pair_ratios": pairs}
    return result


def _sbx(name: str, batch_size: int, hidden: int, steps: int) -> dict[str, Any]:
    try:
        from benchmarks.peers import sbx

        sbx.imported()
    except (ImportError, click.ClickException):
        return {}
    return {"sbx": sbx.Theirs(name, hidden=hidden, batch_size=batch_size, steps=steps)} if name in sbx.DELAY else {}


if __name__ == "__main__":
    main()
