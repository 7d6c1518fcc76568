"""The lineage of population-based training: ``lineage.json``, and its picture."""

from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from ddpg_jax.runs.folder import files, metrics
from ddpg_jax.runs.results import plots
from ddpg_jax.runs.sweeps import sweep_plots, sweep_results
from ddpg_jax.runs.sweeps.plan import Plan


def write_lineage(folder: Path, plan: Plan, best: int) -> sweep_results.Record | None:
    """Write ``lineage.json`` of a sweep that evolves and return it; None of other sweeps.

    ``best`` is the member whose ancestors are followed.
    """
    evolve = plan.parts[0].options.get("evolve")
    if not evolve:
        return None
    made = lineage(sweep_results.run_folder(folder, 0), evolve["ranges"], best)
    files.write_json(folder / "lineage.json", made)
    return made


def lineage(run: Path, names: list[str], best: int) -> sweep_results.Record:
    """Return the history of a run whose members evolve, and of member ``best``.

    Returns:
        ``env_steps [T]`` at the ends of chunks; ``[T][M]`` of each ``parent`` (the member whose
        state was continued in the chunk), of the ``return`` at the chunk's end and of each of the
        ``hyperparameters`` during it; and ``ancestors [T]`` of member ``best``.
    """
    rows = metrics.read_metrics(run)
    of_rows = {name: [row[name] for row in rows] for name in ("env_steps", "parent", "return")}
    return {
        **of_rows,
        "hyperparameters": {name: [row[name] for row in rows] for name in names},
        "ancestors": _ancestors(of_rows["parent"], best),
    }


def _ancestors(parents: list[list[int]], member: int) -> list[int]:
    found = [member]
    for row in reversed(parents[1:]):
        found.append(row[found[-1]])
    return found[::-1]


def draw_lineage(made: sweep_results.Record) -> Any:
    """Draw hyper-parameters and returns over time; red lines mark copies."""
    panels = made["hyperparameters"] | {"return": made["return"]}
    figure = plots.canvas(7.2, 2.6 * len(panels))
    axes = figure.subplots(len(panels), 1, sharex=True)
    colour = sweep_plots.add_colours(
        figure, [*chain(*made["return"])], "return of deterministic episodes"
    )
    for axis, (name, values) in zip(axes, panels.items(), strict=True):
        _panel(axis, made, np.array(values, float), colour)
        axis.set_ylabel(name)
        if name != "return" and sweep_plots.is_wide([*chain(*values)]):
            axis.set_yscale("log")
    axes[-1].set_xlabel("environment steps of each member")
    axes[0].set_title(
        "every member by its return; black: the ancestry of the best", fontsize="medium"
    )
    return figure


def _panel(axis: Any, made: sweep_results.Record, values: np.ndarray, colour: Any) -> None:
    from matplotlib.collections import LineCollection

    steps, parents = made["env_steps"], made["parent"]
    lines: list[Any] = []
    copies: list[Any] = []
    for time in range(1, len(steps)):
        for member, parent in enumerate(parents[time]):
            line = [
                (steps[time - 1], values[time - 1, parent]),
                (steps[time], values[time, member]),
            ]
            (lines if parent == member else copies).append(line)
    axis.add_collection(LineCollection(lines, colors="lightgrey", linewidths=0.6, zorder=1))
    axis.add_collection(
        LineCollection(copies, colors="tab:red", linewidths=0.7, alpha=0.6, zorder=2)
    )
    for step, row, returns in zip(steps, values, made["return"], strict=True):
        axis.scatter([step] * len(row), row, c=[*map(colour, returns)], s=14, zorder=3)
    best = values[np.arange(len(steps)), made["ancestors"]]
    axis.plot(steps, best, color="black", lw=1.6, zorder=4)
    axis.grid(alpha=0.3)
