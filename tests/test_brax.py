"""Brax through the same contract as every environment, and Brax's own numbers inside it.

Compiling a Brax step takes seconds, so the table looks at shapes and types; two environments are
really run."""

import base64
import json
import re
import types
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddpg_jax import envs, rollout
from ddpg_jax.envs import brax, playground, render
from ddpg_jax.envs.autoreset import batch
from ddpg_jax.runs.results import video

BACKEND = {
    "swimmer": "generalized"
}  # the only one that it has; spring, the quickest, for all others


@pytest.fixture(autouse=True, scope="module")
def elsewhere(tmp_path_factory):
    """Brax needs JAX's usual promotion (as `standard_promotion`, for a whole module); MuJoCo leaves
    a log where it runs."""
    with (
        jax.numpy_dtype_promotion("standard"),
        jax.numpy_rank_promotion("allow"),
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.chdir(tmp_path_factory.mktemp("brax"))
        yield


def signature(tree):
    """Each leaf's place and kind; the classes of a simulator's state need not compare."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return [(jax.tree_util.keystr(path), x.shape, x.dtype, x.weak_type) for path, x in leaves]


def assert_stable(env):
    """What a step returns can be fed to the next without a second compile, and looks as
    `Environment` says."""
    state, observation = jax.eval_shape(env.reset, jax.random.key(0))
    action = jax.ShapeDtypeStruct((env.num_envs, *env.action.shape), env.action.dtype)
    stepped, time_step = jax.eval_shape(env.step, state, action, jax.random.key(0))
    assert signature(stepped) == signature(state)
    assert not any(leaf.weak_type for leaf in jax.tree.leaves((stepped, time_step)))
    assert (
        signature(observation)
        == signature(time_step.observation)
        == signature(time_step.next_observation)
    )
    assert observation.shape == (env.num_envs, *env.observation.shape)
    assert observation.dtype == env.observation.dtype
    for leaf, dtype in (
        (time_step.reward, jnp.float32),
        (time_step.terminated, bool),
        (time_step.truncated, bool),
    ):
        assert (leaf.shape, leaf.dtype) == ((env.num_envs,), dtype)


SMALLEST = ("inverted_pendulum", "inverted_double_pendulum", "reacher")


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] * (name not in SMALLEST)) for name in brax.NAMES],
)
def test_every_environment_is_stable(name):
    assert_stable(envs.make(f"brax/{name}", 3, backend=BACKEND.get(name, "spring")))


@pytest.mark.parametrize(
    "backend",
    [
        pytest.param(name, marks=[pytest.mark.slow] * (name != "generalized"))
        for name in brax.BACKENDS
        if name != "spring"
    ],
)
def test_every_backend_is_stable(backend):
    assert_stable(envs.make("brax/inverted_pendulum", 3, backend=backend))


@pytest.mark.parametrize(
    "name", [name for name in brax.NAMES if name != "fast"]
)  # it has no actuators
def test_actions_span_the_actuators_ranges(name):
    """What reaches the simulator for -1, 0, 1 is the low end, the middle and the high end; beyond 1
    is clipped."""

    class Reached(Exception):
        pass

    def simulator(state, control):
        reached.append(np.asarray(control))
        raise Reached

    env = brax._create(name, BACKEND.get(name, "spring"), {})
    env.pipeline_step = simulator
    state, key = types.SimpleNamespace(pipeline_state=()), jax.random.key(0)
    low, high = np.asarray(env.sys.actuator.ctrl_range).T
    for action, expected in (
        (-1.0, low),
        (0.0, (low + high) / 2),
        (1.0, high),
        (1.7, high),
        (-9.0, low),
    ):
        reached = []
        with pytest.raises(Reached):
            brax.single(env).step(state, jnp.full(env.action_size, action), key)
        np.testing.assert_allclose(reached[0], expected, atol=1e-7)
    assert np.all(low < high)


@pytest.fixture(scope="module")
def pole():
    """Two inverted pendulums pushed to the right until they have fallen twice: the time steps ``[T,
    E]``, and the program."""
    env = envs.make("brax/inverted_pendulum", 2, backend="spring", time_limit=1000)
    step, length = jax.jit(env.step), 60
    start, first = jax.jit(env.reset)(jax.random.key(0))
    state, steps = start, []
    for key in jax.random.split(jax.random.key(1), length):
        state, time_step = step(state, jnp.ones((2, 1)), key)
        steps.append(time_step)
    steps = jax.tree.map(lambda *x: np.stack(x), *steps)
    return types.SimpleNamespace(
        env=env, step=step, start=start, first=first, state=state, steps=steps
    )


@pytest.mark.slow
def test_runs_beside_braxs_own_environment(pole):
    """Same start, same pushes: the same observations up to the end and at the end, then a start
    near zero."""
    step = jax.jit(brax._create("inverted_pendulum", "spring", {}).step)
    for e in range(2):
        state = jax.tree.map(lambda x, e=e: x[e], pole.start.state)
        np.testing.assert_array_equal(pole.first[e], state.obs)
        end = np.flatnonzero(pole.steps.terminated[:, e])[0]
        assert end >= 3
        for t in range(end + 1):
            assert state.done == 0
            state = step(state, jnp.ones(1))
            np.testing.assert_allclose(
                pole.steps.next_observation[t, e], state.obs, rtol=1e-4, atol=1e-5
            )
            np.testing.assert_allclose(pole.steps.reward[t, e], state.reward)
            assert pole.steps.terminated[t, e] == (state.done > 0)


def test_a_fall_ends_the_episode_and_a_fresh_start_follows(pole):
    steps = pole.steps
    assert not np.any(steps.truncated)
    tilt = np.abs(steps.next_observation[..., 1])
    np.testing.assert_array_equal(steps.terminated, tilt > 0.2)
    assert np.all(steps.terminated.sum(axis=0) >= 2)
    starts = steps.observation[steps.terminated]
    assert np.all(np.abs(starts) <= 0.01 + 1e-6)  # Brax starts within 0.01 of zero
    starts = np.concatenate([pole.first, starts])
    assert len(np.unique(starts, axis=0)) == len(starts)
    running = ~steps.terminated
    np.testing.assert_array_equal(steps.observation[running], steps.next_observation[running])
    assert pole.step._cache_size() == 1


def test_time_limit_truncates_and_never_terminates():
    env = envs.make("brax/fast", 2, backend="spring", time_limit=5)
    state, _ = env.reset(jax.random.key(0))
    _, steps = jax.lax.scan(
        lambda s, key: env.step(s, jnp.ones((2, 1)), key),
        state,
        jax.random.split(jax.random.key(1), 12),
    )
    assert not np.any(steps.terminated)
    for e in range(2):
        assert np.flatnonzero(steps.truncated[:, e]).tolist() == [4, 9]
        moved = np.asarray(steps.next_observation)[4, e]
        assert np.all(moved > 0)  # the true successor has gone on
        np.testing.assert_array_equal(
            steps.observation[4, e], np.zeros(2)
        )  # the start of this environment
        np.testing.assert_array_equal(steps.next_observation[9, e], moved)


def test_braxs_viewer_has_the_trajectory_of_environment_zero(pole):
    states = jax.tree.map(lambda x, y: jnp.stack([x, y, x]), pole.start, pole.state)
    page = pole.env.renderer.viewer(rollout.frames(pole.env, states))
    assert "<html>" in page
    (packed,) = re.findall(
        '"(eJ[A-Za-z0-9+/=]{200,})"', page
    )  # what the viewer draws: zlib, base64
    drawn = json.loads(zlib.decompress(base64.b64decode(packed)))
    assert drawn["opt"]["timestep"] == pytest.approx(
        0.02
    )  # between two steps of the environment, not of the simulator
    positions = np.array([frame["pos"] for frame in drawn["states"]["x"]])
    expected = np.asarray(states.state.pipeline_state.x.pos)[:, 0]
    np.testing.assert_allclose(positions, expected, atol=1e-5)
    assert np.abs(positions[0] - positions[1]).max() > 0.01
    np.testing.assert_array_equal(positions[0], positions[2])


def test_frames_are_of_environment_zero_and_moving(pole):
    if not video.has_opengl():
        pytest.skip("this machine has no OpenGL")
    states = jax.tree.map(lambda x, y: jnp.stack([x, y, x]), pole.start, pole.state)
    frames = pole.env.renderer.draw(rollout.frames(pole.env, states))
    assert all(frame.shape == (240, 320, 3) and frame.std() > 5 for frame in frames), "not blank"
    assert np.abs(frames[0].astype(int) - frames[1]).max() > 20, "and moving"
    np.testing.assert_array_equal(frames[0], frames[2])
    assert pole.env.renderer.fps == pytest.approx(50)


def test_unknown_names_and_backends_are_named():
    with pytest.raises(
        ValueError,
        match=r"unknown environment 'brax/halfchetah': did you mean 'brax/halfcheetah'\?",
    ):
        envs.make("brax/halfchetah", 1)
    with pytest.raises(
        ValueError, match=r"unknown environment 'pendulun': did you mean 'pendulum'\?"
    ):
        envs.make("pendulun", 1)
    with pytest.raises(
        ValueError,
        match="unknown Brax backend 'sprong': choose one of generalized, positional, spring, mjx",
    ):
        envs.make("brax/hopper", 1, backend="sprong")


def test_names_are_those_that_brax_registers():
    from brax.envs import _envs as registered

    assert set(registered) - set(brax.NAMES) == {"swimmer"}, (
        "it raises on every backend: see the comment at NAMES"
    )
    assert set(brax.NAMES) < set(registered)
    assert envs.names() == [*envs.OWN, *(f"brax/{name}" for name in brax.NAMES)]


def test_action_repeat_is_an_option():
    once, thrice = (
        envs.make("brax/fast", 2, time_limit=9, **options) for options in ({}, {"action_repeat": 3})
    )
    assert (once.time_limit, thrice.time_limit) == (9, 3)
    state, _ = thrice.reset(jax.random.key(0))
    _, steps = jax.lax.scan(
        lambda s, key: thrice.step(s, jnp.ones((2, 1)), key),
        state,
        jax.random.split(jax.random.key(1), 6),
    )
    np.testing.assert_array_equal(np.flatnonzero(steps.truncated[:, 0]), [2, 5])
    with pytest.raises(
        ValueError, match="gymnasium/Pendulum-v1 has no action_repeat: register it with a wrapper"
    ):
        envs.make("gymnasium/Pendulum-v1", 2, action_repeat=2)
    with pytest.raises(ValueError, match="action_repeat=0: must be at least 1"):
        envs.make("brax/fast", 2, action_repeat=0)


def test_what_has_no_system_is_not_randomised():
    with pytest.raises(ValueError, match="brax/fast has no system to randomise"):
        envs.make("brax/fast", 2, randomize=lambda system, keys: (system, None))


class Dictionary:
    """A Brax environment whose observation is a dict, of several dtypes."""

    action_size = 1
    dt = 0.1

    def reset(self, key):
        at = jax.random.uniform(key)
        return self.state(at, jnp.zeros(()))

    def step(self, state, action):
        return self.state(state.pipeline_state + action[0], jnp.ones(()))

    def state(self, at, reward):
        from brax.envs import State

        pixels = jnp.full((2, 2, 1), 7, jnp.uint8)
        return State(
            pipeline_state=at,
            obs={"at": at[None], "pixels": pixels},
            reward=reward,
            done=jnp.where(at > 3, 1.0, 0.0),
        )


def test_dict_observations_and_environments_of_ones_own():
    env = batch(brax.single(Dictionary()), 3, 8)
    assert envs.check(env) == []
    assert {name: (x.shape, str(x.dtype)) for name, x in env.observation.items()} == {
        "at": ((1,), "float32"),
        "pixels": ((2, 2, 1), "uint8"),
    }


def test_every_episode_has_masses_of_its_own():
    """By a randomisation function as Brax's trainers take it."""

    def randomize(system, keys):
        mass = jax.vmap(
            lambda key: (
                system.link.inertia.mass * jax.random.uniform(key, (), minval=0.5, maxval=1.5)
            )
        )(keys)
        axes = jax.tree.map(lambda _: None, system)
        return system.tree_replace({"link.inertia.mass": mass}), axes.tree_replace(
            {"link.inertia.mass": 0}
        )

    env = envs.make(
        "brax/inverted_pendulum", 4, backend="spring", time_limit=2, randomize=randomize
    )
    state, _ = jax.jit(env.reset)(jax.random.key(0))
    step, masses, ends = jax.jit(env.step), [np.asarray(jax.tree.leaves(state.state.system)[0])], []
    for number in range(4):
        state, now = step(state, jnp.full((4, 1), 0.5), jax.random.key(number))
        masses.append(np.asarray(jax.tree.leaves(state.state.system)[0]))
        ends.append(np.asarray(now.next_observation))
    np.testing.assert_array_equal(masses[0], masses[1])
    assert not np.any(masses[1] == masses[2]), "a new episode"
    np.testing.assert_array_equal(masses[2], masses[3])
    # Pushed alike from nearly the same start, the heavy move less; the simulator is not told one
    # mass for all.
    weight, speed = masses[0][:, 0], np.abs(ends[0][:, 2])
    assert np.argmin(weight) == np.argmax(speed)


TURNED = """<mujoco>
  <default><geom contype="0" conaffinity="0"/></default>
  <worldbody>
    <geom type="plane" size="3 2 1"/>
    <body pos=".5 0 1" euler="20 30 40">
      <freejoint/>
      <geom type="box" size=".1 .2 .3" pos=".1 .2 0"/>
      <body pos="0 .6 0" euler="0 50 10">
        <joint type="hinge" axis="0 1 0"/>
        <geom type="capsule" size=".05 .2" euler="40 0 0"/>
      </body>
    </body>
    <body pos="-1 .3 .4" euler="70 0 0">
      <joint type="slide" axis="1 0 0"/>
      <geom type="cylinder" size=".1 .2" pos="0 .1 .1"/>
    </body>
  </worldbody>
</mujoco>"""


@pytest.mark.parametrize("kind", ["links", "mjx", "playground"])
def test_a_scene_has_every_body_where_mujoco_has_it(kind):
    """Three bodies, turned differently each: as Brax's own links, and as of MJX in both families
    of environments, whose other arrays are of a step before."""
    import mujoco
    from brax.base import Transform
    from brax.io import mjcf
    from mujoco import mjx

    model = mujoco.MjModel.from_xml_string(TURNED)
    data = mujoco.MjData(model)
    data.qpos += np.random.default_rng(0).normal(size=model.nq) / 3
    data.qpos[3:7] /= np.linalg.norm(data.qpos[3:7])
    mujoco.mj_kinematics(model, data)
    wanted = render.scene_of(model)(jnp.float32(data.xpos), jnp.float32(data.xquat))
    if kind == "links":
        links = Transform(pos=jnp.float32(data.xpos[1:]), rot=jnp.float32(data.xquat[1:]))
        env = types.SimpleNamespace(sys=types.SimpleNamespace(mj_model=model))
        state = types.SimpleNamespace(pipeline_state=types.SimpleNamespace(x=links))
        scene = brax.scene(env)
    else:
        made = mjx.put_model(model)
        simulated = mjx.make_data(model).replace(qpos=jnp.float32(data.qpos))
        if kind == "mjx":
            env = types.SimpleNamespace(sys=mjcf.load_model(model))
            state, scene = types.SimpleNamespace(pipeline_state=simulated), brax.scene(env)
        else:
            env = types.SimpleNamespace(mj_model=model, mjx_model=made, action_size=1)
            state = types.SimpleNamespace(data=simulated)
            scene = playground.single(env).scene
    found = jax.jit(lambda: scene(state))()
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), found, wanted)
