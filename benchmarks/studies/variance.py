"""How much DDPG and TD3 differ from seed to seed on Pendulum: presets `default` and `td3`, every
seed in one program.

    python benchmarks/studies/variance.py

The figures are final returns (per seed the mean of 100 fresh deterministic episodes) and the area
under the curve of evaluation returns, divided by the steps it spans: a mean return, in the same
units.
"""

import sys
import time
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import click
import numpy as np

from benchmarks.studies import common
from ddpg_jax.runs.config.run_config import make_config

AGENTS = {"DDPG": "default", "TD3": "td3"}
FIGURES = {"final_return": "final return", "area_under_curve": "mean return over training"}


@click.command(context_settings={"show_default": True})
@click.option("--env", default="pendulum")
@click.option("--seeds", default=64)
@click.option("--seed", default=0, help="Of the first member.")
@click.option("--steps", default=10_000, help="Environment steps of each seed.")
@click.option("--episodes", default=20, help="Of one evaluation.")
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("benchmarks/results/study_variance.json")
)
def main(env: str, seeds: int, seed: int, steps: int, episodes: int, out: Path) -> None:
    """Train all, and write JSON and, beside it, a picture."""
    begun = time.perf_counter()
    settings = {
        "env": env,
        "presets": AGENTS,
        "seeds": seeds,
        "seed": seed,
        "steps": steps,
        "episodes": episodes,
    }
    agents, trained = {}, {}
    for name, preset in AGENTS.items():
        config = make_config(
            env,
            preset,
            seed=seed,
            seeds=seeds,
            total_timesteps=steps,
            evaluation_episodes=episodes,
            learning_starts=min(1_000, steps // 2),
        )
        trained[name] = done = common.train(config)
        agents[name] = {
            "final_return": common.spread(done.final[0]),
            "area_under_curve": common.spread(area(done.steps, done.curve[0])),
            "steps": done.steps.tolist(),
            "curve": done.curve[0].round(3).tolist(),
            "seconds": done.seconds,
            "config": config.flat(),
        }
        for figure in FIGURES:
            each = agents[name][figure]
            click.echo(
                f"{name} {figure}: mean {each['mean']:.1f}  std {each['std']:.1f}  "
                f"IQR {each['interquartile_range']:.1f}  worst {each['min']:.1f}"
            )
    common.finish(out, {"settings": settings, "agents": agents}, draw(trained, agents, env), begun)


def area(steps: np.ndarray, curve: np.ndarray) -> np.ndarray:
    """``[seeds]``: the area under ``curve: [T, seeds]`` over the steps it spans."""
    return np.trapezoid(curve, steps, axis=0) / (steps[-1] - steps[0])


def draw(trained: dict[str, common.Trained], agents: dict[str, dict], env: str) -> Any:
    """Curves, and every seed's two figures beside their quartiles."""
    figure, axes = common.canvas(1, 3, 4.0, 3.4)
    for name, done in trained.items():
        common.draw_curves(axes[0, 0], done.steps, done.curve[0], name)
    axes[0, 0].set(xlabel="environment steps", ylabel="return of deterministic episodes", title=env)
    axes[0, 0].legend(fontsize="small", loc="lower right")
    for axis, (kind, title) in zip(axes[0, 1:], FIGURES.items(), strict=True):
        for place, each in enumerate(agents.values()):
            values = np.array(each[kind]["values"])
            jitter = np.random.default_rng(0).uniform(-0.25, 0.25, len(values))
            axis.boxplot(
                values,
                positions=[place],
                widths=0.6,
                showfliers=False,
                medianprops={"color": "black"},
            )
            axis.plot(place + jitter, values, "o", ms=3, alpha=0.5)
        axis.set_xticks(range(len(agents)), list(agents))
        count = len(values)
        axis.set_title(f"{title}, {count} seeds", fontsize="medium")
        axis.grid(alpha=0.3)
    return figure


if __name__ == "__main__":
    main()
