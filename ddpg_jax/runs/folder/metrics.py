"""The lines of ``metrics.jsonl``: written by a run, read by everything that shows it."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from ddpg_jax.learner import Report
    from ddpg_jax.runs.config.run_config import Config


class Clock:
    """Seconds of training alone: of all chunks, and of the last."""

    def __init__(self, total: float = 0.0) -> None:
        self.total, self.last = total, 0.0

    def add(self, seconds: float) -> None:
        """A chunk took so long."""
        self.total, self.last = self.total + seconds, seconds


def metrics_row(
    config: Config, report: Report, chunks: int, clock: Clock, evaluation: list[float] | None
) -> dict[str, Any]:
    """A line of ``metrics.jsonl`` after so many chunks: lists have one value per seed; rates are
    over all seeds.

    A seed of which no episode ended in the chunk has None for the means over episodes.
    """
    schedule, episodes = config.schedule, report.episodes
    counts = np.reshape(episodes.count, -1)

    def over_episodes(total: Any) -> list[float | None]:
        return finite_or_none(
            [
                x / count if count else np.nan
                for x, count in zip(np.reshape(total, -1), counts, strict=True)
            ]
        )

    updates = count_updates(config, 1)
    return {
        "env_steps": schedule.steps_after(chunks),
        "updates": chunks * updates,
        "episodes": counts.tolist(),
        "episode_return": over_episodes(episodes.return_sum),
        "episode_length": over_episodes(episodes.length_sum),
        "broken_episodes": np.reshape(episodes.broken, -1).tolist(),
        **{name: finite_or_none(value) for name, value in report.metrics.items()},
        "evaluation_return": evaluation,
        "train_seconds": clock.total,
        "env_steps_per_second": config.seeds * schedule.steps_per_chunk / clock.last,
        "updates_per_second": config.seeds * updates / clock.last,
    }


def finite_or_none(values: Any) -> list[float | None]:
    """One number for each member, as JSON has them: None for what is not finite."""
    return [value if np.isfinite(value) else None for value in np.reshape(values, -1).tolist()]


def count_updates(config: Config, chunks: int) -> int:
    """Critic updates of each member in so many chunks."""
    return (
        chunks
        * (config.schedule.steps_per_chunk // config.hyperparameters.num_envs)
        * config.hyperparameters.updates_per_step
    )


def read_metrics(
    folder: Path, say: Callable[[str], None] = lambda text: None
) -> list[dict[str, Any]]:
    """The lines of a run's ``metrics.jsonl`` in the order of their steps, of each step the last
    one.

    Args:
        folder: the run's. say: told, in one sentence, how many lines are damaged and so left out. A
        last one that a kill cut short is not.
    """
    path = folder / "metrics.jsonl"
    *lines, rest = path.read_bytes().split(b"\n") if path.is_file() else [b""]
    rows = [_row(line) for line in lines if line.strip()]
    if damaged := rows.count(None):
        say(f"{path}: {damaged} of {len(rows)} lines are damaged and are passed over.")
    by_step = {row["env_steps"]: row for row in (*rows, _row(rest)) if row is not None}
    return [by_step[steps] for steps in sorted(by_step)]


def _row(line: bytes) -> dict[str, Any] | None:
    """A line of ``metrics.jsonl``; None where it is damaged."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):  # not JSON, or not UTF-8
        return None
    if not isinstance(row, dict) or "evaluation_return" not in row:
        return None
    steps, returns = row.get("env_steps"), row["evaluation_return"]
    known = type(steps) is int and 0 <= steps < 2**63
    sound = (
        isinstance(returns, list)
        and returns
        and all(value is None or _is_number(value) for value in returns)
    )
    return row if known and (returns is None or sound) else None


def _is_number(value: Any) -> bool:
    return (
        type(value) in (int, float) and abs(value) <= sys.float_info.max
    )  # no NaN; JSON's integers have no end


def mean_over_members(value: Any) -> float | None:
    """Of what a line of ``metrics.jsonl`` holds: of the numbers alone, where some seeds have none;
    None if none has one."""
    numbers = list(filter(_is_number, value if isinstance(value, list) else [value]))
    return float(np.mean(numbers)) if numbers else None


def read_curve(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """``(env_steps [T], evaluation returns [T, seeds])`` of a run; of lines that differ in their
    seeds, those of the most."""
    rows = [row for row in read_metrics(folder) if row["evaluation_return"] is not None]
    seeds = Counter(len(row["evaluation_return"]) for row in rows).most_common(1)
    rows = [row for row in rows if len(row["evaluation_return"]) == seeds[0][0]]
    return np.array([row["env_steps"] for row in rows]), np.array(
        [row["evaluation_return"] for row in rows], np.float64
    )
