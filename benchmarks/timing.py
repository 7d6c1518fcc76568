"""How everything is timed, as `ddpg_jax.runs.timing` does it for a run's profile, and what a figure depends on."""

from typing import Any

from ddpg_jax.runs.folder import versions
from ddpg_jax.runs.timing import (
    Contestant,
    alternate,
    filled,
    repeated,
    scanned,
    shaped,
    spread,
    transitions,
)

__all__ = ["Contestant", "alternate", "context", "filled", "repeated", "scanned", "shaped", "spread", "transitions"]


def context() -> dict[str, Any]:
    """What a figure depends on besides the settings."""
    return {"versions": versions.package_versions(), "device": versions.describe_device()}
