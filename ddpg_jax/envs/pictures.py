"""A Gymnasium environment seen through its camera, on the host: as `ddpg_jax.envs.pixels` on the
device. Imports Gymnasium.
"""

from typing import Any

import gymnasium
import numpy as np

from ddpg_jax.envs.drawn import drawn


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
        space, channels = env.observation_space, 1 if grayscale else 3
        self._seen = space.dtype == np.uint8 and (space.shape or ())[2:] in ((1,), (3,))
        self._shape, self._frames = (size, size, channels), frames
        self._times, self._each = action_repeat, action_repeat // frames_per_action
        self.observation_space = gymnasium.spaces.Box(
            0, 255, (size, size, frames * channels), np.uint8
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
        total, done = 0.0, False
        for number in range(self._times):
            if not done:
                observation, reward, terminated, truncated, info = self.env.step(action)
                total, done = total + float(reward), bool(terminated or truncated)
            if (number + 1) % self._each == 0:
                kept = self._stack[..., self._shape[2] :]
                self._stack = np.concatenate([kept, self._picture(observation)], axis=-1)
        return self._stack, total, terminated, truncated, info

    def _picture(self, observation: Any) -> np.ndarray:
        from PIL import Image

        shown: Any = observation if self._seen else self.env.render()
        if shown is None:
            raise ValueError(
                "render returned nothing: it needs render_mode='rgb_array', and to draw "
                "pictures there"
            )
        picture = Image.fromarray(drawn(shown, "render returned"))
        picture = picture.convert("L" if self._shape[2] == 1 else "RGB")
        if picture.size != self._shape[:2]:  # each pixel of all that it covers
            picture = picture.resize(self._shape[:2], Image.Resampling.BILINEAR)
        return np.asarray(picture, np.uint8).reshape(self._shape)
