"""A training run in a folder: compile, train in chunks, report, checkpoint, resume."""

from __future__ import annotations

import contextlib
import json
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from ddpg_jax.health import NEVER
from ddpg_jax.population import Programs
from ddpg_jax.runs.build import (
    DURING,
    Built,
    build,
    compile_programs,
    evaluation_keys,
    final_returns,
    held_out,
    member_keys,
)
from ddpg_jax.runs.config import Config, RunError, load, require_same
from ddpg_jax.runs.folder import Clock, curve, metrics_row, read_metrics, write, write_json
from ddpg_jax.runs.statistics import plot, summary
from ddpg_jax.types import Agent, AgentState, PyTree


class Interrupted(Exception):
    """A run that was asked to stop and has saved; ``signal`` is the number of what asked."""

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.signal = number


class Finished(NamedTuple):
    """A run that has ended: its summary, and what it trained."""

    summary: dict[str, Any]
    agent: Agent
    agent_state: AgentState


def run(
    config: Config,
    folder: Path,
    *,
    resume: bool = False,
    on_chunk: Callable[[dict[str, Any]], None] = lambda row: None,
    say: Callable[[str], None] = print,
) -> Finished:
    """Train as configured, in ``folder``.

    Args:
        config: see `ddpg_jax.runs.config.make_config`.
        folder: receives ``config.json``, ``metrics.jsonl``, TensorBoard events, ``checkpoints/``, ``curve.png`` and
            ``summary.json``.
        resume: go on from the newest checkpoint in ``folder``.
        on_chunk: told each line of ``metrics.jsonl`` as it is written.
        say: told sentences for the user.

    Raises:
        RunError: the folder holds a run already or none to resume, memory is too small, or a number became NaN or infinite.
        Interrupted: SIGINT or SIGTERM; the state is saved.
    """
    began = time.perf_counter()
    _check_folder(config, folder, resume)
    if config.note:
        say(config.note)
    try:
        built = build(config)
    except (ValueError, TypeError, ImportError) as error:
        raise RunError(str(error)) from error
    tools = _Background(folder, config.keep)
    programs = compile_programs(built, config)
    checkpoints, open_writer = tools.result()
    with contextlib.ExitStack() as opened:
        opened.callback(checkpoints.close)
        stop = opened.enter_context(_stop_signals())
        state, done, clock = _begin(config, folder, built, programs, checkpoints if resume else None, say)
        write_json(folder / "config.json", config.flat())
        # What a killed run reported past its checkpoint comes again.
        writer = open_writer(str(folder), purge_step=config.schedule.steps_after(done) + 1 if resume else None)
        opened.callback(writer.close)
        state = _Loop(config, folder, programs, checkpoints, writer, on_chunk).run(state, done, clock, stop)
        returns = final_returns(config, programs, state.agent)
    seconds = {"compile": programs.seconds, "train": clock.total, "wall": time.perf_counter() - began}
    said = summary(config, returns, seconds)
    if curve(folder)[0].size:
        plot([folder], folder / "curve.png")
    write_json(folder / "summary.json", said)
    return Finished(said, built.agent, state.agent)


def _check_folder(config: Config, folder: Path, resume: bool) -> None:
    if not resume and (folder / "config.json").exists():
        hint = ", or go on with it by --resume" if any((folder / "checkpoints").glob("*")) else ""
        raise RunError(f"{folder} already holds a run: choose another --run-dir{hint}.")
    if resume and not (folder / "checkpoints").is_dir():
        raise RunError(f"{folder} has no checkpoint to resume from: start it without --resume, in a new folder.")
    if resume:
        require_same(load(folder).flat(), config.flat())


def _begin(
    config: Config, folder: Path, built: Built, programs: Programs, checkpoints: Any, say: Callable[[str], None]
) -> tuple[PyTree, int, Clock]:
    """State, chunks done and time so far: of the newest checkpoint, or, without ``checkpoints``, of the warm-up."""
    if checkpoints is None:
        state = jax.block_until_ready(programs.start(member_keys(config), {}))
        _require_finite(config, state.first_bad_step, {}, config.schedule.warm_up_steps, None)
        return state, 0, Clock()
    state, done, clock = _restore(checkpoints, built, folder, say)
    if done > config.num_chunks:
        raise RunError(f"{folder} is already past total_timesteps={config.numbers.total_timesteps}: raise it to go on.")
    if built.host is not None:
        built.host.begin((config.seed + config.schedule.steps_after(done)) % 2**31)
        say("environments on the host begin anew; all else goes on where it was.")
    return state, done, clock


class _Loop(NamedTuple):
    config: Config
    folder: Path
    programs: Programs
    checkpoints: Any
    writer: Any
    on_chunk: Callable[[dict[str, Any]], None]

    def run(self, state: PyTree, done: int, clock: Clock, stop: list[int]) -> PyTree:
        """Chunks ``done`` to the last."""
        saved = self.config.schedule.steps_after(done) if done else None
        for chunks in range(done + 1, self.config.num_chunks + 1):
            begin = time.perf_counter()
            state, report = self.programs.chunk(state, {})
            report = jax.device_get(report)
            clock.add(time.perf_counter() - begin)
            steps, last = self.config.schedule.steps_after(chunks), chunks == self.config.num_chunks
            _require_finite(self.config, report.first_bad_step, report.finite, steps, saved)
            evaluation = self._evaluate(state.agent, steps) if last or _due(chunks, self.config.evaluate_every) else None
            self._report(metrics_row(self.config, report, chunks, clock, evaluation))
            if last or stop or _due(chunks, self.config.checkpoint_every):
                record = {"config": self.config.flat(), "chunks": chunks, "train_seconds": clock.total}
                self._save(steps, state, record)
                saved = steps
            if stop and not last:
                name = signal.Signals(stop[0]).name
                raise Interrupted(
                    f"stopped by {name} at {steps} steps and saved; go on with --resume --run-dir {self.folder}", stop[0]
                )
        return state

    def _evaluate(self, agent_state: PyTree, steps: int) -> list[float]:
        returns = self.programs.evaluate(agent_state, evaluation_keys(self.config, DURING, steps), {})
        return held_out(np.asarray(returns, np.float64)).reshape(self.config.seeds, -1).mean(axis=1).tolist()

    def _report(self, row: dict[str, Any]) -> None:
        with (self.folder / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")
        for name, value in row.items():
            if name != "env_steps" and value is not None:
                self.writer.add_scalar(name, np.mean(value), row["env_steps"])
        self.on_chunk(row)

    def _save(self, steps: int, state: PyTree, record: dict[str, Any]) -> None:
        try:
            self.checkpoints.save(steps, state, record)
        except Exception as error:  # whatever the storage raises, a full disk among it
            raise RunError(
                f"the checkpoint at {steps} steps could not be written ({error}); those before it are intact."
            ) from error


def _due(chunks: int, every: int) -> bool:
    return every > 0 and chunks % every == 0


def _require_finite(
    config: Config, first_bad_step: dict[str, Any], finite: dict[str, Any], steps: int, saved: int | None
) -> None:
    """Both as of a `Report`, at so many steps; the last checkpoint is at ``saved``."""
    first = {name: int(np.min(value)) for name, value in first_bad_step.items()}
    broken = [name for name, value in finite.items() if not np.all(value)]
    if min(first.values()) == NEVER and not broken:
        return
    # What is collected comes before what is learned from it; a dict that JAX returns is in alphabetical order.
    collected = ("action", "observation", "reward")
    name = min(first, key=lambda name: (first[name], name not in collected))
    if first[name] == NEVER:
        what, member = f"parameters {broken[0]}", int(np.argmin(finite[broken[0]]))
    else:
        what, member = name, int(np.argmin(first_bad_step[name]))
        steps = (first[name] + 1) * config.numbers.num_envs
    what += f" of seed {config.seed + member}" if config.seeds > 1 else ""
    kept = f"the last finite checkpoint, at {saved} steps, is kept" if saved else "no checkpoint had been written yet"
    raise RunError(
        f"{what} became NaN or infinite at step {steps}; {kept}. Lower the learning rates or look at the environment."
    )


def _restore(checkpoints: Any, built: Built, folder: Path, say: Callable[[str], None]) -> tuple[PyTree, int, Clock]:
    try:
        steps, state, record = checkpoints.restore(built.state, say)
    except FileNotFoundError as error:
        raise RunError(f"{folder} has {error}: nothing to resume.") from error
    except ValueError as error:
        raise RunError(f"{folder}: {error}") from error
    rows = [row for row in read_metrics(folder) if row["env_steps"] <= steps]
    write(folder / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    say(f"resumed at {steps} steps.")
    return state, record["chunks"], Clock(record["train_seconds"])


@contextlib.contextmanager
def _stop_signals() -> Iterator[list[int]]:
    """A list that receives SIGINT or SIGTERM; a second one of them interrupts at once."""
    received: list[int] = []

    def handle(number: int, frame: Any) -> None:
        if received:
            raise KeyboardInterrupt
        received.append(number)

    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Background:
    """Import and open what writes to disk while XLA compiles."""

    def __init__(self, folder: Path, keep: int) -> None:
        self._pool = ThreadPoolExecutor(max_workers=1)
        self._future = self._pool.submit(self._load, folder, keep)

    @staticmethod
    def _load(folder: Path, keep: int) -> tuple[Any, Any]:
        import tensorboardX

        from ddpg_jax.runs.checkpoints import Checkpoints

        folder.mkdir(parents=True, exist_ok=True)
        opened = Checkpoints(folder / "checkpoints", keep)
        import matplotlib.figure  # noqa: F401

        return opened, tensorboardX.SummaryWriter

    def result(self) -> tuple[Any, Any]:
        self._pool.shutdown()
        return self._future.result()
