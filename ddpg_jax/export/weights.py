"""A policy of vectors as NumPy's ``.npz``, and its forward pass, which needs nothing but NumPy.

This file can be copied to where neither JAX nor this library is: `read` and `act` use none of them.
"""

from __future__ import annotations

import io
import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ddpg_jax.export.graph import Graph

PROGRAM = "program"
"""JSON: ``inputs`` with shape and dtype, the name of the ``output``, and ``nodes``, lines of
``[operator, inputs, output, attributes]`` in the order of their computation. An input is an
observation, an array of the file, or an earlier output."""


def _slice(x: Any, starts: Any, stops: Any, axes: Any, strides: Any) -> Any:
    parts = [slice(None)] * x.ndim
    for start, stop, axis, stride in zip(starts, stops, axes, strides, strict=True):
        parts[axis] = slice(start, stop, stride)
    return x[tuple(parts)]


def _reduced(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda x, axes, keepdims: function(x, axis=tuple(axes), keepdims=bool(keepdims))


OPERATORS: dict[str, Callable[..., Any]] = {
    **{"Abs": np.abs, "Add": np.add, "And": np.logical_and, "Ceil": np.ceil, "Cos": np.cos},
    **{"Equal": np.equal, "Exp": np.exp, "Expand": np.broadcast_to, "Floor": np.floor},
    **{"Greater": np.greater, "GreaterOrEqual": np.greater_equal, "Less": np.less},
    **{"LessOrEqual": np.less_equal, "Log": np.log, "MatMul": np.matmul, "Max": np.maximum},
    **{"Min": np.minimum, "Mul": np.multiply, "Neg": np.negative, "Not": np.logical_not},
    **{"Or": np.logical_or, "Pow": np.power, "Reciprocal": np.reciprocal, "Reshape": np.reshape},
    **{"Sign": np.sign, "Sin": np.sin, "Slice": _slice, "Sqrt": np.sqrt, "Sub": np.subtract},
    **{"Tanh": np.tanh, "Where": np.where},
    "Cast": lambda x, to: x.astype(to),
    "Concat": lambda *parts, axis: np.concatenate(parts, axis),
    "Div": lambda x, y: np.divide(x, y) if x.dtype.kind == "f" else np.trunc(x / y).astype(x.dtype),
    "Erf": np.vectorize(math.erf, otypes=[np.float32]),
    "Gather": lambda x, places, axis: np.take(x, places, axis),
    "Identity": lambda x: x,
    "ReduceMax": _reduced(np.max),
    "ReduceMin": _reduced(np.min),
    "ReduceProd": _reduced(np.prod),
    "ReduceSum": _reduced(np.sum),
    "Shape": lambda x, start, end: np.array(x.shape[start:end]),
    "Sigmoid": lambda x: (1 + np.tanh(x / 2)) / 2,
    "Transpose": lambda x, perm: np.transpose(x, perm),
}
"""Operators of ONNX, by their names there."""


def act(weights: Mapping[str, np.ndarray], observation: Any) -> np.ndarray:
    """The action ``[B, A]``, in the environment's own units, of ``observation: [B, ...]``.

    Args:
        weights: what ``numpy.load`` reads from the file.
        observation: an array, or a dict of the streams that the policy sees.
    """
    program, values = json.loads(str(weights[PROGRAM])), dict(weights)
    given = observation if isinstance(observation, dict) else {"observation": observation}
    for name, (_, dtype) in program["inputs"].items():
        values[name] = np.asarray(given[name], dtype)
    for operator, inputs, output, attributes in program["nodes"]:
        values[output] = OPERATORS[operator](*(values[name] for name in inputs), **attributes)
    return values[program["output"]]


def read(content: bytes) -> tuple[Callable[[Any], np.ndarray], dict[str, tuple[list[int], str]]]:
    """``action(observation)`` of a file's content; shape and dtype of each input."""
    weights = dict(np.load(io.BytesIO(content)))
    return lambda observation: act(weights, observation), json.loads(str(weights[PROGRAM]))[
        "inputs"
    ]


def write(graph: Graph) -> bytes:
    """The content of an ``.npz`` file: the constants of a policy, and its `PROGRAM`.

    Raises:
        ValueError: the policy has an operator that is not one of `OPERATORS`, such as a
            convolution.
    """
    if others := {node.operator for node in graph.nodes} - OPERATORS.keys():
        raise ValueError(
            f"the policy needs {', '.join(sorted(others))}, which the NumPy pass of npz does not "
            "have: export it as onnx or stablehlo."
        )
    inputs = {name: (list(x.shape), str(x.dtype)) for name, x in graph.inputs.items()}
    program = json.dumps({"inputs": inputs, "output": graph.output, "nodes": graph.nodes})
    content = io.BytesIO()
    np.savez(content, **{PROGRAM: np.array(program)}, **graph.constants)  # type: ignore[arg-type]
    return content.getvalue()
