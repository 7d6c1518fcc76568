"""What an optimised XLA program launches, read from its text: kernels of each loop's body, copies,
collectives.

A GPU's kernels and an instruction that XLA's runtime on the CPU calls are the same thing here: what
is in a computation that is run as it stands, so not inside a fusion, and is not a mere name for a
piece of memory.
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

COLLECTIVES = (
    "all-reduce",
    "all-gather",
    "reduce-scatter",
    "all-to-all",
    "ragged-all-to-all",
    "collective-permute",
    "collective-broadcast",
)

_FREE = {
    "parameter",
    "constant",
    "tuple",
    "get-tuple-element",
    "bitcast",
    "after-all",
    "opt-barrier",
    "add-dependency",
}
_FREE |= {"partition-id", "replica-id", "domain"}
_HEAD = re.compile(r"^(?:ENTRY )?%?([\w.\-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?([\w.\-]+) = (.*)$")
_OPERATION = re.compile(r"(?:^|[)}\] ])([a-z][a-z0-9\-]*)\(")
_TRIPS = re.compile(r'known_trip_count\\?":\{\\?"n\\?":\\?"(\d+)')
_NAME = re.compile(r'op_name="([^"]*)"')
_ARRAY = re.compile(r"(?:pred|[a-z]+(\d+)[a-z0-9]*)\[([\d,]*)\]")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")

Pick = Callable[[Iterable[int]], int]
"""Which branch of a conditional counts: ``max`` or ``min``."""


class Instruction(NamedTuple):
    """One line of a computation."""

    label: str
    operation: str
    text: str

    @property
    def name(self) -> str:
        """What JAX called it."""
        found = _NAME.search(self.text)
        return found.group(1) if found else ""

    @property
    def shape(self) -> str:
        """Of its result."""
        return self.text.split(f" {self.operation}(")[0]

    def computations(self, *attributes: str) -> list[str]:
        """Those that it names as one of these attributes."""
        return [
            found
            for name in attributes
            for found in re.findall(rf"\b{name}=%?([\w.\-]+)", self.text)
        ]

    @property
    def branches(self) -> list[str]:
        """The computations of a conditional."""
        listed = _BRANCHES.search(self.text)
        named = re.findall(r"[\w.\-]+", listed.group(1)) if listed else []
        return named + self.computations("true_computation", "false_computation")


class Loop(NamedTuple):
    """A loop's body: ``kernels`` are its own, without those of the ``loops`` and the conditionals
    in it.

    ``trips``: how often it runs, None where that is not known when it is compiled; such a loop
    counts once. ``conditionals``: the branches of each.
    """

    trips: int | None
    kernels: list[Instruction]
    copies: list[Instruction]
    loops: list["Loop"]
    conditionals: list[list["Loop"]]

    def count(self, pick: Pick = max) -> int:
        """Kernels of one pass through the body."""
        return _over(self, lambda loop: len(loop.kernels), pick)

    def copied(self, pick: Pick = max) -> int:
        """Those of one pass that only copy."""
        return _over(self, lambda loop: len(loop.copies), pick)

    def called(self, pick: Pick = max) -> int:
        """What the runtime on the CPU calls in one pass: the loops and conditionals themselves are
        instructions too.
        """
        return _over(
            self, lambda loop: len(loop.kernels) + len(loop.loops) + len(loop.conditionals), pick
        )

    @property
    def collectives(self) -> dict[str, int]:
        """Of one pass, by kind."""
        kinds = {kind: lambda loop, kind=kind: _collectives(loop)[kind] for kind in COLLECTIVES}
        return {kind: count for kind, of in kinds.items() if (count := _over(self, of, max))}

    @property
    def reduced_bytes(self) -> int:
        """Of what the collectives of one pass give each device."""
        return _over(
            self,
            lambda loop: sum(size_of(one.shape) for one in loop.kernels if _is_collective(one)),
            max,
        )

    def __str__(self) -> str:
        inner = [
            f"{'?' if loop.trips is None else loop.trips} x ({loop})"
            for loop in self.loops
            if loop.count()
        ]
        either = [f"one of ({' | '.join(map(str, branches))})" for branches in self.conditionals]
        return " + ".join([str(len(self.kernels)), *inner, *either])


def read(text: str) -> Loop:
    """The whole program, as a loop that runs once."""
    computations, entry = _computations(text)
    return _loop(computations, entry, 1)


def busiest(program: Loop) -> Loop:
    """The outermost loop that launches most; the program itself where it has none."""
    return max(program.loops, key=lambda loop: (loop.trips or 1) * loop.count(), default=program)


def _over(loop: Loop, of: Callable[[Loop], int], pick: Pick) -> int:
    inner = sum(
        (1 if each.trips is None else each.trips) * _over(each, of, pick) for each in loop.loops
    )
    return (
        of(loop)
        + inner
        + sum(
            pick(_over(branch, of, pick) for branch in branches) for branches in loop.conditionals
        )
    )


def _collectives(loop: Loop) -> Counter[str]:
    return Counter(kernel.operation.removesuffix("-start") for kernel in loop.kernels)


def _is_collective(one: Instruction) -> bool:
    return one.operation.removesuffix("-start") in COLLECTIVES


def size_of(shape: str) -> int:
    """Bytes of an array, or of a tuple of some: ``(f32[8,4]{1,0}, bf16[8]{0})``."""
    parts = [(int(bits or 8), sizes) for bits, sizes in _ARRAY.findall(shape)]
    return sum(
        bits // 8 * math.prod(map(int, filter(None, sizes.split(",")))) for bits, sizes in parts
    )


def _computations(text: str) -> tuple[dict[str, list[Instruction]], str]:
    found: dict[str, list[Instruction]] = {}
    entry, current = "", ""
    for line in text.splitlines():
        if head := _HEAD.match(line):
            current = head.group(1)
            found[current] = []
            entry = current if line.startswith("ENTRY") else entry
        elif match := _INSTRUCTION.match(line):
            operation = _OPERATION.search(match.group(2))
            assert operation is not None, f"an instruction without an operation: {line}"
            found[current].append(Instruction(match.group(1), operation.group(1), match.group(2)))
    return found, entry


def _loop(computations: dict[str, list[Instruction]], body: str, trips: int | None) -> Loop:
    launched = list(_launched(computations, body))
    whiles = [one for one in launched if one.operation == "while"]
    conditionals = [one for one in launched if one.operation == "conditional"]
    kernels = [one for one in launched if one.operation not in ("while", "conditional")]
    return Loop(
        trips,
        kernels,
        [one for one in kernels if _only_copies(computations, one)],
        [_loop(computations, one.computations("body")[0], _trips(one)) for one in whiles],
        [[_loop(computations, branch, 1) for branch in one.branches] for one in conditionals],
    )


def _trips(loop: Instruction) -> int | None:
    known = _TRIPS.search(loop.text)
    return int(known.group(1)) if known else None


def _launched(computations: dict[str, list[Instruction]], body: str) -> Iterator[Instruction]:
    """What a computation launches, and what those that it calls launch."""
    for one in computations[body]:
        inner = _called(one)
        if inner:
            yield from _launched(computations, inner)
        elif not _is_free(one):
            yield one


def _called(one: Instruction) -> str:
    """The computation that a call is of, or an asynchronous start; empty where the instruction is
    itself what runs.
    """
    if (
        one.operation not in ("call", "call-start", "async-start")
        or 'xla_cpu_small_call="true"' in one.text
    ):
        return ""  # a small call is one kernel of XLA's on the CPU
    return next(iter(one.computations("to_apply", "calls")), "")


def _is_free(one: Instruction) -> bool:
    ends = one.operation.endswith(("-done", "async-update"))
    return ends or one.operation in _FREE or 'custom_call_target="AllocateBuffer"' in one.text


def _only_copies(computations: dict[str, list[Instruction]], one: Instruction) -> bool:
    if one.operation not in ("fusion", "fusion-start"):
        return one.operation in ("copy", "copy-start")
    inside = [
        each
        for name in one.computations("calls")
        for each in computations[name]
        if not _is_free(each)
    ]
    return {each.operation for each in inside} == {"copy"}


def factors(text: str) -> list[tuple[str, str]]:
    """The dtypes of both factors of each matrix product of a program's text, in whatever library or
    kernel it is computed.
    """
    kinds = dict(re.findall(r"%([\w.-]+) = \(?(\w+)\[", text))
    pairs = re.findall(r" dot\(%([\w.-]+), %([\w.-]+)\)", text)
    pairs += re.findall(
        r' custom-call\(%([\w.-]+), %([\w.-]+)[^)]*\), custom_call_target="__cublas[^"]*"', text
    )
    return [(kinds[left], kinds[right]) for left, right in pairs]
