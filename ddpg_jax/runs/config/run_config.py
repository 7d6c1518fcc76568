"""The configuration of a run: made from options, checked, and written as JSON."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

from ddpg_jax.runs.config import mesh
from ddpg_jax.runs.config.default_preset import choose_preset, describe_choice
from ddpg_jax.runs.config.notes import notes
from ddpg_jax.runs.config.population import checked_evolve, checked_vary, possible_hyperparameters
from ddpg_jax.runs.options import field
from ddpg_jax.runs.options.run_options import EnvironmentOptions, RunOptions
from ddpg_jax.runs.options.suggestions import suggestions
from ddpg_jax.runs.options.validation import INT32_MAX, Options, convert_value
from ddpg_jax.runs.presets import PRESETS, env_options_on, hyperparameters_on

if TYPE_CHECKING:
    from ddpg_jax.runs.options.hyperparameters import Hyperparameters
    from ddpg_jax.runs.options.preset import Preset
    from ddpg_jax.schedule import Schedule

STORED = [name for name in field.options_of(RunOptions) if name != "devices"]
"""Run options in ``config.json``, which has ``devices`` as the mesh."""
GENERATIONS = 20
"""About as many chunks has a run where members evolve, before each but the first."""
INTERVALS = {"evaluate_every": 20, "checkpoint_every": 4}
"""By default the steps between two evaluations or checkpoints are this part of a run."""
DERIVED = ("source", "replaced", "trained_timesteps")
"""Entries of ``config.json`` that follow from the others."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(RunOptions):
    """A checked configuration.

    A chunk is the part of a run between two reports (`ddpg_jax.schedule`).
    """

    preset: Preset
    evaluate_every: int
    checkpoint_every: int
    device_kind: str
    """The kind of device for which the preset was chosen (`default_preset`)."""
    hyperparameters: Hyperparameters
    replaced: dict[str, tuple[Any, Any]]
    """Hyper-parameters that the task replaced: ``{name: (the preset's, the task's)}``."""
    schedule: Schedule
    vary: dict[str, list[Any]]
    """Floats of the preset in which members differ, ``{name: [seeds]}``, and ``seed`` where it
    is not ``seed + i``."""
    evolve: Options
    """How members evolve (the options of ``--pbt``), or empty."""

    @property
    def num_chunks(self) -> int:
        """Chunks after the warm-up; the last one may be shorter."""
        steps = self.trained_timesteps - self.schedule.warm_up_steps
        return -(-steps // self.schedule.steps_per_chunk)

    @property
    def trained_timesteps(self) -> int:
        """Environment steps of each member in warm-up and whole rounds."""
        return self.schedule.trained(self.hyperparameters.total_timesteps)

    @property
    def has_start(self) -> bool:
        """Whether it begins with another run, or with stored transitions."""
        return bool(self.start_from or self.offline)

    def due(self, name: str, steps: int, length: int) -> bool:
        """Return whether ``evaluate_every`` or ``checkpoint_every`` falls into a chunk.

        It ended at ``steps`` and has ``length`` of them; steps are counted from the warm-up on.
        """
        every, since = getattr(self, name), steps - self.schedule.warm_up_steps
        return every > 0 and since // every > (since - length) // every

    def updates_in(self, steps: int) -> int:
        """Critic updates of each member in so many environment steps after the warm-up."""
        own = self.hyperparameters
        return steps // own.num_envs * own.updates_per_step

    @property
    def anneal_updates(self) -> int:
        """Critic updates over which learning rates fall to zero; 0 where they do not."""
        own = self.hyperparameters
        whole = own.anneal and self.updates_in(own.total_timesteps - own.learning_starts)
        return own.anneal_updates or max(0, int(whole))

    @property
    def note(self) -> str:
        """What differs from the source and from the request, a sentence per line."""
        preset = self.preset
        ours = preset.ours and f"preset {preset.name} differs from its source: {preset.ours}"
        choice = describe_choice(self.env, preset.name, self.device_kind, bool(self.replaced))
        return "\n".join(filter(None, (choice, ours, self._changes, *notes(self))))

    @property
    def _changes(self) -> str:
        """A sentence on what the task replaced in the preset; empty where it replaced nothing."""
        changes = ", ".join(
            f"{name} {new} (preset: {old})" for name, (old, new) in self.replaced.items()
        )
        found = f"hyper-parameters found by trying on {self.env} replace the preset's: "
        return changes and f"{found}{changes}."

    def flat(self) -> Options:
        """Return every field as JSON-able data, on one level, which `make_config` accepts again."""
        data = {
            **{name: getattr(self, name) for name in STORED},
            "preset": self.preset.name,
            "source": " ".join(filter(None, (self.preset.cites, self._changes))),
            "replaced": self.replaced,
            "trained_timesteps": self.trained_timesteps,
            **vars(self.hyperparameters),
            **({"vary": self.vary} if self.vary else {}),
            **({"evolve": self.evolve} if self.evolve else {}),
        }
        return json.loads(json.dumps(data))


def make_config(
    env: str,
    preset: str | None = None,
    *,
    vary: dict[str, list[Any]] | None = None,
    evolve: Options | None = None,
    **given: Any,
) -> Config:
    """Return the configuration of a run: a preset with some hyper-parameters replaced.

    Args:
        env: a name that `ddpg_jax.envs.make` knows.
        preset: a name; None chooses by the kind of device (a GPU or TPU runs many environments at
            once), and by whether the environment shows images.
        vary: what members have of their own, see `Config`; `ddpg_jax.runs.sweep` makes it.
        evolve: how members evolve, likewise.
        **given: other options of `RunOptions`, and hyper-parameters of the preset.

    Raises:
        ValueError: an unknown preset, a hyper-parameter that it does not have, or a value of
            another type or out of its range.
    """
    own = {name: given.pop(name) for name in field.options_of(RunOptions) if name in given}
    options = _checked_options({"env": env, "preset": preset, **own})
    chosen, kind = choose_preset(options)
    recipe = preset_called(chosen)
    env_options = env_options_on(recipe, options.env, options.env_options)
    defaults, replaced = hyperparameters_on(recipe, options.env)
    hyperparameters = _replaced(defaults, given, recipe.name)
    varied = checked_vary(vary or {}, options.seeds, hyperparameters)
    evolved = checked_evolve(evolve or {}, varied, hyperparameters)
    for each in possible_hyperparameters(varied, evolved):
        dataclasses.replace(hyperparameters, **each).check()
    chunks = GENERATIONS if evolve else _chunks(options.env, recipe)
    schedule = _schedule(hyperparameters, options.steps_per_chunk, chunks)
    config = Config(
        **vars(options)
        | {
            "preset": recipe,
            "device_kind": kind,
            "env_options": env_options,
            "steps_per_chunk": schedule.steps_per_chunk,
            **_intervals(options, schedule, hyperparameters.total_timesteps),
        },
        hyperparameters=hyperparameters,
        replaced={
            name: both
            for name, both in replaced.items()
            if getattr(hyperparameters, name) == both[1]
        },
        schedule=schedule,
        vary=varied,
        evolve=evolved,
    )
    return dataclasses.replace(config, devices=None, mesh=mesh.requested_mesh(config))


def _checked_options(given: Options) -> RunOptions:
    """Return run options of their types and in their ranges, with those of the environment."""
    from ddpg_jax import checks

    options = RunOptions(**field.convert_options(RunOptions, given, keep_defaults=True))
    field.check_options(options)
    checks.between(0, INT32_MAX - options.seeds, seed=options.seed)
    return dataclasses.replace(options, env_options=checked_env_options(options.env_options))


def checked_env_options(given: Any) -> Options:
    """Return options of an environment; those that every environment may have are checked.

    Raises:
        ValueError: one is out of its range, or is not for ``env_options``.
    """
    options: Options = convert_value("env_options", given, dict)
    known = field.options_of(EnvironmentOptions)
    common = {name: options[name] for name in known if name in options}
    common = field.convert_options(EnvironmentOptions, common)
    field.check_options(EnvironmentOptions(**common))
    if taken := {"name", "num_envs"} & options.keys():
        raise ValueError(f"{min(taken)!r} cannot be passed in env_options; leave it out.")
    return options | common


def preset_called(name: str) -> Preset:
    """Return the preset of this name.

    Raises:
        ValueError: it is unknown.
    """
    from ddpg_jax import checks

    if name not in PRESETS:
        raise checks.nearest("preset", name, PRESETS, "`ddpg-jax presets` lists all.")
    return PRESETS[name]


def presets_with(name: str) -> str:
    """Return the names of the presets that have a hyper-parameter, joined by commas."""
    return ", ".join(
        preset for preset, other in PRESETS.items() if name in vars(other.hyperparameters)
    )


def _replaced(defaults: Hyperparameters, given: Options, preset: str) -> Hyperparameters:
    """Return the hyper-parameters, some replaced, all of them checked."""
    if absent := [name for name in given if name not in vars(defaults)]:
        having = presets_with(absent[0])
        where = f"presets that have it: {having}" if having else "no preset has it"
        known = (*vars(defaults), *field.options_of(RunOptions))
        if not having and (meant := suggestions(absent[0], known)):
            where = f"did you mean {' and '.join(meant)}?"
        raise ValueError(f"preset {preset!r} has no {absent[0]}; {where}.")
    made = dataclasses.replace(defaults, **field.convert_options(type(defaults), given))
    made.check()
    return made


def _intervals(options: RunOptions, schedule: Schedule, total: int) -> dict[str, int]:
    """Return the steps between two evaluations and between two checkpoints, whole chunks."""
    chunks = schedule.chunks(total)
    default = {
        name: max(1, round(chunks / count)) * schedule.steps_per_chunk
        for name, count in INTERVALS.items()
    }
    given = {name: getattr(options, name) for name in INTERVALS}
    return default | {name: steps for name, steps in given.items() if steps is not None}


def _chunks(env: str, preset: Preset) -> int:
    """Return about how many chunks a run has by default."""
    from ddpg_jax.runs.tasks import CHUNKS, TASKS

    task = TASKS.get(env)
    return CHUNKS if task is None or preset.images or preset.around else task.chunks


def _schedule(
    hyperparameters: Hyperparameters, steps_per_chunk: int | None, chunks: int
) -> Schedule:
    """Return warm-up, rounds and chunks: about ``chunks`` of them without ``steps_per_chunk``.

    Raises:
        ValueError: the run ends before the first update, or counts beyond int32.
    """
    from ddpg_jax import schedule

    updates, collect_steps = schedule.rounds_of(
        hyperparameters.updates_per_step, hyperparameters.batches_per_update
    )
    one_round = schedule.Schedule(
        num_envs=hyperparameters.num_envs,
        learning_starts=hyperparameters.learning_starts,
        updates_per_step=updates,
        collect_steps=collect_steps,
        steps_per_chunk=hyperparameters.num_envs * collect_steps,
        n_step=hyperparameters.window,
    )
    if steps_per_chunk is None:
        rounds = one_round.chunks(hyperparameters.total_timesteps)
        steps_per_chunk = one_round.steps_per_round * schedule.even_chunk(rounds, chunks)
    made = dataclasses.replace(one_round, steps_per_chunk=steps_per_chunk)
    _require_chunk(hyperparameters.total_timesteps, made)
    return made


def _require_chunk(total: int, schedule: Schedule) -> None:
    if schedule.chunks(total) < 1:
        first, chunk = schedule.warm_up_steps, schedule.steps_per_chunk
        raise ValueError(
            f"total_timesteps={total} ends before the first update: it must be at least "
            f"{first + chunk}, the warm-up ({first}) and one chunk ({chunk})."
        )
    if total > schedule.longest:
        raise ValueError(
            f"total_timesteps={total}: must be at most {schedule.longest} here: vector steps and "
            "updates are counted in int32."
        )
