"""Gymnasium's ``Pendulum-v1`` in JAX: the same dynamics, bounds, starts and time limit."""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import Array

from ddpg_jax import checks
from ddpg_jax.environment import Environment, Renderer, SingleEnvironment, SingleStepResult
from ddpg_jax.envs.autoreset import batch
from ddpg_jax.envs.flat import flat_film
from ddpg_jax.envs.render import Capsules, Light, Scene, Sky, look_at, spheres
from ddpg_jax.envs.render.camera import row, vector
from ddpg_jax.types import Key, PyTree

GRAVITY, MASS, LENGTH, TIME_STEP = 10.0, 1.0, 1.0, 0.05
"""In m/s^2, kg, m and s."""
MAX_SPEED, MAX_TORQUE = 8.0, 2.0
"""In rad/s and N m."""


@struct.dataclass
class PendulumState:
    """``angle`` in rad, 0 is upright and not wrapped; ``speed`` in rad/s; ``torque`` in N m, the
    last one applied.
    """

    angle: Array
    speed: Array
    torque: Array


def make(num_envs: int, *, time_limit: int = 200, gravity: float = GRAVITY) -> Environment:
    """``num_envs`` pendulums; observation ``[cos, sin, speed]``, action the torque divided by 2 N
    m, never terminates.

    Args:
        num_envs: E, at least 1.
        time_limit: steps after which an episode is truncated.
        gravity: m/s^2.

    Raises:
        ValueError: a number is out of its range.
    """
    checks.finite(gravity=gravity)
    moved = functools.partial(step, gravity=gravity)
    single = SingleEnvironment(reset, moved, action_size=1, scene=scene)
    renderer = Renderer(draw, fps=1 / TIME_STEP)
    return batch(single, num_envs, time_limit, native_action=torque, renderer=renderer)


def torque(action: Array) -> Array:
    """N m, at most 2 either way, for an action in [-1, 1]."""
    return MAX_TORQUE * jnp.clip(action, -1.0, 1.0)


def reset(key: Key) -> tuple[PendulumState, Array]:
    """Angle from U[-pi, pi], speed from U[-1, 1] rad/s."""
    high = vector(jnp.pi, 1.0)
    angle, speed = jax.random.uniform(key, (2,), jnp.float32, minval=-high, maxval=high)
    state = PendulumState(angle, speed, jnp.zeros_like(angle))
    return state, observe(state)


def step(
    state: PendulumState, action: Array, key: Key | None = None, *, gravity: float = GRAVITY
) -> SingleStepResult:
    """One step of 0.05 s; the cost ``angle^2 + 0.1 speed^2 + 0.001 torque^2`` is of the state
    before it.

    Args:
        state: one pendulum.
        action: ``[1]``, clipped to [-1, 1].
        key: not used; the dynamics are deterministic.
        gravity: m/s^2.

    Returns:
        ``(state, observation [3], reward, terminated)``.
    """
    applied = torque(action[0])
    wrapped = (state.angle + jnp.pi) % (2 * jnp.pi) - jnp.pi
    cost = wrapped**2 + 0.1 * state.speed**2 + 0.001 * applied**2
    acceleration = (
        3 * gravity / (2 * LENGTH) * jnp.sin(state.angle) + 3.0 / (MASS * LENGTH**2) * applied
    )
    speed = jnp.clip(state.speed + acceleration * TIME_STEP, -MAX_SPEED, MAX_SPEED)
    state = PendulumState(state.angle + speed * TIME_STEP, speed, applied)
    return state, observe(state), -cost, jnp.bool_(False)


def observe(state: PendulumState) -> Array:
    """``[cos(angle), sin(angle), speed]``."""
    return jnp.stack([jnp.cos(state.angle), jnp.sin(state.angle), state.speed], axis=-1)


def scene(state: PendulumState) -> Scene:
    """The rod and its axle, from so far that it looks flat; 2.4 m are to be seen."""
    tip = LENGTH * jnp.stack(
        [-jnp.sin(state.angle), jnp.zeros_like(state.angle), jnp.cos(state.angle)]
    )
    rod = Capsules(row(0, 0, 0), tip[None], vector(0.1), row(0.8, 0.3, 0.3))
    axle = spheres(row(0, -0.1, 0), vector(0.05), row(0, 0, 0))
    white, camera = vector(1, 1, 1), look_at(vector(0, -12, 0), vector(0, 0, 0), field_of_view=0.2)
    return Scene(camera, (rod, axle), Light(ambient=0.6), Sky(white, white, white))


def draw(states: PyTree) -> list[np.ndarray]:
    """Frames ``[240, 240, 3]`` of the trajectory ``[T]``."""
    angles, torques = (x.tolist() for x in jax.device_get((states.angle, states.torque)))

    def begin(axes: Any) -> Callable[[int], str]:
        (rod,) = axes.plot([], [], lw=8, solid_capstyle="round", color="#cc4d4d")
        axes.plot(0, 0, "o", color="black", ms=4)
        (bar,) = axes.plot([], [], lw=4, color="#4477aa")

        def show(number: int) -> str:
            angle, torque = angles[number], torques[number]
            rod.set_data([0, -LENGTH * math.sin(angle)], [0, LENGTH * math.cos(angle)])
            bar.set_data([0, -torque / MAX_TORQUE], [-1.1, -1.1])
            return f"{number * TIME_STEP:5.2f} s   torque {torque:+.2f} N m"

        return show

    return flat_film(1.2, len(angles), begin)
