"""Types of command-line options, checked as the configuration checks them."""

from __future__ import annotations

from typing import Any

import click

from ddpg_jax.runs.options.validation import exact, shown


class Setting(click.ParamType):
    """A number, or widths, as `ddpg_jax.runs.options.validation.exact` takes them; its range is looked at where it is used."""

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
