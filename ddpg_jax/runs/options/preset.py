"""What a preset is: an algorithm with hyper-parameters of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from ddpg_jax.runs.options.hyperparameters import Hyperparameters

if TYPE_CHECKING:
    from ddpg_jax.runs.tasks import Task
    from ddpg_jax.types import Agent, AgentState, Behaviour, Environment, Replay, Window


class Parts(NamedTuple):
    """What `ddpg_jax.train.make_train` composes; ``warm_up`` None is uniform random actions."""

    agent: Agent
    replay: Replay
    behaviour: Behaviour
    warm_up: Behaviour | None
    window: Window | None


@dataclass(frozen=True, kw_only=True)
class Preset:
    """An algorithm with hyper-parameters of its own: what `ddpg_jax.runs.train` calls by name.

    Presets named after an algorithm are ours, and on some tasks take hyper-parameters found by trying (`ddpg_jax.runs.tasks`), which
    every run says; ``exact`` ones are a publication's hyper-parameters, and take nothing from a task but a categorical critic's support.
    """

    name: str
    summary: str
    source: str
    """Where the hyper-parameters are from."""
    hyperparameters: Hyperparameters
    compose: Callable[[Any, Environment], Parts]
    """``compose(hyperparameters, env)``: the parts of a run."""
    ours: str = ""
    """Which hyper-parameters are not from there, with those that are there; each run says it at its start."""
    exact: bool = False
    scaled_down: Mapping[str, Any] = field(default_factory=dict)
    """Hyperparameters that replace those above on a task with hyper-parameters of its own, before those do."""
    of_task: Callable[[Task], Mapping[str, Any]] = lambda task: task.hyperparameters
    """``of_task(task)``: which hyper-parameters that were found by trying on a task replace its own, where it is not exact."""
    published_for: Callable[[str], Mapping[str, Any]] = lambda env: {}
    """``published_for(env)``: what the publication itself has another number for on this environment."""
    only_for: str | None = None
    """The only environment that it is for."""
    images: bool = False
    """Whether its networks take images, which those of the others do not."""
    around: Callable[[Environment], Environment] | None = None
    """A wrapper around the environment, also in evaluation."""
    pictures: Callable[[Any, Environment, AgentState, Any], Mapping[str, Any]] | None = None
    """``pictures(hyperparameters, env, agent_state, key)``: what a run shows in the end besides its curve, by their names images
    ``[H, W, 3]`` in [0, 1]."""

    @property
    def cites(self) -> str:
        """`source` and `ours`, as one text."""
        return f"{self.source} Ours: {self.ours}" if self.ours else self.source
