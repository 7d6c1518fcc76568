"""Agents. A new algorithm is a file here and a line below."""

from ddpg_jax.agents.actor_critic import actor_critic, forward, optimizers, track
from ddpg_jax.agents.d4pg import d4pg
from ddpg_jax.agents.ddpg import ddpg
from ddpg_jax.agents.td3 import td3
from ddpg_jax.agents.td3_categorical import td3_categorical
from ddpg_jax.agents.wrappers import normalize_observations, scale_rewards

__all__ = [
    "actor_critic",
    "d4pg",
    "ddpg",
    "forward",
    "normalize_observations",
    "optimizers",
    "scale_rewards",
    "td3",
    "td3_categorical",
    "track",
]
