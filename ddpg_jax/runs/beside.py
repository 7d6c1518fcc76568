"""Parts of a checkpoint that other processes than the first one write, each into a folder of its
own beside the first's.

Orbax writes plain arrays in process 0 alone; these are the same bytes and the same sealed record,
in two files."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np


def of_process(folder: Path, number: int) -> Path:
    """Where a process of several keeps its part of each checkpoint; the first one's has the record
    of all."""
    return folder if number == 0 else folder.with_name(f"{folder.name}.{number}")


def write(folder: Path, step: int, data: np.ndarray, about: dict[str, Any], keep: int) -> None:
    """Write a part, visible when it is complete, and remove all but the newest; older ones of this
    or later steps give way.

    Raises:
        OSError: the disk does not take it.
    """
    partial = folder / f"{step}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    with (partial / "state").open("wb") as file:
        file.write(data.tobytes())
        file.flush()
        os.fsync(file.fileno())
    (partial / "about.json").write_text(json.dumps(about))
    for other in _steps(folder):
        if other >= step:
            shutil.rmtree(folder / str(other))
    partial.rename(folder / str(step))
    for other in sorted(_steps(folder))[:-keep]:
        shutil.rmtree(folder / str(other), ignore_errors=True)


def read(folder: Path, step: int) -> tuple[dict[str, Any], np.ndarray]:
    """What was written, not looked at yet.

    Raises:
        OSError, ValueError: it is not there, or is damaged.
    """
    about = json.loads((folder / str(step) / "about.json").read_text())
    return about, np.frombuffer((folder / str(step) / "state").read_bytes(), np.uint8)


def _steps(folder: Path) -> set[int]:
    return {int(path.name) for path in folder.iterdir() if path.name.isdecimal()}
