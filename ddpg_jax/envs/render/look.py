"""How a MuJoCo model looks: colours of its materials and textures, its lights, its sky."""

from __future__ import annotations

from typing import Any

import numpy as np

from ddpg_jax.envs.render.image import Light, Sky

DEFAULT = (0.5, 0.5, 0.5, 1.0)
"""MuJoCo's colour of what has none of its own, where a material has one."""
DIRECTIONAL, CONE = 1, 0.3
"""MuJoCo's kind of lamp that lights everything alike, and the share that is left of any other where
it does not point.
"""


def colors_of(model: Any, what: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """``(color [N, 3], other [N, 3], square [N, 2])`` of all geoms, or sites: the two colours of a
    texture and the size of its squares.
    """
    found = [
        _texture(model, material, size)
        for material, size in zip(_of(model, what, "matid"), _of(model, what, "size"), strict=True)
    ]
    plain = _rgba(model, what)[:, :3]
    color, other, square = (
        np.array([x[i] for x in found]).reshape(-1, width) for i, width in enumerate((3, 3, 2))
    )
    return plain * color, plain * other, square


def alpha_of(model: Any, what: str) -> np.ndarray:
    """How opaque, ``[N]``, 0 to 1."""
    return _rgba(model, what)[:, 3]


def light_of(model: Any) -> Light:
    """The headlight and those lamps that are on, as if far away; one with a cone lights little
    outside of its middle.
    """
    head = model.vis.headlight
    shines = model.light_active.astype(bool)
    ambient = (head.ambient.mean() if head.active else 0) + model.light_ambient[shines].mean(
        axis=1
    ).sum()
    strength = model.light_diffuse.mean(axis=1) * np.where(
        model.light_type == DIRECTIONAL, 1.0, CONE
    )
    return Light(
        ambient=float(ambient),
        headlight=float(head.diffuse.mean() if head.active else 0),
        direction=model.light_dir[shines].astype(np.float32),
        strength=(strength[shines]).astype(np.float32),
    )


def sky_of(model: Any) -> Sky:
    """The model's skybox, or black."""
    for number in range(model.ntex):
        if model.tex_type[number] == 2:
            faces = _pixels(model, number)
            side = faces.shape[1]
            blocks = faces[: len(faces) // side * side].reshape(-1, side, side, faces.shape[2])
            if len(blocks) == 6:  # right, left, up, down, front, back
                front = blocks[4]
                return _sky(
                    _mean(blocks[2]), _mean(front[side // 2 - 1 : side // 2 + 1]), _mean(blocks[3])
                )
            return _sky(*[_mean(blocks[0])] * 3)
    return _sky(*[np.zeros(3, np.float32)] * 3)


def _sky(*colors: Any) -> Sky:
    # Of NumPy, as all that is read of a model: it outlives the trace in which it is made.
    return Sky(*colors)


def _rgba(model: Any, what: str) -> np.ndarray:
    own, material = _of(model, what, "rgba"), _of(model, what, "matid")
    given = (material < 0) | np.any(own != np.asarray(DEFAULT, np.float32), axis=1)
    return np.where(given[:, None], own, model.mat_rgba[material] if model.nmat else own)


def _texture(model: Any, material: int, size: np.ndarray) -> tuple[Any, Any, Any]:
    """What a material's texture multiplies a colour by: two colours, and the sides of their
    squares.
    """
    plain = (1.0, 1.0, 1.0), (1.0, 1.0, 1.0), (1.0, 1.0)
    if material < 0:
        return plain
    used = [number for number in np.ravel(model.mat_texid[material]) if number >= 0]
    if not used:
        return plain
    pixels = _pixels(model, used[0])
    if model.tex_type[used[0]] != 0:  # around a body: its mean
        return _mean(pixels), _mean(pixels), (1.0, 1.0)
    high, wide = pixels.shape[:2]
    color, other = (
        _mean(pixels[high // 8 : 3 * high // 8, wide * k // 8 : wide * (k + 2) // 8])
        for k in (1, 5)
    )
    whole = (
        np.full(2, 2.0)
        if model.mat_texuniform[material]
        else 2 * np.where(size[:2] > 0, size[:2], 1.0)
    )
    return color, other, whole / np.maximum(model.mat_texrepeat[material], 1e-6) / 2


def _pixels(model: Any, number: int) -> np.ndarray:
    """``[height, width, channels]`` uint8."""
    high, wide, channels = (
        int(x[number]) for x in (model.tex_height, model.tex_width, model.tex_nchannel)
    )
    start = int(model.tex_adr[number])
    result: np.ndarray = model.tex_data[start : start + high * wide * channels].reshape(
        high, wide, channels
    )
    return result


def _mean(pixels: np.ndarray) -> np.ndarray:
    color = pixels.reshape(-1, pixels.shape[-1]).mean(axis=0) / 255
    return np.resize(color[:3] if len(color) >= 3 else color[:1], 3).astype(np.float32)


def _of(model: Any, what: str, field: str) -> np.ndarray:
    result: np.ndarray = getattr(model, f"{what}_{field}")
    return result
