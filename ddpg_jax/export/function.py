"""The function that every form of an export holds, and the observations that it is given."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax

from ddpg_jax.envs.observed import needed, observed

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from ddpg_jax.types import Agent, AgentState, PyTree

OBSERVATION = "observation"
"""The name of the input where an observation is one array."""


def policy_function(
    agent: Agent, agent_state: AgentState, env: Any
) -> tuple[Callable[[PyTree], jax.Array], PyTree]:
    """``action(observation)`` of the deterministic policy, in the environment's own units, and the
    shapes of one observation: of a dict the streams that the actor sees, and no other.

    Parameters and, where the agent has one, the normaliser's statistics are constants in it.
    """
    completed = observed(env.observation, lambda: [])  # nothing has to be given

    def act(observation: PyTree) -> jax.Array:
        result: jax.Array = env.native_action(agent.act(agent_state, completed(observation)))
        return result

    return act, needed(act, env.observation)


def batched(shapes: PyTree) -> PyTree:
    """The same shapes with a leading axis of any size, called ``batch``."""
    (batch,) = jax.export.symbolic_shape("batch")
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct((batch, *x.shape), x.dtype), shapes)


def named(tree: PyTree) -> dict[str, Any]:
    """The leaves of an observation, in order, by the names of their streams."""
    leaves = jax.tree.leaves_with_path(tree)
    name: Any = lambda path: jax.tree_util.keystr(path, simple=True, separator="/")
    return {name(path) or OBSERVATION: leaf for path, leaf in leaves}


def output_name(inputs: Collection[str]) -> str:
    """The name of the output: ``action``, unless a stream is called so."""
    return "native_action" if "action" in inputs else "action"
