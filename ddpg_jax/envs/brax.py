"""Brax environments, with automatic reset of our own: true successors, fresh starts, termination apart from time limits."""

import contextlib
import logging
import os
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

from ddpg_jax.envs.autoreset import Single, batch
from ddpg_jax.types import Environment, Key, PyTree

BACKENDS = ("generalized", "positional", "spring", "mjx")
# All of Brax 0.14 but swimmer, which raises on every backend under current JAX (its fluid forces call a removed argument).
NAMES = (
    "ant",
    "fast",
    "halfcheetah",
    "hopper",
    "humanoid",
    "humanoidstandup",
    "inverted_double_pendulum",
    "inverted_pendulum",
    "pusher",
    "reacher",
    "walker2d",
)


def make(name: str, num_envs: int, *, backend: str = "generalized", time_limit: int = 1000, **options: Any) -> Environment:
    """``num_envs`` copies of a Brax environment.

    Args:
        name: one of `NAMES` (without ``brax/``).
        num_envs: E.
        backend: one of `BACKENDS`; results differ much between backends, so name it beside every figure.
        time_limit: steps after which an episode is truncated (Brax's own default is 1000).
        **options: handed to the environment's constructor.

    Raises:
        ValueError: an unknown backend.
        ImportError: Brax is not installed.
    """
    if backend not in BACKENDS:
        raise ValueError(f"unknown Brax backend {backend!r}: choose one of {', '.join(BACKENDS)}.")
    env = _create(name, backend, options)
    fresh = max(1, num_envs // 16)  # a reset costs up to a third of a step; an episode lasts longer than 16 steps
    return batch(single(env), num_envs, time_limit, fresh_per_step=fresh, render=_renderer(env, name, backend, options))


def single(env: Any) -> Single:
    """Any ``brax.envs.Env`` (not wrapped by Brax's own EpisodeWrapper or AutoResetWrapper) as a `Single`."""

    def reset(key: Key) -> tuple[PyTree, PyTree]:
        state = env.reset(key)
        return state, state.obs

    def step(state: PyTree, action: jax.Array, key: Key) -> tuple[PyTree, PyTree, jax.Array, jax.Array]:
        # Brax takes [-1, 1] in every dimension: its environments scale to the actuators' ranges themselves.
        state = env.step(state, jnp.clip(action, -1.0, 1.0))
        return state, state.obs, state.reward, state.done > 0

    return Single(reset, step, env.action_size)


def _create(name: str, backend: str, options: dict[str, Any]) -> Any:
    with _quiet():
        try:
            from brax import envs
        except ImportError as error:
            raise ImportError(f"Brax could not be imported ({error}); install it with: pip install brax") from error
        try:
            return envs.get_environment(name, backend=backend, **options)
        except TypeError as error:
            raise ValueError(f"brax/{name} does not take these options: {error}.") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what Brax and MuJoCo say of themselves on every start: optional engines, maintenance, deprecated attributes."""
    logging.getLogger("absl").setLevel(logging.ERROR)
    with open(os.devnull, "w") as sink, contextlib.redirect_stdout(sink), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            from mujoco import set_mju_user_warning as on_warning
        except ImportError:
            yield
            return
        on_warning(lambda text: None)
        try:
            yield
        finally:
            on_warning(None)


def _renderer(env: Any, name: str, backend: str, options: dict[str, Any]) -> Callable[[PyTree, str], str]:
    def render(states: PyTree, path: str) -> str:
        """Write ``path.html``, Brax's viewer; returns the file's path."""
        from brax.io import html

        states = jax.device_get(states.pipeline_state)
        count = jax.tree.leaves(states)[0].shape[0]
        frames = [jax.tree.map(lambda x, i=i: x[i], states) for i in range(count)]
        path = f"{path}.html"
        with open(path, "w") as file:
            file.write(html.render(env.sys.tree_replace({"opt.timestep": env.dt}), frames))
        return path

    return render
