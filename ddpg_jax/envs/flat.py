"""Films of what happens in a plane, drawn by Matplotlib."""

from collections.abc import Callable
from typing import Any

import numpy as np


def flat_film(
    half: float, count: int, begin: Callable[[Any], Callable[[int], str]]
) -> list[np.ndarray]:
    """``count`` frames ``[240, 240, 3]`` of the square from ``-half`` to ``half``.

    ``begin(axes)`` adds what is to be seen, and returns ``show(number)``, which moves it to where
    it is in a frame and returns the caption.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3, 3), dpi=80, layout="constrained")
    canvas, ends = FigureCanvasAgg(figure), (-half, half)
    axes = figure.add_subplot(xlim=ends, ylim=ends, aspect="equal", xticks=[], yticks=[])
    show, caption = begin(axes), axes.set_title("")
    frames = []
    for number in range(count):
        caption.set_text(show(number))
        canvas.draw()
        frames.append(np.asarray(canvas.buffer_rgba())[..., :3].copy())
    return frames
