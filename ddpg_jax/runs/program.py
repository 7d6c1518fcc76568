"""What every command shares: one sentence for each error, types of options, and what is set before JAX is used."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from ddpg_jax.runs import terminal
from ddpg_jax.runs.values import exact, shown

TRACEBACK = "DDPG_JAX_TRACEBACK"
LONGEST = 1_000
"""Characters of a sentence; of a longer one the middle is left out."""


class BadInput(click.ClickException):
    """One sentence, exit code 2."""

    exit_code = 2


class Program(click.Group):
    """Commands that each have ``--traceback``, and end in one sentence and exit code 2 where they cannot do their work."""

    def command(self, *args: Any, **kwargs: Any) -> Any:
        """As click's, with the option that all have."""
        add = super().command(*args, **kwargs)
        wanted = click.option(
            "--traceback",
            is_flag=True,
            expose_value=False,
            is_eager=True,
            callback=lambda ctx, param, value: ctx.meta.update({TRACEBACK: value}),
            help=f"Show where an error comes from (or set {TRACEBACK}=1).",
        )
        return lambda function: add(wanted(function))

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """As click's; what is wrong before a command is named is a sentence too."""
        with _one_sentence({}):
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        """As click's; the last line of defence."""
        with _one_sentence(ctx.meta), terminal.ending():
            return super().invoke(ctx)


@contextlib.contextmanager
def _one_sentence(meta: dict[str, Any]) -> Iterator[None]:
    try:
        yield
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())  # the help itself
        sys.exit(0)
    except click.ClickException as error:
        raise BadInput(_short(error.format_message())) from error
    except terminal.Interrupted as stop:
        terminal.say(str(stop))
        sys.exit(128 + stop.signal)
    except KeyboardInterrupt:
        sys.exit(130)  # 128 and the number of the signal, as shells have it
    except BrokenPipeError:
        raise  # whoever read our output has read enough: click ends quietly
    except (click.exceptions.Exit, click.Abort):
        raise
    except Exception as error:
        if meta.get(TRACEBACK) or os.environ.get(TRACEBACK, "0") not in ("", "0"):
            traceback.print_exception(error)
        raise BadInput(_short(sentence(error))) from error


def sentence(error: Exception) -> str:
    """What an error says to who called the program; of one that nobody expected, what it is and where to look."""
    from ddpg_jax import checks

    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename is not None else ""
        return f"{where}{error.strerror[:1].lower()}{error.strerror[1:]}."
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
        what = checks.first_line(error)
        return f"the memory is exhausted ({what}): lower --num-envs, --batch-size, --replay-capacity, --seeds or --hidden."
    if isinstance(error, ValueError | ImportError | OSError) and str(error).strip():
        return str(error)
    return (
        f"this is a bug of ddpg_jax or of what it builds on: {type(error).__name__}: {checks.first_line(error)}; run again "
        "with --traceback for all of it."
    )


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= LONGEST else f"{text[: LONGEST * 2 // 3]} ... {text[-LONGEST // 3 :]}"


class Setting(click.ParamType):
    """A number, or widths, as `ddpg_jax.runs.values.exact` takes them; its range is looked at where it is used."""

    def __init__(self, kind: type) -> None:
        self.kind = kind
        self.name = {int: "integer", float: "float", tuple: "widths", str: "name"}[kind]

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:  # noqa: ARG002
        """Also ``1e5`` to 100,000, and ``256,256`` to ``(256, 256)``."""
        try:
            return exact(self.name if param is None or param.name is None else param.name, value, self.kind)
        except ValueError as error:
            raise click.UsageError(str(error)) from error


class Whole(click.IntRange):
    """A whole number in a range."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """As `Setting`, and in its range."""
        try:
            number = exact("value", value, int)
        except ValueError:
            self.fail(f"{shown(value)} is not a whole number, or far too large", param, ctx)
        return super().convert(number, param, ctx)


def require_device() -> None:
    """Have JAX find its devices, which most commands need.

    Raises:
        ValueError: it finds none.
    """
    import jax

    from ddpg_jax import checks

    try:
        jax.devices()
    except Exception as error:  # AssertionError, RuntimeError, ...: by platform and version
        asked = os.environ.get("JAX_PLATFORMS")
        why = f" with JAX_PLATFORMS={asked}" if asked else ""
        raise ValueError(
            f"JAX finds no device{why} ({checks.first_line(error)}): unset JAX_PLATFORMS, or install the JAX of that platform."
        ) from error


def use_compilation_cache() -> None:
    """Keep XLA's compiled programs between runs, where there is a place for them; ``DDPG_JAX_CACHE`` names it, or ``off``."""
    import jax

    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # where it keeps its own cache is of no concern
    home = _home()
    if home is None:
        os.environ.setdefault("MPLCONFIGDIR", str(Path(tempfile.gettempdir()) / f"ddpg_jax-matplotlib-{os.getuid()}"))
    asked = os.environ.get("DDPG_JAX_CACHE", "")
    if not asked and os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        return
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))  # by its standard, one that is not absolute counts for nothing
    root = given if given.is_absolute() else home and home / ".cache"
    folder = Path(asked) if asked else root and root / "ddpg_jax" / "xla"
    if asked.lower() in ("off", "0", "none") or folder is None or not _writable(folder):
        jax.config.update("jax_enable_compilation_cache", False)
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)


def _home() -> Path | None:
    try:
        return Path.home()
    except RuntimeError:  # HOME is unset, and the user has no entry in the list of users
        return None


def _writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except (OSError, ValueError):
        return False
