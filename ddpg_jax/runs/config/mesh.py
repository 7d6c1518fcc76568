"""The mesh of devices of a run: members on one axis, shards of each member on the other.

As text it is ``members=4,data=2``, on the command line and in ``config.json``. Imports no JAX, so
that the command line answers at once.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any, NamedTuple

from ddpg_jax.runs.options.validation import RunError, convert_value, short_repr

if TYPE_CHECKING:
    from collections.abc import Callable

Config = Any
"""`ddpg_jax.runs.config.run_config.Config`, which imports this module."""


class Mesh(NamedTuple):
    """Devices on each axis: ``members`` divides seeds, ``data`` environments and batch."""

    members: int = 1
    data: int = 1

    @property
    def devices(self) -> int:
        """The number of devices."""
        return self.members * self.data

    def __str__(self) -> str:
        """Return the mesh as text."""
        return f"members={self.members},data={self.data}"


def parse_mesh(text: str) -> Mesh:
    """Parse a mesh; an empty text is one device.

    Raises:
        ValueError: the text is not a mesh.
    """
    found: dict[str, int] = {}
    for part in filter(None, text.split(",")):
        name, _, size = part.partition("=")
        if name.strip() not in Mesh._fields or name.strip() in found:
            raise ValueError(
                f"mesh={short_repr(text)}: give the devices of each axis once, for example "
                "members=4,data=2."
            )
        found[name.strip()] = convert_value(f"mesh's {name.strip()}", size, int)
        if not 1 <= found[name.strip()] < 2**20:
            raise ValueError(
                f"mesh={short_repr(text)}: each axis has at least one device, and less than "
                f"{2**20}."
            )
    return Mesh(**found)


def requested_mesh(config: Config, devices: int | None, mesh: str) -> str:
    """Return the requested mesh as text; empty where none was requested.

    Raises:
        ValueError: it does not divide the run; names the number to change.
    """
    if devices is not None and mesh:
        raise ValueError(f"devices={devices} and mesh={short_repr(mesh)}: give only one of them.")
    if devices is None and not mesh:
        return ""
    chosen = (
        parse_mesh(convert_value("mesh", mesh, str))
        if mesh
        else _members_first(config, convert_value("devices", devices, int))
    )
    _require_even(config, chosen, f"mesh={mesh}" if mesh else f"devices={devices}")
    return str(chosen)


def _members_first(config: Config, devices: int) -> Mesh:
    """Return a mesh with as many members as possible: they need no communication."""
    if devices < 1:
        raise ValueError(f"devices={devices}: must be at least 1.")
    members = math.gcd(config.seeds, devices)
    return Mesh(members, devices // members)


def _require_even(config: Config, mesh: Mesh, given: str) -> None:
    hyperparameters = config.hyperparameters
    for axis, size, counts in (
        ("members", mesh.members, {"seeds": config.seeds}),
        (
            "data",
            mesh.data,
            {"num_envs": hyperparameters.num_envs, "batch_size": hyperparameters.batch_size},
        ),
    ):
        for name, count in counts.items():
            if count % size:
                near = max(1, round(count / size)) * size
                raise ValueError(
                    f"{given} is {axis}={size}, which does not divide {name}={count}: choose "
                    f"--{name.replace('_', '-')} {near}, or another number of devices."
                )
    if mesh.data > 1 and config.env.startswith("gymnasium/"):
        raise ValueError(f"{given}: host environments, as {config.env}, train on one device.")


def largest_mesh(config: Config, available: int) -> Mesh:
    """Return the largest mesh on the available devices that divides the run, members first."""
    members = next(
        count for count in range(min(available, config.seeds), 0, -1) if config.seeds % count == 0
    )
    if config.env.startswith("gymnasium/"):
        return Mesh()
    even = math.gcd(config.hyperparameters.num_envs, config.hyperparameters.batch_size)
    return Mesh(
        members, next(count for count in range(available // members, 0, -1) if even % count == 0)
    )


def on_one_device(config: Config) -> Config:
    """Return the configuration on one device, for a profile.

    Raises:
        ValueError: the run has more devices.
    """
    if parse_mesh(config.mesh).devices > 1:
        raise ValueError(
            f"--profile measures a run on one device, but mesh={config.mesh}: give --devices 1."
        )
    return dataclasses.replace(config, mesh=str(Mesh()))


def choose_mesh(
    config: Config,
    available: int,
    say: Callable[[str], None],
    *,
    processes: int = 1,
    resume: bool = False,
) -> str:
    """Return the mesh of the run as text, and report it where there are several devices.

    Args:
        config: its ``mesh`` is the requested or the resumed one; empty: all devices that divide it.
        available: number of devices, of all processes.
        say: receives the sentence.
        processes: number of processes; each takes part with all of its devices.
        resume: where a resumed run's mesh is larger than the available devices, choose another one.

    Raises:
        RunError: there are fewer devices than requested, or a process would have none.
    """
    mesh = parse_mesh(config.mesh)
    if not config.mesh or (
        resume and (mesh.devices > available or (processes > 1 and mesh.devices < available))
    ):
        mesh = largest_mesh(config, available)
    if mesh.devices > available:
        raise RunError(
            f"mesh={mesh} needs {mesh.devices} devices, but JAX finds {available}: lower "
            "--devices or --mesh."
        )
    if processes > 1:
        _require_all(mesh, available, processes, config)
    if available > 1:
        rest = (
            f"; {available - mesh.devices} of {available} stay idle"
            if mesh.devices < available
            else ""
        )
        how = (
            f"{config.seeds // mesh.members} of {config.seeds} members" if config.seeds > 1 else ""
        )
        share = (
            f"{config.hyperparameters.num_envs // mesh.data} of {config.hyperparameters.num_envs} "
            "environments, and "
        )
        share += (
            f"{config.hyperparameters.batch_size // mesh.data} of "
            f"{config.hyperparameters.batch_size} rows of a batch"
        )
        each = " with ".join(filter(None, (how, share if mesh.data > 1 else "")))
        count = f"{mesh.devices} devices ({mesh})" if mesh.devices > 1 else "one device"
        say(f"on {count}{f', each {each}' if each else ''}{rest}.")
    return str(mesh)


def _require_all(mesh: Mesh, available: int, processes: int, config: Config) -> None:
    """Require that every process takes part with all of its devices, in whole rows of the mesh."""
    local = available // processes
    if mesh.devices != available or (mesh.data % local and local % mesh.data):
        raise RunError(
            f"{processes} processes with {local} devices each train with all of them, but "
            f"mesh={mesh} of seeds={config.seeds}, num_envs={config.hyperparameters.num_envs} and "
            f"batch_size={config.hyperparameters.batch_size} does not divide them: give --mesh "
            f"members=M,data=D with M times D = {available} that divide these, D a multiple or a "
            f"divisor of {local}."
        )


def schedule_of_shard(config: Config, shards: int) -> dict[str, Any]:
    """Return the arguments of `ddpg_jax.train.make_train` for the schedule of one shard."""
    schedule = config.schedule
    return {
        "learning_starts": schedule.learning_starts
        if shards == 1
        else -(-schedule.learning_starts // schedule.num_envs) * (schedule.num_envs // shards),
        "updates_per_step": schedule.updates_per_step,
        "collect_steps": schedule.collect_steps,
        "steps_per_chunk": schedule.steps_per_chunk // shards,
    }
