"""Population-based training: between chunks the worst members become copies of the best, with
hyperparameters changed a little.

population = evolving(make_population(member), {"actor_learning_rate": Range(1e-5, 1e-1, log=True)})
state, report = jax.jit(population.chunk, donate_argnums=0)(state, hyperparameters)
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from ddpg_jax import checks
from ddpg_jax.learner import TrainState
from ddpg_jax.population import Hyperparameters, Population
from ddpg_jax.reporting import Report
from ddpg_jax.types import AgentState, Key, PyTree

EVOLUTION = 0xE701
"""Folded into a member's key: what its evolution draws from."""


LARGEST = float(jnp.finfo(jnp.float32).max)
"""Of float32."""


class Range(NamedTuple):
    """Where a number may be, both ends included; on a logarithmic scale it is drawn and moved by
    factors.
    """

    low: float
    high: float
    log: bool = False


@struct.dataclass
class Evolving:
    """All ``[M]``: states of ``members``, ``hyperparameters`` they train with, ``fitness`` (-inf:
    none), ``key`` of their evolution.
    """

    members: TrainState
    hyperparameters: dict[str, jax.Array]
    fitness: jax.Array
    key: Key

    @property
    def agent(self) -> AgentState:
        """Of all members."""
        return self.members.agent

    @property
    def first_bad_step(self) -> dict[str, jax.Array]:
        """Of all members."""
        return self.members.first_bad_step


def evolving(
    population: Population,
    ranges: Mapping[str, Range],
    *,
    fraction: float = 0.2,
    change: float = 0.2,
    resample: float = 0.25,
    copy_replay: bool = True,
) -> Population:
    """A population that evolves before each chunk but the first; its state is an `Evolving`.

    Truncation selection: each of the ``fraction`` of members with the worst returns takes the whole
    state, but for its random key, of one drawn from the best ``fraction``, if that one is better,
    and its hyperparameters, changed. A member's return is the mean over deterministic episodes
    after a chunk, the same episodes for all; one whose return is NaN is worse than any.

    Args:
        population: of many members, on one device or over many (`ddpg_jax.sharding.spread`); its
            ``evaluate`` measures them.
        ranges: of the hyperparameters that evolve, all or some of the members'.
        fraction: of members that may be replaced, greater than 0, at most 0.5; at least one is.
        change: a number on a logarithmic scale is multiplied by 1 + ``change`` or 1 - ``change``,
            another moves up or down by this share of its range.
        resample: the probability with which a number is drawn from its range instead.
        copy_replay: whether a replay is taken with the rest, or a member keeps its own.

    Returns:
        Functions as before. ``start`` and ``chunk`` take the members' hyperparameters; those that
        ``start`` was given go on in the state, and ``chunk`` looks at none but these. Its report's
        metrics have each number, ``return``, and ``parent``: whose state a member had at the
        beginning of the chunk.

    Raises:
        ValueError: a number is out of its range, or a range is none.

    Source: Jaderberg et al. 2017 (arXiv:1711.09846): truncation selection of 20 %, factors 1.2 and
    0.8. Differs from the paper: all members train, are measured and are replaced at the same time,
    and each is ready after every chunk (there each by itself, after a number of steps); returns are
    of deterministic episodes that nothing else uses (there of the last training episodes); what is
    taken over is all of a state but its key: parameters, optimisers, normaliser, environments and,
    unless ``copy_replay`` is False, the replay (there weights and hyperparameters); nobody takes
    over from a member that is not better; hyperparameters on a linear scale are moved, not
    multiplied, and all are kept in their ranges.
    """
    checks.between(0, 0.5, fraction=fraction)
    checks.positive(fraction=fraction)
    checks.between(0, 1, resample=resample, change=change)
    for name, each in ranges.items():
        ends = {f"{name}'s low end": each.low, f"{name}'s high end": each.high}
        checks.below(**{end: np.float32(value) for end, value in ends.items()})
        if each.log:
            checks.positive(**{f"{name}'s low end": each.low})

    def start(keys: Key, hyperparameters: Hyperparameters) -> Evolving:
        fitness = jnp.full(keys.shape, -jnp.inf, jnp.float32)
        own = jax.vmap(lambda key: jax.random.fold_in(key, EVOLUTION))(keys)
        return Evolving(
            population.start(keys, hyperparameters), dict(hyperparameters), fitness, own
        )

    def chunk(state: Evolving, hyperparameters: Hyperparameters) -> tuple[Evolving, Report]:
        del hyperparameters  # those of the state are newer
        select_keys, change_keys, play_keys, keys = jax.vmap(lambda key: jax.random.split(key, 4))(
            state.key
        ).T
        replaced, parents = _selected(state.fitness, fraction, select_keys)
        members = _copied(population, state.members, replaced, parents[replaced], copy_replay)
        taken = {name: value[parents] for name, value in state.hyperparameters.items()}
        own = parents == jnp.arange(parents.size)
        changed = _changed(taken, ranges, change, resample, change_keys)
        hyperparameters = {
            name: jnp.where(own, value, changed[name])
            for name, value in state.hyperparameters.items()
        }
        members, report = population.chunk(members, hyperparameters)
        same = jnp.broadcast_to(play_keys[0], parents.shape)
        returns = jnp.mean(population.evaluate(members.agent, same, hyperparameters), axis=1)
        fitness = jnp.where(jnp.isfinite(returns), returns, -jnp.inf)
        metrics = report.metrics | hyperparameters | {"return": returns, "parent": parents}
        return Evolving(members, hyperparameters, fitness, keys), dataclasses.replace(
            report, metrics=metrics
        )

    return population._replace(start=start, chunk=chunk)


def _selected(fitness: jax.Array, fraction: float, keys: Key) -> tuple[jax.Array, jax.Array]:
    """The worst ``[K]``, and of each member ``[M]`` whose state it is to have: for most its own."""
    count = max(1, round(fraction * fitness.size))
    order = jnp.argsort(fitness)
    worst, best = order[:count], order[-count:]
    drawn = best[jax.vmap(lambda key: jax.random.randint(key, (), 0, count))(keys[worst])]
    taken = jnp.where(fitness[drawn] > fitness[worst], drawn, worst)
    return worst, jnp.arange(fitness.size).at[worst].set(taken)


def _copied(
    population: Population,
    members: TrainState,
    replaced: jax.Array,
    parents: jax.Array,
    copy_replay: bool,
) -> TrainState:
    """Member ``replaced[i]`` as ``parents[i]``, one after the other and in place: of a replay
    nothing is held twice. Between devices one member is sent at a time.
    """
    kept: dict[str, PyTree] = {"key": members.key} | (
        {} if copy_replay else {"replay": members.replay}
    )
    moved = members.replace(**dict.fromkeys(kept, ()))  # type: ignore[attr-defined]
    copied: TrainState = (population.take or _taken)(moved, replaced, parents)
    if hasattr(kept.get("replay"), "cut"):  # its environments are the parents'
        own = members.replay.running.step
        anew = jnp.zeros(len(own), bool).at[replaced].set(parents != replaced)
        kept["replay"] = members.replay.cut(anew.reshape(-1, *(1,) * (own.ndim - 1)))
    return dataclasses.replace(copied, **kept)


def _taken(members: PyTree, replaced: jax.Array, parents: jax.Array) -> PyTree:
    def one(i: jax.Array, tree: PyTree) -> PyTree:
        return jax.tree.map(lambda x: x.at[replaced[i]].set(x[parents[i]]), tree)

    return jax.lax.fori_loop(0, replaced.size, one, members)


def _changed(
    hyperparameters: Hyperparameters,
    ranges: Mapping[str, Range],
    change: float,
    resample: float,
    keys: Key,
) -> Hyperparameters:
    """Every member's hyperparameters, those with a range moved or drawn anew."""

    def one(value: jax.Array, within: Range, index: int) -> jax.Array:
        low, high, log = within
        place, up, anew = jax.vmap(
            lambda key: jax.random.uniform(jax.random.fold_in(key, index), (3,))
        )(keys).T
        step = jnp.where(up < 0.5, change, -change)
        if log:
            root = jnp.float32(math.sqrt(high / low)) ** place  # high / low may be beyond float32
            moved, drawn = value * (1 + step), low * root * root
        else:
            moved = value + step * min(high - low, LARGEST)
            drawn = low * (1 - place) + high * place
        return jnp.clip(jnp.where(anew < resample, drawn, moved), low, high)

    return {
        **hyperparameters,
        **{
            name: one(hyperparameters[name], ranges[name], index)
            for index, name in enumerate(sorted(ranges))
        },
    }
