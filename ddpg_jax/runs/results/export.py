"""Writes the policy of a run as a file for other programs, and its contract beside it."""

import datetime
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from ddpg_jax import export as forms
from ddpg_jax.export import contract
from ddpg_jax.runs.config.stored import load_config
from ddpg_jax.runs.folder import files, output_path, versions
from ddpg_jax.runs.results import policy
from ddpg_jax.types import Agent, AgentState

TOLERANCE = {"float32": 1e-3, "bfloat16": 5e-2}
"""Of the range of an action, by what the networks compute in: a file that differs by more is not
written."""
WINDOW = (
    "{file} is guaranteed for JAX up to 6 months newer or 3 weeks older than this one; for a later "
    "one: ddpg-jax export {run} --again {file}; or --format onnx."
)


def export(
    folder: Path,
    path: Path,
    member: int,
    form: str | None = None,
    checkpoint: str = files.LAST,
) -> str:
    """Write the policy of one member of a run, its contract beside it, and return the file's name.

    Args:
        folder: of the run.
        path: of the file; that of the contract ends in ``.json`` as well.
        member: of the run.
        form: one of `ddpg_jax.export.FORMS`; None is that of the path's suffix.
        checkpoint: as of `ddpg_jax.runs.results.policy.restore_policy`.

    Raises:
        ImportError: the package ``onnx`` is not installed.
        ValueError: there is no such member, the form cannot hold the policy, or the file acts
            otherwise than the policy.
    """
    for each in (path, contract_path(path)):
        output_path.require_writable(each)
    form = form or forms.form_of(path)
    config, agent, steps, state = policy.restore_policy(folder, checkpoint)
    _, env = policy.declared_environment(folder)
    state = policy.member_state(config, state, member)
    data = forms.content(agent, state, env, form)
    repeat = config.env_options.get("action_repeat", 1)
    written = contract.contract(
        agent, state, env, form=form, file=path.name, data=data, action_repeat=repeat
    )
    (action,) = written["outputs"]
    limit = TOLERANCE[config.hyperparameters.dtype] * np.subtract(action["high"], action["low"])
    written["checked"] = _checked(agent, state, env, form, data, float(np.max(limit)))
    run = {"folder": folder.resolve().name, "member": member, "checkpoint": checkpoint}
    run["env_steps"] = steps[member]
    run |= {"env": config.env, "env_options": config.env_options, "preset": config.preset.name}
    written |= {"run": run, "versions": versions.package_versions("onnx")}
    written |= {"created": _now(), "commit": _commit()}
    files.write_file(path, data)
    files.write_json(contract_path(path), written)
    if form == "stablehlo":
        print(WINDOW.format(file=path, run=folder), file=sys.stderr)
    return str(path)


def _checked(
    agent: Agent, state: AgentState, env: Any, form: str, data: bytes, limit: float
) -> dict[str, Any] | None:
    """Return how far a file acts otherwise than the agent; None where nothing can run it here."""
    try:
        act = forms.read(data, form)
    except ImportError:
        return None
    found = contract.largest_difference(agent, state, env, act)
    if not np.isfinite(found):
        raise ValueError("the policy acts NaN, as one that diverged: choose another --member.")
    if not found <= limit:
        raise ValueError(
            f"the policy as {form} differs by {found:g} in an action, of at most {limit:g}, and is "
            "not written: choose another --format."
        )
    return {"observations": contract.OBSERVATIONS, "largest_difference": found}


def again(folder: Path, file: Path, out: Path | None = None) -> str:
    """Write an export again from its run, as the contract beside it says: form, run and member.

    Args:
        folder: of the run, or of the sweep that it belongs to.
        file: an export.
        out: the file to write; None replaces the export.

    Raises:
        FileNotFoundError: there is no contract beside the file.
        ValueError: the contract is damaged, or of another run.
    """
    form, run = _read_contract(contract_path(file))
    part = folder / run["folder"]
    folder = part if (part / "config.json").is_file() else folder
    config = load_config(folder)
    for name, own in {"env": config.env, "preset": config.preset.name}.items():
        if run[name] != own:
            raise ValueError(
                f"{file} was made from a run with {name}={run[name]}, and {folder} has {own}: give "
                "the run that it is from."
            )
    written = export(folder, out or file, run["member"], form, run["checkpoint"])
    now = _read_contract(contract_path(out or file))[1]["env_steps"]
    if now != run["env_steps"]:
        print(
            f"{written} is the policy after {now} environment steps; it was that after "
            f"{run['env_steps']}: the run has trained on.",
            file=sys.stderr,
        )
    return written


def _read_contract(path: Path) -> tuple[str, dict[str, Any]]:
    """Return the form of an export and the record of its run."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        form, run = data["form"], data["run"]
        for name, kind in (
            ("folder", str),
            ("member", int),
            ("checkpoint", str),
            ("env_steps", int),
        ):
            if not isinstance(run[name], kind):
                raise ValueError(f"{name}={run[name]!r}")
        if (
            form not in forms.FORMS
            or run["member"] < 0
            or Path(run["folder"]).name != run["folder"]
        ):
            raise ValueError(f"form={form!r}, run={run!r}")
        return form, {"env": run["env"], "preset": run["preset"], **run}
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{path}, the contract of an export, is missing: export without --again."
        ) from error
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ValueError(f"{path} is damaged ({error!r}): export without --again.") from error


def contract_path(path: Path) -> Path:
    """Return the contract of an exported file."""
    return Path(f"{path}.json")


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _commit() -> str | None:
    """Return the commit of the working tree that this process is in, and whether it has changes."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None
