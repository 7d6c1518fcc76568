"""Every environment through `ddpg_jax.envs.check`: each of Brax on spring and one on each other
backend, tasks of MuJoCo Playground, and Gymnasium in both autoreset modes.

    python benchmarks/conformance.py

The time limit is short, so that episodes end by it; terminations are what random actions bring
about.
"""

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import click

from benchmarks import harness
from ddpg_jax import envs
from ddpg_jax.environment import HostEnvironment
from ddpg_jax.envs import brax, gymnasium
from ddpg_jax.runs.folder import files

PLAYGROUND = (
    "AcrobotSwingup",
    "BallInCup",
    "CartpoleSwingup",
    "CheetahRun",
    "FingerSpin",
    "HopperHop",
    "PendulumSwingup",
    "PointMass",
    "ReacherEasy",
    "WalkerWalk",
)
GYMNASIUM = (
    "Pendulum-v1",
    "MountainCarContinuous-v0",
    "InvertedPendulum-v5",
    "InvertedDoublePendulum-v5",
    "Reacher-v5",
    "Swimmer-v5",
    "HalfCheetah-v5",
    "Hopper-v5",
    "Walker2d-v5",
    "Ant-v5",
)


@click.command(context_settings={"show_default": True})
@click.option("--num-envs", default=4)
@click.option("--time-limit", default=25)
@click.option("--only", default="", help="Names that contain this.")
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("benchmarks/results/conformance.json")
)
def main(num_envs: int, time_limit: int, only: str, out: Path) -> None:
    """Check them all, and write the findings as JSON."""
    found: dict[str, Any] = {}
    for label, make in contestants(num_envs, time_limit):
        if only not in label:
            continue
        begin = time.perf_counter()
        try:
            env = make()
        except (ValueError, ImportError, OSError) as error:
            findings = [f"could not be made: {error}"]
        else:
            findings = envs.check(env)
        found[label] = {"findings": findings, "seconds": time.perf_counter() - begin}
        click.echo(
            f"{label:48} {found[label]['seconds']:6.1f} s  {'; '.join(findings) or 'no findings'}"
        )
    clean = sum(not one["findings"] for one in found.values())
    settings = {"num_envs": num_envs, "time_limit": time_limit, "only": only}
    files.write_json(
        out,
        {
            **harness.context(),
            "settings": settings,
            "without_findings": clean,
            "environments": found,
        },
    )
    click.echo(f"{clean} of {len(found)} without findings\n{out}")


def contestants(num_envs: int, time_limit: int) -> Iterator[tuple[str, Any]]:
    """Names, and functions that make the environments."""
    names = ["pendulum", *(f"brax/{name} spring" for name in brax.NAMES)]
    names += [
        f"brax/inverted_pendulum {backend}" for backend in brax.BACKENDS if backend != "spring"
    ]
    names += [f"playground/{name}" for name in PLAYGROUND]
    for label in names:
        name, *backend = label.split()
        options = {"backend": backend[0]} if backend else {}
        yield (
            label,
            lambda name=name, options=options: envs.make(
                name, num_envs, time_limit=time_limit, **options
            ),
        )
    for name in GYMNASIUM:
        for mode in ("same-step", "next-step"):
            yield (
                f"gymnasium/{name} {mode}",
                lambda name=name, mode=mode: on_host(name, num_envs, time_limit, mode),
            )


def on_host(name: str, num_envs: int, time_limit: int, mode: str) -> HostEnvironment:
    """One of Gymnasium's, in one of its autoreset modes."""
    import gymnasium as gym
    from gymnasium.vector import AutoresetMode

    modes = {"same-step": AutoresetMode.SAME_STEP, "next-step": AutoresetMode.NEXT_STEP}
    kwargs = {"autoreset_mode": modes[mode]}
    made = gym.make_vec(
        name,
        num_envs,
        vectorization_mode="sync",
        vector_kwargs=kwargs,
        max_episode_steps=time_limit,
    )
    return gymnasium.vector(made, time_limit)


if __name__ == "__main__":
    main()
