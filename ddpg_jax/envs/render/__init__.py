"""A renderer in JAX: rays against shapes in closed form, for observations from pixels and for films
where there is no OpenGL.

>>> import jax.numpy as jnp
>>> ball = spheres(
...     center=jnp.array([[0.0, 0.0, 0.5]]),
...     radius=jnp.array([0.5]),
...     color=jnp.array([[0.8, 0.4, 0.2]]),
... )
>>> floor = ground((0.2, 0.3, 0.4), (0.1, 0.2, 0.3))
>>> scene = Scene(look_at((0.0, -3.0, 1.0), (0.0, 0.0, 0.5)), (floor, ball))
>>> picture = render(scene, 64, 64)  # a pure function of arrays
>>> picture.shape, str(picture.dtype)
((64, 64, 3), 'uint8')

A `ddpg_jax.environment.SingleEnvironment` whose ``scene(state)`` returns a `Scene` can be seen: by
`ddpg_jax.envs.pixels`, and in ``ddpg-jax render``.
"""

from ddpg_jax.envs.render.camera import Camera, Rays, look_at, rays
from ddpg_jax.envs.render.hit import Hit, Shapes
from ddpg_jax.envs.render.image import Light, Scene, Sky, film, render, trace
from ddpg_jax.envs.render.model import scene_of
from ddpg_jax.envs.render.planes import Planes, ground
from ddpg_jax.envs.render.solids import Boxes, Ellipsoids
from ddpg_jax.envs.render.tubes import Capsules, Cylinders, spheres

__all__ = [
    "Boxes",
    "Camera",
    "Capsules",
    "Cylinders",
    "Ellipsoids",
    "Hit",
    "Light",
    "Planes",
    "Rays",
    "Scene",
    "Shapes",
    "Sky",
    "film",
    "ground",
    "look_at",
    "rays",
    "render",
    "scene_of",
    "spheres",
    "trace",
]
