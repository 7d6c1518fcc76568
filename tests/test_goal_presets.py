"""The presets of goals, and hindsight in any preset: every number is seen arriving in the part that
it belongs to.
"""

import functools
from dataclasses import fields, replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from aiming import aiming
from helpers import watched

from ddpg_jax import agents, envs, learner, networks, noise, population, replay, rollout, train
from ddpg_jax.replay.hindsight import STRATEGIES
from ddpg_jax.runs.presets import PRESETS
from ddpg_jax.schedule import Schedule, rounds_of

GOALS = ["her", "her-td3", "her-paper"]
WITH_VECTORS = [
    name
    for name, preset in PRESETS.items()
    if not preset.images and preset.only_for is None and name not in GOALS
]
SMALL = {"num_envs": 2, "replay_capacity": 400, "batch_size": 6, "hidden": (8,)}


@pytest.fixture
def calls(monkeypatch):
    """What each factory of the library was given last, and what it made."""
    factories = {
        agents: "ddpg td3 track_after soft_update normalize_observations",
        noise: "gaussian uniform clip chain",
        replay: "hindsight",
    }
    pairs = [(module, name) for module, names in factories.items() for name in names.split()]
    return watched(monkeypatch, pairs)


def composed(name, env=None, **changed):
    given = replace(PRESETS[name].hyperparameters, **SMALL | {"critic_hidden": (8,)} | changed)
    return PRESETS[name].compose(given, env or aiming(2))


@pytest.mark.parametrize("name", WITH_VECTORS)
@pytest.mark.parametrize("strategy", ["future", "final", "episode"])
def test_hindsight_is_a_way_of_sampling_of_every_preset(name, strategy, calls):
    options = {"hindsight": strategy, "goals_per_step": 2.5, "n_step": 3, "gamma": 0.75}
    parts = composed(name, **options, normalize_observations=True, priority_exponent=0.0)
    args, given, made = calls["hindsight"]
    delay = getattr(PRESETS[name].hyperparameters, "policy_delay", 1)
    assert args[:2] == (400, 6 * delay)
    assert (given["num_envs"], given["goals_per_step"]) == (2, 2.5)
    assert given["strategy"] is STRATEGIES[strategy]
    assert (given["window"].length, given["window"].gamma) == (3, 0.75)
    assert parts.replay is made
    assert parts.window is None, "the replay makes the returns"
    seen = calls["normalize_observations"][1]
    assert (seen["limit"], seen["alike"]) == (5.0, ("achieved_goal", "desired_goal"))


@pytest.mark.parametrize("name", GOALS)
def test_numbers_of_goals(name, calls):
    parts = composed(
        name,
        stddev=0.375,
        random_actions=0.125,
        action_penalty=0.625,
        gamma=0.75,
        reward_scale=0.5,
    )
    agent = "td3" if name == "her-td3" else "ddpg"
    (actor, critic), options, _ = calls[agent]
    assert options["action_penalty"] == 0.625
    assert options["target_range"] == (-2.0, 0.0)  # -1 and 0, over 1 - 0.75, halved
    glorot = networks.GlorotDense if name == "her-paper" else networks.Dense
    assert (actor.network.dense, critic.network.dense) == (glorot, glorot)
    assert actor.names == critic.names == ("desired_goal", "observation")
    assert calls["gaussian"][0] == (0.375,)
    assert calls["uniform"][0] == (0.125,)
    links = [calls[link][2] for link in ("gaussian", "clip", "uniform")]
    assert list(calls["chain"][0]) == links, "noise is clipped before what is drawn at random"
    assert (parts.warm_up is parts.behaviour) == (name == "her-paper")
    assert calls["hindsight"][1]["goals_per_step"] == 4


def test_rewards_of_an_unknown_range_clip_no_target(calls):
    env = aiming(2)
    composed("her", env._replace(goal=env.goal._replace(rewards=(-1.0, float("inf")))))
    assert calls["ddpg"][1]["target_range"] is None


def test_the_papers_targets_follow_once_in_forty_updates(calls):
    """0.05 once in 40 updates of which each has its own batch of 19 workers: 40 for 1,900 steps."""
    paper = PRESETS["her-paper"].hyperparameters
    composed("her-paper")
    (_, updates, track), _, _ = calls["track_after"]
    assert (updates, calls["ddpg"][1]["tau"]) == (40, 0.0)
    assert (calls["soft_update"][0], track) == ((0.05,), calls["soft_update"][2])
    assert calls["hindsight"][0][1] == 6 * 40
    updates, steps = rounds_of(paper.updates_per_step, paper.batches_per_update)
    assert (updates * 40, steps * paper.num_envs) == (40, 1_900)
    assert paper.batch_size == 19 * 256
    composed("her", target_period=1, tau=0.03125)
    assert calls["ddpg"][1]["tau"] == 0.03125
    composed("her", target_period=3, tau=0.03125)
    assert (calls["ddpg"][1]["tau"], calls["track_after"][0][1]) == (0.0, 3)


def test_numbers_of_the_paper():
    """Plappert et al. 2018, appendix B, and baselines where it is silent."""
    found = {
        field.name: getattr(PRESETS["her-paper"].hyperparameters, field.name)
        for field in fields(PRESETS["her-paper"].hyperparameters)
    }
    expected = {
        "total_timesteps": 4_750_000,  # 50 epochs of 19 x 2 x 50 episodes of 50 steps
        "hidden": (256, 256, 256),
        "actor_learning_rate": 1e-3,
        "critic_learning_rate": 1e-3,
        "batch_size": 4_864,
        "random_actions": 0.3,
        "stddev": 0.2,
        "action_penalty": 1.0,
        "gamma": 0.98,
        "normalize_observations": True,
        "hindsight": "future",
        "goals_per_step": 4.0,
        "tau": 0.05,
        "target_period": 40,
        "n_step": 1,
    }
    assert found | expected == found
    assert abs(found["replay_capacity"] - 1e6) < 95, "a multiple of the environments"


def test_an_agent_whose_targets_follow_once_is_that_agent_in_a_row():
    """Three updates with frozen targets, then one soft update, by hand."""
    frozen = agents.ddpg(
        networks.Actor(2, hidden=(4,)), networks.Critic(hidden=(4,), action_layer=0), tau=0.0
    )
    seldom = agents.track_after(frozen, 3, agents.soft_update(0.25))
    state = frozen.init(jax.random.key(0), jnp.zeros(3), jnp.zeros(2))
    draw = lambda number, *shape: jax.random.normal(jax.random.key(number), shape)
    batch = learner.Transition(
        draw(1, 12, 3), jnp.tanh(draw(2, 12, 2)), draw(3, 12), jnp.ones(12), draw(4, 12, 3)
    )
    key = jax.random.key(5)
    found = seldom.update(state, batch, key)
    keys = jax.random.split(key, 4)
    rows, places = agents.targets.deal(keys[-1], 12, 3)
    expected, priorities = state, []
    for part, own in zip(rows, keys[:-1], strict=True):
        new = frozen.update(expected, jax.tree.map(lambda x, part=part: x[part], batch), own)
        expected, _ = new.state, priorities.append(new.priority)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
    for name in ("actor", "critic"):
        ours, theirs = getattr(found.state, name), getattr(expected, name)
        jax.tree.map(close, ours.params, theirs.params)
        followed = jax.tree.map(
            lambda online, start: 0.25 * online + 0.75 * start,
            theirs.params,
            getattr(state, name).params,
        )
        jax.tree.map(close, ours.target_params, followed)
    close(found.priority, np.concatenate(priorities)[np.asarray(places)])
    assert int(found.state.step) == 3
    with pytest.raises(ValueError, match="a batch of 12 does not split"):
        agents.track_after(frozen, 5, agents.soft_update(0.25)).update(state, batch, key)


@pytest.mark.parametrize("name", GOALS)
def test_every_float_may_be_traced(name):
    given = replace(PRESETS[name].hyperparameters, **SMALL)
    values = {field.name: getattr(given, field.name) for field in fields(given)}
    floats = [name for name, value in values.items() if isinstance(value, float)]
    own = [name for name in floats if name != "priority_exponent"]  # refused

    def member(values):
        env = aiming(2)
        parts = PRESETS[name].compose(replace(given, **values), env)
        updates, steps = rounds_of(given.updates_per_step, given.batches_per_update)
        made = train.make_train(
            parts.agent,
            env,
            parts.replay,
            parts.behaviour,
            learning_starts=20,
            updates_per_step=updates,
            collect_steps=steps,
            steps_per_chunk=2 * steps,
            warm_up=parts.warm_up,
            window=parts.window,
        )
        start = lambda key: made.warm_up(made.init(key))
        return population.Member(start, made.chunk, rollout.make_evaluate(parts.agent, env))

    people = population.make_population(member)
    values = {field: jax.ShapeDtypeStruct((3,), jnp.float32) for field in own}
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), 3))
    state = jax.eval_shape(people.start, keys, values)
    after, _ = jax.eval_shape(people.chunk, state, values)
    shape = lambda x: (x.shape, x.dtype)
    assert jax.tree.map(shape, after) == jax.tree.map(shape, state)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"env": "pendulum"}, "hindsight='future' needs an environment with goals"),
        ({"priority_exponent": 0.6}, "a priority_exponent: a priority is of a step"),
        ({"goals_per_step": -1.0}, "goals_per_step"),
    ],
)
def test_what_hindsight_cannot_have_is_refused(options, sentence):
    env = envs.make(options.pop("env"), 2) if "env" in options else None
    with pytest.raises(ValueError, match=sentence):
        composed("her", env, **options)


def test_uniform_noise_takes_the_place_of_whole_actions():
    link = noise.uniform(0.25)
    action = jnp.full((20_000, 3), 0.5)
    found, _ = link.apply((), action, jax.random.key(0), jnp.zeros(20_000, bool))
    kept = np.asarray(found == 0.5)
    assert np.array_equal(kept.all(axis=1), kept.any(axis=1)), "all of an action, or none"
    assert abs(kept.all(axis=1).mean() - 0.75) < 0.015
    drawn = np.asarray(found)[~kept.all(axis=1)]
    assert abs(drawn.mean()) < 0.02
    assert abs(drawn.std() - 1 / 3**0.5) < 0.01
    assert drawn.min() < -0.99 < 0.99 < drawn.max() <= 1
    with pytest.raises(ValueError, match="probability=1"):
        noise.uniform(1.5)


def test_a_schedule_of_hindsight_keeps_no_window():
    """The replay makes n-step returns itself."""
    given = replace(PRESETS["her"].hyperparameters, n_step=3)
    assert (given.window, replace(given, hindsight="none").window) == (1, 3)
    assert Schedule(n_step=given.window).filling == 0
