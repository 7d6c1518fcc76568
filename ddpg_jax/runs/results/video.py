"""Writes frames to files: GIF by Pillow, MP4 by imageio."""

import ctypes.util
import functools
import itertools
import math
import os
import subprocess
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ddpg_jax.envs.drawn import drawn

GIF_LONGEST = 65_535
"""Hundredths of a second, 16 bits."""


def use_headless_opengl() -> None:
    """Choose MuJoCo's OpenGL library where there is no screen; call before importing MuJoCo."""
    if sys.platform == "linux" and not os.environ.get("DISPLAY"):
        found = [name for name in ("EGL", "OSMesa") if ctypes.util.find_library(name)]
        if found:
            os.environ.setdefault("MUJOCO_GL", found[0].lower())


PROBE = "import mujoco; mujoco.Renderer(mujoco.MjModel.from_xml_string('<mujoco/>'), 8, 8).render()"


@functools.cache
def has_opengl() -> bool:
    """Return whether MuJoCo can draw on this machine.

    Another process tries: where OpenGL failed before, trying again may end the process.
    """
    return subprocess.run([sys.executable, "-c", PROBE], capture_output=True).returncode == 0


def gif_durations(count: int, fps: float, every: int) -> list[int]:
    """Return how long each ``every``-th of ``count`` frames is shown, in hundredths of a second.

    Each begins within half a hundredth of its time, so that the whole has the right speed.
    """
    begins = [round(100 * index / fps) for index in (*range(0, count, every), count)]
    return [min(max(2, end - begin), GIF_LONGEST) for begin, end in itertools.pairwise(begins)]


def write_video(frames: Sequence[np.ndarray], path: Path, fps: float) -> str:
    """Write frames to a GIF or MP4 file and return its name.

    Args:
        frames: at least one, as `ddpg_jax.envs.drawn.drawn` takes them, of one size.
        path: ends in ``.gif`` or ``.mp4``; an existing file is replaced.
        fps: frames per second; a GIF shows at most 50, of more every k-th at the same speed.

    Raises:
        ValueError: a frame is not a picture, or their sizes differ.
        ImportError: MP4 without imageio and its FFmpeg.
    """
    frames = [drawn(frame, "a frame") for frame in frames]
    if sizes := {frame.shape for frame in frames} - {frames[0].shape}:
        raise ValueError(f"frames of {frames[0].shape} and of {min(sizes)}: draw all in one size.")
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".gif":
        from PIL import Image

        every = math.ceil(fps / 50)
        pictures = [Image.fromarray(frame) for frame in frames[::every]]
        pictures[0].save(
            path,
            save_all=True,
            append_images=pictures[1:],
            duration=[10 * each for each in gif_durations(len(frames), fps, every)],
            loop=0,
        )
        return str(path)
    try:
        from imageio import v3 as imageio

        # JAX warns of the fork that starts FFmpeg, which executes another program at once.
        with warnings.catch_warnings(action="ignore", category=RuntimeWarning):
            imageio.imwrite(
                path,
                np.stack(frames),
                plugin="FFMPEG",
                fps=float(fps),
                codec="libx264",
                macro_block_size=2,
            )
    except ImportError as error:
        raise ImportError(
            f"MP4 needs FFmpeg ({error}): install it with: pip install 'imageio[ffmpeg]', or "
            "choose --format gif."
        ) from error
    return str(path)
