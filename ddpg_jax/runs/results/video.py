"""Writes frames to files: GIF by Pillow, MP4 by imageio."""

import ctypes.util
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np


def use_headless_opengl() -> None:
    """Choose MuJoCo's OpenGL library where there is no screen; call before importing MuJoCo."""
    if sys.platform == "linux" and not os.environ.get("DISPLAY"):
        found = [name for name in ("EGL", "OSMesa") if ctypes.util.find_library(name)]
        if found:
            os.environ.setdefault("MUJOCO_GL", found[0].lower())


def has_opengl() -> bool:
    """Return whether MuJoCo can draw on this machine."""
    import mujoco

    try:
        mujoco.Renderer(mujoco.MjModel.from_xml_string("<mujoco/>"), 8, 8).render()
    except Exception:  # its type depends on the OpenGL library
        return False
    return True


def write_video(frames: Sequence[np.ndarray], path: Path, fps: float) -> str:
    """Write ``[H, W, 3]`` uint8 frames to a GIF or MP4 file and return its name.

    Args:
        frames: at least one.
        path: ends in ``.gif`` or ``.mp4``; an existing file is replaced.
        fps: frames per second; a GIF shows at most 50, of more every k-th at the same speed.

    Raises:
        ImportError: MP4 without imageio and its FFmpeg.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".gif":
        from PIL import Image

        every = -(-fps // 50)
        pictures = [Image.fromarray(frame) for frame in frames[:: int(every)]]
        pictures[0].save(
            path,
            save_all=True,
            append_images=pictures[1:],
            duration=round(1000 * every / fps),
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
