"""A planar arm whose tip shall reach a goal: sparse rewards, on the device."""

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
from ddpg_jax.envs.render import Capsules, Cylinders, Light, Scene, Sky, look_at, spheres
from ddpg_jax.envs.render.camera import row, vector
from ddpg_jax.types import Key, PyTree

REACH, TIME_STEP, LAG, MAX_SPEED = 1.0, 0.05, 0.1, 2.0
"""In m, s, s and rad/s."""
TOLERANCE, LARGEST = 0.05, 0.5
"""Distance of the tip from a goal that counts as reached, in m: by default, and at most."""
MOST_LINKS = 10
"""Of an arm."""
DRAWS = 4
"""Random goals of which a start takes the first that it has not reached already."""
OPTIONS = ("time_limit", "links", "tolerance", "ends")
"""Options of `make`."""


@struct.dataclass
class ReachState:
    """``angles: [n]`` in rad, each joint's to the link before it and not wrapped; ``speeds: [n]``
    in rad/s; ``goal: [2]`` in m.
    """

    angles: Array
    speeds: Array
    goal: Array


def make(
    num_envs: int,
    *,
    time_limit: int = 50,
    links: int = 3,
    tolerance: float = TOLERANCE,
    ends: bool = False,
) -> Environment:
    """``num_envs`` arms of n links of 1/n m.

    Observed are ``observation: [3n]`` (each joint's cosines, sines, and speeds in rad/s), and the
    tip's place and the goal, ``[2]`` in m. Rewards are -1, or 0 within ``tolerance`` of the goal.

    Args:
        num_envs: E, at least 1.
        time_limit: steps of 0.05 s after which an episode is truncated.
        links: n, 1 to 10.
        tolerance: m, at most 0.5.
        ends: whether an episode terminates at its goal.

    Raises:
        ValueError: an option is out of its range.
    """
    checks.whole(1, MOST_LINKS, links=links)
    checks.between(0, LARGEST, tolerance=tolerance)
    goal = goals.sparse(tolerance, ends=ends)
    single = SingleEnvironment(
        functools.partial(reset, links=links, goal=goal),
        functools.partial(step, goal=goal),
        action_size=links,
        scene=functools.partial(scene, tolerance=tolerance),
        goal=goal,
    )
    renderer = Renderer(functools.partial(draw, tolerance=tolerance), fps=1 / TIME_STEP)
    return batch(single, num_envs, time_limit, native_action=set_speeds, renderer=renderer)


def set_speeds(action: Array) -> Array:
    """The speeds in rad/s, at most 2 either way, that actions in [-1, 1] ask of the joints."""
    return MAX_SPEED * jnp.clip(action, -1.0, 1.0)


def reset(key: Key, *, links: int, goal: Goal) -> tuple[ReachState, dict[str, Array]]:
    """An arm at rest, each angle from U[-pi, pi]; the goal is where the tip of another such arm is.

    Of four such goals the first is taken that is not reached at once, or else that of an arm
    stretched the other way.
    """
    angles = jax.random.uniform(key, (1 + DRAWS, links), jnp.float32, -jnp.pi, jnp.pi)
    tips = places(angles)[:, -1]
    heading = jnp.arctan2(-tips[0, 1], -tips[0, 0])
    other = REACH * jnp.stack([jnp.cos(heading), jnp.sin(heading)])
    candidates = jnp.concatenate([tips[1:], other[None]])
    reached = jax.vmap(goal.success, (None, 0))(tips[0], candidates)
    state = ReachState(angles[0], jnp.zeros_like(angles[0]), candidates[jnp.argmax(~reached)])
    return state, observe(state)


def step(
    state: ReachState, action: Array, key: Key | None = None, *, goal: Goal
) -> SingleStepResult:
    """One step of 0.05 s: joints follow the speeds ``2 a`` that are asked of them with a lag of
    0.1 s.

    ``w <- w + 0.05 / 0.1 (2 a - w)``, then ``q <- q + 0.05 w``.

    Args:
        state: one arm.
        action: a, ``[n]``, clipped to [-1, 1].
        key: not used; the dynamics are deterministic.
        goal: what is paid.

    Returns:
        ``(state, observation, reward, terminated)``.
    """
    speeds = state.speeds + TIME_STEP / LAG * (set_speeds(action) - state.speeds)
    state = ReachState(state.angles + TIME_STEP * speeds, speeds, state.goal)
    return goals.outcome(goal, state, observe(state))


def places(angles: Array) -> Array:
    """Where an arm begins, its joints and its tip are, ``[..., n + 1, 2]`` in m, by its angles
    ``[..., n]``.
    """
    heading = jnp.cumsum(angles, axis=-1)
    along = jnp.stack([jnp.cos(heading), jnp.sin(heading)], axis=-1)
    ends = REACH / angles.shape[-1] * jnp.cumsum(along, axis=-2)
    return jnp.concatenate([jnp.zeros_like(ends[..., :1, :]), ends], axis=-2)


def observe(state: ReachState) -> dict[str, Array]:
    """Cosines, sines and speeds of the joints, the tip's place, and the goal."""
    parts = jnp.cos(state.angles), jnp.sin(state.angles), state.speeds
    return goals.shown(jnp.concatenate(parts, axis=-1), places(state.angles)[-1], state.goal)


def scene(state: ReachState, *, tolerance: float = TOLERANCE) -> Scene:
    """The links, the axle and the goal behind them, from so far that it looks flat; 2.4 m are to be
    seen.
    """
    joints = jnp.pad(places(state.angles), ((0, 0), (0, 1)))
    count = joints.shape[0] - 1
    colors = jnp.tile(row(0.8, 0.3, 0.3), (count, 1))
    arm = Capsules(joints[:-1], joints[1:], jnp.full((count,), 0.03, jnp.float32), colors)
    axle = spheres(row(0, 0, 0.05), vector(0.03), row(0, 0, 0))
    white = vector(1, 1, 1)
    camera = look_at(vector(0, 0, 12), vector(0, 0, 0), up=vector(0, 1, 0), field_of_view=0.2)
    shapes = arm, axle, marker(state.goal, -0.1, tolerance)
    return Scene(camera, shapes, Light(), Sky(white, white, white))


def marker(goal: Array, height: float, tolerance: float) -> Cylinders:
    """A goal ``[2]`` as a flat green disc of the tolerance at a height, all in m."""
    low, high = (jnp.append(goal, jnp.float32(z))[None] for z in (height, height + 0.005))
    return Cylinders(low, high, vector(tolerance), row(0.2, 0.7, 0.3))


def draw(states: PyTree, *, tolerance: float = TOLERANCE) -> list[np.ndarray]:
    """Frames ``[240, 240, 3]`` of the trajectory ``[T]``; a circle is the goal."""
    from matplotlib.patches import Circle

    joints, goal = jax.device_get((places(states.angles), states.goal))

    def begin(axes: Any) -> Callable[[int], str]:
        circle = axes.add_patch(Circle((0, 0), tolerance, color="#33b24d"))
        (arm,) = axes.plot([], [], "o-", lw=5, ms=4, color="#cc4d4d", mfc="black", mec="black")

        def show(number: int) -> str:
            arm.set_data(*joints[number].T)
            circle.set_center(goal[number])
            distance = np.linalg.norm(joints[number, -1] - goal[number])
            return f"{number * TIME_STEP:5.2f} s   {distance:.2f} m from the goal"

        return show

    return flat_film(1.1 * REACH, len(goal), begin)
