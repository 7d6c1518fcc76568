"""Known tasks: when they count as solved, published returns, and tuned hyper-parameters."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

Values = Mapping[str, Any]
"""Hyper-parameters or options, by name."""


CHUNKS, FEW_CHUNKS = 200, 20
"""Chunks of a run by default: a signal waits for the end of one, and each is a row of metrics."""


class Published(NamedTuple):
    """A published return."""

    agent: str
    mean: float
    std: float | None
    """Over seeds, where it was given."""
    steps: int
    source: str


@dataclass(frozen=True)
class Task:
    """An environment with what is known of it, independent of the algorithm."""

    env: str
    options: Values = field(default_factory=dict)
    """Of the environment, with which the benchmarks make it; the environment's own without."""
    solved: float | None = None
    """The mean return of deterministic episodes at which it counts as solved; None where nobody
    agreed on one."""
    chunks: int = CHUNKS
    """About as many chunks has a run by default, unless it observes images: fewer where an
    environment takes microseconds a step, so that the milliseconds between two chunks count."""
    support: tuple[float, float] | None = None
    """Ends of a categorical critic's support, in units of discounted return."""
    published: tuple[Published, ...] = ()
    hyperparameters: Values = field(default_factory=dict)
    """Found by trying, published nowhere: presets that are named after an algorithm take them
    (`ddpg_jax.runs.presets`)."""
    from_pixels: Values = field(default_factory=dict)
    """The same, of presets that take images."""
    pixels: Values = field(default_factory=dict)
    """Options of the environment seen by pixels for which they were found."""
    images: Values = field(default_factory=dict)
    """Options with which the environment shows images, as such presets take them where no others
    are given."""


CLEANRL = "CleanRL's benchmark, JAX, Gymnasium v4, 3 seeds"
TD3_PAPER = "Fujimoto et al. 2018, table 1 (Gym v1, maximum of the mean over 10 seeds)"

DM_CONTROL = (
    "AcrobotSwingup AcrobotSwingupSparse BallInCup CartpoleBalance CartpoleBalanceSparse "
    "CartpoleSwingup CartpoleSwingupSparse CheetahRun FingerSpin FingerTurnEasy FingerTurnHard "
    "FishSwim HopperHop HopperStand HumanoidRun HumanoidStand HumanoidWalk PendulumSwingup "
    "PointMass ReacherEasy ReacherHard SwimmerSwimmer6 WalkerRun WalkerStand WalkerWalk"
)
LOCOMOTION = (
    "G1JoystickFlatTerrain G1JoystickRoughTerrain T1JoystickFlatTerrain T1JoystickRoughTerrain "
    "Go1JoystickFlatTerrain Go1JoystickRoughTerrain Go1Getup Go1Handstand Go1Footstand"
)

SMALL_IMAGES: dict[str, Any] = {
    "batch_size": 64,
    "hidden": (64, 64),
    "channels": 16,
    "layers": 3,
    "stride": 2,
    "trunk": 32,
    "shift": 1,
    "n_step": 3,
    "critic_learning_rate": 1e-3,
}
"""Of tasks that are seen at 32x32."""
CARTPOLE_FROM_PIXELS: dict[str, Any] = {
    # The upright pole is seen at 48x48; at 32x32 it falls between two rays.
    "pixels": {"image_size": 48, "grayscale": True, "action_repeat": 8},
    "from_pixels": {
        **SMALL_IMAGES,
        "total_timesteps": 30_504,
        "num_envs": 2,
        "learning_starts": 500,
        "updates_per_step": 2,
        "inverting_gradients": True,
        "replay_capacity": 30_504,
        "stddev_steps": 10_000,
    },
}

TASKS: dict[str, Task] = {
    task.env: task
    for task in (
        Task(
            "pendulum",
            solved=-200.0,
            chunks=FEW_CHUNKS,
            # 0 to -16.27 a step, 200 steps: -1,409 by Acme's rule, which no episode reaches.
            support=(-1_000.0, 0.0),
            published=(
                Published("DDPG", -152.1, None, 20_000, "SB3 zoo, Pendulum-v1"),
                Published("TD3", -151.9, None, 20_000, "SB3 zoo, Pendulum-v1"),
            ),
            hyperparameters={
                "total_timesteps": 20_000,
                "batch_size": 64,
                "replay_capacity": 20_000,
                "hidden": (64, 64),
                "actor_learning_rate": 1e-3,
                "critic_learning_rate": 1e-3,
            },
            pixels={"image_size": 32, "grayscale": True},
            from_pixels={
                **SMALL_IMAGES,
                "total_timesteps": 15_000,
                "num_envs": 1,
                "learning_starts": 1_000,
                "replay_capacity": 15_000,
                "stddev_steps": 5_000,
                "actor_learning_rate": 1e-3,
            },
        ),
        # -1 a step, for ever: -100 at gamma 0.99.
        Task("reach", chunks=FEW_CHUNKS, support=(-100.0, 0.0)),
        Task("push", chunks=FEW_CHUNKS, support=(-100.0, 0.0)),
        Task(
            "lane",
            chunks=FEW_CHUNKS,
            support=(0.0, 280.0),  # 2.78 a step at top speed, for ever: 278 at gamma 0.99
            hyperparameters={
                "total_timesteps": 81_600,
                "num_envs": 16,
                "learning_starts": 1_600,
                "updates_per_step": 4,
                "replay_capacity": 96_000,
                "hidden": (64, 64),
                "gamma": 0.95,
                "n_step": 3,
                "critic_learning_rate": 1e-3,
                "anneal": True,
            },
            from_pixels={
                **SMALL_IMAGES,
                "total_timesteps": 81_600,
                "num_envs": 32,
                "learning_starts": 1_600,
                "updates_per_step": 4,
                "replay_capacity": 64_000,
                "gamma": 0.95,
                "stddev_steps": 30_000,
                "actor_learning_rate": 5e-4,
                "anneal": True,
            },
            images={"observation": "camera", "camera_size": 32, "time_limit": 150},
        ),
        Task(
            "brax/inverted_pendulum",
            solved=950.0,
            support=(0.0, 100.0),  # 1 a step, for ever: 100
            hyperparameters={
                "total_timesteps": 80_000,
                "num_envs": 8,
                "updates_per_step": 4,
                "batch_size": 128,
                "replay_capacity": 80_000,
                "hidden": (64, 64),
                "critic_learning_rate": 1e-3,
            },
        ),
        Task(
            "brax/inverted_double_pendulum",
            solved=8_000.0,
            support=(0.0, 1_000.0),  # 9.36 a step, for ever: 936 at gamma 0.99, 468 at 0.98
            hyperparameters={
                "total_timesteps": 161_000,
                "num_envs": 8,
                "updates_per_step": 4,
                "replay_capacity": 160_000,
                "hidden": (128, 128),
                "layer_norm": True,
                "gamma": 0.98,
                "n_step": 3,
                "critic_learning_rate": 1e-3,
                "anneal": True,
                "stddev": 0.3,
            },
        ),
        # Supports of Brax: rewards of PPO's best policies (plots of its notebooks) at gamma 0.99.
        Task("brax/ant", support=(-100.0, 900.0)),
        Task("brax/halfcheetah", options={"backend": "spring"}, support=(-100.0, 900.0)),
        Task("brax/hopper", support=(-150.0, 150.0)),  # as Acme's; at gamma 0.97 it is enough
        Task("brax/humanoid", support=(-100.0, 1_500.0)),
        Task("brax/humanoidstandup", support=(0.0, 8_000.0)),
        Task("brax/pusher", support=(-200.0, 0.0)),
        Task(
            "brax/reacher", options={"backend": "spring", "time_limit": 50}, support=(-100.0, 0.0)
        ),
        Task("brax/walker2d", support=(-100.0, 700.0)),
        *(  # at most 1 a step
            Task(
                f"playground/{name}",
                support=(0.0, 100.0),
                **(CARTPOLE_FROM_PIXELS if name == "CartpoleSwingup" else {}),
            )
            for name in DM_CONTROL.split()
        ),
        *(
            Task(f"playground/{name}", support=(-10.0, 10.0)) for name in LOCOMOTION.split()
        ),  # FastTD3's
        Task(
            "gymnasium/HalfCheetah-v5",
            published=(
                Published("DDPG", 8_638.6, 1_954.5, 1_000_000, CLEANRL),
                Published("TD3", 9_345.9, 771.0, 1_000_000, CLEANRL),
                Published("TD3", 9_636.95, 859.07, 1_000_000, TD3_PAPER),
            ),
        ),
        Task("gymnasium/CarRacing-v3"),
        Task(
            "gymnasium/Hopper-v5",
            published=(
                Published("DDPG", 1_208.5, 659.2, 1_000_000, CLEANRL),
                Published("TD3", 2_940.1, 656.0, 1_000_000, CLEANRL),
                Published("TD3", 3_564.07, 114.74, 1_000_000, TD3_PAPER),
            ),
        ),
    )
}
"""Every task, by the name of its environment."""
