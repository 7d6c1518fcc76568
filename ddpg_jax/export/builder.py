"""Collects the operators of ONNX that compute a policy, and their constants."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import jax.numpy as jnp
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

BATCH = "batch"
"""Name of the axis of observations given at once."""
Shape = tuple[int | str, ...]
"""Sizes; one that is not known before a batch is there is text."""


class Node(NamedTuple):
    """One of ONNX's operators on values of the graph, which have names."""

    operator: str
    inputs: tuple[str, ...]
    output: str
    attributes: dict[str, Any]


class Value(NamedTuple):
    """A value of the graph, or a constant, which is named where a node reads it.

    ``shape`` is as it lies there: 1 where it is broadcast only by what reads it.
    """

    shape: Shape
    name: str = ""
    constant: Any = None


def sizes(shape: Sequence[Any]) -> Shape:
    """A shape of JAX, whose unknown sizes are symbolic."""
    return tuple(size if isinstance(size, int) else str(size) for size in shape)


def known(constant: Any) -> Value:
    """A constant."""
    return Value(np.shape(constant), constant=constant)


def dtype_of(dtype: Any) -> np.dtype[Any]:
    """The dtype of a value in the graph: what JAX computes in bfloat16 is computed in float32."""
    return np.dtype(np.float32) if dtype == jnp.bfloat16 else np.dtype(dtype)


def refuse(what: str) -> NoReturn:
    """Refuse a policy that needs ``what``.

    Raises:
        ValueError: in any case.
    """
    raise ValueError(
        f"the policy needs {what}, for which neither onnx nor npz has a rule here: export it as "
        "stablehlo."
    )


class Builder:
    """Collects nodes and constants; what adds a node returns the value that it computes."""

    def __init__(self, inputs: Sequence[str]) -> None:
        self.inputs = list(inputs)
        self.nodes: list[Node] = []
        self.constants: dict[str, np.ndarray] = {}

    def add(self, operator: str, *operands: Value, shape: Shape, **attributes: Any) -> Value:
        """``operator`` on operands, of the shape that its result will have."""
        inputs = tuple(each.name or self._stored(each.constant, operator) for each in operands)
        self.nodes.append(Node(operator, inputs, self.unused(operator.lower()), attributes))
        return Value(shape, self.nodes[-1].output)

    def apply(self, operator: str, *operands: Value, **attributes: Any) -> Value:
        """``operator`` on operands that are broadcast together."""
        rank = max(len(each.shape) for each in operands)
        padded = [(1,) * (rank - len(each.shape)) + each.shape for each in operands]
        shape = tuple(next((n for n in along if n != 1), 1) for along in zip(*padded, strict=True))
        return self.add(operator, *operands, shape=shape, **attributes)

    def reshape(self, value: Value, shape: Shape) -> Value:
        """``value`` in another shape."""
        if value.shape == shape:
            return value
        wanted = [-1 if isinstance(size, str) else size for size in shape]
        if wanted.count(-1) > 1:
            refuse(f"a shape of several unknown sizes, {shape}")
        if not value.name:
            return known(np.reshape(np.asarray(value.constant), wanted))
        return self.add("Reshape", value, known(np.array(wanted, np.int64)), shape=shape)

    def full(self, value: Value, shape: Shape) -> Value:
        """``value``, broadcast to all of ``shape``."""
        if value.shape == shape:
            return value
        parts = [known(np.array([1 if isinstance(size, str) else size])) for size in shape]
        if unknown := [size for size in shape if isinstance(size, str)]:
            if unknown != [BATCH]:
                refuse(f"an array of size {' times '.join(unknown)}")
            first = Value((), self.inputs[0])
            parts[shape.index(BATCH)] = self.add("Shape", first, shape=(1,), start=0, end=1)
        wanted = self.add("Concat", *parts, shape=(len(shape),), axis=0)
        return self.add("Expand", value, wanted, shape=shape)

    def unused(self, name: str) -> str:
        """A name like this that no value has."""
        taken = {*self.inputs, *self.constants, *(node.output for node in self.nodes)}
        number = len(taken)
        while f"{name}_{number}" in taken:
            number += 1
        return f"{name}_{number}"

    def _stored(self, constant: Any, operator: str) -> str:
        array = np.asarray(constant)
        name = self.unused(operator.lower())
        self.constants[name] = array.astype(dtype_of(array.dtype))
        return name
