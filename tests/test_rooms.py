"""The plan of `ddpg_jax.runs`: rooms whose names tell, who may call down to whom, their sizes."""

import ast
import collections
import io
import sys
import tokenize

import pytest
from source_tree import FILES, IMPORTS, TREES

# From the ground up; a room may import what lies below it, and nothing else.
FLOORS = (
    ("tasks", "console", "callbacks"),
    ("options",),
    ("presets",),
    ("config", "distributed"),
    ("folder",),
    ("programs",),
    ("checkpoints",),
    ("results", "profiling", "dry_run"),
    ("training",),
    ("sweeps",),
    ("cli",),
)
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
ROOMS, FILES_IN_A_ROOM, LINES_IN_A_ROOM, ARROWS = 18, 9, 1_800, 60
TOKENS = 165_000
"""Of the package, counted as below: 118,646 at commit 7576d02, 110,150 at f443eaf, 153,900 before
goals and hindsight."""


RUNS = {name: path for name, path in FILES.items() if name.startswith("runs.")}


def room(name):
    return name.split(".")[1] if name.startswith("runs.") else "runs"


def arrows():
    found = collections.defaultdict(set)
    for name in ("runs", *RUNS):
        for other in IMPORTS[name]:
            if other == "runs" or other.startswith("runs."):
                found[room(name)].add(room(other))
    return {(here, there) for here, others in found.items() for there in others if here != there}


def test_rooms_are_few_and_small():
    files = collections.defaultdict(list)
    for name, path in RUNS.items():
        files[room(name)].append(path)
    lines = {
        name: sum(len(path.read_text().splitlines()) for path in own) for name, own in files.items()
    }
    assert set(files) == set(FLOOR)
    assert len(files) <= ROOMS
    assert {name: len(own) for name, own in files.items() if len(own) > FILES_IN_A_ROOM} == {}
    assert {name: count for name, count in lines.items() if count > LINES_IN_A_ROOM} == {}


def test_no_two_files_of_runs_have_one_name():
    stems = collections.Counter(path.stem for path in RUNS.values() if path.stem != "__init__")
    assert {stem for stem, count in stems.items() if count > 1} == set()


def test_arrows_are_few_and_point_down():
    found = arrows()
    inside = {(here, there) for here, there in found if here != "runs"}
    assert {pair for pair in inside if pair[1] == "runs" and pair[0] != "cli"} == set()
    below = {(here, there) for here, there in inside if there != "runs"}
    assert {(here, there) for here, there in below if FLOOR[here] <= FLOOR[there]} == set()
    assert len(found) <= ARROWS, sorted(found)


def tokens(path, tree):
    """Tokens of a file without comments, docstrings and layout."""
    documented = {
        statement.lineno
        for node in ast.walk(tree)
        for statement in (node.body if isinstance(getattr(node, "body", None), list) else ())
        if isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    }
    layout = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}
    layout |= {tokenize.ENDMARKER}
    read = io.StringIO(path.read_text()).readline
    return sum(
        token.type not in layout
        and not (token.type == tokenize.STRING and token.start[0] in documented)
        for token in tokenize.generate_tokens(read)
    )


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="an f-string is one token before 3.12")
def test_the_package_does_not_grow():
    assert sum(tokens(FILES[name], TREES[name]) for name in FILES) <= TOKENS
