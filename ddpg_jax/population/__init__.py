"""Many members at once: seeds, and hyperparameters that differ between them, as a leading axis
``M`` of keys, hyperparameters and states.

population = make_population(member)                         # member(hyperparameters) -> Member
keys, hyperparameters = members(jax.random.split(key, 8), {"tau": [0.005, 0.05]})
state = jax.jit(population.start)(keys, hyperparameters)             # 16 members, in one program
state, report = jax.jit(population.chunk, donate_argnums=0)(state, hyperparameters)
"""

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ddpg_jax import checks, compiling
from ddpg_jax.learner import TrainState
from ddpg_jax.reporting import Report
from ddpg_jax.types import AgentState, Key, PyTree

OnTree = Callable[[PyTree], PyTree]
"""A function from a pytree to one of the same structure."""
Hyperparameters = Mapping[str, jax.Array]
"""What differs between members, by name: scalars of one member, ``[M]`` of many."""


class Member(NamedTuple):
    """One member's training, as pure functions."""

    start: Callable[[Key], TrainState]
    """``start(key)``: initialised and warmed up."""
    chunk: Callable[[TrainState], tuple[TrainState, Report]]
    evaluate: Callable[[AgentState, Key], jax.Array]
    """``evaluate(agent_state, key) -> [E]``: returns of fresh episodes."""


class Population(NamedTuple):
    """The same of ``M`` members, or of one where the keys are a single key. Jit `chunk` with its
    state donated.
    """

    start: Callable[[Key, Hyperparameters], Any]
    """The state is a `TrainState`, or holds more than one (`ddpg_jax.population.evolution`); it has
    an ``agent``.
    """
    chunk: Callable[[Any, Hyperparameters], tuple[Any, Report]]
    evaluate: Callable[[AgentState, Key, Hyperparameters], jax.Array]
    take: Callable[[Any, jax.Array, jax.Array], Any] | None = None
    """``take(state, replaced, parents)`` of one that is spread over devices: its states ``[M]``,
    or parts of them, with member ``replaced[i]`` as ``parents[i]``.
    """
    place: "Place | None" = None
    """Where keys, hyperparameters and states lie, of one that is spread over devices
    (`ddpg_jax.sharding.spread`).
    """


class Place(NamedTuple):
    """``state`` and ``members``: shapes, to the same with their shardings; ``put``: keys or
    hyperparameters, to where they belong.
    """

    state: OnTree
    members: OnTree
    put: OnTree


def make_population(
    member: Callable[[Hyperparameters], Member], *, many: bool = True
) -> Population:
    """Map a member's functions over keys and hyperparameters.

    Args:
        member: ``member(hyperparameters)``: the functions of a member with these hyperparameters,
            which are traced: changing one compiles nothing anew.
        many: whether there is an axis of members; without it a member runs as it is, bit for bit.

    Returns:
        Functions of keys ``[M]``, hyperparameters ``[M]`` and states whose leaves have a leading
            axis ``M``.
    """

    def start(key: Key, hyperparameters: Hyperparameters) -> TrainState:
        return member(hyperparameters).start(key)

    def chunk(state: TrainState, hyperparameters: Hyperparameters) -> tuple[TrainState, Report]:
        return member(hyperparameters).chunk(state)

    def evaluate(agent_state: AgentState, key: Key, hyperparameters: Hyperparameters) -> jax.Array:
        return member(hyperparameters).evaluate(agent_state, key)

    over: Callable[..., Any] = jax.vmap if many else lambda function: function
    return Population(over(start), over(chunk), over(evaluate))


def members(
    keys: Key, values: Mapping[str, Sequence[float]] | None = None
) -> tuple[Key, dict[str, jax.Array]]:
    """Every seed with every row of hyperparameters: ``keys: [S]`` and V values of each name to
    ``([V * S], {name: [V * S]})``.

    Member ``v * S + s`` has row v of the hyperparameters and key s.

    Example:
        >>> keys, values = members(jax.random.split(jax.random.key(0), 2), {"tau": [0.25, 0.5]})
        >>> keys.shape, values["tau"].tolist()
        ((4,), [0.25, 0.25, 0.5, 0.5])

    Raises:
        ValueError: the names do not all have the same number of values, at least one.
    """
    values = values or {}
    counts = {name: len(row) for name, row in values.items()}
    if len(set(counts.values())) > 1:
        raise ValueError(
            f"values={counts}: give equally many values of each number, one for each row "
            "of members."
        )
    checks.between(1, float("inf"), **counts)
    rows = next(iter(counts.values()), 1)
    hyperparameters = {
        name: jnp.repeat(jnp.asarray(row, jnp.float32), keys.size) for name, row in values.items()
    }
    return jnp.tile(keys.reshape(-1), rows), hyperparameters


class Programs(NamedTuple):
    """A `Population`, compiled; ``seconds`` is how long that took."""

    start: Any
    chunk: Any
    evaluate: Any
    seconds: float
    inside: Sequence[Any] = ()
    """The compiled programs that `chunk` runs where it is a loop on the host."""


def compiled(population: Population, keys: Key, hyperparameters: Hyperparameters) -> Programs:
    """Compile each program once, side by side: XLA works outside Python's lock. `chunk` is given
    its state.
    """
    begin = time.perf_counter()
    with ThreadPoolExecutor() as pool:
        lower = _lowering(population, keys, hyperparameters)
        made = {name: pool.submit(lower[name]()) for name in ("chunk", "start", "evaluate")}
        programs = {name: each.result() for name, each in made.items()}
    return Programs(**programs, seconds=time.perf_counter() - begin)


def compiled_chunk(population: Population, keys: Key, hyperparameters: Hyperparameters) -> Any:
    """Compile `chunk` alone, as of a run whose last chunk is shorter than the others."""
    return _lowering(population, keys, hyperparameters)["chunk"]()()


def _lowering(
    population: Population, keys: Key, hyperparameters: Hyperparameters
) -> dict[str, Callable[[], Callable[[], Any]]]:
    """What lowers each function for where its arguments lie, and returns what compiles it."""
    state = jax.eval_shape(population.start, keys, hyperparameters)
    place = population.place
    if place is not None:
        state = place.state(state)
        keys, hyperparameters = place.members(keys), place.members(hyperparameters)
    lying = {} if place is None else {"out_shardings": jax.tree.map(lambda x: x.sharding, state)}
    both = {name: (tree, None) for name, tree in lying.items()}
    hot, once = compiling.HOT_LOOP_OPTIONS, compiling.ONE_OFF_OPTIONS

    def lowering(
        options: compiling.Options, function: Callable[..., Any], *given: Any, **more: Any
    ) -> Callable[[], Callable[[], Any]]:
        def lower() -> Callable[[], Any]:
            lowered = compiling.jit(function, options, **more).lower(*given)
            own = 0 if function is population.start else 1
            return lambda: _where(place, lowered.compile(), own)

        return lower

    return {
        "start": lowering(once, population.start, keys, hyperparameters, **lying),
        "chunk": lowering(hot, population.chunk, state, hyperparameters, donate_argnums=0, **both),
        "evaluate": lowering(once, population.evaluate, state.agent, keys, hyperparameters),
    }


def _where(place: Place | None, program: Any, own: int) -> Any:
    return program if place is None else _Placing(program, place.put, own)


class _Placing(NamedTuple):
    """A compiled program, its keys and hyperparameters (what follows the first ``own`` arguments)
    given from wherever they lie.
    """

    program: Any
    put: OnTree
    own: int

    def __call__(self, *arguments: Any) -> Any:
        return self.program(*arguments[: self.own], *map(self.put, arguments[self.own :]))

    def memory_analysis(self) -> Any:
        return self.program.memory_analysis()
