"""XLA's compilers for accelerators that are not here: which there are, what to install for them, a
program compiled by one.

Nothing is tuned by running it, as XLA does where it finds the device: it may choose other kernels
for a product there.
"""

import importlib.util
import os
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import click
import jax

from benchmarks.compiled import hlo
from ddpg_jax.types import PyTree

Place = Callable[[PyTree], PyTree]
"""Arrays or shapes, to shapes on the accelerator."""

_GPU = """
gpu_device_info {{
  name: "{name}" core_count: {cores} clock_rate_ghz: {clock} memory_bandwidth: {bandwidth}
  device_memory_size: {memory}
  l2_cache_size: {cache}
  cuda_compute_capability {{ major: {major} feature_extension: ACCELERATED_FEATURES }}
  threads_per_warp: 32 threads_per_block_limit: 1024 threads_per_core_limit: 2048 fpus_per_core: 128
  shared_memory_per_block: 49152 shared_memory_per_block_optin: 232448
  shared_memory_per_core: 233472
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
}}
platform_name: "CUDA" device_description_str: "{name}" dnn_version_info {{ major: 9 minor: 8 }}
"""
_NVCC = "nvidia.cuda_nvcc|nvidia.cu13"  # found there by JAX itself
_SM90 = {"cores": 132, "clock": 1.98, "cache": 52_428_800, "major": 9}


class Accelerator(NamedTuple):
    """What JAX needs to compile for one.

    ``modules``: what its compiler is found by, or either of two; ``packages``: what to install, for
    a version of JAX.
    """

    about: str
    modules: tuple[str, ...]
    packages: str
    topology: dict[str, Any]
    devices: int = 1
    """Of one host, that a program is compiled for."""


def _cuda(name: str, count: Any = 1, **figures: Any) -> Accelerator:
    return Accelerator(
        name if count == 1 else f"{count} {name}",
        (
            "jax_cuda12_plugin|jax_cuda13_plugin",
            "jax_plugins.xla_cuda12|jax_plugins.xla_cuda13",
            _NVCC,
        ),
        "--no-deps jax-cuda12-plugin=={jax} jax-cuda12-pjrt=={jax} nvidia-cuda-nvcc-cu12",
        {
            "platform": "cuda",
            "topology": f"1x1x{count}",
            "target_config": _GPU.format(name=name, **figures),
        },
        count,
    )


_H100 = {**_SM90, "bandwidth": 3_352_320_000_000, "memory": 84_942_979_072}


def _tpu(about: str, topology: str, count: int = 1) -> Accelerator:
    return Accelerator(
        about,
        ("libtpu",),
        '"jax[tpu]=={jax}"',
        {"platform": "tpu", "topology_name": topology},
        count,
    )


ACCELERATORS = {
    "h100": _cuda("NVIDIA H100 80GB HBM3", **_H100),
    "h100_x8": _cuda("NVIDIA H100 80GB HBM3", 8, **_H100),
    "h200": _cuda(
        "NVIDIA H200 141GB HBM3e", **_SM90, bandwidth=4_800_000_000_000, memory=151_397_597_184
    ),
    "b200": _cuda(
        "NVIDIA B200",
        cores=148,
        clock=1.965,
        cache=132_644_864,
        major=10,
        bandwidth=7_672_320_000_000,
        memory=191_514_411_008,
    ),
    "v5e": _tpu("TPU v5e", "v5e:2x2"),
    "v5e_2x4": _tpu("8 TPU v5e", "v5e:2x4", 8),
}


class MissingError(click.ClickException):
    """A compiler or a peer is not installed; the message says how to install it."""

    exit_code = 2


class Compiled(NamedTuple):
    """The optimised ``program``, its ``text``, and figures: ``bytes`` by kind, ``seconds`` to lower
    and compile it here.
    """

    program: hlo.Loop
    text: str
    bytes: dict[str, int]
    seconds: float


def missing(name: str) -> str:
    """One sentence that says what to install for this accelerator's compiler; empty where it is
    installed.
    """
    accelerator = ACCELERATORS[name]
    absent = [
        either.split("|")[0]
        for either in accelerator.modules
        if not any(map(installed, either.split("|")))
    ]
    command = f"pip install {accelerator.packages.format(jax=jax.__version__)}"
    return (
        f"The compiler for {accelerator.about} is missing ({', '.join(absent)}): {command}"
        if absent
        else ""
    )


def installed(module: str) -> bool:
    """Whether a module could be imported; it is not."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # of the package around it
        return False


def only_cpu() -> None:
    """Run JAX on the CPU, whatever plug-ins are installed, and compile all without a cache."""
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_enable_compilation_cache", False)


def place_on(name: str) -> Place:
    """Shapes on one such accelerator, for `compiled`.

    Raises:
        MissingError: its compiler is not installed.
    """
    mesh = jax.sharding.Mesh(devices_of(name)[:1], ("device",))
    return place_over(jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec()))


def devices_of(name: str) -> list[Any]:
    """Such accelerators, as many as its topology has.

    Raises:
        MissingError: their compiler is not installed.
    """
    if sentence := missing(name):
        raise MissingError(sentence)
    from jax.experimental import topologies

    # The TPU's library would ask its host, which is not there, what it is.
    kind = f"v5litepod-{8 if ACCELERATORS[name].devices == 8 else 4}"
    os.environ |= {
        "TPU_SKIP_MDS_QUERY": "1",
        "TPU_ACCELERATOR_TYPE": kind,
        "TPU_WORKER_HOSTNAMES": "localhost",
    }
    return list(topologies.get_topology_desc(**ACCELERATORS[name].topology).devices)


def place_over(sharding: jax.sharding.Sharding | None) -> Place:
    """Shapes that lie so; None is JAX's own choice."""
    return lambda tree: jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree
    )


def compiled(lower: Callable[[Any], jax.stages.Lowered], place: Any) -> Compiled:
    """Trace, lower and compile a program, and read the result."""
    begin = time.perf_counter()
    done = lower(place).compile()
    seconds = time.perf_counter() - begin
    memory, text = done.memory_analysis(), done.as_text()
    assert memory is not None
    assert text is not None
    sizes = {
        "temporary": memory.temp_size_in_bytes,
        "argument": memory.argument_size_in_bytes,
        "aliased": memory.alias_size_in_bytes,
    }
    return Compiled(hlo.read(text), text, sizes, seconds)
