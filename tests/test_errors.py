"""An error of a command is one sentence and an exit code; flags and what their help says."""

import errno
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from ddpg_jax.runs.cli import errors, flags, jax_setup
from ddpg_jax.runs.cli.commands import main
from ddpg_jax.runs.console.signals import Interrupted
from ddpg_jax.runs.options.field import Option
from ddpg_jax.runs.options.validation import RunError


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (OSError(errno.ENOSPC, "No space left", "a/b"), "a/b: no space left."),
        (OSError(errno.ENOSPC, "No space left"), "no space left."),
        (OSError("odd"), "odd"),
        (MemoryError("of 3 GB"), "out of memory (of 3 GB): lower --num-envs, --batch-size"),
        (RuntimeError("RESOURCE_EXHAUSTED: x\ny"), "out of memory (RESOURCE_EXHAUSTED: x): lower"),
        (ValueError("tau=2: must be less."), "tau=2: must be less."),
        (RunError("in use"), "in use"),
        (ImportError("install it"), "install it"),
        (ValueError(" "), "this is a bug in ddpg_jax or one of its dependencies: ValueError: "),
        (KeyError("x"), "this is a bug in ddpg_jax or one of its dependencies: KeyError: 'x'; run"),
    ],
)
def test_an_error_as_a_sentence(error, sentence):
    assert errors.error_sentence(error).startswith(sentence)


def test_a_sentence_that_is_too_long_is_cut_in_its_middle():
    words = " ".join(str(i) for i in range(300))
    assert len(words) > 1_000
    assert errors._short(f"  a\n b\t{'c' * 996}") == f"a b {'c' * 996}"
    cut = errors._short(words)
    assert cut.startswith("0 1 2")
    assert cut.endswith(" 298 299")
    begin, end = cut.split(" ... ")
    assert (len(begin), len(end)) == (666, 334)


def commands(raised):
    @click.group(cls=errors.CommandGroup)
    def group():
        """Of a test."""

    @group.command()
    @click.argument("env", default="pendulum")
    @click.option("--num-envs", type=int)
    def train(env, num_envs):
        raise raised

    return group


@pytest.mark.parametrize(
    ("raised", "code", "said"),
    [
        (ValueError("no"), 2, "Error: no"),
        (click.UsageError("a\n b"), 2, "Error: a b"),
        (Interrupted("stopped by SIGTERM", 15), 143, "stopped by SIGTERM"),
        (KeyboardInterrupt(), 130, ""),
        (click.exceptions.Exit(3), 3, ""),
        (RuntimeError("odd"), 2, "Error: this is a bug in ddpg_jax"),
    ],
)
def test_a_command_ends_with_a_code(raised, code, said, monkeypatch):
    monkeypatch.delenv(errors.TRACEBACK, raising=False)
    call = lambda *words: CliRunner().invoke(commands(raised), ["train", *words])
    done = call()
    assert (done.exit_code, done.output.startswith(said)) == (code, True), done.output
    assert "Traceback" not in done.output
    failed = code == 2 and not isinstance(raised, click.UsageError)
    assert ("Traceback" in call("--traceback").output) == failed
    for value, shown in (("1", failed), ("0", False), ("", False)):
        monkeypatch.setenv(errors.TRACEBACK, value)
        assert ("Traceback" in call().output) == shown, value


def test_a_traceback_is_shown_of_words_that_come_first_too():
    @click.group(cls=errors.CommandGroup)
    def group():
        """Of a test."""

    @group.command()
    @click.option("--odd", callback=lambda context, option, value: {}[value])
    def train(odd):
        raise AssertionError(odd)

    done = CliRunner().invoke(group, ["train", "--odd", "x", "--traceback"])
    assert "Traceback" in done.output
    assert "Traceback" not in CliRunner().invoke(group, ["train", "--odd", "x"]).output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            "train --env pendulum",
            "The environment is an argument, for example: ddpg-jax train pend",
        ),
        ("train --num_envs 3", "Did you mean '--num-envs'?"),
        ("train --num-env 3", "--num-envs"),
        ("train --qqq", "Error: No such option"),
        ("train a b", "unexpected extra argument"),
        ("fly", "No such command 'fly'"),
    ],
)
def test_words_that_no_command_knows(words, said):
    done = CliRunner().invoke(commands(ValueError("begun")), words.split())
    assert done.exit_code == 2
    assert said in " ".join(done.output.split())
    assert len(done.output.strip().splitlines()) == 1
    assert "Usage: group" in CliRunner().invoke(commands(ValueError()), []).output


@pytest.mark.parametrize(
    ("value", "unset", "text"),
    [
        (None, "the preset's", "the preset's"),
        ((), "none", "none"),
        ({}, "", ""),
        ("", "", ""),
        (True, "x", "yes"),
        (False, "x", ""),
        ((64, 32), "x", "64,32"),
        (0, "x", "0"),
        (0.5, "x", "0.5"),
    ],
)
def test_a_default_as_text(value, unset, text):
    assert flags.shown_default(value, Option("What it is.", "run", unset=unset)) == text


def test_a_path_may_begin_at_home(monkeypatch):
    monkeypatch.setenv("HOME", "/somewhere")
    path = flags.UserPath(file_okay=False)
    assert path.convert("~/runs", None, None) == Path("/somewhere/runs")
    assert path.convert("a", None, None) == Path("a")
    with pytest.raises(click.UsageError, match="~nobody-there/x: there is no such user"):
        path.convert("~nobody-there/x", None, None)
    with pytest.raises(click.BadParameter, match="is a file"):
        path.convert(__file__, None, None)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"choices": ("a", "b"), "low": 1}, "a | b"),
        ({"positive": True}, "> 0"),
        ({"positive": True, "high": 5}, "> 0, <= 5"),
        ({}, ""),
        ({"low": 1_000}, ">= 1,000"),
        ({"low": 0, "high": 1_000_000}, "0 to 1,000,000"),
        ({"low": 1, "high": 2**31 - 1}, ">= 1"),
        ({"low": 1, "high": 2**30 - 1}, ">= 1"),
        ({"low": 1, "high": 2**30 - 2}, "1 to 1,073,741,822"),
    ],
)
def test_a_range_as_text(options, text):
    assert Option("What it is.", "run", **options).range == text


@pytest.mark.parametrize(
    ("name", "kind", "default", "more", "record"),
    [
        ("seeds", int, 1, {"low": 1}, ("--seeds INTEGER", "What. [>= 1; default: 1]")),
        ("dry_run", bool, False, {}, ("--dry-run", "What.")),
        ("anneal", bool, True, {}, ("--anneal/--no-anneal", "What. [default: yes]")),
        ("anneal", bool, None, {"unset": "its"}, ("--anneal/--no-anneal", "What. [default: its]")),
        ("run_dir", Path, None, {"metavar": "DIR"}, ("--run-dir DIR", "What.")),
        ("hidden", tuple, (8, 9), {}, ("--hidden WIDTHS", "What. [default: 8,9]")),
        ("speed", float, 0.5, {"unit": "m/s"}, ("--speed FLOAT", "What. [m/s; default: 0.5]")),
    ],
)
def test_a_flag_and_its_help(name, kind, default, more, record):
    flag = flags.Flag(name, Option("What.", "run", kind=kind, default=default, **more))
    assert flag.record({}) == record
    assert flag.is_flag == (kind is bool)
    assert flag.name == name


def test_a_flag_shows_the_default_that_it_is_given_and_takes_values_many_times():
    flag = flags.Flag("words", Option("What.", "run", kind=tuple[str, ...], default=()))
    assert flag.multiple
    assert flag.record({"words": ("a",)}) == ("--words TEXT", "What. [default: a]")
    assert not flags.Flag("word", Option("What.", "run", kind=str, default="")).multiple
    made = [each.name for each in flags.flags({"env": flag.declared, "words": flag.declared})]
    assert made == ["words"]
    number = flags.OptionType(int)
    assert number.convert("1e5", flag, None) == 100_000
    with pytest.raises(click.UsageError, match="words='x': must be"):
        number.convert("x", flag, None)
    with pytest.raises(click.UsageError, match="integer='x': must be"):
        number.convert("x", None, None)
    assert flags.WholeNumber(0, 3).convert("3", flag, None) == 3
    with pytest.raises(click.BadParameter, match="4 is not in the range 0<=x<=3"):
        flags.WholeNumber(0, 3).convert("4", flag, None)


def help_of(*words):
    done = CliRunner(env={"COLUMNS": "200", "TERMINAL_WIDTH": "200"}).invoke(
        main, ["train", *words]
    )
    return done.exit_code, " ".join(done.output.split())


def test_help_shows_common_options_all_of_them_or_a_group_with_the_defaults_of_the_task():
    code, text = help_of("--help")
    assert code == 0
    assert "--help-all, or --help-group GROUP of: run, " in text
    assert "--total-timesteps" in text
    assert "--tau FLOAT" not in text
    code, text = help_of("--help-all")
    assert code == 0
    for flag in ("--total-timesteps", "--tau FLOAT", "--theta FLOAT", "Exploration:", "Run:"):
        assert flag in text
    assert "More options" not in text
    code, text = help_of("--help-group", "exploration")
    assert code == 0
    assert "Exploration:" in text
    assert "--stddev FLOAT" in text
    assert "--tau FLOAT" not in text
    code, text = help_of("--help-group", "none")
    assert (code, "--help-group none: choose " in text) == (2, True)
    envs = lambda *words: help_of(*words, "--help-all")[1].split("--num-envs INTEGER")[1][:90]
    assert "default: 1]" in envs()
    assert "default: 16]" in envs("lane")
    assert "default: 64]" in envs("lane", "--preset", "drive")
    hidden = help_of("--preset", "pendulum-lecture", "--help-all")[1].split("--hidden WIDTHS")[1]
    assert "default: 64,64]" in hidden[:120]


def test_a_cache_may_lie_deep_and_be_there_and_is_not_a_file(tmp_path):
    for _ in range(2):
        assert jax_setup._writable(tmp_path / "a" / "b")
    assert list((tmp_path / "a" / "b").iterdir()) == []
    (tmp_path / "file").write_text("mine")
    assert not jax_setup._writable(tmp_path / "file")
    assert not jax_setup._writable(tmp_path / "file" / "b")
