"""What a run is made of, as plain data that a folder can hold; imports no JAX, so that the command line answers at once."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

from ddpg_jax.runs.config import default_preset
from ddpg_jax.runs.config import schedule as runs_schedule
from ddpg_jax.runs.config.mesh import ASKED, asked
from ddpg_jax.runs.config.population import checked_evolve, checked_vary, hyperparameters_of
from ddpg_jax.runs.options.validation import LARGEST, RunError, exact, shown
from ddpg_jax.runs.presets import PRESETS, Hyperparameters, Preset, hyperparameters_on, options_on

if TYPE_CHECKING:
    from ddpg_jax.schedule import Schedule

__all__ = ["DERIVED", "FREE", "Config", "RunError", "from_flat", "load", "make_config", "require_same", "resumed"]

# May differ between a run and its continuation: they change no bit of what is trained.
FREE = ("total_timesteps", "evaluate_every", "evaluation_episodes", "checkpoint_every", "keep")
# May differ too: the agent and all that is stored are the same, and what is drawn from there on is not.
PLACES = ("mesh",)
# Said in ``config.json``, and known without it.
DERIVED = ("source", "replaced", "trained_timesteps")
# What an option of any environment may be.
ENV_OPTIONS: dict[str, tuple[type, int | None]] = {
    "time_limit": (int, 100_000_000),
    "action_repeat": (int, 1_000),
    "backend": (str, None),
    "pixels": (bool, None),
    "image_size": (int, 4_096),
    "frame_stack": (int, 1_000),
    "frames_per_action": (int, 1_000),
    "grayscale": (bool, None),
}


@dataclass(frozen=True, kw_only=True)
class Config:
    """A training run. Chunks are what runs between two reports; see `ddpg_jax.schedule.Schedule`."""

    env: str
    preset: Preset
    device_kind: str
    """For which kind of device the preset was chosen (`ddpg_jax.runs.config.default_preset`)."""
    hyperparameters: Hyperparameters
    replaced: dict[str, tuple[Any, Any]]
    """The preset's hyper-parameters of which the task has its own: ``{name: (the preset's, the task's)}``."""
    env_options: dict[str, Any]
    seed: int
    seeds: int
    schedule: Schedule
    evaluate_every: int
    evaluation_episodes: int
    checkpoint_every: int
    keep: int
    mesh: str
    """The devices, as ``members=4,data=2`` (`ddpg_jax.runs.config.mesh`); empty where they are not chosen yet."""
    vary: dict[str, list[Any]]
    """What members have of their own, ``{name: [seeds]}``: floats of the preset, and ``seed`` where it is not ``seed + i``."""
    evolve: dict[str, Any]
    """How members evolve (`ddpg_jax.runs.config.population.checked_evolve`); empty where they do not."""

    @property
    def num_chunks(self) -> int:
        """Whole chunks that fit into ``total_timesteps`` after the warm-up."""
        return self.schedule.chunks(self.hyperparameters.total_timesteps)

    @property
    def trained_timesteps(self) -> int:
        """Environment steps of each member, warm-up and whole chunks: at most ``total_timesteps``."""
        return self.schedule.steps_after(self.num_chunks)

    @property
    def note(self) -> str:
        """What is to be known at the start, a sentence on a line: what is not as cited, and what is not as asked for."""
        asked, chunk = self.hyperparameters.total_timesteps, self.schedule.steps_per_chunk
        short = (
            f"trains {self.trained_timesteps} of the {asked} steps: what is left of them is no whole chunk of {chunk}."
            if self.trained_timesteps < asked
            else ""
        )
        ours = self.preset.ours and f"preset {self.preset.name} is not all as cited: {self.preset.ours}"
        choice = default_preset.note(self.env, self.preset.name, self.device_kind, bool(self.replaced))
        return "\n".join(filter(None, (choice, ours, self._changes, short)))

    @property
    def _changes(self) -> str:
        """What the task replaced in the preset, as a sentence; empty where that is nothing."""
        changes = ", ".join(f"{name} {new} (preset: {old})" for name, (old, new) in self.replaced.items())
        return changes and f"hyper-parameters found by trying on {self.env} replace the preset's: {changes}."

    def flat(self) -> dict[str, Any]:
        """Every field as JSON-able data, on one level."""
        own = ("env_options", "seed", "seeds", "evaluate_every", "evaluation_episodes", "checkpoint_every", "keep")
        data = {
            "env": self.env,
            "preset": self.preset.name,
            "device_kind": self.device_kind,
            "source": " ".join(filter(None, (self.preset.cites, self._changes))),
            "replaced": self.replaced,
            "trained_timesteps": self.trained_timesteps,
            **{name: getattr(self, name) for name in own},
            "steps_per_chunk": self.schedule.steps_per_chunk,
            "mesh": self.mesh,
            **{field.name: getattr(self.hyperparameters, field.name) for field in fields(self.hyperparameters)},
            **{name: value for name, value in (("vary", self.vary), ("evolve", self.evolve)) if value},
        }
        return json.loads(json.dumps(data))


def make_config(
    env: str,
    preset: str | None = None,
    *,
    device_kind: str | None = None,
    env_options: dict[str, Any] | None = None,
    seed: int = 0,
    seeds: int = 1,
    steps_per_chunk: int | None = None,
    evaluate_every: int = 1,
    evaluation_episodes: int = 20,
    checkpoint_every: int = 5,
    keep: int = 2,
    devices: int | None = None,
    mesh: str = "",
    vary: dict[str, list[Any]] | None = None,
    evolve: dict[str, Any] | None = None,
    **given: Any,
) -> Config:
    """The configuration of a run: a preset with some hyper-parameters replaced.

    Args:
        env: a name.
        preset: a name; None is the choice for this kind of device (a GPU or TPU runs many environments at once), and for images
            where the environment is to show pixels.
        device_kind: cpu, gpu or tpu, for which to choose; None is what JAX computes on. It and what was chosen are written
            down: a run goes on, and is evaluated, with the hyper-parameters that it began with, wherever that is.
        env_options: see `ddpg_jax.envs.make`.
        seed, seeds: train ``seeds`` independent members with the seeds ``seed, seed + 1, ...`` in one program.
        steps_per_chunk: environment steps between two reports; None is about a twentieth of the run, such that chunks fill it.
        evaluate_every, checkpoint_every: in chunks; 0 is never but at the end.
        evaluation_episodes: episodes per evaluation.
        keep: checkpoints kept.
        devices, mesh: how many devices to train on, or which of them on which axis, as ``members=4,data=2``; see
            `ddpg_jax.runs.config.mesh`. None of both: as many as come out even.
        vary, evolve: what members have of their own, and how they evolve, see `Config`; `ddpg_jax.runs.sweep` makes both.
        **given: replace the preset's hyper-parameters (`ddpg_jax.runs.presets.Hyperparameters` and what the algorithm adds).

    Raises:
        ValueError: an unknown preset, a number that it does not have, or one of another type or out of its range.
    """
    preset, device_kind = default_preset.chosen(env, preset, device_kind, env_options)
    own: dict[str, Any] = {"env": env, "preset": preset, "device_kind": device_kind, "seed": seed, "seeds": seeds, "keep": keep}
    own |= {"env_options": {} if env_options is None else env_options}
    own |= {"evaluate_every": evaluate_every, "evaluation_episodes": evaluation_episodes, "checkpoint_every": checkpoint_every}
    own = {name: exact(name, value, OWN[name]) for name, value in own.items()} | {"env_options": options_of(own["env_options"])}
    if steps_per_chunk is not None:
        steps_per_chunk = exact("steps_per_chunk", steps_per_chunk, int)
    _check_own(**own)
    chosen = PRESETS[own.pop("preset")]
    own["env_options"] = options_on(chosen, own["env"], own["env_options"])
    hyperparameters, replaced = hyperparameters_on(chosen, own["env"])
    hyperparameters = _with(hyperparameters, given, chosen.name)
    varied = checked_vary(vary or {}, own["seeds"], get_type_hints(type(hyperparameters)))
    for member in range(own["seeds"] if varied else 0):
        each: dict[str, Any] = hyperparameters_of(varied, member)
        dataclasses.replace(hyperparameters, **each).check()
    config = Config(
        preset=chosen,
        vary=varied,
        evolve=checked_evolve(evolve or {}, varied),
        hyperparameters=hyperparameters,
        replaced={name: both for name, both in replaced.items() if getattr(hyperparameters, name) == both[1]},
        schedule=runs_schedule.schedule_of(hyperparameters, steps_per_chunk),
        mesh="",
        **own,
    )
    runs_schedule.require(hyperparameters.total_timesteps, config.schedule)
    return dataclasses.replace(config, mesh=asked(config, devices, mesh))


OWN = get_type_hints(make_config) | {"env_options": dict, "steps_per_chunk": int, "preset": str, "device_kind": str}
for _name in ("given", "return", "vary", "evolve", "devices", "mesh"):
    del OWN[_name]


def options_of(given: dict[str, Any]) -> dict[str, Any]:
    """Options of an environment, those that any may have checked.

    Raises:
        ValueError: one is out of its range.
    """
    from ddpg_jax import checks

    options = exact("env_options", given, dict)
    for name, (kind, largest) in ENV_OPTIONS.items():
        if name in options:
            options[name] = value = exact(name, options[name], kind)
            if largest is not None:
                checks.between(1, largest, **{name: value})
    if taken := {"name", "num_envs"} & set(options):
        raise ValueError(f"env_options has {min(taken)!r}: that is no option of an environment; leave it out.")
    return options


def _check_own(**own: Any) -> None:
    """The ranges of what is no number of a preset."""
    from ddpg_jax import checks

    default_preset.require_kind(own["device_kind"])
    if own["preset"] not in PRESETS:
        raise checks.nearest("preset", own["preset"], PRESETS, "`ddpg-jax presets` lists all.")
    checks.between(1, 1_000_000, **{name: own[name] for name in ("seeds", "evaluation_episodes", "keep")})
    checks.between(0, LARGEST, **{name: own[name] for name in ("evaluate_every", "checkpoint_every")})
    checks.between(0, LARGEST - own["seeds"], seed=own["seed"])


def _with(hyperparameters: Hyperparameters, given: dict[str, Any], preset: str) -> Hyperparameters:
    """The hyper-parameters, some replaced by those given, and all of them checked."""
    known = get_type_hints(type(hyperparameters))
    if absent := [name for name in given if name not in known]:
        having = [
            name for name, other in PRESETS.items() if absent[0] in {field.name for field in fields(other.hyperparameters)}
        ]
        where = f"it is a number of {', '.join(having)}" if having else "no preset has it"
        raise ValueError(f"preset {preset!r} has no {absent[0]}: {where}.")
    hyperparameters = dataclasses.replace(
        hyperparameters, **{name: exact(name, value, known[name]) for name, value in given.items()}
    )
    hyperparameters.check()
    return hyperparameters


def resumed(folder: Path, given: dict[str, Any]) -> Config:
    """The configuration of the run in ``folder``, with fields given anew of those that may change (`FREE`).

    Raises:
        FileNotFoundError, ValueError: as `load`.
        RunError: fields differ that may not.
    """
    saved = load(folder).flat()
    kinds = OWN | {
        name: kind for preset in PRESETS.values() for name, kind in get_type_hints(type(preset.hyperparameters)).items()
    }
    places = {name: given[name] for name in ASKED if given.get(name)}
    given = {name: value for name, value in given.items() if name not in ASKED}
    given = {name: exact(name, value, kinds[name]) if name in kinds else value for name, value in given.items()}
    given = {name: list(value) if isinstance(value, tuple) else value for name, value in given.items()}
    if "env_options" in given:
        given["env_options"] = saved["env_options"] | given["env_options"]
    require_same(saved, given)
    return from_flat(saved | given | ({"mesh": ""} | places if places else {}))


def load(folder: Path) -> Config:
    """The configuration of the run in ``folder``, as `Config.flat` wrote it.

    Raises:
        FileNotFoundError: the folder holds no run.
        ValueError: its ``config.json`` is damaged.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise FileNotFoundError(f"{folder} holds no run (it has no config.json): give the folder that `ddpg-jax train` made.")
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(data, dict):
            raise ValueError(f"it holds {shown(data)} where an object is")
        preset = PRESETS.get(str(data.get("preset")))
        hyperparameters = () if preset is None else [field.name for field in fields(preset.hyperparameters)]
        if absent := [name for name in (*OWN, *hyperparameters) if name not in data]:
            raise ValueError(f"it lacks {absent[0]}")
        return from_flat(data | {name: exact(name, data[name], kind) for name, kind in OWN.items()})
    except RecursionError as error:
        raise ValueError(f"{path} is damaged (it is nested too deeply): restore it, or start a new run.") from error
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({str(error).rstrip('.')}): restore it, or start a new run.") from error


def from_flat(data: dict[str, Any]) -> Config:
    """What `Config.flat` gave, as a configuration again."""
    return make_config(**{name: value for name, value in data.items() if name not in DERIVED})


def require_same(saved: dict[str, Any], given: dict[str, Any]) -> None:
    """Refuse to go on with a run under another configuration.

    Args:
        saved: the run's flat configuration.
        given: fields asked for, some or all.

    Raises:
        RunError: fields differ that may not (all but `FREE`), or that the run does not have; the sentence names them.
    """
    may = (*FREE, *PLACES, *DERIVED)
    names = [name for name, value in given.items() if name not in may and value != saved.get(name, "none")]
    if names:
        differences = ", ".join(f"{name} (run: {saved.get(name, 'none')}, given: {given[name]})" for name in names)
        raise RunError(f"this run was made with another configuration: {differences}. Leave these out, or start a new run.")
