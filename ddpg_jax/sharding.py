"""Many devices, of one host or of many: members of a population on one axis of a mesh, shards of
each member on the other.

mesh = sharding.make_mesh(members=4, data=2)
# member(hyperparameters) -> Member of one shard, made with axis_name=sharding.DATA
population = sharding.spread(member, mesh)
programs = compiled(population, keys, hyperparameters)  # as of `ddpg_jax.population`

On the data axis environments, what acts in them, their replay and their keys are split: every shard
steps, stores and samples for itself. The agent is one for all: its gradients, and a normaliser's
statistics, are means over the axis. So a global batch of ``B`` is ``B / data`` rows from each
shard's own replay. Members of a population know nothing of each other.

A state's leaves have a leading axis of members, where there are many, and, but for the agent's, one
of shards where there is more than one.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ddpg_jax import checks
from ddpg_jax.learner import TrainState
from ddpg_jax.population import Hyperparameters, Member, Place, Population, make_population
from ddpg_jax.reporting import Report
from ddpg_jax.train import of_shard
from ddpg_jax.types import AgentState, Array, Key, PyTree, is_key

MEMBERS, DATA = "members", "data"
"""The axes of a mesh."""


def make_mesh(members: int = 1, data: int = 1, devices: Sequence[Any] | None = None) -> Mesh:
    """A mesh of ``members x data`` devices; the shards of a member lie side by side.

    Args:
        members, data: at least 1.
        devices: to take them from, in their order; None is all that JAX has, of all hosts.

    Raises:
        ValueError: there are too few.
    """
    checks.whole(1, members=members, data=data)
    found = jax.devices() if devices is None else devices
    if len(found) < members * data:
        raise ValueError(
            f"members={members} times data={data} needs {members * data} devices, but "
            f"there are {len(found)}."
        )
    return Mesh(np.array(found[: members * data]).reshape(members, data), (MEMBERS, DATA))


def spread(
    member: Callable[[Hyperparameters], Member], mesh: Mesh, *, many: bool = True
) -> Population:
    """A population over a mesh, to be used as one of `ddpg_jax.population.make_population`.

    Args:
        member: ``member(hyperparameters)``: the functions of one shard of a member; where the data
            axis has more than one device, made with ``axis_name=DATA`` throughout (agent, wrappers,
            `ddpg_jax.train.make_train`).
        mesh: of `make_mesh`; its members axis divides the number of members.
        many: whether there is an axis of members; without it the mesh's is 1.

    Returns:
        Its ``evaluate`` plays ``E`` episodes on each device of the data axis: ``[M, data * E]``
            returns.

    Raises:
        ValueError: ``many`` is not so, and the mesh has an axis of members.
    """
    if not many and mesh.shape[MEMBERS] > 1:
        raise ValueError(
            f"members={mesh.shape[MEMBERS]}: there is one member alone, so its mesh has members=1."
        )
    shards, inside = mesh.shape[DATA], make_population(member, many=many)
    parts = state_spec(shards, many)
    members: Any = parts.agent

    def start(key: Key, hyperparameters: Hyperparameters) -> TrainState:
        state = inside.start(key, hyperparameters)
        return _axis_of_shards(jnp.expand_dims, state, shards, many)

    def chunk(state: TrainState, hyperparameters: Hyperparameters) -> tuple[TrainState, Report]:
        state = _axis_of_shards(jnp.squeeze, state, shards, many)
        state, report = inside.chunk(state, hyperparameters)
        return _axis_of_shards(jnp.expand_dims, state, shards, many), report

    def evaluate(agent_state: AgentState, key: Key, hyperparameters: Hyperparameters) -> Array:
        own = functools.partial(of_shard, axis_name=DATA if shards > 1 else None)
        key = jax.vmap(own)(key) if many else own(key)
        return inside.evaluate(agent_state, key, hyperparameters)

    def over(function: Callable[..., Any], given: Any, made: Any) -> Callable[..., Any]:
        # Simulators begin loops with constants, whose type would have to say that they vary.
        return jax.shard_map(function, mesh=mesh, in_specs=given, out_specs=made, check_vma=False)

    return Population(
        over(start, (members, members), parts),
        over(chunk, (parts, members), (parts, members)),
        over(evaluate, (members,) * 3, PartitionSpec(*members, DATA)),
        over(_take, (parts, PartitionSpec(), PartitionSpec()), parts) if many else None,
        _place(mesh, many),
    )


def _take(members: PyTree, replaced: Array, parents: Array) -> PyTree:
    """On each device: its members, ``replaced[i]`` as ``parents[i]``, which the device that has it
    sends to all.
    """
    own = jax.tree.leaves(members)[0].shape[0]
    first = jax.lax.axis_index(MEMBERS) * own

    def one(i: Array, tree: PyTree) -> PyTree:
        source, target = parents[i] - first, replaced[i] - first
        place = jnp.where(target >= 0, target, own)  # beyond all: JAX drops what is written there

        def leaf(x: Array) -> Array:
            bits, back = _as_integers(x[jnp.clip(source, 0, own - 1)])
            here = (source >= 0) & (source < own)
            row = back(jax.lax.psum(jnp.where(here, bits, 0), MEMBERS))
            return x.at[place].set(row, mode="drop")

        return jax.tree.map(leaf, tree)

    return jax.lax.fori_loop(0, replaced.size, one, members)


def _as_integers(x: Array) -> tuple[Array, Callable[[Array], Array]]:
    """The bits of an array, which sums with zeros leave as they are, and the way back."""
    if is_key(x):
        kind = jax.random.key_impl(x)
        return jax.random.key_data(x), lambda bits: jax.random.wrap_key_data(bits, impl=kind)
    if x.dtype == jnp.bool_:
        return x.astype(jnp.uint8), lambda bits: bits.astype(jnp.bool_)
    if jnp.issubdtype(x.dtype, jnp.integer):
        return x, lambda bits: bits
    integers = jnp.dtype(f"uint{8 * x.dtype.itemsize}")
    back = lambda bits: jax.lax.bitcast_convert_type(bits, x.dtype)
    return jax.lax.bitcast_convert_type(x, integers), back


def state_spec(shards: int, many: bool) -> TrainState:
    """How a state lies on a mesh: a ``jax.sharding.PartitionSpec`` for each of its parts."""
    lead = (MEMBERS,) if many else ()
    whole: Any = PartitionSpec(*lead)
    part: Any = PartitionSpec(*lead, DATA) if shards > 1 else whole
    return TrainState(
        agent=whole,
        replay=part,
        collector=part,
        key=part,
        steps=part,
        bad=part,
        window=part,
    )


def start_of_shards(
    member: Callable[[Hyperparameters], Member], shards: int, *, many: bool = True
) -> Callable[[Key, Hyperparameters], TrainState]:
    """``start(keys, hyperparameters)`` as of `spread`, without any device: for the shapes of its
    state.
    """
    start = make_population(member, many=many).start
    if shards == 1:
        return start
    out: Any = jax.tree.map(
        lambda spec: int(many) if DATA in spec else None, state_spec(shards, many)
    )
    return jax.vmap(start, in_axes=None, out_axes=out, axis_name=DATA, axis_size=shards)


def _place(mesh: Mesh, many: bool) -> Place:
    members = NamedSharding(mesh, PartitionSpec(MEMBERS) if many else PartitionSpec())

    def lying(x: jax.ShapeDtypeStruct, sharding: NamedSharding) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)

    def state(tree: PyTree) -> PyTree:
        """Of training, or of what has such a state in it; the rest of that is one for all."""
        whole = NamedSharding(mesh, PartitionSpec())

        def one(x: Any) -> Any:
            if isinstance(x, TrainState):
                return jax.tree.map(lying, x, shardings(mesh, x, many=many))
            return lying(x, whole)

        return jax.tree.map(one, tree, is_leaf=lambda x: isinstance(x, TrainState))

    return Place(
        state,
        lambda tree: jax.tree.map(lambda x: lying(x, members), tree),
        lambda tree: put(tree, members),
    )


def put(tree: PyTree, sharding: NamedSharding) -> PyTree:
    """Small arrays that every process has, random keys among them, laid out so."""

    def one(x: Array) -> Array:
        whole = np.asarray(jax.random.key_data(x) if is_key(x) else x)
        array = jax.make_array_from_callback(whole.shape, sharding, lambda index: whole[index])
        return jax.random.wrap_key_data(array) if is_key(x) else array

    return jax.tree.map(one, tree)


def shardings(mesh: Mesh, state: TrainState, *, many: bool = True) -> TrainState:
    """The ``NamedSharding`` of each leaf of a state (or its shapes) on a mesh."""
    spec = state_spec(mesh.shape[DATA], many)
    lie = lambda one, part: jax.tree.map(lambda _: NamedSharding(mesh, one), part)
    laid: TrainState = jax.tree.map(lie, spec, state)
    return laid


def _axis_of_shards(
    change: Callable[..., Any], state: TrainState, shards: int, many: bool
) -> TrainState:
    """A state of one shard whose axis of shards, of length 1 here and in all but the agent, is made
    (``jnp.expand_dims``) or taken away (``jnp.squeeze``).
    """
    if shards == 1:
        return state
    nobody: Any = ()
    changed: TrainState = jax.tree.map(lambda x: change(x, int(many)), replace(state, agent=nobody))
    return replace(changed, agent=state.agent)
