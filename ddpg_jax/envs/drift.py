"""Shapes and dtypes that are not those that an environment declares."""

from typing import Any

import jax
import jax.numpy as jnp

from ddpg_jax.environment import Environment, HostEnvironment
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
    expected = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct((env.num_envs, *x.shape), x.dtype), env.observation
    )
    flags = jax.ShapeDtypeStruct((env.num_envs,), jnp.bool_)
    wanted = {} if observation is None else {"the observation of reset": (observation, expected)}
    if now is not None:
        wanted |= {
            "observation": (now.observation, expected),
            "next_observation": (now.next_observation, expected),
            "reward": (now.reward, jax.ShapeDtypeStruct((env.num_envs,), jnp.float32)),
            "terminated": (now.terminated, flags),
            "truncated": (now.truncated, flags),
            "valid": (now.valid, flags if isinstance(env, HostEnvironment) or env.breaks else None),
        }
    return [
        f"{name} is {_describe(given)} where {_describe(want)} was declared: shapes and "
        "dtypes must not drift"
        for name, (given, want) in (wanted | (more or {})).items()
        if _describe(given) != _describe(want)
    ]


def _describe(tree: PyTree) -> str:
    described = jax.tree.map(lambda x: f"{x.dtype}{list(x.shape)}", tree)
    leaves = jax.tree_util.tree_leaves_with_path(described)
    return ", ".join(
        f"{jax.tree_util.keystr(path)}{' ' if path else ''}{leaf}" for path, leaf in leaves
    )
