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
from ddpg_jax.runs.programs.evaluation import (
    TRAINING_STREAM,
    evaluation_keys,
    final_returns,
    first_episodes,
    require_finite_returns,
)
from ddpg_jax.runs.programs.setup import member_hyperparameters

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ddpg_jax.population import Programs
    from ddpg_jax.reporting import Report
    from ddpg_jax.runs.config.run_config import Config
    from ddpg_jax.runs.folder.metrics_log import MetricsLog
    from ddpg_jax.types import PyTree


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

    def catch_up(self, agent_state: PyTree, trained: int) -> None:
        """Report ``trained`` chunks again, with an evaluation that an interruption left out."""
        rows = read_metrics(self.folder)
        missing = (
            bool(rows) and rows[-1]["evaluation_return"] is None and self._is_evaluated(trained)
        )
        if processes.from_first(missing):  # it alone has all lines
            rows[-1] |= {"evaluation_return": self._evaluate(agent_state, trained)}
            self.on_chunk(rows[-1])
        self.log.replace_all(rows)

    def run(self, state: PyTree, trained: int, clock: Clock) -> PyTree:
        """Train chunks ``trained`` + 1 to the last, each saved before anything that may fail."""
        saved, hyperparameters = (
            self._steps(trained) if trained else None,
            member_hyperparameters(self.config),
        )
        for chunks in range(trained + 1, self.config.num_chunks + 1):
            begin = time.perf_counter()
            state, report = self.programs.chunk(state, hyperparameters)
            report = arrays.to_host(report)
            self.agree()
            clock.add(time.perf_counter() - begin)
            steps, last = self._steps(chunks), chunks == self.config.num_chunks
            self._require_sound(report, steps, saved)
            row = metrics_row(self.config, report, chunks, clock, None)
            record = {
                "config": self.config.flat(),
                "chunks": chunks,
                "train_seconds": clock.total,
                "row": row,
            }
            if last or self.stop or _due(chunks, self.config.checkpoint_every):
                saved = self._save(steps, state, record)
            try:
                self._report(row | {"evaluation_return": self._evaluate(state.agent, chunks)})
                if not last:
                    raise_if_stopped(self.stop, f"at {steps} steps and saved", self.run_dir)
            except (Exception, Interrupted) as error:
                alone = processes.process_count() > 1 and not isinstance(error, Interrupted)
                if saved != steps and not alone:  # one of several processes alone cannot save
                    self._save(steps, state, record)
                self._written()
                raise
        self._written()
        return state

    def final(self, agent_state: PyTree) -> np.ndarray:
        """Return the returns of the final evaluation; everything is saved before."""

        def evaluate(*arguments: Any) -> np.ndarray:
            raise_if_stopped(self.stop, "with everything trained and saved", self.run_dir)
            with contextlib.suppress(Stopped):
                returns = arrays.to_host(self.programs.evaluate(*arguments))
            raise_if_stopped(self.stop, "with everything trained and saved", self.run_dir)
            return returns

        with self._timed("evaluation"):
            return final_returns(
                self.config, self.programs._replace(evaluate=evaluate), agent_state
            )

    def _steps(self, chunks: int) -> int:
        return self.config.schedule.steps_after(chunks)

    def _is_evaluated(self, chunks: int) -> bool:
        return chunks == self.config.num_chunks or _due(chunks, self.config.evaluate_every)

    def _evaluate(self, agent_state: PyTree, chunks: int) -> list[float | None] | None:
        """Return mean returns; None where none is due or it is interrupted (see `catch_up`)."""
        if self.stop or not self._is_evaluated(chunks):
            return None
        keys = evaluation_keys(self.config, TRAINING_STREAM, self._steps(chunks))
        with self._timed("evaluation"), contextlib.suppress(Stopped):
            returns = first_episodes(
                self.config,
                self.programs.evaluate(agent_state, keys, member_hyperparameters(self.config)),
            )
        return (
            None
            if self.stop
            else finite_or_none(
                require_finite_returns(returns.astype(np.float64), self.config).mean(axis=1)
            )
        )

    def _report(self, row: dict[str, Any]) -> None:
        self.log.add(row)
        self.on_chunk(row)

    def _require_sound(self, report: Report, steps: int, saved: int | None) -> None:
        """Check that all values are finite and that earlier checkpoints are written."""
        self._written(until_done=False)
        try:
            require_finite(self.config, report.first_bad_step, report.finite, steps, saved)
        except RunError:
            self._written()  # the checkpoint that the error names
            raise

    def _save(self, steps: int, state: PyTree, record: dict[str, Any]) -> int:
        with self._timed("checkpoint"):
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


def _due(chunks: int, every: int) -> bool:
    return every > 0 and chunks % every == 0


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
    kept = (
        f"the last finite checkpoint, at {saved} steps, is kept"
        if saved
        else "no checkpoint had been written yet"
    )
    raise Diverged(
        f"{what} became NaN or infinite at step {steps}; {kept}. Lower the learning rates or "
        "check the environment."
    )
