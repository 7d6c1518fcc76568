"""Observations that a policy is given: their names, shapes and dtypes, compared with those that its
environment declares.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import compress
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.interpreters.partial_eval import dce_jaxpr

from ddpg_jax.envs import spaces
from ddpg_jax.types import PyTree, zeros

NAME = "the observation"
"""What an observation without names is called in errors."""


def observed(
    shapes: PyTree, looked_at: Callable[[], Sequence[bool]] | None = None
) -> Callable[[PyTree], PyTree]:
    """``check(observations)``, which returns arrays ``[..., *shape]`` of the dtypes of ``shapes``.

    Lists and numbers of another width are converted where nothing is lost.

    Args:
        shapes: of one observation (`ddpg_jax.environment.Environment.observation`).
        looked_at: whether each part of an observation is looked at, where one is missing. Others
            may be left out, as by an actor that has a stream of its own; zeros stand for them.

    Raises:
        ValueError: from ``check``: a name is missing or unknown, or a shape or dtype is another.
    """

    def check(given: PyTree) -> PyTree:
        found, known = _checked(shapes, given, NAME), jax.tree.leaves(shapes)
        leaves = jax.tree.leaves(found)
        absent = [isinstance(x, jax.ShapeDtypeStruct) for x in leaves]
        pairs = zip(leaves, known, absent, strict=True)
        leads = {x.shape[: x.ndim - len(like.shape)] for x, like, left in pairs if not left}
        if len(leads) > 1:
            raise ValueError(f"{NAME} has leading axes {sorted(leads)}: they must be alike.")
        if not any(absent):
            return found
        seen = looked_at() if looked_at else [True] * len(known)
        paths = [jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(shapes)]
        wanted = dict(compress(zip(paths, absent, strict=True), seen))
        if lacks := [path for path, left in wanted.items() if left]:
            raise ValueError(
                f"{NAME} lacks {', '.join(lacks)}: give {', '.join(wanted)}, as in training."
            )
        fill = lambda x: zeros(x, *min(leads)) if isinstance(x, jax.ShapeDtypeStruct) else x
        return jax.tree.map(fill, found)

    return check


def looked_at(act: Callable[[PyTree], Any], shapes: PyTree) -> list[bool]:
    """Whether each leaf of an observation has any part in what ``act`` makes of it."""
    traced = jax.make_jaxpr(act)(zeros(shapes, 1)).jaxpr
    _, used = dce_jaxpr(traced, [True] * len(traced.outvars))
    return used


def needed(act: Callable[[PyTree], Any], shapes: PyTree) -> PyTree:
    """What ``act`` looks at: of an observation that is a dict, the shapes of those names alone."""
    if not isinstance(shapes, dict):
        return shapes
    seen = jax.tree.unflatten(jax.tree.structure(shapes), looked_at(act, shapes))
    own = {name: part for name, part in shapes.items() if any(jax.tree.leaves(seen[name]))}
    return own or shapes


def _checked(shapes: PyTree, given: PyTree, where: str) -> PyTree:
    """What was given, as arrays; shapes where a name lacks."""
    if isinstance(shapes, jax.ShapeDtypeStruct):
        return _array(shapes, given, where)
    if isinstance(shapes, dict):
        names = ", ".join(shapes)
        if not isinstance(given, Mapping):
            raise ValueError(f"{where} is {_kind(given)} where a dict of {names} is declared.")
        if unknown := [name for name in given if name not in shapes]:
            raise ValueError(f"{where} has no {unknown[0]!r}: its names are {names}.")
        return {
            name: _checked(part, given[name], f"{where}[{name!r}]") if name in given else part
            for name, part in shapes.items()
        }
    wanted: Any = jax.tree.structure(shapes)
    if wanted != jax.tree.structure(given):
        raise ValueError(f"{where} is {_kind(given)} where {wanted} is declared.")
    return jax.tree.map(lambda like, x: _array(like, x, where), shapes, given)


def _array(like: jax.ShapeDtypeStruct, given: Any, where: str) -> Any:
    known = given if isinstance(given, jax.Array) else spaces.array(given)
    wanted, size = _number(like.dtype), len(like.shape)
    if not hasattr(given, "dtype") and wanted == "f" and known.dtype.kind in "iu":
        known = known.astype(np.float64)  # whole numbers of Python's
    number, traced = _number(known.dtype), isinstance(given, jax.core.Tracer)
    alike = number == wanted == "f" if traced else number in spaces.KINDS[wanted]
    fits = known.dtype == like.dtype or alike
    if known.shape[max(0, known.ndim - size) :] != like.shape or not fits:
        axes = ", ".join(("...", *map(str, like.shape)))
        raise ValueError(
            f"{where} is {_kind(known)} where {like.dtype}[{axes}] is declared: give it as the "
            "environment does."
        )
    if known.dtype == like.dtype:
        return known
    return known.astype(like.dtype) if traced else spaces.cast(np.asarray(known), like.dtype, where)


def _number(dtype: Any) -> str:
    """The kind of number of a dtype; of bfloat16 too."""
    return "f" if jnp.issubdtype(dtype, jnp.floating) else np.dtype(dtype).kind


def _kind(given: Any) -> str:
    if getattr(given, "dtype", None) is None or given.dtype == object:
        return "no array of numbers" if hasattr(given, "dtype") else f"a {type(given).__name__}"
    return f"{given.dtype}{list(given.shape)}"
