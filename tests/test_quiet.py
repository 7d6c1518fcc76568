"""What simulators say: nothing of what no user can mend, and the rest."""

import numpy as np
import pytest

from ddpg_jax import envs
from ddpg_jax.envs import quiet

RECORDED = (
    "compiler attribute 'settotalmass' is deprecated and will be removed in a future release: "
    "scale the masses and densities in the model, or call mj_setTotalmass and mj_setConst on the "
    "compiled model"
)
"""Of MuJoCo 4.0.0, on Gymnasium's half_cheetah.xml."""


def test_a_deprecation_in_models_that_others_ship_is_not_told(capfd):
    quiet.tell(RECORDED)
    assert capfd.readouterr() == ("", "")
    quiet.tell("Nan, Inf or huge value in QACC at DOF 0. The simulation is unstable.")
    assert capfd.readouterr().err == (
        "WARNING: Nan, Inf or huge value in QACC at DOF 0. The simulation is unstable.\n"
    )


def test_a_simulator_that_loads_its_model_again_is_silent_too(capfd, tmp_path, monkeypatch):
    """As where each episode has a model of its own; MuJoCo writes its log beside its warnings."""
    mujoco, gymnasium = pytest.importorskip("mujoco"), pytest.importorskip("gymnasium")
    monkeypatch.chdir(tmp_path)
    body = "<worldbody><body><geom size='1'/></body></worldbody>"
    model = f"<mujoco><compiler settotalmass='14'/>{body}</mujoco>"

    class Reloading(gymnasium.Env):
        observation_space = action_space = gymnasium.spaces.Box(-1, 1, (1,))

        def reset(self, *, seed=None, options=None):  # noqa: ARG002
            super().reset(seed=seed)
            mujoco.MjModel.from_xml_string(model)
            return np.zeros(1, np.float32), {}

        def step(self, action):  # noqa: ARG002
            return np.zeros(1, np.float32), 0.0, False, True, {}

    gymnasium.register("Reloading-v0", Reloading)
    try:
        env = envs.make("gymnasium/Reloading-v0", 2)
        env.reset(0)
        env.step(np.zeros((2, 1), np.float32))
        env.close()
    finally:
        del gymnasium.registry["Reloading-v0"]
    assert capfd.readouterr() == ("", "")
    assert not list(tmp_path.iterdir())
