"""Evaluation of every member of a sweep."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ddpg_jax.runs.results.evaluate import evaluate, return_statistics
from ddpg_jax.runs.sweeps import sweep_results

if TYPE_CHECKING:
    from pathlib import Path


def evaluate_sweep(folder: Path, episodes: int, seed: int) -> dict[str, Any]:
    """Evaluate every member of a sweep, run by run."""
    plan = sweep_results.read_plan(folder)
    found: dict[int, Any] = {}
    for index, part in enumerate(plan.parts):
        played = evaluate(sweep_results.run_folder(folder, index), episodes, seed)
        each = zip(played["returns"], played["return_std"], strict=True)
        found |= dict(zip(part.members, each, strict=False))  # copies that fill a run are last
    means, stds = np.array([found[number] for number in sorted(found)], np.float64).T
    return {
        "run": str(folder),
        "env": plan.env,
        "episodes": episodes,
        "seed": seed,
        **return_statistics(means, stds),
    }
