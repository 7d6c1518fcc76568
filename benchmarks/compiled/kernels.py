"""What XLA makes of the programs for accelerators that are not here: kernels of an update, copies,
bytes, collectives.

    python benchmarks/compiled                                       # for an H100
    python benchmarks/compiled --device v5e --only ddpg,td3 --list   # the kernels too
    python benchmarks/compiled --device v5e_2x4                      # runs and populations over
    eight devices python benchmarks/compiled --only sbx_ddpg,sbx_td3               # where sbx-rl is
    installed

Networks of 256 units keep a GPU waiting for launches, so what decides there is how many kernels an
update has. An update is one step of the actor and as many critic steps as the policy delay, for all
members of a vmap together. What is counted is one pass through the loop that launches most. Written
as ``53 + 2 x (42)``: 53 in its body, and 42 in a loop in it that runs twice.
"""

import functools
import importlib.metadata
import json
from pathlib import Path
from typing import Any

import click

from benchmarks import harness
from benchmarks.compiled import accelerators, hlo
from benchmarks.compiled.accelerators import ACCELERATORS, Compiled, MissingError
from benchmarks.compiled.lowered import DEFAULT, OURS, SPREAD, Program
from benchmarks.peers import rejax, sbx
from ddpg_jax.runs.folder import files

_SBX, _REJAX = ("sbx", sbx.INSTALL), ("rejax", rejax.INSTALL)
PEERS = {
    "sbx_ddpg": Program(functools.partial(sbx.lowered, "ddpg"), needs=_SBX),
    # Its actor learns in every second pass.
    "sbx_td3": Program(functools.partial(sbx.lowered, "td3"), passes=(max, min), needs=_SBX),
    "rejax_td3_pendulum_1": Program(rejax.lowered, env_steps=rejax.DELAY, needs=_REJAX),
}
"""The peers' programs, each as the peer jits it."""
PROGRAMS = OURS | SPREAD | PEERS
HEAD = (
    "program                  kernels copies /env step    temporary        aliased           "
    "  of compile here  structure"
)


@click.command()
@click.option("--device", type=click.Choice(list(ACCELERATORS)), default="h100", show_default=True)
@click.option(
    "--only",
    default=None,
    help="Programs by name, with commas between. [default: few of each kind, and the peers]",
)
@click.option("--list", "listed", is_flag=True, help="Print each kernel with what JAX called it.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=None,
    help="[default: benchmarks/results/compiled_DEVICE.json]",
)
def main(device: str, only: str | None, listed: bool, out: Path | None) -> None:
    """Compile, print a table, and put each program's figures into the JSON, beside those of other
    runs.
    """
    out = out or Path(f"benchmarks/results/compiled_{device}.json")
    accelerators.only_cpu()
    many = ACCELERATORS[device].devices > 1
    few = tuple(SPREAD) if many else (*DEFAULT, *(name for name in PEERS if not _missing(name)))
    names = _named(only) if only else few
    if wrong := [name for name in names if (PROGRAMS[name].mesh is not None) != many]:
        raise click.UsageError(
            f"{wrong[0]} is not for {ACCELERATORS[device].about}: choose of {', '.join(few)}."
        )
    place: Any = accelerators.devices_of(device) if many else accelerators.place_on(device)
    click.echo(HEAD)
    for name in names:
        done = accelerators.compiled(PROGRAMS[name].lower, place)
        row = figures(PROGRAMS[name], done)
        click.echo(line(name, row))
        if listed:
            click.echo("\n".join(lines(hlo.busiest(done.program))))
        _keep(out, device, name, row)
    for sentence in () if only or many else filter(None, map(_missing, PEERS)):
        click.echo(sentence)
    click.echo(str(out))


def figures(program: Program, done: Compiled) -> dict[str, Any]:
    """Kernels and copies of an update, and bytes of the whole program."""
    loop = hlo.busiest(done.program)
    count = sum(loop.count(pick) for pick in program.passes)
    return {
        "kernels_per_update": count / program.updates,
        "kernels_per_env_step": count / program.env_steps if program.env_steps else None,
        "structure": str(loop),
        "copies_per_update": sum(loop.copied(pick) for pick in program.passes) / program.updates,
        "collectives": loop.collectives,
        "reduced_bytes": loop.reduced_bytes,
        "collectives_outside": _outside(done.program, loop),
        "bytes": done.bytes,
        "compile_seconds_here": done.seconds,
    }


def _outside(program: hlo.Loop, loop: hlo.Loop) -> dict[str, int]:
    """Collectives of the whole program that are not of its busiest loop, once a chunk."""
    inside = (
        {kind: count * (loop.trips or 1) for kind, count in loop.collectives.items()}
        if loop is not program
        else {}
    )
    return {
        kind: left
        for kind, count in program.collectives.items()
        if (left := count - inside.get(kind, 0))
    }


def line(name: str, row: dict[str, Any]) -> str:
    """The figures for a person."""
    sizes, steps = row["bytes"], row["kernels_per_env_step"]
    each = "" if steps is None else f"{steps:.3g}"
    text = f"{name:24} {row['kernels_per_update']:7g} {row['copies_per_update']:6g} {each:>9} "
    text += f"{sizes['temporary']:12,} {sizes['aliased']:14,} {sizes['argument']:14,} "
    text += f"{row['compile_seconds_here']:10.1f} s"
    return f"{text}  {row['structure']} {row['collectives'] or ''}".rstrip()


def lines(loop: hlo.Loop, indent: str = "  ") -> list[str]:
    """A line for each kernel of a loop's body and of what is in it."""
    found = [f"{indent}{one.operation} {one.label} {one.shape} {one.name}" for one in loop.kernels]
    for inner in loop.loops:
        found += [
            f"{indent}{'?' if inner.trips is None else inner.trips} times:",
            *lines(inner, indent + "  "),
        ]
    for branches in loop.conditionals:
        for branch in branches:
            found += [f"{indent}or:", *lines(branch, indent + "  ")]
    return found


def _named(only: str) -> list[str]:
    """The programs that are asked for."""
    names = only.split(",")
    if unknown := [name for name in names if name not in PROGRAMS]:
        raise click.UsageError(
            f"There is no program {', '.join(map(repr, unknown))}; there are {', '.join(PROGRAMS)}."
        )
    for name in names:
        if sentence := _missing(name):
            raise MissingError(sentence)
    return names


def _missing(name: str) -> str:
    needs = PROGRAMS[name].needs
    if needs is None or accelerators.installed(needs[0]):
        return ""
    return f"{name} needs a package that is missing: pip install {needs[1]}"


def _keep(out: Path, device: str, name: str, row: dict[str, Any]) -> None:
    kept = json.loads(out.read_text()) if out.is_file() else {}
    context = harness.context()
    if needs := PROGRAMS[name].needs:
        package = needs[1].split()[0]
        context["versions"][package] = importlib.metadata.version(package)
    command = f"python benchmarks/compiled --device {device} --only {name}"
    row = {
        **row,
        "command": command,
        "versions": context["versions"],
        "compiled_on": context["device"],
    }
    programs = kept.get("programs", {}) | {name: row}
    ordered = {each: programs[each] for each in sorted(programs, key=_place)}
    files.write_json(out, {"accelerator": ACCELERATORS[device].about, "programs": ordered})


def _place(name: str) -> tuple[int, str]:
    return (list(PROGRAMS).index(name) if name in PROGRAMS else len(PROGRAMS), name)
