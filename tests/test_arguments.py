"""Options of environments: text where a number or a switch is meant is read as Python writes it, or
refused in a sentence."""

from typing import ClassVar

import gymnasium
import numpy as np
import pytest
from click.testing import CliRunner
from gymnasium import spaces

from ddpg_jax import checks, envs
from ddpg_jax.envs import arguments
from ddpg_jax.runs.cli import commands
from ddpg_jax.runs.options.validation import parse_text


class Seen(gymnasium.Env):
    """What it was made with is in ``made``."""

    observation_space = spaces.Box(-1, 1, (1,))
    action_space = spaces.Box(-1, 1, (1,))
    made: ClassVar[list] = []

    def __init__(
        self, gain=1.0, steps: "int | None" = None, noisy=False, label="", render_mode=None, **rest
    ):
        self.render_mode = render_mode
        Seen.made.append({"gain": gain, "steps": steps, "noisy": noisy, "label": label} | rest)

    def reset(self, *, seed=None, options=None):  # noqa: ARG002
        return np.zeros(1, np.float32), {}

    def step(self, action):  # noqa: ARG002
        return np.zeros(1, np.float32), 0.0, False, False, {}


class Further(Seen):
    """Hands on what it does not name itself."""

    def __init__(self, image_size=8, **rest):
        super().__init__(image_size=image_size, **rest)


@pytest.fixture(autouse=True)
def registered():
    for name, kind in (("Seen-v0", Seen), ("Further-v0", Further)):
        gymnasium.register(name, entry_point=kind, max_episode_steps=5)
    yield
    gymnasium.registry.pop("Seen-v0")
    gymnasium.registry.pop("Further-v0")
    Seen.made.clear()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("False", False),
        ("true", True),
        ("None", None),
        ("null", None),
        (".01", 0.01),
        ("-.5", -0.5),
        ("1e-3", 1e-3),
        ("1_000", 1_000),
        ("16.0", 16.0),
        ("[1, 2]", [1, 2]),
        ("(1, 2)", (1, 2)),
        ("{'low': 1}", {"low": 1}),
        ("spring", "spring"),
        ("8x8", "8x8"),
        ("a,b", "a,b"),
        ('"0.02"', "0.02"),
        ("'on'", "on"),
    ],
)
def test_text_is_what_python_or_json_writes_so(text, value):
    found = parse_text("x", text)
    assert (type(found), found) == (type(value), value)


@pytest.mark.parametrize(
    "text", ["0,02", "0,2", "TRUE", "yes", "off", "007", "50%", "inf", "-inf", "1.2.3", "1,"]
)
def test_text_that_is_nearly_a_number_or_a_switch_is_refused(text):
    with pytest.raises(ValueError, match=f"x={text}: give a number, True, False or None"):
        parse_text("x", text)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"gain": "0.5"}, "gain='0.5' is text where a number is meant"),
        ({"steps": "5"}, "steps='5' is text where a number is meant"),
        ({"noisy": "False"}, "noisy='False' is text where True or False is meant"),
        ({"gain": None}, "gain=None is nothing where a number is meant"),
        ({"noisy": None}, "noisy=None is nothing where True or False is meant"),
        ({"image_size": 8}, "image_size is an option of what an agent sees"),
        ({"grayscale": True}, "grayscale is an option of what an agent sees"),
    ],
)
def test_a_constructor_is_not_called_with_what_it_would_take_amiss(options, said):
    with pytest.raises(ValueError, match=said):
        envs.make("gymnasium/Seen-v0", 1, **options)
    assert Seen.made == []


def test_what_a_constructor_names_or_takes_anyhow_reaches_it():
    given = {"gain": 2, "steps": None, "noisy": True, "label": "False", "colour": "red"}
    envs.make("gymnasium/Seen-v0", 1, **given)
    assert Seen.made == [given]
    envs.make("gymnasium/Further-v0", 1, image_size=32)
    assert Seen.made[-1]["image_size"] == 32
    with pytest.raises(ValueError, match="noisy='False' is text"):  # of the class it hands on to
        envs.make("gymnasium/Further-v0", 1, noisy="False")


def test_the_module_that_registers_an_id_may_stand_before_it(tmp_path, monkeypatch):
    (tmp_path / "registers_of_arguments.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    envs.make("gymnasium/registers_of_arguments:Seen-v0", 1, gain=2)
    assert Seen.made[-1]["gain"] == 2
    with pytest.raises(ValueError, match="gain='2' is text where a number is meant"):
        envs.make("gymnasium/registers_of_arguments:Seen-v0", 1, gain="2")


def test_what_has_no_signature_is_left_alone():
    arguments.require("it", dict.fromkeys, {"gain": "1"}, ())
    arguments.require("it", print, {"image_size": "1"}, ())


OWN = """
from ddpg_jax import envs

def make(num_envs, noisy=False, **options):
    return envs.make("pendulum", num_envs)

def named(num_envs, image_size=8):
    return envs.make("pendulum", num_envs, time_limit=image_size)
"""


def test_an_environment_of_ones_own(tmp_path, monkeypatch):
    (tmp_path / "own_of_arguments.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    for option in ("image_size", "frame_stack", "frames_per_action", "grayscale", "action_repeat"):
        with pytest.raises(ValueError, match=f"{option} is an option of what an agent sees"):
            envs.make("own_of_arguments:make", 2, **{option: 2})
    with pytest.raises(ValueError, match="noisy='no' is text where True or False is meant"):
        envs.make("own_of_arguments:make", 2, noisy="no")
    assert envs.make("own_of_arguments:named", 2, image_size=9).time_limit == 9


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("lane", {"curvature": "0.02"}, "curvature='0.02': must be between 0 and 0.05"),
        ("lane", {"curvature": None}, "curvature=None: must be between 0 and 0.05"),
        ("lane", {"curvature": [0.0, 0.01]}, r"curvature=\[0.0, 0.01\]: must be one number"),
        ("lane", {"camera_size": 16.0}, "camera_size=16.0: must be a whole number, between 8"),
        ("lane", {"reward": ["speed"]}, r"reward=\['speed'\]: must be speed or torcs"),
        ("lane", {"time_limit": "20"}, "time_limit='20': must be a whole number, at least 1"),
        ("pendulum", {"time_limit": 20.0}, "time_limit=20.0: must be a whole number"),
        ("pendulum", {"time_limit": True}, "time_limit=True: must be a whole number"),
        ("pendulum", {"pixels": "False"}, "pixels='False': must be True or False"),
        ("pendulum", {"pixels": True, "grayscale": "no"}, "grayscale='no': must be True or"),
        ("pendulum", {"pixels": True, "image_size": "32"}, "size='32': must be a whole number"),
        ("pendulum", {"action_repeat": 2.0}, "times=2.0: must be a whole number|action_repeat=2.0"),
    ],
)
def test_environments_of_this_library(name, options, said):
    with pytest.raises(ValueError, match=said):
        envs.make(name, 2, **options)


def test_brax_takes_no_text_for_a_switch():
    pytest.importorskip("brax")
    with pytest.raises(ValueError, match="terminate_when_unhealthy='False' is text where True"):
        envs.make("brax/ant", 1, terminate_when_unhealthy="False")
    with pytest.raises(ValueError, match="randomize='x': must be a function"):
        envs.make("brax/ant", 1, randomize="x")


def test_playground_takes_no_text_and_no_none_for_a_number():
    pytest.importorskip("mujoco_playground")
    for value, given in (("0.01", "text"), (None, "nothing")):
        with pytest.raises(ValueError, match=f"ctrl_dt={value!r} is {given} where a number"):
            envs.make("playground/CartpoleSwingup", 1, ctrl_dt=value)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("text", "x='text': must be at least 1"),
        (None, "x=None: must be at least 1"),
        ([[1], [1, 2]], "must be at least 1"),
    ],
)
def test_what_cannot_be_compared_is_out_of_every_range(value, said):
    with pytest.raises(ValueError, match=said):
        checks.between(1, x=value)


@pytest.mark.parametrize("value", [2.0, True, "2", None, [2]])
def test_whole_numbers(value):
    checks.whole(1, 3, x=2)
    checks.whole(1, x=np.int64(2))
    with pytest.raises(ValueError, match=r"x=.*: must be a whole number, at least 1"):
        checks.whole(1, x=value)
    with pytest.raises(ValueError, match="x=4: must be between 1 and 3"):
        checks.whole(1, 3, x=4)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--env-option curvature=0,02", "curvature=0,02: give a number, True, False or None"),
        ("--env-option curvature=None", "curvature=None: must be between 0 and 0.05"),
        ('--env-option curvature="0.02"', "curvature='0.02': must be between 0 and 0.05"),
        ("--env-option camera_size=16.0", "camera_size=16.0: must be a whole number"),
        ("--env-option curvature=.01 --env-option curvature=.02", "curvature is given twice"),
        ("--time-limit 5 --env-option time_limit=6", "time_limit is given twice"),
    ],
)
def test_the_command_refuses_in_a_sentence(words, said):
    result = CliRunner().invoke(commands.main, ["check", "lane", *words.split()])
    assert (result.exit_code, "this is a bug" in result.stderr) == (2, False)
    assert said in " ".join(result.stderr.split())


def test_the_command_reads_what_python_writes():
    words = "check lane --num-envs 2 --steps 3 --env-option curvature=.01"
    assert "no option" not in CliRunner().invoke(commands.main, words.split()).output
