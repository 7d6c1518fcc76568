"""The lines of ``metrics.jsonl``."""

from __future__ import annotations

import json
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ddpg_jax.reporting import Report
    from ddpg_jax.runs.config.run_config import Config


class Clock:
    """Seconds of training: of all chunks, and of the last."""

    def __init__(self, total: float = 0.0) -> None:
        """Start at ``total`` seconds."""
        self.total, self.last = total, 0.0

    def add(self, seconds: float) -> None:
        """Add the time of a chunk."""
        self.total, self.last = self.total + seconds, seconds


def metrics_row(
    config: Config,
    report: Report,
    steps: int,
    length: int,
    clock: Clock,
    evaluation: list[float] | None,
) -> dict[str, Any]:
    """Return a line of ``metrics.jsonl``: lists have one value per seed; rates are over all seeds.

    Means over episodes are None for a seed of which no episode ended in the chunk.

    Args:
        config: of the run.
        report: of the chunk.
        steps: environment steps of each seed at the end of the chunk.
        length: those in it.
        clock: of the run.
        evaluation: mean returns, if there was one.
    """
    episodes = report.episodes
    counts = np.reshape(episodes.count, -1)

    def over_episodes(total: Any) -> list[float | None]:
        return finite_or_none(
            [
                x / count if count else np.nan
                for x, count in zip(np.reshape(total, -1), counts, strict=True)
            ]
        )

    return {
        "env_steps": steps,
        "updates": config.updates_in(steps - config.schedule.warm_up_steps),
        "episodes": counts.tolist(),
        "episode_return": over_episodes(episodes.return_sum),
        "episode_length": over_episodes(episodes.length_sum),
        "broken_episodes": np.reshape(episodes.broken, -1).tolist(),
        **{name: finite_or_none(value) for name, value in report.metrics.items()},
        "evaluation_return": evaluation,
        "train_seconds": clock.total,
        "env_steps_per_second": config.seeds * length / clock.last,
        "updates_per_second": config.seeds * config.updates_in(length) / clock.last,
    }


def finite_or_none(values: Any) -> list[float | None]:
    """Return a list with one number per member, None where it is not finite (JSON has no NaN)."""
    return [value if np.isfinite(value) else None for value in np.reshape(values, -1).tolist()]


def read_metrics(
    folder: Path, say: Callable[[str], None] = lambda text: None
) -> list[dict[str, Any]]:
    """Return the lines of a run's ``metrics.jsonl`` by step; of equal steps the last one.

    Args:
        folder: the run's.
        say: receives a sentence with the number of damaged lines, which are left out. An incomplete
            last line, cut off by a kill, is not counted.
    """
    path = folder / "metrics.jsonl"
    *lines, rest = path.read_bytes().split(b"\n") if path.is_file() else [b""]
    rows = [_row(line) for line in lines if line.strip()]
    if damaged := rows.count(None):
        say(f"{path}: {damaged} of {len(rows)} lines are damaged and are ignored.")
    by_step = {row["env_steps"]: row for row in (*rows, _row(rest)) if row is not None}
    return [by_step[steps] for steps in sorted(by_step)]


def _row(line: bytes) -> dict[str, Any] | None:
    """Return a line of ``metrics.jsonl``; None where it is damaged."""
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
    """Return whether it is a number, neither NaN nor beyond a float."""
    return type(value) in (int, float) and abs(value) <= sys.float_info.max


def mean_over_members(value: Any) -> float | None:
    """Return the mean of a metric over the members that have one; None if none has."""
    numbers = list(filter(_is_number, value if isinstance(value, list) else [value]))
    return float(np.mean(numbers)) if numbers else None


def read_curve(folder: Path, over: str = "env_steps") -> tuple[np.ndarray, np.ndarray]:
    """Return ``(env_steps [T], evaluation returns [T, seeds])`` of a run.

    Where lines differ in their number of seeds, only those of the most frequent one count.

    Args:
        folder: the run's.
        over: another number of each line instead of its steps; lines without it do not count.
    """
    rows = [row for row in read_metrics(folder) if row["evaluation_return"] is not None]
    rows = [row for row in rows if _is_number(row.get(over))]
    seeds = Counter(len(row["evaluation_return"]) for row in rows).most_common(1)
    rows = [row for row in rows if len(row["evaluation_return"]) == seeds[0][0]]
    return np.array([row[over] for row in rows]), np.array(
        [row["evaluation_return"] for row in rows], np.float64
    )
