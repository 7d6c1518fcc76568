"""Host environments are closed as often as they are made, by every command, at its end, on an error
and on a signal; what needs their shapes alone makes none."""

import json
import os
import signal

import gymnasium
import jax
import numpy as np
import pytest
from click.testing import CliRunner
from gymnasium import spaces

import ddpg_jax
from ddpg_jax import envs
from ddpg_jax.envs.described import describe, described
from ddpg_jax.runs import dry_run
from ddpg_jax.runs.cli import commands
from ddpg_jax.runs.config.run_config import make_config
from ddpg_jax.runs.console.signals import Interrupted
from ddpg_jax.runs.results import policy
from ddpg_jax.runs.training import loop

NAME = "gymnasium/Robot-v0"


class Robot(gymnasium.Env):
    """Counts its copies; ``most`` may be open at once, and ``at`` a step it does ``act``."""

    observation_space = spaces.Box(-9, 9, (2,), np.float64)
    action_space = spaces.Box(np.float32([-2, 0]), np.float32([2, 10]))
    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}  # noqa: RUF012
    made = closed = most_open = steps = 0
    most, at, act = 999, -1, None

    def __init__(self, render_mode=None):
        kind = type(self)
        if kind.made - kind.closed >= kind.most:
            raise RuntimeError("the port is in use")
        kind.made += 1
        kind.most_open = max(kind.most_open, kind.made - kind.closed)
        self.render_mode = render_mode

    def reset(self, *, seed=None, options=None):  # noqa: ARG002
        super().reset(seed=seed)
        self.now = self.np_random.uniform(-1, 1, 2)
        return self.now, {}

    def step(self, action):
        kind = type(self)
        kind.steps += 1
        if kind.steps == kind.at:
            kind.act()
        self.now = np.clip(self.now + action * 0.01, -9, 9)
        return self.now, -float(np.abs(self.now).sum()), False, False, {}

    def render(self):
        return np.zeros((8, 8, 3), np.uint8)

    def close(self):
        type(self).closed += 1


@pytest.fixture(autouse=True)
def robot():
    kind = type("OneRobot", (Robot,), {})
    gymnasium.register("Robot-v0", entry_point=kind, max_episode_steps=5)
    yield kind
    gymnasium.registry.pop("Robot-v0")
    assert kind.closed == kind.made


OPTIONS = {
    "total_timesteps": 40,
    "num_envs": 2,
    "learning_starts": 10,
    "steps_per_chunk": 10,
    "evaluation_episodes": 3,
    "final_episodes": 10,
    "batch_size": 4,
    "hidden": (8,),
    "replay_capacity": 60,
}


def train(folder, **options):
    return ddpg_jax.runs.train(NAME, run_dir=folder, progress=False, **OPTIONS | options)


@pytest.fixture
def run(tmp_path):
    train(tmp_path / "run")
    return tmp_path / "run"


def call(*words):
    done = CliRunner().invoke(commands.main, [str(word) for word in words])
    assert done.exit_code == 0, (done.output, done.exception)
    return done.stdout


@pytest.mark.slow
def test_made_is_closed_by_every_command(run, robot, tmp_path):
    assert robot.made == 2 + 3
    for words, made in (
        (("evaluate", run, "--episodes", 4), 4),
        (("export", run), 0),
        (("render", run, "--steps", 3), 1),
        (("check", NAME, "--num-envs", 3, "--steps", 4), 3 + 1 + 20),  # played, and built
        (("train", NAME, "--dry-run", "--num-envs", 2), 2 + 20),
        (("train", "--resume", "--run-dir", run, "--total-timesteps", 50), 2 + 3),
    ):
        before = robot.made
        if words[0] == "check":
            CliRunner().invoke(commands.main, [str(word) for word in words])
        else:
            call(*words)
        assert (robot.made - before, robot.closed) == (made, robot.made), words
    before = robot.made
    swept = ddpg_jax.runs.sweep(
        NAME, {"tau": [0.1, 0.2]}, run_dir=tmp_path / "sweep", progress=False, **OPTIONS
    )
    made = 10 + 3  # which play 100 episodes more of the best, three at once
    assert (robot.made - before, robot.closed) == (made, robot.made)
    assert robot.most_open == 22
    state = np.zeros((1, 2))
    assert swept.policy()(state).shape == policy.load_policy(run, 0)(state).shape == (1, 2)
    assert (robot.made - before, robot.closed) == (made, robot.made)


def test_a_run_of_an_earlier_version_makes_one_and_closes_it(run, robot):
    (run / "environment.json").unlink()
    before = robot.made
    call("export", run)
    assert (robot.made - before, robot.closed) == (2, robot.made)


@pytest.mark.parametrize(
    ("at", "kept"),
    [
        pytest.param(8, "no checkpoint had been written yet", marks=pytest.mark.slow),  # warming up
        (12, "no checkpoint had been written yet"),
        (25, "the checkpoint at 20 steps is kept, continue from it with --resume --run-dir"),
    ],
)
def test_an_error_of_the_simulator(robot, tmp_path, at, kept):
    def lost():
        raise ConnectionError("the robot does not answer")

    robot.at, robot.act = at, lost
    where = r"\(.*test_described\.py, line \d+\)"
    said = f"step raised ConnectionError: the robot does not answer {where}; {kept}"
    with pytest.raises(ValueError, match=said):
        train(tmp_path / "run", checkpoint_every=1)
    assert (robot.made, robot.closed) == (5, 5)
    if "20" in kept:
        result = train(tmp_path / "run", resume=True)
        assert result.summary["env_steps"] > 0


@pytest.mark.parametrize("at", [3, 25])
def test_a_signal(robot, tmp_path, at):
    robot.at, robot.act = at, lambda: os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(Interrupted):
        train(tmp_path / "run")
    assert (robot.made, robot.closed) == (5, 5)


def test_a_signal_while_a_command_plays(run, robot):
    robot.at, robot.act = robot.steps + 3, lambda: os.kill(os.getpid(), signal.SIGTERM)
    for words in (("evaluate", run), ("render", run), ("check", NAME)):
        robot.at = robot.steps + 3
        done = CliRunner().invoke(commands.main, [str(word) for word in words])
        assert done.exit_code == 128 + signal.SIGTERM, done.output
        assert robot.closed == robot.made


def test_a_port_that_is_in_use(robot, tmp_path):
    robot.most = 4
    with pytest.raises(ValueError, match="make raised RuntimeError: the port is in use"):
        train(tmp_path / "run")
    assert robot.closed == robot.made == 4


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"preset": "drq-v2"}, "images"),
        ({"replay_capacity": 2**29}, "this needs .* for the replay"),
    ],
)
def test_what_is_refused_once_it_was_made(robot, tmp_path, options, said):
    with pytest.raises(ValueError, match=said):
        train(tmp_path / "run", **options)
    assert robot.made > 0
    assert robot.closed == robot.made


def test_spaces_that_do_not_fit(robot):
    robot.action_space = spaces.Discrete(2)
    with pytest.raises(ValueError, match="the action space is"):
        envs.make(NAME, 3)
    assert (robot.made, robot.closed) == (3, 3)


def test_a_wrapper_that_raises(robot):
    def wrapper(env):
        if robot.made == 2:
            raise RuntimeError("no")
        return env

    with pytest.raises(ValueError, match="make raised RuntimeError: no"):
        envs.gymnasium.make("Robot-v0", 3, wrappers=(wrapper,))
    assert (robot.made, robot.closed) == (2, 2)


def test_closing_twice_and_where_one_raises(robot):
    env = envs.make(NAME, 3)
    calls = []

    def close(self):
        calls.append(self)
        robot.closed += 1
        if len(calls) == 2:
            raise OSError("it hangs")

    robot.close = close
    with pytest.raises(ValueError, match="close raised OSError: it hangs"):
        env.close()
    env.close()
    assert len(set(map(id, calls))) == len(calls) == 3


def test_an_error_of_closing_does_not_hide_the_one_before(robot, tmp_path):
    def lost():
        raise ConnectionError("the robot does not answer")

    def close(self):
        robot.closed += 1
        raise OSError("it hangs")

    robot.at, robot.act, robot.close = 12, lost, close
    with pytest.raises(ValueError, match="the robot does not answer"):
        train(tmp_path / "run")


def test_an_error_of_closing_costs_no_result(robot, tmp_path, capsys):
    def close(self):
        robot.closed += 1
        raise OSError("it hangs")

    robot.close = close
    result = train(tmp_path / "run")
    assert np.isfinite(result.summary["final_returns"]).all()
    assert robot.made == robot.closed > 0
    assert f"Warning: {NAME}: close raised OSError: it hangs" in capsys.readouterr().err
    assert json.loads(call("evaluate", tmp_path / "run", "--episodes", 3))["episodes"] == 3


def test_one_instance_is_enough(robot, tmp_path):
    """Trained, resumed, evaluated, exported and filmed with one copy open at a time."""
    robot.most = 1
    options = {"num_envs": 1, "shared_environment": True}
    for number, every in enumerate((0, 1)):
        folder = tmp_path / f"run-{number}"
        result = train(folder, evaluate_every=every, **options)
        assert np.isfinite(result.summary["final_returns"]).all()
    assert robot.made == robot.closed == 2
    call("train", "--resume", "--run-dir", folder, "--total-timesteps", 50)
    found = json.loads(call("evaluate", folder, "--episodes", 3))
    assert found["episodes"] == 3
    call("render", folder, "--steps", 2)
    call("export", folder)
    assert (robot.most_open, robot.made) == (1, 5)


def test_evaluating_in_training_s_own_environments(robot, tmp_path):
    """As many episodes as asked for, whatever the copies; running episodes end there."""
    result = train(tmp_path / "run", shared_environment=True, evaluation_episodes=5)
    assert robot.most_open == 2
    assert "running episodes end there as by a time limit" in result.config.note
    # 5 steps of warm-up and 5 rounds of two copies; each of the 4 chunks is evaluated in 3 rounds
    # of 5 steps, and at the end 10 episodes in twice 3 rounds.
    assert robot.steps == 2 * (5 + 15 + 3 * 5 * 3 + 2 * 3 * 5)
    again = train(tmp_path / "again", shared_environment=True, evaluation_episodes=5)
    same = jax.tree.map(np.array_equal, result.agent_state, again.agent_state)
    assert jax.tree.all(same)


def test_a_robot_plays_no_more_final_episodes_than_asked_for(robot, tmp_path, capsys):
    options = {"evaluate_every": 0, "evaluation_episodes": 1, "final_episodes": 1}
    options |= {"shared_environment": True, "run_dir": tmp_path / "run"}
    result = ddpg_jax.runs.train(NAME, **OPTIONS | options)
    assert robot.steps == 2 * (5 + 15 + 5 + 5), "the last evaluation, and the final one"
    assert "over 1 episode\n" in capsys.readouterr().out
    assert result.summary["final_return_std"] == [0.0]


def test_environments_on_the_device_share_none(tmp_path):
    with pytest.raises(ValueError, match="pendulum is not one: leave --shared-environment out"):
        ddpg_jax.runs.train(
            "pendulum", run_dir=tmp_path / "run", progress=False, shared_environment=True
        )


def test_a_plan_for_another_device_closes_too(robot):
    config = make_config(NAME, device_kind="gpu", **OPTIONS)
    dry_run.plan(config)
    assert robot.made == robot.closed > 0


def test_what_is_described_is_declared_again():
    env = envs.make(NAME, 2)
    env.close()
    again = described(json.loads(json.dumps(describe(env))))
    for name in ("observation", "action", "time_limit", "same_step", "fps", "stacked", "num_envs"):
        assert getattr(again, name) == getattr(env, name), name
    action = np.float32([[0.3, -0.2], [-2, 2]])
    np.testing.assert_array_equal(again.native_action(action), env.native_action(action))
    again.close()
    for use in (lambda: again.reset(0), again.draw):
        with pytest.raises(ValueError, match="was described and not made"):
            use()


def test_a_damaged_description_is_one_sentence(run):
    (run / "environment.json").write_text("{}")
    with pytest.raises(ValueError, match=r"environment.json is damaged"):
        policy.load_policy(run, 0)
    assert loop.ENVIRONMENT == "environment.json"
