"""Pictures of a sweep: return by hyper-parameter, and the curve of every member."""

import math
from pathlib import Path
from typing import Any

import numpy as np

from ddpg_jax.runs.results.plots import canvas
from ddpg_jax.runs.sweeps.sweep_results import (
    Record,
    best,
    mean_return,
    member_curve,
    settings,
    short_text,
)

COLOURS = "viridis"
DIVERGED_COLOUR = "lightgrey"
LOG_RATIO = 20.0
"""Ratio of the greatest to the least value above which an axis is logarithmic."""
MAX_LABELLED_CELLS = 100
"""Largest heat map whose cells show their values."""


def sweep(members: list[Record]) -> Any:
    """Draw returns by hyper-parameter: a line, a heat map or scatter, or parallel coordinates."""
    names = list(members[0]["hyperparameters"])
    found = settings(members)
    if len(names) == 1:
        return _line(names[0], members)
    grid = math.prod(len(_ordered(_of(name, found))) for name in names)
    if len(names) == 2 and grid == len(found):
        return _heat_map(names, found)
    return _scatter(names, members) if len(names) == 2 else _parallel(names, found)


def curves(folder: Path, members: list[Record]) -> Any:
    """Draw return against steps of every member, coloured by its final return."""
    figure = canvas(6.4, 4.0)
    axes = figure.add_subplot(
        xlabel="environment steps of each member", ylabel="return of deterministic episodes"
    )
    colour = add_colours(figure, _returns(members), "final return")
    winner = best(members)
    for one in members:
        steps, returns = member_curve(folder, one)
        (line,) = axes.plot(steps, returns, color=colour(one["final_return"]), lw=0.9)
        if one is winner:
            own = (f"{name} {short_text(value)}" for name, value in one["hyperparameters"].items())
            line.set(lw=2.5, zorder=3, label=f"member {one['member']}: {', '.join(own)}")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="x-small", loc="lower right")
    return figure


def add_colours(figure: Any, returns: list[float | None], label: str) -> Any:
    """Return ``colour(return)``, and add its colour bar to a figure."""
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    known = [value for value in returns if value is not None]
    norm, shades = Normalize(min(known), max(known)), colormaps[COLOURS]
    figure.colorbar(ScalarMappable(norm, shades), ax=figure.axes, label=label)
    return lambda value: DIVERGED_COLOUR if value is None else shades(norm(value))


def _returns(members: list[Record]) -> list[float | None]:
    return [one["final_return"] for one in members]


def _of(name: str, members: list[Record]) -> list[Any]:
    return [one["hyperparameters"][name] for one in members]


def _ordered(values: list[Any]) -> list[Any]:
    """Return the different values, sorted."""
    return sorted({short_text(value): value for value in values}.values())


def _are_numbers(values: list[Any]) -> bool:
    return all(type(one) in (int, float) for one in values)


def is_wide(values: list[Any]) -> bool:
    """Return whether values need a logarithmic axis."""
    return _are_numbers(values) and min(values) > 0 and max(values) / min(values) >= LOG_RATIO


def _places(values: list[Any]) -> tuple[list[float], list[str]]:
    """Return the values' places on an axis, and the labels of its ticks where not numeric."""
    if _are_numbers(values):
        return values, []
    order = _ordered(values)
    return [order.index(value) for value in values], _labels(order)


def _labels(values: list[Any]) -> list[str]:
    return list(map(short_text, values))


def _prepare(axis: Any, which: str, name: str, members: list[Record]) -> list[float]:
    """Label an axis, and return the members' places on it."""
    places, labels = _places(_of(name, members))
    axis.set(**{f"{which}label": name})
    if labels:
        axis.set(**{f"{which}ticks": range(len(labels)), f"{which}ticklabels": labels})
    elif is_wide(places):
        axis.set(**{f"{which}scale": "log"})
    return places


def _line(name: str, members: list[Record]) -> Any:
    figure = canvas(5.6, 4.0)
    axes = figure.add_subplot(ylabel="final return")
    places, returns = np.array([_prepare(axes, "x", name, members), _returns(members)], float)
    known = np.isfinite(returns)
    axes.plot(places[known], returns[known], "o", ms=4, alpha=0.6, color="tab:blue")
    ticks = np.unique(places[known])
    axes.plot(ticks, [returns[known & (places == tick)].mean() for tick in ticks], lw=1.2)
    axes.grid(alpha=0.3)
    return figure


def _heat_map(names: list[str], found: list[Record]) -> Any:
    down, right = (_ordered(_of(name, found)) for name in names)
    found = sorted(found, key=lambda each: [*each["hyperparameters"].values()])
    cells = np.reshape([mean_return(each["returns"]) for each in found], (len(down), len(right)))
    cells[np.isinf(cells)] = np.nan
    figure = canvas(2.6 + 0.75 * len(right), max(3.2, 1.2 + 0.55 * len(down)))
    axes = figure.add_subplot(xlabel=names[1], ylabel=names[0], facecolor=DIVERGED_COLOUR)
    image = axes.imshow(cells, cmap=COLOURS, aspect="auto", origin="lower")
    axes.set_xticks(range(len(right)), _labels(right))
    axes.set_yticks(range(len(down)), _labels(down))
    for (row, column), value in np.ndenumerate(cells) if cells.size <= MAX_LABELLED_CELLS else ():
        text = f"{value:.4g}" if np.isfinite(value) else "diverged"
        colour = "white" if image.norm(value) < 0.6 else "black"
        axes.text(column, row, text, ha="center", va="center", fontsize="small", color=colour)
    figure.colorbar(image, ax=axes, label="final return, mean over seeds")
    return figure


def _scatter(names: list[str], members: list[Record]) -> Any:
    figure = canvas(5.6, 4.4)
    axes = figure.add_subplot()
    places = (_prepare(axes, which, name, members) for which, name in zip("xy", names, strict=True))
    colour = add_colours(figure, _returns(members), "final return")
    shades = [*map(colour, _returns(members))]
    axes.scatter(*places, c=shades, s=40, edgecolors="black", linewidths=0.4, zorder=2)
    axes.grid(alpha=0.3)
    return figure


def _parallel(names: list[str], found: list[Record]) -> Any:
    """Draw a line for each setting through its hyper-parameters to its return."""
    means = [mean_return(each["returns"]) for each in found]
    known = [mean if math.isfinite(mean) else None for mean in means]
    lowest = min(mean for mean in known if mean is not None)
    columns = [_column(values, is_wide(values)) for values in (_of(name, found) for name in names)]
    columns.append(_column([max(mean, lowest) for mean in means], log=False))
    figure = canvas(1.6 + 1.5 * len(columns), 4.2)
    axes = figure.add_subplot(xlim=(-0.3, len(columns) - 0.6), ylim=(-0.05, 1.05), yticks=[])
    colour = add_colours(figure, known, "final return, mean over seeds")
    for index in np.argsort(means):  # the best on top
        width = 3.0 if means[index] == max(means) else 1.1
        axes.plot([heights[index] for heights, _ in columns], color=colour(known[index]), lw=width)
    for place, (_, ticks) in enumerate(columns):
        axes.axvline(place, color="black", lw=0.8)
        for height, text in ticks.items():
            box = {"fc": "white", "ec": "none", "pad": 0.8}
            axes.text(place + 0.04, height, text, fontsize="x-small", va="center", bbox=box)
    axes.set_xticks(range(len(columns)), [*names, "final return"], fontsize="small")
    return figure


def _column(values: list[Any], log: bool) -> tuple[list[float], dict[float, str]]:
    """Return heights in [0, 1] of the values on an axis, and the labels of its ticks."""
    places, labels = _places(values)
    scaled = np.log(places) if log else np.asarray(places, float)
    heights = ((scaled - scaled.min()) / (np.ptp(scaled) or 1.0)).tolist()
    texts = zip(heights, _labels(values), strict=True)
    return heights, {height: text for height, text in texts if labels or height in (0, 1)}
