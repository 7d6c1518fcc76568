"""The vectors of a dict, joined where nothing names streams: compiled environments and Gymnasium's
with goals, from `check` to the exported policy."""

import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from click.testing import CliRunner
from jax import export as jax_export

from ddpg_jax import agents, envs, export
from ddpg_jax.envs.observed import looked_at
from ddpg_jax.networks import Actor, Critic, stream
from ddpg_jax.runs.cli import commands
from ddpg_jax.runs.config.run_config import make_config
from ddpg_jax.runs.options.validation import RunError
from ddpg_jax.runs.presets import components
from ddpg_jax.runs.programs import build, compatibility
from ddpg_jax.runs.results import policy as runs_policy
from ddpg_jax.types import zeros

gymnasium = pytest.importorskip("gymnasium")


def like(**widths):
    return {name: jax.ShapeDtypeStruct((size,), jnp.float32) for name, size in widths.items()}


def goals(num_envs, time_limit=5):
    """Pendulum's angle and speed, and goals, of which only one is for the networks."""
    return envs.map_observation(
        envs.make("pendulum", num_envs, time_limit=time_limit),
        lambda x: {"position": x[:2], "goal": x[2:], "achieved_goal": -x[2:]},
    )


def named(num_envs, time_limit=5):
    """A robot's streams, and one that nobody reads."""
    return envs.map_observation(
        envs.make("pendulum", num_envs, time_limit=time_limit),
        lambda x: {"state": x[:2], "privileged_state": x, "goal": x[2:]},
    )


def mixed(num_envs):
    """Something beside a vector that is none."""
    return envs.map_observation(
        envs.make("pendulum", num_envs, time_limit=5), lambda x: {"position": x, "count": x[0]}
    )


class Goal(gymnasium.Env):
    """As Gymnasium's environments with goals: three vectors in a dict."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012
    action_space = gymnasium.spaces.Box(-1, 1, (1,))
    observation_space = gymnasium.spaces.Dict(
        observation=gymnasium.spaces.Box(-9, 9, (2,), np.float64),
        desired_goal=gymnasium.spaces.Box(-9, 9, (1,), np.float64),
        achieved_goal=gymnasium.spaces.Box(-9, 9, (1,), np.float64),
    )

    def __init__(self, render_mode=None):
        self.render_mode = render_mode

    def _shown(self):
        place = self.place
        return {
            "observation": np.append(place, 0.0),
            "desired_goal": self.goal,
            "achieved_goal": place,
        }

    def reset(self, *, seed=None, options=None):  # noqa: ARG002
        super().reset(seed=seed)
        self.goal, self.place = self.np_random.uniform(-1, 1, (2, 1))
        return self._shown(), {}

    def step(self, action):
        self.place = np.clip(self.place + np.asarray(action, float), -9, 9)
        return self._shown(), -float(abs(self.place - self.goal)[0]), False, False, {}

    def render(self):
        return np.full((8, 8, 3), 9, np.uint8)


gymnasium.register("JoinedGoal-v0", Goal, max_episode_steps=5)
ON_HOST = f"gymnasium/{__name__}:JoinedGoal-v0"
SMALL = (
    "--total-timesteps=60",
    "--learning-starts=20",
    "--steps-per-chunk=40",
    "--batch-size=8",
    "--hidden=8",
    "--replay-capacity=100",
    "--evaluation-episodes=2",
    "--final-episodes=2",
)


def invoke(*words):
    return CliRunner().invoke(commands.main, [str(word) for word in words])


@pytest.mark.parametrize(
    ("observation", "options", "seen", "said"),
    [
        (
            like(position=2, goal=1),
            {},
            ("goal", "position"),
            "Actor and critic see goal, position, joined in this order.",
        ),
        (
            like(observation=2, desired_goal=1, achieved_goal=1),
            {},
            ("desired_goal", "observation"),
            "Actor and critic see desired_goal, observation, joined in this order. Neither actor "
            "nor critic sees achieved_goal.",
        ),
        (like(observation=2), {}, ("observation",), ""),
        (like(state=2, goal=1), {}, ("goal", "state"), "joined"),
        (
            like(state=2, privileged_state=3, goal=1),
            {},
            None,
            "Neither actor nor critic sees goal.",
        ),
        (like(state=2, privileged_state=3), {}, None, ""),
        (
            like(position=2, goal=1),
            {"actor_stream": "position", "critic_stream": "position"},
            None,
            "Neither actor nor critic sees goal.",
        ),
        (like(achieved_goal=2, goal=1), {"actor_stream": "achieved_goal"}, None, None),
        (like(achieved_goal=2), {}, None, None),
    ],
)
def test_which_vectors_are_joined(observation, options, seen, said):
    config = make_config("pendulum", **options)
    given = config.hyperparameters
    found = components.streams(given, observation)
    one_each = {name: (getattr(given, name),) for name in components.STREAMS}
    assert found == (one_each if seen is None else dict.fromkeys(components.STREAMS, seen))
    if said is not None:
        text = compatibility.describe_streams(config, observation)
        assert text == said or (said == "joined" and said in text)


def test_joined_vectors_are_one_vector():
    rng = np.random.default_rng(0)
    shown = {name: jnp.float32(rng.normal(size=(6, size))) for name, size in (("a", 2), ("b", 3))}
    whole, action = jnp.concatenate([shown["b"], shown["a"]], axis=-1), jnp.ones((6, 1))
    for network, *more in ((Actor(1, (8,)),), (Critic((8,)), action)):
        joined = stream(("b", "a"), network)
        params = joined.init(jax.random.key(0), shown, *more)
        jax.tree.map(
            np.testing.assert_array_equal, params, network.init(jax.random.key(0), whole, *more)
        )
        np.testing.assert_array_equal(
            joined.apply(params, shown, *more), network.apply(params, whole, *more)
        )
    with pytest.raises(ValueError, match="stream 'b', 'c': the observation is a dict of a, b"):
        stream(("b", "c"), Actor(1)).init(jax.random.key(0), shown)


@pytest.mark.parametrize("env", [f"{__name__}:goals", ON_HOST], ids=["compiled", "host"])
def test_goals_from_check_to_the_exported_policy(env, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    order = "desired_goal, observation" if env == ON_HOST else "goal, position"
    said = f"Actor and critic see {order}, joined in this order. Neither actor nor critic sees "
    found = invoke("check", env, "--num-envs", 2)
    assert (found.exit_code, found.stdout) == (0, f"no findings\n{said}achieved_goal.\n")
    done = invoke("train", env, "--run-dir", "run", "--normalize-observations", *SMALL)
    assert done.exit_code == 0, done.output
    assert " ".join(done.output.split()).count(f"{said}achieved_goal.") == 1
    assert len(json.loads(invoke("evaluate", "run", "--episodes", 2).stdout)["returns"]) == 1
    assert invoke("export", "run").exit_code == 0
    if env == ON_HOST:
        assert invoke("render", "run").exit_code == 0
    _, declared = runs_policy.declared_environment(tmp_path / "run")
    rng = np.random.default_rng(0)
    given = {
        name: rng.normal(size=(5, *x.shape)).astype(x.dtype)
        for name, x in declared.observation.items()
    }
    own = {name: given[name] for name in order.split(", ")}
    act, loaded = runs_policy.load_policy(tmp_path / "run", 0), export.load("run/policy.stablehlo")
    wanted = act(given)
    assert len(np.unique(np.asarray(wanted))) == 5
    for name in own:
        assert np.any(act(own | {name: own[name] + 1}) != wanted), f"it does not see {name}"
    raw = jax_export.deserialize(bytearray((tmp_path / "run/policy.stablehlo").read_bytes()))
    for answer in (act(own), loaded(own), loaded(given), raw.call(own)):
        np.testing.assert_allclose(answer, wanted, rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match=rf"lacks \['{order.split(', ')[0]}'\]: give "):
        loaded({name: x for name, x in given.items() if not order.startswith(name)})


@pytest.mark.parametrize(
    ("env", "options"),
    [
        (f"{__name__}:mixed", ()),
        ("gymnasium/fuzz_environments:FuzzDict-v0", ()),
        ("gymnasium/fuzz_environments:FuzzImage-v0", ()),
        ("fuzz_environments:scalar", ()),
        ("gymnasium/Pendulum-v1", ("--time-limit", 3, "--num-envs", 2)),
        (f"{__name__}:named", ()),
    ],
)
def test_check_says_what_train_says(env, options, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    checked = invoke("check", env, "--steps", 8, *options)
    trained = invoke("train", env, "--dry-run", *options[:2])
    assert (checked.exit_code, trained.exit_code) in ((0, 0), (1, 2)), (checked, trained.output)
    (refused,) = re.findall("refuses it: (.*)", checked.stdout) or [None]
    assert trained.stderr == ("" if refused is None else f"Error: {refused}\n")
    for note in re.findall("(?:Actor|Neither) .*", checked.stdout):
        assert note in trained.stdout
    assert not list(tmp_path.iterdir())


def test_a_stream_that_no_network_sees_is_told(tmp_path):
    config = make_config(f"{__name__}:named", learning_starts=20, batch_size=8, hidden=(8,))
    assert build.build(config).note == "Neither actor nor critic sees goal."
    shown = make_config("lane", "drq-v2", env_options={"pixels": True})
    assert compatibility.describe_streams(shown, like(a=1, b=1)) == "", "its networks see all"


def test_a_normalised_actor_needs_its_own_stream_alone(tmp_path):
    """The normaliser is told all of them, and the actor sees one."""
    agent = agents.normalize_observations(
        agents.td3(stream("state", Actor(1, (8,))), stream("privileged_state", Critic((8,))))
    )
    shown = like(state=3, privileged_state=5)
    state = agent.init(jax.random.key(0), zeros(shown), jnp.zeros(1))
    assert looked_at(lambda given: agent.act(state, given), shown) == [False, True]
    env = envs.make("pendulum", 1)._replace(observation=shown)
    exported = export.policy(agent, state, env)
    (given,), _ = jax.tree.unflatten(exported.in_tree, exported.in_avals)
    assert list(given) == ["state"]
    (tmp_path / "policy").write_bytes(bytes(exported.serialize()))
    loaded, own = export.load(tmp_path / "policy"), {"state": np.ones((4, 3), np.float32)}
    np.testing.assert_array_equal(loaded(own), loaded(own | {"privileged_state": "anything"}))
    np.testing.assert_allclose(
        loaded(own), 2 * agent.act(state, own | zeros(like(privileged_state=5), 4)), atol=1e-6
    )


@pytest.mark.parametrize(
    "change",
    [
        lambda x: jnp.outer(x, x),
        lambda x: {"a": x, "b": jnp.outer(x, x)},
        lambda x: {"a": x, "b": {"c": x}},
        lambda x: {"a": x, "b": x[:0]},
        lambda x: {},
    ],
)
def test_what_is_not_vectors_is_refused(change):
    env = envs.map_observation(envs.make("pendulum", 1), change)
    with pytest.raises(RunError, match=r"take one vector of numbers .*, or a dict of some: turn"):
        compatibility.require_compatible(make_config("pendulum"), env)
