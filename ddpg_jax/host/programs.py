"""What runs on the device while the host steps the environments."""

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import jax

from ddpg_jax import compiling
from ddpg_jax.environment import HostEnvironment
from ddpg_jax.host.rows import packed, row_shapes, unpack
from ddpg_jax.learner import Learner, RoundKeys, TrainState
from ddpg_jax.reporting import Totals, accumulate, finite_leaves, zero_totals
from ddpg_jax.schedule import Schedule
from ddpg_jax.types import AgentState, Array, Behaviour, Key, PyTree, Transition, zeros

LEARNING, ACTING = 0x1EA2_0000, 0xAC71_0000
"""Folded into the state's key for two streams, whose keys are those of vector steps."""


class Program:
    """A jitted function that can be compiled ahead of its first call."""

    def __init__(self, function: Callable[..., Any], **options: Any) -> None:
        self.function = function
        self._jitted = compiling.jit(function, compiling.HOT_LOOP_OPTIONS, **options)
        self._call: Callable[..., Any] = self._jitted

    def compile(self, *shapes: Any) -> jax.stages.Compiled:
        """Now, for arguments of these shapes."""
        compiled: jax.stages.Compiled = self._jitted.lower(*shapes).compile()
        self._call = compiled
        return compiled

    def __call__(self, *arguments: Any) -> Any:
        """Run it, compiled on first use where `compile` did not."""
        return self._call(*arguments)


class HostPrograms(NamedTuple):
    """Between two steps of the environments. A row is what `ddpg_jax.host.rows` packs."""

    explore: Program
    """``(behaviour_state, agent_state, key, number, row) -> (action, behaviour_state, number + 1,
    row)``: the action of vector step ``number``; the row comes from the host, and stays on the
    device.
    """
    explore_at_first: Program
    fill: Program
    """``(state, before, action, row) -> state``: take in ``row``, which followed ``action``, the
    answer to ``before``.
    """
    store: Program
    """The same, and store it."""
    store_and_learn: Program
    """``(state, sums, before, action, row) -> (state, sums)``."""
    zero_totals: Program
    finite: Program


def make_programs(
    learner: Learner,
    env: HostEnvironment,
    behaviour: Behaviour,
    warming: Behaviour,
    schedule: Schedule,
) -> HostPrograms:
    """The programs of a `Schedule`; ``warming`` acts at first."""
    like, updates = row_shapes(env), schedule.updates_per_step

    def store(
        state: TrainState, before: Array, action: Array, row: Array, store: bool = True
    ) -> TrainState:
        now = unpack(row, like)
        transition = Transition(
            observation=unpack(before, like)["observation"],
            action=action,
            reward=now["reward"],
            discount=now["discount"],
            next_observation=now["next_observation"],
            valid=None if env.same_step else now["valid"],
        )
        collector = replace(state.collector, reset=now["first"])
        return learner.store_step(state, collector, transition, now["done"], store=store)

    def learn(state: TrainState, sums: Totals, *step: Any) -> tuple[TrainState, Totals]:
        state = store(state, *step)
        key = jax.random.fold_in(jax.random.fold_in(state.key, LEARNING), state.steps)
        keys = RoundKeys.split(key, updates=updates, adapts=True)
        state, metrics = learner.update(state, keys.sample, keys.update)
        state = learner.adapt_behaviour(state, keys.adapt)
        return state, accumulate(sums, metrics, state.steps - 1)

    def nothing(state: TrainState) -> Totals:
        keys = jax.eval_shape(lambda key: jax.random.split(key, updates), state.key)
        return zero_totals(jax.eval_shape(learner.update, state, keys, keys)[1])

    explore = _explore(behaviour, like)
    return HostPrograms(
        explore,
        explore if warming is behaviour else _explore(warming, like),
        Program(functools.partial(store, store=False), donate_argnums=0),
        Program(store, donate_argnums=0),
        Program(learn, donate_argnums=(0, 1)),
        Program(nothing),
        Program(finite_leaves),
    )


def _explore(acting: Behaviour, like: PyTree) -> Program:
    def explore(
        state: PyTree, agent_state: AgentState, key: Key, number: Array, row: Array
    ) -> tuple[Any, ...]:
        seen = unpack(row, like)
        key = jax.random.fold_in(jax.random.fold_in(key, ACTING), number)
        answer = acting.act(state, agent_state, seen["observation"], key, seen["first"])
        return (*answer, number + 1, row)

    return Program(explore)


def compile_all(
    programs: HostPrograms, init: Callable[[Key], TrainState], env: HostEnvironment
) -> list[jax.stages.Compiled]:
    """Compile all that a chunk runs."""
    state = jax.eval_shape(init, jax.random.key(0))
    shape = packed(env)
    action = zeros(env.action, env.num_envs)
    # JAX refuses to trace the jitted function, which has options of its own.
    sums = jax.eval_shape(programs.zero_totals.function, state)
    return [
        programs.explore.compile(
            state.collector.behaviour, state.agent, state.key, state.steps, shape
        ),
        programs.store_and_learn.compile(state, sums, shape, action, shape),
        programs.store.compile(state, shape, action, shape),
        programs.zero_totals.compile(state),
        programs.finite.compile(state.agent),
    ]
