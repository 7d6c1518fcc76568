"""Does an environment keep the contract? A conformance test for any adapter, also one of your own,
with readable findings.
"""

from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from ddpg_jax.environment import Environment, HostEnvironment
from ddpg_jax.envs.runners import DeviceRunner, HostRunner, Runner, random_actions
from ddpg_jax.types import PyTree, is_key

if TYPE_CHECKING:
    from collections.abc import Callable


def check(
    env: Environment | HostEnvironment, *, steps: int | None = None, seed: int = 0
) -> list[str]:
    """Look for what breaks learning silently; each finding is one sentence, and an environment that
    is right has none.

    Plays random actions in all environments and looks at shapes and dtypes, what follows the ends
    of episodes, time limits, starts, the range of actions, repeatability and compilation. What
    never occurred in that time is not judged.

    Args:
        env: any `ddpg_jax.environment.Environment`, or a `ddpg_jax.environment.HostEnvironment`,
            which is left reset.
        steps: vector steps to play; None is two episodes and a few steps.
        seed: of the play.

    Returns:
        Findings, the gravest first.
    """
    steps = 2 * (env.time_limit or 1_000) + 10 if steps is None else steps
    runner: DeviceRunner | HostRunner = (
        HostRunner(env) if isinstance(env, HostEnvironment) else DeviceRunner(env)
    )
    findings = runner.shapes()
    if findings:
        return findings
    played = _play(env, runner, steps, seed)
    return [
        *_ends(env, played),
        *_starts(env, played),
        *_repeats(env, runner, seed),
        *_actions(env, runner, seed),
        *runner.compiles(),
    ]


def _flat(observation: PyTree) -> np.ndarray:
    """One vector for each environment, ``[E, ...]``."""
    leaves = [np.asarray(x) for x in jax.tree.leaves(observation)]
    return np.concatenate([x.reshape(len(x), -1).astype(np.float64) for x in leaves], axis=1)


def _play(
    env: Environment | HostEnvironment, runner: Runner, steps: int, seed: int
) -> dict[str, np.ndarray]:
    """Everything that was seen, ``[steps, E, ...]``; ``valid`` and ``counts``: which steps are
    transitions, which took time.
    """
    first, seen = _flat(runner.reset(seed)), []
    for number in range(steps):
        now = runner.step(random_actions(env, number))
        valid = np.ones(env.num_envs, bool) if now.valid is None else np.asarray(now.valid)
        flags = (
            np.asarray(now.reward),
            np.asarray(now.terminated),
            np.asarray(now.truncated),
            valid,
        )
        seen.append((_flat(now.observation), _flat(now.next_observation), *flags))
    names = ("observation", "next_observation", "reward", "terminated", "truncated", "valid")
    played = {
        name: np.stack(parts) for name, parts in zip(names, zip(*seen, strict=True), strict=True)
    }
    counts = np.ones_like(played["valid"])
    if isinstance(env, HostEnvironment) and not env.same_step:
        # The step after an end is none: it shows where the next episode begins.
        done = played["terminated"] | played["truncated"]
        played["observation"][:-1][done[:-1]] = played["observation"][1:][done[:-1]]
        counts = played["valid"]
        played = {name: part[:-1] for name, part in played.items()}
        counts = counts[:-1]
    return {"first": first, "counts": counts, **played}


def _ends(env: Environment | HostEnvironment, played: dict[str, np.ndarray]) -> list[str]:
    terminated, truncated = played["terminated"], played["truncated"]
    done = terminated | truncated
    same = np.all(played["observation"] == played["next_observation"], axis=-1)
    findings = []
    bad = ~np.isfinite(played["reward"]) | ~np.isfinite(played["next_observation"]).all(axis=-1)
    if bad.any():
        findings.append(
            f"at {np.mean(bad):.1%} of steps an observation or reward is NaN or infinite: "
            "where a simulation breaks down an "
            "adapter resets, returns finite numbers, and says that the step is not `valid`"
        )
    if not np.all(same[~done & ~bad & played["counts"]]):
        findings.append(
            "within an episode observation and next_observation differ: both are what "
            "follows the action"
        )
    whole = done & played["valid"]
    if whole.any() and np.any(same[whole]):
        share = np.mean(same[whole])
        findings.append(
            f"at {share:.0%} of episode ends next_observation is the observation of the "
            "new episode, or no new episode began: "
            "next_observation must be the true successor, observation the start of the next episode"
        )
    if np.any(terminated & truncated):
        findings.append(
            "terminated and truncated are both set at one step: a time limit does not terminate"
        )
    invalid = ~played["valid"]
    if not isinstance(env, HostEnvironment) and np.any(invalid & (terminated | ~truncated)):
        findings.append(
            "a step that is not valid is terminated, or not truncated: it ends its "
            "episode, as a truncation"
        )
    if env.time_limit is None:
        return [
            *findings,
            "no time limit is known, and an evaluation plays whole episodes: register it "
            "with max_episode_steps",
        ]
    lengths, ends = _lengths(done, terminated, played["counts"])
    longest = max(lengths.max(initial=0), _running(done, played["counts"]).max())
    if longest > env.time_limit:
        findings.append(
            f"an episode lasted {longest} steps or more where the time limit is {env.time_limit}"
        )
    at_limit = lengths == env.time_limit
    if at_limit.any() and np.all(ends[at_limit]):
        findings.append(
            f"all {at_limit.sum()} episodes that lasted {env.time_limit} steps, the time "
            "limit, are terminated: a time limit "
            "truncates, so that the value of what would have followed still counts"
        )
    return findings


def _lengths(
    done: np.ndarray, terminated: np.ndarray, counts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Length of every whole episode, and whether it was terminated."""
    lengths, ends = [], []
    for member in range(done.shape[1]):
        at = np.flatnonzero(done[:, member])
        lengths += np.diff(np.cumsum(counts[:, member])[at], prepend=0).tolist()
        ends += terminated[at, member].tolist()
    return np.array(lengths, int), np.array(ends, bool)


def _running(done: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """How long each environment's last episode had lasted when the play was over."""
    lasted = np.zeros(done.shape[1], int)
    for ended, counted in zip(done, counts, strict=True):
        lasted = np.where(ended, 0, lasted + counted)
    return lasted


def _starts(env: Environment | HostEnvironment, played: dict[str, np.ndarray]) -> list[str]:
    done = played["terminated"] | played["truncated"]
    first, later = played["first"], played["observation"][done]
    everything = np.concatenate([first, later])
    different = len(np.unique(everything, axis=0))
    if len(everything) > 1 and different == 1:
        return [
            "every start is one and the same: a policy would learn from that one alone "
            "(fine only if the task has just one)"
        ]
    findings = []
    if len(first) > 1 and len(np.unique(first, axis=0)) == 1:
        findings.append(
            "all environments start alike: reset must split its key over the environments"
        )
    member = np.argwhere(done)[:, 1]
    for index in range(env.num_envs):
        starts = later[member == index]
        if len(starts) > 1 and len(np.unique(starts, axis=0)) == 1:
            findings.append(
                f"environment {index} began each of {len(starts)} episodes alike: is a "
                "key used again at each reset? (fine "
                "only if the task has but a few starts)"
            )
            break
    return findings


def _repeats(env: Environment | HostEnvironment, runner: Runner, seed: int) -> list[str]:
    def once() -> tuple[Any, Any]:
        return runner.reset(seed), runner.step(random_actions(env, seed))

    (first, step), (again, step_again) = once(), once()
    findings = []
    if not _equal(first, again):
        findings.append(
            "reset with one key twice gives two results: it must depend on its key alone"
        )
    elif not _equal(step, step_again):
        findings.append(
            "step with the same arguments twice gives two results: it must depend on them alone"
        )
    return findings


def _actions(env: Environment | HostEnvironment, runner: Runner, seed: int) -> list[str]:
    """Whether [-1, 1] is the range of each dimension: beyond it nothing changes, within it
    something does.
    """
    size = env.action.shape[0]

    def acted(dimension: int, value: float) -> tuple[PyTree, Any]:
        action = np.zeros((env.num_envs, size), env.action.dtype)
        action[:, dimension] = value
        runner.reset(seed)
        now = runner.step(action)
        return now.next_observation, now.reward

    findings = []
    for sign in (1.0, -1.0):
        wide, moved = [], []
        for index in range(size):
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
                findings.append(
                    f"action dimensions {dimensions} have a limit {what} {sign:+.0f}: an "
                    "adapter scales [-1, 1] to the "
                    f"bounds of each dimension and clips there{fine}"
                )
    return findings


def _equal(one: PyTree, other: PyTree) -> bool:
    raw: Callable[..., Any] = lambda x: np.asarray(jax.random.key_data(x) if is_key(x) else x)
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(
        np.array_equal(raw(a), raw(b), equal_nan=np.issubdtype(raw(a).dtype, np.inexact))
        for a, b in pairs
    )
