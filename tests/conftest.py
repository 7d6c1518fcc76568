"""Settings of every test: CPU, no silent promotion of ranks or dtypes, one cache of programs."""

import ctypes
import functools
import gc
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import helpers
import pytest
from eight_devices import pytest_pyfunc_call, pytest_runtest_logreport

__all__ = ["pytest_pyfunc_call", "pytest_runtest_logreport"]

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# A third of the seconds of compiling; how fast the programs are matters to the slow learning runs
# alone.
if not os.environ.get("XLA_FLAGS"):
    os.environ["XLA_FLAGS"] = "--xla_backend_optimization_level=0"
    if version("jaxlib").startswith("0.10."):  # an option that XLA does not know ends the process
        os.environ["XLA_FLAGS"] += " --xla_cpu_use_fusion_emitters=false"
        os.environ["XLA_FLAGS"] += " --xla_cpu_parallel_codegen_split_count=1"
        os.environ["XLA_FLAGS"] += " --xla_llvm_disable_expensive_passes=true"

# The workers of pytest-xdist and every child process find these variables in their environment.
TEMPORARY = "PYTEST_JAX_TEMPORARY_CACHE"
if os.environ.get("PYTEST_JAX_CACHE"):
    MADE = False
    cache = str(Path(os.environ["PYTEST_JAX_CACHE"]) / helpers.machine())
else:
    MADE = TEMPORARY not in os.environ
    cache = os.environ.get(TEMPORARY) or tempfile.mkdtemp(prefix="ddpg_jax-tests-")
    os.environ[TEMPORARY] = cache
os.environ["JAX_COMPILATION_CACHE_DIR"] = cache
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"
os.environ["DDPG_JAX_CACHE"] = ""  # the command's own: it takes JAX's where that is named

import jax  # noqa: E402
import optax  # noqa: E402

from ddpg_jax.runs.cli import jax_setup  # noqa: E402
from ddpg_jax.runs.results import video  # noqa: E402

video.use_headless_opengl()
# What JAX traces lives as long as its caches: looking through all of it again and again is a fifth
# of the processor's time.
gc.freeze()
gc.set_threshold(200_000, 50, 100)

# Where a plugin of pytest imported JAX before this file, it has not seen the variables.
jax.config.update("jax_compilation_cache_dir", cache)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")


def pytest_unconfigure(config: pytest.Config) -> None:
    """A temporary cache ends with the session that made it."""
    if MADE:
        shutil.rmtree(cache, ignore_errors=True)


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
        patch.setattr(jax_setup, "use_compilation_cache", lambda: None)
        yield


MEMORY = 3e9
"""Bytes of a worker from which, at the end of a file of tests, what JAX has cached is freed."""


@pytest.fixture(autouse=True, scope="module")
def bounded_memory() -> Iterator[None]:
    """All that JAX traces and compiles in these tests is 6 GB a worker."""
    yield
    pages = Path("/proc/self/statm")  # of Linux alone
    if not pages.is_file():
        return
    if int(pages.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") > MEMORY:
        jax.clear_caches()
        gc.collect()
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # of glibc alone
        if trim:
            trim(0)


@pytest.fixture
def standard_promotion() -> Iterator[None]:
    """JAX's own promotion, for code that is not ours (Brax, some of optax)."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield
