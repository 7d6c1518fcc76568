"""Versions and the device that a result depends on."""

from __future__ import annotations

import importlib.metadata
import os
import platform


def package_versions(*others: str) -> dict[str, str]:
    """Return the versions of Python, of the packages that a result depends on, and of others."""
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
        *others,
    )
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def device_name() -> str:
    """Return the kind of device that computes."""
    import jax

    return str(jax.devices()[0].device_kind)


def describe_device() -> str:
    """Return the device and the number of host processors."""
    import jax

    first = jax.devices()[0]
    return (
        f"{first.device_kind} x{jax.device_count()} ({first.platform}), {os.cpu_count()} host "
        "processors"
    )
