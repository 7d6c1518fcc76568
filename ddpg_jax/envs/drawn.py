"""What environments draw, as pictures of one form."""

from typing import Any

import numpy as np

from ddpg_jax.checks import BrokenEnvironment
from ddpg_jax.envs import spaces


def drawn(given: Any, where: str) -> np.ndarray:
    """A picture ``[H, W, 3]`` uint8.

    Args:
        given: numbers of any type, 0 to 255, or floats or switches from 0 to 1, ``[H, W]``, or of
            1, 3 or 4 channels, of which the last, opacity, is dropped; of a list of pictures the
            last is taken.
        where: begins the sentence.

    Raises:
        BrokenEnvironment: it is none.
    """
    frame = spaces.array(given)
    frame = frame[-1] if frame.ndim == 4 and len(frame) else frame
    frame = frame[..., None] if frame.ndim == 2 else frame
    if frame.ndim != 3 or frame.shape[2] not in (1, 3, 4) or frame.dtype.kind not in "fiub":
        raise BrokenEnvironment(
            f"{where} of {frame.dtype}{list(frame.shape)}: a picture is [height, width, channels], "
            "of 1, 3 or 4 channels, uint8."
        )
    if frame.dtype != np.uint8:
        frame = _bytes(frame, where)
    return np.broadcast_to(frame, (*frame.shape[:2], 3)) if frame.shape[2] == 1 else frame[..., :3]


def _bytes(frame: np.ndarray, where: str) -> np.ndarray:
    values = frame.astype(np.float64)
    if frame.dtype.kind == "b" or (frame.dtype.kind == "f" and np.all(values <= 1)):
        values = values * 255
    if not np.all((values >= 0) & (values <= 255)):
        raise BrokenEnvironment(f"{where} with numbers beyond 0 to 255, or NaN.")
    return np.rint(values).astype(np.uint8)
