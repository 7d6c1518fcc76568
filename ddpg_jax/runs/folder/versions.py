"""Versions and the device that a result depends on."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path

DRIVER = (Path("/proc/driver/nvidia/version"), Path("/dev/nvidia0"))
"""One of them is there where a machine has an NVIDIA GPU and its driver."""


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


def unseen_gpu() -> str:
    """Return a sentence where JAX computes on the CPU of a machine with an NVIDIA GPU, unless the
    user chose the platform; else an empty one.
    """
    import jax

    chosen = getattr(jax.config, "jax_platforms", None) or jax.default_backend() != "cpu"
    if chosen or not any(path.exists() for path in DRIVER):
        return ""
    return (
        "this machine has an NVIDIA GPU that JAX does not see, so this run is on the CPU: install "
        'JAX for it with pip install -U "jax[cuda13]" ("jax[cuda12]" for a driver older than '
        "580); JAX_PLATFORMS=cpu chooses the CPU."
    )


def describe_device() -> str:
    """Return the device and the number of host processors."""
    import jax

    first = jax.devices()[0]
    return (
        f"{first.device_kind} x{jax.device_count()} ({first.platform}), {os.cpu_count()} host "
        "processors"
    )
