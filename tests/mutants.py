"""Are the tests awake? Small faults, drawn by a seed, each put into a copy of the package and shown
to that room's own tests.

python tests/mutants.py --count 120 --seed 0 --out mutants.json         # restartable: what is in
the file is not run again"""

import argparse
import ast
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
ROOMS = {
    "losses.py": ["test_losses.py"],
    "returns.py": ["test_returns.py", "test_breakdown.py"],
    "noise.py": ["test_noise.py"],
    "behaviour.py": ["test_behaviour.py"],
    "rollout.py": ["test_rollout.py", "test_breakdown.py"],
    "replay/ring.py": ["test_replay.py", "test_breakdown.py"],
    "replay/rows.py": ["test_replay.py", "test_breakdown.py"],
    "replay/prioritised.py": ["test_replay.py"],
    "agents/actor_critic.py": ["test_agents.py"],
    "envs/autoreset.py": ["test_autoreset.py"],
    "host/__init__.py": ["test_host.py", "test_host_resume.py"],
    "host/loop.py": ["test_host.py", "test_host_resume.py"],
    "host/programs.py": ["test_host.py", "test_host_resume.py"],
    "host/rows.py": ["test_host.py"],
    "envs/gymnasium.py": ["test_host.py", "test_host_spaces.py"],
    "envs/copies.py": ["test_host.py", "test_host_broken.py", "test_host_spaces.py"],
    "envs/vector.py": ["test_host.py", "test_host_spaces.py"],
    "envs/spaces.py": ["test_host_spaces.py"],
    "envs/actions.py": ["test_host_spaces.py"],
    "reporting.py": ["test_reporting.py"],
    "runs/presets/parts.py": ["test_presets.py"],
    "runs/build.py": ["test_run.py"],
}
"""Which tests answer for which file; those named ``test_properties_*`` beside them, where they
exist."""

SWAPS: dict[type, str] = {
    ast.Add: "-", ast.Sub: "+", ast.Mult: "/", ast.Div: "*", ast.FloorDiv: "*", ast.Mod: "+", ast.Pow: "*",
    ast.BitAnd: "|", ast.BitOr: "&", ast.Lt: "<=", ast.LtE: "<", ast.Gt: ">=", ast.GtE: ">", ast.Eq: "!=", ast.NotEq: "==",
    ast.Is: "is not", ast.IsNot: "is", ast.And: "or", ast.Or: "and",
}  # fmt: skip
OPPOSITES = {
    "minimum": "maximum",
    "maximum": "minimum",
    "min": "max",
    "max": "min",
    "ones": "zeros",
    "zeros": "ones",
}
OPPOSITES |= {
    "argmin": "argmax",
    "mean": "sum",
    "sum": "mean",
    "any": "all",
    "all": "any",
    "cumsum": "cumprod",
}


class Mutant(NamedTuple):
    """``source[start:end]`` of a file becomes ``new``."""

    file: str
    line: int
    start: int
    end: int
    old: str
    new: str


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

    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.BinOp | ast.Compare | ast.BoolOp):
            pairs: list[tuple[ast.expr, ast.AST, ast.expr]]
            if isinstance(node, ast.BinOp):
                pairs = [(node.left, node.op, node.right)]
            elif isinstance(node, ast.Compare):
                pairs = list(
                    zip([node.left, *node.comparators], node.ops, node.comparators, strict=False)
                )
            else:
                pairs = [
                    (a, node.op, b) for a, b in zip(node.values, node.values[1:], strict=False)
                ]
            for left, operator, right in pairs:
                if type(operator) in SWAPS and not any(
                    isinstance(side, ast.JoinedStr) for side in (left, right)
                ):
                    start, end = place(left)[1], place(right)[0]
                    between = raw[start:end].decode()
                    symbol = between.strip(" ()\n")
                    if symbol and symbol in between and "#" not in between:
                        yield change(
                            node, start, end, between.replace(symbol, SWAPS[type(operator)], 1)
                        )
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.Invert | ast.USub):
            start, _ = place(node)
            yield change(node, start, place(node.operand)[0], "")
        elif isinstance(node, ast.Constant) and type(node.value) in (int, float, bool):
            value = node.value
            yield change(
                node, *place(node), repr(not value if isinstance(value, bool) else value + 1)
            )
        elif isinstance(node, ast.Attribute) and node.attr in OPPOSITES:
            end = place(node)[1]
            yield change(node, end - len(node.attr), end, OPPOSITES[node.attr])
        elif isinstance(node, ast.IfExp):
            yield change(node, *place(node.test), f"not ({ast.unparse(node.test)})")


def draw(count: int, seed: int) -> list[Mutant]:
    """As many from each file, as far as there are."""
    generator, found = random.Random(seed), []
    for number, file in enumerate(ROOMS):
        source = (ROOT / "ddpg_jax" / file).read_text()
        skipped = {line for node in ast.walk(ast.parse(source)) for line in _said_only(node)}
        every = [mutant for mutant in faults(file, source) if mutant.line not in skipped]
        share = count * (number + 1) // len(ROOMS) - count * number // len(ROOMS)
        found += generator.sample(every, min(share, len(every)))
    return found


def _said_only(node: ast.AST) -> range:
    """Lines that only say something: annotations of the source's own types, and what an error
    says."""
    if isinstance(node, ast.Raise | ast.ImportFrom | ast.Import | ast.AnnAssign):
        return range(node.lineno, (node.end_lineno or node.lineno) + 1)
    if isinstance(node, ast.FunctionDef):  # its signature: unions of types
        return range(node.lineno, node.body[0].lineno)
    return range(0)


def survives(mutant: Mutant, seconds: float) -> tuple[bool, str]:
    """Whether the tests of its room pass with this fault, and the last line that they print."""
    with tempfile.TemporaryDirectory() as work:
        for name in ("ddpg_jax", "tests", "benchmarks"):
            shutil.copytree(
                ROOT / name,
                Path(work) / name,
                ignore=shutil.ignore_patterns("__pycache__", "results"),
            )
        for name in ("pyproject.toml", "README.md"):
            shutil.copy(ROOT / name, work)
        path = Path(work) / "ddpg_jax" / mutant.file
        raw = path.read_bytes()
        path.write_bytes(raw[: mutant.start] + mutant.new.encode() + raw[mutant.end :])
        tests = [name for name in ROOMS[mutant.file] if (Path(work) / "tests" / name).is_file()]
        tests += [f"{Path(name).stem.replace('test_', 'test_properties_')}.py" for name in tests]
        tests = [f"tests/{name}" for name in tests if (Path(work) / "tests" / name).is_file()]
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-n",
            "0",
            "-x",
            "-q",
            "-p",
            "no:cacheprovider",
            "--no-header",
            *tests,
        ]
        try:
            done = subprocess.run(
                command,
                cwd=work,
                env=os.environ | {"PYTHONPATH": work},
                capture_output=True,
                text=True,
                timeout=seconds,
            )
        except subprocess.TimeoutExpired:
            return False, "time out"
        lines = [line for line in done.stdout.splitlines() if line.strip()]
        return done.returncode == 0, next(
            (line for line in lines if line.startswith("FAILED")), lines[-1] if lines else ""
        )


def main() -> None:
    """Run what the file lacks; say what survived."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=120)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--timeout", type=float, default=240.0)
    parser.add_argument("--only", default="", help="files whose name contains this")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    rows = json.loads(given.out.read_text()) if given.out.exists() else []
    known = {tuple(row["mutant"]) for row in rows}
    for mutant in draw(given.count, given.seed):
        if tuple(mutant) in known or given.only not in mutant.file:
            continue
        begin = time.perf_counter()
        survived, last = survives(mutant, given.timeout)
        rows.append(
            {
                "mutant": mutant,
                "survived": survived,
                "seconds": time.perf_counter() - begin,
                "said": last,
            }
        )
        given.out.write_text(json.dumps(rows, indent=1))
        print(
            f"{'SURVIVED' if survived else 'caught'} {mutant.file}:{mutant.line} {mutant.old!r} -> {mutant.new!r}",
            flush=True,
        )
    print(f"{sum(row['survived'] for row in rows)} of {len(rows)} survived")


if __name__ == "__main__":
    main()
