"""A training run in a folder: compile, train in chunks, save, report, resume."""

from __future__ import annotations

import contextlib
import signal
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np

from ddpg_jax.health import NEVER
from ddpg_jax.host import Stopped
from ddpg_jax.runs import hosts, layout
from ddpg_jax.runs.config import mesh
from ddpg_jax.runs.console import output, signals
from ddpg_jax.runs.console.signals import Interrupted
from ddpg_jax.runs.folder.files import write_json
from ddpg_jax.runs.folder.lock import locked_folder
from ddpg_jax.runs.folder.metrics import Clock, finite_or_none, metrics_row, read_metrics
from ddpg_jax.runs.folder.metrics_log import MetricsLog
from ddpg_jax.runs.options.validation import RunError
from ddpg_jax.runs.programs import compiled_memory, memory
from ddpg_jax.runs.programs.build import Built, build, compile_programs
from ddpg_jax.runs.programs.evaluation import (
    HOST_RESET_STREAM,
    TRAINING_STREAM,
    evaluation_keys,
    final_returns,
    first_episodes,
    host_seed,
    require_finite_returns,
)
from ddpg_jax.runs.programs.setup import member_hyperparameters, member_keys, with_chosen_mesh
from ddpg_jax.runs.results import run_pictures
from ddpg_jax.runs.results.statistics import make_summary
from ddpg_jax.runs.training.startup import BackgroundImports, check_folder, new_run_files, restore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ddpg_jax.learner import Report
    from ddpg_jax.population import Programs
    from ddpg_jax.runs.config.run_config import Config
    from ddpg_jax.types import Agent, AgentState, PyTree


class Finished(NamedTuple):
    """A finished run: its summary, and the trained agent."""

    summary: dict[str, Any]
    agent: Agent
    agent_state: AgentState


def run(
    config: Config,
    folder: Path,
    *,
    resume: bool = False,
    on_chunk: Callable[[dict[str, Any]], None] = lambda row: None,
    say: Callable[[str], None] = output.say,
    watch: Callable[[Programs], Programs] = lambda programs: programs,
    builder: Callable[[Config, Callable[[], bool]], Built] | None = None,
    compiler: Callable[[Built, Config], Programs] | None = None,
) -> Finished:
    """Train as configured in ``folder``, which this process locks.

    Args:
        config: see `ddpg_jax.runs.config.run_config.make_config`.
        folder: receives ``config.json``, ``metrics.jsonl``, events, ``checkpoints/``, ``curve.png``
            and ``summary.json``.
        resume: continue from the newest checkpoint in ``folder``, or from the start without one.
        on_chunk: receives each line of ``metrics.jsonl`` as it is written.
        say: receives sentences for the user.
        watch: wraps the compiled programs, to observe them.
        builder: replaces `ddpg_jax.runs.programs.build.build`; a sweep reuses what it built.
        compiler: replaces `ddpg_jax.runs.programs.build.compile_programs`, likewise.

    Raises:
        RunError: the folder is in use, holds a run already or none to resume; memory or disk is too
            small; a value became NaN or infinite.
        Interrupted: SIGINT or SIGTERM; the state is saved.
    """
    started = time.perf_counter()
    with contextlib.ExitStack() as opened:
        received = opened.enter_context(signals.collect_signals())
        opened.enter_context(hosts.together())
        checkpoints_folder, folder = folder, opened.enter_context(hosts.own_folder(folder))
        opened.enter_context(locked_folder(folder))
        if hosts.is_first():
            check_folder(config, folder, resume)
        hosts.wait("the folder is this run's")
        stop, agree = hosts.agreeing(received)
        config = with_chosen_mesh(config, say, resume)
        if config.note:
            say(config.note)
        try:
            built = (builder or build)(config, lambda: bool(received))
        except (ValueError, TypeError, ImportError) as error:
            raise RunError(str(error)) from error
        if not resume:
            opened.enter_context(new_run_files(config, folder))
        tools = BackgroundImports(checkpoints_folder, config.keep)
        opened.callback(tools.close)
        compiled = (compiler or compile_programs)(built, config)
        memory.require_memory(compiled_memory.measured_parts(config, built, compiled))
        programs = watch(compiled)
        checkpoints = tools.result()
        hosts.wait("compiled")  # collective computations have no timeout
        _end_if(stop, "before the first step", folder)
        with contextlib.suppress(Stopped):  # by the signal checked below
            state, done, clock = _begin(
                config, folder, built, programs, checkpoints if resume else None, say
            )
        _end_if(stop, "before the first chunk", folder)
        write_json(folder / "config.json", config.flat())
        log = MetricsLog(folder)
        opened.callback(log.close)
        loop = _Loop(
            config,
            folder,
            programs,
            checkpoints,
            log,
            on_chunk,
            stop,
            agree,
            {"evaluation": 0.0, "checkpoint": 0.0},
        )
        if resume:
            loop.catch_up(state.agent, done)
        state = loop.run(state, done, clock)
        return _ended(loop, built.agent, state.agent, clock.total, started, say)


def _ended(
    loop: _Loop,
    agent: Agent,
    state: AgentState,
    train_seconds: float,
    started: float,
    say: Callable[[str], None],
) -> Finished:
    """Run the final evaluation, and write the files that a finished run has."""
    config, returns = loop.config, loop.final(state)
    seconds = {
        "compile": loop.programs.seconds,
        "train": train_seconds,
        **loop.seconds,
        "wall": time.perf_counter() - started,
    }
    found = make_summary(config, returns, seconds)
    write_json(loop.folder / "summary.json", found)
    state = state if mesh.parse_mesh(config.mesh).devices == 1 else layout.fetched_arrays(state)
    if not config.vary:
        run_pictures.draw_run_pictures(config, loop.folder, state, say)
    return Finished(found, agent, state)


def _end_if(stop: list[int], when: str, folder: Path) -> None:
    if stop:
        name = signal.Signals(stop[0]).name
        raise Interrupted(
            f"stopped by {name} {when}; continue with --resume --run-dir {folder}", stop[0]
        )


def _begin(
    config: Config,
    folder: Path,
    built: Built,
    programs: Programs,
    checkpoints: Any,
    say: Callable[[str], None],
) -> tuple[PyTree, int, Clock]:
    """Return state, chunks done and time: of the newest checkpoint, or after the warm-up."""
    restored = None if checkpoints is None else restore(config, checkpoints, built, folder, say)
    if restored is None:
        state = jax.block_until_ready(
            programs.start(member_keys(config), member_hyperparameters(config))
        )
        of_seeds = lambda steps: np.min(steps.reshape(config.seeds, -1), axis=1)  # of all shards
        first = jax.tree.map(of_seeds, layout.fetched(state.first_bad_step))
        _require_finite(config, first, {}, config.schedule.warm_up_steps, None)
        return state, 0, Clock()
    state, done, clock = restored
    if done > config.num_chunks:
        raise RunError(
            f"{folder} is already past total_timesteps={config.hyperparameters.total_timesteps}: "
            "raise it to continue."
        )
    if built.host is not None:
        built.host.begin(
            host_seed(evaluation_keys(config, HOST_RESET_STREAM, config.schedule.steps_after(done)))
        )
        say("Host environments were reset; all other state was restored.")
    return state, done, clock


class _Loop(NamedTuple):
    config: Config
    folder: Path
    programs: Programs
    checkpoints: Any
    log: MetricsLog
    on_chunk: Callable[[dict[str, Any]], None]
    stop: list[int]
    agree: Callable[[], None]
    """Share received signals among the processes of a run."""
    seconds: dict[str, float]
    """Seconds of evaluations, and of waiting for checkpoints."""

    def catch_up(self, agent_state: PyTree, done: int) -> None:
        """Report ``done`` chunks again, with an evaluation that an interruption left out."""
        rows = read_metrics(self.folder)
        missing = bool(rows) and rows[-1]["evaluation_return"] is None and self._is_evaluated(done)
        if hosts.of_first("an evaluation is missing", missing):  # it alone has all lines
            rows[-1] |= {"evaluation_return": self._evaluate(agent_state, done)}
            self.on_chunk(rows[-1])
        self.log.replace_all(rows)

    def run(self, state: PyTree, done: int, clock: Clock) -> PyTree:
        """Train chunks ``done`` + 1 to the last, each saved before anything that may fail."""
        saved, hyperparameters = (
            self._steps(done) if done else None,
            member_hyperparameters(self.config),
        )
        for chunks in range(done + 1, self.config.num_chunks + 1):
            begin = time.perf_counter()
            state, report = self.programs.chunk(state, hyperparameters)
            report = layout.fetched(report)
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
                    _end_if(self.stop, f"at {steps} steps and saved", self.folder)
            except (Exception, Interrupted) as error:
                alone = hosts.count() > 1 and not isinstance(error, Interrupted)
                if saved != steps and not alone:  # one of several processes alone cannot save
                    self._save(steps, state, record)
                self._written()
                raise
        self._written()
        return state

    def final(self, agent_state: PyTree) -> np.ndarray:
        """Return the returns of the final evaluation; everything is saved before."""

        def evaluate(*arguments: Any) -> np.ndarray:
            _end_if(self.stop, "with everything trained and saved", self.folder)
            with contextlib.suppress(Stopped):
                returns = layout.fetched(self.programs.evaluate(*arguments))
            _end_if(self.stop, "with everything trained and saved", self.folder)
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
            _require_finite(self.config, report.first_bad_step, report.finite, steps, saved)
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


def _require_finite(
    config: Config,
    first_bad_step: dict[str, Any],
    finite: dict[str, Any],
    steps: int,
    saved: int | None,
) -> None:
    """Refuse NaN and infinity; ``first_bad_step`` and ``finite`` as in a `Report`.

    Raises:
        RunError: names the value, its step, and the last checkpoint, at ``saved`` steps.
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
    raise RunError(
        f"{what} became NaN or infinite at step {steps}; {kept}. Lower the learning rates or "
        "check the environment."
    )
