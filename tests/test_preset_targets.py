"""Presets with a source do what it does: when each network steps, which targets follow how far,
who chooses the next action, what acts first and with what noise.

All of it is measured on the preset's own agent, behaviour and loop, made small; its configuration
is not read."""

import functools
from dataclasses import replace
from fractions import Fraction
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ddpg_jax import envs, train
from ddpg_jax.environment import SingleEnvironment
from ddpg_jax.runs.config.run_config import make_config
from ddpg_jax.runs.presets import PRESETS
from ddpg_jax.runs.programs import build
from ddpg_jax.types import Transition, Update

KEY = jax.random.key(0)
ACTIONS, SIZE = 2, 16


class Facts(NamedTuple):
    """What a source says, or ``(what it says, our words for what we do, what we do)``."""

    critic_steps: Any  # of the critics for each step of the actor
    per_step: Any  # steps of the critics for each step of an environment
    next_action: Any  # by which actor, in the critics' targets
    tracked: Any  # of the way that the critics' targets go to the critics, with each of the actor
    every: Any  # steps of the critics from one such step of their targets to the next
    smoothed: Any  # whether the next action has noise
    first: Any  # who acts before the first update
    steps: Any  # n of n-step returns
    gamma: Any
    stddev: Any  # of the first action's noise in an episode; None: not noise on actions
    kept: Any  # correlation of successive noise in an episode


ONE = Fraction(1)
DDPG = Facts(  # Lillicrap et al. 2015, Algorithm 1 and section 7
    critic_steps=1,  # Algorithm 1: a critic step and an actor step, each time
    per_step=ONE,  # Algorithm 1: "for t = 1, T ... sample ... update"
    next_action="target",  # Algorithm 1: Q'(s, mu'(s))
    tracked=0.001,  # section 7: both, at each step
    every=1,
    smoothed=False,
    first="policy",  # Algorithm 1 selects mu(s) + N from t = 1
    steps=1,
    gamma=0.99,
    stddev=0.2,  # section 7: theta 0.15, sigma 0.2
    kept=0.65,  # x2 = 0.85 x1 + e: 0.85 / sqrt(0.85^2 + 1)
)
TD3 = Facts(  # Fujimoto et al. 2018, Algorithm 1 and section 6.1; sfujim/TD3's TD3.py and main.py
    critic_steps=2,  # "if t mod d then", d = 2
    per_step=ONE,  # main.py: one train() a step
    next_action="target",  # "a~ <- pi_phi'(s') + eps"
    tracked=0.005,  # inside "if t mod d then"
    every=2,
    smoothed=True,  # clip(N(0, sigma~), -c, c)
    first="random",  # section 6.1: a purely exploratory policy; main.py: action_space.sample()
    steps=1,
    gamma=0.99,
    stddev=0.1,  # N(0, 0.1)
    kept=0.0,
)
ACME = Facts(  # Acme's d4pg: config.py, learning.py and builder.py; Barth-Maron et al. 2018
    critic_steps=1,  # learning.py: both in each step
    per_step=Fraction(1, 8),  # samples_per_insert 32 of a batch of 256
    next_action="target",  # learning.py: the target policy's
    tracked=("copied", "copied every 100 updates there", 0.01),  # target_update_period 100
    every=(100, "copied every 100 updates there", 1),
    smoothed=False,
    first=("policy", "1,000 steps are random (the policy's there)", "random"),  # its actors' noise
    steps=5,  # n_step 5
    gamma=0.99,
    stddev=0.3,  # sigma 0.3
    kept=0.0,
)
FAST = Facts(  # younggyoseo/FastTD3: train.py and hyperparams.py
    critic_steps=2,  # policy_frequency 2
    per_step=Fraction(2, 1_024),  # num_updates 2 after a step of 1,024 environments
    next_action=("online", "chooses the next action (the online actor there)", "target"),
    tracked=0.1,  # tau
    every=(1, "the critics' after each of their steps there", 2),  # train.py: after each update
    smoothed=True,  # policy_noise, noise_clip
    first=("policy", "10 steps are random (the policy's there)", "random"),  # train.py: explore
    steps=1,
    gamma=0.97,
    stddev=0.231,  # of U(0.001, 0.4): the root of the mean square
    kept=0.0,
)
DRQ = Facts(  # Yarats et al. 2021, section 3; facebookresearch/drqv2: drqv2.py, cfgs/config.yaml
    critic_steps=1,  # update(): a critic step and an actor step
    per_step=Fraction(1, 2),  # update_every_steps 2
    next_action="online",  # update_critic: self.actor(next_obs, stddev); there is no other actor
    tracked=0.01,  # critic_target_tau, after each update
    every=1,
    smoothed=True,  # dist.sample(clip=0.3)
    first="random",  # num_seed_frames 4,000: act() is uniform before
    steps=3,  # nstep 3
    gamma=0.99,
    stddev=0.718,  # linear(1.0, 0.1, ...) begins at 1, clipped to [-1, 1]
    kept=0.0,
)
SOURCES = {
    "paper": DDPG,
    "paper-batch-norm": DDPG,
    "paper-pixels": DDPG,
    "pendulum-lecture": DDPG,  # the lecture's loop is the paper's, its noise never begins anew
    "default": TD3._replace(critic_steps=1, every=1, smoothed=False),  # OurDDPG.py
    "td3": TD3,
    "td3-paper": TD3,
    "d4pg-paper": ACME,
    "d4pg": ACME._replace(  # and run_d4pg.py
        per_step=(Fraction(1, 8), "32 updates for 32 steps (4)", ONE),
        tracked=("copied", "copied every 100 updates there", 0.005),
        stddev=0.2,
    ),
    "td3-categorical": FAST,
    "fast-td3": FAST,
    "drq-v2": DRQ,
    "parameter-noise": DDPG._replace(  # Plappert et al. 2018; OpenAI's baselines, ddpg.py
        per_step=(
            Fraction(1, 2),
            "one in two steps",
            ONE,
        ),  # nb_train_steps 50, nb_rollout_steps 100
        tracked=(0.01, "tau 0.005", 0.005),
        first=("policy", "after 1,000 random ones", "random"),
        stddev=None,
        kept=1.0,  # section 3: one policy for each episode
    ),
    "drive": DDPG._replace(  # Kendall et al. 2018, sections III-C and IV-A
        per_step=("250 an episode", "four updates from 256 transitions", Fraction(4, 64)),
        tracked=0.005,  # not stated
        first="random",  # purely random exploration episodes
        steps=(1, "3-step returns", 3),
        gamma=(0.9, "gamma 0.95", 0.95),
        stddev=0.4,  # theta 0.6, sigma 0.4
        kept=0.371,  # 0.4 / sqrt(0.4^2 + 1)
    ),
}
ALWAYS = ("default", "fast-td3", "drq-v2")
HERE = [name for name, preset in PRESETS.items() if preset.hyperparameters.hindsight == "none"]
"""Those of goals: `test_goal_presets`."""
EACH = [pytest.param(name, marks=[pytest.mark.slow] * (name not in ALWAYS)) for name in HERE]


def always_one(shown):
    """A reward of 1 in each step, without an end for 1,000 steps."""

    def make(num_envs):
        reset = lambda key: (key, shown(key))
        step = lambda state, action, key: (key, shown(key), jnp.float32(1), jnp.bool_(False))
        return envs.batch(SingleEnvironment(reset, step, ACTIONS), num_envs, 1_000)

    return make


vectors = always_one(lambda key: jax.random.normal(key, (3,)))
images = always_one(lambda key: jax.random.randint(key, (SIZE, SIZE, 1), 0, 255).astype(jnp.uint8))
SMALL = {"hidden": (5,), "batch_size": 4}
OF_IMAGES = {
    "drq-v2": {"channels": 2, "trunk": 4, "shift": 0},
    "drive": {"channels": 2, "latent_size": 4, "images": 8, "image_updates": 1, "image_batch": 4},
}


@functools.cache
def made(name):
    """``(configuration, environment, parts)`` of a preset, its sizes made small."""
    preset = PRESETS[name]
    own = OF_IMAGES.get(name, {}) | SMALL
    own |= {"critic_hidden": (5,)} if preset.hyperparameters.critic_hidden else {}
    own["replay_capacity"] = 64 * max(8, preset.hyperparameters.num_envs)
    own["learning_starts"] = max(32, 8 * preset.hyperparameters.num_envs)
    env = "images" if preset.images else "vectors"
    env = preset.only_for or f"test_preset_targets:{env}"
    chunk = 8 * preset.hyperparameters.num_envs
    config = make_config(env, name, **own, steps_per_chunk=chunk)
    around = build.environment(config, config.hyperparameters.num_envs)
    return config, around, preset.compose(config.hyperparameters, around)


def moved_apart(params, number):
    """Other parameters, by a little in each."""
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(number), len(leaves))
    more = [
        0.2 * jax.random.normal(key, x.shape, x.dtype) for key, x in zip(keys, leaves, strict=True)
    ]
    return jax.tree.unflatten(structure, [x + y for x, y in zip(leaves, more, strict=True)])


def raw(tree):
    return np.concatenate([np.ravel(x).astype(np.float64) for x in jax.tree.leaves(tree)])


def heads(params):
    """Without an encoder that targets share."""
    inside = params["params"]
    return inside["head"] if "encoder" in inside and "head" in inside else inside


def way(before, online, after):
    """Of the way from targets to online parameters, which share they went, the same in each."""
    whole, gone = raw(online) - raw(before), raw(after) - raw(before)
    share = np.sum(whole * gone) / np.sum(whole**2)
    np.testing.assert_allclose(gone, share * whole, atol=2e-3 * np.abs(whole).max())
    return share


def steps_of(network):
    return max(
        int(x) for _, x in optax.tree_utils.tree_get_all_with_path(network.opt_state, "count")
    )


@functools.cache
def updated(name):
    """``(state before, [states after])`` of one update on rows that are alike: as it is, with
    another target actor, with another actor, and with another key."""
    config, env, parts = made(name)
    show = lambda x: jnp.zeros(x.shape, x.dtype) + 1
    rows = config.hyperparameters.batch_size * config.hyperparameters.batches_per_update
    many = lambda tree: jax.tree.map(lambda x: jnp.stack([x] * rows), tree)
    seen, action = jax.tree.map(show, (env.observation, env.action))
    ones = jnp.ones(rows)
    batch = Transition(
        observation=many(seen),
        action=many(action / 3),
        reward=ones,
        discount=ones,
        next_observation=many(jax.tree.map(lambda x: 2 * x, seen)),
    )

    def run():
        state = parts.agent.init(KEY, seen, action)
        actor, critic = (
            network.replace(
                params=moved_apart(network.params, number),
                target_params=moved_apart(network.target_params, number + 1),
            )
            for number, network in ((1, state.actor), (3, state.critic))
        )
        state = replace(state, actor=actor, critic=critic)
        other = moved_apart(actor.params, 5)
        each = [
            (state, jax.random.key(1)),
            (replace(state, actor=actor.replace(target_params=other)), jax.random.key(1)),
            (replace(state, actor=actor.replace(params=other)), jax.random.key(1)),
            (state, jax.random.key(2)),
        ]
        states, keys = jax.tree.map(lambda *x: jnp.stack(x), *each)
        return state, jax.vmap(lambda state, key: parts.agent.update(state, batch, key).state)(
            states, keys
        )

    before, after = jax.device_get(jax.jit(run)())
    return before, [jax.tree.map(lambda x, i=i: x[i], after) for i in range(4)]


@functools.cache
def trained(name):
    """``(updates of the agent in a chunk, its environment steps, actions of the warm-up, what was
    stored in the end)`` of the loop, whose agent wants the greatest actions and learns nothing."""
    config, env, parts = made(name)
    size, inner = env.action.shape[-1], parts.agent

    def init(key, observation, action):
        state = inner.init(key, observation, action)
        push = lambda x: jnp.full_like(x, 3.0) if x.shape == (size,) else x
        return replace(
            state, actor=state.actor.replace(params=jax.tree.map(push, state.actor.params))
        )

    def update(state, batch, key, weight=None):
        return Update(
            replace(state, step=state.step + 1),
            jnp.ones_like(batch.reward),
            {"none": 0.0 * batch.reward[0]},
        )

    parts = parts._replace(agent=inner._replace(init=init, update=update))
    trainer = build._make_train(train.make_train, config, parts, env)

    def drawn(state):
        sample = lambda key: parts.replay.sample(state.replay, key)
        found = jax.vmap(sample)(jax.random.split(KEY, 64))
        found = found if hasattr(found, "reward") else found.batch
        return jax.tree.map(
            lambda x: x.reshape(-1, *x.shape[2:]), (found.action, found.reward, found.discount)
        )

    def run(key):
        begun = trainer.warm_up(trainer.init(key))
        after, _ = trainer.chunk(begun)
        return after.agent.step, drawn(begun), drawn(after)

    updates, warm, whole = jax.device_get(jax.jit(run)(KEY))
    return int(updates), config.schedule.steps_per_chunk, warm, whole


@functools.cache
def explored(name):
    """Noise of 512 environments whose agent would do nothing: at the start of an episode, in its
    second step, and at the start of the next."""
    config, _, _ = made(name)
    env = build.environment(config, 512)
    parts = PRESETS[name].compose(config.hyperparameters, env)

    def run():
        one, action = jax.tree.map(
            lambda x: jnp.ones(x.shape, x.dtype), (env.observation, env.action)
        )
        state = parts.agent.init(KEY, one, action)
        still = lambda x: jnp.zeros_like(x) if x.shape[-1:] == env.action.shape else x
        params = (
            state.actor.params
            if name == "parameter-noise"
            else jax.tree.map(still, state.actor.params)
        )
        state = replace(state, actor=state.actor.replace(params=params))
        seen = jax.tree.map(lambda x: jnp.broadcast_to(x, (512, *x.shape)), one)
        begun = parts.behaviour.init(KEY, jnp.zeros((512, *env.action.shape)))
        found = []
        for number, reset in enumerate((True, False, True)):
            action, begun = parts.behaviour.act(
                begun, state, seen, jax.random.key(number), jnp.full((512,), reset)
            )
            found.append(action)
        return found

    return [np.asarray(x, np.float64).ravel() for x in jax.jit(run)()]


def measured(name):
    before, (after, other_target, other_actor, other_key) = updated(name)
    critic_steps = steps_of(after.critic) // steps_of(after.actor)
    found = optax.tree_utils.tree_get_all_with_path
    moments = lambda state: raw([x for _, x in found(state.critic.opt_state, "mu")])
    depends = lambda other: not np.array_equal(moments(after), moments(other))
    assert not depends(other_actor), "what steps the critics is in the state before"
    parts = before.actor.target_params, after.actor.params, after.actor.target_params
    of_actor = way(*parts)
    parts = before.critic.target_params, after.critic.params, after.critic.target_params
    tracked = way(*map(heads, parts))
    assert depends(other_target)
    assert of_actor == pytest.approx(1 if of_actor > 0.9 else tracked, rel=2e-2), "both, alike"
    updates, steps, (warm, *_), (_, reward, discount) = trained(name)
    n = {round(float(x), 4) for x in discount if x > 0}
    assert len(n) == 1
    first, second, new = explored(name)
    return {
        "critic_steps": critic_steps,
        "per_step": Fraction(updates * critic_steps, steps),
        "next_action": "online" if of_actor > 0.9 else "target",
        "tracked": tracked,
        "every": steps_of(after.critic),
        "smoothed": depends(other_key),
        "first": "policy" if warm.mean() > 0.5 else "random",
        "discount": n.pop(),
        "reward": float(np.median(reward)),
        "stddev": first.std(),
        "kept": np.corrcoef(first, second)[0, 1],
        "again": np.corrcoef(second, new)[0, 1],
    }


def own(name):
    """What we do: the source's, unless our words say otherwise."""
    found = {}
    for field, fact in SOURCES[name]._asdict().items():
        if isinstance(fact, tuple):
            theirs, words, ours = fact
            assert theirs != ours, f"{field} is the source's after all"
            assert words, f"{field}: an empty text is in every text"
            assert words in PRESETS[name].ours, (name, field)
        found[field] = fact[2] if isinstance(fact, tuple) else fact
    return found


def test_each_preset_has_a_source_and_says_where_it_does_not_follow_it():
    assert set(SOURCES) == {*HERE}
    assert all(map(own, HERE))


@pytest.mark.parametrize("name", EACH)
def test_a_preset_does_what_its_source_does(name):
    wanted, found = own(name), measured(name)
    for field in ("critic_steps", "per_step", "next_action", "every", "smoothed", "first"):
        assert found[field] == wanted[field], field
    assert found["tracked"] == pytest.approx(wanted["tracked"], rel=2e-2)
    n, gamma = wanted["steps"], wanted["gamma"]
    assert found["discount"] == pytest.approx(gamma ** (n - 1), abs=1e-3)
    if PRESETS[name].only_for is None:
        assert found["reward"] == pytest.approx(sum(gamma**k for k in range(n)), rel=1e-3)
    if wanted["stddev"] is not None:
        assert found["stddev"] == pytest.approx(wanted["stddev"], rel=0.08)
    assert found["kept"] == pytest.approx(wanted["kept"], abs=0.08)
    goes_on = name == "pendulum-lecture"  # the lecture's noise never begins anew
    assert (found["again"] > 0.5) == goes_on


@pytest.mark.parametrize("name", EACH)
def test_what_is_stored_was_executed(name):
    """An agent that wants the greatest action is held to it, noise or not; the lecture's is not."""
    _, _, _, (actions, *_) = trained(name)
    if name == "pendulum-lecture":
        assert actions.max() > 2.5
    else:
        assert np.abs(actions).max() <= 1
        asked_for_more = name != "parameter-noise"  # whose policy is within its bounds itself
        assert (np.mean(actions == 1) > 0.02) == asked_for_more
