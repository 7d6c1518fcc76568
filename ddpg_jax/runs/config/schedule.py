"""Warm-up, rounds and chunks of a run, from its hyper-parameters."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ddpg_jax.runs.options.hyperparameters import Hyperparameters
    from ddpg_jax.schedule import Schedule


def make_schedule(hyperparameters: Hyperparameters, steps_per_chunk: int | None) -> Schedule:
    """Return the schedule; without ``steps_per_chunk`` chunks divide the run evenly.

    Raises:
        ValueError: the run ends before the first update, or counts beyond int32.
    """
    from ddpg_jax import schedule

    updates, collect_steps = schedule.rounds_of(
        hyperparameters.updates_per_step, hyperparameters.batches_per_update
    )
    one_round = schedule.Schedule(
        num_envs=hyperparameters.num_envs,
        learning_starts=hyperparameters.learning_starts,
        updates_per_step=updates,
        collect_steps=collect_steps,
        steps_per_chunk=hyperparameters.num_envs * collect_steps,
        n_step=hyperparameters.n_step,
    )
    if steps_per_chunk is None:
        rounds = one_round.chunks(hyperparameters.total_timesteps)
        steps_per_chunk = one_round.steps_per_round * schedule.even_chunk(rounds)
    made = dataclasses.replace(one_round, steps_per_chunk=steps_per_chunk)
    _require_chunk(hyperparameters.total_timesteps, made)
    return made


def _require_chunk(total: int, schedule: Schedule) -> None:
    if schedule.chunks(total) < 1:
        first, chunk = schedule.warm_up_steps, schedule.steps_per_chunk
        raise ValueError(
            f"total_timesteps={total} ends before the first update: it must be at least "
            f"{first + chunk}, the warm-up ({first}) and one chunk ({chunk})."
        )
    if total > schedule.longest:
        raise ValueError(
            f"total_timesteps={total}: must be at most {schedule.longest} here: vector steps and "
            "updates are counted in int32."
        )
