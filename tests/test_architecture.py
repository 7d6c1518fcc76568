"""The house's plan: floors and who may call down to whom, no circles, short files and functions,
nothing for the host."""

import ast
import re
import subprocess
import sys

import mutants
import pytest
from source_tree import FILES, IMPORTS, ROOT, TREES

import ddpg_jax

# From the ground up: a room may import what lies on floors below its own, and nothing else. What is
# not here is refused.
FLOORS = (
    ("types", "checks", "compiling"),
    ("environment", "reporting", "checkpoint"),
    ("losses", "returns", "noise", "networks", "replay"),
    ("agents", "behaviour", "envs"),
    ("rollout", "schedule"),
    ("learner",),
    ("train", "host"),
    ("population", "export"),
    ("sharding",),
    ("runs",),
)
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
# The loops are given values: they make no agent and no environment.
NEVER = {
    room: {"agents", "envs", "networks", "noise"}
    for room in ("rollout", "learner", "train", "host")
}
FILE_LINES, FUNCTION_LINES, NESTING = 300, 40, 3  # nesting: factory, function, body of a loop


def room_of(name):
    return name.split(".")[0]


ARROWS = {(room_of(name), room_of(other)) for name in FILES for other in IMPORTS[name]} - {("", "")}
ARROWS = {(room, other) for room, other in ARROWS if room and other and room != other}


def refused(name, others):
    """Those of the modules that the one called ``name`` may not import."""
    room, allowed = room_of(name), set()
    for other in others:
        below = room_of(other) in FLOOR and room in FLOOR and FLOOR[room_of(other)] < FLOOR[room]
        if (
            room_of(other) == room
            or other == ""
            or (below and room_of(other) not in NEVER.get(room, set()))
        ):
            allowed.add(other)
    return set(others) - allowed


def test_the_plan_is_of_this_house():
    assert {room_of(name) for name in FILES} - {""} == set(FLOOR), "each room is on a floor"
    assert {
        "types",
        "losses",
        "agents.ddpg",
        "envs.brax",
        "runs.cli.commands",
        "runs.presets.td3",
        "host.loop",
    } <= set(FILES)
    assert IMPORTS["agents.ddpg"] >= {"losses", "agents.actor_critic", "types"}
    assert IMPORTS["runs.presets.components"] >= {
        "networks",
        "agents",
        "noise",
        "replay",
        "returns",
        "behaviour",
    }, "lazy ones too"


@pytest.mark.skipif(not (ROOT.parent / ".git").exists(), reason="this is not a checkout")
def test_no_file_of_the_package_is_ignored():
    """What git ignores is in no clone, and in no wheel either."""
    names = [str(path) for path in FILES.values()]
    found = subprocess.run(
        ["git", "check-ignore", "--no-index", *names],
        cwd=ROOT.parent,
        capture_output=True,
        text=True,
    )
    assert (found.stdout, found.returncode) == ("", 1), found.stderr


def test_imports_point_down():
    found = {name: refused(name, IMPORTS[name]) for name in FILES if name}
    assert {name: others for name, others in found.items() if others} == {}


def test_no_test_imports_tests():
    """What two of them use is in helpers.py."""
    tests = sorted((ROOT.parent / "tests").glob("test_*.py"))
    found = {
        path.name: re.findall(r"^ *(?:from|import) (test_\w+)", path.read_text(), re.M)
        for path in tests
    }
    assert tests
    assert {name: others for name, others in found.items() if others} == {}


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("rollout", "runs"),
        ("rollout", "agents"),
        ("train", "host"),
        ("losses", "replay"),
        ("types", "rollout"),
        ("agents", "new"),
    ],
)
def test_a_wrong_import_is_refused(name, other):
    assert refused(name, {"types", other}) >= {other}


def test_the_root_alone_names_the_program():
    assert "runs" in ddpg_jax.__all__
    assert [
        name
        for name in FILES
        if room_of(name) != "runs" and any(room_of(x) == "runs" for x in IMPORTS[name])
    ] == [""]


def test_algorithms_do_not_know_each_other():
    shared = {"agents.actor_critic", "agents.minibatches", "agents.optimization", "agents.targets"}
    for name in FILES:
        if room_of(name) == "agents" and name not in {"agents", *shared}:
            inside = {other for other in IMPORTS[name] if room_of(other) == "agents"}
            assert inside <= shared, name


def test_there_is_no_circle():
    """Between files: what a file imports at its top or inside functions, the package's lazy root
    left out."""
    graph = {
        name: {other for other in IMPORTS[name] if other in FILES} - {""} for name in FILES if name
    }
    # A package's own __init__ gathers its files; they do not look back at it.
    graph = {name: others - {name.rpartition(".")[0]} for name, others in graph.items()}
    while leaves := {name for name, others in graph.items() if not others & set(graph)}:
        graph = {name: others for name, others in graph.items() if name not in leaves}
    assert graph == {}


def test_rooms_and_arrows():
    """23 rooms and 82 arrows; more want a reason. `environment` has a file of its own beside
    `types`: all that step or make environments name it (nine arrows); `reporting` stands for the
    former `sums` and `health` and for the learner's report; the learner asks `checks` whether two
    discount factors are known; `export` compares what it is given with what `envs` declare, and
    tells of the agent's normaliser and of the environment's clock; the host's loop tells what a
    simulator raises after NaN from what it raises by itself (`checks`); `checkpoint` tells
    random keys from other arrays (`types`); `export` shortens what JAX raises (`checks`); `replay`
    asks what a goal pays (`environment`)."""
    assert len(FLOOR) <= 23
    assert len(ARROWS) <= 84


def test_tests_answer_for_every_file():
    """In the search for faults that no test notices."""
    assert [file for file, tests in mutants.answering(ROOT.parent).items() if not tests] == []
    source = "def half(x):\n    return x / 2\n"
    found = {(mutant.old, mutant.new) for mutant in mutants.faults("half.py", source)}
    assert found == {(" / ", " * "), ("2", "3")}
    sizes = "y = x.reshape(-1, 2) - np.reshape(x, (3, -1))\n"
    found = [(mutant.old, mutant.new) for mutant in mutants.faults("sizes.py", sizes)]
    assert ("1", "2") not in found, "any negative size is what is left"
    assert {("2", "3"), ("3", "4"), ("-", "")} < {*found}
    signs = "y = -(a - 1) if not (b) else ~c\n"
    for mutant in mutants.faults("signs.py", signs):
        compile(signs[: mutant.start] + mutant.new + signs[mutant.end :], "signs.py", "exec")


def test_importing_the_package_imports_no_simulator():
    heavy = ["jax", "jaxlib", "numpy", "flax", "optax", "brax", "gymnasium", "mujoco"]
    for module in (
        "ddpg_jax",
        "ddpg_jax.runs",
        "ddpg_jax.runs.presets",
        "ddpg_jax.runs.cli.commands",
    ):
        code = f"import sys, {module}; print([name for name in {heavy} if name in sys.modules])"
        run = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            cwd=ROOT.parent,
        )
        assert run.stdout.strip() == "[]", module


def callbacks(tree):
    """The lines of a module that call back to the host, or name what does."""
    wanted = {"pure_callback", "io_callback", "host_callback"}
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names]
        if isinstance(node, ast.ImportFrom):
            names += [f"{node.module}.{alias.name}" for alias in node.names]
        if isinstance(node, ast.Attribute):
            names = [ast.unparse(node), node.attr]
        if any(name in wanted or f"{name}.".startswith("jax.debug.") for name in names):
            yield node.lineno


def test_no_callback_to_the_host():
    library = [name for name in FILES if room_of(name) not in {"", "runs"}]
    assert {name: found for name in library if (found := list(callbacks(TREES[name])))} == {}


@pytest.mark.parametrize(
    "source",
    ["import jax.debug", "from jax import pure_callback", "jax.debug.print(x)", "y.io_callback(f)"],
)
def test_a_callback_is_found(source):
    assert set(callbacks(ast.parse(source))) == {1}


def undocumented(tree):
    """The module, and its public functions and classes, without a docstring."""
    kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    public = [x for x in tree.body if isinstance(x, kinds) and not x.name.startswith("_")]
    return [getattr(x, "name", "module") for x in [tree, *public] if not ast.get_docstring(x)]


def test_public_functions_and_classes_have_docstrings():
    assert {name: found for name, tree in TREES.items() if (found := undocumented(tree))} == {}


def functions(tree, name, depth=1):
    """``(name, lines, nesting)`` of every function in a tree; lines as `ast.unparse` writes them, a
    statement each, without docstrings and empty ones: how a formatter breaks long lines is no
    matter."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield (
                f"{name}.{node.name}",
                len([line for line in plain(node).splitlines() if line]),
                depth,
            )
            yield from functions(node, f"{name}.{node.name}", depth + 1)
        else:
            inner = f"{name}.{node.name}" if isinstance(node, ast.ClassDef) else name
            yield from functions(node, inner, depth)


def plain(function):
    """The text of a function without strings that stand alone."""
    kept = [
        node
        for node in function.body
        if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
    ]
    return ast.unparse(ast.FunctionDef(**{**vars(function), "body": kept or function.body}))


FUNCTIONS = [found for name, tree in TREES.items() for found in functions(tree, name)]


def test_functions_are_short_and_shallow():
    assert [name for name, lines, _ in FUNCTIONS if lines > FUNCTION_LINES] == []
    assert [name for name, _, depth in FUNCTIONS if depth > NESTING] == []


def test_files_are_short():
    lines = {name: len(path.read_text().splitlines()) for name, path in FILES.items()}
    assert {name: count for name, count in lines.items() if count > FILE_LINES} == {}


def test_a_number_is_found_by_its_name_on_its_way():
    """``--tau`` from the command line to the agent: every file on the way but the parser, which
    lists fields, names it."""
    way = ("runs.options.hyperparameters", "runs.presets.td3", "agents.td3", "agents.targets")
    for name in way:
        assert re.search(r"\btau\b", FILES[name].read_text()), name
    source = "".join(path.read_text() for name, path in FILES.items() if room_of(name) == "runs")
    assert not re.search(
        r"getattr\((preset|hyperparameters), name\)",
        source.replace("getattr(hyperparameters, name) == both", ""),
    )
