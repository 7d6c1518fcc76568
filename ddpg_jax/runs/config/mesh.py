"""The mesh of devices of a run: members on one axis, shards of each member on the other.

As text it is ``members=4,data=2``, on the command line and in ``config.json``. Imports no JAX, so
that the command line answers at once.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

from ddpg_jax.runs.options.validation import Options, RunError, convert_value, short_repr

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
        name, _, size = (word.strip() for word in part.partition("="))
        if name not in Mesh._fields or name in found:
            raise ValueError(
                f"mesh={short_repr(text)}: give the devices of each axis once, for example "
                "members=4,data=2."
            )
        found[name] = convert_value(f"mesh's {name}", size, int)
        if not 1 <= found[name] < 2**20:
            raise ValueError(
                f"mesh={short_repr(text)}: each axis has at least one device, and less than "
                f"{2**20}."
            )
    return Mesh(**found)


def requested_mesh(config: Config) -> str:
    """Return the requested mesh as text; empty where none was requested.

    Raises:
        ValueError: it does not divide the run; names the number to change.
    """
    devices, mesh = config.devices, config.mesh
    if devices is not None and mesh:
        raise ValueError(f"devices={devices} and mesh={short_repr(mesh)}: give only one of them.")
    if mesh:
        chosen, given = parse_mesh(mesh), f"mesh={mesh}"
    elif devices is None:
        return ""
    elif devices < 1:
        raise ValueError(f"devices={devices}: must be at least 1.")
    else:
        members = math.gcd(config.seeds, devices)  # as many as possible: they do not communicate
        chosen, given = Mesh(members, devices // members), f"devices={devices}"
    _require_even(config, chosen, given)
    return str(chosen)


def _require_even(config: Config, mesh: Mesh, given: str) -> None:
    own = config.hyperparameters
    for axis, size, name, count in (
        ("members", mesh.members, "seeds", config.seeds),
        ("data", mesh.data, "num_envs", own.num_envs),
        ("data", mesh.data, "batch_size", own.batch_size),
    ):
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
    if config.env.startswith("gymnasium/"):
        return Mesh()
    members = next(count for count in range(available, 0, -1) if config.seeds % count == 0)
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
        say(_described(config, mesh, available))
    return str(mesh)


def _described(config: Config, mesh: Mesh, available: int) -> str:
    """Return a sentence on what each device trains, and on idle devices."""
    own = config.hyperparameters
    shares = []
    if config.seeds > 1:
        shares.append(f"{config.seeds // mesh.members} of {config.seeds} members")
    if mesh.data > 1:
        shares.append(
            f"{own.num_envs // mesh.data} of {own.num_envs} environments, and "
            f"{own.batch_size // mesh.data} of {own.batch_size} rows of a batch"
        )
    each = f", each {' with '.join(shares)}" if shares else ""
    count = f"{mesh.devices} devices ({mesh})" if mesh.devices > 1 else "one device"
    idle = available - mesh.devices
    fuller = -(-config.seeds // available) * available
    hint = f" (not with --seeds {fuller})" if 1 < config.seeds != fuller and not config.vary else ""
    return f"on {count}{each}{f'; {idle} of {available} stay idle{hint}' if idle else ''}."


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


def schedule_of_shard(config: Config, shards: int) -> Options:
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
