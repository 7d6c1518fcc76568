"""What a run begins with instead of nothing: another run's agent and replay, stored transitions."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ddpg_jax.envs.described import described
from ddpg_jax.runs.checkpoints.manifest import specification
from ddpg_jax.runs.checkpoints.stored_replay import read_replay
from ddpg_jax.runs.config import mesh
from ddpg_jax.runs.config.population import own_hyperparameters
from ddpg_jax.runs.config.stored import load_config
from ddpg_jax.runs.distributed import arrays
from ddpg_jax.runs.options.validation import RunError
from ddpg_jax.runs.programs import setup
from ddpg_jax.runs.results import policy
from ddpg_jax.runs.training import offline
from ddpg_jax.types import Transition

if TYPE_CHECKING:
    from collections.abc import Callable

    from ddpg_jax.learner import TrainState
    from ddpg_jax.runs.config.run_config import Config
    from ddpg_jax.runs.programs.build import Built
    from ddpg_jax.types import AgentState, NetworkState, PyTree


class StartingPoint(NamedTuple):
    """What was read before anything is compiled, of this run's members; None where not wanted."""

    agent: AgentState | None
    replay: PyTree | None
    transitions: Transition | None
    """`ddpg_jax.runs.training.offline.read`."""


def read(config: Config, built: Built, transitions: Any = None) -> StartingPoint:
    """Read what a run begins with; ``transitions``: read before, or arrays that were given.

    Raises:
        RunError: it cannot begin with this.
        FileNotFoundError, ValueError: as of `ddpg_jax.runs.results.policy.restore_policy`.
    """
    if config.offline and not isinstance(transitions, Transition):
        transitions = offline.read(config, transitions)
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
        replay = select(read_replay(folder, theirs, config.start_checkpoint))
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
        else:
            agent = _with_rates_of_the_begin(agent)
        state = dataclasses.replace(state, agent=agent)
    if point.replay is not None:
        replay = arrays.to_devices(point.replay, built.state.replay)
        if hasattr(replay, "cut"):
            replay = replay.cut()
        state = dataclasses.replace(state, replay=replay)
    if point.transitions is not None:
        env = setup.declared(config, described(built.described) if built.described else None)
        replay = fill(config, point.transitions, state.replay, env)
        state = dataclasses.replace(state, replay=replay)
    return state


def _with_rates_of_the_begin(agent: AgentState) -> AgentState:
    """Return an agent whose learning rates, where they fall over a run, have not fallen yet."""
    scheduled = lambda x: isinstance(x, optax.ScaleByScheduleState)
    begin = lambda x: x._replace(count=jnp.zeros_like(x.count)) if scheduled(x) else x
    begun: AgentState = jax.tree.map(begin, agent, is_leaf=scheduled)
    return begun


def _with_optimizer(network: NetworkState, other: NetworkState) -> NetworkState:
    return dataclasses.replace(network, opt_state=other.opt_state)


def _selected(config: Config, theirs: Config) -> Callable[[PyTree], PyTree]:
    """Return what turns arrays of their members into those of ours."""
    ours, count = config.seeds, theirs.seeds
    if config.evolve:
        raise RunError("members that evolve cannot start from another run: leave start_from out.")
    differ = [name for name in config.vary if name != "seed"]
    if differ and config.start_member is None and count > 1:
        raise RunError(
            f"start_from={config.start_from} has {count} members, and those of this run differ in "
            f"{differ[0]}: give --start-member, with which all begin."
        )
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
    """Refuse hyper-parameters whose old values lie in what is taken over, of any member."""
    sides = config, theirs
    ours, old = (side.hyperparameters.num_envs for side in sides)
    if old % ours:  # a block that is added would not fit at the end of the ring
        raise RunError(
            f"num_envs={ours} (there: {old}): its replay is filled in blocks of {old}. Give that "
            "or a divisor of it, or start with --start-with agent."
        )
    for name in vars(config.hyperparameters):
        kept = [side.hyperparameters.keeps(name) for side in sides if _has(side, name)]
        own, known = (_values(side, name) for side in sides)
        if any(kept) and (own != known or len(own) > 1):
            raise RunError(
                f"{name}={min(own)} (there: {min(known, default=None)}): {max(kept)}. Leave it "
                "out, or start with --start-with networks."
            )


def _has(config: Config, name: str) -> bool:
    return name in vars(config.hyperparameters)


def _values(config: Config, name: str) -> set[float]:
    """Return the values of a hyper-parameter over the members of a run."""
    if not _has(config, name):
        return set()
    common = getattr(config.hyperparameters, name)
    each = (own_hyperparameters(config.vary, member) for member in range(config.seeds))
    return {own.get(name, common) for own in each}


def fill(config: Config, transitions: Transition, replay: PyTree, env: Any) -> PyTree:
    """Return the state of the run's replay, of all members and shards, with transitions in it: of
    more than fit, or than can be dealt to all alike, the newest. The given one is donated.
    """
    shards, own = mesh.parse_mesh(config.mesh).data, config.hyperparameters
    count = len(transitions.reward)
    if config.offline_share:
        part, most, block = setup.offline_replay(config, own, shards), count, count // shards
    else:
        part = setup.compose(config, env, shards).replay
        if part.of_episodes:
            raise RunError(
                f"offline={config.offline}: stored transitions are of no known episodes, which "
                f"hindsight={own.hindsight} needs: leave one of the two out."
            )
        most, block = own.replay_capacity, own.num_envs // shards
    kept = min(count, most) // (block * shards) * block * shards
    if not kept:
        raise RunError(
            f"offline={config.offline} has {count} transitions, and they are added num_envs="
            f"{own.num_envs} at once: give more, or lower --num-envs."
        )
    deal = lambda x: np.moveaxis(x[count - kept :].reshape(-1, shards, block, *x.shape[1:]), 1, 0)
    blocks = jax.tree.map(deal, transitions)
    if shards == 1:
        blocks = jax.tree.map(lambda x: x[0], blocks)

    def one(state: PyTree, blocks: Transition) -> PyTree:
        def add(state: PyTree, block: Transition) -> tuple[PyTree, None]:
            return part.add(state, block, jnp.ones(len(block.reward), bool)), None

        return jax.lax.scan(add, state, blocks)[0]

    over = jax.vmap(one) if shards > 1 else one
    over = jax.vmap(over, in_axes=(0, None)) if config.seeds > 1 else over
    given = replay.offline if config.offline_share else replay
    lying = jax.tree.map(lambda x: x.sharding, given)
    filled = jax.jit(over, donate_argnums=0, out_shardings=lying)(given, blocks)
    return replay.replace(offline=filled) if config.offline_share else filled
