"""What runs on the host: the environments, and the programs between their steps."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ddpg_jax.checks import BrokenEnvironment
from ddpg_jax.environment import HostEnvironment, HostStep
from ddpg_jax.host.programs import HostPrograms
from ddpg_jax.host.rows import pack
from ddpg_jax.learner import TrainState, with_behaviour
from ddpg_jax.reporting import NEVER, Episodes, Report, Totals, read_totals, stacked
from ddpg_jax.schedule import Schedule
from ddpg_jax.types import Array, Behaviour, strong, zeros

TRAINING, EVALUATION = 0, 1
"""Of which environments a seed is (`seed_of`)."""


class NotFinite(BrokenEnvironment):
    """An environment raised where the action was not finite."""


class Stopped(Exception):
    """A loop on the host was asked to stop, and did before its work was done: what it had begun is
    lost.
    """


def heed(stopped: Callable[[], bool]) -> None:
    """Look whether to stop.

    Raises:
        Stopped: so it is.
    """
    if stopped():
        raise Stopped("stopped before it was done")


def seed_of(stream: int, seed: int) -> int:
    """The seed of a stream, `TRAINING` or `EVALUATION`: no two streams, and no two seeds of one,
    have it in common.
    """
    return 2 * seed + stream


def interrupted(state: TrainState) -> TrainState:
    """Training whose running episodes are cut here, as by a time limit, because the environments
    begin anew.

    Of a window (`ddpg_jax.returns`) the newest steps become the last of their episodes: multi-step
    returns end there and bootstrap from what truly followed, so that no row joins an old episode to
    a new one; likewise of a replay that knows episodes. Everything else stays; what is lost are the
    returns and lengths of the episodes that are cut.
    """
    if hasattr(state.replay, "cut"):
        return replace(state, replay=state.replay.cut())
    if not hasattr(state.window, "ended"):
        return state
    ended = state.window.ended.at[-1:].set(True)
    return replace(state, window=replace(state.window, ended=ended))


@dataclass
class Hosted:
    """The environments with what is known of them on the host: where they stand, and sums since
    `clear`.
    """

    env: HostEnvironment

    def begin(self, seed: int) -> np.ndarray:
        """Reset; a row that shows where they stand."""
        count = self.env.num_envs
        observation = self.env.reset(seed_of(TRAINING, seed))
        self._return, self._length = np.zeros(count), np.zeros(count)
        self._bad = dict.fromkeys(("action", "observation", "reward"), NEVER)
        self.clear()
        number, flag = np.zeros(count, np.float32), np.zeros(count, bool)
        return self._packed(
            {
                "reward": number,
                "discount": number,
                "done": flag,
                "first": ~flag,
                "valid": flag,
                "observation": observation,
                "next_observation": observation,
            }
        )

    def _packed(self, row: dict[str, Any]) -> np.ndarray:
        self._shown = row
        return pack(row)

    def anew(self) -> np.ndarray:
        """The newest row again, for a behaviour that begins here: its first step is the start of an
        episode to it.
        """
        return self._packed(self._shown | {"first": np.ones(self.env.num_envs, bool)})

    def clear(self, steps: int = 0) -> None:
        """Begin new sums; the step that comes next is number ``steps``."""
        self._steps = steps
        self._ended = np.zeros(3)

    def step(self, action: np.ndarray) -> np.ndarray:
        """Act; what followed, as a packed row."""
        with jax.profiler.TraceAnnotation("environment"):
            try:
                now = self.env.step(action)
            except BrokenEnvironment as error:
                if np.isfinite(action).all():
                    raise
                raise NotFinite(
                    f"{error}, where the action had become NaN or infinite: lower the learning "
                    "rates, or check the environment"
                ) from error
        done = now.terminated | now.truncated
        self._count(action, now, done)
        return self._packed(
            {
                "reward": now.reward,
                "discount": 1.0 - now.terminated.astype(np.float32),
                "done": done | ~now.valid,
                "first": done if self.env.same_step else ~now.valid,
                "valid": now.valid,
                "observation": now.observation,
                "next_observation": now.next_observation,
            }
        )

    def _count(self, action: np.ndarray, now: HostStep, done: np.ndarray) -> None:
        self._return += np.where(now.valid, now.reward, 0.0)
        self._length += now.valid
        self._ended += [done.sum(), self._return[done].sum(), self._length[done].sum()]
        self._return[done], self._length[done] = 0.0, 0.0
        seen = (self._shown["observation"], now.observation, now.next_observation)
        watched = {"action": action, "observation": seen, "reward": now.reward}
        for name, value in watched.items():
            floats = (x for x in jax.tree.leaves(value) if np.issubdtype(x.dtype, np.inexact))
            if self._bad[name] == NEVER and not all(np.isfinite(x).all() for x in floats):
                self._bad[name] = self._steps
        self._steps += 1

    def episodes(self) -> Episodes:
        """Sums over the episodes that ended since `clear`, of which none is broken."""
        return Episodes(*map(jnp.float32, [*self._ended, 0]))

    def watched(self, state: TrainState) -> TrainState:
        """The state, which remembers the first step where something collected was not finite."""
        bad = jax.tree.map(jnp.minimum, state.bad, stacked(self._bad, jnp.int32))
        return replace(state, bad=bad)


@dataclass
class Loop:
    """Environments and programs, taking turns. ``row``: the newest; ``anew``: whether it is of a
    reset that no state has taken notice of; ``answered``: the newest row that the agent saw, and
    its action, which the environments have not executed yet.

    An action is chosen before the updates of the step before, at the border of two chunks as within
    one: a chunk ends with the choice of an action, which the next one executes.
    """

    hosted: Hosted
    programs: HostPrograms
    behaviour: Behaviour
    warming: Behaviour
    schedule: Schedule
    stopped: Callable[[], bool]
    row: Any = None
    anew: bool = False
    answered: tuple[Any, ...] = ()

    def begin(self, seed: int) -> None:
        """Reset the environments."""
        self.row, self.anew, self.answered = self.hosted.begin(seed), True, ()

    def _ready(self, state: TrainState) -> TrainState:
        """The state to go on from, once the environments have begun; running episodes of it are cut
        where they began anew.
        """
        if self.row is None:
            raise ValueError(
                "the environments have not begun: call begin(seed) before warm_up and chunk."
            )
        if self.anew:
            state, self.anew = interrupted(state), False
        return state

    def warm_up(self, state: TrainState) -> TrainState:
        """See `ddpg_jax.host.HostTrain`."""
        state, self.answered = self._ready(state), ()
        own = self.warming is self.behaviour
        acting_key, key = jax.random.split(state.key)
        acting, env = state.collector.behaviour, self.hosted.env
        if not own:  # a state of its own, for now
            start_key = jax.random.fold_in(acting_key, NEVER)
            acting = strong(self.warming.init(start_key, zeros(env.action, env.num_envs)))
        state, number = replace(state, key=key), jnp.int32(0)
        for index in range(self.schedule.warm_up):
            heed(self.stopped)
            action, acting, number, before = self.programs.explore_at_first(
                acting, state.agent, acting_key, number, self.row
            )
            self.row = self.hosted.step(np.asarray(action))
            store = self.programs.fill if index < self.schedule.filling else self.programs.store
            state = store(state, before, action, self.row)
        state = self.hosted.watched(state)
        if own:
            return with_behaviour(state, acting)
        self.row = self.hosted.anew()
        return state

    def chunk(self, state: TrainState, rounds: int | None = None) -> tuple[TrainState, Report]:
        """See `ddpg_jax.host.HostTrain`; of ``rounds`` rounds where they are given."""
        state, rounds = self._ready(state), rounds or self.schedule.rounds
        sums, steps = self.programs.zero_totals(state), int(state.steps)
        self.hosted.clear(steps)
        number = jnp.int32(steps + bool(self.answered))
        if not self.answered:
            state, number = self._explore(state, number)
        for index in range(rounds * self.schedule.collect_steps):
            step = self.answered
            self.row = self.hosted.step(np.asarray(step[1]))
            state, number = self._explore(state, number)
            state, sums = self._take_in(state, sums, index + 1, *step, self.answered[0])
        state, (metrics, bad) = self.hosted.watched(state), read_totals(sums)
        return state, Report(
            episodes=self.hosted.episodes(),
            metrics=jax.tree.map(lambda x: x / rounds, metrics),
            first_bad_step=state.first_bad_step | bad,
            finite=self.programs.finite(state.agent),
        )

    def _explore(self, state: TrainState, number: Array) -> tuple[TrainState, Array]:
        """Choose the action of vector step ``number``, the answer to the newest row."""
        action, behaving, number, before = self.programs.explore(
            state.collector.behaviour, state.agent, state.key, number, self.row
        )
        jax.block_until_ready(action)  # before the state it came from is given away
        self.answered = before, action
        return with_behaviour(state, behaving), number

    def _take_in(
        self, state: TrainState, sums: Totals, steps: int, *step: Any
    ) -> tuple[TrainState, Totals]:
        """The chunk's step number ``steps``, ``before, action, row`` as of `HostPrograms`; a round
        may be over.
        """
        if steps % self.schedule.collect_steps:
            return self.programs.store(state, *step), sums
        result: tuple[TrainState, Totals] = self.programs.store_and_learn(state, sums, *step)
        return result
