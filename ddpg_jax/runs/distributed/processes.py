"""Several processes that train one run together, on one machine or many: how they start, agree, and
end.

All of it is `jax.distributed` and `jax.experimental.multihost_utils`, but for what is said where a
process is lost: JAX then aborts the others from C++, in its own words and with no exception that
Python could catch (`end_together`).
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import json
import os
import signal
import sys
import tempfile
import time
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ddpg_jax.runs.console.signals import Interrupted
from ddpg_jax.runs.options.validation import RunError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HEARTBEAT_SECONDS = 30
"""A process without a sign of life for this long is lost; the others then end."""

SHARED_SECONDS = 10
"""For this long a file that another machine wrote may stay unseen on shared storage."""

LOST = (
    "another process of this run has died or cannot be reached: this process ends too. "
    "Start all of them again with --resume, from the newest checkpoint."
)
UNREACHABLE = ("Gloo", "gloo", "NCCL", "UNAVAILABLE", "DEADLINE_EXCEEDED")
"""Parts of the messages of exceptions that computing together raises where another process does not
answer."""


class ProcessFlags(NamedTuple):
    """Flags of the command line; None is left to the cluster."""

    coordinator: str | None = None
    num_processes: int | None = None
    process_id: int | None = None


def initialize(flags: ProcessFlags, run_dir: Path | None) -> None:
    """Connect to the other processes, if there are any; before JAX is used.

    They are given by the flags, or by the cluster that JAX detects: SLURM's ``srun``, Open MPI, an
    indexed job of Kubernetes (with JAX's ``k8s`` extra), or ``JAX_COORDINATOR_ADDRESS``. With
    ``num_processes`` 1 a process trains by itself.

    Args:
        flags: of the command line.
        run_dir: the run's folder, on storage that all processes share.

    Raises:
        RunError: flags are missing, or the other processes are not found.
    """
    if flags.num_processes == 1 or (all(value is None for value in flags) and not _in_cluster()):
        return
    missing = [
        f"--{name.replace('_', '-')}" for name, value in flags._asdict().items() if value is None
    ]
    _require_complete(flags, missing, run_dir)
    import jax

    try:
        jax.distributed.initialize(
            flags.coordinator,
            flags.num_processes,
            flags.process_id,
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
            shutdown_timeout_seconds=HEARTBEAT_SECONDS,
            cluster_detection_method=None if missing else "deactivate",
        )
    except (ValueError, RuntimeError) as error:
        raise RunError(
            f"the processes of this run do not find each other ({' '.join(str(error).split())}): "
            "start all of them, with one --coordinator, or give --num-processes 1 to train in this "
            "one alone."
        ) from error


def _require_complete(flags: ProcessFlags, missing: list[str], run_dir: Path | None) -> None:
    if missing and not _in_cluster():
        raise RunError(
            f"{', '.join(missing)} missing: each process needs --coordinator HOST:PORT (of process "
            "0), --num-processes and --process-id, or a cluster that JAX detects."
        )
    if run_dir is None:
        raise RunError(
            "several processes train one run: give each the same --run-dir, on storage "
            "that all of them share."
        )
    address = flags.coordinator
    if address is not None and not address.rpartition(":")[2].isdecimal():
        raise RunError(
            f"--coordinator {address}: give HOST:PORT, with a free port of the host of process 0."
        )


def _in_cluster() -> bool:
    """Whether the environment is that of several processes, as JAX reads it."""
    given = {name: text for name, text in os.environ.items() if text}
    # An interactive step of a job is one task, whatever the job has.
    counts = ("SLURM_STEP_NUM_TASKS", "SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE")
    count = next((given[name] for name in counts if name in given), "1")
    slurm = {"SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_PROCID", "SLURM_LOCALID"} <= set(given)
    ompi = "OMPI_MCA_orte_hnp_uri" in given or "OMPI_MCA_ess_base_jobid" in given
    indexed = {"KUBERNETES_SERVICE_HOST", "JOB_COMPLETION_INDEX"} <= set(given)
    return ((slurm or ompi) and count != "1") or indexed or "JAX_COORDINATOR_ADDRESS" in given


def require_alone(what: str) -> None:
    """Refuse to start ``what`` in each of several processes.

    Raises:
        RunError: the cluster has started several.
    """
    if _in_cluster():
        raise RunError(
            f"{what} trains in one process, but this is one of several that a cluster has started: "
            "start it once (srun --ntasks 1, or without JAX_COORDINATOR_ADDRESS), or train one run "
            "in all of them."
        )


def process_count() -> int:
    """Number of processes of this run."""
    import jax

    return jax.process_count() if jax.distributed.is_initialized() else 1


def is_first() -> bool:
    """Whether this is process 0, which writes everything that is written once."""
    import jax

    return not jax.distributed.is_initialized() or jax.process_index() == 0


def barrier(name: str) -> None:
    """Wait until all processes have called this."""
    if process_count() > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices(name)


def gather(value: int) -> list[int]:
    """The int32 of each process, in their order; all call it."""
    if process_count() == 1:
        return [value]
    import numpy as np
    from jax.experimental import multihost_utils

    return [int(each) for each in multihost_utils.process_allgather(np.int32(value))]


def from_first(value: int) -> int:
    """The int32 (or bool) of process 0; all call it."""
    return gather(int(value))[0]


def require_same_options(options: Any) -> None:
    """Refuse processes that were started with different JSON-able options.

    Raises:
        RunError: they differ.
    """
    checksum = zlib.crc32(json.dumps(options, sort_keys=True).encode()) & 0x7FFFFFFF
    if len(set(gather(checksum))) > 1:
        raise RunError(
            "the processes were given different options: start all of them by the same "
            "command, but --process-id."
        )


def require_shared(folder: Path) -> None:
    """Refuse a folder in which another process does not find what process 0 writes; all call it.

    Raises:
        RunError: names the process.
    """
    if process_count() == 1:
        return
    token = folder / f".shared-{from_first(int.from_bytes(os.urandom(3)))}"
    if is_first():
        token.touch()
    barrier("the folder has a token")
    give_up = time.monotonic() + SHARED_SECONDS
    while not (found := token.exists()) and time.monotonic() < give_up:
        time.sleep(0.2)
    seen = gather(int(found))
    if is_first():
        token.unlink()
    if not all(seen):
        raise RunError(
            f"process {seen.index(0)} does not find in {folder} what process 0 writes there: give "
            "all of them a --run-dir on storage that they share."
        )


@contextlib.contextmanager
def output_folder(folder: Path) -> Iterator[Path]:
    """Where this process writes its logs: the run's folder in process 0, a temporary one in the
    others.
    """
    if is_first():
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="ddpg_jax-") as temporary:
        yield Path(temporary)


def share_signals(received: list[int]) -> tuple[list[int], Callable[[], None]]:
    """Signals that any process has received, and a function that exchanges them: all call it at the
    same place.

    Args:
        received: numbers of the signals that this process has received.
    """
    if process_count() == 1:
        return received, lambda: None
    shared: list[int] = []

    def exchange() -> None:
        numbers = [number for number in gather(received[0] if received else 0) if number]
        shared[:] = shared or numbers[:1]

    return shared, exchange


@contextlib.contextmanager
def end_together() -> Iterator[None]:
    """Around what the processes do together: when one dies or fails, the others say so and end.

    On CPUs a collective then raises at once. Everywhere else JAX aborts the process: at once where
    process 0 is lost, else after `HEARTBEAT_SECONDS`.

    Raises:
        RunError: a collective failed, because another process cannot be reached.
    """
    if process_count() == 1:
        yield
        return
    libc = ctypes.CDLL(None)
    libc.signal(signal.SIGABRT, _on_abort)
    try:
        yield
        barrier("the run has ended")
        libc.signal(signal.SIGABRT, None)  # as it was
    except Interrupted:  # in all processes, by `share_signals`
        barrier("the run was stopped")
        libc.signal(signal.SIGABRT, None)
        raise
    except BaseException as error:
        atexit.register(_leave)  # before JAX's own, which waits for the others
        if isinstance(error, Exception) and any(word in str(error) for word in UNREACHABLE):
            raise RunError(f"{LOST} ({' '.join(str(error).split())[:200]})") from error
        raise


@ctypes.CFUNCTYPE(None, ctypes.c_int)
def _on_abort(number: int) -> None:
    """JAX has printed why it aborts this process; say what to do. Python's own handlers would not
    run any more.
    """
    os.write(2, f"Error: {LOST}\n".encode())
    os._exit(1)


def _leave() -> None:
    """End with what was printed, without waiting for processes that may be lost."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)
