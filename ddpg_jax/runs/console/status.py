"""What a command does now, on standard error: a live line on a terminal, lines elsewhere."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from ddpg_jax.runs.console.output import TolerantStream

if TYPE_CHECKING:
    from types import TracebackType

SECONDS = 10.0
"""Where there is no terminal, what is under way is told this often."""


class Status:
    """Shows what is under way; a context manager."""

    def __init__(self) -> None:
        """Prepare the line."""
        stream: Any = sys.stderr and TolerantStream(sys.stderr)
        console = Console(file=stream, highlight=False, emoji=False, force_jupyter=False)
        columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        self._lines = not console.is_terminal
        self._progress = Progress(
            *columns, console=console, disable=self._lines, transient=True, redirect_stdout=False
        )
        self._name = "starting"
        self._task = self._progress.add_task(self._name)
        self._over = threading.Event()

    def __enter__(self) -> Status:
        """Show the line."""
        self._progress.start()
        if self._lines:
            threading.Thread(target=self._tell, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Remove the line."""
        self._over.set()
        self._progress.stop()

    def phase(self, name: str) -> None:
        """Show what begins, or how far it is."""
        begins = name.split()[0] != self._name.split()[0]
        self._name = name
        self._progress.update(self._task, description=name, refresh=begins)

    def _tell(self) -> None:
        while not self._over.wait(SECONDS):
            self._progress.console.print(self._name, markup=False, soft_wrap=True)
