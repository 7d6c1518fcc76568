"""What `envs.check` says of environments with goals that do not keep their word, each broken on
purpose."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from aiming import aiming

from ddpg_jax import envs
from ddpg_jax.environment import Goal, TimeStep
from ddpg_jax.envs import goal_check, goals, scale_reward

DISTANCE = Goal(
    reward=lambda achieved, desired: -0.3 * jnp.sqrt(jnp.sum(jnp.square(achieved - desired))),
    success=lambda achieved, desired: jnp.sum(jnp.square(achieved - desired)) < 0.5**2,
    rewards=(-1.0, 0.0),
)


def aims(change=lambda before, after, step: step, goal=DISTANCE, **options):
    """Points that are paid by their distance from a goal, with each step changed."""
    env = aiming(8, **options)

    def step(state, action, key):
        after, seen, _, _ = env.single.step(state, action, key)
        pair = after.place, after.goal
        over = goal.success(*pair) & goal.ends
        return change(state, after, (after, seen, goal.reward(*pair), over))

    single = env.single._replace(step=step, goal=goal)
    return env.recipe.make(single, time_limit=10, renderer=env.renderer)


def paid(change):
    """Its reward changed by ``change(reward, state before)``."""
    return lambda before, after, step: (*step[:2], change(step[2], before), step[3])


def over(change):
    """Where an episode ends changed by ``change(whether the goal is reached)``."""
    return lambda before, after, step: (*step[:3], change(DISTANCE.success(*after)))


def wandering(before, after, step):
    """A goal that is another after each step."""
    after = after._replace(goal=after.goal + 0.01)
    return (after, step[1] | {"desired_goal": after.goal}, DISTANCE.reward(*after), step[3])


ENDS = DISTANCE._replace(ends=True)
STALE = "the reward is not goal.reward of the achieved goal that followed"
BROKEN = {
    "of the state before": (aims, [paid(lambda reward, state: DISTANCE.reward(*state))], STALE),
    "twice as much": (aims, [paid(lambda reward, state: 2 * reward)], STALE),
    "one more": (aims, [paid(lambda reward, state: reward + 0.001)], STALE),
    "a goal that changes": (
        aims,
        [wandering],
        "the desired goal that followed is not the one that was acted on",
    ),
    "goes on": (aims, [over(lambda reached: reached & False), ENDS], "is not terminated, but goal"),
    "ends": (aims, [over(lambda reached: reached)], "all of them are terminated: say so by goal"),
    "beyond": (
        aims,
        [lambda *given: given[2], DISTANCE._replace(rewards=(-0.2, 0.0))],
        r"goal.reward is not within goal.rewards \(-0.2, 0.0\)",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_fault_is_told_of_and_no_other(name):
    build, given, said = BROKEN[name]
    findings = envs.check(build(*given), steps=25)
    assert len(findings) == 1, findings
    assert re.search(said, findings[0]), findings
    count, of = re.search(r"at (\d+) of (\d+) steps", findings[0]).groups()
    assert (of, 0 < int(count) <= 200) == ("200", True)


@pytest.mark.parametrize("goal", [DISTANCE, ENDS], ids=["goes on", "ends"])
def test_a_right_environment_has_no_findings(goal):
    assert envs.check(aims(goal=goal), steps=25) == []


def test_scaled_rewards_are_of_the_goal():
    """Also where they are scaled, and their range is not known any more."""
    env = scale_reward(aims(), 0.5)
    assert env.goal.rewards == (-np.inf, np.inf)
    assert envs.check(env, steps=25) == []
    assert scale_reward(envs.make("pendulum", 1), 0.5).goal is None


def step(reward=(-1.0, -1.0), terminated=(False, False), valid=None, desired=((0, 0), (1, 0))):
    """Of two environments, of which the second has reached its goal, at (1, 0)."""
    seen = {"achieved_goal": np.float32([(0, 1), (1, 0)]), "desired_goal": np.float32(desired)}
    parts = seen, np.float32(reward), np.array(terminated), np.zeros(2, bool), seen, valid
    return TimeStep(*parts)


@pytest.mark.parametrize(
    ("ends", "given", "wanted"),
    [
        (False, {}, ["at 1 of 2 steps the reward is not"]),
        (False, {"reward": (-1, 0)}, []),
        (True, {"reward": (-1, 0)}, ["at 1 of 2 steps the goal is reached and the step is not"]),
        (True, {"reward": (-1, 0), "terminated": (False, True)}, []),
        # An episode may end for another reason.
        (True, {"reward": (-1, 0), "terminated": (True, True)}, []),
        (False, {"reward": (-1, 0), "terminated": (True, False)}, []),
        (False, {"reward": (-1, 0), "terminated": (False, True)}, ["at 1 of 2 steps the goal"]),
        # What is not valid is not looked at.
        (False, {"valid": np.array([True, False])}, []),
    ],
)
def test_what_is_found_at_single_steps(ends, given, wanted):
    goal, now = goals.sparse(0.5, ends=ends), step(**given)
    seen = goal_check.judge_of(goal)(now.observation, now)
    found = [*goal_check.faults(goal, seen[None])]
    assert [text[: len(start)] for text, start in zip(found, wanted, strict=True)] == wanted
    before = step(desired=((0, 0.1), (1, 0))).observation
    seen = goal_check.judge_of(goal)(before, now)
    assert any("the one that was acted on" in text for text in goal_check.faults(goal, seen[None]))


SEEN = aiming(1).observation


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"observation": SEEN["observation"]}, "its observation is no dict: it must hold"),
        ({"observation": {"achieved_goal": SEEN["achieved_goal"]}}, r"is \['achieved_goal'\]: it"),
        (
            {"observation": SEEN | {"desired_goal": jax.ShapeDtypeStruct((3,), jnp.float32)}},
            r"achieved_goal is float32\[2\] and desired_goal float32\[3\]: they must be alike",
        ),
        (
            {"goal": DISTANCE._replace(reward=lambda achieved, desired: achieved - desired)},
            "goal.reward of one achieved and one desired goal is ",
        ),
        (
            {"goal": DISTANCE._replace(success=lambda achieved, desired: bool(achieved[0] > 0))},
            "goal.success cannot be traced by JAX: TracerBoolConversionError",
        ),
        ({"goal": None}, None),
        ({}, None),
    ],
)
def test_what_is_unfit_before_it_is_played(change, said):
    findings = goal_check.unfit(aiming(1)._replace(**change))
    assert len(findings) == (said is not None)
    assert not findings or re.search(said, findings[0]), findings
