"""The members of a sweep as a table on the terminal."""

import sys
from typing import Any

from rich.console import Console
from rich.table import Table

from ddpg_jax.runs.console.output import TolerantStream
from ddpg_jax.runs.sweeps import sweep_results

MAX_ROWS_SHOWN = 40
WIDTH = 200
"""Columns of output that is not a terminal."""


def print_table(members: list[sweep_results.Record], steps: int) -> None:
    """Print the table; ``steps``: environment steps of each member."""
    stream: Any = sys.stdout and TolerantStream(sys.stdout)
    console = Console(file=stream, highlight=False, emoji=False, force_jupyter=False)
    if not console.is_terminal:
        console.width = WIDTH
    console.print(members_table(members, steps))


def members_table(members: list[sweep_results.Record], steps: int) -> Table:
    """Return a row per setting, the best first: hyper-parameters, mean, worst and best return."""
    found = sweep_results.settings(members)
    several = any(len(each["members"]) > 1 for each in found)
    names = list(found[0]["hyperparameters"])
    title = f"{len(members)} member{'s' * (len(members) > 1)}"
    columns = ["member", *names, "return", "std of episodes"]
    if several:
        title += f", {len(found)} settings"
        columns = ["members", *names, "mean return", "worst", "best"]
    made = Table(title=f"{title}, {steps:,} steps each")
    for name in columns:
        made.add_column(name, justify="right")
    spread = {one["member"]: one["final_return_std"] for one in members}
    for rank, each in enumerate(found[:MAX_ROWS_SHOWN]):
        figures = _several(each["returns"])
        if not several:
            figures = [figures[0], _number(spread[each["members"][0]])]
        own = map(sweep_results.short_text, each["hyperparameters"].values())
        made.add_row(
            sweep_results.member_numbers(each["members"]),
            *own,
            *figures,
            style="bold green" if rank == 0 else None,
        )
    if len(found) > MAX_ROWS_SHOWN:
        made.caption = f"and {len(found) - MAX_ROWS_SHOWN} more, in members.json"
    return made


def _several(returns: list[float | None]) -> list[str]:
    known = [value for value in returns if value is not None]
    if not known:
        return ["diverged", "", ""]
    diverged = len(returns) - len(known)
    worst = f"{diverged} diverged" if diverged else _number(min(known))
    return [_number(sum(known) / len(known)), worst, _number(max(known))]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.1f}"
