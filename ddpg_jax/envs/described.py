"""What a host environment declares, as JSON-able data: enough to act for it without making it."""

from typing import Any

import jax
import numpy as np

from ddpg_jax.environment import HostEnvironment
from ddpg_jax.envs.actions import within

KEPT = ("num_envs", "time_limit", "same_step", "fps", "stacked")
"""Attributes of a host environment that its description keeps."""


def describe(env: HostEnvironment) -> dict[str, Any]:
    """What `described` makes into an environment again."""
    kept = {name: getattr(env, name) for name in KEPT}
    kept |= {"drawable": env.drawable}
    return kept | {"bounds": env.bounds, "observation": _written(env.observation)}


def described(data: dict[str, Any]) -> HostEnvironment:
    """An environment with the same shapes and actions, that can be neither reset nor stepped.

    Raises:
        TypeError, ValueError: the data are not what `describe` returns.
    """
    if missing := {*KEPT, "bounds", "observation"} - set(data):
        raise ValueError(f"it lacks {min(missing)}")
    actions, observation = within(*data["bounds"]), _read(data["observation"])
    never: Any = _never
    return HostEnvironment(
        reset=never,
        step=never,
        close=lambda: None,
        draw=never,
        observation=observation,
        action=jax.ShapeDtypeStruct((actions.size,), np.dtype(np.float32)),
        native_action=actions.native,
        bounds=actions.bounds,
        drawable=data.get("drawable", True),
        **{name: data[name] for name in KEPT},
    )


def _never(*arguments: Any) -> Any:
    raise ValueError(f"this environment was described and not made ({len(arguments)} arguments).")


def _written(shapes: Any) -> Any:
    if isinstance(shapes, dict):
        return {name: _written(part) for name, part in shapes.items()}
    return [str(shapes.dtype), list(shapes.shape)]


def _read(data: Any) -> Any:
    if isinstance(data, dict):
        return {name: _read(part) for name, part in data.items()}
    dtype, shape = data
    return jax.ShapeDtypeStruct(tuple(shape), np.dtype(dtype))
