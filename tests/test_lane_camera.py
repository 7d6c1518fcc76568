"""The lane's camera against the road's geometry: where the sides of the lane are seen, and what
they look like there."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddpg_jax import envs, rollout
from ddpg_jax.envs.lane import camera, held_out, surface
from ddpg_jax.envs.lane import road as roads
from ddpg_jax.envs.render import rays

SIZE, COUNT = 64, 6


def held_out_state(number, along, offset, angle):
    state = held_out.start(number, 0.02, (3.0, 4.0))
    return state.replace(place=roads.Place(along=along, offset=offset, angle=angle))


@pytest.fixture(scope="module")
def seen():
    """``(states, pictures, places on the road of each pixel, the middle of the lane in steps of 5
    cm)`` of six cars."""
    rng = np.random.default_rng(0)
    places = (jnp.asarray(rng.uniform(-x, x, COUNT), jnp.float32) for x in (0.0, 0.9, 0.25))
    along, offset, angle = places
    along = along + 30.0 * jnp.arange(1, COUNT + 1, dtype=jnp.float32)

    def one(number, *place):
        state = held_out_state(number, *place)
        ray = rays(camera.through_the_camera(), SIZE, SIZE)
        fine = roads.middle(
            state.road, state.place.along, jnp.arange(0, 30, 0.05, dtype=jnp.float32)
        )
        return state, camera.picture(state, SIZE), camera.surface(state).places(ray), fine

    return jax.device_get(
        jax.jit(jax.vmap(one))(jnp.arange(COUNT, dtype=jnp.uint32), along, offset, angle)
    )


def each(tree):
    """One after the other of what has a leading axis."""
    leaves, structure = jax.tree.flatten(tree)
    return [jax.tree.unflatten(structure, one) for one in zip(*leaves, strict=True)]


def pixels_of(state, fine, side):
    """``(column, row)`` in pixels, from the left and the top, of points ``side`` metres left of the
    middle of the lane."""
    points, angles = fine
    x, y = points[0] - side * np.sin(angles), points[1] + side * np.cos(angles) - state.place.offset
    cosine, sine = np.cos(state.place.angle), np.sin(state.place.angle)
    x, y = cosine * x + sine * y - camera.FORWARD, cosine * y - sine * x
    forward = np.cos(camera.PITCH) * x + np.sin(camera.PITCH) * camera.HEIGHT
    up = np.sin(camera.PITCH) * x - np.cos(camera.PITCH) * camera.HEIGHT
    focal = SIZE / 2 / np.tan(camera.FIELD_OF_VIEW / 2)
    return SIZE / 2 - focal * y / forward, SIZE / 2 - focal * up / forward, forward


def test_the_sides_of_the_lane_are_seen_where_they_are(seen):
    """In each row, the column where a side crosses, by the camera's rays and by projecting the
    road's own integral."""
    compared = 0
    for number, (state, _, (_, _, offset), fine) in enumerate(each(seen)):
        for side in (-state.road.width / 2, state.road.width / 2):
            columns, rows, forward = pixels_of(state, fine, side)
            ahead = (forward > 1) & (rows < SIZE)
            for row in range(SIZE // 2, SIZE):
                across = offset.reshape(SIZE, SIZE)[row] - side
                crossing = np.flatnonzero((across[:-1] > 0) & (across[1:] <= 0))
                near = np.flatnonzero(
                    ahead[:-1] & ((rows[:-1] - row - 0.5) * (rows[1:] - row - 0.5) <= 0)
                )
                if len(crossing) == 1 and len(near) == 1:
                    at = (
                        crossing[0]
                        + across[crossing[0]] / (across[crossing[0]] - across[crossing[0] + 1])
                        + 0.5
                    )
                    assert at == pytest.approx(columns[near[0]], abs=1.0), (number, row)
                    compared += 1
    assert compared > 100


def test_each_pixel_knows_its_place_on_the_road(seen):
    """Metres along the road and to its side, by the nearest point of the road's own integral."""
    ray = rays(camera.through_the_camera(), SIZE, SIZE)
    direction, origin = np.asarray(ray.direction, np.float64), np.asarray(ray.origin)
    for state, _, (distance, along, offset), (points, angles) in each(seen):
        ahead = np.flatnonzero((distance * direction[0] < 22) & (distance < 1e3))
        x, y = origin[:2, None] + distance[None, ahead] * direction[:2, ahead]
        np.testing.assert_allclose(
            origin[2] + distance[ahead] * direction[2, ahead], 0, atol=1e-4, err_msg="the ground"
        )
        cosine, sine = np.cos(state.place.angle), np.sin(state.place.angle)
        x, y = cosine * x - sine * y, sine * x + cosine * y + state.place.offset
        apart = np.stack([x[:, None] - points[0][None], y[:, None] - points[1][None]])
        near = np.argmin(np.sum(apart**2, axis=0), axis=1)
        left = np.take_along_axis(
            apart[1] * np.cos(angles)[None] - apart[0] * np.sin(angles)[None], near[:, None], axis=1
        )[:, 0]
        beside = (np.abs(left) < 4) & (near > 0)
        assert beside.sum() > 300
        expected = state.place.along + 0.05 * near
        np.testing.assert_allclose(along[ahead][beside], expected[beside], atol=0.15)
        np.testing.assert_allclose(offset[ahead][beside], left[beside], atol=0.1)


def test_looks_are_drawn_evenly_from_their_ranges():
    """Asphalt is grey and light enough to be told from dark, paint from white to yellow, and the
    sky is brighter at the horizon."""
    looks = jax.jit(jax.vmap(surface.paint))(jax.random.split(jax.random.key(9), 600))
    ranges = {
        "asphalt": ([0.2] * 3, [0.5] * 3),
        "verge": ([0.2, 0.3, 0.05], [0.6, 0.65, 0.3]),
        "paint": ([0.8, 0.7, 0.4], [1, 1, 1]),
        "rough": (0.0, 0.15),
        "grain": (0.5, 3.0),
        "dash": (2.0, 4.0),
        "bright": (0.6, 1.1),
        "sky": ([[0.3, 0.5, 0.7], [0.6, 0.7, 0.8]], [[0.6, 0.7, 1.0], [0.9, 0.9, 1.0]]),
    }
    for name, (low, high) in ranges.items():
        found = np.asarray(getattr(looks, name), np.float64)
        share = (found - low) / np.subtract(high, low)
        assert -1e-6 <= share.min(axis=0).min() <= share.min(axis=0).max() < 0.03, name
        assert 0.97 < share.max(axis=0).min() <= share.max(axis=0).max() <= 1 + 1e-6, name
        np.testing.assert_allclose(share.mean(axis=0), 0.5, atol=0.05, err_msg=name)
    assert np.ptp(looks.asphalt, axis=1).max() == 0
    alone = np.concatenate([looks.verge, looks.paint, looks.sky.reshape(-1, 6)], axis=1)
    alone = np.concatenate([alone, *(x[:, None] for x in (looks.rough, looks.grain))], axis=1)
    assert np.abs(np.corrcoef(alone.T) - np.eye(14)).max() < 0.2, "drawn on their own"


def test_the_camera_is_over_the_bonnet_and_looks_a_little_down(seen):
    """1.2 m before the rear axle, 1.4 m high, 0.2 rad down, over 60 degrees, without a headlight;
    the road is known from 20 m behind to 64 m before, in steps of 4 m."""
    state = jax.tree.map(jnp.asarray, each(seen[0])[1])
    scene, over = jax.jit(lambda state: (camera.scene(state), camera.above(state)))(state)
    made = scene.camera
    np.testing.assert_allclose(made.position, [1.2, 0, 1.4], atol=1e-6)
    forward = [np.cos(0.2), 0, -np.sin(0.2)]
    np.testing.assert_allclose(-np.asarray(made.rotation)[:, 2], forward, atol=1e-6)
    np.testing.assert_allclose(np.asarray(made.rotation)[:, 0], [0, -1, 0], atol=1e-6)
    assert made.field_of_view == pytest.approx(np.pi / 3)
    (road,) = scene.shapes
    np.testing.assert_allclose(road.along - state.place.along, np.arange(-20, 65, 4), atol=1e-4)
    np.testing.assert_array_equal(road.bend[jnp.array([0, -1])], 0, "straight on from its ends")
    assert np.all(road.bend[1:-1] != 0)
    assert scene.light.ambient == state.look.bright
    assert scene.light.headlight == 0
    np.testing.assert_array_equal(scene.light.strength, [0])
    np.testing.assert_array_equal(scene.sky.top, state.look.sky[0])
    for part in (scene.sky.horizon, scene.sky.bottom):
        np.testing.assert_array_equal(part, state.look.sky[1])
    np.testing.assert_allclose(over.camera.position, [20, 0, 60], atol=1e-5)
    np.testing.assert_allclose(
        over.camera.rotation, np.array([[0, 1, 0], [-1, 0, 0], [0, 0, 1]]), atol=1e-5
    )
    assert over.camera.field_of_view == pytest.approx(np.pi / 4)
    np.testing.assert_allclose(over.shapes[-1].color, [[0.8, 0.2, 0.1]], rtol=1e-6)


def painted(look, width, along, offset, pixel):
    """What the ground is at one place, of which a pixel covers some metres."""
    covered = lambda inside: np.clip(inside / max(pixel, 1e-3) + 0.5, 0, 1)
    lines = [covered(0.06 - abs(offset - side * width)) for side in (-0.5, 0.5, 1.5)]
    phase = along % (2 * look.dash)  # painted in the middle of each two
    lines[1] *= covered(look.dash / 2 - abs(phase - look.dash))
    on_road = covered(width + 0.3 - abs(offset - width / 2))
    ground = look.verge * (1 - on_road) + look.asphalt * on_road
    wave = np.sin(6.3 * along / look.grain)
    wave *= np.sin(6.3 * offset / look.grain + np.sin(along))
    ground = ground * (1 + look.rough * wave * np.clip(1 - 2 * pixel / look.grain, 0, 1))
    return ground + (look.paint - ground) * max(lines)


def test_lines_dashes_and_grain_are_where_they_are_painted():
    """Two lanes of 3.5 m with lines at -1.75, 1.75 (dashed) and 5.25 m, sharp near by."""
    generator, width = np.random.default_rng(1), np.float32(3.5)
    key = jax.random.key(4)
    made = surface.Surface(*[jnp.zeros(1)] * 4, width=jnp.array([width]), look=surface.paint(key))
    made = made.replace(look=made.look.replace(rough=jnp.float32(0.5)))  # to be seen well
    look = jax.tree.map(lambda x: np.asarray(x, np.float64), made.look)
    along, pixel = generator.uniform(-40, 40, 300), generator.uniform(0, 0.4, 300)
    sides = generator.choice([-1.75, 1.75, 5.25, 5.55, -2.05], 300)
    offset = np.concatenate([sides[:150] + generator.normal(0, 0.05, 150), 8 * sides[150:] / 5])
    shades = jax.jit(surface.Surface._painted)
    found = np.asarray(shades(made, *map(jnp.float32, (along, offset, pixel)))).T
    wanted = [painted(look, 3.5, *place) for place in zip(along, offset, pixel, strict=True)]
    np.testing.assert_allclose(found, wanted, atol=2e-3)
    places = np.zeros(300), np.full(300, 1.75), np.full(300, 0.01)
    places[1][:2], places[0][2] = (-1.75, 5.25), look.dash
    found = np.asarray(shades(made, *map(jnp.float32, places))).T
    np.testing.assert_allclose(found[:3], np.tile(look.paint, (3, 1)), atol=1e-5)
    assert np.abs(found[3] - look.paint).max() > 0.2, "between two dashes"


def test_the_lane_is_painted_there(seen):
    """Where the right side is nearest, pixels are of its paint; a metre further left they are
    asphalt."""
    for number, (state, picture, _, fine) in enumerate(each(seen)):
        found = []
        for side, color in ((0, state.look.paint), (1.0, state.look.asphalt)):
            columns, rows, forward = pixels_of(state, fine, side - state.road.width / 2)
            inside = np.flatnonzero(
                (forward > 1) & (rows < SIZE) & (columns >= 0) & (columns < SIZE)
            )[:3]
            shown = (
                picture[rows[inside].astype(int), columns[inside].astype(int)]
                / 255
                / state.look.bright
            )
            found.append(np.abs(shown - np.minimum(color, 1 / state.look.bright)).max(axis=1).min())
        assert found[0] < 0.45, number
        assert found[1] < 0.1, number


def test_episodes_look_different(seen):
    pictures = np.asarray(seen[1], np.float64)
    for part in (pictures[:, :8], pictures[:, -8:]):  # sky, ground
        means = part.mean(axis=(1, 2))
        assert np.ptp(means, axis=0).min() > 10
    assert pictures.min() > 0


def test_the_camera_keeps_the_contract():
    env = envs.make("lane", 4, time_limit=12, observation="camera", camera_size=16)
    assert jax.tree.map(lambda x: (x.shape, str(x.dtype)), env.observation) == {
        "camera": ((16, 16, 3), "uint8"),
        "vehicle": ((2,), "float32"),
    }
    assert envs.check(env) == []


@pytest.mark.slow
def test_a_film_shows_the_car_and_what_it_sees(seen):
    """From above, the car drives upwards: it is below the middle, the road goes on before it;
    beside it its camera."""
    env = envs.make("lane", 1)
    states = jax.tree.map(lambda x: jnp.asarray(x[:2]), seen[0])
    frames = env.renderer.draw(states)
    assert [frame.shape for frame in frames] == [(240, 488, 3)] * 2
    assert env.renderer.fps == 10
    for frame in frames:
        red = (frame[:, :240, 0].astype(int) > 1.8 * frame[:, :240, 1].astype(int)) & (
            frame[:, :240, 2] < 60
        )
        rows, columns = np.nonzero(red)
        assert 20 < len(rows) < 800
        assert rows.mean() > 180
        assert abs(columns.mean() - 120) < 12
    state, _ = env.reset(jax.random.key(0))
    assert rollout.frames(env, jax.tree.map(lambda x: x[None], state)).place.along.shape == (1,)


def test_from_above_the_car_stands_on_the_road_and_turns_about_its_rear_axle(seen):
    car = camera.above(each(seen[0])[0]).shapes[-1]
    low, high = (np.asarray(car.center + sign * car.half)[0] for sign in (-1, 1))
    np.testing.assert_allclose(low, [-0.3, -0.65, 0.0], atol=1e-6)
    np.testing.assert_allclose(high, [2.1, 0.65, 1.2], atol=1e-6)


def test_a_film_is_the_view_from_above_and_the_cameras_beside_it(seen, monkeypatch):
    """240 pixels high and wide each, with a gap between them."""

    def film(view, states, height, width):
        scene = jax.eval_shape(lambda: view(jax.tree.map(lambda x: x[0], states)))
        return [np.full((height, width, 3), len(scene.shapes), np.uint8)]

    monkeypatch.setattr(camera, "film", film)
    (frame,) = envs.make("lane", 1).renderer.draw(jax.tree.map(jnp.asarray, seen[0]))
    assert frame.shape == (240, 488, 3)
    np.testing.assert_array_equal(frame[:, :240], 2, "the road and the car")
    np.testing.assert_array_equal(frame[:, 248:], 1, "the road alone")


def test_the_ground_faces_up():
    ray = rays(camera.through_the_camera(), 8, 8)
    hit = jax.jit(lambda state: camera.surface(state).hit(ray))(held_out_state(0, 1.0, 0.0, 0.1))
    np.testing.assert_array_equal(hit.normal, np.broadcast_to([[0.0], [0.0], [1.0]], (3, 64)))
