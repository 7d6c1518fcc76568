"""Training runs in folders: from Python by `train`, from a shell by the command ``ddpg-jax``.

result = ddpg_jax.runs.train("brax/ant", preset="td3", seeds=4)
result.summary["final_returns"], result.env_steps, result.returns      # curves [T], [T, seeds]
action = result.policy(member=2)(observation)
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from ddpg_jax.runs.config import Config
    from ddpg_jax.runs.loop import Finished
    from ddpg_jax.types import Agent, AgentState


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a run made; all of it is in ``folder`` too."""

    folder: Path
    config: Config
    summary: dict[str, Any]
    """As ``summary.json``: ``final_returns`` of each member, rates, versions, ..."""
    metrics: list[dict[str, Any]]
    """The lines of ``metrics.jsonl``, one for each chunk."""
    env_steps: np.ndarray
    """``[T]``: environment steps of each member at each evaluation."""
    returns: np.ndarray
    """``[T, seeds]``: mean return of deterministic episodes."""
    agent: Agent
    agent_state: AgentState
    """Trained; of several seeds every leaf has a leading axis."""

    def policy(self, member: int = 0) -> Callable[[Any], Any]:
        """``action(observation)`` for ``[B, ...]`` of one member, in the environment's own units, compiled.

        Raises:
            ValueError: there is no such member.
        """
        import jax

        from ddpg_jax.runs import build, playback

        state = playback.member_state(self.config, self.agent_state, member)
        env = build.environment(self.config, 1)
        return jax.jit(lambda observation: env.native_action(self.agent.act(state, observation)))


def train(
    env: str | None = None,
    *,
    run_dir: str | Path | None = None,
    resume: bool = False,
    progress: bool = True,
    profile: bool = False,
    **options: Any,
) -> Result:
    """Train an agent, write everything into a run folder, and return what came of it; ``ddpg-jax train`` is this.

    Args:
        env: a name that `ddpg_jax.envs.make` knows; None is "pendulum", or with ``resume`` the run's.
        run_dir: the run's folder; None is a new one under ``runs/``.
        resume: go on with the run in ``run_dir``, from its newest checkpoint or, where it has none yet, from the start; options
            left out are the run's.
        progress: show a line for each chunk, or a live one on a terminal.
        profile: trace a few chunks into ``profile/`` of the run's folder, and when it has ended time their parts, say what
            share of a chunk each takes and write it there (`ddpg_jax.runs.profile`); what is trained is the same.
        **options: ``preset``, ``seed``, ``seeds``, numbers of the preset such as ``tau``, and the other arguments of
            `ddpg_jax.runs.config.make_config`.

    Raises:
        ValueError: a name is unknown or a number out of its range, the folder holds a run already or none to resume, a number
            became NaN or infinite.
        ImportError: what the environment needs is not installed.
        ddpg_jax.runs.terminal.Interrupted: SIGINT or SIGTERM; the state is saved.
    """
    config = _configured(env, run_dir, resume, options)
    from ddpg_jax.runs import claim, loop
    from ddpg_jax.runs.display import Display

    with ExitStack() as stack:
        if run_dir is not None:
            folder = Path(run_dir)
        else:
            folder, made = claim.make_new(_name(config))
            stack.callback(claim.remove_empty, made)  # of a run that is refused
        shown: Any = {"say": lambda text: None}
        if progress:
            display = stack.enter_context(Display(config, folder))
            shown = {"say": display.say, "on_chunk": display.show}
        if profile:
            from ddpg_jax.runs.profile import Profile

            profiled = stack.enter_context(Profile(config, folder / "profile"))
            shown["watch"] = profiled.watch
        finished = loop.run(config, folder, resume=resume, **shown)
        if progress:
            display.finish(finished.summary)
        if profile:
            profiled.report(shown["say"])
    return _result(config, folder, finished)


def plan(env: str | None = None, *, run_dir: str | Path | None = None, resume: bool = False, **options: Any) -> str:
    """What a run would be and what memory it would take, as text; nothing is written, and none of it allocated.

    Args:
        env, run_dir, resume, **options: as of `train`.

    Raises:
        ValueError, ImportError: as `train`.
    """
    config = _configured(env, run_dir, resume, options)
    from ddpg_jax.runs import memory

    return memory.plan(config)


def _configured(env: str | None, run_dir: str | Path | None, resume: bool, options: dict[str, Any]) -> Config:
    from ddpg_jax.runs.config import make_config, resumed

    if not resume:
        return make_config(env or "pendulum", **options)
    if run_dir is None:
        raise ValueError("--resume needs --run-dir: the folder of the run to go on with.")
    return resumed(Path(run_dir), options if env is None else {"env": env, **options})


def _result(config: Config, folder: Path, finished: Finished) -> Result:
    from ddpg_jax.runs.folder import curve, read_metrics

    steps, returns = curve(folder)
    return Result(
        folder=folder,
        config=config,
        summary=finished.summary,
        metrics=read_metrics(folder),
        env_steps=steps,
        returns=returns,
        agent=finished.agent,
        agent_state=finished.agent_state,
    )


def _name(config: Config) -> Path:
    env = config.env.replace("/", "-").replace(":", "-")
    return Path("runs") / f"{env}_{config.preset.name}_seed{config.seed}_{time.strftime('%Y%m%d-%H%M%S')}"
