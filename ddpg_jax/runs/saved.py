"""The checkpoints of a run, whether one process writes them or many, and whatever number of devices
it goes on with."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from ddpg_jax.learner import TrainState
from ddpg_jax.runs import hosts, layout
from ddpg_jax.runs.beside import of_process
from ddpg_jax.runs.checkpoints import Checkpoints, Found, write_part
from ddpg_jax.runs.config import mesh as runs_mesh
from ddpg_jax.runs.config.run_config import Config
from ddpg_jax.runs.packing import arrays, require_same, specification
from ddpg_jax.runs.programs import build
from ddpg_jax.types import PyTree


class Saved:
    """As `ddpg_jax.runs.checkpoints.Checkpoints`, of this process's part of a run.

    Where there are several processes, each writes what it holds into a folder beside the others',
    and the first one's record, which has the seals of all, comes last: a checkpoint is there when
    it is there. All call `save` and `restore` together.

    Args:
        folder: of the first process; the others' are called after it.
        keep: how many of the newest are kept.
        read_only: as of `Checkpoints`.
    """

    def __init__(self, folder: Path, keep: int = 2, *, read_only: bool = False) -> None:
        self._folder, self._keep = folder, keep
        self._first = Checkpoints(folder, keep, read_only=read_only or not hosts.is_first())

    def save(self, step: int, state: PyTree, record: dict[str, Any]) -> None:
        """As of `Checkpoints`; of several processes in the foreground."""
        if hosts.count() == 1:
            self._first.save(step, state, record)
            return
        block, number = layout.local(state), hosts.index()
        if number:  # of these one more is kept: they come first, and a kill may fall in between
            place = of_process(self._folder, number)
            hosts.tell(
                f"saved/{step}/{number}", write_part(place, step, block, record, self._keep + 1)
            )
        else:
            parts = [hosts.told(f"saved/{step}/{other}") for other in range(1, hosts.count())]
            self._first.save(step, block, record | {"parts": parts})
            self._first.wait()
        hosts.wait(f"saved/{step}")  # none ends, or goes on, before the checkpoint is there

    def wait(self, *, until_done: bool = True) -> None:
        """As of `Checkpoints`."""
        self._first.wait(until_done=until_done)

    def are_none(self) -> bool:
        """As of `Checkpoints`."""
        return self._first.are_none()

    def restore(
        self, config: Config, like: PyTree, say: Callable[[str], None], *, goes_on: bool = True
    ) -> tuple[int, PyTree, dict[str, Any]]:
        """The newest checkpoint that all processes can read, as ``(step, state, record)``, on the
        devices of now.

        Args:
            config: the run's, with the mesh of now.
            like: shapes of the state, with their shardings where it is on a mesh.
            say: told of damaged checkpoints, and where a run that ``goes_on`` was on another mesh.
            goes_on: whether it is to be trained.

        Raises:
            FileNotFoundError, ValueError: as of `Checkpoints`.
        """
        now = (str(runs_mesh.parse_mesh(config.mesh)), hosts.count())
        needed = lambda record: (
            (hosts.index(),) if _places(record) == now else range(_places(record)[1])
        )
        found = self._agreed(say, needed)
        before, new = (
            runs_mesh.parse_mesh(_places(found.record)[0]),
            runs_mesh.parse_mesh(config.mesh),
        )
        if _places(found.record) == now:
            return (
                found.step,
                layout.placed(_block(found, 0, like), like, blocks=hosts.count() > 1),
                found.record,
            )
        if goes_on:
            say(
                f"was trained on {_said(*_places(found.record))} and goes on with "
                f"{_said(*now)}: nothing is lost, but from "
                "here on it is not bit for bit what it would have been there."
            )
        there = (
            like
            if before.data == new.data
            else build.state_shapes(dataclasses.replace(config, mesh=str(before)))
        )
        blocks = [_block(found, part, there) for part in range(len(found.parts))]
        state = layout.joined(blocks, _as_data(there))
        if before.data != new.data:
            state = _resharded(state, before.data, new.data, _as_data(like), config.seeds > 1)
        return found.step, layout.placed(state, like), found.record

    def _agreed(self, say: Callable[[str], None], needed: Callable[[dict[str, Any]], Any]) -> Found:
        """The newest that every process can read its parts of."""
        limit = float("inf")
        for tries in itertools.count():
            found = self._first.newest(say, needed, limit)
            steps = [int(step) for step in hosts.gathered(f"restored/{tries}", str(found.step))]
            if min(steps) == max(steps):
                return found
            limit = min(steps)
        raise AssertionError("numbers do not end")

    def close(self) -> None:
        """As of `Checkpoints`."""
        self._first.close()


def _places(record: dict[str, Any]) -> tuple[str, int]:
    """The mesh, and of how many processes, a checkpoint was written on."""
    return str(runs_mesh.parse_mesh(record["config"].get("mesh", ""))), 1 + len(
        record.get("parts", ())
    )


def _as_data(like: PyTree) -> PyTree:
    """Shapes, of random keys those of their data."""
    return jax.tree.map(
        lambda x: jax.eval_shape(layout.raw, jax.ShapeDtypeStruct(x.shape, x.dtype)), like
    )


def _said(mesh: str, processes: int) -> str:
    return f"mesh={mesh}" + (f" of {processes} processes" if processes > 1 else "")


def _block(found: Found, number: int, whole: PyTree) -> PyTree:
    """What a part has of each array, whose names and dtypes are those of the whole state's."""
    leaves, data = found.parts[number]
    if "parts" not in found.record:
        require_same(found.step, leaves, specification(whole))
        return arrays(data, whole)
    require_same(
        found.step,
        [leaf[:2] for leaf in leaves],
        [leaf[:2] for leaf in specification(_as_data(whole))],
    )
    shapes = [jax.ShapeDtypeStruct(shape, dtype) for _, dtype, shape in leaves]
    return arrays(data, jax.tree.unflatten(jax.tree.structure(whole), shapes))


def _resharded(state: PyTree, old: int, new: int, like: PyTree, many: bool) -> PyTree:
    """A state of training, or what has one in it."""
    is_state = lambda x: isinstance(x, TrainState)
    one = lambda x, y: layout.resharded(x, old, new, y, many) if is_state(x) else x
    return jax.tree.map(one, state, like, is_leaf=is_state)
