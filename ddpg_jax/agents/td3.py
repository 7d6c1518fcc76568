"""Twin delayed deep deterministic policy gradient."""

import jax.numpy as jnp
import optax

from ddpg_jax import checks, losses
from ddpg_jax.agents.actor_critic import ActorLoss, CriticLoss, forward, make_agent
from ddpg_jax.agents.optimization import Optimizer, Rate, optimizers
from ddpg_jax.agents.targets import soft_update
from ddpg_jax.networks import Ensemble, first_critic
from ddpg_jax.types import Agent, Array, Batch, Key, Network, Numeric, PyTree


def td3(
    actor: Network,
    critic: Network,
    *,
    gamma: Numeric = 0.99,
    tau: Numeric = 0.005,
    actor_learning_rate: Rate = 1e-3,
    critic_learning_rate: Rate = 1e-3,
    critic_weight_decay: Numeric = 0.0,
    target_noise: Numeric = 0.2,
    target_noise_clip: Numeric = 0.5,
    policy_delay: int = 2,
    num_critics: int = 2,
    action_penalty: Numeric = 0.0,
    target_range: tuple[Numeric, Numeric] | None = None,
    optimizer: Optimizer = optax.adam,
    axis_name: str | None = None,
) -> Agent:
    r"""TD3: DDPG with clipped double Q, target policy smoothing and delayed actor and targets.

    .. math::

        \tilde a &= \mathrm{clip}(\mu'(s') + \mathrm{clip}(\epsilon, -c, c), -1, 1),
                    \quad \epsilon \sim N(0, \tilde\sigma)
                 && \text{one draw for all} \\
        y        &= r + \gamma d \min_i Q'_i(s', \tilde a)
                 && \text{one target for all} \\
        L        &= \sum_i \tfrac{1}{B} \sum (y - Q_i(s, a))^2
                 && \text{policy delay times} \\
        J        &= \tfrac{1}{B} \sum Q_1(s, \mu(s))
                 && \text{once} \\
        \theta'  &\leftarrow \tau \theta + (1 - \tau) \theta'
                 && \text{all targets, once}

    One update of a batch ``[B]`` consumes ``policy_delay`` minibatches, as
    `ddpg_jax.agents.make_agent` says. With no noise, one critic and delay 1 it is DDPG. The
    priority is ``max_i |y - Q_i|``: errors of opposite sign must not cancel.

    Args:
        actor, critic: see `ddpg_jax.networks`; ``critic`` is one critic, the ensemble is made here.
        target_noise, target_noise_clip: sigma~ and c, in units of the action range [-1, 1]; at
            least 0.
        policy_delay: critic steps per actor step, at least 1.
        num_critics: size of the ensemble, at least 1.
        gamma, tau, actor_learning_rate, critic_learning_rate: as in `ddpg_jax.agents.ddpg`.
        critic_weight_decay, action_penalty, target_range, optimizer, axis_name: as there.

    Raises:
        ValueError: a concrete number is out of its range.

    Source: Fujimoto et al. 2018 (arXiv:1802.09477), Algorithm 1 and section 6.1, from which all
    defaults are. Priority: the greater of both critics' absolute errors is what Fujimoto et al.
    2020 (LAP, arXiv:2007.06049) and its code sample by.
    """
    checks.between(0, target_noise=target_noise, target_noise_clip=target_noise_clip)
    checks.between(1, num_critics=num_critics)
    critics = Ensemble(critic, num_critics)
    penalty = None if checks.is_zero(action_penalty) else action_penalty

    def critic_target(
        actor_target_params: PyTree, critic_target_params: PyTree, batch: Batch, key: Key
    ) -> Array:
        next_action = actor.apply(actor_target_params, batch.next_observation)
        next_action = losses.smoothed_action(key, next_action, target_noise, target_noise_clip)
        next_values, _ = forward(critics, critic_target_params, batch.next_observation, next_action)
        next_value = losses.clipped_double_q(next_values)
        return losses.td_target(batch.reward, batch.discount, next_value, gamma, target_range)

    def critic_loss(critic_params: PyTree, batch: Batch, target: Array) -> CriticLoss:
        values, variables = forward(critics, critic_params, batch.observation, batch.action)
        targets = jnp.broadcast_to(target, values.shape)
        priority = jnp.max(jnp.abs(targets - values), axis=0)
        loss = jnp.sum(losses.squared_error(values, targets), axis=0)
        return CriticLoss(loss, priority, variables, {"value": jnp.mean(values)})

    def actor_loss(actor_params: PyTree, critic_params: PyTree, batch: Batch) -> ActorLoss:
        action, variables = forward(actor, actor_params, batch.observation)
        value, _ = forward(critic, first_critic(critic_params), batch.observation, action)
        loss = losses.deterministic_policy_gradient(value, action, penalty)
        return ActorLoss(loss, variables, {})

    return make_agent(
        actor,
        critics,
        critic_target,
        critic_loss,
        actor_loss,
        track_critic=soft_update(tau),
        policy_delay=policy_delay,
        gamma=gamma,
        axis_name=axis_name,
        **optimizers(optimizer, actor_learning_rate, critic_learning_rate, critic_weight_decay),
    )
