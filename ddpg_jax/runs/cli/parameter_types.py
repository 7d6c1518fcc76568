"""Types of command-line options, checked as the configuration checks them."""

from __future__ import annotations

from typing import Any

import click

from ddpg_jax.runs.options.validation import convert_value, short_repr


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
            name = self.name if param is None or param.name is None else param.name
            return convert_value(name, value, self.kind)
        except ValueError as error:
            raise click.UsageError(str(error)) from error


class WholeNumber(click.IntRange):
    """A whole number in a range."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Convert as `OptionType` does, and check the range."""
        try:
            number = convert_value("value", value, int)
        except ValueError:
            self.fail(f"{short_repr(value)} is not a whole number, or far too large", param, ctx)
        return super().convert(number, param, ctx)
