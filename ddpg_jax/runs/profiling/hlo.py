"""What the instructions of an optimised program belong to, read from the program's text."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

_COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.\-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?([\w.\-]+) = (.*)$")
_NAME = re.compile(r'op_name="([^"]*)"')
_CALLED = re.compile(r"(?:calls|body|to_apply|_computations?)=\{?((?:%[\w.\-]+(?:, )?)+)")
_PRODUCT = re.compile(r'[)}\] ](?:dot|convolution)\(|custom_call_target="__(?:cublas|cudnn|onednn)')


class Instruction(NamedTuple):
    """One instruction.

    Attributes:
        scopes: the names around it, of a fusion around most of what is fused; where XLA gave it no
            name, those around the loop that it is in.
        multiplies: whether it or what is fused into it is a product of matrices.
        inside: the names of the instructions of the computations that it calls.
    """

    scopes: frozenset[str]
    multiplies: bool
    inside: frozenset[str]


def name_of(text: str) -> str:
    """Return the name of an optimised program, as a trace has it."""
    return text.split(maxsplit=2)[1].rstrip(",")


def instructions(text: str) -> dict[str, Instruction]:
    """Return the instructions of an optimised program by name."""
    computations: dict[str, dict[str, str]] = {}
    for line in text.splitlines():
        if head := _COMPUTATION.match(line):
            computations[head[1]] = {}
        elif found := _INSTRUCTION.match(line):
            computations[next(reversed(computations))][found[1]] = found[2]
    scopes: dict[str, frozenset[str]] = {}
    made: dict[str, Instruction] = {}
    for computation in reversed(computations):  # what calls stands after what is called
        for instruction, line in computations[computation].items():
            around = _scopes([line]) or scopes.get(computation, frozenset())
            called = re.findall(r"[\w.\-]+", " ".join(_CALLED.findall(line)))
            scopes.update(dict.fromkeys(called, around))
            inside = {name: text for one in called for name, text in computations[one].items()}
            fused = _scopes(inside.values()) if " fusion(" in line else frozenset()
            multiplies = any(map(_PRODUCT.search, (line, *inside.values())))
            made[instruction] = Instruction(fused or around, multiplies, frozenset(inside))
    return made


def _scopes(lines: Iterable[str]) -> frozenset[str]:
    """Those that more than half of the named instructions in these lines are in."""
    names = [set(re.split(r"[/()]", found[1])) for found in map(_NAME.search, lines) if found]
    counts = Counter(scope for scopes in names for scope in scopes)
    return frozenset(scope for scope, count in counts.items() if 2 * count > len(names))
