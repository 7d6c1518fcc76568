"""The files of a run: ``metrics.jsonl``, ``summary.json``, and what they depend on; but for checkpoints."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from ddpg_jax.learner import Report
    from ddpg_jax.runs.config import Config


class Clock:
    """Seconds of training alone: of all chunks, and of the last."""

    def __init__(self, total: float = 0.0) -> None:
        self.total, self.last = total, 0.0

    def add(self, seconds: float) -> None:
        """A chunk took so long."""
        self.total, self.last = self.total + seconds, seconds


def metrics_row(config: Config, report: Report, chunks: int, clock: Clock, evaluation: list[float] | None) -> dict[str, Any]:
    """A line of ``metrics.jsonl`` after so many chunks: lists have one value per seed; rates are over all seeds."""
    schedule, episodes = config.schedule, report.episodes
    counts = np.reshape(episodes.count, -1)

    def mean(total: Any) -> list[float] | None:
        values = np.reshape(total, -1)
        return None if not counts.all() else (values / counts).tolist()

    updates = updates_in(config, 1)
    return {
        "env_steps": schedule.steps_after(chunks),
        "updates": chunks * updates,
        "episodes": counts.tolist(),
        "episode_return": mean(episodes.return_sum),
        "episode_length": mean(episodes.length_sum),
        "broken_episodes": np.reshape(episodes.broken, -1).tolist(),
        **{name: np.reshape(value, -1).tolist() for name, value in report.metrics.items()},
        "evaluation_return": evaluation,
        "train_seconds": clock.total,
        "env_steps_per_second": config.seeds * schedule.steps_per_chunk / clock.last,
        "updates_per_second": config.seeds * updates / clock.last,
    }


def updates_in(config: Config, chunks: int) -> int:
    """Critic updates of each member in so many chunks."""
    return chunks * (config.schedule.steps_per_chunk // config.numbers.num_envs) * config.numbers.updates_per_step


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The lines of a run's ``metrics.jsonl``; a last line that a kill cut short is left out."""
    path = folder / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.is_file() else []
    rows = []
    for line in lines:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows


def curve(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """``(env_steps [T], evaluation returns [T, seeds])`` of a run."""
    rows = [row for row in read_metrics(folder) if row["evaluation_return"] is not None]
    return np.array([row["env_steps"] for row in rows]), np.array([row["evaluation_return"] for row in rows], np.float64)


def versions() -> dict[str, str]:
    """Versions of what the result depends on."""
    names = ("ddpg_jax", "jax", "jaxlib", "flax", "optax", "brax", "mujoco", "mujoco-mjx", "playground", "gymnasium")
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def device() -> str:
    """The device that computes, and how many host processors there are."""
    import jax

    first = jax.devices()[0]
    return f"{first.device_kind} x{jax.device_count()} ({first.platform}), {os.cpu_count()} host processors"


def write_json(path: Path, data: Any) -> None:
    """Replace a file by JSON, atomically."""
    write(path, json.dumps(data, indent=2) + "\n")


def write(path: Path, content: str | bytes) -> None:
    """Replace a file atomically: readers and crashes see the old text or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(content.encode() if isinstance(content, str) else content)
    partial.replace(path)
