"""The car: a kinematic bicycle whose wheel turns no faster than it can, with a controller that
follows a set speed.
"""

from typing import NamedTuple

import jax.numpy as jnp
from flax import struct
from jax import Array

TIME_STEP = 0.1
"""In s."""
WHEELBASE, WIDTH, LENGTH = 1.7, 1.3, 2.4
"""In m."""
MAX_STEERING, STEERING_RATE, STEERING_GAIN = 0.5, 2.0, 5.0
"""In rad and rad/s; the gain in 1/s."""
MAX_SPEED = 10 / 3.6
"""In m/s."""
MAX_ACCELERATION, SPEED_GAIN = 2.0, 2.0
"""In m/s^2; the gain in 1/s."""


@struct.dataclass
class Car:
    """``speed`` in m/s, never backwards, and ``steering``, the angle of the front wheel in rad,
    left is positive.
    """

    speed: Array
    steering: Array


class Motion(NamedTuple):
    """What a step moved the car by, seen from where it was: metres ``forward`` and to the ``left``,
    rad ``turned`` left.
    """

    forward: Array
    left: Array
    turned: Array


def set_points(action: Array) -> Array:
    """``[..., 2]`` in [-1, 1] as the wheel's angle wanted, within 0.5 rad, and the speed wanted, 0
    to 10 km/h (2.78 m/s).
    """
    action = jnp.clip(action, -1.0, 1.0)
    return jnp.stack([action[..., 0] * MAX_STEERING, (action[..., 1] + 1) / 2 * MAX_SPEED], axis=-1)


def move(car: Car, action: Array) -> tuple[Car, Motion]:
    r"""One step of 0.1 s.

    .. math::

        \text{steering} &\leftarrow \text{steering}
            + dt\, \mathrm{clip}(5/s\, (\text{wanted} - \text{steering}), \pm 2\, rad/s) \\
        \text{speed}    &\leftarrow \text{speed}
            + dt\, \mathrm{clip}(2/s\, (\text{wanted} - \text{speed}), \pm 2\, m/s^2) \\
        \text{turned}   &= \text{speed}\; dt\, \tan(\text{steering}) / \text{wheelbase}

    Within the step the rear axle runs along an arc of a circle, exactly; the wheel and the speed
    are those of its end.

    Args:
        car: as it drives.
        action: ``[2]`` in [-1, 1], see `set_points`.
    """
    steering, speed = set_points(action)
    turn = jnp.clip(STEERING_GAIN * (steering - car.steering), -STEERING_RATE, STEERING_RATE)
    faster = jnp.clip(SPEED_GAIN * (speed - car.speed), -MAX_ACCELERATION, MAX_ACCELERATION)
    speed = jnp.maximum(car.speed + faster * TIME_STEP, 0.0)
    car = Car(speed, car.steering + turn * TIME_STEP)
    way = car.speed * TIME_STEP
    turned = way * jnp.tan(car.steering) / WHEELBASE
    chord = way * jnp.sinc(turned / (2 * jnp.pi))  # sin(turned / 2) / (turned / 2)
    return car, Motion(chord * jnp.cos(turned / 2), chord * jnp.sin(turned / 2), turned)


def at_rest() -> Car:
    """Standing, the wheel straight."""
    return Car(jnp.float32(0), jnp.float32(0))
