"""Flags of the command line, made from the records in which options are declared."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_origin

import click

from ddpg_jax.runs.cli.parameter_types import OptionType
from ddpg_jax.runs.options.field import Option, default_of, options_of
from ddpg_jax.runs.presets import PRESETS, hyperparameter_options

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

Declared = tuple[str, Any, Option, Any]
"""Name, type, `Option` and default."""


def declared_in(record: type, prefix: str = "") -> Iterator[Declared]:
    """Yield the options that a record declares."""
    for name, kind, declared in options_of(record):
        yield f"{prefix}{name}", kind, declared, default_of(record, name)


def declared_hyperparameters() -> Iterator[Declared]:
    """Yield the hyper-parameters that presets declare; each preset has its own defaults."""
    for name, (kind, declared) in hyperparameter_options().items():
        yield (
            name,
            kind,
            dataclasses.replace(declared, unset=declared.unset or "the preset's"),
            None,
        )


class Flag(click.Option):
    """A command-line option made from a declared one."""

    def __init__(self, name: str, kind: Any, declared: Option, default: Any) -> None:
        """Make the flag of an option."""
        self.declared, self.field_default = declared, default
        flag = declared.flag or f"--{name.replace('_', '-')}"
        given: dict[str, Any] = {"type": _click_type(kind), "default": None}
        if kind is bool and default is False:
            given |= {"is_flag": True}
        elif kind is bool:
            flag = f"{flag}/--no-{flag.removeprefix('--')}"
        elif get_origin(kind) is tuple and kind.__args__[0] is str:
            given |= {"multiple": True, "metavar": declared.metavar}
        super().__init__([flag, name], help=declared.help, **given)

    def record(self, defaults: Mapping[str, Any]) -> tuple[str, str]:
        """Return the flag, and its help with unit, range and default."""
        flag = max(self.opts, key=len)
        if self.secondary_opts:
            flag = f"{flag}/{max(self.secondary_opts, key=len)}"
        elif not self.is_flag:
            flag = f"{flag} {self.make_metavar(click.Context(click.Command('')))}"
        notes = [self.declared.unit, self.declared.range, self._default(defaults)]
        text = "; ".join(filter(None, notes))
        return flag, f"{self.declared.help} [{text}]" if text else self.declared.help

    def _default(self, defaults: Mapping[str, Any]) -> str:
        value = defaults.get(self.name or "", self.field_default)
        text = shown_default(value, self.declared)
        return f"default: {text}" if text else ""


def shown_default(value: Any, declared: Option) -> str:
    """Return a default as the command line writes it; empty without one."""
    if value is None or value == () or value == {} or value == "":
        return declared.unset
    if isinstance(value, bool):
        return "yes" if value else ""
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _click_type(kind: Any) -> Any:
    if kind is bool:
        return bool
    if kind is Path:
        return click.Path(path_type=Path, file_okay=False)
    if get_origin(kind) is tuple:
        return str if kind.__args__[0] is str else OptionType(tuple)
    return OptionType(kind)


def flags(
    *declared: Iterator[Declared], leave_out: Collection[str] = ("env",)
) -> Callable[[click.Command], click.Command]:
    """Add a flag for each option but dicts, which only Python takes, and ``leave_out``."""

    def add(command: click.Command) -> click.Command:
        every = [each for group in declared for each in group if each[0] not in leave_out]
        command.params += [Flag(*each) for each in every if get_origin(each[1]) is not dict]
        return command

    return add


class GroupedCommand(click.Command):
    """A command whose ``--help`` shows common options, and ``--help-all`` all of them in groups."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the common options and the names of the groups, or the requested groups."""
        wanted, defaults = ctx.meta.get(HELP, (None, {}))
        groups: dict[str, list[Flag]] = {}
        for flag in self.params:
            if isinstance(flag, Flag):
                groups.setdefault(flag.declared.group, []).append(flag)
        if wanted is None:
            common = [flag for each in groups.values() for flag in each if flag.declared.common]
            _section(formatter, "Options", common, defaults)
            with formatter.section("More options"):
                listed = ", ".join(groups)
                formatter.write_text(f"--help-all, or --help-group GROUP of: {listed}.")
            return
        for name, each in groups.items():
            if wanted in ("", name):
                _section(formatter, name[:1].upper() + name[1:], each, defaults)


HELP = "ddpg_jax.help"
"""Key of a click context: the requested group (empty: all), and the defaults to show."""


def _section(
    formatter: click.HelpFormatter, title: str, flags: list[Flag], defaults: Mapping[str, Any]
) -> None:
    with formatter.section(title):
        formatter.write_dl([flag.record(defaults) for flag in flags], col_max=34)


def with_help(command: click.Command) -> click.Command:
    """Add ``--help-all`` and ``--help-group``, which show the defaults of ``--preset`` on ENV."""
    inner: Callable[..., Any] = command.callback  # type: ignore[assignment]

    @functools.wraps(inner)
    def callback(*arguments: Any, help_all: bool, help_group: str | None, **given: Any) -> Any:
        if not help_all and help_group is None:
            return inner(*arguments, **given)
        ctx = click.get_current_context()
        groups = {flag.declared.group for flag in command.params if isinstance(flag, Flag)}
        if help_group is not None and help_group not in groups:
            raise click.UsageError(
                f"--help-group {help_group}: choose {', '.join(sorted(groups))}."
            )
        ctx.meta[HELP] = (help_group or "", defaults_on(given.get("env"), given.get("preset")))
        click.echo(ctx.get_help())
        return None

    command.callback = callback
    command.params += [
        click.Option(["--help-all"], is_flag=True, help="Show all options."),
        click.Option(["--help-group"], metavar="GROUP", help="Show the options of a group."),
    ]
    return command


def defaults_on(env: str | None, preset: str | None) -> dict[str, Any]:
    """Return a preset's hyper-parameters on an environment.

    Raises:
        ValueError: an unknown preset, or one that is not for the environment.
    """
    from ddpg_jax import checks
    from ddpg_jax.runs.presets import hyperparameters_on

    if preset is not None and preset not in PRESETS:
        raise checks.nearest("preset", preset, PRESETS, "`ddpg-jax presets` lists all.")
    chosen = PRESETS[preset or "default"]
    found, _ = hyperparameters_on(chosen, env or chosen.only_for or "")
    return dict(vars(found)) | {"preset": preset}
