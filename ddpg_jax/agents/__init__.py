"""Agents. A new algorithm is a file here and a line below."""

from ddpg_jax.agents.actor_critic import actor_critic, track
from ddpg_jax.agents.ddpg import ddpg

__all__ = ["actor_critic", "ddpg", "track"]
