"""Prove that a change of the code changes no training: the same runs before and after, bit for bit.

    python benchmarks/same_runs.py record OLD --checkout DIR        # of the code before
    python benchmarks/same_runs.py record NEW --checkout . --names benchmarks/renamed.json
    python benchmarks/same_runs.py compare OLD NEW --names benchmarks/renamed.json

`RUNS` is written in the names of the code before. What a change renamed is in the file given by
--names: ``{"metrics": {old: new}, "arguments": {old: new}, "python": {old: new}}``, that is keys of
what a run writes, words of a command line (an option's entry also renames it in ``--set`` and in
results), and words of the sources below. Times and rates are not compared. Record both sides on one
machine, pinned to as many processors (``taskset -c 1 python ...``): XLA divides sums among threads.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ENOUGH = 200
"""Updates that each run must make."""
TIMES = ("train_seconds", "env_steps_per_second", "updates_per_second")
"""Of a row of metrics, what is not compared."""
SUMMARY = ("final_returns", "final_return_std", "env_steps", "updates")
"""Of a summary, what is compared."""

SMALL = (
    "--hidden 16,16 --batch-size 16 --replay-capacity 1200 --num-envs 1 --updates-per-step 1"
    " --evaluate-every 180 --evaluation-episodes 2 --checkpoint-every 0 --time-limit 50"
    " --learning-starts 96 --total-timesteps 420 --steps-per-chunk 60"
)
FOUR = "--num-envs 4 --updates-per-step 4 --total-timesteps 420"
PIXELS = "--pixels --image-size 16 --frame-stack 2 --grayscale --time-limit 20"
ENCODER = "--channels 4 --layers 2 --stride 2 --trunk 8 --shift 1"
AUTOENCODER = "--code 4 --channels 4 --layers 2 --images 128 --image-updates 20 --image-batch 16"
CAMERA = "--env-option observation=camera --env-option camera_size=16 --time-limit 20"
PENDULUM, LANE = f"train pendulum {SMALL}", f"train lane {SMALL} {FOUR}"
HOST, SWEEP = f"train gymnasium/Pendulum-v1 {SMALL} --time-limit 30", f"sweep pendulum {SMALL}"

OWN = """
import jax
import jax.numpy as jnp
from ddpg_jax import envs

def dicts(num_envs, time_limit):
    seen = lambda place: {"part": place[:1], "whole": place}
    def reset(key):
        place = jax.random.uniform(key, (2,), minval=-1.0)
        return place, seen(place)
    def step(place, action, key):
        place = 0.8 * place + 0.1 * action + 0.3 * jax.random.normal(key, (2,))
        return place, seen(place), -jnp.sum(place**2), jnp.any(place < -1.5)
    valid = lambda place, observation, reward: jnp.all(place < 1.3)
    return envs.batch(envs.Single(reset, step, action_size=2, valid=valid), num_envs, time_limit)
"""
"""A module beside each run: a point in a plane, seen as a dict, whose simulation can break."""
LIBRARY = """
import json, pathlib, sys
import jax
from ddpg_jax import agents, behaviour, envs, networks, noise, replay, returns, rollout, train

env = envs.make("pendulum", num_envs=2, time_limit=50)
PARTS
init, warm_up, chunk, *_ = train.make_train(
    agent, env, memory, explore, learning_starts=100, steps_per_chunk=120, window=window)
state = jax.jit(jax.vmap(lambda key: warm_up(init(key))))(jax.random.split(jax.random.key(0), 2))
chunk, folder = jax.jit(jax.vmap(chunk)), pathlib.Path(sys.argv[1])
with open(folder / "metrics.jsonl", "w") as file:
    for index in range(4):
        state, report = chunk(state)
        episodes = {"episodes": report.episodes.count, "episode_return": report.episodes.return_sum}
        row = {name: value.tolist() for name, value in {**report.metrics, **episodes}.items()}
        file.write(json.dumps({"updates": 60 * (index + 1), **row}) + "\\n")
returns = jax.vmap(rollout.make_evaluate(agent, env), (0, None))(state.agent, jax.random.key(1))
(folder / "summary.json").write_text(json.dumps({"final_returns": returns.tolist()}))
"""
"""A program that trains two seeds by the library alone; PARTS is what it trains."""
NOISY = """
actor = networks.Actor(1, hidden=(16, 16), dense=networks.NoisyDense)
agent = agents.td3(actor, networks.Critic(hidden=(16, 16), action_layer=0), policy_delay=1)
explore, memory, window = behaviour.noisy_network(agent), replay.uniform(1_000, batch_size=16), None
"""
PRIORITISED = """
actor = networks.Actor(1, hidden=(16, 16), norm=networks.BatchNorm)
critic = networks.Critic(hidden=(16, 16), action_layer=1, num_atoms=11)
agent = agents.normalize_observations(agents.d4pg(actor, critic, v_min=-300.0, v_max=0.0))
explore = behaviour.explore(agent, noise.chain(noise.ornstein_uhlenbeck(stddev=0.2), noise.clip()))
memory, window = replay.prioritised(1_000, batch_size=16), returns.n_step(3, 0.99)
"""

CATEGORICAL = ("d4pg", "d4pg-paper", "td3-categorical", "fast-td3")
OTHERS = ("default", "paper", "paper-batch-norm", "td3", "td3-paper", "parameter-noise")
RUNS = {
    "task": "train pendulum --total-timesteps 1500 --evaluation-episodes 2",
    **{name: f"{PENDULUM} --preset {name}" for name in OTHERS},
    **{name: f"{PENDULUM} --preset {name} {FOUR} --num-atoms 11" for name in CATEGORICAL},
    "pendulum-lecture": f"{PENDULUM} --preset pendulum-lecture",
    "drq-v2": f"{PENDULUM} {PIXELS} {ENCODER} --n-step 3",
    "paper-pixels": f"{PENDULUM} --preset paper-pixels {PIXELS} --action-repeat 3"
    " --frame-stack 3 --frames-per-action 3",
    "pixels-prioritised": f"{PENDULUM} {PIXELS} {ENCODER} --priority-exponent 0.6 --num-envs 2"
    " --updates-per-step 2 --dtype bfloat16",
    "drive": f"{LANE} --preset drive {CAMERA} {AUTOENCODER}",
    "lane": f"{LANE} --env-option reward=torcs",
    "lane-camera": f"{LANE} --preset drq-v2 {CAMERA} {ENCODER}",
    "sweep": f"{SWEEP} --set tau=0.005,0.05 --set batch_size=8,16",
    "sweep-draws": f"{SWEEP} --preset td3 --set actor_learning_rate=log:1e-4:1e-2 --draws 3"
    " --seeds 2",
    "sweep-evolving": f"{SWEEP} --set critic_learning_rate=log:1e-4:1e-2"
    " --set gamma=uniform:0.9:0.99 --draws 6 --pbt --pbt-fraction 0.4",
    "sweep-host": f"sweep {HOST.removeprefix('train ')} --set tau=0.005,0.05",
    "seeds": f"{PENDULUM} --seeds 3 --seed 7",
    "devices-both": f"{PENDULUM} {FOUR} --seeds 2 --mesh members=2,data=2 --priority-exponent 0.6",
    "devices-data": f"{PENDULUM} --preset td3 {FOUR} --mesh members=1,data=4 --n-step 2"
    " --normalize-observations --steps-per-chunk 64",
    "devices-members": f"{PENDULUM} --seeds 4 --mesh members=2,data=1",
    "host": HOST,
    "host-n-step": f"{HOST} --preset td3 --n-step 3 --num-envs 3 --updates-per-step 3",
    "host-prioritised": f"{HOST} --preset d4pg --num-envs 2 --updates-per-step 2 --num-atoms 11",
    "host-pixels": f"{HOST} {PIXELS} {ENCODER}",
    "prioritised": f"{PENDULUM} --priority-exponent 0.7 --importance-updates 150",
    "n-step": f"{PENDULUM} --n-step 4 --num-envs 3 --updates-per-step 3",
    "bfloat16": f"{PENDULUM} --preset td3 --dtype bfloat16 --observation-dtype bfloat16",
    "gradients": f"{PENDULUM} --layer-norm --inverting-gradients --max-grad-norm 0.5"
    " --weight-decay 0.1 --critic-weight-decay 0.01 --anneal-updates 250 --critic-hidden 24,16",
    "scaled": f"{PENDULUM} --reward-scale 0.1 --normalize-observations",
    "streams": f"train own:dicts {SMALL} {FOUR} --preset td3 --actor-stream part"
    " --critic-stream whole",
    "brax": f"train brax/inverted_pendulum {SMALL} {FOUR} --preset td3 --backend spring",
    "playground": f"train playground/CartpoleBalance {SMALL} {FOUR} --preset fast-td3",
    "resumed": f"{PENDULUM} --preset td3 --priority-exponent 0.6"
    " && train --resume --total-timesteps 700",
    "noisy-network": LIBRARY.replace("PARTS", NOISY),
    "library": LIBRARY.replace("PARTS", PRIORITISED),
}
"""Of each run the commands, or a program."""
DEVICES = {"devices-both": 4, "devices-data": 4, "devices-members": 2}


class Names:
    """What a change renamed; without a file nothing."""

    def __init__(self, path: Path | None) -> None:
        given = {} if path is None else json.loads(path.read_text())
        self.metrics: Mapping[str, str] = given.get("metrics", {})
        self.arguments: Mapping[str, str] = given.get("arguments", {})
        self.python: Mapping[str, str] = given.get("python", {})
        bare = lambda word: word.removeprefix("--").replace("-", "_")
        options = [pair for pair in self.arguments.items() if pair[0].startswith("--")]
        numbers = {bare(old): bare(new) for old, new in options}
        self.words = numbers | self.arguments
        self.keys = numbers | self.metrics

    def command(self, step: str, folder: Path, start: str) -> list[str]:
        """A command or a program as arguments of Python; ``start`` is Python for the former."""
        if not step.startswith(("train ", "sweep ")):
            return ["-c", self.source(step), str(folder)]
        words = [*shlex.split(step), "--run-dir", str(folder)]
        known = lambda part: self.words.get(part[0], part[0])
        return ["-c", start, *(re.sub("[^=,]+", known, word) for word in words)]

    def source(self, text: str) -> str:
        """Of Python, with its words renamed."""
        for old, new in self.python.items():
            text = re.sub(rf"(?<![\w.]){re.escape(old)}(?!\w)", new, text)
        return text

    def renamed(self, data: Any) -> Any:
        """Of JSON, with its keys renamed."""
        if isinstance(data, dict):
            return {self.keys.get(name, name): self.renamed(value) for name, value in data.items()}
        return [self.renamed(value) for value in data] if isinstance(data, list) else data


def program(checkout: Path) -> str:
    """Python that is the command line of the checkout, and refuses to be another's."""
    scripts = tomllib.loads((checkout / "pyproject.toml").read_text())["project"]["scripts"]
    module, _, function = next(iter(scripts.values())).partition(":")
    own = f"program.__file__.startswith({str(checkout)!r})"
    return f"import {module} as program\nassert {own}, program.__file__\nprogram.{function}()"


def written(folder: Path, names: Names) -> dict[str, Any]:
    """What a run, or each run of a sweep, left in its folder.

    Raises:
        ValueError: it left nothing, or made too few updates.
    """
    times, kept = ({names.keys.get(key, key) for key in group} for group in (TIMES, SUMMARY))
    runs, (updates,) = [], names.renamed({"updates": None})
    for path in sorted(folder.rglob("metrics.jsonl")):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        if rows[-1][updates] < ENOUGH:
            raise ValueError(f"it made {rows[-1][updates]} updates, and must make {ENOUGH}.")
        rows = [{key: value for key, value in row.items() if key not in times} for row in rows]
        summary = json.loads(path.with_name("summary.json").read_text())
        summary = {key: value for key, value in summary.items() if key in kept}
        runs.append({"rows": rows, "summary": summary})
    if not runs:
        raise ValueError("it left no metrics.jsonl.")
    members = folder / "members.json"
    return {"runs": runs, "members": json.loads(members.read_text()) if members.is_file() else None}


def recorded(name: str, checkout: Path, names: Names) -> dict[str, Any]:
    """What the run of this name leaves, made by processes of its own.

    Raises:
        ValueError: a process failed, or as of `written`.
    """
    devices = f"--xla_force_host_platform_device_count={DEVICES.get(name, 1)}"
    own = {"PYTHONPATH": str(checkout), "JAX_PLATFORMS": "cpu", "XLA_FLAGS": devices}
    options: dict[str, Any] = {"env": os.environ | own, "capture_output": True, "text": True}
    steps = RUNS[name].split(" && ")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "run"
        folder.mkdir()
        (Path(place) / "own.py").write_text(names.source(OWN))
        commands = [names.command(step, folder, program(checkout)) for step in steps]
        for command in commands:
            ended = subprocess.run([sys.executable, *command], check=False, cwd=place, **options)
            if ended.returncode:
                said = (ended.stdout + ended.stderr)[-2000:]
                raise ValueError(f"exit code {ended.returncode}: {said}")
        found = written(folder, names)
    made = [" ".join(command[2:]).replace(str(folder), "FOLDER") for command in commands]
    return {"arguments": made, "processors": len(os.sched_getaffinity(0)), **found}


def differences(old: Any, new: Any, where: str = "") -> Iterator[str]:
    """Where two records are not the same, bit for bit."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in old | new:
            yield from differences(old.get(key, "absent"), new.get(key, "absent"), f"{where} {key}")
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, (one, other) in enumerate(zip(old, new, strict=True)):
            yield from differences(one, other, f"{where}[{index}]")
    elif json.dumps(old) != json.dumps(new):  # exact of floats; 1 is not 1.0, and 0.0 not -0.0
        numbers = isinstance(old, int | float) and isinstance(new, int | float)
        relative = f" (relative {abs(new - old) / max(abs(old), 1e-300):.3g})" if numbers else ""
        yield f"{where.strip()} {json.dumps(old)} -> {json.dumps(new)}{relative}"


FOLDER = click.Path(path_type=Path, file_okay=False)
FILE = click.Path(path_type=Path, dir_okay=False, exists=True)
NAMES = click.option("--names", type=FILE, help="What was renamed.")


@click.group()
def main() -> None:
    """The same runs before and after a change of the code."""


@main.command()
@click.argument("out", type=FOLDER)
@click.option("--checkout", type=FOLDER, required=True, help="The code that is to run.")
@click.option("--only", type=click.Choice(list(RUNS)), multiple=True, help="These runs alone.")
@NAMES
def record(out: Path, checkout: Path, only: tuple[str, ...], names: Path | None) -> None:
    """Make each run that OUT does not hold yet, and write what it left to OUT/NAME.json."""
    out.mkdir(parents=True, exist_ok=True)
    failed = False
    for name in only or RUNS:
        path, start = out / f"{name}.json", time.monotonic()
        if path.exists():
            continue
        try:
            path.write_text(json.dumps(recorded(name, checkout.resolve(), Names(names))))
            said = "recorded"
        except (ValueError, OSError) as error:
            failed, said = True, f"FAILED: {error}"
        click.echo(f"{name}: {said}, {time.monotonic() - start:.1f} s")
    sys.exit(failed)


@main.command()
@click.argument("old", type=FOLDER)
@click.argument("new", type=FOLDER)
@NAMES
def compare(old: Path, new: Path, names: Path | None) -> None:
    """Say of each run in OLD whether NEW has the same, and end with 1 where one has not."""
    known, failed = Names(names), False
    for path in sorted(old.glob("*.json")):
        if not (new / path.name).is_file():
            failed = True
            click.echo(f"{path.stem}: not in {new}")
            continue
        before, after = (json.loads((folder / path.name).read_text()) for folder in (old, new))
        del before["arguments"], after["arguments"]  # which are RUNS on both sides, renamed
        found = list(differences(known.renamed(before), after))
        failed = failed or bool(found)
        same = f"equal, {sum(len(run['rows']) for run in after['runs'])} rows"
        click.echo(f"{path.stem}: {f'{len(found)} differ, first: {found[0]}' if found else same}")
    sys.exit(failed)


if __name__ == "__main__":
    main()
