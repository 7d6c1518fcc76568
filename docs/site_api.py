"""The public names of the package, and the pages of the site that document them.

A name is public where the package's or module's ``__all__`` has it, or, without one, where it has
no underscore; of `ddpg_jax.runs` only what `OF_RUNS` lists is for users.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = Path(__file__).parents[1] / "ddpg_jax"
OF_RUNS: dict[str, tuple[str, ...]] = {
    "runs": (),
    "runs.callbacks": (),
    "runs.config.run_config": ("Config", "make_config"),
    "runs.console.signals": ("Interrupted",),
    "runs.options.field": ("Option",),
    "runs.options.preset": ("Components", "Preset"),
    "runs.presets": (),
    "runs.sweeps.run_sweep": ("Sweep",),
    "runs.tasks": ("Published", "TASKS", "Task", "Values"),
}
"""Public names of the program's modules; without any: all of the module's."""


class Name(NamedTuple):
    """A public name: where users find it, its kind (``function``, ``class``, ``data``, and
    ``constant``, whose value is short), whether it has words, and the module that defines it.
    """

    module: str
    name: str
    kind: str
    documented: bool
    home: str


SHORT = 60
"""Characters of a value that is shown."""


def modules() -> dict[str, ast.Module]:
    """The syntax tree of every module with public names: ``agents``, ``agents.td3``, ..."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(part for part in parts if part != "__init__")
        if name and (name.split(".")[0] != "runs" or name in OF_RUNS):
            found[name] = ast.parse(path.read_text())
    return found


def public_names() -> list[Name]:
    """Every public name, once: a package that exports it comes before the module that has it."""
    trees = modules()
    defined = {
        (module, name): (kind, documented)
        for module, tree in trees.items()
        for name, kind, documented in _definitions(tree)
    }
    found: list[Name] = []
    for module, tree in sorted(trees.items(), key=lambda each: each[0].count(".")):
        origin = _imports(tree)
        exported = OF_RUNS.get(module) or _exported(tree)
        exported = exported or [name for own, name in defined if own == module]
        for name in exported:
            home = (origin.get(name, module), name)
            if name.startswith("_") or home not in defined:
                continue
            if not any((each.home, each.name) == home for each in found):
                found.append(Name(module, name, *defined[home], home=home[0]))
    return found


def pages() -> dict[str, str]:
    """``{file: reStructuredText}`` of the API: a page for each module directly under the package
    and an index.

    Raises:
        ValueError: a public name has no docstring.
    """
    names = public_names()
    if bare := [f"ddpg_jax.{each.home}.{each.name}" for each in names if not each.documented]:
        raise ValueError(f"public names without a docstring: {', '.join(bare)}.")
    rooms = dict.fromkeys(module.split(".")[0] for module in modules())
    made = {f"{room}.rst": _page(room, names) for room in rooms}
    listed = "\n".join(f"   {room}" for room in rooms)
    made["index.rst"] = (
        f"{_heading('API', '=')}Every public name, from its docstring.\n\n"
        f".. toctree::\n   :maxdepth: 1\n\n{listed}\n\n:ref:`Index of all names <genindex>`\n"
    )
    return made


def _definitions(tree: ast.Module) -> Iterator[tuple[str, str, bool]]:
    """``(name, kind, documented)`` of what a module defines at its top level."""
    for place, node in enumerate(tree.body):
        if isinstance(node, ast.FunctionDef):
            yield node.name, "function", bool(ast.get_docstring(node))
        elif isinstance(node, ast.ClassDef):
            yield node.name, "class", bool(ast.get_docstring(node))
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            after = tree.body[place + 1 : place + 2]
            said = bool(after) and ast.get_docstring(ast.Module(after, [])) is not None
            for target in (each for one in targets for each in getattr(one, "elts", [one])):
                if isinstance(target, ast.Name):
                    yield target.id, "constant" if _short(node.value) else "data", said


def _short(value: ast.expr | None) -> bool:
    plain = ast.Constant | ast.Tuple | ast.List | ast.Set | ast.Dict | ast.UnaryOp
    return isinstance(value, plain) and len(ast.unparse(value)) <= SHORT


def _imports(tree: ast.Module) -> dict[str, str]:
    """``{name: module of this package}`` of what a module imports from others of it."""
    return {
        alias.asname or alias.name: (node.module or "").removeprefix("ddpg_jax.")
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ddpg_jax.")
        for alias in node.names
    }


def _exported(tree: ast.Module) -> list[str]:
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return list(ast.literal_eval(node.value))
    return []


def _page(room: str, names: list[Name]) -> str:
    """A module or package, and below it the modules of a package."""
    own = [each for each in names if each.module.split(".")[0] == room]
    parts = [_heading(f"ddpg_jax.{room}", "=")]
    for module in dict.fromkeys([room, *sorted({each.module for each in own})]):
        taken = any(f"{each.module}.{each.name}" == module for each in names)
        if module != room:
            parts.append(_heading(f"ddpg_jax.{module}", "-"))
        parts.append(f".. automodule:: ddpg_jax.{module}\n{'   :no-index:' * taken}\n")
        parts += [_entry(each) for each in own if each.module == module]
    return "\n".join(parts)


def _entry(each: Name) -> str:
    options = {"class": "   :members:\n", "data": "   :no-value:\n"}.get(each.kind, "")
    kind = "data" if each.kind == "constant" else each.kind
    return f".. auto{kind}:: ddpg_jax.{each.module}::{each.name}\n{options}"


def _heading(text: str, line: str) -> str:
    return f"{text}\n{line * len(text)}\n\n"
