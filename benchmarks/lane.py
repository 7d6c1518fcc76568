"""Steps a second of the lane: cars side by side, that know their place on the road or look through a camera.

python benchmarks/lane.py
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import click
import jax

from benchmarks import timing
from ddpg_jax import envs
from ddpg_jax.runs import parts
from ddpg_jax.runs.folder import files


@click.command(context_settings={"show_default": True})
@click.option("--num-envs", default=64)
@click.option("--camera-size", "sizes", multiple=True, default=(32, 64))
@click.option("--iterations", default=100, help="Vector steps per call.")
@click.option("--repetitions", default=7)
@click.option("--out", type=click.Path(path_type=Path), default=Path("benchmarks/results/lane.json"))
def main(num_envs: int, sizes: tuple[int, ...], iterations: int, repetitions: int, out: Path) -> None:
    """Measure steps by random actions, in turns, and write JSON."""
    seen = {"features": {}, **{f"camera_{size}": {"observation": "camera", "camera_size": size} for size in sizes}}
    made = {name: parts.stepping(envs.make("lane", num_envs, **options)) for name, options in seen.items()}
    contestants = {name: timing.scanned(*part, iterations, jax.random.key(0)) for name, part in made.items()}
    seconds = timing.alternate(contestants, repetitions)
    steps = num_envs * iterations
    result = {
        **timing.context(),
        "settings": {"num_envs": num_envs, "iterations": iterations, "repetitions": repetitions},
        "compile_seconds": {name: each.compile_seconds for name, each in contestants.items()},
        "steps_per_second": {name: timing.spread([steps / value for value in values]) for name, values in seconds.items()},
    }
    files.write_json(out, result)
    for name, rates in result["steps_per_second"].items():
        click.echo(f"{name}: {rates['median']:,.0f} steps/s")
    click.echo(str(out))


if __name__ == "__main__":
    main()
