"""Deep deterministic policy gradient."""

import jax.numpy as jnp
import optax

from ddpg_jax import checks, losses
from ddpg_jax.agents.actor_critic import ActorLoss, CriticLoss, forward, make_agent
from ddpg_jax.agents.optimization import Optimizer, Rate, optimizers
from ddpg_jax.agents.targets import soft_update
from ddpg_jax.types import Agent, Array, Batch, Key, Network, Numeric, PyTree


def ddpg(
    actor: Network,
    critic: Network,
    *,
    gamma: Numeric = 0.99,
    tau: Numeric = 0.001,
    actor_learning_rate: Rate = 1e-4,
    critic_learning_rate: Rate = 1e-3,
    critic_weight_decay: Numeric = 1e-2,
    action_penalty: Numeric = 0.0,
    target_range: tuple[Numeric, Numeric] | None = None,
    optimizer: Optimizer = optax.adam,
    axis_name: str | None = None,
) -> Agent:
    r"""DDPG: an off-policy actor-critic with a deterministic policy and slowly tracking targets.

    .. math::

        y       &= r + \gamma d\, Q'(s', \mu'(s'))
                && \text{target, of both target networks} \\
        L       &= \tfrac{1}{B} \sum (y - Q(s, a))^2
                && \text{the critic's loss (+ L2 on Q's weights)} \\
        J       &= \tfrac{1}{B} \sum Q(s, \mu(s))
                && \text{the actor climbs it} \\
        \theta' &\leftarrow \tau \theta + (1 - \tau) \theta'
                && \text{both targets, every update}

    Args:
        actor, critic: see `ddpg_jax.networks`; any objects with ``init`` and ``apply``.
        gamma: discount factor in [0, 1].
        tau: tracking rate of both targets in [0, 1].
        actor_learning_rate, critic_learning_rate: step sizes, or optax schedules of the network's
            own steps.
        critic_weight_decay: lambda of the L2 penalty ``lambda/2 |W|^2``, added to the gradient of
            the weight matrices (not of biases) before the optimiser.
        action_penalty: c of a penalty ``c mean(mu(s)^2)`` in the actor's loss, at least 0, against
            actions at their bounds.
        target_range: least and largest possible return, to which targets are clipped; None does
            not.
        optimizer: ``learning_rate -> optax.GradientTransformation``.
        axis_name: of a mesh axis to average gradients over, see `ddpg_jax.agents.make_agent`.

    The metric ``td_error`` is the mean of ``y - Q(s, a)``, with its sign: it tells whether Q is too
    low or too high. The priority is ``|y - Q(s, a)|``.

    Hyper-parameters may be traced: ``vmap`` over them through this factory, or differentiate by
    them.

    Raises:
        ValueError: a concrete number is out of its range.

    Example:
        >>> import jax
        >>> from ddpg_jax import networks
        >>> agent = ddpg(networks.Actor(1, hidden=(8,)), networks.Critic(hidden=(8,)), gamma=0.9)
        >>> state = agent.init(jax.random.key(0), jnp.zeros(3), jnp.zeros(1))
        >>> agent.act(state, jnp.zeros((5, 3))).shape
        (5, 1)

    Source: Lillicrap et al. 2015 (arXiv:1509.02971), Algorithm 1 and section 7, from which all
    defaults are.
    """
    penalty = None if checks.is_zero(action_penalty) else action_penalty

    def critic_target(
        actor_target_params: PyTree, critic_target_params: PyTree, batch: Batch, key: Key
    ) -> Array:
        del key  # DDPG's target is deterministic
        # Where networks carry statistics: the target actor acts (apply), as the policy whose value
        # is sought, by the running ones. The target critic is passed as the critic in its loss is
        # (forward), by the batch's own, so that both sides of the error are normalised alike; what
        # it would carry from there is dropped.
        next_action = actor.apply(actor_target_params, batch.next_observation)
        next_value, _ = forward(critic, critic_target_params, batch.next_observation, next_action)
        return losses.td_target(batch.reward, batch.discount, next_value, gamma, target_range)

    def critic_loss(critic_params: PyTree, batch: Batch, target: Array) -> CriticLoss:
        value, variables = forward(critic, critic_params, batch.observation, batch.action)
        td_error = target - value
        metrics = {"value": jnp.mean(value), "td_error": jnp.mean(td_error)}
        return CriticLoss(
            losses.squared_error(value, target), jnp.abs(td_error), variables, metrics
        )

    def actor_loss(actor_params: PyTree, critic_params: PyTree, batch: Batch) -> ActorLoss:
        action, variables = forward(actor, actor_params, batch.observation)
        value, _ = forward(critic, critic_params, batch.observation, action)
        loss = losses.deterministic_policy_gradient(value, action, penalty)
        return ActorLoss(loss, variables, {})

    return make_agent(
        actor,
        critic,
        critic_target,
        critic_loss,
        actor_loss,
        track_critic=soft_update(tau),
        gamma=gamma,
        axis_name=axis_name,
        **optimizers(optimizer, actor_learning_rate, critic_learning_rate, critic_weight_decay),
    )
