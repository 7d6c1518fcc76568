"""Policies as self-contained StableHLO: a file that any JAX runs, without this library."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
from jax import export

from ddpg_jax.envs.observed import needed, observed

if TYPE_CHECKING:
    from collections.abc import Callable

    from ddpg_jax.types import Agent, AgentState

PLATFORMS = ("cpu", "cuda", "tpu")
"""Platforms that an exported policy runs on."""


def policy(agent: Agent, agent_state: AgentState, env: Any) -> export.Exported:
    """The deterministic policy as one function, ``action(observation)``, of batches of any size.

    Parameters and, where the agent has one, the normaliser's statistics are constants in it.

    Args:
        agent, agent_state: what has been trained (one member).
        env: an `ddpg_jax.environment.Environment` or one on the host: for the observation's shape
            and the action's own bounds.

    Returns:
        What ``jax.export`` makes, for CPU, CUDA and TPU: ``call(observation [B, ...]) -> [B, A]``,
        in the environment's units. Of a dict the observation has the streams that the actor sees,
        and no other. ``bytes(exported.serialize())`` is a file's content.
    """
    completed = observed(env.observation, lambda: [])  # nothing has to be given

    def act(observation: Any) -> jax.Array:
        result: jax.Array = env.native_action(agent.act(agent_state, completed(observation)))
        return result

    (batch,) = export.symbolic_shape("batch")
    own = needed(act, env.observation)
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct((batch, *x.shape), x.dtype), own)
    return export.export(jax.jit(act), platforms=PLATFORMS)(shapes)


def load(path: str | Path) -> Callable[[Any], jax.Array]:
    """The policy in a file of `policy`: ``action(observation [B, ...]) -> [B, A]``, or of any other
    leading axes.

    Streams of a dict that the actor does not see may be given, and are not looked at.

    Raises:
        ValueError: from the function, observations have other names, shapes or dtypes than the
            environment's (`ddpg_jax.envs.observed.observed`).
    """
    loaded = export.deserialize(bytearray(Path(path).read_bytes()))
    without = lambda aval: jax.ShapeDtypeStruct(aval.shape[1:], aval.dtype)
    (shapes,), _ = jax.tree.unflatten(loaded.in_tree, map(without, loaded.in_avals))
    check = observed(shapes)

    def act(given: Any) -> jax.Array:
        if isinstance(shapes, dict) and isinstance(given, Mapping):
            given = {name: part for name, part in given.items() if name in shapes}
        found = check(given)
        first, like = (jax.tree.leaves(tree)[0] for tree in (found, shapes))
        leading = first.shape[: first.ndim - len(like.shape)]
        flat = lambda x, like: x.reshape(math.prod(leading), *like.shape)
        result: jax.Array = loaded.call(jax.tree.map(flat, found, shapes))
        return result.reshape(*leading, *result.shape[1:])

    return act
