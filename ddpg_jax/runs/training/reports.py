"""What is told of each chunk: to who watches, and to the callbacks of a run."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import numpy as np

from ddpg_jax.runs.callbacks import Chunk, CsvFile
from ddpg_jax.runs.config import mesh
from ddpg_jax.runs.distributed import arrays, processes
from ddpg_jax.runs.folder.metrics import read_metrics
from ddpg_jax.runs.results import run_pictures
from ddpg_jax.runs.results.statistics import COLLAPSE_EVALUATIONS, have_collapsed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from ddpg_jax.runs.callbacks import Callback
    from ddpg_jax.runs.config.run_config import Config
    from ddpg_jax.runs.programs.build import Built
    from ddpg_jax.runs.training.phases import Phases
    from ddpg_jax.types import AgentState, PyTree


def watched(
    config: Config,
    folder: Path,
    on_chunk: Callable[[dict[str, Any]], None],
    say: Callable[[str], None],
) -> Callable[[dict[str, Any]], None]:
    """Return ``on_chunk`` that says once what a user should know of the run in ``folder``: episodes
    shorter than planned for, where frames are stored, and returns that have collapsed.
    """
    planned, told = getattr(config.hyperparameters, "episode_steps", 0), False
    collapsed, known = np.zeros(config.seeds, bool), list[dict[str, Any]]()

    def report(row: dict[str, Any]) -> None:
        nonlocal told, collapsed
        steps = min((x for x in row["episode_length"] if x), default=planned)
        if steps < planned and not told:
            told = True
            lost = 1 - (1 + 1 / planned) / (1 + 1 / steps)
            say(
                f"episodes last {steps:.1f} steps, fewer than episode_steps={planned}, for which "
                f"the replay's frames are counted: once it is full, up to {lost:.0%} of its "
                "transitions, the oldest, are given out as newer ones. Give --episode-steps "
                f"{max(1, int(steps))} to a new run."
            )
        on_chunk(row)
        if row["evaluation_return"] is not None:
            known.extend([row] if known else _evaluated(config, folder, row))
            returns = np.array([each["evaluation_return"] for each in known], float)
            now = have_collapsed(returns)
            for member in np.flatnonzero(now & ~collapsed).tolist():
                best = known[np.nanargmax(returns[:, member])]["env_steps"]
                say(_collapse(config, returns[:, member], best, member))
            collapsed = now

    return report


def _evaluated(config: Config, folder: Path, row: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a line and those with an evaluation before it, also of the run that was resumed."""
    whole = lambda one: len(one["evaluation_return"] or ()) == config.seeds
    before = [one for one in read_metrics(folder) if one["env_steps"] < row["env_steps"]]
    return [*filter(whole, before), row]


def _collapse(config: Config, returns: np.ndarray, steps: int, member: int) -> str:
    who = f" of seed {config.seed + member}" if config.seeds > 1 and not config.vary else ""
    who = f" of member {member}" if config.vary else who
    newest = ", ".join(f"{value:.1f}" for value in returns[-COLLAPSE_EVALUATIONS:])
    return (
        f"collapse: the return{who} was {np.nanmax(returns):.1f} at {steps:,} steps, and was "
        f"{newest} in the last {COLLAPSE_EVALUATIONS} evaluations. best/ keeps the agent of the "
        "best one: --checkpoint best."
    )


class Caller(contextlib.ExitStack):
    """Calls the callbacks of a run, which it enters where they are context managers."""

    def __init__(
        self,
        config: Config,
        folder: Path,
        built: Built,
        callbacks: Sequence[Callback],
        phases: Phases,
        say: Callable[[str], None],
    ) -> None:
        """Prepare; nothing is entered before the object itself is."""
        super().__init__()
        self._callbacks, self._config = callbacks, config
        self._known: dict[str, Any] = {"folder": folder, "config": config, "agent": built.agent}
        self._write_film = run_pictures.make_film_writer(
            config, folder, built.agent, phases.enter, say
        )

    def __enter__(self) -> Caller:
        """Enter the callbacks."""
        for callback in self._callbacks:
            if isinstance(callback, contextlib.AbstractContextManager):
                self.enter_context(callback)
        return self

    def __call__(self, row: dict[str, Any], state: PyTree) -> str:
        """Call all of them with a chunk; returns why the run ends, or nothing."""
        if not self._callbacks:
            return ""
        known, steps = self._known, row["env_steps"]
        rows = lambda: read_metrics(known["folder"])
        chunk = Chunk(
            row=row,
            train_state=state,
            earlier=lambda: [one for one in rows() if one["env_steps"] < steps],
            film=lambda path: self._film(path, state.agent),
            is_first=processes.is_first(),
            **known,
        )
        reasons = [callback(chunk) for callback in self._callbacks]
        reason = next(filter(None, reasons), False)
        if not processes.from_first(bool(reason)):
            return ""
        return reason if isinstance(reason, str) else "a callback asked for it"

    def _film(self, path: Path, state: AgentState) -> None:
        whole = on_one_device(self._config, state)  # from all processes
        if processes.is_first():
            self._write_film(whole, path)

    def end(self, summary: dict[str, Any]) -> None:
        """Tell the summary to all that want it; of a resumed run that was at its end no chunk was
        written as CSV.
        """
        folder = self._known["folder"]
        for callback in self._callbacks:
            getattr(callback, "end", lambda summary: None)(summary)
            if isinstance(callback, CsvFile):
                callback.replace_all(folder, read_metrics(folder))


def on_one_device(config: Config, state: AgentState) -> AgentState:
    """Return the agent's state on the default device, also of a run on several."""
    return state if mesh.parse_mesh(config.mesh).devices == 1 else arrays.to_default_device(state)
