"""A training run in a folder: compile, train in chunks, save, report, resume."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np

from ddpg_jax.checks import BrokenEnvironment
from ddpg_jax.host import NotFinite, Stopped
from ddpg_jax.runs.checkpoints.best import Best
from ddpg_jax.runs.config.stored import registered
from ddpg_jax.runs.console import output, signals
from ddpg_jax.runs.distributed import arrays, processes
from ddpg_jax.runs.folder.files import ENVIRONMENT, write_json
from ddpg_jax.runs.folder.lock import locked_folder
from ddpg_jax.runs.folder.metrics import Clock, read_curve
from ddpg_jax.runs.folder.metrics_log import MetricsLog
from ddpg_jax.runs.options.validation import Diverged, RunError
from ddpg_jax.runs.programs import compiled_memory, memory
from ddpg_jax.runs.programs.build import Built, build, compile_programs, compile_warm_up
from ddpg_jax.runs.programs.evaluation import (
    HOST_RESET_STREAM,
    evaluation_keys,
    host_seed,
)
from ddpg_jax.runs.programs.setup import member_hyperparameters, member_keys, with_chosen_mesh
from ddpg_jax.runs.results import run_pictures
from ddpg_jax.runs.results.statistics import have_collapsed, make_summary
from ddpg_jax.runs.training import offline, starting_point
from ddpg_jax.runs.training.chunks import (
    TIMED,
    ChunkLoop,
    Trained,
    raise_if_stopped,
    require_finite,
)
from ddpg_jax.runs.training.phases import Phases
from ddpg_jax.runs.training.reports import Caller, on_one_device, watched
from ddpg_jax.runs.training.startup import BackgroundImports, check_folder, new_run_files, restore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from ddpg_jax.population import Programs
    from ddpg_jax.runs.callbacks import Callback
    from ddpg_jax.runs.config.run_config import Config
    from ddpg_jax.types import Agent, AgentState, PyTree


class Finished(NamedTuple):
    """A finished run: its summary, the trained agent, and its configuration."""

    summary: dict[str, Any]
    agent: Agent
    agent_state: AgentState
    config: Config
    """With what was chosen at its start."""
    drawable: bool
    """Whether its environment can be drawn."""


def run(
    config: Config,
    folder: Path,
    *,
    resume: bool = False,
    on_chunk: Callable[[dict[str, Any]], None] = lambda row: None,
    on_phase: Callable[[str], None] = lambda name: None,
    say: Callable[[str], None] = output.say,
    watch: Callable[[Programs], Programs] = lambda programs: programs,
    builder: Callable[[Config, Callable[[], bool]], Built] | None = None,
    compiler: Callable[[Built, Config], Programs] | None = None,
    transitions: Any = None,
    callbacks: Sequence[Callback] = (),
) -> Finished:
    """Train as configured in ``folder``, which this process locks.

    Args:
        config: see `ddpg_jax.runs.config.run_config.make_config`.
        folder: receives ``config.json``, ``metrics.jsonl``, events, ``checkpoints/``, ``curve.png``
            and ``summary.json``.
        resume: continue from the newest checkpoint in ``folder``, or from the start without one.
        on_chunk: receives each line of ``metrics.jsonl`` as it is written.
        on_phase: receives what begins: compiling, warming up, restoring, training, saving or
            evaluating.
        say: receives sentences for the user.
        watch: wraps the compiled programs, to observe them.
        builder: replaces `ddpg_jax.runs.programs.build.build`; a sweep reuses what it built.
        compiler: replaces `ddpg_jax.runs.programs.build.compile_programs`, likewise.
        transitions: arrays, as `ddpg_jax.runs.training.offline.read` takes them, where
            ``config.offline`` names no file.
        callbacks: called after each chunk.

    Raises:
        RunError: the folder is in use, holds a run already or none to resume; memory or disk is too
            small; a value became NaN or infinite.
        Interrupted: SIGINT or SIGTERM; the state is saved.
    """
    started = time.perf_counter()
    with contextlib.ExitStack() as opened:
        phases = Phases(on_phase, say)
        received = opened.enter_context(signals.collect_signals(phases.stopping))
        opened.enter_context(processes.end_together())
        run_dir, folder = folder, opened.enter_context(processes.output_folder(folder))
        opened.enter_context(locked_folder(folder))
        processes.require_shared(run_dir)
        if processes.is_first():
            check_folder(config, folder, resume)
        processes.barrier("the folder is this run's")
        stop, agree = processes.share_signals(received)
        config, found = offline.counted(with_chosen_mesh(config, say, resume), transitions, resume)
        built = _built(builder or build, config, received, run_dir if resume else None)
        opened.push(built.opened)  # closes host environments
        for note in filter(None, (config.note, built.note)):
            say(note)
        if not resume:
            opened.enter_context(new_run_files(config, folder, say))
        tools = opened.enter_context(contextlib.closing(BackgroundImports(run_dir, config.keep)))
        phases.enter("compiling")
        programs = watch(_compiled(compiler or compile_programs, built, config))
        checkpoints = opened.enter_context(_named_if_lost(tools.result(), run_dir))
        processes.barrier("compiled")  # collective computations have no timeout
        raise_if_stopped(stop, "before the first step", run_dir)
        with contextlib.suppress(Stopped):  # by the signal checked below
            kept = checkpoints if resume else None
            state, done, clock = _begin(config, folder, built, programs, kept, say, phases, found)
        raise_if_stopped(stop, "before the first chunk", run_dir)
        _write_configuration(config, built, folder)
        log = opened.enter_context(contextlib.closing(MetricsLog(folder)))
        report = watched(config, folder, on_chunk, say)
        of_run = (config, run_dir, folder, programs, checkpoints, log, report)
        best = opened.enter_context(
            contextlib.closing(Best(config, run_dir, built.state.agent, say))
        )
        call = opened.enter_context(Caller(config, folder, built, callbacks, phases, say))
        chunks = ChunkLoop(
            *of_run, stop, agree, dict.fromkeys(TIMED, 0.0), phases, built, best, call
        )
        if resume:
            chunks.catch_up(state.agent, done)
        return _ended(chunks, chunks.run(state, done, clock), clock.total, started, say)


@contextlib.contextmanager
def _named_if_lost(checkpoints: Any, run_dir: Path) -> Iterator[Any]:
    """Where an environment breaks, name the newest checkpoint.

    Raises:
        RunError: as the environment's error; `Diverged` where that follows from what is not finite.
    """
    try:
        yield checkpoints
    except BrokenEnvironment as error:
        checkpoints.wait()
        steps = checkpoints.steps()
        kept = (
            f"the checkpoint at {steps[-1]} steps is kept, continue from it with --resume "
            f"--run-dir {run_dir}."
            if steps
            else "no checkpoint had been written yet."
        )
        kind = Diverged if isinstance(error, NotFinite) else RunError
        raise kind(f"{str(error).rstrip('.')}; {kept}") from error


def _write_configuration(config: Config, built: Built, folder: Path) -> None:
    write_json(folder / "config.json", config.flat())
    if built.described:
        write_json(folder / ENVIRONMENT, built.described)


def _built(
    builder: Callable[[Config, Callable[[], bool]], Built],
    config: Config,
    received: list[int],
    resumed: Path | None,
) -> Built:
    try:
        with registered(resumed):
            return builder(config, lambda: bool(received))
    except (ValueError, TypeError, ImportError) as error:
        raise RunError(str(error)) from error


def _compiled(
    compiler: Callable[[Built, Config], Programs], built: Built, config: Config
) -> Programs:
    """Compile, and require the memory that the programs need."""
    programs = compiler(built, config)
    memory.require_memory(compiled_memory.measured_parts(config, built, programs))
    return programs


def _ended(
    loop: ChunkLoop,
    trained: Trained,
    train_seconds: float,
    started: float,
    say: Callable[[str], None],
) -> Finished:
    """Run the final evaluation, and write the files that a finished run has."""
    config, state = loop.config, trained.state.agent
    if trained.stopped:
        say(f"stopped at {trained.env_steps:,} steps: {trained.stopped}.")
    returns, of_best = loop.final(state, trained.env_steps)
    seconds = {
        "compile": loop.programs.seconds,
        "train": train_seconds,
        **loop.seconds,
        "wall": time.perf_counter() - started,
    }
    found = make_summary(config, returns, seconds, trained.env_steps) | loop.best.summary(of_best)
    collapsed = have_collapsed(read_curve(loop.folder)[1])
    found["collapsed"] = np.resize(collapsed, config.seeds).tolist()  # also of no evaluation
    found |= {"stopped": trained.stopped} if trained.stopped else {}
    write_json(loop.folder / "summary.json", found)
    loop.call.end(found)
    state = on_one_device(config, state)
    if not config.vary:
        run_pictures.draw_run_pictures(config, loop.folder, state, say)
    return Finished(found, loop.built.agent, state, config, loop.built.drawable)


def _begin(
    config: Config,
    folder: Path,
    built: Built,
    programs: Programs,
    checkpoints: Any,
    say: Callable[[str], None],
    phases: Phases,
    transitions: Any,
) -> tuple[PyTree, int, Clock]:
    """Return state, steps done and time: of the newest checkpoint, or after the warm-up."""
    if checkpoints is not None:
        phases.enter("restoring")
    restored = (
        None if checkpoints is None else restore(config, checkpoints, built, programs, folder, say)
    )
    if restored is None:
        phases.enter("warming up")
        hyperparameters = member_hyperparameters(config)
        state = programs.start(member_keys(config), hyperparameters)
        if config.has_start:
            point = starting_point.read(config, built, transitions)
            state = starting_point.put(point, state, config, built)
            state = compile_warm_up(config, built.host)(state, hyperparameters)
        state = jax.block_until_ready(state)
        of_seeds = lambda steps: np.min(steps.reshape(config.seeds, -1), axis=1)  # of all shards
        first = jax.tree.map(of_seeds, arrays.to_host(state.first_bad_step))
        require_finite(config, first, {}, config.schedule.warm_up_steps, None)
        return state, config.schedule.warm_up_steps, Clock()
    state, done, clock = restored
    if built.host is not None:
        built.host.begin(host_seed(evaluation_keys(config, HOST_RESET_STREAM, done)))
        say("Host environments were reset; all other state was restored.")
    return state, done, clock
