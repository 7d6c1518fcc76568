"""Pictures as observations: which of them, in which order, and what becomes of them at the ends of
episodes."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddpg_jax import envs, rollout
from ddpg_jax.environment import Renderer
from ddpg_jax.envs import SingleEnvironment, batch, render

E, LIMIT, SIZE = 3, 6, 6
DARK, WHITE = jnp.zeros(3), jnp.ones((1, 3))
CAMERA = render.look_at((0.0, -5.0, 0.0), (0.0, 0.0, 0.0))


def scene(state):
    """All of the picture is of one brightness: 100 * start + 10 * steps."""
    brightness = (100 * state[0] + 10 * state[1]) / 255
    wall = render.spheres(jnp.array([[0.0, 100.0, 0.0]]), jnp.array([99.0]), WHITE)
    return render.Scene(
        CAMERA, (wall,), render.Light(ambient=brightness, headlight=0.0, strength=jnp.zeros(1))
    )


def one_counter(terminates_at=99, breaks_at=None, truncates_at=None):
    """State ``[start, steps]``, start 0 or 1, reward ``steps``."""

    def reset(key):
        start = jnp.stack([jax.random.bernoulli(key).astype(jnp.float32), 0.0])
        return start, start

    def step(state, action, key):
        state = state + jnp.array([0.0, 1.0])
        reward = state[1] + 100 * jnp.clip(action[0], -1.0, 1.0)
        return state, state, reward, state[1] >= terminates_at

    valid = None if breaks_at is None else lambda state, observation, reward: state[1] < breaks_at
    truncated = None if truncates_at is None else lambda state: state[1] >= truncates_at
    return SingleEnvironment(reset, step, 1, truncated=truncated, valid=valid, scene=scene)


def counter(**ends):
    return batch(one_counter(**ends), E, LIMIT)


def shown(observation):
    """Steps and start that each picture of an observation ``[..., H, W, C]`` shows: ``[...,
    pictures, 2]``."""
    observation = np.asarray(observation).astype(int)
    flat = observation.reshape(*observation.shape[:-3], -1, observation.shape[-1] // 3, 3)
    assert np.all(flat == flat[..., :1, :, :1]), "of one brightness, all over"
    brightness = flat[..., 0, :, 0]
    return np.stack([brightness % 100 // 10, brightness // 100], axis=-1)


def play(env, steps, action=0.0):
    def step(state, key):
        return env.step(state, jnp.full((E, 1), action), key)

    def played(key):
        state, observation = env.reset(key)
        return observation, jax.lax.scan(step, state, jax.random.split(key, steps))[1]

    return jax.jit(played)(jax.random.key(0))


def test_the_last_pictures_oldest_first():
    first, steps = play(envs.pixels(counter(), SIZE, 3), LIMIT)
    assert first.shape == (E, SIZE, SIZE, 9)
    assert first.dtype == jnp.uint8
    np.testing.assert_array_equal(shown(first)[..., 0], np.zeros((E, 3)))
    expected = [[0, 0, 1], [0, 1, 2], [1, 2, 3], [2, 3, 4], [3, 4, 5], [4, 5, 6]]
    np.testing.assert_array_equal(shown(steps.next_observation)[:, 0, :, 0], expected)
    np.testing.assert_array_equal(steps.truncated[:, 0], [False] * 5 + [True])
    np.testing.assert_array_equal(steps.observation[:5], steps.next_observation[:5])
    np.testing.assert_array_equal(shown(steps.observation)[5, :, :, 0], np.zeros((E, 3)))
    begun = shown(steps.observation)[5, :, :, 1]
    np.testing.assert_array_equal(begun, np.repeat(begun[:, :1], 3, axis=1))


def test_each_of_the_repeated_steps_is_drawn():
    """The paper's form: three steps for each action, and all three of them seen."""
    first, steps = play(envs.pixels(counter(), SIZE, 3, action_repeat=3, frames_per_action=3), 3)
    np.testing.assert_array_equal(shown(first)[..., 0], np.zeros((E, 3)))
    np.testing.assert_array_equal(
        shown(steps.next_observation)[:, 0, :, 0], [[1, 2, 3], [4, 5, 6], [1, 2, 3]]
    )
    np.testing.assert_array_equal(steps.reward[:, 0], [1 + 2 + 3, 4 + 5 + 6, 6])
    np.testing.assert_array_equal(steps.truncated[:, 0], [False, True, False])


def test_each_repeated_step_has_a_key_of_its_own_and_a_film_keeps_its_time():
    def step(state, action, key):
        drawn = jax.random.uniform(key, ())
        return jnp.roll(state, 1).at[0].set(drawn), state, drawn, jnp.bool_(False)

    single = SingleEnvironment(lambda key: (jnp.zeros(3),) * 2, step, 1, scene=scene)
    plain = batch(single, E, 30, renderer=Renderer(None, fps=24.0))
    env = envs.pixels(plain, SIZE, 1, action_repeat=3)
    assert (env.renderer.fps, env.time_limit) == (8, 10)
    assert envs.pixels(plain, SIZE, 1).renderer.fps == 24
    step = lambda key: env.step(env.reset(key)[0], jnp.zeros((E, 1)), key)
    state, now = jax.jit(step)(jax.random.key(1))
    drawn = np.asarray(env.single_state(state).state)
    assert len(np.unique(drawn)) == E * 3
    np.testing.assert_allclose(now.reward, drawn.sum(axis=1), rtol=1e-6)


def test_the_last_of_the_repeated_steps_is_drawn():
    _, steps = play(envs.pixels(counter(), SIZE, 3, action_repeat=2), 3)
    np.testing.assert_array_equal(
        shown(steps.next_observation)[:, 0, :, 0], [[0, 0, 2], [0, 2, 4], [2, 4, 6]]
    )
    _, steps = play(envs.pixels(counter(), SIZE, 4, action_repeat=4, frames_per_action=2), 2)
    np.testing.assert_array_equal(
        shown(steps.next_observation)[:, 0, :, 0], [[0, 0, 2, 4], [2, 4, 6, 6]]
    )


@pytest.mark.parametrize(
    "ends", [{"terminates_at": 4}, {"truncates_at": 4}, {"terminates_at": 4, "truncates_at": 4}]
)
def test_an_episode_that_ends_within_an_action_stands_still(ends):
    _, steps = play(envs.pixels(counter(**ends), SIZE, 3, action_repeat=3, frames_per_action=3), 2)
    np.testing.assert_array_equal(shown(steps.next_observation)[1, :, :, 0], [[4, 4, 4]] * E)
    np.testing.assert_array_equal(shown(steps.observation)[1, :, :, 0], np.zeros((E, 3)))
    np.testing.assert_array_equal(steps.reward[:, 0], [6, 4])
    terminated = "terminates_at" in ends
    np.testing.assert_array_equal(steps.terminated[1], [terminated] * E)
    np.testing.assert_array_equal(steps.truncated[1], [not terminated] * E)


def test_a_time_limit_within_an_action_holds():
    _, steps = play(envs.pixels(counter(), SIZE, 2, action_repeat=4, frames_per_action=2), 3)
    np.testing.assert_array_equal(
        shown(steps.next_observation)[:, 0, :, 0], [[2, 4], [6, 6], [2, 4]]
    )
    np.testing.assert_array_equal(steps.reward[:, 0], [10, 11, 10])
    np.testing.assert_array_equal(steps.truncated[:, 0], [False, True, False])


def test_a_simulation_that_breaks_down_within_an_action():
    env = envs.pixels(counter(breaks_at=5), SIZE, 3, action_repeat=3, frames_per_action=3)
    assert env.breaks
    _, steps = play(env, 3)
    np.testing.assert_array_equal(steps.valid[:, 0], [True, False, True])
    np.testing.assert_array_equal(steps.truncated[:, 0], [False, True, False])
    assert not np.any(steps.terminated)
    np.testing.assert_array_equal(shown(steps.observation)[1, :, :, 0], np.zeros((E, 3)))


@pytest.mark.slow
def test_rewards_and_ends_are_those_of_the_environment_itself():
    """A pendulum that is seen does what one that is not seen does."""
    plain = envs.make("pendulum", E, time_limit=4)
    seen = envs.pixels(plain, SIZE, 1)
    action = jnp.full((E, 1), 0.3)
    (state, _), (inner, _) = seen.reset(jax.random.key(0)), plain.reset(jax.random.key(0))
    inner = inner.replace(state=seen.single_state(state).state)
    stepped = jax.jit(lambda a, b, key: (seen.step(a, action, key), plain.step(b, action, key)))
    for number in range(4):
        (state, ours), (inner, theirs) = stepped(state, inner, jax.random.key(number))
        np.testing.assert_allclose(ours.reward, theirs.reward, rtol=1e-6)
        np.testing.assert_array_equal(ours.truncated, theirs.truncated)
        if number < 3:
            np.testing.assert_allclose(
                seen.single_state(state).state.angle, inner.state.angle, rtol=1e-6
            )
    assert np.all(ours.truncated)


FORMS = {
    "three": {},
    "paper": {"action_repeat": 3, "frames_per_action": 3},
    "last": {"action_repeat": 2, "grayscale": True},
}


@pytest.mark.parametrize("form", FORMS)
def test_a_pendulum_that_is_seen_keeps_the_contract(form):
    env = envs.make("pendulum", 4, time_limit=7, pixels=True, image_size=16, **FORMS[form])
    assert envs.check(env) == []
    channels = 3 if form == "last" else 9
    assert env.observation == jax.ShapeDtypeStruct((16, 16, channels), jnp.uint8)
    assert env.time_limit == -(-7 // FORMS[form].get("action_repeat", 1))


def test_the_contract_holds_where_simulations_break_down():
    findings = envs.check(envs.pixels(counter(breaks_at=5), SIZE, 3, action_repeat=2))
    assert [finding for finding in findings if "alike" not in finding] == [], (
        "there are but two starts"
    )


def test_a_pendulum_looks_as_it_hangs():
    single = envs.make("pendulum", 1).single
    state, _ = single.reset(jax.random.key(0))
    angles = jnp.array([0.0, jnp.pi / 2, jnp.pi])  # up, to the left, down
    pictures = jax.jit(
        jax.vmap(lambda angle: render.render(single.scene(state.replace(angle=angle)), 33, 33))
    )(angles)
    red = (np.asarray(pictures)[..., 1] < 150) & (np.asarray(pictures)[..., 0] > 100)
    middles = [np.argwhere(one).mean(axis=0) - 16 for one in red]
    np.testing.assert_allclose(middles, [[-7, 0], [0, -7], [7, 0]], atol=1.5)


@pytest.mark.parametrize("samples", [1, 2])
def test_grayscale_is_the_brightness(samples):
    env = envs.make("pendulum", 1)
    state, _ = env.single.reset(jax.random.key(0))
    drawn = jax.jit(lambda: render.render(env.single.scene(state), 16, 16, samples=samples))
    color = np.asarray(drawn()).astype(float)
    seen = envs.pixels(env, 16, 1, grayscale=True, samples=samples).single
    _, gray = jax.jit(seen.reset)(jax.random.key(0))
    np.testing.assert_allclose(gray[..., 0], color @ [0.299, 0.587, 0.114], atol=0.51)


@pytest.mark.parametrize("side", [4, 20])
def test_the_view_has_what_the_agent_sees_as_high_as_the_scene(monkeypatch, side):
    """Each of its pixels is as large as the others or is left out, and gray is a colour."""
    module = importlib.import_module("ddpg_jax.envs.pixels")
    high = np.full((12, 7, 3), 9, np.uint8)
    monkeypatch.setattr(module, "film", lambda scene, states: [high] * len(states))
    states = np.random.default_rng(0).integers(0, 256, (2, side, side, 1), np.uint8)
    frames = module._beside(lambda state: state, lambda state: 255 - state, jnp.asarray(states))
    assert len(frames) == 2
    at = [row * side // 12 for row in range(12)]
    for frame, state in zip(frames, states, strict=True):
        np.testing.assert_array_equal(frame[:, :7], high)
        np.testing.assert_array_equal(
            frame[:, 15:], np.tile((255 - state)[at][:, at], 3), strict=True
        )


@pytest.mark.slow
def test_the_view_shows_the_scene_and_what_the_agent_sees():
    env = envs.make("pendulum", 2, time_limit=4, pixels=True, image_size=16, grayscale=True)
    assert env.renderer.fps == 20
    _, states = jax.lax.scan(
        lambda state, key: (env.step(state, jnp.zeros((2, 1)), key)[0], state),
        env.reset(jax.random.key(0))[0],
        jax.random.split(jax.random.key(1), 3),
    )
    frames = env.renderer.draw(rollout.frames(env, states))
    assert [frame.shape for frame in frames] == [(240, 320 + 8 + 240, 3)] * 3
    for frame in frames:
        scene, seen = frame[:, :320], frame[:, 328:]
        assert scene.std() > 5
        assert np.all(seen[::15, ::15] == seen[14::15, 14::15]), "16 pixels, each 15 wide"
        assert seen.std() > 5
    assert np.abs(frames[0].astype(int) - frames[2]).max() > 20, "and it moves"


def test_sentences_for_what_does_not_fit():
    env = counter()
    for wrong, sentence in (
        (
            batch(one_counter()._replace(scene=None), E, LIMIT),
            r"cannot be drawn on the device: give its SingleEnvironment a scene\(state\)",
        ),
        (
            envs.action_repeat(env, 2),
            "was wrapped, or not made by envs.batch: put pixels around it first",
        ),
        (
            batch(one_counter()._replace(scene=lambda state: {"ball": state}), E, LIMIT),
            r"scene\(state\) returned dict",
        ),
    ):
        with pytest.raises(ValueError, match=sentence):
            envs.pixels(wrong)
    with pytest.raises(
        ValueError, match=r"frames .frame_stack.=4: must be a multiple of frames_per_action=3"
    ):
        envs.pixels(env, 8, 4, action_repeat=3, frames_per_action=3)
    with pytest.raises(
        ValueError, match="action_repeat=2: must be a multiple of frames_per_action=3"
    ):
        envs.pixels(env, 8, 3, action_repeat=2, frames_per_action=3)
    with pytest.raises(ValueError, match="size=0: must be between 1 and 4096"):
        envs.pixels(env, 0)
    with pytest.raises(
        ValueError, match="frame_stack is an option of what an agent sees: add pixels=True"
    ):
        envs.make("pendulum", 1, frame_stack=3)
    with pytest.raises(ValueError, match="cannot be drawn on the device"):
        envs.make("brax/fast", 1, pixels=True)
    with pytest.raises(ValueError, match="image_size is an option of what an agent sees"):
        envs.make("gymnasium/Pendulum-v1", 1, image_size=8)


@pytest.fixture
def on_the_host():
    gymnasium = pytest.importorskip("gymnasium")

    class Drawn(gymnasium.Env):
        observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (1,), np.float32)
        action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
        metadata = {"render_modes": ["rgb_array"], "render_fps": 30}  # noqa: RUF012

        def __init__(self, render_mode=None):
            self.render_mode, self.steps = render_mode, 0

        def reset(self, *, seed=None, options=None):  # noqa: ARG002
            super().reset(seed=seed)
            self.steps = 0
            return np.zeros(1, np.float32), {}

        def step(self, action):  # noqa: ARG002
            self.steps += 1
            return np.full(1, self.steps, np.float32), float(self.steps), self.steps >= 8, False, {}

        def render(self):
            return np.full((20, 30, 3), 10 * self.steps, np.uint8)

    gymnasium.register("Bright-v0", Drawn, max_episode_steps=100)
    yield "gymnasium/Bright-v0"
    del gymnasium.registry["Bright-v0"]


@pytest.mark.parametrize(
    ("options", "expected", "rewards"),
    [
        ({}, [[0, 0, 1], [0, 1, 2], [1, 2, 3]], [1, 2, 3]),
        (
            {"action_repeat": 3, "frames_per_action": 3},
            [[1, 2, 3], [4, 5, 6], [7, 8, 8]],
            [6, 15, 15],
        ),
        ({"action_repeat": 2}, [[0, 0, 2], [0, 2, 4], [2, 4, 6]], [3, 7, 11]),
    ],
)
def test_on_the_host_it_is_as_on_the_device(on_the_host, options, expected, rewards):
    env = envs.make(on_the_host, 2, pixels=True, image_size=10, **options)
    assert env.observation == jax.ShapeDtypeStruct((10, 10, 9), jnp.uint8)
    first = env.reset(0)
    assert shown(first)[..., 0].tolist() == [[0, 0, 0]] * 2
    for pictures, reward in zip(expected, rewards, strict=True):
        now = env.step(np.zeros((2, 1), np.float32))
        assert shown(now.next_observation)[0, :, 0].tolist() == pictures
        assert now.reward.tolist() == [reward] * 2
    ended = options.get("frames_per_action") == 3
    assert now.terminated.tolist() == [ended] * 2
    assert shown(now.observation)[0, :, 0].tolist() == ([0, 0, 0] if ended else pictures)
    assert env.time_limit == -(-100 // options.get("action_repeat", 1))
    assert env.fps == 30 / options.get("action_repeat", 1)
    assert env.stacked == 3 // options.get("frames_per_action", 1), "pictures that frames share"
    assert env.draw().shape == (20, 30, 3)


def test_what_is_a_picture_already_is_only_made_smaller():
    gymnasium = pytest.importorskip("gymnasium")
    from ddpg_jax.envs.pictures import Pictures

    class Camera(gymnasium.Env):
        observation_space = gymnasium.spaces.Box(0, 255, (20, 20, 3), np.uint8)

        def reset(self, *, seed=None, options=None):  # noqa: ARG002
            return np.tile(np.array([255, 0, 0], np.uint8), (20, 20, 1)), {}

    observation, _ = Pictures(Camera(), 10, 2, grayscale=True).reset()
    assert observation.shape == (10, 10, 2)
    assert np.all(observation == 76)  # 0.299 of 255


def test_a_racing_car_shows_its_own_pictures():
    pytest.importorskip("Box2D")
    env = envs.make(
        "gymnasium/CarRacing-v3",
        1,
        pixels=True,
        image_size=24,
        grayscale=True,
        action_repeat=2,
        time_limit=10,
    )
    assert env.action.shape == (3,)
    begun = env.reset(0)
    assert begun.shape == (1, 24, 24, 3)
    assert begun.std() > 5
    steps = [env.step(np.array([[0.0, 1.0, -1.0]], np.float32)) for _ in range(5)]
    assert [bool(now.truncated[0]) for now in steps] == [False] * 4 + [True]
    assert np.abs(steps[-1].next_observation.astype(int) - begun).max() > 20, "it drives"
    env.close()
