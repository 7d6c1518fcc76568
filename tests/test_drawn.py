"""What environments draw is a picture whatever its numbers, or one sentence."""

import gymnasium
import numpy as np
import pytest
from click.testing import CliRunner
from gymnasium import spaces
from helpers import TINY_RUN
from PIL import Image, ImageSequence

import ddpg_jax
from ddpg_jax import envs
from ddpg_jax.envs.drawn import drawn
from ddpg_jax.runs.cli import commands
from ddpg_jax.runs.results import video

COLOURS = np.arange(5 * 4 * 3, dtype=np.uint8).reshape(5, 4, 3) * 4
GREY = np.repeat(COLOURS[..., :1], 3, axis=-1)
FORMS = {
    "int64": (COLOURS.astype(np.int64), COLOURS),
    "float of 255": (COLOURS.astype(np.float32) + 0.3, COLOURS),
    "float of 1": (COLOURS / 255, COLOURS),
    "float of 2": (np.full((5, 4, 3), 2.0), np.full((5, 4, 3), 2)),
    "lists": (COLOURS.tolist(), COLOURS),
    "a list of pictures": ([GREY, COLOURS], COLOURS),
    "opacity": (np.concatenate([COLOURS, COLOURS[..., :1]], axis=-1), COLOURS),
    "one channel": (COLOURS[..., :1], GREY),
    "none": (COLOURS[..., 0], GREY),
    "switches": (COLOURS > 90, (COLOURS > 90) * np.uint8(255)),
}


@pytest.mark.parametrize("form", FORMS)
def test_forms(form):
    given, wanted = FORMS[form]
    found = drawn(given, "a frame")
    assert (found.dtype, found.shape) == (np.uint8, (5, 4, 3))
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (np.zeros((3, 5, 7)), r"a frame of float64\[3, 5, 7\]: a picture is \[height, width"),
        (np.zeros(5), r"float64\[5\]"),
        ([], r"float64\[0\]"),
        ("text", "a picture is"),
        (np.full((5, 4, 3), 256), "beyond 0 to 255"),
        (np.full((5, 4, 3), -1.0), "beyond 0 to 255"),
        (np.full((5, 4, 3), np.nan), "or NaN"),
        (np.full((5, 4, 3), np.inf), "beyond 0 to 255"),
    ],
)
def test_what_is_none(given, said):
    with pytest.raises(ValueError, match=said):
        drawn(given, "a frame")


class Drawing(gymnasium.Env):
    """Draws a picture of a form, brighter with each step."""

    observation_space = spaces.Box(-1, 1, (1,))
    action_space = spaces.Box(-1, 1, (1,))
    metadata = {"render_modes": ["rgb_array", "human"], "render_fps": 30}  # noqa: RUF012
    form = staticmethod(lambda frame: frame)

    def __init__(self, render_mode=None):
        self.render_mode = render_mode

    def reset(self, *, seed=None, options=None):  # noqa: ARG002
        self.steps = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):  # noqa: ARG002
        self.steps += 1
        return np.zeros(1, np.float32), 0.0, False, False, {}

    def render(self):
        return self.form(np.full((8, 8, 1), 20 * self.steps))


@pytest.fixture
def kind():
    made = type("OneDrawing", (Drawing,), {})
    gymnasium.register("Drawing-v0", entry_point=made, max_episode_steps=6)
    yield made
    gymnasium.registry.pop("Drawing-v0")


def test_a_film_of_a_host_environment_trained_in_a_window(kind, tmp_path):
    """``render_mode`` was an option of the run; frames are int64 of one channel."""
    ddpg_jax.runs.train(
        "gymnasium/Drawing-v0",
        run_dir=tmp_path / "run",
        env_options={"render_mode": "human"},
        **TINY_RUN,
    )
    words = ["render", str(tmp_path / "run"), "--out", str(tmp_path / "film.gif")]
    done = CliRunner().invoke(commands.main, words)
    assert done.stdout.strip() == str(tmp_path / "film.gif"), (done.output, done.exception)
    with Image.open(tmp_path / "film.gif") as film:
        seen = [
            (int(np.asarray(frame.convert("L")).mean()), frame.info["duration"])
            for frame in ImageSequence.Iterator(film)
        ]
    assert seen == [(0, 30), (20, 40), (40, 30), (60, 30), (80, 40), (100, 30)]
    kind.form = staticmethod(lambda frame: frame * 99)
    done = CliRunner().invoke(commands.main, words)
    assert done.exit_code == 2
    assert "render returned with numbers beyond 0 to 255" in " ".join(done.stderr.split())


def test_pictures_that_are_observed(kind):
    kind.form = staticmethod(lambda frame: frame / 255)
    env = envs.make("gymnasium/Drawing-v0", 1, pixels=True, image_size=4, frame_stack=1)
    env.reset(0)
    seen = env.step(np.zeros((1, 1), np.float32)).observation
    np.testing.assert_array_equal(seen, np.full((1, 4, 4, 3), 20))


@pytest.mark.parametrize(("fps", "count"), [(30, 61), (24, 7), (60, 90), (50, 5), (200 / 3, 40)])
def test_a_gif_keeps_the_time_of_the_whole(fps, count):
    every = int(np.ceil(fps / 50))
    durations = video.gif_durations(count, fps, every)
    assert min(durations) >= 2
    begins = np.cumsum([0, *durations])[:-1] / 100
    shown = np.arange(0, count, every) / fps
    np.testing.assert_allclose(begins, shown, atol=0.0051)
    assert sum(durations) / 100 == pytest.approx(count / fps, abs=0.025)


def test_the_file_has_these_durations(tmp_path):
    """Two and a half frames a second: 40 hundredths each, where one in ten more would show."""
    frames = [np.full((8, 8, 3), 50 * index, np.uint8) for index in range(3)]
    with Image.open(video.write_video(frames, tmp_path / "film.gif", 2.5)) as picture:
        shown = []
        for index in range(3):
            picture.seek(index)
            shown.append(picture.info["duration"])
    assert shown == [400, 400, 400]


def test_a_gif_of_a_slow_simulation_lasts_as_long_as_one_can():
    assert video.gif_durations(2, 1e-4, 1) == [65_535] * 2


def test_frames_of_two_sizes_are_one_sentence(tmp_path):
    frames = [np.zeros((8, 8, 3), np.uint8), np.zeros((8, 9, 3), np.uint8)]
    with pytest.raises(ValueError, match=r"frames of \(8, 8, 3\) and of \(8, 9, 3\)"):
        video.write_video(frames, tmp_path / "film.gif", 20)
