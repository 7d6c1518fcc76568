"""Rejax's TD3 as a contestant: its whole loop, and that as a compiled program."""

from collections.abc import Callable
from typing import Any

import click
import jax
import jax.numpy as jnp

from benchmarks import harness, workloads
from ddpg_jax.types import strong

INSTALL = 'rejax "gymnax<1"'
DELAY = workloads.POLICY_DELAY
NAMES = {"pendulum": "Pendulum-v1", "brax/halfcheetah": "brax/halfcheetah"}
"""Ours, and rejax's name of the same."""
STEPS = 100
"""Of a compiled program."""


def package() -> Any:
    """Return rejax.

    Raises:
        click.ClickException: it is not installed.
    """
    try:
        import rejax
    except ImportError as error:
        raise click.ClickException(
            f"rejax could not be imported ({error}); install it with: pip install {INSTALL}"
        ) from error
    return rejax


def td3(env: str, width: int, **options: Any) -> Any:
    """Return rejax's TD3 with two hidden layers of one width, as `TD3.create` makes it."""
    made = package().TD3.create(env=NAMES[env], policy_delay=DELAY, **options)
    widths = {"hidden_layer_sizes": (width, width), "activation": jax.nn.relu}
    return made.replace(actor=made.actor.clone(**widths), critic=made.critic.clone(**widths))


def iterations(algorithm: Any, count: int) -> Callable[[Any], Any]:
    """Return ``run(state)`` of so many iterations, as rejax's own ``train`` makes them."""
    step = lambda _, state: algorithm.train_iteration(state)
    return lambda state: jax.lax.fori_loop(0, count, step, state)


def loop(
    env: str, num_envs: int, vector_steps: int, *, hidden: int, batch_size: int, capacity: int
) -> harness.Contestant:
    """Return a call of ``vector_steps``, one critic step for each, without evaluations."""
    sizes = {"batch_size": batch_size, "buffer_size": capacity, "fill_buffer": 0}
    algorithm = td3(env, hidden, num_envs=num_envs, **sizes)
    run = iterations(algorithm, vector_steps // DELAY)
    state = strong(jax.jit(algorithm.init_state)(jax.random.key(0)))
    return harness.Contestant(lambda state: (run(state), jnp.zeros(())), state)


def lowered(
    place: Callable[[Any], Any], *, width: int = 256, batch_size: int = 256
) -> jax.stages.Lowered:
    """Return the loop on pendulum: ``policy_delay`` environment steps and one update an iteration.

    Args:
        place: puts shapes where the program is to run.
        width: of the two hidden layers.
        batch_size: of a critic step.
    """
    algorithm = td3("pendulum", width, num_envs=1, batch_size=batch_size, buffer_size=1_000_000)
    state: Any = jax.eval_shape(algorithm.init_state, jax.random.key(0))
    return jax.jit(iterations(algorithm, STEPS)).lower(place(state))
