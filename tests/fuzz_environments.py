"""Environments of a user's own, right and wrong ones, for generated command lines; ``tests/`` is on
the path."""

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np

from ddpg_jax import envs


def good(num_envs, time_limit=5):
    """A pendulum of short episodes."""
    return envs.make("pendulum", num_envs, time_limit=time_limit)


def _mapped(function):
    return lambda num_envs, time_limit=5: envs.map_observation(good(num_envs, time_limit), function)


as_dict = _mapped(lambda x: {"angle": x[:2], "speed": x[2:]})
scalar = _mapped(lambda x: x[0])
image = _mapped(lambda x: jnp.zeros((8, 8, 3), jnp.uint8))
empty = _mapped(lambda x: x[:0])
nothing = _mapped(lambda x: {})
integers = _mapped(lambda x: x.astype(jnp.int32))
not_a_number = _mapped(lambda x: x * jnp.nan)


def without_action(num_envs):
    """Nothing to choose."""
    return good(num_envs)._replace(action=jax.ShapeDtypeStruct((0,), jnp.float32))


def raises(num_envs):
    """Not even made."""
    raise KeyError("model.xml")


def reset_raises(num_envs):
    """Raises when it is traced."""

    def reset(key):
        raise OSError("no such device")

    return good(num_envs)._replace(reset=reset)


def step_raises(num_envs):
    """Raises when it is traced."""

    def step(state, action, key):
        raise RuntimeError("device lost\nand more\nlines")

    return good(num_envs)._replace(step=step)


def three_results(num_envs):
    """`reset` returns one thing too many."""
    env = good(num_envs)
    return env._replace(reset=lambda key: (*env.reset(key), {}))


def drifting(num_envs):
    """Floats first, then integers."""
    env = good(num_envs)

    def step(state, action, key):
        state, now = env.step(state, action, key)
        return state, now.replace(observation=now.observation.astype(jnp.int32))

    return env._replace(step=step)


def number(num_envs):
    """No environment at all."""
    return num_envs


class Host(gymnasium.Env):
    """On the host: ten steps of nothing, with any observation, that may raise."""

    action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,))

    def __init__(self, space, broken=""):
        self.observation_space, self.broken = space, broken

    def reset(self, *, seed=None, options=None):  # noqa: ARG002
        """Begin."""
        super().reset(seed=seed)
        self.observation_space.seed(seed)
        if self.broken == "reset":
            raise OSError("no such device")
        return self.observation_space.sample(), {}

    def step(self, action):  # noqa: ARG002
        """Go on."""
        if self.broken == "step":
            raise RuntimeError("device lost")
        return self.observation_space.sample(), 0.0, False, False, {}


Box, Discrete, Dict = gymnasium.spaces.Box, gymnasium.spaces.Discrete, gymnasium.spaces.Dict
SPACES = {
    "Vector": Box(-1, 1, (2,)),
    "Image": Box(0, 255, (4, 4, 3), np.uint8),
    "Scalar": Box(-1, 1, ()),
    "Empty": Box(-1, 1, (0,)),
    "Discrete": Discrete(3),
    "Dict": Dict({"a": Box(-1, 1, (2,)), "b": Discrete(2)}),
    "Nothing": Dict({}),
    "Integers": Box(0, 9, (2,), np.int32),
    "Text": gymnasium.spaces.Text(3),
}
for name, space in SPACES.items():
    gymnasium.register(f"Fuzz{name}-v0", Host, max_episode_steps=10, kwargs={"space": space})
for broken in ("reset", "step"):
    kwargs = {"space": SPACES["Vector"], "broken": broken}
    gymnasium.register(f"FuzzBroken{broken.title()}-v0", Host, max_episode_steps=10, kwargs=kwargs)
gymnasium.register("FuzzEndless-v0", Host, kwargs={"space": SPACES["Vector"]})
