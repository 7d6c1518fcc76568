"""The peers' programs, each as the peer jits it, for `benchmarks/compiled.py`; run where the peer is installed."""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.accelerators import Place
from benchmarks.lowered import ACTIONS, OBSERVATIONS, Program
from benchmarks.programs import POLICY_DELAY

STEPS = 100


def sbx(name: str, place: Place, *, width: int = 256, batch_size: int = 256) -> jax.stages.Lowered:
    """SBX's own scan of gradient steps on batches that the host has drawn.

    Args:
        name: of the agent.
        place: where the shapes are.
        width: of the two hidden layers.
        batch_size: of a critic step.
    """
    import sbx as package
    from sbx.common.type_aliases import ReplayBufferSamplesNp

    from benchmarks.peers.sbx import Still

    algorithm = {"ddpg": package.DDPG, "td3": package.TD3}[name]
    model = algorithm("MlpPolicy", Still(OBSERVATIONS, ACTIONS), policy_kwargs={"net_arch": [width, width]}, buffer_size=1)
    rows = STEPS * batch_size
    column = lambda *shape: jax.ShapeDtypeStruct((rows, *shape), jnp.float32)
    data = ReplayBufferSamplesNp(
        observations=column(OBSERVATIONS),
        actions=column(ACTIONS),
        next_observations=column(OBSERVATIONS),
        dones=column(),
        rewards=column(),
        discounts=column(),
    )
    state = jax.tree.map(jnp.asarray, (model.policy.qf_state, model.policy.actor_state, model.key))
    data, (critic, actor, key) = place((data, state))
    delay, noise = (model.policy_delay, 0), (model.target_policy_noise, model.target_noise_clip)
    return algorithm._train.__func__.lower(algorithm, model.tau, STEPS, data, *delay, *noise, critic, actor, key)


def rejax(place: Place, *, width: int = 256, batch_size: int = 256) -> jax.stages.Lowered:
    """Rejax's loop on its pendulum with one environment: ``policy_delay`` environment steps and one update an iteration.

    Args:
        place: where the shapes are.
        width: of the two hidden layers.
        batch_size: of a critic step.
    """
    from rejax import TD3

    made = TD3.create(env="Pendulum-v1", num_envs=1, batch_size=batch_size, policy_delay=POLICY_DELAY, buffer_size=1_000_000)
    algorithm = made.replace(
        actor=made.actor.clone(hidden_layer_sizes=(width, width), activation=jax.nn.relu),
        critic=made.critic.clone(hidden_layer_sizes=(width, width), activation=jax.nn.relu),
    )
    run = lambda state: jax.lax.fori_loop(0, STEPS, lambda _, state: algorithm.train_iteration(state), state)
    state: Any = jax.eval_shape(algorithm.init_state, jax.random.key(0))
    return jax.jit(run).lower(place(state))


_SBX, _REJAX = ("sbx", "sbx-rl"), ("rejax", 'rejax "gymnax<1"')
PEERS = {
    "sbx_ddpg": Program(functools.partial(sbx, "ddpg"), needs=_SBX),
    # Its actor learns in every second pass.
    "sbx_td3": Program(functools.partial(sbx, "td3"), passes=(max, min), needs=_SBX),
    "rejax_td3_pendulum_1": Program(rejax, env_steps=POLICY_DELAY, needs=_REJAX),
}
