"""Goals with hindsight: the papers' DDPG, and today's sizes of DDPG and of TD3."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ddpg_jax
from ddpg_jax.runs.options.field import option
from ddpg_jax.runs.options.hyperparameters import COUNT, SHARE, Hyperparameters
from ddpg_jax.runs.options.preset import Components, Preset
from ddpg_jax.runs.presets import components
from ddpg_jax.runs.presets.ddpg import DDPGHyperparameters
from ddpg_jax.runs.presets.td3 import TD3Hyperparameters

if TYPE_CHECKING:
    from ddpg_jax.environment import Environment


@dataclass(frozen=True, kw_only=True)
class GoalHyperparameters(Hyperparameters):
    """The hyper-parameters of environments with goals."""

    gamma: float = 0.98
    replay_capacity: int = 1_000_000
    hindsight: str = "future"
    normalize_observations: bool = True
    random_actions: float = option(
        0.3,
        "Probability of an action that is drawn at random instead.",
        group="exploration",
        **SHARE,
    )
    action_penalty: float = option(
        1.0, "Factor of the mean squared action in the actor's loss.", "optimisation", low=0
    )


@dataclass(frozen=True, kw_only=True)
class DDPGWithGoals(GoalHyperparameters, DDPGHyperparameters):
    """The hyper-parameters of DDPG with goals."""

    target_period: int = option(
        1, "Updates after which the targets follow, once.", "targets", "updates", **COUNT
    )

    @property
    def batches_per_update(self) -> int:
        """One for each update between two moves of the targets."""
        return self.target_period


@dataclass(frozen=True, kw_only=True)
class TD3WithGoals(GoalHyperparameters, TD3Hyperparameters):
    """The hyper-parameters of TD3 with goals."""


def ddpg(
    hyperparameters: DDPGWithGoals, env: Environment, *, own_warm_up: bool = False, **layers: Any
) -> Components:
    """Compose DDPG whose targets follow once in a while, and that acts at random at times."""
    agents, given = ddpg_jax.agents, hyperparameters
    seldom = given.target_period > 1
    options = components.learning_options(given) | components.goal_options(given, env)
    agent = agents.ddpg(
        components.actor(given, env, **layers),
        components.critic(given, env, **layers),
        **options | ({"tau": 0.0} if seldom else {}),
    )
    if seldom:
        agent = agents.track_after(agent, given.target_period, agents.soft_update(given.tau))
    explore = components.random_at_times(given.stddev, given.random_actions)
    return components.assemble(given, env, agent, explore, own_warm_up=own_warm_up)


def paper(hyperparameters: DDPGWithGoals, env: Environment) -> Components:
    """Compose the paper's DDPG, whose layers start as Glorot and Bengio's."""
    dense = ddpg_jax.networks.GlorotDense
    return ddpg(hyperparameters, env, own_warm_up=True, dense=dense, final_bound=None)


def td3(hyperparameters: TD3WithGoals, env: Environment) -> Components:
    """Compose TD3 that acts at random at times."""
    given = hyperparameters
    agent = ddpg_jax.agents.td3(
        components.actor(given, env),
        components.critic(given, env),
        **components.learning_options(given) | components.goal_options(given, env),
        target_noise=given.target_noise,
        target_noise_clip=given.target_noise_clip,
        policy_delay=given.policy_delay,
    )
    explore = components.random_at_times(given.stddev, given.random_actions)
    return components.assemble(given, env, agent, explore)


PRESETS = (
    Preset(
        name="her",
        summary="DDPG with hindsight, for goals, with the sizes that are in use today.",
        source="""
            Andrychowicz et al. 2017 (arXiv:1707.01495) and Plappert et al. 2018 (arXiv:1802.09464),
            appendix B: goals of later steps for 4 of 5 sampled steps, gamma 0.98, Adam 1e-3, 30 %
            random actions and else N(0, 0.2), actions penalised, targets clipped to possible
            returns, observations and goals normalised and clipped at 5.
        """,
        ours="""
            256x256 (three layers there), targets follow by 0.005 in each update (by 0.05 in every
            40th), one environment, an update a step after 1,000 random ones (19 workers, 0.4), 1e6
            steps; the first layers start at fan-in.
        """,
        hyperparameters=DDPGWithGoals(
            stddev=0.2, actor_learning_rate=1e-3, critic_learning_rate=1e-3
        ),
        compose=ddpg,
    ),
    Preset(
        name="her-td3",
        summary="TD3 with hindsight, for goals.",
        source="""
            Fujimoto et al. 2018 (arXiv:1802.09477) for TD3; all of goals as in preset 'her'.
        """,
        ours="""
            the combination, with one environment, an update a step after 1,000 random ones, and 1e6
            steps.
        """,
        hyperparameters=TD3WithGoals(
            stddev=0.2, actor_learning_rate=1e-3, critic_learning_rate=1e-3
        ),
        compose=td3,
    ),
    Preset(
        name="her-paper",
        summary="Plappert et al. 2018, appendix B, DDPG with hindsight.",
        source="""
            Plappert et al. 2018 (arXiv:1802.09464), section 1.4 and appendix B, and OpenAI's
            baselines where it is silent: 256x256x256 from Glorot's uniform distribution, Adam 1e-3,
            30 % random actions and else N(0, 0.2), penalty 1, gamma 0.98, targets clipped to
            [-50, 0], normalised and clipped at 5, replay 1e6, goals of later steps for 4 of 5
            sampled ones; 19 workers as one: batches of 19 times 256, 40 updates for every 1,900
            steps, after which the targets follow by 0.05, 4.75e6 steps. The 1,900 steps are of 95
            environments (there of 38 whole episodes); statistics of the normaliser are of goals as
            collected (there of those given in hindsight too).
        """,
        hyperparameters=DDPGWithGoals(
            total_timesteps=4_750_000,
            num_envs=95,
            learning_starts=1_900,
            updates_per_step=2,
            batch_size=4_864,
            replay_capacity=999_970,
            hidden=(256, 256, 256),
            tau=0.05,
            target_period=40,
            actor_learning_rate=1e-3,
            critic_learning_rate=1e-3,
            stddev=0.2,
        ),
        compose=paper,
        exact=True,
    ),
)
