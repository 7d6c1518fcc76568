"""How the parameters of target networks follow the online ones."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from ddpg_jax import checks
from ddpg_jax.types import Numeric, PyTree

Track = Callable[[PyTree, PyTree], PyTree]
"""How targets follow: ``track(params, target_params) -> target_params``, after each update."""


def soft_update(tau: Numeric, copied: Sequence[str] = ()) -> Track:
    r"""Soft update (Polyak averaging) of targets; ``tau`` 1 copies, 0 freezes.

    .. math:: \theta' \leftarrow \tau \theta + (1 - \tau) \theta'

    Args:
        tau: share of the online parameters in each step, in [0, 1].
        copied: names of submodules of a Flax network whose targets are the online parameters
            themselves.

    Raises:
        ValueError: ``tau`` is out of its range.

    Example:
        >>> track = soft_update(0.25)
        >>> float(track(jnp.float32(4.0), jnp.float32(0.0)))
        1.0

    Source: Lillicrap et al. 2015, section 3.
    """
    checks.between(0, 1, tau=tau)

    def track(params: PyTree, target_params: PyTree) -> PyTree:
        moved = jax.tree.map(
            lambda online, target: tau * online + (1 - tau) * target, params, target_params
        )
        newest = {name: hard_update(params["params"][name], None) for name in copied}
        return {"params": moved["params"] | newest} if copied else moved

    return track


def hard_update(params: PyTree, target_params: PyTree) -> PyTree:
    """Targets that are copies of the online parameters: no alias of them, so that a state can be
    donated.
    """
    del target_params
    return jax.tree.map(jnp.copy, params)
