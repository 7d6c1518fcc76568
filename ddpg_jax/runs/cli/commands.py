"""The command ``ddpg-jax``: parses, calls, prints; heavy imports wait until they are needed."""

import contextlib
import os
import sys
from typing import Any

import click

from ddpg_jax import __version__, runs
from ddpg_jax.runs.cli.errors import CommandGroup, error_sentence
from ddpg_jax.runs.cli.flags import (
    EVOLVE,
    GroupedCommand,
    declared_hyperparameters,
    flags,
)
from ddpg_jax.runs.cli.jax_setup import begin
from ddpg_jax.runs.cli.run_commands import COMMANDS, FROM_ONE, telling
from ddpg_jax.runs.console.output import answer
from ddpg_jax.runs.distributed import processes
from ddpg_jax.runs.options.field import check_options, options_of
from ddpg_jax.runs.options.launch_options import LaunchOptions
from ddpg_jax.runs.options.run_options import CALLBACKS, EnvironmentOptions, RunOptions
from ddpg_jax.runs.options.sweep_options import SweepOptions
from ddpg_jax.runs.options.validation import Options, parse_text
from ddpg_jax.runs.presets import PRESETS, tasks_of

PROCESSES = processes.ProcessFlags._fields
ONE_RUN = ("env", "profile", "dry_run", *CALLBACKS, *PROCESSES)
"""Options that a sweep does not take."""
ENVIRONMENT = options_of(EnvironmentOptions)
TRAIN = (
    options_of(LaunchOptions) | options_of(RunOptions) | declared_hyperparameters() | ENVIRONMENT
)
SWEEP = options_of(SweepOptions) | EVOLVE | TRAIN


@click.group(
    cls=CommandGroup, context_settings={"help_option_names": ["-h", "--help"], "show_default": True}
)
@click.version_option(__version__)
def main() -> None:
    """Deterministic policy gradients in JAX: whole training runs as one compiled program."""
    if "" not in sys.path and (here := os.getcwd()) not in sys.path:
        sys.path.append(here)  # environments in the user's modules


def _given(options: Options) -> Options:
    """Return the given options, those of the environment in ``env_options``."""
    given = {name: value for name, value in options.items() if value not in (None, ())}
    own = {name: given.pop(name) for name in ENVIRONMENT if name in given}
    for name, value in map(_env_option, given.pop("env_option", ())):
        if name in own:
            raise click.UsageError(f"{name} is given twice: leave one out.")
        own[name] = value
    return given | ({"env_options": own} if own else {})


def _env_option(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise click.UsageError(f"--env-option {text}: give NAME=VALUE, for example curvature=0.01.")
    return name, parse_text(name, value)


@main.command(cls=GroupedCommand, params=flags(TRAIN))
@click.argument("env", required=False)
def train(env: str | None, dry_run: bool, profile: bool, **options: Any) -> None:
    """Train an agent on ENV (pendulum) and write everything into a run folder."""
    given = _given(options)
    others = {name: given.pop(name) for name in PROCESSES if name in given}
    check_options(LaunchOptions(**others))
    processes.initialize(processes.ProcessFlags(**others), given.get("run_dir"))
    begin()
    if dry_run:
        answer(runs.plan(env, **given))
    else:
        runs.train(env, profile=profile, progress=processes.is_first(), **given)


@main.command(cls=GroupedCommand, params=flags(SWEEP, ONE_RUN))
@click.argument("env", required=False)
def sweep(env: str | None, pbt: bool, **options: Any) -> None:
    """Train members with their own hyper-parameters on ENV (pendulum), many in one program."""
    given = _given(options)
    evolve = {name.removeprefix("pbt_"): given.pop(name) for name in EVOLVE if name in given}
    if evolve and not pbt:
        raise click.UsageError(f"--pbt-{min(evolve).replace('_', '-')} requires --pbt.")
    split = [each.partition("=") for each in given.pop("set", ())]
    if wrong := [name for name, equals, _ in split if not equals]:
        raise click.UsageError(f"--set {wrong[0]}: give NAME=VALUES, for example tau=0.005,0.05.")
    names = [name for name, *_ in split]
    if repeated := [name for name in names if names.count(name) > 1]:
        raise click.UsageError(f"--set {repeated[0]} is given twice: list its values in one.")
    if pbt:
        given["evolve"] = evolve
    begin()
    runs.sweep(env, {name: values for name, _, values in split}, **given)


for command in COMMANDS:
    main.add_command(command)


@main.command()
def envs() -> None:
    """List the environments."""
    from ddpg_jax import envs

    others = [name for name in envs.names() if name not in envs.OWN]  # of Brax
    answer("\n".join([*envs.OWN, *envs.FAMILIES, *others]))


@main.command(params=flags({"env_option": TRAIN["env_option"]} | ENVIRONMENT))
@click.argument("env")
@click.option("--num-envs", type=FROM_ONE, default=4, help="Environments side by side.")
@click.option("--steps", type=FROM_ONE, help="Vector steps to play. [default: two episodes]")
def check(env: str, num_envs: int, steps: int | None, **options: Any) -> None:
    """Play ENV and print faults that spoil learning, or that `train ENV` refuses; then exit 1."""
    begin()
    from ddpg_jax import envs
    from ddpg_jax.runs.config.run_config import checked_env_options, make_config
    from ddpg_jax.runs.programs import build, compatibility, memory, setup

    given = checked_env_options(_given(options).get("env_options", {}))
    compatibility.require_host_copies(env, num_envs)
    with contextlib.ExitStack() as opened:
        made = envs.make(env, num_envs, **given)
        setup.close_after(opened, made)
        steps = steps or 2 * (made.time_limit or 1_000) + 10
        memory.require_playable(made, steps)
        with telling(f"playing {steps} steps"):
            findings = envs.check(made, steps=steps)
    note = ""
    try:
        built = build.build(make_config(env, env_options=given))
        built.opened.close()
        note = built.note
    except Exception as error:  # whatever `train` would answer
        findings.append(f"`ddpg-jax train {env}` refuses it: {error_sentence(error)}")
    answer("\n".join([*(findings or ["no findings"]), *filter(None, [note])]))
    sys.exit(1 if findings else 0)


@main.command()
def presets() -> None:
    """List the presets and the sources of their hyper-parameters."""
    for name, preset in PRESETS.items():
        own = tasks_of(preset)
        takes = f" Tasks with hyper-parameters that replace these: {', '.join(own)}." if own else ""
        answer(f"{name}\n    {preset.summary}\n    {preset.cites}{takes}\n")


if __name__ == "__main__":
    main()
