"""Creates and locks the folder of a run, which belongs to one process at a time."""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING

from ddpg_jax.runs.options.validation import RunError

if TYPE_CHECKING:
    from collections.abc import Iterator

try:
    import fcntl
except ImportError:  # Windows: folders are not locked
    fcntl = None  # type: ignore[assignment]

LOCK = "run.lock"


def make_folder(folder: Path, *, new: bool = False) -> list[Path]:
    """Make a folder; return it and its parents as far as they were missing, innermost first.

    Raises:
        FileExistsError: it exists and has to be ``new``.
        RunError: it cannot be made.
    """
    missing: list[Path] = []
    try:
        missing = list(
            itertools.takewhile(lambda path: not path.exists(), (folder, *folder.parents))
        )
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(exist_ok=not new)
    except OSError as error:
        if new and isinstance(error, FileExistsError) and folder.exists():
            raise
        remove_empty(missing)
        raise RunError(
            f"the run folder {folder} cannot be made ({error.strerror}): choose another --run-dir."
        ) from error
    return missing


def default_folder(env: str, label: str) -> Path:
    """Return the default folder of a new run, named after the environment, a label and the time."""
    name = env.replace("/", "-").replace(":", "-")
    return Path("runs") / f"{name}_{label}_{time.strftime('%Y%m%d-%H%M%S')}"


def make_new_folder(name: Path) -> tuple[Path, list[Path]]:
    """Make a new folder called ``name``, or ``name-2``, ``name-3``, ...; also return those made."""
    for number in itertools.count(1):
        folder = name if number == 1 else name.with_name(f"{name.name}-{number}")
        with contextlib.suppress(FileExistsError):
            return folder, make_folder(folder, new=True)
    raise AssertionError("unreachable")


def remove_empty(folders: list[Path]) -> None:
    """Remove folders, innermost first, up to one that is not empty."""
    for folder in folders:
        with contextlib.suppress(OSError):  # not empty, or its name was too long to make it
            folder.rmdir()


@contextlib.contextmanager
def locked_folder(folder: Path) -> Iterator[None]:
    """Make a folder and lock it; removes it afterwards if this made it and it stayed empty.

    The system releases the lock with the process, also in a crash.

    Raises:
        RunError: it cannot be made or written, or another run has locked it.
    """
    made = make_folder(folder)
    try:
        lock = _lock(folder)
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                (folder / LOCK).unlink(missing_ok=True)
            lock.close()
    finally:
        remove_empty(made)


def _lock(folder: Path) -> IO[str]:
    path = folder / LOCK
    while True:
        try:
            file = path.open("a+")
        except OSError as error:
            raise RunError(
                f"the run folder {folder} cannot be written ({error.strerror}): choose another "
                "--run-dir."
            ) from error
        try:
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            file.close()
            raise RunError(
                f"{folder} is in use by another run (process {holder}): wait until it ends, or "
                "choose another --run-dir."
            ) from error
        except OSError:
            pass  # a file system without locks
        if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
            break
        file.close()  # its holder removed it meanwhile
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return file
