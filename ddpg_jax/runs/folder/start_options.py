"""Options of a run that starts from another one."""

from pathlib import Path

from ddpg_jax.runs.config.run_config import Config
from ddpg_jax.runs.config.stored import load_config
from ddpg_jax.runs.folder.files import BEST, LAST
from ddpg_jax.runs.folder.metrics import read_metrics
from ddpg_jax.runs.options.validation import Options

START = ("env", "preset", "device_kind")
"""Options that a run takes over from one that it starts from, with the hyper-parameters."""


def started_options(given: Options) -> Options:
    """Return given options with those of the run that they ``start_from``, where they leave them
    out; hyper-parameters only of the same preset, options of an environment only of the same one.

    Raises:
        FileNotFoundError, ValueError: as in `load_config`.
    """
    _require_belonging(given)
    if not given.get("start_from"):
        return given
    folder = Path(given["start_from"]).expanduser()
    config = load_config(folder)
    saved = config.flat()
    found = {name: saved[name] for name in START}
    if given.get("preset", saved["preset"]) == saved["preset"]:
        found |= {name: saved[name] for name in vars(config.hyperparameters)}
        found |= _of_member(config, folder, given.get("start_member"))
    env_options = given.get("env_options", {})
    if given.get("env", saved["env"]) == saved["env"]:
        env_options = saved["env_options"] | env_options
    own = {"env_options": env_options, "start_from": str(folder.absolute())}
    own |= {"start_checkpoint": str(given.get("start_checkpoint", "last"))}
    return found | given | own


def _of_member(config: Config, folder: Path, member: int | None) -> Options:
    """Return what a member of a run had of its own, in the end where members evolved.

    Raises:
        ValueError: members differ, and none is given.
    """
    own = {name: values for name, values in config.vary.items() if name != "seed"}
    if not own or (member is None and config.seeds == 1):
        return {name: values[0] for name, values in own.items()}
    if member is None:
        raise ValueError(
            f"the members of {folder} differ in {min(own)}: give --start-member, which to start "
            "from."
        )
    last = (read_metrics(folder) or [{}])[-1] if config.evolve else {}
    return {
        name: (last.get(name) or values)[member] if member < len(values) else values[0]
        for name, values in own.items()
    }


def _require_belonging(given: Options) -> None:
    """Refuse options of a start that have nothing to belong to, or name no checkpoint."""
    for what in ("start_from", "offline"):
        kind = f"{what.partition('_')[0]}_"
        others = [name for name in given if name.startswith(kind) and name != what and given[name]]
        if others and not given.get(what):
            raise ValueError(f"{others[0]} needs {what}: give --{what.replace('_', '-')} as well.")
    name = str(given.get("start_checkpoint", "last"))
    if name not in (BEST, LAST) and not name.isdecimal():
        raise ValueError(f"start_checkpoint={name}: give {BEST}, {LAST} or the steps of one.")
    if name == BEST and given.get("start_with") == "replay":
        raise ValueError(
            "start_with=replay: the best checkpoint holds agents alone: give --start-checkpoint "
            f"{LAST}."
        )
