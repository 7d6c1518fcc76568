"""Several processes that train one run together, on one machine or many: how they find each other,
agree, and end."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import json
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from ddpg_jax.runs.console.signals import Interrupted
from ddpg_jax.runs.options.validation import RunError

HEARTBEAT, BEAT = 30, 2
"""Seconds without a sign of life after which a process is dead to the others, which then end; and
between two signs."""
PATIENCE = 600
"""Seconds that one waits for another that lives: to write its part of a checkpoint, say."""

BROKEN = (
    "Gloo",
    "gloo",
    "NCCL",
    "UNAVAILABLE",
    "DEADLINE_EXCEEDED",
    "onnection",
    "ocket closed",
    "eartbeat",
)
"""What is in JAX's errors where another process does not answer."""


class Asked(NamedTuple):
    """What is given on the command line; None is what the cluster says."""

    coordinator: str | None = None
    num_processes: int | None = None
    process_id: int | None = None


def join(asked: Asked, run_dir: Path | None) -> None:
    """Find the other processes, where there are any; before JAX is used.

    They are those of the flags, or of the cluster that JAX detects: SLURM's ``srun``, Open MPI, an
    indexed job of Kubernetes (with JAX's ``k8s`` extra), or ``JAX_COORDINATOR_ADDRESS``.
    ``num_processes`` 1 is a process by itself.

    Args:
        asked: of the command line.
        run_dir: the run's folder, which all have to see.

    Raises:
        RunError: the flags are not all there, or the others are not to be found.
    """
    if asked.num_processes == 1 or (not any(x is not None for x in asked) and not _in_cluster()):
        return
    absent = [
        f"--{name.replace('_', '-')}" for name, value in asked._asdict().items() if value is None
    ]
    if absent and not _in_cluster():
        raise RunError(
            f"{', '.join(absent)} missing: each process needs --coordinator HOST:PORT (of process 0), --num-processes and "
            "--process-id, or a cluster that JAX knows."
        )
    if run_dir is None:
        raise RunError(
            "several processes train one run: give each the same --run-dir, a folder that all of them see."
        )
    import jax

    address = asked.coordinator
    if address is not None and not address.rpartition(":")[2].isdecimal():
        raise RunError(
            f"--coordinator {address}: give HOST:PORT, a port that is free on the host of process 0."
        )
    try:
        jax.distributed.initialize(
            address,
            asked.num_processes,
            asked.process_id,
            heartbeat_timeout_seconds=HEARTBEAT
            + 10,  # where ours, which says more, did not come to it
            shutdown_timeout_seconds=HEARTBEAT,
            cluster_detection_method=None if absent else "deactivate",
        )
    except (ValueError, RuntimeError) as error:
        raise RunError(
            f"the processes of this run do not find each other ({' '.join(str(error).split())}): start all of them, with one "
            "--coordinator, or give --num-processes 1 to train in this one alone."
        ) from error


def _in_cluster() -> bool:
    """Whether the environment is that of several processes, as JAX reads it."""
    count = next(
        (
            os.environ[name]
            for name in ("SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE")
            if name in os.environ
        ),
        "1",
    )
    slurm = {"SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_PROCID", "SLURM_LOCALID"} <= set(
        os.environ
    )
    ompi = "OMPI_MCA_orte_hnp_uri" in os.environ or "OMPI_MCA_ess_base_jobid" in os.environ
    indexed = {"KUBERNETES_SERVICE_HOST", "JOB_COMPLETION_INDEX"} <= set(os.environ)
    return ((slurm or ompi) and count != "1") or indexed or "JAX_COORDINATOR_ADDRESS" in os.environ


def count() -> int:
    """Processes of this run."""
    client = _state()
    return 1 if client is None else client.num_processes


def index() -> int:
    """Of this process; the first one, 0, writes what is written once."""
    client = _state()
    return 0 if client is None else client.process_id


def is_first() -> bool:
    """Whether this process writes the logs."""
    return index() == 0


def _state() -> Any:
    """Of JAX's coordination, which has no public name; None where there is one process."""
    from jax._src.distributed import global_state

    return None if global_state.client is None else global_state


def wait(name: str) -> None:
    """Until all processes are here; ``name`` is of this place and time alone."""
    if (state := _state()) is not None:
        state.client.wait_at_barrier(f"ddpg_jax/{name}", PATIENCE * 1000)


def tell(name: str, value: str) -> None:
    """Let the others know a value under a name."""
    if (state := _state()) is not None:
        state.client.key_value_set(f"ddpg_jax/{name}", value, allow_overwrite=True)


def told(name: str) -> str:
    """What one of the others let know, as soon as it has."""
    return _state().client.blocking_key_value_get(f"ddpg_jax/{name}", PATIENCE * 1000)


def gathered(name: str, value: str) -> list[str]:
    """What each process says under a name that is used once, in their order; all call it."""
    if count() == 1:
        return [value]
    tell(f"{name}/{index()}", value)
    return [told(f"{name}/{number}") for number in range(count())]


def of_first(name: str, answer: bool) -> bool:
    """What the first process answers to a question that is asked once; all call it."""
    return gathered(name, str(answer))[0] == "True"


def require_same(run: Any) -> None:
    """Refuse processes that were not given the same JSON-able run.

    Raises:
        RunError: they were not.
    """
    if len(set(gathered("the run", json.dumps(run, sort_keys=True)))) > 1:
        raise RunError(
            "the processes were given different options: start all of them by the same command, but --process-id."
        )


@contextlib.contextmanager
def own_folder(folder: Path) -> Iterator[Path]:
    """Where this process writes what a run writes: the run's folder, or for all but the first one
    that is thrown away."""
    if is_first():
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="ddpg_jax-") as away:
        yield Path(away)


def agreeing(asked: list[int]) -> tuple[list[int], Callable[[], None]]:
    """Signals that all processes know of, and what has them tell each other: all call it at the
    same place.

    Args:
        asked: signals that this process has received.
    """
    if count() == 1:
        return asked, lambda: None
    agreed: list[int] = []

    hyperparameters = itertools.count()

    def agree() -> None:
        signals = gathered(f"signals/{next(hyperparameters)}", str(asked[0] if asked else 0))
        agreed[:] = agreed or [int(number) for number in signals if number != "0"][:1]

    return agreed, agree


@contextlib.contextmanager
def together() -> Iterator[None]:
    """Around what processes do together: where one of them is gone, or has failed, the others say
    so and end.

    Where it is process 0, at which they meet, JAX ends them at once, in its own words.

    Raises:
        RunError: what all compute together could not be.
    """
    if count() == 1:
        yield
        return
    import jax

    over = threading.Event()
    threading.Thread(target=_watch, args=(over,), daemon=True).start()
    try:
        yield
        wait("the end")
    except Interrupted:  # all of them, by `agreeing`
        wait("stopped")
        raise
    except BaseException as error:
        with contextlib.suppress(Exception):
            tell(f"failed/{index()}", " ".join(str(error).split())[:500] or type(error).__name__)
        _part()
        if isinstance(error, jax.errors.JaxRuntimeError) and any(
            word in str(error) for word in BROKEN
        ):
            raise RunError(
                _gone(f"a process cannot be reached ({' '.join(str(error).split())[:200]})")
            ) from error
        raise
    finally:
        over.set()


def _part() -> None:
    """Leave the others without waiting for them, as JAX would at the end of the process."""
    state = _state()
    for held in (state.client, state.service, state.preemption_sync_manager):
        ctypes.pythonapi.Py_IncRef(
            ctypes.py_object(held)
        )  # what ends them ends the process too, before its time
    state.preemption_sync_manager = state.client = state.service = None


def _watch(over: threading.Event) -> None:
    """Show that this process lives, and end it where another one does no longer."""
    client, others = _state().client, [number for number in range(count()) if number != index()]
    seen = {number: ("", time.monotonic()) for number in others}
    for beat in itertools.count():
        if over.wait(BEAT):
            return
        try:
            client.key_value_set(f"ddpg_jax/alive/{index()}", str(beat), allow_overwrite=True)
            for number in others:
                seen[number] = _seen(client, number, seen[number])
        except RuntimeError as error:
            if not over.wait(BEAT):
                _end(
                    f"process 0, which the others meet at, cannot be reached ({str(error).splitlines()[0][:200]})"
                )


def _seen(client: Any, number: int, last: tuple[str, float]) -> tuple[str, float]:
    said = _found(client, f"failed/{number}")
    if said:
        _end(f"process {number} has ended: {said}")
    now, beat = time.monotonic(), _found(client, f"alive/{number}")
    if beat != last[0]:
        return beat, now
    if now - last[1] > HEARTBEAT:
        _end(f"process {number} has given no sign of life for {HEARTBEAT} s")
    return last


def _found(client: Any, name: str) -> str:
    """What is there under a name; empty where there is nothing."""
    try:
        return client.key_value_try_get(f"ddpg_jax/{name}")
    except RuntimeError as error:
        if "NOT_FOUND" in str(error):
            return ""
        raise


def _gone(what: str) -> str:
    return f"{what}: this process ends too. Start all of them again with --resume, from the newest checkpoint."


def _end(what: str) -> NoReturn:
    """End this process, whatever it is doing: what it computes waits for one that will not come."""
    os.write(2, f"Error: {_gone(what)}\n".encode())
    os._exit(1)
