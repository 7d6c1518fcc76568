"""Images shifted at random, before an agent learns from them."""

import jax
import jax.numpy as jnp

from ddpg_jax import checks
from ddpg_jax.agents.minibatches import with_parts
from ddpg_jax.types import Agent, AgentState, Array, Batch, Key, PyTree, Update


def augment(agent: Agent, *, pad: int = 4) -> Agent:
    """Shift every image that the agent learns from by up to ``pad`` pixels along both axes, each by
    its own random shift.

    An image (a leaf of dtype uint8, ``[B, H, W, C]``) is padded by its border and cut out again at
    a place drawn from {0, ..., 2 pad} along each axis: one draw for all images of an observation,
    another for those of its successor. Acting sees images as they are.

    Args:
        agent: any agent; what of its observations is no image it sees unchanged.
        pad: pixels, at least 1.

    ``update`` consumes its key.

    Raises:
        ValueError: ``pad`` is less than 1; from ``update``, no leaf of an observation is an image,
            or one is of another dtype.

    Source: Yarats et al. 2021 (DrQ-v2, arXiv:2107.09645), section 3.1, and its code, which pads by
    the border. Its bilinear interpolation is between whole pixels there, so that nothing is
    interpolated.
    """
    checks.between(1, pad=pad)

    def update(state: AgentState, batch: Batch, key: Key, weight: Array | None = None) -> Update:
        update_key, shift_key = jax.random.split(key)
        shifts = jax.random.randint(
            shift_key, (2, batch.reward.shape[0], 2), 0, 2 * pad + 1, jnp.int32
        )
        shown = with_parts(
            batch,
            observation=_moved(batch.observation, shifts[0], pad),
            next_observation=_moved(batch.next_observation, shifts[1], pad),
        )
        return agent.update(state, shown, update_key, weight)

    return agent._replace(update=update)


def _moved(observation: PyTree, shifts: Array, pad: int) -> PyTree:
    checks.require_image("augment", observation, leading=1)
    return jax.tree.map(lambda x: shifted(x, shifts, pad) if checks.is_image(x) else x, observation)


def shifted(images: Array, shifts: Array, pad: int) -> Array:
    """``images: [B, H, W, C]``, padded by their border and cut out at ``shifts: [B, 2]``: one
    gather of B windows.
    """
    padded = jnp.pad(images, ((0, 0), (pad, pad), (pad, pad), (0, 0)), mode="edge")

    def window(image: Array, shift: Array) -> Array:
        return jax.lax.dynamic_slice(image, (shift[0], shift[1], 0), images.shape[1:])

    return jax.vmap(window)(padded, shifts)
