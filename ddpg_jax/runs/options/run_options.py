"""The options of a run, of its environment and of the command that starts it.

Hyper-parameters are in `ddpg_jax.runs.options.hyperparameters`. Imports no JAX, so that the command
line answers at once.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ddpg_jax.runs.options.field import option
from ddpg_jax.runs.options.validation import INT32_MAX, MAX_STEPS

ANY_DEVICE = "any"
"""Instead of a kind of device, where the preset was given."""
COUNT = 1_000_000


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """The options of a run besides its hyper-parameters; all of them are in ``config.json``."""

    env: str = option("pendulum", "The environment; `ddpg-jax envs` lists the names.", "run")
    preset: Any = option(
        None,
        "Algorithm and hyper-parameters; `ddpg-jax presets` lists them.",
        "run",
        kind=str,
        common=True,
        unset="chosen for the device and ENV",
    )
    device_kind: str | None = option(
        None,
        "Kind of device for which the default preset is chosen.",
        "devices",
        choices=("cpu", "gpu", "tpu", ANY_DEVICE),
        unset="what JAX computes on",
    )
    env_options: dict[str, Any] = option(
        {}, "Options of the environment, see `ddpg_jax.envs.make`.", "environment"
    )
    seed: int = option(
        0,
        "Seed of the first member; member i uses seed + i.",
        "run",
        low=0,
        high=INT32_MAX,
        common=True,
    )
    seeds: int = option(
        1, "Independent members, trained in one program.", "run", low=1, high=COUNT, common=True
    )
    start_from: str | None = option(
        None,
        "A run whose policy this one begins with; options that you leave out are that run's. The "
        "warm-up acts with its policy.",
        "start",
        metavar="RUN",
        unset="none",
    )
    start_with: str = option(
        "networks",
        "What it takes over: networks and normaliser; or the agent, optimisers too; or its replay "
        "as well.",
        "start",
        choices=("networks", "agent", "replay"),
    )
    start_checkpoint: str = option(
        "last",
        "Which of that run's checkpoints: best, last, or the steps of one that is kept.",
        "start",
    )
    start_member: int | None = option(
        None,
        "Which of that run's members all begin with.",
        "start",
        low=0,
        high=INT32_MAX,
        unset="member by member, or its only one",
    )
    offline: str | None = option(
        None,
        "Transitions that were collected before: an .npz file of arrays, minari/DATASET, or a run "
        "whose replay is read.",
        "start",
        unset="none",
    )
    offline_share: float = option(
        0.0,
        "Share of each batch that is sampled from --offline; 0 adds them to the replay before "
        "training.",
        "start",
        low=0,
        high=1,
    )
    offline_rows: int | None = option(
        None,
        "Transitions of --offline that are used, the newest ones.",
        "start",
        "transitions",
        low=1,
        high=INT32_MAX,
        unset="all",
    )
    steps_per_chunk: int | None = option(
        None,
        "Environment steps between two reports.",
        "evaluation and checkpoints",
        "steps",
        unset="1/200 of the run; 1/20 where members evolve, and of pendulum and lane",
    )
    evaluate_every: int | None = option(
        None,
        "Environment steps from one evaluation to the next, at the end of a chunk; 0 evaluates at "
        "the end only (--final-episodes).",
        "evaluation and checkpoints",
        "steps",
        low=0,
        high=MAX_STEPS,
        resume="free",
        unset="1/20 of the run",
    )
    evaluation_episodes: int = option(
        20,
        "Deterministic episodes of an evaluation.",
        "evaluation and checkpoints",
        "episodes",
        low=1,
        high=COUNT,
        resume="free",
    )
    final_episodes: int = option(
        100,
        "Deterministic episodes after training, not played before, of which a run reports the mean "
        "as its final return.",
        "evaluation and checkpoints",
        "episodes",
        low=1,
        high=COUNT,
        resume="free",
    )
    shared_environment: bool = option(
        False,
        "On the host: evaluate in the environments of training, so that no others are made; running"
        " episodes end there as by a time limit.",
        "evaluation and checkpoints",
    )
    checkpoint_every: int | None = option(
        None,
        "Environment steps from one checkpoint to the next, at the end of a chunk; 0 saves at the "
        "end only.",
        "evaluation and checkpoints",
        "steps",
        low=0,
        high=MAX_STEPS,
        resume="free",
        unset="1/4 of the run, and every 5 minutes",
    )
    keep: int = option(
        2,
        "Checkpoints kept, the newest ones.",
        "evaluation and checkpoints",
        low=1,
        high=COUNT,
        resume="free",
    )
    devices: int | None = option(
        None,
        "Number of devices to train on, over all processes.",
        "devices",
        resume="placement",
        unset="the most that divide members, or environments and batch",
    )
    mesh: str = option(
        "",
        "Devices on each axis of the mesh, as members=4,data=2.",
        "devices",
        resume="placement",
        unset="members first",
    )


@dataclass(frozen=True, kw_only=True)
class EnvironmentOptions:
    """Options that every environment may have; they are part of ``env_options``."""

    backend: str | None = option(
        None,
        "Brax's physics: generalized, positional, spring or mjx.",
        "environment",
        unset="the environment's",
    )
    time_limit: int | None = option(
        None,
        "Steps after which an episode is truncated.",
        "environment",
        "steps",
        low=1,
        high=100_000_000,
        unset="the environment's",
    )
    action_repeat: int | None = option(
        None,
        "Steps that one action lasts, on the device.",
        "environment",
        "steps",
        low=1,
        high=1_000,
        unset="1",
    )
    pixels: bool | None = option(
        None,
        "Observe images of the environment instead of its observation.",
        "pixels",
        common=True,
        unset="no",
    )
    image_size: int | None = option(
        None, "Width and height of an image.", "pixels", "pixels", low=1, high=4_096, unset="64"
    )
    frame_stack: int | None = option(
        None, "Images observed at once.", "pixels", low=1, high=1_000, unset="3"
    )
    frames_per_action: int | None = option(
        None, "New images in each step.", "pixels", low=1, high=1_000, unset="1"
    )
    channels_first: bool | None = option(
        None,
        "The environment's own images are [channels, height, width]; they are turned.",
        "pixels",
        unset="no",
    )
    grayscale: bool | None = option(
        None, "Brightness alone instead of colours.", "pixels", unset="no"
    )


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
