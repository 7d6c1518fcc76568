"""The pictures that a run leaves in its folder; that one cannot be drawn costs nothing else."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ddpg_jax.runs.build import LATER, environment
from ddpg_jax.runs.config import Config
from ddpg_jax.runs.folder import curve, write
from ddpg_jax.runs.playback import member_state
from ddpg_jax.runs.statistics import plot
from ddpg_jax.types import AgentState, Environment

LARGER = 4
"""Pixels that a pixel of an agent's image takes on each side."""


def draw(config: Config, folder: Path, agent_state: AgentState, say: Callable[[str], None]) -> None:
    """``curve.png``, and what the preset shows besides of the run's first member (`Preset.pictures`)."""
    _try(folder / "curve.png", lambda path: curve(folder)[0].size and plot([folder], path), say)
    env = environment(config, config.numbers.num_envs)
    if config.preset.pictures is None or not isinstance(env, Environment):
        return
    key, state = jax.random.fold_in(jax.random.key(config.seed), LATER), member_state(config, agent_state, 0)
    for name, image in config.preset.pictures(config.numbers, env, state, key).items():
        _try(folder / f"{name}.png", functools.partial(save, image), say)


def save(image: Any, path: Path) -> None:
    """Write an image ``[H, W, 3]`` in [0, 1] as PNG, each pixel a square of `LARGER`."""
    from matplotlib.image import imsave

    drawn = io.BytesIO()
    imsave(drawn, np.repeat(np.repeat(np.asarray(image), LARGER, 0), LARGER, 1), format="png")
    write(path, drawn.getvalue())


def _try(path: Path, make: Callable[[Path], Any], say: Callable[[str], None]) -> None:
    try:
        make(path)
    except Exception as error:  # of a library that draws, or of the disk
        say(f"{path} could not be drawn ({error}); all else is there.")
