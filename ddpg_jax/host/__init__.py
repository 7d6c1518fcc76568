"""The loop for environments on the host: the same learner as on the device, one packed row uploaded
per vector step.

While the host steps the environments the device learns: an action is chosen, then the updates of
the step before are started, then the environments step. So the policy that acts is one round of
updates behind that of `ddpg_jax.train`.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from ddpg_jax import rollout
from ddpg_jax.behaviour import random_actions
from ddpg_jax.environment import HostEnvironment
from ddpg_jax.host.loop import (
    EVALUATION,
    Hosted,
    Loop,
    NotFinite,
    Stopped,
    heed,
    interrupted,
    seed_of,
)
from ddpg_jax.host.programs import compile_all, make_programs
from ddpg_jax.learner import TrainState, make_learner
from ddpg_jax.reporting import Report
from ddpg_jax.schedule import Schedule
from ddpg_jax.types import Agent, AgentState, Behaviour, Key, Replay, Window

__all__ = ["HostTrain", "NotFinite", "Stopped", "interrupted", "make_evaluate", "make_train"]


class HostTrain(NamedTuple):
    """Training around host environments; the counterpart of `ddpg_jax.train.Train`, with effects on
    the environments.
    """

    init: Callable[[Key], TrainState]
    """``init(key)``: agent and empty replay. Pure."""
    warm_up: Callable[[TrainState], TrainState]
    """Store ``learning_starts`` transitions, fewer where steps are none. Consumes its argument."""
    chunk: Callable[..., tuple[TrainState, Report]]
    """``chunk(state, rounds=None)``: ``steps_per_chunk`` environment steps and their updates, or so
    many rounds. Consumes its argument.
    """
    schedule: Schedule
    begin: Callable[[int], None]
    """``begin(seed)``: reset the environments, before all else and on a state that was restored.
    Running episodes are cut (`interrupted`, which the next ``warm_up`` or ``chunk`` applies): their
    returns and lengths are in no report.
    """
    compile: Callable[[], list[jax.stages.Compiled]]
    """Compile everything now, which else happens on first use, and return what a chunk runs."""


def make_train(
    agent: Agent,
    env: HostEnvironment,
    replay: Replay,
    behaviour: Behaviour,
    *,
    learning_starts: int = 1_000,
    updates_per_step: int = 1,
    collect_steps: int = 1,
    steps_per_chunk: int = 1_000,
    warm_up: Behaviour | None = None,
    window: Window | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> HostTrain:
    """Compose an agent, host environments, a replay and a behaviour into training; arguments as in
    `ddpg_jax.train.make_train`.

    In next-step autoreset some steps are none: they take their time in the schedule, and are not
    stored.

    Args:
        stopped: looked at before each vector step of the warm-up; True abandons it, by `Stopped`,
            and the state that it consumed is gone. A chunk goes on to its end, so that there is a
            state to save.

    Raises:
        ValueError: as there; from ``warm_up`` and ``chunk`` where the environments have not begun.
    """
    schedule = Schedule(
        num_envs=env.num_envs,
        learning_starts=learning_starts,
        updates_per_step=updates_per_step,
        collect_steps=collect_steps,
        steps_per_chunk=steps_per_chunk,
        n_step=1 if window is None else window.length,
    )
    learner = make_learner(agent, env, replay, behaviour, window)
    warming = random_actions() if warm_up is None else warm_up

    def init(key: Key) -> TrainState:
        agent_key, behaviour_key, key = jax.random.split(key, 3)
        return learner.init(agent_key, key, rollout.begun(env, behaviour, behaviour_key))

    programs = make_programs(learner, env, behaviour, warming, schedule)
    loop = Loop(Hosted(env), programs, behaviour, warming, schedule, stopped)
    compile_now = lambda: compile_all(programs, init, env)
    return HostTrain(init, loop.warm_up, loop.chunk, schedule, loop.begin, compile_now)


def make_evaluate(
    agent: Agent, env: HostEnvironment, *, stopped: Callable[[], bool] = lambda: False
) -> Callable[[AgentState, int], np.ndarray]:
    """``evaluate(agent_state, seed) -> [E]`` undiscounted returns of one deterministic episode of
    each environment.

    No episode begins as one of training, whatever the seeds (`ddpg_jax.host.loop.seed_of`).

    Args:
        agent: its deterministic action is taken.
        env: with a time limit: an evaluation runs until the last first episode has ended.
        stopped: looked at before each vector step; True abandons the evaluation, by `Stopped`.

    Raises:
        ValueError: no time limit is known; from ``evaluate`` where an episode lasts longer than it.
    """
    limit, act = env.time_limit, jax.jit(agent.act)
    if limit is None:
        raise ValueError(
            "the environment has no time limit that is known, and an evaluation plays "
            "whole episodes: give it one (time_limit, "
            "or --time-limit), or register it with max_episode_steps."
        )

    def evaluate(agent_state: AgentState, seed: int) -> np.ndarray:
        observation = env.reset(seed_of(EVALUATION, seed))
        returns, alive = np.zeros(env.num_envs), np.ones(env.num_envs, bool)
        for _ in range(limit):
            heed(stopped)
            now = env.step(np.asarray(act(agent_state, observation)))
            returns += np.where(alive, now.reward, 0.0)
            alive &= ~(now.terminated | now.truncated)
            observation = now.observation
            if not alive.any():
                return returns
        raise ValueError(
            "an episode of an evaluation went on beyond the environment's time limit of "
            f"{limit} steps."
        )

    return evaluate
