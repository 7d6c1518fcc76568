"""Policies as self-contained StableHLO: a file that any JAX runs, without this library."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
from jax import export

from ddpg_jax.export.function import batched, policy_function

if TYPE_CHECKING:
    from collections.abc import Callable

    from ddpg_jax.types import Agent, AgentState, PyTree

PLATFORMS = ("cpu", "cuda", "tpu")
"""Platforms that an exported policy runs on."""


def policy(agent: Agent, agent_state: AgentState, env: Any) -> export.Exported:
    """The deterministic policy as one function, ``action(observation)``, of batches of any size.

    Parameters and, where the agent has one, the normaliser's statistics are constants in it. JAX
    guarantees that a version up to 6 months newer, or 3 weeks older, reads it.

    Args:
        agent, agent_state: what has been trained (one member).
        env: an `ddpg_jax.environment.Environment` or one on the host: for the observation's shape
            and the action's own bounds.

    Returns:
        What ``jax.export`` makes, for CPU, CUDA and TPU: ``call(observation [B, ...]) -> [B, A]``,
        in the environment's units. Of a dict the observation has the streams that the actor sees,
        and no other. ``bytes(exported.serialize())`` is a file's content.
    """
    act, shapes = policy_function(agent, agent_state, env)
    return export.export(jax.jit(act), platforms=PLATFORMS)(batched(shapes))


def read(content: bytes) -> tuple[Callable[[PyTree], Any], PyTree]:
    """``action(observation [B, ...])`` of a file, and the shapes of one observation."""
    loaded = export.deserialize(bytearray(content))
    without = lambda aval: jax.ShapeDtypeStruct(aval.shape[1:], aval.dtype)
    (shapes,), _ = jax.tree.unflatten(loaded.in_tree, map(without, loaded.in_avals))
    return loaded.call, shapes
