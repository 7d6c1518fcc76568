"""Saves a pytree of arrays in a folder, through Orbax: the state of an agent, or all of training.

A run of `ddpg_jax.runs` does this by itself; here it is for loops of one's own.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax

from ddpg_jax.types import is_key

if TYPE_CHECKING:
    from ddpg_jax.types import PyTree


def save(path: str | Path, state: PyTree) -> None:
    """Save a pytree of arrays, random keys among them, in a new folder.

    Raises:
        ValueError: the folder exists.
    """
    import orbax.checkpoint as ocp

    folder = Path(path).absolute()
    if folder.exists():
        raise ValueError(f"{folder} exists: save in a new folder, or remove it first.")
    data = jax.tree.map(lambda x: jax.random.key_data(x) if is_key(x) else x, state)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder, data)


def load(path: str | Path, like: PyTree) -> PyTree:
    """Load what `save` wrote.

    Args:
        path: of the folder.
        like: a pytree of arrays or shapes (``jax.eval_shape(agent.init, ...)``) with the structure
            that was saved, and with the shardings where it has some.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: what was saved has another structure, or other shapes or dtypes.
    """
    import orbax.checkpoint as ocp

    folder = Path(path).absolute()
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} does not exist: give the folder that was saved in.")

    def shape(x: Any) -> jax.ShapeDtypeStruct:
        if is_key(x):
            x = jax.eval_shape(jax.random.key_data, jax.ShapeDtypeStruct(x.shape, x.dtype))
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=getattr(x, "sharding", None))

    wanted = jax.tree.map(shape, like)
    with ocp.StandardCheckpointer() as checkpointer:
        _require_same(folder, checkpointer.metadata(folder).item_metadata.tree, wanted)
        found = checkpointer.restore(folder, wanted)
    key = lambda x, like: jax.random.wrap_key_data(x) if is_key(like) else x
    loaded: PyTree = jax.tree.map(key, found, like)
    return loaded


def _require_same(folder: Path, stored: Any, wanted: PyTree) -> None:
    """Compare names, shapes and dtypes: Orbax would cast."""
    there = {leaf.name: _told(leaf) for leaf in jax.tree.leaves(stored)}
    here = {
        jax.tree_util.keystr(path, simple=True, separator="."): _told(x)
        for path, x in jax.tree.leaves_with_path(wanted)
    }
    if there == here:
        return
    name = min(name for name in there.keys() | here if there.get(name) != here.get(name))
    raise ValueError(
        f"{folder} has another state: {name} is {there.get(name, 'not there')}, and "
        f"{here.get(name, 'not there')} in what was asked for."
    )


def _told(x: Any) -> str:
    return f"{jax.numpy.dtype(x.dtype)}{list(x.shape)}"
