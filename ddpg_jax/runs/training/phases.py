"""What a run is doing: told to who watches, and to who wants to stop it."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

TRAINING = "training"
UNTIL = {
    "compiling": "it ends when all is compiled",
    "warming up": "it ends with the warm-up",
    "evaluating": "it ends with the evaluation",
    "saving": "it ends when the checkpoint is written",
}
"""What a signal waits for, by phase."""


class Phases:
    """The phase that is under way, and how long chunks take."""

    def __init__(self, on_phase: Callable[[str], None], say: Callable[[str], None]) -> None:
        """Begin with none; ``on_phase`` receives each name, ``say`` a sentence for a signal."""
        self._on_phase, self._say = on_phase, say
        self._name, self._begin = "", time.monotonic()
        self._seconds: list[float] = []

    def enter(self, name: str) -> None:
        """Begin a phase."""
        self._name, self._begin = name, time.monotonic()
        self._on_phase(name)

    def trained(self) -> None:
        """A chunk has ended, which was the whole phase."""
        self._seconds.append(time.monotonic() - self._begin)

    def stopping(self) -> None:
        """Say what a signal waits for."""
        until = UNTIL.get(self._name)
        if self._name == TRAINING:
            until = f"it finishes the chunk{self._left()}, and saves"
        if until:
            self._say(f"stopping: {until}. A second signal stops at once.")

    def _left(self) -> str:
        if not self._seconds:
            return ", the first one"
        left = statistics.median(self._seconds) - (time.monotonic() - self._begin)
        return f", about {max(1.0, left):.0f} s"
