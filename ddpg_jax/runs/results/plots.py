"""Learning curves of runs."""

import functools
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ddpg_jax.runs.config import run_config, stored
from ddpg_jax.runs.folder import files, metrics, output_path
from ddpg_jax.runs.results.statistics import bootstrap_interval, interquartile_mean


def canvas(width: float, height: float) -> Any:
    """Return an empty figure of a size in inches.

    The object-oriented interface has no global state and may run in a thread.
    """
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=120, layout="constrained")


def write_figure(figure: Any, path: Path) -> Path:
    """Write a figure in the format of the path's suffix."""
    picture = io.BytesIO()
    figure.savefig(picture, format=path.suffix[1:].lower())
    files.write_file(path, picture.getvalue())
    return path


def plot(folders: Sequence[Path], path: Path) -> str:
    """Plot evaluation returns against environment steps, a line with an interval per configuration.

    Runs that differ only in their seeds share a line, over the steps that all of them evaluated.

    Args:
        folders: of the runs.
        path: of the picture; ``.png`` where it has no suffix.

    Returns:
        The file written.

    Raises:
        ValueError: no run has an evaluation, or the file cannot be written.
    """
    groups: dict[str, list[Path]] = {}
    for folder in folders:
        label = {
            name: value
            for name, value in json.loads((folder / "config.json").read_text()).items()
            if name not in ("seed", "seeds", *stored.PLACEMENT, *run_config.DERIVED)
        }
        groups.setdefault(json.dumps(label, sort_keys=True), []).append(folder)
    figure = canvas(6.4, 4.0)
    known = sorted(figure.canvas.get_supported_filetypes())
    if path.name and not path.suffix:
        path = path.with_name(f"{path.name}.png")
    if path.name and path.suffix[1:].lower() not in known:
        raise ValueError(
            f"{path} ends in {path.suffix}, an unknown format: choose one of {', '.join(known)}."
        )
    output_path.require_writable(path)
    axes = figure.add_subplot(
        xlabel="environment steps (per seed)", ylabel="return of deterministic episodes"
    )
    widest = 0
    for group, members in groups.items():
        curves = [curve for curve in map(metrics.read_curve, members) if len(curve[0])]
        if not curves:
            continue
        steps = functools.reduce(np.intersect1d, (steps for steps, _ in curves))
        values = np.concatenate([values[np.isin(x, steps)] for x, values in curves], axis=1)
        config = json.loads(group)
        title = f"{config['env']}, {config['preset']}" + (
            f" ({members[0].name})" if len(groups) > 1 else ""
        )
        count = values.shape[1]
        widest = max(widest, count)
        if count > 1:
            title += f", {count} seeds"
            axes.fill_between(steps, *bootstrap_interval(values), alpha=0.25, linewidth=0)
        axes.plot(steps, interquartile_mean(values), label=title)
    if not widest:
        raise ValueError(
            "none of these runs has an evaluation yet: train longer, or with --evaluate-every 1."
        )
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    if widest > 1:
        axes.set_title("interquartile mean and its 95 % bootstrap interval", fontsize="small")
    return str(write_figure(figure, path))
