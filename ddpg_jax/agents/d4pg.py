"""Distributed distributional deep deterministic policy gradient."""

import jax.numpy as jnp
import optax

from ddpg_jax import checks, losses
from ddpg_jax.agents.actor_critic import ActorLoss, CriticLoss, forward, make_agent
from ddpg_jax.agents.optimization import Optimizer, Rate, optimizers
from ddpg_jax.agents.targets import soft_update
from ddpg_jax.types import Agent, Array, Batch, Key, Network, Numeric, PyTree


def d4pg(
    actor: Network,
    critic: Network,
    *,
    v_min: Numeric = -150.0,
    v_max: Numeric = 150.0,
    gamma: Numeric = 0.99,
    tau: Numeric = 0.005,
    actor_learning_rate: Rate = 1e-4,
    critic_learning_rate: Rate = 1e-4,
    critic_weight_decay: Numeric = 0.0,
    optimizer: Optimizer = optax.adam,
    axis_name: str | None = None,
) -> Agent:
    r"""D4PG: DDPG whose critic predicts the distribution of the return on fixed atoms.

    .. math::

        Y       &= \Phi(r + \gamma d z \mid Z'(s', \mu'(s')))
                && \text{the target distribution, projected} \\
        L       &= \tfrac{1}{B} \sum H(Y, Z(s, a))
                && \text{cross-entropy} \\
        J       &= \tfrac{1}{B} \sum E[Z(s, \mu(s))]
                && \text{the actor climbs the mean} \\
        \theta' &\leftarrow \tau \theta + (1 - \tau) \theta'
                && \text{both targets, every update}

    The other parts of D4PG are not in the agent: n-step returns are in the data
    (`ddpg_jax.returns`), priorities in the replay (`ddpg_jax.replay.prioritised`; the priority here
    is the divergence KL(Y || Z), at least 0), and its K actors are ``num_envs`` environments.

    Args:
        actor: see `ddpg_jax.networks`.
        critic: ``critic(observation, action) -> logits [..., l]``, l at least 2 atoms
            (``Critic(num_atoms=51)``).
        v_min, v_max: ends of the support, in units of discounted return; ``v_min < v_max``.
        gamma, tau, actor_learning_rate, critic_learning_rate: as in `ddpg_jax.agents.ddpg`.
        critic_weight_decay, optimizer, axis_name: as there.

    Raises:
        ValueError: a concrete number is out of its range.

    Source: Barth-Maron et al. 2018 (arXiv:1804.08617), section 3 and Algorithm 1; support, atoms
    and learning rates as in the authors' group's Acme. Differs from the paper: Polyak averaging
    where it copies the targets every 100 updates.
    """
    checks.below(v_min=v_min, v_max=v_max)

    def support(logits: Array) -> Array:
        return jnp.linspace(v_min, v_max, logits.shape[-1], dtype=logits.dtype)

    def critic_target(
        actor_target_params: PyTree, critic_target_params: PyTree, batch: Batch, key: Key
    ) -> Array:
        del key  # D4PG's target is deterministic
        next_action = actor.apply(actor_target_params, batch.next_observation)
        logits, _ = forward(critic, critic_target_params, batch.next_observation, next_action)
        return losses.categorical_td_target(
            batch.reward, batch.discount, logits, support(logits), gamma
        )

    def critic_loss(critic_params: PyTree, batch: Batch, target: Array) -> CriticLoss:
        logits, variables = forward(critic, critic_params, batch.observation, batch.action)
        value = losses.categorical_mean(logits, support(logits))
        priority = losses.categorical_divergence(target, logits)
        loss = losses.categorical_cross_entropy(logits, target)
        return CriticLoss(loss, priority, variables, {"value": jnp.mean(value)})

    def actor_loss(actor_params: PyTree, critic_params: PyTree, batch: Batch) -> ActorLoss:
        action, variables = forward(actor, actor_params, batch.observation)
        logits, _ = forward(critic, critic_params, batch.observation, action)
        value = losses.categorical_mean(logits, support(logits))
        return ActorLoss(losses.deterministic_policy_gradient(value), variables, {})

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
