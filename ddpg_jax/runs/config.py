"""What a run is made of, as plain data that a folder can hold; imports no JAX, so that the command line answers at once."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddpg_jax.runs.presets import PRESETS, Numbers, Preset, numbers_on

if TYPE_CHECKING:
    from ddpg_jax.schedule import Schedule


class RunError(ValueError):
    """A run that cannot start or go on; the message is one sentence for the user."""


# May differ between a run and its continuation: they change no bit of what is trained.
FREE = ("total_timesteps", "evaluate_every", "evaluation_episodes", "checkpoint_every", "keep")
# Said in ``config.json``, and known without it.
DERIVED = ("source", "replaced")


@dataclass(frozen=True, kw_only=True)
class Config:
    """A training run. Chunks are what runs between two reports; see `ddpg_jax.schedule.Schedule`."""

    env: str
    preset: Preset
    numbers: Numbers
    replaced: dict[str, tuple[Any, Any]]
    """The preset's numbers of which the task has its own: ``{name: (the preset's, the task's)}``."""
    env_options: dict[str, Any]
    seed: int
    seeds: int
    schedule: Schedule
    evaluate_every: int
    evaluation_episodes: int
    checkpoint_every: int
    keep: int

    @property
    def num_chunks(self) -> int:
        """Whole chunks that fit into ``total_timesteps`` after the warm-up."""
        return self.schedule.chunks(self.numbers.total_timesteps)

    @property
    def note(self) -> str:
        """What the task replaced in the preset, as a sentence; empty where that is nothing."""
        changes = ", ".join(f"{name} {new} (preset: {old})" for name, (old, new) in self.replaced.items())
        return changes and f"numbers found by trying on {self.env} replace the preset's: {changes}."

    def flat(self) -> dict[str, Any]:
        """Every field as JSON-able data, on one level."""
        own = ("env_options", "seed", "seeds", "evaluate_every", "evaluation_episodes", "checkpoint_every", "keep")
        data = {
            "env": self.env,
            "preset": self.preset.name,
            "source": " ".join(filter(None, (self.preset.source, self.note))),
            "replaced": self.replaced,
            **{name: getattr(self, name) for name in own},
            "steps_per_chunk": self.schedule.steps_per_chunk,
            **{field.name: getattr(self.numbers, field.name) for field in fields(self.numbers)},
        }
        return json.loads(json.dumps(data))


def make_config(
    env: str,
    preset: str = "default",
    *,
    env_options: dict[str, Any] | None = None,
    seed: int = 0,
    seeds: int = 1,
    steps_per_chunk: int | None = None,
    evaluate_every: int = 1,
    evaluation_episodes: int = 20,
    checkpoint_every: int = 5,
    keep: int = 2,
    **given: Any,
) -> Config:
    """The configuration of a run: a preset with some numbers replaced.

    Args:
        env, preset: names; env_options: see `ddpg_jax.envs.make`.
        seed, seeds: train ``seeds`` independent members with the seeds ``seed, seed + 1, ...`` in one program.
        steps_per_chunk: environment steps between two reports; None is about a twentieth of the run.
        evaluate_every, checkpoint_every: in chunks; 0 is never but at the end.
        evaluation_episodes: episodes per evaluation.
        keep: checkpoints kept.
        **given: replace the preset's numbers (`ddpg_jax.runs.presets.Numbers` and what the algorithm adds).

    Raises:
        ValueError: an unknown preset, a number that it does not have, or one out of its range.
    """
    from ddpg_jax import checks

    if preset not in PRESETS:
        raise checks.nearest("preset", preset, PRESETS, "`ddpg-jax presets` lists all.")
    numbers, replaced = numbers_on(PRESETS[preset], env)
    numbers = _with(numbers, given, preset)
    checks.between(1, float("inf"), seeds=seeds, evaluation_episodes=evaluation_episodes, keep=keep)
    checks.between(0, float("inf"), evaluate_every=evaluate_every, checkpoint_every=checkpoint_every)
    checks.between(0, 2**31 - 1 - seeds, seed=seed)
    config = Config(
        env=env,
        preset=PRESETS[preset],
        numbers=numbers,
        replaced={name: both for name, both in replaced.items() if getattr(numbers, name) == both[1]},
        env_options=env_options or {},
        seed=seed,
        seeds=seeds,
        schedule=_schedule(numbers, steps_per_chunk),
        evaluate_every=evaluate_every,
        evaluation_episodes=evaluation_episodes,
        checkpoint_every=checkpoint_every,
        keep=keep,
    )
    if config.num_chunks < 1:
        first, chunk = config.schedule.warm_up_steps, config.schedule.steps_per_chunk
        raise ValueError(
            f"total_timesteps={numbers.total_timesteps} ends before the first update: it must be at least {first + chunk}, "
            f"the warm-up ({first}) and one chunk ({chunk})."
        )
    return config


def _with(numbers: Numbers, given: dict[str, Any], preset: str) -> Numbers:
    """The numbers, some replaced by those given, and all of them checked."""
    known = {field.name for field in fields(numbers)}
    if absent := [name for name in given if name not in known]:
        having = [name for name, other in PRESETS.items() if absent[0] in {field.name for field in fields(other.numbers)}]
        where = f"it is a number of {', '.join(having)}" if having else "no preset has it"
        raise ValueError(f"preset {preset!r} has no {absent[0]}: {where}.")
    numbers = replace(numbers, **given)
    numbers = replace(numbers, hidden=tuple(numbers.hidden), critic_hidden=tuple(numbers.critic_hidden))
    numbers.check()
    return numbers


def _schedule(numbers: Numbers, steps_per_chunk: int | None) -> Schedule:
    from ddpg_jax import schedule

    updates, collect_steps = schedule.rounds_of(numbers.updates_per_step, numbers.batches_per_update)
    if steps_per_chunk is None:
        twentieth = (numbers.total_timesteps - numbers.learning_starts) // 19
        steps_per_chunk = schedule.whole_chunk(twentieth, numbers.num_envs, collect_steps)
    return schedule.Schedule(
        num_envs=numbers.num_envs,
        learning_starts=numbers.learning_starts,
        updates_per_step=updates,
        collect_steps=collect_steps,
        steps_per_chunk=steps_per_chunk,
        n_step=numbers.n_step,
    )


def resumed(folder: Path, given: dict[str, Any]) -> Config:
    """The configuration of the run in ``folder``, with fields given anew of those that may change (`FREE`).

    Raises:
        FileNotFoundError, ValueError: as `load`.
        RunError: fields differ that may not.
    """
    saved = load(folder).flat()
    given = {name: list(value) if isinstance(value, tuple) else value for name, value in given.items()}
    if "env_options" in given:
        given["env_options"] = saved["env_options"] | given["env_options"]
    require_same(saved, given)
    return from_flat(saved | given)


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
        return from_flat(json.loads(path.read_text()))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({error}): restore it, or start a new run.") from error


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
    may = (*FREE, *DERIVED)
    names = [name for name, value in given.items() if name not in may and value != saved.get(name, "none")]
    if names:
        differences = ", ".join(f"{name} (run: {saved.get(name, 'none')}, given: {given[name]})" for name in names)
        raise RunError(f"this run was made with another configuration: {differences}. Leave these out, or start a new run.")
