"""Progress of a run: a live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task
from rich.table import Column
from rich.text import Text

from ddpg_jax.runs.console.output import TolerantStream
from ddpg_jax.runs.folder.metrics import mean_over_members, read_metrics

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from ddpg_jax.runs.config.run_config import Config

SHARE = 0.05
"""Share of the whole time above which evaluations or checkpoints are reported."""
FIELDS = ("steps", "mean", "left", "rates", "phase")
BAR = 10
"""Columns that the bar has at least."""
PARTS = 20
"""Where no terminal shows them, chunks are reported at evaluations, and half as often as this
without."""


class _Bar(BarColumn):
    def __init__(self) -> None:
        super().__init__(bar_width=None, table_column=Column(ratio=1, min_width=BAR))


class _Fields(ProgressColumn):
    """As much as fits beside the bar, nothing of it broken: rates are left out first, then the time
    since the run began, what is under way, the best member, and steps become a share.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        super().__init__(table_column=Column(no_wrap=True))

    def render(self, task: Task) -> Text:
        steps, mean, left, rates, phase = (task.fields[name] for name in FIELDS)
        told, texts = f"{phase} {duration(task.elapsed or 0)}", [steps, mean, left]
        one = mean.partition(" (")[0]
        share = f"{task.percentage:.0f}%" if steps else ""
        for shown in (
            [*texts, told, rates],
            [*texts, told],
            [*texts, phase],
            texts,
            [steps, one, left],
            [share, one, left],
        ):
            text = "  ".join(filter(None, shown))
            if BAR + 1 + len(text) <= self._console.width:
                break
        return Text(text)


def duration(seconds: float) -> str:
    """Return a duration as text: 42 s, 3:07 or 2:03:07."""
    whole = round(seconds)
    if whole < 100:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class Display:
    """Shows phases and lines of ``metrics.jsonl``; a context manager.

    The first line names the run. It waits for the first phase, and sentences that come before wait
    for it: of a run that is refused nothing is seen but the reason.
    """

    def __init__(self, config: Config, folder: Path) -> None:
        """Prepare a display of a run in ``folder``."""
        self._config = config
        self._folder = folder
        stream: Any = sys.stdout and TolerantStream(
            sys.stdout
        )  # training continues where nobody reads
        self._console = Console(file=stream, highlight=False, emoji=False, force_jupyter=False)
        self._lines = self._console.is_terminal
        columns = _Bar(), _Fields(self._console)
        self._progress = Progress(
            *columns, console=self._console, disable=not self._lines, expand=True, transient=True
        )
        self._total = config.trained_timesteps
        fields: Any = dict.fromkeys(FIELDS, "") | {"phase": "preparing"}
        self._task = self._progress.add_task("", total=self._total, **fields)
        self._episodes = self._broken = 0.0
        self._begin: tuple[float, int] | None = None
        self._evaluated: float | None = None
        self._best: float | None = None
        self._reported = 0
        self._waiting: list[str] | None = []
        """Sentences that wait for the first line."""

    def __enter__(self) -> Display:
        """Start the progress line."""
        self._progress.start()
        return self

    def phase(self, name: str) -> None:
        """Show what begins; before the first, the run's name."""
        self._print_first()
        self._progress.update(self._task, phase=name)

    def _print_first(self) -> None:
        from ddpg_jax.runs.folder import versions

        if self._waiting is None:
            return
        config, waiting, self._waiting = self._config, self._waiting, None
        kind = "members" if config.vary else "seeds"
        seeds = f", {config.seeds} {kind}" if config.seeds > 1 else ""
        self.say(
            f"{config.env}, preset {config.preset.name}{seeds}, on {versions.device_name()} -> "
            f"{self._folder}"
        )
        for text in filter(None, (versions.unseen_gpu(), *waiting)):
            self.say(text)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop the progress line; it stays where a run has begun."""
        self._progress.stop()

    def say(self, text: str) -> None:
        """Print a sentence above the progress line, wrapped at words on a terminal."""
        if self._waiting is None:
            self._console.print(text, markup=False, soft_wrap=not self._lines)
        else:
            self._waiting.append(text)

    def show(self, row: dict[str, Any]) -> None:
        """Report a chunk."""
        self._print_first()
        now, steps = time.perf_counter(), row["env_steps"]
        if self._begin is None:
            self._begin = (now, steps)
            self._progress.live.transient = False
            for earlier in read_metrics(self._folder):  # of a resumed run
                if earlier["env_steps"] < steps:
                    self._count_episodes(earlier)
        self._count_episodes(row)
        broken = f" ({self._broken:,.0f} cut off)" if self._broken else ""
        shown: Any = {
            "steps": f"{steps:,}/{self._total:,} steps",
            "mean": self._return(row),
            "left": self._left(now, steps),
            "rates": f"{_rates(row)}  {self._episodes:,.0f} training episodes{broken}",
        }
        self._progress.update(self._task, completed=steps, **shown)
        waited = steps - self._reported
        if not self._lines and (
            row["evaluation_return"] or PARTS * waited >= 2 * self._total or steps == self._total
        ):
            self.say("  ".join(filter(None, shown.values())))
            self._reported = steps

    def _count_episodes(self, row: dict[str, Any]) -> None:
        self._episodes += float(np.sum(row.get("episodes", 0)))
        self._broken += float(np.sum(row.get("broken_episodes", 0)))

    def finish(self, summary: dict[str, Any], drawable: bool = True) -> None:
        """Report the end of the run, and how to look at it where it is ``drawable``."""
        self._print_first()
        returns = np.array(summary["final_returns"], float)
        self._progress.stop()
        if len(returns) == 1:
            spread, count = summary["final_return_std"][0], self._config.final_episodes
            text = f"{returns[0]:.1f} +- {spread:.1f} over {count} episode{'s' * (count > 1)}"
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
        if count := sum(summary["collapsed"]):
            self.say(
                f"{count} of {len(returns)} collapsed after better evaluations, whose agents are "
                "kept: --checkpoint best."
            )
        self.say(
            f"{summary['wall_seconds']:.1f} s: compile {summary['compile_seconds']:.1f} s, "
            f"training {summary['train_seconds']:.1f} s{self._others(summary)}; "
            f"{summary['updates_per_second']:,.0f} updates/s"
        )
        if drawable:
            self.say(f"render it: ddpg-jax render {self._folder}")

    def _return(self, row: dict[str, Any]) -> str:
        """Return the newest evaluation as text; before the first, the return of training."""
        known = [one for one in row["evaluation_return"] or () if one is not None]
        if known:
            self._evaluated = mean_over_members(known)
            self._best = max(known) if self._config.vary else None
        if self._evaluated is None:
            value = mean_over_members(row["episode_return"])
            return "" if value is None else f"training return {value:.1f}"
        best = "" if self._best is None else f" (best {self._best:.1f})"
        return f"return {self._evaluated:.1f}{best}"

    def _others(self, summary: dict[str, Any]) -> str:
        """Return evaluations, checkpoints and the rest where they exceed `SHARE` of the whole."""
        known = {
            key: summary[f"{key}_seconds"]
            for key in ("compile", "train", "evaluation", "checkpoint")
        }
        seconds = {
            "evaluations": known["evaluation"],
            "checkpoints": known["checkpoint"],
            "other": summary["wall_seconds"] - sum(known.values()),
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
            return ""
        left = (now - begin) / (steps - first) * (self._total - steps)
        return f"{duration(left)} left"


def _rates(row: dict[str, Any]) -> str:
    """Return both rates as text, and one where they are equal."""
    steps, updates = row["env_steps_per_second"], row["updates_per_second"]
    if steps == updates:
        return f"{steps:,.0f} env-steps and updates/s"
    return f"{steps:,.0f} env-steps/s  {updates:,.0f} updates/s"
