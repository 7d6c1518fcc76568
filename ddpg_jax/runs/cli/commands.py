"""The command ``ddpg-jax``: parses, calls, prints; heavy imports wait until they are needed."""

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

from ddpg_jax import __version__, runs
from ddpg_jax.runs.cli.errors import CommandGroup, error_sentence
from ddpg_jax.runs.cli.flags import (
    EVOLVE,
    GroupedCommand,
    UserPath,
    WholeNumber,
    declared_hyperparameters,
    flags,
)
from ddpg_jax.runs.cli.jax_setup import (
    collect_garbage_seldom,
    require_device,
    use_compilation_cache,
)
from ddpg_jax.runs.console.output import answer
from ddpg_jax.runs.distributed import processes
from ddpg_jax.runs.options.field import check_options, options_of
from ddpg_jax.runs.options.run_options import (
    COUNT,
    EnvironmentOptions,
    LaunchOptions,
    RunOptions,
)
from ddpg_jax.runs.options.sweep_options import SweepOptions
from ddpg_jax.runs.options.validation import INT32_MAX, Options, parse_text
from ddpg_jax.runs.presets import PRESETS

PROCESSES = processes.ProcessFlags._fields
ENVIRONMENT = options_of(EnvironmentOptions)
TRAIN = (
    options_of(LaunchOptions) | options_of(RunOptions) | declared_hyperparameters() | ENVIRONMENT
)
SWEEP = options_of(SweepOptions) | EVOLVE | TRAIN

FORMS = ("stablehlo", "onnx", "npz")
"""Of an export, the default first."""

FROM_ZERO, FROM_ONE = WholeNumber(0, INT32_MAX), WholeNumber(1, COUNT)
PATH = UserPath()
# What several commands take.
run_argument = click.argument("run", type=PATH)
seed_option = click.option("--seed", type=FROM_ZERO, default=0, help="Seed of the episodes.")
member_option = click.option(
    "--member",
    type=FROM_ZERO,
    help="Member of a run or sweep. [default: the first; of a sweep the best]",
)
checkpoint_option = click.option(
    "--checkpoint",
    default="last",
    help="best (of each member's best evaluation), last, or the steps of one that is kept.",
)


@click.group(
    cls=CommandGroup, context_settings={"help_option_names": ["-h", "--help"], "show_default": True}
)
@click.version_option(__version__)
def main() -> None:
    """Deterministic policy gradients in JAX: whole training runs as one compiled program."""
    if "" not in sys.path and (here := os.getcwd()) not in sys.path:
        sys.path.append(here)  # environments in the user's modules


def _begin() -> None:
    """Prepare JAX for a command that computes."""
    collect_garbage_seldom()
    use_compilation_cache()
    require_device()


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
    _begin()
    if dry_run:
        answer(runs.plan(env, **given))
    else:
        runs.train(env, profile=profile, progress=processes.is_first(), **given)


@main.command(cls=GroupedCommand, params=flags(SWEEP, ("env", "profile", "dry_run", *PROCESSES)))
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
    _begin()
    runs.sweep(env, {name: values for name, _, values in split}, **given)


@main.command()
@run_argument
@click.option("--episodes", type=FROM_ONE, default=100, help="Episodes per member.")
@seed_option
@click.option("--member", type=FROM_ZERO, help="One member. [default: all]")
@checkpoint_option
def evaluate(run: Path, episodes: int, seed: int, member: int | None, checkpoint: str) -> None:
    """Play deterministic episodes with a checkpoint of RUN and print one JSON object."""
    _begin()
    from ddpg_jax.runs.results import policy
    from ddpg_jax.runs.sweeps import sweep_results

    with _telling(f"playing {episodes} episodes"):
        if member is not None:
            found = sweep_results.evaluate_member(run, episodes, seed, member, checkpoint)
        elif sweep_results.is_sweep(run):
            found = sweep_results.evaluate_sweep(run, episodes, seed, checkpoint)
        else:
            found = policy.evaluate(run, episodes, seed, checkpoint=checkpoint)
    answer(json.dumps(found))


@contextlib.contextmanager
def _telling(phase: str) -> Iterator[Callable[[str], None]]:
    """Say what is under way where it takes long; yields what names another phase."""
    from ddpg_jax.runs.console.status import Status

    with Status() as status:
        status.phase(phase)
        yield status.phase


def _own_file(run: Path, name: str, member: int | None, suffix: str = "") -> Path:
    """Return the file of a member that was asked for, or of the default one."""
    return run / f"{name}{'' if member is None else f'-{member}'}{suffix}"


@main.command()
@run_argument
@click.option(
    "--out",
    type=PATH,
    help="File to write, without suffix. [default: RUN/episode, of --member N RUN/episode-N]",
)
@click.option("--steps", type=FROM_ONE, help="Steps to play. [default: an episode's]")
@seed_option
@member_option
@click.option(
    "--format",
    "form",
    type=click.Choice(["gif", "mp4", "html"]),
    help="[default: html for Brax, else gif]",
)
@checkpoint_option
def render(
    run: Path,
    out: Path | None,
    steps: int | None,
    seed: int,
    member: int | None,
    form: str | None,
    checkpoint: str,
) -> None:
    """Write an animation of a checkpoint of RUN: GIF, MP4, or Brax's HTML viewer."""
    _begin()
    from ddpg_jax.runs.results import render as of_run
    from ddpg_jax.runs.sweeps import sweep_results

    folder, place = sweep_results.locate_member(run, member)
    path = out or _own_file(run, "episode", member)
    with _telling("starting") as on_phase:
        written = of_run.render(folder, path, steps, seed, place, form, on_phase, checkpoint)
    answer(written)


@main.command()
@run_argument
@click.option("--out", type=PATH, help="File to write. [default: RUN/policy[-MEMBER].FORMAT]")
@member_option
@checkpoint_option
@click.option("--format", "form", type=click.Choice(FORMS), help="[default: that of --out]")
@click.option("--again", type=PATH, metavar="FILE", help="Write FILE again, as its contract says.")
def export(
    run: Path,
    out: Path | None,
    member: int | None,
    checkpoint: str,
    form: str | None,
    again: Path | None,
) -> None:
    """Write the policy of a checkpoint of RUN, and in FILE.json its contract.

    stablehlo is for JAX alone, and guaranteed only for versions up to 6 months newer or 3 weeks
    older: --again writes a file anew. onnx is for onnxruntime and others, npz for NumPy.
    """
    if again and (member is not None or form or checkpoint != "last"):
        raise click.UsageError(
            "--again takes member, form and checkpoint from the contract: leave them out."
        )
    _begin()
    from ddpg_jax.runs.results import export as of_run
    from ddpg_jax.runs.sweeps import sweep_results

    if again:
        return answer(of_run.again(run, again, out))
    folder, place = sweep_results.locate_member(run, member)
    path = out or _own_file(run, "policy", member, f".{form or FORMS[0]}")
    answer(of_run.export(folder, path, place, form, checkpoint))


@main.command()
@click.argument("folders", metavar="RUNS...", nargs=-1, required=True, type=PATH)
@click.option("--out", type=PATH, default=Path("curves.png"), help="File to write.")
def plot(folders: tuple[Path, ...], out: Path) -> None:
    """Draw the evaluation curves of RUNS or sweeps, one for what differs only in its seeds."""
    from ddpg_jax.runs.config import stored
    from ddpg_jax.runs.results import plots
    from ddpg_jax.runs.sweeps import sweep_results

    found = [run for folder in folders for run in sweep_results.runs_in(folder)]
    for folder in found:
        stored.load_config(folder)
    answer(plots.plot(found, out))


@main.command()
def envs() -> None:
    """List the environments."""
    from ddpg_jax import envs

    answer("\n".join([*envs.names(), *envs.FAMILIES]))


@main.command(params=flags({"env_option": TRAIN["env_option"]} | ENVIRONMENT))
@click.argument("env")
@click.option("--num-envs", type=FROM_ONE, default=4, help="Environments side by side.")
@click.option("--steps", type=FROM_ONE, help="Vector steps to play. [default: two episodes]")
def check(env: str, num_envs: int, steps: int | None, **options: Any) -> None:
    """Play ENV and print faults that spoil learning, or that `train ENV` refuses; then exit 1."""
    _begin()
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
        with _telling(f"playing {steps} steps"):
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
    from ddpg_jax.runs.tasks import TASKS

    for name, preset in PRESETS.items():
        own = () if preset.exact else [env for env, task in TASKS.items() if preset.of_task(task)]
        takes = f" Tasks with hyper-parameters that replace these: {', '.join(own)}." if own else ""
        answer(f"{name}\n    {preset.summary}\n    {preset.cites}{takes}\n")


if __name__ == "__main__":
    main()
