"""MuJoCo Playground: the contract, breakdowns, names, and a run from the shell to a film."""

import importlib.util
import json
import types
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from click.testing import CliRunner
from flax import struct
from jax.interpreters import batching

from ddpg_jax import envs, rollout
from ddpg_jax.envs import playground
from ddpg_jax.runs.cli import commands
from ddpg_jax.runs.results import video

if importlib.util.find_spec("mujoco_playground") is None:
    pytest.skip("MuJoCo Playground is not installed", allow_module_level=True)

pytestmark = [pytest.mark.usefixtures("standard_promotion"), pytest.mark.filterwarnings("ignore")]


def randomize(model, keys):
    """Another gravity for each key."""
    gravity = jax.vmap(
        lambda key: model.opt.gravity * jax.random.uniform(key, (), minval=0.5, maxval=1.5)
    )(keys)
    axes = jax.tree.map(lambda _: None, model)
    return model.tree_replace({"opt.gravity": gravity}), axes.tree_replace({"opt.gravity": 0})


@pytest.fixture(scope="module")
def pendulums():
    """Four, whose episodes of two steps have a gravity of their own each."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        return envs.make("playground/PendulumSwingup", 4, time_limit=2, randomize=randomize)


@pytest.fixture(scope="module")
def compiled(pendulums):
    """The same programs as `envs.check` compiles, so that the cache of these tests has them."""
    return pendulums._replace(reset=jax.jit(pendulums.reset), step=jax.jit(pendulums.step))


@pytest.mark.slow
def test_the_contract_is_kept(pendulums):
    assert envs.check(pendulums) == []


def test_names_and_options():
    with pytest.raises(
        ValueError,
        match=r"unknown environment 'playground/CheetaRun': did you mean 'playground/CheetahRun'\?",
    ):
        envs.make("playground/CheetaRun", 2)
    with pytest.raises(
        ValueError,
        match="playground/CheetahRun has no option 'gravity': choose one of action_repeat, ctrl_dt",
    ):
        envs.make("playground/CheetahRun", 2, gravity=3)
    with pytest.raises(
        ValueError,
        match="CheetahRun with impl=warp needs an NVIDIA GPU, and JAX computes on a cpu here",
    ):
        envs.make("playground/CheetahRun", 2, impl="warp")
    with pytest.raises(ValueError, match="unknown impl 'c' of Playground: choose one of jax, warp"):
        envs.make("playground/CheetahRun", 2, impl="c")
    for name in ("pendulum", "brax/ant", "gymnasium/Pendulum-v1"):
        with pytest.raises(ValueError, match=f"{name} has no impl: that is an option of MuJoCo"):
            envs.make(name, 2, impl="jax")
    with pytest.raises(
        ValueError, match="CheetahRun: ctrl_dt='slow' is text where a number is meant"
    ):
        envs.make("playground/CheetahRun", 2, ctrl_dt="slow")
    with pytest.raises(
        ValueError, match="playground/CheetahRun has no backend: that is an option of Brax"
    ):
        envs.make("playground/CheetahRun", 2, backend="spring")


def test_warp_is_handed_over_and_asked_of_what_has_it(monkeypatch):
    from mujoco_playground import registry

    loaded = []
    monkeypatch.setattr(playground, "_has_nvidia_gpu", lambda: True)
    monkeypatch.setattr(
        registry, "load", lambda name, config, config_overrides: loaded.append(config)
    )
    for impl in playground.IMPLS:
        playground.load("CheetahRun", {}, impl)
    playground.load("CheetahRun", {})
    assert [config.impl for config in loaded] == ["jax", "warp", "jax"]
    name = "AeroCubeRotateZAxis"
    assert "impl" not in registry.get_default_config(name)
    playground.load(name, {})
    with pytest.raises(ValueError, match=f"{name} has no impl 'warp': leave it out"):
        playground.load(name, {}, "warp")


@pytest.mark.parametrize(
    ("backend", "version", "has"),
    [("gpu", "PJRT C API\ncuda 12090", True), ("gpu", "rocm 60", False), ("tpu", "cuda?", False)],
)
def test_an_nvidia_gpu_is_told_from_others(backend, version, has, monkeypatch):
    device = types.SimpleNamespace(client=types.SimpleNamespace(platform_version=version))
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    monkeypatch.setattr(jax, "devices", lambda: [device])
    assert playground._has_nvidia_gpu() is has


@struct.dataclass
class Data:
    """As Warp's: ``table`` is one for all copies."""

    place: jax.Array
    table: jax.Array


batching.register_vmappable(
    Data,
    int,
    int,
    lambda cut, _, data, axis: Data(cut(data.place, axis), data.table),
    lambda join, size, data, axis: Data(join(size, data.place, axis), data.table),
    None,
)


def test_what_all_copies_share_is_no_part_of_a_copy():
    reset = lambda key: (Data(jax.random.uniform(key, (3,)), jnp.ones((7, 2))), jnp.ones(()))
    part, whole = playground._parts(types.SimpleNamespace(reset=reset))
    state = reset(jax.random.key(0))
    place, one = part(state)
    np.testing.assert_array_equal(place, state[0].place)
    assert one == 1
    data, one = whole([2 * place, one + 1])
    np.testing.assert_array_equal(data.place, 2 * state[0].place)
    assert (data.table.shape, np.abs(data.table).max(), one) == ((7, 2), 0, 2)


@pytest.mark.slow
def test_warp_plays_as_jax_does(monkeypatch, capfd):
    """On the CPU, for which it is slow: episodes of two steps, so that copies begin anew, also
    under another vmap as of members."""
    monkeypatch.setattr(playground, "_has_nvidia_gpu", lambda: True)
    found = {}
    for impl in playground.IMPLS:
        env = envs.make("playground/PendulumSwingup", 32, time_limit=2, impl=impl)

        def play(key, env=env):
            keys = jax.random.split(key, 5)
            action = jnp.full((32, 1), 0.5)
            return jax.lax.scan(
                lambda now, key: env.step(now, action, key), env.reset(key)[0], keys
            )

        state, found[impl] = jax.jit(jax.vmap(play))(jax.random.split(jax.random.key(0), 2))
        first = jax.tree.map(lambda x: x[0], env.single_state(state))
        alone = jax.tree.map(lambda x: x[0], first)
        assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(env.single.scene(alone)))
        if video.has_opengl():
            (frame, *_) = env.renderer.draw(first)
            assert frame.std() > 5, "not blank"
    for ours, theirs in zip(*map(jax.tree.leaves, found.values()), strict=True):
        np.testing.assert_allclose(theirs, ours, atol=1e-4)
    assert np.any(found["warp"].truncated)
    assert capfd.readouterr().out == ""


def test_what_cannot_be_downloaded_is_one_sentence(monkeypatch):
    import subprocess

    from mujoco_playground import registry

    def fails(*_, **__):
        raise subprocess.CalledProcessError(128, ["git", "clone"])

    monkeypatch.setattr(registry, "load", fails)
    with pytest.raises(
        OSError,
        match="the models of playground/Go1Getup are downloaded on first use by git, which failed",
    ):
        envs.make("playground/Go1Getup", 2)


def test_configuration_and_time():
    assert playground.load("PendulumSwingup", {})[0].mjx_model.impl.value == "jax"
    env = envs.make("playground/PendulumSwingup", 2, ctrl_dt=0.05)
    assert (env.time_limit, env.renderer.fps, env.breaks, env.action.shape) == (
        1000,
        pytest.approx(20),
        True,
        (1,),
    )


@pytest.mark.slow
def test_a_simulation_that_becomes_nan_is_begun_anew(compiled):
    """The simulator is broken from outside: NaN in the velocities of two of four pendulums."""
    reset, step = compiled.reset, compiled.step
    state, _ = reset(jax.random.key(0))
    inner = state.state.state
    data = inner.data.replace(qvel=inner.data.qvel.at[jnp.array([1, 3])].set(jnp.nan))
    broken = state.state.replace(state=inner.replace(data=data))
    state, now = step(state.replace(state=broken), jnp.zeros((4, 1)), jax.random.key(1))
    np.testing.assert_array_equal(now.valid, [True, False, True, False])
    np.testing.assert_array_equal(now.truncated, [False, True, False, True])
    assert not np.any(now.terminated)
    data = state.state.state.data
    for leaf in jax.tree.leaves((now, data.qpos, data.qvel)):
        assert np.all(np.isfinite(leaf))
    np.testing.assert_array_equal(state.steps, [1, 0, 1, 0])


@pytest.mark.slow
def test_every_episode_has_a_gravity_of_its_own(compiled):
    reset, step = compiled.reset, compiled.step
    state, _ = reset(jax.random.key(0))
    gravities = [np.asarray(jax.tree.leaves(state.state.system)[0])[:, 2]]
    for number in range(4):
        state, now = step(state, jnp.zeros((4, 1)), jax.random.key(number))
        gravities.append(np.asarray(jax.tree.leaves(state.state.system)[0])[:, 2])
        speed = np.abs(now.next_observation[:, 2])
    np.testing.assert_array_equal(gravities[0], gravities[1])
    assert not np.any(gravities[1] == gravities[2]), "a new episode"
    np.testing.assert_array_equal(gravities[2], gravities[3])
    assert np.all((np.abs(gravities) > 0.5 * 9.8) & (np.abs(gravities) < 1.5 * 9.82))
    assert len(np.unique(speed)) == 4


def test_frames_are_not_blank_and_move(compiled):
    if not video.has_opengl():
        pytest.skip("this machine has no OpenGL")
    state, _ = compiled.reset(jax.random.key(0))
    later, _ = compiled.step(state, jnp.ones((4, 1)), jax.random.key(1))
    states = jax.tree.map(lambda x, y: jnp.stack([x, y]), state, later)
    frames = compiled.renderer.draw(rollout.frames(compiled, states))
    assert all(frame.shape == (240, 320, 3) and frame.std() > 5 for frame in frames), "not blank"
    assert np.abs(frames[0].astype(int) - frames[1]).max() > 5, "and moving"


@pytest.mark.slow
def test_from_the_shell_to_a_film(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    invoke = lambda *words: CliRunner().invoke(commands.main, [str(word) for word in words])
    small = [
        "--total-timesteps",
        80,
        "--learning-starts",
        20,
        "--steps-per-chunk",
        40,
        "--time-limit",
        10,
        "--num-envs",
        2,
    ]
    small += [
        "--replay-capacity",
        100,
        "--batch-size",
        8,
        "--hidden",
        8,
        "--evaluate-every",
        0,
        "--evaluation-episodes",
        2,
    ]
    result = invoke("train", "playground/PendulumSwingup", "--run-dir", "run", *small)
    assert result.exit_code == 0, (result.output, result.exception)
    row = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    assert row["broken_episodes"] == [0.0]
    assert row["episode_length"] == [10.0]
    result = invoke("render", "run", "--steps", 4)
    assert result.exit_code == 0, (
        result.output,
        result.exception,
    )  # without OpenGL too: then it is drawn from its scene
    from PIL import Image, ImageSequence

    with Image.open(Path(result.stdout.strip())) as film:
        frames = [np.asarray(frame.convert("L"), int) for frame in ImageSequence.Iterator(film)]
    assert all(frame.std() > 5 for frame in frames), "not blank"
    assert np.abs(frames[0] - frames[-1]).max() > 5, "and moving"
