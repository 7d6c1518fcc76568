"""What the studies share: many members trained in one program, statistics over seeds, and the JSON
and PNG they write.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np

from benchmarks import harness
from ddpg_jax import population
from ddpg_jax.environment import HostEnvironment
from ddpg_jax.runs.config.run_config import Config
from ddpg_jax.runs.folder import files
from ddpg_jax.runs.programs import build, evaluation, setup
from ddpg_jax.runs.results.statistics import bootstrap_interval, interquartile_mean
from ddpg_jax.types import Agent, AgentState


class Trained(NamedTuple):
    """``groups`` (rows of the numbers that vary, or 1) times ``seeds`` members."""

    agent: Agent
    state: AgentState
    """Every leaf has a leading axis ``groups * seeds``."""
    steps: np.ndarray
    """``[T]`` environment steps of each evaluation; the first is before any update."""
    curve: np.ndarray
    """``[groups, T, seeds]``: mean return of deterministic episodes."""
    final: np.ndarray
    """``[groups, seeds]``: the mean of 100 fresh deterministic episodes."""
    seconds: dict[str, float]


def train(config: Config, vary: Mapping[str, Sequence[float]] | None = None) -> Trained:
    """Train ``config.seeds`` members for each row of ``vary`` (names of a preset's numbers), all in
    one program.
    """
    agent = build.build(config).agent
    everyone = population.make_population(build.member_of(config))
    keys, hyperparameters = population.members(setup.member_keys(config), vary)
    groups = keys.size // config.seeds
    programs = population.compiled(everyone, keys, hyperparameters)
    begin = time.perf_counter()

    def returns(state: AgentState, stream: int, number: int) -> np.ndarray:
        fresh, _ = population.members(evaluation.evaluation_keys(config, stream, number), vary)
        values = (
            np.asarray(programs.evaluate(state, fresh, hyperparameters), np.float64)
            .mean(axis=1)
            .reshape(groups, config.seeds)
        )
        if not np.isfinite(values).all():
            raise click.ClickException(
                f"{config.env}, preset {config.preset.name}: a return is not finite"
            )
        return values

    state = programs.start(keys, hyperparameters)
    steps, curve = (
        [config.schedule.steps_after(0)],
        [returns(state.agent, evaluation.TRAINING_STREAM, 0)],
    )
    chunks = config.schedule.chunks(config.hyperparameters.total_timesteps)
    for index in range(1, chunks + 1):
        state, _ = programs.chunk(state, hyperparameters)
        at, each = config.schedule.steps_after(index), config.schedule.steps_per_chunk
        if index == chunks or config.due("evaluate_every", at, each):
            steps.append(at)
            curve.append(returns(state.agent, evaluation.TRAINING_STREAM, index))
    rounds = -(-config.final_episodes // config.evaluation_episodes)
    final = np.mean(
        [returns(state.agent, evaluation.FINAL_STREAM, index) for index in range(rounds)], axis=0
    )
    seconds = {"compile": programs.seconds, "train_and_evaluate": time.perf_counter() - begin}
    return Trained(agent, state.agent, np.array(steps), np.stack(curve, axis=1), final, seconds)


def random_on_host(env: HostEnvironment, episodes: int) -> list[float]:
    """Returns of ``episodes`` episodes, one after the other, of actions from U[-1, 1]."""
    generator, returns, total = np.random.default_rng(0), list[float](), 0.0
    env.reset(0)
    while len(returns) < episodes:
        now = env.step(generator.uniform(-1, 1, (1, *env.action.shape)).astype(np.float32))
        total += float(now.reward[0])
        if now.terminated[0] or now.truncated[0]:
            returns, total = [*returns, total], 0.0
    env.close()
    return returns


def shell(cache: Path | None = None) -> dict[str, str]:
    """Environment variables for `train_by_command`: compiled programs are kept in ``cache`` alone,
    or nowhere.
    """
    kept = {
        name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"
    }
    return kept | {"DDPG_JAX_CACHE": str(cache or "off")}


def train_by_command(
    arguments: list[str], folder: Path, environment: dict[str, str]
) -> dict[str, Any]:
    """`ddpg-jax train` in a process of its own, with its run in ``folder``: the run's summary."""
    command = [
        sys.executable,
        "-m",
        "ddpg_jax.runs.cli.commands",
        "train",
        *arguments,
        "--run-dir",
        str(folder),
    ]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise click.ClickException(f"`{' '.join(command)}` failed: {done.stderr.strip()[-2_000:]}")
    return json.loads((folder / "summary.json").read_text())


def spread(values: Any) -> dict[str, Any]:
    """A figure over seeds: moments, quartiles, extremes, the interquartile mean and its interval,
    and the values.
    """
    values = np.asarray(values, np.float64)
    low, high = bootstrap_interval(values)
    quartiles = np.percentile(values, [25, 50, 75])
    return {
        "mean": float(values.mean()),
        "std": float(values.std(ddof=1)) if len(values) > 1 else 0.0,
        "interquartile_mean": float(interquartile_mean(values)),
        "interquartile_mean_interval": [float(low), float(high)],
        "quartiles": quartiles.tolist(),
        "interquartile_range": float(quartiles[2] - quartiles[0]),
        "min": float(values.min()),
        "max": float(values.max()),
        "values": values.tolist(),
    }


def draw_curves(axis: Any, steps: np.ndarray, values: np.ndarray, label: str, **style: Any) -> None:
    """``values: [T, seeds]``: the interquartile mean with its 95 % interval, and the mean, thin and
    dotted.
    """
    (line,) = axis.plot(steps, interquartile_mean(values), label=label, **style)
    axis.fill_between(
        steps, *bootstrap_interval(values), color=line.get_color(), alpha=0.2, linewidth=0
    )
    axis.plot(steps, values.mean(axis=-1), color=line.get_color(), lw=0.8, ls=":")
    axis.grid(alpha=0.3)


def canvas(rows: int, columns: int, width: float, height: float, **options: Any) -> tuple[Any, Any]:
    """A figure without global state, and its axes ``[rows, columns]``, each so large in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * columns, height * rows), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def finish(out: Path, result: dict[str, Any], figure: Any, begun: float) -> None:
    """Write the JSON and, beside it, the picture, and say where they are."""
    files.write_json(
        out, {**harness.context(), "wall_seconds": time.perf_counter() - begun, **result}
    )
    figure.savefig(out.with_suffix(".png"))
    click.echo(f"{out}\n{out.with_suffix('.png')}")
