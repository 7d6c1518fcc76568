"""Speed of the training loop and of its parts: environments, updates, replay. Compilation is apart.

    python benchmarks/throughput.py --env brax/halfcheetah --backend spring --num-envs 16

One iteration is one vector step: ``num_envs`` environment steps and ``updates_per_step`` updates, for each seed. Every
contestant scans equally many iterations, in turns with the others; replays are full, so
that samples reach all rows, but for one large ring that holds as few rows as the small one.
"""

import sys
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import click
import jax

from benchmarks import programs, timing
from ddpg_jax import agents, envs, networks, replay
from ddpg_jax.environment import Environment
from ddpg_jax.runs import parts
from ddpg_jax.runs.folder import files
from ddpg_jax.types import Transition

SMALL = 10_000
"""Capacity of the replay that the large one is compared with."""


@click.command()
@click.option("--env", "name", default="brax/halfcheetah", show_default=True, help="A name that `ddpg-jax envs` lists.")
@click.option("--backend", default=None, help="Brax's physics. [default: spring for Brax]")
@click.option("--num-envs", default=16, show_default=True)
@click.option("--hidden", default=256, show_default=True, help="Width of the two hidden layers.")
@click.option("--batch-size", default=256, show_default=True)
@click.option("--updates-per-step", default=1, show_default=True, help="Updates per vector step.")
@click.option("--capacity", default=1_000_000, show_default=True, help=f"Of the loop's replay; compared with {SMALL:,}.")
@click.option("--iterations", default=500, show_default=True, help="Vector steps per call.")
@click.option("--repetitions", default=7, show_default=True)
@click.option("--seeds", default=1, show_default=True, help="Members, by vmap.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("benchmarks/results/throughput.json"), show_default=True)
def main(name: str, backend: str | None, out: Path, repetitions: int, **sizes: int) -> None:
    """Measure the parts and the whole loop, and write medians, spreads and ratios as JSON."""
    if name.startswith("brax/"):
        backend = backend or "spring"
    env = envs.make(name, sizes["num_envs"], **({"backend": backend} if backend else {}))
    contestants = compete(env, **sizes)
    seconds = timing.alternate(contestants, repetitions)
    result = {
        **timing.context(),
        "settings": {"env": name, "backend": backend, "repetitions": repetitions, **sizes},
        "compile_seconds": {key: call.compile_seconds for key, call in contestants.items()},
        **summarise(seconds, sizes),
    }
    files.write_json(out, result)
    click.echo(report(result))
    click.echo(str(out))


def compete(
    env: Environment,
    *,
    num_envs: int,
    hidden: int,
    batch_size: int,
    updates_per_step: int,
    capacity: int,
    iterations: int,
    seeds: int,
) -> dict[str, timing.Contestant]:
    """The contestants, compiled."""
    widths = (hidden, hidden)
    agent = agents.ddpg(
        networks.Actor(env.action.shape[-1], widths), networks.Critic(widths, action_layer=0), critic_weight_decay=0.0
    )
    keys = jax.random.split(jax.random.key(0), seeds) if seeds > 1 else jax.random.key(0)
    small = -(-max(SMALL, batch_size) // num_envs) * num_envs
    large = -(-max(capacity, small) // small) * small

    def only(init: Any, step: Any) -> timing.Contestant:
        return timing.scanned(init, step, iterations, keys)

    def stored(capacity: int, rows: int) -> timing.Contestant:
        ring = replay.uniform(capacity, batch_size)
        return only(*parts.storing(ring, _like(env), rows, num_envs, samples=updates_per_step))

    init, update = parts.updating(agent, replay.uniform(batch_size, batch_size), _like(env))
    return {
        "env": only(*parts.stepping(env)),
        "update": only(init, timing.repeated(update, updates_per_step)),
        "replay_small": stored(small, small),
        "replay_same_rows": stored(large, small),
        "replay": stored(large, large),
        "loop": programs.loop(
            agent,
            env,
            capacity=large,
            batch_size=batch_size,
            updates_per_step=updates_per_step,
            iterations=iterations,
            keys=keys,
        ),
    }


def _like(env: Environment) -> Transition:
    return timing.shaped(env.observation, env.action)


def summarise(seconds: dict[str, list[float]], sizes: dict[str, int]) -> dict[str, Any]:
    """Medians per iteration, rates over all seeds, and the two ratios."""
    iterations = sizes["iterations"]
    each = {name: timing.spread([value / iterations for value in values]) for name, values in seconds.items()}
    median = {name: values["median"] for name, values in each.items()}
    env_steps, updates = sizes["seeds"] * sizes["num_envs"], sizes["seeds"] * sizes["updates_per_step"]
    return {
        "seconds_per_iteration": each,
        "rates": {
            "env_only_env_steps_per_second": env_steps / median["env"],
            "update_only_updates_per_second": updates / median["update"],
            "replay_only_iterations_per_second": 1 / median["replay"],
            "replay_small_only_iterations_per_second": 1 / median["replay_small"],
            "loop_env_steps_per_second": env_steps / median["loop"],
            "loop_updates_per_second": updates / median["loop"],
        },
        "ratios": {
            "loop_over_parts": median["loop"] / (median["env"] + median["update"] + median["replay"]),
            "replay_large_over_small_same_rows": median["replay_same_rows"] / median["replay_small"],
            "replay_large_over_small_both_full": median["replay"] / median["replay_small"],
        },
    }


def report(result: dict[str, Any]) -> str:
    """The figures for a person."""
    lines = [f"{result['settings']}", f"{result['device']}"]
    for name, value in result["seconds_per_iteration"].items():
        low, middle, high = (1e6 * value[part] for part in ("min", "median", "max"))
        lines.append(
            f"{name:13} {middle:11.1f} us/iteration [{low:.1f}, {high:.1f}], compile {result['compile_seconds'][name]:.1f} s"
        )
    lines += [f"{name:40} {value:12,.0f}" for name, value in result["rates"].items()]
    lines += [f"{name:40} {value:12.3f}" for name, value in result["ratios"].items()]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
