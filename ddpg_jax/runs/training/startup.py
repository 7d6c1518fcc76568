"""Start of a run: in a new folder, or from the newest checkpoint of an existing one."""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from ddpg_jax.runs.config.stored import load_config, require_same_config
from ddpg_jax.runs.distributed import processes
from ddpg_jax.runs.folder.files import ENVIRONMENT, write_json
from ddpg_jax.runs.folder.metrics import Clock, read_metrics
from ddpg_jax.runs.folder.metrics_log import write_metrics
from ddpg_jax.runs.options.validation import RunError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ddpg_jax.population import Programs
    from ddpg_jax.runs.config.run_config import Config
    from ddpg_jax.runs.programs.build import Built
    from ddpg_jax.types import PyTree


FAILED = "failed.json"
"""In the folder of a run that an error ended: why."""


def has_failed(folder: Path) -> bool:
    """Return whether an error ended a run before its first checkpoint: its folder is free."""
    return (folder / FAILED).is_file() and not _checkpoints(folder)


def _checkpoints(folder: Path) -> list[Path]:
    checkpoints = folder / "checkpoints"
    return list(checkpoints.iterdir()) if checkpoints.is_dir() else []


def check_folder(config: Config, folder: Path, resume: bool) -> None:
    """Refuse a folder in which the run cannot start or resume.

    Raises:
        RunError: a file or a run is in the way.
    """
    checkpoints = folder / "checkpoints"
    for name in ("config.json", "metrics.jsonl", "summary.json", "curve.png"):
        if (folder / name).is_dir():
            raise RunError(
                f"{folder / name} is a folder where the run writes a file: choose another "
                "--run-dir."
            )
    if (folder / "sweep.json").exists():
        raise RunError(
            f"{folder} holds a sweep: resume it with `ddpg-jax sweep --resume`, or choose another "
            "--run-dir."
        )
    if not resume and (folder / "config.json").exists() and not has_failed(folder):
        raise RunError(
            f"{folder} already holds a run: choose another --run-dir, or resume it with --resume."
        )
    new = not (resume or has_failed(folder))
    if new and (read_metrics(folder) or _checkpoints(folder)):
        raise RunError(
            f"{folder} holds files of a run, but not its config.json: choose another --run-dir."
        )
    if checkpoints.exists() and not checkpoints.is_dir():
        raise RunError(
            f"{checkpoints} is a file where the run needs a folder: choose another --run-dir."
        )
    if resume:
        require_same_config(load_config(folder).flat(), config.flat())
        saved = [int(path.name) for path in _checkpoints(folder) if path.name.isdigit()]
        if max(saved, default=0) > config.trained_timesteps:
            raise RunError(
                f"{folder} is already past total_timesteps="
                f"{config.hyperparameters.total_timesteps}: raise it to continue."
            )


@contextlib.contextmanager
def new_run_files(config: Config, folder: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Write ``config.json`` of a new run, also where one `has_failed`.

    If it fails before the first metrics its files are removed; later, it is marked as failed.
    """
    if has_failed(folder):
        say(f"the run in {folder} failed before its first checkpoint: this one replaces it.")
        for path in (folder / FAILED, *_written_by_a_run(folder)):
            path.unlink(missing_ok=True)
    before = set(folder.iterdir())
    write_json(folder / "config.json", config.flat())
    try:
        yield
    except Exception as error:
        checkpoints = folder / "checkpoints"
        with contextlib.suppress(OSError, RunError):
            if checkpoints.is_dir():
                checkpoints.rmdir()  # only if it is empty
            if read_metrics(folder):
                write_json(folder / FAILED, {"reason": str(error)})
            else:
                for path in _written_by_a_run(folder) - before:  # not files of others
                    path.unlink(missing_ok=True)
        raise


def _written_by_a_run(folder: Path) -> set[Path]:
    names = ("config.json", "metrics.jsonl", ENVIRONMENT)
    return {*(folder / name for name in names), *folder.glob("events.out.tfevents.*")}


def restore(
    config: Config,
    checkpoints: Any,
    built: Built,
    programs: Programs,
    folder: Path,
    say: Callable[[str], None],
) -> tuple[PyTree, int, Clock] | None:
    """Return state, steps done and time, and cut ``metrics.jsonl`` there; None without checkpoint.

    Raises:
        RunError: no checkpoint is readable, or it is of another configuration.
    """
    if processes.from_first(checkpoints.are_none()):
        if (folder / "summary.json").exists():  # the user removed them and keeps the rest
            raise RunError(
                f"{folder} holds a finished run whose checkpoints were removed: nothing to resume."
            )
        say(f"{folder} has no checkpoint yet: the run starts from the beginning.")
        write_metrics(folder, [])
        return None
    from ddpg_jax.runs.checkpoints.resharding import restore_run

    try:
        steps, state, record = restore_run(checkpoints, config, built.state, programs, say)
    except FileNotFoundError as error:
        raise RunError(f"{folder} has {error}: nothing to resume.") from error
    except ValueError as error:
        raise RunError(f"{folder}: {error}") from error
    require_same_config(record["config"], config.flat())
    rows = [row for row in read_metrics(folder, say) if row["env_steps"] <= steps]
    # A kill between the checkpoint and its line loses the line; only the line has the evaluation
    # and what callbacks added.
    line = rows.pop() if rows and rows[-1]["env_steps"] == steps else {}
    own = {"evaluation_return": line.get("evaluation_return")}
    write_metrics(folder, [*rows, line | record["row"] | own])
    say(f"resumed at {steps} steps.")
    before = record["config"]["total_timesteps"]
    if config.hyperparameters.anneal and before != config.hyperparameters.total_timesteps:
        say(
            f"Learning rates fall to zero over {config.anneal_updates} critic updates now: those "
            f"of {config.hyperparameters.total_timesteps} steps, not of {before}."
        )
    return state, steps, Clock(record["train_seconds"])


class BackgroundImports:
    """Imports what writes to disk, and opens the checkpoints, while XLA compiles."""

    def __init__(self, folder: Path, keep: int) -> None:
        """Start the thread."""
        self._pool = ThreadPoolExecutor(max_workers=1)
        self._future = self._pool.submit(self._load, folder, keep)

    @staticmethod
    def _load(folder: Path, keep: int) -> Any:
        import tensorboardX.event_file_writer  # noqa: F401

        from ddpg_jax.runs.checkpoints.store import Checkpoints

        opened = Checkpoints(folder / "checkpoints", keep)
        import matplotlib.figure  # noqa: F401

        return opened

    def result(self) -> Any:
        """Return `ddpg_jax.runs.checkpoints.store.Checkpoints`."""
        return self._future.result()

    def close(self) -> None:
        """Close what was opened."""
        self._pool.shutdown()
        if self._future.exception() is None:
            self._future.result().close()
