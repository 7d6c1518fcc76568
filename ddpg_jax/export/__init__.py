"""Policies as files that need not this library: StableHLO, ONNX, and weights for NumPy."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from ddpg_jax import checks
from ddpg_jax.envs.observed import observed
from ddpg_jax.export import onnx, stablehlo, weights
from ddpg_jax.export.function import OBSERVATION
from ddpg_jax.export.graph import policy_graph
from ddpg_jax.export.stablehlo import policy

if TYPE_CHECKING:
    from collections.abc import Callable

    from ddpg_jax.types import Agent, AgentState

__all__ = ["FORMS", "content", "form_of", "load", "policy", "read"]

FORMS = ("stablehlo", "onnx", "npz")
"""Forms of a file, which are the suffixes of their names too."""


def content(agent: Agent, agent_state: AgentState, env: Any, form: str) -> bytes:
    """The content of a file that holds the deterministic policy, as `policy`, in one of `FORMS`.

    Raises:
        ImportError: the package ``onnx`` is not installed.
        ValueError: the policy computes something for which the form has no rule.
    """
    if form == "stablehlo":
        return bytes(policy(agent, agent_state, env).serialize())
    graph = policy_graph(agent, agent_state, env)
    if form == "onnx":
        return bytes(onnx.model(graph).SerializeToString())
    return weights.write(graph)


def form_of(path: str | Path) -> str:
    """The form of a file by its suffix; without one of theirs it is StableHLO."""
    suffix = Path(path).suffix.removeprefix(".").lower()
    return suffix if suffix in FORMS else FORMS[0]


def load(path: str | Path, form: str | None = None) -> Callable[[Any], Any]:
    """The policy in a file: ``action(observation [B, ...]) -> [B, A]``, or of any other leading
    axes.

    Streams of a dict that the actor does not see may be given, and are not looked at.

    Args:
        path: of the file.
        form: one of `FORMS`; None is that of its suffix. ONNX is run by onnxruntime.

    Raises:
        ImportError: onnxruntime is not installed.
        FileNotFoundError: there is no such file.
        ValueError: the file holds no policy of that form; from the function, observations have
            other names, shapes or dtypes than the environment's
            (`ddpg_jax.envs.observed.observed`).
    """
    form, wanted = form or form_of(path), "give the file that `ddpg-jax export` wrote."
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path} is no file: {wanted}")
    try:
        return read(Path(path).read_bytes(), form)
    except ImportError:
        raise
    except Exception as error:  # each form's reader has its own
        said = checks.first_line(error)
        raise ValueError(f"{path} holds no policy as {form} ({said}): {wanted}") from error


def read(data: bytes, form: str) -> Callable[[Any], Any]:
    """As `load`, of the content of a file."""
    if form == "stablehlo":
        call, shapes = stablehlo.read(data)
    else:
        call, inputs = (onnx if form == "onnx" else weights).read(data)
        found = {
            name: jax.ShapeDtypeStruct(tuple(shape), np.dtype(dtype))
            for name, (shape, dtype) in inputs.items()
        }
        shapes = found[OBSERVATION] if found.keys() == {OBSERVATION} else found
    check = observed(shapes)

    def act(given: Any) -> Any:
        if isinstance(given, Mapping) and isinstance(shapes, dict):
            given = {name: part for name, part in given.items() if name in shapes}
        elif isinstance(given, Mapping):  # of a file whose only input is the stream of that name
            given = given.get(OBSERVATION, given)
        checked = check(given)
        first, like = (jax.tree.leaves(tree)[0] for tree in (checked, shapes))
        leading = first.shape[: first.ndim - len(like.shape)]
        flat = lambda x, like: x.reshape(math.prod(leading), *like.shape)
        result = call(jax.tree.map(flat, checked, shapes))
        return result.reshape(*leading, *result.shape[1:])

    return act
