"""A puck on a table that shall be pushed to a goal: sparse rewards, on the device."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import Array

from ddpg_jax import checks
from ddpg_jax.environment import Environment, Goal, Renderer, SingleEnvironment, SingleStepResult
from ddpg_jax.envs import goals
from ddpg_jax.envs.autoreset import batch
from ddpg_jax.envs.flat import flat_film
from ddpg_jax.envs.reach import marker
from ddpg_jax.envs.render import Cylinders, Light, Planes, Scene, Sky, look_at
from ddpg_jax.envs.render.camera import row, vector
from ddpg_jax.types import Key, PyTree

HALF, PUSHER, PUCK = 0.5, 0.05, 0.07
"""Half of the table's side, and the radii of the two discs, in m."""
TIME_STEP, SUBSTEPS, LAG = 0.04, 4, 0.05
"""In s, their number in a step, and in s."""
MAX_SPEED, GRAVITY, FRICTION = 1.0, 9.81, 0.5
"""In m/s, m/s^2 and 1."""
TOLERANCE, LARGEST = 0.05, 0.1
"""Distance of the puck from a goal that counts as reached, in m: by default, and at most."""
PUCK_STARTS, PUSHER_AWAY, GOAL_AWAY = 0.1, (0.15, 0.25), (0.15, 0.3)
"""Where episodes begin, in m: the puck's largest coordinate, and the distances from it."""
OPTIONS = ("time_limit", "tolerance", "ends", "friction")
"""Options of `make`."""
_LEAST = 1e-12


@struct.dataclass
class PushState:
    """Places in m and velocities in m/s of the two discs, and the goal in m; ``[2]`` each."""

    pusher: Array
    pusher_velocity: Array
    puck: Array
    puck_velocity: Array
    goal: Array


def make(
    num_envs: int,
    *,
    time_limit: int = 50,
    tolerance: float = TOLERANCE,
    ends: bool = False,
    friction: float = FRICTION,
) -> Environment:
    """``num_envs`` tables of 1 m x 1 m with a pusher, which actions move, and a puck.

    Observed are ``observation: [10]`` (place and velocity of the pusher and of the puck, and the
    way from the pusher to the puck, in m and m/s), and the puck's place and the goal, ``[2]`` in m.
    Rewards are -1, or 0 within ``tolerance`` of the goal.

    Args:
        num_envs: E, at least 1.
        time_limit: steps of 0.04 s after which an episode is truncated.
        tolerance: m, at most 0.1.
        ends: whether an episode terminates at its goal.
        friction: of the puck on the table, above 0.

    Raises:
        ValueError: an option is out of its range.
    """
    checks.between(0, LARGEST, tolerance=tolerance)
    checks.positive(friction=friction)
    checks.finite(friction=friction)
    goal = goals.sparse(tolerance, ends=ends)
    single = SingleEnvironment(
        reset,
        functools.partial(step, goal=goal, friction=friction),
        action_size=2,
        scene=functools.partial(scene, tolerance=tolerance),
        goal=goal,
    )
    renderer = Renderer(functools.partial(draw, tolerance=tolerance), fps=1 / TIME_STEP)
    return batch(single, num_envs, time_limit, native_action=set_velocity, renderer=renderer)


def set_velocity(action: Array) -> Array:
    """The velocity in m/s, at most 1 along each axis, that an action in [-1, 1] asks for."""
    return MAX_SPEED * jnp.clip(action, -1.0, 1.0)


def reset(key: Key) -> tuple[PushState, dict[str, Array]]:
    """All at rest: the puck within 0.1 m of the middle along each axis, the pusher 0.15 to 0.25 m
    and the goal 0.15 to 0.3 m away from it in any direction.
    """
    drawn = jax.random.uniform(key, (3, 2), jnp.float32)
    puck, still = PUCK_STARTS * (2 * drawn[0] - 1), jnp.zeros((2,), jnp.float32)

    def away(share: Array, low: float, high: float) -> Array:
        angle, distance = 2 * jnp.pi * share[0], low + (high - low) * share[1]
        return puck + distance * jnp.stack([jnp.cos(angle), jnp.sin(angle)])

    pusher, goal = away(drawn[1], *PUSHER_AWAY), away(drawn[2], *GOAL_AWAY)
    state = PushState(pusher, still, puck, still, goal)
    return state, observe(state)


def step(
    state: PushState,
    action: Array,
    key: Key | None = None,
    *,
    goal: Goal,
    friction: float = FRICTION,
) -> SingleStepResult:
    """One step of 0.04 s, in four substeps (`substep`) of ``h = 0.01`` s.

    Args:
        state: one table.
        action: a, ``[2]``, clipped to [-1, 1].
        key: not used; the dynamics are deterministic.
        goal: what is paid.
        friction: of the puck on the table.

    Returns:
        ``(state, observation, reward, terminated)``.
    """
    wanted = set_velocity(action)
    # What a loop returns is computed once. Unrolled, XLA computes it again wherever it is used, and
    # its last digit may differ there.
    moved = lambda _, state: substep(state, wanted, friction)
    state = jax.lax.fori_loop(0, SUBSTEPS, moved, state)
    return goals.outcome(goal, state, observe(state))


def substep(state: PushState, wanted: Array, friction: float = FRICTION) -> PushState:
    """0.01 s of the dynamics; ``wanted: [2]``, the pusher's velocity that is asked for, in m/s.

    The pusher (place p, velocity u) follows with a lag of 0.05 s: ``u <- u + h / 0.05 (wanted -
    u)``, ``p <- p + h u``. The puck (place q, velocity v) slides, and friction takes ``mu g h`` off
    its speed; q moves by the mean of both velocities. Where the discs overlap, the puck is moved
    out along the normal n from the pusher to it, and does not approach any more: ``v <- v +
    max(0, (u - v) n) n``. No disc crosses an edge of the table; at one the puck holds the pusher.
    """
    time = TIME_STEP / SUBSTEPS
    velocity = state.pusher_velocity + time / LAG * (wanted - state.pusher_velocity)
    pusher, velocity = within(state.pusher + time * velocity, velocity, PUSHER)
    speed, old = length(state.puck_velocity), state.puck_velocity
    sliding = old * jnp.maximum(0.0, 1 - friction * GRAVITY * time / speed)
    puck = state.puck + time * (old + sliding) / 2
    apart, push = contact(pusher, velocity, puck, sliding)
    puck, sliding = within(puck + apart, sliding + push, PUCK)
    apart, push = contact(pusher, velocity, puck, sliding)  # where an edge holds the puck
    return PushState(pusher - apart, velocity - push, puck, sliding, state.goal)


def contact(pusher: Array, velocity: Array, puck: Array, sliding: Array) -> tuple[Array, Array]:
    """By how much the discs overlap, in m, and approach, in m/s: ``[2]`` each along the normal from
    the pusher to the puck; 0 where they do not touch.
    """
    distance = length(puck - pusher)
    normal = (puck - pusher) / distance
    overlap = jnp.maximum(0.0, PUSHER + PUCK - distance)
    approach = jnp.maximum(0.0, jnp.sum((velocity - sliding) * normal))
    return overlap * normal, jnp.where(overlap > 0, approach, 0.0) * normal


def within(place: Array, velocity: Array, radius: float) -> tuple[Array, Array]:
    """A disc that an edge of the table stops, along each axis."""
    end = HALF - radius
    return jnp.clip(place, -end, end), jnp.where(jnp.abs(place) > end, 0.0, velocity)


def length(vector: Array) -> Array:
    """Of ``[2]``, at least 1e-6, so that it can be divided by and has a gradient."""
    return jnp.sqrt(jnp.maximum(jnp.sum(jnp.square(vector)), _LEAST))


def observe(state: PushState) -> dict[str, Array]:
    """Places, velocities and the way from the pusher to the puck; the puck's place; the goal."""
    pusher = state.pusher, state.pusher_velocity
    puck = state.puck, state.puck_velocity, state.puck - state.pusher
    return goals.shown(jnp.concatenate([*pusher, *puck], axis=-1), state.puck, state.goal)


def scene(state: PushState, *, tolerance: float = TOLERANCE) -> Scene:
    """The table and both discs, and the goal above them, from so far that it looks flat; 1.2 m are
    to be seen.
    """
    gray, white = row(0.85, 0.85, 0.88), vector(1, 1, 1)
    flat = jnp.eye(3, dtype=jnp.float32)[None]
    table = Planes(row(0, 0, 0), flat, row(HALF, HALF), gray, gray, row(1, 1))
    places = jnp.stack([state.pusher, state.puck])
    low, high = (jnp.pad(places, ((0, 0), (0, 1)), constant_values=z) for z in (0.0, 0.05))
    colors = jnp.concatenate([row(0.25, 0.4, 0.7), row(0.8, 0.3, 0.3)])
    discs = Cylinders(low, high, vector(PUSHER, PUCK), colors)
    camera = look_at(vector(0, 0, 12), vector(0, 0, 0), up=vector(0, 1, 0), field_of_view=0.1)
    shapes = table, discs, marker(state.goal, 0.06, tolerance)
    return Scene(camera, shapes, Light(), Sky(white, white, white))


def draw(states: PyTree, *, tolerance: float = TOLERANCE) -> list[np.ndarray]:
    """Frames ``[240, 240, 3]`` of the trajectory ``[T]``; a green circle is the goal."""
    from matplotlib.patches import Circle, Rectangle

    states = jax.device_get(states)

    def begin(axes: Any) -> Callable[[int], str]:
        axes.add_patch(Rectangle((-HALF, -HALF), 2 * HALF, 2 * HALF, color="#d9d9e0"))
        pusher, puck, goal = (
            axes.add_patch(Circle((0, 0), radius, color=color))
            for radius, color in ((PUSHER, "#4066b3"), (PUCK, "#cc4d4d"), (tolerance, "#33b24d"))
        )

        def show(number: int) -> str:
            for disc, place in ((pusher, states.pusher), (puck, states.puck), (goal, states.goal)):
                disc.set_center(place[number])
            distance = np.linalg.norm(states.puck[number] - states.goal[number])
            return f"{number * TIME_STEP:5.2f} s   {distance:.2f} m from the goal"

        return show

    return flat_film(1.1 * HALF, len(states.goal), begin)
