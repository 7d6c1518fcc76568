"""What autoencoders of `ddpg-jax train lane --preset drive` make of roads that no training saw,
beside the mean image.

    python benchmarks/studies/autoencoder.py runs/drive-0 runs/drive-1

1,000 images of the 20 held-out roads: anywhere on their first 250 m, in the lane, up to 0.1 rad
from its direction. Errors are mean squares of colours in [0, 1]; the mean image is that of these
very images.
"""

import sys
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import click
import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import harness
from ddpg_jax.envs.lane import camera, held_out
from ddpg_jax.envs.lane.road import LANE_WIDTH, RMS_CURVATURE
from ddpg_jax.envs.lane.state import LaneState, room
from ddpg_jax.runs.folder import files
from ddpg_jax.runs.presets import kendall_driving
from ddpg_jax.runs.programs import setup
from ddpg_jax.runs.results import policy, run_pictures

OUT = Path("benchmarks/results/study_autoencoder.json")
ANGLE = 0.1


@click.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.option("--count", default=1_000, show_default=True, help="Images.")
@click.option("--out", type=click.Path(path_type=Path), default=OUT, show_default=True)
def main(runs: tuple[Path, ...], count: int, out: Path) -> None:
    """Measure the autoencoder of each run in RUNS, and write JSON and a picture of the first one's
    reconstructions.
    """
    found = [of_run(run, count) for run in runs]
    factors = [one["factor"] for one, _ in found]
    written = {
        **harness.context(),
        "images": count,
        "runs": [one for one, _ in found],
        "least_factor": min(factors),
    }
    files.write_json(out, written)
    run_pictures.save_png(found[0][1], out.with_suffix(".png"))
    click.echo(
        f"{out}: errors {min(factors):.2f} to {max(factors):.2f} times below the mean image's"
    )


def of_run(run: Path, count: int) -> tuple[dict[str, Any], np.ndarray]:
    """Errors of a run's autoencoder, and images above their reconstructions."""
    config, _, _, state = policy.restore_policy(run)
    if config.env != "lane" or config.preset.name != "drive":
        raise click.ClickException(
            f"{run} is a run of {config.env}, preset {config.preset.name}: give one of lane, drive."
        )
    state = policy.member_state(config, state, 0)
    hyperparameters: Any = config.hyperparameters
    env: Any = setup.environment(config, hyperparameters.num_envs)
    made = kendall_driving.autoencoder(hyperparameters, env)

    def both(params: Any) -> tuple[jax.Array, jax.Array]:
        images = jax.lax.map(
            lambda number: camera.picture(somewhere(number), made.size),
            jnp.arange(count, dtype=jnp.uint32),
        )
        return images.astype(jnp.float32) / 255, made.decode(params, made.encode(params, images)[0])

    images, again = map(np.asarray, jax.jit(both)(state.slots[kendall_driving.SLOT]))
    error, of_mean = np.mean((images - again) ** 2), np.mean((images - images.mean(axis=0)) ** 2)
    rows = [np.concatenate(row[:12], axis=1) for row in (images, np.clip(again, 0, 1))]
    sizes = {"seed": config.seed, "size": made.size, "code": made.latent_size}
    return sizes | {
        "error": float(error),
        "mean_image": float(of_mean),
        "factor": float(of_mean / error),
    }, np.concatenate(rows)


def somewhere(number: jax.Array) -> LaneState:
    """A car on one of the held-out roads."""
    state = held_out.start(number % held_out.ROADS, RMS_CURVATURE, LANE_WIDTH)
    along, offset, angle = jax.random.uniform(
        jax.random.fold_in(jax.random.key(0), number), (3,), minval=-1.0
    )
    place = state.place.replace(  # type: ignore[attr-defined]
        along=(along + 1) / 2 * held_out.LENGTH,
        offset=offset * room(state.road),
        angle=angle * ANGLE,
    )
    return state.replace(place=place)  # type: ignore[attr-defined]


if __name__ == "__main__":
    main()
