"""An environment seen through its camera: pictures as observations, drawn on the device from each
state's scene.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import Array

from ddpg_jax import checks
from ddpg_jax.environment import (
    BatchRecipe,
    Environment,
    Renderer,
    ResetResult,
    SingleEnvironment,
    SingleStepResult,
)
from ddpg_jax.envs.render.image import LARGEST, Scene, film, mapped, render, side_by_side
from ddpg_jax.envs.wrappers import frame_stack
from ddpg_jax.types import Key, PyTree, strong

OPTIONS = {
    "image_size": ("size", 64),
    "frame_stack": ("frames", 3),
    "frames_per_action": ("frames_per_action", 1),
    "grayscale": ("grayscale", False),
    "action_repeat": ("action_repeat", 1),
}
"""The arguments of `pixels` by their names among the options of an environment, and defaults."""
BRIGHTNESS = (0.299, 0.587, 0.114)
"""Of red, green and blue (ITU-R BT.601)."""


@struct.dataclass
class PixelState:
    """``state`` of the environment that is seen; its ``steps`` since the episode began; whether it
    is still ``valid``, where it may break down.
    """

    state: PyTree
    steps: Array
    valid: Array | None = None


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
    require(size, frames, action_repeat, frames_per_action, grayscale)
    made, single = _scene_of(env)

    @jax.named_scope("rendering")
    def picture(scene: Scene) -> Array:
        """``[size, size, 3]`` uint8, or with one channel."""
        drawn = render(scene, size, size, samples=samples)
        if not grayscale:
            return drawn
        red, green, blue = (
            drawn[..., i].astype(jnp.float32) * weight for i, weight in enumerate(BRIGHTNESS)
        )
        return (red + green + blue + 0.5).astype(jnp.uint8)[..., None]

    seen = _seen(single, picture, action_repeat, frames_per_action, env.time_limit)
    draw = lambda states: _beside(seen.scene, picture, states)
    renderer = Renderer(draw, fps=env.renderer.fps / action_repeat)
    env = made.make(seen, time_limit=-(-env.time_limit // action_repeat), renderer=renderer)
    return env if frames == frames_per_action else frame_stack(env, frames // frames_per_action)


def seen_options(options: dict[str, Any]) -> tuple[dict[str, Any] | None, dict[str, Any]]:
    """``(arguments of pixels, other options)``; None where the environment is not to be seen."""
    others = dict(options)
    seen = others.pop("pixels", False)
    checks.switch(pixels=seen)
    if not seen:
        return None, others
    given = {argument: others.pop(name, usual) for name, (argument, usual) in OPTIONS.items()}
    return given, others


def require(
    size: int, frames: int, action_repeat: int, frames_per_action: int, grayscale: bool
) -> None:
    """Check arguments of `pixels`.

    Raises:
        ValueError: one is out of its range, or does not fit the others.
    """
    checks.switch(grayscale=grayscale)
    checks.whole(1, LARGEST, size=size)
    checks.whole(1, frames=frames, action_repeat=action_repeat, frames_per_action=frames_per_action)
    for name, number in (("frames (frame_stack)", frames), ("action_repeat", action_repeat)):
        if number % frames_per_action:
            raise ValueError(
                f"{name}={number}: must be a multiple of frames_per_action={frames_per_action}."
            )


def _scene_of(env: Environment) -> tuple[BatchRecipe, SingleEnvironment]:
    """What to draw, and how it was made into an environment."""
    if not isinstance(env, Environment) or env.single is None or env.single.scene is None:
        raise ValueError(
            "pixels: this environment cannot be drawn on the device: give its SingleEnvironment a "
            "scene(state) that returns a ddpg_jax.envs.render.Scene."
        )
    if env.recipe is None or env.recipe.step is not env.step:
        raise ValueError(
            "pixels: this environment was wrapped, or not made by envs.batch: put pixels around it "
            "first and other wrappers around that; repeated actions and stacked frames are its own "
            "arguments."
        )
    state, _ = jax.eval_shape(env.single.reset, jax.random.key(0))
    if not isinstance(found := jax.eval_shape(env.single.scene, state), Scene):
        raise ValueError(
            f"pixels: scene(state) returned {type(found).__name__}: it must be a "
            "ddpg_jax.envs.render.Scene."
        )
    return env.recipe, env.single


def _seen(
    single: SingleEnvironment,
    picture: Callable[[Scene], Array],
    times: int,
    shown: int,
    time_limit: int,
) -> SingleEnvironment:
    """The environment with pictures ``[H, W, shown * C]`` of some of the ``times`` steps of each
    action as its observation.
    """
    scene: Any = single.scene

    def reset(key: Key) -> ResetResult:
        state, valid = strong(single.reset(key)[0]), single.valid and jnp.bool_(True)
        begun = PixelState(state, jnp.int32(0), valid)
        return begun, jnp.concatenate([picture(scene(state))] * shown, axis=-1)

    def once(action: Array, before: Any, key: Key) -> tuple[Any, Scene]:
        now, total, _, ended = before
        state, observation, reward, over = strong(single.step(now.state, action, key))
        over, valid, end = over.astype(bool), now.valid, now.steps + 1 >= time_limit
        if single.valid is not None:
            valid = single.valid(state, observation, reward)
            end = end | ~valid
        if single.truncated is not None:
            end = end | single.truncated(state)
        new = PixelState(state, now.steps + 1, valid)
        after = (new, total + reward.astype(jnp.float32), over, over | end)
        after = jax.tree.map(lambda old, new: jnp.where(ended, old, new), before, after)
        return after, scene(after[0].state)

    def step(state: PixelState, action: Array, key: Key) -> SingleStepResult:
        never = jnp.bool_(False)
        begin = (state, jnp.float32(0), never, never)
        if times == 1:
            (state, reward, terminated, _), last = once(action, begin, key)
            return state, picture(last), reward, terminated
        keys, each = jax.random.split(key, times), times // shown
        repeated = functools.partial(once, action)
        (state, reward, terminated, _), scenes = jax.lax.scan(repeated, begin, keys)
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


def _beside(scene: Any, picture: Callable[[Scene], Array], states: PyTree) -> list[np.ndarray]:
    """The scene, and beside it the newest picture that the agent sees, of states ``[T, ...]``."""
    whole = film(scene, states)
    pictures = mapped(lambda state: picture(scene(state)), states)
    rows = np.arange(len(whole[0])) * pictures.shape[1] // len(whole[0])
    seen = pictures[:, rows][:, :, rows]
    return side_by_side(whole, np.broadcast_to(seen, (*seen.shape[:3], 3)))
