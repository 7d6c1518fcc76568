"""Multi-step returns: windows of collected steps turned into transitions."""

from dataclasses import replace

import jax
import jax.numpy as jnp
from flax import struct

from ddpg_jax import checks
from ddpg_jax.types import Array, Numeric, Segment, Transition, Window, zeros


@struct.dataclass
class WindowState:
    """The last steps, oldest first: ``transitions`` ``[n - 1, E, ...]``, and whether an episode
    ended there, ``[n - 1, E]``.
    """

    transitions: Transition
    ended: Array


def n_step(length: int, gamma: Numeric) -> Window:
    r"""n-step returns: the transition that begins at step t covers k = min(n, steps to the end of
    t's episode) steps.

    .. math::

        \text{reward}   &= \sum_{i<k} \gamma^i r_{t+i} \\
        \text{discount} &= \gamma^{k-1} d_{t+k-1}
                        && \text{0 only if the last of these steps terminated} \\
        \text{next observation} &= s_{t+k}
                        && \text{the true successor of the last of these steps}

    so that ``y = reward + gamma discount Q'(next_observation, mu'(next_observation))`` whatever k
    is. Every step begins exactly one transition; none reaches across the end of an episode, be it a
    termination or a time limit, and none is lost there. Where steps may be invalid
    (`ddpg_jax.types.Transition`), none reaches into one, and what one begins is invalid.

    Args:
        length: n, at least 1; 1 gives every transition back as it came.
        gamma: discount factor in [0, 1], the agent's.

    Raises:
        ValueError: a number is out of its range.

    Source: Barth-Maron et al. 2018, section 3 and Algorithm 1. Time limits bootstrap, as in Pardo
    et al. 2018, equation 6.
    """
    checks.between(1, length=length)
    checks.between(0, 1, gamma=gamma)

    def init(transition: Transition) -> WindowState:
        ended = jnp.zeros((length - 1, *transition.reward.shape), bool)
        return WindowState(transitions=zeros(transition, length - 1), ended=ended)

    def push(
        state: WindowState, transition: Transition, ended: Array
    ) -> tuple[WindowState, Transition]:
        def append(window: Array, new: Array) -> Array:
            return jnp.concatenate([window, new[None]])

        def at_last(x: Array) -> Array:
            return x[last, jnp.arange(ended.shape[0])]

        steps = jax.tree.map(append, state.transitions, transition)
        ends = append(state.ended, ended)
        if length > 1 and transition.valid is not None:
            # The step before a breakdown is the last of its episode.
            ends = ends.at[-2].set(ends[-2] | ~transition.valid)
        reward, last = steps.reward[0], jnp.zeros(ended.shape, jnp.int32)
        running = ~ends[0]
        for i in range(1, length):
            reward = reward + jnp.where(running, gamma**i * steps.reward[i], 0.0)
            last = jnp.where(running, i, last)
            running = running & ~ends[i]
        power = jnp.asarray(gamma, reward.dtype) ** last.astype(reward.dtype)
        begun = replace(
            jax.tree.map(lambda x: x[0], steps),
            reward=reward,
            discount=power * at_last(steps.discount),
            next_observation=jax.tree.map(at_last, steps.next_observation),
        )
        return jax.tree.map(lambda x: x[1:], WindowState(transitions=steps, ended=ends)), begun

    def of(segment: Segment) -> Transition:
        steps, number = segment.transitions, jnp.arange(length, dtype=jnp.int32)
        over = (steps.discount == 0).astype(jnp.int32)
        runs = (number[None] < segment.length[:, None]) & (jnp.cumsum(over, axis=1) == over)
        last = jnp.sum(runs, axis=1, dtype=jnp.int32) - 1
        powers = jnp.asarray(gamma, steps.reward.dtype) ** number.astype(steps.reward.dtype)

        def at_last(x: Array) -> Array:
            return x[jnp.arange(x.shape[0]), last]

        first: Transition = jax.tree.map(lambda x: x[:, 0], steps)
        return replace(
            first,
            reward=jnp.sum(jnp.where(runs, powers[None] * steps.reward, 0.0), axis=1),
            discount=powers[last] * at_last(steps.discount),
            next_observation=jax.tree.map(at_last, steps.next_observation),
        )

    return Window(init, push, of, length, gamma)
