"""The pictures in a run's folder; a failure to draw one does not affect the run."""

import contextlib
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ddpg_jax import envs
from ddpg_jax.runs.config.run_config import Config
from ddpg_jax.runs.folder import files, metrics
from ddpg_jax.runs.programs import evaluation, setup
from ddpg_jax.runs.results import plots, policy, render
from ddpg_jax.types import Agent, AgentState

PIXEL_SCALE = 4
"""Factor by which images of an agent are enlarged."""


def draw_run_pictures(
    config: Config, folder: Path, agent_state: AgentState, say: Callable[[str], None]
) -> None:
    """Write ``curve.png`` and the preset's pictures of the first member (`Preset.pictures`)."""
    with reported_failure(f"{folder / 'curve.png'}", say):
        if metrics.read_curve(folder)[0].size:
            plots.plot([folder], folder / "curve.png")
    pictures = config.preset.pictures
    if pictures is None or envs.on_host(config.env):
        return
    env: Any = setup.environment(config, config.hyperparameters.num_envs)
    with reported_failure(f"the preset's pictures in {folder}", say):
        key = jax.random.fold_in(jax.random.key(config.seed), evaluation.LATER_STREAM)
        state = policy.member_state(config, agent_state, 0)
        for name, image in pictures(config.hyperparameters, env, state, key).items():
            save_png(image, folder / f"{name}.png")


def make_film_writer(
    config: Config,
    folder: Path,
    agent: Agent,
    on_phase: Callable[[str], None],
    say: Callable[[str], None],
) -> Callable[[AgentState, Path], None]:
    """Return ``write(agent_state, path)``, an episode of the first member as GIF or MP4.

    All episodes have the same seed. The first failure is reported, and then nothing is written.
    """
    writers: dict[str, Callable[[AgentState, Path, int], str]] = {}
    failed = False

    def write(agent_state: AgentState, path: Path) -> None:
        nonlocal failed
        if failed:
            return
        form, failed = path.suffix[1:], True
        with reported_failure(str(path), say):
            if config.shared_environment:
                raise ValueError(f"{config.env} is not made a second time: --shared-environment")
            if form not in writers:
                writers[form] = render.make_animation(folder, agent, None, form, on_phase)
            state = policy.member_state(config, agent_state, 0)
            writers[form](state, path.with_suffix(""), config.seed)
            failed = False

    return write


def save_png(image: Any, path: Path) -> None:
    """Write an image ``[H, W, 3]`` in [0, 1] as PNG, enlarged `PIXEL_SCALE` times."""
    from matplotlib.image import imsave

    drawn = io.BytesIO()
    imsave(drawn, np.asarray(image).repeat(PIXEL_SCALE, 0).repeat(PIXEL_SCALE, 1), format="png")
    files.write_file(path, drawn.getvalue())


@contextlib.contextmanager
def reported_failure(what: str, say: Callable[[str], None]) -> Iterator[None]:
    """Report an error of the body instead of raising it: other results do not depend on it."""
    try:
        yield
    except Exception as error:  # of a plotting library, of memory, or of the disk
        say(f"{what} could not be drawn ({error}); all other results are written.")
