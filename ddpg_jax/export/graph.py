"""Policies as lists of ONNX's operators: their jaxpr, whose constant parts are computed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np
from jax.extend.core import Literal
from jax.interpreters.partial_eval import dce_jaxpr

from ddpg_jax.export.builder import Builder, Node, Value, dtype_of, known, refuse, sizes
from ddpg_jax.export.function import batched, named, output_name, policy_function
from ddpg_jax.export.primitives import RULES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ddpg_jax.types import Agent, AgentState

INLINED = {
    **dict.fromkeys(("jit", "checkpoint", "remat2"), "jaxpr"),
    **dict.fromkeys(("closed_call", "custom_jvp_call", "custom_vjp_call"), "call_jaxpr"),
    "custom_vmap_call": "call",
}
"""Primitives that call a function, and the parameter that holds it."""


class Graph(NamedTuple):
    """A policy; its nodes are in the order of their computation."""

    inputs: dict[str, jax.ShapeDtypeStruct]
    """Of one observation, without a batch axis."""
    output: str
    action: jax.ShapeDtypeStruct
    """Of one action."""
    nodes: list[Node]
    constants: dict[str, np.ndarray]


def policy_graph(agent: Agent, agent_state: AgentState, env: Any) -> Graph:
    """The deterministic policy of `ddpg_jax.export.function.policy_function`, for batches ``B``.

    Raises:
        ValueError: it computes something for which there is no rule.
    """
    act, shapes = policy_function(agent, agent_state, env)
    closed: Any = jax.make_jaxpr(act)(batched(shapes))
    jaxpr: Any = dce_jaxpr(closed.jaxpr, [True], instantiate=True)[0]
    inputs, action = named(shapes), jaxpr.outvars[0].aval
    builder = Builder(list(inputs))
    given = [
        Value(sizes(var.aval.shape), name) for name, var in zip(inputs, jaxpr.invars, strict=True)
    ]
    (result,) = _evaluate(builder, jaxpr, closed.consts, given)
    builder.apply("Identity", builder.full(result, sizes(action.shape)))
    output = output_name(inputs)
    builder.nodes[-1] = builder.nodes[-1]._replace(output=output)
    one = jax.ShapeDtypeStruct(action.shape[1:], dtype_of(action.dtype))
    return Graph(inputs, output, one, builder.nodes, builder.constants)


def _evaluate(
    builder: Builder, jaxpr: Any, consts: Sequence[Any], operands: Sequence[Value]
) -> list[Value]:
    """The results of a jaxpr on values, constants or not."""
    values: dict[Any, Value] = dict(zip(jaxpr.invars, operands, strict=True))
    values |= {var: known(const) for var, const in zip(jaxpr.constvars, consts, strict=True)}

    def read(atom: Any) -> Value:
        literal = isinstance(atom, Literal)
        return known(np.asarray(atom.val, atom.aval.dtype)) if literal else values[atom]

    for eqn in jaxpr.eqns:
        results = _computed(builder, eqn, [read(atom) for atom in eqn.invars])
        values |= dict(zip(eqn.outvars, results, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _computed(builder: Builder, eqn: Any, operands: list[Value]) -> list[Value]:
    """The results of one equation: what does not depend on the observation is computed now."""
    name, given = eqn.primitive.name, eqn.params
    if name == "platform_index":
        places = [index for index, names in enumerate(given["platforms"]) if names is None]
        return [known(np.int32(places[0] if places else 0))]
    if name == "cond" and not operands[0].name:
        chosen = given["branches"][int(np.asarray(operands[0].constant))]
        return _evaluate(builder, chosen.jaxpr, chosen.consts, operands[1:])
    avals = [var.aval for var in (*eqn.invars, *eqn.outvars)]
    static = all(isinstance(size, int) for aval in avals for size in aval.shape)
    computable = static and not any(each.name for each in operands)
    if name in INLINED and not (computable and name == "jit"):
        inner = given[INLINED[name]]
        consts = getattr(inner, "consts", ())  # a jaxpr that is not closed has none
        return _evaluate(builder, getattr(inner, "jaxpr", inner), consts, operands)
    if computable:
        found = eqn.primitive.bind(*(each.constant for each in operands), **given)
        return [known(each) for each in (found if eqn.primitive.multiple_results else [found])]
    if name not in RULES:
        refuse(f"the operation {name!r} of JAX")
    result = RULES[name](builder, eqn, *operands)
    return [result] if isinstance(result, Value) else list(result)
