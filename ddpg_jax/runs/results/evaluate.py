"""Evaluation of a run's newest checkpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ddpg_jax.runs.folder.metrics import finite_or_none
from ddpg_jax.runs.programs.evaluation import (
    LATER_STREAM,
    evaluation_keys,
    make_evaluator,
    require_finite_returns,
)
from ddpg_jax.runs.results import statistics
from ddpg_jax.runs.results.policy import require_member, restore_policy

if TYPE_CHECKING:
    from pathlib import Path


def evaluate(folder: Path, episodes: int, seed: int, member: int | None = None) -> dict[str, Any]:
    """Evaluate each member of a run, or one, in ``episodes`` new deterministic episodes.

    Raises:
        ValueError: there is no such member.
    """
    config, agent, steps, agent_state = restore_policy(folder)
    require_member(config, member or 0)
    play = make_evaluator(config, agent, episodes)
    played = require_finite_returns(
        np.asarray(play(agent_state, evaluation_keys(config, LATER_STREAM, seed)), np.float64),
        config,
    )
    returns = played.reshape(config.seeds, -1)[slice(None) if member is None else [member]]
    means = returns.mean(axis=1)
    return {
        "run": str(folder),
        "env": config.env,
        "env_steps": steps,
        "episodes": episodes,
        "seed": seed,
        **({} if member is None else {"member": member}),
        **return_statistics(means, returns.std(axis=1)),
    }


def return_statistics(means: np.ndarray, stds: np.ndarray) -> dict[str, Any]:
    """Return statistics of the members' mean returns; NaN counts in none of them."""
    known = means[np.isfinite(means)]
    mean, middle = (
        (float(known.mean()), float(statistics.interquartile_mean(known)))
        if known.size
        else (None, None)
    )
    return {
        "mean_return": mean,
        "returns": finite_or_none(means),
        "return_std": finite_or_none(stds),
        "interquartile_mean": middle,
    }
