"""Every number of every preset is seen arriving in the part that it belongs to, and every float may
be traced."""

import re
from dataclasses import fields, replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import PAPER, hyperparameter_types, watched

from ddpg_jax import (
    agents,
    behaviour,
    envs,
    learner,
    networks,
    noise,
    population,
    replay,
    returns,
    train,
)
from ddpg_jax.runs.config.run_config import make_config
from ddpg_jax.runs.presets import PRESETS
from ddpg_jax.runs.programs import build
from ddpg_jax.schedule import Schedule

# Of each number one that no preset has, within its range.
CHANGED = {
    "total_timesteps": 60_000,
    "num_envs": 2,
    "learning_starts": 301,
    "updates_per_step": 7,
    "batch_size": 17,
    "replay_capacity": 15_002,
    "hidden": (11, 12),
    "critic_hidden": (13, 14),
    "dtype": "bfloat16",
    "observation_dtype": "bfloat16",
    "actor_stream": "seen",
    "critic_stream": "known",
    "reward_scale": 0.28125,
    "gamma": 0.9375,
    "n_step": 4,
    "tau": 0.0625,
    "actor_learning_rate": 0.03125,
    "critic_learning_rate": 0.0234375,
    "critic_weight_decay": 0.015625,
    "weight_decay": 0.01171875,
    "max_grad_norm": 0.53125,
    "anneal_updates": 30,
    "priority_exponent": 0.59375,
    "importance_exponent": 0.53125,
    "importance_updates": 36,
    "stddev": 0.265625,
    "stddev_low": 0.046875,
    "stddev_high": 0.296875,
    "policy_delay": 3,
    "target_noise": 0.28125,
    "target_noise_clip": 0.34375,
    "v_min": -1234.0,
    "v_max": 1235.0,
    "num_atoms": 19,
    "channels": 5,
    "layers": 3,
    "stride": 2,
    "trunk": 9,
    "shift": 3,
    "episode_steps": 7,
    "stddev_start": 0.78125,
    "stddev_steps": 1_000,
    "theta": 0.75,
    "stddev_half_life": 100,
    "latent_size": 3,
    "beta": 0.5,
    "images": 13,
    "images_every": 2,
    "image_updates": 3,
    "image_batch": 9,
    "image_learning_rate": 0.125,
    "hindsight": "none",
    "goals_per_step": 3.5,
    "random_actions": 0.21875,
    "action_penalty": 0.40625,
    "target_period": 5,
}
SWITCHES = ("layer_norm", "inverting_gradients", "normalize_observations", "anneal")
OF_GOALS = ["her", "her-td3", "her-paper"]
OF_VECTORS = [
    name for name, preset in PRESETS.items() if not preset.images and name not in OF_GOALS
]
"""Those that take images: `test_images`; goals: `test_goal_presets`."""
AGENT = {
    "paper": "ddpg",
    "paper-batch-norm": "ddpg",
    "default": "ddpg",
    "parameter-noise": "ddpg",
    "pendulum-lecture": "ddpg",
}
AGENT |= {
    "td3": "td3",
    "td3-paper": "td3",
    "d4pg": "d4pg",
    "d4pg-paper": "d4pg",
    "td3-categorical": "td3_categorical",
    "fast-td3": "td3_categorical",
}
NOISE = {
    "paper": "ornstein_uhlenbeck",
    "paper-batch-norm": "ornstein_uhlenbeck",
    "pendulum-lecture": "ornstein_uhlenbeck",
}
NOISE |= {
    "td3-categorical": "gaussian_per_episode",
    "fast-td3": "gaussian_per_episode",
    "parameter-noise": None,
}


def changed(name, **more):
    """The preset's numbers, all of them other ones, its switches turned."""
    hyperparameters = PRESETS[name].hyperparameters
    known = {field.name for field in fields(hyperparameters)}
    switches = {field: not getattr(hyperparameters, field) for field in SWITCHES}
    switches |= {"inverting_gradients": False} if name == "pendulum-lecture" else {}
    values = {field: value for field, value in CHANGED.items() if field in known} | switches | more
    assert set(values) == known, "a new number wants a line above, and a look at where it goes"
    return replace(hyperparameters, **values)


@pytest.fixture
def calls(monkeypatch):
    """What each factory of the library was given last, and what it made."""
    factories = {
        agents: "ddpg td3 d4pg td3_categorical adam scale_rewards normalize_observations",
        noise: "gaussian ornstein_uhlenbeck gaussian_per_episode clip",
        replay: "uniform prioritised",
        behaviour: "explore parameter_noise",
        returns: "n_step",
    }
    pairs = [(module, name) for module, names in factories.items() for name in names.split()]
    return watched(monkeypatch, pairs)


def composed(name, hyperparameters):
    return PRESETS[name].compose(hyperparameters, envs.make("pendulum", hyperparameters.num_envs))


def test_each_preset_is_listed_here():
    assert set(AGENT) == set(OF_VECTORS)
    assert set(hyperparameter_types()) | {"hidden", "critic_hidden"} == {*CHANGED, *SWITCHES}


@pytest.mark.parametrize("name", OF_VECTORS)
def test_numbers_of_the_agent(name, calls):
    hyperparameters = changed(name)
    composed(name, hyperparameters)
    (actor, critic), options, _ = calls[AGENT[name]]
    own = {"policy_delay", "target_noise", "target_noise_clip", "v_min", "v_max"} & {
        field.name for field in fields(hyperparameters)
    }
    scaled = {"v_min": CHANGED["reward_scale"], "v_max": CHANGED["reward_scale"]}
    for field in ("gamma", "tau", "critic_weight_decay", *own):
        assert options[field] == CHANGED[field] * scaled.get(field, 1), field
    assert (actor.dtype, critic.dtype) == (jnp.bfloat16, jnp.bfloat16)
    assert (actor.hidden, critic.hidden) == ((11, 12), (13, 14))
    assert critic.num_atoms == (19 if hasattr(hyperparameters, "num_atoms") else None)
    assert set(calls) & set(AGENT.values()) == {AGENT[name]}, "no other agent is made"


@pytest.mark.parametrize("name", OF_VECTORS)
def test_learning_rates_and_optimiser(name, calls):
    """Falling from the number to zero over 30 critic steps; the actor makes one where the critic
    makes ``policy_delay``."""
    hyperparameters = changed(name)
    composed(name, hyperparameters)
    options, delay = calls[AGENT[name]][1], getattr(hyperparameters, "policy_delay", 1)
    for field, steps in (("actor_learning_rate", 30 // delay), ("critic_learning_rate", 30)):
        rate = options[field]
        assert [float(rate(step)) for step in (0, steps // 2, steps, 99)] == pytest.approx(
            [CHANGED[field], CHANGED[field] / 2, 0, 0], abs=1e-8
        )
    assert calls["adam"][1] == {
        "weight_decay": CHANGED["weight_decay"],
        "max_grad_norm": CHANGED["max_grad_norm"],
    }
    assert options["optimizer"] is calls["adam"][2]
    constant = replace(hyperparameters, anneal_updates=0)
    composed(name, constant)
    assert calls[AGENT[name]][1]["actor_learning_rate"] == CHANGED["actor_learning_rate"]
    assert calls[AGENT[name]][1]["critic_learning_rate"] == CHANGED["critic_learning_rate"]


@pytest.mark.parametrize(("decay", "norm"), [(0.0, 0.0), (0.5, 0.0), (0.0, 0.25), (0.5, 0.25)])
@pytest.mark.parametrize("traced", [False, True])
def test_adam_decays_and_clips_as_told(decay, norm, traced):
    """The first step of Adam is the rate in the gradient's direction; AdamW takes ``decay`` of the
    parameter away as well."""

    def first_step(decay, norm, scale):
        optimizer = agents.adam(weight_decay=decay, max_grad_norm=norm)(0.5)
        params = {"a": jnp.array([2.0, 2.0])}
        # A second, equal gradient after a first ten times as long shows in Adam's moments whether
        # it was clipped.
        state = optimizer.init(params)
        _, state = optimizer.update({"a": scale * jnp.array([0.3, 0.4])}, state, params)
        return optimizer.update({"a": jnp.array([0.03, 0.04])}, state, params)[0]["a"]

    step = first_step(*(jnp.float32(x) if traced else x for x in (decay, norm)), 10.0)
    step = jax.jit(first_step)(decay, norm, 10.0) if traced else step
    first = np.array([0.3, 0.4]) * (
        10.0 if norm == 0 else norm / 0.5
    )  # a gradient of length 5 is cut to 0.25
    second = np.array([0.03, 0.04])
    mean = (0.9 * 0.1 * first + 0.1 * second) / (1 - 0.9**2)
    spread = (0.999 * 0.001 * first**2 + 0.001 * second**2) / (1 - 0.999**2)
    expected = -0.5 * (mean / (np.sqrt(spread) + 1e-8) + decay * 2.0)
    np.testing.assert_allclose(step, expected, rtol=2e-3)


@pytest.mark.parametrize("name", OF_VECTORS)
def test_norms_reach_the_networks(name, calls):
    hyperparameters = changed(name)
    for layer_norm in (False, True):
        composed(name, replace(hyperparameters, layer_norm=layer_norm))
        actor, critic = calls[AGENT[name]][0]
        layer = networks.LayerNorm if layer_norm else None
        if name == "paper-batch-norm":
            layers = (
                networks.BatchNorm,
                networks.BatchNorm,
                networks.BatchNorm,
                networks.BatchNorm,
            )
            assert (actor.norm, actor.input_norm, critic.norm, critic.input_norm) == layers
        else:
            assert (actor.norm, actor.input_norm, critic.norm, critic.input_norm) == (
                layer,
                None,
                layer,
                None,
            )
        assert critic.action_norm is layer
        assert critic.action_layer == (1 if name in ("paper", "paper-batch-norm") else 0)


@pytest.mark.parametrize("name", OF_VECTORS)
def test_bounds_of_actions_reach_the_actor(name, calls):
    if name == "pendulum-lecture":
        with pytest.raises(ValueError, match="inverting_gradients=True: "):
            composed(name, replace(changed(name), inverting_gradients=True))
        return
    for inverting, output in ((False, jnp.tanh), (True, networks.inverting)):
        composed(name, replace(changed(name), inverting_gradients=inverting))
        assert calls[AGENT[name]][0][0].output is output


@pytest.mark.parametrize("name", OF_VECTORS)
def test_rewards_observations_and_returns(name, calls):
    hyperparameters = changed(name, normalize_observations=True)
    parts = composed(name, hyperparameters)
    inner, scale = calls["scale_rewards"][0]
    assert (inner, scale) == (calls[AGENT[name]][2], CHANGED["reward_scale"])
    assert calls["normalize_observations"][0] == (calls["scale_rewards"][2],)
    assert parts.agent is calls["normalize_observations"][2]
    assert calls["n_step"][0] == (4, CHANGED["gamma"])
    assert parts.window is calls["n_step"][2]
    parts = composed(name, replace(hyperparameters, normalize_observations=False, n_step=1))
    assert parts.agent is calls["scale_rewards"][2]
    assert parts.window is None
    assert composed(name, replace(hyperparameters, n_step=2)).window.length == 2
    parts = composed(name, replace(hyperparameters, normalize_observations=False, reward_scale=1.0))
    assert parts.agent is calls[AGENT[name]][2], "nothing is scaled by 1"


@pytest.mark.parametrize("name", OF_VECTORS)
def test_numbers_of_the_replay(name, calls):
    """beta rises from its first value to 1 over 36 critic batches, of which one sample holds
    ``policy_delay``."""
    hyperparameters = changed(name)
    delay = getattr(hyperparameters, "policy_delay", 1)
    parts = composed(name, hyperparameters)
    sizes, options, store = calls["prioritised"]
    assert sizes == (15_002, 17 * delay)
    storage = options["storage"]
    assert (storage.func, storage.keywords) == (replay.rows, {"observation_dtype": "bfloat16"})
    assert options["priority_exponent"] == CHANGED["priority_exponent"]
    beta = options["importance_exponent"]
    samples = 36 // delay
    assert [
        float(beta(sample)) for sample in (0, samples // 2, samples - 1, samples)
    ] == pytest.approx([0.53125, (0.53125 + 1) / 2, 1 - (1 - 0.53125) / samples, 1.0])
    assert parts.replay is store
    assert "uniform" not in calls
    parts = composed(
        name, replace(hyperparameters, priority_exponent=0.0, observation_dtype="float32")
    )
    assert calls["uniform"][:2] == ((15_002, 17 * delay), {})
    assert parts.replay is calls["uniform"][2]


@pytest.mark.parametrize("name", OF_VECTORS)
def test_numbers_of_the_noise(name, calls):
    hyperparameters = changed(name)
    parts = composed(name, hyperparameters)
    kind = NOISE.get(name, "gaussian")
    if kind is None:
        (agent, env), options, made = calls["parameter_noise"]
        assert (agent, env.num_envs, options) == (parts.agent, 2, {"stddev": CHANGED["stddev"]})
    else:
        agent, _ = calls["explore"][0]
        made = calls["explore"][2]
        own = (
            (CHANGED["stddev_low"], CHANGED["stddev_high"])
            if kind == "gaussian_per_episode"
            else (CHANGED["stddev"],)
        )
        assert calls[kind][0] == own
        assert ("clip" in calls) == (name != "pendulum-lecture")
        assert agent is parts.agent, "what explores is the agent with its wrappers"
    assert set(calls) & {"gaussian", "ornstein_uhlenbeck", "gaussian_per_episode"} == (
        {kind} - {None}
    )
    assert parts.behaviour is made
    first = name in ("paper", "paper-batch-norm", "pendulum-lecture")
    assert parts.warm_up is (made if first else None)


@pytest.mark.parametrize("name", OF_VECTORS)
def test_numbers_of_the_schedule(name, monkeypatch):
    """7 critic updates per vector step: with a delay of 3, seven updates of the agent in three
    vector steps."""
    given = {field.name: getattr(changed(name), field.name) for field in fields(changed(name))}
    config = make_config("pendulum", name, **given, steps_per_chunk=120)
    steps = getattr(config.hyperparameters, "policy_delay", 1)
    expected = {
        "num_envs": 2,
        "learning_starts": 301,
        "updates_per_step": 7,
        "collect_steps": steps,
        "n_step": 4,
    }
    assert config.schedule == Schedule(steps_per_chunk=120, **expected)
    assert config.num_chunks == -(-(60_000 - 2 * (3 + 151)) // 120)  # the last is shorter
    told = []
    make_train = train.make_train
    monkeypatch.setattr(
        train, "make_train", lambda *a, **k: told.append((a, k)) or make_train(*a, **k)
    )
    build.member_of(config)({})
    ((agent, env, store, acting), options), (parts) = (
        told[0],
        config.preset.compose(config.hyperparameters, told[0][0][1]),
    )
    assert (env.num_envs, options.pop("window").length) == (2, 4)
    assert (options.pop("warm_up") is acting) == (parts.warm_up is not None)
    names = ("learning_starts", "updates_per_step", "collect_steps", "steps_per_chunk")
    assert options == {field: getattr(config.schedule, field) for field in names}
    assert all(part is not None for part in (agent, store))


FLOATS = [name for name, kind in hyperparameter_types().items() if kind is float]


@pytest.mark.parametrize("name", OF_VECTORS)
def test_every_float_may_be_traced(name):
    """The whole program of a member, all of its floats unknown when it is traced."""
    config = make_config(
        "pendulum",
        name,
        num_envs=2,
        replay_capacity=400,
        hidden=(4,),
        critic_hidden=(4,),
        batch_size=6,
    )
    own = [field for field in FLOATS if hasattr(config.hyperparameters, field)]
    member = build.member_of(config)
    hyperparameters = {field: jax.ShapeDtypeStruct((3,), jnp.float32) for field in own}
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), 3))
    people = population.make_population(member)
    state = jax.eval_shape(people.start, keys, hyperparameters)
    after, report = jax.eval_shape(people.chunk, state, hyperparameters)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), after) == jax.tree.map(
        lambda x: (x.shape, x.dtype), state
    )
    assert all(leaf.shape[0] == 3 for leaf in jax.tree.leaves((state, report)))
    assert isinstance(after, learner.TrainState)


@pytest.mark.slow
def test_a_traced_number_does_what_a_given_one_does():
    """Those four that switch something off at 0 or 1, as members of one program and each as a run
    of its own."""
    values = {"reward_scale": [1.0, 0.25], "weight_decay": [0.0, 0.3], "max_grad_norm": [0.0, 0.05]}
    values |= {"priority_exponent": [0.6, 0.3]}
    sizes = {
        "hidden": (8,),
        "batch_size": 8,
        "replay_capacity": 400,
        "learning_starts": 40,
        "total_timesteps": 80,
    }
    config = make_config("pendulum", "default", **sizes, steps_per_chunk=40, evaluation_episodes=1)
    keys, hyperparameters = population.members(jax.random.key(3).reshape(1), values)
    people = population.make_population(build.member_of(config))
    state = jax.jit(people.start)(keys, hyperparameters)
    state, _ = jax.jit(people.chunk)(state, hyperparameters)
    different = []
    for index in range(2):
        own = replace(
            config,
            hyperparameters=replace(
                config.hyperparameters, **{field: row[index] for field, row in values.items()}
            ),
        )
        single = build.member_of(own)({})
        expected, _ = jax.jit(lambda key, single=single: single.chunk(single.start(key)))(
            keys[index]
        )
        ours = jax.tree.map(lambda x, index=index: x[index], state.agent)
        for part in ("actor", "critic"):
            params, wanted = getattr(ours, part).params, getattr(expected.agent, part).params
            jax.tree.map(
                lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), params, wanted
            )
        different.append(
            np.concatenate([np.ravel(x) for x in jax.tree.leaves(expected.agent.critic.params)])
        )
    assert not np.allclose(*different, atol=1e-3)


# Where each number is from

PAPER_DDPG = PAPER | {"learning_starts": 64}  # not stated: the first full batch
PAPER_TD3 = {  # Fujimoto et al. 2018, section 6.1
    "total_timesteps": 1_000_000,  # table 1
    "num_envs": 1,
    "learning_starts": 1_000,  # all but HalfCheetah and Ant
    "updates_per_step": 1,
    "batch_size": 100,
    "replay_capacity": 1_000_000,  # the entire history
    "hidden": (400, 300),
    "gamma": 0.99,  # the authors' code
    "tau": 0.005,
    "actor_learning_rate": 1e-3,
    "critic_learning_rate": 1e-3,
    "policy_delay": 2,
    "target_noise": 0.2,
    "target_noise_clip": 0.5,
    "stddev": 0.1,
}
CODE_TD3 = PAPER_TD3 | {  # the authors' TD3.py and main.py
    "batch_size": 256,
    "hidden": (256, 256),
    "actor_learning_rate": 3e-4,
    "critic_learning_rate": 3e-4,
}
ACME = {  # D4PGConfig, builder and networks; N and the 32 actors are the paper's
    "num_envs": 32,
    "learning_starts": 1_000,  # min_replay_size
    "updates_per_step": 32 * 32 // 256,  # samples_per_insert 32, of a batch of 256, for 32 steps
    "batch_size": 256,
    "replay_capacity": 1_000_000,
    "hidden": (300, 200),
    "critic_hidden": (400, 300),
    "gamma": 0.99,
    "n_step": 5,
    "actor_learning_rate": 1e-4,
    "critic_learning_rate": 1e-4,
    "max_grad_norm": 40.0,
    "num_atoms": 51,
    "v_min": -150.0,
    "v_max": 150.0,
    "stddev": 0.3,
    "priority_exponent": 0.6,  # Schaul et al. 2016, proportional
    "importance_exponent": 1.0,  # the paper's 1 / (R p)
}
SOURCES = {
    "paper": PAPER_DDPG,
    "paper-batch-norm": PAPER_DDPG,
    "td3-paper": PAPER_TD3,
    "td3": CODE_TD3,
    "default": {
        name: value
        for name, value in CODE_TD3.items()
        if "target" not in name and name != "policy_delay"
    },
    "d4pg-paper": ACME,
    "d4pg": ACME  # and its runnable example
    | {
        "actor_learning_rate": 3e-4,
        "critic_learning_rate": 3e-4,
        "stddev": 0.2,
        "hidden": (256,) * 3,
        "critic_hidden": (),
    }
    | {"importance_exponent": 0.4},  # Schaul et al. 2016, proportional
    "td3-categorical": {  # Seo et al. 2025, their hyperparams.py for MuJoCo Playground
        "num_envs": 1_024,
        "learning_starts": 10 * 1_024,
        "updates_per_step": 2,
        "batch_size": 32_768,
        "replay_capacity": 10 * 1_024 * 1_024,
        "hidden": (512, 256, 128),
        "critic_hidden": (1_024, 512, 256),
        "normalize_observations": True,
        "gamma": 0.97,
        "tau": 0.1,
        "actor_learning_rate": 3e-4,
        "critic_learning_rate": 3e-4,
        "weight_decay": 0.1,
        "policy_delay": 2,
        "target_noise": 0.001,
        "target_noise_clip": 0.5,
        "stddev_low": 0.001,
        "stddev_high": 0.4,
        "num_atoms": 101,
        "v_min": -10.0,
        "v_max": 10.0,
    },
    "parameter-noise": {  # Plappert et al. 2018, section 4.1, and OpenAI's baselines
        "layer_norm": True,
        "stddev": 0.2,
        "gamma": 0.99,
        "replay_capacity": 1_000_000,
        "batch_size": 64,
        "tau": 0.01,
        "actor_learning_rate": 1e-4,
        "critic_learning_rate": 1e-3,
        "critic_weight_decay": 1e-2,
        "normalize_observations": True,
    },
    "pendulum-lecture": PAPER_DDPG
    | {"total_timesteps": 1_000 * 200 + 64, "replay_capacity": 10_000, "hidden": (64, 64)}
    | {"actor_learning_rate": 1e-3, "critic_weight_decay": 0.0},
}
SOURCES["paper-pixels"] = PAPER_DDPG | {
    "learning_starts": 16,
    "batch_size": 16,
    "hidden": (200, 200),
}
SOURCES[
    "drq-v2"
] = {  # Yarats et al. 2021, cfgs/config.yaml and cfgs/task/medium.yaml, in steps of the agent
    "total_timesteps": 1_550_000,  # 3.1e6 frames
    "num_envs": 1,
    "learning_starts": 2_000,
    "updates_per_step": 1,  # one at every second step, of two environments
    "batch_size": 256,
    "replay_capacity": 1_000_000,
    "hidden": (1_024, 1_024),
    "gamma": 0.99,
    "n_step": 3,
    "tau": 0.01,
    "actor_learning_rate": 1e-4,
    "critic_learning_rate": 1e-4,
    "stddev": 0.1,
    "stddev_start": 1.0,
    "stddev_steps": 500_000,
    "target_noise_clip": 0.3,
    "channels": 32,
    "layers": 4,
    "stride": 1,
    "trunk": 50,
    "shift": 4,
    "episode_steps": 20,
}
SOURCES["drive"] = {  # Kendall et al. 2018, sections III-C and IV-A; None: it does not say
    "batch_size": 64,
    "hidden": (8,),
    "inverting_gradients": False,
    "gamma": 0.9,
    "max_grad_norm": 0.005,
    "theta": 0.6,
    "stddev": 0.4,
    "channels": 16,
    "layers": 4,
    "n_step": 1,
    "anneal": False,
    **dict.fromkeys(
        (
            "num_envs",
            "actor_learning_rate",
            "critic_learning_rate",
            "priority_exponent",
            "stddev_half_life",
        )
    ),
    **dict.fromkeys(
        (
            "latent_size",
            "beta",
            "images",
            "images_every",
            "image_updates",
            "image_batch",
            "image_learning_rate",
        )
    ),
    **dict.fromkeys(("importance_updates", "updates_per_step", "replay_capacity")),
}
SOURCES["fast-td3"] = SOURCES["td3-categorical"] | {"dtype": "bfloat16"}
PLAPPERT = {  # Plappert et al. 2018, appendix B; baselines' her
    "total_timesteps": 4_750_000,  # 50 epochs of 19 workers, 50 cycles, 2 episodes of 50 steps
    "num_envs": 95,  # 1,900 steps are 20 of all
    "learning_starts": 1_900,  # the first cycle
    "updates_per_step": 2,  # 40 in 20 steps of all
    "batch_size": 4_864,  # 19 workers' 256
    "replay_capacity": 999_970,  # 1e6, as a multiple of 95
    "hidden": (256, 256, 256),
    "normalize_observations": True,
    "gamma": 0.98,  # 1 - 1 / 50
    "tau": 0.05,
    "target_period": 40,
    "actor_learning_rate": 1e-3,
    "critic_learning_rate": 1e-3,
    "stddev": 0.2,
    "random_actions": 0.3,
    "action_penalty": 1.0,
    "hindsight": "future",
    "goals_per_step": 4.0,
}
SOURCES["her-paper"] = PLAPPERT
SOURCES["her"] = PLAPPERT | {"batch_size": 256, "replay_capacity": 1_000_000}  # of one worker
SOURCES["her-td3"] = SOURCES["her"] | {
    "policy_delay": 2,
    "target_noise": 0.2,
    "target_noise_clip": 0.5,
    "tau": 0.005,
    "hidden": (256, 256),
}
# Hyperparameters that are not the source's, and the words in `ours` that say so.
OURS = {
    "her": {
        "total_timesteps": "1e6 steps",
        "num_envs": "one environment",
        "learning_starts": "after 1,000 random ones",
        "updates_per_step": "an update a step",
        "hidden": "256x256",
        "tau": "0.005 in each update",
        "target_period": "in each update",
    },
    "her-td3": {
        "total_timesteps": "1e6 steps",
        "num_envs": "one environment",
        "learning_starts": "after 1,000 random ones",
        "updates_per_step": "an update a step",
    },
    "drive": {
        "num_envs": "64 cars",
        "updates_per_step": "four updates",
        "batch_size": "256 transitions",
        "n_step": "3-step returns",
        "gamma": "gamma 0.95",
        "hidden": "128x128 (8 there)",
        "inverting_gradients": "inverted gradients at the actions' bounds",
        "actor_learning_rate": "Adam 3e-4",
        "critic_learning_rate": "and 1e-3",
        "anneal": "zero over the run",
        "importance_updates": "beta 1 after 20,000 updates",
        "priority_exponent": "the power of 0.6",
        "stddev_half_life": "halves in 120,000 steps",
        "layers": "three convolutions",
        "latent_size": "latents of 64",
        "beta": "beta 0.1",
        "image_updates": "100 updates",
        "image_learning_rate": "(Adam 3e-4)",
        "image_batch": "from 64",
        "images": "8,192 images",
        "images_every": "every fourth",
        "replay_capacity": "replay of all 326,400 steps",
    },
    "drq-v2": {"num_envs": "two environments side by side"},
    "d4pg": {
        "hidden": "2 layers (3",
        "updates_per_step": "32 updates for 32 steps (4)",
        "max_grad_norm": "no clipping",
    },
    "parameter-noise": {
        "batch_size": "batch 256",
        "tau": "tau 0.005",
        "actor_learning_rate": "Adam 3e-4",
        "critic_learning_rate": "Adam 3e-4",
        "critic_weight_decay": "L2 1e-2 on Q",
        "normalize_observations": "observations normalised",
    },
}
# What no number says: of each preset the words that say it.
BESIDE = {
    "default": ["1,000 random steps (25,000 there)", "final layers start in U[-3e-3, 3e-3]"],
    "td3": ["1,000 random steps (25,000 there)", "final layers start in U[-3e-3, 3e-3]"],
    "d4pg": [
        "tau 0.005 (copied",
        "final layers start in U[-3e-3, 3e-3]",
        "layer normalisation",
        "beta is 1 after 100,000 batches",
        "1,000 steps are random (the policy's there)",
    ],
    "d4pg-paper": [
        "tau 0.01 (copied",
        "dQ/da not clipped",
        "no layer normalisation",
        "all layers start at fan-in",
        "1,000 steps are random (the policy's there)",
    ],
    "td3-categorical": [
        "final layers start in U[-3e-3, 3e-3]",
        "float32",
        "the online actor there",
        "the critics' after each of their steps there",
        "the policy's there",
        "after, there",
        "stored actions are clipped",
    ],
    "fast-td3": [
        "the online actor there",
        "the critics' after each of their steps there",
        "after, there",
        "the mean of both there",
        "the policy's there",
        "stored actions are clipped",
        "N(0, 0.01) and bias 0 there",
        "5e7 steps",
    ],
    "parameter-noise": ["1,000 random ones", "256x256"],
    "pendulum-lecture": ["all episodes are played"],
    "drq-v2": ["not orthogonal", "1e-5 there", "from the first step there", "left out there"],
    "drive": ["starts as the best linear one"],
    "her": ["three layers there", "0.05 in every 40th", "19 workers"],
    "her-td3": ["the combination"],
    "her-paper": [],
    "paper": [],
    "paper-batch-norm": [],
    "paper-pixels": [],
    "td3-paper": [],
}
SILENT = {
    "reward_scale": 1.0,
    "importance_updates": 100_000,
    "anneal": False,
    "anneal_updates": 0,
    "n_step": 1,
    "critic_hidden": (),
}
SILENT |= {
    "layer_norm": False,
    "inverting_gradients": False,
    "normalize_observations": False,
    "critic_weight_decay": 0.0,
    "weight_decay": 0.0,
}
SILENT |= {
    "dtype": "float32",
    "observation_dtype": "float32",
    "actor_stream": "state",
    "critic_stream": "privileged_state",
}
SILENT |= {"episode_steps": 20, "hindsight": "none", "goals_per_step": 4.0}
SILENT |= {"max_grad_norm": 0.0, "priority_exponent": 0.0, "importance_exponent": 0.4}
"""Switched off: no source speaks of it."""


WORDS = {"two": 2, "three": 3, "four": 4, "fourth": 4}


def states(text, value):
    """Whether a text has this number, these widths, or as many layers as there are widths."""
    numbers = re.findall(r"\d[\d,]*(?:\.\d+)?(?:e-?\d+)?(?:x\d+)*", text)
    numbers = [each.replace(",", "") for each in numbers]
    if isinstance(value, tuple):
        return "x".join(map(str, value)) in numbers or f"{len(value)} layers" in text
    plain = [float(each) for each in numbers if "x" not in each]
    return value in [*plain, *(WORDS[word] for word in text.split() if word in WORDS)]


@pytest.mark.parametrize("name", PRESETS)
def test_every_number_is_its_sources_or_said_to_be_ours(name):
    preset, source, ours = PRESETS[name], SOURCES[name], OURS.get(name, {})
    for field in fields(preset.hyperparameters):
        value = getattr(preset.hyperparameters, field.name)
        if field.name in ours:
            assert source[field.name] != value, f"{field.name} is the source's after all"
            assert ours[field.name], f"{field.name}: an empty text is in every text"
            assert ours[field.name] in preset.ours, field.name
            assert value in (True, 0, 1) or states(ours[field.name], value), field.name
        elif field.name in source:
            assert value == source[field.name], field.name
        elif field.name in SILENT:
            assert value == SILENT[field.name], field.name
        else:
            assert field.name in {
                "total_timesteps",
                "tau",
                "num_envs",
                "learning_starts",
                "updates_per_step",
                "hidden",
            }, field.name
            assert not preset.exact or field.name in {"total_timesteps", "tau"}, field.name
    for words in BESIDE[name]:
        assert words in preset.ours, words
    assert bool(preset.ours) == bool(BESIDE[name])
    assert preset.cites == (
        f"{preset.source} Ours: {preset.ours}" if preset.ours else preset.source
    )


@pytest.mark.parametrize(
    ("env", "own"),
    [
        ("playground/G1JoystickFlatTerrain", {}),
        (
            "playground/CheetahRun",
            {"n_step": 3, "stddev_low": 0.1, "target_noise": 0.1, "v_min": -500.0, "v_max": 500.0},
        ),
        (
            "playground/Go1Getup",
            {"updates_per_step": 8, "stddev_low": 0.2, "stddev_high": 0.8, "target_noise": 0.2},
        ),
        ("playground/Go1Handstand", {}),
        ("playground/Go1Footstand", {}),
        (
            "playground/LeapCubeReorient",
            {"n_step": 3, "gamma": 0.99, "target_noise": 0.2, "v_min": -50.0, "v_max": 50.0},
        ),
        ("playground/LeapCubeRotateZAxis", {"gamma": 0.99, "target_noise": 0.2}),
        ("brax/ant", {"v_min": -100.0, "v_max": 900.0}),  # the task's
    ],
)
def test_fast_td3_has_its_numbers_of_single_tasks(env, own):
    """As in its authors' hyperparams.py: what it has for a task goes before what we know of the
    task."""
    assert make_config(env, "fast-td3").hyperparameters == replace(
        PRESETS["fast-td3"].hyperparameters, **own
    )


def test_fast_td3_starts_as_there(calls):
    """The actor's last layer has the spread of N(0, 0.01), all other layers start at fan-in."""
    composed("fast-td3", PRESETS["fast-td3"].hyperparameters)
    actor, critic = calls["td3_categorical"][0]
    assert (actor.final_bound / 3**0.5, critic.final_bound) == (pytest.approx(0.01), None)


STREAMS = {
    "seen": jax.ShapeDtypeStruct((3,), jnp.float32),
    "known": jax.ShapeDtypeStruct((5,), jnp.float32),
}


@pytest.mark.parametrize("name", OF_VECTORS)
def test_streams_of_a_dict_reach_the_networks(name, calls):
    """Widths of the first layers: of what the actor reads, and of what the critic does, with or
    without the action."""
    hyperparameters = changed(name, normalize_observations=True, priority_exponent=0.0)
    env = envs.make("pendulum", 2)._replace(observation=STREAMS)
    agent = PRESETS[name].compose(hyperparameters, env).agent
    shown = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), (STREAMS, env.action))
    state = jax.eval_shape(lambda: agent.init(jax.random.key(0), *shown))
    widths = [
        next(
            x.shape[-2]
            for x in jax.tree.leaves(network.params)
            if x.ndim > 1 and x.shape[-1] == width and x.shape[-2] != 2
        )
        for network, width in ((state.actor, 11), (state.critic, 13))
    ]
    assert widths == [3, 5 if name in ("paper", "paper-batch-norm") else 6]
    assert "seen" in state.slots["normalizer"].mean.value, "all streams are normalised"
    with pytest.raises(
        ValueError,
        match="critic_stream='none': .* choose one of seen, known",  # noqa: RUF043
    ):
        PRESETS[name].compose(replace(hyperparameters, critic_stream="none"), env)


@pytest.mark.parametrize("name", PRESETS)
def test_a_run_says_at_its_start_what_is_ours(name):
    config = make_config("pendulum", name, total_timesteps=100_000_000)
    first = f"preset {name} differs from its source: {PRESETS[name].ours}"
    assert (
        config.note.startswith(first) if PRESETS[name].ours else "differs from" not in config.note
    )
    assert PRESETS[name].ours in config.flat()["source"]
