"""Roads without an end: their curvature is a sum of waves along the way, drawn anew for each."""

import math

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from ddpg_jax.types import Key

Range = tuple[float, float]
"""From which to which."""
RMS_CURVATURE, LANE_WIDTH = 0.015, (3.0, 4.0)
"""Root mean square in 1/m, and from which to which (m)."""
WAVES = 6
"""Waves of which a road's curvature is the sum."""
SHORTEST, LONGEST = 25.0, 120.0
"""Of these waves, in m."""
STRAIGHT = 1e-6
"""A curvature (1/m) below which a bend is as good as none."""


@struct.dataclass
class Road:
    """Waves of curvature, ``[WAVES]``: ``amplitude`` in 1/m, ``frequency`` in rad/m, ``phase``; the
    lane's ``width`` in m.
    """

    amplitude: Array
    frequency: Array
    phase: Array
    width: Array


@struct.dataclass
class Place:
    """Where something is on a road: metres ``along`` the middle of the lane and to the left of it
    (``offset``), and the ``angle`` (rad) by which it is turned left from the lane's direction
    there.
    """

    along: Array
    offset: Array
    angle: Array


def draw(key: Key, curvature: float | Array, widths: Range) -> Road:
    """A road whose curvature has this root mean square (1/m), of waves of 25 to 120 m; the lane's
    width is from between two.
    """
    low, high = math.log(2 * math.pi / LONGEST), math.log(2 * math.pi / SHORTEST)
    # One draw: each takes XLA a second to compile.
    drawn = jax.random.uniform(key, (2 * WAVES + 1,), jnp.float32)
    return Road(
        amplitude=jnp.full((WAVES,), curvature * math.sqrt(2 / WAVES), jnp.float32),
        frequency=jnp.exp(low + (high - low) * drawn[:WAVES]),
        phase=2 * math.pi * drawn[WAVES:-1],
        width=widths[0] + (widths[1] - widths[0]) * drawn[-1],
    )


def curvature(road: Road, along: Array) -> Array:
    """1/m at ``along: [...]``, to the left positive: the sum of ``a cos(w s + phi)``."""
    amplitude, frequency, phase = _waves(road, along.ndim)
    return jnp.sum(amplitude * jnp.cos(frequency * along[None] + phase), axis=0)


def turned(road: Road, start: Array, end: Array) -> Array:
    """By how much (rad) the road turns left from one place to another, ``[...]`` both: the integral
    of `curvature`.
    """
    amplitude, frequency, phase = _waves(road, end.ndim)
    sines = jnp.sin(frequency * end[None] + phase) - jnp.sin(frequency * start[None] + phase)
    return jnp.sum(amplitude / frequency * sines, axis=0)


def _waves(road: Road, rank: int) -> list[Array]:
    return [x.reshape(-1, *(1,) * rank) for x in (road.amplitude, road.frequency, road.phase)]


def middle(road: Road, start: Array, ways: Array) -> tuple[Array, Array]:
    """The lane's middle around a place on it: points ``[2, N]`` (forward, left of it), and the
    lane's angles ``[N]`` there.

    Args:
        road: any.
        start: metres along it.
        ways: ``[N]`` from ``start``, evenly spaced; 0 is one of them.
    """
    step = ways[1] - ways[0]
    at = start + ways
    start = jnp.full_like(at, start)
    angle = turned(road, start[1:], at[1:] - step / 2)  # of the piece between two points
    points = jnp.cumsum(step * jnp.stack([jnp.cos(angle), jnp.sin(angle)]), axis=1)
    points = jnp.pad(points, ((0, 0), (1, 0)))
    return points - points[:, jnp.argmin(jnp.abs(ways)), None], turned(road, start, at)


def beside(point: Array, curvature: Array) -> tuple[Array, Array]:
    """``(along, offset)`` of ``point: [2, ...]`` (forward, left) from a place on a road of constant
    curvature, exactly.

    offset = (1 - sqrt(x^2 + y^2)) / c,  along = arctan2(x, y) / c,  x = c forward,  y = 1 - c left
    """
    forward, left = point
    bend = jnp.where(jnp.abs(curvature) < STRAIGHT, STRAIGHT, curvature)
    across = 1 - bend * left
    # As (1 - r) / c, without the difference of nearly equal numbers: (1 - r^2) / (c (1 + r)).
    radius = jnp.sqrt((bend * forward) ** 2 + across**2)
    offset = (2 * left - bend * (forward**2 + left**2)) / (1 + radius)
    return jnp.arctan2(bend * forward, across) / bend, offset


def moved(road: Road, place: Place, forward: Array, left: Array, turn: Array) -> Place:
    """Where something is after it moved: metres ``forward`` and to its ``left`` by its own
    direction, and a ``turn`` (rad).
    """
    cosine, sine = jnp.cos(place.angle), jnp.sin(place.angle)
    point = jnp.stack(
        [cosine * forward - sine * left, place.offset + sine * forward + cosine * left]
    )
    half = curvature(road, place.along + point[0] / 2)
    ahead, offset = beside(point, half)
    along = place.along + ahead
    angle = place.angle + turn - turned(road, place.along, along)
    return Place(along, offset, jnp.arctan2(jnp.sin(angle), jnp.cos(angle)))
