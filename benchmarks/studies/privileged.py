"""Tasks for a critic that knows more than the actor: pendulum seen through noise, and a humanoid
that feels no speed.

    ddpg-jax train benchmarks.studies.privileged:make --preset fast-td3 --num-envs 64 --batch-size
    512 ...

As of MuJoCo Playground's humanoids, an observation is a dict: ``state``, which the actor reads, and
``privileged_state``, which the simulator alone knows.
"""

from typing import Any

import jax
import jax.numpy as jnp

from ddpg_jax import envs
from ddpg_jax.environment import Environment, SingleEnvironment
from ddpg_jax.types import Key, PyTree

NOISE = jnp.array([0.1, 0.1, 1.0])
"""Standard deviations, of cosine, sine and speed (rad/s)."""


def make(num_envs: int, time_limit: int = 200) -> Environment:
    """``num_envs`` pendulums."""
    single = envs.make("pendulum", 1).single
    assert single is not None

    def seen(observation: jax.Array, key: Key) -> PyTree:
        noisy = observation + NOISE * jax.random.normal(key, observation.shape)
        return {"state": noisy, "privileged_state": observation}

    def reset(key: Key) -> tuple[PyTree, PyTree]:
        state, observation = single.reset(key)
        return state, seen(observation, jax.random.fold_in(key, 1))

    def step(
        state: PyTree, action: jax.Array, key: Key
    ) -> tuple[PyTree, PyTree, jax.Array, jax.Array]:
        state, observation, reward, terminated = single.step(state, action, key)
        return state, seen(observation, key), reward, terminated

    return envs.batch(SingleEnvironment(reset, step, single.action_size), num_envs, time_limit)


COM_VELOCITY = slice(37, 40)
"""Of its centre of mass, in what it shows: 21 angles, its height, 12 numbers of its extremities, 3
of its torso, and this.
"""


def humanoid(num_envs: int, **options: Any) -> Environment:
    """``playground/HumanoidWalk``; the actor does not know how fast it is going, as a robot without
    a camera.
    """

    def streams(observation: jax.Array) -> PyTree:
        known = jnp.concatenate(
            [observation[: COM_VELOCITY.start], observation[COM_VELOCITY.stop :]]
        )
        return {"state": known, "privileged_state": observation}

    return envs.map_observation(envs.make("playground/HumanoidWalk", num_envs, **options), streams)
