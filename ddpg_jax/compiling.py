"""How programs are compiled on a CPU, where that takes longer than many a run: what XLA is told, as far as it knows it."""

import functools
import os
from collections.abc import Callable
from typing import Any

import jax

Options = dict[str, str | bool | int]

OFTEN: Options = {"xla_backend_optimization_level": 1}
"""For what runs often: as fast as with LLVM's every pass (pendulum's chunk 1.0 to 1.06 times), in nine tenths of the time."""
SELDOM: Options = OFTEN | {"xla_cpu_use_fusion_emitters": False}
"""For what runs seldom: in 0.3 to 0.7 of the time. Small fusions are slower so: an update, 64 wide, takes 1.2 times as long."""


@functools.cache
def _known(name: str, value: Any) -> bool:
    """Whether this XLA has the option; the user's own ``XLA_FLAGS`` have the last word."""
    if name in os.environ.get("XLA_FLAGS", ""):
        return False
    try:
        jax.jit(lambda: 0).lower().compile(compiler_options={name: value})
    except jax.errors.JaxRuntimeError:
        return False
    return True


def jit(function: Callable, wanted: Options, **arguments: Any) -> Any:
    """`jax.jit` with those of the ``wanted`` options that XLA knows; with none where JAX's default backend is not a CPU."""
    wanted = wanted if jax.default_backend() == "cpu" else {}
    options = {name: value for name, value in wanted.items() if _known(name, value)}
    return jax.jit(function, compiler_options=options, **arguments)
