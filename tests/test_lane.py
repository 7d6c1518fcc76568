"""The lane: the car against closed forms, the road against its own integrals, and what driving it
takes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from click.testing import CliRunner

from ddpg_jax import envs
from ddpg_jax.envs import lane
from ddpg_jax.envs.lane import car as cars
from ddpg_jax.envs.lane import held_out
from ddpg_jax.envs.lane import road as roads
from ddpg_jax.envs.lane.state import begin
from ddpg_jax.envs.lane.surface import paint
from ddpg_jax.runs.cli import commands

KEY = jax.random.key(0)


def a_car(speed, steering):
    return cars.Car(speed=jnp.float32(speed), steering=jnp.float32(steering))


def wanting(speed, steering):
    """The action whose set points these are."""
    return jnp.array([steering / cars.MAX_STEERING, 2 * speed / cars.MAX_SPEED - 1], jnp.float32)


def driven_poses(car, actions):
    """World poses ``[T, 3]`` (x, y, yaw) after each step, in float64, and the cars."""
    cars_after, motions = jax.jit(
        lambda car, actions: jax.lax.scan(lambda c, a: _both(*cars.move(c, a)), car, actions)
    )(car, actions)[1]
    poses, pose = [], np.zeros(3)
    for forward, left, turned in zip(
        *(np.asarray(x, np.float64) for x in (motions.forward, motions.left, motions.turned)),
        strict=True,
    ):
        cosine, sine = np.cos(pose[2]), np.sin(pose[2])
        pose = pose + np.array(
            [cosine * forward - sine * left, sine * forward + cosine * left, turned]
        )
        poses.append(pose)
    return np.array(poses), cars_after


def _both(car, motion):
    return car, (car, motion)


@pytest.mark.parametrize("steering", [0.0, 0.3, -0.45])
def test_a_held_wheel_drives_a_circle(steering):
    """Radius wheelbase / tan(steering) about a point beside the rear axle; straight ahead where the
    wheel is."""
    poses, _ = driven_poses(a_car(2.0, steering), jnp.tile(wanting(2.0, steering), (100, 1)))
    if steering == 0:
        np.testing.assert_allclose(poses, np.outer(np.arange(1, 101), [0.2, 0, 0]), atol=1e-5)
        return
    radius = 1.7 / np.tan(steering)
    distance = np.hypot(poses[:, 0], poses[:, 1] - radius)
    np.testing.assert_allclose(distance, abs(radius), rtol=1e-5)
    np.testing.assert_allclose(poses[:, 2], np.arange(1, 101) * 0.2 / radius, rtol=1e-5)


def test_wheel_and_speed_are_limited():
    """From lock to lock at 2 rad/s, then the last of it at 5/s; from rest at 2 m/s^2, then at
    2/s."""
    _, after = driven_poses(a_car(0.0, -0.5), jnp.tile(jnp.array([1.0, 1.0]), (60, 1)))
    steering, speed = np.asarray(after.steering), np.asarray(after.speed)
    np.testing.assert_allclose(
        steering[:4], [-0.3, -0.1, 0.1, 0.3], atol=1e-6
    )  # 0.1 at 5/s and more are left until here
    np.testing.assert_allclose(steering[4:6], [0.4, 0.45], atol=1e-6)
    np.testing.assert_allclose(speed[:8], np.arange(1, 9) * 0.2, atol=1e-6)
    assert np.all(np.diff(speed) >= 0)
    assert steering[-1] == pytest.approx(0.5)
    assert speed[-1] == pytest.approx(10 / 3.6, abs=1e-3)
    _, after = driven_poses(a_car(0.1, 0.0), jnp.tile(jnp.array([0.0, -1.0]), (60, 1)))
    assert np.min(after.speed) >= 0, "there is no reverse gear"


def test_set_points_are_within_what_the_car_can():
    """An action beyond its range asks for no more than its end does."""
    action = jnp.array([[-3.0, -1.75], [1.5, 4.0], [0.25, -0.5], [-0.75, 0.75]])
    wanted = [[-0.5, 0.0], [0.5, 10 / 3.6], [0.125, 2.5 / 3.6], [-0.375, 8.75 / 3.6]]
    np.testing.assert_allclose(cars.set_points(action), wanted, rtol=1e-6)
    beyond, end = (cars.move(a_car(1.0, 0.1), jnp.array(x)) for x in ([-1.5, 1.5], [-1.0, 1.0]))
    jax.tree.map(np.testing.assert_array_equal, beyond, end)


def test_one_width_is_that_of_every_lane():
    state, _ = jax.jit(jax.vmap(lane.make_single(lane_width=3.25).reset))(jax.random.split(KEY, 9))
    np.testing.assert_array_equal(state.road.width, 3.25)


def test_lanes_are_3_to_4_m_wide_where_nothing_else_is_asked_for():
    reset = jax.vmap(lane.make_single().reset)
    state, _ = jax.jit(reset)(jax.random.split(KEY, 400))
    assert 3.0 <= state.road.width.min() < 3.05
    assert 3.95 < state.road.width.max() <= 4.0


def test_a_drive_begins_somewhere_near_the_middle():
    """Within a tenth of the lane's width, and 0.05 rad, on either side, up to these ends."""
    keys = jax.random.split(jax.random.key(5), 400)
    begun = jax.jit(jax.vmap(lambda key: begin(key, 0.02, (2.0, 5.0))))(keys)
    width = np.asarray(begun.road.width)
    assert 2.0 <= width.min() < 2.1
    assert 4.9 < width.max() <= 5.0
    for drawn, most in ((begun.place.offset, width / 10), (begun.place.angle, 0.05)):
        share = np.asarray(drawn) / most
        assert -1 <= share.min() < -0.97
        assert 0.97 < share.max() <= 1
        assert abs(share.mean()) < 0.15
        assert share.std() == pytest.approx(3**-0.5, abs=0.06), "evenly"
    assert abs(np.corrcoef(begun.place.offset / width, begun.place.angle)[0, 1]) < 0.2
    for at_rest in (begun.place.along, begun.car.speed, begun.car.steering):
        np.testing.assert_array_equal(at_rest, 0.0)


@jax.jit
def drawn(key):
    return roads.draw(key, 0.03, (3.0, 4.0))


@jax.jit
def turned_from_the_start(road, way):
    return roads.turned(road, jnp.zeros_like(way), way)


def test_a_road_bends_as_its_curvature_says():
    road = drawn(KEY)
    way = jnp.linspace(0.0, 250.0, 25_001)
    bend, turned = jax.jit(
        lambda way: (roads.curvature(road, way), roads.turned(road, jnp.zeros_like(way), way))
    )(way)
    bend = np.asarray(bend, np.float64)
    summed = np.concatenate([[0.0], np.cumsum((bend[1:] + bend[:-1]) / 2 * 0.01)])
    np.testing.assert_allclose(turned, summed, atol=2e-4)
    many = jax.jit(
        jax.vmap(lambda key: roads.curvature(roads.draw(key, 0.03, (3.0, 4.0)), way[::100]))
    )(jax.random.split(KEY, 200))
    assert np.sqrt(np.mean(np.square(many))) == pytest.approx(0.03, rel=0.03)
    assert 3.0 <= float(road.width) <= 4.0


def test_roads_are_drawn_evenly_over_the_lengths_of_waves():
    """25 to 120 m, by their logarithm; anywhere in their period; all as high."""
    many = jax.jit(jax.vmap(drawn))(jax.random.split(KEY, 400))
    length = 2 * np.pi / np.asarray(many.frequency)
    assert length.shape == (400, 6)
    assert 25 <= length.min() * 1.0001 < 25.3
    assert 118 < length.max() < 120.01
    share = np.log(length / 25) / np.log(120 / 25)
    assert share.mean() == pytest.approx(0.5, abs=0.02)
    assert share.std() == pytest.approx(12**-0.5, abs=0.01)
    phase = np.asarray(many.phase)
    assert 0 <= phase.min() < 0.03
    assert 6.25 < phase.max() < 2 * np.pi
    assert phase.mean() == pytest.approx(np.pi, abs=0.1)
    together = np.corrcoef(np.concatenate([length, phase], axis=1).T) - np.eye(12)
    assert np.abs(together).max() < 0.2, "drawn on their own"
    np.testing.assert_allclose(many.amplitude, 0.03 / 3**0.5, rtol=1e-5)
    assert 3.0 <= many.width.min() < 3.01
    assert 3.99 < many.width.max() <= 4.0


@pytest.mark.parametrize("bend", [0.0, 0.03, -0.05])
def test_a_move_on_an_arc_is_that_of_the_plane(bend):
    """A road that is a circle, by the coordinates of its middle: a long way at an angle."""
    road = roads.Road(*map(jnp.float32, ([bend], [1e-4], [0.0], 3.0)))
    begun = roads.Place(*map(jnp.float32, (2.0, 0.7, 0.4)))
    found = jax.jit(roads.moved)(road, begun, *map(jnp.float32, (5.0, -1.5, 0.9)))
    cosine, sine = np.cos(0.4), np.sin(0.4)
    where = np.array([5.0 * cosine + 1.5 * sine, 0.7 + 5.0 * sine - 1.5 * cosine])
    along, offset = where
    if bend:
        away = where - [0, 1 / bend]
        along = np.arcsin(away[0] / np.hypot(*away)) / abs(bend)
        offset = 1 / bend - np.sign(bend) * np.hypot(*away)
    assert found.along == pytest.approx(2.0 + along, abs=1e-3)
    assert found.offset == pytest.approx(offset, abs=1e-3)
    assert found.angle == pytest.approx(1.3 - bend * along, abs=1e-3)
    behind = jax.jit(roads.moved)(road, begun, *map(jnp.float32, (0.0, 0.0, 3.0)))
    assert behind.angle == pytest.approx(3.4 - 2 * np.pi, abs=1e-5), "within half a turn"


def world(road, length, step=0.01):
    """The lane's middle by a fine sum: distances, points ``[N, 2]`` and directions."""
    way = np.arange(0, length, step)
    angle = np.asarray(
        turned_from_the_start(road, jnp.asarray(way + step / 2, jnp.float32)), np.float64
    )
    points = np.concatenate(
        [np.zeros((1, 2)), np.cumsum(step * np.stack([np.cos(angle), np.sin(angle)], 1), axis=0)]
    )
    direction = np.asarray(turned_from_the_start(road, jnp.asarray(way, jnp.float32)), np.float64)
    return way, points[:-1], direction


def test_the_middle_of_the_lane_is_its_integral():
    road = drawn(KEY)
    _, points, direction = world(road, 60.0)
    found, angle = jax.jit(roads.middle)(road, jnp.float32(20.0), jnp.arange(-20.0, 40.0, 0.5))
    at = slice(0, None, 50)
    turn, origin = direction[2_000], points[2_000]
    seen = (points[at] - origin) @ np.array(
        [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    )
    np.testing.assert_allclose(found.T, seen, atol=5e-3)
    np.testing.assert_allclose(angle, direction[at] - turn, atol=1e-4)


@pytest.mark.parametrize("bend", [0.0, 1e-7, 0.05, -0.08])
def test_a_point_beside_an_arc(bend):
    """Points of a circle beside a bend have its centre in common."""
    along, offset = np.meshgrid(np.linspace(-3, 3, 7), np.linspace(-2, 2, 5))
    turn = bend * along
    radius = 1 / bend - offset if bend else 0
    point = np.stack(
        [radius * np.sin(turn), 1 / bend - radius * np.cos(turn)]
        if abs(bend) > 1e-5
        else [along, offset]
    )
    found = jax.jit(roads.beside)(jnp.asarray(point, jnp.float32), jnp.float32(bend))
    np.testing.assert_allclose(found, np.stack([along, offset]), atol=2e-5)


def test_the_place_on_the_road_is_where_the_car_is():
    """400 steps at random speeds around the lane, by the world's coordinates and by the road's:
    within 2 cm and 0.01 rad."""
    road = drawn(jax.random.key(3))
    rng = np.random.default_rng(0)
    wiggle = np.stack([rng.uniform(-0.3, 0.3, 400), rng.uniform(0, 1, 400)], axis=1).astype(
        np.float32
    )

    def step(state, wiggle):
        place, bend = state.place, roads.curvature(road, state.place.along + 1)
        wheel = (
            jnp.arctan(1.7 * (bend - 0.2 * place.offset - 0.6 * place.angle)) / cars.MAX_STEERING
        )
        action = jnp.stack([wheel + wiggle[0], wiggle[1]])
        return lane.driven(state, action), (state.place, action)

    begun = lane.LaneState(road, roads.Place(*jnp.zeros((3,))), cars.at_rest(), paint(KEY))
    last, (_, actions) = jax.jit(lambda: jax.lax.scan(step, begun, jnp.asarray(wiggle)))()
    pose = driven_poses(cars.at_rest(), actions)[0][-1]
    way, points, direction = world(road, 130.0)
    at = np.searchsorted(way, float(last.place.along))
    across = np.array([-np.sin(direction[at]), np.cos(direction[at])])
    assert float(last.place.along) > 60
    np.testing.assert_allclose(pose[:2], points[at] + float(last.place.offset) * across, atol=0.02)
    assert np.sin(pose[2] - direction[at] - float(last.place.angle)) == pytest.approx(0, abs=0.01)


def test_the_environment_keeps_the_contract():
    env = envs.make("lane", 4, time_limit=20)
    assert env.observation.shape == (10,)
    assert env.action.shape == (2,)
    assert envs.check(env) == []
    assert np.allclose(
        env.native_action(jnp.array([[1.0, -1.0], [-0.5, 1.0]])), [[0.5, 0], [-0.25, 10 / 3.6]]
    )


def state_of(along=30.0, offset=0.0, angle=0.0, speed=2.0, steering=0.1):
    road = roads.draw(KEY, 0.02, (3.3, 3.3))
    return lane.LaneState(
        road,
        roads.Place(*map(jnp.float32, (along, offset, angle))),
        a_car(speed, steering),
        paint(KEY),
    )


def test_rewards_features_and_ends():
    """A lane of 3.3 m leaves 1 m on either side of a car of 1.3 m."""
    state = state_of(offset=0.5, angle=0.2)
    speed, torcs, seen, bends = jax.jit(
        lambda x: (
            lane.speed(x),
            lane.torcs(x),
            lane.features(x),
            20 * roads.curvature(x.road, 30 + jnp.array([0.0, 2.0, 4.0, 7.0, 11.0, 16.0])),
        )
    )(state)
    assert speed == pytest.approx(2 * np.cos(0.2))
    assert torcs == pytest.approx(2 * np.cos(0.2) - 2 * np.sin(0.2) - 2 * 0.5)
    np.testing.assert_allclose(seen, [0.5, 0.2, *bends, 2 / cars.MAX_SPEED, 0.2], atol=1e-6)
    off = jax.jit(lane.is_off)
    assert [bool(off(state_of(offset=x))) for x in (0.99, 1.01, -0.99, -1.01)] == [
        False,
        True,
        False,
        True,
    ]


def test_a_mirrored_road_is_a_mirrored_drive():
    state = state_of(offset=0.3, angle=-0.1)
    mirrored = jax.tree.map(
        jnp.negative,
        (state.road.amplitude, state.place.offset, state.place.angle, state.car.steering),
    )
    other = state.replace(
        road=state.road.replace(amplitude=mirrored[0]),
        place=state.place.replace(offset=mirrored[1], angle=mirrored[2]),
        car=state.car.replace(steering=mirrored[3]),
    )
    step = jax.jit(
        lambda state, wheel: lane.features(lane.driven(state, jnp.stack([wheel, jnp.float32(0.9)])))
    )
    seen, other_seen = (
        np.asarray(step(state, jnp.float32(0.4))),
        np.asarray(step(other, jnp.float32(-0.4))),
    )
    np.testing.assert_allclose(other_seen, seen * [-1, -1, *[-1] * 6, 1, -1], atol=1e-6)


def by_hand(observation):
    """A driver who sees `lane.features`: the wheel to where the lane bends, corrected by where the
    car is."""
    offset, angle, bend = observation[:, 0], observation[:, 1], observation[:, 3] / 20
    wheel = jnp.arctan(1.7 * (bend - 0.3 * offset - 0.8 * angle)) / cars.MAX_STEERING
    return jnp.stack([wheel, jnp.ones_like(wheel)], axis=-1)


@pytest.fixture(scope="module")
def driven():
    """The wheel held straight, random actions, and by hand, on the held-out roads; one program."""

    def one(driver):
        def act(observation, key):
            random = jax.random.uniform(key, (len(observation), 2), minval=-1.0)
            return jnp.select(
                [driver == 0, driver == 1], [jnp.zeros_like(random), random], by_hand(observation)
            )

        return held_out.drive(act, jax.random.key(1))

    return jax.jit(jax.vmap(one))(jnp.arange(3))


def test_the_roads_need_driving(driven):
    """The paper's car: 22.7 m with the wheel straight, 7.35 m at random (Kendall et al. 2018, table
    I)."""
    straight, random, _ = np.asarray(driven.first).mean(axis=1)
    assert 10 < straight < 30
    assert 3 < random < 15
    per = jax.vmap(lambda x: x.metres_per_disengagement)(driven)
    assert per[0] < 30
    assert per[1] < 15


def test_a_driver_comes_to_the_end(driven):
    by_hand = jax.tree.map(lambda x: x[2], driven)
    assert np.all(by_hand.finished)
    assert np.all(by_hand.first == held_out.LENGTH)
    assert float(by_hand.metres_per_disengagement) == 20 * held_out.LENGTH


def test_who_leaves_the_lane_goes_on_from_there(driven):
    straight = jax.tree.map(lambda x: np.asarray(x[0]), driven)
    assert np.all(straight.metres == held_out.LENGTH)
    assert np.all(straight.first <= straight.metres)
    assert np.all((straight.disengagements > 1) & (straight.first < held_out.LENGTH))


def test_held_out_roads_are_always_the_same():
    """Of these 20 are the figures that are published; another key draws others."""
    starts = jax.jit(jax.vmap(lambda number: held_out.start(number, 0.015, (3.0, 4.0))))(
        jnp.arange(20, dtype=jnp.uint32)
    )
    found = [starts.road.width[0], starts.road.phase[1, 2], starts.place.offset[19]]
    np.testing.assert_allclose(found, [3.331241, 5.135964, 0.018568], atol=1e-5)


def test_a_held_out_drive_lasts_as_long_as_a_metre_a_second():
    """250 s and 250 m; half as fast comes half as far, three times as fast to the end."""

    def at(speed):
        def act(observation, key):
            wheel = by_hand(observation)[:, 0]
            return jnp.stack([wheel, jnp.full_like(wheel, 2 * speed * 3.6 / 10 - 1)], axis=1)

        return held_out.drive(act, KEY, curvature=0.0, count=3)

    slow, fast = jax.jit(lambda: (at(0.5), at(1.5)))()
    np.testing.assert_allclose(slow.metres, 124.75, atol=0.15)
    np.testing.assert_array_equal(slow.first, slow.metres)
    assert not slow.finished.any()
    np.testing.assert_array_equal(fast.metres, 250)
    assert fast.finished.all()
    assert fast.metres_per_disengagement == 750
    some = held_out.Driven(
        *map(jnp.float32, ([250, 90, 100], [250, 250, 200])), jnp.array([0, 3, 1])
    )
    assert some.metres_per_disengagement == 700 / 4
    np.testing.assert_array_equal(some.finished, [True, False, False])


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("observation=sonar", "observation='sonar': must be features or camera"),
        ("camera_size=2", "camera_size=2: must be between 8 and 512"),
        ("reward=1", "reward=1: must be speed or torcs"),
        ("curvature=0.2", "curvature=0.2: must be between 0 and 0.05"),
        ("lane_width=1", "lane_width=1: give metres, 2.0 to 10.0"),
        ("lane_width=[4,3]", "lane_width=[4, 3]: give metres"),
        ("lane_width=wide", "lane_width=wide: give metres"),
        ("hills=3", "environment 'lane' has no option 'hills': its options are time_limit, "),
        ("curvature", "--env-option curvature: give NAME=VALUE"),
    ],
)
def test_bad_options_are_one_sentence(option, said):
    result = CliRunner().invoke(
        commands.main, ["train", "lane", "--env-option", option, "--dry-run"]
    )
    assert result.exit_code == 2
    assert said in result.stderr
    assert "Traceback" not in result.stderr
