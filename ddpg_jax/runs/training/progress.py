"""Progress of a run: a live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Column

from ddpg_jax.runs.console.output import TolerantStream
from ddpg_jax.runs.folder.metrics import mean_over_members

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from ddpg_jax.runs.config.run_config import Config

SHARE = 0.05
"""Share of the whole time above which evaluations or checkpoints are reported."""
WIDE = 110
"""Width in columns from which a terminal shows rates beside the time left."""


def _column(name: str) -> TextColumn:
    return TextColumn(f"{{task.fields[{name}]}}", table_column=Column(no_wrap=True), markup=False)


class Display:
    """Shows lines of ``metrics.jsonl``; a context manager."""

    def __init__(self, config: Config, folder: Path) -> None:
        """Prepare a display of a run in ``folder``."""
        self._config = config
        self._folder = folder
        stream: Any = sys.stdout and TolerantStream(
            sys.stdout
        )  # training continues where nobody reads
        self._console = Console(file=stream, highlight=False, emoji=False, force_jupyter=False)
        self._lines = self._console.is_terminal
        columns = [BarColumn(bar_width=None), *map(_column, ("steps", "mean", "left"))]
        if self._console.width >= WIDE:
            columns.append(_column("rates"))
        self._progress = Progress(
            *columns, console=self._console, disable=not self._lines, expand=True
        )
        self._total = config.schedule.steps_after(config.num_chunks)
        fields: Any = {"steps": "compiling", "mean": "", "left": "", "rates": ""}
        self._task = self._progress.add_task("", total=self._total, **fields)
        self._episodes = self._broken = 0.0
        self._begin: tuple[float, int] | None = None

    def __enter__(self) -> Display:
        """Print the run's name and start the progress line."""
        seeds = (
            f", {self._config.seeds} {'members' if self._config.vary else 'seeds'}"
            if self._config.seeds > 1
            else ""
        )
        self.say(f"{self._config.env}, preset {self._config.preset.name}{seeds} -> {self._folder}")
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop the progress line."""
        self._progress.stop()

    def say(self, text: str) -> None:
        """Print a sentence above the progress line, wrapped at words on a terminal."""
        self._console.print(text, markup=False, soft_wrap=not self._lines)

    def show(self, row: dict[str, Any]) -> None:
        """Report a chunk."""
        now, steps = time.perf_counter(), row["env_steps"]
        if self._begin is None:
            self._begin = (now, steps)
        self._episodes += float(np.sum(row["episodes"]))
        self._broken += float(np.sum(row["broken_episodes"]))
        broken = f" ({self._broken:,.0f} cut off)" if self._broken else ""
        shown: Any = {
            "steps": f"{steps:,}/{self._total:,} steps",
            "mean": f"return {self._return(row)}",
            "left": self._left(now, steps),
            "rates": f"{row['env_steps_per_second']:,.0f} env-steps/s  "
            f"{row['updates_per_second']:,.0f} updates/s  {self._episodes:,.0f} episodes{broken}",
        }
        self._progress.update(self._task, completed=steps, **shown)
        if not self._lines:
            self.say("  ".join(shown.values()))

    def finish(self, summary: dict[str, Any]) -> None:
        """Report the end of the run."""
        returns = np.array(summary["final_returns"], float)
        self._progress.stop()
        if len(returns) == 1:
            text = f"{returns[0]:.1f} +- {summary['final_return_std'][0]:.1f} over 100 episodes"
        elif self._config.vary:
            text = (
                f"best {np.nanmax(returns):.1f}, mean {np.nanmean(returns):.1f} over "
                f"{len(returns)} members"
            )
        else:
            low, high = summary["interquartile_mean_interval"]
            text = (
                f"interquartile mean {summary['interquartile_mean']:.1f} [{low:.1f}, {high:.1f}] "
                f"over {len(returns)} seeds, worst {returns.min():.1f}, best {returns.max():.1f}"
            )
        self.say(f"final return: {text}")
        self.say(
            f"{summary['wall_seconds']:.1f} s: compile {summary['compile_seconds']:.1f} s, "
            f"training {summary['train_seconds']:.1f} s{self._others(summary)}; "
            f"{summary['updates_per_second']:,.0f} updates/s"
        )
        self.say(f"render it: ddpg-jax render {self._folder}")

    def _return(self, row: dict[str, Any]) -> str:
        value = mean_over_members(row["evaluation_return"] or row["episode_return"])
        known = [one for one in row["evaluation_return"] or () if one is not None]
        best = max(known, default=None) if self._config.vary else None
        return (
            "-"
            if value is None
            else f"{value:.1f}" + ("" if best is None else f" (best {best:.1f})")
        )

    def _others(self, summary: dict[str, Any]) -> str:
        """Return the time of evaluations and checkpoints where it exceeds `SHARE` of the whole."""
        seconds = {
            name: summary[f"{key}_seconds"]
            for name, key in (("evaluations", "evaluation"), ("checkpoints", "checkpoint"))
        }
        return "".join(
            f", {name} {value:.1f} s"
            for name, value in seconds.items()
            if value > SHARE * summary["wall_seconds"]
        )

    def _left(self, now: float, steps: int) -> str:
        assert self._begin is not None
        begin, first = self._begin
        if steps == first:
            return "time left -"
        left = (now - begin) / (steps - first) * (self._total - steps)
        return f"{left:.0f} s left"
