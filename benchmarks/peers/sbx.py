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

from benchmarks import timing
from ddpg_jax import agents, networks, replay
from ddpg_jax.runs import folder
from ddpg_jax.types import Key, PyTree

DELAY = {"ddpg": 1, "td3": 2}


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
def main(agent: str, out: Path | None, repetitions: int, **sizes: int) -> None:
    """Measure both and write medians and ratios as JSON."""
    try:
        import sbx
    except ImportError as error:
        raise click.ClickException(f"SBX could not be imported ({error}); install it with: pip install sbx-rl") from error
    theirs, first_call = _sbx({"ddpg": sbx.DDPG, "td3": sbx.TD3}[agent], **sizes)
    ours = _ours(agent, **sizes)
    seconds = timing.alternate({"sbx": theirs, "ddpg_jax": ours}, repetitions)
    rates = {name: [sizes["steps"] / value for value in values] for name, values in seconds.items()}
    pairs = [our / their for our, their in zip(rates["ddpg_jax"], rates["sbx"], strict=True)]
    result = {
        **timing.context(),
        "sbx_version": sbx.__version__,
        "settings": {"agent": agent, "policy_delay": DELAY[agent], "repetitions": repetitions, **sizes},
        "compile_seconds": {"ddpg_jax": ours.compile_seconds, "sbx_first_call": first_call},
        "updates_per_second": {name: timing.spread(values) for name, values in rates.items()},
        "ratio_of_medians": statistics.median(rates["ddpg_jax"]) / statistics.median(rates["sbx"]),
        "pair_ratios": pairs,
    }
    out = out or Path(f"benchmarks/results/sbx_{agent}.json")
    folder.write_json(out, result)
    for name, values in result["updates_per_second"].items():
        click.echo(f"{name:9} {values['median']:8,.0f} updates/s [{values['min']:,.0f}, {values['max']:,.0f}]")
    click.echo(f"ratio of medians {result['ratio_of_medians']:.3f}, of pairs {min(pairs):.3f} to {max(pairs):.3f}\n{out}")


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


def _sbx(
    algorithm: Any, *, observations: int, actions: int, hidden: int, batch_size: int, capacity: int, steps: int
) -> tuple[Any, float]:
    """A call that makes ``steps`` updates, and the seconds of the first, which compiles."""
    model = algorithm(
        "MlpPolicy",
        Still(observations, actions),
        policy_kwargs={"net_arch": [hidden, hidden]},
        buffer_size=capacity,
        learning_starts=capacity,
    )
    model.learn(capacity)

    def call() -> None:
        model.train(steps, batch_size)
        jax.block_until_ready((model.policy.actor_state, model.policy.qf_state))

    begin = time.perf_counter()
    call()
    return call, time.perf_counter() - begin


def _ours(
    name: str, *, observations: int, actions: int, hidden: int, batch_size: int, capacity: int, steps: int
) -> timing.Contestant:
    widths, delay = (hidden, hidden), DELAY[name]
    make = {"ddpg": agents.ddpg, "td3": agents.td3}[name]
    agent = make(networks.Actor(actions, widths), networks.Critic(widths, action_layer=0), critic_weight_decay=0.0)
    ring = replay.uniform(capacity, batch_size * delay)
    like = timing.shaped(jax.ShapeDtypeStruct((observations,), np.float32), jax.ShapeDtypeStruct((actions,), np.float32))

    def init(key: Key) -> PyTree:
        agent_key, fill_key = jax.random.split(key)
        example = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), like)
        return agent.init(agent_key, example.observation, example.action), timing.filled(ring, fill_key, like, capacity)

    def step(state: PyTree, key: Key) -> tuple[PyTree, PyTree]:
        agent_state, rows = state
        sample_key, update_key = jax.random.split(key)
        agent_state, metrics = agent.update(agent_state, ring.sample(rows, sample_key), update_key)
        return (agent_state, rows), metrics

    return timing.scanned(init, step, steps // delay, jax.random.key(0))


if __name__ == "__main__":
    main()
