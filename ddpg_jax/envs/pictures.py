"""A Gymnasium environment seen through its camera, on the host: as `ddpg_jax.envs.pixels` on the
device. Imports Gymnasium.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np


class Pictures(gymnasium.Wrapper):
    """Its observation is the last pictures, ``[size, size, frames * channels]`` uint8; arguments as
    of `ddpg_jax.envs.pixels`.

    A picture is the observation itself where that is one (bytes of shape ``[H, W, 1 or 3]``), or
    else what ``render`` draws, squeezed into a square.
    """

    def __init__(
        self,
        env: Any,
        size: int,
        frames: int,
        *,
        action_repeat: int = 1,
        frames_per_action: int = 1,
        grayscale: bool = False,
    ) -> None:
        super().__init__(env)
        self._seen = is_picture(env.observation_space)
        self._size, self._frames, self._gray = size, frames, grayscale
        self._times, self._each = action_repeat, action_repeat // frames_per_action
        self._channels = 1 if grayscale else 3
        self.observation_space = gymnasium.spaces.Box(
            0, 255, (size, size, frames * self._channels), np.uint8
        )

    def reset(self, **options: Any) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin an episode; its first picture is all there is."""
        observation, info = self.env.reset(**options)
        self._stack = np.concatenate([self._picture(observation)] * self._frames, axis=-1)
        return self._stack, info

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Take an action as many times as it lasts, or until the episode ends; rewards are added
        up.
        """
        total, done, newest = 0.0, False, None
        for number in range(self._times):
            if not done:
                observation, reward, terminated, truncated, info = self.env.step(action)
                total, done, newest = total + float(reward), bool(terminated or truncated), None
            if (number + 1) % self._each == 0:
                newest = self._picture(observation) if newest is None else newest
                self._stack = np.concatenate([self._stack[..., self._channels :], newest], axis=-1)
        return self._stack, total, terminated, truncated, info

    def _picture(self, observation: Any) -> np.ndarray:
        from PIL import Image

        drawn: Any = observation if self._seen else self.env.render()
        if drawn is None:
            raise ValueError(
                "render returned nothing: it needs render_mode='rgb_array', and to draw "
                "pictures there"
            )
        picture = Image.fromarray(drawn[..., 0] if drawn.shape[-1] == 1 else drawn).convert(
            "L" if self._gray else "RGB"
        )
        if picture.size != (self._size, self._size):
            picture = picture.resize(
                (self._size, self._size), Image.Resampling.BILINEAR
            )  # of all that a pixel covers
        return np.asarray(picture, np.uint8).reshape(self._size, self._size, self._channels)


def is_picture(space: Any) -> bool:
    """Whether observations are pictures already."""
    shape: tuple[int, ...] = space.shape or ()
    return space.dtype == np.uint8 and len(shape) == 3 and shape[-1] in (1, 3)
