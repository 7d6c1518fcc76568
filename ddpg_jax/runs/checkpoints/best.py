"""The best policy of a run: the agent of each member's best evaluation, kept in ``best/``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from ddpg_jax.runs.checkpoints.store import Checkpoints
from ddpg_jax.runs.distributed import arrays
from ddpg_jax.runs.folder.files import BEST
from ddpg_jax.runs.folder.metrics import finite_or_none

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from ddpg_jax.runs.config.run_config import Config
    from ddpg_jax.types import AgentState


class Best:
    """The agent of each member's best evaluation so far.

    It is held in the host's memory, and written when a checkpoint is: with the same checkpoints
    and evaluations a resumed run keeps the same.

    Args:
        config: of the run.
        run_dir: its folder.
        like: shapes of the agent's state, those of all members, with shardings where it has some.
        say: receives sentences for the user.
    """

    def __init__(
        self, config: Config, run_dir: Path, like: AgentState, say: Callable[[str], None] = print
    ) -> None:
        self._config, self._like, self._say = config, like, say
        self._checkpoints = Checkpoints(run_dir / BEST, keep=1)
        self._state: AgentState | None = None
        self.returns = np.full(config.seeds, -np.inf)
        """``[seeds]``: of the evaluations that chose it; -inf before the first."""
        self.env_steps = np.zeros(config.seeds, np.int64)
        """``[seeds]``: when those were."""
        self._written = True

    def restore(self, *, evaluated: bool = False) -> None:
        """Continue with what a resumed run has kept; without it, which is said where it was
        ``evaluated``, from the next evaluation on.
        """
        try:
            found = self._checkpoints.newest(lambda about: self._like, self._say)
        except FileNotFoundError:
            if evaluated:
                self._say("no best agent is kept: it is chosen among evaluations from here on.")
            return
        episodes = found.record["episodes"]
        if episodes != self._config.evaluation_episodes:
            self._say(
                f"the best agent was chosen by evaluations of {episodes} episodes, and is compared "
                f"with those of {self._config.evaluation_episodes} from here on."
            )
        self._state = arrays.to_host(found.state)
        known = found.record["returns"]
        self.returns = np.array([-np.inf if x is None else x for x in known])
        self.env_steps = np.array(found.record["env_steps"], np.int64)

    def lacks(self, returns: Sequence[float | None]) -> bool:
        """Whether an evaluation exceeds what is kept: a kill came before its agent was written."""
        pairs = zip(returns, self.returns, strict=False)
        return any(new is not None and new > kept for new, kept in pairs)

    def offer(
        self, agent_state: AgentState, returns: Sequence[float | None] | None, env_steps: int
    ) -> None:
        """Keep the members of an evaluation whose mean return exceeds their best; NaN does not."""
        if returns is None:
            return
        found = np.array(returns, float)
        better = found > self.returns
        if not better.any():
            return
        new, old = arrays.to_host(agent_state), self._state
        select = lambda x, y: np.where(np.reshape(better, (-1, *[1] * (x.ndim - 1))), x, y)
        self._state = new if old is None or better.all() else jax.tree.map(select, new, old)
        self.returns = np.where(better, found, self.returns)
        self.env_steps = np.where(better, env_steps, self.env_steps)
        self._written = False

    @property
    def agent_state(self) -> AgentState | None:
        """On the devices of the run; None before the first evaluation."""
        if self._state is None:
            return None
        state: AgentState = arrays.to_devices(self._state, self._like, donated=False)
        return state

    def save(self) -> None:
        """Write it where it is newer than what is written; all processes call this.

        Raises:
            RunError: the one before could not be written.
        """
        if self._written:
            return
        record = {
            "config": self._config.flat(),
            "returns": finite_or_none(self.returns),
            "env_steps": self.env_steps.tolist(),
            "episodes": self._config.evaluation_episodes,
        }
        self._checkpoints.save(int(self.env_steps.max()), self.agent_state, record)
        self._written = True

    def summary(self, returns: np.ndarray | None) -> dict[str, Any]:
        """Return what ``summary.json`` says of it.

        Args:
            returns: ``[seeds, episodes]`` of the best agents in episodes that did not choose them;
                None where they were not played.
        """
        if self._state is None:
            return {}
        return {
            "best_returns": None if returns is None else finite_or_none(returns.mean(axis=1)),
            "best_return_std": None if returns is None else finite_or_none(returns.std(axis=1)),
            "best_env_steps": self.env_steps.tolist(),
            "best_evaluation_returns": finite_or_none(self.returns),
        }

    def close(self) -> None:
        """Finish what is being written.

        Raises:
            RunError: it could not be written.
        """
        self._checkpoints.wait()
        self._checkpoints.close()
