"""What a run is made of, as plain data that a folder can hold; imports no JAX, so that the command line answers at once."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from ddpg_jax.presets import PRESETS, Preset


class RunError(ValueError):
    """A run that cannot start or go on; the message is one sentence for the user."""


# May differ between a run and its continuation: they change no bit of what is trained.
FREE = ("total_timesteps", "evaluate_every", "evaluation_episodes", "checkpoint_every", "keep")


def hyper_parameters() -> dict[str, type]:
    """Name and type of each number in a `Preset` that the command line may set."""
    kinds = {"int": int, "float": float, "bool": bool}
    types = {field.name: str(field.type).removesuffix(" | None") for field in fields(Preset)}
    return {name: kinds[kind] for name, kind in types.items() if kind in kinds}


@dataclass(frozen=True, kw_only=True)
class Config:
    """A training run. Chunks are what runs between two reports; see `ddpg_jax.train.make_train`."""

    env: str
    preset_name: str
    preset: Preset
    env_options: dict[str, Any]
    seed: int
    seeds: int
    steps_per_chunk: int
    evaluate_every: int
    evaluation_episodes: int
    checkpoint_every: int
    keep: int

    @property
    def warm_up_steps(self) -> int:
        """Environment steps before the first chunk, in whole vector steps."""
        filling = self.preset.n_step - 1  # until the first whole multi-step transition
        return (filling - (-self.preset.learning_starts // self.preset.num_envs)) * self.preset.num_envs

    @property
    def num_chunks(self) -> int:
        """Whole chunks that fit into ``total_timesteps`` after the warm-up."""
        return (self.preset.total_timesteps - self.warm_up_steps) // self.steps_per_chunk

    def flat(self) -> dict[str, Any]:
        """Every field as JSON-able data, on one level."""
        own = {field.name: getattr(self, field.name) for field in fields(self) if field.name not in ("preset", "preset_name")}
        numbers = {name: getattr(self.preset, name) for name in hyper_parameters()}
        numbers = {name: value for name, value in numbers.items() if value is not None}
        widths = {"hidden": list(self.preset.hidden), "critic_hidden": list(self.preset.critic_hidden)}
        return {"env": self.env, "preset": self.preset_name} | own | numbers | widths


def make_config(
    env: str,
    preset: str = "default",
    *,
    env_options: dict[str, Any] | None = None,
    seed: int = 0,
    seeds: int = 1,
    steps_per_chunk: int | None = None,
    evaluate_every: int = 1,
    evaluation_episodes: int = 20,
    checkpoint_every: int = 5,
    keep: int = 2,
    **numbers: Any,
) -> Config:
    """The configuration of a run: a preset with some numbers replaced.

    Args:
        env, preset: names; env_options: see `ddpg_jax.envs.make`.
        seed, seeds: train ``seeds`` independent members with the seeds ``seed, seed + 1, ...`` in one program.
        steps_per_chunk: environment steps between two reports; None is about a twentieth of the run.
        evaluate_every, checkpoint_every: in chunks; 0 is never but at the end.
        evaluation_episodes: episodes per evaluation.
        keep: checkpoints kept.
        **numbers: replace the preset's (`hyper_parameters`).

    Raises:
        ValueError: an unknown preset, or a number out of its range.
    """
    from ddpg_jax import checks

    if preset not in PRESETS:
        raise checks.nearest("preset", preset, PRESETS, "`ddpg-jax presets` lists all.")
    chosen = PRESETS[preset](env)
    if absent := [name for name in numbers if getattr(chosen, name, ...) is None]:
        having = [name for name in PRESETS if getattr(PRESETS[name]("pendulum"), absent[0]) is not None]
        raise ValueError(f"preset {preset!r} has no {absent[0]}: it is a number of {', '.join(having)}.")
    chosen = replace(chosen, **numbers)
    chosen = replace(chosen, hidden=tuple(chosen.hidden), critic_hidden=tuple(chosen.critic_hidden))
    for name, widths in (("hidden", chosen.hidden or (0,)), ("critic_hidden", chosen.critic_hidden)):
        if min(widths, default=1) < 1:
            raise ValueError(f"{name}={widths}: give the width of each hidden layer, each at least 1, for example 256,256.")
    infinity = float("inf")
    counts = {"num_envs", "total_timesteps", "learning_starts", "updates_per_step", "batch_size", "replay_capacity"}
    checks.between(1, infinity, seeds=seeds, evaluation_episodes=evaluation_episodes, keep=keep)
    checks.between(1, infinity, **{name: getattr(chosen, name) for name in sorted(counts)})
    largest = 2**31 - 1  # rows, steps and seeds are int32 on the device
    checks.between(1, largest, replay_capacity=chosen.replay_capacity, total_timesteps=chosen.total_timesteps)
    checks.between(0, infinity, evaluate_every=evaluate_every, checkpoint_every=checkpoint_every)
    checks.between(0, infinity, anneal_updates=chosen.anneal_updates, max_grad_norm=chosen.max_grad_norm)
    checks.between(0, infinity, weight_decay=chosen.weight_decay)
    checks.positive(reward_scale=chosen.reward_scale)
    checks.between(1, infinity, n_step=chosen.n_step, importance_updates=chosen.importance_updates)
    for name, least in (("policy_delay", 1), ("num_atoms", 2)):
        if (value := getattr(chosen, name)) is not None:
            checks.between(least, infinity, **{name: value})
    checks.between(0, largest - seeds, seed=seed)
    count = chosen.num_envs
    if chosen.replay_capacity % count:
        near = max(1, round(chosen.replay_capacity / count)) * count
        raise ValueError(
            f"replay_capacity={chosen.replay_capacity} is not a multiple of num_envs={count}: choose for example {near}."
        )
    if steps_per_chunk is None:
        whole = count * chosen.round[1]
        steps_per_chunk = max(1, (chosen.total_timesteps - chosen.learning_starts) // whole // 19) * whole
    checks.between(1, infinity, steps_per_chunk=steps_per_chunk)
    config = Config(
        env=env,
        preset_name=preset,
        preset=chosen,
        env_options=env_options or {},
        seed=seed,
        seeds=seeds,
        steps_per_chunk=steps_per_chunk,
        evaluate_every=evaluate_every,
        evaluation_episodes=evaluation_episodes,
        checkpoint_every=checkpoint_every,
        keep=keep,
    )
    if config.num_chunks < 1:
        raise ValueError(
            f"total_timesteps={chosen.total_timesteps} ends before the first update: it must be at least "
            f"{config.warm_up_steps + steps_per_chunk}, the warm-up ({config.warm_up_steps}) and one chunk ({steps_per_chunk})."
        )
    return config


def load(folder: Path) -> Config:
    """The configuration of the run in ``folder``, as `Config.flat` wrote it.

    Raises:
        FileNotFoundError: the folder holds no run.
        ValueError: its ``config.json`` is damaged.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise FileNotFoundError(f"{folder} holds no run (it has no config.json): give the folder that `ddpg-jax train` made.")
    try:
        return make_config(**json.loads(path.read_text()))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({error}): restore it, or start a new run.") from error


def require_same(saved: dict[str, Any], given: dict[str, Any]) -> None:
    """Refuse to go on with a run under another configuration.

    Args:
        saved: the run's flat configuration.
        given: fields asked for, some or all.

    Raises:
        RunError: fields differ that may not (all but `FREE`); the sentence names them.
    """
    names = [name for name, value in given.items() if name not in FREE and value != saved[name]]
    if names:
        differences = ", ".join(f"{name} (run: {saved[name]}, given: {given[name]})" for name in names)
        raise RunError(f"this run was made with another configuration: {differences}. Leave these out, or start a new run.")
