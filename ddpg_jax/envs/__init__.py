"""Environments on the device. The contract is `ddpg_jax.environment.Environment`; `autoreset.batch`
fulfils it for any single one.

For example::

    env = envs.make("pendulum", num_envs=16)
    env = envs.make("lane", num_envs=16, curvature=0.01)
    env = envs.make("playground/CheetahRun", num_envs=128)
    env = envs.make("brax/halfcheetah", num_envs=64, backend="spring")
    env = envs.make("gymnasium/HalfCheetah-v5", num_envs=8)  # on the host, for `ddpg_jax.host`

A new family is a file here with ``make(...)`` and a line in `names` and in `make`.
"""

from collections.abc import Callable
from typing import Any

from ddpg_jax import checks
from ddpg_jax.environment import Environment, Renderer, SingleEnvironment
from ddpg_jax.envs import brax, gymnasium, lane, own, pendulum, playground, push, reach
from ddpg_jax.envs.autoreset import batch
from ddpg_jax.envs.channels import channels_last
from ddpg_jax.envs.check import check
from ddpg_jax.envs.pixels import OPTIONS, pixels, seen_options
from ddpg_jax.envs.unknown import unknown_environment
from ddpg_jax.envs.wrappers import (
    action_repeat,
    frame_stack,
    map_observation,
    scale_reward,
    time_aware,
)

__all__ = [
    "Renderer",
    "SingleEnvironment",
    "action_repeat",
    "batch",
    "check",
    "frame_stack",
    "make",
    "map_observation",
    "names",
    "on_host",
    "pixels",
    "scale_reward",
    "time_aware",
]


def names() -> list[str]:
    """Every name that `make` knows, but for those of the registries of Gymnasium and of MuJoCo
    Playground (`FAMILIES`).
    """
    return [*OWN, *(f"brax/{name}" for name in brax.NAMES)]


OWN: dict[str, tuple[Callable[..., Environment], tuple[str, ...]]] = {
    "pendulum": (pendulum.make, ("time_limit", "gravity")),
    "reach": (reach.make, reach.OPTIONS),
    "push": (push.make, push.OPTIONS),
    "lane": (lane.make, lane.OPTIONS),
}
"""Of this library: what makes them, and their options."""
PHYSICS = (
    ("impl", playground.PREFIX, "MuJoCo Playground"),
    ("backend", "brax/", "Brax"),
)
"""Options that choose a physics engine, and the family that has each."""
FAMILIES = (
    "playground/<name>, any of MuJoCo Playground's registry, for example playground/CheetahRun",
    "gymnasium/<id>, any of Gymnasium's registry, for example gymnasium/HalfCheetah-v5",
    "<module>:<function>, a function make(num_envs, **options) of yours",
)
"""Names beyond `names`."""


def on_host(name: str) -> bool:
    """Whether this name is an environment that is stepped on the host, a
    `ddpg_jax.environment.HostEnvironment`.
    """
    return name.startswith(gymnasium.PREFIX)


def make(name: str, num_envs: int, **options: Any) -> Any:  # by the name, which kind
    """The environment called ``name``, ``num_envs`` of it.

    Args:
        name: one of `names`; ``playground/<name>``; ``gymnasium/<id>`` or
            ``gymnasium/<module>:<id>`` for one on the host; ``module:function`` for
            ``function(num_envs, **options)`` of your own.
        num_envs: E, at least 1.
        **options: of the family: ``time_limit`` for all; ``action_repeat`` for all on the device
            but your own; ``observation``, ``reward``, ``curvature`` and ``lane_width`` for lane
            (`ddpg_jax.envs.lane.make`); ``tolerance`` and ``ends`` for reach and push, ``links``
            and ``friction`` for one of them each; ``impl`` for Playground; ``backend`` for Brax;
            ``randomize`` for both; others go to the environment's constructor. ``pixels=True`` for
            all that can be drawn, your own and those on the host too, with ``image_size``,
            ``frame_stack``, ``frames_per_action``, ``grayscale`` and ``action_repeat``
            (`ddpg_jax.envs.pixels`).
            ``channels_first=True`` turns its own images ``[C, H, W]`` into ``[H, W, C]``.

    Returns:
        An `Environment`; a `ddpg_jax.environment.HostEnvironment` where `on_host`.

    Example:
        >>> import jax
        >>> env = make("pendulum", num_envs=3)
        >>> state, observation = env.reset(jax.random.key(0))
        >>> state, step = env.step(state, jax.numpy.zeros((3, 1)), jax.random.key(1))
        >>> observation.shape, step.reward.shape
        ((3, 3), (3,))

    Raises:
        ValueError: an unknown name (the nearest known one is named), or an option unknown or out of
            its range; a `ddpg_jax.checks.BrokenEnvironment` where an environment of yours raises,
            later from its ``reset`` and ``step`` too.
        ImportError: the simulator is not installed.
    """
    first = options.pop("channels_first", False)
    checks.switch(channels_first=first)
    if first and options.get("pixels"):
        raise ValueError("channels_first is of an environment's own images: leave pixels out.")
    env = _make(name, num_envs, options)
    return channels_last(env) if first else env


def _make(name: str, num_envs: int, options: dict[str, Any]) -> Any:
    written = ":" in name and not on_host(name)  # a function of one's own
    for option, prefix, family in PHYSICS:
        if option in options and not (written or name.startswith(prefix)):
            raise ValueError(f"{name} has no {option}: that is an option of {family}.")
    seen, others = seen_options(options)
    if on_host(name):
        if seen is None and "action_repeat" in options:
            raise ValueError(
                f"{name} has no action_repeat: register it with a wrapper of Gymnasium that "
                "repeats actions."
            )
        return gymnasium.make(name.removeprefix(gymnasium.PREFIX), num_envs, **options)
    if seen is not None:
        return pixels(make(name, num_envs, **others), **seen)
    if written:
        return own.make(name, num_envs, **others)
    if alone := sorted(set(others) & (set(OPTIONS) - {"action_repeat"})):
        raise ValueError(
            f"{alone[0]} is an option of what an agent sees: add pixels=True (--pixels), or leave "
            "it out."
        )
    times = others.pop("action_repeat", None)
    if times is None:
        return _on_device(name, num_envs, others)
    checks.whole(1, action_repeat=times)
    return action_repeat(_on_device(name, num_envs, others), times)


def _on_device(name: str, num_envs: int, options: dict[str, Any]) -> Environment:
    if name.startswith(playground.PREFIX):
        return playground.make(name.removeprefix(playground.PREFIX), num_envs, **options)
    if name not in names():
        raise unknown_environment(name, names())
    if name in OWN:
        function, known = OWN[name]
        if others := sorted(set(options) - set(known)):
            raise ValueError(
                f"environment {name!r} has no option {others[0]!r}: its options are "
                f"{', '.join(known)}."
            )
        return function(num_envs, **options)
    return brax.make(name.removeprefix("brax/"), num_envs, **options)
