"""The skeleton that every algorithm shares: the order of steps, the optimisers, the delay and the
tracking of the targets.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from ddpg_jax import checks
from ddpg_jax.agents.minibatches import deal
from ddpg_jax.agents.targets import Track
from ddpg_jax.types import (
    Agent,
    AgentState,
    Array,
    Batch,
    Key,
    Metrics,
    Network,
    NetworkState,
    Numeric,
    PyTree,
    Update,
    is_key,
)


class CriticLoss(NamedTuple):
    """What an algorithm's ``critic_loss`` returns for a batch."""

    per_example: Array
    """``[B]``: the loss of each example; the skeleton weighs and averages them."""
    priority: Array
    """``[B]``, at least 0: what a prioritised replay samples by; 0 only where nothing is left to
    learn.
    """
    variables: PyTree
    """What the network carries after the pass, the second result of `forward`: ``{}`` for most
    networks.
    """
    metrics: Metrics
    """Scalars to report. ``td_error`` is the mean priority, where it is not among them."""


class ActorLoss(NamedTuple):
    """What an algorithm's ``actor_loss`` returns for a batch: a scalar ``loss``; the others as of
    `CriticLoss`.
    """

    loss: Array
    variables: PyTree
    metrics: Metrics


def forward(network: Network, variables: PyTree, *inputs: Any) -> tuple[Any, PyTree]:
    """A network's training pass: ``(output, variables)``, the second what it carries from now on,
    ``{}`` for most networks.

    Batch normalisation uses the batch's own statistics here and updates the running ones; elsewhere
    it uses those.
    """
    carried = list(_carried(variables))
    return (
        network.apply(variables, *inputs, mutable=carried)
        if carried
        else (network.apply(variables, *inputs), {})
    )


def make_agent(
    actor: Network,
    critic: Network,
    critic_target: Callable[[PyTree, PyTree, Batch, Key], Array],
    critic_loss: Callable[[PyTree, Batch, Array], CriticLoss],
    actor_loss: Callable[[PyTree, PyTree, Batch], ActorLoss],
    *,
    actor_optimizer: optax.GradientTransformation,
    critic_optimizer: optax.GradientTransformation,
    track_critic: Track,
    track_actor: Track | None = None,
    gamma: Numeric | None = None,
    policy_delay: int = 1,
    act: Callable[[AgentState, PyTree], Array] | None = None,
    axis_name: str | None = None,
) -> Agent:
    """An `Agent` from the three functions in which the algorithms differ.

    One update of a batch ``[B]``: ``policy_delay`` critic steps on as many minibatches
    ``[B / policy_delay]``, each with its own target; one actor step on the last of them through the
    new critic; both targets track. The delay is a schedule, not a branch: nothing is computed in
    order to be thrown away. Which row is in which minibatch is drawn, whatever the order of the
    batch: it may be sorted, or alternate between two sources.

    Args:
        actor, critic: networks, ``actor(observation) -> action`` and
            ``critic(observation, action) -> value``.
        critic_target: ``(actor_target_params, critic_target_params, batch, key) -> target``;
            evaluated before, and never inside, the differentiated function.
        critic_loss: ``(critic_params, batch, target) -> CriticLoss``.
        actor_loss: ``(actor_params, critic_params, batch) -> ActorLoss``.
        actor_optimizer, critic_optimizer: optax transformations; their hyper-parameters may be
            traced.
        track_critic, track_actor: how the targets follow, as `ddpg_jax.agents.soft_update` or
            `hard_update`; None is as the critic's.
        gamma: the discount factor in ``critic_target``, in [0, 1], for comparison with that of an
            n-step window.
        policy_delay: critic steps per actor step and per tracking step, at least 1; divides B.
        act: ``(agent_state, observation) -> action``, where the actor's parameters alone do not
            choose it (an encoder that the critic trains); None applies ``actor``.
        axis_name: of a mesh axis over which ``update`` runs under ``jax.shard_map``, the state
            replicated and the batch sharded: gradients and what networks carry are averaged over
            it, before the optimiser sees them; metrics are of the own shard. Each shard's pass sees
            its own rows alone (moments of batch normalisation among it).

    Returns:
        The agent; its ``update`` consumes ``key`` in ``critic_target``.

    Raises:
        ValueError: ``gamma`` or ``policy_delay`` is out of its range, or (from ``update``) the
            latter does not divide B, or a loss returns other ``variables`` than its network
            carries.
    """
    checks.between(1, policy_delay=policy_delay)
    if gamma is not None:
        checks.between(0, 1, gamma=gamma)

    def init(key: Key, observation: PyTree, action: Array) -> AgentState:
        actor_key, critic_key = jax.random.split(key)
        return AgentState(
            actor=_network_state(actor.init(actor_key, observation), actor_optimizer),
            critic=_network_state(critic.init(critic_key, observation, action), critic_optimizer),
            step=jnp.int32(0),
        )

    def critic_step(
        state: AgentState, critic: NetworkState, batch: Batch, weight: Array | None, key: Key
    ) -> tuple[NetworkState, tuple[Array, Metrics]]:
        target = critic_target(_targets(state.actor), _targets(critic), batch, key)

        def loss(params: PyTree) -> tuple[Array, tuple[PyTree, Any]]:
            found = critic_loss(_join(params, critic), batch, target)
            mean = jnp.mean(found.per_example if weight is None else weight * found.per_example)
            return mean, (found.variables, (found.priority, {"critic_loss": mean} | found.metrics))

        return _step(critic, loss, critic_optimizer, axis_name)

    def actor_step(
        state: AgentState, critic: NetworkState, batch: Batch
    ) -> tuple[NetworkState, Metrics]:
        def loss(params: PyTree) -> tuple[Array, tuple[PyTree, Any]]:
            found = actor_loss(_join(params, state.actor), variables(critic), batch)
            return found.loss, (found.variables, {"actor_loss": found.loss} | found.metrics)

        return _step(state.actor, loss, actor_optimizer, axis_name)

    def update(state: AgentState, batch: Batch, key: Key, weight: Array | None = None) -> Update:
        if policy_delay == 1:
            critic_state, (priority, critic_metrics) = critic_step(
                state, state.critic, batch, weight, key
            )
        else:
            keys = jax.random.split(key, policy_delay + 1)
            rows, places = deal(keys[-1], batch.reward.shape[0], policy_delay)
            parts = jax.tree.map(
                lambda x: jnp.asarray(x).at[rows].get(mode="promise_in_bounds"), (batch, weight)
            )
            step = lambda critic, inputs: critic_step(state, critic, *inputs)
            critic_state, (priorities, metrics) = jax.lax.scan(
                step, state.critic, (*parts, keys[:-1]), unroll=min(policy_delay, 4)
            )
            priority = priorities.reshape(-1)[places]
            critic_metrics = jax.tree.map(lambda x: jnp.mean(x, axis=0), metrics)
            batch = jax.tree.map(lambda x: x[-1], parts[0])
        actor_state, actor_metrics = actor_step(state, critic_state, batch)
        state = replace(
            state,
            actor=_tracked(actor_state, track_actor or track_critic),
            critic=_tracked(critic_state, track_critic),
            step=state.step + 1,
        )
        metrics = {"td_error": jnp.mean(priority)} | critic_metrics | actor_metrics
        return Update(state, priority, metrics)

    apply_actor = lambda state, observation: actor.apply(variables(state.actor), observation)
    return Agent(init, act or apply_actor, update, gamma=gamma)


def variables(network: NetworkState) -> PyTree:
    """The online network's parameters with what it carries, ready for ``apply``."""
    return _join(network.params, network)


def _targets(network: NetworkState) -> PyTree:
    return _join(network.target_params, network)


def _join(params: PyTree, network: NetworkState) -> PyTree:
    return params | network.batch_stats if network.batch_stats else params


def _carried(variables: PyTree) -> dict[str, PyTree]:
    """What a Flax network carries besides its parameters."""
    if not isinstance(variables, dict) or "params" not in variables:
        return {}
    return {name: value for name, value in variables.items() if name != "params"}


def _network_state(variables: PyTree, optimizer: optax.GradientTransformation) -> NetworkState:
    carried = _carried(variables)
    params = {"params": variables["params"]} if carried else variables
    return NetworkState(
        params=params,
        # A copy, not an alias: one buffer twice in a donated state is an error or a silent copy.
        target_params=jax.tree.map(jnp.copy, params),
        opt_state=optimizer.init(params),
        batch_stats=carried,
    )


def _step(
    state: NetworkState,
    loss: Callable[[PyTree], tuple[Array, tuple[PyTree, Any]]],
    optimizer: optax.GradientTransformation,
    axis_name: str | None,
) -> tuple[NetworkState, Any]:
    """One optimiser step of ``loss: params -> (scalar, (variables, rest))``; returns the network
    and ``rest``.
    """
    # Of parameters that vary over the axis each shard has a gradient of its own; of replicated ones
    # it would be summed.
    params = state.params
    if axis_name is not None:
        params = jax.lax.pcast(params, axis_name, to="varying")
    grads, (carried, rest) = jax.grad(loss, has_aux=True)(params)
    if set(carried) != set(state.batch_stats):
        raise ValueError(
            f"a loss returned variables {sorted(carried)}, but its network carries "
            f"{sorted(state.batch_stats)}: return the second result of agents.forward."
        )
    grads, carried = averaged((grads, carried), axis_name)
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    return replace(state, params=params, opt_state=opt_state, batch_stats=carried), rest


def averaged(tree: PyTree, axis_name: str | None) -> PyTree:
    """The means over a mesh axis, of all leaves but random keys; None leaves the tree alone."""
    if axis_name is None:
        return tree
    leaves, structure = jax.tree.flatten(tree)
    means = iter(jax.lax.pmean([x for x in leaves if not is_key(x)], axis_name))
    return jax.tree.unflatten(structure, [x if is_key(x) else next(means) for x in leaves])


def _tracked(state: NetworkState, track: Track) -> NetworkState:
    return replace(state, target_params=track(state.params, state.target_params))
