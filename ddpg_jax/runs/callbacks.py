"""Callbacks: what a run calls after each chunk, and may be stopped by.

For example::

    from ddpg_jax.runs.callbacks import csv_file, film_every, stop_at

    ddpg_jax.runs.train("pendulum", callbacks=[stop_at(-160), csv_file(), film_every(5_000)])

A callback is a function of a `Chunk`. What it returns stops the run, unless that is None or False;
a text is shown as the reason. A stopped run is saved and evaluated as at its end, and can be
resumed. Callbacks are called in their order; an exception of one ends the run, which is saved.

One that is a context manager is entered before training and left after it, however it ends. One
with a method ``end`` receives the content of ``summary.json``.

Where several processes train together, each calls its own callbacks at the same chunks, so that
they may compute with a distributed `Chunk.agent_state`. The first process alone writes
(`Chunk.is_first`), and decides whether to stop.
"""

from __future__ import annotations

import csv
import importlib.util
import math
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from ddpg_jax.learner import TrainState
    from ddpg_jax.types import Agent, AgentState

Row = dict[str, Any]
"""A line of ``metrics.jsonl``."""


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """A chunk of a run that has just been trained, and the run."""

    row: Row
    """The line of ``metrics.jsonl`` that is about to be written: lists have one value per member,
    ``evaluation_return`` is None without an evaluation. Entries that are added are written too."""
    folder: Path
    """The run's; of a process that is not the first, its own."""
    config: Any
    """`ddpg_jax.runs.config.run_config.Config`."""
    agent: Agent
    train_state: TrainState
    """On the devices, not copied; of several members every leaf has a leading axis. The next chunk
    overwrites it: copy what you keep, or use it before you return."""
    earlier: Callable[[], list[Row]]
    """Returns the lines before, also of the run that was resumed."""
    film: Callable[[Path], None]
    """Plays an episode of the first member and writes it as GIF or MP4, by the path's suffix."""
    is_first: bool = True
    """Whether this process is the first of those that train together."""

    @property
    def agent_state(self) -> AgentState:
        """The agent's part of ``train_state``, for ``agent.act``."""
        return self.train_state.agent


Callback = Callable[[Chunk], "bool | str | None"]
"""What it returns stops the run, unless that is None or False."""


def mean_return(row: Row) -> float | None:
    """Return the mean evaluation return over the members; None without one."""
    known = [value for value in row["evaluation_return"] or () if value is not None]
    return sum(known) / len(known) if known else None


def stop_at(value: float) -> Callback:
    """Stop at an evaluation whose mean return over all members is at least ``value``."""

    def callback(chunk: Chunk) -> str | None:
        found = mean_return(chunk.row)
        reached = found is not None and found >= value
        return f"the evaluation's return {found:.1f} reached {value:g}" if reached else None

    return callback


def stop_without_progress(evaluations: int = 10, by: float = 0.0) -> Callback:
    """Stop where so many evaluations in a row, since the best, have not exceeded it.

    Args:
        evaluations: at least 1. Those of a run that was resumed count.
        by: how much higher than the best a mean return must be.
    """
    if evaluations < 1:
        raise ValueError(f"evaluations={evaluations}: must be at least 1.")
    best, waited, begun = -math.inf, 0, False

    def callback(chunk: Chunk) -> str | None:
        nonlocal best, waited, begun
        rows, begun = [*([] if begun else chunk.earlier()), chunk.row], True
        for found in map(mean_return, rows):
            if found is not None:
                best, waited = (found, 0) if found > best + by else (best, waited + 1)
        if waited < evaluations:
            return None
        return f"{waited} evaluations have not exceeded {best:.1f}{f' by {by:g}' if by else ''}"

    return callback


def user_metrics(function: Callable[[Chunk], dict[str, Any]]) -> Callback:
    """Add metrics to the chunk's line, so that files, TensorBoard and later callbacks have them.

    Args:
        function: returns ``{name: number}``, or a list with one number per member.

    Raises:
        ValueError: from the callback, where a name is one of the line's own.
    """

    def callback(chunk: Chunk) -> None:
        found = function(chunk)
        if taken := found.keys() & chunk.row.keys():
            raise ValueError(f"user metrics: a run has its own {min(taken)}; choose another name.")
        chunk.row.update({name: _plain(value) for name, value in found.items()})

    return callback


def _plain(value: Any) -> Any:
    """Return a number, or the list of an array, for JSON; None for what is not finite."""
    value = value.tolist() if hasattr(value, "tolist") else value
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value if math.isfinite(value) else None


def flat(row: Row) -> Row:
    """Return a line without lists: of several members ``name/0``, ``name/1`` and so on."""
    members = len(row["episodes"])
    found: Row = {}
    for name, value in row.items():
        value = [None] * members if name == "evaluation_return" and value is None else value
        if not isinstance(value, list):
            found[name] = value
        elif members == 1:
            found[name] = value[0]
        else:
            found |= {f"{name}/{member}": one for member, one in enumerate(value)}
    return found


class CsvFile:
    """Writes the lines as CSV, see `csv_file`."""

    def __init__(self, name: str) -> None:
        """Write into this file of the run's folder."""
        self._name, self._columns = name, list[str]()

    def __call__(self, chunk: Chunk) -> None:
        """Append a line; write all of them anew where it has other columns."""
        row = flat(chunk.row)
        if row.keys() <= {*self._columns}:
            self._write(chunk.folder, [row], "a")
        else:
            self.replace_all(chunk.folder, [*chunk.earlier(), chunk.row])

    def replace_all(self, folder: Path, rows: list[Row]) -> None:
        """Write all lines of a run anew."""
        found = [*map(flat, rows)]
        self._columns = [*dict.fromkeys(name for row in found for name in row)]
        self._write(folder, [dict(zip(self._columns, self._columns, strict=True)), *found], "w")

    def _write(self, folder: Path, rows: list[Row], mode: str) -> None:
        with (folder / self._name).open(mode, newline="") as file:
            csv.DictWriter(file, self._columns).writerows(rows)


def csv_file(name: str = "metrics.csv") -> CsvFile:
    """Write the lines as CSV, `flat`, into a file of the run's folder; None is an empty field."""
    return CsvFile(name)


def film_every(steps: int) -> Callback:
    """Write ``films/STEPS.gif`` after every so many environment steps of a member."""
    if steps < 1:
        raise ValueError(f"steps={steps}: must be at least 1.")
    before: int | None = None

    def callback(chunk: Chunk) -> None:
        nonlocal before
        now = chunk.row["env_steps"]
        if before is None:
            before = max((row["env_steps"] for row in chunk.earlier()), default=0)
        if now // steps > before // steps:
            chunk.film(chunk.folder / "films" / f"{now}.gif")
        before = now

    return callback


class WeightsAndBiases:
    """Logs each line, `flat`, its configuration and its summary to Weights & Biases.

    A resumed run continues the same one there, whose id is in ``wandb_id`` of the run's folder.
    ``WANDB_MODE=offline`` writes into the folder alone.

    Args:
        project: its name there.
        **settings: other arguments of ``wandb.init``, such as ``entity`` and ``tags``.

    Raises:
        ImportError: wandb is not installed.
    """

    def __init__(self, project: str, **settings: Any) -> None:
        if importlib.util.find_spec("wandb") is None:
            raise ImportError(
                "Weights & Biases needs the package wandb: pip install 'ddpg_jax[wandb]'."
            )
        self._settings = {"project": project} | settings
        self._run: Any = None

    def __enter__(self) -> WeightsAndBiases:
        """Wait for the first chunk."""
        return self

    def __call__(self, chunk: Chunk) -> None:
        """Log a line."""
        if not chunk.is_first:
            return
        if self._run is None:
            self._run = self._begun(chunk)
        known = {name: value for name, value in flat(chunk.row).items() if value is not None}
        self._run.log(known, step=chunk.row["env_steps"])

    def _begun(self, chunk: Chunk) -> Any:
        import wandb

        path = chunk.folder / "wandb_id"
        if not path.is_file():
            path.write_text(uuid.uuid4().hex)
        own = {"name": chunk.folder.name, "dir": str(chunk.folder), "config": chunk.config.flat()}
        own |= {"id": path.read_text(), "resume": "allow"}
        return wandb.init(**own | {"settings": wandb.Settings(silent=True)} | self._settings)

    def end(self, summary: dict[str, Any]) -> None:
        """Log the summary."""
        if self._run is not None:
            self._run.summary.update(
                {name: value for name, value in summary.items() if name != "config"}
            )

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        """End the run there, as failed after an exception."""
        if self._run is not None:
            self._run.finish(exit_code=int(kind is not None))


def of_options(config: Any) -> list[Callback]:
    """Return the callbacks that a configuration's options ask for, those that stop last."""
    found: list[Callback | None] = [
        csv_file() if config.csv else None,
        WeightsAndBiases(config.wandb) if config.wandb else None,
        film_every(config.film_every) if config.film_every else None,
        None if config.stop_at is None else stop_at(config.stop_at),
    ]
    return [callback for callback in found if callback is not None]
