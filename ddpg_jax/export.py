"""Policies as self-contained StableHLO: a file that any JAX runs, without this library."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
from jax import export

if TYPE_CHECKING:
    from ddpg_jax.types import Agent, AgentState

PLATFORMS = ("cpu", "cuda", "tpu")


def policy(agent: Agent, agent_state: AgentState, env: Any) -> export.Exported:
    """The deterministic policy as one function, ``action(observation)``, of batches of any size.

    Parameters and, where the agent has one, the normaliser's statistics are constants in it.

    Args:
        agent, agent_state: what has been trained (one member).
        env: an `ddpg_jax.environment.Environment` or one on the host: for the observation's shape
            and the action's own bounds.

    Returns:
        What ``jax.export`` makes, for CPU, CUDA and TPU: ``call(observation [B, ...]) -> [B, A]``,
            in the environment's units.
        ``bytes(exported.serialize())`` is a file's content.
    """

    def act(observation: Any) -> jax.Array:
        result: jax.Array = env.native_action(agent.act(agent_state, observation))
        return result

    (batch,) = export.symbolic_shape("batch")
    shapes = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct((batch, *x.shape), x.dtype), env.observation
    )
    return export.export(jax.jit(act), platforms=PLATFORMS)(shapes)
