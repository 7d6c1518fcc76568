"""Chooses the default preset for an accelerator type; imports no JAX until it needs one."""

from ddpg_jax.runs.options.run_options import ANY_DEVICE, RunOptions
from ddpg_jax.runs.tasks import TASKS

PARALLEL_DEVICES = ("gpu", "tpu")
"""Devices on which a thousand environments cost little more than one."""
LARGE_PRESET, SMALL_PRESET, IMAGE_PRESET = "fast-td3", "default", "drq-v2"


def choose_preset(options: RunOptions) -> tuple[str, str]:
    """Return a preset, and the kind of device for which it was chosen.

    Without ``preset`` it is `IMAGE_PRESET` where the environment shows images, `LARGE_PRESET` on a
    GPU or TPU for tasks with a known range of rewards and no tuned hyper-parameters, and
    `SMALL_PRESET` elsewhere. Without ``device_kind`` it is chosen for the device of JAX.
    """
    kind = options.device_kind
    if options.preset or options.env_options.get("pixels"):
        return options.preset or IMAGE_PRESET, kind or ANY_DEVICE
    if kind is None:
        import jax

        kind = jax.default_backend()
    task = TASKS.get(options.env)
    known = task is not None and task.support is not None and not task.hyperparameters
    return LARGE_PRESET if kind in PARALLEL_DEVICES and known else SMALL_PRESET, kind


def describe_choice(env: str, preset: str, kind: str, has_own: bool) -> str:
    """Return a sentence on the choice made for the device; empty where it made no difference."""
    if kind not in PARALLEL_DEVICES:
        return ""
    if preset != SMALL_PRESET:
        return f"preset {preset} is the choice for a {kind}; on a cpu it is {SMALL_PRESET}."
    if has_own or env.startswith("gymnasium/"):
        return ""
    return (
        f"a {kind} steps thousands of environments in nearly the time of one: give --num-envs, "
        f"--batch-size and --updates-per-step, or --preset {LARGE_PRESET} with the range of "
        "discounted returns as --v-min and --v-max."
    )
