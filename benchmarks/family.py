"""Updates of every agent, and what prioritised replay costs beside them. Compilation is apart.

    python benchmarks/family.py

All contestants take turns in one process. An update is one critic step (and one actor step, or half of one with delay 2) on a
batch of its own. Replays are full, and a step of them adds a row, samples a batch and, if prioritised, takes the errors back.
"""

import sys
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import click
import jax
import jax.numpy as jnp

from benchmarks import timing
from ddpg_jax import agents, networks, replay
from ddpg_jax.runs.folder import files
from ddpg_jax.types import Agent, Key, PyTree, Replay, Transition

SMALL, LARGE = 10_000, 1_000_000
POLICY_DELAY = 2


@click.command()
@click.option("--observations", default=17, show_default=True)
@click.option("--actions", default=6, show_default=True)
@click.option("--hidden", default=256, show_default=True, help="Width of the two hidden layers.")
@click.option("--batch-size", default=256, show_default=True)
@click.option("--num-atoms", default=51, show_default=True)
@click.option("--iterations", default=200, show_default=True, help="Updates per call.")
@click.option("--repetitions", default=7, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=Path("benchmarks/results/family.json"), show_default=True)
def main(out: Path, repetitions: int, **sizes: int) -> None:
    """Measure all and write medians, spreads and ratios as JSON."""
    contestants = compete(**sizes)
    seconds = timing.alternate(contestants, repetitions)
    each = {name: timing.spread([value / sizes["iterations"] for value in values]) for name, values in seconds.items()}
    median = {name: value["median"] for name, value in each.items()}
    priorities = median["prioritised_large"] - median["uniform_large"]
    result = {
        **timing.context(),
        "settings": {"repetitions": repetitions, "policy_delay": POLICY_DELAY, **sizes},
        "compile_seconds": {key: call.compile_seconds for key, call in contestants.items()},
        "seconds_per_iteration": each,
        "updates_per_second": {name: 1 / median[name] for name in AGENTS},
        "ratios": {
            **{f"{name}_over_ddpg": median["ddpg"] / median[name] for name in AGENTS if name != "ddpg"},
            "prioritised_large_over_small": median["prioritised_large"] / median["prioritised_small"],
            "uniform_large_over_small": median["uniform_large"] / median["uniform_small"],
            "priorities_over_update": priorities / median["ddpg"],
        },
    }
    files.write_json(out, result)
    for name, value in each.items():
        low, middle, high = (1e6 * value[part] for part in ("min", "median", "max"))
        click.echo(f"{name:18} {middle:9.1f} us [{low:.1f}, {high:.1f}], compile {result['compile_seconds'][name]:.1f} s")
    click.echo("\n".join(f"{name:30} {value:9.3f}" for name, value in result["ratios"].items()))
    click.echo(str(out))


def _ddpg(actor: networks.Actor, hidden: tuple[int, ...], num_atoms: int) -> Agent:
    return agents.ddpg(actor, networks.Critic(hidden, 0), critic_weight_decay=0.0)


def _td3(actor: networks.Actor, hidden: tuple[int, ...], num_atoms: int) -> Agent:
    return agents.td3(actor, networks.Critic(hidden, 0), policy_delay=POLICY_DELAY)


def _d4pg(actor: networks.Actor, hidden: tuple[int, ...], num_atoms: int) -> Agent:
    return agents.d4pg(actor, networks.Critic(hidden, 0, num_atoms=num_atoms))


def _td3_categorical(actor: networks.Actor, hidden: tuple[int, ...], num_atoms: int) -> Agent:
    return agents.td3_categorical(actor, networks.Critic(hidden, 0, num_atoms=num_atoms), policy_delay=POLICY_DELAY)


AGENTS = {"ddpg": _ddpg, "td3": _td3, "d4pg": _d4pg, "td3_categorical": _td3_categorical}


def compete(
    *, observations: int, actions: int, hidden: int, batch_size: int, num_atoms: int, iterations: int
) -> dict[str, timing.Contestant]:
    """The contestants, compiled; each makes ``iterations`` updates per call."""
    like = timing.shaped(jax.ShapeDtypeStruct((observations,), jnp.float32), jax.ShapeDtypeStruct((actions,), jnp.float32))
    actor, widths = networks.Actor(actions, (hidden, hidden)), (hidden, hidden)
    key = jax.random.key(0)
    contestants = {}
    for name, build in AGENTS.items():
        delay = POLICY_DELAY if name.startswith("td3") else 1
        functions = updates(build(actor, widths, num_atoms), like, batch_size * delay)
        contestants[name] = timing.scanned(*functions, iterations // delay, key)
    for name, capacity in (("small", SMALL), ("large", LARGE)):
        for kind in (replay.uniform, replay.prioritised):
            functions = samples(kind(capacity, batch_size), like, capacity, batch_size)
            contestants[f"{kind.__name__}_{name}"] = timing.scanned(*functions, iterations, key)
    return contestants


def updates(agent: Agent, like: Transition, batch_size: int) -> tuple[Any, Any]:
    """``init`` and ``step`` of an agent that learns from one batch again and again."""

    def init(key: Key) -> PyTree:
        agent_key, data_key = jax.random.split(key)
        batch = timing.transitions(data_key, like, batch_size)
        return agent.init(agent_key, batch.observation[0], batch.action[0]), batch

    def step(state: PyTree, key: Key) -> tuple[PyTree, PyTree]:
        agent_state, _, metrics = agent.update(*state, key)
        return (agent_state, state[1]), metrics

    return init, step


def samples(store: Replay, like: Transition, capacity: int, batch_size: int) -> tuple[Any, Any]:
    """``init`` and ``step`` of a full replay that takes a row and gives a batch; priorities change in every step."""

    def init(key: Key) -> PyTree:
        fill_key, new_key, error_key = jax.random.split(key, 3)
        state = timing.filled(store, fill_key, like, capacity)
        errors = jax.random.exponential(error_key, (capacity,))
        state = state if store.update is None else store.update(state, jnp.arange(capacity), errors)
        return state, timing.transitions(new_key, like, 1), errors[:batch_size]

    def step(state: PyTree, key: Key) -> tuple[PyTree, PyTree]:
        rows, new, errors = state
        rows = store.add(rows, new)
        sampled = store.sample(rows, key)
        rows = rows if store.update is None else store.update(rows, sampled.rows, errors)
        return (rows, new, errors), sampled

    return init, step


if __name__ == "__main__":
    main()
