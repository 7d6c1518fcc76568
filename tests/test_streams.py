"""An actor that reads one stream of a dict, a critic that reads another: every agent, and the way
from command to export."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from click.testing import CliRunner
from jax import export

from ddpg_jax import agents, envs
from ddpg_jax.networks import Actor, Critic, stream
from ddpg_jax.runs.cli import commands
from ddpg_jax.types import Transition

SIZES = {"state": 3, "privileged_state": 5, "unused": 2}
rng = np.random.default_rng(0)


def observed(rows=6):
    return {
        name: jnp.asarray(rng.normal(size=(rows, size)), jnp.float32)
        for name, size in SIZES.items()
    }


def batch():
    normal = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
    return Transition(
        observation=observed(),
        action=normal(6, 2),
        reward=normal(6),
        discount=jnp.ones(6),
        next_observation=observed(),
    )


class Cut:
    """A network on some columns of its first input."""

    def __init__(self, network, begin, end):
        self.init = lambda key, x, *more: network.init(key, x[..., begin:end], *more)
        self.apply = lambda params, x, *more, **options: network.apply(
            params, x[..., begin:end], *more, **options
        )


MAKE = {
    "ddpg": (agents.ddpg, {}),
    "td3": (agents.td3, {}),
    "d4pg": (agents.d4pg, {"num_atoms": 7}),
    "td3_categorical": (agents.td3_categorical, {"num_atoms": 7}),
}


@pytest.mark.parametrize("name", MAKE)
def test_an_agent_on_streams_is_the_agent_on_each_of_them(name):
    """The dict beside an agent whose networks were given the two streams as one vector, and cut it
    themselves."""
    make, of_critic = MAKE[name]
    actor, critic = (
        Actor(2, (8,), final_bound=None),
        Critic((8,), action_layer=0, final_bound=None, **of_critic),
    )
    on_dict = make(
        stream("state", actor), stream("privileged_state", critic), critic_weight_decay=0.0
    )
    on_vector = make(Cut(actor, 0, 3), Cut(critic, 3, 8), critic_weight_decay=0.0)
    joined = lambda seen: jnp.concatenate([seen["state"], seen["privileged_state"]], axis=-1)
    one, key = batch(), jax.random.key(1)
    flat = one.replace(
        observation=joined(one.observation), next_observation=joined(one.next_observation)
    )
    after = []
    for agent, data in ((on_dict, one), (on_vector, flat)):
        state = agent.init(
            jax.random.key(0), jax.tree.map(lambda x: x[0], data.observation), jnp.zeros(2)
        )
        state, *_ = jax.jit(agent.update)(state, data, key)
        after.append((state.actor, state.critic, agent.act(state, data.observation)))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), *after)


def test_the_actor_needs_its_own_stream_alone():
    agent = agents.td3(stream("state", Actor(2, (8,))), stream("privileged_state", Critic((8,))))
    seen = observed()
    state = agent.init(jax.random.key(0), jax.tree.map(lambda x: x[0], seen), jnp.zeros(2))
    np.testing.assert_array_equal(
        agent.act(state, {"state": seen["state"]}), agent.act(state, seen)
    )


@pytest.mark.parametrize(
    ("observation", "said"),
    [
        (jnp.zeros(3), "stream 'state': the observation is no dict"),
        ({"a": 0, "b": 1}, "is a dict of a, b; choose a stream"),
    ],
)
def test_a_stream_that_is_not_there_is_one_sentence(observation, said):
    with pytest.raises(ValueError, match=said):
        stream("state", Actor(2)).init(jax.random.key(0), observation)


def noisy_pendulum(num_envs, time_limit=20):
    """Pendulum whose actor sees its speed through noise, and whose critic knows all."""
    from benchmarks.studies import privileged

    return privileged.make(num_envs, time_limit=time_limit)


SMALL = [
    "--num-envs",
    "4",
    "--learning-starts",
    "40",
    "--total-timesteps",
    "120",
    "--steps-per-chunk",
    "40",
    "--hidden",
    "8",
]
SMALL += [
    "--critic-hidden",
    "8",
    "--batch-size",
    "8",
    "--replay-capacity",
    "80",
    "--evaluation-episodes",
    "2",
    "--final-episodes",
    "2",
    "--n-step",
    "2",
]


@pytest.mark.slow
def test_from_the_command_line_to_the_exported_policy(tmp_path, monkeypatch):
    """Trained, saved, resumed, evaluated and exported with observations that are dicts, normalised
    and stored in bfloat16."""
    monkeypatch.chdir(tmp_path)

    def call(*words):
        done = CliRunner().invoke(commands.main, words, catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.stdout

    env = f"{__name__}:noisy_pendulum"
    call(
        "train",
        env,
        "--preset",
        "fast-td3",
        "--run-dir",
        "run",
        "--observation-dtype",
        "bfloat16",
        *SMALL,
    )
    call("train", "--resume", "--run-dir", "run", "--total-timesteps", "164")
    assert json.loads(call("evaluate", "run", "--episodes", "2"))["env_steps"] == 164
    call("export", "run")
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert (config["actor_stream"], config["critic_stream"]) == ("state", "privileged_state")
    policy = export.deserialize(bytearray((tmp_path / "run" / "policy.stablehlo").read_bytes()))
    shown = jax.tree.map(lambda x: np.zeros((5, *x.shape), x.dtype), envs.make(env, 1).observation)
    assert policy.call({"state": shown["state"]}).shape == (5, 1), "what the actor sees is enough"
    refused = CliRunner().invoke(
        commands.main, ["train", env, "--critic-stream", "all", "--run-dir", "other", *SMALL]
    )
    assert refused.exit_code == 2
    assert (
        "critic_stream='all': not a stream of the observation; choose one of "
        "privileged_state, state." in refused.stderr
    )
