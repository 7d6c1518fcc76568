"""Learning to drive: the table of Kendall et al. 2018 in the lane of this library, on 20 roads that no training saw.

    python benchmarks/studies/driving.py --work runs/driving          # goes on where it was stopped

A driver drives 250 m of each held-out road; where it leaves the lane it is put back and goes on (`envs.lane.held_out`). Rows:
the wheel held straight, random actions, and DDPG on features of the road, five seeds, each a run of `ddpg-jax train lane`.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import click
import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import timing
from benchmarks.studies import common
from ddpg_jax.envs.lane import held_out
from ddpg_jax.runs import folder, playback

PAPER = {
    "random": {"metres_per_disengagement": 7.35},
    "straight": {"metres_per_disengagement": 22.7},
    "pixels": {"metres_per_disengagement": 143.2, "episodes": 35, "metres": 298.8, "minutes": 37},
    "vae": {"disengagements": 0, "episodes": 11, "metres": 195.5, "minutes": 15},
}
"""Table I there, of a real car on one road of 250 m."""
OUT = Path("benchmarks/results/study_driving.json")


@click.command()
@click.option("--seeds", default=5, show_default=True)
@click.option(
    "--work", type=click.Path(path_type=Path), default=Path("runs/driving"), show_default=True, help="Keeps the runs."
)
@click.option("--out", type=click.Path(path_type=Path), default=OUT, show_default=True)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def main(seeds: int, work: Path, out: Path, arguments: tuple[str, ...]) -> None:
    """Train what is not trained yet, drive, and write JSON; ARGUMENTS after -- go to `ddpg-jax train`."""
    begun = time.perf_counter()
    rows: dict[str, Any] = {name: row_of(driver, jax.random.key(0)) for name, driver in BY_HAND.items()}
    learned = []
    for seed in range(seeds):
        run = work / f"features-{seed}"
        if not (run / "summary.json").is_file():
            resume = ["--resume"] if (run / "config.json").is_file() else ["lane", "--seed", str(seed), *arguments]
            common.train_by_command(resume, run, common.shell(work / "cache"))
        learned.append({"seed": seed, **of_run(run)})
        click.echo(f"features, seed {seed}: {learned[-1]['roads_driven']} of {held_out.ROADS} roads")
    rows["features"] = learned
    written = {**timing.context(), "wall_seconds": time.perf_counter() - begun, "paper": PAPER, "rows": rows}
    folder.write_json(out, written | {"roads": held_out.ROADS, "metres_of_a_road": held_out.LENGTH})
    click.echo(str(out))


def straight(observation: jax.Array, key: jax.Array) -> jax.Array:
    """The wheel held straight, at half the top speed."""
    return jnp.zeros((len(observation), 2), jnp.float32)


def at_random(observation: jax.Array, key: jax.Array) -> jax.Array:
    """Each action anew."""
    return jax.random.uniform(key, (len(observation), 2), jnp.float32, minval=-1.0)


BY_HAND = {"straight": straight, "random": at_random}


def row_of(driver: Any, key: jax.Array) -> dict[str, Any]:
    """What a driver did on the held-out roads."""
    driven = jax.jit(lambda key: held_out.drive(driver, key))(key)
    return {
        "metres_until_first": float(np.mean(driven.first)),
        "metres_per_disengagement": float(driven.metres_per_disengagement),
        "disengagements": int(np.sum(driven.disengagements)),
        "roads_driven": int(np.sum(driven.finished)),
    }


def of_run(run: Path) -> dict[str, Any]:
    """The same of a run's newest checkpoint, and what its training took."""
    _, agent, steps, state = playback.restored(run)
    summary = json.loads((run / "summary.json").read_text())
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return row_of(lambda observation, key: agent.act(state, observation), jax.random.key(0)) | {
        "training_steps": steps,
        "training_episodes_ended": sum(line["episodes"][0] for line in lines),
        "wall_seconds": summary["wall_seconds"],
        "final_return": summary["final_returns"][0],
    }


if __name__ == "__main__":
    main()
