"""What a run writes: the lines of ``metrics.jsonl`` and ``summary.json``."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ddpg_jax import report, train
from ddpg_jax.config import Config
from ddpg_jax.programs import Programs


def row(
    config: Config,
    chunk_report: train.Report,
    index: int,
    steps: int,
    seconds: float,
    elapsed: float,
    evaluation: list[float] | None,
) -> dict[str, Any]:
    """One line of ``metrics.jsonl``: lists have one value per seed; rates are over all seeds."""
    preset = config.preset
    episodes = chunk_report.episodes
    counts = np.reshape(episodes.count, -1)

    def mean(total: Any) -> list[float] | None:
        values = np.reshape(total, -1)
        return None if not counts.all() else (values / counts).tolist()

    updates = config.steps_per_chunk // preset.num_envs * preset.updates_per_step
    return {
        "env_steps": steps,
        "updates": (index + 1) * updates,
        "episodes": counts.tolist(),
        "episode_return": mean(episodes.return_sum),
        "episode_length": mean(episodes.length_sum),
        "broken_episodes": np.reshape(episodes.broken, -1).tolist(),
        **{name: np.reshape(value, -1).tolist() for name, value in chunk_report.metrics.items()},
        "evaluation_return": evaluation,
        "train_seconds": seconds,
        "env_steps_per_second": config.seeds * config.steps_per_chunk / elapsed,
        "updates_per_second": config.seeds * updates / elapsed,
    }


def finish(
    config: Config,
    folder: Path,
    programs: Programs,
    returns: np.ndarray,
    seconds: float,
    wall: float,
) -> dict[str, Any]:
    """Write ``curve.png`` and ``summary.json``; counts and rates are over all seeds, rates without warm-up and compilation."""
    preset = config.preset
    chunks = config.num_chunks
    env_steps = config.seeds * chunks * config.steps_per_chunk
    updates = config.seeds * chunks * (config.steps_per_chunk // preset.num_envs) * preset.updates_per_step
    means = returns.mean(axis=1)
    summary = {
        "final_returns": means.tolist(),
        "final_return_std": returns.std(axis=1).tolist(),
        "env_steps": env_steps + config.seeds * config.warm_up_steps,
        "updates": updates,
        "compile_seconds": programs.seconds,
        "train_seconds": seconds,
        "wall_seconds": wall,
        "env_steps_per_second": env_steps / seconds,
        "updates_per_second": updates / seconds,
        "versions": versions(),
        "device": device(),
        "config": config.flat(),
    }
    if config.seeds > 1:
        low, high = report.interval(means)
        summary["interquartile_mean"] = float(report.interquartile_mean(means))
        summary["interquartile_mean_interval"] = [float(low), float(high)]
    if report.curve(folder)[0].size:
        report.plot([folder], folder / "curve.png")
    write_json(folder / "summary.json", summary)
    return summary


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
