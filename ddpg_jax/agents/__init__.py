"""Agents. A new algorithm is a file here and a line below."""

from ddpg_jax.agents.actor_critic import forward, make_agent, track
from ddpg_jax.agents.d4pg import d4pg
from ddpg_jax.agents.ddpg import ddpg
from ddpg_jax.agents.optimization import adam, annealed, optimizers
from ddpg_jax.agents.td3 import td3
from ddpg_jax.agents.td3_categorical import td3_categorical
from ddpg_jax.agents.wrappers import normalize_observations, scale_rewards, with_slot

__all__ = [
    "adam",
    "annealed",
    "d4pg",
    "ddpg",
    "forward",
    "make_agent",
    "normalize_observations",
    "optimizers",
    "scale_rewards",
    "td3",
    "td3_categorical",
    "track",
    "with_slot",
]
