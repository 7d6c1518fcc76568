"""Loads the configuration of a run from its folder, and decides what a resumed run may change."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from ddpg_jax.runs.config.run_config import DERIVED, STORED, Config, make_config
from ddpg_jax.runs.options import field
from ddpg_jax.runs.options.run_options import RunOptions
from ddpg_jax.runs.options.validation import RunError, convert_value, short_repr
from ddpg_jax.runs.presets import PRESETS, hyperparameter_options

if TYPE_CHECKING:
    from pathlib import Path

FREE = (
    *field.names_by_resume(RunOptions, "free"),
    *(name for name, (_, own) in hyperparameter_options().items() if own.resume == "free"),
)
"""Options that a resumed run may change: training stays identical bit for bit."""
PLACEMENT = field.names_by_resume(RunOptions, "placement")
"""Options that it may change too: the state is restored, but later random numbers differ."""


def resumed_config(folder: Path, given: dict[str, Any]) -> Config:
    """Return the configuration of a run, with `FREE` and `PLACEMENT` options replaced.

    Raises:
        FileNotFoundError: as in `load_config`.
        ValueError: as in `load_config`.
        RunError: an option differs that may not.
    """
    saved = load_config(folder).flat()
    kinds: dict[str, Any] = {name: kind for name, (kind, _) in hyperparameter_options().items()}
    kinds |= {name: kind for name, kind, _ in field.options_of(RunOptions)}
    placed = {name: given[name] for name in PLACEMENT if given.get(name)}
    given = {name: value for name, value in given.items() if name not in PLACEMENT}
    given = {
        name: convert_value(name, value, kinds[name]) if name in kinds else value
        for name, value in given.items()
    }
    given = {
        name: list(value) if isinstance(value, tuple) else value for name, value in given.items()
    }
    if "env_options" in given:
        given["env_options"] = saved["env_options"] | given["env_options"]
    require_same_config(saved, given)
    return from_flat(saved | given | ({"mesh": ""} | placed if placed else {}))


def load_config(folder: Path) -> Config:
    """Return the configuration of the run in ``folder``.

    Raises:
        FileNotFoundError: the folder holds no run.
        ValueError: its ``config.json`` is damaged.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise FileNotFoundError(
            f"{folder} does not hold a run (config.json is missing): give the folder that "
            "`ddpg-jax train` made."
        )
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(data, dict):
            raise ValueError(f"it holds {short_repr(data)} where an object is expected")
        preset = PRESETS.get(str(data.get("preset")))
        own = () if preset is None else [each.name for each in fields(preset.hyperparameters)]
        if absent := [name for name in (*STORED, *own) if name not in data]:
            raise ValueError(f"it lacks {absent[0]}, as one of another version of ddpg_jax does")
        stored = {name: data[name] for name in STORED if name != "mesh"}
        return from_flat(data | field.convert_options(RunOptions, stored, required=True))
    except RecursionError as error:
        raise ValueError(
            f"{path} is damaged (it is nested too deeply): restore it, or start a new run."
        ) from error
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"{path} is damaged ({str(error).rstrip('.')}): restore it, or start a new run."
        ) from error


def from_flat(data: dict[str, Any]) -> Config:
    """Return the configuration that `Config.flat` wrote."""
    return make_config(**{name: value for name, value in data.items() if name not in DERIVED})


def require_same_config(saved: dict[str, Any], given: dict[str, Any]) -> None:
    """Refuse to resume a run with another configuration.

    Args:
        saved: the run's flat configuration.
        given: requested options, some or all.

    Raises:
        RunError: options differ that may not, or that the run does not have.
    """
    may = (*FREE, *PLACEMENT, *DERIVED)
    names = [
        name
        for name, value in given.items()
        if name not in may and value != saved.get(name, "none")
    ]
    if names:
        differences = ", ".join(
            f"{name} (run: {saved.get(name, 'none')}, given: {given[name]})" for name in names
        )
        raise RunError(
            f"this run was made with another configuration: {differences}. Leave these out, or "
            "start a new run."
        )
