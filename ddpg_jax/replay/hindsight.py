"""Hindsight: steps whose goal is replaced by one that was reached later, drawn from a ring of
single steps at a cost of O(batch).
"""

import functools
from collections.abc import Callable
from dataclasses import replace

import jax
import jax.numpy as jnp
from flax import struct

from ddpg_jax import checks
from ddpg_jax.environment import ACHIEVED, DESIRED, WITH_GOALS, Goal
from ddpg_jax.replay.episode_dealing import deal_episodes
from ddpg_jax.replay.ring import ONE_WORD, below, stored
from ddpg_jax.replay.rows import LARGEST, rows
from ddpg_jax.types import (
    Array,
    Key,
    Numeric,
    PyTree,
    Replay,
    Segment,
    Storage,
    Transition,
    Window,
)


@struct.dataclass
class Running:
    """The step that comes next, ``[E]`` each: which of its episode, from 0, and which episode of
    its environment, modulo one more than can be stored.
    """

    step: Array
    episode: Array


@struct.dataclass
class HindsightState:
    """``ring``: single steps, row ``slot * E + environment``, those that are not valid among them.
    ``places: [C, 2]``: of each row the step, or -1 where there is none, and the episode, as of
    `Running`. ``lengths: [E, C / E + 1]``: the steps of each episode, of a running one so far.
    ``order: [C]``: the rows that have a step, one after the other, a ring itself; ``end``: the
    place in it that is filled next, and ``starts: [C / E]`` the one that was when a slot was, both
    modulo 2 C, so that a full ring is no empty one. Adding reads nothing of what it writes: XLA
    would copy all of it first.
    """

    ring: PyTree
    places: Array
    lengths: Array
    running: Running
    order: Array
    starts: Array
    end: Array

    def cut(self, where: Array | bool = True) -> "HindsightState":
        """The running episodes end here, as by a time limit, because what follows is of others; of
        some environments alone, or of some members, ``where`` is True.
        """
        now, episodes = self.running, self.lengths.shape[-1]
        begun = where & (now.step > 0)
        return replace(
            self,
            running=Running(
                jnp.where(begun, 0, now.step),
                jnp.where(begun, (now.episode + 1) % episodes, now.episode),
            ),
        )


Offset = Callable[[Array, Array, Array], Array]
"""``offset(bits, earlier, later)``: how many steps away a goal is taken, ``[B]`` int32, from
uniform uint32 ``bits`` and how many steps of the episode are stored before and after each row.
"""


def future(bits: Array, earlier: Array, later: Array) -> Array:
    """A later step of the episode or the step itself, all alike."""
    return below(later + 1, bits[None])


def final(bits: Array, earlier: Array, later: Array) -> Array:
    """The last step of the episode, or of what is known of it."""
    return later


def episode(bits: Array, earlier: Array, later: Array) -> Array:
    """Any step of the episode that is stored, all alike."""
    return below(earlier + later + 1, bits[None]) - earlier


STRATEGIES: dict[str, Offset] = {"future": future, "final": final, "episode": episode}
"""Where goals are taken from, by the names of Andrychowicz et al. 2017, section 4.5."""


def hindsight(
    capacity: int,
    batch_size: int,
    goal: Goal,
    *,
    num_envs: int,
    strategy: Offset = future,
    goals_per_step: Numeric = 4,
    window: Window | None = None,
    storage: Callable[[int], Storage] = rows,
) -> Replay:
    r"""A ring of the last ``capacity`` steps, sampled uniformly, of which a share of
    ``goals_per_step / (goals_per_step + 1)`` is given a goal that its episode reached.

    Of a step with another goal g' all that depends on the goal is computed anew, for each of the n
    steps of its return:

    .. math::

        r_t' = \text{reward}(\text{achieved}_{t+1}, g')

    and where `Goal.ends`, an episode that ended by reaching its own goal did not end there, and
    ends where g' is reached: the return is cut there, with discount 0. One that terminated for
    another reason still does. The newest episode of each environment, which has not ended, counts
    as far as it is known.

    ``add`` takes the single steps ``[E, ...]`` of the same environments in the same order, and
    ``ended: [E]``; a step that is not ``valid`` is no part of an episode, and ends the one before.

    Args:
        capacity: steps kept, a multiple of ``num_envs``.
        batch_size, storage: as in `ddpg_jax.replay.uniform`.
        goal: of the environment.
        num_envs: E.
        strategy: one of `STRATEGIES`, or another function of that kind.
        goals_per_step: k, at least 0: k of k + 1 rows are given another goal, each by a draw of its
            own; 0 gives every row back as it came.
        window: `ddpg_jax.returns.n_step`, for n-step returns; None is of single steps.

    Raises:
        ValueError: a number is out of its range, or (from ``init``) the observation is no dict of
            `ddpg_jax.environment.WITH_GOALS`, or its achieved and desired goals differ in shape or
            dtype.

    Source: Andrychowicz et al. 2017 (arXiv:1707.01495), Algorithm 1 and section 4.5.

    Differs from the paper: goals are drawn when a step is sampled, not stored with it; so k may be
    any number, and a step is sampled with ever new goals.
    """
    ring = stored(capacity, batch_size, storage)
    length = 1 if window is None else window.length
    checks.between(1, num_envs=num_envs)
    checks.between(1, LARGEST // 2, capacity=capacity)
    checks.between(0, goals_per_step=goals_per_step)
    if capacity % num_envs:
        raise ValueError(
            f"capacity={capacity} is not a multiple of num_envs={num_envs}: choose for example "
            f"{max(1, capacity // num_envs) * num_envs}."
        )
    slots, share = capacity // num_envs, goals_per_step / (goals_per_step + 1)

    def init(transition: Transition) -> HindsightState:
        require_goals(transition.observation)
        return HindsightState(
            ring=ring.init(transition),
            places=jnp.full((capacity, 2), -1, jnp.int32),
            lengths=jnp.zeros((num_envs, slots + 1), jnp.int32),
            running=Running(*jnp.zeros((2, num_envs), jnp.int32)),
            order=jnp.zeros(capacity, jnp.int32),
            starts=jnp.zeros(slots, jnp.int32),
            end=jnp.int32(0),
        )

    def sample(state: HindsightState, key: Key) -> Transition:
        words = jax.random.bits(key, (4, batch_size), jnp.uint32)  # one draw, one kernel
        oldest = jnp.where(state.ring.size == capacity, state.ring.position // num_envs, 0)
        start = state.starts[oldest]
        count = (state.end - start) % (2 * capacity)
        number = below(jnp.maximum(count, 1), words[: 1 + (capacity > ONE_WORD)])
        row = state.order[(start + number) % capacity]
        step, episode = state.places[row].T
        later = state.lengths[row % num_envs, episode] - 1 - step
        earlier = jnp.minimum(step, (row // num_envs - oldest) % slots)

        def after(steps: Array) -> Transition:
            found: Transition = ring.get(state.ring, (row + steps * num_envs) % capacity)
            return found

        numbers = jnp.arange(length, dtype=jnp.int32)
        steps = jax.vmap(after, out_axes=1)(jnp.minimum(numbers[:, None], later[None]))
        if not checks.is_zero(goals_per_step):
            reached = after(strategy(words[2], earlier, later)).next_observation[ACHIEVED]
            chosen = (words[3] >> 8).astype(jnp.float32) * 2.0**-24 < share
            steps = relabelled(goal, steps, reached, chosen)
        segment = Segment(steps, jnp.minimum(later + 1, length))
        return jax.tree.map(lambda x: x[:, 0], steps) if window is None else window.of(segment)

    add = functools.partial(_add, ring=ring)
    deal = None if ring.deal is None else functools.partial(deal_episodes, ring.deal, capacity)
    return Replay(init, add, sample, deal=deal, of_episodes=True)


def _add(
    state: HindsightState,
    transitions: Transition,
    valid: Array | None = None,
    *,
    ended: Array,
    ring: Storage,
) -> HindsightState:
    """Write one step of all environments, and where its rows are in their episodes."""
    (num_envs, episodes), capacity = state.lengths.shape, len(state.order)
    valid = jnp.ones(num_envs, bool) if valid is None else valid
    position, now = state.ring.position, state.running
    order = (state.end + jnp.cumsum(valid, dtype=jnp.int32) - 1) % capacity
    environments = jnp.arange(num_envs, dtype=jnp.int32)
    ends, length = ended | ~valid, now.step + valid.astype(jnp.int32)
    write = jax.lax.dynamic_update_slice_in_dim
    return HindsightState(
        ring=ring.add(state.ring, transitions),
        places=write(
            state.places,
            jnp.stack([jnp.where(valid, now.step, -1), now.episode], axis=1),
            position,
            axis=0,
        ),
        lengths=state.lengths.at[environments, jnp.where(valid, now.episode, episodes)].set(
            length, mode="drop"
        ),
        running=Running(
            jnp.where(ends, 0, length),
            jnp.where(ends & (length > 0), (now.episode + 1) % episodes, now.episode),
        ),
        order=state.order.at[jnp.where(valid, order, capacity)].set(
            position + environments, mode="drop"
        ),
        starts=write(state.starts, state.end[None], position // num_envs, axis=0),
        end=(state.end + jnp.sum(valid, dtype=jnp.int32)) % (2 * capacity),
    )


def relabelled(goal: Goal, steps: Transition, reached: PyTree, chosen: Array) -> Transition:
    """Steps ``[B, n, ...]`` of which those ``chosen: [B]`` have the goals ``reached: [B, ...]``."""

    def one(step: Transition, reached: PyTree, chosen: Array) -> Transition:
        own, achieved = step.observation[DESIRED], step.next_observation[ACHIEVED]
        aim = jax.tree.map(lambda new, old: jnp.where(chosen, new, old), reached, own)

        def aimed(observation: PyTree) -> PyTree:
            return observation | {DESIRED: aim}

        reward = jnp.where(chosen, goal.reward(achieved, aim), step.reward)
        discount = step.discount
        if goal.ends:
            other = (discount == 0) & ~goal.success(achieved, own)
            over = other | goal.success(achieved, aim)
            discount = jnp.where(chosen, 1.0 - over.astype(discount.dtype), discount)
        return replace(
            step,
            observation=aimed(step.observation),
            next_observation=aimed(step.next_observation),
            reward=reward.astype(step.reward.dtype),
            discount=discount,
        )

    of_steps = jax.vmap(one, in_axes=(0, None, None))
    made: Transition = jax.vmap(of_steps)(steps, reached, chosen)
    return made


def require_goals(observation: PyTree) -> None:
    """Refuse an observation without goals, or with goals of two kinds.

    Raises:
        ValueError: it is no dict of the three names, or the goals differ in shape or dtype.
    """
    if not isinstance(observation, dict) or not {*WITH_GOALS} <= observation.keys():
        given = ", ".join(observation) if isinstance(observation, dict) else "no dict"
        raise ValueError(
            f"hindsight needs an observation that is a dict of {', '.join(WITH_GOALS)}, and it is "
            f"{given}: choose an environment with goals, or leave hindsight out."
        )
    achieved, desired = (
        jax.tree.map(lambda x: (jnp.shape(x), jnp.result_type(x)), observation[name])
        for name in (ACHIEVED, DESIRED)
    )
    if achieved != desired:
        raise ValueError(
            f"hindsight puts achieved goals in the place of desired ones, and achieved_goal is "
            f"{achieved} where desired_goal is {desired}: both must be alike."
        )
