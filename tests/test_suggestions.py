"""What is suggested for a name that is not known: an option, a preset, an environment."""

import importlib.util

import pytest
from click.testing import CliRunner

from ddpg_jax import checks, envs, runs
from ddpg_jax.envs import unknown
from ddpg_jax.runs.cli import commands
from ddpg_jax.runs.config.run_config import make_config
from ddpg_jax.runs.options import suggestions
from ddpg_jax.runs.options.field import options_of
from ddpg_jax.runs.options.run_options import RunOptions
from ddpg_jax.runs.options.sweep_options import SweepOptions
from ddpg_jax.runs.presets import hyperparameter_options


def said(*words):
    """The sentence that a refused command prints."""
    done = CliRunner().invoke(commands.main, [str(word) for word in words])
    assert done.exit_code == 2, (done.output, done.exception)
    assert done.stdout == "", "no header before the reason"
    return " ".join(done.stderr.split("Error: ")[1].split())


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ["train", "pendulum", "--steps", 5],
            "No such option '--steps'. Did you mean '--total-timesteps'?",
        ),
        (
            ["sweep", "--num-timesteps", 5],
            "No such option '--num-timesteps'. Did you mean '--total-timesteps'?",
        ),
        (["train", "--num_envs", 4], "No such option '--num_envs'. Did you mean '--num-envs'?"),
        (["sweep", "--random", 3], "No such option '--random'. Did you mean '--draws'?"),
        (["train", "--algorithm", "td3"], "No such option '--algorithm'. Did you mean '--preset'?"),
        (
            ["train", "--lr", "1e-3"],
            "No such option '--lr'. Did you mean '--actor-learning-rate' and "
            "'--critic-learning-rate'?",
        ),
        (
            ["train", "--env", "pendulum"],
            "No such option '--env'. The environment is an argument, for example: ddpg-jax train "
            "pendulum.",
        ),
        (
            ["check", "--env-id", "pendulum"],
            "No such option '--env-id'. The environment is an argument, for example: ddpg-jax "
            "check pendulum.",
        ),
        (["evaluate", "run", "--env", "pendulum"], "No such option '--env'."),
        (["evaluate", "run", "--algo", 1], "No such option '--algo'."),
        (["evaluate", "run", "--seeds", 3], "No such option '--seeds'. Did you mean '--seed'?"),
        (
            ["train", "--seed", "0,1,2"],
            "seed='0,1,2': must be a whole number; several seeds at once are seeds=N (--seeds N).",
        ),
        (
            ["train", "--preset", "D4PG"],
            "unknown preset 'D4PG': did you mean 'd4pg'? `ddpg-jax presets` lists all.",
        ),
        (
            ["sweep", "--set", "lr=1e-3,1e-4"],
            "unknown hyper-parameter 'lr': did you mean actor_learning_rate and "
            "critic_learning_rate?",
        ),
        (
            ["sweep", "--set", "seed=1,2"],
            "seed is an option of the whole sweep, not a hyper-parameter: give --seed, and --seeds "
            "for more members of each setting.",
        ),
        (
            ["sweep", "--set", "pixels=true,false"],
            "pixels is an option of the whole sweep, not a hyper-parameter: give --pixels.",
        ),
        (
            ["sweep", "--set", "env=pendulum,lane"],
            "env is an option of the whole sweep, not a hyper-parameter: give ENV.",
        ),
        (
            ["sweep", "--set", "policy_delay=1,2"],
            "preset 'default' has no policy_delay; presets that have it: td3, td3-paper, "
            "td3-categorical, fast-td3, her-td3.",
        ),
    ],
)
def test_a_name_of_another_library_is_understood(words, sentence):
    assert said(*words) == sentence


def test_from_python_too():
    with pytest.raises(ValueError, match="has no steps; did you mean total_timesteps"):
        make_config("pendulum", steps=5)
    with pytest.raises(ValueError, match="no lr; did you mean actor_learning_rate and critic_"):
        runs.train("pendulum", lr=1e-3)
    with pytest.raises(ValueError, match="no total_timestep; did you mean total_timesteps"):
        runs.train("pendulum", total_timestep=1)
    with pytest.raises(ValueError, match=r"seed=\[0, 1\]: .* several seeds at once are seeds=N"):
        make_config("pendulum", seed=[0, 1])
    with pytest.raises(ValueError, match="has no splits; no preset has it"):
        make_config("pendulum", splits=5)


def test_what_is_meant_exists():
    known = {**options_of(RunOptions), **options_of(SweepOptions), **hyperparameter_options()}
    others = {each for names in suggestions.SYNONYMS.values() for each in names.split()}
    assert set(suggestions.SYNONYMS) <= set(known)
    assert not others & set(known), "a name here is what it says"
    assert suggestions.synonyms("Buffer-Size", known) == ["replay_capacity"]
    assert suggestions.synonyms("buffer_size", ["tau"]) == []


def test_large_and_small_letters_are_alike():
    for name in ("TAU", "Tua"):
        assert "did you mean 'tau'?" in str(checks.nearest("option", name, ["gamma", "tau"], ""))
    assert "did you mean 'A/TAU'?" in str(checks.nearest("option", "tau", ["TAU"], "", "A/"))
    assert "did you mean" not in str(checks.nearest("option", "zzz", ["gamma", "tau"], ""))


LISTS = "`ddpg-jax envs` lists all."


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("HalfCheetah-v5", "'gymnasium/HalfCheetah-v5' or 'brax/halfcheetah'"),
        ("HalfCheetah-v4", "'gymnasium/HalfCheetah-v4' or 'brax/halfcheetah'"),
        ("half_cheetah", "'brax/halfcheetah' or 'gymnasium/HalfCheetah-v5'"),
        ("Pendulum-v1", "'gymnasium/Pendulum-v1' or 'pendulum'"),
        ("ant", "'brax/ant' or 'gymnasium/Ant-v5'"),
        ("mujoco/Lane", "'lane'"),
        ("pendulm", "'pendulum'"),
        ("brax/halfchetah", "'brax/halfcheetah'"),
    ],
)
def test_an_environment_of_another_family_is_named(name, meant):
    found = unknown.unknown_environment(name, envs.names())
    assert str(found) == f"unknown environment {name!r}: did you mean {meant}? {LISTS}"
    assert said("train", name) == str(found)


@pytest.mark.skipif(not importlib.util.find_spec("mujoco_playground"), reason="not installed")
def test_an_environment_of_playground_is_named():
    assert "did you mean 'playground/CheetahRun'?" in str(
        unknown.unknown_environment("CheetahRun", ["lane"])
    )
    assert "did you mean" not in str(unknown.unknown_environment("CheetahRunn", []))


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("FetchReach", "FetchReach-v4"),
        ("FetchReach-v3", "FetchReach-v3"),
        ("gymnasium/HandReachDense-v2", "HandReachDense-v2"),
    ],
)
def test_an_environment_of_gymnasium_robotics_is_said_to_be(name, meant):
    assert said("train", name) == (
        f"unknown environment {name!r}: it is of Gymnasium-Robotics: pip install "
        f"gymnasium-robotics, and give gymnasium/gymnasium_robotics:{meant}."
    )


def test_an_id_of_a_module_keeps_it(tmp_path, monkeypatch):
    (tmp_path / "registers_nothing.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    sentence = said("train", "gymnasium/registers_nothing:pendulum-v1")
    assert "did you mean 'gymnasium/registers_nothing:Pendulum-v1'?" in sentence
    assert "did you mean 'gymnasium/HalfCheetah-v5'?" in said("train", "gymnasium/halfcheetah")
    sentence = said("train", "gymnasium/registers_nothing:FetchReach-v4")
    assert "Robotics" not in sentence, "its module was imported, and has another one"


@pytest.mark.parametrize(
    ("command", "file", "sentence"),
    [
        ("train", "sweep.json", "holds a sweep, not a run: use `ddpg-jax sweep`."),
        ("sweep", "config.json", "holds a run, not a sweep: use `ddpg-jax train`."),
        ("train", "nothing.json", "does not hold a run (config.json is missing): give"),
    ],
)
def test_the_other_kind_of_folder_names_its_command(tmp_path, command, file, sentence):
    (tmp_path / file).write_text("{}")
    assert sentence in said(command, "--resume", "--run-dir", tmp_path)
