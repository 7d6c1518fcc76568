"""D4PG: our sizes, and as much of the paper as is known."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import ddpg_jax
from ddpg_jax.runs.options.field import option
from ddpg_jax.runs.options.hyperparameters import EXPLORATION, MAX_ATOMS, SUPPORT, Hyperparameters
from ddpg_jax.runs.options.preset import Components, Preset
from ddpg_jax.runs.presets import components


@dataclass(frozen=True, kw_only=True)
class D4PGHyperparameters(Hyperparameters):
    """The hyper-parameters of D4PG."""

    num_envs: int = 32
    updates_per_step: int = 32
    n_step: int = 5
    priority_exponent: float = 0.6
    stddev: float = option(0.2, "Standard deviation of the exploration noise.", **EXPLORATION)
    v_min: float = option(-150.0, "Lower end of the critic's support.", **SUPPORT)
    v_max: float = option(150.0, "Upper end of the critic's support.", **SUPPORT)
    num_atoms: int = option(51, "Atoms of the critic's support.", "targets", low=2, high=MAX_ATOMS)


def compose(
    hyperparameters: D4PGHyperparameters, env: ddpg_jax.environment.Environment, **start: Any
) -> Components:
    """Compose D4PG with clipped Gaussian noise."""
    agent = ddpg_jax.agents.d4pg(
        components.actor(hyperparameters, env, **start),
        components.critic(hyperparameters, env, num_atoms=hyperparameters.num_atoms, **start),
        v_min=hyperparameters.v_min * hyperparameters.reward_scale,
        v_max=hyperparameters.v_max * hyperparameters.reward_scale,
        **components.learning_options(hyperparameters),
    )
    noise = ddpg_jax.noise.gaussian(hyperparameters.stddev)
    return components.assemble(hyperparameters, env, agent, components.clipped(noise))


PRESETS = (
    Preset(
        name="d4pg",
        summary="D4PG: categorical critic, 5-step returns, prioritised replay, many environments.",
        source="""
            Barth-Maron et al. 2018 (arXiv:1804.08617): N = 5, 51 atoms, prioritised replay, many
            actors; Acme's d4pg for what the paper's text does not give: support +-150, N(0, 0.2),
            Adam 3e-4, 256 wide, gamma 0.99, batch 256, replay 1e6, 1,000 steps before the first
            update; Schaul et al. 2016 for the priorities: alpha 0.6, beta from 0.4 to 1.
        """,
        ours="""
            targets averaged, tau 0.005 (copied every 100 updates there); 2 layers (3, with layer
            normalisation); 32 updates for 32 steps (4); no clipping of gradients (at a norm of 40,
            dQ/da at 1); the first 1,000 steps are random (the policy's there); final layers start
            in U[-3e-3, 3e-3] (the actor's near 1e-4); beta is 1 after 100,000 batches (at the end).
        """,
        hyperparameters=D4PGHyperparameters(),
        compose=compose,
    ),
    Preset(
        name="d4pg-paper",
        summary="Barth-Maron et al. 2018, completed by its authors' group's Acme.",
        source="""
            Barth-Maron et al. 2018 (arXiv:1804.08617): N = 5, prioritised replay and 32 actors, as
            in its headline results. The paper does not state the other hyper-parameters; they are
            those of Acme's D4PGConfig: 51 atoms on +-150, 300-200 and 400-300, Adam 1e-4, batch
            256, N(0, 0.3), gradients clipped at a norm of 40, 32 samples per inserted step (4
            updates for 32 steps), gamma 0.99, replay 1e6, 1,000 steps before the first update.
            Priorities have the alpha 0.6 of Schaul et al. 2016, weights are the paper's 1 / (R p)
            over the batch's greatest; 1e6 steps.
        """,
        ours="""
            targets averaged, tau 0.01 (copied every 100 updates there); dQ/da not clipped (at 1);
            no layer normalisation (in all networks); all layers start at fan-in (the actor's last
            near 1e-4); the first 1,000 steps are random (the policy's there).
        """,
        hyperparameters=D4PGHyperparameters(
            importance_exponent=1.0,
            updates_per_step=4,
            hidden=(300, 200),
            critic_hidden=(400, 300),
            tau=0.01,
            actor_learning_rate=1e-4,
            critic_learning_rate=1e-4,
            max_grad_norm=40.0,
            stddev=0.3,
        ),
        compose=functools.partial(compose, final_bound=None),  # as the other layers
        exact=True,
    ),
)
