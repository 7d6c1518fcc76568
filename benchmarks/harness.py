"""How parts are timed: compiled ahead, state donated, results waited for, contestants in turns."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import jax
import jax.numpy as jnp

from ddpg_jax.runs.folder import files, versions
from ddpg_jax.types import Key, PyTree, Replay, Transition, strong

RESULTS = Path(__file__).resolve().parent / "results"
Step = Callable[[PyTree, Key], tuple[PyTree, PyTree]]
"""``step(state, key) -> (state, output)``."""
Part = tuple[Callable[[Key], PyTree], Step]
"""What is timed: ``init(key) -> state``, and a `Step`."""


class Contestant:
    """A pure ``state -> (state, output)``, compiled ahead of time with its state donated; a call
    runs it once and waits.

    ``compile_seconds`` is what a cold compilation took, unless JAX was given a folder for its
    compilation cache.
    """

    def __init__(self, function: Callable[[PyTree], tuple[PyTree, PyTree]], state: PyTree) -> None:
        begin = time.perf_counter()
        self._program = jax.jit(function, donate_argnums=0).lower(state).compile()
        self.compile_seconds = time.perf_counter() - begin
        self._state = state

    def __call__(self) -> None:
        self._state, output = self._program(self._state)
        jax.block_until_ready((self._state, output))


def repeated(step: Step, count: int, keys: tuple[int, ...] = ()) -> Step:
    """``count`` steps in one scan, given ``keys`` each (the shape; ``()`` is one); the last output
    comes out.

    Each output is carried to the next step, so that none of its leaves is dead code, and none is
    stored ``count`` times.
    """

    def run(state: PyTree, key: Key) -> tuple[PyTree, PyTree]:
        each = jax.random.split(key, (count, *keys))
        shapes = jax.eval_shape(step, state, each[0])[1]
        output = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
        return jax.lax.scan(lambda carry, key: (step(carry[0], key), None), (state, output), each)[
            0
        ]

    return run


def program(
    init: Callable[[Key], PyTree], step: Step, iterations: int, keys_each: tuple[int, ...] = ()
) -> tuple[Callable[[Key], PyTree], Callable[[PyTree], tuple[PyTree, PyTree]]]:
    """Return ``start(key) -> state`` and ``run(state)`` of ``iterations`` steps in one scan."""

    def start(key: Key) -> PyTree:
        init_key, run_key = jax.random.split(key)
        return strong((init(init_key), run_key))

    def run(state: PyTree) -> tuple[PyTree, PyTree]:
        inner, key = state
        key, scan_key = jax.random.split(key)
        inner, output = repeated(step, iterations, keys_each)(inner, scan_key)
        return (inner, key), output

    return start, run


def scanned(
    init: Callable[[Key], PyTree],
    step: Step,
    iterations: int,
    keys: Key,
    keys_each: tuple[int, ...] = (),
) -> Contestant:
    """Return ``iterations`` of a step in one scan.

    Args:
        init, step: a `Part`.
        iterations: of the step.
        keys: one, or one per seed to vmap over.
        keys_each: the shape of a step's keys, as of `repeated`.
    """
    start, run = program(init, step, iterations, keys_each)
    over = jax.vmap if keys.ndim else lambda function: function
    return Contestant(over(run), jax.jit(over(start))(keys))


def race(
    contestants: Mapping[str, Any], repetitions: int
) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Return the seconds of each call, as of `alternate`, and those of compiling."""
    compile_seconds = {name: call.compile_seconds for name, call in contestants.items()}
    return alternate(contestants, repetitions), compile_seconds


def rates(seconds: Mapping[str, Sequence[float]], count: float) -> dict[str, dict[str, Any]]:
    """Return a second's share of ``count``, which each call does, with their `spread`."""
    return {name: spread([count / one for one in each]) for name, each in seconds.items()}


def per_call(seconds: Mapping[str, Sequence[float]], count: int) -> dict[str, dict[str, Any]]:
    """Return seconds of one of the ``count`` things that each call does, with their `spread`."""
    return {name: spread([one / count for one in each]) for name, each in seconds.items()}


def alternate(
    contestants: Mapping[str, Callable[[], Any]], repetitions: int
) -> dict[str, list[float]]:
    """Seconds of each call: all contestants in turns, every second round backwards, after one call
    each that is not counted.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for call in contestants.values():
        call()
    for repetition in range(repetitions):
        for name in list(contestants)[:: 1 if repetition % 2 == 0 else -1]:
            begin = time.perf_counter()
            contestants[name]()
            seconds[name].append(time.perf_counter() - begin)
    return seconds


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Median, extremes and the values themselves."""
    return {
        "median": statistics.median(values),
        "min": min(values),
        "max": max(values),
        "values": list(values),
    }


def transitions(key: Key, like: Transition, count: int) -> Transition:
    """``count`` random transitions shaped as ``like``: N(0, 1), images of any bytes, actions from
    U[-1, 1], none terminal.
    """
    keys = jax.random.split(key, 4)

    def shown(key: Key) -> PyTree:
        draw = lambda x: jax.random.bits if x.dtype == jnp.uint8 else jax.random.normal
        return jax.tree.map(lambda x: draw(x)(key, (count, *x.shape), x.dtype), like.observation)

    return Transition(
        observation=shown(keys[0]),
        action=jax.random.uniform(
            keys[1], (count, *like.action.shape), like.action.dtype, -1.0, 1.0
        ),
        reward=jax.random.normal(keys[2], (count,)),
        discount=jnp.ones((count,)),
        next_observation=shown(keys[3]),
    )


def shaped(observation: Any, action: Any) -> Transition:
    """The shapes of one transition."""
    scalar: Any = jax.ShapeDtypeStruct((), jnp.float32)
    return Transition(
        observation=observation,
        action=action,
        reward=scalar,
        discount=scalar,
        next_observation=observation,
    )


def filled(replay: Replay, key: Key, like: Transition, count: int) -> PyTree:
    """A replay that holds ``count`` rows; as many as its capacity, and samples reach all of its
    memory.
    """
    rows = transitions(key, like, count)
    return replay.add(replay.init(jax.tree.map(lambda x: x[0], rows)), rows)


def context() -> dict[str, Any]:
    """Return what a figure depends on besides the settings."""
    return {"versions": versions.package_versions(), "device": versions.describe_device()}


def slug(env: str) -> str:
    """The name of an environment as part of a file's name."""
    return env.replace("/", "_").replace(":", "_")


def write(out: Path, found: dict[str, Any]) -> None:
    """Write figures as JSON, with what they depend on."""
    files.write_json(out, {**context(), **found})


def options(name: str, repetitions: int = 5) -> Callable[[Callable], Callable]:
    """Return a decorator that adds ``--repetitions`` and ``--out``, by default a JSON ``name``.

    A name with brackets is a pattern for the help alone, and the default None.
    """
    out = click.option(
        "--out",
        type=click.Path(path_type=Path),
        default=None if "[" in name else RESULTS / f"{name}.json",
        help=f"[default: benchmarks/results/{name.removesuffix('[]')}.json]",
        show_default=False,
    )
    again = click.option("--repetitions", default=repetitions, show_default=True)
    return lambda function: again(out(function))


def table(result: Mapping[str, Any]) -> str:
    """Return seconds per iteration, rates and ratios for a person."""
    lines = []
    for name, value in result["seconds_per_iteration"].items():
        low, middle, high = (1e6 * value[part] for part in ("min", "median", "max"))
        compile_seconds = result["compile_seconds"][name]
        lines.append(
            f"{name:18} {middle:11.1f} us [{low:.1f}, {high:.1f}], compile {compile_seconds:.1f} s"
        )
    lines += [f"{name:40} {value:12,.0f}" for name, value in result.get("rates", {}).items()]
    lines += [f"{name:40} {value:12.3f}" for name, value in result["ratios"].items()]
    return "\n".join(lines)
