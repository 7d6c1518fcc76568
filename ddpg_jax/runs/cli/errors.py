"""Turns an error of any command into one sentence and exit code 2."""

import contextlib
import os
import sys
import traceback
from collections.abc import Iterator
from typing import Any

import click

from ddpg_jax.runs.console import output, signals
from ddpg_jax.runs.options import suggestions

TRACEBACK = "DDPG_JAX_TRACEBACK"
MAX_LENGTH = 1_000
"""Characters of a sentence; a longer one is cut in its middle."""


class BadInput(click.ClickException):
    """One sentence, exit code 2."""

    exit_code = 2


class CommandGroup(click.Group):
    """Commands with ``--traceback`` whose errors are one sentence and exit code 2."""

    def add_command(self, command: click.Command, name: str | None = None) -> None:
        """Add ``--traceback`` to each command."""
        wanted = click.Option(
            ["--traceback"],
            is_flag=True,
            expose_value=False,
            is_eager=True,
            callback=lambda ctx, param, value: ctx.meta.update({TRACEBACK: value}),
            help=f"Show where an error comes from (or set {TRACEBACK}=1).",
        )
        command.params.append(wanted)
        super().add_command(command, name)

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """Parse the group's own arguments; an error is one sentence too."""
        with _one_sentence({}):
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; an error is one sentence."""
        with _one_sentence(ctx.meta), signals.interrupt_on_signal():
            return super().invoke(ctx)


@contextlib.contextmanager
def _one_sentence(meta: dict[str, Any]) -> Iterator[None]:
    try:
        yield
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())  # the help text
        sys.exit(0)
    except click.NoSuchOption as error:
        raise BadInput(_no_such_option(error)) from error
    except click.ClickException as error:
        raise BadInput(_short(error.format_message())) from error
    except signals.Interrupted as stop:
        output.say(str(stop))
        sys.exit(128 + stop.signal)
    except KeyboardInterrupt:
        sys.exit(130)  # 128 + SIGINT, as in shells
    except (BrokenPipeError, click.exceptions.Exit, click.Abort):
        raise  # click ends quietly, also where a pipe was closed
    except Exception as error:
        if meta.get(TRACEBACK) or os.environ.get(TRACEBACK, "0") not in ("", "0"):
            traceback.print_exception(error)
        raise BadInput(_short(error_sentence(error))) from error


def _no_such_option(error: click.NoSuchOption) -> str:
    """Return the sentence for an unknown option: what it is called here, or what click suggests."""
    name = error.option_name.lstrip("-").replace("-", "_")
    parameters = error.ctx.command.params if error.ctx else []
    known = {each.name or "": each for each in parameters}
    if name in suggestions.ENVIRONMENT and isinstance(known.get("env"), click.Argument):
        example = f"ddpg-jax {error.ctx and error.ctx.info_name} pendulum"
        return f"{error.message} The environment is an argument, for example: {example}."
    if meant := [name] if name in known else suggestions.synonyms(name, known):
        flags = " and ".join(repr(known[each].opts[0]) for each in meant)
        return f"{error.message} Did you mean {flags}?"
    return error.format_message()


def error_sentence(error: Exception) -> str:
    """Return an error as a sentence; of an unexpected one, its type and how to see more."""
    from ddpg_jax import checks

    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename is not None else ""
        return f"{where}{error.strerror[:1].lower()}{error.strerror[1:]}."
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
        return (
            f"out of memory ({checks.first_line(error)}): lower --num-envs, --batch-size, "
            "--replay-capacity, --seeds or --hidden."
        )
    if isinstance(error, ValueError | ImportError | OSError) and str(error).strip():
        return str(error)
    return (
        f"this is a bug in ddpg_jax or one of its dependencies: {type(error).__name__}: "
        f"{checks.first_line(error)}; run again with --traceback for details."
    )


def _short(text: str) -> str:
    text = " ".join(text.split())
    return (
        text
        if len(text) <= MAX_LENGTH
        else f"{text[: MAX_LENGTH * 2 // 3]} ... {text[-MAX_LENGTH // 3 :]}"
    )
