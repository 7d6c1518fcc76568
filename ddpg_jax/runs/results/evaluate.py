"""Evaluation of a run's newest checkpoint."""

from pathlib import Path
from typing import Any

import numpy as np

from ddpg_jax.runs.folder.metrics import finite_or_none
from ddpg_jax.runs.programs import evaluation
from ddpg_jax.runs.results import policy, statistics


def evaluate(folder: Path, episodes: int, seed: int, member: int | None = None) -> dict[str, Any]:
    """Evaluate each member of a run, or one, in ``episodes`` new deterministic episodes.

    Raises:
        ValueError: there is no such member.
    """
    config, agent, steps, agent_state = policy.restore_policy(folder)
    policy.require_member(config, member or 0)
    play = evaluation.make_evaluator(config, agent, episodes)
    keys = evaluation.evaluation_keys(config, evaluation.LATER_STREAM, seed)
    played = np.asarray(play(agent_state, keys), np.float64)
    evaluation.require_finite_returns(played, config)
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
    return {
        "mean_return": float(known.mean()) if known.size else None,
        "returns": finite_or_none(means),
        "return_std": finite_or_none(stds),
        "interquartile_mean": float(statistics.interquartile_mean(known)) if known.size else None,
    }
