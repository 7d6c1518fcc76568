"""Atomic replacement of files."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
from typing import TYPE_CHECKING, Any

from ddpg_jax import checks
from ddpg_jax.runs.options.validation import RunError

if TYPE_CHECKING:
    from pathlib import Path


ENVIRONMENT = "environment.json"
"""Of a run on the host: what its environment declares (`ddpg_jax.envs.described`)."""
CHECKPOINTS, BEST = "checkpoints", "best"
"""Folders of a run: of its newest training states, and of the agents of its best evaluations."""
LAST = "last"
"""The newest checkpoint of a run, as `BEST` is that of its best evaluation."""


def write_json(path: Path, data: Any) -> None:
    """Replace a file by JSON, atomically."""
    write_file(path, json.dumps(data, indent=2) + "\n")


def write_file(path: Path, content: str | bytes) -> None:
    """Replace a file atomically: readers and crashes see the old content or the new one.

    Raises:
        RunError: the file cannot be written.
    """
    data = content.encode() if isinstance(content, str) else content
    partial = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(data)
        partial.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise write_error(path, error, len(data)) from error


def write_error(path: Path, error: BaseException, size: int) -> RunError:
    """Return the error for a file of ``size`` bytes that could not be written."""
    known = [
        os.strerror(number)
        for number in (
            errno.ENOSPC,
            errno.EDQUOT,
            errno.EFBIG,
            errno.EROFS,
            errno.EACCES,
            errno.EIO,
        )
    ]
    # Orbax buries the system's reason in a long message.
    reason = next((reason for reason in known if reason in str(error)), checks.first_line(error))
    try:
        free = f", {shutil.disk_usage(path.parent).free:,} are free there"
    except OSError:
        free = ""
    return RunError(f"{path} could not be written ({reason}): {size:,} bytes are needed{free}.")
