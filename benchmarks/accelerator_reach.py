"""Seconds until a return is reached with the large-batch recipe, on one device: parts of
`benchmarks/accelerator.py`.
"""

import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import click
import numpy as np

from ddpg_jax.runs.config.run_config import Config, make_config
from ddpg_jax.runs.programs import build, evaluation, setup

PRESET = "fast-td3"


class Mark(NamedTuple):
    """A return, and the seconds in which somebody reached it."""

    value: float
    seconds: float
    by: str


class Task(NamedTuple):
    """Where to learn, and what was reached there."""

    env: str
    options: dict[str, Any]
    marks: tuple[Mark, ...]


SWEEP = (
    "PPO, the fastest of Brax's published sweep of 1,440 runs, with compilation; Brax v1, "
    "device not stated"
)
REPPO, SAC = (
    "REPPO, its published curves, +- 63 s, GPU not stated",
    "SAC of Brax in REPPO's published curves, +- 63 s",
)
BRAX = {"backend": "positional"}  # as in its notebooks
TASKS = {
    task.env: task
    for task in (
        Task(
            "brax/ant",
            BRAX,
            (
                Mark(3_000.0, 40.0, SWEEP),
                Mark(5_000.0, 65.0, SWEEP),
                Mark(6_000.0, 88.0, SWEEP),
                Mark(8_000.0, 411.0, SWEEP),
            ),
        ),
        Task(
            "brax/halfcheetah",
            BRAX,
            (
                Mark(2_000.0, 30.0, SWEEP),
                Mark(4_000.0, 56.0, SWEEP),
                Mark(6_000.0, 184.0, SWEEP),
                Mark(8_000.0, 698.0, SWEEP),
            ),
        ),
        Task("playground/CheetahRun", {}, (Mark(820.0, 253.0, SAC), Mark(840.0, 126.0, REPPO))),
    )
}
TOY = {
    "num_envs": 4,
    "learning_starts": 8,
    "batch_size": 8,
    "replay_capacity": 64,
    "hidden": (8,),
    "critic_hidden": (8,),
}
TOY |= {"total_timesteps": 64, "steps_per_chunk": 16, "evaluation_episodes": 2}
REAL = {"steps_per_chunk": 2**19, "evaluation_episodes": 128}
"""512 vector steps between two evaluations."""


def config_of(task: Task, toy: bool, **given: Any) -> Config:
    """The recipe on the task."""
    options = task.options | ({"time_limit": 5} if toy else {})
    return make_config(task.env, PRESET, env_options=options, **(TOY if toy else REAL) | given)


def measure(
    config: Config, marks: tuple[Mark, ...], minutes: float, keep: Callable[[dict[str, Any]], None]
) -> None:
    """Train until the highest mark is reached, or the run or the minutes are over; ``keep`` is told
    what is known so far.
    """
    began = time.monotonic()
    built = build.build(config)
    programs = build.compile_programs(built, config)
    found: dict[str, Any] = {
        "config": config.flat(),
        "compile_seconds": programs.seconds,
        "curve": [],
    }
    highest = max(mark.value for mark in marks)
    for row in _curve(config, programs, began):
        found["curve"].append(row)
        found["reached"] = [_reached(mark, found["curve"]) for mark in marks]
        keep(found)
        click.echo(
            "{env_steps:,} steps: return {return:.1f} after {seconds:.1f} s, training "
            "{train_seconds:.1f} s".format(**row)
        )
        if row["return"] >= highest or row["seconds"] > 60 * minutes:
            return


def _curve(config: Config, programs: Any, began: float) -> Iterator[dict[str, Any]]:
    """The mean return of deterministic episodes after each chunk; seconds are since ``began``, and
    of training alone.
    """
    begin = time.monotonic()
    state = programs.start(setup.member_keys(config), {})
    np.asarray(state.steps)
    train = time.monotonic() - begin
    for chunk in range(1, config.schedule.chunks(config.hyperparameters.total_timesteps) + 1):
        begin = time.monotonic()
        state, _ = programs.chunk(state, {})
        steps = config.schedule.steps_after(chunk)
        np.asarray(state.steps)
        train += time.monotonic() - begin
        keys = evaluation.evaluation_keys(config, evaluation.TRAINING_STREAM, steps)
        returns = np.asarray(programs.evaluate(state.agent, keys, {}), np.float64)
        seconds = time.monotonic() - began
        about = {
            "env_steps": steps,
            "seconds": seconds,
            "train_seconds": train,
            "env_steps_per_second": steps / train,
        }
        yield {**about, "return": float(returns.mean()), "return_std": float(returns.std())}


def _reached(mark: Mark, curve: list[dict[str, Any]]) -> dict[str, Any]:
    """When the curve first was at the mark, compilation and evaluations included, beside the
    published time.
    """
    row = next((row for row in curve if row["return"] >= mark.value), None)
    when = (
        {}
        if row is None
        else {
            "seconds": row["seconds"],
            "train_seconds": row["train_seconds"],
            "env_steps": row["env_steps"],
        }
    )
    return {
        "return": mark.value,
        "published_seconds": mark.seconds,
        "published": mark.by,
        "reached": row is not None,
        **when,
    }
