"""An environment seen through its camera: pictures as observations, drawn on the device from each
state's scene.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from ddpg_jax import checks
from ddpg_jax.environment import Environment, Renderer, SingleEnvironment
from ddpg_jax.envs.render.image import LARGEST, Scene, film, render
from ddpg_jax.envs.wrappers import frame_stack
from ddpg_jax.types import Key, PyTree, strong

if TYPE_CHECKING:
    from collections.abc import Callable

OPTIONS = {
    "image_size": "size",
    "frame_stack": "frames",
    "frames_per_action": "frames_per_action",
    "grayscale": "grayscale",
    "action_repeat": "action_repeat",
}
"""Names of the arguments of `pixels` among the options of an environment."""
BRIGHTNESS = (0.299, 0.587, 0.114)
"""Of red, green and blue (ITU-R BT.601)."""


@struct.dataclass
class PixelState:
    """``state`` of the environment that is seen; its ``steps`` since the episode began; whether it
    is still ``valid``, where it may break down.
    """

    state: PyTree
    steps: jax.Array
    valid: jax.Array | None = None


def pixels(
    env: Environment,
    size: int = 64,
    frames: int = 3,
    *,
    action_repeat: int = 1,
    frames_per_action: int = 1,
    grayscale: bool = False,
    samples: int = 1,
) -> Environment:
    """Show the last ``frames`` pictures instead of the observation:
    ``[size, size, frames * channels]`` uint8, oldest first.

    An episode begins with its first picture ``frames`` times. The newest
    ``frames_per_action * channels`` channels are those that the last action brought; the others
    were in the observation before.

    Args:
        env: as it was made, with a ``scene`` (`ddpg_jax.environment.SingleEnvironment`): pendulum,
            Brax, Playground, or your own. Other wrappers go around what comes out.
        size: pixels along each side.
        frames: a multiple of ``frames_per_action``.
        action_repeat: steps that one action lasts, or until the episode ends; rewards are added up.
        frames_per_action: how many of those steps are drawn, evenly spaced, the last always; a
            divisor of ``action_repeat``.
        grayscale: one channel for each picture instead of three.
        samples: rays along each side of a pixel (`ddpg_jax.envs.render.render`).

    Raises:
        ValueError: the environment cannot be drawn, was wrapped, or a number does not fit the
            others.

    Source: Lillicrap et al. 2015, section 4: 64 pixels, ``action_repeat=3, frames_per_action=3``,
    nine feature maps. Yarats et al. 2021 (arXiv:2107.09645), section 4: 84 pixels,
    ``action_repeat=2``, three frames.
    """
    made, single = env.recipe, env.single
    require(size, frames, action_repeat, frames_per_action)
    _require_scene(env)
    assert made is not None
    assert single is not None
    picture = jax.named_scope("rendering")(lambda scene: _picture(scene, size, grayscale, samples))
    seen = _seen(single, picture, action_repeat, frames_per_action, env.time_limit)
    draw = lambda states: _beside(seen, picture, states)
    renderer = Renderer(draw, fps=env.renderer.fps / action_repeat)
    env = made.make(seen, -(-env.time_limit // action_repeat), renderer)
    return env if frames == frames_per_action else frame_stack(env, frames // frames_per_action)


def seen_options(options: dict[str, Any]) -> tuple[dict[str, Any] | None, dict[str, Any]]:
    """``(arguments of pixels, other options)``; None where the environment is not to be seen."""
    others = {name: value for name, value in options.items() if name != "pixels"}
    if not options.get("pixels"):
        return None, others
    given = {OPTIONS[name]: value for name, value in others.items() if name in OPTIONS}
    return given, {name: value for name, value in others.items() if name not in OPTIONS}


def require(
    size: int = 64,
    frames: int = 3,
    action_repeat: int = 1,
    frames_per_action: int = 1,
    **others: Any,
) -> None:
    """Check arguments of `pixels`.

    Raises:
        ValueError: one is out of its range, or does not fit the others.
    """
    checks.between(1, LARGEST, size=size)
    checks.between(
        1,
        float("inf"),
        frames=frames,
        action_repeat=action_repeat,
        frames_per_action=frames_per_action,
    )
    for name, number in (("frames (frame_stack)", frames), ("action_repeat", action_repeat)):
        if number % frames_per_action:
            raise ValueError(
                f"{name}={number}: must be a multiple of frames_per_action={frames_per_action}."
            )


def _require_scene(env: Environment) -> None:
    if not isinstance(env, Environment) or env.single is None or env.single.scene is None:
        raise ValueError(
            "pixels: this environment cannot be drawn on the device: give its "
            "SingleEnvironment a scene(state) that returns a "
            "ddpg_jax.envs.render.Scene."
        )
    if env.recipe is None or env.recipe.step is not env.step:
        raise ValueError(
            "pixels: this environment was wrapped, or not made by envs.batch: put pixels "
            "around it first and other wrappers "
            "around that; repeated actions and stacked frames are its own arguments."
        )
    state, _ = jax.eval_shape(env.single.reset, jax.random.key(0))
    if not isinstance(found := jax.eval_shape(env.single.scene, state), Scene):
        raise ValueError(
            f"pixels: scene(state) returned {type(found).__name__}: it must be a "
            "ddpg_jax.envs.render.Scene."
        )


def _picture(scene: Scene, size: int, grayscale: bool, samples: int) -> jax.Array:
    """``[size, size, 3]`` uint8, or with one channel."""
    picture = render(scene, size, size, samples=samples)
    if not grayscale:
        return picture
    red, green, blue = (
        picture[..., i].astype(jnp.float32) * weight for i, weight in enumerate(BRIGHTNESS)
    )
    return (red + green + blue + 0.5).astype(jnp.uint8)[..., None]


def _seen(
    single: SingleEnvironment,
    picture: Callable[[Scene], jax.Array],
    times: int,
    shown: int,
    time_limit: int,
) -> SingleEnvironment:
    """The environment with pictures ``[H, W, shown * C]`` of some of the ``times`` steps of each
    action as its observation.
    """
    scene = single.scene
    assert scene is not None

    def reset(key: Key) -> tuple[PixelState, jax.Array]:
        state, _ = single.reset(key)
        begun = PixelState(
            strong(state),
            jnp.zeros((), jnp.int32),
            None if single.valid is None else jnp.ones((), bool),
        )
        return begun, jnp.concatenate([picture(scene(begun.state))] * shown, axis=-1)

    def once(
        before: tuple[PixelState, jax.Array, jax.Array, jax.Array], action: jax.Array, key: Key
    ) -> tuple[Any, Scene]:
        now, total, terminated, ended = before
        state, observation, reward, over = strong(single.step(now.state, action, key))
        over, valid, end = over.astype(bool), now.valid, now.steps + 1 >= time_limit
        if single.valid is not None:
            valid = single.valid(state, observation, reward)
            end = end | ~valid
        if single.truncated is not None:
            end = end | single.truncated(state)
        after = (
            PixelState(state, now.steps + 1, valid),
            total + reward.astype(jnp.float32),
            over,
            over | end,
        )
        after = jax.tree.map(
            lambda old, new: jnp.where(ended, old, new), (now, total, terminated, ended), after
        )
        return after, scene(after[0].state)

    def step(
        state: PixelState, action: jax.Array, key: Key
    ) -> tuple[PixelState, jax.Array, jax.Array, jax.Array]:
        never = jnp.zeros((), bool)
        begin = (state, jnp.zeros((), jnp.float32), never, never)
        if times == 1:
            (state, reward, terminated, _), last = once(begin, action, key)
            return state, picture(last), reward, terminated
        keys = jax.random.split(key, times)
        (state, reward, terminated, _), scenes = jax.lax.scan(
            lambda carry, key: once(carry, action, key), begin, keys
        )
        each = times // shown
        drawn = jax.vmap(picture)(jax.tree.map(lambda x: x[each - 1 :: each], scenes))
        return state, jnp.concatenate(list(drawn), axis=-1), reward, terminated

    return SingleEnvironment(
        reset,
        step,
        single.action_size,
        truncated=None if single.truncated is None else lambda state: single.truncated(state.state),  # type: ignore[misc]
        valid=None if single.valid is None else lambda state, observation, reward: state.valid,
        scene=lambda state: scene(state.state),
    )


def _beside(
    single: SingleEnvironment,
    picture: Callable[[Scene], jax.Array],
    states: PyTree,
    height: int = 240,
    gap: int = 8,
) -> list[np.ndarray]:
    """The scene, and beside it the newest picture that the agent sees, of states ``[T, ...]``."""
    assert single.scene is not None
    scene = single.scene
    pictures = np.asarray(
        jax.jit(lambda states: jax.lax.map(lambda state: picture(scene(state)), states))(states)
    )
    rows = np.arange(height) * pictures.shape[1] // height
    seen = np.broadcast_to(pictures[:, rows][:, :, rows], (len(pictures), height, height, 3))
    between = np.full((height, gap, 3), 255, np.uint8)
    whole = film(scene, states, height, height * 4 // 3)
    return [
        np.concatenate([one, between, other], axis=1)
        for one, other in zip(whole, seen, strict=True)
    ]
