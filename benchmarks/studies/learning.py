"""What ``ddpg-jax train`` learns on an environment, run from the shell for each seed apart; figures
and curves.

    python benchmarks/studies/learning.py pendulum --seeds 10
    python benchmarks/studies/learning.py brax/halfcheetah --backend spring --seeds 5 --random --
    --total-timesteps 200000

Wall clock is what a person waits: start of Python, imports, compilation, training, final
evaluation. With ``--cache off`` every program is compiled anew; with ``--cache warm`` a first run
that is not counted fills the cache.
"""

import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import click
import jax
import jax.numpy as jnp

from benchmarks import harness
from benchmarks.studies import common
from ddpg_jax import envs, rollout
from ddpg_jax.environment import TimeStep
from ddpg_jax.runs.folder.files import write_json
from ddpg_jax.runs.folder.metrics import read_curve
from ddpg_jax.runs.results.plots import plot
from ddpg_jax.runs.tasks import TASKS, Task
from ddpg_jax.types import Agent, Key, PyTree

STATED = ("seed", "final_return", "wall_seconds", "compile_seconds", "train_seconds")
COMMON = ("versions", "device", "config")


@click.command(context_settings={"show_default": True})
@click.argument("env")
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
@click.option("--backend", default=None, help="Brax's physics, as in `ddpg-jax train`.")
@click.option("--seeds", default=5, help="Runs, one after the other.")
@click.option("--first-seed", default=0)
@click.option(
    "--threshold",
    type=float,
    default=None,
    help="Count the seeds whose final return is at least this. [default: the task's]",
)
@click.option(
    "--cache", type=click.Choice(["off", "warm"]), default="off", help="Of compiled programs."
)
@click.option("--random", "with_random", is_flag=True, help="Also measure uniform random actions.")
@click.option("--episodes", default=100, help="Of the random policy.")
@click.option(
    "--keep",
    type=click.Path(path_type=Path),
    default=None,
    help="Folder of the runs; those that ended are not run again.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=None,
    help="[default: benchmarks/results/learning_ENV.json]",
)
def main(
    env: str,
    options: tuple[str, ...],
    backend: str | None,
    seeds: int,
    first_seed: int,
    threshold: float | None,
    cache: str,
    with_random: bool,
    episodes: int,
    keep: Path | None,
    out: Path | None,
) -> None:
    """Train on ENV, once for each seed, with OPTIONS of `ddpg-jax train` after a `--`, and write
    the figures as JSON.
    """
    task = TASKS.get(env, Task(env))
    threshold = task.solved if threshold is None else threshold
    out = (
        out
        or Path("benchmarks/results")
        / f"learning_{'_'.join([harness.slug(env), *([backend] if backend else [])])}.json"
    )
    arguments = [env, *(("--backend", backend) if backend else ()), *options]
    with tempfile.TemporaryDirectory() as temporary:
        place = keep or Path(temporary)
        runs = [*train_all(arguments, first_seed, seeds, cache, place)]
        folders = [place / str(seed) for seed in range(first_seed, first_seed + seeds)]
        if all(read_curve(folder)[0].size for folder in folders):
            plot(folders, out.with_suffix(".png"))
    shared = {name: runs[0][name] for name in COMMON}
    runs = [{name: value for name, value in run.items() if name not in COMMON} for run in runs]
    result = {
        **shared,
        "settings": {
            "env": env,
            "backend": backend,
            "options": list(options),
            "cache": cache,
            "threshold": threshold,
        },
        "seeds": runs,
        "final_return": moments([run["final_return"] for run in runs]),
        "wall_seconds": moments([run["wall_seconds"] for run in runs]),
    }
    if threshold is not None:
        result["reached"] = sum(run["final_return"] >= threshold for run in runs)
        click.echo(f"at least {threshold:g}: {result['reached']} of {seeds}")
    if with_random:
        result["random_policy"] = {
            "episodes": episodes,
            **moments(random_returns(env, shared["config"]["env_options"], episodes)),
        }
    for name in ("final_return", "wall_seconds", "random_policy"):
        if name in result:
            click.echo(
                f"{name}: "
                + "  ".join(f"{part} {value:.6g}" for part, value in result[name].items())
            )
    write_json(out, result)
    click.echo(str(out))


def train_all(
    arguments: list[str], first_seed: int, seeds: int, cache: str, folder: Path
) -> Iterator[dict[str, Any]]:
    """The figures of each seed, as they come; the runs are left in ``folder``, by their seeds."""
    environment = common.shell(folder / "cache" if cache == "warm" else None)
    if cache == "warm" and not (folder / "warm" / "summary.json").exists():
        shutil.rmtree(folder / "warm", ignore_errors=True)
        train(arguments, first_seed, folder / "warm", environment)
    for seed in range(first_seed, first_seed + seeds):
        known = folder / f"{seed}.json"
        if known.exists():
            figures = json.loads(known.read_text())
        else:
            shutil.rmtree(folder / str(seed), ignore_errors=True)  # of a process that was killed
            figures = train(arguments, seed, folder / str(seed), environment)
            write_json(known, figures)
        click.echo("  ".join(f"{name} {figures[name]:.6g}" for name in STATED))
        yield figures


def train(
    arguments: list[str], seed: int, folder: Path, environment: dict[str, str]
) -> dict[str, Any]:
    """One run in a process of its own: its figures, and the wall clock around the process."""
    begin = time.perf_counter()
    summary = common.train_by_command([*arguments, "--seed", str(seed)], folder, environment)
    wall = time.perf_counter() - begin
    steps, returns = read_curve(folder)
    return {
        "seed": seed,
        "curve": {
            "env_steps": steps.tolist(),
            "evaluation_return": returns[:, 0].tolist() if steps.size else [],
        },
        "final_return": statistics.fmean(summary["final_returns"]),
        "final_return_std": summary["final_return_std"][0],
        "wall_seconds": wall,
        **{
            name: summary[name]
            for name in (
                "compile_seconds",
                "train_seconds",
                "env_steps",
                "updates",
                "updates_per_second",
            )
        },
        **{name: summary[name] for name in COMMON},
    }


def moments(values: list[float]) -> dict[str, float]:
    """Mean, standard deviation of a sample (0 of one), and extremes."""
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return {
        "mean": statistics.fmean(values),
        "std": deviation,
        "min": min(values),
        "max": max(values),
    }


def random_returns(name: str, options: dict[str, Any], episodes: int) -> list[float]:
    """Returns of ``episodes`` episodes of actions from U[-1, 1].

    JAX takes the device here, when the runs have left it.
    """
    if envs.on_host(name):
        return common.random_on_host(envs.make(name, num_envs=1, **options), episodes)
    env = envs.make(name, num_envs=episodes, **options)

    def step(state: PyTree, action: jax.Array, key: Key) -> tuple[PyTree, TimeStep]:
        action_key, env_key = jax.random.split(key)
        return env.step(
            state, jax.random.uniform(action_key, action.shape, action.dtype, -1.0, 1.0), env_key
        )

    def unused(*_: Any) -> Any:
        raise NotImplementedError

    idle = Agent(
        unused, lambda state, observation: jnp.zeros((episodes, *env.action.shape)), unused
    )
    evaluate = jax.jit(rollout.make_evaluate(idle, env._replace(step=step)))
    return evaluate(None, jax.random.key(0)).tolist()


if __name__ == "__main__":
    main()
