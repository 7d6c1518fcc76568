"""Checkpoints through Orbax: the whole training state and a JSON record beside it, atomically, the last few kept."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp

from ddpg_jax import checks
from ddpg_jax.types import PyTree, is_key

FORMAT = 2
"""Of what is in a checkpoint; raised where the state of training gets another structure."""


class Checkpoints:
    """The checkpoints in a folder, named by environment steps.

    A checkpoint is visible only when it is complete: a crash or a full disk while saving leaves the ones before it intact.

    Args:
        folder: created when first saved to.
        keep: how many of the newest are kept.
        read_only: touch nothing, as beside a live run; otherwise what a kill left half written is removed.
    """

    def __init__(self, folder: Path, keep: int = 2, *, read_only: bool = False) -> None:
        logging.getLogger("absl").setLevel(logging.ERROR)  # Orbax warns of what these options mean
        options = ocp.CheckpointManagerOptions(
            max_to_keep=None if read_only else keep,
            enable_async_checkpointing=False,
            cleanup_tmp_directories=not read_only,
            read_only=read_only,
        )
        self._manager = ocp.CheckpointManager(folder.absolute(), options=options)

    def save(self, step: int, state: PyTree, record: dict[str, Any]) -> None:
        """Save a pytree of arrays (random keys included) and a JSON-able record under ``step``; returns when it is on disk."""
        saved = ocp.args.JsonSave(record | {"format": FORMAT})
        args = ocp.args.Composite(state=ocp.args.StandardSave(_storable(state)), record=saved)
        for damaged in [found for found in self._manager.all_steps() if found >= step]:  # passed over by `restore`
            self._manager.delete(damaged)
        self._manager.save(step, args=args, force=True)

    def restore(self, like: PyTree, report: Callable[[str], None] = print) -> tuple[int, PyTree, dict[str, Any]]:
        """The newest checkpoint that can be read, as ``(step, state, record)``.

        Args:
            like: a pytree of arrays or shapes with the structure to restore.
            report: told, in a sentence, of each damaged checkpoint that is passed over.

        Raises:
            FileNotFoundError: there is none that can be read.
            ValueError: it is of another version of this library.
        """
        steps = sorted(self._manager.all_steps(), reverse=True)
        sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        target = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), jax.eval_shape(_storable, like)
        )
        for step in steps:
            try:
                record = self._restored(step, record=ocp.args.JsonRestore())["record"]
                if (found := record.get("format", 1)) == FORMAT:
                    state = self._restored(step, state=ocp.args.StandardRestore(target))["state"]
            except Exception as error:  # whatever the storage raises on damaged files
                report(f"checkpoint {step} is damaged ({checks.first_line(error)}); trying the one before it.")
                continue
            if found != FORMAT:
                raise ValueError(
                    f"checkpoint {step} has format {found}, of another version of ddpg_jax, where this one reads "
                    f"format {FORMAT}: go on with that version, or train anew in another folder."
                )
            return step, _as_it_was(state, like), record
        raise FileNotFoundError("no checkpoint" if not steps else "no checkpoint that can be read")

    def _restored(self, step: int, **items: Any) -> Any:
        return self._manager.restore(step, args=ocp.args.Composite(**items))

    def close(self) -> None:
        """Finish what is being written."""
        self._manager.close()


def _storable(tree: PyTree) -> PyTree:
    """What Orbax takes: keys as their data, and of an array without elements, which it refuses, one that stands for it."""

    def one(x: jax.Array) -> jax.Array:
        x = jax.random.key_data(x) if is_key(x) else x
        return x if x.size else jnp.zeros((1,), x.dtype)

    return jax.tree.map(one, tree)


def _as_it_was(tree: PyTree, like: PyTree) -> PyTree:
    def one(x: jax.Array, y: Any) -> jax.Array:
        stored = jax.eval_shape(jax.random.key_data, y) if is_key(y) else y
        x = x if y.size else jnp.zeros(stored.shape, x.dtype)
        return jax.random.wrap_key_data(x) if is_key(y) else x

    return jax.tree.map(one, tree, like)
