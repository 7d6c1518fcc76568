"""Under ``JAX_ENABLE_X64`` everything trains as without it: every array of a state and a report has
the same dtype."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddpg_jax import agents, envs, host, networks, noise, replay, returns, rollout, train
from ddpg_jax.behaviour import explore, noisy_network
from ddpg_jax.envs import SingleEnvironment, batch, wrappers
from ddpg_jax.runs.config.run_config import make_config
from ddpg_jax.runs.presets import PRESETS
from ddpg_jax.runs.programs import build

EVERYTHING = {
    "n_step": 3,
    "normalize_observations": True,
    "priority_exponent": 0.6,
    "anneal_updates": 100,
    "weight_decay": 0.1,
    "max_grad_norm": 1.0,
    "reward_scale": 0.5,
    "layer_norm": True,
}
SAME_PARTS = {
    "paper",
    "td3-paper",
    "d4pg-paper",
    "paper-batch-norm",
}  # as presets that are looked at in any case
SIZES = {
    "learning_starts": 64,
    "total_timesteps": 3000,
    "steps_per_chunk": 640,
    "batch_size": 16,
    "replay_capacity": 800,
}


def types(tree):
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {
        jax.tree_util.keystr(path): (leaf.shape, leaf.dtype, getattr(leaf, "weak_type", False))
        for path, leaf in leaves
    }


def both(look):
    """The types that ``look`` traces with 32 and with 64 bits; nothing is compiled."""
    narrow = types(look())
    with jax.enable_x64(True):
        wide = types(look())
    return narrow, wide


def members(preset, **options):
    env, own = "pendulum", SIZES | options
    if PRESETS[preset].hyperparameters.hindsight != "none":
        env, own = "reach", own | {"priority_exponent": 0.0}
    config = make_config(env, preset, hidden=(8,), critic_hidden=(8,), num_envs=8, **own)

    def run(key):
        member = build.member_of(config)({})
        warm = member.start(key)
        return warm, member.chunk(warm), member.evaluate(warm.agent, key)

    def look():
        return jax.eval_shape(run, jax.random.key(0))

    return look


@pytest.mark.usefixtures(
    "standard_promotion"
)  # of learning rates and exponents that follow a schedule of optax
@pytest.mark.parametrize(
    "preset",
    [
        pytest.param(name, marks=[pytest.mark.slow] if name in SAME_PARTS else [])
        for name, preset in PRESETS.items()
        if not preset.images
    ],
)
def test_a_preset_has_the_same_types_in_64_bits(preset):
    narrow, wide = both(members(preset, **EVERYTHING))
    assert narrow == wide
    assert not [path for path, (_, dtype, _) in wide.items() if dtype in (np.float64, np.int64)]


def careless():
    """What a user's environment may be: its numbers are of JAX's own width, and it may break
    down."""
    reset = lambda key: (jnp.zeros(()), jnp.zeros(2))
    step = lambda state, action, key: (
        state + jnp.ones(()),
        jnp.ones(2),
        jnp.sum(action),
        state > 5,
    )
    valid = lambda state, observation, reward: jnp.all(jnp.isfinite(observation))
    return SingleEnvironment(reset, step, 1, truncated=lambda state: state > 4, valid=valid)


def composed(env):
    actor = networks.Actor(1, hidden=(8,), dense=networks.NoisyDense)
    agent = agents.td3(actor, networks.Critic(hidden=(8,), action_layer=0))
    window = returns.n_step(2, 0.99)
    options = {"learning_starts": 8, "steps_per_chunk": 16, "window": window, "updates_per_step": 2}
    return agent, replay.uniform(80, 8), options, env


def wrapped(env):
    """In every wrapper."""
    stacked = wrappers.frame_stack(wrappers.action_repeat(wrappers.time_aware(env), 2), 2)
    return wrappers.scale_reward(wrappers.map_observation(stacked, lambda x: x * 2), 0.5)


@pytest.mark.parametrize("around", [lambda env: env, wrapped], ids=["bare", "wrapped"])
def test_wrappers_and_a_careless_environment_have_the_same_types(around):
    def look():
        agent, ring, options, env = composed(around(batch(careless(), 4, 10, fresh_per_step=2)))
        noises = noise.chain(
            noise.gaussian_per_episode(0.1, 0.2), noise.ornstein_uhlenbeck(), noise.clip()
        )
        found = []
        for behaviour in (noisy_network(agent), explore(agent, noises)):
            functions = train.make_train(agent, env, ring, behaviour, **options)
            warm = jax.eval_shape(
                lambda key: functions.warm_up(functions.init(key)),  # noqa: B023
                jax.random.key(0),
            )
            found.append((jax.eval_shape(functions.chunk, warm), warm))
        evaluate = rollout.make_evaluate(agent, env)
        return found, jax.eval_shape(evaluate, warm.agent, jax.random.key(0))

    # What the environment keeps for itself may be as wide as it likes.
    narrow, wide = (
        {path: kind for path, kind in found.items() if "env_state" not in path}
        for found in both(look)
    )
    assert narrow == wide


@pytest.mark.slow
def test_a_run_on_the_host_has_the_same_types():
    gymnasium = pytest.importorskip("gymnasium")
    env = envs.gymnasium.vector(gymnasium.make_vec("Pendulum-v1", 2, vectorization_mode="sync"))

    def look():
        agent = agents.ddpg(
            networks.Actor(1, hidden=(8,)), networks.Critic(hidden=(8,), action_layer=0)
        )
        behaviour = explore(agent, noise.chain(noise.gaussian(0.1), noise.clip()))
        options = {"learning_starts": 4, "steps_per_chunk": 4}
        functions = host.make_train(agent, env, replay.uniform(40, 4), behaviour, **options)
        functions.begin(0)
        warm = functions.warm_up(jax.jit(functions.init)(jax.random.key(0)))
        return functions.chunk(warm)

    narrow, wide = both(look)
    assert narrow == wide
