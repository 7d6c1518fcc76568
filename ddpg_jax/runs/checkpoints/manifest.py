"""What stands beside a checkpoint's arrays: their names and shapes, and digests of all files."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import jax

if TYPE_CHECKING:
    from pathlib import Path

    from ddpg_jax.types import PyTree

FORMAT = 5
"""Raised when the training state or how it is stored gets another structure."""
STATE, MANIFEST = "state", "manifest.json"
"""Orbax's folder within a checkpoint's, and ours beside it."""
KEYS = {"key<fry>": "threefry2x32", "key<rbg>": "rbg", "key<urbg>": "unsafe_rbg"}
"""Kinds of random keys, by their dtypes."""


class OtherStateError(ValueError):
    """A checkpoint that is whole, but of another configuration or version."""


def specification(tree: PyTree, part: str = "") -> list[list[Any]]:
    """``[name, dtype, shape]`` of every leaf of the ``part`` of a state of this name."""
    return [
        [part + jax.tree_util.keystr(path), str(x.dtype), list(x.shape)]
        for path, x in jax.tree.leaves_with_path(tree)
    ]


def require_same_leaves(step: int, found: list[list[Any]], wanted: list[list[Any]]) -> None:
    """Compare two of `specification`.

    Raises:
        OtherStateError: the checkpoint's leaves are not those that are wanted.
    """
    if found == wanted:
        return
    there, here = next(pair for pair in itertools.zip_longest(found, wanted) if pair[0] != pair[1])
    if there and here and there[0] == here[0] and {there[1], here[1]} <= KEYS.keys():
        raise OtherStateError(
            f"checkpoint {step} has random keys of JAX's {KEYS[there[1]]}, and this process those "
            f"of {KEYS[here[1]]}: set JAX_DEFAULT_PRNG_IMPL={KEYS[there[1]]}."
        )
    raise OtherStateError(
        f"checkpoint {step} is of another training state than this configuration's: "
        f"{_said(there)} there, {_said(here)} here. Resume with the version and the config.json "
        "that it was written by."
    )


def _said(leaf: list[Any] | None) -> str:
    return "nothing more" if leaf is None else f"{leaf[0]} is {leaf[1]}{leaf[2]}"


def require_unchanged(path: Path, step: int) -> None:
    """Read every file of a checkpoint.

    Raises:
        OtherStateError: it has another format.
        OSError, ValueError: a file is missing, or not as it was written.
    """
    for old in ("about", "record"):  # of formats 1 to 4
        if (path / old / "metadata").is_file():
            _require_format(
                step, json.loads((path / old / "metadata").read_text()).get("format", 1)
            )
    about = json.loads((path / MANIFEST).read_text())
    if about.pop("seal") != _seal(about) or about["step"] != step:
        raise ValueError(f"its {MANIFEST} is not as it was written")
    _require_format(step, about["format"])
    now = digests(path / STATE)
    changed = sorted(
        name for name in now.keys() | about["files"] if now.get(name) != about["files"].get(name)
    )
    if changed:
        raise ValueError(f"its {STATE}/{changed[0]} is not as it was written")


def _require_format(step: int, found: int) -> None:
    if found != FORMAT:
        raise OtherStateError(
            f"checkpoint {step} has format {found}, of another version of ddpg_jax, and this one "
            f"reads format {FORMAT}: resume with that version, or train again in another folder."
        )


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    names = (path.relative_to(folder).as_posix() for path in paths)
    with ThreadPoolExecutor() as pool:
        return dict(zip(names, pool.map(_digest, paths), strict=True))


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _seal(about: dict[str, Any]) -> str:
    """SHA-256 of JSON-able data, whatever the order of its keys and the spaces between."""
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()


def write(folder: Path, about: dict[str, Any]) -> None:
    """Write what describes the files that are there, with their digests and its own."""
    about = about | {"format": FORMAT, "files": digests(folder / STATE)}
    with (folder / MANIFEST).open("w") as file:
        json.dump(about | {"seal": _seal(about)}, file)
        file.flush()
        os.fsync(file.fileno())
