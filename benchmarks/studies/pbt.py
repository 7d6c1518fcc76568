"""Population-based training from bad learning rates on Pendulum, beside the same members without
it.

    python benchmarks/studies/pbt.py

Both learning rates of each member are drawn log-uniformly; a repetition is another draw and other
seeds. With and without evolution a member begins with the same seed and the same numbers. What is
done is kept, run by run, in ``--work``: the command goes on where it was ended.
"""

import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import click
import numpy as np

from benchmarks.studies import common
from ddpg_jax.runs.config.run_config import make_config
from ddpg_jax.runs.folder.files import write_json
from ddpg_jax.runs.folder.metrics import read_curve, read_metrics
from ddpg_jax.runs.results import plots
from ddpg_jax.runs.sweeps import lineage
from ddpg_jax.runs.sweeps.search_space import SearchRange
from ddpg_jax.runs.training.loop import run

RATES = ("actor_learning_rate", "critic_learning_rate")
KINDS = {"with": "with evolution", "without": "without"}


@click.command(context_settings={"show_default": True})
@click.option("--env", default="pendulum")
@click.option("--members", default=16)
@click.option("--repetitions", default=3)
@click.option("--steps", default=20_000, help="Environment steps of each member.")
@click.option("--low", default=1e-5, help="Of a learning rate.")
@click.option("--high", default=1e-1)
@click.option(
    "--work",
    type=click.Path(path_type=Path),
    default=Path("runs/study_pbt"),
    help="Where the runs are.",
)
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("benchmarks/results/study_pbt.json")
)
def main(
    env: str,
    members: int,
    repetitions: int,
    steps: int,
    low: float,
    high: float,
    work: Path,
    out: Path,
) -> None:
    """Train all, and write JSON and, beside it, a picture."""
    begun = time.perf_counter()
    settings = {
        "env": env,
        "members": members,
        "repetitions": repetitions,
        "steps": steps,
        "low": low,
        "high": high,
    }
    found: list[dict[str, Any]] = []
    for repetition in range(repetitions):
        both = {kind: trained(kind, repetition, work, settings) for kind in KINDS}
        found.append(both)
        told = "; ".join(
            f"{KINDS[kind]}: mean {np.mean(one['final']):.1f}, best {max(one['final']):.1f}"
            for kind, one in both.items()
        )
        click.echo(f"repetition {repetition}: {told}")
    result = {"settings": settings, "summary": summary(found), "repetitions": found}
    common.finish(out, result, draw(found, env), begun)


def trained(kind: str, repetition: int, work: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """One population: final returns, curves and, of one that evolved, its lineage."""
    folder, members = work / f"{kind}-{repetition}", settings["members"]
    rate = SearchRange(settings["low"], settings["high"], log=True, whole=False)
    random = np.random.default_rng(repetition)
    vary = {name: [rate.at(place) for place in random.uniform(size=members)] for name in RATES}
    seeds = {"seed": [1_000 * repetition + index for index in range(members)]}
    evolve = (
        {"ranges": {name: [rate.low, rate.high, True] for name in RATES}} if kind == "with" else {}
    )
    config = make_config(
        settings["env"],
        seeds=members,
        vary=vary | seeds,
        evolve=evolve,
        total_timesteps=settings["steps"],
        learning_starts=min(1_000, settings["steps"] // 2),
    )
    written = folder / "config.json"
    if written.is_file() and json.loads(written.read_text()) | {"mesh": ""} != config.flat():
        shutil.rmtree(folder)  # of other settings
    if not (folder / "summary.json").is_file():
        run(config, folder, resume=(folder / "config.json").is_file())
    said = json.loads((folder / "summary.json").read_text())
    steps, returns = read_curve(folder)
    made = {
        "final": [-np.inf if value is None else value for value in said["final_returns"]],
        "steps": steps.tolist(),
        "curve": np.round(returns, 3).tolist(),
        "began_with": vary,
        "train_seconds": said["train_seconds"],
        "updates_per_second": said["updates_per_second"],
    }
    if evolve:
        known = lineage.lineage(folder, list(RATES), int(np.argmax(made["final"])))
        write_json(folder / "lineage.json", known)
        figure = lineage.draw_lineage(known)
        plots.write_figure(figure, folder / "lineage.png")
        last = read_metrics(folder)[-1]
        made |= {
            "ended_with": {name: last[name] for name in RATES},
            "lineage": known,
        }
    return made


def summary(found: list[dict[str, Any]]) -> dict[str, Any]:
    """Best and mean of every population, and how often evolution was better."""
    said: dict[str, Any] = {}
    for kind in KINDS:
        finals = [np.array(both[kind]["final"]) for both in found]
        said[kind] = {
            "best": [float(final.max()) for final in finals],
            "mean": [float(final.mean()) for final in finals],
            "solved": [int((final >= -200).sum()) for final in finals],
        }
    said["repetitions_with_better_mean"] = sum(
        a > b for a, b in zip(said["with"]["mean"], said["without"]["mean"], strict=True)
    )
    return said


def draw(found: list[dict[str, Any]], env: str) -> Any:
    """Curves of all members of each repetition, and both learning rates at the beginning and the
    end.
    """
    figure, axes = common.canvas(2, len(found), 4.2, 3.2)
    colours = {"with": "tab:blue", "without": "tab:orange"}
    for column, both in enumerate(found):
        top, below = axes[:, column]
        for kind, colour in colours.items():
            one = both[kind]
            values = np.array(one["curve"], np.float64)
            top.plot(one["steps"], values, color=colour, lw=0.4, alpha=0.4)
            top.plot(
                one["steps"],
                np.nanmean(values, axis=1),
                color=colour,
                lw=2.0,
                label=f"{KINDS[kind]}, mean",
            )
        top.set(
            xlabel="environment steps of each member",
            ylabel="return",
            title=f"{env}, repetition {column}",
        )
        top.grid(alpha=0.3)
        for kind, hyperparameters, marker in (
            ("without", "began_with", "o"),
            ("with", "ended_with", "s"),
        ):
            shown = [both[kind][hyperparameters][name] for name in RATES]
            below.scatter(
                *shown,
                color=colours[kind],
                marker=marker,
                s=18,
                label="began with" if marker == "o" else "evolved to",
            )
        below.set(xlabel=RATES[0], ylabel=RATES[1], xscale="log", yscale="log")
        below.grid(alpha=0.3)
    axes[0, 0].legend(fontsize="x-small", loc="lower right")
    axes[1, 0].legend(fontsize="x-small", loc="lower right")
    return figure


if __name__ == "__main__":
    main()
