"""Checkpoints through Orbax: the whole training state and a JSON record beside it, atomically, the
last few kept."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orbax.checkpoint as ocp

from ddpg_jax import checks
from ddpg_jax.runs import beside, hosts
from ddpg_jax.runs.folder.files import write_error
from ddpg_jax.runs.options.validation import RunError
from ddpg_jax.runs.packing import packed, require_same, specification, unpacked
from ddpg_jax.types import PyTree

# What Orbax says of a failure, in pages, is said here in a sentence; a level would be undone by
# others who set it.
logging.getLogger("absl").addFilter(lambda record: "orbax" not in record.pathname)

FORMAT = 4
"""Of what is in a checkpoint; raised where the state of training or how it is stored gets another
structure."""


class Found(NamedTuple):
    """A checkpoint: of each part that was wanted its leaves, ``[name, dtype, shape]``, and their
    bytes."""

    step: int
    record: dict[str, Any]
    parts: list[tuple[list, np.ndarray]]


def write_part(folder: Path, step: int, state: PyTree, record: dict[str, Any], keep: int) -> str:
    """Write what a process other than the first one has of a state (`ddpg_jax.runs.beside`); the
    seal of its record.

    Raises:
        RunError: it could not be written.
    """
    data = packed(state)
    about = {
        "format": FORMAT,
        "step": step,
        "record": record,
        "leaves": specification(state),
        "state": _digest(data),
    }
    seal = _seal(about)
    try:
        beside.write(folder, step, data, about | {"seal": seal}, keep)
    except OSError as error:
        raise RunError(
            f"the checkpoint {write_error(folder / str(step), error, data.nbytes)}"
        ) from error
    return seal


class Checkpoints:
    """The checkpoints in a folder, named by environment steps.

    A checkpoint is visible only when it is complete: a crash or a full disk while saving leaves the
    ones before it intact. Each holds the state as one array of bytes, and a record that names its
    leaves, digests it, and is digested itself: what is restored is what was saved, in every byte.

    Args:
        folder: created when first saved to. keep: how many of the newest are kept. read_only: touch
        nothing, as beside a live run; otherwise what a kill left half written is removed.
    """

    def __init__(self, folder: Path, keep: int = 2, *, read_only: bool = False) -> None:
        warnings.filterwarnings(
            "ignore", r"coroutine '\w*CheckpointHandler.* was never awaited", RuntimeWarning
        )
        options = ocp.CheckpointManagerOptions(
            max_to_keep=None if read_only else keep,
            enable_async_checkpointing=False,
            cleanup_tmp_directories=not read_only,
            read_only=read_only,
            **({} if hosts.count() == 1 else _alone(folder, read_only)),
        )
        self._folder = folder
        self._manager = ocp.CheckpointManager(folder.absolute(), options=options)
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoints")
        self._pending: Future[None] | None = None

    def save(self, step: int, state: PyTree, record: dict[str, Any]) -> None:
        """Save a pytree of arrays (random keys included) and a JSON-able record under ``step``, in
        the background.

        What is saved is copied first, so ``state`` may be given away at once. One is written at a
        time: this waits for the one before.

        Raises:
            RunError: the one before could not be written, or memory is too small for the copy.
        """
        self.wait()
        try:
            data = packed(state)
        except MemoryError as error:
            raise RunError(
                f"the checkpoint at {step} steps finds no memory ({error}). Those before it are intact."
            ) from error
        self._pending = self._writer.submit(self._write, step, data, specification(state), record)

    def wait(self, *, until_done: bool = True) -> None:
        """Until what is being written is on disk; or else only ask.

        Raises:
            RunError: it could not be written.
        """
        if self._pending is not None and (until_done or self._pending.done()):
            pending, self._pending = self._pending, None
            pending.result()

    def _write(self, step: int, data: np.ndarray, leaves: list, record: dict[str, Any]) -> None:
        about = {
            "format": FORMAT,
            "step": step,
            "record": record,
            "leaves": leaves,
            "state": _digest(data),
        }
        about |= {"seal": _seal(about)}
        args = ocp.args.Composite(state=ocp.args.ArraySave(data), about=ocp.args.JsonSave(about))
        try:
            for damaged in [
                found for found in self._steps() if found >= step
            ]:  # passed over by `restore`
                self._manager.delete(damaged)
            self._manager.save(step, args=args, force=True)
        except Exception as error:  # whatever the storage raises, a full disk among it
            for half in self._folder.glob(f"{step}.*-tmp*"):
                shutil.rmtree(half, ignore_errors=True)
            told = write_error(self._folder / str(step), error, data.nbytes)
            raise RunError(f"the checkpoint {told} Those before it are intact.") from error

    def are_none(self) -> bool:
        """Whether there is none, not even a damaged one."""
        self.wait()
        return not self._steps()

    def _steps(self) -> set[int]:
        """Of the checkpoints that are there now; another process may add and remove some."""
        self._manager.reload()
        return set(self._manager.all_steps())

    def restore(
        self, like: PyTree, report: Callable[[str], None] = print
    ) -> tuple[int, PyTree, dict[str, Any]]:
        """The newest checkpoint that can be read, as ``(step, state, record)``.

        Args:
            like: a pytree of arrays or shapes with the structure to restore.
            report: told, in a sentence, of each damaged checkpoint that is passed over.

        Raises:
            FileNotFoundError: there is none that can be read. ValueError: the newest is of another
            version of this library, or of another state than ``like``.
        """
        found = self.newest(report)
        ((leaves, data),) = found.parts
        require_same(found.step, leaves, specification(like))
        return found.step, unpacked(data, like), found.record

    def newest(
        self,
        report: Callable[[str], None],
        needed: Callable[[dict[str, Any]], Sequence[int]] = lambda record: (0,),
        limit: float = float("inf"),
    ) -> Found:
        """The newest checkpoint that can be read, its state as bytes.

        Args:
            report: as of `restore`. needed: of its record, the numbers of the processes whose parts
            of the state are wanted; this folder's is 0. limit: the last step that is looked at.

        Raises:
            FileNotFoundError, ValueError: as `restore`.
        """
        self.wait()
        damaged: set[int] = set()
        while left := {step for step in self._steps() - damaged if step <= limit}:
            step = max(left)
            try:
                about = self._about(step)
                known = about["format"] == FORMAT
                parts = (
                    [self._part(step, about, number) for number in needed(about["record"])]
                    if known
                    else []
                )
            except Exception as error:  # whatever the storage raises on damaged files
                now = {step for step in self._steps() - damaged if step <= limit}
                if now and step == max(now):  # else it was rotated away while it was read
                    damaged.add(step)
                    report(
                        f"checkpoint {step} is damaged ({checks.first_line(error)}); trying the one before it."
                    )
                continue
            if not known:
                raise ValueError(
                    f"checkpoint {step} has format {about['format']}, of another version of ddpg_jax, where this one reads "
                    f"format {FORMAT}: go on with that version, or train anew in another folder."
                )
            return Found(step, about["record"], parts)
        raise FileNotFoundError("no checkpoint that can be read" if damaged else "no checkpoint")

    def _part(self, step: int, about: dict[str, Any], number: int) -> tuple[list, np.ndarray]:
        """``(leaves, bytes)`` of what a process wrote; that of another one is held to the seal that
        this record has of it."""
        if number == 0:
            return about["leaves"], self._bytes(step, about["state"])
        theirs, data = beside.read(beside.of_process(self._folder, number), step)
        seal = theirs.pop("seal")
        if (
            not seal == _seal(theirs) == about["record"]["parts"][number - 1]
            or _digest(data) != theirs["state"]
        ):
            raise ValueError(f"the part of process {number} is not as it was written")
        return theirs["leaves"], data

    def _about(self, step: int) -> dict[str, Any]:
        """What is stored beside a state; of formats before 3, which had no seal, the number of the
        format alone."""
        if (self._folder / str(step) / "record").is_dir():
            return {
                "format": self._restored(step, record=ocp.args.JsonRestore())["record"].get(
                    "format", 1
                )
            }
        about = self._restored(step, about=ocp.args.JsonRestore())["about"]
        if about.pop("seal") != _seal(about) or about["step"] != step:
            raise ValueError("its record is not as it was written")
        return about

    def _bytes(self, step: int, digest: str) -> np.ndarray:
        restore = ocp.args.ArrayRestore(restore_args=ocp.RestoreArgs(restore_type=np.ndarray))
        data = np.asarray(self._restored(step, state=restore)["state"])
        if data.dtype != np.uint8 or _digest(data) != digest:
            raise ValueError("its state is not as it was written")
        return data

    def _restored(self, step: int, **items: Any) -> Any:
        return self._manager.restore(step, args=ocp.args.Composite(**items))

    def close(self) -> None:
        """Finish what is being written; `wait` says whether it was."""
        self._writer.shutdown()
        self._manager.close()


def _alone(folder: Path, read_only: bool) -> dict[str, Any]:
    """Options by which Orbax waits for none of the other processes: each has a folder of its
    own."""
    own = hosts.index()
    if not read_only:
        folder.mkdir(parents=True, exist_ok=True)  # Orbax makes it for all processes together only
    alone = ocp.options.MultiprocessingOptions(
        primary_host=own, active_processes={own}, barrier_sync_key_prefix=f"{folder.name}-{own}"
    )
    return {"create": False, "multiprocessing_options": alone}


def _digest(data: Any) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def _seal(about: dict[str, Any]) -> str:
    """A digest of JSON-able data, whatever the order of its keys and the spaces between."""
    return _digest(json.dumps(about, sort_keys=True).encode())
