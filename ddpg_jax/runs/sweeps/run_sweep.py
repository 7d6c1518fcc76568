"""Runs a sweep in a folder, one run after the other; equal programs are compiled once."""

import dataclasses
import functools
import json
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from ddpg_jax import envs
from ddpg_jax.population import Programs
from ddpg_jax.runs.config import run_config, stored
from ddpg_jax.runs.console.output import say
from ddpg_jax.runs.console.signals import Interrupted
from ddpg_jax.runs.distributed import processes
from ddpg_jax.runs.folder import files, lock
from ddpg_jax.runs.folder.start_options import started_options
from ddpg_jax.runs.options.run_options import CALLBACKS
from ddpg_jax.runs.options.validation import Diverged, Options, RunError
from ddpg_jax.runs.programs import build
from ddpg_jax.runs.results import plots, policy, run_pictures
from ddpg_jax.runs.sweeps import lineage, sweep_plots, sweep_results, table
from ddpg_jax.runs.sweeps.plan import Plan, SweepRun, make_plan
from ddpg_jax.runs.training import loop, startup
from ddpg_jax.runs.training.progress import Display

NOT_OF_A_PROGRAM = {"vary", "seed", *run_config.DERIVED, *stored.FREE} - {"evaluation_episodes"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sweep:
    """The results of a sweep; all of them are in ``folder`` too."""

    folder: Path
    members: list[sweep_results.Record]
    """``member``, ``seed``, ``hyperparameters``, ``final_return`` and ``final_return_std`` of each;
    its run is ``run``, in which it is number ``place``."""
    best: sweep_results.Record
    """The member with the greatest final return of the setting with the best mean; ``fresh_return``
    and ``fresh_return_std`` are of 100 episodes that did not choose it."""
    settings: list[sweep_results.Record]
    """Groups of equal ``hyperparameters`` with ``members`` and ``returns``, best mean first."""

    def curve(self, member: int) -> tuple[np.ndarray, np.ndarray]:
        """Return ``(env_steps [T], returns [T])`` of the evaluations of one member.

        Raises:
            ValueError: there is no such member.
        """
        return sweep_results.member_curve(
            self.folder, sweep_results.find_member(self.members, member)
        )

    def policy(self, member: int | None = None) -> Callable[[Any], Any]:
        """Return the compiled policy of one member, or of the best: ``action(observation)``.

        Takes ``[B, ...]``; actions are in the environment's own units.

        Raises:
            ValueError: there is no such member.
        """
        one = sweep_results.find_member(self.members, member)
        return policy.load_policy(self.folder / one["run"], one["place"])


def _planned(env: str | None, values: Mapping[str, Any], options: Options) -> Plan:
    given = started_options(options if env is None else options | {"env": env})
    own = {name: x for name, x in given.items() if name in options or name not in values}
    return make_plan(own.pop("env", "pendulum"), values, **own)


def sweep(
    env: str | None,
    values: Mapping[str, Any],
    *,
    run_dir: str | Path | None = None,
    resume: bool = False,
    progress: bool = True,
    **options: Any,
) -> Sweep:
    """Run a sweep; see `ddpg_jax.runs.sweep`."""
    processes.require_alone("a sweep")
    for own in ("callbacks", *CALLBACKS):
        if options.get(own):
            raise ValueError(f"{own} is for one run: leave it out of a sweep.")
    with ExitStack() as stack:
        if resume:
            folder, plan, given = _resumed(env, values, run_dir, options)
        else:
            plan, given = _planned(env, values, options), {}
            if run_dir is not None:
                folder = Path(run_dir)
            else:
                name = lock.default_folder(plan.env, f"{plan.options['preset']}_sweep")
                folder, made = lock.make_new_folder(name)
                stack.callback(lock.remove_empty, made)
        stack.enter_context(lock.locked_folder(folder))
        if not resume:
            _require_new(folder)
            stack.push(functools.partial(_free_if_nothing_ran, folder))
        files.write_json(folder / sweep_results.PLAN_FILE, dataclasses.asdict(plan))
        programs = _Programs()
        for index, part in enumerate(plan.parts):
            if progress and len(plan.parts) > 1:
                numbers = sweep_results.member_numbers(part.members)
                which = f"member{'s' * (len(part.members) > 1)} {numbers}"
                say(f"run {index + 1} of {len(plan.parts)}: {which}")
            _train(plan, part, sweep_results.run_folder(folder, index), given, programs, progress)
        return _finish(folder, progress)


def _resumed(
    env: str | None, values: Mapping[str, Any], run_dir: str | Path | None, options: Options
) -> tuple[Path, Plan, Options]:
    if run_dir is None:
        raise ValueError("--resume requires --run-dir, the folder of the sweep to resume.")
    plan = sweep_results.read_plan(Path(run_dir))
    fixed = {"draws", "evolve", "memory", "seeds"}
    if values or options.keys() & fixed or env not in (None, plan.env):
        raise ValueError(
            "--set, --draws, --seeds, --memory and --pbt cannot change when resuming a sweep."
        )
    whole = {name: value for name, value in plan.options.items() if name != "evolve"}
    with stored.registered(Path(run_dir)):
        saved = run_config.make_config(plan.env, **whole).flat() | plan.values
    own = stored.converted(saved, options)
    stored.require_same_config(saved, own, "sweep")
    free = {name: value for name, value in own.items() if name in stored.FREE}
    placed = {name: value for name, value in options.items() if name in stored.PLACEMENT}
    parts = [dataclasses.replace(part, options=part.options | free) for part in plan.parts]
    plan = dataclasses.replace(plan, options=plan.options | free, parts=parts)
    return Path(run_dir), plan, free | placed


def _free_if_nothing_ran(folder: Path, kind: Any, *error: Any) -> None:
    """Where an error ends a sweep of which no run left anything, its plan is not in the way."""
    if kind and issubclass(kind, Exception) and not any(folder.glob("part-*")):
        (folder / sweep_results.PLAN_FILE).unlink(missing_ok=True)


def _require_new(folder: Path) -> None:
    parts = [*folder.glob("part-*")]
    if sweep_results.is_sweep(folder) and parts and all(map(startup.has_failed, parts)):
        for part in parts:
            (part / sweep_results.DIVERGED_FILE).unlink(missing_ok=True)
        return
    if sweep_results.is_sweep(folder):
        raise RunError(
            f"{folder} already holds a sweep: choose another --run-dir, or resume it with --resume."
        )
    if (folder / "config.json").exists() or any(folder.glob("part-*")):
        raise RunError(f"{folder} already holds a run: choose another --run-dir.")


class _Programs:
    """The newest compiled programs, reused by a next run that has the same ones."""

    _known: str | None = None
    _built: Any = None
    _programs: Programs | None = None

    def built(self, config: run_config.Config, stopped: Callable[[], bool]) -> build.Built:
        """Build as `ddpg_jax.runs.programs.build.build` does."""
        told = {
            name: value for name, value in config.flat().items() if name not in NOT_OF_A_PROGRAM
        }
        known = json.dumps([told, list(config.vary)])
        if known != self._known or envs.on_host(config.env):
            self._known, self._built, self._programs = known, build.build(config, stopped), None
        return self._built

    def compile_programs(self, built: build.Built, config: run_config.Config) -> Programs:
        """Compile as `ddpg_jax.runs.programs.build.compile_programs` does."""
        if self._programs is not None:
            return self._programs._replace(seconds=0.0)
        self._programs = build.compile_programs(built, config)
        return self._programs


def _train(
    plan: Plan, part: SweepRun, run: Path, given: Options, programs: _Programs, progress: bool
) -> None:
    if (run / sweep_results.DIVERGED_FILE).is_file():
        return
    started = (run / "config.json").is_file() and not startup.has_failed(run)
    config = stored.resumed_config(run, given) if started else plan.config(part, given)
    if (run / "summary.json").is_file():
        old, new = (each.flat() | {"mesh": ""} for each in (stored.load_config(run), config))
        if old == new:
            return
    with ExitStack() as stack:
        shown: Options = {"say": lambda text: None}
        if progress:
            display = stack.enter_context(Display(config, run))
            shown = {
                "say": display.say,
                "on_chunk": display.show,
                "on_phase": display.phase,
            }
        try:
            loop.run(
                config,
                run,
                resume=started,
                builder=programs.built,
                compiler=programs.compile_programs,
                **shown,
            )
        except Diverged as error:
            run.mkdir(parents=True, exist_ok=True)
            files.write_json(run / sweep_results.DIVERGED_FILE, {"reason": str(error)})
            numbers = sweep_results.member_numbers(part.members)
            shown["say"](f"member {numbers} diverged, the others continue: {error}")
        except Interrupted as stop:
            raise Interrupted(str(stop).replace(str(run), str(run.parent)), stop.signal) from stop


def _best_sentence(
    best: sweep_results.Record, members: list[sweep_results.Record], folder: Path
) -> str:
    setting, among = sweep_results.best_setting(members), ""
    if len(setting["members"]) > 1:
        numbers = sweep_results.member_numbers(setting["members"])
        among = f", of those with the best mean (members {numbers})"
    fresh, std = best["fresh_return"], best["fresh_return_std"]
    shown = "diverged" if fresh is None else f"{fresh:,.1f} +- {std:,.1f}"
    _, env = policy.declared_environment(folder / best["run"])
    look = f"; render it: ddpg-jax render {folder}" if env.drawable else ""
    return (
        f"best: member {best['member']}{among}: {shown} over {sweep_results.REPORT_EPISODES} fresh "
        f"episodes{look}"
    )


def _finish(folder: Path, progress: bool) -> Sweep:
    plan = sweep_results.read_plan(folder)
    members = sweep_results.read_members(folder, plan)
    if all(one["final_return"] is None for one in members):
        raise RunError(
            f"every member of {folder} diverged: lower the learning rates, or check the "
            "environment."
        )
    found: Options = {
        "best": sweep_results.with_report(folder, sweep_results.best(members)),
        "settings": sweep_results.settings(members),
        "members": members,
    }
    files.write_json(folder / "members.json", found)
    tell = say if progress else lambda text: None
    evolved = lineage.write_lineage(folder, plan, found["best"]["place"])
    with run_pictures.reported_failure("the pictures", tell):
        figures = {
            "sweep.png": sweep_plots.sweep(members),
            "curves.png": sweep_plots.curves(folder, members),
        }
        if evolved:
            figures["lineage.png"] = lineage.draw_lineage(evolved)
        for name, figure in figures.items():
            tell(f"picture: {plots.write_figure(figure, folder / name)}")
    if progress:
        steps = plan.config(plan.parts[0], {"mesh": ""}).trained_timesteps
        table.print_table(members, steps)
        say(_best_sentence(found["best"], members, folder))
    return Sweep(folder=folder, **found)
