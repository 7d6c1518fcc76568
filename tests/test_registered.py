"""A preset or an environment that a program registered: another process, which did not, names it
and says what to do; one that did goes on."""

import dataclasses

import gymnasium
import numpy as np
import pytest
from click.testing import CliRunner
from helpers import TINY_RUN

from ddpg_jax import envs, runs
from ddpg_jax.envs import pendulum
from ddpg_jax.runs.cli import commands
from ddpg_jax.runs.presets import PRESETS

MINE = dataclasses.replace(PRESETS["td3"], name="mine")


class Still(gymnasium.Env):
    """Nothing happens."""

    observation_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012

    def __init__(self, render_mode=None):
        self.render_mode = render_mode

    def reset(self, *, seed=None, options=None):  # noqa: ARG002
        return np.zeros(2, np.float32), {}

    def step(self, action):  # noqa: ARG002
        return np.zeros(2, np.float32), 0.0, False, False, {}

    def render(self):
        return np.zeros((8, 8, 3), np.uint8)


def register(kind):
    """Register one thing under its name, and return what takes it away again."""
    if kind == "preset":
        PRESETS["mine"] = MINE
        return lambda: PRESETS.pop("mine")
    if kind == "own":
        envs.OWN["swing"] = (pendulum.make, ("time_limit",))
        return lambda: envs.OWN.pop("swing")
    gymnasium.register("Still-v0", Still, max_episode_steps=5)
    return lambda: gymnasium.registry.pop("Still-v0")


RUNS = {
    "preset": ("pendulum", {"preset": "mine"}, "preset 'mine'"),
    "own": ("swing", {}, "environment 'swing'"),
    "gymnasium": ("gymnasium/Still-v0", {}, "environment 'gymnasium/Still-v0'"),
}
COMMANDS = (["train", "--resume", "--run-dir"], ["evaluate"], ["render"], ["export"], ["plot"])


def invoke(*words):
    return CliRunner().invoke(commands.main, [str(word) for word in words])


@pytest.mark.parametrize("kind", RUNS)
def test_what_another_process_registered_is_named(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    env, options, what = RUNS[kind]
    time_limit = {} if kind == "gymnasium" else {"env_options": {"time_limit": 5}}
    folder, forget = tmp_path / "run", register(kind)
    try:
        size = TINY_RUN | {"steps_per_chunk": 4, "checkpoint_every": 4} | time_limit | options
        runs.train(env, run_dir=folder, **size)
    finally:
        forget()
    needs = {"preset": COMMANDS, "own": COMMANDS[:4], "gymnasium": COMMANDS[:3]}[kind]
    for words in COMMANDS:
        more = ["--total-timesteps", 16] if "--resume" in words else []
        done = invoke(*words, folder, *more)
        if words not in needs:  # of a host environment its shapes are known
            assert done.exit_code == 0, (done.output, done.exception)
            continue
        assert done.exit_code == 2, (words, done.output, done.exception)
        sentence = " ".join(done.stderr.split())
        assert f"{folder} was made with {what}, which this process has not registered" in sentence
        assert "import the module that registers it" in sentence
        assert "damaged" not in sentence
    forget = register(kind)
    try:
        for words in COMMANDS[:4]:
            more = ["--total-timesteps", 16] if "--resume" in words else []
            done = invoke(*words, folder, *more)
            assert done.exit_code == 0, (words, done.output, done.exception)
    finally:
        forget()


@pytest.mark.slow
def test_the_preset_of_a_sweep_is_named(tmp_path):
    folder, forget = tmp_path / "sweep", register("preset")
    try:
        runs.sweep("pendulum", {"tau": [0.1, 0.2]}, preset="mine", run_dir=folder, **TINY_RUN)
    finally:
        forget()
    for words in (["sweep", "--resume", "--run-dir"], ["evaluate"], ["render"], ["plot"]):
        done = invoke(*words, folder)
        assert done.exit_code == 2, (words, done.output, done.exception)
        sentence = " ".join(done.stderr.split())
        assert " was made with preset 'mine', which this process has not registered" in sentence


def test_a_new_run_is_told_of_the_nearest():
    assert "unknown preset 'mine': did you mean" in invoke("train", "--preset", "mine").stderr
