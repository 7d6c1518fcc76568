"""`envs.check` has nothing to say of environments that are right, and the right thing of those that
are broken on purpose."""

import importlib
import re
import tracemalloc
from dataclasses import replace

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from click.testing import CliRunner
from gymnasium.vector import AutoresetMode

from ddpg_jax import envs
from ddpg_jax.environment import TimeStep
from ddpg_jax.envs import SingleEnvironment, batch
from ddpg_jax.envs.drift import drift
from ddpg_jax.runs.cli import commands

check = importlib.import_module("ddpg_jax.envs.check")  # hidden by the function
LIMIT = 12


def good(num_envs=4):
    return envs.make("pendulum", num_envs, time_limit=LIMIT)


def stepping(env, change):
    """The environment, its time steps changed by ``change(state before, time step)``."""

    def step(state, action, key):
        new, now = env.step(state, action, key)
        return new, change(state, now)

    return env._replace(step=step)


def reset_as_successor():
    return stepping(good(), lambda state, now: replace(now, next_observation=now.observation))


def limit_is_terminal():
    over = lambda now: now.terminated | now.truncated
    return stepping(
        good(), lambda state, now: replace(now, terminated=over(now), truncated=over(now) & False)
    )


def one_start():
    env = good()
    fixed = jax.random.key(7)

    def reset(key):
        state, observation = env.reset(fixed)
        same = lambda tree: jax.tree.map(
            lambda x: jnp.broadcast_to(x[:1], x.shape) if x.ndim else x, tree
        )
        return same(state), same(observation)

    def step(state, action, key):
        new, now = env.step(state, action, key)
        start, observation = reset(key)
        done = now.terminated | now.truncated
        new = replace(new, state=envs.autoreset.select(done, start.state, new.state))
        return new, replace(
            now, observation=envs.autoreset.select(done, observation, now.observation)
        )

    return env._replace(reset=reset, step=step)


def unscaled_actions():
    """A slider whose own range is [-2, 2], and whose adapter does not know."""

    def reset(key):
        x = jax.random.uniform(key, (1,))
        return x, x

    def step(state, action, key):
        state = state + 0.01 * jnp.clip(action, -2.0, 2.0)
        return state, state, state[0], jnp.zeros((), bool)

    return batch(SingleEnvironment(reset, step, 1), 4, LIMIT)


def narrow_actions():
    """The same with a range of [-0.4, 0.4]."""
    env = unscaled_actions()
    return env._replace(
        step=lambda state, action, key: env.step(state, jnp.clip(action, -0.4, 0.4), key)
    )


def key_reused():
    """Every episode of an environment begins from one and the same key."""
    env = good()
    return env._replace(step=lambda state, action, key: env.step(state, action, jax.random.key(3)))


def one_key_for_all():
    env = good()

    def reset(key):
        state, observation = env.reset(key)
        first = lambda tree: jax.tree.map(
            lambda x: jnp.broadcast_to(x[:1], x.shape) if x.ndim else x, tree
        )
        return first(state), first(observation)

    return env._replace(reset=reset)


def dtype_drift():
    return stepping(good(), lambda state, now: replace(now, reward=now.reward.astype(jnp.float16)))


def weak_type_drift():
    env = good()

    def step(state, action, key):
        new, now = env.step(state, action, key)
        return replace(new, cursor=jnp.asarray(0)), now

    return env._replace(step=step)


def never_ends():
    env = envs.make("pendulum", 4, time_limit=10_000)
    return env._replace(time_limit=LIMIT)


def host_code():
    return stepping(
        good(), lambda state, now: replace(now, reward=now.reward * float(now.reward[0]))
    )


def mixed_up():
    return stepping(good(), lambda state, now: replace(now, terminated=now.truncated))


def moves_within():
    return stepping(good(), lambda state, now: replace(now, observation=now.observation + 1.0))


BROKEN = {
    reset_as_successor: "next_observation must be the true successor",
    limit_is_terminal: "12 steps, the time limit, are terminated: a time limit truncates",
    one_start: "every start is one and the same",
    unscaled_actions: r"action dimensions \[0\] have a limit beyond \+1",
    narrow_actions: r"action dimensions \[0\] have a limit short of \+1",
    key_reused: (
        r"environment 0 began each of \d+ episodes alike: is a key used again at each reset\?"
    ),
    one_key_for_all: "all environments start alike: reset must split its key",
    dtype_drift: r"reward is float16\[4\] where float32\[4\] was declared",
    weak_type_drift: "step was traced 2 times: a dtype or weak type drifts",
    never_ends: "an episode lasted 34 steps or more where the time limit is 12",
    host_code: "cannot be traced by JAX",
    mixed_up: "terminated and truncated are both set at one step",
    moves_within: "within an episode observation and next_observation differ",
}


def test_a_right_environment_has_no_findings():
    assert envs.check(good()) == []


@pytest.mark.parametrize("build", BROKEN, ids=lambda build: build.__name__)
def test_a_broken_environment_gets_the_right_finding(build):
    findings = "\n".join(envs.check(build()))
    assert re.search(BROKEN[build], findings), findings


def played(**parts):
    """Twelve steps of two environments, of which the first ended after the third and the sixth."""
    shape, none = (12, 2), np.zeros((12, 2), bool)
    ends = none.copy()
    ends[[2, 5], 0] = True
    whole = {"terminated": none, "truncated": ends, "valid": ~none, "bad": none, "same": ~ends}
    start = np.where(ends, np.arange(24).reshape(shape), 0)
    whole |= {"start": start, "goal": np.zeros((*shape, 0), bool)}
    return check.Played(**whole | parts)


def found(env=None, counts=None, **parts):
    one = played(**parts)
    env = good(2)._replace(time_limit=30) if env is None else env
    counts = np.ones(one.valid.shape, bool) if counts is None else counts
    return [text.split(":")[0] for text in check._ends(env, one, counts)]


def test_what_is_found_at_single_steps_and_ends():
    """Of few steps that are odd each is told apart; exactly half of the ends may be equal."""
    none, whole = np.zeros((12, 2), bool), played()
    assert found() == []
    at = lambda *place: none | (np.arange(24).reshape(12, 2) == 2 * place[0] + place[1])
    within = "within an episode observation and next_observation differ"
    odd = whole.same & ~at(7, 1)
    assert found(same=odd) == [within]
    assert found(same=odd, counts=~at(7, 1)) == []
    (told,) = found(same=odd, bad=at(7, 1))
    assert told.startswith("at 4.2% of steps an observation or reward is NaN")
    for ends, share in ((at(2, 0), None), (whole.truncated, "100%")):
        told = found(same=whole.same | ends)
        assert told == (
            [
                f"at {share} of episode ends next_observation is the observation of the "
                "new episode, or no new episode began"
            ]
            if share
            else []
        )
    # Of each kind of end on its own.
    assert len(found(terminated=at(2, 0), truncated=at(5, 0), same=whole.same | at(2, 0))) == 1
    assert found(terminated=at(2, 0)) == ["terminated and truncated are both set at one step"]
    broken = "a step that is not valid is terminated, or not truncated"
    assert found(valid=~at(7, 1)) == [broken]
    assert found(valid=~at(2, 0)) == []
    assert broken in found(valid=~at(2, 0), terminated=at(2, 0))


def test_what_a_reset_or_a_step_alone_returns_must_not_drift():
    env = good(2)
    first = jax.tree.map(lambda x: np.zeros((2, *x.shape), x.dtype), env.observation)
    zero, flag = np.zeros(2, np.float32), np.zeros(2, bool)
    now = TimeStep(first, zero, flag, flag, first, None)
    assert drift(env, first, None) == drift(env, None, now) == drift(env, None, None) == []
    (told,) = drift(env, first.astype(np.float16), None)
    assert told.startswith("the observation of reset is float16[2, ")
    (told,) = drift(env, None, replace(now, reward=flag))
    assert told.startswith("reward is bool[2] where float32[2] was declared")


def test_how_long_an_episode_may_last():
    """Nine steps since the second end, twelve of the environment without one; a step that shows a
    reset takes no time."""
    limited = lambda limit: good(2)._replace(time_limit=limit)
    assert found(limited(12)) == []
    assert found(limited(11)) == ["an episode lasted 12 steps or more where the time limit is 11"]
    counts = np.ones((12, 2), bool)
    counts[0, 1] = False
    assert found(limited(11), counts=counts) == []
    ends = played().truncated
    terminal = {"terminated": ends, "truncated": ~ends & ends}
    three = limited(3)
    assert "all 2 episodes that lasted 3 steps, the time limit, are terminated" in found(
        three, **terminal
    )
    one = ends.copy()
    one[5] = False
    both = {"terminated": one, "truncated": ends & ~one}
    assert not [text for text in found(three, **both) if "are terminated" in text]
    assert found(limited(None)) == [
        "no time limit is known, and an evaluation plays whole episodes"
    ]


def test_starts_that_are_alike():
    """All of them, those of all environments at first, or those of one; a single one tells
    nothing."""
    one = played()
    told = lambda first, start: [
        text.split(":")[0] for text in check._starts(np.array(first), one._replace(start=start))
    ]
    same, ends = np.full((12, 2), 7), one.truncated
    assert told([7, 7], same) == ["every start is one and the same"]
    assert told([7, 7], one.start) == ["all environments start alike"]
    assert told([7, 8], one.start) == []
    assert told([1, 2], same) == ["environment 0 began each of 2 episodes alike"]
    single = one._replace(truncated=ends & (np.arange(12) == 2)[:, None])
    assert list(check._starts(np.array([1, 2]), single._replace(start=same))) == []
    assert list(check._starts(np.array([7]), single._replace(start=same))) != []


def coins():
    """Episodes that end by chance; each step shows one of two faces."""

    def show(state):
        return jnp.where(state < 0.3, 1.0, 0.0).reshape(1)

    def reset(key):
        state = jnp.where(jax.random.uniform(key) < 0.6, 0.1, 0.5)
        return state, show(state)

    def step(state, action, key):
        state = jax.random.uniform(key)
        return state, show(state), jnp.clip(action[0], -1, 1), state > 0.8

    return batch(SingleEnvironment(reset, step, 1), 8, 100)


def test_few_observations_are_equal_by_chance():
    """An end shows 0, and four of ten new episodes do as well."""
    finding = "next_observation must be the true successor"
    assert finding not in "\n".join(envs.check(coins()))
    lost = stepping(coins(), lambda state, now: replace(now, next_observation=now.observation))
    assert finding in "\n".join(envs.check(lost))


IDS = (
    "Pendulum-v1",
    "MountainCarContinuous-v0",
    "InvertedPendulum-v5",
    "Reacher-v5",
    "Hopper-v5",
    "HalfCheetah-v5",
    "Ant-v5",
)


@pytest.mark.parametrize(
    "mode", [AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP], ids=lambda mode: mode.value
)
@pytest.mark.parametrize("name", IDS)
def test_gymnasium_on_the_host_has_no_findings(name, mode):
    made = gymnasium.make_vec(
        name,
        3,
        vectorization_mode="sync",
        vector_kwargs={"autoreset_mode": mode},
        max_episode_steps=LIMIT,
    )
    env = envs.gymnasium.vector(made, LIMIT)
    assert envs.check(env) == []
    env.close()


def on_host(change):
    """A right environment on the host, each step of it changed."""
    env = envs.make("gymnasium/Pendulum-v1", 3, time_limit=LIMIT)
    return env._replace(step=lambda action: change(env, action))


def lost_successor(env, action):
    now = env.step(action)
    return now._replace(next_observation=now.observation)


def terminal_limit(env, action):
    now = env.step(action)
    return now._replace(terminated=now.truncated, truncated=now.terminated)


def half_the_range(env, action):
    return env.step(np.clip(2 * action, -1, 1))


def wider_dtype(env, action):
    now = env.step(action)
    return now._replace(observation=now.observation.astype(np.float64))


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        (lost_successor, "next_observation is the observation of the new episode"),
        (terminal_limit, "the time limit, are terminated"),
        (half_the_range, r"action dimensions \[0\] have a limit short of \+1"),
        (wider_dtype, r"observation is float64\[3, 3\] where float32\[3, 3\] was declared"),
    ],
)
def test_a_broken_environment_on_the_host_gets_the_right_finding(change, finding):
    assert re.search(finding, "\n".join(envs.check(on_host(change))))


def test_the_command(monkeypatch):
    invoke = lambda *words: CliRunner().invoke(commands.main, ["check", *words])
    result = invoke("pendulum", "--time-limit", "12", "--num-envs", "2")
    assert (result.exit_code, result.stdout) == (0, "no findings\n")
    broken = one_start()
    monkeypatch.setattr(envs, "make", lambda *_, **__: broken)
    result = invoke("pendulum", "--steps", "30")
    assert result.exit_code == 1
    assert "every start is one and the same" in result.stdout
    monkeypatch.undo()
    result = invoke("pendulun")
    assert result.exit_code == 2
    assert "unknown environment 'pendulun': did you mean 'pendulum'?" in result.stderr


@pytest.mark.parametrize("mode", ["same_step", "next_step"])
def test_observations_are_not_kept(mode):
    """Ten times the steps take a few flags more each; an observation here has 12,288 numbers."""
    gymnasium = pytest.importorskip("gymnasium")

    class Seen(gymnasium.Env):
        observation_space = gymnasium.spaces.Box(0, 255, (64, 64, 3), np.uint8)
        action_space = gymnasium.spaces.Box(-1, 1, (1,))

        def reset(self, *, seed=None, options=None):  # noqa: ARG002
            super().reset(seed=seed)
            self.steps = 0
            return self.np_random.integers(0, 256, (64, 64, 3), np.uint8), {}

        def step(self, action):  # noqa: ARG002
            self.steps += 1
            return np.full((64, 64, 3), self.steps, np.uint8), 0.0, False, self.steps == 7, {}

    def peak(steps):
        env = envs.gymnasium.vector(
            gymnasium.vector.SyncVectorEnv([Seen] * 2, autoreset_mode=mode_of[mode]), 7
        )
        tracemalloc.start()
        findings = envs.check(env, steps=steps)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert not [finding for finding in findings if "episode" in finding], findings
        return found

    mode_of = {
        "same_step": gymnasium.vector.AutoresetMode.SAME_STEP,
        "next_step": gymnasium.vector.AutoresetMode.NEXT_STEP,
    }
    peak(20)
    assert peak(400) - peak(40) < 360 * 1_500
