"""The hyper-parameters that every algorithm has; imports no JAX, so that the command line answers at once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Self

if TYPE_CHECKING:
    pass

WIDEST, MOST_LAYERS = 1_000_000, 64
LONGEST_WINDOW = 1_000
"""Of multi-step returns: a window is unrolled, and a thousand steps take XLA a minute and a half."""
LONGEST_DELAY, MOST_ATOMS = 1_000, 1_000_000
DTYPES = ("float32", "bfloat16")


@dataclass(frozen=True, kw_only=True)
class Hyperparameters:
    """The hyper-parameters of a training run, but for its seed. Each is an option of ``ddpg-jax train``; floats may be traced.

    An algorithm adds its own in a subclass. Those not explained here are as in `ddpg_jax.agents` and `ddpg_jax.schedule`.
    """

    total_timesteps: int = 1_000_000
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
    inverting_gradients: bool = False
    """Whether actors leave a bound of their actions at full speed (`ddpg_jax.networks.inverting`)."""
    normalize_observations: bool = False
    dtype: str = "float32"
    """What the networks compute in: float32 or bfloat16. Parameters, targets, optimisers and losses are float32."""
    observation_dtype: str = "float32"
    """What the replay stores observations as."""
    actor_stream: str = "state"
    """What the actor reads where an observation is a dict."""
    critic_stream: str = "privileged_state"
    """What the critic reads there."""
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

    axis_name: ClassVar[str | None] = None
    """No number: of the mesh axis over which a run is split, in those that `of_shard` made."""

    def of_shard(self, shards: int, axis_name: str) -> Self:
        """The hyper-parameters of one of so many shards of a run, which divide its environments and its batch."""
        own = {name: getattr(self, name) // shards for name in ("num_envs", "batch_size", "replay_capacity")}
        made = replace(self, **own)
        object.__setattr__(made, "axis_name", axis_name)  # frozen; no field, so in no configuration and no option
        return made

    @property
    def batches_per_update(self) -> int:
        """Batches, one for each critic step, that an update of the agent consumes."""
        return 1

    def check(self) -> None:
        """Raise ``ValueError`` for hyper-parameters that no run can have; what is not looked at here, its part looks at."""
        from ddpg_jax import checks
        from ddpg_jax.runs.options import validation

        largest = validation.LARGEST
        for name, widths in (("hidden", self.hidden or (0,)), ("critic_hidden", self.critic_hidden)):
            if min(widths, default=1) < 1:
                raise ValueError(
                    f"{name}={validation.shown(widths)}: give the width of each hidden layer, each at least 1, for example 256,256."
                )
            if len(widths) > MOST_LAYERS or max(widths, default=1) > WIDEST:
                raise ValueError(
                    f"{name}={validation.shown(widths)}: must be at most {MOST_LAYERS} layers of a width of at most {WIDEST} each."
                )
        for name, value in (("dtype", self.dtype), ("observation_dtype", self.observation_dtype)):
            if value not in DTYPES:
                raise ValueError(f"{name}={validation.shown(value)}: must be {' or '.join(DTYPES)}.")
        checks.between(1, largest, batch_size=self.batch_size, num_envs=self.num_envs, learning_starts=self.learning_starts)
        checks.between(1, largest, updates_per_step=self.updates_per_step)
        checks.between(1, validation.ROWS_LARGEST, replay_capacity=self.replay_capacity)
        checks.between(1, LONGEST_WINDOW, n_step=self.n_step)
        checks.between(1, validation.STEPS_LARGEST, total_timesteps=self.total_timesteps)
        checks.between(1, largest, importance_updates=self.importance_updates)
        checks.between(0, largest, anneal_updates=self.anneal_updates)
        checks.at_least_zero(max_grad_norm=self.max_grad_norm, weight_decay=self.weight_decay)
        checks.at_least_zero(actor_learning_rate=self.actor_learning_rate, critic_learning_rate=self.critic_learning_rate)
        checks.between(0, 1, priority_exponent=self.priority_exponent, importance_exponent=self.importance_exponent)
        checks.positive(reward_scale=self.reward_scale)
        if self.replay_capacity % self.num_envs:
            near = max(1, round(self.replay_capacity / self.num_envs)) * self.num_envs
            raise ValueError(
                f"replay_capacity={self.replay_capacity} is not a multiple of num_envs={self.num_envs}: choose for example "
                f"{near}."
            )
