"""Named, cited sets of hyper-parameters, in plain Python.

A preset is a function from the environment's name to a `Preset`: numbers, and one function of `ddpg_jax.compose` that makes
the parts from them. Every number is an option of ``ddpg-jax train``. A new preset is a function here and a line in `PRESETS`.

``ddpg-jax --help`` lists these numbers and must answer at once: JAX is imported when parts are composed.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from ddpg_jax.tasks import SIZES, SUPPORTS

if TYPE_CHECKING:
    from ddpg_jax.compose import Parts
    from ddpg_jax.types import Environment


@dataclass(frozen=True, kw_only=True)
class Preset:
    """Everything that defines a training run but the seed. Numbers are as in `ddpg_jax.agents` and `make_train`.

    Those that are None do not exist in a preset, and cannot be given to it.
    """

    source: str
    """Where the numbers are from, and what differs from there."""
    compose: Callable[[Preset, Environment], Parts]
    """``compose(preset, env)``: the parts, from the numbers below."""
    adapt: Callable[[Environment], Environment] | None = None
    """A wrapper around the environment, also in evaluation."""
    total_timesteps: int
    num_envs: int = 1
    learning_starts: int = 1_000
    updates_per_step: int = 1
    """Critic updates per vector step."""
    batch_size: int = 256
    """Of one critic update."""
    replay_capacity: int = 1_000_000
    hidden: tuple[int, ...] = (256, 256)
    critic_hidden: tuple[int, ...] = ()
    """Empty is as ``hidden``."""
    layer_norm: bool = False
    normalize_observations: bool = False
    reward_scale: float = 1.0
    gamma: float = 0.99
    n_step: int = 1
    tau: float = 0.005
    actor_learning_rate: float = 3e-4
    critic_learning_rate: float = 3e-4
    critic_weight_decay: float = 0.0
    """L2 in the critic's gradient."""
    weight_decay: float = 0.0
    """Decoupled (AdamW), of both networks."""
    max_grad_norm: float = 0.0
    """Global norm to which each network's gradient is clipped; 0 does not clip."""
    anneal_updates: int = 0
    """Critic updates over which both learning rates fall linearly to zero; 0 keeps them constant."""
    priority_exponent: float = 0.0
    """alpha of prioritised replay; 0 is uniform replay."""
    importance_exponent: float = 0.4
    """beta of prioritised replay at the first batch."""
    importance_updates: int = 100_000
    """Batches over which beta rises to 1."""
    stddev: float | None = None
    stddev_low: float | None = None
    stddev_high: float | None = None
    policy_delay: int | None = None
    target_noise: float | None = None
    target_noise_clip: float | None = None
    v_min: float | None = None
    v_max: float | None = None
    num_atoms: int | None = None

    @property
    def round(self) -> tuple[int, int]:
        """Agent updates per round and vector steps per round: one agent update consumes ``policy_delay`` batches."""
        ratio = Fraction(self.updates_per_step, self.policy_delay or 1)
        return ratio.numerator, ratio.denominator


def default(environment: str) -> Preset:
    """DDPG with the sizes that are in use today; some tasks have numbers of their own."""
    base = Preset(
        source=(
            "Fujimoto et al. 2018, section 6.1, and the authors' OurDDPG.py: 256x256 ReLU, Q([s, a]), N(0, 0.1), tau 0.005, "
            "batch 256, Adam 3e-4. Tasks with numbers of their own: " + ", ".join(SIZES)
        ),
        compose=_later("ddpg_gaussian"),
        total_timesteps=1_000_000,
        stddev=0.1,
    )
    return replace(base, **SIZES.get(environment, {}))


def paper(environment: str) -> Preset:
    """Lillicrap et al. 2015, section 7, low-dimensional observations, without batch normalisation."""
    return Preset(
        source=(
            "Lillicrap et al. 2015 (arXiv:1509.02971), section 7 and Algorithm 1: 400-300, Adam 1e-4 and 1e-3, L2 1e-2 on Q, "
            "tau 0.001, batch 64, replay 1e6, Ornstein-Uhlenbeck 0.15 and 0.2. The paper states no dt (1 here) and no warm-up "
            "(updates start with the first full batch)."
        ),
        compose=_later("ddpg_ornstein_uhlenbeck"),
        total_timesteps=2_500_000,
        learning_starts=64,
        batch_size=64,
        hidden=(400, 300),
        tau=0.001,
        actor_learning_rate=1e-4,
        critic_learning_rate=1e-3,
        critic_weight_decay=1e-2,
        stddev=0.2,
    )


def paper_batch_norm(environment: str) -> Preset:
    """Lillicrap et al. 2015, section 7, low-dimensional observations, with the paper's batch normalisation."""
    return replace(
        paper(environment),
        source=(
            "Lillicrap et al. 2015 (arXiv:1509.02971), section 3: batch normalisation of the state, of all layers of mu and of "
            "the layers of Q before the action; all else as preset 'paper'. Momentum is 0.99 (the paper states none); mu's "
            "hidden layers are normalised, before their non-linearity, its output is not."
        ),
        compose=_later("ddpg_batch_norm"),
    )


def parameter_noise(environment: str) -> Preset:
    """DDPG that explores in parameter space."""
    base = Preset(
        source=(
            "Plappert et al. 2018 (arXiv:1706.01905), section 3 and appendix C: adaptive parameter noise, delta 0.2, alpha "
            "1.01, every 50 steps, layer normalisation in both networks; sizes and rates as preset 'default'."
        ),
        compose=_later("parameter_noise"),
        total_timesteps=1_000_000,
        layer_norm=True,
        stddev=0.2,
    )
    return replace(base, **SIZES.get(environment, {}))


def td3(environment: str) -> Preset:
    """TD3 with the sizes of its authors' code; some tasks have numbers of their own."""
    base = Preset(
        source=(
            "Fujimoto et al. 2018 (arXiv:1802.09477), section 6.1 and the authors' TD3.py: 256x256, batch 256, Adam 3e-4, tau "
            "0.005, N(0, 0.1), target noise 0.2 clipped at 0.5, delay 2. Sizes of single tasks as in preset 'default'."
        ),
        compose=_later("td3"),
        total_timesteps=1_000_000,
        stddev=0.1,
        policy_delay=2,
        target_noise=0.2,
        target_noise_clip=0.5,
    )
    return replace(base, **SIZES.get(environment, {}))


def d4pg(environment: str) -> Preset:
    """D4PG: categorical critic, 5-step returns, prioritised replay, many environments."""
    base = Preset(
        source=(
            "Barth-Maron et al. 2018 (arXiv:1804.08617): N = 5, 51 atoms, prioritised replay, many actors; Acme's d4pg for "
            "what the paper's text does not give: support +-150, N(0, 0.2), Adam 3e-4, 256 wide. Targets are averaged (tau "
            "0.005), not copied every 100 updates; supports of tasks with sizes of their own are in units of their returns."
        ),
        compose=_later("d4pg"),
        total_timesteps=1_000_000,
        num_envs=32,
        updates_per_step=32,
        n_step=5,
        priority_exponent=0.6,
        replay_capacity=32 * 31_250,
        stddev=0.2,
        v_min=-150.0,
        v_max=150.0,
        num_atoms=51,
    )
    return replace(base, **SIZES.get(environment, {}), **SUPPORTS.get(environment, {}))


def td3_categorical(environment: str) -> Preset:
    """TD3 with categorical critics on large batches from a thousand environments: the FastTD3 recipe."""
    base = Preset(
        source=(
            "Seo et al. 2025 (arXiv:2505.22642) and its configuration for MuJoCo Playground: 1,024 environments, batch 32,768, "
            "2 updates per step, AdamW 3e-4 with decay 0.1, tau 0.1, gamma 0.97, 101 atoms on +-10, stddev ~ U(0.001, 0.4) per "
            "episode, observations normalised. Pendulum and the Brax pendulums have sizes and supports of their own."
        ),
        compose=_later("td3_categorical"),
        total_timesteps=50_000_000,
        num_envs=1_024,
        learning_starts=10 * 1_024,
        updates_per_step=2,
        batch_size=32_768,
        replay_capacity=10 * 1_024 * 1_024,
        hidden=(512, 256, 128),
        critic_hidden=(1_024, 512, 256),
        normalize_observations=True,
        gamma=0.97,
        tau=0.1,
        weight_decay=0.1,
        stddev_low=0.001,
        stddev_high=0.4,
        policy_delay=2,
        target_noise=0.001,
        target_noise_clip=0.5,
        v_min=-10.0,
        v_max=10.0,
        num_atoms=101,
    )
    if environment not in SUPPORTS:
        return base
    small: dict[str, Any] = {"num_envs": 1, "learning_starts": 1_000, "updates_per_step": 1, "critic_hidden": ()}
    small |= {"gamma": 0.99, "tau": 0.005, "weight_decay": 0.0}
    small |= {name: value for name, value in SIZES[environment].items() if name != "stddev"}
    return replace(base, **small | SUPPORTS[environment])


def pendulum_lecture(environment: str) -> Preset:
    """The PyTorch lecture on Pendulum, with its deviations from the paper.

    A linear actor whose action is the torque in N m, stored as it is and clipped only by the environment; the action joins
    the critic at its first layer; all layers start at fan-in; the time limit counts as terminal; the noise never resets.
    """
    if environment != "pendulum":
        raise ValueError(
            f"preset 'pendulum-lecture' is for the environment 'pendulum', not {environment!r}: choose another preset."
        )
    return Preset(
        source=(
            "A lecture's DDPG in PyTorch: 2x64 ReLU, Adam 1e-3 both, tau 0.001, batch 64, buffer 10,000, Ornstein-Uhlenbeck "
            "0.15 and 0.2 (in N m) that never resets, linear actor, action unclipped, time limit terminal, 1,000 episodes."
        ),
        compose=_later("lecture"),
        adapt=_later("lecture_environment"),
        total_timesteps=200_064,
        learning_starts=64,
        batch_size=64,
        replay_capacity=10_000,
        hidden=(64, 64),
        tau=0.001,
        actor_learning_rate=1e-3,
        critic_learning_rate=1e-3,
        stddev=0.2,
    )


PRESETS: dict[str, Callable[[str], Preset]] = {
    "default": default,
    "paper": paper,
    "paper-batch-norm": paper_batch_norm,
    "pendulum-lecture": pendulum_lecture,
    "parameter-noise": parameter_noise,
    "td3": td3,
    "d4pg": d4pg,
    "td3-categorical": td3_categorical,
}


@functools.cache
def _later(name: str) -> Callable[..., Any]:
    """A function of `ddpg_jax.compose`, imported when it is called."""

    def call(*arguments: Any) -> Any:
        from ddpg_jax import compose

        return getattr(compose, name)(*arguments)

    return call
