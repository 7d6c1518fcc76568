"""What a run says of itself at its start."""

from typing import Any

from ddpg_jax.runs.presets import describe_images, hyperparameters_on

Config = Any
"""`ddpg_jax.runs.config.run_config.Config`, whose module imports this one."""
FEW_UPDATES = 3_000
"""Updates of a run below which it says so."""
LOW_RATIO = 8
"""So many times fewer updates for each environment step than a task was tuned with are told."""


def notes(config: Config) -> list[str]:
    """Return sentences on what a user may not expect of a run; empty ones are of what is usual."""
    wanted, each = config.hyperparameters.total_timesteps, config.schedule.steps_per_round
    short = (
        f"trains {config.trained_timesteps} of the {wanted} steps: between two updates are "
        f"{each} steps."
    )
    shared = (
        "evaluations play in the environments of training: running episodes end there as by a "
        "time limit."
    )
    alone = (
        "members evolve between chunks, and this run has one: none is replaced. Give fewer "
        "--steps-per-chunk."
    )
    return [
        describe_images(config.preset, config.env, config.env_options),
        short if config.trained_timesteps < wanted else "",
        shared if config.shared_environment else "",
        alone if config.evolve and config.num_chunks == 1 else "",
        _few_updates(config),
    ]


def _few_updates(config: Config) -> str:
    """Return a sentence on the updates of a run where they are few; else an empty text."""
    own = config.hyperparameters
    tuned, replaced = hyperparameters_on(config.preset, config.env)
    updates = config.updates_in(config.trained_timesteps - config.schedule.warm_up_steps)
    rate, usual = (each.updates_per_step / each.num_envs for each in (own, tuned))
    seldom = bool(replaced) and LOW_RATIO * rate <= usual
    if updates >= FEW_UPDATES and not seldom:
        return ""
    beside = f" (preset {config.preset.name} on {config.env}: {usual:g})" if seldom else ""
    return (
        f"only {updates:,} updates in this run, {rate:g} for each environment step{beside}: few to "
        "learn from; raise --updates-per-step or --total-timesteps, or lower --num-envs."
    )
