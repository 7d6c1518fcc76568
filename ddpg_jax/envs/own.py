"""Environments on the device that a user wrote: made by ``module:function``, and watched where they
are traced.
"""

import importlib
import inspect
from collections.abc import Callable
from typing import Any

import jax

from ddpg_jax import checks
from ddpg_jax.environment import BatchRecipe, Environment, SingleEnvironment
from ddpg_jax.envs import arguments
from ddpg_jax.envs.drift import drift
from ddpg_jax.envs.pixels import OPTIONS
from ddpg_jax.types import PyTree

WANTED = (
    "give module:function, of a function make(num_envs, **options) that returns a "
    "ddpg_jax.environment.Environment, in a module of the working folder or of PYTHONPATH."
)
"""How an environment of one's own is named, as errors say it."""
CLASSES = "A class of Gymnasium is registered there, and is called gymnasium/<module>:<id>."
"""What errors say of a class."""


def make(name: str, num_envs: int, **options: Any) -> Environment:
    """What the function called ``module:function`` returns, `watched`.

    Raises:
        ValueError: there is no such function, it does not take these options, or returns something
            else; a `ddpg_jax.checks.BrokenEnvironment` where it raises.
        ImportError: its module needs another that is not installed.
    """
    function = _function(name)
    signature = inspect.signature(function)
    try:
        signature.bind_partial(num_envs)
    except TypeError as error:
        raise ValueError(f"environment {name!r} takes no num_envs: {WANTED} {CLASSES}") from error
    try:
        signature.bind(num_envs, **options)
    except TypeError as error:
        takes = ", ".join([*signature.parameters][1:]) or "none"
        raise ValueError(
            f"environment {name!r} does not take these options: {error}; its options are {takes}."
        ) from error
    arguments.require(name, function, options, OPTIONS)
    env = checks.guarded(name, name.partition(":")[2], function)(num_envs, **options)
    if isinstance(env, SingleEnvironment):
        raise ValueError(
            f"environment {name!r} returned one SingleEnvironment: return "
            "ddpg_jax.envs.batch(single, num_envs, time_limit), which makes num_envs of it."
        )
    if not isinstance(env, Environment):
        raise ValueError(f"environment {name!r} returned {type(env).__name__}: {WANTED}")
    if env.num_envs != num_envs:
        raise checks.BrokenEnvironment(
            f"{name}: it has {env.num_envs} environments where num_envs={num_envs} was asked."
        )
    return watched(name, env)


def _function(name: str) -> Any:
    module, _, function = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), function)
    except (ModuleNotFoundError, AttributeError, ValueError, TypeError) as error:
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing and not f"{module}.".startswith(f"{missing}."):
            raise ImportError(
                f"{name} needs the module {missing!r}, which is not installed."
            ) from error
        raise ValueError(
            f"environment {name!r} could not be imported ({checks.first_line(error)}): {WANTED}"
        ) from error
    except Exception as error:
        raise checks.broken(name, f"importing {module}", error) from error
    if not callable(found):
        raise ValueError(f"environment {name!r} is a {type(found).__name__}: {WANTED}")
    return found


def watched(name: str, env: Environment) -> Environment:
    """The same, whose ``reset`` and ``step`` raise `ddpg_jax.checks.BrokenEnvironment`, when they
    are traced, for whatever goes wrong in them, and where shapes or dtypes are not those declared.

    Raises:
        BrokenEnvironment: there is nothing to see, or nothing to choose.
    """
    for what, shapes in (("observation", env.observation), ("action", env.action)):
        sizes = [leaf.size for leaf in jax.tree.leaves(shapes)]
        if not sizes or 0 in sizes:
            raise checks.BrokenEnvironment(
                f"{name}: the {what} holds no number ({shapes}): there is nothing to learn."
            )
    if len(env.action.shape) != 1:
        raise checks.BrokenEnvironment(
            f"{name}: the action has shape {env.action.shape}: it must be one vector, [A]."
        )

    def checked(what: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any) -> tuple[PyTree, Any]:
            state, seen = function(*given)
            for found in drift(env, seen, None) if what == "reset" else drift(env, None, seen):
                raise checks.BrokenEnvironment(f"{name}: {what}: {found}.")
            return state, seen

        return checks.guarded(name, what, call)

    made = env.recipe
    guarded = env._replace(reset=checked("reset", env.reset), step=checked("step", env.step))
    if made is None or made.step is not env.step:  # it was wrapped since it was made
        return guarded
    return guarded._replace(
        recipe=BatchRecipe(
            lambda *given, **options: watched(name, made.make(*given, **options)), guarded.step
        )
    )
