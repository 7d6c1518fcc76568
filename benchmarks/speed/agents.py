"""Updates of every agent, and what prioritised replay costs beside them.

    python benchmarks/speed agents

An update is one critic step (and one actor step, or half of one with delay 2) on a batch of its
own. Replays are full, and a step of them adds a row, samples a batch and, if prioritised, takes
the errors back.
"""

from pathlib import Path

import click
import jax

from benchmarks import components, harness, workloads
from ddpg_jax import replay

SMALL, LARGE = 10_000, 1_000_000


@click.command(context_settings={"show_default": True})
@click.option("--observations", default=17)
@click.option("--actions", default=6)
@click.option("--hidden", default=256, help="Width of the two hidden layers.")
@click.option("--batch-size", default=256)
@click.option("--iterations", default=200, help="Updates per call.")
@harness.options("family", repetitions=7)
def main(out: Path, repetitions: int, **sizes: int) -> None:
    """Measure all and write medians, spreads and ratios as JSON."""
    seconds, compile_seconds = harness.race(compete(**sizes), repetitions)
    each = harness.per_call(seconds, sizes["iterations"])
    median = {name: value["median"] for name, value in each.items()}
    priorities = median["prioritised_large"] - median["uniform_large"]
    over = lambda one, other: median[other] / median[one]
    ratios = {
        **{f"{name}_over_ddpg": over(name, "ddpg") for name in workloads.AGENTS if name != "ddpg"},
        "prioritised_large_over_small": over("prioritised_small", "prioritised_large"),
        "uniform_large_over_small": over("uniform_small", "uniform_large"),
        "priorities_over_update": priorities / median["ddpg"],
    }
    fixed = {"policy_delay": workloads.POLICY_DELAY, "num_atoms": workloads.NUM_ATOMS}
    result = {
        "settings": {"repetitions": repetitions, **fixed, **sizes},
        "compile_seconds": compile_seconds,
        "seconds_per_iteration": each,
        "updates_per_second": {name: 1 / median[name] for name in workloads.AGENTS},
        "ratios": ratios,
    }
    harness.write(out, result)
    click.echo(harness.table(result))
    click.echo(str(out))


def compete(
    *, observations: int, actions: int, hidden: int, batch_size: int, iterations: int
) -> dict[str, harness.Contestant]:
    """Return the contestants, compiled; each makes ``iterations`` updates per call."""
    like, key = workloads.shapes(observations, actions), jax.random.key(0)
    contestants = {}
    for name in workloads.AGENTS:
        made = workloads.agent_of(name, actions, (hidden, hidden))
        rows = batch_size * made.batches
        part = components.updating(made.agent, replay.uniform(rows, rows), like)
        contestants[name] = harness.scanned(*part, iterations // made.batches, key)
    for name, capacity in (("small", SMALL), ("large", LARGE)):
        for kind in (replay.uniform, replay.prioritised):
            part = components.storing(kind(capacity, batch_size), like, capacity, num_envs=1)
            contestants[f"{kind.__name__}_{name}"] = harness.scanned(*part, iterations, key)
    return contestants
