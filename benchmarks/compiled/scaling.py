"""What many devices would bring, on paper: from rounds measured on one device, and bytes that are
reduced between them.

    python benchmarks/compiled/scaling.py

A round of training takes each device as long as it takes one alone with its share of environments
and rows, and then as long as the all-reduces in it take:

    T(n)  = T_1(share) + sum over the round's all-reduces of  t(n, bytes)
    t(n, b) = 2 (n - 1) / n * b / bandwidth + latency * ceil(log2 n)          a ring moves the
    bytes, a tree sets the delay efficiency of a share that stays (weak)      = T_1(share) / T(n)
    efficiency of a whole that is split (strong) = T_1(whole) / (n T(n))      share = whole / n

T_1 is measured (``accelerator_PART.json``; between measured sizes with as many rows of a batch for
each environment it is interpolated on logarithms, and nothing is said of a share that is smaller
than all of them). Bytes are those of the gradients, counted on the networks' shapes: in a round of
TD3 twice the critics' and once the actor's, for two updates; and those of normalised observations:
in each step of the environments their mean and their squares, one after the other.
Bandwidth and latency are the makers' figures and a guess, named below: within a host those of its
links, as soon as there are several hosts those of the network.
"""

import json
import math
import sys
from pathlib import Path
from typing import Any, NamedTuple

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import click

RESULTS = Path(__file__).resolve().parents[1] / "results"
COUNTS = (8, 64, 512)
PER_HOST = 8


class Link(NamedTuple):
    """Bytes a second that one device sends and receives at once, and seconds of a step of an
    all-reduce.
    """

    bandwidth: float
    latency: float
    source: str


WITHIN = Link(
    450e9,
    4e-6,
    "NVLink 4: 900 GB/s in both directions together (NVIDIA's data sheet); 4 us a step is a guess",
)
BETWEEN = Link(
    50e9,
    10e-6,
    "InfiniBand NDR: 400 Gb/s for each device (NVIDIA's data sheet); 10 us a step is a guess",
)


class Task(NamedTuple):
    """A measured loop: the file it is in, observations and actions of its environment, its agent's
    networks.
    """

    part: str
    observations: int
    actions: int
    agent: str = "td3"


TASKS = (Task("pendulum", 3, 1), Task("ant", 27, 8), Task("halfcheetah", 18, 6))


@click.command()
@click.option(
    "--results",
    type=click.Path(path_type=Path, file_okay=False),
    default=RESULTS,
    help="Where measurements are.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=RESULTS / "scaling.json",
    help="A .md is written beside it.",
)
def main(results: Path, out: Path) -> None:
    """Predict, and write a table."""
    from benchmarks import harness
    from benchmarks.compiled import accelerators
    from ddpg_jax.runs.folder import files

    accelerators.only_cpu()
    rows = [
        row for task in TASKS for row in predicted(task, results / f"accelerator_{task.part}.json")
    ]
    if not rows:
        raise click.ClickException(
            f"{results} has no accelerator_*.json that is not a try: run benchmarks/accelerator.sh."
        )
    found = {
        **harness.context(),
        "within": WITHIN._asdict(),
        "between": BETWEEN._asdict(),
        "per_host": PER_HOST,
        "rows": rows,
    }
    files.write_json(out, found)
    files.write_file(out.with_suffix(".md"), table(found))
    click.echo(f"{out}\n{out.with_suffix('.md')}")


def predicted(task: Task, path: Path) -> list[dict[str, Any]]:
    """A row for each measured number of environments."""
    measured: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {"toy": True}
    if measured["toy"]:
        return []
    points = [
        one
        for one in measured["measured"]
        if "error" not in one and one["settings"]["dtype"] == "float32"
    ]
    return [
        _row(task, one, alike(points, one), measured["device"], path.name)
        for one in sorted(points, key=_envs)
    ]


def alike(points: list[dict[str, Any]], one: dict[str, Any]) -> dict[int, float]:
    """Seconds of a round by the number of environments, of points that are shares of one whole:
    with as many rows of a batch for each environment.
    """
    return {
        _envs(other): seconds_of(other)
        for other in points
        if other["settings"]["batch_size"] * _envs(one)
        == one["settings"]["batch_size"] * _envs(other)
    }


def _envs(one: dict[str, Any]) -> int:
    return one["settings"]["num_envs"]


def seconds_of(one: dict[str, Any]) -> float:
    """Of a round."""
    return one["seconds_per_call"]["ddpg_jax"]["median"] / one["counts"]["rounds"]


def _row(
    task: Task, one: dict[str, Any], rounds: dict[int, float], device: str, file: str
) -> dict[str, Any]:
    seconds, envs = seconds_of(one), _envs(one)
    steps = one["counts"]["env_steps"] // (one["counts"]["rounds"] * envs)
    reduced = all_reduces(task, one["settings"]["hidden"], steps)
    return {
        "task": task.part,
        "device": device,
        "from": file,
        "num_envs": envs,
        "batch_size": one["settings"]["batch_size"],
        "seconds_per_round": seconds,
        "env_steps_per_second": one["env_steps_per_second"]["ddpg_jax"],
        "updates_per_second": one["updates_per_second"]["ddpg_jax"],
        "all_reduced_bytes": reduced,
        "updates_per_round": one["counts"]["updates"] / one["counts"]["rounds"],
        "seconds_of_all_reduces": {
            str(n): sum(reduce_seconds(n, size) for size in reduced) for n in COUNTS
        },
        "weak": {str(n): weak(seconds, n, reduced) for n in COUNTS},
        "strong": {
            str(n): strong(rounds, envs, n, reduced) for n in COUNTS if envs / n >= min(rounds)
        },
    }


def all_reduces(task: Task, hidden: int, steps: int) -> list[int]:
    """Bytes of each all-reduce in a round of one update: a gradient for each critic step, the
    actor's, and in each vector step mean and squares of observations.
    """
    import jax
    import jax.numpy as jnp

    from benchmarks import workloads

    made = workloads.agent_of(task.agent, task.actions, (hidden, hidden))
    like = jnp.zeros(task.observations), jnp.zeros(task.actions)
    state = jax.eval_shape(lambda: made.agent.init(jax.random.key(0), *like))
    size = lambda tree: sum(4 * leaf.size for leaf in jax.tree.leaves(tree))
    gradients = [size(state.critic.params)] * made.batches + [size(state.actor.params)]
    return gradients + [4 * task.observations] * (2 * steps)


def reduce_seconds(count: int, size: int) -> float:
    """Of one all-reduce of so many bytes."""
    link = WITHIN if count <= PER_HOST else BETWEEN
    return 2 * (count - 1) / count * size / link.bandwidth + link.latency * math.ceil(
        math.log2(count)
    )


def weak(seconds: float, count: int, reduced: list[int]) -> float:
    """Efficiency where every device has as much as the one that was measured."""
    return seconds / (seconds + sum(reduce_seconds(count, size) for size in reduced))


def strong(rounds: dict[int, float], envs: int, count: int, reduced: list[int]) -> float:
    """Efficiency where what one device did is split; ``rounds``: seconds by the number of
    environments.
    """
    return rounds[envs] / (
        count
        * (between(rounds, envs / count) + sum(reduce_seconds(count, size) for size in reduced))
    )


def between(rounds: dict[int, float], envs: float) -> float:
    """Seconds of a round with so many environments, interpolated on logarithms; at least as many as
    were measured.
    """
    known = sorted(rounds)
    low = max(size for size in known if size <= envs)
    high = min((size for size in known if size > envs), default=low)
    share = 0.0 if high == low else math.log(envs / low) / math.log(high / low)
    return math.exp((1 - share) * math.log(rounds[low]) + share * math.log(rounds[high]))


def table(found: dict[str, Any]) -> str:
    """As Markdown, with the formula."""
    assert __doc__ is not None
    formula = __doc__.split("\n\n", 2)[2]
    head = "| task | environments, rows of a batch, each device | env-steps/s | updates/s "
    head += "| bytes all-reduced an update "
    head += (
        "".join(f"| weak, {n} " for n in COUNTS) + "".join(f"| strong, {n} " for n in COUNTS) + "|"
    )
    lines = [
        "# Scaling, predicted",
        "",
        "Made by `python benchmarks/compiled/scaling.py`.",
        "",
        formula.strip(),
        "",
    ]
    lines += [f"- within a host of {found['per_host']}: {found['within']['source']}"]
    lines += [f"- between hosts: {found['between']['source']}"]
    lines += [f"- measured on: {', '.join(sorted({row['device'] for row in found['rows']}))}", ""]
    lines += [head, "|" + "---|" * (head.count("|") - 1)]
    percent = lambda row, kind, n: f"{row[kind][str(n)]:.0%}" if str(n) in row[kind] else "-"
    for row in found["rows"]:
        cells = [row["task"], f"{row['num_envs']:,}, {row['batch_size']:,}"]
        cells += [
            f"{row['env_steps_per_second']:,.0f}",
            f"{row['updates_per_second']:,.0f}",
            f"{sum(row['all_reduced_bytes']) / row['updates_per_round']:,.0f}",
        ]
        cells += [percent(row, kind, n) for kind in ("weak", "strong") for n in COUNTS]
        lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        "Members of a population reduce nothing between them: spread over devices their "
        "efficiency is that of one device,",
    ]
    lines += [
        "but for the report of a chunk. A small share waits for launches and for "
        "latency: split a run only where its round"
    ]
    return "\n".join([*lines, "takes long beside its all-reduces.", ""])


if __name__ == "__main__":
    main()
