"""An agent that sees the codes of images instead of the images."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from ddpg_jax.agents.wrappers import with_parts, with_slot
from ddpg_jax.types import Agent, AgentState, Key, Metrics, PyTree

SLOT = "encoder"


def coded(
    agent: Agent, encode: Callable[[PyTree, jax.Array], jax.Array], fit: Callable[[Key], PyTree], *, slot: str = SLOT
) -> Agent:
    """Show the agent one vector: the code of each image of an observation, and what else is in it.

    ``fit`` is called once, in ``init``: what it learns stays as it is, in ``AgentState.slots[slot]``, where checkpoints and
    exports have it. Replay stores images, and the codes are made of them in each update.

    Args:
        agent: any agent of vectors.
        encode: ``encode(params, images [..., H, W, C]) -> [..., Z]``.
        fit: ``fit(key) -> params``; consumes its key, one that ``init`` split off.
        slot: the name of the parameters.

    An image is a leaf of dtype uint8, whose last three axes are ``H, W, C``; any other leaf is a vector ``[..., O]``.

    Raises:
        ValueError: from ``init``, the slot is taken.
    """

    def shown(params: PyTree, observation: PyTree) -> jax.Array:
        one = lambda x: encode(params, x) if x.dtype == jnp.uint8 else x.astype(jnp.float32)
        return jnp.concatenate([one(x) for x in jax.tree.leaves(observation)], axis=-1)

    def init(key: Key, observation: PyTree, action: jax.Array) -> AgentState:
        fit_key, agent_key = jax.random.split(key)
        params = fit(fit_key)
        return with_slot(agent.init(agent_key, shown(params, observation), action), slot, params)

    def act(state: AgentState, observation: PyTree) -> jax.Array:
        return agent.act(state, shown(state.slots[slot], observation))

    def update(state: AgentState, batch: Any, key: Key, weight: jax.Array | None = None) -> tuple[AgentState, Metrics]:
        parts = {name: shown(state.slots[slot], getattr(batch, name)) for name in ("observation", "next_observation")}
        return agent.update(state, with_parts(batch, **parts), key, weight)

    def observe(state: AgentState, observation: PyTree) -> AgentState:
        assert agent.observe is not None
        return agent.observe(state, shown(state.slots[slot], observation))

    return Agent(init, act, update, None if agent.observe is None else observe)
