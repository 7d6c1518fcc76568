"""The PyTorch lecture on Pendulum, with its deviations from the paper.

A linear actor whose action is the torque in N m, stored as it is and clipped only by the
environment; the action joins the critic at its first layer; all layers start at fan-in; the time
limit counts as terminal; the noise never resets.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import ddpg_jax
from ddpg_jax.runs.options.preset import Components, Preset
from ddpg_jax.runs.presets import components, ddpg

if TYPE_CHECKING:
    from ddpg_jax.environment import Environment, TimeStep
    from ddpg_jax.types import Array, PyTree


def compose(hyperparameters: ddpg.DDPGHyperparameters, env: Environment) -> Components:
    """Compose DDPG with the lecture's linear actor, initial weights and noise."""
    if hyperparameters.inverting_gradients:
        raise ValueError(
            "inverting_gradients=True: the lecture's actions are unbounded; leave it False."
        )
    linear = components.actor(hyperparameters, env, output=lambda x: x, final_bound=None)
    agent = ddpg.make_agent(
        hyperparameters, linear, components.critic(hyperparameters, env, final_bound=None)
    )
    noise = ddpg_jax.noise.ornstein_uhlenbeck(hyperparameters.stddev, reset_at_episode_start=False)
    return components.assemble(
        hyperparameters,
        agent,
        lambda agent: ddpg_jax.behaviour.explore(agent, noise),
        own_warm_up=True,
    )


def in_torques(env: Environment) -> Environment:
    """Wrap an environment: actions are torques in N m, and the time limit terminates."""
    from ddpg_jax.envs.pendulum import MAX_TORQUE

    def step(state: PyTree, action: Array, key: Array) -> tuple[PyTree, TimeStep]:
        state, time_step = env.step(state, action / MAX_TORQUE, key)
        done = time_step.terminated | time_step.truncated
        return state, replace(time_step, terminated=done, truncated=done & False)

    return env._replace(
        step=step, native_action=lambda action: env.native_action(action / MAX_TORQUE)
    )


PRESETS = (
    Preset(
        name="pendulum-lecture",
        summary="The PyTorch lecture on Pendulum, with its deviations from the paper.",
        source="""
            A lecture's DDPG in PyTorch: 2x64 ReLU, Adam 1e-3 both, tau 0.001, batch 64, buffer
            10,000, Ornstein-Uhlenbeck 0.15 and 0.2 (in N m, dt 1) that never resets, linear actor,
            action unclipped, time limit terminal, gamma 0.99, 1,000 episodes after the first full
            batch.
        """,
        ours="""
            all episodes are played (there it ends once the mean of the last 100 returns is above
            -300).
        """,
        hyperparameters=ddpg.DDPGHyperparameters(
            total_timesteps=200_064,
            learning_starts=64,
            batch_size=64,
            replay_capacity=10_000,
            hidden=(64, 64),
            tau=0.001,
            actor_learning_rate=1e-3,
            critic_learning_rate=1e-3,
            stddev=0.2,
        ),
        compose=compose,
        exact=True,
        only_for="pendulum",
        around=in_torques,
    ),
)
