"""The hyper-parameters that every algorithm has.

Imports no JAX, so that the command line answers at once.
"""

from dataclasses import dataclass, replace
from typing import ClassVar, Self

from ddpg_jax.runs.options.field import check_options, option, options_of
from ddpg_jax.runs.options.validation import INT32_MAX, MAX_ROWS, MAX_STEPS, Options, short_repr

MAX_WIDTH, MAX_LAYERS = 1_000_000, 64
MAX_N_STEP = 1_000
"""An n-step window is unrolled: XLA compiles a thousand steps in a minute and a half."""
MAX_DELAY, MAX_ATOMS = 1_000, 1_000_000
DTYPES = ("float32", "bfloat16")
STRATEGIES = ("none", "future", "final", "episode")
# What several declarations share.
COUNT: Options = {"low": 1, "high": INT32_MAX}
WIDTH: Options = {"low": 1, "high": MAX_WIDTH}
SHARE: Options = {"low": 0, "high": 1}
IN_ACTIONS: Options = {"unit": "of the normalised action range", "low": 0}
EXPLORATION: Options = {"group": "exploration", **IN_ACTIONS}
SUPPORT: Options = {
    "group": "targets",
    "unit": "discounted return",
    "kept": "a critic has learned probabilities of the support's atoms",
}
SMOOTHING: Options = {"group": "targets", **IN_ACTIONS}


@dataclass(frozen=True, kw_only=True)
class Hyperparameters:
    """The hyper-parameters of a run, each an option of ``ddpg-jax train``; floats may be traced.

    An algorithm adds its own in a subclass.
    """

    total_timesteps: int = option(
        1_000_000,
        "Environment steps of the run, over all environments of a member.",
        "run length",
        "steps",
        low=1,
        high=MAX_STEPS,
        resume="free",
        common=True,
    )
    num_envs: int = option(
        1, "Environments stepped side by side.", "run length", **COUNT, common=True
    )
    learning_starts: int = option(
        1_000, "Transitions stored before the first update.", "run length", "transitions", **COUNT
    )
    updates_per_step: int = option(
        1,
        "Critic updates per vector step; divided by num_envs it is the update-to-data ratio.",
        "run length",
        **COUNT,
    )
    batch_size: int = option(
        256, "Transitions of one critic update.", "replay", "transitions", **COUNT, common=True
    )
    replay_capacity: int = option(
        1_000_000,
        "Transitions that the replay holds.",
        "replay",
        "transitions",
        low=1,
        high=MAX_ROWS,
    )
    hidden: tuple[int, ...] = option(
        (256, 256), "Width of each hidden layer, as 256,256.", "networks", "units"
    )
    critic_hidden: tuple[int, ...] = option(
        (), "Width of each hidden layer of the critic.", "networks", "units", unset="as --hidden"
    )
    layer_norm: bool = option(False, "Layer normalisation of hidden layers.", "networks")
    inverting_gradients: bool = option(
        False,
        "Inverting gradients (Hausknecht and Stone 2016): keep actors from saturating at bounds.",
        "networks",
    )
    normalize_observations: bool = option(
        False, "Normalise observations by a running mean and variance.", "networks"
    )
    dtype: str = option(
        "float32",
        "Type in which networks compute: a value in bfloat16 has 8 bits, so 500 is known to 2.",
        "networks",
        choices=DTYPES,
    )
    observation_dtype: str = option(
        "float32", "Type in which the replay stores observations.", "replay", choices=DTYPES
    )
    actor_stream: str = option(
        "state",
        "Stream that the actor reads where an observation is a dict; vectors are joined where "
        "none is named.",
        "networks",
    )
    critic_stream: str = option(
        "privileged_state",
        "Stream that the critic reads where an observation is a dict.",
        "networks",
    )
    reward_scale: float = option(
        1.0,
        "Factor of every reward in updates.",
        "targets",
        positive=True,
        kept="a critic has learned returns of scaled rewards",
    )
    gamma: float = option(
        0.99,
        "Discount of a step.",
        "targets",
        kept="a replay of n-step returns stores them discounted",
        **SHARE,
    )
    n_step: int = option(
        1, "Steps of the return before it bootstraps.", "targets", "steps", low=1, high=MAX_N_STEP
    )
    tau: float = option(
        0.005,
        "Soft update of the target networks: target <- tau * online + (1 - tau) * target.",
        "targets",
        **SHARE,
    )
    actor_learning_rate: float = option(3e-4, "Learning rate of the actor.", "optimisation", low=0)
    critic_learning_rate: float = option(
        3e-4, "Learning rate of the critic.", "optimisation", low=0
    )
    critic_weight_decay: float = option(
        0.0, "L2 penalty in the critic's gradient.", "optimisation", low=0
    )
    weight_decay: float = option(
        0.0, "Decoupled weight decay (AdamW) of both networks.", "optimisation", low=0
    )
    max_grad_norm: float = option(
        0.0,
        "Global norm to which each network's gradient is clipped; 0 does not clip.",
        "optimisation",
        low=0,
    )
    anneal: bool = option(
        False, "Both learning rates fall linearly to zero over the run.", "optimisation"
    )
    anneal_updates: int = option(
        0,
        "Critic updates over which both learning rates fall linearly to zero; 0: see --anneal.",
        "optimisation",
        "updates",
        low=0,
        high=INT32_MAX,
    )
    priority_exponent: float = option(
        0.0,
        "alpha of prioritised replay; 0 is uniform replay.",
        "replay",
        kept="a replay stores priorities that were raised to it",
        **SHARE,
    )
    importance_exponent: float = option(
        0.4,
        "beta of prioritised replay's importance weights at the first batch.",
        "replay",
        **SHARE,
    )
    importance_updates: int = option(
        100_000, "Batches over which beta rises linearly to 1.", "replay", "batches", **COUNT
    )

    hindsight: str = option(
        "none",
        "Where goals that take the place of a step's own come from: its episode's later steps, its "
        "last one, or any (hindsight experience replay).",
        "replay",
        choices=STRATEGIES,
    )
    goals_per_step: float = option(
        4.0,
        "k of hindsight: k of k + 1 sampled steps are given another goal.",
        "replay",
        low=0,
    )

    axis_name: ClassVar[str | None] = None
    """The mesh axis over which a run is split; not an option, set by `of_shard`."""

    split: ClassVar[tuple[str, ...]] = ("num_envs", "batch_size", "replay_capacity")
    """What the shards of a run share among them."""

    def of_shard(self, shards: int, axis_name: str) -> Self:
        """Return those of one shard: ``shards`` divides environments, batch and replay."""
        own = {name: max(1, getattr(self, name) // shards) for name in self.split}
        made = replace(self, **own)
        object.__setattr__(made, "axis_name", axis_name)  # frozen, and not a field
        return made

    @property
    def batches_per_update(self) -> int:
        """Batches, one for each critic step, that an update of the agent consumes."""
        return 1

    @property
    def window(self) -> int:
        """Steps that are kept before the replay, which makes n-step returns itself in hindsight."""
        return self.n_step if self.hindsight == "none" else 1

    def keeps(self, name: str) -> str:
        """Return `Option.kept` of a hyper-parameter; empty where these keep nothing of it."""
        free = name == "gamma" and self.window == 1
        return "" if free else options_of(type(self))[name].kept

    def check(self) -> None:
        """Check the range of each hyper-parameter, and conditions on two of them.

        Raises:
            ValueError: a run cannot have them.
        """
        for name, widths in (
            ("hidden", self.hidden or (0,)),
            ("critic_hidden", self.critic_hidden),
        ):
            if len(widths) > MAX_LAYERS or not all(1 <= width <= MAX_WIDTH for width in widths):
                raise ValueError(
                    f"{name}={short_repr(widths)}: give the width of each hidden layer, at least "
                    f"1, for example 256,256; at most {MAX_LAYERS} layers of a width of at most "
                    f"{MAX_WIDTH}."
                )
        check_options(self)
        if self.replay_capacity % self.num_envs:
            near = max(1, round(self.replay_capacity / self.num_envs)) * self.num_envs
            raise ValueError(
                f"replay_capacity={self.replay_capacity} is not a multiple of "
                f"num_envs={self.num_envs}: choose for example {near}."
            )
