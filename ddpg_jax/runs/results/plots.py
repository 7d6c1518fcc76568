"""Learning curves of runs."""

import functools
import io
import json
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ddpg_jax.runs.config import run_config, stored
from ddpg_jax.runs.folder import files, metrics, output_path
from ddpg_jax.runs.results.statistics import bootstrap_interval, interquartile_mean

MAX_NAMES = 3
"""Hyper-parameters in the label of a line; where more differ, the folder's name is there."""
OVER = {
    "steps": ("env_steps", 1, "environment steps (per seed)"),
    "time": (
        "train_seconds",
        60,
        "minutes of training, all seeds of a run together\n"
        "(without compiling, warm-up and evaluation)",
    ),
}
"""What curves are drawn over: its name in ``metrics.jsonl``, its unit there, its title."""
PACE = ["seeds", *stored.PLACEMENT]
"""Options that change how long a run takes, and not what its members learn."""
LABELS_INSIDE, LABEL_HEIGHT, LABEL_LENGTH = 3, 0.2, 12
"""With more lines their labels are below the axes; inches for each, and letters in an inch."""


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


def plot(folders: Sequence[Path], path: Path, over: str = "steps") -> str:
    """Draw the learning curves of runs (`draw_curves`) into a file and return its name.

    Args:
        folders: of the runs.
        path: of the picture; ``.png`` where it has no suffix.
        over: one of `OVER`.

    Raises:
        ValueError: no run has an evaluation, or the file cannot be written.
    """
    known = sorted(canvas(1, 1).canvas.get_supported_filetypes())
    if path.name and not path.suffix:
        path = path.with_name(f"{path.name}.png")
    if path.name and path.suffix[1:].lower() not in known:
        raise ValueError(
            f"{path} ends in {path.suffix}, an unknown format: choose one of {', '.join(known)}."
        )
    output_path.require_writable(path)
    return str(write_figure(draw_curves(folders, over), path))


def draw_curves(folders: Sequence[Path], over: str = "steps", width: float = 6.4) -> Any:
    """Return a figure of evaluation returns, a line with an interval for each configuration.

    Runs and members that differ only in their seeds share a line, members that evolve too: their
    interquartile mean, over what all of them evaluated, and each of them as a thin line. Over time
    it is interpolated between evaluations.

    Args:
        folders: of the runs.
        over: one of `OVER`.
        width: of the figure, in inches.

    Raises:
        ValueError: no run has an evaluation.
    """
    found = [
        (textwrap.fill(title, int(LABEL_LENGTH * width)), curves)
        for title, curves in _lines(folders, over)
    ]
    below = len(found) > LABELS_INSIDE
    labels = sum(title.count("\n") + 1 for title, _ in found)
    figure = canvas(width, 4.0 + below * LABEL_HEIGHT * labels)
    axes = figure.add_subplot(xlabel=OVER[over][2], ylabel="return of deterministic episodes")
    for title, curves in found:
        _draw_line(axes, title, curves, over)
    axes.grid(alpha=0.3)
    where = figure if below else axes
    legend = where.legend(fontsize="small", loc="outside lower left" if below else "best")
    for text in legend.get_texts():
        text.set_parse_math(False)
    if any(_count(curves) > 1 for _, curves in found):
        axes.set_title(
            "interquartile mean and its 95 % bootstrap interval; thin: each seed", fontsize="small"
        )
    return figure


Curves = list[tuple[np.ndarray, np.ndarray]]
"""Of runs: ``([T], returns [T, members])``."""


def _lines(folders: Sequence[Path], over: str) -> list[tuple[str, Curves]]:
    """Return the title of each line, and its runs that have evaluations."""
    found = []
    what, unit, _ = OVER[over]
    for label, runs in groups(folders, over):
        every = [(*metrics.read_curve(folder, what), members) for folder, members in runs]
        every = [each for each in every if len(each[0])]
        curves = [(x / unit, values[:, _known(own, values)]) for x, values, own in every]
        if curves:
            together = every[0][1].shape[1] if over == "time" else 1
            found.append((_title(label, _count(curves), together), curves))
    if not found:
        raise ValueError(
            "none of these runs has an evaluation yet: train longer, or with --evaluate-every 1."
        )
    return found


def _count(curves: Curves) -> int:
    return sum(values.shape[1] for _, values in curves)


def _title(label: str, count: int, together: int) -> str:
    """Return the label of a line with its number of seeds, and how many members share a clock."""
    title = label + (f", {count} seeds" if count > 1 else "")
    title += f", {together} at once" if together > 1 else ""
    # Matplotlib hides a label that begins with an underscore.
    return f" {title}" if title.startswith("_") else title


def _draw_line(axes: Any, title: str, curves: Curves, over: str) -> None:
    """Draw the runs of one configuration."""
    x, values = _together(curves, over)
    count, marker = values.shape[1], "." if len(x) == 1 else ""
    (line,) = axes.plot(x, interquartile_mean(values), marker=marker, label=title)
    if count > 1:
        thin = {"color": line.get_color(), "alpha": 0.3, "linewidth": 0.6, "zorder": 1}
        for own, each in curves:
            axes.plot(own, each, label="_seeds", marker="." if len(own) == 1 else "", **thin)
    if count > 1 and len(x):
        axes.fill_between(
            x, *bootstrap_interval(values), color=line.get_color(), alpha=0.25, linewidth=0
        )


def _together(curves: Curves, over: str) -> tuple[np.ndarray, np.ndarray]:
    """Return all members' returns ``[T, members]`` at what their runs have in common ``[T]``: steps
    that all evaluated, or times between evaluations of all.
    """
    if over == "steps":
        x = functools.reduce(np.intersect1d, (own for own, _ in curves))
        found = [values[np.isin(own, x)] for own, values in curves]
        return x, np.concatenate(found, axis=1)
    begin, end = max(own[0] for own, _ in curves), min(own[-1] for own, _ in curves)
    x = np.unique(np.concatenate([own for own, _ in curves]))
    x = x[(begin <= x) & (x <= end)]
    members = [np.interp(x, own, member) for own, values in curves for member in values.T]
    return x, np.stack(members, axis=1)


def groups(
    folders: Sequence[Path], over: str = "steps"
) -> list[tuple[str, list[tuple[Path, list[int]]]]]:
    """Return the label of each line, and the runs in it with the numbers of their members.

    Over time runs of other numbers of members or devices share no line: they take other times.
    """
    found: dict[str, tuple[dict[str, Any], Path, dict[Path, list[int]]]] = {}
    for folder in folders:
        flat = json.loads((folder / "config.json").read_text())
        left_out = ["seed", "vary", "steps_per_chunk", *stored.FREE]
        left_out += PACE if over == "steps" else []
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
    families = [family_of(folder) for _, folder in lines]
    found = []
    for (about, folder), family in zip(lines, families, strict=True):
        alike = [other for (other, _), own in zip(lines, families, strict=True) if own == family]
        differing = [
            name
            for name in about
            if name not in PACE and len({json.dumps(each.get(name)) for each in alike}) > 1
        ]
        swept = family != folder and len(differing) <= MAX_NAMES
        own = [f"{name} {about[name]}" for name in differing if swept]
        others = [family.name] if swept else [folder.name]
        parts = (others if len(set(families)) > 1 or not swept else []) + own
        title = f"{about['env']}, {about['preset']}"
        found.append(f"{title} ({', '.join(parts)})" if len(lines) > 1 else title)
    return found


def family_of(folder: Path) -> Path:
    """Return the folder of the sweep that a run belongs to, or its own."""
    return folder.parent if (folder.parent / "sweep.json").is_file() else folder


def _known(members: list[int], values: np.ndarray) -> list[int]:
    """Return the members that have a column."""
    return [member for member in members if member < values.shape[1]]
