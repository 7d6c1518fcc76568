"""Agents. A new algorithm is a file here and a line below."""

from ddpg_jax.agents.actor_critic import ActorLoss, CriticLoss, forward, make_agent
from ddpg_jax.agents.augment import augment
from ddpg_jax.agents.d4pg import d4pg
from ddpg_jax.agents.ddpg import ddpg
from ddpg_jax.agents.drq_v2 import drq_v2
from ddpg_jax.agents.optimization import adam, annealed, optimizers
from ddpg_jax.agents.targets import hard_update, soft_update, track_after
from ddpg_jax.agents.td3 import td3
from ddpg_jax.agents.td3_categorical import td3_categorical
from ddpg_jax.agents.wrappers import (
    encode_observations,
    normalize_observations,
    scale_rewards,
    scheduled,
    with_slot,
)

__all__ = [
    "ActorLoss",
    "CriticLoss",
    "adam",
    "annealed",
    "augment",
    "d4pg",
    "ddpg",
    "drq_v2",
    "encode_observations",
    "forward",
    "hard_update",
    "make_agent",
    "normalize_observations",
    "optimizers",
    "scale_rewards",
    "scheduled",
    "soft_update",
    "td3",
    "td3_categorical",
    "track_after",
    "with_slot",
]
