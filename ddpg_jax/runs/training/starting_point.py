"""What a run begins with instead of nothing: another run's agent and replay, stored transitions."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import jax
import numpy as np

from ddpg_jax.envs.described import described
from ddpg_jax.runs.checkpoints.manifest import specification
from ddpg_jax.runs.config.stored import load_config
from ddpg_jax.runs.distributed import arrays
from ddpg_jax.runs.options.validation import RunError
from ddpg_jax.runs.programs.setup import declared
from ddpg_jax.runs.results import policy
from ddpg_jax.runs.training import offline

if TYPE_CHECKING:
    from collections.abc import Callable

    from ddpg_jax.learner import TrainState
    from ddpg_jax.runs.config.run_config import Config
    from ddpg_jax.runs.programs.build import Built
    from ddpg_jax.types import AgentState, NetworkState, PyTree, Transition


class StartingPoint(NamedTuple):
    """What was read before anything is compiled, of this run's members; None where not wanted."""

    agent: AgentState | None
    replay: PyTree | None
    transitions: Transition | None
    """`ddpg_jax.runs.training.offline.read`."""


def read(config: Config, built: Built, transitions: Transition | None) -> StartingPoint:
    """Read what a run begins with; ``transitions`` where they were read before.

    Raises:
        RunError: it cannot begin with this.
        FileNotFoundError, ValueError: as of `ddpg_jax.runs.results.policy.restore_policy`.
    """
    if config.offline and transitions is None:
        transitions = offline.read(config)
    if not config.start_from:
        return StartingPoint(None, None, transitions)
    folder = Path(config.start_from)
    theirs = load_config(folder)
    select, replay = _selected(config, theirs), None
    agent = select(arrays.to_host(policy.restore_policy(folder, config.start_checkpoint)[-1]))
    like = built.state.agent
    _require_same(config, _kept(config, agent), _kept(config, like))
    if config.start_with == "replay":
        _require_same_meaning(config, theirs)
        replay = select(offline.read_replay(folder, theirs, config.start_checkpoint))
        _require_same(config, replay, built.state.replay)
    return StartingPoint(agent, replay, transitions)


def put(point: StartingPoint, state: TrainState, config: Config, built: Built) -> TrainState:
    """Return a state that begins with what was read; its replay is donated."""
    if point.agent is not None:
        agent = arrays.to_devices(point.agent, built.state.agent)
        if config.start_with == "networks":
            agent = dataclasses.replace(
                agent,
                actor=_with_optimizer(agent.actor, state.agent.actor),
                critic=_with_optimizer(agent.critic, state.agent.critic),
                step=state.agent.step,
            )
        state = dataclasses.replace(state, agent=agent)
    if point.replay is not None:
        replay = arrays.to_devices(point.replay, built.state.replay)
        state = dataclasses.replace(state, replay=replay)
    if point.transitions is not None:
        env = declared(config, described(built.described) if built.described else None)
        replay = offline.fill(config, point.transitions, state.replay, env)
        state = dataclasses.replace(state, replay=replay)
    return state


def _with_optimizer(network: NetworkState, other: NetworkState) -> NetworkState:
    return dataclasses.replace(network, opt_state=other.opt_state)


def _selected(config: Config, theirs: Config) -> Callable[[PyTree], PyTree]:
    """Return what turns arrays of their members into those of ours."""
    ours, count = config.seeds, theirs.seeds
    if config.evolve:
        raise RunError("members that evolve cannot start from another run: leave start_from out.")
    if config.start_member is not None:
        policy.require_member(theirs, config.start_member)
        chosen = [config.start_member] * ours
    elif count in (1, ours):
        chosen = list(range(ours)) if count == ours else [0] * ours
    else:
        raise RunError(
            f"start_from={config.start_from} has {count} members and this run {ours}: give "
            "--start-member, or as many --seeds."
        )
    axis = (lambda x: x) if count > 1 else (lambda x: x[None])
    index = np.array(chosen) if ours > 1 else chosen[0]
    return lambda tree: jax.tree.map(lambda x: axis(x)[index], tree)


def _kept(config: Config, agent: AgentState) -> AgentState:
    """Return what is taken over of an agent."""
    if config.start_with != "networks":
        return agent
    bare = lambda network: dataclasses.replace(network, opt_state=())
    return dataclasses.replace(agent, actor=bare(agent.actor), critic=bare(agent.critic))


def _require_same(config: Config, found: PyTree, wanted: PyTree) -> None:
    pairs = itertools.zip_longest(specification(found), specification(arrays.raw_shapes(wanted)))
    for there, here in pairs:
        if there != here:
            told = [one and f"{one[0]} of {one[1]}{one[2]}" for one in (there, here)]
            raise RunError(
                f"start_from={config.start_from} has {told[0]} where this run has {told[1]}: give "
                "the same networks, and an environment with the same shapes."
            )


def _require_same_meaning(config: Config, theirs: Config) -> None:
    """Refuse hyper-parameters whose old values lie in what is taken over."""
    own, old = config.hyperparameters, vars(theirs.hyperparameters)
    for name, value in vars(own).items():
        if value != old.get(name) and (kept := own.keeps(name)):
            raise RunError(
                f"{name}={value} (there: {old.get(name)}): {kept}. Leave it out, or start with "
                "--start-with agent."
            )
