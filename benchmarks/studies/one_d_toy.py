"""1D-TOY (Matheron et al. 2019, arXiv:1911.11679, section 4), and agents that learn it.

Used by `benchmarks.studies.toy_mdp`, which says what it shows.
"""

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ddpg_jax import agents, networks, noise, replay, rollout, train
from ddpg_jax.behaviour import explore
from ddpg_jax.environment import Environment
from ddpg_jax.envs import SingleEnvironment, batch
from ddpg_jax.types import Key, Noise, PyTree

MAX_ACTION, TIME_LIMIT, EARLY = 0.1, 50, 50
# The networks and rates of the paper are not known here: these are preset `default`'s for Pendulum,
# half as wide, and all layers start at fan-in. Final layers that start in +-3e-3 make the first
# actions nearly pure noise.
HIDDEN, LEARNING_RATE, TAU, GAMMA, BATCH_SIZE = 32, 1e-3, 0.005, 0.99, 100
STDDEV, PROBABILITY = 0.2, 0.1
EVALUATIONS = 20
SETTINGS: dict[str, Any] = {
    "hidden": [HIDDEN, HIDDEN],
    "learning_rate": LEARNING_RATE,
    "tau": TAU,
    "gamma": GAMMA,
    "batch_size": BATCH_SIZE,
    "ornstein_uhlenbeck": {"stddev": STDDEV},
    "probabilistic": {"probability": PROBABILITY},
}
NOISES: dict[str, Callable[[], Noise]] = {
    "ornstein_uhlenbeck": lambda: noise.chain(noise.ornstein_uhlenbeck(STDDEV), noise.clip()),
    "probabilistic": lambda: probabilistic(PROBABILITY),
}


def environment(num_envs: int) -> Environment:
    """1D-TOY."""

    def reset(key: Key) -> tuple[jax.Array, jax.Array]:
        return jnp.zeros(()), jnp.zeros((1,))

    def step(
        state: jax.Array, action: jax.Array, key: Key
    ) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
        moved = state + MAX_ACTION * jnp.clip(action[0], -1.0, 1.0)
        state = jnp.clip(moved, 0.0, 1.0)
        return state, state[None], jnp.where(moved < 0, 1.0, 0.0), moved < 0

    return batch(SingleEnvironment(reset, step, action_size=1), num_envs, TIME_LIMIT)


def probabilistic(probability: float) -> Noise:
    """With this probability a uniform random action instead of the agent's (Matheron et al. 2019,
    section 4).
    """

    def apply(
        state: PyTree, action: jax.Array, key: Key, reset: jax.Array
    ) -> tuple[jax.Array, PyTree]:
        choice_key, action_key = jax.random.split(key)
        chosen = jax.random.bernoulli(choice_key, probability, (action.shape[0], 1))
        return jnp.where(
            chosen, jax.random.uniform(action_key, action.shape, action.dtype, -1.0, 1.0), action
        ), state

    return Noise(lambda key, action: (), apply)


def one_d_toy(
    noises: Noise, seeds: int, seed: int, steps: int, final_bound: float | None
) -> dict[str, Any]:
    """Train ``seeds`` agents in one program; who solves 1D-TOY, when, and whether a reward came in
    the first 50 steps.
    """
    begun = time.perf_counter()
    env, widths = environment(1), (HIDDEN, HIDDEN)
    rates: dict[str, Any] = {
        "actor_learning_rate": LEARNING_RATE,
        "critic_learning_rate": LEARNING_RATE,
    }
    actor, critic = (
        networks.Actor(1, widths, final_bound=final_bound),
        networks.Critic(widths, 0, final_bound=final_bound),
    )
    agent = agents.ddpg(actor, critic, gamma=GAMMA, tau=TAU, critic_weight_decay=0.0, **rates)
    behaviour = explore(agent, noises)
    each = max(1, (steps - EARLY) // EVALUATIONS)
    total = EARLY + EVALUATIONS * each
    store = replay.uniform(max(total, BATCH_SIZE), BATCH_SIZE)  # keeps every transition, in order
    loop = train.make_train(
        agent, env, store, behaviour, learning_starts=EARLY, steps_per_chunk=each, warm_up=behaviour
    )
    keys = jax.vmap(jax.random.key)(jnp.arange(seed, seed + seeds))
    chunk = jax.jit(jax.vmap(loop.chunk), donate_argnums=0)
    evaluate = rollout.make_evaluate(agent, env)
    solves = jax.jit(jax.vmap(lambda state, key: evaluate(state, key)[0] > 0))
    first_action = jax.jit(jax.vmap(lambda state: agent.act(state, jnp.zeros((1,)))[0]))

    state = jax.jit(jax.vmap(lambda key: loop.warm_up(loop.init(key))))(keys)
    curve = [np.asarray(solves(state.agent, keys))]
    for _ in range(EVALUATIONS):
        state, _ = chunk(state)
        curve.append(np.asarray(solves(state.agent, keys)))
    solved, actions = curve[-1], np.asarray(first_action(state.agent))
    rewarded = np.asarray(state.replay.storage.reward)[:, :total] > 0
    early = rewarded[:, :EARLY].any(axis=1)
    failed = ~solved
    return {
        "steps": [EARLY + index * each for index in range(EVALUATIONS + 1)],
        "solved_by_step": [int(each.sum()) for each in curve],
        "success": proportion(solved),
        "rewarded_early": proportion(early),
        "success_if_rewarded_early": proportion(solved[early]),
        "success_if_not": proportion(solved[~early]),
        "failures": {
            "first_action": actions[failed].round(4).tolist(),
            "rewards_found": rewarded[failed].sum(axis=1).tolist(),
            "step_of_first_reward": [
                int(row.argmax()) + 1 if row.any() else None for row in rewarded[failed]
            ],
        },
        "seconds": time.perf_counter() - begun,
    }


def proportion(hits: Any) -> dict[str, Any]:
    """Share of hits with its 95 % interval (Wilson 1927); None where there is nothing to count."""
    from scipy.stats import binomtest

    count, of = int(hits.sum()), len(hits)
    interval = binomtest(count, of).proportion_ci(method="wilson") if of else None
    return {
        "count": count,
        "of": of,
        "rate": count / of if of else None,
        "interval": None if interval is None else [float(interval.low), float(interval.high)],
    }
