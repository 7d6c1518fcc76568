"""DrQ-v2: from images, with one encoder that only the critics train."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from ddpg_jax import checks, losses
from ddpg_jax.agents.actor_critic import ActorLoss, CriticLoss, make_agent, variables
from ddpg_jax.agents.optimization import Optimizer, Rate, optimizers
from ddpg_jax.agents.targets import hard_update, soft_update
from ddpg_jax.networks import WithEncoder
from ddpg_jax.types import Agent, AgentState, Array, Batch, Key, Network, Numeric, PyTree, zeros


def drq_v2(
    encoder: nn.Module,
    actor: Network,
    critics: nn.Module,
    *,
    gamma: Numeric = 0.99,
    tau: Numeric = 0.01,
    actor_learning_rate: Rate = 1e-4,
    critic_learning_rate: Rate = 1e-4,
    critic_weight_decay: Numeric = 0.0,
    target_noise: Numeric = 0.1,
    target_noise_clip: Numeric = 0.3,
    optimizer: Optimizer = optax.adam,
    axis_name: str | None = None,
) -> Agent:
    r"""DrQ-v2's agent: DDPG with clipped double Q on features of an encoder that the critics alone
    train.

    .. math::

        h        &= f(s)
                 && \text{newest encoder} \\
        \tilde a &= \mathrm{clip}(\mu(h') + \mathrm{clip}(\epsilon, -c, c), -1, 1),
                    \quad \epsilon \sim N(0, \sigma)
                 && \text{newest actor} \\
        y        &= r + \gamma d \min_i Q'_i(h', \tilde a)
                 && \text{target critics alone} \\
        L        &= \sum_i \tfrac{1}{B} \sum (y - Q_i(f(s), a))^2
                 && \text{critics and encoder} \\
        J        &= \tfrac{1}{B} \sum \min_i Q_i(h, \mu(h))
                 && \text{actor; h constant} \\
        \theta'  &\leftarrow \tau \theta + (1 - \tau) \theta'
                 && \text{critics alone}

    The other parts of DrQ-v2 are not in the agent: random shifts are `ddpg_jax.agents.augment`,
    n-step returns are in the data, its noise that shrinks is a schedule of
    `ddpg_jax.noise.gaussian` and, in the target, of `ddpg_jax.agents.scheduled`.

    Args:
        encoder: ``encoder(observation) -> features``; a Flax module without statistics or noise of
            its own, as the others.
        actor: ``actor(features) -> action``, with a trunk of its own (`ddpg_jax.networks.Trunk`).
        critics: ``critics(features, action) -> values [C, ...]``, C at least 1
            (`ddpg_jax.networks.VmappedHead`).
        tau: tracking rate of the target critics in [0, 1].
        critic_learning_rate, critic_weight_decay: of critics and encoder.
        target_noise, target_noise_clip: sigma and c, in units of the action range [-1, 1]; at least
            0.
        gamma, actor_learning_rate, optimizer, axis_name: as in `ddpg_jax.agents.ddpg`.

    Raises:
        ValueError: a concrete number is out of its range; from ``init``, a network carries
            statistics or noise.

    Source: Yarats et al. 2021 (arXiv:2107.09645), section 3, and facebookresearch/drqv2, from which
    all defaults are. Differs from there: the actor sees features of the encoder after, not before,
    the critics' step, as it sees the critics; and its loss is at mu(h), without the clipped noise
    that is added there.
    """
    checks.between(0, target_noise=target_noise, target_noise_clip=target_noise_clip)
    whole: Network = WithEncoder(encoder, critics)
    encode = functools.partial(whole.apply, method="encode")
    judge = functools.partial(whole.apply, method="on")

    def critic_target(
        actor_target_params: PyTree, critic_target_params: PyTree, batch: Batch, key: Key
    ) -> Array:
        features = encode(critic_target_params, batch.next_observation)
        next_action = losses.smoothed_action(
            key, actor.apply(actor_target_params, features), target_noise, target_noise_clip
        )
        next_value = losses.clipped_double_q(judge(critic_target_params, features, next_action))
        return losses.td_target(batch.reward, batch.discount, next_value, gamma)

    def critic_loss(critic_params: PyTree, batch: Batch, target: Array) -> CriticLoss:
        values = whole.apply(critic_params, batch.observation, batch.action)
        targets = jnp.broadcast_to(target, values.shape)
        priority = jnp.max(jnp.abs(targets - values), axis=0)
        loss = jnp.sum(losses.squared_error(values, targets), axis=0)
        return CriticLoss(loss, priority, {}, {"value": jnp.mean(values)})

    def actor_loss(actor_params: PyTree, critic_params: PyTree, batch: Batch) -> ActorLoss:
        features = encode(critic_params, batch.observation)
        value = losses.clipped_double_q(
            judge(critic_params, features, actor.apply(actor_params, features))
        )
        return ActorLoss(losses.deterministic_policy_gradient(value), {}, {})

    agent = make_agent(
        _OnFeatures(encoder, actor),
        whole,
        critic_target,
        critic_loss,
        actor_loss,
        track_actor=hard_update,
        track_critic=soft_update(tau, copied=("encoder",)),
        act=lambda state, seen: actor.apply(
            variables(state.actor), encode(variables(state.critic), seen)
        ),
        gamma=gamma,
        axis_name=axis_name,
        **optimizers(optimizer, actor_learning_rate, critic_learning_rate, critic_weight_decay),
    )

    def init(key: Key, observation: PyTree, action: Array) -> AgentState:
        state = agent.init(key, observation, action)
        carried = state.actor.batch_stats | state.critic.batch_stats
        if carried:
            raise ValueError(
                f"drq_v2: its networks carry {', '.join(sorted(carried))}, which it would never "
                "move: normalise by LayerNorm, and use layers without noise."
            )
        return state

    return agent._replace(init=init)


class _OnFeatures(NamedTuple):
    """The actor as `make_agent` begins it, from an observation."""

    encoder: nn.Module
    actor: Network

    def init(self, key: Key, observation: PyTree) -> PyTree:
        features = jax.eval_shape(lambda: self.encoder.init_with_output(key, observation)[0])
        return self.actor.init(key, zeros(features))

    def apply(self, params: PyTree, features: Any) -> Any:
        return self.actor.apply(params, features)
