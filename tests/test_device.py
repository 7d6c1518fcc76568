"""What is chosen by the kind of device, said, and written down."""

import json

import jax
import pytest

from ddpg_jax.runs.config.run_config import make_config
from ddpg_jax.runs.config.stored import from_flat, load_config, resumed_config
from ddpg_jax.runs.folder import versions
from ddpg_jax.runs.options.run_options import ANY_DEVICE
from ddpg_jax.runs.options.validation import RunError
from ddpg_jax.runs.presets import PRESETS
from ddpg_jax.runs.tasks import TASKS
from ddpg_jax.runs.training.progress import Display


def test_a_gpu_runs_a_thousand_environments_where_the_rewards_are_known():
    made = make_config("brax/ant", device_kind="gpu")
    assert (made.preset.name, made.device_kind) == ("fast-td3", "gpu")
    assert made.hyperparameters.num_envs >= 1_024
    assert (made.hyperparameters.v_min, made.hyperparameters.v_max) == TASKS["brax/ant"].support
    assert made.note.startswith("preset fast-td3 is the choice for a gpu; on a cpu it is default.")


@pytest.mark.parametrize(
    ("env", "kind", "preset", "said"),
    [
        ("brax/ant", "cpu", "default", ""),
        ("brax/ant", "tpu", "fast-td3", "the choice for a tpu"),
        ("playground/WalkerRun", "gpu", "fast-td3", "the choice for a gpu"),
        (
            "brax/fast",
            "gpu",
            "default",
            "--preset fast-td3 with the range of discounted returns",
        ),  # rewards are not known
        ("mine:make", "gpu", "default", "a gpu steps thousands of environments"),
        ("pendulum", "gpu", "default", ""),  # has hyper-parameters found by trying
        ("gymnasium/Hopper-v5", "gpu", "default", ""),
    ],
)
def test_the_choice_and_what_is_said_of_it(env, kind, preset, said):
    made = make_config(env, device_kind=kind)
    assert made.preset.name == preset
    assert said in made.note
    assert bool(said) == ("gpu" in made.note or "tpu" in made.note)


def test_what_was_asked_for_is_no_choice():
    made = make_config("brax/ant", "default")
    assert (made.device_kind, made.hyperparameters) == (
        ANY_DEVICE,
        PRESETS["default"].hyperparameters,
    )


def test_without_a_word_it_is_the_device_that_jax_has(monkeypatch):
    assert make_config("brax/ant").device_kind == "cpu"
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert make_config("brax/ant").preset.name == "fast-td3"


def test_a_run_goes_on_elsewhere_with_the_numbers_that_it_began_with(tmp_path, monkeypatch):
    made = make_config("brax/ant", device_kind="gpu", num_envs=2_048, replay_capacity=2_048 * 5_120)
    flat = made.flat()
    assert (flat["preset"], flat["device_kind"], flat["num_envs"]) == ("fast-td3", "gpu", 2_048)
    assert from_flat(flat) == made
    (tmp_path / "config.json").write_text(json.dumps(flat))
    assert load_config(tmp_path) == made
    monkeypatch.setattr(jax, "default_backend", lambda: pytest.fail("the device was looked at"))
    assert (
        resumed_config(tmp_path, {"total_timesteps": 60_000_000}).hyperparameters.num_envs == 2_048
    )
    with pytest.raises(RunError, match="device_kind \\(run: gpu, given: cpu\\)"):
        resumed_config(tmp_path, {"device_kind": "cpu"})


@pytest.fixture
def no_platform_chosen():
    """As where the user left JAX to choose."""
    before = jax.config.jax_platforms
    jax.config.update("jax_platforms", None)
    yield
    jax.config.update("jax_platforms", before)


@pytest.mark.usefixtures("no_platform_chosen")
def test_a_gpu_that_jax_does_not_see_is_said_once(tmp_path, monkeypatch, capsys):
    driver = tmp_path / "version"
    monkeypatch.setattr(versions, "DRIVER", (tmp_path / "none", driver))
    assert versions.unseen_gpu() == ""
    driver.touch()
    with Display(make_config("pendulum"), tmp_path) as display:
        display.say("this waits")
        display.phase("compiling")
        display.phase("training")
    first, second, third = capsys.readouterr().out.splitlines()
    assert "on cpu" in first
    assert "NVIDIA GPU" in second
    assert 'pip install -U "jax[cuda13]"' in second
    assert third == "this waits"


@pytest.mark.parametrize(("platforms", "backend"), [("cpu", "cpu"), (None, "gpu")])
def test_a_platform_that_was_chosen_or_a_gpu_that_computes_is_no_news(
    platforms, backend, tmp_path, monkeypatch, no_platform_chosen
):
    driver = tmp_path / "version"
    driver.touch()
    monkeypatch.setattr(versions, "DRIVER", (driver,))
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    jax.config.update("jax_platforms", platforms)
    assert versions.unseen_gpu() == ""
