"""What a run's hyper-parameters owe to the kind of device that it begins on; imports no JAX before it is asked for a device."""

from __future__ import annotations

from typing import Any

from ddpg_jax.runs.options.validation import shown
from ddpg_jax.runs.tasks import TASKS

PARALLEL = ("gpu", "tpu")
"""Kinds on which a thousand environments cost little more than one."""
KINDS = ("cpu", *PARALLEL)
ASKED = "any"
"""In place of a kind, where the preset was asked for."""
LARGE, SMALL, SEEING = "fast-td3", "default", "drq-v2"


def chosen(env: Any, preset: str | None, kind: str | None, env_options: Any = None) -> tuple[Any, str]:
    """A preset and the kind of device for which it was chosen; ``kind`` None is that of JAX's devices.

    Where none is asked for, it is `SEEING` where the environment is to show pixels, `LARGE` on a GPU or TPU for tasks whose
    rewards are known and whose hyper-parameters are not, and `SMALL` elsewhere.
    """
    if preset is not None:
        return preset, kind or ASKED
    if isinstance(env_options, dict) and env_options.get("pixels"):
        return SEEING, kind or ASKED
    if kind is None:
        import jax

        kind = jax.default_backend()
    task = TASKS.get(env) if isinstance(env, str) else None
    known = task is not None and task.support is not None and not task.hyperparameters
    return LARGE if kind in PARALLEL and known else SMALL, kind


def require_kind(kind: str) -> None:
    """Refuse what is no kind of device.

    Raises:
        ValueError: it is none.
    """
    if kind not in (*KINDS, ASKED):
        raise ValueError(f"device_kind={shown(kind)}: must be one of {', '.join(KINDS)}.")


def note(env: str, preset: str, kind: str, has_numbers: bool) -> str:
    """What the kind of device decided, as a sentence; empty where it decided nothing."""
    if kind not in PARALLEL:
        return ""
    if preset != SMALL:
        return f"preset {preset} is the choice for a {kind}; on a cpu it is {SMALL}."
    if has_numbers or env.startswith("gymnasium/"):
        return ""
    return (
        f"a {kind} steps thousands of environments in nearly the time of one: give --num-envs, --batch-size and "
        f"--updates-per-step, or --preset {LARGE} with the range of discounted returns as --v-min and --v-max."
    )
