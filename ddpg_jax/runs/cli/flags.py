"""Flags of the command line, made from the records in which options are declared; their types."""

from dataclasses import replace
from pathlib import Path
from typing import Any, get_origin

import click

from ddpg_jax.runs.config.run_config import preset_called
from ddpg_jax.runs.options.field import Option, options_of
from ddpg_jax.runs.options.sweep_options import EvolveOptions
from ddpg_jax.runs.options.validation import Options, convert_value
from ddpg_jax.runs.presets import hyperparameter_options, hyperparameters_on


class UserPath(click.Path):
    """A path; ``~`` is the home folder, also where no shell replaced it."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Convert to a path."""
        try:
            return Path(str(super().convert(value, param, ctx))).expanduser()
        except RuntimeError as error:
            raise click.UsageError(f"{value}: there is no such user.") from error


TYPES: dict[Any, Any] = {
    bool: bool,
    Path: UserPath(file_okay=False),
    tuple[str, ...]: str,
}
"""Types of flags that the command line checks itself."""

EVOLVE = {f"pbt_{name}": declared for name, declared in options_of(EvolveOptions).items()}
"""The options of evolution, as flags of a sweep."""


def declared_hyperparameters() -> dict[str, Option]:
    """Return the hyper-parameters that presets declare; each preset has its own defaults."""
    return {
        name: replace(declared, default=None, unset=declared.unset or "the preset's")
        for name, declared in hyperparameter_options().items()
    }


class OptionType(click.ParamType):
    """A number, a text or widths; the configuration checks its range."""

    def __init__(self, kind: type) -> None:
        """Convert to ``kind``."""
        self.kind = kind
        self.name = {int: "integer", float: "float", tuple: "widths", str: "text"}[kind]

    def convert(
        self,
        value: Any,
        param: click.Parameter | None,
        ctx: click.Context | None,  # noqa: ARG002
    ) -> Any:
        """Convert, also ``1e5`` to 100,000 and ``256,256`` to ``(256, 256)``."""
        try:
            return convert_value((param and param.name) or self.name, value, self.kind)
        except ValueError as error:
            raise click.UsageError(str(error)) from error


class WholeNumber(click.IntRange):
    """A whole number in a range."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Convert as `OptionType` does, and check the range."""
        return super().convert(OptionType(int).convert(value, param, ctx), param, ctx)


class Flag(click.Option):
    """A command-line option made from a declared one."""

    def __init__(self, name: str, declared: Option) -> None:
        """Make the flag of an option."""
        self.declared, kind = declared, declared.kind
        flag = f"--{name.replace('_', '-')}"
        switch = kind is bool and declared.default is False
        if kind is bool and not switch:
            flag = f"{flag}/--no-{flag.removeprefix('--')}"
        super().__init__(
            [flag, name],
            type=TYPES.get(kind) or OptionType(get_origin(kind) or kind),
            default=None,
            is_flag=switch or None,
            multiple=kind == tuple[str, ...],
            metavar=declared.metavar,
            help=declared.help,
        )

    def record(self, defaults: Options) -> tuple[str, str]:
        """Return the flag, and its help with unit, range and default."""
        flag, declared = "/".join(self.opts + self.secondary_opts), self.declared
        if not self.is_flag:
            flag += f" {self.make_metavar(click.Context(click.Command('')))}"
        default = shown_default(defaults.get(self.name or "", declared.default), declared)
        notes = (declared.unit, declared.range, default and f"default: {default}")
        text = "; ".join(filter(None, notes))
        return flag, f"{declared.help} [{text}]" if text else declared.help


def shown_default(value: Any, declared: Option) -> str:
    """Return a default as the command line writes it; empty without one."""
    if value in (None, (), {}, ""):
        return declared.unset
    if isinstance(value, bool):
        return "yes" if value else ""
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def flags(
    declared: dict[str, Option], leave_out: tuple[str, ...] = ("env",)
) -> list[click.Parameter]:
    """Return a flag for each option but dicts, which only Python takes, and ``leave_out``."""
    return [
        Flag(name, each)
        for name, each in declared.items()
        if name not in leave_out and get_origin(each.kind) is not dict
    ]


class GroupedCommand(click.Command):
    """A command whose ``--help`` shows common options, and ``--help-all`` all of them in groups.

    The defaults are those of ``--preset`` on ENV.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        """Make the command, with its options of help."""
        super().__init__(*arguments, **options)
        self.params += [
            click.Option(["--help-all"], is_flag=True, help="Show all options."),
            click.Option(["--help-group"], metavar="GROUP", help="Show the options of a group."),
        ]

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command, or print the requested help."""
        every, group = ctx.params.pop("help_all"), ctx.params.pop("help_group")
        if not every and group is None:
            return super().invoke(ctx)
        groups = {flag.declared.group for flag in self.params if isinstance(flag, Flag)}
        if group is not None and group not in groups:
            raise click.UsageError(f"--help-group {group}: choose {', '.join(sorted(groups))}.")
        preset = preset_called(ctx.params["preset"] or "default")
        found, _ = hyperparameters_on(preset, ctx.params["env"] or preset.only_for or "")
        ctx.meta[HELP] = (group or "", vars(found) | {"preset": ctx.params["preset"]})
        click.echo(ctx.get_help())

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
                formatter.write_text(f"--help-all, or --help-group GROUP of: {', '.join(groups)}.")
            return
        for name, each in groups.items():
            if wanted in ("", name):
                _section(formatter, name.capitalize(), each, defaults)


HELP = "ddpg_jax.help"
"""Key of a click context: the requested group (empty: all), and the defaults to show."""


def _section(
    formatter: click.HelpFormatter, title: str, flags: list[Flag], defaults: Options
) -> None:
    with formatter.section(title):
        formatter.write_dl([flag.record(defaults) for flag in flags], col_max=34)
