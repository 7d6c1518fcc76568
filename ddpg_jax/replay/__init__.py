"""Experience replay on the device. Storage and sampling are two things: `ring` keeps rows, the others draw from it."""

from ddpg_jax.replay.prioritised import prioritised
from ddpg_jax.replay.ring import uniform

__all__ = ["prioritised", "uniform"]
