"""What is watched: the first step at which a number was not finite, and which parameters are not."""

import jax
import jax.numpy as jnp

from ddpg_jax.sums import Stacked, stacked
from ddpg_jax.types import AgentState, PyTree

NEVER = jnp.iinfo(jnp.int32).max
"""The step at which something became NaN or infinite that never did."""


def first_bad(watched: dict[str, PyTree], step: jax.Array) -> Stacked:
    """``step`` for each of the named values that is not finite, `NEVER` for the others."""
    fine = stacked({name: finite(value) for name, value in watched.items()}, bool)
    return jax.tree.map(lambda fine: jnp.where(fine, NEVER, step), fine)


def finite(tree: PyTree) -> jax.Array:
    """Whether all numbers in a pytree are finite; integers are."""
    found = [jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    return jnp.all(jnp.stack(found)) if found else jnp.asarray(True)


def finite_leaves(agent_state: AgentState) -> dict[str, jax.Array]:
    """For each array of both networks' parameters, whether it is finite."""
    networks = {"actor": agent_state.actor, "critic": agent_state.critic}
    params = {name: (network.params, network.target_params) for name, network in networks.items()}
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return {jax.tree_util.keystr(path): finite(leaf) for path, leaf in leaves}
