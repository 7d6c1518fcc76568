"""What the matrix products of a function cost alone: the least that it can take while it is
computed by such products.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import jaxprs_in_params

from benchmarks.harness import Part
from ddpg_jax.types import Key, PyTree

Shape = tuple[tuple[int, ...], Any]
"""A shape and its dtype."""


class Product(NamedTuple):
    """One ``jax.lax.dot_general``: its factors' shapes, and what else it was given."""

    left: Shape
    right: Shape
    dimension_numbers: Any
    precision: Any
    preferred_element_type: Any

    @property
    def flops(self) -> int:
        """Multiplications and additions."""
        (_, contracted), (_, batch) = self.dimension_numbers
        own = [size for axis, size in enumerate(self.right[0]) if axis not in (*contracted, *batch)]
        return 2 * math.prod(self.left[0]) * math.prod(own)

    @property
    def result(self) -> Shape:
        """What comes out."""
        made = jax.eval_shape(
            self.of, *(jax.ShapeDtypeStruct(*factor) for factor in (self.left, self.right))
        )
        return made.shape, made.dtype

    def of(self, left: jax.Array, right: jax.Array) -> jax.Array:
        """The product itself."""
        return jax.lax.dot_general(
            left, right, self.dimension_numbers, self.precision, self.preferred_element_type
        )


def products(function: Callable[..., Any], *arguments: Any) -> list[Product]:
    """The matrix products of ``function(*arguments)`` in their order, each as often as computed;
    arguments may be shapes.

    Convolutions are none, but where a device computes them as such (`ddpg_jax.networks.Convolution`
    on a CPU).

    Raises:
        ValueError: one is in a branch, unless all branches have products of as many operations, or
            in a loop whose length is not known before it runs.
    """
    return list(_products(jax.make_jaxpr(function)(*arguments).jaxpr))


def _products(jaxpr: Any) -> Iterator[Product]:
    for equation in jaxpr.eqns:
        if equation.primitive is jax.lax.dot_general_p:
            left, right = ((x.aval.shape, x.aval.dtype) for x in equation.invars)
            yield Product(
                left, right, **{name: equation.params[name] for name in Product._fields[2:]}
            )
        inside = list(jaxprs_in_params(equation.params))
        if equation.primitive.name == "cond":
            inside = _taken(inside, equation.params.get("branches_platforms"))
        for inner in inside:
            found = list(_products(inner))
            if found and equation.primitive.name == "while":
                raise ValueError(
                    "a matrix product is inside a while: how often it runs is not known."
                )
            yield from found * (
                equation.params["length"] if equation.primitive.name == "scan" else 1
            )


def _taken(branches: list[Any], platforms: Sequence[Any] | None) -> list[Any]:
    """The branch that runs here where a device has one of its own (`jax.lax.platform_dependent`),
    or else any of them.
    """
    if platforms is not None:
        here = (not names or jax.default_backend() in names for names in platforms)
        return [next(branch for branch, runs in zip(branches, here, strict=True) if runs)]
    if len({flops(list(_products(branch))) for branch in branches}) > 1:
        raise ValueError(
            "branches of a cond have products of different sizes: which of them runs is not known."
        )
    return branches[-1:]


def flops(found: Sequence[Product]) -> int:
    """Multiplications and additions of them all."""
    return sum(product.flops for product in found)


def alone(found: Sequence[Product]) -> Part:
    """``init`` and ``step`` of these products on random numbers and nothing else, at least one.

    As in a network, what one makes is a factor of a later one where it fits: little memory is
    touched, and none computed twice.
    """
    plan, left_over = _plan(found)
    random = dict.fromkeys(
        factor for pair in plan for factor in pair if not isinstance(factor, int)
    )

    def init(key: Key) -> PyTree:
        keys = jax.random.split(key, len(random))
        # Of a size that neither grows nor vanishes on its way through many products.
        made = [
            (jax.random.normal(k, shape) / max(shape) ** 0.5).astype(dtype)
            for k, (_, (shape, dtype), _) in zip(keys, random, strict=True)
        ]
        return made, jnp.zeros((), jnp.int32)

    def step(state: PyTree, key: Key) -> tuple[PyTree, PyTree]:
        held, none = state
        # A loop that never runs: XLA cannot know that the factors stay, else it would compute each
        # product once and for all.
        held = jax.lax.fori_loop(0, none, lambda _, held: jax.tree.map(jnp.negative, held), held)
        values: dict[Any, jax.Array] = dict(zip(random, held, strict=True))
        for index, (product, pair) in enumerate(zip(found, plan, strict=True)):
            values[index] = product.of(*(values[factor] for factor in pair))
        return (held, none), [values[index] for index in left_over]

    return init, step


def _plan(found: Sequence[Product]) -> tuple[list[tuple[Any, Any]], list[int]]:
    """Of each product its factors, numbers of earlier products or names of random numbers; and
    whose results nobody uses.
    """
    plan: list[tuple[Any, Any]] = []
    results, unused, begun = [product.result for product in found], list[int](), Counter[Product]()
    for index, product in enumerate(found):
        left: Any = next((earlier for earlier in unused if results[earlier] == product.left), None)
        if left is None:  # another one each time: equal products would be computed once
            left = ("left", product.left, begun[product])
            begun[product] += 1
        else:
            unused.remove(left)
        plan.append((left, ("right", product.right, 0)))
        unused.append(index)
    return plan, unused
