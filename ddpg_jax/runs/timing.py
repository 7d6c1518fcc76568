"""How parts are timed: compiled ahead, state donated, results waited for, contestants in turns."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from ddpg_jax.types import Key, PyTree, Replay, Transition, strong

Step = Callable[[PyTree, Key], tuple[PyTree, PyTree]]
"""``step(state, key) -> (state, output)``."""
Part = tuple[Callable[[Key], PyTree], Step]
"""What is timed: ``init(key) -> state``, and a `Step`."""


class Contestant:
    """A pure ``state -> (state, output)``, compiled ahead of time with its state donated; a call
    runs it once and waits.

    ``compile_seconds`` is what a cold compilation took, unless JAX was given a folder for its
    compilation cache."""

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
    stored ``count`` times."""

    def run(state: PyTree, key: Key) -> tuple[PyTree, PyTree]:
        each = jax.random.split(key, (count, *keys))
        shapes = jax.eval_shape(step, state, each[0])[1]
        output = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
        return jax.lax.scan(lambda carry, key: (step(carry[0], key), None), (state, output), each)[
            0
        ]

    return run


def scanned(
    init: Callable[[Key], PyTree],
    step: Step,
    iterations: int,
    keys: Key,
    keys_each: tuple[int, ...] = (),
) -> Contestant:
    """``iterations`` of a step in one scan; ``keys``: one, or one per seed to vmap over;
    ``keys_each``: as of `repeated`."""

    def start(key: Key) -> PyTree:
        init_key, run_key = jax.random.split(key)
        return strong((init(init_key), run_key))

    def run(state: PyTree) -> tuple[PyTree, PyTree]:
        inner, key = state
        key, scan_key = jax.random.split(key)
        inner, output = repeated(step, iterations, keys_each)(inner, scan_key)
        return (inner, key), output

    over = jax.vmap if keys.ndim else lambda function: function
    return Contestant(over(run), jax.jit(over(start))(keys))


def alternate(
    contestants: Mapping[str, Callable[[], Any]], repetitions: int
) -> dict[str, list[float]]:
    """Seconds of each call: all contestants in turns, every second round backwards, after one call
    each that is not counted."""
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
    U[-1, 1], none terminal."""
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
    memory."""
    rows = transitions(key, like, count)
    return replay.add(replay.init(jax.tree.map(lambda x: x[0], rows)), rows)
