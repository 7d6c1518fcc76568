"""Versions and the device that a result depends on."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass


def package_versions() -> dict[str, str]:
    """Versions of what the result depends on."""
    names = (
        "ddpg_jax",
        "jax",
        "jaxlib",
        "flax",
        "optax",
        "brax",
        "mujoco",
        "mujoco-mjx",
        "playground",
        "gymnasium",
    )
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def describe_device() -> str:
    """The device that computes, and how many host processors there are."""
    import jax

    first = jax.devices()[0]
    return f"{first.device_kind} x{jax.device_count()} ({first.platform}), {os.cpu_count()} host processors"
