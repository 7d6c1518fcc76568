"""Reads the folder of a sweep: its plan, and the run and returns of each member; no JAX."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from ddpg_jax.runs.folder.metrics import read_curve, read_metrics
from ddpg_jax.runs.options.validation import short_repr

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

PLAN_FILE = "sweep.json"
FIGURES = {"final_return": "final_returns", "final_return_std": "final_return_std"}
"""Figures of a member, and their names in the summary of its run."""


def is_sweep(folder: Path) -> bool:
    """Return whether a folder holds a sweep."""
    return (folder / PLAN_FILE).is_file()


def read_plan(folder: Path) -> dict[str, Any]:
    """Return the plan of a sweep, as `ddpg_jax.runs.sweeps.plan.Plan.json` wrote it.

    Raises:
        FileNotFoundError: the folder holds no sweep.
        ValueError: the plan is damaged.
    """
    if not is_sweep(folder):
        raise FileNotFoundError(
            f"{folder} does not hold a sweep ({PLAN_FILE} is missing): give the folder that "
            "`ddpg-jax sweep` made."
        )
    try:
        data = json.loads((folder / PLAN_FILE).read_text(encoding="utf-8"))
        if absent := {"env", "options", "values", "draws", "members", "parts"} ^ set(data):
            raise ValueError(f"{min(absent)} is missing, or is one too many")
        return data
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(
            f"{folder / PLAN_FILE} is damaged ({str(error).rstrip('.')}): restore it, or start a "
            "new sweep."
        ) from error


def run_folder(folder: Path, index: int) -> Path:
    """Return the folder of one of the sweep's runs."""
    return folder / f"part-{index}"


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
    plan = read_plan(folder)
    if member is None:
        member = best(read_members(folder, plan))["member"]
    for index, part in enumerate(plan["parts"]):
        if member in part["members"]:
            return run_folder(folder, index), part["members"].index(member)
    raise ValueError(
        f"member={member}: this sweep has {len(plan['members'])} member(s), numbered from 0."
    )


def read_members(folder: Path, plan: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a record of each member, in order.

    Each has its ``hyperparameters`` (the last ones where they evolved), ``seed``, ``run``,
    ``place`` in the run, ``final_return`` and ``final_return_std``; these two are None where the
    member diverged or its run has not ended.
    """
    found = []
    for index, part in enumerate(plan["parts"]):
        run, last = run_folder(folder, index), _last(run_folder(folder, index))
        summary = (
            json.loads((run / "summary.json").read_text())
            if (run / "summary.json").is_file()
            else {}
        )
        for place, number in enumerate(part["members"]):
            one = plan["members"][number]
            evolved = {
                name: last[name][place]
                for name in part["options"].get("evolve", {}).get("ranges", {})
                if name in last
            }
            returns = {
                name: summary[key][place] if summary else None for name, key in FIGURES.items()
            }
            found.append(
                {
                    **one,
                    "hyperparameters": one["hyperparameters"] | evolved,
                    "run": run.name,
                    "place": place,
                    **returns,
                }
            )
    return sorted(found, key=lambda one: one["member"])


def _last(run: Path) -> dict[str, Any]:
    rows = read_metrics(run) if run.is_dir() else []
    return rows[-1] if rows else {}


def best(members: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the member with the greatest final return.

    Raises:
        FileNotFoundError: no member has one.
    """
    known = [one for one in members if one["final_return"] is not None]
    if not known:
        raise FileNotFoundError(
            "no member of this sweep has a final return yet: resume it with --resume, or give "
            "--member."
        )
    return max(known, key=lambda one: one["final_return"])


def settings(members: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Group members with equal hyper-parameters, the best mean first, diverged ones last."""
    found: dict[str, dict[str, Any]] = {}
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


def member_curve(folder: Path, member: int) -> tuple[np.ndarray, np.ndarray]:
    """Return ``(env_steps [T], returns [T])`` of one member."""
    run, place = locate_member(folder, member)
    steps, returns = read_curve(run)
    return steps, returns[:, place] if len(steps) else np.empty(0)


def label(hyperparameters: Mapping[str, Any]) -> str:
    """Return a member's hyper-parameters on one line."""
    return ", ".join(f"{name} {short_text(value)}" for name, value in hyperparameters.items())


def short_text(value: Any) -> str:
    """Return a value as short text."""
    return (
        f"{value:.4g}"
        if isinstance(value, float)
        else "x".join(map(str, value))
        if isinstance(value, list)
        else str(value)
    )


def require_options(
    plan: Mapping[str, Any], given: Mapping[str, Any], free: tuple[str, ...]
) -> None:
    """Refuse to resume a sweep with options other than its own, but for those that are ``free``.

    Raises:
        ValueError: an option differs.
    """
    for name, value in given.items():
        same = plan["options"].get(name, "none") == (
            list(value) if isinstance(value, tuple) else value
        )
        if name not in free and not same:
            raise ValueError(
                f"this sweep was made with another configuration: {name} (sweep: "
                f"{plan['options'].get(name, 'none')}, given: {short_repr(value)}). Leave it out, "
                "or start a new sweep."
            )
