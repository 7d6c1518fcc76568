"""Domain randomisation: a simulator's own numbers, drawn anew for every episode."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from ddpg_jax.environment import SingleEnvironment
from ddpg_jax.types import Key, PyTree


@struct.dataclass
class RandomizedState:
    """``state`` of the environment inside; ``system``: those arrays of its system that this episode
    has for itself.
    """

    state: PyTree
    system: list[jax.Array]


def randomized(
    single: Callable[[PyTree], SingleEnvironment],
    system: PyTree,
    randomize: Callable[[PyTree, Key], Any],
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

    def draw(key: Key) -> tuple[list[int], list[jax.Array]]:
        systems, _ = randomize(system, key[None])
        drawn = jax.tree.leaves(systems)
        varied = [
            index for index, leaf in enumerate(drawn) if jnp.ndim(leaf) > jnp.ndim(leaves[index])
        ]
        return varied, [drawn[index][0] for index in varied]

    varied: list[int] = []
    jax.eval_shape(lambda key: varied.extend(draw(key)[0]), jax.random.key(0))

    def using(own: list[jax.Array]) -> SingleEnvironment:
        new = list(leaves)
        for index, leaf in zip(varied, own, strict=True):
            new[index] = leaf
        return single(jax.tree.unflatten(structure, new))

    def reset(key: Key) -> tuple[RandomizedState, PyTree]:
        system_key, reset_key = jax.random.split(key)
        own = draw(system_key)[1]
        state, observation = using(own).reset(reset_key)
        return RandomizedState(state=state, system=own), observation

    def step(
        state: RandomizedState, action: jax.Array, key: Key
    ) -> tuple[RandomizedState, PyTree, jax.Array, jax.Array]:
        inner, *rest = using(state.system).step(state.state, action, key)
        return RandomizedState(state=inner, system=state.system), *rest

    plain = single(system)

    def own(name: str) -> Callable[..., Any] | None:
        """What the environment says with the episode's own system, where it says such a thing."""
        return (
            None
            if getattr(plain, name) is None
            else lambda state, *rest: getattr(using(state.system), name)(state.state, *rest)
        )

    return SingleEnvironment(
        reset, step, plain.action_size, own("truncated"), own("valid"), own("scene")
    )


def one_by_one(states: PyTree) -> list[PyTree]:
    """The states ``[T, ...]`` of one environment as simulators draw them: one by one and on the
    host.
    """
    states = jax.device_get(states.state if isinstance(states, RandomizedState) else states)
    count = jax.tree.leaves(states)[0].shape[0]
    return [jax.tree.map(lambda x, i=i: x[i], states) for i in range(count)]
