"""What a robot's program has to know of an exported policy, as JSON-able data, and its check.

The JSON schema is `contract.schema.json` beside this file.
"""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from ddpg_jax.agents.wrappers import RunningStatistics
from ddpg_jax.environment import HostEnvironment, Renderer
from ddpg_jax.export.builder import BATCH, dtype_of
from ddpg_jax.export.function import named, output_name, policy_function
from ddpg_jax.export.onnx import OPSET

if TYPE_CHECKING:
    from collections.abc import Callable

    from ddpg_jax.types import Agent, AgentState

VERSION = 1
"""Of the contract's format; another one where a reader of this one would err."""
OBSERVATIONS = 64
"""With which an export is checked."""
GUARANTEES = {
    "stablehlo": "jax.export: JAX up to 6 months newer or 3 weeks older than the versions below",
    "onnx": f"ONNX: runtimes of opset {OPSET} and later",
    "npz": "NumPy alone",
}
"""Which versions read a file of a form."""


def contract(
    agent: Agent,
    agent_state: AgentState,
    env: Any,
    *,
    form: str,
    file: str,
    data: bytes,
    action_repeat: int = 1,
) -> dict[str, Any]:
    """The contract of an exported policy: what goes in, what comes out, how often.

    Args:
        agent, agent_state, env: as of `ddpg_jax.export.policy`.
        form: one of `ddpg_jax.export.FORMS`.
        file: its name.
        data: its content.
        action_repeat: steps of the environment's own that one action lasts.
    """
    _, shapes = policy_function(agent, agent_state, env)
    inputs = named(shapes)
    return {
        "version": VERSION,
        "file": file,
        "form": form,
        "sha256": hashlib.sha256(data).hexdigest(),
        "guaranteed_for": GUARANTEES[form],
        "inputs": [{"name": name, **_input(x)} for name, x in inputs.items()],
        "outputs": [_output(env, output_name(inputs))],
        "normalizer": _normalizer(agent_state, inputs),
        "control_rate": _control_rate(env, action_repeat),
        "frame_stack": env.stacked,
        "action_repeat": action_repeat,
    }


def _input(x: jax.ShapeDtypeStruct) -> dict[str, Any]:
    """Of one stream; scaling and normalising are the policy's own."""
    low, high = (0, 255) if x.dtype == np.uint8 else (None, None)
    shape = [BATCH, *x.shape]
    return {"shape": shape, "dtype": str(x.dtype), "units": "native", "low": low, "high": high}


def _output(env: Any, name: str) -> dict[str, Any]:
    ends = [env.native_action(np.full(env.action.shape, end, np.float32)) for end in (-1, 1)]
    low, high = np.minimum(*ends), np.maximum(*ends)
    bounds = {"low": low.tolist(), "high": high.tolist()}
    return {"name": name, "shape": [BATCH, len(low)], "dtype": str(dtype_of(low.dtype))} | (
        {"units": "native"} | bounds
    )


def _statistics(agent_state: AgentState, inputs: dict[str, Any]) -> dict[str, Any]:
    """Mean and standard deviation of each input whose statistics the agent has; and their count."""
    for each in agent_state.slots.values():
        if isinstance(each, RunningStatistics):
            count = float(each.count.value)
            squares = named(each.squares.value)
            found = {
                name: (np.asarray(mean), np.sqrt(np.asarray(squares[name]) / max(count, 1)))
                for name, mean in named(each.mean.value).items()
                if name in inputs and mean.shape == inputs[name].shape
            }
            return {"count": count, "of": found}
    return {}


def _normalizer(agent_state: AgentState, inputs: dict[str, Any]) -> dict[str, Any] | None:
    """Whether observations are normalised, and what was seen; None where they are not."""
    if not (statistics := _statistics(agent_state, inputs)):
        return None
    moments = {
        name: {"mean": mean.tolist(), "stddev": stddev.tolist()}
        for name, (mean, stddev) in statistics["of"].items()
    }
    return {"applied": "inside", "observations": statistics["count"], "inputs": moments}


def _control_rate(env: Any, action_repeat: int) -> float | None:
    """Actions per second of the environment's own time; None where it declares none."""
    rate: float = env.fps if isinstance(env, HostEnvironment) else env.renderer.fps
    return None if math.isclose(rate * action_repeat, Renderer().fps) else rate


def largest_difference(
    agent: Agent,
    agent_state: AgentState,
    env: Any,
    exported: Callable[[Any], Any],
) -> float:
    """The largest difference of an exported policy's actions from the agent's own.

    Observations are drawn by a fixed seed: bytes uniformly, numbers from a normal distribution of
    the normaliser's moments, or of mean 0 and standard deviation 1.
    """
    act, shapes = policy_function(agent, agent_state, env)
    moments, generator = (
        _statistics(agent_state, named(shapes)).get("of", {}),
        np.random.default_rng(0),
    )

    def drawn(name: str, x: Any) -> np.ndarray:
        size = (OBSERVATIONS, *x.shape)
        if x.dtype == np.uint8:
            return generator.integers(0, 256, size, np.uint8)
        mean, stddev = moments.get(name, (0.0, 1.0))
        return np.asarray(mean + stddev * generator.normal(size=size)).astype(x.dtype)

    leaves = [drawn(name, x) for name, x in named(shapes).items()]
    given = jax.tree.unflatten(jax.tree.structure(shapes), leaves)
    with jax.default_matmul_precision("highest"):
        wanted = np.asarray(jax.jit(act)(given), np.float64)
    return float(np.max(np.abs(np.asarray(exported(given), np.float64) - wanted)))
