"""Pictures of a sweep: return by hyper-parameter, and the curve of every member."""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ddpg_jax.runs.folder.files import write_file
from ddpg_jax.runs.sweeps import sweep_results

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

COLOURS = "viridis"
DIVERGED_COLOUR = "lightgrey"
LOG_RATIO = 20.0
"""Ratio of the greatest to the least value above which an axis is logarithmic."""
MAX_LABELLED_CELLS = 100
"""Largest heat map whose cells show their values."""


def write_figure(figure: Any, path: Path) -> Path:
    """Write a figure as PNG."""
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    write_file(path, picture.getvalue())
    return path


def canvas(width: float, height: float) -> Any:
    """Return an empty figure of a size in inches, without matplotlib's global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def write_all(folder: Path, members: list[dict[str, Any]]) -> list[Path]:
    """Write ``sweep.png`` and ``curves.png``, and return their paths."""
    return [
        write_figure(sweep(members), folder / "sweep.png"),
        write_figure(curves(folder, members), folder / "curves.png"),
    ]


def sweep(members: list[dict[str, Any]]) -> Any:
    """Draw returns by hyper-parameter: a line, a heat map or scatter, or parallel coordinates."""
    names = list(members[0]["hyperparameters"])
    found = sweep_results.settings(members)
    if len(names) == 1:
        return _line(names[0], members)
    grid = math.prod(len(_values(name, found)) for name in names)
    if len(names) == 2 and grid == len(found):
        return _heat_map(names, found)
    return _scatter(names, members) if len(names) == 2 else _parallel(names, found)


def curves(folder: Path, members: list[dict[str, Any]]) -> Any:
    """Draw return against steps of every member, coloured by its final return."""
    figure = canvas(6.4, 4.0)
    axes = figure.add_subplot(
        xlabel="environment steps of each member", ylabel="return of deterministic episodes"
    )
    colour, scale = colours([one["final_return"] for one in members])
    best = sweep_results.best(members)
    for one in members:
        steps, returns = sweep_results.member_curve(folder, one["member"])
        last = one is best
        named = (
            f"member {one['member']}: {sweep_results.label(one['hyperparameters'])}"
            if last
            else None
        )
        axes.plot(
            steps,
            returns,
            color=colour(one["final_return"]),
            lw=2.5 if last else 0.9,
            zorder=3 if last else 2,
            label=named,
        )
    figure.colorbar(scale, ax=axes, label="final return")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="x-small", loc="lower right")
    return figure


def colours(returns: Sequence[float | None]) -> tuple[Any, Any]:
    """Return ``colour(return)``, and the scale for a colour bar."""
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    known = [value for value in returns if value is not None]
    norm = Normalize(min(known), max(known) if max(known) > min(known) else min(known) + 1.0)
    shades = colormaps[COLOURS]
    return lambda value: DIVERGED_COLOUR if value is None else shades(norm(value)), ScalarMappable(
        norm, shades
    )


def _values(name: str, found: list[dict[str, Any]]) -> list[Any]:
    """Return the different values of a hyper-parameter, sorted."""
    values = {
        sweep_results.short_text(each["hyperparameters"][name]): each["hyperparameters"][name]
        for each in found
    }
    return sorted(values.values(), key=lambda value: (isinstance(value, str), value))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_wide(values: Sequence[Any]) -> bool:
    """Return whether values need a logarithmic axis."""
    return (
        all(map(_is_number, values)) and min(values) > 0 and max(values) / min(values) >= LOG_RATIO
    )


def _placed(name: str, members: list[dict[str, Any]]) -> tuple[list[float], list[Any] | None]:
    """Return each member's place on an axis, and the sorted values where they are not numeric."""
    values = [one["hyperparameters"][name] for one in members]
    if all(map(_is_number, values)):
        return values, None
    order = _values(name, members)
    return [float(order.index(value)) for value in values], order


def _prepare(axis: Any, which: str, name: str, members: list[dict[str, Any]]) -> list[float]:
    """Label an axis, and return the members' places on it."""
    places, order = _placed(name, members)
    getattr(axis, f"set_{which}label")(name)
    if order is not None:
        getattr(axis, f"set_{which}ticks")(
            range(len(order)), [sweep_results.short_text(value) for value in order]
        )
    elif is_wide(places):
        getattr(axis, f"set_{which}scale")("log")
    return places


def _line(name: str, members: list[dict[str, Any]]) -> Any:
    figure = canvas(5.6, 4.0)
    axes = figure.add_subplot(ylabel="final return")
    places = _prepare(axes, "x", name, members)
    known = [
        (place, one["final_return"])
        for place, one in zip(places, members, strict=True)
        if one["final_return"] is not None
    ]
    axes.plot(*zip(*known, strict=True), "o", ms=4, alpha=0.6)
    means = {
        place: np.mean([value for other, value in known if other == place])
        for place, _ in sorted(known)
    }
    axes.plot(list(means), list(means.values()), lw=1.2)
    axes.grid(alpha=0.3)
    return figure


def _heat_map(names: list[str], found: list[dict[str, Any]]) -> Any:
    down, right = (_values(name, found) for name in names)
    cells = np.full((len(down), len(right)), np.nan)
    for each in found:
        mean = sweep_results.mean_return(each["returns"])
        cells[
            down.index(each["hyperparameters"][names[0]]),
            right.index(each["hyperparameters"][names[1]]),
        ] = mean
    cells[~np.isfinite(cells)] = np.nan
    figure = canvas(2.6 + 0.75 * len(right), max(3.2, 1.2 + 0.55 * len(down)))
    axes = figure.add_subplot(xlabel=names[1], ylabel=names[0])
    axes.set_facecolor(DIVERGED_COLOUR)
    image = axes.imshow(cells, cmap=COLOURS, aspect="auto", origin="lower")
    axes.set_xticks(range(len(right)), [sweep_results.short_text(value) for value in right])
    axes.set_yticks(range(len(down)), [sweep_results.short_text(value) for value in down])
    for (row, column), value in np.ndenumerate(
        cells if cells.size <= MAX_LABELLED_CELLS else np.empty((0, 0))
    ):
        dark = np.isfinite(value) and image.norm(value) < 0.6
        shown = f"{value:.4g}" if np.isfinite(value) else "diverged"
        axes.text(
            column,
            row,
            shown,
            ha="center",
            va="center",
            fontsize="small",
            color="white" if dark else "black",
        )
    figure.colorbar(image, ax=axes, label="final return, mean over seeds")
    return figure


def _scatter(names: list[str], members: list[dict[str, Any]]) -> Any:
    figure = canvas(5.6, 4.4)
    axes = figure.add_subplot()
    x, y = (_prepare(axes, which, name, members) for which, name in zip("xy", names, strict=True))
    colour, scale = colours([one["final_return"] for one in members])
    axes.scatter(
        x,
        y,
        c=[colour(one["final_return"]) for one in members],
        s=40,
        edgecolors="black",
        linewidths=0.4,
        zorder=2,
    )
    figure.colorbar(scale, ax=axes, label="final return")
    axes.grid(alpha=0.3)
    return figure


def _parallel(names: list[str], found: list[dict[str, Any]]) -> Any:
    """Draw a line for each setting through its hyper-parameters to its return."""
    means = [sweep_results.mean_return(each["returns"]) for each in found]
    known = [mean if math.isfinite(mean) else None for mean in means]
    colour, scale = colours(known)
    columns = [_column(name, found) for name in names]
    low, high = scale.norm.vmin, scale.norm.vmax
    columns.append(
        (
            [scale.norm(mean) if mean is not None else 0.0 for mean in known],
            [(0.0, f"{low:.4g}"), (1.0, f"{high:.4g}")],
        )
    )
    figure = canvas(1.6 + 1.5 * len(columns), 4.2)
    axes = figure.add_subplot(xlim=(-0.3, len(columns) - 0.6), ylim=(-0.05, 1.05))
    for index in np.argsort(means):  # the best on top
        heights = [places[index] for places, _ in columns]
        best = bool(means[index] == max(means))
        axes.plot(
            heights, color=colour(known[index]), lw=3.0 if best else 1.1, alpha=1.0 if best else 0.8
        )
    for place, (_, ticks) in enumerate(columns):
        axes.axvline(place, color="black", lw=0.8)
        for height, shown in ticks:
            axes.text(
                place + 0.04,
                height,
                shown,
                fontsize="x-small",
                va="center",
                bbox={"fc": "white", "ec": "none", "pad": 0.8},
            )
    axes.set_xticks(range(len(columns)), [*names, "final return"], fontsize="small")
    axes.set_yticks([])
    figure.colorbar(scale, ax=axes, label="final return, mean over seeds")
    return figure


def _column(name: str, found: list[dict[str, Any]]) -> tuple[list[float], list[tuple[float, str]]]:
    """Return heights in [0, 1] of each setting on an axis, and the axis's ticks."""
    places, order = _placed(name, found)
    wide = order is None and is_wide(places)
    scaled = np.log(places) if wide else np.asarray(places, float)
    low, span = scaled.min(), np.ptp(scaled) or 1.0
    if order is None:
        ends = sorted({min(places), max(places)})
        ticks = [
            (
                float(((np.log(end) if wide else end) - low) / span),
                sweep_results.short_text(float(end)),
            )
            for end in ends
        ]
    else:
        ticks = [
            ((index - low) / span, sweep_results.short_text(value))
            for index, value in enumerate(order)
        ]
    return ((scaled - low) / span).tolist(), ticks
