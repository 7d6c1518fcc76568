"""The pendulum is Gymnasium's: the same step, the same starts, the same episodes."""

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from ddpg_jax import envs, rollout
from ddpg_jax.envs import pendulum

EPISODE = 200


@pytest.fixture(scope="module")
def gym():
    return gymnasium.make("Pendulum-v1").unwrapped


def test_one_step_is_gymnasiums(gym):
    """Both start from the very same float32 numbers, so only arithmetic differs.

    At the wrap of the angle float32 and float64 may land on opposite sides, -pi and pi. The reward
    holds the square of the wrapped angle and the observation its sine and cosine, all continuous
    there, so nothing is masked or excused: seams (odd multiples of pi, and their float32
    neighbours) are among the states. What float32 loses is one rounding of an angle of up to 8 pi,
    1.9e-6 rad, times the cost's steepest slope, 2 pi per rad."""
    rng = np.random.default_rng(0)
    count = 10_000
    angle = rng.uniform(-8 * np.pi, 8 * np.pi, count).astype(np.float32)
    seams = np.float32(np.pi) * np.arange(-7, 8, 2, dtype=np.float32)
    seams = np.concatenate(
        [seams, np.nextafter(seams, np.float32(99)), np.nextafter(seams, np.float32(-99))]
    )
    angle[: len(seams)] = seams
    speed = rng.uniform(-8, 8, count).astype(np.float32)
    action = rng.uniform(-1.5, 1.5, (count, 1)).astype(np.float32)  # a third is beyond the bound
    assert (np.abs(action) > 1).sum() > 3_000

    states = pendulum.PendulumState(
        angle=jnp.array(angle), speed=jnp.array(speed), torque=jnp.zeros(count)
    )
    _, observation, reward, terminated = jax.jit(jax.vmap(pendulum.step))(states, jnp.array(action))

    expected_observation, expected_reward = np.zeros((count, 3)), np.zeros(count)
    for i in range(count):
        gym.state = np.array([angle[i], speed[i]], np.float64)
        gym.last_u = None
        _, expected_reward[i], *_ = gym.step(2.0 * action[i].astype(np.float64))
        theta, theta_dot = gym.state  # float64: the observation that Gymnasium returns is rounded
        expected_observation[i] = np.cos(theta), np.sin(theta), theta_dot

    np.testing.assert_allclose(observation, expected_observation, rtol=0, atol=4e-6)
    np.testing.assert_allclose(reward, expected_reward, rtol=1e-6, atol=2e-5)
    assert observation.dtype == reward.dtype == jnp.float32
    assert not np.any(terminated)


def pump(observation, random):
    """Swing up by adding energy, then balance with a linear feedback."""
    cosine, sine, speed = observation.T
    near = cosine > 0.9
    return np.clip(np.where(near, -5.0 * sine - 1.0 * speed, 0.6 * np.sign(speed)), -1, 1)


POLICIES = {
    "no torque": lambda observation, random: np.zeros(len(observation)),
    "constant torque": lambda observation, random: np.full(len(observation), 0.7),
    "pump and balance": pump,
    "uniform": lambda observation, random: random,
}


def gymnasium_returns(gym, policy, episodes, seed):
    """One episode after another."""
    rng = np.random.default_rng(seed)
    returns = np.zeros(episodes)
    for i in range(episodes):
        observation, _ = gym.reset(seed=seed if i == 0 else None)
        for _ in range(EPISODE):
            action = policy(observation[None], rng.uniform(-1, 1, 1))
            observation, reward, *_ = gym.step(2.0 * action)
            returns[i] += reward
    return returns


def our_returns(policy, episodes, seed):
    """All episodes side by side; the policies run on the host, the same code as for Gymnasium."""
    env = envs.make("pendulum", episodes)
    rng = np.random.default_rng(seed + 1)
    step = jax.jit(env.step)
    state, observation = jax.jit(env.reset)(jax.random.key(seed))
    returns = np.zeros(episodes)
    for key in jax.random.split(jax.random.key(seed + 1), EPISODE):
        action = policy(np.asarray(observation), rng.uniform(-1, 1, episodes))
        state, time_step = step(state, jnp.asarray(action[:, None], jnp.float32), key)
        observation = time_step.observation
        returns += np.asarray(time_step.reward)
    assert np.all(time_step.truncated)
    return returns


@pytest.mark.parametrize("name", POLICIES)
def test_whole_episodes_return_what_gymnasiums_return(gym, name):
    theirs = gymnasium_returns(gym, POLICIES[name], 250, seed=3)
    ours = our_returns(POLICIES[name], 1_000, seed=3)
    assert stats.ks_2samp(ours, theirs).pvalue > 0.001
    assert stats.ttest_ind(ours, theirs, equal_var=False).pvalue > 0.001


@pytest.mark.parametrize("after", ["reset", "automatic reset"])
def test_starts_are_uniform(after):
    env = envs.make("pendulum", 4_000, time_limit=1)
    state, observation = env.reset(jax.random.key(0))
    if after == "automatic reset":
        first = np.asarray(state.state.angle)
        state, time_step = jax.jit(env.step)(state, jnp.zeros((4_000, 1)), jax.random.key(1))
        observation = time_step.observation
        assert not np.any(np.asarray(state.state.angle) == first)
    angle, speed = np.asarray(state.state.angle), np.asarray(state.state.speed)
    assert np.all(np.abs(angle) <= np.float32(np.pi))
    assert np.all(np.abs(speed) <= 1)
    assert stats.kstest(angle, stats.uniform(-np.pi, 2 * np.pi).cdf).pvalue > 0.001
    assert stats.kstest(speed, stats.uniform(-1, 2).cdf).pvalue > 0.001
    assert stats.pearsonr(angle, speed).pvalue > 0.001  # one key, two independent numbers
    np.testing.assert_allclose(
        observation, np.stack([np.cos(angle), np.sin(angle), speed], axis=1), rtol=0, atol=1e-6
    )


def test_truncates_after_200_steps_and_never_terminates():
    assert gymnasium.spec("Pendulum-v1").max_episode_steps == EPISODE
    env = envs.make("pendulum", 2)
    state, _ = env.reset(jax.random.key(0))
    _, steps = jax.lax.scan(
        lambda s, key: env.step(s, jnp.ones((2, 1)), key),
        state,
        jax.random.split(jax.random.key(1), 450),
    )
    assert not np.any(steps.terminated)
    for e in range(2):
        assert np.flatnonzero(steps.truncated[:, e]).tolist() == [EPISODE - 1, 2 * EPISODE - 1]


def test_the_rod_is_drawn_where_the_angle_is():
    """Upright, hanging, and a quarter turn anti-clockwise (to the left, as in Gymnasium)."""
    env = envs.make("pendulum", 2)
    angle = jnp.stack(
        [jnp.array([0.0, jnp.pi, jnp.pi / 2]), jnp.full(3, 1.0)], axis=1
    )  # environment 1 is not drawn
    states = pendulum.PendulumState(
        angle=angle, speed=jnp.zeros((3, 2)), torque=jnp.array([[0.0, 0], [2, 0], [-2, 0]])
    )
    wrapped, _ = env.reset(jax.random.key(0))
    frames = env.renderer.draw(rollout.frames(env, wrapped.replace(state=states)))
    assert len(frames) == 3
    assert env.renderer.fps == 20
    centres = []
    for frame in frames:
        pixels = frame.astype(int)
        red = (pixels[..., 0] > 150) & (pixels[..., 1] < 120)
        assert red.sum() > 100
        rows, columns = np.nonzero(red)
        centres.append((rows.mean() - pixels.shape[0] / 2, columns.mean() - pixels.shape[1] / 2))
    (up_y, up_x), (down_y, down_x), (left_y, left_x) = centres
    assert up_y < -15
    assert down_y > 15
    assert left_x < -15
    assert abs(up_x) < 10
    assert abs(down_x) < 10
    assert abs(left_y - (up_y + down_y) / 2) < 10


def test_a_scene_is_the_rod_its_axle_and_nothing_else():
    """A rod of 1 m that leans left where the angle is positive, seen from 12 m before it on
    white."""
    state = pendulum.PendulumState(*map(jnp.float32, (0.5, 3.0, 1.0)))
    scene = jax.jit(pendulum.scene)(state)
    rod, axle = scene.shapes
    np.testing.assert_array_equal(rod.start, [[0, 0, 0]])
    np.testing.assert_allclose(rod.end, [[-np.sin(0.5), 0, np.cos(0.5)]], rtol=1e-6)
    np.testing.assert_allclose(rod.radius, [0.1])
    np.testing.assert_allclose(rod.color, [[0.8, 0.3, 0.3]])
    for end in (axle.start, axle.end):  # before the rod
        np.testing.assert_allclose(end, [[0, -0.1, 0]])
    np.testing.assert_allclose(axle.radius, [0.05])
    np.testing.assert_array_equal(axle.color, [[0, 0, 0]])
    for color in (scene.sky.top, scene.sky.horizon, scene.sky.bottom):
        np.testing.assert_array_equal(color, [1, 1, 1])
    assert scene.light.ambient == pytest.approx(0.6)
    np.testing.assert_array_equal(scene.camera.position, [0, -12, 0])
    looks = -np.asarray(scene.camera.rotation)[:, 2]
    np.testing.assert_allclose(looks, [0, 1, 0], atol=1e-6)
    assert 2 * 12 * np.tan(scene.camera.field_of_view / 2) == pytest.approx(2.4, abs=0.01)


def test_a_film_shows_time_torque_and_the_rod(monkeypatch):
    """Its lines and words, frame by frame; the bar is as long as the torque, to the same side."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    seen, draw = [], FigureCanvasAgg.draw

    def drawn(canvas):
        (axes,) = canvas.figure.axes
        lines = [np.asarray(line.get_xydata()) for line in axes.lines]
        seen.append((axes.get_title(), *lines, axes.get_xlim(), axes.get_ylim()))
        draw(canvas)

    monkeypatch.setattr(FigureCanvasAgg, "draw", drawn)
    angle, torque = np.array([0.0, 0.5, -2.0]), np.array([0.0, 2.0, -0.5])
    states = pendulum.PendulumState(angle=angle, speed=angle, torque=torque)
    frames = pendulum.draw(states)
    assert [frame.shape for frame in frames] == [(240, 240, 3)] * 3
    assert np.array_equal(frames[0][2, 2], [255, 255, 255])
    assert [title for title, *_ in seen] == [
        " 0.00 s   torque +0.00 N m",
        " 0.05 s   torque +2.00 N m",
        " 0.10 s   torque -0.50 N m",
    ]
    for (_, rod, axle, bar, *limits), at, force in zip(seen, angle, torque, strict=True):
        np.testing.assert_allclose(rod, [[0, 0], [-np.sin(at), np.cos(at)]])
        np.testing.assert_array_equal(axle, [[0, 0]])
        np.testing.assert_allclose(bar, [[0, -1.1], [-force / 2, -1.1]])
        assert limits == [(-1.2, 1.2)] * 2
