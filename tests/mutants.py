"""Do the tests notice faults? Small ones, drawn by a seed, are each put into a copy of the checkout
and shown to the tests of their file.

    python tests/mutants.py --count 120 --seed 0 --out mutants.jsonl

Restartable: a fault that is in the file is not run again. ``--checkout`` names another checkout,
whose own tests judge its own files by the same rules. A fault is caught, survives, counts neither
way because the tests took too long, or is named in `EQUIVALENT`: no test can notice it."""

import argparse
import ast
import collections
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
COPIED = ("ddpg_jax", "tests", "benchmarks", "notebooks", "docs", ".github", "README.md")
COPIED += ("pyproject.toml", "LICENSE")
GENERAL = {"__init__", "test_architecture", "test_where_to_add", "test_readme", "test_fuzz"}
GENERAL |= {"test_docs", "test_release"}
"""Tests of everything answer for no file in particular."""
MOST = 4
"""Test files that answer for one file of the package; the more they name it, the sooner."""
EXCEPTIONS = {
    "__init__.py": ["test_architecture.py", "test_x64.py"],
    "agents/optimization.py": ["test_agents.py", "test_presets.py"],
    "checkpoint.py": ["test_saved_states.py"],
    "checks.py": ["test_checks.py", "test_losses.py", "test_replay.py", "test_noise.py"],
    "envs/check.py": ["test_env_check.py", "test_goal_check.py"],
    "envs/drift.py": ["test_env_check.py"],
    "envs/render/image.py": ["test_render.py"],
    "envs/runners.py": ["test_env_check.py"],
    "envs/copies.py": ["test_host.py", "test_host_broken.py", "test_host_spaces.py"],
    "envs/gymnasium.py": [
        *("test_host_spaces.py", "test_host_broken.py", "test_host.py", "test_pixels.py")
    ],
    "envs/lane/camera.py": ["test_lane_camera.py"],
    "envs/lane/surface.py": ["test_lane_camera.py"],
    "envs/own.py": ["test_cli.py", "test_env_check.py"],
    "envs/quiet.py": ["test_quiet.py", "test_brax.py", "test_playground.py"],
    "envs/vector.py": ["test_host.py", "test_host_spaces.py"],
    "envs/wrappers.py": ["test_env_wrappers.py"],
    **{
        f"export/{name}.py": ["test_export_operators.py", "test_export_forms.py"]
        for name in ("builder", "function", "graph", "onnx", "primitives", "weights")
    },
    "export/__init__.py": ["test_export_forms.py", "test_export.py", "test_observed.py"],
    "export/contract.py": ["test_export_contract.py"],
    "runs/results/export.py": ["test_export_contract.py", "test_export.py"],
    "host/rows.py": ["test_host.py", "test_properties_host.py"],
    "learner.py": ["test_train.py", "test_host.py", "test_sharding.py"],
    "schedule.py": ["test_train.py", "test_config.py", "test_presets.py"],
    "types.py": ["test_agents.py", "test_behaviour.py", "test_resharding.py"],
    "runs/__init__.py": [
        *("test_cli.py", "test_run.py", "test_sweeps.py", "test_starting_point.py")
    ],
    "runs/distributed/arrays.py": ["test_devices.py", "test_sharding.py"],
    "replay/mixed.py": ["test_offline.py"],
    "runs/cli/run_commands.py": ["test_commands.py", "test_best.py", "test_cli.py"],
    "runs/options/sweep_options.py": ["test_options.py", "test_sweeps.py"],
    "runs/cli/flags.py": ["test_errors.py", "test_options.py", "test_cli.py"],
    "runs/cli/jax_setup.py": ["test_errors.py", "test_cli.py"],
    "runs/config/differences.py": ["test_report.py"],
    "runs/config/default_preset.py": ["test_device.py", "test_config.py"],
    "runs/dry_run.py": ["test_memory.py", "test_described.py"],
    "runs/options/field.py": ["test_errors.py", "test_options.py", "test_config.py"],
    "runs/options/hyperparameters.py": ["test_options.py", "test_config.py", "test_presets.py"],
    "runs/options/run_options.py": ["test_options.py", "test_config.py", "test_cli.py"],
    "runs/options/validation.py": ["test_config.py", "test_options.py", "test_arguments.py"],
    "replay/dealing.py": ["test_resharding.py", "test_replay.py"],
    "replay/frame_dealing.py": ["test_resharding.py", "test_frames.py"],
    "runs/programs/evaluation.py": ["test_evaluation.py", "test_run.py", "test_host_resume.py"],
    "runs/presets/__init__.py": ["test_presets.py", "test_config.py"],
    **{
        f"runs/presets/{name}.py": ["test_presets.py", "test_preset_targets.py", "test_images.py"]
        for name in ("d4pg", "ddpg", "drq_v2", "kendall_driving", "td3", "td3_categorical")
    },
    "runs/programs/compatibility.py": ["test_compatibility.py", "test_streams_joined.py"],
    "runs/sweeps/lineage.py": ["test_sweep_plots.py", "test_sweeps.py"],
    "runs/sweeps/plan.py": ["test_sweeps.py", "test_sweep_results.py"],
    "runs/sweeps/run_sweep.py": ["test_sweep_results.py", "test_sweeps.py"],
    "runs/sweeps/table.py": ["test_sweep_plots.py", "test_sweeps.py"],
    "runs/tasks.py": ["test_config.py", "test_presets.py"],
    "runs/training/reports.py": ["test_callbacks.py", "test_frames.py", "test_chunks.py"],
    "runs/training/loop.py": ["test_chunks.py", "test_run.py", "test_life.py", "test_cli.py"],
    "runs/training/startup.py": ["test_startup.py", "test_run.py", "test_life.py"],
}
"""Where the rule of `answering` finds none or the wrong ones."""
LAST = "an index beyond an axis is that of its end"
LASTS = {
    "agents/augment.py": (
        "next_observation=_moved(batch.next_observation, shifts[1], pad),",
        "return jax.lax.dynamic_slice(image, (shift[0], shift[1], 0), images.shape[1:])",
    ),
    "envs/lane/camera.py": ("forward, left = points[0], points[1] - place.offset",),
    "envs/lane/car.py": (
        "return jnp.stack([action[..., 0] * MAX_STEERING, (action[..., 1] + 1) / 2 * MAX_SPEED], "
        "axis=-1)",
    ),
    "envs/lane/surface.py": (
        "down = -rays.direction[2]",
        "distance = jnp.where(down > 1e-3, rays.origin[2] / jnp.maximum(down, 1e-3), NOTHING)",
        "forward = away[0] * direction[0] + away[1] * direction[1]",
        "left = away[1] * direction[0] - away[0] * direction[1]",
    ),
    "envs/render/hit.py": ("return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]",),
    "envs/render/image.py": ("bright, height = done(bright), ray.direction[2][None]",),
    "envs/render/planes.py": (
        "height = jnp.sum(from_center * self.rotation[:, :, 2], axis=1, keepdims=True)",
        "down = -along(self.rotation[:, :, 2], rays)",
        "up = axes[:, 2]",
        "odd = signs[0] * signs[1] * jnp.clip(1.5 - width / jnp.min(square, axis=0), 0, 1)",
    ),
    "replay/frames.py": (
        "next_observation=(_split(transition.next_observation, images)[0], slots[:, 1]),",
    ),
}
"""Lines that take the last of two or three numbers of an array of JAX."""
PAINTED = "return Look(asphalt, verge, line, rough[0], grain[0], dash[0], bright[0], sky)"
STREAM = "any number keeps a stream of keys apart"
STREAMS = {
    "host/programs.py": "LEARNING, ACTING = 0x1EA2_0000, 0xAC71_0000",
    "population/evolution.py": "EVOLUTION = 0xE701",
    "rollout.py": "_ACTING = 0x5EED_AC70",
    "runs/checkpoints/resharding.py": "NEW_SHARDS = 0x5AD0",
    "runs/programs/evaluation.py": "HOST_RESET_STREAM = 0x7E573",
}


LOOKS = {
    "envs/pendulum.py": (
        '(rod,) = axes.plot([], [], lw=8, solid_capstyle="round", color="#cc4d4d")',
        'axes.plot(0, 0, "o", color="black", ms=4)',
        '(bar,) = axes.plot([], [], lw=4, color="#4477aa")',
    ),
    "runs/results/plots.py": (
        'return Figure(figsize=(width, height), dpi=120, layout="constrained")',
        "axes.fill_between(steps, *band, color=line.get_color(), alpha=0.25, linewidth=0)",
    ),
    "runs/sweeps/lineage.py": (
        'LineCollection(copies, colors="tab:red", linewidths=0.7, alpha=0.6, zorder=2)',
        "axis.scatter([step] * len(row), row, c=[*map(colour, returns)], s=14, zorder=3)",
        'axis.plot(steps, best, color="black", lw=1.6, zorder=4)',
    ),
    "runs/sweeps/sweep_plots.py": (
        'axes.plot(places[known], returns[known], "o", ms=4, alpha=0.6, color="tab:blue")',
        "axes.plot(ticks, [returns[known & (places == tick)].mean() for tick in ticks], lw=1.2)",
        'axes.scatter(*places, c=shades, s=40, edgecolors="black", linewidths=0.4, zorder=2)',
        'axes.axvline(place, color="black", lw=0.8)',
    ),
}
"""Lines that draw: how wide lines and how large dots are, and what lies over all others."""
MIXING = (
    "place = jnp.arange(shown.shape[-1], dtype=jnp.uint32) << 8",
    "return x ^ (x >> 15)",
    "first = mixed(mixed(x, 0x7FEB352D, 16), 0x846CA68B, 16)",
    "second = mixed(first + jnp.uint32(0x9E3779B9), 0x85EBCA6B, 13)",
)
"""Lines of ``replay/frames.py`` that mix bits."""
MIXED = "frames are told apart by other mixtures too"
WIDTHS = r"\b(?:lw|ms|dpi|linewidths?|s)=([\d.]+)"


def _raised(line: str, number: str) -> list[str]:
    """A line with each number of a form, the first group of it if there is one, one greater."""
    spans = [x.span(x.re.groups) for x in re.finditer(number, line)]
    one = lambda a, b: f"{line[:a]}{ast.literal_eval(line[a:b]) + 1!r}{line[b:]}"
    return [one(*span) for span in spans if span[0] >= 0]


EQUIVALENT: dict[tuple[str, str, str], str] = {
    **{
        (file, line, other): LAST
        for file, lines in LASTS.items()
        for line in lines
        for other in _raised(line, r"(?<=\[)[12](?=\])|(?<=, )[12](?=\])")
    },
    **{
        ("envs/lane/surface.py", PAINTED, other): LAST
        for other in _raised(PAINTED, r"(?<=\[)0(?=\])")
    },
    **{
        (file, line, other): STREAM
        for file, line in STREAMS.items()
        for other in _raised(line, r"0x\w+")
    },
    **{
        (file, line, other): "as wide or as large as one likes"
        for file, lines in LOOKS.items()
        for line in lines
        for other in _raised(line, WIDTHS)
    },
    **{
        ("replay/frames.py", line, other): MIXED
        for line in MIXING
        for other in _raised(line, r"\b(?:0x\w+|8|1[356])\b")
    },
    ("replay/frames.py", MIXING[3], MIXING[3].replace("first +", "first -")): MIXED,
    **{
        (
            "envs/actions.py",
            line,
            line.replace("-1.0, 1.0", ends),
        ): "cut off at the bounds in any case"
        for line, ends in (
            ("return xp.clip(xp.clip(action, -1.0, 1.0) * half + middle, low, high)", "-2.0, 1.0"),
            ("return xp.clip(xp.clip(action, -1.0, 1.0) * half + middle, low, high)", "-1.0, 2.0"),
            (
                "return xp.minimum(low + xp.floor((xp.clip(action, -1.0, 1.0) + 1) / 2 "
                "* (high - low + 1)), high)",
                "-1.0, 2.0",
            ),
        )
    },
    (
        "schedule.py",
        "sizes = {max(1, rounds // count) for count in range(chunks // 2, 2 * chunks + 1)}",
        "sizes = {max(1, rounds // count) for count in range(chunks // 2, 3 * chunks + 1)}",
    ): "the next line leaves out what makes more chunks",
    (
        "runs/sweeps/lineage.py",
        'axis.plot(steps, best, color="black", lw=1.6, zorder=4)',
        'axis.plot(steps, best, color="black", lw=1.6, zorder=5)',
    ): "over all others in any case",
    (
        "runs/sweeps/sweep_plots.py",
        """line.set(lw=2.5, zorder=3, label=f"member {one['member']}: {', '.join(own)}")""",
        """line.set(lw=2.5, zorder=4, label=f"member {one['member']}: {', '.join(own)}")""",
    ): "over all others in any case",
    (
        "runs/sweeps/sweep_plots.py",
        'axes.scatter(*places, c=shades, s=40, edgecolors="black", linewidths=0.4, zorder=2)',
        'axes.scatter(*places, c=shades, s=40, edgecolors="black", linewidths=0.4, zorder=3)',
    ): "over all others in any case",
    (
        "runs/sweeps/sweep_plots.py",
        'box = {"fc": "white", "ec": "none", "pad": 0.8}',
        'box = {"fc": "white", "ec": "none", "pad": 1.8}',
    ): "as wide or as large as one likes",
    (
        "envs/render/planes.py",
        "odd = signs[0] * signs[1] * jnp.clip(1.5 - width / jnp.min(square, axis=0), 0, 1)",
        "odd = signs[0] / signs[1] * jnp.clip(1.5 - width / jnp.min(square, axis=0), 0, 1)",
    ): "a sign is its own inverse",
    (
        "envs/lane/camera.py",
        "up, angle = vector(1, 0, 0), math.radians(45)",
        "up, angle = vector(2, 0, 0), math.radians(45)",
    ): "a direction of any length",
    (
        "envs/lane/surface.py",
        "apart = [point[None, i] - self.point[:, i, None] for i in range(2)]",
        "apart = [point[None, i] - self.point[:, i, None] for i in range(3)]",
    ): LAST,
    (
        "envs/lane/surface.py",
        "pixel = rays.angle * jnp.minimum(distance, 1e3)  # metres that one covers, across",
        "pixel = rays.angle * jnp.minimum(distance, 1001.0)  # metres that one covers, across",
    ): "so far away all is one colour",
    (
        "envs/autoreset.py",
        "rows = (jnp.arange(num_envs, dtype=jnp.int32) + rotation) % num_envs",
        "rows = (jnp.arange(num_envs, dtype=jnp.int32) - rotation) % num_envs",
    ): "all rotations are as likely",
    ("learner.py", "scalar = jnp.float32(0)", "scalar = jnp.float32(1)"): "for its shape",
    ("replay/frames.py", "head=jnp.int32(0),", "head=jnp.int32(1),"): "a ring begins anywhere",
    (
        "runs/programs/evaluation.py",
        "one = memory.tree_bytes(jax.eval_shape(env.reset, jax.random.key(0)))",
        "one = memory.tree_bytes(jax.eval_shape(env.reset, jax.random.key(1)))",
    ): "shapes of any key",
    (
        "replay/frames.py",
        "ring=ring.init(jax.tree.map(lambda x: x[0], _row(one, slots, count[None], images))),",
        "ring=ring.init(jax.tree.map(lambda x: x[1], _row(one, slots, count[None], images))),",
    ): LAST,
    (
        "replay/frames.py",
        "slots, count = jnp.zeros((1, 2, stack), jnp.int32), jnp.uint32(0)",
        "slots, count = jnp.zeros((1, 3, stack), jnp.int32), jnp.uint32(0)",
    ): "the first two are taken",
    (
        "envs/pendulum.py",
        "3 * gravity / (2 * LENGTH) * jnp.sin(state.angle) + 3.0 / (MASS * LENGTH**2) * applied",
        "3 * gravity / (2 * LENGTH) * jnp.sin(state.angle) + 3.0 / (MASS / LENGTH**2) * applied",
    ): "a length of 1",
    (
        "envs/render/tubes.py",
        "inside = (place > 0) & (place < length)",
        "inside = (place >= 0) & (place < length)",
    ): "both surfaces meet there",
    **dict.fromkeys(
        (
            ("runs/console/signals.py", "GRACE_SECONDS = 1.0", "GRACE_SECONDS = 2.0"),
            ("runs/console/status.py", "SECONDS = 10.0", "SECONDS = 11.0"),
            ("runs/distributed/processes.py", "SHARED_SECONDS = 10", "SHARED_SECONDS = 11"),
            ("runs/folder/metrics_log.py", "FLUSH_SECONDS = 1.0", "FLUSH_SECONDS = 2.0"),
            ("runs/sweeps/search_space.py", "TRIES = 1_000", "TRIES = 1001"),
            ("runs/sweeps/table.py", "WIDTH = 200", "WIDTH = 201"),
            ("runs/training/progress.py", "PARTS = 20", "PARTS = 21"),
        ),
        "how long, how often or how wide is a matter of taste",
    ),
    (
        "envs/render/hit.py",
        "NOTHING = 1e9",
        "NOTHING = 1000000001.0",
    ): "one number in float32",
    (
        "envs/render/look.py",
        "parts = [np.zeros((1, 3))] * 3",
        "parts = [np.zeros((2, 3))] * 3",
    ): "the mean of black pixels, however many",
    (
        "envs/render/look.py",
        "parts = [np.zeros((1, 3))] * 3",
        "parts = [np.zeros((1, 4))] * 3",
    ): "of a picture's channels three are taken",
    (
        "envs/render/look.py",
        "blocks = faces[: len(faces) // side * side].reshape(-1, side, side, faces.shape[2])",
        "blocks = faces[: len(faces) * side * side].reshape(-1, side, side, faces.shape[2])",
    ): "a sky is one square or six",
    (
        "envs/render/model.py",
        "way = turn[:, :, 2] * np.where(geoms.kind == SPHERE, 0.0, size[:, 1])[:, None]",
        "way = turn[:, :, 3] * np.where(geoms.kind == SPHERE, 0.0, size[:, 1])[:, None]",
    ): LAST,
    (
        "envs/render/model.py",
        "boxed = np.flatnonzero(np.isin(kind, (HEIGHTS, MESH)) | (kind > MESH))",
        "boxed = np.flatnonzero(np.isin(kind, (HEIGHTS, MESH)) | (kind >= MESH))",
    ): "a mesh is named already",
    (
        "envs/lane/road.py",
        "bend = jnp.where(jnp.abs(curvature) < STRAIGHT, STRAIGHT, curvature)",
        "bend = jnp.where(jnp.abs(curvature) <= STRAIGHT, STRAIGHT, curvature)",
    ): "a bend of exactly that is that",
    (
        "runs/sweeps/search_space.py",
        "space.high - space.low + 1 if space.whole else math.inf for space in ranges.values()",
        "space.high + space.low + 1 if space.whole else math.inf for space in ranges.values()",
    ): "a range that is too small is found out by trying as well",
    (
        "runs/sweeps/search_space.py",
        "space.high - space.low + 1 if space.whole else math.inf for space in ranges.values()",
        "space.high - space.low + 2 if space.whole else math.inf for space in ranges.values()",
    ): "a range that is too small is found out by trying as well",
    (
        "runs/sweeps/sweep_plots.py",
        "heights = ((scaled - scaled.min()) / (np.ptp(scaled) or 1.0)).tolist()",
        "heights = ((scaled - scaled.min()) / (np.ptp(scaled) or 2.0)).tolist()",
    ): "0 divided by any number",
    (
        "runs/sweeps/table.py",
        "console = Console(file=stream, highlight=False, emoji=False, force_jupyter=False)",
        "console = Console(file=stream, highlight=True, emoji=False, force_jupyter=False)",
    ): "cells of a table are not highlighted",
    (
        "replay/prioritised.py",
        "FANOUT = 32",
        "FANOUT = 33",
    ): "a tree of another width",
    **{
        ("networks/vae.py", "SWEEPS, MORE = 4, 8", line): "as good a subspace, or a better one"
        for line in ("SWEEPS, MORE = 5, 8", "SWEEPS, MORE = 4, 9")
    },
}
"""``(file, line of source, what a fault makes of it)`` where that changes nothing, and why."""

SWAPS: dict[type, str] = {
    ast.Add: "-", ast.Sub: "+", ast.Mult: "/", ast.Div: "*", ast.FloorDiv: "*", ast.Mod: "+",
    ast.Pow: "*", ast.BitAnd: "|", ast.BitOr: "&", ast.Lt: "<=", ast.LtE: "<", ast.Gt: ">=",
    ast.GtE: ">", ast.Eq: "!=", ast.NotEq: "==", ast.Is: "is not", ast.IsNot: "is",
    ast.And: "or", ast.Or: "and",
}  # fmt: skip
OPPOSITES = {
    "minimum": "maximum", "maximum": "minimum", "min": "max", "max": "min", "ones": "zeros",
    "zeros": "ones", "argmin": "argmax", "mean": "sum", "sum": "mean", "any": "all", "all": "any",
    "cumsum": "cumprod",
}  # fmt: skip


class Mutant(NamedTuple):
    """``source[start:end]`` of a file becomes ``new``."""

    file: str
    line: int
    start: int
    end: int
    old: str
    new: str


def files(root: Path) -> dict[str, str]:
    """Every file of the package, by its path in it, with its source."""
    package = root / "ddpg_jax"
    found = sorted(package.rglob("*.py"))
    return {path.relative_to(package).as_posix(): path.read_text() for path in found}


def answering(root: Path) -> dict[str, list[str]]:
    """The test files that answer for each file of the package.

    Those called after it, then after its folder, then those that import it, the ones that name it
    or what they import of it most often first; `EXCEPTIONS` have the last word."""
    tests = {path.name: path.read_text() for path in sorted((root / "tests").glob("test_*.py"))}
    tests = {name: text for name, text in tests.items() if name[:-3] not in GENERAL}
    found = {}
    for file in files(root):
        *folders, stem = file.removesuffix(".py").removesuffix("/__init__").split("/")
        named = [name for name in tests if re.match(rf"test_(properties_)?{stem}s?(_|\.)", name)]
        near = [
            name
            for name in tests
            if folders and re.match(rf"test_(properties_)?{folders[-1].rstrip('s')}s?\.", name)
        ]
        counts = {name: _uses(text, [*folders, stem]) for name, text in tests.items()}
        importing = sorted((name for name in counts if counts[name]), key=lambda x: -counts[x])
        chosen = EXCEPTIONS.get(file) or list(dict.fromkeys([*named, *near, *importing]))[:MOST]
        found[file] = [name for name in chosen if (root / "tests" / name).is_file()]
    return found


def _uses(text: str, path: list[str]) -> int:
    """How often a test file names a module or what it imports from it; 0 where it imports none."""
    module, parent = ".".join(["ddpg_jax", *path]), ".".join(["ddpg_jax", *path[:-1]])
    inside = re.findall(rf"from {re.escape(module)} import (\([^)]*\)|[^\n]*)", text)
    whole = rf"from {re.escape(parent)} import [^\n]*\b{path[-1]}\b|import {re.escape(module)}\b"
    words = [rf"\b{word}\b" for found in inside for word in re.findall(r"\w+", found)]
    words += [rf"\b{path[-1]}\b"] if re.search(whole, text) else []
    return len(re.findall("|".join(words), text)) if words else 0


def faults(file: str, source: str) -> Iterator[Mutant]:
    """Every fault that one file could have."""
    starts = [0]
    for text in source.encode().splitlines(keepends=True):
        starts.append(starts[-1] + len(text))
    raw = source.encode()

    def place(node: ast.expr) -> tuple[int, int]:
        line, column = node.end_lineno or node.lineno, node.end_col_offset or node.col_offset
        return starts[node.lineno - 1] + node.col_offset, starts[line - 1] + column

    def change(node: ast.expr, start: int, end: int, new: str) -> Mutant:
        return Mutant(file, node.lineno, start, end, raw[start:end].decode(), new)

    nodes = list(ast.walk(ast.parse(source)))
    checks = [x.value for x in nodes if isinstance(x, ast.keyword) and x.arg == "strict"]
    checks += [size for x in nodes if isinstance(x, ast.Call) for size in _left_sizes(x)]
    for node in nodes:
        for left, operator, right in _operations(node):
            start, end = place(left)[1], place(right)[0]
            between = raw[start:end].decode()
            symbol = between.strip(" ()\n")
            if symbol and symbol in between and "#" not in between:
                swapped = between.replace(symbol, SWAPS[type(operator)], 1)
                yield change(left, start, end, swapped)
        if node in checks:  # ``zip(strict=True)`` asserts what always holds
            continue
        if isinstance(node, ast.expr) and (replaced := _replaced(node, place)):
            yield change(node, *replaced)


def _left_sizes(call: ast.Call) -> list[ast.expr]:
    """The 1 in each -1 that ``reshape`` is given: NumPy takes any negative size as what is left."""
    if getattr(call.func, "attr", "") != "reshape":
        return []
    sizes = [x for arg in call.args for x in (arg.elts if isinstance(arg, ast.Tuple) else [arg])]
    return [size.operand for size in sizes if isinstance(size, ast.UnaryOp)]


def _replaced(node: ast.expr, place: Callable) -> tuple[int, int, str] | None:
    """Start and end of the part of a sign, constant, attribute or condition that a fault replaces,
    and its replacement."""
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.Invert | ast.USub):
        start = place(node)[0]
        return start, start + (3 if isinstance(node.op, ast.Not) else 1), ""
    if isinstance(node, ast.Constant) and type(node.value) in (int, float, bool):
        value = node.value
        new = not value if isinstance(value, bool) else value + 1  # type: ignore[operator]
        return *place(node), repr(new)
    if isinstance(node, ast.Attribute) and node.attr in OPPOSITES:
        end = place(node)[1]
        return end - len(node.attr), end, OPPOSITES[node.attr]
    if isinstance(node, ast.IfExp):
        return *place(node.test), f"not ({ast.unparse(node.test)})"
    return None


def _operations(node: ast.AST) -> list[tuple[ast.expr, ast.AST, ast.expr]]:
    """Left side, operator and right side of what a node computes, compares or joins."""
    pairs: list[tuple[ast.expr, ast.AST, ast.expr]] = []
    if isinstance(node, ast.BinOp):
        pairs = [(node.left, node.op, node.right)]
    elif isinstance(node, ast.Compare):
        sides = [node.left, *node.comparators]
        pairs = list(zip(sides, node.ops, node.comparators, strict=False))
    elif isinstance(node, ast.BoolOp):
        pairs = [(a, node.op, b) for a, b in zip(node.values, node.values[1:], strict=False)]
    text = lambda side: isinstance(side, ast.JoinedStr)
    return [x for x in pairs if type(x[1]) in SWAPS and not (text(x[0]) or text(x[2]))]


def _silent(node: ast.AST) -> range:
    """Lines that compute nothing: imports, annotations, signatures, and what an error says."""
    if isinstance(node, ast.Raise | ast.ImportFrom | ast.Import | ast.AnnAssign):
        return range(node.lineno, (node.end_lineno or node.lineno) + 1)
    if isinstance(node, ast.FunctionDef):  # unions of types
        return range(node.lineno, node.body[0].lineno)
    return range(0)


def draw(root: Path, count: int, seed: int) -> list[Mutant]:
    """Drawn from all faults of all files; one that is equivalent is drawn again."""
    found: list[Mutant] = []
    for file, source in files(root).items():
        skipped = {line for node in ast.walk(ast.parse(source)) for line in _silent(node)}
        lines, raw = source.splitlines(), source.encode()
        for mutant in faults(file, source):
            made = (raw[: mutant.start] + mutant.new.encode() + raw[mutant.end :]).decode()
            both = (text[mutant.line - 1].strip() for text in (lines, made.splitlines()))
            if mutant.line not in skipped and (file, *both) not in EQUIVALENT:
                found.append(mutant)
    return random.Random(seed).sample(found, min(count, len(found)))


def judge(root: Path, mutant: Mutant, tests: list[str], seconds: float) -> tuple[str, str]:
    """``caught``, ``survived`` or ``time out``, and the last line that the tests print."""
    with tempfile.TemporaryDirectory() as work:
        ignored = shutil.ignore_patterns("__pycache__", ".*_cache")
        for name in COPIED:
            if (root / name).is_dir():
                shutil.copytree(root / name, Path(work) / name, ignore=ignored)
            elif (root / name).is_file():
                shutil.copy(root / name, work)
        path = Path(work) / "ddpg_jax" / mutant.file
        raw = path.read_bytes()
        path.write_bytes(raw[: mutant.start] + mutant.new.encode() + raw[mutant.end :])
        options = ["-o", "addopts=", "-m", "not slow", "-x", "-q", "-p", "no:cacheprovider"]
        paths = [f"tests/{name}" for name in tests]
        try:
            done = subprocess.run(
                [sys.executable, "-m", "pytest", *options, "--no-header", *paths],
                cwd=work,
                env=os.environ | {"PYTHONPATH": work},
                capture_output=True,
                text=True,
                timeout=seconds,
            )
        except subprocess.TimeoutExpired:
            return "time out", ""
    lines = [line for line in done.stdout.splitlines() if line.strip()]
    if done.returncode and not lines + done.stderr.splitlines()[1:]:
        raise RuntimeError(done.stderr)  # as without pytest
    # 2: a file of tests could not be imported; 4: not even what all of them share.
    unimported = "while loading conftest" in done.stderr
    if done.returncode not in (0, 1, 2) and not unimported:
        raise RuntimeError(f"pytest {' '.join(paths)} itself failed:\n{done.stdout}{done.stderr}")
    ends = [line for line in lines if line.startswith(("FAILED", "ERROR"))] + lines[-1:]
    return "caught" if done.returncode else "survived", ends[0] if ends else ""


def main() -> None:
    """Run what the file lacks; say what survived."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=120)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--timeout", type=float, default=900.0, help="seconds for one fault")
    parser.add_argument("--only", default="", help="files whose path contains this")
    parser.add_argument("--checkout", type=Path, default=ROOT)
    parser.add_argument("--control", action="store_true", help="the same files without a fault")
    parser.add_argument("--out", type=Path, required=True, help="a JSON object for each fault")
    given = parser.parse_args()
    root = given.checkout.resolve()
    tests = answering(root)
    if without := [file for file, names in tests.items() if not names]:
        parser.error(f"no tests answer for {', '.join(without)}: add them to EXCEPTIONS")
    rows = []
    if given.out.exists():
        rows = [json.loads(line) for line in given.out.read_text().splitlines()]
    known = {tuple(row["mutant"]) for row in rows}
    drawn = draw(root, given.count, given.seed)
    if given.control:
        drawn = [Mutant(file, 0, 0, 0, "", "") for file in dict.fromkeys(x.file for x in drawn)]
    for mutant in drawn:
        if tuple(mutant) in known or given.only not in mutant.file:
            continue
        begin = time.perf_counter()
        verdict, last = judge(root, mutant, tests[mutant.file], given.timeout)
        took = time.perf_counter() - begin
        rows.append({"mutant": mutant, "verdict": verdict, "seconds": took, "said": last})
        with given.out.open("a") as file:
            file.write(json.dumps(rows[-1]) + "\n")
        where = f"{mutant.file}:{mutant.line} {mutant.old!r} -> {mutant.new!r}"
        print(f"{verdict:9} {where} ({took:.0f} s)", flush=True)
    counts = collections.Counter(row["verdict"] for row in rows)
    judged = counts["caught"] + counts["survived"]
    share = f"{counts['caught'] / judged:.1%} of {judged}" if judged else "none"
    print(f"caught: {share}; {counts['time out']} took too long and count neither way")


if __name__ == "__main__":
    main()
