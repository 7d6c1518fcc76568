"""Shapes and dtypes that are not those that an environment declares."""

from typing import Any

import jax
import jax.numpy as jnp

from ddpg_jax.environment import Environment, HostEnvironment, TimeStep
from ddpg_jax.types import PyTree


def drift(
    env: Environment | HostEnvironment,
    observation: PyTree,
    now: Any,
    more: dict[str, Any] | None = None,
) -> list[str]:
    """Where shapes or dtypes of an observation of ``reset`` and of what a step returned, either of
    which may be None, are not those that the environment declares; ``more``: names of pairs that
    must be alike.
    """
    shaped: Any = jax.ShapeDtypeStruct  # in place of arrays
    number, flag = shaped((), jnp.float32), shaped((), jnp.bool_)
    valid = flag if isinstance(env, HostEnvironment) or env.breaks else None
    declared = jax.tree.map(
        lambda x: shaped((env.num_envs, *x.shape), x.dtype),
        TimeStep(env.observation, number, flag, flag, env.observation, valid),
    )
    reset = (observation, declared.observation)
    wanted = {} if observation is None else {"the observation of reset": reset}
    if now is not None:
        wanted |= {name: (getattr(now, name), shape) for name, shape in vars(declared).items()}
    return [
        f"{name} is {_describe(given)} where {_describe(want)} was declared: shapes and "
        "dtypes must not drift"
        for name, (given, want) in (wanted | (more or {})).items()
        if _describe(given) != _describe(want)
    ]


def _describe(tree: PyTree) -> str:
    return ", ".join(
        f"{jax.tree_util.keystr(path)}{' ' if path else ''}{leaf.dtype}{list(leaf.shape)}"
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    )
