"""Brax environments, with automatic reset of our own: true successors, fresh starts, termination
apart from time limits.
"""

import copy
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from ddpg_jax.environment import Environment, Renderer, SingleEnvironment
from ddpg_jax.envs import quiet
from ddpg_jax.envs.autoreset import batch
from ddpg_jax.envs.randomize import one_by_one, randomized
from ddpg_jax.envs.render.image import Scene
from ddpg_jax.envs.render.model import scene_of
from ddpg_jax.types import Key, PyTree

BACKENDS = ("generalized", "positional", "spring", "mjx")
# All of Brax 0.14 but swimmer, which raises on every backend under current JAX (its fluid forces
# call a removed argument).
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


def make(
    name: str,
    num_envs: int,
    *,
    backend: str = "generalized",
    time_limit: int = 1000,
    randomize: Callable[[Any, Key], Any] | None = None,
    **options: Any,
) -> Environment:
    """``num_envs`` copies of a Brax environment.

    Args:
        name: one of `NAMES` (without ``brax/``).
        num_envs: E.
        backend: one of `BACKENDS`; results differ much between backends, so name it beside every
            figure.
        time_limit: steps after which an episode is truncated (Brax's own default is 1000).
        randomize: a domain randomisation function of Brax's kind,
            `ddpg_jax.envs.randomize.randomized`.
        **options: handed to the environment's constructor.

    Raises:
        ValueError: an unknown backend, or ``randomize`` of an environment that has no system.
        ImportError: Brax is not installed.
    """
    if backend not in BACKENDS:
        raise ValueError(f"unknown Brax backend {backend!r}: choose one of {', '.join(BACKENDS)}.")
    env = _create(name, backend, options)
    fresh = max(
        1, num_envs // 16
    )  # a reset costs up to a third of a step; an episode lasts longer than 16 steps
    if not hasattr(env, "sys"):  # `fast` simulates nothing that could be randomised or drawn
        if randomize is not None:
            raise ValueError(f"brax/{name} has no system to randomise: choose another environment.")
        return batch(single(env), num_envs, time_limit, fresh_per_step=fresh)
    one = single(env)
    if randomize is not None:
        one = randomized(
            lambda system: single(with_attributes(env, sys=system)), env.sys, randomize
        )
    renderer = Renderer(
        functools.partial(draw, env), functools.partial(viewer, env), fps=1 / env.dt
    )
    return batch(one, num_envs, time_limit, fresh_per_step=fresh, renderer=renderer)


def single(env: Any) -> SingleEnvironment:
    """Any ``brax.envs.Env`` (not wrapped by Brax's own EpisodeWrapper or AutoResetWrapper) as a
    `SingleEnvironment`.
    """

    def reset(key: Key) -> tuple[PyTree, PyTree]:
        state = env.reset(key)
        return state, state.obs

    def step(
        state: PyTree, action: jax.Array, key: Key
    ) -> tuple[PyTree, PyTree, jax.Array, jax.Array]:
        # Brax takes [-1, 1] in every dimension: its environments scale to the actuators' ranges
        # themselves.
        state = env.step(state, jnp.clip(action, -1.0, 1.0))
        return state, state.obs, state.reward, state.done > 0

    return SingleEnvironment(
        reset, step, env.action_size, scene=scene(env) if hasattr(env, "sys") else None
    )


def scene(env: Any) -> Callable[[PyTree], Scene]:
    """``scene(state)`` of a Brax environment that has a system, as its model looks."""
    from brax.base import Transform

    made = functools.cache(lambda: scene_of(env.sys.mj_model))  # when it is first looked at

    def now(state: PyTree) -> Scene:
        simulated = state.pipeline_state
        if hasattr(
            simulated, "qpos"
        ):  # on the backend mjx what else it holds is of one step before
            return made()(*bodies(env.sys, simulated))
        x = Transform.zero((1,)).concatenate(simulated.x)  # a body for each link, after the world
        return made()(x.pos, x.rot)

    return now


def bodies(model: Any, data: Any) -> tuple[jax.Array, jax.Array]:
    """Where the bodies of an MJX model are, ``[bodies, 3]``, and how they are turned,
    ``[bodies, 4]``.
    """
    from mujoco import mjx

    data = mjx.kinematics(model, data)
    return data.xpos, data.xquat


def _create(name: str, backend: str, options: dict[str, Any]) -> Any:
    with quiet.quiet():
        try:
            from brax import envs
        except ImportError as error:
            raise ImportError(
                f"Brax could not be imported ({error}); install it with: pip install brax"
            ) from error
        try:
            return envs.get_environment(name, backend=backend, **options)
        except TypeError as error:
            raise ValueError(f"brax/{name} does not take these options: {error}.") from error


def with_attributes(env: Any, **attributes: Any) -> Any:
    """A copy of an environment with other attributes."""
    env = copy.copy(env)
    vars(env).update(attributes)
    return env


def viewer(env: Any, states: PyTree) -> str:
    """Brax's viewer, an HTML page."""
    from brax.io import html

    result: str = html.render(
        env.sys.tree_replace({"opt.timestep": env.dt}),
        [state.pipeline_state for state in one_by_one(states)],
    )
    return result


def draw(env: Any, states: PyTree) -> Sequence[Any]:
    """Frames by MuJoCo's renderer, from the model's own camera where it has one."""
    from brax.io import image

    model = env.sys.mj_model
    camera = model.camera(0).name if model.ncam else None
    result: Sequence[Any] = image.render_array(
        env.sys, [state.pipeline_state for state in one_by_one(states)], camera=camera
    )
    return result
