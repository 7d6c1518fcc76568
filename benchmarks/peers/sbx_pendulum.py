"""SBX's DDPG or TD3 on Pendulum-v1, with the numbers that `ddpg-jax train pendulum` has; a line for
each evaluation.

python benchmarks/peers/sbx_pendulum.py --agent td3 --seed 0
"""

import sys
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.pop(0)  # this folder, where `import sbx` would find the file beside this one
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import click
import gymnasium
import numpy as np

EPISODES = 20


@click.command(context_settings={"show_default": True})
@click.option("--agent", type=click.Choice(["ddpg", "td3"]), default="ddpg")
@click.option("--seed", default=0)
@click.option("--steps", default=20_000)
@click.option(
    "--every", default=1_000, help="Steps between evaluations, and before the first update."
)
@click.option("--run-dir", default=None, help="Not used: nothing is written.")
def main(agent: str, seed: int, steps: int, every: int, run_dir: str | None) -> None:
    """Train, and print the mean return of 20 deterministic episodes every so many steps."""
    import sbx
    from stable_baselines3.common.evaluation import evaluate_policy
    from stable_baselines3.common.noise import NormalActionNoise

    more: dict[str, Any] = {"policy_delay": 2} if agent == "td3" else {}
    model = {"ddpg": sbx.DDPG, "td3": sbx.TD3}[agent](
        "MlpPolicy",
        gymnasium.make("Pendulum-v1"),
        learning_rate=1e-3,
        qf_learning_rate=1e-3,
        buffer_size=20_000,
        learning_starts=every,
        batch_size=64,
        tau=0.005,
        train_freq=1,
        gradient_steps=1,
        action_noise=NormalActionNoise(np.zeros(1), 0.1 * np.ones(1)),
        policy_kwargs={"net_arch": [64, 64]},
        seed=seed,
        **more,
    )
    evaluated: Any = gymnasium.make("Pendulum-v1")
    for done in range(every, steps + 1, every):
        model.learn(every, reset_num_timesteps=False)
        mean, _ = evaluate_policy(model, evaluated, EPISODES, warn=False)
        click.echo(f"{done:,}/{steps:,} steps  return {mean:.1f}")


if __name__ == "__main__":
    main()
