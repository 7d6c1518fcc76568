"""Steps a second of the lane: cars that know their place on the road, or look through a camera.

python benchmarks/speed lane
"""

from pathlib import Path
from typing import Any

import click
import jax

from benchmarks import components, harness
from ddpg_jax import envs


@click.command(context_settings={"show_default": True})
@click.option("--num-envs", default=64)
@click.option("--camera-size", "sizes", multiple=True, default=(32, 64))
@click.option("--iterations", default=100, help="Vector steps per call.")
@harness.options("lane", repetitions=7)
def main(
    num_envs: int, sizes: tuple[int, ...], iterations: int, repetitions: int, out: Path
) -> None:
    """Measure steps by random actions, in turns, and write JSON."""
    cameras = {f"camera_{size}": {"observation": "camera", "camera_size": size} for size in sizes}
    seen: dict[str, dict[str, Any]] = {"features": {}, **cameras}
    contestants = {}
    for name, options in seen.items():
        part = components.stepping(envs.make("lane", num_envs, **options))
        contestants[name] = harness.scanned(*part, iterations, jax.random.key(0))
    seconds, compile_seconds = harness.race(contestants, repetitions)
    settings = {"num_envs": num_envs, "iterations": iterations, "repetitions": repetitions}
    rates = harness.rates(seconds, num_envs * iterations)
    found = {
        "settings": settings,
        "compile_seconds": compile_seconds,
        "steps_per_second": rates,
    }
    harness.write(out, found)
    for name, one in rates.items():
        click.echo(f"{name}: {one['median']:,.0f} steps/s")
    click.echo(str(out))
