"""The contract beside an export says what goes in, what comes out, how often, and where it is from;
`--again` writes an export anew by it."""

import hashlib
import json
import re
import shutil
import subprocess
from pathlib import Path

import jax
import jax.numpy as jnp
import jsonschema
import numpy as np
import pytest
from click.testing import CliRunner
from helpers import SHORT_RUN

from ddpg_jax import agents, envs, export, networks, runs
from ddpg_jax.envs.described import described
from ddpg_jax.export import contract as contracts
from ddpg_jax.runs.cli import commands
from ddpg_jax.runs.results import export as of_run

SCHEMA = json.loads((Path(contracts.__file__).parent / "contract.schema.json").read_text())


def invoke(*words):
    return CliRunner().invoke(commands.main, list(map(str, words)))


def done(*words):
    result = invoke(*words)
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Two members whose observations are normalised, in a folder of its own."""
    folder = tmp_path_factory.mktemp("exports") / "two"
    runs.train(
        "pendulum",
        run_dir=folder,
        progress=False,
        seeds=2,
        normalize_observations=True,
        **SHORT_RUN,
    )
    return folder


@pytest.fixture
def run(trained, tmp_path, monkeypatch):
    """A copy of that run, in the working folder."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(trained, tmp_path / "two")
    return tmp_path / "two"


@pytest.mark.parametrize("form", export.FORMS)
def test_every_form_has_a_contract_that_keeps_to_its_schema(run, form):
    result = done("export", "two", "--member", 1, "--format", form)
    path = Path(f"two/policy-1.{form}")
    assert result.stdout == f"{path}\n"
    found = json.loads(Path(f"{path}.json").read_text())
    jsonschema.validate(found, SCHEMA)
    assert found["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (found["file"], found["form"]) == (path.name, form)
    (seen,), (action,) = found["inputs"], found["outputs"]
    assert seen == {"name": "observation", "shape": ["batch", 3], "dtype": "float32"} | {
        "units": "native",
        "low": None,
        "high": None,
    }
    assert (action["name"], action["low"], action["high"]) == ("action", [-2.0], [2.0])
    assert found["run"] == {
        "folder": "two",
        "member": 1,
        "checkpoint": "last",
        "env_steps": 200,
        "env": "pendulum",
    } | {
        "env_options": {},
        "preset": "default",
    }
    assert (found["control_rate"], found["frame_stack"], found["action_repeat"]) == (20.0, 1, 1)
    moments = found["normalizer"]["inputs"]["observation"]
    assert len(moments["mean"]) == len(moments["stddev"]) == 3
    assert moments["stddev"][2] > moments["stddev"][0] > 0.1
    assert found["checked"]["largest_difference"] < 1e-6
    assert ("guaranteed for JAX up to 6 months newer" in result.stderr) == (form == "stablehlo")
    act = export.load(path)
    assert np.abs(act(np.ones((2, 3), np.float32))).max() <= 2


def test_the_form_is_that_of_the_suffix_or_stablehlo(run):
    for name, form in {"a.onnx": "onnx", "b.NPZ": "npz", "c": "stablehlo"}.items():
        done("export", "two", "--out", name)
        assert json.loads(Path(f"{name}.json").read_text())["form"] == form
    done("export", "two", "--out", "d.bin", "--format", "npz")
    assert np.load("d.bin")["program"].shape == ()


def test_an_export_is_written_again(run):
    done("export", "two", "--member", 1, "--out", "robot.onnx")
    first = Path("robot.onnx").read_bytes()
    Path("robot.onnx").unlink()
    result = done("export", "two", "--again", "robot.onnx")
    assert (result.stdout, result.stderr) == ("robot.onnx\n", "")
    assert Path("robot.onnx").read_bytes() == first, "the same member and form"
    done("export", "two", "--again", "robot.onnx", "--out", "other")
    assert Path("other").read_bytes() == first
    assert json.loads(Path("other.json").read_text())["file"] == "other"
    done("train", "--resume", "--run-dir", "two", "--total-timesteps", 300)
    result = done("export", "two", "--again", "robot.onnx")
    assert "is the policy after 300 environment steps; it was that after 200" in result.stderr
    assert Path("robot.onnx").read_bytes() != first


DAMAGED = {
    "no JSON": "{",
    "no object": "[1]",
    "another form": {"form": "tflite"},
    "a member that is none": {"run": {"member": "one"}},
    "a member below 0": {"run": {"member": -1}},
    "a folder elsewhere": {"run": {"folder": "../two"}},
    "no run": {"run": None},
}


@pytest.mark.parametrize("name", DAMAGED)
def test_what_cannot_be_written_again(run, name):
    Path("x.onnx").touch()
    good = {
        "form": "onnx",
        "run": {"folder": "two", "member": 0, "checkpoint": "last", "env_steps": 200},
    }
    good["run"] |= {"env": "pendulum", "preset": "default"}
    change, text = DAMAGED[name], ""
    if isinstance(change, str):
        text = change
    elif change.get("run", 0) is not None and "run" in change:
        text = json.dumps(good | {"run": good["run"] | change["run"]})
    else:
        text = json.dumps(good | change)
    Path("x.onnx.json").write_text(text)
    result = invoke("export", "two", "--again", "x.onnx")
    assert result.exit_code == 2
    assert "x.onnx.json is damaged" in result.output
    assert Path("x.onnx").read_bytes() == b""


def test_again_refuses_what_it_takes_from_the_contract(run):
    result = invoke("export", "two", "--again", "x.onnx")
    assert (result.exit_code, "x.onnx.json" in result.output) == (2, True)
    assert "is missing: export without --again" in result.output
    for words in (("--member", 0), ("--format", "npz"), ("--checkpoint", "best")):
        result = invoke("export", "two", "--again", "x.onnx", *words)
        assert (result.exit_code, "leave them out" in result.output) == (2, True)
    done("export", "two", "--out", "x.onnx")
    told = json.loads(Path("x.onnx.json").read_text())
    Path("x.onnx.json").write_text(json.dumps(told | {"run": told["run"] | {"env": "lane"}}))
    result = invoke("export", "two", "--again", "x.onnx")
    assert "made from a run with env=lane, and two has pendulum" in result.output


def test_a_file_that_acts_otherwise_is_not_written(run, monkeypatch):
    real = of_run.forms.read
    monkeypatch.setattr(
        of_run.forms, "read", lambda data, form: lambda given: real(data, form)(given) + 0.005
    )
    result = invoke("export", "two", "--out", "x.npz")
    assert result.exit_code == 2
    assert re.search(r"as npz differs by 0.005\d* in an action, of at most 0.004", result.output)
    assert [path.name for path in Path().glob("x.npz*")] == []


@pytest.mark.parametrize("form", export.FORMS)
def test_a_policy_that_diverged_is_not_written(run, monkeypatch, form):
    real = of_run.policy.restore_policy

    def diverged(folder, checkpoint="last"):
        config, agent, steps, state = real(folder)
        params = jax.tree.map(lambda x: x.at[1].set(jnp.nan), state.actor.params)
        return config, agent, steps, state.replace(actor=state.actor.replace(params=params))

    monkeypatch.setattr(of_run.policy, "restore_policy", diverged)
    done("export", "two", "--out", "x", "--format", form)
    result = invoke("export", "two", "--member", 1, "--out", "y", "--format", form)
    assert (result.exit_code, "choose another --member" in result.output) == (2, True)
    assert [path.name for path in Path().glob("y*")] == []


def test_where_onnxruntime_is_missing_nothing_is_checked(run, monkeypatch):
    def missing(data, form):
        raise ImportError

    monkeypatch.setattr(of_run.forms, "read", missing)
    done("export", "two", "--out", "x.onnx")
    found = json.loads(Path("x.onnx.json").read_text())
    jsonschema.validate(found, SCHEMA)
    assert found["checked"] is None


def test_the_commit_of_the_working_tree(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert of_run._commit() is None
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "-q"], ["commit", "-qm", "first", "--allow-empty"], ["tag", "v1"]):
        subprocess.run([*git, *words], check=True)
    commit = of_run._commit()
    assert re.fullmatch("[0-9a-f]{40}", commit)
    Path("x").touch()
    subprocess.run([*git, "add", "x"], check=True)
    assert of_run._commit() == f"{commit}-dirty"
    monkeypatch.setenv("PATH", "")
    assert of_run._commit() is None


def contract_of(env, agent, **options):
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), env.observation)
    state = agent.init(jax.random.key(0), zeros, jnp.zeros(env.action.shape))
    if agent.observe is not None:
        seen = jax.tree.map(lambda x: jnp.stack([x + 1, x + 1, x + 4]), zeros)
        state = agent.observe(state, seen)
    return contracts.contract(agent, state, env, form="npz", file="x", data=b"", **options)


STREAMS = {"goal": ["float32", [2]], "privileged": ["float32", [4]], "state": ["float32", [3]]}


def host(observation, fps=25.0, stacked=1, bounds=([-1.0, 0.0], [3.0, 10.0], "float32")):
    known = {"num_envs": 1, "time_limit": 9, "same_step": True, "fps": fps, "stacked": stacked}
    return described(known | {"bounds": bounds, "observation": observation})


def test_streams_and_their_normaliser():
    actor = networks.stream(("goal", "state"), networks.Actor(2, (4,)))
    critic = networks.stream("privileged", networks.Critic((4,)))
    agent = agents.normalize_observations(agents.td3(actor, critic))
    found = contract_of(host(STREAMS), agent)
    assert [(each["name"], each["shape"]) for each in found["inputs"]] == [
        ("goal", ["batch", 2]),
        ("state", ["batch", 3]),
    ]
    (action,) = found["outputs"]
    np.testing.assert_allclose([action["low"], action["high"]], [[-1, 0], [3, 10]], atol=1e-6)
    moments = found["normalizer"]
    assert (moments["observations"], list(moments["inputs"])) == (3, ["goal", "state"])
    np.testing.assert_allclose(moments["inputs"]["goal"]["mean"], [2, 2])  # of 1, 1 and 4
    np.testing.assert_allclose(moments["inputs"]["state"]["stddev"], [2**0.5] * 3, rtol=1e-6)


def test_images_and_no_normaliser():
    env = host({"camera": ["uint8", [20, 20, 9]]}, stacked=3)
    encoder = networks.Features(lambda: networks.Conv((2,), (3,), (2,)))
    agent = agents.ddpg(
        networks.WithEncoder(encoder, networks.Actor(2, (4,))),
        networks.WithEncoder(encoder, networks.Critic((4,))),
    )
    found = contract_of(env, agent)
    (seen,) = found["inputs"]
    assert (seen["dtype"], seen["low"], seen["high"]) == ("uint8", 0, 255)
    assert (found["normalizer"], found["frame_stack"]) == (None, 3)


def of_vectors(size):
    return agents.ddpg(networks.Actor(size, (4,)), networks.Critic((4,)))


@pytest.mark.parametrize(
    ("env", "repeat", "rate"),
    [
        (host(["float32", [3]]), 1, 25.0),
        (host(["float32", [3]], fps=30.0), 1, None),
        (host(["float32", [3]], fps=10.0), 3, None),
        (host(["float32", [3]], fps=10.0), 2, 10.0),
        (envs.make("pendulum", 1), 1, 20.0),
        (envs.make("pendulum", 1, action_repeat=2), 2, 10.0),
    ],
)
def test_control_rate_where_the_environment_declares_one(env, repeat, rate):
    found = contract_of(env, of_vectors(env.action.shape[0]), action_repeat=repeat)
    assert (found["control_rate"], found["action_repeat"]) == (rate, repeat)


def test_whole_numbers():
    env = host(["float32", [3]], bounds=([0, -2], [4, 3], "int32"))
    (action,) = contract_of(env, of_vectors(2))["outputs"]
    assert (action["dtype"], action["low"], action["high"]) == ("int32", [0, -2], [4, 3])


def test_the_check_sees_each_output():
    env, agent = host(["float32", [3]]), of_vectors(2)
    state = agent.init(jax.random.key(0), jnp.zeros(3), jnp.zeros(2))
    own = lambda given: env.native_action(agent.act(state, given))
    assert contracts.largest_difference(agent, state, env, own) == pytest.approx(0, abs=1e-6)
    other = lambda given: own(given) + jnp.array([[0, 0.5]])
    assert contracts.largest_difference(agent, state, env, other) == pytest.approx(0.5, abs=1e-5)
