"""Restores a run's training state on the mesh of now, whatever mesh it was saved on, or its agent
alone.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from ddpg_jax.learner import TrainState
from ddpg_jax.runs.checkpoints.store import Checkpoints
from ddpg_jax.runs.config import mesh as runs_mesh
from ddpg_jax.runs.distributed import arrays, processes
from ddpg_jax.runs.folder import files
from ddpg_jax.runs.programs import build
from ddpg_jax.runs.programs.setup import compose, environment, member_hyperparameters, member_keys
from ddpg_jax.types import Dealt, is_key

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ddpg_jax.population import Programs
    from ddpg_jax.runs.config.mesh import Mesh
    from ddpg_jax.runs.config.run_config import Config
    from ddpg_jax.types import Agent, AgentState, PyTree

NEW_SHARDS = 0x5AD0
"""Folded into a member's key, with the steps: what environments on new shards begin with."""


def restore_agent(
    folder: Path,
    config: Config,
    env: Any,
    say: Callable[[str], None],
    checkpoint: str = files.LAST,
) -> tuple[list[int], Agent, AgentState, dict[str, Any]]:
    """The agent of a checkpoint of a run, on the default device, as
    ``(steps of each member, agent, state, record)``; nothing else is read into memory.

    Args:
        folder: of the run.
        config: the run's.
        env: has the shapes of the run's environment.
        say: told of damaged checkpoints.
        checkpoint: "last", the newest that can be read; "best", of the best evaluation of each
            member; or the environment steps of one that is kept.

    Raises:
        FileNotFoundError, ValueError: as of `Checkpoints.restore`.
    """
    agent, like = build.agent_of(config, env)
    part = ".members.agent" if config.evolve else ".agent"
    place, part = (files.BEST, "") if checkpoint == files.BEST else (files.CHECKPOINTS, part)
    only = None
    if checkpoint not in (files.LAST, files.BEST):
        if not checkpoint.isdecimal():
            raise ValueError(
                f"checkpoint={checkpoint}: give {files.BEST}, {files.LAST} or the environment "
                "steps of one that is kept."
            )
        only = int(checkpoint)
    with contextlib.closing(Checkpoints(folder / place, read_only=True)) as checkpoints:
        found = checkpoints.newest(lambda about: like, say, part, only)
    steps = found.record.get("env_steps", [found.step] * config.seeds)
    return steps, agent, arrays.to_devices(found.state, like), found.record


def restore_run(
    checkpoints: Checkpoints,
    config: Config,
    like: PyTree,
    programs: Programs,
    say: Callable[[str], None],
) -> tuple[int, PyTree, dict[str, Any]]:
    """The newest checkpoint that can be read, as ``(step, state, record)``; all processes call it.

    On another number of shards agent and replay are restored, and environments begin new episodes.

    Args:
        checkpoints: of the run.
        config: the run's, with the mesh of now.
        like: shapes of the state, with their shardings where it is on a mesh.
        programs: of the mesh of now: begin the environments of new shards.
        say: told of damaged checkpoints, and of another mesh or number of processes.

    Raises:
        FileNotFoundError: as of `Checkpoints.restore`.
        ValueError: as of `Checkpoints.restore`, or the replay cannot be dealt to other shards.
    """
    now = runs_mesh.parse_mesh(config.mesh)

    def shapes(about: dict[str, Any]) -> PyTree:
        saved = _mesh(about["record"])
        return (
            like
            if saved.data == now.data
            else build.state_shapes(dataclasses.replace(config, mesh=str(saved)))
        )

    found = checkpoints.newest(shapes, say)
    saved, state = _mesh(found.record), found.state
    before, after = _told(saved, found.processes), _told(now, processes.process_count())
    kept = "State is fully restored"
    if saved.data != now.data:
        keys = _keys_of_new_shards(config, found.step)
        begun = programs.start(keys, member_hyperparameters(config))
        if config.has_start:  # its window has no steps yet
            begun = build.compile_warm_up(config)(begun, member_hyperparameters(config))
        state, lost = resharded(state, begun, _dealer(config, saved, now), config.seeds > 1)
        kept = "Agents and replay are restored" + (
            f" but for the oldest {lost} transitions" if lost else ""
        )
        kept += ", environments begin new episodes"
    if before != after:
        say(
            f"was trained on {before} and is resumed on {after}. {kept}; results will not be "
            "bit-identical to a run on the original mesh."
        )
    return found.step, arrays.to_devices(state, like), found.record


def _mesh(record: dict[str, Any]) -> Mesh:
    return runs_mesh.parse_mesh(record["config"].get("mesh", ""))


def _told(mesh: Mesh, count: int) -> str:
    return f"mesh={mesh}" + (f" of {count} processes" if count > 1 else "")


def _keys_of_new_shards(config: Config, step: int) -> jax.Array:
    keys = member_keys(config)
    derive = lambda key: jax.random.fold_in(jax.random.fold_in(key, NEW_SHARDS), step % 2**32)
    return jax.vmap(derive)(keys) if config.seeds > 1 else derive(keys)


def _dealer(config: Config, saved: Mesh, now: Mesh) -> Callable[[PyTree], Dealt]:
    """``deal(replay)``: from that of a member on the saved mesh to the mesh of now."""
    env = environment(config, config.hyperparameters.num_envs // now.data)
    deal = compose(config, env, now.data).replay.deal
    if deal is None:
        raise ValueError(
            f"its replay cannot be dealt from data={saved.data} to data={now.data}: resume on "
            f"--mesh {saved}."
        )

    def one(replay: PyTree) -> Dealt:
        shards = replay if saved.data > 1 else jax.tree.map(lambda x: x[None], replay)
        dealt = deal(shards, now.data)
        return (
            dealt
            if now.data > 1
            else dealt._replace(state=jax.tree.map(lambda x: x[0], dealt.state))
        )

    return one


def resharded(
    state: PyTree, begun: PyTree, deal: Callable[[PyTree], Dealt], many: bool
) -> tuple[PyTree, int]:
    """What training has learned and stored, around environments on other shards.

    Steps, and what exploration counts over all environments, continue; what it has of each
    environment begins with the episodes.

    Args:
        state: NumPy's arrays, of random keys their data, on the old shards.
        begun: a state of the same run that begins on the new shards; its replay is deleted.
        deal: from the replay of a member on the old shards to the new ones.
        many: whether there is an axis of members before that of shards.

    Returns:
        The state, NumPy's arrays beside JAX's, and how many transitions are lost.
    """
    lost = 0

    def replay(stored: PyTree) -> PyTree:
        nonlocal lost
        members = [stored]
        if many:
            count = len(jax.tree.leaves(stored)[0])
            own = lambda i: jax.tree.map(lambda x: x[i], stored)
            members = [own(i) for i in range(count)]
        dealt = [deal(member) for member in members]
        lost += sum(each.lost for each in dealt)
        states = [each.state for each in dealt]
        return jax.tree.map(lambda *x: np.stack(x), *states) if many else states[0]

    def one(saved: Any, new: Any) -> Any:
        if not isinstance(saved, TrainState):
            return saved  # of an evolving population
        for x in jax.tree.leaves(new.replay):
            x.delete()
        counts = functools.partial(
            _least, axis=int(many), before=saved.steps.ndim > many, after=new.steps.ndim > many
        )
        behaviour = jax.tree.map(counts, saved.collector.behaviour, new.collector.behaviour)
        return dataclasses.replace(
            new,
            agent=saved.agent,
            replay=replay(saved.replay),
            steps=counts(saved.steps, new.steps),
            bad=jax.tree.map(counts, saved.bad, new.bad),
            collector=dataclasses.replace(new.collector, behaviour=behaviour),
        )

    made = jax.tree.map(one, state, begun, is_leaf=lambda x: isinstance(x, TrainState))
    return made, lost


def _least(x: Any, begun: Any, *, axis: int, before: bool, after: bool) -> Any:
    """The least value over the shards ``before``, in each one ``after``; ``begun`` where it is of
    each environment.
    """
    x = x.min(axis=axis) if before else x
    x = np.expand_dims(x, axis) if after else x
    one = (*begun.shape[:axis], 1, *begun.shape[axis + 1 :]) if after else begun.shape
    return begun if is_key(begun) or x.shape != one else np.broadcast_to(x, begun.shape)
