"""Which kernels a GPU ran, how often and for how long, read from JAX's own trace of a call."""

import gzip
import json
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import jax


def run(call: Callable[[], None]) -> list[dict[str, Any]]:
    """The kernels (and copies) of one call, by name, those that take longest first; none where
    there is no GPU.
    """
    with tempfile.TemporaryDirectory() as place:
        with jax.profiler.trace(place):
            call()
        return [
            kernel
            for path in Path(place).rglob("*.trace.json.gz")
            for kernel in listed(_events(path))
        ]


def _events(path: Path) -> list[dict[str, Any]]:
    return json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]


def listed(events: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What ran on the streams of a GPU, summed up by name: ``count`` and ``seconds``."""
    events = list(events)
    named = lambda kind, *keys: {
        tuple(event[key] for key in keys): event["args"].get("name", "")
        for event in events
        if event.get("name") == kind
    }
    devices, streams = named("process_name", "pid"), named("thread_name", "pid", "tid")
    counts: Counter[str] = Counter()
    micros: Counter[str] = Counter()
    for event in events:
        if event.get("ph") != "X" or "GPU" not in devices.get((event["pid"],), ""):
            continue
        if "Stream" in streams.get((event["pid"], event["tid"]), ""):
            counts[event["name"]] += 1
            micros[event["name"]] += event["dur"]
    return [
        {"name": name, "count": counts[name], "seconds": 1e-6 * micros[name]}
        for name in sorted(counts, key=lambda n: -micros[n])
    ]
