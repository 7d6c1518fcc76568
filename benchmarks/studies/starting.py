"""What it is worth to begin with another run on pendulum: fine-tuning to another gravity, and
learning from stored transitions, each of the same seeds as learning from nothing.

    python benchmarks/studies/starting.py tune
    python benchmarks/studies/starting.py report

Steps are of the environment, the warm-up among them, to the first evaluation at or above a
threshold: for fine-tuning 30 below the mean final return of learning from nothing at that gravity,
for stored transitions -250. Of those 20,000 are taken, all that the replay of a run holds: its
noisy training from the first step on. Their run makes several updates a step, in as many times
fewer steps, so that both make the same number in all. How many, and whether half of a batch is of
stored transitions, was chosen by `tune`, whose seeds `report` does not use.
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
ROWS, FIRST = 20_000, 50
"""Stored transitions, and the steps before the first update of a run that has them."""
CHOICES = tuple((updates, share) for share in (0.0, 0.5) for updates in (10, 20, 40))
CHOSEN = CHOICES[-1:]
"""Updates a step, and the share of a batch that is of stored transitions (0: as it happens in one
replay of both): those that `tune` compares, and those with which each of its seeds came furthest:
all were at the threshold within 475 steps (a median of 300), with 20 updates one never was.
"""
SEEDS = {"tune": (100, 200), "report": (3_000, 4_000)}
"""Of the run that others begin with, and of those."""
OFTEN: dict[str, Any] = {
    "steps_per_chunk": 250,
    "evaluate_every": 250,
    "checkpoint_every": 0,
    "progress": False,
}
SELDOM = OFTEN | {"steps_per_chunk": 25, "evaluate_every": 25}


@click.command(context_settings={"show_default": True})
@click.argument("stage", type=click.Choice([*SEEDS]))
@click.option("--seeds", default=5, help="Members of each run.")
@click.option("--steps", default=21_000, help="Environment steps of a run.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("benchmarks/results"))
def main(stage: str, seeds: int, steps: int, out: Path) -> None:
    """Train all runs, and write JSON and a picture."""
    begun, work = time.perf_counter(), Path(tempfile.mkdtemp())
    source_seed, seed = SEEDS[stage]
    many: dict[str, Any] = {"seeds": seeds, "total_timesteps": steps}
    try:
        runs.train("pendulum", run_dir=work / "0", seed=source_seed, **many, **OFTEN)
        many |= {"seed": seed}
        curves = offline(work, many, CHOICES if stage == "tune" else CHOSEN)
        rows = {name: compared(both, SOLVED) for name, both in curves.items()}
        for gravity in GRAVITIES if stage == "report" else ():
            name, both = f"gravity {gravity} m/s^2", fine_tuned(work, gravity, many)
            threshold = float(np.mean(both["from nothing"].summary["final_returns"])) - BELOW
            rows[name], curves[name] = compared(both, threshold), both
    finally:
        shutil.rmtree(work)
    for name, row in rows.items():
        click.echo(f"{name}: {row['median_steps']} steps, {row['ratio']:.3f} of from nothing")
    settings = {"seeds": seeds, "steps": steps, "rows": ROWS, "seed": seed}
    file = out / f"starting{'_tune' if stage == 'tune' else ''}.json"
    common.finish(file, {"settings": settings, "rows": rows}, picture(curves), begun)


def fine_tuned(work: Path, gravity: float, many: dict[str, Any]) -> dict[str, runs.Result]:
    """Learn at another gravity from nothing, and from the run at the usual one."""
    own: dict[str, Any] = {"env_options": {"gravity": gravity}, **many, **OFTEN}
    new = runs.train("pendulum", run_dir=work / f"n{gravity}", **own)
    tuned = runs.train(start_from=str(work / "0"), run_dir=work / f"t{gravity}", **own)
    return {"from nothing": new, "fine-tuned": tuned}


def offline(
    work: Path, many: dict[str, Any], choices: tuple[tuple[int, float], ...]
) -> dict[str, dict[str, runs.Result]]:
    """Learn from the replay of one member of a run, and from nothing."""
    new = runs.train("pendulum", run_dir=work / "new", **many, **OFTEN)
    given: dict[str, Any] = {"offline": str(work / "0"), "offline_rows": ROWS}
    given |= {"learning_starts": FIRST, "replay_capacity": ROWS + many["total_timesteps"]}
    found = {}
    for updates, share in choices:
        own: dict[str, Any] = many | given | SELDOM | {"offline_share": share}
        own |= {"updates_per_step": updates, "total_timesteps": many["total_timesteps"] // updates}
        stored = runs.train("pendulum", run_dir=work / f"off{updates}_{share}", **own)
        name = f"stored transitions, {updates} updates a step, share {share}"
        found[name] = {"from nothing": new, "stored transitions": stored}
    return found


def compared(both: dict[str, runs.Result], threshold: float) -> dict[str, Any]:
    """Steps of each seed to a threshold, and their medians; infinite where it is not reached."""
    new, other = both.values()
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
        axes.xaxis.set_minor_formatter("")  # its labels would overlap
        for color, (name, run) in zip(("tab:gray", "tab:blue"), both.items(), strict=True):
            axes.plot(run.env_steps, run.returns, color=color, alpha=0.3, linewidth=0.8)
            axes.plot(run.env_steps, np.median(run.returns, axis=1), color=color, label=name)
        axes.legend(fontsize="small")
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("return of deterministic episodes")
    return figure


if __name__ == "__main__":
    main()
