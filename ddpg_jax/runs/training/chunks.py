"""The chunks of a run: trained, checked, saved, evaluated and reported one after the other."""

from __future__ import annotations

import contextlib
import signal
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ddpg_jax.host import Stopped
from ddpg_jax.reporting import NEVER
from ddpg_jax.runs.console.signals import Interrupted
from ddpg_jax.runs.distributed import arrays, processes
from ddpg_jax.runs.folder.metrics import Clock, finite_or_none, metrics_row, read_metrics
from ddpg_jax.runs.options.validation import Diverged, RunError
from ddpg_jax.runs.programs.build import Built, compile_shorter
from ddpg_jax.runs.programs.evaluation import (
    TRAINING_STREAM,
    evaluation_keys,
    final_returns,
    first_episodes,
    require_finite_returns,
)
from ddpg_jax.runs.programs.setup import member_hyperparameters
from ddpg_jax.runs.training.phases import TRAINING, Phases

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ddpg_jax.population import Programs
    from ddpg_jax.reporting import Report
    from ddpg_jax.runs.checkpoints.best import Best
    from ddpg_jax.runs.config.run_config import Config
    from ddpg_jax.runs.folder.metrics_log import MetricsLog
    from ddpg_jax.runs.training.reports import Caller
    from ddpg_jax.types import PyTree


TIMED = ("evaluation", "checkpoint")
"""What is timed beside training."""
SAVE_SECONDS, SAVE_SHARE = 300.0, 0.05
"""A run is saved so long after it was last, or later where that takes more than this share."""


class Trained(NamedTuple):
    """What the chunks of a run have led to."""

    state: PyTree
    env_steps: int
    """Of each member."""
    stopped: str
    """Why a callback stopped it; empty where none did."""


class ChunkLoop(NamedTuple):
    """The state that all chunks of a run share."""

    config: Config
    run_dir: Path
    folder: Path
    """Where this process writes its logs: ``run_dir`` in process 0."""
    programs: Programs
    checkpoints: Any
    log: MetricsLog
    on_chunk: Callable[[dict[str, Any]], None]
    stop: list[int]
    agree: Callable[[], None]
    """Share received signals among the processes of a run."""
    seconds: dict[str, float]
    """Seconds of evaluations, and of waiting for checkpoints."""
    phases: Phases
    built: Built
    best: Best
    call: Caller

    def catch_up(self, agent_state: PyTree, trained: int) -> None:
        """Restore the best, and report the chunk that ended at ``trained`` steps again, with an
        evaluation that an interruption left out, or whose agent was not kept yet.
        """
        rows = read_metrics(self.folder)
        self.best.restore(evaluated=any(row["evaluation_return"] for row in rows))
        before = rows[-2]["env_steps"] if len(rows) > 1 else self.config.schedule.warm_up_steps
        known = rows[-1]["evaluation_return"] if rows else None
        missing = bool(rows) and (
            self.best.lacks(known) if known else self._is_evaluated(trained, trained - before)
        )
        if processes.from_first(missing):  # it alone has all lines
            rows[-1] |= {"evaluation_return": self._evaluate(agent_state, trained) or known}
            self.on_chunk(rows[-1])
        self.log.replace_all(rows)

    def run(self, state: PyTree, trained: int, clock: Clock) -> Trained:
        """Train from ``trained`` steps to the end, or until a callback stops it, chunk by chunk.

        Each that is due is saved before anything that may fail.
        """
        config, schedule, last = self.config, self.config.schedule, self.config.trained_timesteps
        saved = trained if trained > schedule.warm_up_steps else None
        hyperparameters = member_hyperparameters(config)
        saving, steps, stopped = SaveTimer(), trained, ""
        while steps < last and not stopped:
            length = min(schedule.steps_per_chunk, last - steps)
            program = self._program(length)
            self.phases.enter(TRAINING)
            begin = time.perf_counter()
            state, report = program(state, hyperparameters)
            report = arrays.to_host(report)
            self.agree()
            clock.add(time.perf_counter() - begin)
            self.phases.trained()
            steps += length
            self._require_sound(report, steps, saved)
            row = metrics_row(config, report, steps, length, clock, None)
            record = {"config": config.flat(), "train_seconds": clock.total, "row": row}
            due = steps == last or bool(self.stop) or config.due("checkpoint_every", steps, length)
            if due or saving.is_due(config.checkpoint_every):
                saved = saving.time(self._save, steps, state, record)
            try:
                stopped = self._reported(dict(row), state, self._is_evaluated(steps, length))
                if saved == steps:
                    self.best.save()
                if steps < last:
                    raise_if_stopped(self.stop, f"at {steps} steps and saved", self.run_dir)
            except (Exception, SystemExit, Interrupted) as error:
                if processes.process_count() == 1 or isinstance(error, Interrupted):
                    if saved != steps:  # one of several processes alone cannot save
                        self._save(steps, state, record)
                    self.best.save()
                self._written()
                raise
            if stopped and saved != steps:
                saved = self._save(steps, state, record)
        self.best.save()  # also of an evaluation that an interruption had left out
        self._written()
        return Trained(state, steps, stopped)

    def final(self, agent_state: PyTree, steps: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Return the returns of the final evaluation, of the last agent (at ``steps``) and of the
        best; everything is saved before. In the environments of training, as a robot is, the best
        is not played.
        """

        def evaluate(*arguments: Any) -> np.ndarray:
            raise_if_stopped(self.stop, "with everything trained and saved", self.run_dir)
            with contextlib.suppress(Stopped):
                returns = arrays.to_host(self.programs.evaluate(*arguments))
            raise_if_stopped(self.stop, "with everything trained and saved", self.run_dir)
            return returns

        self.phases.enter("evaluating")
        with self._timed("evaluation"):
            programs = self.programs._replace(evaluate=evaluate)
            last = final_returns(self.config, programs, agent_state)
            best = self.best.agent_state
            if best is None or np.all(self.best.env_steps == steps):
                return last, last
            if self.config.shared_environment:
                return last, None
            return last, final_returns(self.config, programs, best)

    def _program(self, length: int) -> Callable[..., Any]:
        if length == self.config.schedule.steps_per_chunk:
            chunk: Callable[..., Any] = self.programs.chunk
            return chunk
        self.phases.enter("compiling")  # what is left is shorter
        return compile_shorter(self.built, self.config, length)

    def _is_evaluated(self, steps: int, length: int) -> bool:
        due = self.config.due("evaluate_every", steps, length)
        return due or steps == self.config.trained_timesteps

    def _evaluate(self, agent_state: PyTree, steps: int) -> list[float | None] | None:
        """Return mean returns; None where it is interrupted (see `catch_up`)."""
        if self.stop:
            return None
        self.phases.enter("evaluating")
        keys = evaluation_keys(self.config, TRAINING_STREAM, steps)
        with self._timed("evaluation"), contextlib.suppress(Stopped):
            returns = first_episodes(
                self.config,
                self.programs.evaluate(agent_state, keys, member_hyperparameters(self.config)),
            )
        if self.stop:
            return None
        whole = require_finite_returns(returns.astype(np.float64), self.config)
        means = finite_or_none(whole.mean(axis=1))
        self.best.offer(agent_state, means, steps)
        return means

    def _reported(self, row: dict[str, Any], state: PyTree, evaluated: bool) -> str:
        """Evaluate where it is due, call the callbacks, and report; returns why the run ends."""
        if evaluated:
            row["evaluation_return"] = self._evaluate(state.agent, row["env_steps"])
        try:
            return self.call(row, state)
        finally:
            self.log.add(row)
            self.on_chunk(row)

    def _require_sound(self, report: Report, steps: int, saved: int | None) -> None:
        """Check that all values are finite and that earlier checkpoints are written."""
        self._written(until_done=False)
        try:
            require_finite(self.config, report.first_bad_step, report.finite, steps, saved)
        except RunError:
            self.best.save()
            self._written()  # the checkpoint that the error names
            raise

    def _save(self, steps: int, state: PyTree, record: dict[str, Any]) -> int:
        self.phases.enter("saving")
        with self._timed("checkpoint"):
            try:
                self.best.save()  # of evaluations that a run resumed from here does not repeat
            finally:
                self.checkpoints.save(steps, state, record)
        return steps

    def _written(self, *, until_done: bool = True) -> None:
        with self._timed("checkpoint"):
            self.checkpoints.wait(until_done=until_done)

    @contextlib.contextmanager
    def _timed(self, what: str) -> Iterator[None]:
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[what] += time.perf_counter() - begin


class SaveTimer:
    """Decides by the clock when a run is saved that has not been for long."""

    def __init__(self) -> None:
        """Begin now."""
        self._next = time.monotonic() + SAVE_SECONDS

    def is_due(self, every: int) -> bool:
        """Return whether it is time, where anything is saved before the end; all processes call it.

        What a checkpoint holds does not depend on when it is written.
        """
        return every > 0 and bool(processes.from_first(time.monotonic() >= self._next))

    def time(self, save: Callable[..., int], *arguments: Any) -> int:
        """Save, and wait again: the longer the longer it took."""
        begin = time.monotonic()
        steps = save(*arguments)
        end = time.monotonic()
        self._next = end + max(SAVE_SECONDS, (end - begin) / SAVE_SHARE)
        return steps


def raise_if_stopped(stop: list[int], when: str, folder: Path) -> None:
    """Raise `Interrupted` if a signal was received."""
    if stop:
        name = signal.Signals(stop[0]).name
        raise Interrupted(
            f"stopped by {name} {when}; continue with --resume --run-dir {folder}", stop[0]
        )


def require_finite(
    config: Config,
    first_bad_step: dict[str, Any],
    finite: dict[str, Any],
    steps: int,
    saved: int | None,
) -> None:
    """Refuse NaN and infinity; ``first_bad_step`` and ``finite`` as in a `Report`.

    Raises:
        Diverged: names the value, its step, and the last checkpoint, at ``saved`` steps.
    """
    if config.vary:
        return  # a member that diverges leaves the others alone
    first = {name: int(np.min(value)) for name, value in first_bad_step.items()}
    broken = [name for name, value in finite.items() if not np.all(value)]
    if min(first.values()) == NEVER and not broken:
        return
    # Collected values precede those learned from them; dicts of JAX are in alphabetical order.
    collected = ("action", "observation", "reward")
    name = min(first, key=lambda name: (first[name], name not in collected))
    if first[name] == NEVER:
        what, member = f"parameters {broken[0]}", int(np.argmin(finite[broken[0]]))
    else:
        what, member = name, int(np.argmin(first_bad_step[name]))
        steps = (first[name] + 1) * config.hyperparameters.num_envs
    what += f" of seed {config.seed + member}" if config.seeds > 1 else ""
    kept = "no checkpoint had been written yet"
    kept = f"the last finite checkpoint, at {saved} steps, is kept" if saved else kept
    remedy = "Lower the learning rates, or check the environment."
    if name in ("observation", "reward") and first[name] != NEVER:  # actions were finite
        remedy = f"The environment returned it: see what `ddpg-jax check {config.env}` finds."
    raise Diverged(f"{what} became NaN or infinite at step {steps}; {kept}. {remedy}")
