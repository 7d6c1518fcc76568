"""How everything is timed: compiled ahead, state donated, results waited for, contestants in turns."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from ddpg_jax.runs import folder
from ddpg_jax.types import Key, PyTree, Replay, Transition, strong


class Contestant:
    """A pure ``state -> (state, output)``, compiled ahead of time with its state donated; a call runs it once and waits.

    ``compile_seconds`` is what a cold compilation took, unless JAX was given a folder for its compilation cache.
    """

    def __init__(self, function: Callable[[PyTree], tuple[PyTree, PyTree]], state: PyTree) -> None:
        begin = time.perf_counter()
        self._program = jax.jit(function, donate_argnums=0).lower(state).compile()
        self.compile_seconds = time.perf_counter() - begin
        self._state = state

    def __call__(self) -> None:
        self._state, output = self._program(self._state)
        jax.block_until_ready((self._state, output))


def scanned(
    init: Callable[[Key], PyTree],
    step: Callable[[PyTree, Key], tuple[PyTree, PyTree]],
    iterations: int,
    keys: Key,
) -> Contestant:
    """``iterations`` of ``step(state, key) -> (state, output)`` in one scan; ``keys``: one key, or one per seed to vmap over.

    Each output is carried to the next iteration, so that none of its leaves is dead code.
    """

    def start(key: Key) -> PyTree:
        init_key, step_key, run_key = jax.random.split(key, 3)
        state = init(init_key)
        output = jax.eval_shape(lambda: step(state, step_key)[1])
        return strong((state, jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), output), run_key))

    def run(state: PyTree) -> tuple[PyTree, None]:
        inner, output, key = state
        key, scan_key = jax.random.split(key)
        body = lambda carry, key: (step(carry[0], key), None)
        (inner, output), _ = jax.lax.scan(body, (inner, output), jax.random.split(scan_key, iterations))
        return (inner, output, key), None

    over = jax.vmap if keys.ndim else lambda function: function
    return Contestant(over(run), jax.jit(over(start))(keys))


def alternate(contestants: Mapping[str, Callable[[], None]], repetitions: int) -> dict[str, list[float]]:
    """Seconds of each call: all contestants in turns, every second round backwards, after one call each that is not counted."""
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
    return {"median": statistics.median(values), "min": min(values), "max": max(values), "values": list(values)}


def transitions(key: Key, like: Transition, count: int) -> Transition:
    """``count`` random transitions shaped as ``like``: N(0, 1), actions from U[-1, 1], none terminal."""
    keys = jax.random.split(key, 4)
    normal = lambda key: jax.tree.map(lambda x: jax.random.normal(key, (count, *x.shape), x.dtype), like.observation)
    return Transition(
        observation=normal(keys[0]),
        action=jax.random.uniform(keys[1], (count, *like.action.shape), like.action.dtype, -1.0, 1.0),
        reward=jax.random.normal(keys[2], (count,)),
        discount=jnp.ones((count,)),
        next_observation=normal(keys[3]),
    )


def shaped(observation: Any, action: Any) -> Transition:
    """The shapes of one transition."""
    scalar: Any = jax.ShapeDtypeStruct((), jnp.float32)
    return Transition(observation=observation, action=action, reward=scalar, discount=scalar, next_observation=observation)


def filled(replay: Replay, key: Key, like: Transition, count: int) -> PyTree:
    """A replay that holds ``count`` rows; as many as its capacity, and samples reach all of its memory."""
    rows = transitions(key, like, count)
    return replay.add(replay.init(jax.tree.map(lambda x: x[0], rows)), rows)


def context() -> dict[str, Any]:
    """What a figure depends on besides the settings."""
    return {"versions": folder.versions(), "device": folder.device()}
