"""The lane's camera against the road's geometry: where the sides of the lane are seen, and what
they look like there."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddpg_jax import envs, rollout
from ddpg_jax.envs.lane import camera, held_out
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
