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

    def many(dtype: Any, shape: tuple[int, ...] = ()) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((env.num_envs, *shape), dtype)

    expected, flags = jax.tree.map(lambda x: many(x.dtype, x.shape), env.observation), many(bool)
    declared = {
        "observation": expected,
        "next_observation": expected,
        "reward": many(jnp.float32),
        "terminated": flags,
        "truncated": flags,
        "valid": flags if isinstance(env, HostEnvironment) or env.breaks else None,
    }
    wanted = {} if observation is None else {"the observation of reset": (observation, expected)}
    if now is not None:
        wanted |= {name: (getattr(now, name), want) for name, want in declared.items()}
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
