"""Prepares JAX for a command: the devices and the compilation cache."""

import gc
import logging
import os
import tempfile
from pathlib import Path


def require_device() -> None:
    """Initialise JAX's devices.

    Raises:
        ValueError: JAX finds none.
    """
    import jax

    from ddpg_jax import checks

    try:
        jax.devices()
    except Exception as error:  # its type depends on platform and version
        platforms = os.environ.get("JAX_PLATFORMS")
        why = f" with JAX_PLATFORMS={platforms}" if platforms else ""
        raise ValueError(
            f"JAX does not find a device{why} ({checks.first_line(error)}): unset JAX_PLATFORMS, "
            "or install the JAX of that platform."
        ) from error


def collect_garbage_seldom() -> None:
    """Spare what tracing allocates, which lives on in JAX's caches: a tenth of a run's start."""
    gc.freeze()
    gc.set_threshold(100_000)


def use_compilation_cache() -> None:
    """Keep compiled programs in ``DDPG_JAX_CACHE``, or the user's cache; ``off``: do not."""
    import jax

    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # not a concern of the user
    home = _home()
    if home is None:
        os.environ.setdefault(
            "MPLCONFIGDIR", str(Path(tempfile.gettempdir()) / f"ddpg_jax-matplotlib-{os.getuid()}")
        )
    cache = os.environ.get("DDPG_JAX_CACHE", "")
    if not cache and os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        return
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))  # relative paths are invalid by its standard
    root = given if given.is_absolute() else home and home / ".cache"
    folder = Path(cache) if cache else root and root / "ddpg_jax" / "xla"
    if cache.lower() in ("off", "0", "none") or folder is None or not _writable(folder):
        jax.config.update("jax_enable_compilation_cache", False)
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)


def _home() -> Path | None:
    try:
        return Path.home()
    except RuntimeError:  # HOME is unset and the user unknown
        return None


def _writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except (OSError, ValueError):
        return False


def begin() -> None:
    """Prepare JAX for a command that computes."""
    collect_garbage_seldom()
    use_compilation_cache()
    require_device()
