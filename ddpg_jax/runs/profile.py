"""Where the time of a run goes: a trace of a few chunks, and what their parts take alone beside
what a chunk takes.

It looks on and measures afterwards: what the run computes is the same with and without it.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import jax
import numpy as np

from ddpg_jax import envs
from ddpg_jax.environment import HostEnvironment
from ddpg_jax.envs.pixels import seen_options
from ddpg_jax.population import Programs
from ddpg_jax.runs import parts, timing
from ddpg_jax.runs.config.run_config import Config
from ddpg_jax.runs.folder import files, versions
from ddpg_jax.runs.programs import setup

TRACED = 2
"""Chunks in the trace, the first ones; fewer where none would be left that are not slowed down by
it."""
REPETITIONS = 5
CALL_SECONDS = 0.2
"""About what a timed call of all parts is to take."""
MOST = 1_000
"""Rounds in one such call."""


class Profile:
    """A context around a run: `watch` its programs, and `report` when it has ended."""

    def __init__(self, config: Config, place: Path) -> None:
        self._config, self._folder = config, place
        self._left = min(TRACED, max(1, config.num_chunks - 1))
        self._tracing = False
        self._seconds: dict[bool, list[float]] = {True: [], False: []}

    def __enter__(self) -> Profile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()

    def watch(self, programs: Programs) -> Programs:
        """The programs, the first chunks traced and each one timed."""

        def chunk(*arguments: Any) -> Any:
            if self._left and not self._tracing:
                options = jax.profiler.ProfileOptions()
                options.python_tracer_level = 0
                jax.profiler.start_trace(self._folder, profiler_options=options)
                self._tracing = True
            begin = time.perf_counter()
            made = jax.block_until_ready(programs.chunk(*arguments))
            self._seconds[self._tracing].append(time.perf_counter() - begin)
            self._left -= self._tracing
            if not self._left:
                self._end()
            return made

        return programs._replace(chunk=chunk)

    def _end(self) -> None:
        if self._tracing:
            self._tracing = False
            jax.profiler.stop_trace()

    def report(self, say: Callable[[str], None]) -> None:
        """Time the parts, say the shares, and write them into ``shares.json`` beside the trace."""
        chunks = self._seconds[False] or self._seconds[True]
        if not chunks:
            say("no chunk was left to train: there is nothing to profile.")
            return
        traced = f"trace of {len(self._seconds[True])} chunks, for TensorBoard or Perfetto: {self._folder}"
        say(f"{traced}; timing the parts of one ...")
        found = {
            "device": versions.describe_device(),
            "versions": versions.package_versions(),
            "chunks": len(chunks),
            "chunks_were_traced": not self._seconds[False],
            **shares(self._config, statistics.median(chunks)),
        }
        files.write_json(self._folder / "shares.json", found)
        say(sentences(found))


def shares(config: Config, chunk_seconds: float) -> dict[str, Any]:
    """Seconds of a round, of its parts alone, and what share of the round these are.

    A round: ``collect_steps`` steps of all environments, what they add to the replay, and
    ``updates_per_step`` updates, of all seeds. The rest is acting, drawing keys and adding up
    reports; less than nothing where parts alone run worse than together."""
    schedule = config.schedule
    seconds = chunk_seconds / schedule.rounds
    iterations = int(np.clip(CALL_SECONDS / seconds, 1, min(MOST, schedule.rounds)))
    contestants, operations = _contestants(config, iterations)
    timed = timing.alternate(contestants, REPETITIONS)
    each = {name: statistics.median(values) / iterations for name, values in timed.items()}
    for name in {"environment", "simulation"} & set(each):
        each[name] *= schedule.collect_steps
    each["update"], each["products"] = (
        schedule.updates_per_step * each[name] for name in ("update", "products")
    )
    alone = {name: each[name] / seconds for name in ("environment", "replay", "update")}
    seen = (
        {"rendering_over_environment": 1 - each["simulation"] / each["environment"]}
        if "simulation" in each
        else {}
    )
    return {
        "seconds_per_round": seconds,
        "rounds_timed": iterations * REPETITIONS,
        "seconds_alone": each,
        "shares": alone | {"rest": 1 - sum(alone.values())},
        **seen,
        "products_over_update": each["products"] / each["update"],
        "products_flops": operations * schedule.updates_per_step * config.seeds,
        "overlapping": isinstance(setup.environment(config, 1), HostEnvironment),
    }


def _contestants(config: Config, iterations: int) -> tuple[dict[str, Callable[[], None]], int]:
    """One environment step, and of one that is seen the same unseen; a round's use of the replay,
    one update, its matrix products; and how many operations those are."""
    env = setup.environment(config, config.hyperparameters.num_envs)
    made, schedule = setup.compose(config, env), config.schedule
    like = timing.shaped(env.observation, env.action)
    rows = _rows(config)
    update, stored = parts.updating(made.agent, made.replay, like), parts.kept(made.agent, like)
    products, operations = parts.multiplying(update)
    device = {
        "replay": parts.storing(
            made.replay,
            stored,
            rows,
            env.num_envs,
            schedule.collect_steps,
            schedule.updates_per_step,
        ),
        "update": update,
        "products": products,
    }
    if not isinstance(env, HostEnvironment):
        device = {"environment": parts.stepping(env), **_unseen(config)} | device
    keys = setup.member_keys(config)
    contestants: dict[str, Callable[[], None]] = {
        name: timing.scanned(*part, iterations, keys) for name, part in device.items()
    }
    if isinstance(env, HostEnvironment):
        contestants["environment"] = _on_host(env, iterations)
    return contestants, operations


def _unseen(config: Config) -> dict[str, parts.Part]:
    """The simulation alone, of an environment on the device that is seen through its camera."""
    seen, options = seen_options(config.env_options)
    if seen is None:
        return {}
    env = envs.make(config.env, num_envs=config.hyperparameters.num_envs, **options)
    times = seen.get("action_repeat", 1)
    return {"simulation": parts.stepping(env if times == 1 else envs.action_repeat(env, times))}


def _rows(config: Config) -> int:
    """Rows that the run's replay holds at its end, as one block of them can be stored: a divisor of
    its capacity. Frames are stored for all environments at once, so that a replay of them is timed
    with one block alone."""
    capacity = config.hyperparameters.replay_capacity
    if config.preset.images:
        return config.hyperparameters.num_envs
    held = max(1, min(capacity, config.trained_timesteps))
    return next(rows for rows in range(held, 0, -1) if capacity % rows == 0)


def _on_host(env: HostEnvironment, steps: int) -> Callable[[], None]:
    random = np.random.default_rng(0)
    actions = random.uniform(-1.0, 1.0, (steps, env.num_envs, *env.action.shape)).astype(
        env.action.dtype
    )
    env.reset(0)

    def call() -> None:
        for action in actions:
            env.step(action)

    return call


def sentences(found: dict[str, Any]) -> str:
    """The shares for a person."""
    shares, micro = found["shares"], 1e6 * found["seconds_per_round"]
    listed = ", ".join(f"{name} {share:.0%}" for name, share in shares.items())
    traced = ", slowed down by the trace" if found["chunks_were_traced"] else ""
    overlapping = (
        " The host steps the environments while the device learns: shares overlap."
        if found["overlapping"]
        else ""
    )
    drawn = found.get("rendering_over_environment")
    drawing = "" if drawn is None else f" Drawing is {drawn:.0%} of the environment."
    return (
        f"a round takes {micro:,.0f} us in the run (median of {found['chunks']} chunks{traced}); its parts alone: {listed} "
        f"(acting, keys, reports).{drawing}{overlapping}\n"
        f"matrix products alone take {found['products_over_update']:.0%} of an update's time."
    )
