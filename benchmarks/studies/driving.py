"""Learning to drive: the table of Kendall et al. 2018 in the lane of this library, on 20 roads that
no training saw.

    python benchmarks/studies/driving.py --work runs/driving   # goes on where it was stopped
    python benchmarks/studies/driving.py --work runs/driving --only features   # one row alone

A driver drives 250 m of each held-out road; where it leaves the lane it is put back and goes on
(`envs.lane.held_out`). Rows: the wheel held straight, random actions, and what `ddpg-jax train
lane` learns (`LEARNED`), several seeds each.

They train in episodes of 15 or 30 s, such that they often begin. Of training: when the mean
evaluation episode, of 20 on fresh roads without noise, first comes as far as one does at top speed
with 250 m from one disengagement to the next (`enough`; the paper's training ends when one drive of
250 m succeeds); the episodes that had ended by then, their metres, and the steps of 0.1 s. Episodes
and metres are those after the random ones at the beginning; steps are all.
"""

import json
import math
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import click
import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.studies import common
from ddpg_jax.envs import lane
from ddpg_jax.envs.lane import held_out
from ddpg_jax.envs.lane.car import MAX_SPEED, TIME_STEP
from ddpg_jax.runs.folder import metrics
from ddpg_jax.runs.results import policy


class Learned(NamedTuple):
    """A row that is trained: options of ``ddpg-jax train lane``, and how many seeds there are."""

    options: str
    seeds: int = 5


CAMERA = "--env-option observation=camera --env-option camera_size=32"
LEARNED = {
    "features": Learned("--time-limit 300"),
    "vae": Learned("--time-limit 150 --preset drive"),
    "pixels": Learned(f"--time-limit 300 --preset drq-v2 {CAMERA}", seeds=3),
}
PAPER = {
    "random": {"metres_per_disengagement": 7.35},
    "straight": {"metres_per_disengagement": 22.7},
    "pixels": {"metres_per_disengagement": 143.2, "episodes": 35, "metres": 298.8, "minutes": 37},
    "vae": {"disengagements": 0, "episodes": 11, "metres": 195.5, "minutes": 15},
}
"""Table I there, of a real car on one road of 250 m."""
OUT = Path("benchmarks/results/study_driving.json")


@click.command(context_settings={"show_default": True})
@click.option(
    "--only", multiple=True, type=click.Choice([*LEARNED]), help="Of what learns. [default: all]"
)
@click.option("--seeds", type=int, default=None, help="Of each row. [default: its own]")
@click.option(
    "--work", type=click.Path(path_type=Path), default=Path("runs/driving"), help="Keeps the runs."
)
@click.option("--out", type=click.Path(path_type=Path), default=OUT)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def main(
    only: tuple[str, ...], seeds: int | None, work: Path, out: Path, arguments: tuple[str, ...]
) -> None:
    """Train what is not trained yet, drive, and write JSON and a picture; ARGUMENTS after -- go to
    `ddpg-jax train`.
    """
    begun = time.perf_counter()
    rows: dict[str, Any] = json.loads(out.read_text())["rows"] if out.is_file() else {}
    rows |= {name: summed(rows_of(driver, count)) for name, (driver, count) in BY_HAND.items()}
    for name in only or LEARNED:
        options, count = LEARNED[name]
        given = [*options.split(), *arguments]
        runs = [
            trained(work / f"{name}-{seed}", seed, given, work / "cache")
            for seed in range(seeds or count)
        ]
        rows[name] = {
            "options": given,
            **summed([{"seed": seed, **of_run(run)} for seed, run in enumerate(runs)]),
        }
        click.echo(f"{name}: {said(rows[name])}")
    settings = {"roads": held_out.ROADS, "metres_of_a_road": held_out.LENGTH}
    common.finish(out, {"settings": settings, "paper": PAPER, "rows": rows}, picture(rows), begun)


def straight(observation: jax.Array, key: jax.Array) -> jax.Array:
    """The wheel held straight, at half the top speed."""
    return jnp.zeros((len(observation), 2), jnp.float32)


def at_random(observation: jax.Array, key: jax.Array) -> jax.Array:
    """Each action anew."""
    return jax.random.uniform(key, (len(observation), 2), jnp.float32, minval=-1.0)


BY_HAND = {"straight": (straight, 1), "random": (at_random, 5)}
"""Drivers, and how often they drive."""


def trained(run: Path, seed: int, options: list[str], cache: Path) -> Path:
    """The folder of a run, trained to its end."""
    if not (run / "summary.json").is_file():
        begin = ["lane", "--seed", str(seed), *options]
        common.train_by_command(
            ["--resume"] if (run / "config.json").is_file() else begin, run, common.shell(cache)
        )
    return run


def rows_of(driver: Any, count: int = 1, **options: Any) -> list[dict[str, Any]]:
    """What a driver did on the held-out roads, so many times; ``options`` as of
    `ddpg_jax.envs.lane.held_out.drive`.
    """
    drive = jax.jit(lambda key: held_out.drive(driver, key, **options))
    return [figures(drive(jax.random.key(number))) for number in range(count)]


def figures(driven: held_out.Driven) -> dict[str, Any]:
    """Of one drive on all roads."""
    return {
        "metres_until_first": float(np.mean(driven.first)),
        "metres_per_disengagement": float(driven.metres_per_disengagement),
        "disengagements": int(np.sum(driven.disengagements)),
        "roads_driven": int(np.sum(driven.finished)),
    }


def of_run(run: Path) -> dict[str, Any]:
    """The same of a run's newest checkpoint, and what its training took."""
    config, agent, steps, state = policy.restore_policy(run)
    seen = {
        name: config.env_options[name]
        for name in ("observation", "camera_size")
        if name in config.env_options
    }
    summary = json.loads((run / "summary.json").read_text())
    (driven,) = rows_of(
        lambda observation, key: agent.act(state, observation), shown=lane.shows(**seen)
    )
    return driven | {
        "training": training(run, config.env_options.get("time_limit", 1_200)),
        "training_steps": steps,
        **{name: summary[name] for name in ("train_seconds", "wall_seconds")},
    }


def training(run: Path, time_limit: int) -> dict[str, Any]:
    """At each evaluation: steps, episodes and metres of training so far, and which share of the way
    at top speed the mean episode came; and where that is first `enough`, None where it never is.
    """
    found: dict[str, list[float]] = {
        name: [] for name in ("steps", "episodes", "metres", "share", "seconds")
    }
    episodes = metres = 0.0
    for row in metrics.read_metrics(run):
        count, mean = row["episodes"][0], row["episode_return"][0]
        episodes, metres = episodes + count, metres + count * (mean or 0.0) * TIME_STEP
        if row["evaluation_return"] is not None:
            share = row["evaluation_return"][0] / (time_limit * MAX_SPEED)
            now = (row["env_steps"], episodes, metres, share, row["train_seconds"])
            for values, value in zip(found.values(), now, strict=True):
                values.append(value)
    first = next((i for i, share in enumerate(found["share"]) if share >= enough(time_limit)), None)
    until = None if first is None else {name: values[first] for name, values in found.items()}
    return {"curve": found, "until_driven": until}


def enough(time_limit: int) -> float:
    """Of the way L at top speed in so many steps: with D = 250 m from one disengagement to the
    next, at a constant rate, an episode comes D (1 - exp(-L / D)) m.
    """
    ways = time_limit * TIME_STEP * MAX_SPEED / held_out.LENGTH
    return -math.expm1(-ways) / ways


def summed(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """A row of the table: its runs, and over them what it comes to."""
    names = ("metres_until_first", "metres_per_disengagement", "disengagements", "roads_driven")
    found: dict[str, Any] = {name: common.spread([run[name] for run in runs]) for name in names}
    reached = [
        run["training"]["until_driven"]
        for run in runs
        if run.get("training", {}).get("until_driven")
    ]
    for name in ("steps", "episodes", "metres", "seconds") if reached else ():
        found[f"{name}_until_driven"] = common.spread([one[name] for one in reached])
    return {
        "count": len(runs),
        "drive_all": sum(run["roads_driven"] == held_out.ROADS for run in runs),
        **found,
        "runs": runs,
    }


def said(row: dict[str, Any]) -> str:
    """A row in words."""
    metres, all_roads = (
        row["metres_per_disengagement"],
        f"{row['drive_all']} of {row['count']} drive all roads",
    )
    return f"{metres['mean']:,.1f} ± {metres['std']:,.1f} m per disengagement, {all_roads}"


def picture(rows: dict[str, Any]) -> Any:
    """What share of the way at top speed is driven, over training; metres per disengagement, each
    seed, and the paper's.
    """
    figure, ((curves, bars),) = common.canvas(1, 2, 5.5, 4)
    for name in filter(rows.get, LEARNED):
        each = [run["training"]["curve"] for run in rows[name]["runs"]]
        common.draw_curves(
            curves, each[0]["steps"], np.transpose([one["share"] for one in each]), name
        )
    curves.set(
        xscale="log",
        xlabel="training steps of 0.1 s",
        ylabel="way of an episode over that at top speed",
    )
    curves.xaxis.set_minor_formatter("")
    curves.legend()
    names = [name for name in ("random", "straight", *LEARNED) if name in rows]
    for place, name in enumerate(names):
        values = rows[name]["metres_per_disengagement"]["values"]
        bars.plot([place] * len(values), values, "o", color="tab:blue", alpha=0.5)
        bars.plot([place], [PAPER.get(name, {}).get("metres_per_disengagement", np.nan)], "kx")
    bars.set(
        yscale="log",
        xticks=range(len(names)),
        xticklabels=names,
        ylabel="metres per disengagement (x: the paper's)",
    )
    bars.grid(alpha=0.3)
    return figure


if __name__ == "__main__":
    main()
