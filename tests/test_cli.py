"""The command line: each wrong input ends in one sentence and exit code 2, each command prints what
it says."""

import functools
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from click.testing import CliRunner, Result
from helpers import hyperparameter_types

from ddpg_jax import envs
from ddpg_jax.runs.checkpoints.store import Checkpoints
from ddpg_jax.runs.cli.commands import main
from ddpg_jax.runs.cli.jax_setup import use_compilation_cache
from ddpg_jax.runs.config.run_config import DERIVED, make_config
from ddpg_jax.runs.console import status
from ddpg_jax.runs.folder.metrics import read_metrics
from ddpg_jax.runs.programs import memory
from ddpg_jax.runs.programs.build import build
from ddpg_jax.runs.training import loop, progress

STEPS = {"total_timesteps": 600, "learning_starts": 200, "steps_per_chunk": 100, "batch_size": 16}
OPTIONS = {**STEPS, "evaluation_episodes": 5, "checkpoint_every": 1}


def words(**options) -> list[str]:
    return [
        word
        for name, value in options.items()
        for word in (f"--{name.replace('_', '-')}", str(value))
    ]


SMALL = words(**OPTIONS, time_limit=50)


def invoke(*arguments) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def refused(result: Result, *parts: str) -> str:
    """Exit code 2 and one sentence that holds ``parts``."""
    assert result.exit_code == 2, (result.output, result.exception)
    assert isinstance(result.exception, SystemExit)
    assert "Traceback" not in result.output
    (sentence,) = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert len(result.stderr.splitlines()) <= 2, "told of what was passed over, perhaps"
    for part in parts:
        assert part in sentence
    return sentence


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    """A default run folder is nobody's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """``(folder, output)`` of one small run through the command line; tests that change it take a
    `copy`."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    result = invoke("train", "--run-dir", folder, *SMALL)
    assert result.exit_code == 0, (result.output, result.exception)
    return folder, result.stdout


@pytest.fixture
def copy(trained, tmp_path):
    return Path(shutil.copytree(trained[0], tmp_path / "copy"))


@functools.cache
def shapes():
    return build(make_config("pendulum", env_options={"time_limit": 50}, **OPTIONS)).state


def newest(folder: Path) -> tuple[int, list[np.ndarray]]:
    opened = Checkpoints(folder / "checkpoints")
    step, state, _ = opened.restore(shapes(), lambda text: pytest.fail(text))
    opened.close()
    return step, [
        np.asarray(leaf) for leaf in jax.tree.leaves((state.agent, state.replay, state.steps))
    ]


# Wrong input


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (
            ["train", "pendulm"],
            ["unknown environment 'pendulm': did you mean 'pendulum'?", "`ddpg-jax envs`"],
        ),
        (["train", "brax/halfchetah"], ["unknown environment", "did you mean 'brax/halfcheetah'?"]),
        (
            ["train", "--preset", "papr"],
            ["unknown preset 'papr': did you mean 'paper'?", "`ddpg-jax presets`"],
        ),
        (["train", "--tua", "0.1"], ["No such option '--tua'", "'--tau'"]),
        (
            ["train", "--critic-lr", "0.1"],
            ["No such option '--critic-lr'", "'--critic-learning-rate'"],
        ),
        (["trian"], ["No such command 'trian'", "Did you mean 'train'?"]),
        (["train", "--tau", "fast"], ["tau='fast': must be a finite number"]),
        (["train", "--backend", "spring"], ["backend"]),
        (["train", "brax/ant", "--backend", "sprin"], ["unknown Brax backend 'sprin'", "spring"]),
        (
            ["train", "brax/ant", "--preset", "pendulum-lecture"],
            ["'pendulum-lecture' is for the environment 'pendulum'"],
        ),
        (["train", "--resume"], ["--resume requires --run-dir"]),
    ],
)
def test_names(arguments, parts):
    refused(invoke(*arguments), *parts)
    assert not os.listdir(), "nothing is left behind"


POSITIVE = [
    "num-envs",
    "seeds",
    "total-timesteps",
    "learning-starts",
    "updates-per-step",
    "batch-size",
    "replay-capacity",
]


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *[(option, value) for option in POSITIVE for value in (0, -3)],
        *[
            (option, value)
            for option in ("steps-per-chunk", "evaluation-episodes", "keep")
            for value in (0, -3)
        ],
        *[(option, -1) for option in ("seed", "evaluate-every", "checkpoint-every")],
        ("time-limit", 0),
        *[
            (option, -1.0)
            for option in ("gamma", "tau", "actor-learning-rate", "critic-learning-rate", "stddev")
        ],
        *[(option, 1.5) for option in ("gamma", "tau")],
        *[
            (option, "nan")
            for option in ("gamma", "tau", "actor-learning-rate", "critic-learning-rate", "stddev")
        ],
        ("critic-weight-decay", -1.0),
        ("replay-capacity", 10**12),
    ],
)
def test_numbers_out_of_range(option, value):
    name, value = option.replace("-", "_"), repr(value) if value == "nan" else value
    refused(invoke("train", f"--{option}", str(value).strip("'")), f"{name}={value}: must be ")
    assert not os.listdir()


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (
            {"replay_capacity": 1000, "num_envs": 3},
            ["replay_capacity=1000", "num_envs=3", "for example 999"],
        ),
        ({"replay_capacity": 32, "batch_size": 64}, ["capacity=32 is smaller than batch_size=64"]),
        (
            {"steps_per_chunk": 7, "num_envs": 2},
            ["steps_per_chunk=7", "num_envs=2", "for example 8"],
        ),
        ({"total_timesteps": 500}, ["total_timesteps=500", "at least 1001", "warm-up (1000)"]),
    ],
)
def test_numbers_that_do_not_fit_together(options, parts):
    refused(invoke("train", *words(**options)), *parts)
    assert not os.listdir()


def test_a_replay_beyond_the_memory(monkeypatch):
    monkeypatch.setattr(loop, "compile_programs", lambda *arguments: pytest.fail("it was compiled"))
    before = len(jax.live_arrays())
    sentence = refused(
        invoke("train", *words(replay_capacity=10**9, seeds=1000)),
        "--replay-capacity",
        "--seeds",
        "available on the cpu",
    )
    needed = re.search(
        r"([\d,.]+ GB) of it for the replay \(replay_capacity=1,000,000,000, seeds=1000\)", sentence
    )[1]
    # Nine float32 per transition: twice 3 of observation, action, reward, discount. And two
    # counters.
    assert needed == memory.format_bytes(1000 * (10**9 * 9 * 4 + 8))
    assert len(jax.live_arrays()) <= before + 2, "nothing but keys is allocated"
    assert not os.listdir()


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "--resume", "--run-dir", "nowhere"],
        ["evaluate", "nowhere"],
        ["render", "nowhere"],
        ["plot", "nowhere"],
    ],
)
@pytest.mark.parametrize("exists", [False, True])
def test_a_folder_that_holds_no_run(arguments, exists):
    if exists:
        Path("nowhere").mkdir()
    refused(invoke(*arguments), "nowhere does not hold a run", "`ddpg-jax train`")
    assert os.listdir() == (["nowhere"] if exists else [])
    assert not exists or not os.listdir("nowhere")


def test_a_damaged_configuration(copy):
    (copy / "config.json").write_text("{}")
    for command in (["train", "--resume", "--run-dir"], ["evaluate"], ["render"], ["plot"]):
        refused(invoke(*command, copy), "config.json is damaged")


@pytest.mark.parametrize(
    ("value", "said"),
    [("9e30", "'9e30': must be less than 2**63"), ("-1", "-1: must be between 0 and")],
)
def test_seeds_out_of_range(value, said):
    refused(invoke("train", f"--seed={value}"), f"seed={said}")


@pytest.mark.parametrize("value", ["64;64", "64,", "wide"])
def test_hidden_is_a_list_of_widths(value):
    refused(
        invoke("train", "--hidden", value),
        f"hidden='{value}': must be whole numbers separated by commas",
        "256,256",
    )


def test_plot_names_the_folder_that_holds_no_run(copy):
    refused(invoke("plot", copy, "nowhere"), "nowhere does not hold a run")
    assert not Path("curves.png").exists()


@pytest.mark.parametrize("emptied", [pytest.param(False, marks=pytest.mark.slow), True])
def test_a_run_without_a_checkpoint(copy, emptied):
    shutil.rmtree(copy / "checkpoints")
    if emptied:
        (copy / "checkpoints").mkdir()
    refused(invoke("evaluate", copy), "has no checkpoint: train it first")
    refused(invoke("render", copy), "has no checkpoint: train it first")
    before = (copy / "metrics.jsonl").read_text()
    refused(invoke("train", "--resume", "--run-dir", copy), "checkpoints were removed")
    assert (copy / "metrics.jsonl").read_text() == before, (
        "of a run that ended nothing is thrown away"
    )
    (copy / "summary.json").unlink()
    result = invoke("train", "--resume", "--run-dir", copy)
    assert result.exit_code == 0, result.output
    assert "has no checkpoint yet" in result.output


def test_a_folder_that_holds_a_run_already(copy):
    before = (copy / "metrics.jsonl").read_text()
    refused(
        invoke("train", "--run-dir", copy, *SMALL),
        f"{copy} already holds a run",
        "--run-dir",
        "--resume",
    )
    assert (copy / "metrics.jsonl").read_text() == before


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (
            words(batch_size=32, tau=0.5),
            ["batch_size (run: 16, given: 32)", "tau (run: 0.005, given: 0.5)"],
        ),
        (words(num_envs=3), ["num_envs (run: 1, given: 3)"]),
        (words(learning_starts=50_000), ["learning_starts (run: 200, given: 50000)"]),
        (words(hidden="8,8"), ["hidden (run: [64, 64], given: [8, 8])"]),
        (words(seed=1, seeds=2), ["seed (run: 0, given: 1)", "seeds (run: 1, given: 2)"]),
        (["brax/ant"], ["env (run: pendulum, given: brax/ant)"]),
        (words(preset="paper"), ["preset (run: default, given: paper)"]),
        (
            words(time_limit=60),
            ["env_options (run: {'time_limit': 50}, given: {'time_limit': 60})"],
        ),
        (words(total_timesteps=500), ["already past total_timesteps=500"]),
    ],
)
def test_resume_with_another_configuration(copy, arguments, parts):
    before = (copy / "config.json").read_text()
    sentence = refused(invoke("train", "--resume", "--run-dir", copy, *arguments), *parts)
    named = set(re.findall(r"(\w+) \(run:", sentence))
    assert named == {part.split(" (run")[0] for part in parts if " (run" in part}, (
        "no other field is named"
    )
    assert (copy / "config.json").read_text() == before


@pytest.mark.parametrize("options", [["--member", 1], ["--member", 7]])
def test_render_of_no_such_member(trained, options):
    refused(
        invoke("render", trained[0], *options),
        f"member={options[1]}: this run has 1 member(s), numbered from 0",
    )


@pytest.mark.parametrize(
    ("command", "options"),
    [("render", ["--member", -1]), ("render", ["--steps", 0]), ("evaluate", ["--episodes", 0])],
)
def test_ranges_of_options(trained, command, options):
    refused(
        invoke(command, trained[0], *options),
        f"Invalid value for '{options[0]}': {options[1]} is not in the range",
    )


# Damaged checkpoints


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def overwrite(path: Path) -> None:
    path.write_bytes(b"\x55" * path.stat().st_size)


def damage(checkpoint: Path, how) -> None:
    paths = [path for path in checkpoint.rglob("*") if path.is_file()]
    assert paths
    for path in paths:
        how(path)


@pytest.mark.parametrize("how", [truncate, overwrite])
def test_resume_falls_back_to_the_checkpoint_before(trained, copy, how):
    damage(copy / "checkpoints" / "600", how)
    result = invoke("train", "--resume", "--run-dir", copy)
    assert result.exit_code == 0, (result.output, result.exception)
    assert re.search(
        r"^checkpoint 600 is damaged \(.+\); trying the one before it\.$",
        result.stdout,
        re.MULTILINE,
    )
    assert "resumed at 500 steps." in result.stdout
    assert [row["env_steps"] for row in read_metrics(copy)] == [300, 400, 500, 600]
    step, leaves = newest(copy)  # the damaged one has been written anew
    assert step == 600
    for found, expected in zip(leaves, newest(trained[0])[1], strict=True):
        np.testing.assert_array_equal(found, expected)


def test_evaluate_falls_back_too(copy):
    damage(copy / "checkpoints" / "600", truncate)
    result = invoke("evaluate", copy, "--episodes", 5)
    assert result.exit_code == 0
    assert "checkpoint 600 is damaged" in result.stderr
    assert json.loads(result.stdout)["env_steps"] == 500


def test_all_checkpoints_damaged(copy):
    for checkpoint in (copy / "checkpoints").iterdir():
        damage(checkpoint, overwrite)
    result = invoke("train", "--resume", "--run-dir", copy)
    refused(result, f"{copy} has no checkpoint that can be read")
    assert "checkpoint 600 is damaged" in result.stdout
    assert "checkpoint 500 is damaged" in result.stdout
    assert len(read_metrics(copy)) == 4, "what was measured is kept"


# Hyperparameters that are not finite


def test_parameters_that_are_not_finite():
    """A first critic step of 1e30 leaves weights whose product over three layers overflows in the
    actor's loss."""
    result = invoke("train", "--run-dir", "run", *SMALL, "--critic-learning-rate", 1e30)
    refused(
        result,
        "actor_loss became NaN or infinite at step 201",
        "no checkpoint had been written yet",
        "learning rates",
    )
    assert not Path("run").exists(), "nothing is left of a run that has nothing to keep"


def broken_after(env, steps: int):
    """The environment, whose observations are not a number from its ``steps``-th step on."""

    def reset(key):
        state, observation = env.reset(key)
        return (state, jnp.zeros((), jnp.int32)), observation

    def step(state, action, key):
        inner, count = state
        inner, time_step = env.step(inner, action, key)
        hide = lambda x: jnp.where(count + 1 >= steps, jnp.nan, x)
        hidden = time_step.replace(
            observation=hide(time_step.observation),
            next_observation=hide(time_step.next_observation),
        )
        return (inner, count + 1), hidden

    return env._replace(reset=reset, step=step)


def test_observations_that_are_not_finite(monkeypatch):
    """Step 450 is in the third chunk: the checkpoint after the second is the last finite one."""
    make = envs.make
    monkeypatch.setattr(
        envs, "make", lambda *arguments, **options: broken_after(make(*arguments, **options), 450)
    )
    result = invoke("train", "--run-dir", "run", *SMALL)
    refused(
        result,
        "observation became NaN or infinite at step 450",
        "the last finite checkpoint, at 400 steps, is kept",
    )
    assert [row["env_steps"] for row in read_metrics(Path("run"))] == [300, 400]
    assert sorted(os.listdir("run/checkpoints")) == ["300", "400"]
    config = make_config("pendulum", env_options={"time_limit": 50}, **OPTIONS)
    opened = Checkpoints(Path("run/checkpoints"))
    step, state, _ = opened.restore(build(config).state)
    opened.close()
    assert step == 400
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((state.agent, state.replay)))


# Commands


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["--version"]])
def test_the_installed_command_answers(arguments):
    program = Path(sys.executable).with_name("ddpg-jax")
    command = (
        [program] if program.exists() else [sys.executable, "-m", "ddpg_jax.runs.cli.commands"]
    )
    answer = subprocess.run([*command, *arguments], capture_output=True, text=True, check=True)
    assert (
        "Usage: ddpg-jax" in answer.stdout
        or importlib.metadata.version("ddpg_jax") in answer.stdout
    )


def test_help_imports_no_jax():
    code = (
        "import sys; from click.testing import CliRunner; from "
        "ddpg_jax.runs.cli.commands import main\n"
        "for words in (['--help'], ['train', '--help'], ['presets']):\n"
        "    assert CliRunner().invoke(main, words).exit_code == 0\n"
        "print([name for name in ('jax', 'numpy', 'flax', 'brax', 'orbax', 'matplotlib') "
        "if name in sys.modules])"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "[]"


def test_help_lists_the_commands_and_options():
    text = invoke("--help").stdout
    assert all(
        command in text for command in ("train", "evaluate", "render", "plot", "report", "envs")
    )
    text = invoke("train", "--help-all").stdout
    assert all(f"--{name.replace('_', '-')}" in text for name in hyperparameter_types())


def test_envs():
    lines = invoke("envs").stdout.splitlines()
    playground, gymnasium, own = lines[4:7]
    assert lines[:4] + lines[7:] == envs.names()
    assert gymnasium.startswith("gymnasium/<id>")
    assert playground.startswith("playground/<name>")
    assert own.startswith("<module>:<function>")
    assert {"pendulum", "brax/halfcheetah"} < set(envs.names())


def test_presets():
    text = invoke("presets").stdout
    for name, source in (
        ("default", "Fujimoto et al. 2018"),
        ("paper", "Lillicrap et al. 2015"),
        ("pendulum-lecture", "lecture"),
    ):
        assert re.search(rf"^{name}\n    \S.+\n    .*{source}", text, re.MULTILINE)


VALUES = {
    "total_timesteps": 58,
    "num_envs": 2,
    "learning_starts": 40,
    "updates_per_step": 2,
    "batch_size": 8,
    "replay_capacity": 128,
    "goals_per_step": 3.5,
    "gamma": 0.9,
    "tau": 0.25,
    "actor_learning_rate": 0.002,
    "critic_learning_rate": 0.003,
    "critic_weight_decay": 0.004,
    "anneal_updates": 5,
    "weight_decay": 0.005,
    "max_grad_norm": 0.5,
    "reward_scale": 0.1,
    "dtype": "bfloat16",
    "observation_dtype": "bfloat16",
    "actor_stream": "seen",
    "critic_stream": "known",
    "n_step": 2,
    "priority_exponent": 0.7,
    "importance_exponent": 0.45,
    "importance_updates": 99,
    "stddev": 0.3,
    "seed": 7,
    "seeds": 2,
    "steps_per_chunk": 8,
    "evaluate_every": 16,
    "evaluation_episodes": 3,
    "final_episodes": 6,
    "checkpoint_every": 0,
    "keep": 1,
}


SWITCHES = {"layer_norm": True, "inverting_gradients": True, "normalize_observations": False}
SWITCHES |= {"anneal": True}
# Hyperparameters that only some presets have.
CATEGORICAL = {
    "stddev_low": 0.01,
    "stddev_high": 0.2,
    "policy_delay": 3,
    "target_noise": 0.3,
    "target_noise_clip": 0.4,
    "v_min": -7.0,
    "v_max": 8.0,
    "num_atoms": 11,
}
IMAGES = {
    "channels": 5,
    "layers": 2,
    "stride": 2,
    "trunk": 7,
    "shift": 1,
    "episode_steps": 6,
    "stddev_start": 0.9,
    "stddev_steps": 77,
}
DRIVE = {
    "theta": 0.5,
    "stddev_half_life": 90,
    "latent_size": 3,
    "beta": 0.25,
    "images": 12,
    "images_every": 2,
}
DRIVE |= {"image_updates": 4, "image_batch": 6, "image_learning_rate": 0.002}


@pytest.mark.slow
def test_numbers_of_other_presets_land_in_config_json():
    assert set(hyperparameter_types()) == {*CATEGORICAL, *SWITCHES, *IMAGES, *DRIVE} | set(
        VALUES
    ) & set(hyperparameter_types())
    sizes = {
        "total_timesteps": 100,
        "learning_starts": 40,
        "steps_per_chunk": 3,
        "n_step": 3,
        "batch_size": 4,
        "seeds": 2,
    }
    hyperparameters = words(**CATEGORICAL, **sizes, time_limit=5, hidden="8", critic_hidden="9,8")
    switches = ("--no-normalize-observations", "--layer-norm", "--inverting-gradients", "--anneal")
    result = invoke(
        "train", "--preset", "td3-categorical", "--run-dir", "run", *hyperparameters, *switches
    )
    assert result.exit_code == 0, (result.output, result.exception)
    written = json.loads(Path("run/config.json").read_text())
    expected = CATEGORICAL | SWITCHES | sizes | {"hidden": [8], "critic_hidden": [9, 8]}
    assert {name: written[name] for name in expected} == expected
    assert "stddev" not in written, "this preset has no such number"
    # The warm-up is 2 steps to fill the window and 40 stored; then chunks of 3 steps, each with one
    # update of 3 batches.
    rows = read_metrics(Path("run"))
    assert [row["env_steps"] for row in rows][:2] == [45, 48]
    assert [row["updates"] for row in rows][:2] == [3, 6]


def test_a_number_that_the_preset_does_not_have():
    result = invoke("train", "--preset", "paper", "--policy-delay", "2")
    assert result.exit_code == 2
    assert (
        "preset 'paper' has no policy_delay; presets that have it: td3, td3-paper, "
        "td3-categorical, fast-td3, her-td3." in result.stderr
    )


def test_every_option_lands_in_config_json():
    switches = ("--layer-norm", "--inverting-gradients", "--no-normalize-observations", "--anneal")
    options = words(**VALUES, time_limit=5, hidden="8,4", critic_hidden="9,5")
    result = invoke("train", "--preset", "paper", "--run-dir", "run", *options, *switches)
    assert result.exit_code == 0, (result.output, result.exception)
    written = json.loads(Path("run/config.json").read_text())
    fixed = {
        "env": "pendulum",
        "preset": "paper",
        "device_kind": "any",
        "env_options": {"time_limit": 5},
        "hidden": [8, 4],
        "critic_hidden": [9, 5],
        "mesh": "members=1,data=1",
        "shared_environment": False,
        "start_from": None,
        "start_with": "networks",
        "start_checkpoint": "last",
        "start_member": None,
        "offline": None,
        "offline_share": 0.0,
        "offline_rows": None,
        "csv": False,
        "film_every": None,
        "stop_at": None,
        "wandb": None,
        "hindsight": "none",
    }
    assert {
        name: value for name, value in written.items() if name not in DERIVED
    } == VALUES | SWITCHES | fixed
    # The window fills with 2 steps; (58 - 2 - 40) / 8 = 2 chunks, evaluated at the second alone.
    rows = read_metrics(Path("run"))
    assert [row["env_steps"] for row in rows] == [50, 58]
    assert [row["evaluation_return"] is None for row in rows] == [True, False]
    assert [row["updates"] for row in rows] == [8, 16]  # 8 steps of 2 environments, 2 updates each


def test_what_is_seen_lands_in_the_configuration(monkeypatch):
    taken = {}

    def take(config, folder, **options):
        taken.update(config.flat())
        raise loop.RunError("enough.")

    monkeypatch.setattr(loop, "run", take)
    seen = {"image_size": 24, "frame_stack": 4, "frames_per_action": 2, "action_repeat": 4}
    refused(invoke("train", "--pixels", "--grayscale", *words(**IMAGES, **seen)), "enough.")
    assert taken["preset"] == "drq-v2"
    assert taken["env_options"] == seen | {"pixels": True, "grayscale": True}
    assert {name: taken[name] for name in IMAGES} == IMAGES
    refused(invoke("train", "lane", "--preset", "drive", *words(**DRIVE)), "enough.")
    assert taken["env_options"]["observation"] == "camera"
    assert {name: taken[name] for name in DRIVE} == DRIVE


@pytest.mark.parametrize("name", VALUES)
def test_an_option_changes_its_own_field_alone(monkeypatch, name):
    taken = {}

    def take(config, folder, **options):
        taken.update(config.flat())
        raise loop.RunError("enough.")

    monkeypatch.setattr(loop, "run", take)
    every = {"evaluate_every": 5_000, "checkpoint_every": 25_000}
    others = {"total_timesteps": 100_000, "steps_per_chunk": 1_000, **every} | (
        {"total_timesteps": 5_000} if name == "num_envs" else {}
    )
    base = make_config("pendulum", **others).flat()
    value = 3_000 if name == "total_timesteps" else VALUES[name]
    refused(invoke("train", *words(**others | {name: value})), "enough.")
    plain = lambda flat: {field: entry for field, entry in flat.items() if field not in DERIVED}
    assert plain(taken) == plain(base) | {name: value}
    assert base[name] != value


def test_a_run_gets_a_folder_of_its_own(monkeypatch):
    folders = []

    def stop(config, folder, **options):
        folders.append(str(folder))
        raise loop.RunError("enough.")

    monkeypatch.setattr(loop, "run", stop)
    refused(invoke("train", "--seed", 5), "enough.")
    assert re.fullmatch(r"runs/pendulum_default_seed5_\d{8}-\d{6}", folders[0])


def test_commands_that_play_for_long_say_what_they_do(trained, monkeypatch):
    assert invoke("check", "pendulum", "--steps", 3).stderr == "", "quickly"
    monkeypatch.setattr(status, "SECONDS", 0.05)
    result = invoke("check", "pendulum", "--steps", 3)
    assert result.stdout == "no findings\n"
    assert set(result.stderr.splitlines()) == {"playing 3 steps"}
    result = invoke("evaluate", trained[0], "--episodes", 3)
    assert json.loads(result.stdout)["episodes"] == 3
    assert set(result.stderr.splitlines()) == {"playing 3 episodes"}


def test_evaluate_prints_one_json_object(trained):
    first, again, other = (
        invoke("evaluate", trained[0], *words(episodes=6, seed=seed)) for seed in (0, 0, 1)
    )
    assert first.exit_code == 0, (first.output, first.exception)
    assert len(first.stdout.splitlines()) == 1
    found = json.loads(first.stdout)
    assert list(found) == [
        "run",
        "env",
        "checkpoint",
        "env_steps",
        "episodes",
        "seed",
        "mean_return",
        "returns",
        "return_std",
        "interquartile_mean",
    ]
    assert (found["run"], found["env"], found["env_steps"]) == (str(trained[0]), "pendulum", 600)
    assert (found["episodes"], found["seed"]) == (6, 0)
    assert found["returns"] == [found["mean_return"]] == [found["interquartile_mean"]]
    # At most pi^2 + 0.1 * 8^2 + 0.001 * 2^2 of cost in each of 50 steps.
    assert -50 * 16.3 < found["mean_return"] < 0 < found["return_std"][0]
    assert again.stdout == first.stdout
    assert json.loads(other.stdout)["mean_return"] != found["mean_return"]


def test_render_writes_a_moving_picture(trained, tmp_path):
    from PIL import Image

    result = invoke(
        "render", trained[0], "--out", tmp_path / "deep" / "film", *words(steps=12, seed=3)
    )
    assert result.exit_code == 0, (result.output, result.exception)
    path = Path(result.stdout.strip())
    assert path == tmp_path / "deep" / "film.gif"
    with Image.open(path) as picture:
        assert picture.n_frames == 12
        frames = []
        for index in range(12):
            picture.seek(index)
            frames.append(np.asarray(picture.convert("RGB"), np.int32))
    # The rod is red; it is seen, and it moves.
    rods = [(frame[..., 0] > frame[..., 1] + 80) for frame in frames]
    assert all(rod.sum() > 200 for rod in rods)
    assert (rods[0] ^ rods[-1]).sum() > 100


def test_render_is_an_episode_in_the_run_folder(copy):
    from PIL import Image

    result = invoke("render", copy)
    assert result.exit_code == 0, (result.output, result.exception)
    with Image.open(copy / "episode.gif") as picture:
        assert picture.n_frames > 25, "50 steps; frames that are alike may be merged"


def test_plot_pools_runs_that_differ_only_in_seeds(trained, copy, monkeypatch):
    from matplotlib.axes import Axes

    labels = []
    plot = Axes.plot
    monkeypatch.setattr(
        Axes, "plot", lambda self, *a, **k: (labels.append(k["label"]), plot(self, *a, **k))[1]
    )
    flat = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(flat | {"seed": 1}))
    result = invoke("plot", trained[0], copy)
    assert (result.exit_code, result.stdout) == (0, "curves.png\n"), (
        result.output,
        result.exception,
    )
    assert Path("curves.png").stat().st_size > 5_000
    assert labels == ["pendulum, default, 2 seeds", "_seeds", "_seeds"]
    labels.clear()
    (copy / "config.json").write_text(json.dumps(flat | {"tau": 0.5}))
    assert invoke("plot", trained[0], copy, "--out", "two.png").exit_code == 0
    assert Path("two.png").exists()
    assert len(labels) == 2


# The display

NUMBER = r"[\d,]+"
LEFT = r"(  \d+ s left)?"
RATES = rf"{NUMBER} env-steps(/s  {NUMBER}| and) updates/s"
LINE = rf"{NUMBER}/600 steps  return -\d+\.\d{LEFT}  {RATES}  "


def test_plain_lines_where_there_is_no_terminal(trained):
    folder, output = trained
    lines = output.splitlines()
    assert lines[0] == f"pendulum, preset default, on cpu -> {folder}"
    assert lines[1].startswith(
        "preset default differs from its source: 1,000 random steps (25,000 there); "
        "final layers start in U"
    )
    assert re.match(
        r"hyper-parameters found by trying on pendulum replace the preset's: "
        r".*replay_capacity 20000 \(preset: 1000000\)",
        lines[2],
    )
    assert lines[3].startswith("only 400 updates in this run, 1 for each environment step: few")
    lines = lines[3:]
    chunks = [line for line in lines if re.match(LINE, line)]
    assert [line.split("/")[0] for line in chunks] == ["300", "400", "500", "600"]
    assert [re.search(r"(\d+) training episodes", line)[1] for line in chunks] == [
        "2",
        "4",
        "6",
        "8",
    ]
    assert " left  " not in chunks[0]
    assert all(re.search(r"  \d+ s left  ", line) for line in chunks[1:])
    assert "  0 s left  " in chunks[-1]
    assert re.match(r"final return: -\d+\.\d \+- \d+\.\d over 100 episodes", lines[5])
    # where they take their share, as on a busy machine
    others = r"(, (evaluations|checkpoints|other) \d+\.\d s)*"
    assert re.match(
        rf"\d+\.\d s: compile \d+\.\d s, training \d+\.\d s{others}; [\d,]+ updates/s",
        lines[6],
    )
    assert lines[7:] == [f"render it: ddpg-jax render {folder}"]
    assert "\x1b" not in output


def test_a_live_line_on_a_terminal(monkeypatch, capsys):
    from rich.console import Console

    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setattr(
        progress, "Console", functools.partial(Console, force_terminal=True, width=200)
    )
    config = make_config("pendulum", **OPTIONS, seeds=2)
    row = {"episodes": [1.0, 2.0], "episode_return": [-4.0, -6.0], "evaluation_return": None}
    row |= {
        "env_steps_per_second": 1234.0,
        "updates_per_second": 5678.0,
        "broken_episodes": [0.0, 1.0],
    }
    with progress.Display(config, Path("a [folder]")) as shown:
        shown.show(row | {"env_steps": 300})
        shown.show(row | {"env_steps": 600, "evaluation_return": [-1.0, -2.0]})
        summary = {
            "final_returns": [-1.0, -2.0],
            "interquartile_mean": -1.5,
            "interquartile_mean_interval": [-2.0, -1.0],
            "collapsed": [False, False],
        }
        spent = {"evaluation_seconds": 0.1, "checkpoint_seconds": 1.5}
        shown.finish(
            summary
            | {
                "wall_seconds": 3,
                "compile_seconds": 2,
                "train_seconds": 1,
                "updates_per_second": 9,
                **spent,
            }
        )
    output = capsys.readouterr().out
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", output)
    assert "\x1b[" in output
    assert "━" in plain
    assert "pendulum, preset default, 2 seeds, on cpu -> a [folder]" in plain
    rates = "1,234 env-steps/s  5,678 updates/s  6 training episodes (2 cut off)"
    assert re.search(
        r"600/600 steps +return -1.5 +0 s left +preparing 0 s +" + re.escape(rates), plain
    )
    assert "\n600/600" not in plain, "the live line alone, no plain ones"
    assert "interquartile mean -1.5 [-2.0, -1.0] over 2 seeds, worst -2.0, best -1.0" in plain
    assert "3.0 s: compile 2.0 s, training 1.0 s, checkpoints 1.5 s; 9 updates/s" in plain


def test_the_end_of_a_run_whose_members_differ(capsys):
    config = make_config("pendulum", **OPTIONS, seeds=3, vary={"tau": [0.1, 0.2, 0.3]})
    spent = dict.fromkeys(("wall", "compile", "train", "evaluation", "checkpoint"), 1.0)
    summary = {f"{name}_seconds": value for name, value in spent.items()} | {
        "updates_per_second": 9
    }
    with progress.Display(config, Path("a")) as shown:
        assert shown._return({"evaluation_return": [None, 0.0, -2.0]}) == "return -1.0 (best 0.0)"
        shown.finish(summary | {"final_returns": [None, 0.0, -2.0], "collapsed": [False] * 3})
    assert "final return: best 0.0, mean -1.0 over 3 members" in capsys.readouterr().out


# The cache of compiled programs


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"DDPG_JAX_CACHE": "off"}, "unchanged"),
        ({"DDPG_JAX_CACHE": "OFF"}, "unchanged"),
        ({"DDPG_JAX_CACHE": "here"}, "here"),
        ({"DDPG_JAX_CACHE": "", "XDG_CACHE_HOME": "/tmp/xdg"}, "/tmp/xdg/ddpg_jax/xla"),
        (
            {"DDPG_JAX_CACHE": "", "XDG_CACHE_HOME": "", "HOME": "/home/someone"},
            "/home/someone/.cache/ddpg_jax/xla",
        ),
        ({"DDPG_JAX_CACHE": "here", "JAX_COMPILATION_CACHE_DIR": "there"}, "here"),
        ({"DDPG_JAX_CACHE": "", "JAX_COMPILATION_CACHE_DIR": "there"}, "unchanged"),
    ],
)
def test_where_programs_are_cached(monkeypatch, variables, expected):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    names = (
        "jax_compilation_cache_dir",
        "jax_persistent_cache_min_compile_time_secs",
        "jax_enable_compilation_cache",
    )
    before = {name: getattr(jax.config, name) for name in names}
    try:
        jax.config.update("jax_compilation_cache_dir", "unchanged")
        use_compilation_cache()
        assert jax.config.jax_compilation_cache_dir == expected
        assert jax.config.jax_enable_compilation_cache == (
            variables["DDPG_JAX_CACHE"].lower() != "off"
        )
    finally:
        for name, value in before.items():
            jax.config.update(name, value)


@pytest.mark.slow
@pytest.mark.parametrize("cache", ["folder", "off"])
def test_the_cache_is_used(trained, tmp_path, cache):
    home = tmp_path / "home"
    home.mkdir()
    variables = {
        "HOME": str(home),
        "XDG_CACHE_HOME": str(home),
        "MPLCONFIGDIR": str(tmp_path / "mpl"),
    }
    variables["DDPG_JAX_CACHE"] = "off" if cache == "off" else str(tmp_path / "programs")
    command = [
        sys.executable,
        "-m",
        "ddpg_jax.runs.cli.commands",
        "evaluate",
        str(trained[0]),
        "--episodes",
        "2",
    ]
    subprocess.run(
        command, env={**os.environ, **variables}, cwd=tmp_path, check=True, capture_output=True
    )
    cached = [path.name for path in tmp_path.rglob("*") if "jit_evaluate" in path.name]
    assert bool(cached) == (cache == "folder")
    assert not list(home.rglob("*jit*"))


def test_an_environment_in_a_module_of_ones_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_pond.py").write_text(
        "from ddpg_jax import envs\n\n\ndef make(num_envs, time_limit=7):\n"
        "    return envs.time_aware(envs.make('pendulum', num_envs, time_limit=time_limit))\n\n\n"
        "def wrong(num_envs):\n    return num_envs\n\n\n"
        "def alone():\n    return make(1)\n"
    )
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    result = invoke("train", "my_pond:make", *words(**OPTIONS, run_dir="run", time_limit=9))
    assert result.exit_code == 0, (result.output, result.exception)
    row = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[0])
    assert row["episode_length"] == [9.0]
    refused(
        invoke("train", "my_pond:mak", "--run-dir", "no"),
        "environment 'my_pond:mak' could not be imported",
    )
    refused(
        invoke("train", "no_pond:make", "--run-dir", "no"),
        "give module:function, of a function make(num_envs, **options)",
    )
    refused(invoke("train", ":make", "--run-dir", "no"), "give module:function")
    refused(
        invoke("train", "my_pond:alone", "--run-dir", "no"),
        "environment 'my_pond:alone' takes no num_envs: give module:function, of a function "
        "make(num_envs, **options)",
        "gymnasium/<module>:<id>",
    )
    refused(
        invoke("train", "my_pond:make", "--backend", "spring", "--run-dir", "no"),
        "does not take these options",
    )
    refused(
        invoke("check", "my_pond:wrong"),
        "environment 'my_pond:wrong' returned int: give module:function",
    )
    assert not (tmp_path / "no").exists()


def test_action_repeat_shortens_episodes_and_is_kept(tmp_path):
    folder = tmp_path / "run"
    result = invoke(
        "train", "pendulum", *words(**OPTIONS, run_dir=folder, time_limit=20, action_repeat=4)
    )
    assert result.exit_code == 0, (result.output, result.exception)
    assert json.loads((folder / "config.json").read_text())["env_options"] == {
        "time_limit": 20,
        "action_repeat": 4,
    }
    assert json.loads((folder / "metrics.jsonl").read_text().splitlines()[0])["episode_length"] == [
        5.0
    ]
    refused(
        invoke("train", "pendulum", "--action-repeat", 0, "--run-dir", tmp_path / "no"),
        "action_repeat=0: must be between 1 and 1000",
    )


# The last line of defence


def test_each_command_has_traceback():
    for name, command in main.commands.items():
        assert any("--traceback" in option.opts for option in command.params), name


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            KeyError("wings"),
            "this is a bug in ddpg_jax or one of its dependencies: KeyError: 'wings'; "
            "run again with --traceback",
        ),
        (
            AssertionError(),
            "this is a bug in ddpg_jax or one of its dependencies: AssertionError: "
            "AssertionError; run again",
        ),
        (ValueError(), "this is a bug in ddpg_jax or one of its dependencies: ValueError"),
        (ValueError("two\nlines"), "Error: two lines"),
        (OSError(28, "No space left on device", "x"), "Error: x: no space left on device."),
        (
            RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 5 bytes.\nMore"),
            "Error: out of memory (RES",
        ),
        (ValueError("x" * 100_000), "xxx ... xxx"),
    ],
)
def test_whatever_is_raised_is_one_sentence(monkeypatch, error, said):
    def raises(*arguments, **options):
        raise error

    monkeypatch.setattr("ddpg_jax.runs.train", raises)
    sentence = refused(invoke("train"), said)
    assert len(sentence) < 1_100
    for arguments, variable in ((["--traceback"], "0"), ([], "1")):
        monkeypatch.setenv("DDPG_JAX_TRACEBACK", variable)
        result = invoke("train", *arguments)
        assert result.exit_code == 2
        assert "Traceback (most recent call last)" in result.stderr
        assert "in raises" in result.stderr
        assert result.stderr.splitlines()[-1] == sentence


@pytest.mark.parametrize(
    "arguments",
    [["--bogus"], ["train", "--bogus"], ["bogus"], ["evaluate"], ["plot"], ["evaluate", "a", "b"]],
)
def test_wrong_words_are_one_line(arguments):
    result = invoke(*arguments)
    refused(result)
    assert len(result.stderr.splitlines()) == 1, "no block of usage"


def test_nothing_at_all_is_help():
    result = invoke()
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith("Usage: ")


def test_no_device(monkeypatch, trained):
    """What JAX raises by itself: an AssertionError without a word."""

    def devices():
        raise AssertionError

    monkeypatch.setattr(jax, "devices", devices)
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    for arguments in (
        ["train"],
        ["evaluate", trained[0]],
        ["render", trained[0]],
        ["export", trained[0]],
        ["check", "pendulum"],
    ):
        refused(
            invoke(*arguments),
            "JAX does not find a device with JAX_PLATFORMS=cuda (AssertionError): unset "
            "JAX_PLATFORMS",
        )
    assert not os.listdir()


def test_numbers_in_other_clothes():
    flat = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ddpg_jax.runs.train", lambda env, **options: flat.update(options))
        assert (
            invoke(
                "train", "--total-timesteps", "1e5", "--tau", "1e-2", "--hidden", "6.4e1,64"
            ).exit_code
            == 0
        )
    assert (flat["total_timesteps"], flat["tau"], flat["hidden"]) == (100_000, 0.01, (64, 64))


# Files of commands


@pytest.mark.parametrize(
    ("given", "written"),
    [("noext", "noext.png"), (".png", ".png.png"), ("a/b.PDF", "a/b.PDF"), ("c.svg", "c.svg")],
)
def test_plot_prints_the_file_that_it_wrote(trained, given, written):
    result = invoke("plot", trained[0], "--out", given)
    assert (result.exit_code, result.stdout) == (0, f"{written}\n"), result.output
    assert Path(written).stat().st_size > 1_000
    assert [str(path) for path in Path().rglob("*") if path.is_file()] == [written]


def test_plot_refuses_what_is_no_picture(trained):
    refused(invoke("plot", trained[0], "--out", "x.exe"), "x.exe ends in .exe", "png")
    assert not os.listdir()


@pytest.mark.parametrize("place", ["/dev/null/x", "folder", "file/x", "x" * 300, ""])
@pytest.mark.parametrize("command", ["plot", "render", "export"])
def test_where_no_file_can_be_made(trained, monkeypatch, command, place):
    from ddpg_jax.runs.results import policy

    monkeypatch.setattr(policy, "restore_policy", lambda *given: pytest.fail("it was restored"))
    Path("folder").mkdir()
    Path("folder.gif").mkdir()
    Path("file").touch()
    before = sorted(os.listdir())
    if (command, place) == ("plot", "folder"):
        place = "folder.gif"
    refused(invoke(command, trained[0], f"--out={place}"), place[:100])
    assert sorted(os.listdir()) == before


@pytest.mark.parametrize("value", [10**12, "1e18", 0, "nan", 20_000])
def test_films_have_an_end(trained, value):
    refused(invoke("render", trained[0], "--steps", value))


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["evaluate", "--episodes", 10**18], "--episodes"),
        (["evaluate", "--episodes", 1_000_000], "lower --episodes"),
        (["check", "pendulum", "--num-envs", 10**12], "--num-envs"),
        (["check", "pendulum", "--num-envs", 1_000_000], "lower --steps or --num-envs"),
        (
            ["check", "pendulum", "--time-limit", 10**18],
            "time_limit=1000000000000000000: must be between 1 and 100000000",
        ),
        (
            ["train", "pendulum", "--time-limit", 2**31],
            "time_limit=2147483648: must be between 1 and 100000000",
        ),
        (
            ["train", "gymnasium/Pendulum-v1", "--evaluation-episodes", 100_000],
            "environments on the host=100000",
        ),
    ],
)
def test_sizes_of_other_commands(trained, monkeypatch, arguments, part):
    from ddpg_jax.runs.programs import memory

    monkeypatch.setattr(memory, "_host_bytes", lambda: 10**7)
    if arguments[0] == "evaluate":
        arguments = ["evaluate", trained[0], *arguments[1:]]
    refused(invoke(*arguments), part)


@pytest.mark.parametrize("case", ["no home", "a file", "unwritable", "relative"])
def test_no_place_for_a_cache(monkeypatch, tmp_path, case):
    """Go on without one, and without a word."""
    monkeypatch.setenv("DDPG_JAX_CACHE", "")
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("MPLCONFIGDIR", "")
    monkeypatch.delenv("MPLCONFIGDIR")
    (tmp_path / "file").touch()

    def nobody():
        raise RuntimeError("Could not determine home directory.")

    if case in ("no home", "relative"):
        monkeypatch.setattr(Path, "home", nobody)
    if case == "relative":
        monkeypatch.setenv("XDG_CACHE_HOME", "here")
    if case == "a file":
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    if case == "unwritable":
        monkeypatch.setenv("DDPG_JAX_CACHE", "/proc/none")
    before = {
        name: getattr(jax.config, name)
        for name in ("jax_compilation_cache_dir", "jax_enable_compilation_cache")
    }
    try:
        use_compilation_cache()
        assert not jax.config.jax_enable_compilation_cache
        assert jax.config.jax_compilation_cache_dir == before["jax_compilation_cache_dir"]
        assert ("MPLCONFIGDIR" in os.environ) == (case in ("no home", "relative"))
    finally:
        for name, value in before.items():
            jax.config.update(name, value)
    assert not Path("here").exists()


def test_a_name_between_colons_is_no_picture(capsys):
    config = make_config("pendulum", **OPTIONS)
    with progress.Display(config, Path("a:dog:c [red]")) as shown:
        shown.phase("compiling")
    assert "a:dog:c [red]" in capsys.readouterr().out
