"""Presets: named, cited sets of hyper-parameters.

A new preset is a record in a file here; a new file is a line in `MODULES`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ddpg_jax.runs.options.field import Option, options_of
from ddpg_jax.runs.options.hyperparameters import Hyperparameters
from ddpg_jax.runs.options.preset import Components, Preset
from ddpg_jax.runs.presets import (
    d4pg,
    ddpg,
    drq_v2,
    her,
    kendall_driving,
    td3,
    td3_categorical,
)
from ddpg_jax.runs.tasks import TASKS, Values

__all__ = [
    "PRESETS",
    "Components",
    "Hyperparameters",
    "Preset",
    "env_options_on",
    "hyperparameter_options",
    "hyperparameters_on",
    "tasks_of",
]

MODULES: tuple[Any, ...] = (
    ddpg,
    td3,
    d4pg,
    td3_categorical,
    drq_v2,
    kendall_driving,
    her,
)
PRESETS: dict[str, Preset] = {
    preset.name: preset for module in MODULES for preset in module.PRESETS
}
"""Every preset, by its name."""


def hyperparameter_options() -> dict[str, Option]:
    """Return the `Option` of each hyper-parameter of any preset."""
    return {
        name: declared
        for preset in PRESETS.values()
        for name, declared in options_of(type(preset.hyperparameters)).items()
    }


def hyperparameters_on(
    preset: Preset, env: str
) -> tuple[Hyperparameters, dict[str, tuple[Any, Any]]]:
    """Return the preset's hyper-parameters on an environment, and those that the task replaced.

    Returns:
        The hyper-parameters, and ``{name: (the preset's, the task's)}`` of those that differ.

    Raises:
        ValueError: the preset is not for this environment.
    """
    if preset.only_for not in (None, env):
        raise ValueError(
            f"preset {preset.name!r} is for the environment {preset.only_for!r}, not {env!r}: "
            "choose another preset."
        )
    given = preset.hyperparameters
    own = {name: value for name, value in _from_task(preset, env).items() if hasattr(given, name)}
    replaced = {
        name: (old, value) for name, value in own.items() if (old := getattr(given, name)) != value
    }
    made = replace(given, **{**own, **preset.published_for(env)})
    return made, replaced


def tasks_of(preset: Preset) -> list[str]:
    """Return the environments whose tasks have hyper-parameters that replace the preset's."""
    return [] if preset.exact else [env for env, task in TASKS.items() if preset.of_task(task)]


def env_options_on(preset: Preset, env: str, given: dict[str, Any]) -> dict[str, Any]:
    """Return the options of an environment; a preset of images adds those of its images."""
    if not preset.images or (env not in TASKS and not given.get("pixels")):
        return given
    return {**(_images(preset, env) if given.get("pixels") else TASKS[env].images), **given}


def describe_images(preset: Preset, env: str, options: Values) -> str:
    """Return a sentence where images are not those that the hyper-parameters were found for."""
    if not preset.images:
        return ""
    found = _images(preset, env) if options.get("pixels") else {}
    found = found or (TASKS[env].images if env in TASKS else {})
    other = {name: options.get(name) for name, value in found.items() if options.get(name) != value}
    if not other:
        return ""
    wanted, given = (
        ", ".join(f"{name} {value}" for name, value in each.items()) for each in (found, other)
    )
    return (
        f"the hyper-parameters of preset {preset.name} on {env} are for images with {wanted}; this "
        f"run has {given}."
    )


def _images(preset: Preset, env: str) -> Values:
    """Return the options of pixels for which the hyper-parameters were found."""
    tuned = env in TASKS and not preset.exact and preset.of_task(TASKS[env])
    return TASKS[env].pixels if tuned else preset.shown


def _from_task(preset: Preset, env: str) -> dict[str, Any]:
    """Return what a preset takes from a task."""
    if env not in TASKS:
        return {}
    task = TASKS[env]
    found = preset.of_task(task)
    tuned = {} if preset.exact or not found else {**preset.scaled_down, **found}
    if task.support is None:
        return tuned
    return tuned | {"v_min": task.support[0], "v_max": task.support[1]}
