"""What only a real accelerator can say, part by part, for a person who has one;
`benchmarks/accelerator.sh` runs all.

    python benchmarks/accelerator.py updates
    python benchmarks/accelerator.py members --toy

Each part writes ``accelerator_PART.json`` after each single measurement, so that a kill loses
nothing, and begins none after ``--minutes``. Needs jax, flax, optax and chex; the Brax parts need
brax too, and SBX stands beside ours where it is installed.
"""

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import click

from benchmarks.accelerator_points import (
    BASE,
    Point,
    has,
    points_of_loop,
    points_of_members,
    points_of_population,
    points_of_updates,
)

RESULTS = Path(__file__).resolve().parent / "results"
MINUTES = 7.0
REPETITIONS = 5
KERNEL_SECONDS, ROUND_SECONDS = 2.5e-6, 8e-6
"""What launching a kernel and beginning another iteration of a scan take on a GPU, as predicted."""


def _nothing(toy: bool) -> Iterator[Point]:
    return iter(())


class Part(NamedTuple):
    """What is measured together: its points in order, the telling ones first, and what it needs
    installed; or the task of `benchmarks.accelerator_reach` on which a return is to be reached.
    """

    about: str
    points: Callable[[bool], Iterator[Point]] = _nothing
    needs: str | None = None
    reach: str | None = None


PARTS = {
    "updates": Part(
        "updates/s of every agent by batch, width and dtype, beside SBX", points_of_updates
    ),
    "members": Part("updates/s of 1 to 2,048 agents in one program", points_of_members),
    "population": Part(
        "the whole loop of 1 to 2,048 members, each with its environment and replay",
        points_of_population,
    ),
    "reach_ant": Part(
        "seconds to a return on brax/ant, large batches", needs="brax", reach="brax/ant"
    ),
    "reach_halfcheetah": Part(
        "the same on brax/halfcheetah", needs="brax", reach="brax/halfcheetah"
    ),
    "reach_cheetahrun": Part(
        "the same on playground/CheetahRun",
        needs="mujoco_playground",
        reach="playground/CheetahRun",
    ),
    "pendulum": Part(
        "the whole loop, 1 to 16,384 environments",
        lambda toy: points_of_loop("pendulum", {}, 64, toy),
    ),
    "ant": Part(
        "the same of brax/ant",
        lambda toy: points_of_loop("brax/ant", {"backend": "spring"}, 256, toy),
        "brax",
    ),
    "halfcheetah": Part(
        "the same of brax/halfcheetah",
        lambda toy: points_of_loop("brax/halfcheetah", {"backend": "spring"}, 256, toy),
        "brax",
    ),
}
KERNELS, PREDICTED = "kernels", "predicted"
NAMES = (*PARTS, KERNELS, PREDICTED)


def measure(name: str, out: Path, minutes: float, toy: bool) -> None:
    """Measure a part, and write what is known so far after each measurement."""
    from benchmarks import harness
    from ddpg_jax.runs.folder import files

    part, began = PARTS[name], time.monotonic()
    result: dict[str, Any] = {
        **harness.context(),
        "part": name,
        "toy": toy,
        "minutes": minutes,
        "measured": [],
        "left_out": [],
    }
    if part.needs and not has(part.needs):
        package = part.needs.removeprefix("mujoco_")
        result["skipped"] = (
            f"part {name} needs {part.needs}, which is not installed: pip install {package}"
        )
        click.echo(result["skipped"])
        files.write_json(out, result)
        return
    if part.reach:
        from benchmarks import accelerator_reach as reach

        task = reach.TASKS[part.reach]
        keep = lambda found: files.write_json(out, result | {"measured": [found]})
        reach.measure(reach.config_of(task, toy), task.marks, minutes, keep)
    for point in part.points(toy):
        if time.monotonic() - began > 60 * minutes:
            result["left_out"].append(point.settings)
        else:
            result["measured"].append(found := _measured(point))
            click.echo(sentence(found))
        files.write_json(out, result)
    if result["left_out"]:
        click.echo(
            f"{minutes:g} minutes are over: {len(result['left_out'])} measurements are left out."
        )
    click.echo(str(out))


def _measured(point: Point) -> dict[str, Any]:
    """Rates of each contestant, or why there is none."""
    from benchmarks import harness
    from ddpg_jax import checks

    found: dict[str, Any] = {
        "settings": point.settings,
        "counts": point.counts,
        "compile_seconds": {},
        "seconds_per_call": {},
    }
    try:
        calls = {name: make() for name, make in point.contestants.items()}
        found["compile_seconds"] = {name: call.compile_seconds for name, call in calls.items()}
        seconds = harness.alternate(calls, REPETITIONS)
    except Exception as error:  # too large for this device, say: the next may fit
        return found | {"error": f"{type(error).__name__}: {checks.first_line(error)}"}
    found["seconds_per_call"] = {name: harness.spread(values) for name, values in seconds.items()}
    for what, count in point.counts.items():
        found[f"{what}_per_second"] = {
            name: count / one["median"] for name, one in found["seconds_per_call"].items()
        }
    return found


def sentence(found: dict[str, Any]) -> str:
    """One measurement for a person."""
    what = " ".join(str(value) for value in found["settings"].values())
    if "error" in found:
        return f"{what}: {found['error']}"
    rates = [
        f"{name} {found[key][name]:,.0f} {key.removesuffix('_per_second').replace('_', ' ')}/s"
        for name in found["seconds_per_call"]
        for key in ("env_steps_per_second", "updates_per_second")
        if key in found
    ]
    return f"{what}: {', '.join(rates)}; compile {found['compile_seconds']['ddpg_jax']:.1f} s"


def trace(out: Path, toy: bool) -> None:
    """Which kernels the update of each agent runs at the usual sizes, and how long each of them
    takes.
    """
    from benchmarks import harness, kernel_trace, workloads
    from ddpg_jax.runs.folder import files

    sizes, rounds = ({"batch_size": 4, "hidden": 8}, 2) if toy else (BASE, 100)
    result: dict[str, Any] = {
        **harness.context(),
        "part": KERNELS,
        "toy": toy,
        "rounds": rounds,
        "settings": sizes,
        "agents": {},
    }
    for name in workloads.AGENTS:
        batches = 2 if name.startswith("td3") else 1
        call = workloads.updates(name, iterations=rounds * batches, **sizes)
        call()
        result["agents"][name] = found = kernel_trace.run(call)
        files.write_json(out, result)
        count, seconds = (sum(one[key] for one in found) / rounds for key in ("count", "seconds"))
        click.echo(
            f"{name:16} {count:6.1f} kernels a round, {1e6 * seconds:7.1f} us of them "
            "(some side by side)"
        )
    click.echo(str(out))


def predict(out: Path, results: Path) -> None:
    """Beside each measured update at the usual sizes, what the number of its kernels predicts."""
    from benchmarks import harness
    from ddpg_jax.runs.folder import files

    compiled, measured = results / "compiled_h100.json", out.with_name("accelerator_updates.json")
    if missing := [path for path in (compiled, measured) if not path.is_file()]:
        raise click.ClickException(
            f"{missing[0]} is missing: what is predicted and what is measured come from there."
        )
    known = kernels(json.loads(compiled.read_text()))
    rows = [
        row
        for one in json.loads(measured.read_text())["measured"]
        if (row := _row(one, known)) is not None
    ]
    files.write_json(out, {**harness.context(), "part": PREDICTED, "rows": rows})
    click.echo("agent            kernels  predicted us  measured us  ratio")
    for row in rows:
        figures = (
            1e6 * row["predicted_seconds"],
            1e6 * row["measured_seconds"],
            row["measured_over_predicted"],
        )
        click.echo(
            "{:16} {:7} {:13,.1f} {:12,.1f} {:6.2f}".format(row["agent"], row["kernels"], *figures)
        )
    click.echo(str(out))


def kernels(compiled: dict[str, Any]) -> dict[str, int]:
    """Kernels of an update, by the program's name."""
    return {name: one["kernels_per_update"] for name, one in compiled["programs"].items()}


def _row(one: dict[str, Any], known: dict[str, int]) -> dict[str, Any] | None:
    settings = one["settings"]
    usual = settings["dtype"] == "float32" and all(
        settings[name] == value for name, value in BASE.items()
    )
    if not usual or "error" in one or settings["agent"] not in known:
        return None
    count, seconds = (
        known[settings["agent"]],
        one["seconds_per_call"]["ddpg_jax"]["median"] / one["counts"]["rounds"],
    )
    predicted = count * KERNEL_SECONDS + ROUND_SECONDS
    return {
        "agent": settings["agent"],
        "kernels": count,
        "predicted_seconds": predicted,
        "measured_seconds": seconds,
        "measured_over_predicted": seconds / predicted,
    }


@click.command()
@click.argument("parts", nargs=-1)
@click.option("--list", "listed", is_flag=True, help="Say the parts in their order, and stop.")
@click.option("--toy", is_flag=True, help="Sizes for a try, which say nothing.")
@click.option(
    "--minutes",
    default=MINUTES,
    show_default=True,
    help="After which no measurement of a part is begun.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=RESULTS,
    help="[default: benchmarks/results]",
)
def main(parts: tuple[str, ...], listed: bool, toy: bool, minutes: float, out: Path) -> None:
    """Measure PARTS, one after the other; without any, all of them."""
    if unknown := [name for name in parts if name not in NAMES]:
        raise click.UsageError(f"unknown part {unknown[0]!r}: choose of {', '.join(NAMES)}.")
    for name in parts or NAMES:
        if listed:
            click.echo(name)
            continue
        path = out / f"accelerator_{name}.json"
        if name == PREDICTED:
            predict(path, RESULTS)
        elif name == KERNELS:
            trace(path, toy)
        else:
            measure(name, path, minutes, toy)


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        main()
