"""Writes each chunk's metrics to ``metrics.jsonl`` and for TensorBoard."""

from __future__ import annotations

import contextlib
import json
import time
from typing import TYPE_CHECKING, Any

from ddpg_jax.runs.folder.files import write_error, write_file
from ddpg_jax.runs.folder.metrics import mean_over_members

if TYPE_CHECKING:
    from pathlib import Path


FLUSH_SECONDS = 1.0
"""Events for TensorBoard reach the disk this often; each time takes milliseconds."""


class MetricsLog:
    """Writes each line at once, so that a kill loses none; events at most `FLUSH_SECONDS` later."""

    def __init__(self, folder: Path) -> None:
        """Open the file of events in ``folder``."""
        from tensorboardX.event_file_writer import EventsWriter

        self._folder = folder
        # Not `SummaryWriter`: its queue is lost at a kill, and hangs on a full disk.
        self._events = EventsWriter(str(folder / "events"))
        self._events.flush()
        self._flush_at = 0.0

    def replace_all(self, rows: list[dict[str, Any]]) -> None:
        """Replace all lines; TensorBoard discards earlier events and shows each line once.

        Raises:
            RunError: the file cannot be written.
        """
        from tensorboardX.proto.event_pb2 import Event, SessionLog

        write_metrics(self._folder, rows)
        self._events.write_event(
            Event(wall_time=time.time(), session_log=SessionLog(status=SessionLog.START))
        )
        self._show(rows)

    def add(self, row: dict[str, Any]) -> None:
        """Append a line.

        Raises:
            RunError: the file cannot be written.
        """
        path, line = self._folder / "metrics.jsonl", json.dumps(row) + "\n"
        try:
            with path.open("a") as file:
                file.write(line)
        except OSError as error:
            raise write_error(path, error, len(line)) from error
        self._show([row])

    def _show(self, rows: list[dict[str, Any]]) -> None:
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.proto.summary_pb2 import Summary

        for row in rows:
            means = {
                name: mean_over_members(value) for name, value in row.items() if name != "env_steps"
            }
            values = [
                Summary.Value(tag=name, simple_value=value)
                for name, value in means.items()
                if value is not None
            ]
            self._events.write_event(
                Event(wall_time=time.time(), step=row["env_steps"], summary=Summary(value=values))
            )
        if time.monotonic() < self._flush_at:
            return
        self._flush_at = time.monotonic() + FLUSH_SECONDS
        try:
            self._events.flush()
        except OSError as error:
            raise write_error(self._folder / "events.out.tfevents", error, 1) from error

    def close(self) -> None:
        """Close the file of events; its errors have been reported by `add`."""
        with contextlib.suppress(OSError):
            self._events.close()


def write_metrics(folder: Path, rows: list[dict[str, Any]]) -> None:
    """Replace the lines of ``metrics.jsonl``."""
    write_file(folder / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
