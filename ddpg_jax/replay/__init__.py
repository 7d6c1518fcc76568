"""Experience replay on the device. Storage and sampling are two things: `rows` and `frames` keep,
the others draw.
"""

from ddpg_jax.replay.frames import frames
from ddpg_jax.replay.hindsight import hindsight
from ddpg_jax.replay.mixed import mixed
from ddpg_jax.replay.prioritised import prioritised
from ddpg_jax.replay.ring import uniform
from ddpg_jax.replay.rows import rows

__all__ = ["frames", "hindsight", "mixed", "prioritised", "rows", "uniform"]
