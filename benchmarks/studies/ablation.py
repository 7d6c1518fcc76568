"""What target networks and batch normalisation each add to DDPG, as figure 2 of Lillicrap et al.
2015 asks.

    python benchmarks/studies/ablation.py

Presets `paper` and `paper-batch-norm` with 64x64 networks and without L2 on Q, which slows Pendulum
much. Without target networks is tau 1: the targets are copies of what was learned last. Members
with and without targets train in one program. The paper's "original DPG" is batch normalisation
without target networks.
"""

import sys
import time
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import click

from benchmarks.studies import common
from ddpg_jax.runs.config.run_config import make_config
from ddpg_jax.runs.tasks import TASKS

OPTIONS: dict[str, dict[str, Any]] = {
    "pendulum": dict(TASKS["pendulum"].options),
    "brax/inverted_pendulum": {"backend": "spring", "time_limit": 200},
    "brax/reacher": dict(TASKS["brax/reacher"].options),
}
# (preset, has targets) of each variant, in the figure's order.
VARIANTS = {
    "batch norm, no targets (original DPG)": ("paper-batch-norm", False),
    "no targets": ("paper", False),
    "targets": ("paper", True),
    "targets and batch norm": ("paper-batch-norm", True),
}
STYLES = ({"color": "0.7"}, {"color": "tab:orange"}, {"color": "0.25"}, {"color": "tab:green"})


@click.command(context_settings={"show_default": True})
@click.option(
    "--task", "tasks", multiple=True, type=click.Choice(list(OPTIONS)), default=list(OPTIONS)
)
@click.option("--seeds", default=10, help="Of each variant.")
@click.option("--seed", default=0, help="Of the first member.")
@click.option(
    "--steps", default=15_000, help="Environment steps of each member, with one update each."
)
@click.option("--hidden", default=64, help="Width of both layers of both networks.")
@click.option("--weight-decay", default=0.0, help="L2 on Q; the paper's is 1e-2.")
@click.option("--episodes", default=10, help="Of one evaluation.")
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("benchmarks/results/study_ablation.json")
)
def main(
    tasks: tuple[str, ...], seeds: int, seed: int, steps: int, out: Path, **options: Any
) -> None:
    """Train all variants on all tasks, and write JSON and, beside it, a picture."""
    begun = time.perf_counter()
    found = {task: ablate(task, seeds, seed, steps, **options) for task in tasks}
    settings = {
        "tasks": {task: OPTIONS[task] for task in tasks},
        "seeds": seeds,
        "seed": seed,
        "steps": steps,
        **options,
    }
    result = {
        "settings": settings,
        "final_return": {
            task: {name: each["final_return"] for name, each in found[task].items()}
            for task in tasks
        },
        "curves": {
            task: {
                name: {"steps": each["steps"], "returns": each["returns"]}
                for name, each in found[task].items()
            }
            for task in tasks
        },
        "seconds": {
            task: {name: each["seconds"] for name, each in found[task].items()} for task in tasks
        },
        "config": {
            task: {name: each["config"] for name, each in found[task].items()} for task in tasks
        },
    }
    common.finish(out, result, draw(found, steps), begun)


def ablate(
    task: str, seeds: int, seed: int, steps: int, *, hidden: int, weight_decay: float, episodes: int
) -> dict[str, dict[str, Any]]:
    """The four variants on a task; one program for each preset."""
    variants = {}
    for preset in dict.fromkeys(preset for preset, _ in VARIANTS.values()):
        config = make_config(
            task,
            preset,
            env_options=OPTIONS[task],
            seed=seed,
            seeds=seeds,
            total_timesteps=steps,
            replay_capacity=max(steps, 64),
            hidden=(hidden, hidden),
            critic_weight_decay=weight_decay,
            evaluation_episodes=episodes,
        )
        taus = (config.hyperparameters.tau, 1.0)
        trained = common.train(config, {"tau": taus})
        for name, (of, targets) in VARIANTS.items():
            if of != preset:
                continue
            group = 0 if targets else 1
            variants[name] = {
                "trained": trained,
                "group": group,
                "final_return": common.spread(trained.final[group]),
                "steps": trained.steps.tolist(),
                "returns": trained.curve[group].round(3).tolist(),
                "seconds": trained.seconds,
                "config": config.flat() | {"tau": taus[group]},
            }
            final = variants[name]["final_return"]
            click.echo(
                f"{task}, {name}: interquartile mean {final['interquartile_mean']:.1f}, "
                f"std {final['std']:.1f}"
            )
    return {name: variants[name] for name in VARIANTS}


def draw(found: dict[str, dict[str, Any]], steps: int) -> Any:
    """A panel for each task, a line for each variant."""
    figure, axes = common.canvas(1, len(found), 4.0, 3.4)
    for axis, (task, variants) in zip(axes[0], found.items(), strict=True):
        for (name, each), style in zip(variants.items(), STYLES, strict=True):
            common.draw_curves(
                axis, each["trained"].steps, each["trained"].curve[each["group"]], name, **style
            )
        backend = OPTIONS[task].get("backend")
        axis.set(title=task + (f" ({backend})" if backend else ""), xlabel="environment steps")
    axes[0, 0].set_ylabel("return of deterministic episodes")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=min(2, len(found)), fontsize="small"
    )
    return figure


if __name__ == "__main__":
    main()
