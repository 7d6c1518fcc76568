"""SBX's DDPG and TD3 as contestants: updates alone, loops with Gymnasium, compiled programs."""

import functools
import importlib.util
import time
from collections.abc import Callable
from typing import Any

import click
import gymnasium
import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import workloads

INSTALL = "sbx-rl"
DELAY = {"ddpg": 1, "td3": workloads.POLICY_DELAY}
STEPS = 100
"""Of a compiled program."""


def installed() -> bool:
    """Return whether SBX is here."""
    return importlib.util.find_spec("sbx") is not None


def package() -> Any:
    """Return SBX.

    Raises:
        click.ClickException: it is not installed.
    """
    try:
        import sbx
    except ImportError as error:
        raise click.ClickException(
            f"SBX could not be imported ({error}); install it with: pip install {INSTALL}"
        ) from error
    return sbx


def algorithm(agent: str) -> Any:
    """Return SBX's class of an agent."""
    return {"ddpg": package().DDPG, "td3": package().TD3}[agent]


class Still(gymnasium.Env):
    """An environment that costs nothing and never ends; only its shapes matter."""

    def __init__(self, observations: int, actions: int) -> None:
        """Observe and accept so many numbers."""
        box = gymnasium.spaces.Box
        self.observation_space = box(-np.inf, np.inf, (observations,), np.float32)
        self.action_space = box(-1.0, 1.0, (actions,), np.float32)
        self._random = np.random.default_rng(0)

    def reset(self, **_: Any) -> tuple[np.ndarray, dict[str, Any]]:
        """Return noise."""
        return self._observe(), {}

    def step(self, _: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Return noise."""
        return self._observe(), float(self._random.standard_normal()), False, False, {}

    def _observe(self) -> np.ndarray:
        return self._random.standard_normal(self.observation_space.shape, np.float32)


def _synchronised(model: Any, work: Callable[[], Any]) -> None:
    work()
    jax.block_until_ready((model.policy.actor_state, model.policy.qf_state))


class Updates:
    """A call makes ``steps`` updates; ``compile_seconds`` are those of the first call."""

    def __init__(
        self,
        agent: str,
        *,
        hidden: int,
        batch_size: int,
        steps: int,
        observations: int = 17,
        actions: int = 6,
        capacity: int = 20_000,
    ) -> None:
        """Fill the replay and compile."""
        self._model = algorithm(agent)(
            "MlpPolicy",
            Still(observations, actions),
            policy_kwargs={"net_arch": [hidden, hidden]},
            buffer_size=capacity,
            learning_starts=capacity,
        )
        self._model.learn(capacity)
        self._work = functools.partial(self._model.train, steps, batch_size)
        begin = time.perf_counter()
        self()
        self.compile_seconds = time.perf_counter() - begin

    def __call__(self) -> None:
        """Update, and wait for the result."""
        _synchronised(self._model, self._work)


def host_loop(
    env: str,
    num_envs: int,
    steps: int,
    *,
    hidden: int,
    batch_size: int,
    learning_starts: int,
    capacity: int,
) -> Callable[[], None]:
    """Return a call of ``steps`` environment steps of TD3 and one update for each."""
    from stable_baselines3.common.env_util import make_vec_env

    model = algorithm("td3")(
        "MlpPolicy",
        make_vec_env(env, num_envs),
        policy_kwargs={"net_arch": [hidden, hidden]},
        buffer_size=capacity,
        batch_size=batch_size,
        learning_starts=learning_starts,
        train_freq=1,
        gradient_steps=num_envs,
        policy_delay=DELAY["td3"],
    )
    model.learn(learning_starts + 10)
    work = functools.partial(model.learn, steps, reset_num_timesteps=False)
    return lambda: _synchronised(model, work)


def lowered(
    agent: str, place: Callable[[Any], Any], *, width: int = 256, batch_size: int = 256
) -> jax.stages.Lowered:
    """Return SBX's own scan of gradient steps on batches that the host has drawn.

    Args:
        agent: its name.
        place: puts shapes where the program is to run.
        width: of the two hidden layers.
        batch_size: of a critic step.
    """
    made, still = algorithm(agent), Still(workloads.OBSERVATIONS, workloads.ACTIONS)
    from sbx.common.type_aliases import ReplayBufferSamplesNp

    model = made("MlpPolicy", still, policy_kwargs={"net_arch": [width, width]}, buffer_size=1)
    column = lambda *shape: jax.ShapeDtypeStruct((STEPS * batch_size, *shape), jnp.float32)
    data = ReplayBufferSamplesNp(
        observations=column(workloads.OBSERVATIONS),
        actions=column(workloads.ACTIONS),
        next_observations=column(workloads.OBSERVATIONS),
        dones=column(),
        rewards=column(),
        discounts=column(),
    )
    states = (model.policy.qf_state, model.policy.actor_state, model.key)
    data, (critic, actor, key) = place((data, jax.tree.map(jnp.asarray, states)))
    delay, noise = (model.policy_delay, 0), (model.target_policy_noise, model.target_noise_clip)
    function = made._train.__func__
    return function.lower(made, model.tau, STEPS, data, *delay, *noise, critic, actor, key)
