"""The options of the command that starts a run."""

from dataclasses import dataclass
from pathlib import Path

from ddpg_jax.runs.options.field import option
from ddpg_jax.runs.options.run_options import COUNT
from ddpg_jax.runs.options.validation import INT32_MAX


@dataclass(frozen=True, kw_only=True)
class LaunchOptions:
    """How `ddpg-jax train` starts a run; none of them changes what is trained."""

    run_dir: Path | None = option(
        None, "Folder of the run.", "run", common=True, unset="a new folder under runs/"
    )
    resume: bool = option(
        False,
        "Resume the run in --run-dir; options that you leave out keep the run's values.",
        "run",
        common=True,
    )
    dry_run: bool = option(
        False, "Print what would run and its memory, and stop.", "run", common=True
    )
    profile: bool = option(
        False,
        "Write a trace of a few chunks into RUN-DIR/profile, and print each part's share.",
        "run",
    )
    env_option: tuple[str, ...] = option(
        (),
        "An option of ENV's own, as curvature=0.01; may be repeated.",
        "environment",
        metavar="NAME=VALUE",
    )
    coordinator: str | None = option(
        None,
        "HOST:PORT of process 0, where several processes train together.",
        "devices",
        unset="the cluster's",
    )
    num_processes: int | None = option(
        None,
        "Processes that train together.",
        "devices",
        low=1,
        high=COUNT,
        unset="the cluster's, else 1",
    )
    process_id: int | None = option(
        None,
        "Number of this process, from 0.",
        "devices",
        low=0,
        high=INT32_MAX,
        unset="the cluster's",
    )
