"""The command ``ddpg-jax``: parses, calls, prints. Heavy imports wait until a command needs them."""

from __future__ import annotations

import functools
import inspect
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from ddpg_jax import __version__, runs
from ddpg_jax.runs import hosts
from ddpg_jax.runs.cli.errors import Program
from ddpg_jax.runs.cli.jax_setup import require_device, use_compilation_cache
from ddpg_jax.runs.cli.parameter_types import Setting, Whole
from ddpg_jax.runs.config.run_config import make_config
from ddpg_jax.runs.console.output import answer
from ddpg_jax.runs.options.validation import LARGEST
from ddpg_jax.runs.presets import PRESETS, hyperparameter_types

SEED = Whole(0, LARGEST)
MANY = Whole(1, 1_000_000)
MEMBER = Whole(0, LARGEST)
INTEGER = Setting(int)
PLACES = (
    ("--devices", INTEGER, "Of all processes. [default: as many as divide members, or environments and batch]"),
    ("--mesh", str, "Devices on each axis, as members=4,data=2. [default: members first]"),
    ("--coordinator", str, "HOST:PORT of process 0, where several train together. [default: the cluster's]"),
    ("--num-processes", MANY, "[default: the cluster's, else 1]"),
    ("--process-id", SEED, "Of this one, from 0. [default: the cluster's]"),
)


@click.group(cls=Program, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def main() -> None:
    """Deterministic policy gradients in JAX: whole training runs as one compiled program."""
    if "" not in sys.path and (here := os.getcwd()) not in sys.path:
        sys.path.append(here)  # environments in modules of the user's own


def _begin() -> None:
    """Before a command that computes."""
    use_compilation_cache()
    require_device()


def _hyperparameter_options(command: Callable) -> Callable:
    for name, kind in reversed(hyperparameter_types().items()):
        flag = name.replace("_", "-")
        flags = f"--{flag}/--no-{flag}" if kind is bool else f"--{flag}"
        command = click.option(
            flags, type=kind if kind is bool else Setting(kind), default=None, help="[default: the preset's]"
        )(command)
    return command


def _option(flag: str, help: str, kind: Any = INTEGER) -> Callable[[Callable], Callable]:
    """An option that `make_config` takes, with its default."""
    default = inspect.signature(make_config).parameters[flag.removeprefix("--").replace("-", "_")].default
    shown = "1/20 of the run" if default is None else default
    return click.option(flag, type=kind, default=None, help=f"{help} [default: {shown}]")


def _seen_options(command: Callable) -> Callable:
    """What an agent sees, of every environment that can be drawn (`ddpg_jax.envs.pixels`)."""
    options = (
        click.option(
            "--pixels", is_flag=True, default=None, help="See pictures of the environment instead of its observation."
        ),
        click.option("--image-size", type=Setting(int), default=None, help="Pixels along each side. [default: 64]"),
        click.option("--frame-stack", type=Setting(int), default=None, help="Pictures that are seen at once. [default: 3]"),
        click.option("--frames-per-action", type=Setting(int), default=None, help="New ones in each step. [default: 1]"),
        click.option("--grayscale", is_flag=True, default=None, help="Brightness alone instead of colours."),
    )
    return functools.reduce(lambda command, option: option(command), reversed(options), command)


SEEN = ("pixels", "image_size", "frame_stack", "frames_per_action", "grayscale")


def _place_options(command: Callable) -> Callable:
    """Where a run is trained: on which devices, and with which other processes (`_processes`)."""
    for flag, kind, help in reversed(PLACES):
        command = click.option(flag, type=kind, help=help)(command)
    return command


def _processes(given: dict[str, Any]) -> hosts.Asked:
    """The processes of a run, taken out of what was given; they `join` before JAX is used."""
    return hosts.Asked(**{name: given.pop(name) for name in hosts.Asked._fields if name in given})


ENV_OPTION = click.option(
    "--env-option", "env_option", metavar="NAME=VALUE", multiple=True, help="Of ENV's own, as curvature=0.01. [repeatable]"
)


def _env_options(given: dict[str, Any]) -> dict[str, Any]:
    """Those of the environment, taken out of what was given."""
    named = ("backend", "time_limit", "action_repeat", *SEEN)
    found: dict[str, Any] = {name: given.pop(name) for name in named if name in given}
    found |= dict(map(_env_option, given.pop("env_option", ())))
    return {"env_options": found} if found else {}


def _env_option(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise click.UsageError(f"--env-option {text}: give NAME=VALUE, for example curvature=0.01.")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


@main.command()
@click.argument("env", required=False)
@click.option("--preset", default=None, help="A name that `ddpg-jax presets` lists. [default: as the device and ENV want it]")
@click.option("--run-dir", type=click.Path(path_type=Path, file_okay=False), help="[default: a new folder under runs/]")
@_option("--seed", "Of the first member.")
@_option("--seeds", "Independent members, trained in one program.")
@click.option("--resume", is_flag=True, help="Go on with the run in --run-dir; options left out are the run's.")
@click.option("--dry-run", is_flag=True, help="Say what the run would be and what memory it would take, and stop.")
@click.option(
    "--device-kind", default=None, help="cpu, gpu or tpu, for which the preset is chosen. [default: what JAX computes on]"
)
@click.option("--profile", is_flag=True, help="Trace a few chunks into RUN-DIR/profile, and say what share each part takes.")
@_place_options
@click.option("--backend", default=None, help="Brax's physics: generalized, positional, spring or mjx.")
@click.option("--time-limit", type=Setting(int), default=None, help="Steps per episode. [default: the environment's]")
@click.option(
    "--action-repeat", type=Setting(int), default=None, help="Steps that one action lasts, on the device. [default: 1]"
)
@_seen_options
@ENV_OPTION
@_option("--steps-per-chunk", "Environment steps between reports.")
@_option("--evaluate-every", "In chunks; 0 evaluates at the end only.")
@_option("--evaluation-episodes", "Episodes per evaluation.")
@_option("--checkpoint-every", "In chunks; 0 saves at the end only.")
@_option("--keep", "Checkpoints kept.")
@click.option(
    "--hidden", type=Setting(tuple), default=None, help="Width of each hidden layer, as 256,256. [default: the preset's]"
)
@click.option("--critic-hidden", type=Setting(tuple), default=None, help="The same, of the critic. [default: the preset's]")
@_hyperparameter_options
def train(env: str | None, run_dir: Path | None, resume: bool, dry_run: bool, profile: bool, **options: Any) -> None:
    """Train an agent on ENV (pendulum) and write everything into a run folder."""
    given = {name: value for name, value in options.items() if value is not None}
    given |= _env_options(given)
    hosts.join(_processes(given), run_dir)
    _begin()
    if dry_run:
        answer(runs.plan(env, run_dir=run_dir, resume=resume, **given))
    else:
        runs.train(env, run_dir=run_dir, resume=resume, profile=profile, progress=hosts.is_first(), **given)


@main.command()
@click.argument("env", required=False)
@click.option(
    "--set", "sets", metavar="NAME=VALUES", multiple=True, help="1e-4,1e-3 or log:LOW:HIGH or uniform:LOW:HIGH[:COUNT]."
)
@click.option("--draws", type=INTEGER, default=None, help="Random settings, where values are drawn from ranges.")
@click.option("--memory", type=INTEGER, default=None, help="Bytes for members trained at once. [default: 0.8 of all]")
@click.option("--pbt", is_flag=True, help="Population-based training: the worst take over from the best between chunks.")
@click.option("--pbt-fraction", type=Setting(float), default=None, help="Of members that may be replaced. [default: 0.2]")
@click.option("--pbt-change", type=Setting(float), default=None, help="Of a number, up or down. [default: 0.2]")
@click.option("--pbt-resample", type=Setting(float), default=None, help="Probability to draw anew instead. [default: 0.25]")
@click.option("--pbt-copy-replay/--no-pbt-copy-replay", default=None, help="The replay too. [default: yes]")
def sweep(env: str | None, sets: tuple[str, ...], pbt: bool, **options: Any) -> None:
    """Train members with hyper-parameters of their own on ENV (pendulum), floats in one program: a grid, lists, or random draws."""
    given = {name: value for name, value in options.items() if value is not None}
    evolve = {name.removeprefix("pbt_"): given.pop(name) for name in list(given) if name.startswith("pbt_")}
    if evolve and not pbt:
        raise click.UsageError(f"--pbt-{min(evolve).replace('_', '-')} is of no use without --pbt.")
    split = [each.partition("=") for each in sets]
    if wrong := [name for name, equals, _ in split if not equals]:
        raise click.UsageError(f"--set {wrong[0]}: give NAME=VALUES, for example tau=0.005,0.05.")
    given |= _env_options(given) | ({"evolve": evolve} if pbt else {})
    _begin()
    runs.sweep(env, {name: values for name, _, values in split}, **given)


_ALONE = {"env", "profile", "dry_run", "traceback", *hosts.Asked._fields}
sweep.params += [option for option in train.params if option.name not in _ALONE]


@main.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--episodes", type=MANY, default=100, show_default=True, help="Per member.")
@click.option("--seed", type=SEED, default=0, show_default=True, help="Of the episodes' starts.")
@click.option("--member", type=MEMBER, default=None, help="One alone. [default: all]")
def evaluate(run: Path, episodes: int, seed: int, member: int | None) -> None:
    """Play deterministic episodes with the newest checkpoint of RUN and print one JSON object."""
    _begin()
    from ddpg_jax.runs.results import evaluate as runs_evaluate
    from ddpg_jax.runs.sweeps import evaluate_sweep, sweep_results

    if member is None and sweep_results.is_sweep(run):
        answer(json.dumps(evaluate_sweep.evaluate_sweep(run, episodes, seed)))
        return
    folder, place = sweep_results.located(run, member)
    answer(json.dumps(runs_evaluate.evaluate(folder, episodes, seed, None if member is None else place)))


@main.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), default=None, help="Without suffix. [default: RUN/episode]")
@click.option("--steps", type=MANY, default=None, help="[default: as many as an episode may last]")
@click.option("--seed", type=SEED, default=0, show_default=True, help="Of the start.")
@click.option("--member", type=MEMBER, default=None, help="Of a run with several. [default: the first; of a sweep the best]")
@click.option("--format", "form", type=click.Choice(["gif", "mp4", "html"]), help="[default: html for Brax, else gif]")
def render(run: Path, out: Path | None, steps: int | None, seed: int, member: int | None, form: str | None) -> None:
    """Write an animation of the newest checkpoint of RUN: GIF, MP4, or Brax's HTML viewer."""
    _begin()
    from ddpg_jax.runs.results import render as runs_render
    from ddpg_jax.runs.sweeps import sweep_results

    folder, place = sweep_results.located(run, member)
    answer(runs_render.render(folder, out or run / "episode", steps, seed, place, form))


@main.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), default=None, help="[default: RUN/policy.stablehlo]")
@click.option("--member", type=MEMBER, default=None, help="Of a run with several. [default: the first; of a sweep the best]")
def export(run: Path, out: Path | None, member: int | None) -> None:
    """Write the policy of RUN's newest checkpoint as StableHLO, which JAX runs without this library."""
    _begin()
    from ddpg_jax.runs.results import policy
    from ddpg_jax.runs.sweeps import sweep_results

    folder, place = sweep_results.located(run, member)
    answer(policy.export(folder, out or run / "policy.stablehlo", place))


@main.command()
@click.argument("folders", metavar="RUNS...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), default=Path("curves.png"), show_default=True)
def plot(folders: tuple[Path, ...], out: Path) -> None:
    """Draw the evaluation curves of RUNS; runs that differ in their seeds alone become one curve with an interval."""
    from ddpg_jax.runs.config import run_config
    from ddpg_jax.runs.results import plots

    for folder in folders:
        run_config.load(folder)
    answer(plots.plot(folders, out))


@main.command()
def envs() -> None:
    """List the environments."""
    from ddpg_jax import envs

    answer("\n".join([*envs.names(), *envs.FAMILIES]))


@main.command()
@click.argument("env")
@click.option("--backend", default=None, help="Brax's physics: generalized, positional, spring or mjx.")
@click.option("--time-limit", type=Setting(int), default=None, help="Steps per episode. [default: the environment's]")
@click.option("--action-repeat", type=Setting(int), default=None, help="Steps that one action lasts. [default: 1]")
@_seen_options
@ENV_OPTION
@click.option("--num-envs", type=MANY, default=4, show_default=True)
@click.option("--steps", type=MANY, default=None, help="Vector steps to play. [default: two episodes]")
def check(env: str, num_envs: int, steps: int | None, **options: Any) -> None:
    """Play ENV and print what would break learning silently; exit code 1 where there is something."""
    _begin()
    from ddpg_jax import envs
    from ddpg_jax.runs.config import run_config
    from ddpg_jax.runs.programs import compatibility, memory

    given = _env_options({name: value for name, value in options.items() if value is not None})
    given = run_config.options_of(given.get("env_options", {}))
    compatibility.require_few(env, num_envs)
    made = envs.make(env, num_envs, **given)
    steps = steps or 2 * (made.time_limit or 1_000) + 10
    memory.require_playable(made, steps)
    findings = envs.check(made, steps=steps)
    answer("\n".join(findings) or "no findings")
    sys.exit(1 if findings else 0)


@main.command()
def presets() -> None:
    """List the presets and where their hyper-parameters are from."""
    from ddpg_jax.runs.tasks import TASKS

    own = ", ".join(name for name, task in TASKS.items() if task.hyperparameters)
    for name, preset in PRESETS.items():
        takes = "" if preset.exact else f" Some tasks have hyper-parameters of their own, which replace these: {own}."
        answer(f"{name}\n    {preset.summary}\n    {preset.cites}{takes}\n")


if __name__ == "__main__":
    main()
