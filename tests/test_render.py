"""The renderer against MuJoCo's own casting of rays, which needs no OpenGL, and against numbers
worked out by hand."""

import math

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from ddpg_jax.envs import render
from ddpg_jax.envs.render import image, look, model

XML = """<mujoco>
  <asset>
    <texture name="squares" type="2d" builtin="checker" rgb1="1 0 0" rgb2="0 0 1"
             width="64" height="64"/>
    <texture name="sky" type="skybox" builtin="gradient" rgb1="0 1 0" rgb2="0 0 0"
             width="64" height="384"/>
    <material name="floor" texture="squares" texrepeat="2 2" texuniform="true"/>
    <mesh name="wedge" vertex="0 0 0  .4 0 0  0 .2 0  0 0 .3"/>
  </asset>
  <worldbody>
    <light directional="true" dir="0 0 -1" diffuse=".5 .5 .5"/>
    <camera name="still" pos="0 -4 1.2" xyaxes="1 0 0 0 .3 1"/>
    <camera name="tracking" mode="track" pos="1 -4 1.5" xyaxes="1 0 0 0 .2 1"/>
    <geom type="plane" size="3 2 1" material="floor"/>
    <body name="one" pos="-1 0 .8" euler="20 30 40">
      <freejoint/>
      <camera name="riding" pos="0 -3 0" xyaxes="1 0 0 0 0 1"/>
      <camera name="mass" mode="trackcom" pos="0 -3 0" xyaxes="1 0 0 0 0 1"/>
      <camera name="watching" mode="targetbody" target="two" pos="0 -3 1"/>
      <camera name="aiming" mode="targetbodycom" target="two" pos="0 -3 1"/>
      <camera name="homing" mode="targetbody" target="world" pos="0 -3 1"/>
      <geom type="capsule" size=".15 .4" rgba=".9 .1 .1 1"/>
      <geom type="sphere" size=".3" pos=".6 0 .3" rgba=".1 .9 .1 1"/>
      <body name="under" pos="0 .2 -.5">
        <joint type="hinge" axis="0 1 0"/>
        <geom type="box" size=".1 .2 .3" euler="10 20 30"/>
      </body>
    </body>
    <body name="two" pos="1 0 .7" euler="50 0 10">
      <freejoint/>
      <geom type="cylinder" size=".3 .2"/>
      <geom type="ellipsoid" size=".1 .2 .4" pos="-.6 0 .3"/>
      <geom type="box" size=".2 .1 .3" pos="0 0 .6"/>
      <geom type="cylinder" size=".05 .6" pos=".5 0 0" euler="0 80 0"/>
      <geom type="capsule" fromto="0 0 0 .5 .2 .9" size=".04"/>
      <geom type="sphere" size="9" group="3"/>
      <geom type="sphere" size="9" rgba="1 1 1 0"/>
      <site name="tip" pos="0 0 1.2" size=".1" rgba="1 1 0 1"/>
    </body>
  </worldbody>
</mujoco>"""
HEIGHT, WIDTH = 40, 48


@pytest.fixture(scope="module")
def world():
    """The model, and some states of it: joints at random."""
    made = mujoco.MjModel.from_xml_string(XML)
    generator, states = np.random.default_rng(0), []
    for _ in range(4):
        data = mujoco.MjData(made)
        data.qpos += 0.4 * generator.standard_normal(made.nq)
        mujoco.mj_forward(made, data)
        states.append(data)
    return made, states


def bodies(data):
    return jnp.asarray(data.xpos, jnp.float32), jnp.asarray(data.xquat, jnp.float32)


@pytest.fixture(scope="module")
def traced(world):
    """What the rays of the first camera meet in each state, in one program: hits ``[states, P]``,
    and rays."""
    made, states = world
    scene = model.scene_of(made)

    def both(position, rotation):
        seen = image.single_precision(scene(position, rotation))
        rays = render.rays(seen.camera, HEIGHT, WIDTH)
        return render.trace(seen, rays), rays

    stacked = jax.tree.map(lambda *x: jnp.stack(x), *map(bodies, states))
    return jax.device_get(jax.jit(jax.vmap(both))(*stacked))


def cast(made, data, origin, direction):
    """``(distance, number of the geom)`` along one ray by MuJoCo: groups 0 to 2, and not what is
    transparent."""
    number, groups = np.array([-1], np.int32), np.array([1, 1, 1, 0, 0, 0], np.uint8)
    distance = mujoco.mj_ray(
        made, data, origin.astype(float), direction.astype(float), groups, 1, -1, number
    )
    return distance, number[0]


def test_rays_meet_what_mujocos_meet(world, traced):
    made, states = world
    hits, rays = traced
    order, site = model.order_of(made), made.ngeom
    for index, data in enumerate(states):
        expected = [cast(made, data, rays.origin[index], ray) for ray in rays.direction[index].T]
        distance, number = (np.array(x) for x in zip(*expected, strict=True))
        met = hits.distance[index] < render.hit.NOTHING
        ours = np.where(met, order[hits.shape[index]], -1)
        assert len(set(ours)) >= 8, "most kinds are in the picture"
        other = ours != site  # MuJoCo's rays pass through sites
        same = (ours == number) & other
        assert same.sum() >= 0.995 * other.sum(), "but for a ray along an edge"
        same &= number >= 0
        difference = np.abs(hits.distance[index][same] - distance[same])
        assert np.median(difference) < 3e-5
        assert difference.max() < 2e-3, "a ray that grazes a shape, in single precision"


def test_normals_point_out_of_what_was_met(world, traced):
    """A ray from a little outside along the normal, inwards, meets the same geom at once, at a
    right angle nearly."""
    made, states = world
    hits, rays = traced
    order = model.order_of(made)
    for index in np.flatnonzero(
        (hits.distance[0] < render.hit.NOTHING) & (order[hits.shape[0]] < made.ngeom)
    )[::7]:
        normal, direction = hits.normal[0][:, index], rays.direction[0][:, index]
        assert np.linalg.norm(normal) == pytest.approx(1, abs=5e-3)
        assert normal @ direction < 1e-3
        place = rays.origin[0] + direction * hits.distance[0][index]
        distance, number = cast(made, states[0], place + 1e-3 * normal, -normal)
        assert number == order[hits.shape[0][index]]
        assert distance == pytest.approx(1e-3, abs=1e-4)


@pytest.mark.parametrize(
    "camera", ["still", "tracking", "riding", "mass", "watching", "aiming", "homing", 3, None]
)
def test_cameras_are_where_mujoco_has_them(world, camera):
    made, states = world
    number = made.camera(camera).id if isinstance(camera, str) else camera or 0
    look = model.camera_of(made, camera)
    for data in states:
        ours = look(*bodies(data))
        np.testing.assert_allclose(ours.position, data.cam_xpos[number], atol=1e-5)
        np.testing.assert_allclose(ours.rotation, data.cam_xmat[number].reshape(3, 3), atol=1e-5)


def test_a_model_without_a_camera_is_seen_whole():
    made = mujoco.MjModel.from_xml_string(
        "<mujoco><worldbody><geom size='.3' pos='1 2 3'/></worldbody></mujoco>"
    )
    camera = mujoco.MjvCamera()
    mujoco.mjv_defaultFreeCamera(made, camera)
    ours = model.camera_of(made, None)(None, None)
    np.testing.assert_allclose(
        np.linalg.norm(ours.position - camera.lookat), camera.distance, rtol=1e-5
    )
    np.testing.assert_allclose(
        -ours.rotation[:, 2] * camera.distance + ours.position, camera.lookat, atol=1e-5
    )
    assert math.asin(ours.rotation[2, 2]) == pytest.approx(
        -math.radians(camera.elevation), abs=1e-5
    )


def test_colours_squares_and_sky_are_the_models(world):
    made, _ = world
    geoms = model.geoms_of(made)
    shown = dict(zip(geoms.number, geoms.color, strict=True))
    np.testing.assert_allclose(shown[1], [0.9, 0.1, 0.1], atol=1e-6)
    assert made.ngeom in shown, "a site that is shown"
    assert not any(
        made.geom_group[number] > 2 or made.geom_rgba[number, 3] == 0
        for number in shown
        if number < made.ngeom
    )
    both = {tuple(geoms.color[0].round(2)), tuple(geoms.other[0].round(2))}
    assert both == {(1.0, 0.0, 0.0), (0.0, 0.0, 1.0)}
    np.testing.assert_allclose(geoms.square[0], 0.5)
    scene = model.scene_of(made)(*bodies(world[1][0]))
    assert scene.sky.top[1] > scene.sky.horizon[1] > scene.sky.bottom[1] >= 0
    assert scene.sky.top[0] == 0
    assert float(scene.light.strength[0]) == pytest.approx(0.5)


LAMPS = """<mujoco>
  <visual><headlight ambient=".1 .2 .36" diffuse=".3 .63 .9" active="{active}"/></visual>
  <worldbody>
    <light type="directional" dir="0 -3 -4" diffuse=".5 .2 .23" ambient=".12 0 .21"/>
    <light type="spot" dir="1 0 -1" diffuse=".9 .6 .3" ambient=".3 0 0"/>
    <light type="spot" dir="0 1 0" diffuse=".8 .8 .8" ambient=".7 .7 .7" active="false"/>
    <light type="directional" dir="-1 0 0" diffuse=".6 .6 .9" ambient="0 .06 0"/>
    <geom size=".3"/>
  </worldbody>
</mujoco>"""


@pytest.mark.parametrize(("active", "ambient", "headlight"), [(1, 0.22, 0.61), (0, 0.0, 0.0)])
def test_lamps_are_as_bright_as_the_models(active, ambient, headlight):
    """Means over colours; 0.3 is left of a lamp with a cone; ambient light adds up: 0.11 + 0.1 +
    0.02 of lamps that are on."""
    light = look.light_of(mujoco.MjModel.from_xml_string(LAMPS.format(active=active)))
    assert light.ambient == pytest.approx(ambient + 0.23)
    assert light.headlight == pytest.approx(headlight)
    np.testing.assert_allclose(light.strength, [0.31, 0.3 * 0.6, 0.7], rtol=1e-5)
    half = 0.5**0.5
    np.testing.assert_allclose(
        light.direction, [[0, -0.6, -0.8], [half, 0, -half], [-1, 0, 0]], atol=1e-6
    )


def test_a_model_without_a_sky_has_a_black_one():
    sky = look.sky_of(mujoco.MjModel.from_xml_string(LAMPS.format(active=1)))
    for part in (sky.top, sky.horizon, sky.bottom):
        np.testing.assert_array_equal(part, np.zeros(3, np.float32), strict=True)


LOOKS = """<mujoco>
  <asset>
    <texture name="squares" type="2d" builtin="flat" width="16" height="8"/>
    <texture name="grey" type="2d" builtin="flat" width="8" height="16"/>
    <texture name="around" type="cube" builtin="flat" width="8" height="8"/>
    <texture name="sky" type="skybox" builtin="flat" width="8" height="8"/>
    <material name="plain" rgba=".2 .4 .6 .5"/>
    <material name="squares" texture="squares" texrepeat="2 4"/>
    <material name="even" texture="squares" texrepeat="2 4" texuniform="true"/>
    <material name="around" texture="around" rgba="1 .5 .5 1"/>
    <material name="grey" texture="grey"/>
  </asset>
  <worldbody>
    <geom type="plane" size="3 2 1" material="squares"/>
    <geom type="plane" size="0 0 1" material="squares"/>
    <geom type="box" size=".1 .2 .3" material="even"/>
    <geom type="ellipsoid" size=".1 .2 .3" material="grey"/>
    <geom size=".3" material="around"/>
    <geom size=".3" material="plain"/>
    <geom size=".3" material="plain" rgba=".9 .5 .5 1"/>
    <geom size=".3"/>
    <geom size=".3" rgba=".1 .3 .5 .9"/>
  </worldbody>
</mujoco>"""


@pytest.fixture
def painted():
    """A model whose pictures are no builtin's: of the pixels in row y and column x of ``squares``
    are red y, green x and blue 100; the grey ones are 10 y + 5 x."""
    made = mujoco.MjModel.from_xml_string(LOOKS)
    rows, columns = np.mgrid[:8, :16]
    made.tex_data[:384] = np.stack([rows, columns, np.full_like(rows, 100)], axis=2).ravel()
    rows, columns = np.mgrid[:16, :8]
    made.tex_nchannel[1] = 1
    made.tex_data[384 : 384 + 128] = (10 * rows + 5 * columns).ravel()
    made.tex_data[768 : 768 + 1152] = np.tile([51, 102, 204], 384)
    return made


def test_a_pattern_is_two_parts_of_a_texture_and_a_material_gives_way_to_ones_own_colour(painted):
    color, other, square, alpha = look.colors_of(painted, "geom")
    one = np.array([1.5, 3.5, 100]) / 255  # rows 1 and 2, columns 2 to 5 of 16
    two = np.array([1.5, 11.5, 100]) / 255  # columns 10 to 13
    grey = np.array([42.5, 62.5]) / 255  # rows 2 to 5 of 16; columns 1 and 2, 5 and 6 of 8
    around = np.array([0.2, 0.2, 0.4])
    plain, own = np.array([0.2, 0.4, 0.6]), np.array([0.9, 0.5, 0.5])
    last, none = np.array([0.1, 0.3, 0.5]), np.full(3, 0.5)
    expected = [one, one, one, np.full(3, grey[0]), around, plain, own, none, last]
    np.testing.assert_allclose(color, expected, rtol=1e-6)
    expected = [two, two, two, np.full(3, grey[1]), around, plain, own, none, last]
    np.testing.assert_allclose(other, expected, rtol=1e-6)
    np.testing.assert_allclose(alpha, [1, 1, 1, 1, 1, 0.5, 1, 1, 0.9], rtol=1e-6)
    # A material repeats its texture over a shape, or where it is uniform over a metre.
    expected = [[1.5, 0.5], [0.5, 0.25], [0.5, 0.25], [0.1, 0.2], *[[1, 1]] * 5]
    np.testing.assert_allclose(square, expected, rtol=1e-6)


def test_a_sky_is_the_middle_of_its_front_and_the_means_above_and_below(painted):
    start, faces = int(painted.tex_adr[3]), np.zeros((6, 8, 8, 3), np.uint8)
    faces[2], faces[3] = (10, 20, 30), (40, 50, 60)
    faces[4, 3], faces[4, 4] = (70, 80, 90), (90, 80, 70)
    painted.tex_data[start : start + faces.size] = faces.ravel()
    sky = look.sky_of(painted)
    np.testing.assert_allclose(255 * sky.top, [10, 20, 30], rtol=1e-6)
    np.testing.assert_allclose(255 * sky.bottom, [40, 50, 60], rtol=1e-6)
    np.testing.assert_allclose(255 * sky.horizon, [80, 80, 80], rtol=1e-6)
    painted.tex_height[3] = 8  # one picture for all sides
    painted.tex_data[start : start + 192] = np.tile([30, 60, 90], 64)
    sky = look.sky_of(painted)
    for part in (sky.top, sky.horizon, sky.bottom):
        np.testing.assert_allclose(255 * part, [30, 60, 90], rtol=1e-6)


def test_a_plane_of_size_zero_has_no_end(painted):
    scene = model.scene_of(painted)(jnp.zeros((1, 3)), jnp.array([[1.0, 0, 0, 0]]))
    (planes,) = [shapes for shapes in scene.shapes if isinstance(shapes, render.Planes)]
    np.testing.assert_array_equal(planes.half, [[3, 2], [np.inf, np.inf]])


def test_a_plane_ends_with_its_edge():
    """Straight down onto the corner of one of 2 x 1.5 m: it belongs to it."""
    square = jnp.full((1, 2), 0.3)
    made = render.Planes(
        jnp.zeros((1, 3)),
        jnp.eye(3)[None],
        jnp.array([[1.0, 0.75]]),
        *[jnp.ones((1, 3))] * 2,
        square,
    )
    down = jnp.array([[0.0], [0.0], [-1.0]])
    for corner, met in (((1.0, 0.75), True), ((-1.0, -0.75), True), ((1.0, 0.7501), False)):
        hit = made.hit(render.Rays(jnp.array([*corner, 2.0]), down, jnp.float32(0.01)))
        assert bool(hit.distance[0] == 2.0) == met, corner


def test_a_cylinder_ends_with_its_rim():
    """Straight down and up onto the ends of one of radius 1: it belongs to them."""
    made = render.Cylinders(
        jnp.zeros((1, 3)), jnp.array([[0.0, 0.0, 1.0]]), jnp.ones(1), jnp.ones((1, 3))
    )
    for height, way in ((3.0, -1.0), (-2.0, 1.0)):
        for side, met in ((1.0, True), (-1.0, True), (0.5, True), (1.001, False)):
            rays = render.Rays(
                jnp.array([side, 0.0, height]), jnp.array([[0.0], [0.0], [way]]), jnp.float32(0.01)
            )
            hit = made.hit(rays)
            assert bool(hit.distance[0] == 2.0) == met, (side, way)
            assert met or hit.distance[0] == render.hit.NOTHING
            if side == 0.5:
                np.testing.assert_allclose(hit.normal[:, 0], [0, 0, -way], atol=1e-6)


@pytest.mark.parametrize("kind", ["sphere", "ellipsoid"])
def test_what_is_round_ends_with_its_edge_and_is_not_seen_from_within(kind):
    """A ray that just touches it meets it; one from inside, or that leaves it behind, does not."""
    center, color = jnp.zeros((1, 3)), jnp.ones((1, 3))
    made = {
        "sphere": render.spheres(center, jnp.ones(1), color),
        "ellipsoid": render.Ellipsoids(center, jnp.eye(3)[None], jnp.ones((1, 3)), color),
    }[kind]
    hit = jax.jit(lambda rays: made.hit(rays).distance[0])
    at = lambda *origin: float(
        hit(render.Rays(jnp.array(origin), jnp.array([[0.0], [0.0], [-1.0]]), jnp.float32(0.01)))
    )
    assert at(1.0, 0.0, 3.0) == 3.0
    assert at(0.0, 0.0, 3.0) == 2.0
    nothing = float(render.hit.NOTHING)
    for origin in ((1.001, 0.0, 3.0), (0.0, 0.0, 0.5), (0.0, 0.0, 1.0), (0.0, 0.0, -3.0)):
        assert at(*origin) == nothing, origin


def test_of_shapes_as_far_away_the_first_is_met():
    """Where a distance is not a number it is one of them too, not one beyond the last."""
    far = [[3.0, 2.0, 1e9, jnp.nan], [1.0, 2.0, 1e9, 1.0], [2.0, 5.0, 1e9, 1.0]]
    nearest, number = jax.jit(render.hit.nearest)(jnp.array(far))
    assert (nearest.tolist()[:3], number.tolist()) == ([1, 2, 1e9], [1, 0, 0, 2])


def on_planes(planes, origin, direction, angle):
    """``(distance, normal, colour, number)`` of the nearest plane on one ray, or None."""
    best = None
    for number, center in enumerate(planes.center):
        axes = planes.rotation[number].T
        height, down = (origin - center) @ axes[2], -direction @ axes[2]
        if height <= 0 or down <= 1e-6:
            continue
        distance = height / down
        place = np.array([(origin + distance * direction - center) @ axis for axis in axes[:2]])
        nearer = best is None or distance < best[0]
        if nearer and np.all(np.abs(place) <= planes.half[number]):
            square = planes.square[number]
            even = np.sum(np.floor(place / square)) % 2 == 0
            fades = np.clip(1.5 - angle * distance / max(down, 0.01) / square.min(), 0, 1)
            share = 0.5 + (0.5 if even else -0.5) * fades
            color = share * planes.color[number] + (1 - share) * planes.other[number]
            best = distance, axes[2], color, number
    return best


def test_planes_are_met_from_above_within_their_ends_in_their_pattern():
    """Tilted ones, away from the origin, whose squares have two lengths, near and far away."""
    generator, count = np.random.default_rng(3), 600
    turns = np.linalg.qr(generator.normal(size=(3, 3, 3)))[0]
    turns[0] = np.array([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1]])  # level, like the ground
    turns *= np.where(np.linalg.det(turns) < 0, -1, 1)[:, None, None]
    planes = render.Planes(
        center=generator.normal(size=(3, 3)) * np.array([1, 1, 0.3]),
        rotation=turns,
        half=np.array([[np.inf, np.inf], [1.5, 0.7], [0.8, 2.5]]),
        color=generator.uniform(size=(3, 3)),
        other=generator.uniform(size=(3, 3)),
        square=np.array([[0.7, 0.4], [0.3, 0.5], [0.25, 0.9]]),
    )
    origin = np.array([0.4, -0.7, 1.9])
    direction = generator.normal(size=(count, 3)) * np.array([2, 2, 1])
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    for angle in (0.02, 0.2):
        made = image.single_precision((planes, render.Rays(origin, direction.T, angle)))
        hit = jax.jit(lambda planes, rays: planes.hit(rays))(*made)
        found, close = [on_planes(planes, origin, x, angle) for x in direction], 0
        for index, wanted in enumerate(found):
            if wanted is None:
                assert hit.distance[index] == render.hit.NOTHING
            elif wanted[0] < 30:  # beyond it, single precision does not tell squares apart
                distance, normal, color, number = wanted
                assert hit.distance[index] == pytest.approx(distance, rel=1e-4)
                assert hit.shape[index] == number
                np.testing.assert_allclose(hit.normal[:, index], normal, atol=1e-5)
                close += np.allclose(hit.color[:, index], color, atol=2e-3)
        met = [wanted for wanted in found if wanted is not None and wanted[0] < 30]
        assert close >= len(met) - 4, "but for the edge of a square"
        assert min(np.bincount([wanted[3] for wanted in met])) >= 5
        assert len(met) < 0.9 * count


def test_what_is_read_of_a_model_belongs_to_no_trace(world):
    made, _ = world
    read = []
    jax.eval_shape(
        lambda: read.append(model.scene_of(made))
    )  # as when a program is the first to look at it
    free = [cell.cell_contents for cell in read[0].__closure__]
    assert not any(isinstance(x, jax.core.Tracer) for x in jax.tree.leaves(free)), (
        "kept for the next trace"
    )


def test_a_mesh_is_its_bounding_box():
    text = XML.replace(
        '<geom type="sphere" size="9" group="3"/>', '<geom type="mesh" mesh="wedge"/>'
    )
    made = mujoco.MjModel.from_xml_string(text)
    (number,) = np.flatnonzero(made.geom_type == model.MESH)
    geoms = model.geoms_of(made)
    (row,) = np.flatnonzero(geoms.number == number)
    assert geoms.kind[row] == model.BOX
    np.testing.assert_allclose(geoms.size[row], made.geom_aabb[number, 3:])
    middle, turned = made.geom_aabb[number, :3], np.zeros(3)
    mujoco.mju_rotVecQuat(turned, middle, made.geom_quat[number])
    assert np.abs(middle).max() > 0.01
    np.testing.assert_allclose(geoms.place[row], made.geom_pos[number] + turned, atol=1e-6)


def ball(camera, **more):
    """A white ball of radius 1 around 0."""
    row = lambda *values: jnp.array([values], jnp.float32)
    return render.Scene(camera, (render.spheres(row(0, 0, 0), jnp.ones(1), row(1, 1, 1)),), **more)


AHEAD = render.look_at((0.0, -5.0, 0.0), (0.0, 0.0, 0.0))
draw = jax.jit(render.render, static_argnums=(1, 2), static_argnames="samples")
BLACK = render.Sky(*[jnp.zeros(3)] * 3)


def test_a_ball_is_as_large_and_as_bright_as_it_must_be():
    light = render.Light(
        ambient=0.1,
        headlight=0.5,
        direction=jnp.array([[0.0, 0.0, -2.0]]),
        strength=jnp.array([0.4]),
    )
    picture = np.asarray(draw(ball(AHEAD, light=light, sky=BLACK), 101, 151))
    assert picture.shape == (101, 151, 3)
    assert picture.dtype == np.uint8
    # In the middle the ball faces the camera, and the lamp from above grazes it: 0.1 + 0.5.
    np.testing.assert_array_equal(picture[50, 75], [153] * 3)
    # Seen under asin(1 / 5), of which the tangent is 0.2041; half a picture is tan(22.5 degrees) =
    # 0.4142: 49.3% of it.
    lit = picture.max(axis=-1) > 0
    assert lit[50].sum() == pytest.approx(0.2041 / 0.4142 * 101, abs=1.5)
    assert lit[:, 75].sum() == pytest.approx(0.2041 / 0.4142 * 101, abs=1.5)
    np.testing.assert_array_equal(lit, lit[:, ::-1])
    assert picture[35, 75, 0] > picture[65, 75, 0] + 20, (
        "the lamp is above, and so is the first row"
    )


def test_a_camera_can_look_down_and_up():
    down = render.look_at(jnp.array([0.0, 0.0, 5.0]), jnp.zeros(3), up=jnp.array([0.0, 1.0, 0.0]))
    np.testing.assert_allclose(down.rotation, np.eye(3), atol=1e-6)
    assert np.asarray(draw(ball(down, sky=BLACK), 33, 33))[16, 16, 0] == 255


def test_the_ground_is_chequered_and_grey_far_away():
    camera = render.look_at((0.5, -0.5, 3.0), (0.5, 0.5, 0.0))
    light = render.Light(ambient=1.0, headlight=0.0, strength=jnp.zeros(1))
    ground = render.ground((1.0, 0.0, 0.0), (0.0, 0.0, 1.0))
    picture = np.asarray(draw(render.Scene(camera, (ground,), light), 65, 65)).astype(int)
    assert picture[32, 32].tolist() == [255, 0, 0]  # the square from 0 to 1 in both directions
    flat = render.look_at((0.5, 0.5, 0.05), (0.5, 9.0, 0.0))
    far = np.asarray(draw(render.Scene(flat, (ground,), light), 65, 65)).astype(int)
    row = far[33]
    assert np.all(np.abs(row[:, 0] - row[:, 2]) < 60), "a mean of both"
    assert np.all(far[0, :, 1] > 100), "and the sky above"


def test_light_adds_up_and_what_turns_away_gets_none():
    """The ground seen from aside under three lamps, of which one shines from below; colours that
    are too bright are white."""
    directions = np.array([[0.0, 3.0, -4.0], [-2.0, 0.0, -1.0], [0.0, 1.0, 5.0]])
    light = render.Light(
        ambient=0.11,
        headlight=0.23,
        direction=jnp.float32(directions),
        strength=jnp.array([0.3, 0.17, 0.9]),
    )
    position = np.array([0.3, -2.0, 3.0])
    camera = render.look_at(position, np.zeros(3))
    color = np.array([0.9, 0.4, 0.7])
    ground = render.ground(tuple(color), tuple(color))
    seen = position[2] / np.linalg.norm(position)
    bright = 0.11 + 0.23 * seen + 0.3 * 0.8 + 0.17 / 5**0.5
    middle = np.asarray(draw(render.Scene(camera, (ground,), light), 33, 33))[16, 16]
    np.testing.assert_allclose(middle, 255 * bright * color, atol=1)
    brighter = light.replace(ambient=1.2)
    middle = np.asarray(draw(render.Scene(camera, (ground,), brighter), 33, 33))[16, 16]
    np.testing.assert_allclose(middle, 255 * np.minimum(1, (bright + 1.09) * color), atol=1)


def test_what_is_too_bright_is_white_before_samples_are_joined():
    bright = lambda ambient: render.Light(ambient=ambient, headlight=0.0, strength=jnp.zeros(1))
    drawn = [
        np.asarray(draw(ball(AHEAD, light=bright(ambient), sky=BLACK), 33, 33, samples=2))
        for ambient in (1.0, 2.0)
    ]
    assert len(np.unique(drawn[0])) > 3, "an edge"
    np.testing.assert_array_equal(*drawn)


def test_a_film_has_a_frame_for_each_state_and_two_lie_side_by_side():
    """With 8 white pixels between them; who waits is told after each."""
    places, told = jnp.array([[0.0], [2.0], [0.5]]), []
    moved = lambda state: ball(AHEAD, sky=BLACK).replace(
        camera=render.look_at((state[0], -5.0, 0.0), (state[0], 0.0, 0.0))
    )
    frames = image.film(moved, places, 8, 12, samples=1, on_frame=told.append)
    assert told == [1, 2, 3]
    alone = image.mapped(lambda state: render.render(moved(state), 8, 12), places)
    np.testing.assert_array_equal(frames, alone)
    assert (frames[0] != frames[1]).any()
    found = image.side_by_side(frames[:2], [frame[:, :5] for frame in frames[1:]])
    assert len(found) == 2
    for number, both in enumerate(found):
        assert (both.shape, both.dtype) == ((8, 12 + 8 + 5, 3), np.uint8)
        np.testing.assert_array_equal(both[:, :12], frames[number])
        np.testing.assert_array_equal(both[:, 12:20], 255)
        np.testing.assert_array_equal(both[:, 20:], frames[number + 1][:, :5])


def test_the_sky_goes_from_the_horizon_up_and_down():
    """By the height of the ray: a camera that looks along y, up and down."""
    sky = render.Sky(*map(jnp.array, ([0.1, 0.2, 0.9], [0.8, 0.7, 0.6], [0.3, 0.4, 0.05])))
    camera = render.look_at((0.0, 0.0, 0.0), (0.0, 1.0, 0.0), field_of_view=math.radians(90))
    tiny = render.spheres(jnp.array([[0.0, -9.0, 0.0]]), jnp.array([0.1]), jnp.ones((1, 3)))
    column = np.asarray(draw(render.Scene(camera, (tiny,), sky=sky), 41, 41))[:, 20] / 255
    slope = np.linspace(1, -1, 41 + 1)
    height = (slope[:-1] + slope[1:]) / 2
    height = height / np.sqrt(1 + height**2)
    for part, wanted in zip(column, height, strict=True):
        far = sky.top if wanted > 0 else sky.bottom
        expected = sky.horizon + abs(wanted) * (far - sky.horizon)
        np.testing.assert_allclose(part, expected, atol=3e-3)


def test_samples_smooth_the_edge():
    two = np.asarray(draw(ball(AHEAD, sky=BLACK), 11, 11, samples=3)).astype(int)
    inside = (
        np.asarray(draw(ball(AHEAD, sky=BLACK), 33, 33)).reshape(11, 3, 11, 3, 3).mean(axis=(1, 3))
    )
    np.testing.assert_allclose(two, inside, atol=1)


def test_many_at_once_are_as_one_by_one():
    def picture(place):
        moved = render.Capsules(place[None], place[None] + 1, jnp.array([0.3]), jnp.ones((1, 3)))
        return render.render(
            render.Scene(AHEAD, (moved, render.ground((0, 0, 0), (1, 1, 1)))), 16, 16
        )

    places = jax.random.normal(jax.random.key(0), (5, 3))
    many, alone = jax.jit(jax.vmap(picture))(places), jax.jit(picture)
    for place, one in zip(places, many, strict=True):
        difference = np.abs(np.asarray(alone(place)).astype(int) - np.asarray(one))
        assert np.mean(difference > 1) < 0.01


def test_a_shape_of_ones_own():
    """Anything with a ``hit`` may lie in a scene: here a disc across the view."""

    class Disc:
        def hit(self, rays):
            distance = jnp.where(
                rays.direction[2] ** 2 + rays.direction[0] ** 2 < 0.01, 1.0, render.hit.NOTHING
            )
            color = jnp.zeros_like(rays.direction).at[1].set(1.0)
            return render.Hit(
                distance, -rays.direction, color, jnp.zeros(distance.shape, jnp.int32)
            )

    jax.tree_util.register_pytree_node(
        Disc, lambda disc: ((jnp.zeros(1),), None), lambda aux, leaves: Disc()
    )
    scene = ball(AHEAD, sky=BLACK)
    seen = np.asarray(draw(scene.replace(shapes=(*scene.shapes, Disc())), 33, 33))
    assert seen[16, 16, 0] == 0
    assert seen[16, 16, 1] > 100


def test_sentences_for_what_cannot_be_drawn():
    with pytest.raises(ValueError, match="height=0: must be between 1 and 4096"):
        render.render(ball(AHEAD), 0, 8)
    with pytest.raises(ValueError, match="the scene has no shape: give at least one group"):
        render.render(render.Scene(AHEAD, ()), 8, 8)
    made = mujoco.MjModel.from_xml_string(XML)
    with pytest.raises(
        ValueError,
        match=r"camera='nowhere': there is no such camera; the model has 0 'still', 1 'tracking'",
    ):
        render.scene_of(made, "nowhere")
    with pytest.raises(ValueError, match="the model has no geom that can be seen"):
        render.scene_of(mujoco.MjModel.from_xml_string("<mujoco/>"))
