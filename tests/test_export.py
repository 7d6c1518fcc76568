"""An exported policy acts as the agent does, in the environment's own units, where this library is
not."""

import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from click.testing import CliRunner

from ddpg_jax import agents, envs, export, networks
from ddpg_jax.runs.cli import commands
from ddpg_jax.runs.config import run_config
from ddpg_jax.runs.results import policy as runs_policy

ALONE = """
import sys
import numpy as np
from jax import export
policy = export.deserialize(bytearray(open(sys.argv[1], "rb").read()))
observations = np.load(sys.argv[2])
np.save(sys.argv[3], policy.call(observations))
one = policy.call(observations[:1])
assert one.shape == (1, 1), one.shape
assert not any(name.startswith("ddpg_jax") for name in sys.modules)
"""


NUMPY_ALONE = """
import sys
sys.modules["jax"] = sys.modules["ddpg_jax"] = None
import numpy as np
import weights
observations = np.load("observations.npy")
policy = np.load(sys.argv[1])
np.save("actions.npy", weights.act(policy, observations))
one = weights.act(policy, observations[:1])
assert one.shape == (1, 1), one.shape
assert not {"jax", "ddpg_jax", "scipy"} & {name for name, module in sys.modules.items() if module}
"""


@pytest.mark.parametrize("seeds", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_equal_actions_in_a_process_without_this_library(tmp_path, monkeypatch, seeds):
    monkeypatch.chdir(tmp_path)
    small = (
        "--total-timesteps 300 --learning-starts 100 --steps-per-chunk 200 --batch-size 8 "
        "--hidden 8"
    )
    member = seeds - 1
    words = (
        f"train pendulum --preset td3 --normalize-observations --run-dir run --seeds {seeds} "
        f"{small}"
    )
    assert CliRunner().invoke(commands.main, words.split(), catch_exceptions=False).exit_code == 0
    result = CliRunner().invoke(
        commands.main, ["export", "run", "--member", str(member)], catch_exceptions=False
    )
    assert result.stdout.strip() == f"run/policy-{member}.stablehlo"
    observations = np.random.default_rng(0).normal(size=(1_000, 3)).astype(np.float32) * [1, 1, 4]
    np.save("observations.npy", observations.astype(np.float32))
    arguments = [
        sys.executable,
        "-c",
        ALONE,
        f"run/policy-{member}.stablehlo",
        "observations.npy",
        "actions.npy",
    ]
    done = subprocess.run(arguments, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    _, agent, _, state = runs_policy.restore_policy(tmp_path / "run")
    state = state if seeds == 1 else jax.tree.map(lambda x: x[member], state)
    expected = 2.0 * np.asarray(agent.act(state, observations.astype(np.float32)))  # N m
    actions = np.load("actions.npy")
    assert actions.std() > 1e-4
    np.testing.assert_allclose(actions, expected, atol=1e-5)
    refused = CliRunner().invoke(commands.main, ["export", "run", "--member", str(seeds)])
    assert refused.exit_code == 2
    assert f"member={seeds}: this run has {seeds} member(s)" in refused.stderr


def policy_of(env, size):
    """A policy that answers ``bias`` whatever it sees, exported."""
    actor = networks.Actor(size, hidden=())
    agent = agents.ddpg(actor, networks.Critic(hidden=(), action_layer=0))
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), env.observation)
    state = agent.init(jax.random.key(0), zeros, jnp.zeros(size))

    def with_bias(bias):
        params = {
            "params": {
                "Dense_0": {"kernel": jnp.zeros((zeros.shape[0], size)), "bias": jnp.asarray(bias)}
            }
        }
        return export.policy(agent, state.replace(actor=state.actor.replace(params=params)), env)

    return with_bias


def test_bounds_of_each_dimension():
    gymnasium = pytest.importorskip("gymnasium")

    class Slider(gymnasium.Env):
        observation_space = gymnasium.spaces.Box(-1, 1, (3,))
        action_space = gymnasium.spaces.Box(np.float32([-2, 0]), np.float32([2, 10]))

    vector = gymnasium.vector.SyncVectorEnv(
        [Slider], autoreset_mode=gymnasium.vector.AutoresetMode.SAME_STEP
    )
    policy = policy_of(envs.gymnasium.vector(vector), 2)([100.0, -100.0])
    np.testing.assert_allclose(policy.call(np.zeros((5, 3), np.float32)), [[2, 0]] * 5, atol=1e-5)
    policy = policy_of(envs.gymnasium.vector(vector), 2)([0.0, 0.0])
    np.testing.assert_allclose(policy.call(np.zeros((2, 3), np.float32)), [[0, 5]] * 2, atol=1e-5)


def test_the_lecture_exports_newton_metres():
    preset = run_config.make_config("pendulum", "pendulum-lecture").preset
    env = preset.around(envs.make("pendulum", 1))
    np.testing.assert_allclose(env.native_action(jnp.array([0.5, 1.5, -7.0])), [0.5, 1.5, -2.0])


def test_platforms():
    policy = policy_of(envs.make("pendulum", 1), 1)([0.3])
    assert set(policy.platforms) == {"cpu", "cuda", "tpu"}
    np.testing.assert_allclose(
        policy.call(np.zeros((4, 3), np.float32)), np.full((4, 1), 2 * np.tanh(0.3)), atol=1e-6
    )


def test_a_copy_of_the_numpy_pass_stands_alone(tmp_path):
    env, actor = envs.make("pendulum", 1), networks.Actor(1, (8,), norm=networks.LayerNorm)
    agent = agents.normalize_observations(agents.ddpg(actor, networks.Critic((4,))))
    state = agent.init(jax.random.key(0), jnp.zeros(3), jnp.zeros(1))
    observations = np.random.default_rng(0).normal(size=(100, 3)).astype(np.float32)
    state = agent.observe(state, 3 * observations + 1)
    (tmp_path / "policy.npz").write_bytes(export.content(agent, state, env, "npz"))
    np.save(tmp_path / "observations.npy", observations)
    shutil.copy(export.weights.__file__, tmp_path / "weights.py")
    command = [sys.executable, "-c", NUMPY_ALONE, "policy.npz"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    wanted = env.native_action(agent.act(state, observations))
    assert wanted.std() > 1e-4
    np.testing.assert_allclose(np.load(tmp_path / "actions.npy"), wanted, atol=1e-5)
