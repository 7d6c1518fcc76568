"""The programs that several benchmarks time: updates of every agent as the loop runs them, and
whole loops.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from benchmarks import harness
from benchmarks.harness import Part
from ddpg_jax import agents, learner, networks, noise, replay, reporting, rollout, train
from ddpg_jax.behaviour import explore
from ddpg_jax.environment import Environment
from ddpg_jax.types import Agent, Key, PyTree, Replay, Transition, strong

POLICY_DELAY = 2
NUM_ATOMS = 51
OBSERVATIONS, ACTIONS = 17, 6
"""Of HalfCheetah."""


class Made(NamedTuple):
    """An agent, and how many batches one of its updates consumes: a critic step on each."""

    agent: Agent
    batches: int


def _ddpg(actor: networks.Actor, critic: networks.Critic, **axis: Any) -> Made:
    return Made(agents.ddpg(actor, critic, critic_weight_decay=0.0, **axis), 1)


def _td3(actor: networks.Actor, critic: networks.Critic, **axis: Any) -> Made:
    return Made(agents.td3(actor, critic, policy_delay=POLICY_DELAY, **axis), POLICY_DELAY)


def _d4pg(actor: networks.Actor, critic: networks.Critic, **axis: Any) -> Made:
    return Made(agents.d4pg(actor, critic.clone(num_atoms=NUM_ATOMS), **axis), 1)


def _td3_categorical(actor: networks.Actor, critic: networks.Critic, **axis: Any) -> Made:
    made = agents.td3_categorical(
        actor, critic.clone(num_atoms=NUM_ATOMS), policy_delay=POLICY_DELAY, **axis
    )
    return Made(made, POLICY_DELAY)


AGENTS: dict[str, Callable[..., Made]] = {
    "ddpg": _ddpg,
    "td3": _td3,
    "d4pg": _d4pg,
    "td3_categorical": _td3_categorical,
}


def agent_of(
    name: str, actions: int, widths: Sequence[int], dtype: Any = jnp.float32, **axis: Any
) -> Made:
    """The agent called so, both networks of these widths and computed in this dtype; ``axis_name``
    as of the agents.
    """
    actor, critic = (
        networks.Actor(actions, widths, dtype=dtype),
        networks.Critic(widths, action_layer=0, dtype=dtype),
    )
    return AGENTS[name](actor, critic, **axis)


def shapes(observations: int, actions: int) -> Transition:
    """Of a transition with so many numbers."""
    return harness.shaped(
        jax.ShapeDtypeStruct((observations,), jnp.float32),
        jax.ShapeDtypeStruct((actions,), jnp.float32),
    )


def learning(agent: Agent, store: Replay, like: Transition, rows: int) -> Part:
    """One update as the loop runs it: a batch is sampled from ``rows`` stored ones, learned from,
    and its report added up.
    """
    behaviour = explore(agent, noise.gaussian(0.1))
    seen: Any = (like.observation, like.action)
    env = Environment(
        lambda key: ((), jnp.zeros((1, *seen[0].shape))), _never, 1, seen[0], seen[1], time_limit=1
    )
    functions = learner.make_learner(agent, env, store, behaviour, None)

    def init(key: Key) -> PyTree:
        agent_key, begin_key, fill_key, key = jax.random.split(key, 4)
        state = functions.init(agent_key, key, rollout.begin(env, behaviour, begin_key))
        state = dataclasses.replace(state, replay=harness.filled(store, fill_key, like, rows))
        keys = jax.random.split(key, 1)
        report = jax.eval_shape(functions.update, state, keys, keys)[1]
        return state, reporting.zero_totals(report)

    def step(state: PyTree, keys: Key) -> tuple[PyTree, PyTree]:
        train_state, sums = state
        train_state, report = functions.update(train_state, keys[:, 0], keys[:, 1])
        return (train_state, reporting.accumulate(sums, report, train_state.steps)), ()

    return init, step


def _never(*_: Any) -> Any:
    raise NotImplementedError("only the shapes of this environment are used")


def part_of(
    name: str,
    *,
    batch_size: int,
    hidden: int,
    observations: int = OBSERVATIONS,
    actions: int = ACTIONS,
    capacity: int = 20_000,
    dtype: Any = jnp.float32,
    store: Callable[[int, int], Replay] = replay.uniform,
) -> tuple[Part, int]:
    """An agent's update (`learning`), from a full replay, and how many batches it consumes: a
    critic step on each.
    """
    made, like = agent_of(name, actions, (hidden, hidden), dtype), shapes(observations, actions)
    rows = max(capacity, batch_size * made.batches)
    return learning(made.agent, store(rows, batch_size * made.batches), like, rows), made.batches


def updates(name: str, *, iterations: int, members: int = 1, **sizes: Any) -> harness.Contestant:
    """``iterations`` critic steps of each member, and what belongs to them, in one call; sizes as
    of `part_of`.
    """
    part, batches = part_of(name, **sizes)
    keys = jax.random.split(jax.random.key(0), members) if members > 1 else jax.random.key(0)
    return harness.scanned(*part, max(1, iterations // batches), keys, keys_each=(1, 2))


def loop(
    agent: Agent,
    env: Environment,
    *,
    capacity: int,
    batch_size: int,
    updates_per_step: int,
    iterations: int,
    keys: Key,
    collect_steps: int = 1,
) -> harness.Contestant:
    """``iterations`` vector steps of the whole loop, from a full replay; ``keys``: one, or one per
    seed to vmap over.
    """
    ring, like = replay.uniform(capacity, batch_size), harness.shaped(env.observation, env.action)
    behaviour = explore(agent, noise.chain(noise.gaussian(0.1), noise.clip()))
    trainer = train.make_train(
        agent,
        env,
        ring,
        behaviour,
        updates_per_step=updates_per_step,
        collect_steps=collect_steps,
        steps_per_chunk=iterations * env.num_envs,
    )

    def start(key: Key) -> learner.TrainState:
        init_key, fill_key = jax.random.split(key)
        state = trainer.init(init_key)
        return strong(
            dataclasses.replace(state, replay=harness.filled(ring, fill_key, like, capacity))
        )

    over = jax.vmap if keys.ndim else lambda function: function
    return harness.Contestant(over(trainer.chunk), jax.jit(over(start))(keys))
