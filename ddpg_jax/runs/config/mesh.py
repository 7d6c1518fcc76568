"""Which devices a run is spread over: members of a population on one axis of a mesh, shards of each
member on the other.

As text it is ``members=4,data=2``, on the command line and in ``config.json``. Imports no JAX, so
that the command line answers at once."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

from ddpg_jax.runs.options.validation import RunError, convert_value, short_repr

Config = Any
"""`ddpg_jax.runs.config.run_config.Config`, whose file imports this one."""


class Mesh(NamedTuple):
    """Devices on each axis: ``members`` divides a run's seeds, ``data`` its environments and its
    batch."""

    members: int = 1
    data: int = 1

    @property
    def devices(self) -> int:
        """In all."""
        return self.members * self.data

    def __str__(self) -> str:
        return f"members={self.members},data={self.data}"


def parse_mesh(text: str) -> Mesh:
    """The mesh that is written so; an empty text is one device.

    Raises:
        ValueError: it is none.
    """
    found: dict[str, int] = {}
    for part in filter(None, text.split(",")):
        name, _, size = part.partition("=")
        if name.strip() not in Mesh._fields or name.strip() in found:
            raise ValueError(
                f"mesh={short_repr(text)}: give the devices on each axis once, for example members=4,data=2."
            )
        found[name.strip()] = convert_value(f"mesh's {name.strip()}", size, int)
        if not 1 <= found[name.strip()] < 2**20:
            raise ValueError(
                f"mesh={short_repr(text)}: each axis has at least one device, and less than {2**20}."
            )
    return Mesh(**found)


def requested_mesh(config: Config, devices: int | None, mesh: str) -> str:
    """The mesh that was asked for, as text; empty where none was.

    Raises:
        ValueError: it does not divide the run; the sentence names the number to change.
    """
    if devices is not None and mesh:
        raise ValueError(f"devices={devices} and mesh={short_repr(mesh)}: give one of both.")
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
    """Members first: they need nothing of each other."""
    if devices < 1:
        raise ValueError(f"devices={devices}: must be at least 1.")
    members = math.gcd(config.seeds, devices)
    return Mesh(members, devices // members)


def _require_even(config: Config, mesh: Mesh, said: str) -> None:
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
                    f"{said} is {axis}={size}, which does not divide {name}={count}: choose --{name.replace('_', '-')} "
                    f"{near}, or another number of devices."
                )
    if mesh.data > 1 and config.env.startswith("gymnasium/"):
        raise ValueError(f"{said}: environments on the host, as {config.env}, train on one device.")


def largest_mesh(config: Config, available: int) -> Mesh:
    """As many of the available devices as come out even, members before shards of them."""
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
    """The configuration of a run on one device, for what times its parts there.

    Raises:
        ValueError: another number was asked for, or it goes on with one.
    """
    if parse_mesh(config.mesh).devices > 1:
        raise ValueError(
            f"profile takes the time of a run on one device, and this one is on mesh={config.mesh}: give --devices 1."
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
    """The mesh that the run is to have, said where it is more than one device or fewer than there
    are.

    Args:
        config: its ``mesh`` is what was asked for, or a run's that goes on; empty: all devices that
        come out even. resume: the run goes on: where its mesh is of more devices than there are,
        another one is chosen. available: devices that there are, of all processes. say: told which.
        processes: of which each takes part with all of its devices.

    Raises:
        RunError: there are fewer devices than asked for, or a process would have none.
    """
    mesh = parse_mesh(config.mesh)
    if not config.mesh or (
        resume and (mesh.devices > available or (processes > 1 and mesh.devices < available))
    ):
        mesh = largest_mesh(config, available)
    if mesh.devices > available:
        raise RunError(
            f"mesh={mesh} needs {mesh.devices} devices, but JAX finds {available}: give fewer by --devices or --mesh."
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
        share = f"{config.hyperparameters.num_envs // mesh.data} of {config.hyperparameters.num_envs} environments, and "
        share += f"{config.hyperparameters.batch_size // mesh.data} of {config.hyperparameters.batch_size} rows of a batch"
        each = " with ".join(filter(None, (how, share if mesh.data > 1 else "")))
        count = f"{mesh.devices} devices ({mesh})" if mesh.devices > 1 else "one device"
        say(f"on {count}{f', each {each}' if each else ''}{rest}.")
    return str(mesh)


def _require_all(mesh: Mesh, available: int, processes: int, config: Config) -> None:
    """Every process takes part with all of its devices, in whole rows of the mesh or with others in
    one."""
    local = available // processes
    if mesh.devices != available or (mesh.data % local and local % mesh.data):
        raise RunError(
            f"{processes} processes with {local} devices each train with all of them, but mesh={mesh} of seeds={config.seeds}, "
            f"num_envs={config.hyperparameters.num_envs} and batch_size={config.hyperparameters.batch_size} does not come out even: give "
            f"--mesh members=M,data=D with M times D = {available} that divide these, D a multiple or a divisor of {local}."
        )


def schedule_of_shard(config: Config, shards: int) -> dict[str, Any]:
    """What `ddpg_jax.train.make_train` is given of the schedule, for one of so many shards."""
    schedule = config.schedule
    return {
        "learning_starts": schedule.learning_starts
        if shards == 1
        else -(-schedule.learning_starts // schedule.num_envs) * (schedule.num_envs // shards),
        "updates_per_step": schedule.updates_per_step,
        "collect_steps": schedule.collect_steps,
        "steps_per_chunk": schedule.steps_per_chunk // shards,
    }
