"""The optimisers of the two networks: Adam with what is put before and behind it."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from ddpg_jax import checks
from ddpg_jax.types import Numeric

Rate = Numeric | Callable[[Any], Any]
"""A learning rate, traced or not, or a schedule of the network's own steps."""
Optimizer = Callable[..., optax.GradientTransformation]
"""Makes an optimiser, ``optimizer(learning_rate)``."""


def l2(weight_decay: Numeric) -> optax.GradientTransformation:
    """The gradient of ``lambda/2 |W|^2`` over weight matrices, before the optimiser sees it (not
    decoupled, as in AdamW).
    """

    def is_matrix(path: Any, leaf: Any) -> bool:
        # In an ensemble a bias has two axes as well.
        return jnp.ndim(leaf) > 1 and not any(
            name in jax.tree_util.keystr(path[-1:]) for name in ("bias", "scale")
        )

    return optax.add_decayed_weights(
        weight_decay, mask=lambda params: jax.tree_util.tree_map_with_path(is_matrix, params)
    )


def optimizers(
    optimizer: Optimizer,
    actor_learning_rate: Rate,
    critic_learning_rate: Rate,
    critic_weight_decay: Numeric,
) -> dict[str, optax.GradientTransformation]:
    """The optimisers that `make_agent` takes; ``optimizer(learning_rate)`` makes each, the critic's
    after `l2`.

    Raises:
        ValueError: a concrete number is negative, or not finite.
    """
    checks.at_least_zero(
        actor_learning_rate=actor_learning_rate,
        critic_learning_rate=critic_learning_rate,
        critic_weight_decay=critic_weight_decay,
    )
    return {
        "actor_optimizer": optimizer(actor_learning_rate),
        "critic_optimizer": optax.chain(l2(critic_weight_decay), optimizer(critic_learning_rate)),
    }


def adam(*, weight_decay: Numeric = 0.0, max_grad_norm: Numeric = 0.0) -> Optimizer:
    """``learning_rate -> optax.GradientTransformation``, for the ``optimizer`` of an agent.

    Args:
        weight_decay: decoupled from the gradient (AdamW, Loshchilov and Hutter 2019); 0 is Adam.
        max_grad_norm: global norm to which the gradient is clipped; 0 does not clip.

    Raises:
        ValueError: a concrete number is negative, or not finite.
    """
    checks.at_least_zero(weight_decay=weight_decay)
    checks.between(0, max_grad_norm=max_grad_norm)

    def make(learning_rate: Rate) -> optax.GradientTransformation:
        step = (
            optax.adam(learning_rate)
            if checks.is_zero(weight_decay)
            else optax.adamw(learning_rate, weight_decay=weight_decay)
        )
        if checks.is_zero(max_grad_norm):
            return step
        norm = max_grad_norm
        if not checks.is_known(norm):
            norm = jnp.where(norm > 0, norm, jnp.inf)
        return optax.chain(optax.clip_by_global_norm(norm), step)

    return make


def annealed(learning_rate: Numeric, updates: int) -> Rate:
    """A learning rate that falls linearly to 0 over that many of the network's own steps; 0 steps
    keep it constant.

    Raises:
        ValueError: a concrete number is negative, or not finite.
    """
    checks.at_least_zero(learning_rate=learning_rate, updates=updates)
    return optax.linear_schedule(learning_rate, 0.0, updates) if updates else learning_rate
