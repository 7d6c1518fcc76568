"""How a MuJoCo model looks: colours of its materials and textures, its lights, its sky."""

import math
from typing import Any

import numpy as np

from ddpg_jax.envs.render.image import Light, Sky

DEFAULT = (0.5, 0.5, 0.5, 1.0)
"""MuJoCo's colour of what has none of its own, where a material has one."""
DIRECTIONAL, CONE = 1, 0.3
"""MuJoCo's kind of lamp that lights everything alike, and the share that is left of any other where
it does not point.
"""
SKYBOX = 2
"""MuJoCo's kind of texture that is all around."""


def colors_of(model: Any, what: str) -> tuple[np.ndarray, ...]:
    """``(color [N, 3], other [N, 3], square [N, 2], alpha [N])`` of all geoms, or sites: the two
    colours of a texture, the size of its squares, and how opaque it is.
    """
    material, own = getattr(model, f"{what}_matid"), getattr(model, f"{what}_rgba")
    given = (material < 0) | np.any(own != np.asarray(DEFAULT, np.float32), axis=1)
    plain = np.where(given[:, None], own, model.mat_rgba[material] if model.nmat else own)
    pairs = zip(material, getattr(model, f"{what}_size"), strict=True)
    found = [_texture(model, *pair) for pair in pairs]
    color, other, square = np.split(np.reshape(found, (-1, 8)), (3, 6), axis=1)
    return plain[:, :3] * color, plain[:, :3] * other, square, plain[:, 3]


def light_of(model: Any) -> Light:
    """The headlight and those lamps that are on, as if far away; one with a cone lights little
    outside of its middle.
    """
    head, shines = model.vis.headlight, model.light_active.astype(bool)
    ambient, headlight = (head.ambient.mean(), head.diffuse.mean()) if head.active else (0, 0)
    ambient = ambient + model.light_ambient[shines].mean(axis=1).sum()
    cone = np.where(model.light_type == DIRECTIONAL, 1.0, CONE)
    strength = model.light_diffuse.mean(axis=1) * cone
    lamps = [x[shines].astype(np.float32) for x in (model.light_dir, strength)]
    return Light(float(ambient), float(headlight), *lamps)


def sky_of(model: Any) -> Sky:
    """The model's skybox, or black."""
    parts = [np.zeros((1, 3))] * 3
    boxes = np.flatnonzero(model.tex_type == SKYBOX)
    if boxes.size:
        faces = _pixels(model, boxes[0])
        side = faces.shape[1]
        blocks = faces[: len(faces) // side * side].reshape(-1, side, side, faces.shape[2])
        parts = [blocks[0]] * 3
        if len(blocks) == 6:
            _, _, up, down, front, _ = blocks
            parts = [up, front[side // 2 - 1 : side // 2 + 1], down]
    # Of NumPy, as all that is read of a model: it outlives the trace in which it is made.
    colors: Any = map(_mean, parts)
    return Sky(*colors)


def _texture(model: Any, material: int, size: np.ndarray) -> np.ndarray:
    """What a material's texture multiplies a colour by: two colours, and the sides of their
    squares, ``[8]``.
    """
    used = np.ravel(model.mat_texid[material]) if material >= 0 else np.array([])
    used = used[used >= 0]
    if not used.size:
        return np.ones(8)
    pixels = _pixels(model, used[0])
    if model.tex_type[used[0]] != 0:  # around a body: its mean
        return np.concatenate([*[_mean(pixels)] * 2, np.ones(2)])
    high, wide = pixels.shape[:2]
    color, other = (
        _mean(pixels[high // 8 : 3 * high // 8, wide * k // 8 : wide * (k + 2) // 8])
        for k in (1, 5)
    )
    uniform = model.mat_texuniform[material]
    side = np.ones(2) if uniform else np.where(size[:2] > 0, size[:2], 1.0)
    square = side / np.maximum(model.mat_texrepeat[material], 1e-6)
    return np.concatenate([color, other, square])


def _pixels(model: Any, number: int) -> np.ndarray:
    """``[height, width, channels]`` uint8."""
    shape = [int(x[number]) for x in (model.tex_height, model.tex_width, model.tex_nchannel)]
    start = int(model.tex_adr[number])
    return np.asarray(model.tex_data[start : start + math.prod(shape)]).reshape(shape)


def _mean(pixels: np.ndarray) -> np.ndarray:
    color = pixels.reshape(-1, pixels.shape[-1]).mean(axis=0) / 255
    return np.resize(color[:3] if len(color) >= 3 else color[:1], 3).astype(np.float32)
