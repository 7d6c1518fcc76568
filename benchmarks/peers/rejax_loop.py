"""Vector steps per second of our compiled loop and of rejax's TD3, whole rounds, alternately in one process.

    pip install rejax "gymnax<1"
    python benchmarks/peers/rejax_loop.py

Equal networks and batches: one critic step for each vector step, of all environments, and every second one with a step of the
actor. Compilation is apart. Rejax is driven as its own ``train`` drives it, without its evaluations.
"""

import sys
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.pop(0)  # this folder, where `import rejax` would look first
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import click
import jax
import jax.numpy as jnp

from benchmarks import programs, timing
from ddpg_jax import envs
from ddpg_jax.runs.folder import files
from ddpg_jax.types import strong

DELAY = programs.POLICY_DELAY
NAMES = {"pendulum": "Pendulum-v1", "brax/halfcheetah": "brax/halfcheetah"}
"""Ours, and rejax's name of the same."""


@click.command(context_settings={"show_default": True})
@click.option("--env", "names", multiple=True, type=click.Choice(list(NAMES)), default=tuple(NAMES))
@click.option("--num-envs", "counts", multiple=True, default=(1, 16, 256))
@click.option("--hidden", default=256, help="Width of the two hidden layers.")
@click.option("--batch-size", default=256)
@click.option("--vector-steps", default=300, help="In a call.")
@click.option("--capacity", default=131_072, help="Of all replays.")
@click.option("--repetitions", default=5)
@click.option("--out", type=click.Path(path_type=Path), default=Path("benchmarks/results/rejax_loop.json"))
def main(out: Path, names: tuple[str, ...], counts: tuple[int, ...], repetitions: int, **sizes: int) -> None:
    """Measure the loops and write medians and ratios as JSON."""
    try:
        import rejax  # noqa: F401
    except ImportError as error:
        raise click.ClickException(
            f'rejax could not be imported ({error}); install it with: pip install rejax "gymnax<1"'
        ) from error
    result: dict[str, Any] = {**timing.context(), "settings": {"repetitions": repetitions, "policy_delay": DELAY, **sizes}}
    result["measured"] = []
    for name in names:
        for num_envs in counts:
            result["measured"].append(found := measure(name, num_envs, repetitions, **sizes))
            files.write_json(out, result)
            rates = ", ".join(f"{who} {rate['median']:,.0f}" for who, rate in found["vector_steps_per_second"].items())
            click.echo(f"{name} {num_envs}: {rates} vector steps/s, ratio {found['ratio']:.2f}")
    click.echo(str(out))


def measure(name: str, num_envs: int, repetitions: int, *, vector_steps: int, **sizes: int) -> dict[str, Any]:
    """Rates of both loops on one environment."""
    contestants = {
        "ddpg_jax": _ours(name, num_envs, vector_steps, **sizes),
        "rejax": _rejax(name, num_envs, vector_steps, **sizes),
    }
    seconds = timing.alternate(contestants, repetitions)
    rates = {who: timing.spread([vector_steps / value for value in values]) for who, values in seconds.items()}
    return {
        "env": name,
        "num_envs": num_envs,
        "compile_seconds": {who: call.compile_seconds for who, call in contestants.items()},
        "vector_steps_per_second": rates,
        "ratio": rates["ddpg_jax"]["median"] / rates["rejax"]["median"],
    }


def _ours(name: str, num_envs: int, vector_steps: int, *, hidden: int, batch_size: int, capacity: int) -> timing.Contestant:
    env = envs.make(name, num_envs)
    return programs.loop(
        programs.agent_of("td3", env.action.shape[-1], (hidden, hidden)).agent,
        env,
        capacity=capacity,
        batch_size=batch_size * DELAY,
        updates_per_step=1,
        collect_steps=DELAY,
        iterations=vector_steps,
        keys=jax.random.key(0),
    )


def _rejax(name: str, num_envs: int, vector_steps: int, *, hidden: int, batch_size: int, capacity: int) -> timing.Contestant:
    from rejax import TD3

    made = TD3.create(
        env=NAMES[name], num_envs=num_envs, batch_size=batch_size, policy_delay=DELAY, buffer_size=capacity, fill_buffer=0
    )
    widths = {"hidden_layer_sizes": (hidden, hidden), "activation": jax.nn.relu}
    algorithm = made.replace(actor=made.actor.clone(**widths), critic=made.critic.clone(**widths))

    def run(state: Any) -> tuple[Any, Any]:
        state = jax.lax.fori_loop(0, vector_steps // DELAY, lambda _, state: algorithm.train_iteration(state), state)
        return state, jnp.zeros(())

    return timing.Contestant(run, strong(jax.jit(algorithm.init_state)(jax.random.key(0))))


if __name__ == "__main__":
    main()
