"""Deterministic-policy-gradient reinforcement learning as pure functions in JAX.

The modules below load on first use: importing this package costs nothing and imports no simulator.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from ddpg_jax import (
        agents,
        behaviour,
        checkpoint,
        environment,
        envs,
        export,
        host,
        learner,
        losses,
        networks,
        noise,
        population,
        replay,
        reporting,
        returns,
        rollout,
        runs,
        schedule,
        train,
        types,
    )

__all__ = [
    "agents",
    "behaviour",
    "checkpoint",
    "environment",
    "envs",
    "export",
    "host",
    "learner",
    "losses",
    "networks",
    "noise",
    "population",
    "replay",
    "reporting",
    "returns",
    "rollout",
    "runs",
    "schedule",
    "train",
    "types",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
