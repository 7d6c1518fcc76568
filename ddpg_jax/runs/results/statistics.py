"""Statistics over seeds, and the content of ``summary.json``."""

import warnings
from typing import Any

import numpy as np

from ddpg_jax.runs.config.run_config import Config
from ddpg_jax.runs.folder import metrics, versions


def interquartile_mean(values: np.ndarray, axis: int = -1) -> np.ndarray:
    """Return the mean of the middle half, which single failures hardly change.

    Source: Agarwal et al. 2021, arXiv:2108.13264. Equal to ``scipy.stats.trim_mean(values, 0.25)``,
    whose import takes as long as a short run's start.
    """
    ordered = np.moveaxis(np.sort(values, axis=axis), axis, -1)
    cut = ordered.shape[-1] // 4
    middle: np.ndarray = ordered[..., cut : ordered.shape[-1] - cut].mean(axis=-1)
    return middle


def bootstrap_interval(
    values: np.ndarray, confidence: float = 0.95
) -> tuple[np.ndarray, np.ndarray]:
    """Return the percentile-bootstrap interval of the interquartile mean over the last axis.

    With one seed both ends are its value; of a seed without a return (NaN) both are NaN.
    """
    from scipy.stats import DegenerateDataWarning, bootstrap

    values = np.asarray(values, np.float64)
    if values.shape[-1] == 1:
        return values[..., 0], values[..., 0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DegenerateDataWarning)  # of NaN
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


COLLAPSE_EVALUATIONS, COLLAPSE_SHARE = 3, 0.5
"""A member has collapsed where its newest evaluations, so many, are all below its best by more than
this share of the way that it had risen to it."""


def have_collapsed(returns: np.ndarray) -> np.ndarray:
    """Return for each member whether it has collapsed, ``[seeds]`` bool.

    Args:
        returns: ``[T, seeds]``, mean returns of evaluations; NaN counts neither way.
    """
    if len(returns) <= COLLAPSE_EVALUATIONS:
        return np.zeros(returns.shape[1:], bool)
    known = np.where(np.isnan(returns), -np.inf, returns)
    best, when = known.max(axis=0), known.argmax(axis=0)
    before = np.where(np.arange(len(returns))[:, None] <= when, returns, np.inf)
    lowest = np.fmin.reduce(before, axis=0)
    bound = best - COLLAPSE_SHARE * (best - lowest)
    collapsed: np.ndarray = np.all(returns[-COLLAPSE_EVALUATIONS:] < bound, axis=0)
    return collapsed


def make_summary(
    config: Config, returns: np.ndarray, seconds: dict[str, float], env_steps: int
) -> dict[str, Any]:
    """Return the content of ``summary.json``.

    Counts are of each seed, rates over all of them; rates exclude warm-up and compilation.

    Args:
        config: of the run.
        returns: ``[seeds, episodes]`` of the final evaluation.
        seconds: of ``compile``, ``train`` and ``wall``.
        env_steps: that each member was trained.
    """
    means = returns.mean(axis=1)
    learning = env_steps - config.schedule.warm_up_steps
    updates = config.updates_in(learning)
    found = {
        "final_returns": metrics.finite_or_none(means),
        "final_return_std": metrics.finite_or_none(returns.std(axis=1)),
        "env_steps": env_steps,
        "updates": updates,
        **{f"{name}_seconds": value for name, value in seconds.items()},
        "env_steps_per_second": config.seeds * learning / seconds["train"],
        "updates_per_second": config.seeds * updates / seconds["train"],
        "versions": versions.package_versions(),
        "device": versions.describe_device(),
        "config": config.flat(),
    }
    if config.seeds > 1 and not config.vary:
        low, high = bootstrap_interval(means)
        found["interquartile_mean"] = float(interquartile_mean(means))
        found["interquartile_mean_interval"] = [float(low), float(high)]
    return found


def return_statistics(means: np.ndarray, stds: np.ndarray) -> dict[str, Any]:
    """Return statistics of the members' mean returns; NaN counts in none of them."""
    known = means[np.isfinite(means)]
    return {
        "mean_return": float(known.mean()) if known.size else None,
        "returns": metrics.finite_or_none(means),
        "return_std": metrics.finite_or_none(stds),
        "interquartile_mean": float(interquartile_mean(known)) if known.size else None,
    }
