"""Statistics over seeds, what a run comes to, and pictures of runs."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ddpg_jax.runs import out
from ddpg_jax.runs.config import DERIVED, PLACES
from ddpg_jax.runs.folder import curve, device, plain, updates_in, versions, write

if TYPE_CHECKING:
    from ddpg_jax.runs.config import Config


def interquartile_mean(values: np.ndarray, axis: int = -1) -> np.ndarray:
    """The mean of the middle half (Agarwal et al. 2021, arXiv:2108.13264): robust to single failures, unlike the mean."""
    from scipy.stats import trim_mean

    return trim_mean(values, 0.25, axis=axis)


def interval(values: np.ndarray, confidence: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Percentile-bootstrap interval of the interquartile mean over the last axis; its own value where there is one seed."""
    from scipy.stats import bootstrap

    values = np.asarray(values, np.float64)
    if values.shape[-1] == 1:
        return values[..., 0], values[..., 0]
    result = bootstrap(
        (values,),
        interquartile_mean,
        axis=-1,
        n_resamples=2_000,
        batch=100,
        confidence_level=confidence,
        method="percentile",
        rng=np.random.default_rng(0),
    )
    return result.confidence_interval.low, result.confidence_interval.high


def summary(config: Config, returns: np.ndarray, seconds: dict[str, float]) -> dict[str, Any]:
    """What ``summary.json`` says; counts and rates are over all seeds, rates without warm-up and compilation.

    Args:
        config: of the run.
        returns: ``[seeds, episodes]`` of the final evaluation.
        seconds: of ``compile``, ``train`` and ``wall``.
    """
    chunks, means = config.num_chunks, returns.mean(axis=1)
    env_steps = config.seeds * chunks * config.schedule.steps_per_chunk
    updates = config.seeds * updates_in(config, chunks)
    said = {
        "final_returns": plain(means),
        "final_return_std": plain(returns.std(axis=1)),
        "env_steps": env_steps + config.seeds * config.schedule.warm_up_steps,
        "updates": updates,
        **{f"{name}_seconds": value for name, value in seconds.items()},
        "env_steps_per_second": env_steps / seconds["train"],
        "updates_per_second": updates / seconds["train"],
        "versions": versions(),
        "device": device(),
        "config": config.flat(),
    }
    if config.seeds > 1 and not config.vary:
        low, high = interval(means)
        said["interquartile_mean"] = float(interquartile_mean(means))
        said["interquartile_mean_interval"] = [float(low), float(high)]
    return said


def plot(folders: Sequence[Path], path: Path) -> str:
    """Draw evaluation returns against environment steps: a line per configuration, with the interval over its seeds.

    Runs that differ only in their seeds are one line, over the steps that all of them evaluated.

    Args:
        folders: of the runs.
        path: ``.png`` where it has no suffix.

    Returns:
        The file written.

    Raises:
        ValueError: no run holds an evaluation, or the file cannot be made.
    """
    # The object-oriented interface: it has no global state, so it may run in a thread.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    groups: dict[str, list[Path]] = {}
    for folder in folders:
        config = json.loads((folder / "config.json").read_text())
        label = {name: value for name, value in config.items() if name not in ("seed", "seeds", *PLACES, *DERIVED)}
        groups.setdefault(json.dumps(label, sort_keys=True), []).append(folder)
    figure = Figure(figsize=(6.4, 4), dpi=120, layout="constrained")
    known = sorted(FigureCanvasAgg(figure).get_supported_filetypes())
    path = path if path.suffix else path.with_name(f"{path.name}.png") if path.name else path
    if path.name and path.suffix[1:].lower() not in known:
        raise ValueError(f"{path} ends in {path.suffix}, which is no kind of picture: choose one of {', '.join(known)}.")
    path = out.target(path)
    axes = figure.add_subplot(xlabel="environment steps (per seed)", ylabel="return of deterministic episodes")
    widest = 0
    for group, members in groups.items():
        curves = [(steps, values) for steps, values in map(curve, members) if len(steps)]
        if not curves:
            continue
        steps = sorted(set.intersection(*(set(steps.tolist()) for steps, _ in curves)))
        values = np.concatenate([values[np.isin(x, steps)] for x, values in curves], axis=1)
        config = json.loads(group)
        title = f"{config['env']}, {config['preset']}" + (f" ({members[0].name})" if len(groups) > 1 else "")
        count = values.shape[1]
        widest = max(widest, count)
        title += f", {count} seeds" if count > 1 else ""
        axes.plot(steps, interquartile_mean(values) if count > 1 else values[:, 0], label=title)
        if count > 1:
            axes.fill_between(steps, *interval(values), alpha=0.25, linewidth=0)
    if not widest:
        raise ValueError("none of these runs holds an evaluation yet: train longer, or with --evaluate-every 1.")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    if widest > 1:
        axes.set_title("interquartile mean and its 95 % bootstrap interval", fontsize="small")
    picture = io.BytesIO()
    figure.savefig(picture, format=path.suffix[1:].lower())
    write(path, picture.getvalue())
    return str(path)
