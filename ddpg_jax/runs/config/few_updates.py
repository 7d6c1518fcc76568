"""Says where a run updates so seldom that it is unlikely to learn."""

from typing import Any

from ddpg_jax.runs.presets import hyperparameters_on

Config = Any
"""`ddpg_jax.runs.config.run_config.Config`, whose module imports this one."""
FEW_UPDATES = 3_000
"""Updates of a run below which it says so."""
RATE_RATIO = 8
"""So many times fewer updates for each environment step than a preset has on a task are told."""


def few_updates(config: Config) -> str:
    """Return a sentence on the updates of a run where they are few; else an empty text."""
    own, tuned = config.hyperparameters, hyperparameters_on(config.preset, config.env)[0]
    updates = config.updates_in(config.trained_timesteps - config.schedule.warm_up_steps)
    rate, usual = (each.updates_per_step / each.num_envs for each in (own, tuned))
    seldom = RATE_RATIO * rate <= usual
    if updates >= FEW_UPDATES and not seldom:
        return ""
    beside = f" (preset {config.preset.name} on {config.env}: {usual:g})" if seldom else ""
    return (
        f"only {updates:,} updates in this run, {rate:g} for each environment step{beside}: few to "
        "learn from; raise --updates-per-step or --total-timesteps, or lower --num-envs."
    )
