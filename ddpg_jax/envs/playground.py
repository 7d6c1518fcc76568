"""MuJoCo Playground's environments, with automatic reset of our own; a simulation that breaks down
is reset and counted.
"""

import functools
import subprocess
from typing import Any

from ddpg_jax import checks
from ddpg_jax.environment import Environment, Renderer, SingleEnvironment
from ddpg_jax.envs import arguments, brax, quiet
from ddpg_jax.envs.randomize import Randomize, one_by_one
from ddpg_jax.envs.render import scene_of
from ddpg_jax.types import PyTree

PREFIX = "playground/"
"""How the names of Playground's environments begin."""


def make(
    name: str,
    num_envs: int,
    *,
    time_limit: int | None = None,
    randomize: Randomize | None = None,
    **options: Any,
) -> Environment:
    """``num_envs`` copies of an environment of MuJoCo Playground, simulated by MJX in JAX (not
    Warp).

    Args:
        name: as in ``mujoco_playground.registry.ALL_ENVS`` (without ``playground/``), for example
            ``CheetahRun``.
        num_envs: E.
        time_limit: steps after which an episode is truncated; None is the environment's
            ``episode_length``.
        randomize: a domain randomisation function of Playground's kind
            (``registry.get_domain_randomizer``), `ddpg_jax.envs.randomize.randomized`.
        **options: overrides of the environment's configuration, for example ``ctrl_dt=0.02``; those
            of its parts have dots in their names.

    Raises:
        ValueError: an unknown name (the nearest known one is named), or an unknown override.
        ImportError: Playground is not installed.
        OSError: the environment's models are downloaded on first use, and could not be.
    """
    env, config = load(name, options)
    limit = config.episode_length if time_limit is None else time_limit
    renderer = Renderer(functools.partial(draw, env), fps=1 / env.dt)
    # The system is the attribute that Playground's own randomisation sets.
    return brax.batched(env, single, "_mjx_model", randomize, num_envs, limit, renderer)


def single(env: Any) -> SingleEnvironment:
    """Any ``mujoco_playground`` environment (not one of its wrappers) as a `SingleEnvironment`."""
    made = functools.cache(lambda: scene_of(env.mj_model))
    scene = lambda state: made()(*brax.bodies(env.mjx_model, state.data))
    # The two libraries agree on what an environment is.
    return brax.single(env)._replace(scene=scene)


def names() -> tuple[str, ...]:
    """Those of its registry; raises ``ImportError`` as `make`."""
    with quiet.quiet():
        return tuple(_registry().ALL_ENVS)


def _registry() -> Any:
    try:
        from mujoco_playground import registry
    except ImportError as error:
        raise ImportError(
            f"MuJoCo Playground could not be imported ({error}); install it with: pip "
            "install playground"
        ) from error
    return registry


def load(name: str, options: dict[str, Any]) -> tuple[Any, Any]:
    """Playground's environment and its configuration; raises as `make`."""
    with quiet.quiet():
        registry = _registry()
        if name not in registry.ALL_ENVS:
            where = "Playground's names are in mujoco_playground.registry.ALL_ENVS."
            raise checks.nearest("environment", name, registry.ALL_ENVS, where, PREFIX)
        config = registry.get_default_config(name)
        known = sorted(set(config) - {"impl"})
        if unknown := [option for option in options if option.split(".")[0] not in known]:
            raise ValueError(
                f"{PREFIX}{name} has no option {unknown[0]!r}: choose one of {', '.join(known)}."
            )
        for option, value in options.items():
            usual = functools.reduce(lambda part, key: part.get(key), option.split("."), config)
            arguments.require_kind(PREFIX + name, option, value, usual)
        if "impl" in config:
            config.impl = "jax"
        try:
            return registry.load(name, config=config, config_overrides=options), config
        except (TypeError, KeyError) as error:
            raise ValueError(f"{PREFIX}{name} does not take these options: {error}.") from error
        except (subprocess.CalledProcessError, ValueError, OSError) as error:
            if isinstance(error, ValueError) and "menagerie" not in str(error):
                raise
            raise OSError(
                f"the models of {PREFIX}{name} are downloaded on first use by git, which failed "
                f"({checks.first_line(error)}): try again with a connection, or choose a task of "
                "the DM Control Suite, which needs none."
            ) from error


def draw(env: Any, states: PyTree) -> list[Any]:
    """Frames ``[H, W, 3]`` of one environment's states ``[T, ...]``, by MuJoCo's renderer, from the
    model's own camera.
    """
    camera = 0 if env.mj_model.ncam else None
    return list(env.render(one_by_one(states), height=240, width=320, camera=camera))
