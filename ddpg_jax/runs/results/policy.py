"""The policy of a finished run: restored from its newest checkpoint, called, exported."""

from __future__ import annotations

import dataclasses
import sys
from typing import TYPE_CHECKING, Any

import jax

from ddpg_jax.export import policy
from ddpg_jax.runs.checkpoints.resharding import restore_agent
from ddpg_jax.runs.checkpoints.store import Checkpoints
from ddpg_jax.runs.config.stored import load_config, require_same_config
from ddpg_jax.runs.folder import output_path
from ddpg_jax.runs.folder.files import write_file
from ddpg_jax.runs.programs.setup import environment

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ddpg_jax.runs.config.run_config import Config
    from ddpg_jax.types import Agent, AgentState


def restore_policy(folder: Path) -> tuple[Config, Agent, int, AgentState]:
    """Return configuration, agent, environment steps and agent state of the newest checkpoint.

    Raises:
        FileNotFoundError: the folder holds no run, or no readable checkpoint.
        ValueError: its checkpoints are of another version of this library or configuration.
    """
    config = load_config(folder)
    if not (folder / "checkpoints").is_dir():
        raise FileNotFoundError(f"{folder} has no checkpoint: train it first.")
    config = dataclasses.replace(config, mesh="")  # one device, also of a run on more
    checkpoints = Checkpoints(folder / "checkpoints", read_only=True)
    say = lambda text: print(text, file=sys.stderr)
    try:
        steps, agent, state, record = restore_agent(checkpoints, config, say)
    except FileNotFoundError as error:
        remedy = "restore one" if checkpoints.steps() else "train it first"
        raise FileNotFoundError(f"{folder} has {error}: {remedy}.") from error
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from error
    finally:
        checkpoints.close()
    require_same_config(record["config"], config.flat())
    return config, agent, steps, state


def load_policy(folder: Path, member: int) -> Callable[[Any], Any]:
    """Return the compiled policy of one member of the run in a folder, see `policy_function`.

    Raises:
        ValueError: there is no such member.
    """
    config, agent, _, agent_state = restore_policy(folder)
    return policy_function(config, agent, agent_state, member)


def policy_function(
    config: Config, agent: Agent, agent_state: AgentState, member: int
) -> Callable[[Any], Any]:
    """Return ``action(observation)`` for ``[B, ...]``, compiled, in the environment's own units.

    Raises:
        ValueError: there is no such member.
    """
    state, env = member_state(config, agent_state, member), environment(config, 1)
    return jax.jit(lambda observation: env.native_action(agent.act(state, observation)))


def export(folder: Path, path: Path, member: int) -> str:
    """Write the policy of one member of a run as StableHLO and return the file's name.

    Raises:
        ValueError: there is no such member.
    """
    path = output_path.require_writable(path)
    config, agent, _, agent_state = restore_policy(folder)
    exported = policy(agent, member_state(config, agent_state, member), environment(config, 1))
    write_file(path, bytes(exported.serialize()))
    return str(path)


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
