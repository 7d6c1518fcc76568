"""What each command calls with what it is given: nothing is trained or played."""

import contextlib
import json
import types
from pathlib import Path

import pytest
from click.testing import CliRunner

import ddpg_jax
from ddpg_jax import envs
from ddpg_jax.runs.cli import commands, run_commands
from ddpg_jax.runs.distributed.processes import ProcessFlags
from ddpg_jax.runs.presets import PRESETS
from ddpg_jax.runs.programs import build, memory
from ddpg_jax.runs.results import export, plots, policy, render, report
from ddpg_jax.runs.sweeps import sweep_results


@pytest.fixture(autouse=True)
def no_device(monkeypatch):
    """A device is looked for once by each command that computes."""
    begun = []
    for module in (commands, run_commands):
        monkeypatch.setattr(module, "begin", lambda: begun.append(1))
    return begun


def invoke(*words):
    return CliRunner().invoke(commands.main, [str(word) for word in words])


def said(*words, code=0):
    done = invoke(*words)
    assert done.exit_code == code, done.output
    return done.stdout.rstrip("\n")


@pytest.fixture
def called(monkeypatch):
    """``(function, environment, options)`` of what trains or plans."""
    calls = []

    def watch(name, answer):
        function = lambda env, *values, **options: (
            calls.append((name, env, *values, options)) or answer
        )
        monkeypatch.setattr(commands.runs, name, function)

    for name, answer in (("train", None), ("plan", "a plan"), ("sweep", None)):
        watch(name, answer)
    started = lambda flags, folder: calls.append((flags, folder))
    monkeypatch.setattr(commands.processes, "initialize", started)
    return calls


ALONE = ProcessFlags()


def test_train_hands_over_what_was_given(called, no_device, monkeypatch):
    assert said("train") == ""
    assert called == [(ALONE, None), ("train", None, {"profile": None, "progress": True})]
    called.clear()
    words = "train lane --seed 3 --tau 0.1 --env-option curvature=0.02 --time-limit 5 --hidden 8,9"
    said(*words.split(), "--profile", "--run-dir", "a", "--anneal", "--no-layer-norm")
    given = {"seed": 3, "tau": 0.1, "hidden": (8, 9), "run_dir": Path("a")}
    given |= {"env_options": {"time_limit": 5, "curvature": 0.02}}
    given |= {"anneal": True, "layer_norm": False, "profile": True, "progress": True}
    assert called == [(ALONE, Path("a")), ("train", "lane", given)]
    called.clear()
    assert said("train", "pendulum", "--dry-run", "--seeds", 2) == "a plan"
    assert called[1:] == [("plan", "pendulum", {"seeds": 2})]
    called.clear()
    monkeypatch.setattr(commands.processes, "is_first", lambda: False)
    said("train", "--coordinator", "a:1", "--num-processes", 2, "--process-id", 0, "--run-dir", "b")
    assert called == [
        (ProcessFlags("a:1", 2, 0), Path("b")),
        ("train", None, {"run_dir": Path("b"), "profile": None, "progress": False}),
    ]
    assert len(no_device) == 4


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (
            "train lane --env-option curvature=1 --env-option curvature=2",
            "curvature is given twice",
        ),
        ("train lane --env-option =1", "--env-option =1: give NAME=VALUE"),
        ("train lane --env-option a=", "--env-option a=: give NAME=VALUE"),
        ("train lane --process-id -1", "process_id=-1: must be"),
        ("sweep --set =", "requires --set"),
        ("evaluate x --seed -1", "-1 is not in the range 0<=x<=2147483647"),
        ("evaluate x --seed 2147483648", "is not in the range 0<=x<=2147483647"),
        ("evaluate x --episodes 0", "0 is not in the range 1<=x<=1000000"),
        ("plot", "Missing argument 'RUNS...'"),
    ],
)
def test_words_that_are_refused(words, text, called):
    called.append(None)
    done = invoke(*words.split())
    if words == "sweep --set =":
        assert called[-1] == ("sweep", None, {"": ""}, {})
    else:
        assert (done.exit_code, text in " ".join(done.output.split())) == (2, True), done.output


def test_sweep_hands_over_values_and_how_members_evolve(called):
    said("sweep", "lane", "--set", "tau=0.1,0.2", "--set", "a=b=c", "--draws", 3)
    said("sweep", "--set", "tau=log:1:2", "--pbt", "--pbt-fraction", 0.3)
    said("sweep", "--set", "tau=1", "--pbt")
    assert called == [
        ("sweep", "lane", {"tau": "0.1,0.2", "a": "b=c"}, {"draws": 3}),
        ("sweep", None, {"tau": "log:1:2"}, {"evolve": {"fraction": 0.3}}),
        ("sweep", None, {"tau": "1"}, {"evolve": {}}),
    ]
    done = invoke("sweep", "--set", "tau=1", "--no-pbt-copy-replay")
    assert "--pbt-copy-replay requires --pbt" in done.output


def test_evaluate_is_of_a_run_a_sweep_or_a_member(monkeypatch, tmp_path):
    def recorded(name):
        return lambda *given, checkpoint="last": {
            "was": name,
            "given": [str(x) for x in given if x != "last"],
            "checkpoint": checkpoint if "best" not in given else "best",
        }

    monkeypatch.setattr(policy, "evaluate", recorded("run"))
    monkeypatch.setattr(sweep_results, "evaluate_sweep", recorded("sweep"))
    monkeypatch.setattr(sweep_results, "evaluate_member", recorded("member"))
    found = lambda *words: json.loads(said("evaluate", tmp_path, *words))
    folder = str(tmp_path)
    run = {"was": "run", "given": [folder, "100", "0"], "checkpoint": "last"}
    assert found() == run
    assert found("--checkpoint", "best") == run | {"checkpoint": "best"}
    assert found("--member", 0, "--seed", 3)["given"] == [folder, "100", "3", "0"]
    (tmp_path / "sweep.json").write_text("{}")
    assert found("--episodes", 7) == run | {"was": "sweep", "given": [folder, "7", "0"]}
    assert found("--member", 2)["was"] == "member"


def test_files_are_called_after_the_member(monkeypatch, tmp_path):
    monkeypatch.setattr(sweep_results, "locate_member", lambda run, member: (run / "part", member))
    monkeypatch.setattr(export, "export", lambda *arguments: repr(arguments))
    monkeypatch.setattr(render, "render", lambda *given: repr((*given[:6], given[7])))
    part = tmp_path / "part"
    for words, member, name in (
        ((), None, tmp_path / "policy.stablehlo"),
        (("--member", 0), 0, tmp_path / "policy-0.stablehlo"),
        (("--member", 3, "--out", "x"), 3, Path("x")),
    ):
        for form, checkpoint in ((None, "last"), ("npz", "best")):
            more = () if form is None else ("--format", form, "--checkpoint", checkpoint)
            path = name.with_suffix(".npz") if form and "--out" not in words else name
            wanted = repr((part, path, member, form, checkpoint))
            assert said("export", tmp_path, *words, *more) == wanted
    for words, member, name, more in (
        ((), None, tmp_path / "episode", (None, 0, None)),
        (("--member", 2, "--steps", 5, "--seed", 6), 2, tmp_path / "episode-2", (5, 6, None)),
        (("--format", "mp4", "--out", "y"), None, Path("y"), (None, 0, "mp4")),
    ):
        steps, seed, form = more
        for checkpoint in ("last", "best"):
            wanted = repr((part, name, steps, seed, member, form, checkpoint))
            assert said("render", tmp_path, *words, "--checkpoint", checkpoint) == wanted


def test_plot_is_of_all_runs_of_all_folders(monkeypatch, tmp_path):
    runs, read = {"a": ["a0", "a1"], "b": ["b"]}, []
    monkeypatch.setattr(sweep_results, "runs_in", lambda folder: runs[folder.name])
    monkeypatch.setattr(plots, "plot", lambda found, out, over: f"{found} {out} {over}")
    monkeypatch.setattr(report, "report", lambda found, out: f"{found} {out}")
    from ddpg_jax.runs.config import stored

    monkeypatch.setattr(stored, "load_config", read.append)
    assert said("plot", tmp_path / "a", tmp_path / "b") == "['a0', 'a1', 'b'] curves.png steps"
    assert read == ["a0", "a1", "b"]
    assert said("report", tmp_path / "a", tmp_path / "b") == "['a0', 'a1', 'b'] report.html"
    assert read == 2 * ["a0", "a1", "b"]
    assert said("plot", tmp_path / "b", "--out", "c.svg", "--over", "time") == "['b'] c.svg time"
    assert said("report", tmp_path / "b", "--out", "c.html") == "['b'] c.html"


@pytest.mark.parametrize(("findings", "refused"), [([], False), (["odd."], False), ([], True)])
def test_check_plays_two_episodes_and_a_few_steps_and_tries_to_train(
    monkeypatch, findings, refused
):
    played, weighed, closed = [], [], []

    def built(config):
        if refused:
            raise ValueError("no vector")
        opened = types.SimpleNamespace(close=lambda: closed.append(config.env_options))
        return types.SimpleNamespace(opened=opened, note="A note.")

    def looked(env, steps):
        played.append((env.num_envs, steps))
        return [*findings]

    monkeypatch.setattr(envs, "check", looked)
    monkeypatch.setattr(build, "build", built)
    monkeypatch.setattr(memory, "require_playable", lambda env, steps: weighed.append(steps))
    bad = bool(findings or refused)
    text = said("check", "pendulum", "--time-limit", 12, code=int(bad))
    lines = [*findings, *["`ddpg-jax train pendulum` refuses it: no vector"] * refused]
    assert text.split("\n") == [*(lines or ["no findings"]), *["A note."] * (not refused)]
    said("check", "pendulum", "--num-envs", 2, "--steps", 5, code=int(bad))
    assert played == [(4, 34), (2, 5)]
    assert weighed == [34, 5]
    assert closed == [{"time_limit": 12}, {}] * (not refused)


def test_lists_of_environments_and_presets():
    listed = said("envs").split("\n")
    assert listed[:7] == ["pendulum", "reach", "push", "lane", *envs.FAMILIES]
    assert listed[:4] + listed[7:] == envs.names()
    text = said("presets")
    told = dict(part.split("\n", 1) for part in text.split("\n\n"))
    assert list(told) == list(PRESETS)
    own = " Tasks with hyper-parameters that replace these: pendulum, lane, "
    assert own in told["default"]
    for name in ("pendulum-lecture", "fast-td3"):
        assert "Tasks with" not in told[name]
    assert said("--version").endswith(ddpg_jax.__version__)
    assert said("-h").startswith("Usage:")


def test_modules_of_the_folder_are_found_once(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for before, after in (([], [str(tmp_path)]), ([str(tmp_path)], [str(tmp_path)]), ([""], [""])):
        monkeypatch.setattr(commands.sys, "path", [*before, "x"])
        said("envs")
        assert commands.sys.path in ([*after, "x"], ["x", *after])


def test_what_is_under_way_is_told_on_standard_error(monkeypatch):
    phases = []
    shown = types.SimpleNamespace(phase=phases.append)
    from ddpg_jax.runs.console import status

    monkeypatch.setattr(status, "Status", lambda: contextlib.nullcontext(shown))
    with run_commands.telling("starting") as tell:
        tell("playing")
    assert phases == ["starting", "playing"]
