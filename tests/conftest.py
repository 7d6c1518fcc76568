"""Settings of every test: CPU, no silent promotion of ranks or dtypes, and one cache of compiled
programs."""

import functools
import getpass
import os
import tempfile
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# A third of the seconds of compiling; how fast the programs are does not matter here, but to the
# slow learning runs.
if not os.environ.get("XLA_FLAGS"):
    os.environ["XLA_FLAGS"] = "--xla_backend_optimization_level=0"
    if version("jaxlib").startswith("0.10."):  # later ones do not know it, and end the process
        os.environ["XLA_FLAGS"] += " --xla_cpu_use_fusion_emitters=false"

import jax
import optax
import pytest

from ddpg_jax.runs.cli import commands
from ddpg_jax.runs.results import video

video.use_headless_opengl()

_CACHE = (
    os.environ.get("PYTEST_JAX_CACHE")
    or Path(tempfile.gettempdir()) / f"ddpg_jax-tests-{getpass.getuser()}"
)

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_compilation_cache_dir", str(_CACHE))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def _promoting(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        with jax.numpy_dtype_promotion("standard"):
            return function(*args, **kwargs)

    return wrapped


# Adam's bias correction raises a float to an integer power; it may promote, so that everything
# around it need not.
optax.tree.bias_correction = _promoting(optax.tree.bias_correction)


@pytest.fixture(autouse=True, scope="session")
def one_cache() -> Iterator[None]:
    """The command's own cache of compiled programs stays out of the way of the tests'."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(commands, "use_compilation_cache", lambda: None)
        yield


@pytest.fixture
def standard_promotion() -> Iterator[None]:
    """JAX's own promotion, for code that is not ours (Brax, some of optax)."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield
