"""What of a run differs from its preset, and the command that makes the run again."""

import json
import shlex
from typing import Any

from ddpg_jax.runs.config.run_config import STORED, Config, make_config
from ddpg_jax.runs.options.field import options_of
from ddpg_jax.runs.options.run_options import EnvironmentOptions
from ddpg_jax.runs.presets import hyperparameters_on

OF_PLACE = ("device_kind", "mesh")
"""Options that the machine chooses."""


def differences(config: Config) -> dict[str, tuple[Any, Any, str]]:
    """Return ``{name: (the preset's, the run's, why)}`` of the hyper-parameters that differ from
    the preset's, or from what it takes on this environment.
    """
    preset, own = vars(config.preset.hyperparameters), vars(config.hyperparameters)
    usual = vars(hyperparameters_on(config.preset, config.env)[0])
    found = {}
    for name, value in own.items():
        if value == preset[name] == usual[name]:
            continue
        why = "given" if value != usual[name] else f"published for {config.env}"
        why = f"found by trying on {config.env}" if name in config.replaced else why
        found[name] = (preset[name], value, why)
    for name, values in config.vary.items():
        if name in own:
            found[name] = (preset[name], list(dict.fromkeys(values)), "members differ")
    return found


def command(config: Config) -> str | None:
    """Return the command that trains such a run; None for a part of a sweep, and for a run that
    began with another one or with stored transitions.
    """
    if config.vary or config.has_start:
        return None
    usual = vars(hyperparameters_on(config.preset, config.env)[0])
    given = {name: x for name, x in vars(config.hyperparameters).items() if x != usual[name]}
    base = make_config(config.env, config.preset.name, env_options=config.env_options, **given)
    named = ("env", "preset", "env_options", *OF_PLACE)
    of_run = {name: getattr(config, name) for name in STORED if name not in named}
    options = {name: value for name, value in of_run.items() if value != getattr(base, name)}
    words = ["ddpg-jax", "train", config.env, "--preset", config.preset.name]
    known = options_of(EnvironmentOptions)
    for name, value in config.env_options.items():
        if name in known:
            options[name] = value
        else:
            words += ["--env-option", f"{name}={json.dumps(value)}"]
    for name, value in (options | given).items():
        words += _flag(name, value)
    return shlex.join(words)


def _flag(name: str, value: Any) -> list[str]:
    dashed = name.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{dashed}" if value else f"--no-{dashed}"]
    text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return [f"--{dashed}", text]
