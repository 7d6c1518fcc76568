"""Networks that see one stream of a dict, or several: an actor what a robot senses, a critic what
the simulator knows.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp

from ddpg_jax.types import Key, Network, PyTree


class Stream(NamedTuple):
    """A network that is given ``observation[name]`` for the observation, its first input, or the
    vectors of several names as one; made by `stream`.
    """

    names: tuple[str, ...]
    network: Network

    def init(self, key: Key, /, observation: PyTree, *inputs: Any) -> PyTree:
        """The network's parameters, for its streams of the observation."""
        return self.network.init(key, self._chosen(observation), *inputs)

    def apply(self, params: PyTree, /, observation: PyTree, *inputs: Any, **options: Any) -> Any:
        """The network's output for its streams of the observation."""
        return self.network.apply(params, self._chosen(observation), *inputs, **options)

    def _chosen(self, observation: PyTree) -> PyTree:
        if not isinstance(observation, dict) or not observation.keys() >= {*self.names}:
            there = (
                f"a dict of {', '.join(observation)}"
                if isinstance(observation, dict)
                else "no dict"
            )
            raise ValueError(
                f"stream {', '.join(map(repr, self.names))}: the observation is {there}; choose a "
                "stream that it has."
            )
        parts = [observation[name] for name in self.names]
        return parts[0] if len(parts) == 1 else jnp.concatenate(parts, axis=-1)


def stream(name: str | tuple[str, ...], network: Network) -> Stream:
    """The same network on one stream of an observation that is a dict, or on several vectors.

    For example::

        agents.td3(stream("state", Actor(8)), stream("privileged_state", Critic()))
        agents.td3(stream(("state", "goal"), Actor(8)), stream(("state", "goal"), Critic()))

    The actor needs nothing but its own stream where it acts; what the critic reads may be known in
    simulation alone (Pinto et al. 2018, arXiv:1710.06542: asymmetric actor-critic). Replay,
    normaliser and windows of multi-step returns take observations of any structure, and keep both
    streams.

    Args:
        name: of the stream; MuJoCo Playground has ``state`` and ``privileged_state``. Vectors of
            several names are joined in this order.
        network: whose first input is an observation.

    Raises:
        ValueError: the observation has no such stream (when traced).
    """
    return Stream((name,) if isinstance(name, str) else name, network)
