"""Compiler options for the CPU, where compiling may take longer than running: less optimisation
where that costs little.
"""

import functools
import os
from collections.abc import Callable
from typing import Any

import jax

Options = dict[str, str | bool | int]
"""Options of XLA, by name."""

HOT_LOOP_OPTIONS: Options = {"xla_backend_optimization_level": 1}
"""For programs that run in a loop: 1.0 to 1.06 times the run time of LLVM's every pass, 0.9 times
the compile time.
"""
ONE_OFF_OPTIONS: Options = HOT_LOOP_OPTIONS | {"xla_cpu_use_fusion_emitters": False}
"""For programs that run a few times: 0.3 to 0.7 times the compile time; an update of networks 64
wide takes 1.2 times as long to run.
"""


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


def jit(function: Callable[..., Any], wanted: Options, **arguments: Any) -> Any:
    """`jax.jit` with those of the ``wanted`` options that XLA knows; with none where JAX's default
    backend is not a CPU.
    """
    wanted = wanted if jax.default_backend() == "cpu" else {}
    options = {name: value for name, value in wanted.items() if _known(name, value)}
    return jax.jit(function, compiler_options=options, **arguments)
