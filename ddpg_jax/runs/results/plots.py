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

MAX_NAMES = 3
"""Hyper-parameters in the label of a line; where more differ, the folder's name is there."""


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

    Runs and members that differ only in their seeds share a line, over the steps that all of them
    evaluated. Members that evolve share one too.

    Args:
        folders: of the runs.
        path: of the picture; ``.png`` where it has no suffix.

    Returns:
        The file written.

    Raises:
        ValueError: no run has an evaluation, or the file cannot be written.
    """
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
    widest, groups = 0, _groups(folders)
    for label, members in groups:
        curves = [one for one in (_curve(*member) for member in members) if len(one[0])]
        if not curves:
            continue
        steps = functools.reduce(np.intersect1d, (steps for steps, _ in curves))
        values = np.concatenate([values[np.isin(x, steps)] for x, values in curves], axis=1)
        count = values.shape[1]
        widest = max(widest, count)
        title = label + (f", {count} seeds" if count > 1 else "")
        # Matplotlib hides a label that begins with an underscore.
        title = f" {title}" if title.startswith("_") else title
        (line,) = axes.plot(steps, interquartile_mean(values), label=title)
        if count > 1:
            band = bootstrap_interval(values)
            axes.fill_between(steps, *band, color=line.get_color(), alpha=0.25, linewidth=0)
    if not widest:
        raise ValueError(
            "none of these runs has an evaluation yet: train longer, or with --evaluate-every 1."
        )
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    if widest > 1:
        axes.set_title("interquartile mean and its 95 % bootstrap interval", fontsize="small")
    return str(write_figure(figure, path))


def _groups(folders: Sequence[Path]) -> list[tuple[str, list[tuple[Path, list[int]]]]]:
    """Return the label of each line, and the runs in it with the numbers of their members."""
    found: dict[str, tuple[dict[str, Any], Path, dict[Path, list[int]]]] = {}
    for folder in folders:
        flat = json.loads((folder / "config.json").read_text())
        left_out = ("seed", "seeds", "vary", "steps_per_chunk", *stored.PLACEMENT, *stored.FREE)
        same = {
            name: value
            for name, value in flat.items()
            if name not in (*left_out, *run_config.DERIVED) or name == "total_timesteps"
        }
        for number, own in _members(flat):
            known = json.dumps(same | own, sort_keys=True)
            _, _, members = found.setdefault(known, (same | own, folder, {}))
            members.setdefault(folder, []).append(number)
    labels = _labels([(about, folder) for about, folder, _ in found.values()])
    inside = [list(each.items()) for _, _, each in found.values()]
    return list(zip(labels, inside, strict=True))


def _members(flat: dict[str, Any]) -> list[tuple[int, dict[str, Any]]]:
    """Return each member of a run and its own hyper-parameters, copies of another left out."""
    vary = flat.get("vary", {})
    seeds = vary.get("seed", range(flat["seeds"]))
    found: dict[str, tuple[int, dict[str, Any]]] = {}
    for number in range(flat["seeds"]):
        own = {name: values[number] for name, values in vary.items() if name != "seed"}
        copy = json.dumps([seeds[number], own])
        found.setdefault(copy, (number, {} if "evolve" in flat else own))
    return list(found.values())


def _labels(lines: list[tuple[dict[str, Any], Path]]) -> list[str]:
    """Return each line's label: of a sweep what differs in it, of a run its folder's name."""
    families = [_family(folder) for _, folder in lines]
    found = []
    for (about, folder), family in zip(lines, families, strict=True):
        alike = [other for (other, _), own in zip(lines, families, strict=True) if own == family]
        differing = [
            name for name in about if len({json.dumps(each.get(name)) for each in alike}) > 1
        ]
        swept = family != folder and len(differing) <= MAX_NAMES
        own = [f"{name} {about[name]}" for name in differing if swept]
        others = [family.name] if swept else [folder.name]
        parts = (others if len(set(families)) > 1 or not swept else []) + own
        title = f"{about['env']}, {about['preset']}"
        found.append(f"{title} ({', '.join(parts)})" if len(lines) > 1 else title)
    return found


def _family(folder: Path) -> Path:
    return folder.parent if (folder.parent / "sweep.json").is_file() else folder


def _curve(folder: Path, members: list[int]) -> tuple[np.ndarray, np.ndarray]:
    steps, values = metrics.read_curve(folder)
    if not len(steps):
        return steps, values
    return steps, values[:, [member for member in members if member < values.shape[1]]]
