"""Imports point one way, nothing below the loops talks to the host, and files stay short."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import ddpg_jax

ROOT = Path(ddpg_jax.__file__).parent
LEAVES = {"losses", "returns", "noise", "networks", "replay"}
BASE = {"types", "checks"}
ON_DEVICE = {*BASE, *LEAVES, "agents", "envs", "rollout", "train"}


def name_of(path):
    """``agents/ddpg.py`` is ``agents.ddpg``, ``agents/__init__.py`` is ``agents``, the package itself is the empty name."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


FILES = {name_of(path): path for path in sorted(ROOT.rglob("*.py"))}
TREES = {name: ast.parse(path.read_text()) for name, path in FILES.items()}


def imported(tree):
    """The modules of this package that a module imports, anywhere in its text, without the leading ``ddpg_jax.``."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                found.add(whole if whole.removeprefix("ddpg_jax.") in FILES else node.module)
    return {name.removeprefix("ddpg_jax").removeprefix(".") for name in found if name.split(".")[0] == "ddpg_jax"}


def allowed(name):
    """What the module called ``name`` may import, as a predicate on module names; None if anything but `cli`."""
    top = name.split(".")[0]
    if top in BASE:
        return lambda other: other in BASE
    if top in LEAVES:
        return lambda other: other in BASE or other.split(".")[0] == top
    if name == "agents":
        return lambda other: other.startswith("agents.")
    if top == "agents":
        return lambda other: other.split(".")[0] in BASE | LEAVES or other == "agents.actor_critic"
    if top == "envs":
        return lambda other: other in BASE or other.split(".")[0] == "envs"
    if top in {"rollout", "train"}:
        return lambda other: other.split(".")[0] not in {"agents", "envs", "presets", "host", "cli", ""}
    return None


def test_the_modules_are_found():
    assert {"", "types", "losses", "noise", "networks", "replay", "agents.ddpg", "envs", "rollout", "train"} <= set(FILES)
    assert {"types"} <= imported(TREES["replay"])
    assert imported(TREES["agents.ddpg"]) >= {"losses", "agents.actor_critic", "types"}


@pytest.mark.parametrize("name", [name for name in FILES if name])
def test_imports_point_one_way(name):
    others, rule = imported(TREES[name]), allowed(name)
    assert "cli" not in others
    assert rule is None or {other for other in others if not rule(other)} == set()


def test_importing_the_package_imports_no_simulator():
    heavy = ["jax", "jaxlib", "numpy", "flax", "optax", "brax", "gymnasium", "mujoco"]
    code = f"import sys, ddpg_jax; print([name for name in {heavy} if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT.parent)
    assert run.stdout.strip() == "[]"


@pytest.mark.parametrize("name", [name for name in FILES if name.split(".")[0] in ON_DEVICE])
def test_no_callback_to_the_host(name):
    callbacks = {"pure_callback", "io_callback", "host_callback"}
    for node in ast.walk(TREES[name]):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
        if isinstance(node, ast.ImportFrom):
            names += [f"{node.module}.{alias.name}" for alias in node.names]
        if isinstance(node, ast.Attribute):
            names = [ast.unparse(node), node.attr]
        for found in names:
            assert found not in callbacks, f"line {node.lineno}"
            assert found != "jax.debug" and not found.startswith("jax.debug."), f"line {node.lineno}"  # noqa: PT018


@pytest.mark.parametrize("name", FILES)
def test_public_functions_and_classes_have_docstrings(name):
    tree = TREES[name]
    assert ast.get_docstring(tree), "the module"
    public = [
        node
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not node.name.startswith("_")
    ]
    assert [node.name for node in public if not ast.get_docstring(node)] == []


@pytest.mark.parametrize("name", FILES)
def test_files_are_short(name):
    assert len(FILES[name].read_text().splitlines()) <= 300
