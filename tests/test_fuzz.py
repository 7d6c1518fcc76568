"""A short run of generated command lines; the long one is ``python tests/fuzz_cli.py``."""

import fuzz_cli
import pytest
from click.testing import CliRunner

from ddpg_jax.runs.cli import commands


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("fuzz")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(made)
        fuzz_cli.prepare(made)
    return made


def test_a_few_lines(folder, monkeypatch):
    monkeypatch.chdir(folder)
    failures = fuzz_cli.fuzz(40, 0, folder)
    assert not failures, failures


@pytest.mark.parametrize(
    ("found", "complaint"),
    [
        ((1, "", "Error: x\n"), "exit code 1"),
        ((2, "", "a\nb\nc\n"), "3 lines of error"),
        ((2, "", ""), "0 lines of error"),
        ((2, "Traceback (most recent call last)", "Error: x\n"), "a traceback"),
        ((2, "", "Error: this is a bug in ddpg_jax"), "an error that nobody expected"),
    ],
)
def test_it_complains(folder, found, complaint):
    assert fuzz_cli.wrong(["train"], set(folder.rglob("*")), folder, found) == [complaint]
    assert fuzz_cli.wrong(["train"], set(folder.rglob("*")), folder, (2, "", "Error: x\n")) == []


def test_it_complains_of_what_is_left(folder):
    assert fuzz_cli.wrong(["train"], set(), folder, (2, "", "Error: x\n"))[0].startswith("left ")


def test_the_same_seed_draws_the_same_lines():
    one, other = (
        [lines.draw() for _ in range(50)] for lines in (fuzz_cli.Lines(3), fuzz_cli.Lines(3))
    )
    assert one == other
    assert len({line[0] for line in one if line}) > 5


@pytest.mark.parametrize(
    ("env", "words"),
    [
        ("fuzz_environments:scalar", ["a scalar", "map_observation"]),
        ("fuzz_environments:image", ["an observation of shape (8, 8, 3)", "--preset drq-v2"]),
        ("fuzz_environments:empty", ["fuzz_environments:empty"]),
        ("fuzz_environments:without_action", ["fuzz_environments:without_action", "action"]),
        (
            "gymnasium/fuzz_environments:FuzzDict-v0",
            ["a dict of a (2,), b ()", "FlattenObservation"],
        ),
        ("gymnasium/fuzz_environments:FuzzImage-v0", ["shape (4, 4, 3)", "--preset drq-v2"]),
        ("gymnasium/fuzz_environments:FuzzDiscrete-v0", ["a scalar", "FlattenObservation"]),
        ("gymnasium/fuzz_environments:FuzzScalar-v0", ["a scalar", "FlattenObservation"]),
    ],
)
def test_what_the_networks_do_not_take(env, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(commands.main, ["train", env, "--run-dir", "run"])
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert all(word in line for word in words), line
    assert "Traceback" not in result.output


BYTES = (
    r"this needs [\d,.]+ .B, [\d,.]+ .?B of it for {}, "
    r"but [\d,.]+ .B are available on the cpu: lower {}"
)


@pytest.mark.parametrize(
    ("options", "what", "lower"),
    [
        ("--hidden 100000,100000", "(networks and their targets|optimisers)", "--hidden"),
        ("--replay-capacity 1000000000 --batch-size 4", r"the replay .*", "--replay-capacity"),
        (
            "--num-envs 1000000000 --replay-capacity 1000000000 --total-timesteps 1e14 "
            "--batch-size 4",
            ".*",
            ".*",
        ),
        (
            "--steps-per-chunk 1900000000 --total-timesteps 2000000000",
            "random keys of a chunk",
            "--steps-per-chunk",
        ),
        (
            "--updates-per-step 2000000000 --total-timesteps 1001 --steps-per-chunk 1",
            "random keys of a .*",
            ".*",
        ),
        (
            "--learning-starts 2000000000 --total-timesteps 2100000000",
            "random keys of the warm-up",
            "--learning-starts",
        ),
        ("--batch-size 1000000000 --replay-capacity 1000000000", ".*", ".*"),
        ("--seeds 1000000", ".*", ".*--seeds"),
        (
            "--evaluation-episodes 1000000 --seeds 1000 --hidden 2 --batch-size 2 "
            "--replay-capacity 2",
            ".*evaluation",
            "--evaluation",
        ),
    ],
)
def test_sizes_beyond_the_machine(options, what, lower, tmp_path, monkeypatch):
    import re

    from ddpg_jax.runs.programs import memory
    from ddpg_jax.runs.training import loop

    monkeypatch.setattr(memory, "_host_bytes", lambda: 10**9)
    monkeypatch.setattr(loop, "compile_programs", lambda *arguments: pytest.fail("it was compiled"))
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(commands.main, ["train", *options.split()])
    assert result.exit_code == 2
    assert re.search(BYTES.format(what, lower), result.stderr), result.stderr
