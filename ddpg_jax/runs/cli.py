"""The command ``ddpg-jax``: parses, calls, prints. Heavy imports wait until a command needs them."""

from __future__ import annotations

import inspect
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from ddpg_jax import __version__, runs
from ddpg_jax.runs.config import make_config
from ddpg_jax.runs.presets import PRESETS, number_types

SEED = click.IntRange(0, 2**31 - 1)


class BadInput(click.ClickException):
    """One sentence, exit code 2."""

    exit_code = 2


class Widths(click.ParamType):
    """Whole numbers separated by commas."""

    name = "widths"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """``256,256`` to ``(256, 256)``."""
        try:
            return tuple(int(width) for width in str(value).split(","))
        except ValueError:
            self.fail(f"{value!r} is not a list of widths: give whole numbers separated by commas, as 256,256.", param, ctx)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def main() -> None:
    """Deterministic policy gradients in JAX: whole training runs as one compiled program."""
    if "" not in sys.path and (here := os.getcwd()) not in sys.path:
        sys.path.append(here)  # environments in modules of the user's own


def _number_options(command: Callable) -> Callable:
    for name, kind in reversed(number_types().items()):
        flag = name.replace("_", "-")
        flags = f"--{flag}/--no-{flag}" if kind is bool else f"--{flag}"
        command = click.option(flags, type=kind, default=None, help="[default: the preset's]")(command)
    return command


def _option(flag: str, help: str, kind: Any = int) -> Callable[[Callable], Callable]:
    """An option that `make_config` takes, with its default."""
    default = inspect.signature(make_config).parameters[flag.removeprefix("--").replace("-", "_")].default
    shown = "1/20 of the run" if default is None else default
    return click.option(flag, type=kind, default=None, help=f"{help} [default: {shown}]")


@main.command()
@click.argument("env", required=False)
@_option("--preset", "A name that `ddpg-jax presets` lists.", str)
@click.option("--run-dir", type=click.Path(path_type=Path, file_okay=False), help="[default: a new folder under runs/]")
@_option("--seed", "Of the first member.")
@_option("--seeds", "Independent members, trained in one program.")
@click.option("--resume", is_flag=True, help="Go on with the run in --run-dir; options left out are the run's.")
@click.option("--backend", default=None, help="Brax's physics: generalized, positional, spring or mjx.")
@click.option("--time-limit", type=int, default=None, help="Steps per episode. [default: the environment's]")
@click.option("--action-repeat", type=int, default=None, help="Steps that one action lasts, on the device. [default: 1]")
@_option("--steps-per-chunk", "Environment steps between reports.")
@_option("--evaluate-every", "In chunks; 0 evaluates at the end only.")
@_option("--evaluation-episodes", "Episodes per evaluation.")
@_option("--checkpoint-every", "In chunks; 0 saves at the end only.")
@_option("--keep", "Checkpoints kept.")
@click.option("--hidden", type=Widths(), default=None, help="Width of each hidden layer, as 256,256. [default: the preset's]")
@click.option("--critic-hidden", type=Widths(), default=None, help="The same, of the critic. [default: the preset's]")
@_number_options
def train(env: str | None, run_dir: Path | None, resume: bool, **options: Any) -> None:
    """Train an agent on ENV (pendulum) and write everything into a run folder."""
    given = {name: value for name, value in options.items() if value is not None}
    env_options = {name: given.pop(name) for name in ("backend", "time_limit", "action_repeat") if name in given}
    given |= {"env_options": env_options} if env_options else {}
    _use_compilation_cache()
    from ddpg_jax.runs.loop import Interrupted

    try:
        _guard(lambda: runs.train(env, run_dir=run_dir, resume=resume, **given))
    except Interrupted as stop:
        click.echo(str(stop))
        sys.exit(128 + stop.signal)


def _guard(call: Callable[[], Any], errors: tuple[type[Exception], ...] = (ValueError, ImportError, OSError)) -> Any:
    """Call; what the user can mend ends in one sentence and exit code 2, not in a traceback."""
    try:
        return call()
    except errors as error:
        raise BadInput(str(error)) from error


@main.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--episodes", type=click.IntRange(min=1), default=100, show_default=True, help="Per member.")
@click.option("--seed", type=SEED, default=0, show_default=True, help="Of the episodes' starts.")
def evaluate(run: Path, episodes: int, seed: int) -> None:
    """Play deterministic episodes with the newest checkpoint of RUN and print one JSON object."""
    _use_compilation_cache()
    from ddpg_jax.runs import playback

    click.echo(json.dumps(_guard(lambda: playback.evaluate(run, episodes, seed))))


@main.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), default=None, help="Without suffix. [default: RUN/episode]")
@click.option("--steps", type=click.IntRange(min=1), default=None, help="[default: as many as an episode may last]")
@click.option("--seed", type=SEED, default=0, show_default=True, help="Of the start.")
@click.option("--member", type=click.IntRange(min=0), default=0, show_default=True, help="Of a run with several seeds.")
@click.option("--format", "form", type=click.Choice(["gif", "mp4", "html"]), help="[default: html for Brax, else gif]")
def render(run: Path, out: Path | None, steps: int | None, seed: int, member: int, form: str | None) -> None:
    """Write an animation of the newest checkpoint of RUN: GIF, MP4, or Brax's HTML viewer."""
    _use_compilation_cache()
    from ddpg_jax.runs import playback

    click.echo(_guard(lambda: playback.render(run, out or run / "episode", steps, seed, member, form)))


@main.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), default=None, help="[default: RUN/policy.stablehlo]")
@click.option("--member", type=click.IntRange(min=0), default=0, show_default=True, help="Of a run with several seeds.")
def export(run: Path, out: Path | None, member: int) -> None:
    """Write the policy of RUN's newest checkpoint as StableHLO, which JAX runs without this library."""
    _use_compilation_cache()
    from ddpg_jax.runs import playback

    click.echo(_guard(lambda: playback.export(run, out or run / "policy.stablehlo", member)))


@main.command()
@click.argument("folders", metavar="RUNS...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), default=Path("curves.png"), show_default=True)
def plot(folders: tuple[Path, ...], out: Path) -> None:
    """Draw the evaluation curves of RUNS; runs that differ in their seeds alone become one curve with an interval."""
    from ddpg_jax.runs import config, statistics

    def draw() -> None:
        for folder in folders:
            config.load(folder)
        statistics.plot(folders, out)

    _guard(draw)
    click.echo(str(out))


@main.command()
def envs() -> None:
    """List the environments."""
    from ddpg_jax import envs

    click.echo("\n".join([*envs.names(), *envs.FAMILIES]))


@main.command()
@click.argument("env")
@click.option("--backend", default=None, help="Brax's physics: generalized, positional, spring or mjx.")
@click.option("--time-limit", type=int, default=None, help="Steps per episode. [default: the environment's]")
@click.option("--num-envs", type=click.IntRange(min=1), default=4, show_default=True)
@click.option("--steps", type=click.IntRange(min=1), default=None, help="Vector steps to play. [default: two episodes]")
def check(env: str, num_envs: int, steps: int | None, **options: Any) -> None:
    """Play ENV and print what would break learning silently; exit code 1 where there is something."""
    _use_compilation_cache()
    from ddpg_jax import envs

    given = {name: value for name, value in options.items() if value is not None}
    findings = _guard(lambda: envs.check(envs.make(env, num_envs, **given), steps=steps))
    click.echo("\n".join(findings) or "no findings")
    sys.exit(1 if findings else 0)


@main.command()
def presets() -> None:
    """List the presets and where their numbers are from."""
    from ddpg_jax.runs.tasks import TASKS

    own = ", ".join(name for name, task in TASKS.items() if task.numbers)
    for name, preset in PRESETS.items():
        takes = "" if preset.exact else f" Some tasks have numbers of their own, which replace these: {own}."
        click.echo(f"{name}\n    {preset.summary}\n    {preset.cites}{takes}\n")


def _use_compilation_cache() -> None:
    """Keep XLA's compiled programs between runs; ``DDPG_JAX_CACHE`` names the folder, or ``off``."""
    import jax

    folder = os.environ.get("DDPG_JAX_CACHE", "")
    if folder.lower() in ("off", "0", "none"):
        jax.config.update("jax_enable_compilation_cache", False)
    elif folder or not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        jax.config.update("jax_compilation_cache_dir", folder or str(root / "ddpg_jax" / "xla"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)


if __name__ == "__main__":
    main()
