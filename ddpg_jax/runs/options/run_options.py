"""The options of a run and of its environment.

Hyper-parameters are in `ddpg_jax.runs.options.hyperparameters`. Imports no JAX, so that the command
line answers at once.
"""

from dataclasses import dataclass
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
    stop_at: float | None = option(
        None,
        "Stop at an evaluation whose mean return over all members reaches this.",
        "callbacks",
        metavar="RETURN",
        resume="free",
        unset="never",
    )
    film_every: int | None = option(
        None,
        "Environment steps from one film of the first member to the next, films/STEPS.gif.",
        "callbacks",
        "steps",
        low=1,
        high=MAX_STEPS,
        resume="free",
        unset="none",
    )
    csv: bool = option(
        False,
        "Write metrics.csv, with the lines of metrics.jsonl.",
        "callbacks",
        resume="free",
    )
    wandb: str | None = option(
        None,
        "Log to this project of Weights & Biases (extra wandb).",
        "callbacks",
        metavar="PROJECT",
        resume="free",
        unset="none",
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


CALLBACKS = ("stop_at", "film_every", "csv", "wandb")
"""Those of `ddpg_jax.runs.callbacks`."""


@dataclass(frozen=True, kw_only=True)
class EnvironmentOptions:
    """Options that every environment may have; they are part of ``env_options``."""

    impl: str | None = option(
        None,
        "MuJoCo Playground's physics: jax, or warp on NVIDIA GPUs, with which the same seed is not "
        "the same run bit for bit.",
        "environment",
        unset="jax",
    )
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
