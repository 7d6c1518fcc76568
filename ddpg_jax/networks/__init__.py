"""Flax modules for actors and critics. Nothing here is required: any object with ``init`` and ``apply`` is a network."""

from ddpg_jax.networks.conv import Conv, Features, Seen, Several, Trunk, drq_v2_encoder
from ddpg_jax.networks.layers import BatchNorm, Dense, LayerNorm, NoisyDense, uniform_symmetric
from ddpg_jax.networks.mlp import Actor, Critic, Ensemble, first
from ddpg_jax.networks.streams import stream

__all__ = [
    "Actor",
    "BatchNorm",
    "Conv",
    "Critic",
    "Dense",
    "Ensemble",
    "Features",
    "LayerNorm",
    "NoisyDense",
    "Seen",
    "Several",
    "Trunk",
    "drq_v2_encoder",
    "first",
    "stream",
    "uniform_symmetric",
]
