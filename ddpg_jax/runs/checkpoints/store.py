"""Checkpoints in a folder: arrays through Orbax, and beside them a record with the digests of
Orbax's files.
"""

from __future__ import annotations

import json
import logging
import shutil
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp

from ddpg_jax import checks
from ddpg_jax.runs.checkpoints import manifest
from ddpg_jax.runs.distributed import processes
from ddpg_jax.runs.distributed.arrays import raw, raw_shapes, to_devices
from ddpg_jax.runs.folder.files import write_error
from ddpg_jax.runs.options.validation import RunError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ddpg_jax.types import PyTree

# Orbax logs pages about a failure, which is told here in a sentence; others would set a logger's
# level back.
logging.getLogger("absl").addFilter(lambda record: "orbax" not in record.pathname)

TEMPORARY = ".tmp"


class Checkpoint(NamedTuple):
    """A restored checkpoint."""

    step: int
    state: PyTree
    """As the target's shapes: JAX's arrays where they have a sharding, else NumPy's; of random keys
    their data."""
    record: dict[str, Any]
    processes: int
    """How many wrote it."""


class Checkpoints:
    """The checkpoints in a folder, named by environment steps.

    A checkpoint is visible only when it is complete: a crash or a full disk while saving leaves
    those before it intact. Its manifest has a SHA-256 of each of Orbax's files and of itself, so
    what is restored is what was saved, in every byte. Of several processes all call `save` and
    `restore` together, and each writes and reads its own shards.

    Args:
        folder: created when first saved to.
        keep: number of newest checkpoints that are kept.
        read_only: write and remove nothing, as beside a live run; otherwise what a kill left half
            written is removed.
    """

    def __init__(self, folder: Path, keep: int = 2, *, read_only: bool = False) -> None:
        self._folder, self._keep = folder.absolute(), keep
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoints")
        self._pending: Future[None] | None = None
        if not read_only and processes.is_first():
            for unfinished in self._folder.glob(f"*{TEMPORARY}*"):
                shutil.rmtree(unfinished, ignore_errors=True)

    def save(self, step: int, state: PyTree, record: dict[str, Any]) -> None:
        """Save a pytree of arrays (random keys included) and a JSON-able record under ``step``.

        One process saves a copy in the background: ``state`` may be donated at once. One checkpoint
        is written at a time: this waits for the one before. Several processes return when the
        checkpoint is there.

        Raises:
            RunError: the one before could not be written, or memory is too small for the copy.
        """
        self.wait()
        arrays = _nonempty(jax.tree.leaves(state))
        about = {
            "step": step,
            "record": record,
            "leaves": manifest.specification(state),
            "processes": processes.process_count(),
        }
        if processes.process_count() > 1:
            self._write(step, {name: raw(x) for name, x in arrays.items()}, about)
            return
        try:
            copies = {
                name: np.array(x)
                for name, x in jax.device_get({name: raw(x) for name, x in arrays.items()}).items()
            }
        except MemoryError as error:
            raise RunError(
                f"memory is too small for a copy of the checkpoint at {step} steps "
                f"({error}). Those before it are intact."
            ) from error
        self._pending = self._writer.submit(self._write, step, copies, about)

    def wait(self, *, until_done: bool = True) -> None:
        """Wait for the checkpoint that is being written; else only raise if it has failed already.

        Raises:
            RunError: it could not be written.
        """
        if self._pending is not None and (until_done or self._pending.done()):
            pending, self._pending = self._pending, None
            pending.result()

    def _write(self, step: int, arrays: dict[str, Any], about: dict[str, Any]) -> None:
        partial = self._folder / f"{step}{TEMPORARY}"
        try:
            if processes.is_first():
                shutil.rmtree(partial, ignore_errors=True)
                partial.mkdir(parents=True)
            processes.barrier(f"checkpoint {step} begins")
            with ocp.PyTreeCheckpointer() as checkpointer:
                checkpointer.save(partial / manifest.STATE, arrays)
            if processes.is_first():
                manifest.write(partial, about)
                self._make_visible(partial, step)
        except Exception as error:  # whatever the storage raises, a full disk among it
            shutil.rmtree(partial, ignore_errors=True)
            told = write_error(
                self._folder / str(step), error, sum(x.nbytes for x in arrays.values())
            )
            raise RunError(f"the checkpoint {told} Those before it are intact.") from error
        processes.barrier(f"checkpoint {step} is there")

    def _make_visible(self, partial: Path, step: int) -> None:
        """Rename it; it replaces damaged ones of this and later steps, and the oldest ones."""
        for later in [found for found in self.steps() if found >= step]:
            shutil.rmtree(self._folder / str(later))
        partial.rename(self._folder / str(step))
        for oldest in self.steps()[: -self._keep]:
            shutil.rmtree(self._folder / str(oldest), ignore_errors=True)

    def steps(self) -> list[int]:
        """Of all checkpoints, damaged ones too, in ascending order; another process may add and
        remove some.
        """
        paths = self._folder.iterdir() if self._folder.is_dir() else ()
        return sorted(int(path.name) for path in paths if path.name.isdecimal() and path.is_dir())

    def are_none(self) -> bool:
        """Whether there is no checkpoint, not even a damaged one."""
        self.wait()
        return not self.steps()

    def restore(
        self, like: PyTree, report: Callable[[str], None] = print
    ) -> tuple[int, PyTree, dict[str, Any]]:
        """The newest checkpoint that can be read, as ``(step, state, record)``.

        Args:
            like: a pytree of arrays or shapes with the structure to restore, and with the shardings
                where it has some.
            report: told, in a sentence, of each damaged checkpoint that is passed over.

        Raises:
            FileNotFoundError: there is none that can be read.
            ValueError: the newest is of another version of this library, or of another state than
                ``like``.
        """
        found = self.newest(lambda about: like, report)
        return found.step, to_devices(found.state, like), found.record

    def newest(
        self,
        target: Callable[[dict[str, Any]], PyTree],
        report: Callable[[str], None],
        part: str = "",
        only: int | None = None,
    ) -> Checkpoint:
        """The newest checkpoint that can be read.

        Args:
            target: given ``{"record", "processes", ...}`` of a checkpoint, the shapes to restore,
                with shardings or without.
            report: as of `restore`.
            part: of the state, that alone is read: what the names of its leaves begin with.
            only: steps of the one checkpoint that is wanted; None is any.

        Raises:
            FileNotFoundError, ValueError: as of `restore`.
        """
        self.wait()
        damaged: set[int] = set()
        if only is not None:
            if only not in (found := self.steps()):
                kept = ", ".join(map(str, found)) or "none"
                raise FileNotFoundError(f"no checkpoint at {only} steps (kept: {kept})")
            damaged = set(found) - {only}
        while (step := self._newest_but(damaged)) is not None:
            verified = False
            try:
                self._verify(step)
                verified = True
                return self._read(step, target, part)
            except Exception as error:  # whatever the storage raises on damaged files
                if isinstance(error, manifest.OtherStateError) or (
                    verified and processes.process_count() > 1
                ):
                    raise
                if step == self._newest_but(damaged):  # else a live run removed it meanwhile
                    damaged.add(step)
                    why = checks.first_line(error)
                    then = "; trying the one before it" if only is None else ""
                    report(f"checkpoint {step} is damaged ({why}){then}.")
        raise FileNotFoundError("no checkpoint that can be read" if damaged else "no checkpoint")

    def _newest_but(self, damaged: set[int]) -> int | None:
        """The same in all processes."""
        newest = processes.from_first(max(set(self.steps()) - damaged, default=-1))
        return None if newest < 0 else newest

    def _verify(self, step: int) -> None:
        """Process 0 reads every file; where one is not as it was written, all processes raise.

        Raises:
            OSError, ValueError: the checkpoint is damaged, or of another format.
        """
        error = None
        if processes.is_first():
            try:
                manifest.require_unchanged(self._folder / str(step), step)
            except Exception as caught:
                error = caught
        if not processes.from_first(error is None):
            raise error or ValueError("process 0 cannot read it")

    def _read(self, step: int, target: Callable[[dict[str, Any]], PyTree], part: str) -> Checkpoint:
        about = json.loads((self._folder / str(step) / manifest.MANIFEST).read_text())
        like = target(about)
        own = {i: leaf for i, leaf in enumerate(about["leaves"]) if leaf[0].startswith(part)}
        manifest.require_same_leaves(step, list(own.values()), manifest.specification(like, part))
        wanted = dict(zip(map(str, own), jax.tree.leaves(like), strict=True))
        shapes = dict(zip(wanted, jax.tree.leaves(raw_shapes(like)), strict=True))
        held = {name: shape for name, shape in shapes.items() if shape.size}
        with ocp.PyTreeCheckpointer() as checkpointer:
            found = checkpointer.restore(
                self._folder / str(step) / manifest.STATE,
                args=ocp.args.PyTreeRestore(
                    held, {name: _restore_args(wanted[name]) for name in held}, partial_restore=True
                ),
            )
        leaves = [found.get(name, np.zeros(x.shape, x.dtype)) for name, x in shapes.items()]
        return Checkpoint(
            step,
            jax.tree.unflatten(jax.tree.structure(like), leaves),
            about["record"],
            about["processes"],
        )

    def close(self) -> None:
        """Finish what is being written; `wait` says whether it was."""
        self._writer.shutdown()


def _nonempty(leaves: list[Any]) -> dict[str, Any]:
    """The leaves that have elements, by their number: Orbax does not store others."""
    return {str(i): x for i, x in enumerate(leaves) if x.size}


def _restore_args(leaf: Any) -> ocp.RestoreArgs:
    sharding = getattr(leaf, "sharding", None)
    return (
        ocp.RestoreArgs(restore_type=np.ndarray)
        if sharding is None
        else ocp.ArrayRestoreArgs(sharding=sharding)
    )
