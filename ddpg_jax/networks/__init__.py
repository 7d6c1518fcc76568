"""Flax modules for actors and critics. Nothing here is required: any object with ``init`` and
``apply`` is a network.
"""

from ddpg_jax.networks.conv import Conv, Features, Trunk, VmappedHead, WithEncoder, drq_v2_encoder
from ddpg_jax.networks.layers import (
    BatchNorm,
    Dense,
    GlorotDense,
    LayerNorm,
    NoisyDense,
    uniform_symmetric,
)
from ddpg_jax.networks.mlp import Actor, Critic, Ensemble, first_critic, inverting
from ddpg_jax.networks.streams import stream
from ddpg_jax.networks.vae import VAE, fit_vae, vae

__all__ = [
    "VAE",
    "Actor",
    "BatchNorm",
    "Conv",
    "Critic",
    "Dense",
    "Ensemble",
    "Features",
    "GlorotDense",
    "LayerNorm",
    "NoisyDense",
    "Trunk",
    "VmappedHead",
    "WithEncoder",
    "drq_v2_encoder",
    "first_critic",
    "fit_vae",
    "inverting",
    "stream",
    "uniform_symmetric",
    "vae",
]
