"""TD3 with a categorical critic: the composition of `ddpg_jax.agents.td3` and
`ddpg_jax.agents.d4pg` known as FastTD3.
"""

import jax.numpy as jnp
import optax

from ddpg_jax import checks, losses
from ddpg_jax.agents.actor_critic import ActorLoss, CriticLoss, forward, make_agent
from ddpg_jax.agents.optimization import Optimizer, Rate, optimizers
from ddpg_jax.agents.targets import soft_update
from ddpg_jax.networks import Ensemble
from ddpg_jax.types import Agent, Array, Batch, Key, Network, Numeric, PyTree


def td3_categorical(
    actor: Network,
    critic: Network,
    *,
    v_min: Numeric = -10.0,
    v_max: Numeric = 10.0,
    gamma: Numeric = 0.97,
    tau: Numeric = 0.1,
    actor_learning_rate: Rate = 3e-4,
    critic_learning_rate: Rate = 3e-4,
    critic_weight_decay: Numeric = 0.0,
    target_noise: Numeric = 0.001,
    target_noise_clip: Numeric = 0.5,
    policy_delay: int = 2,
    num_critics: int = 2,
    optimizer: Optimizer = optax.adam,
    axis_name: str | None = None,
) -> Agent:
    r"""TD3 on distributions.

    .. math::

        \tilde a &= \mathrm{clip}(\mu'(s') + \mathrm{clip}(\epsilon, -c, c), -1, 1),
                    \quad \epsilon \sim N(0, \tilde\sigma) \\
        k        &= \mathrm{argmin}_i\, E[Z'_i(s', \tilde a)]
                 && \text{of each example} \\
        Y        &= \Phi(r + \gamma d z \mid Z'_k(s', \tilde a))
                 && \text{one target for all critics} \\
        L        &= \sum_i \tfrac{1}{B} \sum H(Y, Z_i(s, a))
                 && \text{policy delay times, on other minibatches} \\
        J        &= \tfrac{1}{B} \sum \min_i E[Z_i(s, \mu(s))]
                 && \text{once}

    The priority is ``max_i KL(Y || Z_i)``, as in `ddpg_jax.agents.td3`.

    Args:
        critic: ``critic(observation, action) -> logits [..., l]``; one critic, the ensemble is made
            here.
        v_min, v_max: as in `ddpg_jax.agents.d4pg`.
        the others: as in `ddpg_jax.agents.td3`.

    Raises:
        ValueError: a concrete number is out of its range.

    Source: Seo et al. 2025 (arXiv:2505.22642) and its configuration for MuJoCo Playground, from
    which all defaults are. Differs from there: no AdamW by default (pass ``optimizer``).
    """
    checks.between(0, target_noise=target_noise, target_noise_clip=target_noise_clip)
    checks.between(1, num_critics=num_critics)
    checks.below(v_min=v_min, v_max=v_max)
    critics = Ensemble(critic, num_critics)

    def support(logits: Array) -> Array:
        return jnp.linspace(v_min, v_max, logits.shape[-1], dtype=logits.dtype)

    def critic_target(
        actor_target_params: PyTree, critic_target_params: PyTree, batch: Batch, key: Key
    ) -> Array:
        next_action = actor.apply(actor_target_params, batch.next_observation)
        next_action = losses.smoothed_action(key, next_action, target_noise, target_noise_clip)
        logits, _ = forward(critics, critic_target_params, batch.next_observation, next_action)
        chosen = jnp.argmin(losses.categorical_mean(logits, support(logits)), axis=0)
        logits = jnp.take_along_axis(logits, chosen[None, :, None], axis=0)[0]
        return losses.categorical_td_target(
            batch.reward, batch.discount, logits, support(logits), gamma
        )

    def critic_loss(critic_params: PyTree, batch: Batch, target: Array) -> CriticLoss:
        logits, variables = forward(critics, critic_params, batch.observation, batch.action)
        targets = jnp.broadcast_to(target, logits.shape)
        value = losses.categorical_mean(logits, support(logits))
        priority = jnp.max(losses.categorical_divergence(targets, logits), axis=0)
        loss = jnp.sum(losses.categorical_cross_entropy(logits, targets), axis=0)
        return CriticLoss(loss, priority, variables, {"value": jnp.mean(value)})

    def actor_loss(actor_params: PyTree, critic_params: PyTree, batch: Batch) -> ActorLoss:
        action, variables = forward(actor, actor_params, batch.observation)
        logits, _ = forward(critics, critic_params, batch.observation, action)
        values = losses.categorical_mean(logits, support(logits))
        return ActorLoss(
            losses.deterministic_policy_gradient(losses.clipped_double_q(values)), variables, {}
        )

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
