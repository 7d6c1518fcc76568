"""A replay of two: of what is collected, and of transitions that stay."""

import jax
import jax.numpy as jnp
from flax import struct

from ddpg_jax.types import Key, PyTree, Replay


@struct.dataclass
class MixedState:
    """``online``: of what is collected; ``offline``: of what stays."""

    online: PyTree
    offline: PyTree


def mixed(online: Replay, offline: Replay) -> Replay:
    """Batches of both: the rows of a sample of ``online``, and after them those of one of
    ``offline``, each of the size that its replay was made for.

    ``add`` adds to ``online``. What ``offline`` has is put into its part of the state beforehand,
    by its own ``add``.

    Raises:
        ValueError: one of them samples by priorities, or gives goals in hindsight.

    Source: Ball et al. 2023, "Efficient Online Reinforcement Learning with Offline Data"
    (arXiv:2302.02948), section 4.1: symmetric sampling, with a share of one half.
    """
    if online.update is not None or offline.update is not None:
        raise ValueError(
            "a replay of collected and of offline transitions samples uniformly: leave priorities "
            "out (priority_exponent=0)."
        )
    if online.of_episodes or offline.of_episodes:
        raise ValueError(
            "a replay of collected and of offline transitions has no episodes of the second, which "
            "hindsight needs: leave one of the two out."
        )

    def init(transition: PyTree) -> MixedState:
        return MixedState(online.init(transition), offline.init(transition))

    def add(state: MixedState, *given: PyTree) -> MixedState:
        return MixedState(online.add(state.online, *given), state.offline)

    def sample(state: MixedState, key: Key) -> PyTree:
        keys = jax.random.split(key)
        both = online.sample(state.online, keys[0]), offline.sample(state.offline, keys[1])
        return jax.tree.map(lambda x, y: jnp.concatenate([x, y]), *both)

    return Replay(init, add, sample)
