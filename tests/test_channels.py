"""Images with their channels first are told, and turned where asked for, on device and host."""

import json
import sys

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from click.testing import CliRunner
from gymnasium import spaces
from helpers import TINY_RUN

import ddpg_jax
from ddpg_jax import checks, envs
from ddpg_jax.environment import SingleEnvironment
from ddpg_jax.networks import Conv
from ddpg_jax.runs.cli import commands
from ddpg_jax.runs.config.run_config import make_config
from ddpg_jax.runs.programs import setup


@pytest.mark.parametrize(
    ("shape", "first"),
    [
        ((3, 84, 84), True),
        ((16, 84, 84), True),
        ((1, 48, 64), True),
        ((84, 84, 3), False),
        ((84, 84, 16), False),
        ((8, 8, 9), False),
        ((9, 8, 8), False),
        ((24, 24, 24), False),
    ],
)
def test_what_looks_as_if_channels_came_first(shape, first):
    assert checks.channels_first(jax.ShapeDtypeStruct(shape, jnp.uint8)) == first
    assert not checks.channels_first(jax.ShapeDtypeStruct(shape, jnp.float32))


class Seen(gymnasium.Env):
    """Its picture is ``[C, H, W]``, all numbers different."""

    action_space = spaces.Box(-1, 1, (1,))
    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012

    def __init__(self, render_mode=None, shape=(3, 12, 10), beside=False):
        self.render_mode, self.beside = render_mode, beside
        image = spaces.Box(0, 255, tuple(shape), np.uint8)
        speed = spaces.Box(-1, 1, (2,))
        self.observation_space = spaces.Dict(image=image, speed=speed) if beside else image
        self.shape = tuple(shape)

    def reset(self, *, seed=None, options=None):  # noqa: ARG002
        self.steps = 0
        return self._see(), {}

    def step(self, action):  # noqa: ARG002
        self.steps += 1
        return self._see(), 0.0, self.steps == 3, False, {}

    def _see(self):
        image = (np.arange(np.prod(self.shape)) + self.steps).astype(np.uint8).reshape(self.shape)
        return {"image": image, "speed": np.ones(2, np.float32)} if self.beside else image

    def render(self):
        return np.zeros((8, 8, 3), np.uint8)


@pytest.fixture(autouse=True)
def registered():
    gymnasium.register("Channels-v0", entry_point=Seen, max_episode_steps=3)
    yield
    gymnasium.registry.pop("Channels-v0")


NAME = "gymnasium/Channels-v0"


def test_on_the_host():
    plain, turned = envs.make(NAME, 2), envs.make(NAME, 2, channels_first=True)
    assert turned.observation == jax.ShapeDtypeStruct((12, 10, 3), np.uint8)
    np.testing.assert_array_equal(turned.reset(0), np.moveaxis(plain.reset(0), 1, -1))
    for _ in range(4):
        both = [env.step(np.zeros((2, 1), np.float32)) for env in (plain, turned)]
        for name in ("observation", "next_observation"):
            old, new = (getattr(now, name) for now in both)
            np.testing.assert_array_equal(new, np.moveaxis(old, 1, -1))
    beside = envs.make(NAME, 2, channels_first=True, beside=True)
    assert beside.observation["image"].shape == (12, 10, 3)
    assert beside.observation["speed"].shape == beside.reset(0)["speed"][0].shape == (2,)


def device(num_envs):
    """A picture ``[C, H, W]`` on the device."""
    see = lambda steps: (jnp.arange(3 * 12 * 10) + steps).astype(jnp.uint8).reshape(3, 12, 10)
    single = SingleEnvironment(
        lambda key: (jnp.int32(0), see(0)),
        lambda steps, action, key: (steps + 1, see(steps + 1), 0.0, jnp.bool_(False)),
        action_size=1,
    )
    return envs.batch(single, num_envs, 5)


def test_on_the_device(monkeypatch):
    monkeypatch.setitem(sys.modules, "channels_of_ones_own", sys.modules[__name__])
    plain = envs.make("channels_of_ones_own:device", 2)
    turned = envs.make("channels_of_ones_own:device", 2, channels_first=True)
    assert turned.observation.shape == (12, 10, 3)
    key, action = jax.random.key(0), jnp.zeros((2, 1))
    (state, old), (other, new) = plain.reset(key), turned.reset(key)
    np.testing.assert_array_equal(new, jnp.moveaxis(old, 1, -1))
    old, new = plain.step(state, action, key)[1], turned.step(other, action, key)[1]
    np.testing.assert_array_equal(new.next_observation, jnp.moveaxis(old.next_observation, 1, -1))


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("pendulum", {"channels_first": True}, "the environment shows no image"),
        ("pendulum", {"channels_first": True, "pixels": True}, "of an environment's own images"),
        (NAME, {"channels_first": "no"}, "channels_first='no': must be True or False"),
    ],
)
def test_sentences(name, options, said):
    with pytest.raises(ValueError, match=said):
        envs.make(name, 1, **options)


@pytest.mark.parametrize("shape", [[3, 84, 84], [16, 84, 84]])
def test_a_run_says_what_it_is(shape):
    with pytest.raises(ValueError, match=r"looks like .* channels before height and width: give"):
        setup.environment(make_config(NAME, "drq-v2", env_options={"shape": shape}), 1)
    for given, wanted in ((False, tuple(shape)), (True, (84, 84, shape[0]))):
        options = {"shape": shape, "channels_first": given}
        env = setup.environment(make_config(NAME, "drq-v2", env_options=options), 1)
        assert env.observation.shape == wanted


def test_a_convolution_says_what_it_is():
    with pytest.raises(ValueError, match=r"shape \(3, 84, 84\) has its channels first"):
        Conv().init(jax.random.key(0), jnp.zeros((3, 84, 84), jnp.uint8))
    with pytest.raises(ValueError, match="an image of 3x3 is too small"):
        Conv().init(jax.random.key(0), jnp.zeros((3, 3, 84), jnp.uint8))


@pytest.mark.slow
def test_from_training_to_a_film(tmp_path):
    words = (
        f"train {NAME} --channels-first --preset drq-v2 --total-timesteps 16 --learning-starts 4 "
        "--steps-per-chunk 4 --batch-size 4 --hidden 4 --channels 4 --layers 1 --trunk 4 "
        "--replay-capacity 20 --evaluation-episodes 1 --evaluate-every 0 --num-envs 1 "
        "--final-episodes 1 "
        f"--run-dir {tmp_path}/run"
    )
    done = CliRunner().invoke(commands.main, words.split())
    assert done.exit_code == 0, (done.output, done.exception)
    for word in ("render", "export"):
        done = CliRunner().invoke(commands.main, [word, f"{tmp_path}/run"])
        assert done.exit_code == 0, (done.output, done.exception)
    about = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert about["observation"] == ["uint8", [12, 10, 3]]


def test_streams_without_an_image_are_all_that_is_asked_for(tmp_path):
    """An image beside them is no matter to networks of vectors."""
    options = {"env_options": {"beside": True, "shape": [12, 10, 3]}, "preset": "default"}
    streams = {"actor_stream": "speed", "critic_stream": "speed"}
    config = make_config(NAME, **options, **streams)
    assert setup.environment(config, 1).observation["speed"].shape == (2,)
    with pytest.raises(ValueError, match="an image: choose a preset of images"):
        setup.environment(make_config(NAME, **options, actor_stream="image"), 1)
    done = ddpg_jax.runs.train(
        NAME,
        run_dir=tmp_path / "run",
        **options,
        **streams,
        **TINY_RUN,
    )
    assert done.policy()({"speed": np.zeros((5, 2), np.float32)}).shape == (5, 1)
