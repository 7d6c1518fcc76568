"""Updates alone by batch and width, their matrix products alone, and SBX where it is installed.

    python benchmarks/speed updates
    python benchmarks/speed updates --xla-flags "--xla_cpu_experimental_ynn_fusion_type="

``products`` are the matrix products of an update and nothing else, on the same device in the same
process. ``--xla-flags`` hold for all contestants.
"""

import os
import statistics
from pathlib import Path
from typing import Any

import click
import jax

from benchmarks import harness, matmul_bound, workloads

TOTAL = 3e9
"""Floating-point operations in the products of a call, about; at least `FEWEST` updates."""
FEWEST = 10


@click.command(context_settings={"show_default": True})
@click.option("--agent", "names", multiple=True, default=("ddpg", "td3"))
@click.option(
    "--batch-size", "batches", multiple=True, type=int, default=(64, 256, 1_024, 4_096, 32_768)
)
@click.option(
    "--hidden",
    "widths",
    multiple=True,
    type=int,
    default=(64, 256, 1_024),
    help="Of both hidden layers.",
)
@click.option(
    "--updates",
    type=int,
    default=None,
    help="A call. [default: as many as take about as long at each size]",
)
@click.option(
    "--xla-flags",
    default=None,
    help="Of XLA, for all contestants. [default: those of the environment]",
)
@harness.options("updates[_flags]")
def main(
    names: tuple[str, ...],
    batches: tuple[int, ...],
    widths: tuple[int, ...],
    updates: int | None,
    xla_flags: str | None,
    repetitions: int,
    out: Path | None,
) -> None:
    """Measure each agent at each batch size and width, and write what is known after each."""
    if xla_flags is not None:
        os.environ["XLA_FLAGS"] = xla_flags  # read when JAX first computes
    out = out or harness.RESULTS / f"updates{'' if xla_flags is None else '_flags'}.json"
    settings = {"repetitions": repetitions, "xla_flags": os.environ.get("XLA_FLAGS", "")}
    measured: list[dict[str, Any]] = []
    for name, batch_size, hidden in ((n, b, w) for n in names for w in widths for b in batches):
        measured.append(found := measure(name, batch_size, hidden, repetitions, updates))
        harness.write(out, {"settings": settings, "measured": measured})
        rates = found["updates_per_second"].items()
        each = ", ".join(f"{who} {one['median']:,.1f}/s" for who, one in rates)
        share = found["products_over_update"]
        click.echo(
            f"{name} batch {batch_size:,} width {hidden:,}: {each}; products take {share:.2f}"
        )
    click.echo(str(out))


def measure(
    name: str, batch_size: int, hidden: int, repetitions: int, updates: int | None
) -> dict[str, Any]:
    """Return rates of ours, of its products alone, and of SBX's where it is installed."""
    part, batches = workloads.part_of(name, batch_size=batch_size, hidden=hidden)
    shapes = jax.eval_shape(part[0], jax.random.key(0))
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), (1, 2)))
    products = matmul_bound.products(part[1], shapes, keys)
    operations = matmul_bound.flops(products) // batches
    count = updates or max(FEWEST, round(TOTAL / operations))
    count = -(-count // batches) * batches
    key = jax.random.key(0)
    contestants: dict[str, Any] = {
        "ddpg_jax": harness.scanned(*part, count // batches, key, keys_each=(1, 2)),
        "products": harness.scanned(*matmul_bound.alone(products), count // batches, key),
        **_sbx(name, batch_size, hidden, count),
    }
    seconds, compile_seconds = harness.race(contestants, repetitions)
    rates = harness.rates(seconds, count)
    result = {
        "settings": {
            "agent": name,
            "batch_size": batch_size,
            "hidden": hidden,
            "updates": count,
        },
        "compile_seconds": compile_seconds,
        "updates_per_second": rates,
        "flops_of_products": operations,
        "products_over_update": rates["ddpg_jax"]["median"] / rates["products"]["median"],
    }
    if "sbx" in seconds:
        both = zip(seconds["ddpg_jax"], seconds["sbx"], strict=True)
        pairs = [their / our for our, their in both]
        result |= {"over_sbx": statistics.median(pairs), "pair_ratios": pairs}
    return result


def _sbx(name: str, batch_size: int, hidden: int, steps: int) -> dict[str, Any]:
    from benchmarks.peers import sbx

    if not sbx.installed() or name not in sbx.DELAY:
        return {}
    return {"sbx": sbx.Updates(name, hidden=hidden, batch_size=batch_size, steps=steps)}
