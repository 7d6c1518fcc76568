"""The commands that read what a run has made: evaluate, render, export, plot and report."""

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import click

from ddpg_jax.runs.cli.flags import UserPath, WholeNumber
from ddpg_jax.runs.cli.jax_setup import begin
from ddpg_jax.runs.console.output import answer
from ddpg_jax.runs.options.run_options import COUNT
from ddpg_jax.runs.options.validation import INT32_MAX

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


@contextlib.contextmanager
def telling(phase: str) -> Iterator[Callable[[str], None]]:
    """Say what is under way where it takes long; yields what names another phase."""
    from ddpg_jax.runs.console.status import Status

    with Status() as status:
        status.phase(phase)
        yield status.phase


@click.command()
@run_argument
@click.option("--episodes", type=FROM_ONE, default=100, help="Episodes per member.")
@seed_option
@click.option("--member", type=FROM_ZERO, help="One member. [default: all]")
@checkpoint_option
def evaluate(run: Path, episodes: int, seed: int, member: int | None, checkpoint: str) -> None:
    """Play deterministic episodes with a checkpoint of RUN and print one JSON object."""
    begin()
    from ddpg_jax.runs.results import policy
    from ddpg_jax.runs.sweeps import sweep_results

    with telling(f"playing {episodes} episodes"):
        if member is not None:
            found = sweep_results.evaluate_member(run, episodes, seed, member, checkpoint)
        elif sweep_results.is_sweep(run):
            found = sweep_results.evaluate_sweep(run, episodes, seed, checkpoint)
        else:
            found = policy.evaluate(run, episodes, seed, checkpoint=checkpoint)
    answer(json.dumps(found))


def _own_file(run: Path, name: str, member: int | None, suffix: str = "") -> Path:
    """Return the file of a member that was asked for, or of the default one."""
    return run / f"{name}{'' if member is None else f'-{member}'}{suffix}"


@click.command()
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
    begin()
    from ddpg_jax.runs.results import render as of_run
    from ddpg_jax.runs.sweeps import sweep_results

    folder, place = sweep_results.locate_member(run, member)
    path = out or _own_file(run, "episode", member)
    with telling("starting") as on_phase:
        written = of_run.render(folder, path, steps, seed, place, form, on_phase, checkpoint)
    answer(written)


@click.command()
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
    begin()
    from ddpg_jax.runs.results import export as of_run
    from ddpg_jax.runs.sweeps import sweep_results

    if again:
        return answer(of_run.again(run, again, out))
    folder, place = sweep_results.locate_member(run, member)
    path = out or _own_file(run, "policy", member, f".{form or FORMS[0]}")
    answer(of_run.export(folder, path, place, form, checkpoint))


folders_argument = click.argument("folders", metavar="RUNS...", nargs=-1, required=True, type=PATH)


def _runs(folders: tuple[Path, ...]) -> list[Path]:
    """Return the runs in folders of runs and sweeps; each has a configuration."""
    from ddpg_jax.runs.config import stored
    from ddpg_jax.runs.sweeps import sweep_results

    found = [run for folder in folders for run in sweep_results.runs_in(folder)]
    for folder in found:
        stored.load_config(folder)
    return found


@click.command()
@folders_argument
@click.option("--out", type=PATH, default=Path("curves.png"), help="File to write.")
@click.option(
    "--over",
    type=click.Choice(["steps", "time"]),
    default="steps",
    help="Environment steps, or minutes of training.",
)
def plot(folders: tuple[Path, ...], out: Path, over: str) -> None:
    """Draw the evaluation curves of RUNS or sweeps, one for what differs only in its seeds."""
    from ddpg_jax.runs.results import plots

    answer(plots.plot(_runs(folders), out, over))


@click.command()
@folders_argument
@click.option("--out", type=PATH, default=Path("report.html"), help="File to write.")
def report(folders: tuple[Path, ...], out: Path) -> None:
    """Write one HTML page about RUNS or sweeps: curves, figures, films, configuration.

    It needs no other file: pictures are in it.
    """
    from ddpg_jax.runs.results import report as of_runs

    answer(of_runs.report(_runs(folders), out))


COMMANDS = (evaluate, render, export, plot, report)
