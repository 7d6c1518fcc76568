"""Does an environment keep the contract? A conformance test for any adapter, also one of your own,
with readable findings.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from ddpg_jax.environment import Environment, HostEnvironment
from ddpg_jax.envs.goal_check import faults, judge_of, unfit
from ddpg_jax.envs.runners import DeviceRunner, HostRunner, Runner, random_actions
from ddpg_jax.types import PyTree


def check(
    env: Environment | HostEnvironment, *, steps: int | None = None, seed: int = 0
) -> list[str]:
    """Look for what breaks learning silently; each finding is one sentence, and an environment that
    is right has none.

    Plays random actions in all environments and looks at shapes and dtypes, what follows the ends
    of episodes, time limits, starts, goals, the range of actions, repeatability and compilation.
    What never occurred in that time is not judged.

    Args:
        env: any `ddpg_jax.environment.Environment`, or a `ddpg_jax.environment.HostEnvironment`,
            which is left reset.
        steps: vector steps to play; None is two episodes and a few steps.
        seed: of the play.

    Returns:
        Findings, the gravest first.
    """
    steps = 2 * (env.time_limit or 1_000) + 10 if steps is None else steps
    runner: Runner = HostRunner(env) if isinstance(env, HostEnvironment) else DeviceRunner(env)
    if findings := runner.shapes() or unfit(env):
        return findings
    first, played, counts = _play(runner, steps, seed)
    return [
        *_ends(env, played, counts),
        *faults(env.goal, played.goal),
        *_starts(first, played),
        *_repeats(runner, seed),
        *_actions(runner, seed),
        *runner.compiles(),
    ]


BY_CHANCE = 0.5
"""Largest share of ends at which the start of the next episode may be equal to the successor: by
chance, where there are few observations. One that takes its place is equal at each."""


class Played(NamedTuple):
    """What is kept of a play, ``[steps, E]`` each; observations are not."""

    terminated: np.ndarray
    truncated: np.ndarray
    valid: np.ndarray
    bad: np.ndarray
    """Whether a reward or what followed is not finite."""
    same: np.ndarray
    """Whether ``observation`` is ``next_observation``."""
    start: np.ndarray
    """A digest of where the next episode begins, at its end."""
    goal: np.ndarray
    """What `ddpg_jax.envs.goal_check` judged, ``[steps, E, ...]``."""


def _play(runner: Runner, steps: int, seed: int) -> tuple[np.ndarray, Played, np.ndarray]:
    """Digests of the first observation; what was seen; which steps took time."""
    env, following, judge = runner.env, None, judge_of(runner.env.goal)
    played: list[Played] = []
    observation = runner.reset(seed)
    first = _digests(observation, np.ones(env.num_envs, bool))
    late = isinstance(env, HostEnvironment) and not env.same_step
    for number in range(steps):
        now = runner.step(random_actions(env, number))
        if late and played:
            # The step after an end is none: it shows where the next episode begins.
            ended = played[-1].terminated | played[-1].truncated
            played[-1].same[ended] = _same(now.observation, following)[ended]
            played[-1].start[ended] = _digests(now.observation, ended)[ended]
        following = now.next_observation
        terminated, truncated = np.array(now.terminated), np.array(now.truncated)
        valid = np.ones(env.num_envs, bool) if now.valid is None else np.array(now.valid)
        bad = ~(np.isfinite(now.reward) & _each(np.isfinite, following))
        same, start = _same(now.observation, following), np.zeros(env.num_envs, np.int64)
        if not late:
            start = _digests(now.observation, terminated | truncated)
        goal, observation = judge(observation, now), now.observation
        played.append(Played(terminated, truncated, valid, bad, same, start, goal))
    whole = Played(*map(np.stack, zip(*played, strict=True)))
    if late:
        whole = Played(*(part[:-1] for part in whole))
    return first, whole, whole.valid if late else np.ones_like(whole.valid)


def _each(holds: Callable[..., Any], *observations: PyTree) -> np.ndarray:
    """Whether something holds for every number of each environment, ``[E]``."""
    parts = zip(*map(jax.tree.leaves, observations), strict=True)
    found = [np.asarray(holds(*map(np.asarray, part))) for part in parts]
    all_of: np.ndarray = np.all([x.reshape(len(x), -1).all(axis=1) for x in found], axis=0)
    return all_of


def _same(one: PyTree, other: PyTree) -> np.ndarray:
    return _each(np.equal, one, other)


def _digests(observation: PyTree, wanted: np.ndarray) -> np.ndarray:
    """A number for the observation of each environment that is ``wanted``, else 0."""
    leaves = [np.asarray(x) for x in jax.tree.leaves(observation)]
    found = np.zeros(len(wanted), np.int64)
    for index in np.flatnonzero(wanted):
        found[index] = hash(b"".join(x[index].tobytes() for x in leaves))
    return found


def _ends(env: Environment | HostEnvironment, played: Played, counts: np.ndarray) -> Iterator[str]:
    terminated, truncated, bad, same = played.terminated, played.truncated, played.bad, played.same
    done = terminated | truncated
    if bad.any():
        yield (
            f"at {np.mean(bad):.1%} of steps an observation or reward is NaN or infinite: where a "
            "simulation breaks down an adapter resets, returns finite numbers, and says that the "
            "step is not `valid`"
        )
    if not np.all(same[~done & ~bad & counts]):
        yield (
            "within an episode observation and next_observation differ: both are what follows the "
            "action"
        )
    ends = [kind & played.valid for kind in (terminated, truncated)]
    shares = [np.mean(same[kind]) for kind in ends if kind.any()]
    if max(shares, default=0) > BY_CHANCE:
        yield (
            f"at {np.mean(same[done & played.valid]):.0%} of episode ends next_observation is the "
            "observation of the new episode, or no new episode began: next_observation must be the "
            "true successor, observation the start of the next episode"
        )
    if np.any(terminated & truncated):
        yield "terminated and truncated are both set at one step: a time limit does not terminate"
    if isinstance(env, Environment) and np.any(~played.valid & (terminated | ~truncated)):
        yield (
            "a step that is not valid is terminated, or not truncated: it ends its episode, as a "
            "truncation"
        )
    if env.time_limit is None:
        yield (
            "no time limit is known, and an evaluation plays whole episodes: register it with "
            "max_episode_steps"
        )
        return
    ages = _ages(done, counts)
    if ages.max() > env.time_limit:
        yield (
            f"an episode lasted {ages.max()} steps or more where the time limit is {env.time_limit}"
        )
    at_limit = done & (ages == env.time_limit)
    if at_limit.any() and np.all(terminated[at_limit]):
        yield (
            f"all {at_limit.sum()} episodes that lasted {env.time_limit} steps, the time limit, "
            "are terminated: a time limit truncates, so that the value of what would have followed "
            "still counts"
        )


def _ages(done: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """How long each episode had lasted, ``[steps, E]``."""
    ages, age = [], np.zeros(done.shape[1], int)
    for ended, counted in zip(done, counts, strict=True):
        ages.append(age + counted)
        age = np.where(ended, 0, ages[-1])
    return np.array(ages)


def _alike(starts: np.ndarray) -> bool:
    """Whether there are several, and all are one."""
    return len(starts) > 1 and len(np.unique(starts)) == 1


def _starts(first: np.ndarray, played: Played) -> Iterator[str]:
    done = played.terminated | played.truncated
    later, member = played.start[done], np.argwhere(done)[:, 1]
    if _alike(np.concatenate([first, later])):
        yield (
            "every start is one and the same: a policy would learn from that one alone (fine only "
            "if the task has just one)"
        )
        return
    if _alike(first):
        yield "all environments start alike: reset must split its key over the environments"
    for index in range(len(first)):
        starts = later[member == index]
        if _alike(starts):
            yield (
                f"environment {index} began each of {len(starts)} episodes alike: is a key used "
                "again at each reset? (fine only if the task has but a few starts)"
            )
            return


def _repeats(runner: Runner, seed: int) -> Iterator[str]:
    action = random_actions(runner.env, seed)
    (first, step), (again, step_again) = (
        (runner.reset(seed), runner.step(action)) for _ in range(2)
    )
    if not _equal(first, again):
        yield "reset with one key twice gives two results: it must depend on its key alone"
    elif not _equal(step, step_again):
        yield "step with the same arguments twice gives two results: it must depend on them alone"


def _actions(runner: Runner, seed: int) -> Iterator[str]:
    """Whether [-1, 1] is the range of each dimension: beyond it nothing changes, within it
    something does.
    """
    env = runner.env

    def acted(dimension: int, value: float) -> tuple[PyTree, Any]:
        action = np.zeros((env.num_envs, *env.action.shape), env.action.dtype)
        action[:, dimension] = value
        runner.reset(seed)
        now = runner.step(action)
        return now.next_observation, now.reward

    for sign in (1.0, -1.0):
        wide, moved = [], []
        for index in range(env.action.shape[0]):
            still, half, whole, beyond = (
                acted(index, scale * sign) for scale in (0.0, 0.5, 1.0, 3.0)
            )
            if not _equal(whole, beyond):
                wide.append(index)
            elif _equal(half[0], whole[0]) and not _equal(still[0], whole[0]):
                moved.append(index)
        unless = " (fine where the action is a switch, or saturates)"
        for what, dimensions, fine in (("beyond", wide, ""), ("short of", moved, unless)):
            if dimensions:
                yield (
                    f"action dimensions {dimensions} have a limit {what} {sign:+.0f}: an adapter "
                    f"scales [-1, 1] to the bounds of each dimension and clips there{fine}"
                )


def _equal(one: PyTree, other: PyTree) -> bool:
    same = functools.partial(np.array_equal, equal_nan=True)
    return all(jax.tree.leaves(jax.tree.map(same, one, other)))
