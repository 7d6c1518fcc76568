"""The record of a preset: an algorithm with its hyper-parameters."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from ddpg_jax.environment import Environment
    from ddpg_jax.runs.options.hyperparameters import Hyperparameters
    from ddpg_jax.runs.tasks import Task, Values
    from ddpg_jax.types import Agent, AgentState, Behaviour, Replay, Window


class Components(NamedTuple):
    """The components of a run, as `ddpg_jax.train.make_train` takes them.

    ``warm_up`` None acts uniformly at random.
    """

    agent: Agent
    replay: Replay
    behaviour: Behaviour
    warm_up: Behaviour | None
    window: Window | None


@dataclass(frozen=True, kw_only=True)
class Preset:
    """An algorithm with its hyper-parameters, known by a name to `ddpg_jax.runs.train`.

    Presets named after an algorithm are ours, and on some tasks take hyper-parameters found by
    trying (`ddpg_jax.runs.tasks`), which every run reports. ``exact`` ones have a publication's
    hyper-parameters, and take only the support of a categorical critic from a task.
    """

    name: str
    summary: str
    source: str
    """The publication of the hyper-parameters."""
    hyperparameters: Hyperparameters
    compose: Callable[[Any, Environment], Components]
    """``compose(hyperparameters, env)``: the components of a run."""
    ours: str = ""
    """Differences from the source, with its values; each run reports them at its start."""
    exact: bool = False
    scaled_down: Values = field(default_factory=dict)
    """Replacements on a task with tuned hyper-parameters, which in turn replace these."""
    of_task: Callable[[Task], Values] = lambda task: task.hyperparameters
    """``of_task(task)``: the task's tuned hyper-parameters; not used where the preset is exact."""
    published_for: Callable[[str], Values] = lambda env: {}
    """``published_for(env)``: the publication's own exceptions for this environment."""
    only_for: str | None = None
    """The only environment that it supports."""
    images: bool = False
    """Whether its networks take images; those of other presets take vectors."""
    shown: Values = field(default_factory=dict)
    """Of one of images: the source's options of an environment that is seen by pixels."""
    around: Callable[[Environment], Environment] | None = None
    """A wrapper of the environment, in evaluation too."""
    pictures: Callable[[Any, Environment, AgentState, Any], Values] | None = None
    """``pictures(hyperparameters, env, agent_state, key)``: pictures at the end of a run,
    ``{name: [H, W, 3] in [0, 1]}``."""

    def __post_init__(self) -> None:
        """Join the lines of each text."""
        for name in ("summary", "source", "ours"):
            object.__setattr__(self, name, " ".join(getattr(self, name).split()))

    @property
    def cites(self) -> str:
        """`source` and `ours`, as one text."""
        return f"{self.source} Ours: {self.ours}" if self.ours else self.source
