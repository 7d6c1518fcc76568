"""Experience replay on the device. Storage and sampling are two things: `rows` keeps transitions, the others draw from it."""

from ddpg_jax.replay.prioritised import prioritised
from ddpg_jax.replay.ring import uniform
from ddpg_jax.replay.rows import rows

__all__ = ["prioritised", "rows", "uniform"]
