"""Brax environments, with automatic reset of our own: true successors, fresh starts, termination
apart from time limits.
"""

import copy
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from ddpg_jax.environment import (
    Environment,
    Renderer,
    ResetResult,
    SingleEnvironment,
    SingleStepResult,
)
from ddpg_jax.envs import arguments, quiet
from ddpg_jax.envs.autoreset import batch
from ddpg_jax.envs.randomize import Randomize, one_by_one, randomized
from ddpg_jax.envs.render import Scene, scene_of
from ddpg_jax.types import Key, PyTree

BACKENDS = ("generalized", "positional", "spring", "mjx")
"""Brax's physics engines."""
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
"""Environments of Brax, without ``brax/``."""


def make(
    name: str,
    num_envs: int,
    *,
    backend: str = "generalized",
    time_limit: int = 1000,
    randomize: Randomize | None = None,
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
    renderer = None
    if hasattr(env, "sys"):
        renderer = Renderer(
            functools.partial(draw, env), functools.partial(viewer, env), 1 / env.dt
        )
    elif randomize is not None:  # `fast` simulates nothing that could be randomised or drawn
        raise ValueError(f"brax/{name} has no system to randomise: choose another environment.")
    return batched(env, single, "sys", randomize, num_envs, time_limit, renderer)


def batched(
    env: Any,
    single: Callable[[Any], SingleEnvironment],
    system: str,
    randomize: Randomize | None,
    num_envs: int,
    time_limit: int,
    renderer: Renderer | None,
) -> Environment:
    """``num_envs`` copies of a simulator's environment; its ``system`` is an attribute of it."""
    if randomize is not None and not callable(randomize):
        raise ValueError(f"randomize={randomize!r}: must be a function, given from Python.")

    def using(drawn: PyTree) -> SingleEnvironment:
        other = copy.copy(env)
        vars(other)[system] = drawn
        return single(other)

    one = randomized(using, getattr(env, system), randomize) if randomize else single(env)
    # A reset costs up to a step; an episode lasts longer than 16 of them.
    fresh = max(1, num_envs // 16)
    return batch(one, num_envs, time_limit, fresh_per_step=fresh, renderer=renderer)


def single(env: Any) -> SingleEnvironment:
    """Any ``brax.envs.Env`` (not wrapped by Brax's own EpisodeWrapper or AutoResetWrapper) as a
    `SingleEnvironment`.
    """

    def reset(key: Key) -> ResetResult:
        state = env.reset(key)
        return state, state.obs

    def step(state: PyTree, action: Array, key: Key) -> SingleStepResult:
        # Brax takes [-1, 1] in every dimension: its environments scale to the actuators' ranges
        # themselves.
        state = env.step(state, jnp.clip(action, -1.0, 1.0))
        return state, state.obs, state.reward, state.done > 0

    def valid(state: PyTree, observation: PyTree, reward: Array) -> Array:
        # A policy is not to blame for a simulation that breaks down, nor to profit.
        watched = (_simulated(state), observation, reward)
        leaves = [x for x in jax.tree.leaves(watched) if jnp.issubdtype(x.dtype, jnp.inexact)]
        return jnp.all(jnp.stack([jnp.all(jnp.isfinite(x)) for x in leaves]))

    return SingleEnvironment(
        reset,
        step,
        env.action_size,
        valid=valid,
        scene=scene(env) if hasattr(env, "sys") else None,
    )


def _simulated(state: PyTree) -> PyTree:
    """Positions and velocities, by the names of whichever simulator it is."""
    inside = getattr(state, "data", getattr(state, "pipeline_state", None))
    names = ("qpos", "qvel") if hasattr(inside, "qpos") else ("q", "qd")
    return [getattr(inside, name) for name in names if hasattr(inside, name)]


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


def bodies(model: Any, data: Any) -> tuple[Array, Array]:
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
        arguments.require(f"brax/{name}", envs._envs[name], options, ())
        try:
            return envs.get_environment(name, backend=backend, **options)
        except TypeError as error:
            raise ValueError(f"brax/{name} does not take these options: {error}.") from error


def viewer(env: Any, states: PyTree) -> str:
    """Brax's viewer, an HTML page."""
    from brax.io import html

    system = env.sys.tree_replace({"opt.timestep": env.dt})
    return str(html.render(system, [state.pipeline_state for state in one_by_one(states)]))


def draw(env: Any, states: PyTree) -> list[Any]:
    """Frames by MuJoCo's renderer, from the model's own camera where it has one."""
    from brax.io import image

    model = env.sys.mj_model
    camera = model.camera(0).name if model.ncam else None
    simulated = [state.pipeline_state for state in one_by_one(states)]
    return list(image.render_array(env.sys, simulated, camera=camera))
