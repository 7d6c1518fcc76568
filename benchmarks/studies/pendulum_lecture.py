"""How many episodes the PyTorch lecture's DDPG needs on Pendulum, for several seeds in one program.

    python benchmarks/studies/pendulum_lecture.py --seeds 10

The lecture stops training once the mean of its last 100 training scores, or of as many as there
are, exceeds -300, at the latest after 1,000 episodes. Here training goes on and the crossing is
recorded, also by the strict reading that wants a full 100. A chunk is 200 steps, the length of an
episode: the first begins after the warm-up of 64 steps, so each chunk sees exactly one episode end.
"""

import tempfile
from pathlib import Path
from typing import Any

import click
import numpy as np

from ddpg_jax.runs.config.run_config import make_config
from ddpg_jax.runs.folder import files
from ddpg_jax.runs.presets import PRESETS
from ddpg_jax.runs.training.loop import run

LENGTH, WINDOW, THRESHOLD = 200, 100, -300.0


@click.command()
@click.option("--seeds", default=10, show_default=True)
@click.option("--seed", default=0, show_default=True, help="Of the first member.")
@click.option("--episodes", type=click.IntRange(min=1), default=1_000, show_default=True)
@click.option(
    "--run-dir",
    type=click.Path(path_type=Path),
    default=None,
    help="Keeps the run. [default: a temporary folder]",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("benchmarks/results/pendulum_lecture.json"),
    show_default=True,
)
def main(seeds: int, seed: int, episodes: int, run_dir: Path | None, out: Path) -> None:
    """Train, find the crossings, and write JSON and, beside it, a picture."""
    with tempfile.TemporaryDirectory() as temporary:
        scores, summary = train(run_dir or Path(temporary) / "run", seeds, seed, episodes)
    means = trailing_mean(scores)
    first = {"episodes_until_solved": 1, "episodes_until_solved_strict": WINDOW}
    crossed = {name: [crossing(row, least) for row in means] for name, least in first.items()}
    result = {
        "versions": summary["versions"],
        "device": summary["device"],
        "settings": {
            "preset": "pendulum-lecture",
            "seeds": seeds,
            "seed": seed,
            "episodes": episodes,
        },
        "criterion": (
            f"mean of the last {WINDOW} (or fewer; strict: full {WINDOW}) training scores "
            f"> {THRESHOLD}"
        ),
        **crossed,
        "reached": {
            name: sum(value is not None for value in values) for name, values in crossed.items()
        },
        "best_trailing_mean": means.max(axis=1).tolist(),
        "last_trailing_mean": means[:, -1].tolist(),
        "final_returns": summary["final_returns"],
        "train_seconds": summary["train_seconds"],
        "wall_seconds": summary["wall_seconds"],
        "scores": scores.round(2).tolist(),
    }
    files.write_json(out, result)
    draw(scores, means, crossed["episodes_until_solved"], seed, out.with_suffix(".png"))
    for name, values in crossed.items():
        click.echo(f"{name}: {values}, {result['reached'][name]} of {seeds}")
    click.echo(f"{out}\n{out.with_suffix('.png')}")


def train(folder: Path, seeds: int, seed: int, episodes: int) -> tuple[np.ndarray, dict[str, Any]]:
    """Training scores ``[seeds, episodes]`` and the run's summary."""
    config = make_config(
        "pendulum",
        "pendulum-lecture",
        seed=seed,
        seeds=seeds,
        total_timesteps=episodes * LENGTH
        + PRESETS["pendulum-lecture"].hyperparameters.learning_starts,
        steps_per_chunk=LENGTH,
        evaluate_every=0,
        checkpoint_every=0,
    )
    rows: list[list[float]] = []

    def keep(row: dict[str, Any]) -> None:
        if row["episodes"] != [1.0] * seeds:
            raise RuntimeError(
                f"a chunk held {row['episodes']} episodes instead of one for each seed"
            )
        rows.append(row["episode_return"])

    finished = run(config, folder, on_chunk=keep)
    return np.array(rows).T, finished.summary


def trailing_mean(scores: np.ndarray) -> np.ndarray:
    """``[seeds, T]``: means of the last `WINDOW` scores, or of as many as there are."""
    sums = np.cumsum(scores, axis=1)
    earlier = np.concatenate([np.zeros((len(scores), WINDOW)), sums], axis=1)[:, : scores.shape[1]]
    return (sums - earlier) / np.minimum(np.arange(1, scores.shape[1] + 1), WINDOW)


def crossing(means: np.ndarray, least: int) -> int | None:
    """The episode after which the mean of at least ``least`` scores first exceeds the threshold."""
    above = np.flatnonzero(means[least - 1 :] > THRESHOLD)
    return int(above[0]) + least if len(above) else None


def draw(
    scores: np.ndarray, means: np.ndarray, crossed: list[int | None], seed: int, path: Path
) -> None:
    """Scores, trailing mean and crossing of each seed."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = min(5, len(scores))
    lines = -(-len(scores) // columns)
    figure = Figure(figsize=(2.6 * columns, 2.2 * lines), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
    episodes = np.arange(1, scores.shape[1] + 1)
    for index, axis in enumerate(axes.flat):
        if index >= len(scores):
            axis.set_axis_off()
            continue
        axis.plot(episodes, scores[index], lw=0.4, alpha=0.6, label="score")
        axis.plot(episodes, means[index], lw=1.4, label=f"mean of last {WINDOW}")
        axis.axhline(THRESHOLD, color="black", lw=0.6, ls=":")
        solved = crossed[index]
        if solved is not None:
            axis.axvline(solved, color="tab:green", lw=0.8)
        axis.set_title(
            f"seed {seed + index}: " + ("not reached" if solved is None else f"episode {solved}"),
            fontsize="small",
        )
    axes[0, 0].legend(fontsize="x-small", loc="lower right")
    figure.supxlabel("episode", fontsize="small")
    figure.supylabel("training score", fontsize="small")
    figure.savefig(path)


if __name__ == "__main__":
    main()
