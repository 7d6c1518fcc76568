"""The training loop and its parts: environments, updates, replay.

    python benchmarks/speed loop --env brax/halfcheetah --backend spring --num-envs 16

One iteration is one vector step: ``num_envs`` environment steps and ``updates_per_step`` updates,
for each seed. Every contestant scans equally many iterations; replays are full, so that samples
reach all rows, but for one large ring that holds as few rows as the small one.
"""

from pathlib import Path
from typing import Any

import click
import jax

from benchmarks import components, harness, workloads
from ddpg_jax import envs, replay
from ddpg_jax.environment import Environment

SMALL = 10_000
"""Capacity of the replay that the large one is compared with."""


@click.command(context_settings={"show_default": True})
@click.option(
    "--env", "name", default="brax/halfcheetah", help="A name that `ddpg-jax envs` lists."
)
@click.option("--backend", default=None, help="Brax's physics. [default: spring for Brax]")
@click.option("--num-envs", default=16)
@click.option("--hidden", default=256, help="Width of the two hidden layers.")
@click.option("--batch-size", default=256)
@click.option("--updates-per-step", default=1, help="Updates per vector step.")
@click.option(
    "--capacity", default=1_000_000, help=f"Of the loop's replay; compared with {SMALL:,}."
)
@click.option("--iterations", default=500, help="Vector steps per call.")
@click.option("--seeds", default=1, help="Members, by vmap.")
@harness.options("throughput", repetitions=7)
def main(name: str, backend: str | None, out: Path, repetitions: int, **sizes: int) -> None:
    """Measure the parts and the whole loop, and write medians, spreads and ratios as JSON."""
    if name.startswith("brax/"):
        backend = backend or "spring"
    env = envs.make(name, sizes["num_envs"], **({"backend": backend} if backend else {}))
    seconds, compile_seconds = harness.race(compete(env, **sizes), repetitions)
    result = {
        "settings": {"env": name, "backend": backend, "repetitions": repetitions, **sizes},
        "compile_seconds": compile_seconds,
        **summarise(seconds, sizes),
    }
    harness.write(out, result)
    click.echo(harness.table(result))
    click.echo(str(out))


def compete(
    env: Environment,
    *,
    num_envs: int,
    hidden: int,
    batch_size: int,
    updates_per_step: int,
    capacity: int,
    iterations: int,
    seeds: int,
) -> dict[str, harness.Contestant]:
    """Return the contestants, compiled."""
    agent = workloads.agent_of("ddpg", env.action.shape[-1], (hidden, hidden)).agent
    keys = jax.random.split(jax.random.key(0), seeds) if seeds > 1 else jax.random.key(0)
    small = -(-max(SMALL, batch_size) // num_envs) * num_envs
    large = -(-max(capacity, small) // small) * small
    like = harness.shaped(env.observation, env.action)

    def only(part: harness.Part) -> harness.Contestant:
        return harness.scanned(*part, iterations, keys)

    def stored(capacity: int, rows: int) -> harness.Contestant:
        ring = replay.uniform(capacity, batch_size)
        return only(components.storing(ring, like, rows, num_envs, samples=updates_per_step))

    init, update = components.updating(agent, replay.uniform(batch_size, batch_size), like)
    return {
        "env": only(components.stepping(env)),
        "update": only((init, harness.repeated(update, updates_per_step))),
        "replay_small": stored(small, small),
        "replay_same_rows": stored(large, small),
        "replay": stored(large, large),
        "loop": workloads.loop(
            agent,
            env,
            capacity=large,
            batch_size=batch_size,
            updates_per_step=updates_per_step,
            iterations=iterations,
            keys=keys,
        ),
    }


def summarise(seconds: dict[str, list[float]], sizes: dict[str, int]) -> dict[str, Any]:
    """Return medians per iteration, rates over all seeds, and the ratios."""
    each = harness.per_call(seconds, sizes["iterations"])
    median = {name: values["median"] for name, values in each.items()}
    env_steps = sizes["seeds"] * sizes["num_envs"]
    updates = sizes["seeds"] * sizes["updates_per_step"]
    parts = median["env"] + median["update"] + median["replay"]
    return {
        "seconds_per_iteration": each,
        "rates": {
            "env_only_env_steps_per_second": env_steps / median["env"],
            "update_only_updates_per_second": updates / median["update"],
            "replay_only_iterations_per_second": 1 / median["replay"],
            "replay_small_only_iterations_per_second": 1 / median["replay_small"],
            "loop_env_steps_per_second": env_steps / median["loop"],
            "loop_updates_per_second": updates / median["loop"],
        },
        "ratios": {
            "loop_over_parts": median["loop"] / parts,
            "replay_large_over_small_same_rows": (
                median["replay_same_rows"] / median["replay_small"]
            ),
            "replay_large_over_small_both_full": median["replay"] / median["replay_small"],
        },
    }
