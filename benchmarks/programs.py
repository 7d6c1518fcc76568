"""Our programs for `benchmarks/compiled.py`: the update of every agent as the loop runs it, and the whole loop."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from benchmarks import hlo
from benchmarks.accelerators import Place
from ddpg_jax import agents, envs, learner, networks, noise, replay, rollout, train
from ddpg_jax.behaviour import explore
from ddpg_jax.types import Agent, Environment, Key, PyTree, Replay, TimeStep

DELAY = {"ddpg": 1, "td3": 2, "d4pg": 1, "td3_categorical": 2}
"""Critic steps, each on a batch of its own, in an update; an update has one step of the actor."""
OBSERVATIONS, ACTIONS = 17, 6


class Program(NamedTuple):
    """What to compile, and what its busiest loop does.

    Attributes:
        lower: traces and lowers it, for shapes placed by its argument.
        updates: made in the passes through the loop that are counted; each of as many critic steps as the delay.
        env_steps: taken in them.
        passes: which branch of the conditionals runs, for each pass that is counted.
        needs: a module that has to be installed, and what to give to ``pip install``, the package first.
    """

    lower: Callable[[Place], jax.stages.Lowered]
    updates: int = 1
    env_steps: int = 0
    passes: tuple[hlo.Pick, ...] = (max,)
    needs: tuple[str, str] | None = None


def make(name: str, actions: int, width: int) -> Agent:
    """The agent of this name with two hidden layers."""
    actor, scalar = networks.Actor(actions, (width, width)), networks.Critic((width, width), action_layer=0)
    atoms = networks.Critic((width, width), action_layer=0, num_atoms=51)
    makers: dict[str, Callable[[], Agent]] = {
        "ddpg": lambda: agents.ddpg(actor, scalar, critic_weight_decay=0.0),
        "td3": lambda: agents.td3(actor, scalar, policy_delay=DELAY["td3"]),
        "d4pg": lambda: agents.d4pg(actor, atoms, v_min=-10.0, v_max=10.0),
        "td3_categorical": lambda: agents.td3_categorical(
            actor, atoms, v_min=-10.0, v_max=10.0, policy_delay=DELAY["td3_categorical"]
        ),
    }
    return makers[name]()


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
    """Updates in a scan, with sampling and the sums that are reported, and nothing of an environment.

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
    agent = make(name, ACTIONS, width)
    env, behaviour = _still(), explore(agent, noise.gaussian(0.1))
    learn = learner.make_learner(agent, env, ring(capacity, batch_size * DELAY[name]), behaviour, None)
    init = lambda key: learn.init(key, key, rollout.begin(env, behaviour, key))
    run = functools.partial(_updates, learn, iterations)
    return _lowered(run, init, members, place)


def _updates(learn: learner.Learner, iterations: int, state: learner.TrainState) -> PyTree:
    scan_key, key = jax.random.split(state.key)
    keys = jax.random.split(scan_key, (iterations, 2))

    def body(carry: PyTree, keys: Key) -> tuple[PyTree, None]:
        state, sums = carry
        state, new = learn.learn(state, keys[None])
        return (state, learner.add_up(sums, new, state.steps)), None

    sums = learner.no_sums(jax.eval_shape(learn.learn, state, keys[:1])[1])
    return jax.lax.scan(body, (dataclasses.replace(state, key=key), sums), keys)[0]


def _still() -> Environment:
    """An environment of which only the shapes are used."""
    observation, action = (jax.ShapeDtypeStruct((size,), jnp.float32) for size in (OBSERVATIONS, ACTIONS))

    def step(state: PyTree, action: jax.Array, key: Key) -> tuple[PyTree, TimeStep]:
        raise NotImplementedError

    return Environment(lambda key: ((), jnp.zeros((1, OBSERVATIONS))), step, 1, observation, action, 100)


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
    env = envs.make(env_name, num_envs, **({"backend": "spring"} if env_name.startswith("brax/") else {}))
    agent = make(name, env.action.shape[-1], width)
    behaviour = explore(agent, noise.chain(noise.gaussian(0.1), noise.clip()))
    ring = replay.uniform(-(-capacity // num_envs) * num_envs, batch_size * DELAY[name])
    steps = rounds * collect_steps * num_envs
    trainer = train.make_train(agent, env, ring, behaviour, collect_steps=collect_steps, steps_per_chunk=steps)
    return _lowered(trainer.chunk, trainer.init, 0, place)


def _lowered(run: Callable[[PyTree], PyTree], init: Callable[[Key], PyTree], members: int, place: Place) -> jax.stages.Lowered:
    """``run`` with its state donated, as the loop is."""
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), members) if members else jax.random.key(0))
    over = jax.vmap if members else lambda function: function
    return jax.jit(over(run), donate_argnums=0).lower(place(jax.eval_shape(over(init), keys)))


def _whole(name: str, env_name: str, num_envs: int, **sizes: Any) -> Program:
    env_steps = num_envs * sizes.get("collect_steps", 1)
    return Program(functools.partial(loop, name, env_name, num_envs, **sizes), env_steps=env_steps)


def _scales(name: str, env_name: str, **sizes: Any) -> dict[str, Program]:
    slug = env_name.replace("/", "_").lower()
    counts = (1, 16, 256, 2_048, 4_096, 16_384)
    return {f"{name}_{slug}_{count}": _whole(name, env_name, count, **sizes) for count in counts}


OURS = {
    **{name: Program(functools.partial(update, name)) for name in DELAY},
    **{f"{name}_prioritised": Program(functools.partial(update, name, ring=replay.prioritised)) for name in ("ddpg", "td3")},
    **{f"{name}_64_members": Program(functools.partial(update, name, members=64, capacity=10_000)) for name in DELAY},
    "ddpg_2048_members": Program(functools.partial(update, "ddpg", members=2_048, capacity=1_000)),
    **_scales("ddpg", "pendulum"),
    "td3_pendulum_1": _whole("td3", "pendulum", 1, collect_steps=2),
    **_scales("td3", "brax/ant", batch_size=8_192),
    **_scales("td3", "brax/halfcheetah"),
    **_scales("td3", "playground/CheetahRun"),
}
DEFAULT = (
    *(name for name in OURS if name in DELAY or name.endswith(("_prioritised", "_members"))),
    *("ddpg_pendulum_1", "ddpg_pendulum_2048", "td3_pendulum_1", "td3_brax_ant_2048"),
)
"""What is compiled where nothing is asked for by name: 2 minutes on two cores."""
