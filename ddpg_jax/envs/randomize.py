"""Domain randomisation: a simulator's own numbers, drawn anew for every episode."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from ddpg_jax.environment import ResetResult, SingleEnvironment, SingleStepResult
from ddpg_jax.types import Key, PyTree

Randomize = Callable[[PyTree, Key], Any]
"""``randomize(model, key)``: the physics of one copy."""


@struct.dataclass
class RandomizedState:
    """``state`` of the environment inside; ``system``: the arrays of its system, those alone that
    this episode has for itself.
    """

    state: PyTree
    system: list[Array | None]


def randomized(
    single: Callable[[PyTree], SingleEnvironment],
    system: PyTree,
    randomize: Randomize,
) -> SingleEnvironment:
    """Domain randomisation: every episode is played with a system (masses, friction, gains) drawn
    for it.

    Args:
        single: ``single(system)``: the environment with this system.
        system: as it is; a pytree.
        randomize: ``randomize(system, keys [n]) -> (systems, in_axes)``, as Brax and MuJoCo
            Playground define it: the arrays that vary get a leading axis n. (``in_axes`` says
            which; the axis does too.)

    Source: Tobin et al. 2017 (arXiv:1703.06907); Peng et al. 2018 (arXiv:1710.06537), section IV
    (drawn per episode).
    """
    leaves, structure = jax.tree.flatten(system)

    def using(own: list[Array | None]) -> SingleEnvironment:
        new = [old if drawn is None else drawn for old, drawn in zip(leaves, own, strict=True)]
        return single(jax.tree.unflatten(structure, new))

    def reset(key: Key) -> ResetResult:
        system_key, reset_key = jax.random.split(key)
        drawn = jax.tree.leaves(randomize(system, system_key[None])[0])
        own = [
            new[0] if jnp.ndim(new) > jnp.ndim(old) else None
            for old, new in zip(leaves, drawn, strict=True)
        ]
        state, observation = using(own).reset(reset_key)
        return RandomizedState(state, own), observation

    def step(state: RandomizedState, action: Array, key: Key) -> SingleStepResult:
        inner, *rest = using(state.system).step(state.state, action, key)
        return RandomizedState(inner, state.system), *rest

    plain = single(system)
    # What the environment says with the episode's own system, where it says such a thing.
    own = lambda name: (
        getattr(plain, name)
        and (lambda state, *rest: getattr(using(state.system), name)(state.state, *rest))
    )
    truncated, valid, scene = map(own, ("truncated", "valid", "scene"))
    return SingleEnvironment(
        reset, step, plain.action_size, truncated, valid, scene, goal=plain.goal
    )


def one_by_one(states: PyTree) -> list[PyTree]:
    """The states ``[T, ...]`` of one environment as simulators draw them: one by one and on the
    host.
    """
    states = jax.device_get(states.state if isinstance(states, RandomizedState) else states)
    count = len(jax.tree.leaves(states)[0])
    return [jax.tree.map(lambda x, i=i: x[i], states) for i in range(count)]
