"""Flax modules for actors and critics. Nothing here is required: any object with ``init`` and ``apply`` is a network."""

from ddpg_jax.networks.layers import BatchNorm, Dense, LayerNorm, NoisyDense, uniform_symmetric
from ddpg_jax.networks.mlp import Actor, Critic, Ensemble, first
from ddpg_jax.networks.streams import stream

__all__ = [
    "Actor",
    "BatchNorm",
    "Critic",
    "Dense",
    "Ensemble",
    "LayerNorm",
    "NoisyDense",
    "first",
    "stream",
    "uniform_symmetric",
]
