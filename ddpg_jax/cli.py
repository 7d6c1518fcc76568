"""The command ``ddpg-jax``: parses, calls, prints. Heavy imports wait until a command needs them."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from ddpg_jax import __version__
from ddpg_jax.config import Config, RunError, hyper_parameters

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


def _hyper_parameter_options(command: Callable) -> Callable:
    for name, kind in reversed(hyper_parameters().items()):
        flag = name.replace("_", "-")
        flags = f"--{flag}/--no-{flag}" if kind is bool else f"--{flag}"
        command = click.option(flags, type=kind, default=None, help="[default: the preset's]")(command)
    return command


@main.command()
@click.argument("env", default="pendulum", required=False)
@click.option("--preset", default="default", show_default=True, help="A name that `ddpg-jax presets` lists.")
@click.option("--run-dir", type=click.Path(path_type=Path, file_okay=False), help="[default: a new folder under runs/]")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the first member.")
@click.option("--seeds", type=int, default=1, show_default=True, help="Independent members, trained in one program.")
@click.option("--resume", is_flag=True, help="Go on with the run in --run-dir; options left out are the run's.")
@click.option("--backend", default=None, help="Brax's physics: generalized, positional, spring or mjx.")
@click.option("--time-limit", type=int, default=None, help="Steps per episode. [default: the environment's]")
@click.option("--action-repeat", type=int, default=None, help="Steps that one action lasts, on the device. [default: 1]")
@click.option("--steps-per-chunk", type=int, default=None, help="Environment steps between reports. [default: 1/20 of the run]")
@click.option("--evaluate-every", type=int, default=1, show_default=True, help="In chunks; 0 evaluates at the end only.")
@click.option("--evaluation-episodes", type=int, default=20, show_default=True, help="Episodes per evaluation.")
@click.option("--checkpoint-every", type=int, default=5, show_default=True, help="In chunks; 0 saves at the end only.")
@click.option("--keep", type=int, default=2, show_default=True, help="Checkpoints kept.")
@click.option("--hidden", type=Widths(), default=None, help="Width of each hidden layer, as 256,256. [default: the preset's]")
@click.option("--critic-hidden", type=Widths(), default=None, help="The same, of the critic. [default: the preset's]")
@_hyper_parameter_options
@click.pass_context
def train(context: click.Context, run_dir: Path | None, resume: bool, **options: Any) -> None:
    """Train an agent on ENV and write everything into a run folder."""
    given = {name: value for name, value in options.items() if _was_given(context, name)}
    if resume and run_dir is None:
        raise BadInput("--resume needs --run-dir: the folder of the run to go on with.")
    config = _guard(lambda: _make_config(options, given, run_dir if resume else None))
    env = config.env.replace("/", "-").replace(":", "-")
    name = f"{env}_{config.preset_name}_seed{config.seed}_{time.strftime('%Y%m%d-%H%M%S')}"
    folder = run_dir or Path("runs") / name
    _use_compilation_cache()
    from ddpg_jax import run as runs
    from ddpg_jax.display import Display

    with Display(config, folder) as display:
        try:
            summary = _guard(
                lambda: runs.run(config, folder, resume=resume, on_chunk=display.show, say=display.say), (RunError, OSError)
            )
        except runs.Interrupted as stop:
            display.say(str(stop))
            sys.exit(128 + stop.signal)
        display.finish(summary)


def _was_given(context: click.Context, name: str) -> bool:
    return context.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT


def _make_config(options: dict[str, Any], given: dict[str, Any], resumed: Path | None) -> Config:
    from ddpg_jax import config as configs

    env_options = {name: options.pop(name) for name in ("backend", "time_limit", "action_repeat")}
    env_options = {name: value for name, value in env_options.items() if value is not None}
    if resumed is None:
        chosen = {name: value for name, value in options.items() if value is not None}
        return configs.make_config(**chosen, env_options=env_options)
    given = {name: value for name, value in given.items() if name in options}
    saved = configs.load(resumed).flat()
    given = {name: list(value) if isinstance(value, tuple) else value for name, value in given.items()}
    if env_options:
        given["env_options"] = saved["env_options"] | env_options
    configs.require_same(saved, given)
    return configs.make_config(**saved | given)


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
    from ddpg_jax import playback

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
    from ddpg_jax import playback

    click.echo(_guard(lambda: playback.render(run, out or run / "episode", steps, seed, member, form)))


@main.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), default=None, help="[default: RUN/policy.stablehlo]")
@click.option("--member", type=click.IntRange(min=0), default=0, show_default=True, help="Of a run with several seeds.")
def export(run: Path, out: Path | None, member: int) -> None:
    """Write the policy of RUN's newest checkpoint as StableHLO, which JAX runs without this library."""
    _use_compilation_cache()
    from ddpg_jax import playback

    click.echo(_guard(lambda: playback.export(run, out or run / "policy.stablehlo", member)))


@main.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), default=Path("curves.png"), show_default=True)
def plot(runs: tuple[Path, ...], out: Path) -> None:
    """Draw the evaluation curves of RUNS; runs that differ in their seeds alone become one curve with an interval."""
    from ddpg_jax import config, report

    def draw() -> None:
        for folder in runs:
            config.load(folder)
        report.plot(runs, out)

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
    from ddpg_jax.presets import PRESETS

    for name, preset in PRESETS.items():
        click.echo(f"{name}\n    {(preset.__doc__ or '').splitlines()[0]}\n    {preset('pendulum').source}\n")


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
