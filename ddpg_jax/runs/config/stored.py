"""Loads the configuration of a run from its folder, and decides what a resumed run may change."""

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ddpg_jax.checks import UnknownName
from ddpg_jax.runs.config.run_config import DERIVED, STORED, Config, make_config
from ddpg_jax.runs.options import field, run_options
from ddpg_jax.runs.options.validation import Options, RunError, convert_value, short_repr
from ddpg_jax.runs.presets import PRESETS, hyperparameter_options

DECLARED = field.options_of(run_options.RunOptions) | hyperparameter_options()
FREE = [name for name, each in DECLARED.items() if each.resume == "free"]
"""Options that a resumed run may change: training stays identical bit for bit."""
PLACEMENT = [name for name, each in DECLARED.items() if each.resume == "placement"]
"""Options that it may change too: the state is restored, but later random numbers differ."""


def resumed_config(folder: Path, given: Options) -> Config:
    """Return the configuration of a run, with `FREE` and `PLACEMENT` options replaced.

    Raises:
        FileNotFoundError: as in `load_config`.
        ValueError: as in `load_config`.
        RunError: an option differs that may not.
    """
    saved = load_config(folder).flat()
    placed = {name: given[name] for name in PLACEMENT if given.get(name)}
    given = converted(saved, given)
    require_same_config(saved, given)
    return from_flat(saved | given | ({"mesh": ""} | placed if placed else {}))


LATER = {
    name: each.default
    for name, each in DECLARED.items()
    if each.group == "start" or name in run_options.CALLBACKS
}
"""Options that ``config.json`` of an earlier version lacks: such a run was one with the default."""
UNSET = [name for name, default in LATER.items() if default is None]
"""Options that may be None in ``config.json``."""


def converted(saved: Options, given: Options) -> Options:
    """Return given options of their types without `PLACEMENT`, those of the environment added to
    the saved ones.

    Raises:
        ValueError: one is of another type.
    """
    found = {
        name: convert_value(name, value, DECLARED[name].kind) if name in DECLARED else value
        for name, value in given.items()
        if name not in PLACEMENT
    }
    if "env_options" in found:
        found["env_options"] = saved["env_options"] | found["env_options"]
    if found.get("start_from"):
        found["start_from"] = str(Path(found["start_from"]).expanduser().absolute())
    return found


def load_config(folder: Path) -> Config:
    """Return the configuration of the run in ``folder``.

    Raises:
        FileNotFoundError: the folder holds no run.
        ValueError: its ``config.json`` is damaged.
    """
    return read_stored(folder / "config.json", "run", "train", _restored)


def _restored(data: Options) -> Config:
    data = LATER | data
    preset = PRESETS.get(str(data.get("preset")))
    own = vars(preset.hyperparameters) if preset else ()
    if absent := [name for name in (*STORED, *own) if name not in data]:
        raise ValueError(f"it lacks {absent[0]}, as one of another version of ddpg_jax does")
    stored = {name: data[name] for name in STORED if name != "mesh"}
    for name in UNSET:
        if stored[name] is None:
            del stored[name]
    return from_flat(data | field.convert_options(run_options.RunOptions, stored))


OTHER_KIND = {
    "config.json": ("sweep.json", "sweep", "sweep"),
    "sweep.json": ("config.json", "run", "train"),
}
"""The file that tells of the other kind of folder, its name, and the command that makes it."""


def read_stored(path: Path, what: str, command: str, restore: Callable[[Any], Any]) -> Any:
    """Return what ``restore`` makes of the JSON object in a file of a run or a sweep.

    Args:
        path: of the file.
        what: "run" or "sweep".
        command: that wrote the file.
        restore: raises ``ValueError`` or ``TypeError`` where the object is not what it should be.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged.
    """
    if not path.is_file():
        file, other, its = OTHER_KIND.get(path.name, (path.name, "", ""))
        if (path.parent / file).is_file():
            raise FileNotFoundError(
                f"{path.parent} holds a {other}, not a {what}: use `ddpg-jax {its}`."
            )
        raise FileNotFoundError(
            f"{path.parent} does not hold a {what} ({path.name} is missing): give the folder that "
            f"`ddpg-jax {command}` made."
        )
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(data, dict):
            raise ValueError(f"it holds {short_repr(data)} where an object is expected")
        with registered(path.parent):
            return restore(data)
    except NotRegistered:
        raise
    except (ValueError, TypeError, RecursionError) as error:
        deep = isinstance(error, RecursionError)
        why = "it is nested too deeply" if deep else str(error).rstrip(".")
        raise ValueError(
            f"{path} is damaged ({why}): restore it, or start a new {what}."
        ) from error


class NotRegistered(RunError):
    """A run was made with a preset or an environment that this process does not know."""


@contextlib.contextmanager
def registered(folder: Path | None) -> Iterator[None]:
    """Turn an unknown name, of what a run or sweep in ``folder`` was made with, into a remedy.

    Raises:
        NotRegistered: so it is; without a folder the error is left as it is.
    """
    try:
        yield
    except UnknownName as error:
        if folder is None:
            raise
        raise NotRegistered(
            f"{folder} was made with {error.kind} {error.name!r}, which this process has not "
            "registered: import the module that registers it, then call ddpg_jax.runs from Python, "
            "or the command as: python -c 'import MODULE; from ddpg_jax.runs.cli.commands import "
            "main; main()' COMMAND ..."
        ) from error


def from_flat(data: Options) -> Config:
    """Return the configuration that `Config.flat` wrote."""
    return make_config(**{name: value for name, value in data.items() if name not in DERIVED})


def require_same_config(saved: Options, given: Options, what: str = "run") -> None:
    """Refuse to resume a run or a sweep with another configuration.

    Args:
        saved: its flat configuration.
        given: requested options, some or all.
        what: "run" or "sweep".

    Raises:
        RunError: options differ that may not, or that it does not have.
    """
    saved, differences = LATER | saved, []
    for name, value in given.items():
        old, new = saved.get(name, "none"), list(value) if isinstance(value, tuple) else value
        if name not in (*FREE, *PLACEMENT, *DERIVED) and old != new:
            differences.append(f"{name} ({what}: {old}, given: {new})")
    if differences:
        raise RunError(
            f"this {what} was made with another configuration: {', '.join(differences)}. Leave "
            f"these out, or start a new {what}."
        )
