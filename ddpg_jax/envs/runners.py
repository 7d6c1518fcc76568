"""What runs the environments that `ddpg_jax.envs.check` looks at, on the device or on the host."""

from typing import Any

import jax
import numpy as np

from ddpg_jax import checks
from ddpg_jax.environment import Environment, HostEnvironment, StepResult
from ddpg_jax.envs.drift import drift
from ddpg_jax.types import PyTree


class DeviceRunner:
    """Environments on the device, each program compiled once."""

    def __init__(self, env: Environment) -> None:
        self.env, self._traces = env, 0

        def step(*given: Any) -> StepResult:
            self._traces += 1
            return env.step(*given)

        # A simulator is slow to compile: two programs serve all that is looked at.
        self._reset, self._step = jax.jit(env.reset), jax.jit(step)

    def reset(self, seed: int) -> PyTree:
        """Begin; observations ``[E, ...]``."""
        reset_key, self._key = jax.random.split(jax.random.key(seed))
        self._state, observation = self._reset(reset_key)
        return observation

    def step(self, action: np.ndarray) -> Any:
        """One vector step; a `ddpg_jax.environment.TimeStep`."""
        self._key, key = jax.random.split(self._key)
        self._state, now = self._step(self._state, action, key)
        return now

    def shapes(self) -> list[str]:
        """Findings about shapes and dtypes."""
        env, key = self.env, jax.random.key(0)
        try:
            state, observation = jax.eval_shape(env.reset, key)
            after, now = jax.eval_shape(env.step, state, random_actions(env, 0), key)
        except Exception as error:
            said = f"{type(error).__name__}: {checks.first_line(error)}"
            said = str(error) if isinstance(error, checks.BrokenEnvironment) else said
            return [f"reset or step cannot be traced by JAX: {said}"]
        return drift(env, observation, now, {"the state after a step": (after, state)})

    def compiles(self) -> list[str]:
        """Findings about compilation, after the play."""
        if self._traces > 1:
            return [
                f"step was traced {self._traces} times: a dtype or weak type drifts "
                "(`ddpg_jax.types.strong` mends it)"
            ]
        return []


class HostRunner:
    """Environments on the host."""

    def __init__(self, env: HostEnvironment) -> None:
        self.env, self.reset, self.step = env, env.reset, env.step

    def shapes(self) -> list[str]:
        """Findings about shapes and dtypes."""
        return drift(self.env, self.reset(0), self.step(random_actions(self.env, 0)))

    def compiles(self) -> list[str]:
        """Findings about compilation, after the play."""
        return []


Runner = DeviceRunner | HostRunner
"""What plays an environment for `ddpg_jax.envs.check`."""


def random_actions(env: Environment | HostEnvironment, seed: int) -> np.ndarray:
    """Uniform actions ``[E, A]``."""
    actions = np.random.default_rng(seed).uniform(-1, 1, (env.num_envs, *env.action.shape))
    return actions.astype(env.action.dtype)
