"""What each agent of the family learns on one environment, over several seeds in one program each,
at equal steps.

    python benchmarks/studies/agents.py pendulum --seeds 8 "DDPG=default" "TD3=td3" "D4PG=d4pg"
    python benchmarks/studies/agents.py brax/hopper --seeds 3 --options "--total-timesteps 100000"
    "DDPG=default" "TD3=td3"

A contestant is ``NAME=PRESET [options of ddpg-jax train]``. Each is trained by that command, as a
user would.
"""

import shlex
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import click

from benchmarks.studies import common
from ddpg_jax.runs.folder.files import write_json
from ddpg_jax.runs.folder.metrics import read_curve
from ddpg_jax.runs.results.plots import plot
from ddpg_jax.runs.results.statistics import bootstrap_interval, interquartile_mean

COMMON = ("versions", "device")
SUMMED_UP = (
    "env_steps",
    "updates",
    "compile_seconds",
    "train_seconds",
    "wall_seconds",
    "updates_per_second",
    "config",
)


@click.command(context_settings={"show_default": True})
@click.argument("env")
@click.argument("contestants", nargs=-1, required=True)
@click.option("--seeds", default=8, help="Of each contestant, trained in one program.")
@click.option("--seed", default=0, help="The first.")
@click.option("--options", default="", help="Of `ddpg-jax train`, for all contestants.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=None,
    help="[default: benchmarks/results/family_ENV.json]",
)
def main(
    env: str, contestants: tuple[str, ...], seeds: int, seed: int, options: str, out: Path | None
) -> None:
    """Train each of the CONTESTANTS on ENV; write figures and curves as JSON and a picture beside
    it.
    """
    out = out or Path("benchmarks/results") / f"family_{env.replace('/', '_')}.json"
    members = ["--seed", str(seed), "--seeds", str(seeds)]
    with tempfile.TemporaryDirectory() as temporary:
        folders, found = [], {}
        for contestant in contestants:
            name, _, words = contestant.partition("=")
            preset, *own = shlex.split(words)
            folders.append(Path(temporary) / name)
            found[name] = train(
                [env, "--preset", preset, *members, *shlex.split(options), *own], folders[-1]
            )
            returns = found[name]["final_returns"]
            click.echo(
                f"{name}: {statistics.fmean(returns):.1f} +- "
                f"{statistics.pstdev(returns):.1f}, {returns}"
            )
        shared = {key: found[name][key] for key in COMMON}
        result = {
            **shared,
            "settings": {
                "env": env,
                "seed": seed,
                "seeds": seeds,
                "options": options,
                "contestants": list(contestants),
            },
            "contestants": {
                name: {k: v for k, v in one.items() if k not in COMMON}
                for name, one in found.items()
            },
        }
        write_json(out, result)
        plot(folders, out.with_suffix(".png"))
    click.echo(str(out))


def train(arguments: list[str], folder: Path) -> dict[str, Any]:
    """One `ddpg-jax train`: its final returns, their spread, and the curve of every seed."""
    summary = common.train_by_command(arguments, folder, common.shell())
    returns = summary["final_returns"]
    low, high = bootstrap_interval(returns)
    steps, curves = read_curve(folder)
    return {
        "final_returns": returns,
        "interquartile_mean": float(interquartile_mean(returns)),
        "interval": [float(low), float(high)],
        "std": statistics.pstdev(returns),
        "curve": {"env_steps": steps.tolist(), "evaluation_returns": curves.T.tolist()},
        **{name: summary[name] for name in (*SUMMED_UP, *COMMON)},
    }


if __name__ == "__main__":
    main()
