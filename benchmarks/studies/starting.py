"""What it is worth to begin with another run on pendulum: fine-tuning to another gravity, and
learning from stored transitions, each of the same seeds as learning from nothing.

    python benchmarks/studies/starting.py

Steps are of the environment, the warm-up among them, to the first evaluation at or above a
threshold: for fine-tuning 30 below the mean final return of learning from nothing at that gravity,
for stored transitions -250. Of those 20,000 are taken, all that the replay of a run holds: its
noisy training from the first step on. Their run makes `UPDATES` updates a step, so that it makes
in a tenth of the steps what the other makes.
"""

import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import click
import numpy as np

from benchmarks.studies import common
from ddpg_jax import runs
from ddpg_jax.runs.results.plots import canvas

GRAVITIES = (8.0, 12.0)
BELOW, SOLVED = 30.0, -250.0
ROWS, UPDATES, FIRST = 20_000, 10, 50
"""Stored transitions, updates a step of a run that has them, and its steps before the first."""
SOURCE_SEED, SEED = 1_000, 2_000
OFTEN: dict[str, Any] = {
    "steps_per_chunk": 250,
    "evaluate_every": 250,
    "checkpoint_every": 0,
    "progress": False,
}
SELDOM = OFTEN | {"steps_per_chunk": 25, "evaluate_every": 25}


@click.command(context_settings={"show_default": True})
@click.option("--seeds", default=5, help="Members of each run.")
@click.option("--steps", default=21_000, help="Environment steps of a run.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("benchmarks/results/starting.json"),
)
def main(seeds: int, steps: int, out: Path) -> None:
    """Train all runs, and write JSON and a picture."""
    begun, work = time.perf_counter(), Path(tempfile.mkdtemp())
    try:
        many: dict[str, Any] = {"seeds": seeds, "total_timesteps": steps}
        source = runs.train("pendulum", run_dir=work / "0", seed=SOURCE_SEED, **many, **OFTEN)
        curves, rows = {}, {}
        for gravity in GRAVITIES:
            own: dict[str, Any] = {
                "seed": SEED,
                "env_options": {"gravity": gravity},
                **many,
                **OFTEN,
            }
            new = runs.train("pendulum", run_dir=work / f"n{gravity}", **own)
            tuned = runs.train(start_from=str(work / "0"), run_dir=work / f"t{gravity}", **own)
            threshold = float(np.mean(new.summary["final_returns"])) - BELOW
            rows[f"gravity {gravity}"] = compared(new, tuned, threshold)
            curves[f"gravity {gravity} m/s^2"] = {"from nothing": new, "fine-tuned": tuned}
        rows["stored transitions"], curves["stored transitions"] = offline(work, source, many)
    finally:
        shutil.rmtree(work)
    for name, row in rows.items():
        click.echo(f"{name}: {row['median_steps']} steps, {row['ratio']:.2f} of from nothing")
    settings = {"seeds": seeds, "steps": steps, "rows": ROWS, "updates_per_step": UPDATES}
    common.finish(out, {"settings": settings, "rows": rows}, picture(curves), begun)


def offline(work: Path, source: runs.Result, many: dict[str, Any]) -> tuple[Any, Any]:
    """Learn from the replay of one member of a run, and from nothing, with other seeds."""
    new = runs.train("pendulum", run_dir=work / "new", seed=SEED, **many, **OFTEN)
    given: dict[str, Any] = {
        "offline": str(work / "0"),
        "offline_rows": ROWS,
        "updates_per_step": UPDATES,
    }
    given |= {"learning_starts": FIRST, "replay_capacity": ROWS + many["total_timesteps"]}
    few = many | {"total_timesteps": many["total_timesteps"] // UPDATES}
    stored = runs.train("pendulum", run_dir=work / "off", seed=SEED, **given, **few, **SELDOM)
    return compared(new, stored, SOLVED), {"from nothing": new, "stored transitions": stored}


def compared(new: runs.Result, other: runs.Result, threshold: float) -> dict[str, Any]:
    """Steps of each seed to a threshold, and their medians; without reaching it, all of its own."""
    each = [steps_to(run, threshold) for run in (new, other)]
    medians = [float(np.median(steps)) for steps in each]
    return {
        "threshold": threshold,
        "steps_from_nothing": each[0],
        "steps": each[1],
        "median_steps_from_nothing": medians[0],
        "median_steps": medians[1],
        "ratio": medians[1] / medians[0],
        "final_returns_from_nothing": new.summary["final_returns"],
        "final_returns": other.summary["final_returns"],
    }


def steps_to(run: runs.Result, threshold: float) -> list[float]:
    """Environment steps of each seed to its first evaluation at or above a threshold; infinite
    where there is none.
    """
    reached = run.returns >= threshold
    first = run.env_steps[reached.argmax(axis=0)]
    return [float(x) for x in np.where(reached.any(axis=0), first, np.inf)]


def picture(curves: dict[str, dict[str, runs.Result]]) -> Any:
    """A panel for each comparison, a line for each seed."""
    figure = canvas(4.0 * len(curves), 3.2)
    for index, (title, both) in enumerate(curves.items()):
        axes = figure.add_subplot(1, len(curves), index + 1, title=title, xscale="log")
        axes.set_xlabel("environment steps")
        for color, (name, run) in zip(("tab:gray", "tab:blue"), both.items(), strict=True):
            axes.plot(run.env_steps, run.returns, color=color, alpha=0.3, linewidth=0.8)
            axes.plot(run.env_steps, np.median(run.returns, axis=1), color=color, label=name)
        axes.legend(fontsize="small")
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("return of deterministic episodes")
    return figure


if __name__ == "__main__":
    main()
