"""Environment steps per second of our host loop and of SBX's TD3 on one Gymnasium environment, alternately in one process.

    pip install sbx-rl "gymnasium[mujoco]"
    python benchmarks/peers/sbx_loop.py

Equal networks, batches and updates: one update per environment step (every second with one of the actor and the targets).
Both also with ``--num-envs`` environments and as many updates per vector step.
"""

import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.pop(0)  # this folder, where `import sbx` would find the file beside this one
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import click
import jax

from benchmarks import timing
from ddpg_jax import agents, envs, host, networks, noise, replay
from ddpg_jax.behaviour import explore
from ddpg_jax.runs.folder import files

DELAY = 2


@click.command(context_settings={"show_default": True})
@click.option("--env", "name", default="HalfCheetah-v5", help="A Gymnasium id.")
@click.option("--num-envs", default=8, help="Of the other pair.")
@click.option("--hidden", default=256, help="Width of the two hidden layers.")
@click.option("--batch-size", default=256)
@click.option("--steps", default=1_000, help="Environment steps per call.")
@click.option("--learning-starts", default=1_000)
@click.option("--capacity", default=24_000, help="Of all replays.")
@click.option("--repetitions", default=5)
@click.option("--out", type=click.Path(path_type=Path), default=Path("benchmarks/results/sbx_loop.json"))
def main(out: Path, name: str, num_envs: int, steps: int, repetitions: int, **sizes: int) -> None:
    """Measure the loops and write medians and ratios as JSON."""
    try:
        import sbx
    except ImportError as error:
        raise click.ClickException(f"SBX could not be imported ({error}); install it with: pip install sbx-rl") from error
    contestants = {
        "sbx": _sbx(sbx.TD3, name, 1, steps, **sizes),
        f"sbx_{num_envs}_envs": _sbx(sbx.TD3, name, num_envs, steps, **sizes),
        "ddpg_jax": _ours(name, 1, steps, **sizes),
        f"ddpg_jax_{num_envs}_envs": _ours(name, num_envs, steps, **sizes),
    }
    seconds = timing.alternate(contestants, repetitions)
    rates = {key: [steps / value for value in values] for key, values in seconds.items()}
    median = {key: statistics.median(values) for key, values in rates.items()}
    result = {
        **timing.context(),
        "sbx_version": sbx.__version__,
        "settings": {
            "env": name,
            "num_envs": num_envs,
            "steps": steps,
            "repetitions": repetitions,
            "policy_delay": DELAY,
            **sizes,
        },
        "env_steps_per_second": {key: timing.spread(values) for key, values in rates.items()},
        "ratios": {key: value / median["sbx"] for key, value in median.items() if key != "sbx"}
        | {f"both_{num_envs}_envs": median[f"ddpg_jax_{num_envs}_envs"] / median[f"sbx_{num_envs}_envs"]},
    }
    files.write_json(out, result)
    for key, values in result["env_steps_per_second"].items():
        click.echo(f"{key:20} {values['median']:8,.0f} env-steps/s [{values['min']:,.0f}, {values['max']:,.0f}]")
    click.echo(f"over sbx: {result['ratios']}\n{out}")


def _sbx(
    algorithm: Any, name: str, num_envs: int, steps: int, *, hidden: int, batch_size: int, learning_starts: int, capacity: int
) -> Callable[[], None]:
    from stable_baselines3.common.env_util import make_vec_env

    model = algorithm(
        "MlpPolicy",
        make_vec_env(name, num_envs),
        policy_kwargs={"net_arch": [hidden, hidden]},
        buffer_size=capacity,
        batch_size=batch_size,
        learning_starts=learning_starts,
        train_freq=1,
        gradient_steps=num_envs,
        policy_delay=DELAY,
    )
    model.learn(learning_starts + 10)

    def call() -> None:
        model.learn(steps, reset_num_timesteps=False)
        jax.block_until_ready((model.policy.actor_state, model.policy.qf_state))

    return call


def _ours(
    name: str, num_envs: int, steps: int, *, hidden: int, batch_size: int, learning_starts: int, capacity: int
) -> Callable[[], None]:
    env = envs.make(f"gymnasium/{name}", num_envs)
    widths = (hidden, hidden)
    agent = agents.td3(networks.Actor(env.action.shape[0], widths), networks.Critic(widths, action_layer=0), policy_delay=DELAY)
    behaviour = explore(agent, noise.chain(noise.gaussian(0.1), noise.clip()))
    collect_steps = DELAY if num_envs % DELAY else 1
    trainer = host.make_train(
        agent,
        env,
        replay.uniform(capacity, batch_size * DELAY),
        behaviour,
        learning_starts=learning_starts,
        updates_per_step=num_envs * collect_steps // DELAY,
        collect_steps=collect_steps,
        steps_per_chunk=steps,
    )
    trainer.compile()
    trainer.begin(0)
    state = trainer.warm_up(jax.jit(trainer.init)(jax.random.key(0)))

    def call() -> None:
        nonlocal state
        state, report = trainer.chunk(state)
        jax.block_until_ready((state, report.metrics))

    return call


if __name__ == "__main__":
    main()
