"""JAX's primitives as ONNX's operators: those of which policies are made.

A rule is given a builder, an equation of a jaxpr and its operands, and returns the result.
"""

from __future__ import annotations

import string
from typing import TYPE_CHECKING, Any

import numpy as np

from ddpg_jax.export.builder import Builder, Shape, Value, dtype_of, known, refuse, sizes

if TYPE_CHECKING:
    from collections.abc import Callable


def shape_of(eqn: Any, operand: int | None = None) -> Shape:
    """The shape of an operand of an equation, or of its first result."""
    variable = eqn.outvars[0] if operand is None else eqn.invars[operand]
    return sizes(variable.aval.shape)


def _operator(name: str) -> Callable[..., Value]:
    def rule(to: Builder, eqn: Any, *values: Value) -> Value:
        if name in ("And", "Or", "Not") and eqn.invars[0].aval.dtype != bool:
            refuse(f"the operation {eqn.primitive.name!r} of bits")
        return to.apply(name, *values)

    return rule


def _number(eqn: Any, number: float) -> Value:
    """A constant of the dtype of an equation's operand."""
    return known(np.asarray(number, dtype_of(eqn.invars[0].aval.dtype)))


def _select(to: Builder, eqn: Any, which: Value, *cases: Value) -> Value:
    if eqn.invars[0].aval.dtype != bool or len(cases) != 2:
        refuse("a choice between more than two")
    return to.apply("Where", which, cases[1], cases[0])


def _convert(to: Builder, eqn: Any, value: Value) -> Value:
    wanted = dtype_of(eqn.params["new_dtype"])
    if wanted == dtype_of(eqn.invars[0].aval.dtype):
        return value
    return to.apply("Cast", value, to=str(wanted))


def _broadcast(to: Builder, eqn: Any, value: Value) -> Value:
    inserted: list[int | str] = [1] * len(eqn.params["shape"])
    for axis, size in zip(eqn.params["broadcast_dimensions"], value.shape, strict=True):
        inserted[axis] = size
    return to.reshape(value, tuple(inserted))


def _reshape(to: Builder, eqn: Any, value: Value) -> Value:
    return to.reshape(to.full(value, shape_of(eqn, 0)), shape_of(eqn))


def _transpose(to: Builder, eqn: Any, value: Value) -> Value:
    return _permuted(to, value, eqn.params["permutation"])


def _permuted(to: Builder, value: Value, order: Any) -> Value:
    order = [int(axis) for axis in order]
    if order == sorted(order):
        return value
    if not value.name:
        return known(np.transpose(np.asarray(value.constant), order))
    shape = tuple(value.shape[axis] for axis in order)
    return to.add("Transpose", value, shape=shape, perm=order)


def _concatenate(to: Builder, eqn: Any, *values: Value) -> Value:
    parts = [to.full(value, shape_of(eqn, index)) for index, value in enumerate(values)]
    return to.add("Concat", *parts, shape=shape_of(eqn), axis=eqn.params["dimension"])


def _stack(to: Builder, eqn: Any, *values: Value) -> Value:
    axis, shape = eqn.params["axis"], shape_of(eqn)
    one = (*shape[:axis], 1, *shape[axis + 1 :])
    full = (to.full(value, shape_of(eqn, index)) for index, value in enumerate(values))
    parts = (to.reshape(value, one) for value in full)
    return to.add("Concat", *parts, shape=shape, axis=axis)


def _sliced(to: Builder, value: Value, shape: Shape, parts: dict[int, Any]) -> Value:
    """The ``(start, stop, stride)`` of some axes."""
    given = [[part[column] for part in parts.values()] for column in range(3)]
    starts, stops, strides = (known(np.array(numbers, np.int64)) for numbers in given)
    along = known(np.array(list(parts), np.int64))
    return to.add("Slice", value, starts, stops, along, strides, shape=shape)


def _slice(to: Builder, eqn: Any, value: Value) -> Value:
    whole, given = shape_of(eqn, 0), eqn.params
    strides = given["strides"] or [1] * len(whole)
    each = zip(given["start_indices"], sizes(given["limit_indices"]), strides, strict=True)
    parts = {axis: part for axis, part in enumerate(each) if part != (0, whole[axis], 1)}
    if any(isinstance(whole[axis], str) for axis in parts):
        refuse("a part of a batch")
    return _sliced(to, to.full(value, whole), shape_of(eqn), parts)


def _split(to: Builder, eqn: Any, value: Value) -> list[Value]:
    axis, value = eqn.params["axis"], to.full(value, shape_of(eqn, 0))
    stops = np.cumsum(eqn.params["sizes"])
    bounds = zip([0, *stops[:-1]], stops, eqn.outvars, strict=True)
    return [
        _sliced(to, value, sizes(result.aval.shape), {axis: (start, stop, 1)})
        for start, stop, result in bounds
    ]


def _gather(to: Builder, eqn: Any, value: Value, places: Value) -> Value:
    """Of places that are known: one window, or the rows of one axis."""
    numbers, whole = eqn.params["dimension_numbers"], shape_of(eqn, 0)
    window, along = sizes(eqn.params["slice_sizes"]), numbers.start_index_map
    index = np.asarray(places.constant) if not places.name else refuse("places that are computed")
    last = [int(whole[axis]) - int(window[axis]) for axis in along]
    if numbers.operand_batching_dims or np.any(index < 0) or np.any(index > last):
        refuse("an index beyond an array")
    value = to.full(value, whole)
    if index.ndim == 1:
        parts = {axis: (n, n + int(window[axis]), 1) for axis, n in zip(along, index, strict=True)}
        return to.reshape(_sliced(to, value, window, parts), shape_of(eqn))
    others: Any = lambda shape: [size for axis, size in enumerate(shape) if axis not in along]
    if len(along) > 1 or numbers.collapsed_slice_dims != along or others(whole) != others(window):
        refuse("an index of several axes")
    gathered = known(index[..., 0].astype(np.int64))
    inside = [axis for axis in range(len(shape_of(eqn))) if axis not in numbers.offset_dims]
    if inside != list(range(along[0], along[0] + index.ndim - 1)):
        refuse("an index whose result is transposed")
    return to.add("Gather", value, gathered, shape=shape_of(eqn), axis=along[0])


def _reduction(operator: str) -> Any:
    def rule(to: Builder, eqn: Any, value: Value) -> Value:
        along = known(np.array(eqn.params["axes"], np.int64))
        value = to.full(value, shape_of(eqn, 0))
        return to.add(f"Reduce{operator}", value, along, shape=shape_of(eqn), keepdims=0)

    return rule


def _dot(to: Builder, eqn: Any, left: Value, right: Value) -> Value:
    (along, also), (batch, _) = eqn.params["dimension_numbers"]
    left, right = to.full(left, shape_of(eqn, 0)), to.full(right, shape_of(eqn, 1))
    if batch or len(along) != 1 or along[0] != len(left.shape) - 1 or len(right.shape) != 2:
        return _einsum(to, eqn, left, right)
    right = right if also[0] == 0 else _permuted(to, right, (1, 0))
    return to.add("MatMul", left, right, shape=shape_of(eqn))


def _einsum(to: Builder, eqn: Any, left: Value, right: Value) -> Value:
    (along, also), (batch, batch_also) = eqn.params["dimension_numbers"]
    letters = string.ascii_lowercase[: len(left.shape)]
    others = [*string.ascii_uppercase[: len(right.shape)]]
    for axis, other in zip((*along, *batch), (*also, *batch_also), strict=True):
        others[other] = letters[axis]
    free = [letter for axis, letter in enumerate(letters) if axis not in (*along, *batch)]
    free += [letter for letter in others if letter.isupper()]
    result = "".join([letters[axis] for axis in batch] + free)
    equation = f"{letters},{''.join(others)}->{result}"
    return to.add("Einsum", left, right, shape=shape_of(eqn), equation=equation)


def _conv(to: Builder, eqn: Any, images: Value, kernel: Value) -> Value:
    given, numbers = eqn.params, eqn.params["dimension_numbers"]
    if any(step != 1 for step in given["lhs_dilation"]) or given["batch_group_count"] != 1:
        refuse("a transposed convolution")
    images = _permuted(to, to.full(images, shape_of(eqn, 0)), numbers.lhs_spec)
    kernel = _permuted(to, to.full(kernel, shape_of(eqn, 1)), numbers.rhs_spec)
    result = to.add(
        "Conv",
        images,
        kernel,
        shape=tuple(shape_of(eqn)[axis] for axis in numbers.out_spec),
        strides=[*given["window_strides"]],
        dilations=[*given["rhs_dilation"]],
        group=given["feature_group_count"],
        pads=[int(pad) for side in zip(*given["padding"], strict=True) for pad in side],
    )
    return _permuted(to, result, np.argsort(numbers.out_spec))


SAME_NAME = (
    "abs add and ceil cos div erf exp floor log max min mul neg not or pow sign sin sqrt sub"
)
"""Primitives whose operator has their name."""
RULES: dict[str, Callable[..., Any]] = {
    **{name: _operator(name.capitalize()) for name in f"{SAME_NAME} tanh".split()},
    **dict.fromkeys(("copy", "optimization_barrier", "stop_gradient"), lambda to, eqn, x: x),
    **dict.fromkeys(("reshape", "squeeze"), _reshape),
    **{f"reduce_{name}": _reduction(name.capitalize()) for name in ("max", "min", "prod", "sum")},
    "broadcast_in_dim": _broadcast,
    "clamp": lambda to, eqn, low, x, high: to.apply("Min", to.apply("Max", x, low), high),
    "concatenate": _concatenate,
    "conv_general_dilated": _conv,
    "convert_element_type": _convert,
    "dot_general": _dot,
    "eq": _operator("Equal"),
    "erfc": lambda to, eqn, x: to.apply("Sub", _number(eqn, 1), to.apply("Erf", x)),
    "exp2": lambda to, eqn, x: to.apply("Pow", _number(eqn, 2), x),
    "expm1": lambda to, eqn, x: to.apply("Sub", to.apply("Exp", x), _number(eqn, 1)),
    "gather": _gather,
    "ge": _operator("GreaterOrEqual"),
    "gt": _operator("Greater"),
    "integer_pow": lambda to, eqn, x: to.apply("Pow", x, _number(eqn, eqn.params["y"])),
    "le": _operator("LessOrEqual"),
    "log1p": lambda to, eqn, x: to.apply("Log", to.apply("Add", x, _number(eqn, 1))),
    "logistic": _operator("Sigmoid"),
    "lt": _operator("Less"),
    "ne": lambda to, eqn, x, y: to.apply("Not", to.apply("Equal", x, y)),
    "rsqrt": lambda to, eqn, x: to.apply("Reciprocal", to.apply("Sqrt", x)),
    "select_n": _select,
    "slice": _slice,
    "split": _split,
    "square": lambda to, eqn, x: to.apply("Mul", x, x),
    "stack": _stack,
    "transpose": _transpose,
}
"""Of each primitive of JAX, ``rule(builder, equation, *inputs)``: what writes its operators."""
