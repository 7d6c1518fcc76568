"""The policy of a finished run: restored from a checkpoint, called, played."""

import contextlib
import dataclasses
import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ddpg_jax.envs.described import described
from ddpg_jax.envs.observed import looked_at, observed
from ddpg_jax.runs.checkpoints import resharding
from ddpg_jax.runs.config.run_config import Config
from ddpg_jax.runs.config.stored import (
    load_config,
    read_stored,
    registered,
    require_same_config,
)
from ddpg_jax.runs.folder import files
from ddpg_jax.runs.programs import evaluation, setup
from ddpg_jax.runs.results import statistics
from ddpg_jax.types import Agent, AgentState


def restore_policy(
    folder: Path, checkpoint: str = files.LAST
) -> tuple[Config, Agent, list[int], AgentState]:
    """Return configuration, agent, environment steps of each member, and agent state.

    ``checkpoint`` is one of `ddpg_jax.runs.checkpoints.resharding.restore_agent`.

    Raises:
        FileNotFoundError: the folder holds no run, or no readable checkpoint.
        ValueError: its checkpoints are of another version of this library or configuration.
    """
    config, env = declared_environment(folder)
    say = lambda text: print(text, file=sys.stderr)
    try:
        steps, agent, state, record = resharding.restore_agent(folder, config, env, say, checkpoint)
    except FileNotFoundError as error:
        remedy = "restore one" if "can be read" in str(error) else "train it first"
        remedy = remedy if checkpoint == files.LAST else "choose another --checkpoint"
        where = folder / files.BEST if checkpoint == files.BEST else folder
        raise FileNotFoundError(f"{where} has {error}: {remedy}.") from error
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from error
    require_same_config(record["config"], config.flat())
    act = agent.act
    return config, agent._replace(act=_checked(env, act)), steps, state


def _checked(env: Any, act: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``act(agent_state, observation)`` of observations that fit (`observed`)."""

    def checked(agent_state: AgentState, observation: Any) -> Any:
        own = functools.partial(act, agent_state)
        check = observed(env.observation, lambda: looked_at(own, env.observation))
        return act(agent_state, check(observation))

    return checked


def declared_environment(folder: Path) -> tuple[Config, Any]:
    """Return the configuration of a run, and its environment for its shapes and actions alone.

    Raises:
        FileNotFoundError: the folder holds no run.
        ValueError: a file in it is damaged.
    """
    config = dataclasses.replace(load_config(folder), mesh="")  # one device, also of a run on more
    path, known = folder / files.ENVIRONMENT, None
    if path.is_file():
        known = read_stored(path, "run", "train", described)
    with registered(folder):
        return config, setup.declared(config, known)


def load_policy(folder: Path, member: int, checkpoint: str = files.LAST) -> Callable[[Any], Any]:
    """Return the compiled policy of one member of the run in a folder, see `policy_function`.

    Raises:
        ValueError: there is no such member.
    """
    _, agent, _, agent_state = restore_policy(folder, checkpoint)
    return policy_function(folder, agent, agent_state, member)


def policy_function(
    folder: Path, agent: Agent, agent_state: AgentState, member: int
) -> Callable[[Any], Any]:
    """Return ``action(observation)`` for ``[B, ...]``, compiled, in the environment's own units.

    Args:
        folder: of the run.
        agent: as it was trained there.
        agent_state: of all members.
        member: the one whose policy it is.

    Raises:
        ValueError: there is no such member; or from the function, observations have other names,
            shapes or dtypes than the environment's.
    """
    config, env = declared_environment(folder)
    state = member_state(config, agent_state, member)
    own = functools.partial(agent.act, state)
    act = jax.jit(lambda observation: env.native_action(own(observation)))
    check = observed(env.observation, lambda: looked_at(own, env.observation))
    return lambda observation: act(check(observation))


def evaluate(
    folder: Path,
    episodes: int,
    seed: int,
    member: int | None = None,
    copies: int | None = None,
    checkpoint: str = files.LAST,
) -> dict[str, Any]:
    """Evaluate each member of a run, or one, in ``episodes`` new deterministic episodes.

    On the host they are played by ``copies`` of the environment, by default one for each.

    Raises:
        ValueError: there is no such member.
    """
    config, agent, steps, agent_state = restore_policy(folder, checkpoint)
    require_member(config, member or 0)
    steps = steps if member is None else [steps[member]]
    keys = evaluation.evaluation_keys(config, evaluation.LATER_STREAM, seed)
    if member is not None and config.seeds > 1:  # it alone is played
        agent_state, keys = jax.tree.map(lambda x: x[member], (agent_state, keys))
        config = dataclasses.replace(config, seeds=1)
    with registered(folder), contextlib.ExitStack() as opened:
        play = evaluation.make_evaluator(config, agent, episodes, opened, copies)
        played = np.asarray(play(agent_state, keys), np.float64)
    evaluation.require_finite_returns(played, config)
    returns = played.reshape(config.seeds, -1)
    means = returns.mean(axis=1)
    return {
        "run": str(folder),
        "env": config.env,
        "checkpoint": checkpoint,
        "env_steps": steps[0] if len({*steps}) == 1 else steps,
        "episodes": episodes,
        "seed": seed,
        **({} if member is None else {"member": member}),
        **statistics.return_statistics(means, returns.std(axis=1)),
    }


def member_state(config: Config, agent_state: AgentState, member: int) -> AgentState:
    """Return the agent state of one member of a run.

    Raises:
        ValueError: there is no such member.
    """
    require_member(config, member)
    return agent_state if config.seeds == 1 else jax.tree.map(lambda x: x[member], agent_state)


def require_member(config: Config, member: int) -> None:
    """Refuse a member that a run does not have.

    Raises:
        ValueError: there is no such member.
    """
    if member >= config.seeds:
        raise ValueError(
            f"member={member}: this run has {config.seeds} member(s), numbered from 0."
        )
