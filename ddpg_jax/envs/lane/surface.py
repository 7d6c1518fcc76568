"""What a road looks like: its surface as a shape that rays meet, and how it is painted, drawn anew
in each episode.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import Array

from ddpg_jax.envs.lane.road import beside
from ddpg_jax.envs.render.camera import Rays, vector
from ddpg_jax.envs.render.hit import NOTHING, Hit, nearest, of
from ddpg_jax.types import Key

LINE = 0.12
"""Metres, the width of a painted line."""


@struct.dataclass
class Look:
    """Colours ``[3]`` in [0, 1] of the ``asphalt``, the ``verge`` and the ``paint``; how strongly
    (``rough``) and in how long waves (``grain``, m) the two first vary; the ``dash`` of the line
    between two lanes, m; how ``bright`` it is; the ``sky``'s two colours ``[2, 3]``.
    """

    asphalt: Array
    verge: Array
    paint: Array
    rough: Array
    grain: Array
    dash: Array
    bright: Array
    sky: Array


_RANGES = {
    "asphalt": ((0.2,), (0.5,)),  # grey
    "verge": ((0.2, 0.3, 0.05), (0.6, 0.65, 0.3)),
    "paint": ((0.8, 0.7, 0.4), (1.0, 1.0, 1.0)),
    "rough": ((0.0,), (0.15,)),
    "grain": ((0.5,), (3.0,)),
    "dash": ((2.0,), (4.0,)),
    "bright": ((0.6,), (1.1,)),
    "sky": ((0.3, 0.5, 0.7, 0.6, 0.7, 0.8), (0.6, 0.7, 1.0, 0.9, 0.9, 1.0)),
}


def paint(key: Key) -> Look:
    """Every colour and number from evenly between two."""
    low, high = (
        np.concatenate([ends[i] for ends in _RANGES.values()]).astype(np.float32) for i in range(2)
    )
    drawn = low + (high - low) * jax.random.uniform(key, low.shape, jnp.float32)
    ends = np.cumsum([len(low) for low, _ in _RANGES.values()])[:-1]
    asphalt, verge, line, rough, grain, dash, bright, sky = jnp.split(drawn, ends)
    asphalt, sky = jnp.broadcast_to(asphalt, (3,)), sky.reshape(2, 3)
    return Look(asphalt, verge, line, rough[0], grain[0], dash[0], bright[0], sky)


@struct.dataclass
class Surface:
    """The ground around a piece of road: places ``[N]`` on the middle of the lane as points
    ``[N, 2]`` (forward, left of the viewer), directions ``[N, 2]``, curvatures and metres ``along``
    it; the lane's ``width`` ``[1]`` and its look.
    """

    point: Array
    direction: Array
    bend: Array
    along: Array
    width: Array
    look: Look

    def places(self, rays: Rays) -> tuple[Array, Array, Array]:
        """``(distance, along, offset)``, each ``[P]``: how far the ground is on each ray, and where
        on the road it is.
        """
        down = -rays.direction[2]
        distance = jnp.where(down > 1e-3, rays.origin[2] / jnp.maximum(down, 1e-3), NOTHING)
        point = rays.origin[:2, None] + jnp.minimum(distance, 1e3)[None] * rays.direction[:2]
        apart = [point[None, i] - self.point[:, i, None] for i in range(2)]
        _, number = nearest(apart[0] ** 2 + apart[1] ** 2)
        start, direction, bend, along = of(
            number, self.point, self.direction, self.bend, self.along
        )
        away = point - start
        forward = away[0] * direction[0] + away[1] * direction[1]
        left = away[1] * direction[0] - away[0] * direction[1]
        further, offset = beside(jnp.stack([forward, left]), bend)
        return distance, along + further, offset

    def hit(self, rays: Rays) -> Hit:
        """See `ddpg_jax.envs.render.hit.Shapes`."""
        distance, along, offset = self.places(rays)
        pixel = rays.angle * jnp.minimum(distance, 1e3)  # metres that one covers, across
        up = jnp.broadcast_to(vector(0, 0, 1)[:, None], rays.direction.shape)
        color = self._painted(along, offset, pixel)
        return Hit(distance, up, color, jnp.zeros(distance.shape, jnp.int32))

    def _painted(self, along: Array, offset: Array, pixel: Array) -> Array:
        """Colours ``[3, P]``: the lane that is driven, another on its left, a line on either side
        and a dashed one between them.
        """
        look, width = self.look, self.width[0]

        def covered(inside: Array) -> Array:
            """The share of a pixel, from metres."""
            return jnp.clip(inside / jnp.maximum(pixel, 1e-3) + 0.5, 0, 1)

        def line(middle: Array) -> Array:
            return covered(LINE / 2 - jnp.abs(offset - middle))

        on_road = covered(width + 0.3 - jnp.abs(offset - width / 2))
        dash = covered(look.dash / 2 - jnp.abs(along % (2 * look.dash) - look.dash))
        dashed = line(width / 2) * dash
        painted = jnp.maximum(jnp.maximum(line(-width / 2), line(width * 1.5)), dashed)
        grain = 6.3 * offset / look.grain + jnp.sin(along)
        wave = jnp.sin(6.3 * along / look.grain) * jnp.sin(grain)
        fades = jnp.clip(1 - 2 * pixel / look.grain, 0, 1)
        ground = look.verge[:, None] + (look.asphalt - look.verge)[:, None] * on_road[None]
        ground = ground * (1 + look.rough * wave * fades)[None]
        colors: Array = ground + (look.paint[:, None] - ground) * painted[None]
        return colors
