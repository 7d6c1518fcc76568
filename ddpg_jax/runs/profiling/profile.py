"""A trace of a run's first chunks, and the share of their time that each part of a chunk takes.

The loops name their parts by `jax.named_scope`, which changes no instruction; XLA keeps the names
in the compiled program, and the trace says how long each of its instructions took.
"""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import jax
from jax.profiler import ProfileData

from ddpg_jax.runs.folder import files, versions
from ddpg_jax.runs.profiling import hlo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path
    from types import TracebackType

    from ddpg_jax.population import Programs

TRACED = 2
"""Chunks in the trace, the first ones; fewer where it would slow down all of them."""
PARTS = ("environment", "replay", "update", "rest")
"""The scopes that the loops name; the rest is acting, drawing keys and adding up reports."""


class Profile:
    """A context around a run: `watch` its programs, and `report` when it has ended."""

    def __init__(self, num_chunks: int, rounds: int, place: Path) -> None:
        """Profile a run of ``num_chunks`` chunks of ``rounds`` rounds into the folder ``place``."""
        self._rounds, self._folder = rounds, place
        self._left = min(TRACED, max(1, num_chunks - 1))
        self._tracing = False
        self._seconds: dict[bool, list[float]] = {True: [], False: []}
        self._programs: tuple[Any, ...] = ()
        self._overlapping = False

    def __enter__(self) -> Profile:
        """Nothing is traced yet."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End a trace that a failing run left open."""
        self._end()

    def watch(self, programs: Programs) -> Programs:
        """Return the programs with ``chunk`` timed, and traced at first."""
        self._programs = tuple(programs.inside) or (programs.chunk,)
        self._overlapping = bool(programs.inside)

        def chunk(*arguments: Any) -> Any:
            if self._left and not self._tracing:
                options = jax.profiler.ProfileOptions()
                options.python_tracer_level = 0
                jax.profiler.start_trace(self._folder, profiler_options=options)
                self._tracing = True
            begin = time.perf_counter()
            made = jax.block_until_ready(programs.chunk(*arguments))
            self._seconds[self._tracing].append(time.perf_counter() - begin)
            self._left -= self._tracing
            if not self._left:
                self._end()
            return made

        return programs._replace(chunk=chunk)

    def _end(self) -> None:
        if self._tracing:
            self._tracing = False
            jax.profiler.stop_trace()

    def report(self, say: Callable[[str], None]) -> None:
        """Say the shares, and write them into ``shares.json`` beside the trace."""
        chunks = self._seconds[False] or self._seconds[True]
        if not chunks:
            say("no chunk was left to train: there is nothing to profile.")
            return
        traced = f"trace of {len(self._seconds[True])} chunks"
        say(f"{traced}, for TensorBoard or Perfetto: {self._folder}")
        newest = max(self._folder.rglob("*.xplane.pb"), key=lambda path: path.stat().st_mtime)
        found = {
            "device": versions.describe_device(),
            "versions": versions.package_versions(),
            "chunks": len(chunks),
            "chunks_were_traced": not self._seconds[False],
            "seconds_per_round": statistics.median(chunks) / self._rounds,
            "overlapping": self._overlapping,
            **shares(ProfileData.from_file(str(newest)), [one.as_text() for one in self._programs]),
        }
        files.write_json(self._folder / "shares.json", found)
        say(sentences(found))


def shares(trace: ProfileData, programs: Iterable[str]) -> dict[str, Any]:
    """Return what share of all traced instructions and environment steps each part takes.

    Args:
        trace: of some chunks.
        programs: the texts of the optimised programs that a chunk runs.
    """
    seconds = _part_seconds(trace, programs)
    total = sum(seconds[name] for name in PARTS)
    found: dict[str, Any] = {"traced_seconds": total, "shares": {}}
    if total:
        found["shares"] = {name: seconds[name] / total for name in PARTS}
    if seconds["update"]:
        found["products_over_update"] = seconds["products"] / seconds["update"]
    if seconds["rendering"]:
        found["rendering_over_environment"] = seconds["rendering"] / seconds["environment"]
    return found


def _part_seconds(trace: ProfileData, programs: Iterable[str]) -> dict[str, float]:
    """Seconds of the parts, of ``rendering``, and of the matrix ``products`` of updates."""
    known = {hlo.name_of(text): hlo.instructions(text) for text in programs}
    seconds, host = _instruction_seconds(trace)
    found = dict.fromkeys((*PARTS, "rendering", "products"), 0.0) | {"environment": host}
    for module in known.keys() & seconds.keys():
        taken = seconds[module]
        for name in known[module].keys() & taken.keys():
            instruction = known[module][name]
            if instruction.inside & taken.keys():  # a loop: what is in it is counted
                continue
            part = next((part for part in PARTS if part in instruction.scopes), "rest")
            found[part] += taken[name]
            if "rendering" in instruction.scopes:
                found["rendering"] += taken[name]
            if part == "update" and instruction.multiplies:
                found["products"] += taken[name]
    return found


def _instruction_seconds(trace: ProfileData) -> tuple[dict[str, dict[str, float]], float]:
    """Seconds of each instruction by program, and of environment steps on the host."""
    found: dict[str, dict[str, float]] = {}
    host = 0.0
    for event in (event for plane in trace.planes for line in plane.lines for event in line.events):
        about = dict(event.stats)
        if "hlo_op" in about:
            program_seconds = found.setdefault(about["hlo_module"], defaultdict(float))
            program_seconds[about["hlo_op"]] += 1e-9 * event.duration_ns
        elif event.name == "environment":
            host += 1e-9 * event.duration_ns
    return found, host


def sentences(found: dict[str, Any]) -> str:
    """Return the shares as text for a person."""
    traced = ", slowed down by the trace" if found["chunks_were_traced"] else ""
    text = (
        f"a round takes {1e6 * found['seconds_per_round']:,.0f} us (median of "
        f"{found['chunks']} chunks{traced})"
    )
    if not found["shares"]:
        return f"{text}; the trace names no instruction of this program, so shares are unknown."
    listed = ", ".join(f"{name} {share:.0%}" for name, share in found["shares"].items())
    text += f"; in the trace: {listed} (acting, keys, reports)."
    if "rendering_over_environment" in found:
        text += f" Rendering is {found['rendering_over_environment']:.0%} of the environment."
    if found["overlapping"]:
        text += " The host steps the environments while the device learns: shares overlap in time."
    if "products_over_update" in found:
        text += f"\nmatrix products take {found['products_over_update']:.0%} of an update."
    return text
