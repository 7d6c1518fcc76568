"""The files of the package, their syntax trees, and which imports which."""

import ast
from pathlib import Path

import ddpg_jax

ROOT = Path(ddpg_jax.__file__).parent


def name_of(path):
    """``agents/ddpg.py`` is ``agents.ddpg``, ``agents/__init__.py`` is ``agents``, the package
    itself is the empty name."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


FILES = {name_of(path): path for path in sorted(ROOT.rglob("*.py"))}
TREES = {name: ast.parse(path.read_text()) for name, path in FILES.items()}


def imported(tree):
    """The modules of this package that a module imports, anywhere in its text, without the leading
    ``ddpg_jax.``.

    An attribute of the package itself (``ddpg_jax.noise.clip``), which loads on first use, counts
    as an import of its module."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name != "ddpg_jax"}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                found.add(whole if whole.removeprefix("ddpg_jax.") in FILES else node.module)
        elif (
            isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id == "ddpg_jax"
        ):
            found.add(f"ddpg_jax.{node.attr}")
    return {
        name.removeprefix("ddpg_jax").removeprefix(".")
        for name in found
        if name.split(".")[0] == "ddpg_jax"
    }


IMPORTS = {name: imported(tree) for name, tree in TREES.items()}
