"""What only a real accelerator can say, part by part, for a person who has one; `benchmarks/accelerator.sh` runs all.

    python benchmarks/accelerator.py updates
    python benchmarks/accelerator.py members --toy

Each part writes ``accelerator_PART.json`` after each single measurement, so that a kill loses nothing, and begins none after
``--minutes``. Needs jax, flax, optax and chex; the Brax parts need brax too, and SBX stands beside ours where it is installed.
"""

import contextlib
import functools
import importlib.util
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import click

RESULTS = Path(__file__).resolve().parent / "results"
MINUTES = 7.0
REPETITIONS = 5
BASE = {"batch_size": 256, "hidden": 256}
KERNEL_SECONDS, ROUND_SECONDS = 2.5e-6, 8e-6
"""What launching a kernel and beginning another iteration of a scan take on a GPU, as predicted."""


class Point(NamedTuple):
    """One measurement: what it is of, who takes part in turns, and how much a call of each is."""

    settings: dict[str, Any]
    contestants: dict[str, Callable[[], Any]]
    """By name, what makes the compiled call."""
    counts: dict[str, int]
    """Of a call: ``updates``, ``env_steps``, ``rounds``."""


def points_of_updates(toy: bool) -> Iterator[Point]:
    """Every agent by batch, width and dtype; the usual sizes first, then those that differ from them in one, then the rest."""
    batches, widths, iterations = ((4,), (8,), 4) if toy else ((64, 256, 1_024, 4_096, 32_768), (64, 256, 1_024), 200)
    base = {"batch_size": batches[0], "hidden": widths[0]} if toy else BASE
    grid = [{"batch_size": batch, "hidden": width} for batch in batches for width in widths]
    away = lambda one: sum(one["sizes"][name] != base[name] for name in base) + (one["dtype"] != "float32")
    names = ("ddpg",) if toy else ("ddpg", "td3", "d4pg", "td3_categorical")
    all_of: list[dict[str, Any]] = [
        {"agent": name, "dtype": dtype, "sizes": sizes} for sizes in grid for dtype in ("float32", "bfloat16") for name in names
    ]
    for one in sorted(all_of, key=away):
        settings = {"agent": one["agent"], "dtype": one["dtype"], **one["sizes"]}
        beside = one["agent"] in ("ddpg", "td3") and one["dtype"] == "float32" and away(one) < 2
        peers = {"sbx": functools.partial(_sbx, settings, iterations)} if beside and _has("sbx") else {}
        yield _updates(settings, iterations, peers)


def points_of_members(toy: bool) -> Iterator[Point]:
    """Many agents in one program, at the usual sizes and at small ones."""
    counts, iterations = ((1, 3), 4) if toy else ((1, 8, 64, 512, 2_048), 100)
    sizes = [{"batch_size": 4, "hidden": 8}] if toy else [BASE, {"batch_size": 64, "hidden": 64}]
    for name in ("ddpg",) if toy else ("ddpg", "td3"):
        for size in sizes:
            for members in counts:
                settings = {"agent": name, "dtype": "float32", **size, "members": members}
                yield _updates(settings, iterations, {}, capacity=10_000 if members < 512 else 2_000)


def points_of_loop(env: str, options: dict[str, Any], hidden: int, toy: bool) -> Iterator[Point]:
    """The whole loop of TD3, one update of two batches a round, by the number of environments."""
    counts, iterations = ((4,), 4) if toy else ((4_096, 1, 16_384, 256, 16, 1_024), 100)
    for dtype in ("float32",) if toy else ("float32", "bfloat16"):
        for num_envs in counts:
            batch_size = 4 if toy else min(8_192, max(256, 2 * num_envs))
            settings = {"agent": "td3", "env": env, **options, "dtype": dtype, "num_envs": num_envs}
            settings |= {"batch_size": batch_size, "hidden": 8 if toy else hidden}
            counted = {"env_steps": iterations * num_envs, "updates": 2 * iterations, "rounds": iterations}
            yield Point(settings, {"ddpg_jax": functools.partial(_loop, settings, options, iterations)}, counted)


def _updates(settings: dict[str, Any], iterations: int, others: dict[str, Any], **more: Any) -> Point:
    def build() -> Any:
        import jax.numpy as jnp

        from benchmarks import programs

        given = {name: value for name, value in settings.items() if name not in ("agent", "dtype")}
        dtype = getattr(jnp, settings["dtype"])
        return programs.updates(settings["agent"], iterations=iterations, dtype=dtype, **given, **more)

    batches = 2 if settings["agent"].startswith("td3") else 1
    counts = {"updates": iterations * settings.get("members", 1), "rounds": iterations // batches}
    return Point(settings, {"ddpg_jax": build, **others}, counts)


def _sbx(settings: dict[str, Any], steps: int) -> Any:
    from benchmarks.peers import sbx

    sizes = {name: settings[name] for name in ("batch_size", "hidden")}
    return sbx.Theirs(settings["agent"], **sizes, steps=steps)


def _loop(settings: dict[str, Any], options: dict[str, Any], iterations: int) -> Any:
    import jax
    import jax.numpy as jnp

    from benchmarks import programs
    from ddpg_jax import envs

    env = envs.make(settings["env"], settings["num_envs"], **options)
    widths, dtype = (settings["hidden"],) * 2, getattr(jnp, settings["dtype"])
    made = programs.agent_of(settings["agent"], env.action.shape[-1], widths, dtype)
    return programs.loop(
        made.agent,
        env,
        capacity=settings["num_envs"] * max(64, 2 * settings["batch_size"] // settings["num_envs"]),
        batch_size=settings["batch_size"] * made.batches,
        updates_per_step=1,
        iterations=iterations,
        keys=jax.random.key(0),
    )


def _has(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


class Part(NamedTuple):
    """What is measured together: its points in order, the telling ones first, and what it needs installed."""

    about: str
    points: Callable[[bool], Iterator[Point]]
    needs: str | None = None


PARTS = {
    "updates": Part("updates/s of every agent by batch, width and dtype, beside SBX", points_of_updates),
    "members": Part("updates/s of 1 to 2,048 agents in one program", points_of_members),
    "pendulum": Part("the whole loop, 1 to 16,384 environments", lambda toy: points_of_loop("pendulum", {}, 64, toy)),
    "ant": Part("the same of brax/ant", lambda toy: points_of_loop("brax/ant", {"backend": "spring"}, 256, toy), "brax"),
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
    from benchmarks import timing
    from ddpg_jax.runs import folder

    part, began = PARTS[name], time.monotonic()
    result: dict[str, Any] = {**timing.context(), "part": name, "toy": toy, "minutes": minutes, "measured": [], "left_out": []}
    if part.needs and not _has(part.needs):
        result["skipped"] = f"part {name} needs {part.needs}, which is not installed: pip install {part.needs}"
        click.echo(result["skipped"])
        folder.write_json(out, result)
        return
    for point in part.points(toy):
        if time.monotonic() - began > 60 * minutes:
            result["left_out"].append(point.settings)
        else:
            result["measured"].append(found := _measured(point))
            click.echo(sentence(found))
        folder.write_json(out, result)
    if result["left_out"]:
        click.echo(f"{minutes:g} minutes are over: {len(result['left_out'])} measurements are left out.")
    click.echo(str(out))


def _measured(point: Point) -> dict[str, Any]:
    """Rates of each contestant, or why there is none."""
    from benchmarks import timing
    from ddpg_jax import checks

    found: dict[str, Any] = {"settings": point.settings, "counts": point.counts, "compile_seconds": {}, "seconds_per_call": {}}
    try:
        calls = {name: make() for name, make in point.contestants.items()}
        found["compile_seconds"] = {name: call.compile_seconds for name, call in calls.items()}
        seconds = timing.alternate(calls, REPETITIONS)
    except Exception as error:  # too large for this device, say: the next may fit
        return found | {"error": f"{type(error).__name__}: {checks.first_line(error)}"}
    found["seconds_per_call"] = {name: timing.spread(values) for name, values in seconds.items()}
    for what, count in point.counts.items():
        found[f"{what}_per_second"] = {name: count / one["median"] for name, one in found["seconds_per_call"].items()}
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
    """Which kernels the update of each agent runs at the usual sizes, and how long each of them takes."""
    from benchmarks import kernels, programs, timing
    from ddpg_jax.runs import folder

    sizes, rounds = ({"batch_size": 4, "hidden": 8}, 2) if toy else (BASE, 100)
    result: dict[str, Any] = {
        **timing.context(),
        "part": KERNELS,
        "toy": toy,
        "rounds": rounds,
        "settings": sizes,
        "agents": {},
    }
    for name in programs.AGENTS:
        batches = 2 if name.startswith("td3") else 1
        call = programs.updates(name, iterations=rounds * batches, **sizes)
        call()
        result["agents"][name] = found = kernels.run(call)
        folder.write_json(out, result)
        count, seconds = (sum(one[key] for one in found) / rounds for key in ("count", "seconds"))
        click.echo(f"{name:16} {count:6.1f} kernels a round, {1e6 * seconds:7.1f} us of them (some side by side)")
    click.echo(str(out))


def predict(out: Path, results: Path) -> None:
    """Beside each measured update at the usual sizes, what the number of its kernels predicts."""
    from benchmarks import timing
    from ddpg_jax.runs import folder

    compiled, measured = results / "compiled_h100.json", out.with_name("accelerator_updates.json")
    if missing := [path for path in (compiled, measured) if not path.is_file()]:
        raise click.ClickException(f"{missing[0]} is missing: what is predicted and what is measured come from there.")
    known = kernels(json.loads(compiled.read_text()))
    rows = [row for one in json.loads(measured.read_text())["measured"] if (row := _row(one, known)) is not None]
    folder.write_json(out, {**timing.context(), "part": PREDICTED, "rows": rows})
    click.echo("agent            kernels  predicted us  measured us  ratio")
    for row in rows:
        figures = (1e6 * row["predicted_seconds"], 1e6 * row["measured_seconds"], row["measured_over_predicted"])
        click.echo("{:16} {:7} {:13,.1f} {:12,.1f} {:6.2f}".format(row["agent"], row["kernels"], *figures))
    click.echo(str(out))


def kernels(compiled: dict[str, Any]) -> dict[str, int]:
    """Kernels of an update, by the program's name."""
    return {name: one["kernels_per_update"] for name, one in compiled["programs"].items()}


def _row(one: dict[str, Any], known: dict[str, int]) -> dict[str, Any] | None:
    settings = one["settings"]
    usual = settings["dtype"] == "float32" and all(settings[name] == value for name, value in BASE.items())
    if not usual or "error" in one or settings["agent"] not in known:
        return None
    count, seconds = known[settings["agent"]], one["seconds_per_call"]["ddpg_jax"]["median"] / one["counts"]["rounds"]
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
@click.option("--minutes", default=MINUTES, show_default=True, help="After which no measurement of a part is begun.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default=RESULTS, help="[default: benchmarks/results]")
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
