"""Many members at once: seeds, and numbers that differ between them, as a leading axis ``M`` of keys, numbers and states.

population = make_population(member)                         # member(numbers) -> Member
keys, numbers = members(jax.random.split(key, 8), {"tau": [0.005, 0.05]})
state = jax.jit(population.start)(keys, numbers)             # 16 members, in one program
state, report = jax.jit(population.chunk, donate_argnums=0)(state, numbers)
"""

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ddpg_jax import checks, compiling
from ddpg_jax.learner import Report, TrainState
from ddpg_jax.types import AgentState, Key, PyTree

Numbers = Mapping[str, jax.Array]
"""What differs between members, by name: scalars of one member, ``[M]`` of many."""


class Member(NamedTuple):
    """One member's training, as pure functions."""

    start: Callable[[Key], TrainState]
    """``start(key)``: initialised and warmed up."""
    chunk: Callable[[TrainState], tuple[TrainState, Report]]
    evaluate: Callable[[AgentState, Key], jax.Array]
    """``evaluate(agent_state, key) -> [E]``: returns of fresh episodes."""


class Population(NamedTuple):
    """The same of ``M`` members, or of one where the keys are a single key. Jit `chunk` with its state donated."""

    start: Callable[[Key, Numbers], Any]
    """The state is a `TrainState`, or holds more than one (`ddpg_jax.population.evolution`); it has an ``agent``."""
    chunk: Callable[[Any, Numbers], tuple[Any, Report]]
    evaluate: Callable[[AgentState, Key, Numbers], jax.Array]
    place: "Place | None" = None
    """Where keys, numbers and states lie, of one that is spread over devices (`ddpg_jax.sharding.spread`)."""


class Place(NamedTuple):
    """``state`` and ``members``: shapes, to the same with their shardings; ``put``: keys or numbers, to where they belong."""

    state: Callable[[PyTree], PyTree]
    members: Callable[[PyTree], PyTree]
    put: Callable[[PyTree], PyTree]


def make_population(member: Callable[[Numbers], Member], *, many: bool = True) -> Population:
    """Map a member's functions over keys and numbers.

    Args:
        member: ``member(numbers)``: the functions of a member with these numbers, which are traced: changing one compiles
            nothing anew.
        many: whether there is an axis of members; without it a member runs as it is, bit for bit.

    Returns:
        Functions of keys ``[M]``, numbers ``[M]`` and states whose leaves have a leading axis ``M``.
    """

    def start(key: Key, numbers: Numbers) -> TrainState:
        return member(numbers).start(key)

    def chunk(state: TrainState, numbers: Numbers) -> tuple[TrainState, Report]:
        return member(numbers).chunk(state)

    def evaluate(agent_state: AgentState, key: Key, numbers: Numbers) -> jax.Array:
        return member(numbers).evaluate(agent_state, key)

    over: Callable = jax.vmap if many else lambda function: function
    return Population(over(start), over(chunk), over(evaluate))


def members(keys: Key, values: Mapping[str, Sequence[float]] | None = None) -> tuple[Key, dict[str, jax.Array]]:
    """Every seed with every row of numbers: ``keys: [S]`` and V values of each name to ``([V * S], {name: [V * S]})``.

    Member ``v * S + s`` has row v of the numbers and key s.

    Raises:
        ValueError: the names do not all have the same number of values, at least one.
    """
    counts = {name: len(row) for name, row in (values or {}).items()}
    if len(set(counts.values())) > 1:
        raise ValueError(f"values={counts}: give equally many values of each number, one for each row of members.")
    checks.between(1, float("inf"), **counts)
    rows = next(iter(counts.values()), 1)
    numbers = {name: jnp.repeat(jnp.asarray(row, jnp.float32), keys.size) for name, row in (values or {}).items()}
    return jnp.tile(keys.reshape(-1), rows), numbers


class Programs(NamedTuple):
    """A `Population`, compiled; ``seconds`` is how long that took."""

    start: Any
    chunk: Any
    evaluate: Any
    seconds: float


def compiled(population: Population, keys: Key, numbers: Numbers) -> Programs:
    """Compile each program once, side by side: XLA works outside Python's lock. `chunk` is given its state."""
    begin = time.perf_counter()
    state = jax.eval_shape(population.start, keys, numbers)
    place = population.place
    if place is not None:
        state, keys, numbers = place.state(state), place.members(keys), place.members(numbers)
    lying = {} if place is None else {"out_shardings": jax.tree.map(lambda x: x.sharding, state)}
    both = {name: (tree, None) for name, tree in lying.items()}
    with ThreadPoolExecutor() as pool:

        def submit(wanted: compiling.Options, function: Callable, *args: Any, **options: Any) -> Future:
            return pool.submit(compiling.jit(function, wanted, **options).lower(*args).compile)

        chunk = submit(compiling.OFTEN, population.chunk, state, numbers, donate_argnums=0, **both)
        start = submit(compiling.SELDOM, population.start, keys, numbers, **lying)
        evaluate = submit(compiling.SELDOM, population.evaluate, state.agent, keys, numbers)
        made = Programs(start.result(), chunk.result(), evaluate.result(), time.perf_counter() - begin)
    if place is None:
        return made
    placed = lambda program, own: _Placing(program, place.put, own)
    return Programs(placed(made.start, 0), placed(made.chunk, 1), placed(made.evaluate, 1), made.seconds)


class _Placing(NamedTuple):
    """A compiled program, its keys and numbers (what follows the first ``own`` arguments) given from wherever they lie."""

    program: Any
    put: Callable[[PyTree], PyTree]
    own: int

    def __call__(self, *arguments: Any) -> Any:
        return self.program(*arguments[: self.own], *map(self.put, arguments[self.own :]))

    def memory_analysis(self) -> Any:
        return self.program.memory_analysis()
