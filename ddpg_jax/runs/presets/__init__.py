"""Named, cited sets of numbers. A new one is a record in a file here; a new file is a line in `PRESETS`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any, get_type_hints

from ddpg_jax.runs.options.hyperparameters import Hyperparameters
from ddpg_jax.runs.options.preset import Parts, Preset
from ddpg_jax.runs.presets import (
    d4pg,
    ddpg,
    drq_v2,
    fast_td3,
    kendall_driving,
    parameter_noise,
    pendulum_lecture,
    td3,
    td3_categorical,
)
from ddpg_jax.runs.tasks import TASKS

__all__ = ["PRESETS", "Hyperparameters", "Parts", "Preset", "hyperparameter_types", "hyperparameters_on", "options_on"]

MODULES: tuple[Any, ...] = (
    ddpg,
    parameter_noise,
    td3,
    d4pg,
    td3_categorical,
    fast_td3,
    pendulum_lecture,
    drq_v2,
    kendall_driving,
)
PRESETS: dict[str, Preset] = {preset.name: preset for module in MODULES for preset in module.PRESETS}


def hyperparameter_types() -> dict[str, type]:
    """Name and type of each number of some preset that the command line may set."""
    found = {name: kind for preset in PRESETS.values() for name, kind in get_type_hints(type(preset.hyperparameters)).items()}
    return {name: kind for name, kind in found.items() if kind in (int, float, bool, str)}


def hyperparameters_on(preset: Preset, env: str) -> tuple[Hyperparameters, dict[str, tuple[Any, Any]]]:
    """The preset's hyper-parameters on an environment, and what was replaced there: ``{name: (the preset's, the task's)}``.

    Raises:
        ValueError: the preset is not for this environment.
    """
    if preset.only_for not in (None, env):
        raise ValueError(
            f"preset {preset.name!r} is for the environment {preset.only_for!r}, not {env!r}: choose another preset."
        )
    known = {field.name for field in fields(preset.hyperparameters)}
    own = {name: value for name, value in _from_task(preset, env) if name in known}
    replaced = {name: (old, own[name]) for name in own if (old := getattr(preset.hyperparameters, name)) != own[name]}
    return replace(preset.hyperparameters, **{**own, **preset.published_for(env)}), replaced


def options_on(preset: Preset, env: str, given: dict[str, Any]) -> dict[str, Any]:
    """The options of an environment, those with which it shows images among them where the preset takes such."""
    shows = preset.images and env in TASKS and not given.get("pixels")
    return {**TASKS[env].images, **given} if shows else given


def _from_task(preset: Preset, env: str) -> Iterator[tuple[str, Any]]:
    """What a preset takes from a task, the later the stronger."""
    if env not in TASKS:
        return
    task = TASKS[env]
    found = preset.of_task(task)
    if found and not preset.exact:
        yield from preset.scaled_down.items()
        yield from found.items()
    if task.support is not None:
        yield from zip(("v_min", "v_max"), task.support, strict=True)
