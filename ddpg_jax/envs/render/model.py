"""Scenes of MuJoCo's models, as Brax and MJX simulate them: their geoms, colours, lights and
camera.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ddpg_jax.envs.render import look
from ddpg_jax.envs.render.camera import Camera, look_at
from ddpg_jax.envs.render.image import Scene
from ddpg_jax.envs.render.planes import Planes
from ddpg_jax.envs.render.solids import Boxes, Ellipsoids
from ddpg_jax.envs.render.tubes import Capsules, Cylinders

PLANE, HEIGHTS, SPHERE, CAPSULE, ELLIPSOID, CYLINDER, BOX, MESH = range(8)
"""MuJoCo's kinds of geoms."""
SHOWN = 3
"""Groups of geoms from this on are hidden, as in MuJoCo's own renderer: shapes that only collide.
"""


class Geoms(NamedTuple):
    """``N`` geoms of a model: ``number`` (sites count on from the geoms), ``kind``, ``body``,
    ``group`` ``[N]``; ``place: [N, 3]`` and ``turn: [N, 3, 3]`` in the body's frame; ``size``,
    ``color``, ``other``: ``[N, 3]``; ``square: [N, 2]`` of a pattern; how opaque, ``alpha: [N]``.
    """

    number: np.ndarray
    kind: np.ndarray
    body: np.ndarray
    group: np.ndarray
    place: np.ndarray
    turn: np.ndarray
    size: np.ndarray
    color: np.ndarray
    other: np.ndarray
    square: np.ndarray
    alpha: np.ndarray


def scene_of(model: Any, camera: int | str | None = None) -> Callable[[Array, Array], Scene]:
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
            "the model has no geom that can be seen: give one a group below 3 and a colour that is "
            "not transparent."
        )
    groups = [(shapes, geoms_where(geoms, kinds)) for kinds, shapes in _KINDS]
    light, sky = look.light_of(model), look.sky_of(model)

    def scene(position: Array, rotation: Array) -> Scene:
        made = tuple(
            _made(shapes, some, position, rotation) for shapes, some in groups if len(some.kind)
        )
        return Scene(view(position, rotation), made, light, sky)

    return scene


def geoms_of(model: Any) -> Geoms:
    """The visible parts of a ``mujoco.MjModel``: geoms and sites of the groups that it shows."""
    both = map(np.concatenate, zip(_parts(model, "geom"), _parts(model, "site"), strict=True))
    geoms = Geoms(np.arange(model.ngeom + model.nsite), *both)
    kind = model.geom_type
    boxed = np.flatnonzero(np.isin(kind, (HEIGHTS, MESH)) | (kind > MESH))
    boxes = model.geom_aabb[boxed]
    geoms.kind[boxed], geoms.size[boxed] = BOX, boxes[:, 3:]
    geoms.place[boxed] += np.sum(geoms.turn[boxed] * boxes[:, None, :3], axis=2)
    shown = (geoms.group < SHOWN) & (geoms.alpha > 0.1)
    return Geoms(*(_single(x[shown]) for x in geoms))


def _parts(model: Any, what: str) -> tuple[np.ndarray, ...]:
    """Of all geoms, or sites: the fields of `Geoms` but for the numbers."""
    plain = [getattr(model, f"{what}_{field}") for field in ("type", "bodyid", "group", "pos")]
    turn, size = _many_axes(getattr(model, f"{what}_quat")), getattr(model, f"{what}_size")
    return *plain, turn, size, *look.colors_of(model, what)


def geoms_where(geoms: Geoms, kinds: tuple[int, ...]) -> Geoms:
    """Those of these kinds."""
    return Geoms(*(x[np.isin(geoms.kind, kinds)] for x in geoms))


def order_of(model: Any) -> np.ndarray:
    """The number of each shape of `scene_of`, in its order (`ddpg_jax.envs.render.Hit`)."""
    geoms = geoms_of(model)
    return np.concatenate([geoms_where(geoms, kinds).number for kinds, _ in _KINDS])


def _made(shapes: Any, geoms: Geoms, position: Array, rotation: Array) -> Any:
    """A group of shapes, where the bodies are now."""
    size, color, axes = geoms.size, geoms.color, jax.vmap(_axes)(rotation)[geoms.body]
    place = position[geoms.body] + jnp.sum(axes * geoms.place[:, None], axis=2)
    turn = jnp.sum(axes[:, :, :, None] * geoms.turn[:, None], axis=2)
    if shapes == Planes:
        half = np.where(size[:, :2] > 0, size[:, :2], np.inf)
        return shapes(place, turn, half, color, geoms.other, geoms.square)
    if shapes in (Boxes, Ellipsoids):
        return shapes(place, turn, size, color)
    way = turn[:, :, 2] * np.where(geoms.kind == SPHERE, 0.0, size[:, 1])[:, None]
    return shapes(place - way, place + way, size[:, 0], color)


_KINDS = (
    ((PLANE,), Planes),
    ((SPHERE, CAPSULE), Capsules),
    ((CYLINDER,), Cylinders),
    ((BOX,), Boxes),
    ((ELLIPSOID,), Ellipsoids),
)


def camera_of(model: Any, camera: int | str | None) -> Callable[[Array, Array], Camera]:
    """``camera(position, rotation)`` of the bodies, in each of MuJoCo's five modes; arguments and
    errors as of `scene_of`.
    """
    if camera is None and not model.ncam:
        return lambda position, rotation: _whole(model)
    number = _number(model, 0 if camera is None else camera)
    body, target = model.cam_bodyid[number], model.cam_targetbodyid[number]
    mode, angle = model.cam_mode[number], float(np.radians(model.cam_fovy[number]))
    fixed = _single(model.cam_mat0[number].reshape(3, 3))
    own = _single(_axes(model.cam_quat[number], np))

    def view(position: Array, rotation: Array) -> Camera:
        if mode == 1:
            return Camera(position[body] + _single(model.cam_pos0[number]), fixed, angle)
        if mode == 2:
            middle = _middle(model, body, position, rotation)
            return Camera(middle + _single(model.cam_poscom0[number]), fixed, angle)
        axes = _axes(rotation[body])
        place = position[body] + jnp.sum(axes * _single(model.cam_pos[number])[None], axis=1)
        if mode in (3, 4) and target >= 0:
            aim = position[target] if mode == 3 else _middle(model, target, position, rotation)
            return look_at(place, aim, field_of_view=angle)
        return Camera(place, jnp.sum(axes[:, :, None] * own[None], axis=1), angle)

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
    free, center = model.vis.global_, model.stat.center
    turn, up, angle = np.radians([free.azimuth, free.elevation, free.fovy])
    forward = np.array([np.cos(up) * np.cos(turn), np.cos(up) * np.sin(turn), np.sin(up)])
    away = center - 1.5 * model.stat.extent * forward
    return look_at(away, center, field_of_view=float(angle))


def _middle(model: Any, body: int, position: Array, rotation: Array) -> Array:
    """The centre of mass of a body and all that hangs on it."""
    inside = np.zeros(model.nbody, bool)
    inside[body] = True
    for child in range(body + 1, model.nbody):  # a child's number is greater than its parent's
        inside[child] = inside[model.body_parentid[child]] and child > 0
    mass = np.where(inside, model.body_mass, 0.0)
    mass = mass / mass.sum() if mass.sum() > 0 else inside / inside.sum()
    centers = position + jnp.sum(
        jax.vmap(_axes)(rotation) * _single(model.body_ipos)[:, None], axis=2
    )
    return jnp.sum(centers * _single(mass)[:, None], axis=0)


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


def _single(values: np.ndarray) -> Any:
    """In single precision, if it is not of whole numbers."""
    return values.astype(np.float32) if values.dtype.kind == "f" else values
