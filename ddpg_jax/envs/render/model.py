"""Scenes of MuJoCo's models, as Brax and MJX simulate them: their geoms, colours, lights and
camera.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ddpg_jax.envs.render import look
from ddpg_jax.envs.render.camera import Camera, look_at
from ddpg_jax.envs.render.image import Scene
from ddpg_jax.envs.render.planes import Planes
from ddpg_jax.envs.render.solids import Boxes, Ellipsoids
from ddpg_jax.envs.render.tubes import Capsules, Cylinders

if TYPE_CHECKING:
    from collections.abc import Callable

PLANE, HEIGHTS, SPHERE, CAPSULE, ELLIPSOID, CYLINDER, BOX, MESH = range(8)
"""MuJoCo's kinds of geoms."""
SHOWN = 3
"""Groups of geoms from this on are hidden, as in MuJoCo's own renderer: shapes that only collide.
"""


class Geoms(NamedTuple):
    """``N`` geoms of a model: ``kind``, ``body``, ``number`` (sites count on from the geoms)
    ``[N]``; ``place: [N, 3]`` and ``turn: [N, 4]`` in the body's frame; ``size``, ``color``,
    ``other``: ``[N, 3]``; ``square: [N, 2]`` of a pattern.
    """

    kind: np.ndarray
    body: np.ndarray
    number: np.ndarray
    place: np.ndarray
    turn: np.ndarray
    size: np.ndarray
    color: np.ndarray
    other: np.ndarray
    square: np.ndarray


def scene_of(
    model: Any, camera: int | str | None = None
) -> Callable[[jax.Array, jax.Array], Scene]:
    """``scene(position [bodies, 3], rotation [bodies, 4])`` of a ``mujoco.MjModel``: where its
    bodies are, the world first, and the quaternions of how they are turned.

    Meshes and height fields are drawn as their bounding boxes; tendons, skins, shadows and mirrors
    are not drawn.

    Args:
        model: a ``mujoco.MjModel``.
        camera: name or number; None is the model's first one, or where it has none MuJoCo's own
            view of the whole.

    Raises:
        ValueError: there is no such camera, or nothing to be seen.
    """
    geoms, view = geoms_of(model), camera_of(model, camera)
    if not len(geoms.kind):
        raise ValueError(
            "the model has no geom that can be seen: give one a group below 3 and a "
            "colour that is not transparent."
        )
    groups = [(make, geoms_where(geoms, kinds)) for kinds, make in _KINDS]
    light, sky = look.light_of(model), look.sky_of(model)

    def scene(position: jax.Array, rotation: jax.Array) -> Scene:
        shapes = tuple(
            make(some, *_placed(some, position, rotation))
            for make, some in groups
            if len(some.kind)
        )
        return Scene(view(position, rotation), shapes, light, sky)

    return scene


def geoms_of(model: Any) -> Geoms:
    """The visible parts of a ``mujoco.MjModel``: geoms and sites of the groups that it shows."""
    colors = look.colors_of(model, "geom")
    sizes, place, turn, kind = (
        model.geom_size.copy(),
        model.geom_pos,
        model.geom_quat,
        model.geom_type.copy(),
    )
    boxed = np.isin(kind, (HEIGHTS, MESH)) | (kind > MESH)
    sizes[boxed], kind[boxed] = model.geom_aabb[boxed, 3:], BOX
    middle = np.sum(_many_axes(turn) * model.geom_aabb[:, None, :3], axis=2)
    place = place + np.where(boxed[:, None], middle, 0)
    geoms = Geoms(kind, model.geom_bodyid, np.arange(model.ngeom), place, turn, sizes, *colors)
    numbers = np.arange(model.nsite) + model.ngeom
    site = (
        model.site_type,
        model.site_bodyid,
        numbers,
        model.site_pos,
        model.site_quat,
        model.site_size,
    )
    both = Geoms(
        *map(np.concatenate, zip(geoms, (*site, *look.colors_of(model, "site")), strict=True))
    )
    groups = np.concatenate([model.geom_group, model.site_group])
    alpha = np.concatenate([look.alpha_of(model, "geom"), look.alpha_of(model, "site")])
    return Geoms(*(x[(groups < SHOWN) & (alpha > 0.1)] for x in both))


def geoms_where(geoms: Geoms, kinds: tuple[int, ...]) -> Geoms:
    """Those of these kinds."""
    return Geoms(*(x[np.isin(geoms.kind, kinds)] for x in geoms))


def order_of(model: Any) -> np.ndarray:
    """The number of each shape of `scene_of`, in its order (`ddpg_jax.envs.render.Hit`)."""
    geoms = geoms_of(model)
    return np.concatenate([geoms_where(geoms, kinds).number for kinds, _ in _KINDS])


def _planes(geoms: Geoms, place: jax.Array, turn: jax.Array) -> Planes:
    half = np.where(geoms.size[:, :2] > 0, geoms.size[:, :2], np.inf)
    return Planes(
        place,
        turn,
        _numbers(half),
        _numbers(geoms.color),
        _numbers(geoms.other),
        _numbers(geoms.square),
    )


def _capsules(geoms: Geoms, place: jax.Array, turn: jax.Array) -> Capsules:
    half = np.where(geoms.kind == SPHERE, 0.0, geoms.size[:, 1])
    way = turn[:, :, 2] * _numbers(half)[:, None]
    return Capsules(place - way, place + way, _numbers(geoms.size[:, 0]), _numbers(geoms.color))


def _cylinders(geoms: Geoms, place: jax.Array, turn: jax.Array) -> Cylinders:
    way = turn[:, :, 2] * _numbers(geoms.size[:, 1])[:, None]
    return Cylinders(place - way, place + way, _numbers(geoms.size[:, 0]), _numbers(geoms.color))


def _boxes(geoms: Geoms, place: jax.Array, turn: jax.Array) -> Boxes:
    return Boxes(place, turn, _numbers(geoms.size), _numbers(geoms.color))


def _ellipsoids(geoms: Geoms, place: jax.Array, turn: jax.Array) -> Ellipsoids:
    return Ellipsoids(place, turn, _numbers(geoms.size), _numbers(geoms.color))


_KINDS = (
    ((PLANE,), _planes),
    ((SPHERE, CAPSULE), _capsules),
    ((CYLINDER,), _cylinders),
    ((BOX,), _boxes),
    ((ELLIPSOID,), _ellipsoids),
)


def camera_of(model: Any, camera: int | str | None) -> Callable[[jax.Array, jax.Array], Camera]:
    """``camera(position, rotation)`` of the bodies, in each of MuJoCo's five modes; arguments and
    errors as of `scene_of`.
    """
    if camera is None and not model.ncam:
        return lambda position, rotation: _whole(model)
    number = _number(model, 0 if camera is None else camera)
    body, target, mode = (
        model.cam_bodyid[number],
        model.cam_targetbodyid[number],
        model.cam_mode[number],
    )
    angle = float(np.radians(model.cam_fovy[number]))
    fixed, own = (
        model.cam_mat0[number].reshape(3, 3).astype(np.float32),
        _axes(model.cam_quat[number], np),
    )

    def view(position: jax.Array, rotation: jax.Array) -> Camera:
        if mode == 1:
            return Camera(position[body] + _numbers(model.cam_pos0[number]), fixed, angle)
        if mode == 2:
            return Camera(
                _middle(model, body, position, rotation) + _numbers(model.cam_poscom0[number]),
                fixed,
                angle,
            )
        axes = _axes(rotation[body])
        place = position[body] + jnp.sum(axes * _numbers(model.cam_pos[number])[None], axis=1)
        if mode in (3, 4) and target >= 0:
            aim = position[target] if mode == 3 else _middle(model, target, position, rotation)
            return look_at(place, aim, field_of_view=angle)
        return Camera(place, jnp.sum(axes[:, :, None] * _numbers(own)[None], axis=1), angle)

    return view


def _number(model: Any, camera: int | str) -> int:
    names = [model.camera(i).name for i in range(model.ncam)]
    if camera in names:
        return names.index(str(camera))
    if isinstance(camera, int) and 0 <= camera < model.ncam:
        return camera
    known = ", ".join(f"{i} {name!r}" for i, name in enumerate(names)) or "none: leave it out"
    raise ValueError(f"camera={camera!r}: there is no such camera; the model has {known}.")


def _whole(model: Any) -> Camera:
    """MuJoCo's own view of a model without a camera: of its middle, from 1.5 times its extent."""
    azimuth, elevation = (
        np.radians(model.vis.global_.azimuth),
        np.radians(model.vis.global_.elevation),
    )
    forward = np.array(
        [
            np.cos(elevation) * np.cos(azimuth),
            np.cos(elevation) * np.sin(azimuth),
            np.sin(elevation),
        ]
    )
    away = model.stat.center - 1.5 * model.stat.extent * forward
    return look_at(
        _numbers(away),
        _numbers(model.stat.center),
        field_of_view=float(np.radians(model.vis.global_.fovy)),
    )


def _middle(model: Any, body: int, position: jax.Array, rotation: jax.Array) -> jax.Array:
    """The centre of mass of a body and all that hangs on it."""
    inside = np.zeros(model.nbody, bool)
    inside[body] = True
    for child in range(body + 1, model.nbody):  # a child's number is greater than its parent's
        inside[child] = inside[model.body_parentid[child]] and child > 0
    mass = np.where(inside, model.body_mass, 0.0)
    mass = mass / mass.sum() if mass.sum() > 0 else inside / inside.sum()
    centers = position + jnp.sum(
        jax.vmap(_axes)(rotation) * _numbers(model.body_ipos)[:, None], axis=2
    )
    return jnp.sum(centers * _numbers(mass)[:, None], axis=0)


def _placed(geoms: Geoms, position: jax.Array, rotation: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Places ``[N, 3]`` and axes ``[N, 3, 3]`` in the world."""
    axes = jax.vmap(_axes)(rotation)[geoms.body]
    place = position[geoms.body] + jnp.sum(axes * _numbers(geoms.place)[:, None], axis=2)
    return place, jnp.sum(axes[:, :, :, None] * _numbers(_many_axes(geoms.turn))[:, None], axis=2)


def _axes(turn: Any, xp: Any = jnp) -> Any:
    """The rotation matrix of a quaternion of any length."""
    w, x, y, z = (turn[i] for i in range(4))
    scale = 2 / (w * w + x * x + y * y + z * z)
    rows = (
        (1 - scale * (y * y + z * z), scale * (x * y - w * z), scale * (x * z + w * y)),
        (scale * (x * y + w * z), 1 - scale * (x * x + z * z), scale * (y * z - w * x)),
        (scale * (x * z - w * y), scale * (y * z + w * x), 1 - scale * (x * x + y * y)),
    )
    return xp.stack([xp.stack(row) for row in rows])


def _many_axes(turns: np.ndarray) -> np.ndarray:
    """The rotation matrices ``[N, 3, 3]`` of quaternions ``[N, 4]``."""
    return np.moveaxis(_axes(turns.T, np), -1, 0)


def _numbers(values: Any) -> jax.Array:
    return jnp.asarray(values, jnp.float32)
