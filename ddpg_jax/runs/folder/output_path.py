"""Checks an output path before anything is computed for it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def require_writable(path: Path) -> Path:
    """Return the path if a file can be written there; creates nothing.

    Raises:
        ValueError: it is a folder or a device, or its folder cannot be made or written.
    """
    try:
        if not path.name or path.is_dir():
            raise ValueError(f"{path} is a folder: give the name of a file.")
        if path.exists() and not path.is_file():
            raise ValueError(
                f"{path} is not an ordinary file, and would be replaced by one: give another name."
            )
        existing = next(folder for folder in path.absolute().parents if os.path.lexists(folder))
        if not existing.is_dir():
            raise ValueError(
                f"{path} cannot be written: {existing} is not a folder; give another path."
            )
        if not os.access(path if path.exists() else existing, os.W_OK):
            raise ValueError(
                f"{path} cannot be written: {existing} is not writable; give another path."
            )
    except OSError as error:  # a name too long, a cycle of links
        raise ValueError(
            f"{str(path)[:200]} cannot be written ({error.strerror}): give another path."
        ) from error
    return path
