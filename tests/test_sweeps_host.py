"""Sweeps on the host, whose members train one after the other, each with its own simulator."""

import inspect

import numpy as np
import pytest
from helpers import SHORT_RUN

import ddpg_jax
from ddpg_jax.runs.options.validation import Diverged, RunError

gymnasium = pytest.importorskip("gymnasium")


class Fragile(gymnasium.Env):
    """A simulator that does not bear an action in the middle of its range, as which NaN arrives."""

    observation_space = action_space = gymnasium.spaces.Box(-1, 1, (1,))

    def __init__(self, breaks_after=10**6):
        self.left = breaks_after

    def reset(self, *, seed=None, options=None):  # noqa: ARG002
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.left -= 1
        if not (action[0] and self.left):
            raise ArithmeticError("no direction")
        return np.float32(action) / 2, float(action[0]), False, False, {}


gymnasium.register("Fragile-v0", Fragile, max_episode_steps=5)
SOURCE, FIRST = inspect.getsourcelines(Fragile)
LINE = FIRST + next(i for i, line in enumerate(SOURCE) if "raise" in line)
NAME = f"gymnasium/{__name__}:Fragile-v0"


@pytest.mark.slow
def test_a_simulator_that_a_diverged_member_breaks_leaves_the_others(tmp_path, capsys):
    """Also when the sweep is resumed."""
    values = {"critic_learning_rate": [3e38, 1e-3]}
    made = ddpg_jax.runs.sweep(NAME, values, run_dir=tmp_path / "sweep", **SHORT_RUN)
    assert [one["final_return"] is None for one in made.members] == [True, False]
    said = " ".join(capsys.readouterr().out.split())
    assert "member 0 diverged, the others continue: " in said
    assert f"line {LINE}), where the action had become NaN" in said
    again = ddpg_jax.runs.sweep(resume=True, run_dir=tmp_path / "sweep", progress=False)
    assert again.members == made.members


def test_a_simulator_that_breaks_by_itself_ends_the_sweep(tmp_path):
    """A robot that is switched off has not diverged: its member is trained when it is resumed."""
    with pytest.raises(
        RunError, match=rf"no direction \(.*, line {LINE}\); the checkpoint at 150 steps is"
    ) as caught:
        ddpg_jax.runs.sweep(
            NAME,
            {"critic_learning_rate": [1e-3, 1e-4]},
            run_dir=tmp_path / "sweep",
            **SHORT_RUN | {"env_options": {"breaks_after": 170}, "checkpoint_every": 50},
        )
    assert not isinstance(caught.value, Diverged)
    assert not list((tmp_path / "sweep").glob("*/diverged.json"))
