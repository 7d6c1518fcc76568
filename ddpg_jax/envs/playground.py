"""MuJoCo Playground's environments, with automatic reset of our own; a simulation that breaks down
is reset and counted.
"""

import functools
import itertools
import subprocess
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from ddpg_jax import checks
from ddpg_jax.environment import (
    Environment,
    Renderer,
    ResetResult,
    SingleEnvironment,
    SingleStepResult,
)
from ddpg_jax.envs import arguments, brax, quiet
from ddpg_jax.envs.randomize import Randomize, one_by_one
from ddpg_jax.envs.render import scene_of
from ddpg_jax.types import Key, PyTree

PREFIX = "playground/"
"""How the names of Playground's environments begin."""
IMPLS = ("jax", "warp")
"""Physics engines of MJX."""


def make(
    name: str,
    num_envs: int,
    *,
    impl: str = "jax",
    time_limit: int | None = None,
    randomize: Randomize | None = None,
    **options: Any,
) -> Environment:
    """``num_envs`` copies of an environment of MuJoCo Playground, simulated by MJX.

    Args:
        name: as in ``mujoco_playground.registry.ALL_ENVS`` (without ``playground/``), for example
            ``CheetahRun``.
        num_envs: E.
        impl: one of `IMPLS`; ``jax`` unless given, whatever Playground's own default is: on every
            device, and the same bits again. ``warp`` is for NVIDIA GPUs, and adds up contacts in an
            order that differs from run to run.
        time_limit: steps after which an episode is truncated; None is the environment's
            ``episode_length``.
        randomize: a domain randomisation function of Playground's kind
            (``registry.get_domain_randomizer``), `ddpg_jax.envs.randomize.randomized`.
        **options: overrides of the environment's configuration, for example ``ctrl_dt=0.02``; those
            of its parts have dots in their names.

    Raises:
        ValueError: an unknown name (the nearest known one is named), or an unknown override;
            ``warp`` without an NVIDIA GPU.
        ImportError: Playground is not installed.
        OSError: the environment's models are downloaded on first use, and could not be.
    """
    env, config = load(name, options, impl)
    limit = config.episode_length if time_limit is None else time_limit
    renderer = Renderer(functools.partial(draw, env), fps=1 / env.dt)
    # The system is the attribute that Playground's own randomisation sets.
    return brax.batched(env, single, "_mjx_model", randomize, num_envs, limit, renderer)


def single(env: Any) -> SingleEnvironment:
    """Any ``mujoco_playground`` environment (not one of its wrappers) as a `SingleEnvironment`."""
    made = functools.cache(lambda: scene_of(env.mj_model))
    scene = lambda state: made()(*brax.bodies(env.mjx_model, state.data))
    # The two libraries agree on what an environment is.
    one = brax.single(env)._replace(scene=scene)
    if env.mjx_model.impl.value == "jax":
        return one
    part, whole = _parts(env)
    inner: Any = one  # each of its functions is there

    def reset(key: Key) -> ResetResult:
        state, observation = one.reset(key)
        return part(state), observation

    def step(state: PyTree, action: Array, key: Key) -> SingleStepResult:
        following, *others = one.step(whole(state), action, key)
        return part(following), *others

    return one._replace(
        reset=reset,
        step=step,
        valid=lambda state, *others: inner.valid(whole(state), *others),
        scene=lambda state: inner.scene(whole(state)),
    )


def _parts(env: Any) -> tuple[Callable[[PyTree], list[Array]], Callable[[list[Array]], PyTree]]:
    """Return ``part(state)``, the leaves that each copy of an environment has for itself, and
    ``whole(leaves)``, the state with them.

    Warp keeps contacts of all copies together, and finds them anew in each step: they are no part
    of what a copy continues from.
    """
    key = jax.random.key(0)
    leaves, structure = jax.tree.flatten(jax.eval_shape(env.reset, key))
    several = jax.tree.leaves(jax.eval_shape(jax.vmap(env.reset), jax.random.split(key, 2)))
    own = [both.ndim > one.ndim for both, one in zip(several, leaves, strict=True)]

    def whole(given: list[Array]) -> PyTree:
        rest = iter(given)
        found = [
            next(rest) if mine else jnp.zeros(leaf.shape, leaf.dtype)
            for leaf, mine in zip(leaves, own, strict=True)
        ]
        return jax.tree.unflatten(structure, found)

    part = lambda state: list(itertools.compress(jax.tree.leaves(state), own))
    return part, whole


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


def _require_impl(name: str, impl: str) -> None:
    if impl not in IMPLS:
        raise ValueError(f"unknown impl {impl!r} of Playground: choose one of {', '.join(IMPLS)}.")
    if impl == "warp" and not _has_nvidia_gpu():
        raise ValueError(
            f"{PREFIX}{name} with impl=warp needs an NVIDIA GPU, and JAX computes on a "
            f"{jax.default_backend()} here: choose impl=jax (--impl jax)."
        )


def _has_nvidia_gpu() -> bool:
    version = jax.devices()[0].client.platform_version
    return jax.default_backend() == "gpu" and "cuda" in version.lower()


def _silence_warp() -> None:
    """Let it compile without a line for each kernel, which would be part of a command's answer."""
    import warp

    vars(warp.config).update(quiet=True, log_level=30)  # of older versions, of newer ones


def load(name: str, options: dict[str, Any], impl: str = "jax") -> tuple[Any, Any]:
    """Playground's environment and its configuration; raises as `make`."""
    _require_impl(name, impl)
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
        if impl == "warp":
            _silence_warp()
        if "impl" in config:
            config.impl = impl
        elif impl != "jax":
            raise ValueError(f"{PREFIX}{name} has no impl {impl!r}: leave it out.")
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
    each = one_by_one(states)
    if env.mjx_model.impl.value != "jax":
        each = list(map(_parts(env)[1], each))
    return list(env.render(each, height=240, width=320, camera=camera))
