"""The loop for environments on the host: the same agent, replay and compiled update, one upload per vector step.

While the host steps the environments the device learns: an action is chosen, then the updates of the step before are started,
then the environments step. So the policy that acts is one round of updates behind that of `ddpg_jax.train`.
"""

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from ddpg_jax import noise as noises
from ddpg_jax import rollout, train
from ddpg_jax.envs.gymnasium import HostEnvironment, HostStep
from ddpg_jax.returns import Window
from ddpg_jax.types import Agent, AgentState, Behaviour, Key, Metrics, PyTree, Replay, Transition, strong


@struct.dataclass
class Sums:
    """What a chunk adds up on the device: metrics, and the first vector step at which each was not finite."""

    metrics: Metrics
    bad: dict[str, jax.Array]


class HostTrain(NamedTuple):
    """Training around host environments; the counterpart of `ddpg_jax.train.Train`, with effects on the environments."""

    init: Callable[[Key], train.TrainState]
    """``init(key)``: agent and empty replay. Pure."""
    warm_up: Callable[[train.TrainState], train.TrainState]
    """Store ``learning_starts`` transitions. Consumes its argument."""
    chunk: Callable[[train.TrainState], tuple[train.TrainState, train.Report]]
    """``steps_per_chunk`` environment steps and their updates. Consumes its argument."""
    begin: Callable[[int], None]
    """``begin(seed)``: reset the environments; running episodes are lost."""
    compile: Callable[[], None]
    """Compile everything now, which else happens on first use."""


def make_train(
    agent: Agent,
    env: HostEnvironment,
    replay: Replay,
    behaviour: Behaviour,
    *,
    learning_starts: int = 1_000,
    updates_per_step: int = 1,
    collect_steps: int = 1,
    steps_per_chunk: int = 1_000,
    warm_up: Behaviour | None = None,
    window: Window | None = None,
) -> HostTrain:
    """Compose an agent, host environments, a replay and a behaviour into training; arguments as in `ddpg_jax.train.make_train`.

    Only whole rows of ``num_envs`` transitions are uploaded. In next-step autoreset some steps are none: they are left
    out, and what is there waits until a row is full.

    Raises:
        ValueError: as there, or a ``window`` with next-step autoreset.
    """
    if window is not None and not env.same_step:
        raise ValueError(
            "n-step returns need every step to be a transition: make the environment with AutoresetMode.SAME_STEP."
        )
    count = env.num_envs
    train.check_sizes(count, learning_starts, updates_per_step, collect_steps, steps_per_chunk)
    learner = train.make_learner(agent, env, replay, behaviour, window)
    filling = 0 if window is None else window.length - 1
    player = _Player(env)

    def init(key: Key) -> train.TrainState:
        agent_key, behaviour_key, key = jax.random.split(key, 3)
        return learner.init(agent_key, key, _collector(env, behaviour, behaviour_key))

    def choose(acting: Behaviour) -> _Program:
        def act(state: PyTree, agent_state: AgentState, key: Key, number: Any, observation: PyTree, reset: Any) -> Any:
            return acting.act(state, agent_state, observation, jax.random.fold_in(key, number), reset)

        return _Program(act)

    def store(state: train.TrainState, row: tuple[Transition, jax.Array], store: bool = True) -> train.TrainState:
        transition, done = row
        return learner.take(state, dataclasses.replace(state.collector, reset=done), transition, store=store)

    def fill(state: train.TrainState, row: tuple[Transition, jax.Array]) -> train.TrainState:
        return store(state, row, store=False)

    def learn(state: train.TrainState, sums: Sums) -> tuple[train.TrainState, Sums]:
        keys = jax.random.split(jax.random.fold_in(state.key, state.steps), 2 * updates_per_step + 1)
        state, metrics = learner.learn(state, keys[:-1].reshape(updates_per_step, 2))
        state = state if behaviour.adapt is None else learner.adapt(state, keys[-1])
        bad = jax.tree.map(jnp.minimum, sums.bad, train.first_bad(metrics, state.steps - 1))
        return state, Sums(metrics=jax.tree.map(jnp.add, sums.metrics, metrics), bad=bad)

    def no_sums(state: train.TrainState) -> Sums:
        shapes = jax.eval_shape(lambda s: learner.learn(s, jax.random.split(s.key, (updates_per_step, 2)))[1], state)
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
        return Sums(metrics=zeros, bad={name: jnp.asarray(train.NEVER, jnp.int32) for name in shapes})

    def store_and_learn(
        state: train.TrainState, sums: Sums, row: tuple[Transition, jax.Array]
    ) -> tuple[train.TrainState, Sums]:
        return learn(store(state, row), sums)

    warming = noises.uniform() if warm_up is None else warm_up
    explore, nothing = choose(behaviour), _Program(no_sums)
    explore_at_first = explore if warming is behaviour else choose(warming)
    run_store, run_fill = _Program(store, donate_argnums=0), _Program(fill, donate_argnums=0)
    run_both = _Program(store_and_learn, donate_argnums=(0, 1))
    finite = _Program(train.finite_leaves)

    def compile_all() -> None:
        state = jax.eval_shape(init, jax.random.key(0))
        batched = jax.tree.map(lambda x: jax.ShapeDtypeStruct((count, *x.shape), x.dtype), (env.observation, env.action))
        flags, numbers = (jax.ShapeDtypeStruct((count,), kind) for kind in (jnp.bool_, jnp.float32))
        shaped: Any = (batched[0], batched[1], numbers, numbers, batched[0])
        row = (Transition(*shaped), flags)
        explore.compile(state.collector.behaviour, state.agent, state.key, state.steps, batched[0], flags)
        run_both.compile(state, jax.eval_shape(no_sums, state), row)
        run_store.compile(state, row)
        nothing.compile(state)
        finite.compile(state.agent)

    def warm_up_fn(state: train.TrainState) -> train.TrainState:
        own = warming is behaviour
        acting = state.collector.behaviour
        if not own:
            acting = warming.init(state.key, jnp.zeros((count, *env.action.shape)))
        acting_key, key = jax.random.split(state.key)
        state = dataclasses.replace(state, key=key)
        rows, wanted = 0, filling + -(-learning_starts // count)
        for number in itertools.count():
            if rows >= wanted:
                break
            action, acting = explore_at_first(acting, state.agent, acting_key, np.int32(number), *player.seen())
            for row in player.step(np.asarray(action)):
                state = (run_fill if rows < filling else run_store)(state, row)
                rows += 1
        if own:
            state = dataclasses.replace(state, collector=dataclasses.replace(state.collector, behaviour=acting))
        return state

    def take_in(state: train.TrainState, sums: Sums, rows: list, stored: int) -> tuple[train.TrainState, Sums]:
        for number, row in enumerate(rows, stored + 1):
            if number % collect_steps == 0:
                state, sums = run_both(state, sums, row)
            else:
                state = run_store(state, row)
        return state, sums

    def chunk(state: train.TrainState) -> tuple[train.TrainState, train.Report]:
        acting_key, key = jax.random.split(state.key)
        state, sums = dataclasses.replace(state, key=key), nothing(state)
        rows: list[tuple[Transition, np.ndarray]] = []  # what the environments returned and the device has not been given
        stored, wanted = 0, steps_per_chunk // count
        player.clear(int(state.steps))
        for number in itertools.count():
            if stored + len(rows) >= wanted:
                break
            behaving = state.collector.behaviour
            action, behaving = explore(behaving, state.agent, acting_key, np.int32(number), *player.seen())
            state = dataclasses.replace(state, collector=dataclasses.replace(state.collector, behaviour=behaving))
            action = np.asarray(action)  # before the state it came from is given away
            state, sums = take_in(state, sums, rows, stored)
            stored += len(rows)
            rows = player.step(action)
        state, sums = take_in(state, sums, rows, stored)
        rounds = (stored + len(rows)) // collect_steps
        metrics = jax.tree.map(lambda x: x / rounds, sums.metrics)
        report = train.Report(
            episodes=player.episodes(), metrics=metrics, first_bad_step=player.bad() | sums.bad, finite=finite(state.agent)
        )
        return state, report

    return HostTrain(init, warm_up_fn, chunk, player.begin, compile_all)


def make_evaluate(agent: Agent, env: HostEnvironment) -> Callable[[AgentState, int], np.ndarray]:
    """``evaluate(agent_state, seed) -> [E]`` undiscounted returns of one deterministic episode of each environment."""
    act = jax.jit(agent.act)

    def evaluate(agent_state: AgentState, seed: int) -> np.ndarray:
        observation, returns, alive = env.reset(seed), np.zeros(env.num_envs), np.ones(env.num_envs, bool)
        while alive.any():
            now = env.step(np.asarray(act(agent_state, observation)))
            returns += np.where(alive, now.reward, 0.0)
            alive &= ~(now.terminated | now.truncated)
            observation = now.observation
        return returns

    return evaluate


class _Program:
    """A jitted function that can be compiled ahead of its first call."""

    def __init__(self, function: Callable[..., Any], **options: Any) -> None:
        self._jitted = jax.jit(function, **options)
        self._call: Callable[..., Any] = self._jitted

    def compile(self, *shapes: Any) -> None:
        self._call = self._jitted.lower(*shapes).compile()

    def __call__(self, *arguments: Any) -> Any:
        return self._call(*arguments)


class _Player:
    """The environments with what is known of them on the host: where they stand, episodes so far, rows not yet full."""

    def __init__(self, env: HostEnvironment) -> None:
        self._env = env
        self._observation: Any = None

    def begin(self, seed: int) -> None:
        count = self._env.num_envs
        self._observation = self._env.reset(seed)
        self._first = np.ones(count, bool)
        self._return, self._length = np.zeros(count), np.zeros(count)
        self._waiting: list[tuple[Transition, np.ndarray]] = []
        self.clear()

    def clear(self, steps: int = 0) -> None:
        """Begin new sums; the step that comes next is number ``steps``."""
        self._steps = steps
        self._ended = np.zeros(3)
        self._bad = dict.fromkeys(("action", "observation", "reward"), train.NEVER)

    def seen(self) -> tuple[Any, np.ndarray]:
        """What to answer, and where an episode begins with the answer."""
        return self._observation, self._first

    def step(self, action: np.ndarray) -> list[tuple[Transition, np.ndarray]]:
        """Act; the full rows ``(transitions [E, ...], done [E])`` that this completes: one, or fewer after resets."""
        before, now = self._observation, self._env.step(action)
        row = Transition(
            observation=before,
            action=action,  # type: ignore[arg-type]  # NumPy, on its way to the device
            reward=now.reward,
            discount=1.0 - now.terminated.astype(np.float32),
            next_observation=now.next_observation,
        )
        done = now.terminated | now.truncated
        self._count(action, now, done)
        self._observation, self._first = now.observation, done if self._env.same_step else ~now.valid
        if self._env.same_step:
            return [(row, done)]
        return self._full_rows(row, done, now.valid)

    def _count(self, action: np.ndarray, now: HostStep, done: np.ndarray) -> None:
        self._return += np.where(now.valid, now.reward, 0.0)
        self._length += now.valid
        self._ended += [done.sum(), self._return[done].sum(), self._length[done].sum()]
        self._return[done], self._length[done] = 0.0, 0.0
        watched = {"action": action, "observation": (now.observation, now.next_observation), "reward": now.reward}
        for name, value in watched.items():
            leaves = [leaf for leaf in jax.tree.leaves(value) if np.issubdtype(leaf.dtype, np.inexact)]
            if self._bad[name] == train.NEVER and not all(np.isfinite(leaf).all() for leaf in leaves):
                self._bad[name] = self._steps
        self._steps += 1

    def _full_rows(self, row: Transition, done: np.ndarray, valid: np.ndarray) -> list[tuple[Transition, np.ndarray]]:
        self._waiting.append(jax.tree.map(lambda x: x[valid], (row, done)))
        joined = jax.tree.map(lambda *parts: np.concatenate(parts), *self._waiting)
        count, have = self._env.num_envs, len(joined[1])
        full = have // count
        cut = lambda low, high: jax.tree.map(lambda x: x[low:high], joined)
        self._waiting = [cut(full * count, have)]
        return [cut(i * count, (i + 1) * count) for i in range(full)]

    def episodes(self) -> rollout.Episodes:
        """Sums over the episodes that ended since `clear`."""
        count, returns, lengths = (jnp.float32(value) for value in self._ended)
        return rollout.Episodes(count=count, return_sum=returns, length_sum=lengths, broken=jnp.float32(0))

    def bad(self) -> dict[str, Any]:
        return {name: np.int32(step) for name, step in self._bad.items()}


def _collector(env: HostEnvironment, behaviour: Behaviour, key: Key) -> rollout.Collector:
    """The part of a collector that lives on the device: what the behaviour remembers."""
    count = env.num_envs
    return rollout.Collector(
        env_state=(),
        observation=(),
        behaviour=strong(behaviour.init(key, jnp.zeros((count, *env.action.shape), env.action.dtype))),
        reset=jnp.ones((count,), bool),
        episode_return=jnp.zeros((count,)),
        episode_length=jnp.zeros((count,), jnp.int32),
    )
