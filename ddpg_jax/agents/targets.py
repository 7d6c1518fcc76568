"""How the parameters of target networks follow the online ones."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import jax
import jax.numpy as jnp

from ddpg_jax import checks
from ddpg_jax.agents.minibatches import deal
from ddpg_jax.types import Agent, AgentState, Batch, Key, NetworkState, Numeric, PyTree, Update

Track = Callable[[PyTree, PyTree], PyTree]
"""How targets follow: ``track(params, target_params) -> target_params``, after each update."""


def soft_update(tau: Numeric, copied: Sequence[str] = ()) -> Track:
    r"""Soft update (Polyak averaging) of targets; ``tau`` 1 copies, 0 freezes.

    .. math:: \theta' \leftarrow \tau \theta + (1 - \tau) \theta'

    Args:
        tau: share of the online parameters in each step, in [0, 1].
        copied: names of submodules of a Flax network whose targets are the online parameters
            themselves.

    Raises:
        ValueError: ``tau`` is out of its range.

    Example:
        >>> track = soft_update(0.25)
        >>> float(track(jnp.float32(4.0), jnp.float32(0.0)))
        1.0

    Source: Lillicrap et al. 2015, section 3.
    """
    checks.between(0, 1, tau=tau)

    def track(params: PyTree, target_params: PyTree) -> PyTree:
        moved = jax.tree.map(
            lambda online, target: tau * online + (1 - tau) * target, params, target_params
        )
        newest = {name: hard_update(params["params"][name], None) for name in copied}
        return {"params": moved["params"] | newest} if copied else moved

    return track


def hard_update(params: PyTree, target_params: PyTree) -> PyTree:
    """Targets that are copies of the online parameters: no alias of them, so that a state can be
    donated.
    """
    del target_params
    return jax.tree.map(jnp.copy, params)


def track_after(agent: Agent, updates: int, track: Track) -> Agent:
    """An agent whose targets follow once after so many updates, and stand still in between: a
    schedule, not a branch.

    One update of a batch ``[B]`` makes ``updates`` updates of ``agent`` on as many minibatches
    ``[B / updates]``; metrics are means over them, and `AgentState.step` counts them all.

    Args:
        agent: one whose own targets never move, ``tau=0``.
        updates: at least 1; divides B.
        track: how both targets follow then.

    Raises:
        ValueError: ``updates`` is less than 1, or (from ``update``) does not divide B.

    Source: Andrychowicz et al. 2017 (arXiv:1707.01495), appendix A: once after 40 updates.
    """
    checks.between(1, updates=updates)

    def tracked(network: NetworkState) -> NetworkState:
        return replace(network, target_params=track(network.params, network.target_params))

    def update(state: AgentState, batch: Batch, key: Key, weight: PyTree = None) -> Update:
        keys = jax.random.split(key, updates + 1)
        rows, places = deal(keys[-1], batch.reward.shape[0], updates)
        parts = jax.tree.map(lambda x: x[rows], (batch, weight))

        def step(state: AgentState, given: PyTree) -> tuple[AgentState, PyTree]:
            (batch, weight), key = given
            new = agent.update(state, batch, key, weight)
            return new.state, (new.priority, new.metrics)

        state, (priority, metrics) = jax.lax.scan(step, state, (parts, keys[:-1]))
        state = replace(state, actor=tracked(state.actor), critic=tracked(state.critic))
        means = jax.tree.map(lambda x: jnp.mean(x, axis=0), metrics)
        return Update(state, priority.reshape(-1)[places], means)

    return agent._replace(update=update)
