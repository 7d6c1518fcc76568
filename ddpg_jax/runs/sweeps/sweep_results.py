"""Reads the folder of a sweep: its plan, and the run and returns of each member; evaluates it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ddpg_jax.runs.config.stored import load_config, read_stored
from ddpg_jax.runs.folder import files
from ddpg_jax.runs.folder.metrics import read_curve, read_metrics
from ddpg_jax.runs.results import policy, statistics
from ddpg_jax.runs.sweeps.plan import Plan

Record = dict[str, Any]
"""Of a member, see `read_members`, or of a setting, see `settings`."""
PLAN_FILE = "sweep.json"
DIVERGED_FILE = "diverged.json"
"""In the folder of a run whose one member diverged: why."""
REPORT_EPISODES, REPORT_SEED = 100, 2**32 - 1
"""The best member is played in episodes of its own, which no ``--seed`` of `evaluate` gives."""
FIGURES = {"final_return": "final_returns", "final_return_std": "final_return_std"}
"""Figures of a member, and their names in the summary of its run."""


def is_sweep(folder: Path) -> bool:
    """Return whether a folder holds a sweep."""
    return (folder / PLAN_FILE).is_file()


def read_plan(folder: Path) -> Plan:
    """Return the plan of a sweep.

    Raises:
        FileNotFoundError: the folder holds no sweep.
        ValueError: the plan is damaged.
    """
    return read_stored(folder / PLAN_FILE, "sweep", "sweep", Plan.of)


def run_folder(folder: Path, index: int) -> Path:
    """Return the folder of one of the sweep's runs."""
    return folder / f"part-{index}"


def runs_in(folder: Path) -> list[Path]:
    """Return the runs of a sweep that have begun, or the folder itself where it is a run.

    Raises:
        FileNotFoundError: none has begun.
    """
    if not is_sweep(folder):
        return [folder]
    runs = [run_folder(folder, index) for index in range(len(read_plan(folder).parts))]
    if found := [run for run in runs if (run / "config.json").is_file()]:
        return found
    raise FileNotFoundError(f"no run of the sweep {folder} has begun: resume it with --resume.")


def locate_member(folder: Path, member: int | None) -> tuple[Path, int]:
    """Return the folder of the run that trained a member, and the member's number in that run.

    Args:
        folder: of a sweep, or of a run, which is returned with ``member``.
        member: None is the best of a sweep, the first of a run.

    Raises:
        FileNotFoundError: no run of the sweep has ended, so that no member is the best.
        ValueError: there is no such member, or the plan is damaged.
    """
    if not is_sweep(folder):
        return folder, member or 0
    one = find_member(read_members(folder, read_plan(folder)), member)
    return folder / one["run"], one["place"]


def find_member(members: list[Record], member: int | None) -> Record:
    """Return the record of a member; None is the best.

    Raises:
        FileNotFoundError: as `best`.
        ValueError: there is no such member.
    """
    if member is None:
        return best(members)
    if member not in range(len(members)):
        raise ValueError(
            f"member={member}: this sweep has {len(members)} member(s), numbered from 0."
        )
    return members[member]


def read_members(folder: Path, plan: Plan) -> list[Record]:
    """Return a record of each member, in order.

    Each has its ``hyperparameters`` (the last ones where they evolved), ``seed``, ``run``,
    ``place`` in the run, ``final_return`` and ``final_return_std``; these two are None where the
    member diverged or its run has not ended.
    """
    found = []
    for index, part in enumerate(plan.parts):
        run = run_folder(folder, index)
        path, rows = run / "summary.json", read_metrics(run) or [{}]
        summary = json.loads(path.read_text()) if path.is_file() else {}
        ranges = part.options.get("evolve", {}).get("ranges", {})
        for place, number in enumerate(part.members):
            one = vars(plan.members[number])
            evolved = {name: rows[-1][name][place] for name in ranges if name in rows[-1]}
            found.append(
                {
                    **one,
                    "hyperparameters": one["hyperparameters"] | evolved,
                    "run": run.name,
                    "place": place,
                    **{
                        name: summary[key][place] if summary else None
                        for name, key in FIGURES.items()
                    },
                }
            )
    return sorted(found, key=lambda one: one["member"])


def best(members: list[Record]) -> Record:
    """Return the best member of the setting with the best mean, which is not its luckiest seed.

    Raises:
        FileNotFoundError: no member has one.
    """
    known = [one for one in members if one["final_return"] is not None]
    if not known:
        raise FileNotFoundError(
            "no member of this sweep has a final return yet: resume it with --resume, or give "
            "--member."
        )
    own = set(best_setting(members)["members"])
    return max((one for one in known if one["member"] in own), key=lambda one: one["final_return"])


def best_setting(members: list[Record]) -> Record:
    """Return the setting with the best mean; where in each a member diverged, of the others."""
    found = [each for each in settings(members) if _known(each["returns"])]
    return max(
        found, key=lambda each: (mean_return(each["returns"]), np.mean(_known(each["returns"])))
    )


def _known(returns: list[float | None]) -> list[float]:
    return [value for value in returns if value is not None]


def with_report(folder: Path, one: Record) -> Record:
    """Return the record of a chosen member with its return in episodes that did not choose it.

    ``fresh_return`` and ``fresh_return_std``; None where it is NaN.
    """
    run = folder / one["run"]
    copies = min(REPORT_EPISODES, load_config(run).evaluation_episodes)
    played = policy.evaluate(run, REPORT_EPISODES, REPORT_SEED, one["place"], copies)
    (mean,), (std,) = played["returns"], played["return_std"]
    return one | {"fresh_return": mean, "fresh_return_std": std}


def settings(members: list[Record]) -> list[Record]:
    """Group members with equal hyper-parameters, the best mean first, diverged ones last."""
    found: dict[str, Record] = {}
    for one in members:
        each = found.setdefault(
            json.dumps(one["hyperparameters"]),
            {"hyperparameters": one["hyperparameters"], "members": [], "returns": []},
        )
        each["members"].append(one["member"])
        each["returns"].append(one["final_return"])
    return sorted(found.values(), key=lambda each: -mean_return(each["returns"]))


def mean_return(returns: list[float | None]) -> float:
    """Return the mean of a setting; -inf where a member diverged."""
    return -np.inf if None in returns else float(np.mean(returns))  # type: ignore[arg-type]


def member_curve(folder: Path, one: Record) -> tuple[np.ndarray, np.ndarray]:
    """Return ``(env_steps [T], returns [T])`` of one member."""
    steps, returns = read_curve(folder / one["run"])
    return steps, returns[:, one["place"]] if len(steps) else np.empty(0)


def evaluate_member(
    folder: Path, episodes: int, seed: int, member: int, checkpoint: str = files.LAST
) -> Record:
    """Evaluate one member of a run or a sweep, whose number there it is."""
    run, place = locate_member(folder, member)
    return policy.evaluate(run, episodes, seed, place, checkpoint=checkpoint) | {
        "run": str(folder),
        "member": member,
    }


def evaluate_sweep(folder: Path, episodes: int, seed: int, checkpoint: str = files.LAST) -> Record:
    """Evaluate every member of a sweep, run by run."""
    plan = read_plan(folder)
    found: dict[int, Any] = {}
    missing: FileNotFoundError | None = None
    for index, part in enumerate(plan.parts):
        run = run_folder(folder, index)
        if (run / DIVERGED_FILE).is_file():
            found |= {number: [None, None] for number in part.members}
            continue
        try:
            played = policy.evaluate(run, episodes, seed, checkpoint=checkpoint)
        except FileNotFoundError as error:  # not begun, in a sweep that has not ended
            missing = error
            found |= {number: [None, None] for number in part.members}
            continue
        each = zip(part.members, played["returns"], played["return_std"], strict=False)
        found |= {number: figures for number, *figures in each}  # copies that fill a run are last
    if missing and all(figures == [None, None] for figures in found.values()):
        raise missing
    means, stds = np.array([found[number] for number in sorted(found)], np.float64).T
    return {
        "run": str(folder),
        "env": plan.env,
        "episodes": episodes,
        "seed": seed,
        **statistics.return_statistics(means, stds),
    }


def member_numbers(members: Sequence[int]) -> str:
    """Return numbers as text: 0-3, 6, 8-9."""
    groups: list[list[int]] = []
    for number in members:
        if groups and number == groups[-1][-1] + 1:
            groups[-1].append(number)
        else:
            groups.append([number])
    return ", ".join(f"{one[0]}-{one[-1]}" if len(one) > 1 else str(one[0]) for one in groups)


def short_text(value: Any) -> str:
    """Return a value as short text."""
    return (
        f"{value:.4g}"
        if isinstance(value, float)
        else "x".join(map(str, value))
        if isinstance(value, list)
        else str(value)
    )
