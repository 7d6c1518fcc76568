"""Our programs for `benchmarks/compiled`: the update of every agent as the loop runs it, and the
whole loop.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax

from benchmarks import workloads
from benchmarks.compiled import hlo
from benchmarks.compiled.accelerators import Place
from ddpg_jax import agents, envs, noise, replay, rollout, sharding, train
from ddpg_jax.behaviour import explore
from ddpg_jax.population import Member
from ddpg_jax.runs.config.run_config import make_config
from ddpg_jax.runs.presets import PRESETS
from ddpg_jax.runs.programs import build
from ddpg_jax.types import Key, PyTree, Replay


class Program(NamedTuple):
    """What to compile, and what its busiest loop does.

    Attributes:
        lower: traces and lowers it, for shapes placed by its argument; one with a ``mesh``, for the
            devices in its argument.
        updates: made in the passes through the loop that are counted; each of as many critic steps
            as the delay.
        env_steps: taken in them.
        passes: which branch of the conditionals runs, for each pass that is counted.
        mesh: devices on the axes of `ddpg_jax.sharding`, ``(members, data)``; None is one device.
        needs: a module that has to be installed, and what to give to ``pip install``, the package
            first.
    """

    lower: Callable[[Any], jax.stages.Lowered]
    updates: int = 1
    env_steps: int = 0
    passes: tuple[hlo.Pick, ...] = (max,)
    needs: tuple[str, str] | None = None
    mesh: tuple[int, int] | None = None


def update(
    name: str,
    place: Place,
    *,
    width: int = 256,
    batch_size: int = 256,
    capacity: int = 100_000,
    ring: Callable[[int, int], Replay] = replay.uniform,
    members: int = 0,
    iterations: int = 100,
) -> jax.stages.Lowered:
    """Updates in a scan, with sampling and the sums that are reported, and nothing of an
    environment.

    Args:
        name: of the agent.
        place: where the shapes are.
        width: of the two hidden layers.
        batch_size: of a critic step.
        capacity: of the replay.
        ring: makes the replay.
        members: by vmap; 0 is one without.
        iterations: of the scan.
    """
    sizes = {"batch_size": batch_size, "hidden": width, "capacity": capacity}
    (init, step), _ = workloads.part_of(name, store=ring, **sizes)

    def run(state: PyTree) -> PyTree:
        inner, key = state
        key, scan_key = jax.random.split(key)
        keys = jax.random.split(scan_key, (iterations, 1, 2))
        return jax.lax.scan(lambda inner, keys: (step(inner, keys)[0], None), inner, keys)[0], key

    return _lowered(run, lambda key: (init(key), key), members, place)


def loop(
    name: str,
    env_name: str,
    num_envs: int,
    place: Place,
    *,
    width: int = 256,
    batch_size: int = 256,
    capacity: int = 1_000_000,
    collect_steps: int = 1,
    rounds: int = 100,
) -> jax.stages.Lowered:
    """A chunk of training: act, step, add, sample, update and what is reported, an update a round.

    Args:
        name: of the agent.
        env_name: as of `ddpg_jax.envs.make`; Brax with its spring physics.
        num_envs: environments.
        place: where the shapes are.
        width: of the two hidden layers.
        batch_size: of a critic step.
        capacity: of the replay, made a multiple of ``num_envs``.
        collect_steps: vector steps in a round.
        rounds: in the chunk.
    """
    env = envs.make(
        env_name, num_envs, **({"backend": "spring"} if env_name.startswith("brax/") else {})
    )
    agent, batches = workloads.agent_of(name, env.action.shape[-1], (width, width))
    behaviour = explore(agent, noise.chain(noise.gaussian(0.1), noise.clip()))
    ring = replay.uniform(-(-capacity // num_envs) * num_envs, batch_size * batches)
    steps = rounds * collect_steps * num_envs
    trainer = train.make_train(
        agent, env, ring, behaviour, collect_steps=collect_steps, steps_per_chunk=steps
    )
    return _lowered(trainer.chunk, trainer.init, 0, place)


def spread(
    name: str,
    env_name: str,
    num_envs: int,
    mesh: tuple[int, int],
    devices: Sequence[Any],
    *,
    members: int = 1,
    width: int = 256,
    batch_size: int = 8_192,
    capacity: int = 1_048_576,
    rounds: int = 100,
) -> jax.stages.Lowered:
    """A chunk of training over a mesh, observations normalised: every number is of all shards of
    one member.

    Args:
        name, env_name: as of `loop`.
        num_envs, batch_size, capacity: divided among the shards.
        mesh: devices for members and for shards of each.
        devices: these.
        members: of the population; 1 is a run without such an axis.
        width, rounds: as of `loop`.
    """
    shards, many = mesh[1], members > 1
    axis: dict[str, Any] = {"axis_name": sharding.DATA} if shards > 1 else {}
    env = envs.make(
        env_name,
        num_envs // shards,
        **({"backend": "spring"} if env_name.startswith("brax/") else {}),
    )
    made, batches = workloads.agent_of(name, env.action.shape[-1], (width, width), **axis)
    agent = agents.normalize_observations(made, **axis)
    behaviour = explore(agent, noise.chain(noise.gaussian(0.1), noise.clip()))
    ring = replay.uniform(capacity // shards, batch_size * batches // shards)
    steps = rounds * env.num_envs
    trainer = train.make_train(agent, env, ring, behaviour, steps_per_chunk=steps, **axis)
    member = Member(trainer.init, trainer.chunk, rollout.make_evaluate(agent, env))
    population = sharding.spread(
        lambda hyperparameters: member, sharding.make_mesh(*mesh, devices), many=many
    )
    keys = jax.eval_shape(
        lambda: jax.random.split(jax.random.key(0), members) if many else jax.random.key(0)
    )
    start = sharding.start_of_shards(lambda hyperparameters: member, shards, many=many)
    assert population.place is not None
    state = population.place.state(jax.eval_shape(start, keys, {}))
    return jax.jit(population.chunk, donate_argnums=0).lower(state, {})


def recipe(env_name: str, preset: str, place: Place, **given: Any) -> jax.stages.Lowered:
    """A chunk of a preset, as `ddpg-jax train` runs it; ``given``: as of
    `ddpg_jax.runs.config.run_config.make_config`.
    """
    config = make_config(env_name, preset, **given)
    built = build.build(config, check_memory=lambda parts: None)
    chunk = jax.jit(lambda state: built.population.chunk(state, {}), donate_argnums=0)
    return chunk.lower(place(built.state))


def _lowered(
    run: Callable[[PyTree], PyTree], init: Callable[[Key], PyTree], members: int, place: Place
) -> jax.stages.Lowered:
    """``run`` with its state donated, as the loop is."""
    keys = jax.eval_shape(
        lambda: jax.random.split(jax.random.key(0), members) if members else jax.random.key(0)
    )
    over = jax.vmap if members else lambda function: function
    return jax.jit(over(run), donate_argnums=0).lower(place(jax.eval_shape(over(init), keys)))


def _whole(name: str, env_name: str, num_envs: int, **sizes: Any) -> Program:
    env_steps = num_envs * sizes.get("collect_steps", 1)
    return Program(functools.partial(loop, name, env_name, num_envs, **sizes), env_steps=env_steps)


def _spread(
    name: str, env_name: str, num_envs: int, mesh: tuple[int, int], **sizes: Any
) -> Program:
    return Program(
        functools.partial(spread, name, env_name, num_envs, mesh, **sizes),
        env_steps=num_envs,
        mesh=mesh,
    )


def _scales(name: str, env_name: str, **sizes: Any) -> dict[str, Program]:
    slug = env_name.replace("/", "_").lower()
    counts = (1, 16, 256, 2_048, 4_096, 16_384)
    return {f"{name}_{slug}_{count}": _whole(name, env_name, count, **sizes) for count in counts}


def _recipe(
    env_name: str, preset: str = "fast-td3", num_envs: int = 1_024, **given: Any
) -> Program:
    return Program(
        functools.partial(recipe, env_name, preset, num_envs=num_envs, **given), env_steps=num_envs
    )


def _from_pixels(env_name: str) -> Program:
    """DrQ-v2 at its paper's sizes: networks, batch, three frames of 84x84 in colour, actions that
    last two steps.
    """
    seen = {"pixels": True, "image_size": 84, "action_repeat": 2}
    sizes = dataclasses.asdict(PRESETS["drq-v2"].hyperparameters) | {
        "num_envs": 1_024,
        "replay_capacity": 1_000_448,
    }
    return _recipe(env_name, "drq-v2", env_options=seen, **sizes)


OURS = {
    **{name: Program(functools.partial(update, name)) for name in workloads.AGENTS},
    **{
        f"{name}_prioritised": Program(functools.partial(update, name, ring=replay.prioritised))
        for name in ("ddpg", "td3")
    },
    **{
        f"{name}_64_members": Program(functools.partial(update, name, members=64, capacity=10_000))
        for name in workloads.AGENTS
    },
    "ddpg_2048_members": Program(functools.partial(update, "ddpg", members=2_048, capacity=1_000)),
    **_scales("ddpg", "pendulum"),
    "td3_pendulum_1": _whole("td3", "pendulum", 1, collect_steps=2),
    **_scales("td3", "brax/ant", batch_size=8_192),
    **_scales("td3", "brax/halfcheetah"),
    **_scales("td3", "playground/CheetahRun"),
    "fast_td3_brax_ant": _recipe("brax/ant"),
    "fast_td3_cheetahrun": _recipe("playground/CheetahRun"),
    "fast_td3_humanoid": _recipe("benchmarks.studies.privileged:humanoid"),
    "fast_td3_g1": _recipe("playground/G1JoystickFlatTerrain"),  # its models are downloaded
    "drq_v2_cartpole_pixels": _from_pixels("playground/CartpoleSwingup"),
}
SPREAD = {
    "ddpg_pendulum_data_8": _spread("ddpg", "pendulum", 4_096, (1, 8), width=64),
    "td3_ant_data_8": _spread("td3", "brax/ant", 4_096, (1, 8)),
    "td3_pendulum_64_members_8": _spread(
        "td3", "pendulum", 16, (8, 1), members=64, batch_size=256, capacity=16_384
    ),
    "td3_pendulum_8_members_4_data_2": _spread(
        "td3", "pendulum", 1_024, (4, 2), members=8, batch_size=2_048, capacity=65_536
    ),
}
"""What is compiled for eight devices."""
DEFAULT = (
    *(
        name
        for name in OURS
        if name in workloads.AGENTS or name.endswith(("_prioritised", "_members"))
    ),
    *("ddpg_pendulum_1", "ddpg_pendulum_2048", "td3_pendulum_1", "td3_brax_ant_2048"),
)
"""What is compiled where nothing is asked for by name: 2 minutes on two cores."""
