"""The rate of updates of our DDPG or TD3 and of SBX's, alternately in one process, with the same networks and batches.

    pip install sbx-rl
    python benchmarks/peers/sbx.py
    python benchmarks/peers/sbx.py --agent td3

A TD3 update is one critic step of both critics, and every second time one of the actor and the targets.

Both sample each batch from a replay of their own and track both targets: SBX draws from its buffer on the host, all
batches of a call at once, and scans on the device; ours samples on the device inside the scan.
"""

import statistics
import sys
import time
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.pop(0)  # this folder, where `import sbx` would find this very file
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import click
import gymnasium
import jax
import numpy as np

from benchmarks import programs, timing
from ddpg_jax.runs.folder import files

DELAY = {"ddpg": 1, "td3": programs.POLICY_DELAY}


@click.command()
@click.option("--agent", type=click.Choice(list(DELAY)), default="ddpg", show_default=True)
@click.option("--observations", default=17, show_default=True)
@click.option("--actions", default=6, show_default=True)
@click.option("--hidden", default=256, show_default=True, help="Width of the two hidden layers.")
@click.option("--batch-size", default=256, show_default=True)
@click.option("--capacity", default=20_000, show_default=True, help="Of both replays, filled.")
@click.option("--steps", default=1_000, show_default=True, help="Gradient steps per call.")
@click.option("--repetitions", default=7, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=None, help="[default: benchmarks/results/sbx_AGENT.json]")
def main(agent: str, out: Path | None, repetitions: int, steps: int, **sizes: int) -> None:
    """Measure both and write medians and ratios as JSON."""
    version = imported().__version__
    contestants = {"sbx": Theirs(agent, steps=steps, **sizes), "ddpg_jax": programs.updates(agent, iterations=steps, **sizes)}
    rates = beside(contestants, steps, repetitions)
    result = {
        **timing.context(),
        "sbx_version": version,
        "settings": {"agent": agent, "policy_delay": DELAY[agent], "repetitions": repetitions, "steps": steps, **sizes},
        **rates,
    }
    out = out or Path(f"benchmarks/results/sbx_{agent}.json")
    files.write_json(out, result)
    for name, values in result["updates_per_second"].items():
        click.echo(f"{name:9} {values['median']:8,.0f} updates/s [{values['min']:,.0f}, {values['max']:,.0f}]")
    pairs = result["pair_ratios"]
    click.echo(f"ratio of medians {result['ratio_of_medians']:.3f}, of pairs {min(pairs):.3f} to {max(pairs):.3f}\n{out}")


def beside(contestants: dict[str, Any], steps: int, repetitions: int) -> dict[str, Any]:
    """Rates of "ddpg_jax", "sbx" and whoever else takes part, in turns, ``steps`` updates a call; ours over SBX's."""
    seconds = timing.alternate(contestants, repetitions)
    rates = {name: [steps / value for value in values] for name, values in seconds.items()}
    return {
        "compile_seconds": {name: call.compile_seconds for name, call in contestants.items()},
        "updates_per_second": {name: timing.spread(values) for name, values in rates.items()},
        "ratio_of_medians": statistics.median(rates["ddpg_jax"]) / statistics.median(rates["sbx"]),
        "pair_ratios": [our / their for our, their in zip(rates["ddpg_jax"], rates["sbx"], strict=True)],
    }


def imported() -> Any:
    """SBX.

    Raises:
        click.ClickException: it is not installed.
    """
    try:
        import sbx
    except ImportError as error:
        raise click.ClickException(f"SBX could not be imported ({error}); install it with: pip install sbx-rl") from error
    return sbx


class Still(gymnasium.Env):
    """An environment that costs nothing and never ends; only its shapes matter."""

    def __init__(self, observations: int, actions: int) -> None:
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (observations,), np.float32)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (actions,), np.float32)
        self._random = np.random.default_rng(0)

    def reset(self, **_: Any) -> tuple[np.ndarray, dict[str, Any]]:
        return self._observe(), {}

    def step(self, _: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        return self._observe(), float(self._random.standard_normal()), False, False, {}

    def _observe(self) -> np.ndarray:
        return self._random.standard_normal(self.observation_space.shape, np.float32)


class Theirs:
    """A call makes ``steps`` updates of SBX's agent; ``compile_seconds`` are those of the first call, which compiles."""

    def __init__(
        self,
        agent: str,
        *,
        hidden: int,
        batch_size: int,
        steps: int,
        observations: int = 17,
        actions: int = 6,
        capacity: int = 20_000,
    ) -> None:
        sbx = imported()
        self._sizes = (steps, batch_size)
        self._model = {"ddpg": sbx.DDPG, "td3": sbx.TD3}[agent](
            "MlpPolicy",
            Still(observations, actions),
            policy_kwargs={"net_arch": [hidden, hidden]},
            buffer_size=capacity,
            learning_starts=capacity,
        )
        self._model.learn(capacity)
        begin = time.perf_counter()
        self()
        self.compile_seconds = time.perf_counter() - begin

    def __call__(self) -> None:
        self._model.train(*self._sizes)
        jax.block_until_ready((self._model.policy.actor_state, self._model.policy.qf_state))


if __name__ == "__main__":
    main()
