"""Training runs in folders: from Python by `train`, from a shell by the command ``ddpg-jax``.

For example::

    result = ddpg_jax.runs.train("brax/ant", preset="td3", seeds=4)
    result.summary["final_returns"], result.env_steps, result.returns    # curves [T], [T, seeds]
    action = result.act(observation, member=2)                           # NumPy, [B, A]
    result = ddpg_jax.runs.load("runs/ant", checkpoint="best")
    values = {"tau": [0.005, 0.05], "gamma": "uniform:0.9:0.99"}
    swept = ddpg_jax.runs.sweep("pendulum", values, draws=8)
    swept.best["hyperparameters"], swept.policy()(observation)
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy as np

    from ddpg_jax.runs.callbacks import Callback
    from ddpg_jax.runs.config.run_config import Config
    from ddpg_jax.runs.sweeps.run_sweep import Sweep
    from ddpg_jax.types import Agent, AgentState


@dataclass(frozen=True, kw_only=True)
class Result:
    """The results of a run; all of them are in ``folder`` too."""

    folder: Path
    config: Config
    summary: dict[str, Any]
    """The content of ``summary.json``: ``final_returns`` of each member, rates, versions, ...; of a
    run that has not ended empty."""
    metrics: list[dict[str, Any]]
    """The lines of ``metrics.jsonl``, one for each chunk."""
    env_steps: np.ndarray
    """``[T]``: environment steps of each member at each evaluation."""
    returns: np.ndarray
    """``[T, seeds]``: mean return of deterministic episodes."""
    agent: Agent
    agent_state: AgentState
    """Trained; of several seeds every leaf has a leading axis."""
    checkpoint_steps: list[int]
    """Environment steps of each member at which ``agent_state`` was."""
    checkpoint: str = "last"
    """Which checkpoint it is from, as of `load`."""

    def act(self, observation: Any, member: int = 0) -> np.ndarray:
        """Return the actions ``[B, A]`` for observations ``[B, ...]``, in NumPy.

        As `policy`, compiled at the first call.
        """
        import numpy as np

        if member not in self._policies:
            self._policies[member] = self.policy(member)
        return np.asarray(self._policies[member](observation))

    @cached_property
    def _policies(self) -> dict[int, Callable[[Any], Any]]:
        return {}

    def train(self, env: str | None = None, **options: Any) -> Result:
        """Train on, in a new run that begins with what this one has learned and stored.

        As `train` with this run as ``start_from``, with its number of members, and
        ``start_with="replay"`` unless options say otherwise (``"agent"`` from the best checkpoint,
        which has no replay): other hyper-parameters are allowed but
        for those whose old values lie in what is taken over.

        Raises:
            ValueError, ImportError, ddpg_jax.runs.console.signals.Interrupted: as of `train`.
        """
        kept = "agent" if self.checkpoint == "best" else "replay"
        own: dict[str, Any] = {"start_with": kept, "start_checkpoint": self.checkpoint}
        own["seeds"] = self.config.seeds
        return train(env, start_from=str(self.folder), **own | options)

    def policy(self, member: int = 0) -> Callable[[Any], Any]:
        """Return the compiled policy of one member: ``action(observation)`` for ``[B, ...]``.

        Actions are in the environment's own units.

        Raises:
            ValueError: there is no such member.
        """
        from ddpg_jax.runs.results.policy import policy_function

        return policy_function(self.folder, self.agent, self.agent_state, member)


def train(
    env: str | None = None,
    *,
    run_dir: str | Path | None = None,
    resume: bool = False,
    progress: bool = True,
    profile: bool = False,
    callbacks: Sequence[Callback] = (),
    **options: Any,
) -> Result:
    """Train an agent in a run folder and return its results; ``ddpg-jax train`` calls this.

    Args:
        env: a name that `ddpg_jax.envs.make` knows; None is "pendulum", or with ``resume`` the
            run's.
        run_dir: the run's folder; None is a new one under ``runs/``.
        resume: continue the run in ``run_dir`` from its newest checkpoint, or from the start where
            it has none; options left out are the run's.
        progress: show a line for each chunk, or a live one on a terminal.
        profile: write a trace of the first chunks into ``profile/`` of the run's folder, and print
            each part's share of it at the end; training is the same.
        callbacks: called after each chunk, and may stop the run (`ddpg_jax.runs.callbacks`).
        **options: ``preset``, ``seed``, ``seeds``, hyper-parameters of the preset such as ``tau``,
            and the other arguments of `ddpg_jax.runs.config.run_config.make_config`.

    Raises:
        ValueError: an unknown name, a value out of its range, a folder that holds a run already or
            none to resume, or a value of the training that became NaN or infinite.
        ImportError: a package that the environment needs is not installed.
        ddpg_jax.runs.console.signals.Interrupted: SIGINT or SIGTERM; the state is saved.
    """
    if (arrays := options.get("offline")) is not None:
        from ddpg_jax.runs.training.offline import named

        options["offline"] = named(arrays)
    config = _configured(env, run_dir, resume, options)
    from ddpg_jax.runs.callbacks import of_options
    from ddpg_jax.runs.config import mesh
    from ddpg_jax.runs.folder import lock
    from ddpg_jax.runs.results import video
    from ddpg_jax.runs.training import loop
    from ddpg_jax.runs.training.progress import Display

    if profile:
        config = mesh.on_one_device(config)
    callbacks = [*callbacks, *of_options(config)]
    if callbacks:  # which may draw
        video.use_headless_opengl()
    with ExitStack() as stack:
        if run_dir is not None:
            folder = Path(run_dir).expanduser()
        else:
            folder, made = lock.make_new_folder(
                lock.default_folder(config.env, f"{config.preset.name}_seed{config.seed}")
            )
            stack.callback(lock.remove_empty, made)  # if the run is refused
        shown: Any = {"say": lambda text: None}
        if progress:
            display = stack.enter_context(Display(config, folder))
            shown = {"say": display.say, "on_chunk": display.show, "on_phase": display.phase}
        if profile:
            from ddpg_jax.runs.profiling.profile import Profile

            rounds = config.schedule.rounds
            profiled = stack.enter_context(Profile(config.num_chunks, rounds, folder / "profile"))
            shown["watch"] = profiled.watch
        shown |= {"transitions": arrays, "callbacks": callbacks, "resume": resume}
        finished = loop.run(config, folder, **shown)
        if progress:
            display.finish(finished.summary, finished.drawable)
        if profile:
            profiled.report(shown["say"])
    done = [finished.summary["env_steps"]] * config.seeds
    return _result(finished.config, folder, *finished[:3], done)


def sweep(
    env: str | None = None,
    values: Mapping[str, Any] | None = None,
    *,
    run_dir: str | Path | None = None,
    resume: bool = False,
    progress: bool = True,
    **options: Any,
) -> Sweep:
    """Train members with different hyper-parameters; ``ddpg-jax sweep`` calls this.

    Members whose programs are the same train together, as many as fit into memory.

    Args:
        env: as in `train`.
        values: the values of each hyper-parameter: a list, or text. ``1e-4,1e-3`` is a list;
            ``log:1e-5:1e-1`` and ``uniform:0.9:0.99`` are sampled ``draws`` times, or with
            ``:COUNT`` evenly spaced. All lists are combined, and each combination with every draw.
            Changing a float does not recompile; each combination of other values, such as
            ``batch_size`` or ``n_step``, compiles its own program.
        run_dir: the sweep's folder, with a run folder for each of its runs; None is a new one under
            ``runs/``.
        resume: continue the sweep in ``run_dir`` with its own ``values``.
        progress: show lines for each chunk, and a table at the end.
        **options: ``draws``; ``seeds`` of each setting; ``memory``, bytes that members trained
            together may take (0.8 of the memory by default); ``evolve``, a dict, possibly empty,
            for population-based training within the sampled ranges
            (`ddpg_jax.population.evolution`); and the options of `train`.

    Raises:
        ValueError, ImportError, ddpg_jax.runs.console.signals.Interrupted: as in `train`.
    """
    from ddpg_jax.runs.sweeps import run_sweep

    return run_sweep.sweep(
        env, values or {}, run_dir=run_dir, resume=resume, progress=progress, **options
    )


def load(run_dir: str | Path, *, checkpoint: str = "last") -> Result:
    """Load a run from its folder, one that has not ended too.

    Args:
        run_dir: the run's folder, or a sweep's run in it.
        checkpoint: whose agent it is: "last", the newest; "best", of each member's best evaluation;
            or the environment steps of one that is kept.

    Raises:
        FileNotFoundError: the folder holds no run, or no such checkpoint.
        ValueError: a file in it is damaged, or of another version.
    """
    import json

    from ddpg_jax.runs.results.policy import restore_policy

    folder = Path(run_dir).expanduser()
    config, agent, steps, agent_state = restore_policy(folder, str(checkpoint))
    path = folder / "summary.json"
    summary = json.loads(path.read_text()) if path.is_file() else {}
    return _result(config, folder, summary, agent, agent_state, steps, str(checkpoint))


def plan(
    env: str | None = None,
    *,
    run_dir: str | Path | None = None,
    resume: bool = False,
    **options: Any,
) -> str:
    """Describe a run and the memory that it needs as text; writes and allocates nothing.

    Args:
        env, run_dir, resume, options: as in `train`.

    Raises:
        ValueError, ImportError: as in `train`.
    """
    config = _configured(env, run_dir, resume, options)
    from ddpg_jax.runs import dry_run
    from ddpg_jax.runs.training import offline

    return dry_run.plan(offline.counted(config, resume=resume)[0])


def _configured(
    env: str | None, run_dir: str | Path | None, resume: bool, options: dict[str, Any]
) -> Config:
    from ddpg_jax.runs.config.run_config import make_config
    from ddpg_jax.runs.config.stored import resumed_config
    from ddpg_jax.runs.folder.start_options import started_options

    if not resume:
        options = started_options(options if env is None else options | {"env": env})
        return make_config(**{"env": "pendulum"} | options)
    if run_dir is None:
        raise ValueError("--resume requires --run-dir, the folder of the run to resume.")
    return resumed_config(
        Path(run_dir).expanduser(), options if env is None else {"env": env, **options}
    )


def _result(
    config: Config,
    folder: Path,
    summary: dict[str, Any],
    agent: Agent,
    agent_state: AgentState,
    checkpoint_steps: list[int],
    checkpoint: str = "last",
) -> Result:
    from ddpg_jax.runs.folder.metrics import read_curve, read_metrics

    steps, returns = read_curve(folder)
    return Result(
        folder=folder,
        config=config,
        summary=summary,
        metrics=read_metrics(folder),
        env_steps=steps,
        returns=returns,
        agent=agent,
        agent_state=agent_state,
        checkpoint_steps=checkpoint_steps,
        checkpoint=checkpoint,
    )
