"""Policies as ONNX: a file that onnxruntime and others run, without JAX."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ddpg_jax import __version__
from ddpg_jax.export.builder import BATCH

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import onnx

    from ddpg_jax.export.graph import Graph

OPSET, IR_VERSION = 18, 8
"""Versions of ONNX from the end of 2022: onnxruntime 1.14 and later read them."""
MISSING = "{0} is not installed: pip install {0}"
"""What is said of a package that is missing."""


def model(graph: Graph) -> onnx.ModelProto:
    """A policy as a model of ONNX, checked by its checker; its batch axis may have any size.

    Raises:
        ImportError: the package ``onnx`` is not installed.
    """
    try:
        from onnx import checker, helper, numpy_helper
    except ImportError as error:
        raise ImportError(MISSING.format("onnx")) from error
    kind: Any = lambda dtype: helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    info: Any = lambda name, x: helper.make_tensor_value_info(
        name, kind(x.dtype), [BATCH, *x.shape]
    )
    nodes = [
        helper.make_node(
            node.operator,
            node.inputs,
            [node.output],
            node.output,
            **{name: kind(x) if name == "to" else x for name, x in node.attributes.items()},
        )
        for node in graph.nodes
    ]
    made = helper.make_model(
        helper.make_graph(
            nodes,
            "policy",
            [info(name, x) for name, x in graph.inputs.items()],
            [info(graph.output, graph.action)],
            [numpy_helper.from_array(x, name) for name, x in graph.constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="ddpg_jax",
        producer_version=__version__,
    )
    checker.check_model(made, full_check=True)
    return made


def read(content: bytes) -> tuple[Callable[[Any], Any], Mapping[str, tuple[list[int], str]]]:
    """``action(observation)`` of a file's content in onnxruntime; shape and dtype of each input.

    Raises:
        ImportError: the package ``onnxruntime`` is not installed.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise ImportError(MISSING.format("onnxruntime")) from error
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    names = {"float": "float32", "double": "float64"}
    kinds = [(each, each.type.removeprefix("tensor(").rstrip(")")) for each in session.get_inputs()]
    inputs = {each.name: (each.shape[1:], names.get(kind, kind)) for each, kind in kinds}

    def act(observation: Any) -> Any:
        given = observation if isinstance(observation, dict) else {next(iter(inputs)): observation}
        return session.run(None, {name: np.asarray(given[name]) for name in inputs})[0]

    return act, inputs
