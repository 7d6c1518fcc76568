"""Collecting transitions and evaluating policies, on the device."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from ddpg_jax.environment import Environment, HostEnvironment, TimeStep
from ddpg_jax.reporting import Episodes
from ddpg_jax.types import (
    Agent,
    AgentState,
    Array,
    Behaviour,
    Key,
    Policy,
    PyTree,
    Transition,
    zeros,
)

TRIES = 10
"""For so many time limits an evaluation waits for an episode that does not break down."""


@struct.dataclass
class Collector:
    """The environments and what acts in them, between two steps.

    ``reset: [E]`` is True where the next action is the first of an episode; ``episode_return`` and
    ``episode_length: [E]`` belong to the running episodes.
    """

    env_state: PyTree
    observation: PyTree
    behaviour: PyTree
    reset: Array
    episode_return: Array
    episode_length: Array


def begin(env: Environment, behaviour: Behaviour, key: Key) -> Collector:
    """Reset the environments and the behaviour; consumes ``key``."""
    env_key, behaviour_key = jax.random.split(key)
    return begun(env, behaviour, behaviour_key, *env.reset(env_key))


def begun(
    env: Environment | HostEnvironment,
    behaviour: Behaviour,
    key: Key,
    env_state: PyTree = (),
    observation: PyTree = (),
) -> Collector:
    """The collector of environments that were reset; it knows nothing more of those on the host.

    Consumes ``key`` in the behaviour.
    """
    count = env.num_envs
    return Collector(
        env_state=env_state,
        observation=observation,
        behaviour=behaviour.init(key, zeros(env.action, count)),
        reset=jnp.ones(count, bool),
        episode_return=jnp.zeros(count, jnp.float32),
        episode_length=jnp.zeros(count, jnp.int32),
    )


def collect(
    env: Environment, behaviour: Behaviour
) -> Callable[[Collector, AgentState, Key, Key], tuple[Collector, Transition, Episodes]]:
    """One step of all environments.

    Returns:
        ``step(collector, agent_state, action_key, env_key) -> (collector, transitions, episodes)``;
            the transitions
        ``[E, ...]`` hold the action as executed, the true successor, and ``discount`` 0 only where
            terminated.
    """

    def step(
        collector: Collector, agent_state: AgentState, action_key: Key, env_key: Key
    ) -> tuple[Collector, Transition, Episodes]:
        action, behaviour_state = behaviour.act(
            collector.behaviour, agent_state, collector.observation, action_key, collector.reset
        )
        with jax.named_scope("environment"):
            env_state, time_step = env.step(collector.env_state, action, env_key)
        transition = Transition(
            observation=collector.observation,
            action=action,
            reward=time_step.reward,
            discount=1.0 - time_step.terminated.astype(jnp.float32),
            next_observation=time_step.next_observation,
            valid=time_step.valid,
        )
        done = time_step.terminated | time_step.truncated
        whole = done if time_step.valid is None else done & time_step.valid
        episode_return = collector.episode_return + time_step.reward
        episode_length = collector.episode_length + 1
        episodes = Episodes(
            count=jnp.sum(whole, dtype=jnp.float32),
            return_sum=jnp.sum(jnp.where(whole, episode_return, 0.0)),
            length_sum=jnp.sum(jnp.where(whole, episode_length, 0).astype(jnp.float32)),
            broken=jnp.sum(done & ~whole, dtype=jnp.float32),
        )
        collector = replace(
            collector,
            env_state=env_state,
            behaviour=behaviour_state,
            observation=time_step.observation,
            reset=done,
            episode_return=jnp.where(done, 0.0, episode_return),
            episode_length=jnp.where(done, 0, episode_length),
        )
        return collector, transition, episodes

    return step


# Folded into a key of an environment's step, for a policy that draws; `jax.random.split` uses small
# numbers.
_ACTING = 0x5EED_AC70


def deterministic(agent: Agent) -> Policy:
    """The agent's deterministic action; it remembers nothing and sees observations alone."""
    return Policy(
        lambda key, env_state: (),
        lambda state, agent_state, env_state, observation, key: (
            agent.act(agent_state, observation),
            state,
        ),
    )


def _policy(of: Agent | Policy) -> Policy:
    return of if isinstance(of, Policy) else deterministic(of)


def _start(env: Environment, policy: Policy, key: Key) -> tuple[Any, Key]:
    """``(env_state, observation, policy_state)`` where episodes begin, and a key."""
    reset_key, key = jax.random.split(key)
    env_state, observation = env.reset(reset_key)
    policy_state = policy.init(jax.random.fold_in(reset_key, _ACTING), env_state)
    return (env_state, observation, policy_state), key


def _step(
    env: Environment, policy: Policy, agent_state: AgentState, now: Any, env_key: Key
) -> tuple[Any, TimeStep]:
    """One step from where `_start`, or the step before, ended."""
    env_state, observation, policy_state = now
    act_key = jax.random.fold_in(env_key, _ACTING)
    action, policy_state = policy.act(policy_state, agent_state, env_state, observation, act_key)
    env_state, time_step = env.step(env_state, action, env_key)
    return (env_state, time_step.observation, policy_state), time_step


def make_evaluate(policy: Agent | Policy, env: Environment) -> Callable[[AgentState, Key], Array]:
    """Evaluation: each of the ``E`` environments plays exactly one episode, from a fresh start.

    Args:
        policy: an agent, whose deterministic action is taken, or what else acts, a planner for
            example.
        env: with a time limit: an evaluation runs until the last first episode has ended.

    Returns:
        ``evaluate(agent_state, key) -> [E]`` undiscounted returns. Does not touch the training
        state. An episode that a breakdown of the simulation cuts off is played again, from another
        start; the return is NaN where none held out within `TRIES` time limits.
    """
    limit, acting = TRIES * env.time_limit, _policy(policy)

    def evaluate(agent_state: AgentState, key: Key) -> Array:
        now, loop_key = _start(env, acting, key)

        def running(carry: Any) -> Array:
            _, _, alive, _, steps = carry
            return jnp.any(alive) & (steps < limit) if env.breaks else jnp.any(alive)

        def step(carry: Any) -> Any:
            now, returns, alive, key, steps = carry
            key, env_key = jax.random.split(key)
            now, time_step = _step(env, acting, agent_state, now, env_key)
            returns = returns + jnp.where(alive, time_step.reward, 0.0)
            done = time_step.terminated | time_step.truncated
            if time_step.valid is not None:
                returns = jnp.where(alive & ~time_step.valid, 0.0, returns)
                done = done & time_step.valid
            return now, returns, alive & ~done, key, steps + 1

        alive, steps = jnp.ones(env.num_envs, bool), jnp.int32(0)
        returns = jnp.zeros(env.num_envs, jnp.float32)
        carry = (now, returns, alive, loop_key, steps)
        _, returns, alive, *_ = jax.lax.while_loop(running, step, carry)
        return jnp.where(alive, jnp.nan, returns) if env.breaks else returns

    return evaluate


def make_trajectory(
    policy: Agent | Policy, env: Environment, steps: int
) -> Callable[[AgentState, Key], PyTree]:
    """``trajectory(agent_state, key) -> env_states`` with leading axis ``[steps, E]``, of an
    agent's deterministic actions or another policy's; for rendering.
    """
    acting = _policy(policy)

    def trajectory(agent_state: AgentState, key: Key) -> PyTree:
        start, loop_key = _start(env, acting, key)

        def step(now: Any, env_key: Key) -> tuple[Any, PyTree]:
            return _step(env, acting, agent_state, now, env_key)[0], now[0]

        return jax.lax.scan(step, start, jax.random.split(loop_key, steps))[1]

    return trajectory


def frames(env: Environment, env_states: PyTree) -> PyTree:
    """What a `Renderer` draws, of a `make_trajectory`: the states ``[T, ...]`` of environment 0's
    `SingleEnvironment`.
    """
    return jax.tree.map(lambda x: x[:, 0], env.single_state(env_states))
