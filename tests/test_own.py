"""Code of a user's own environment that JAX cannot trace: the sentence names its line and what to
do, and there is nothing else."""

import sys

import pytest
from click.testing import CliRunner

from ddpg_jax import checks, envs
from ddpg_jax.runs.cli import commands

MODULE = """
import jax
import jax.numpy as jnp
import numpy as np
from ddpg_jax import envs

def positive(x):
    return bool(x > 0)  # bool

def make(num_envs, code, state="state", observation="state"):
    def step(state_, action, key):  # step
        state = state_ + 0.1 * action[0]
        CODE
        return STATE, OBSERVATION, -state[0] ** 2, jnp.bool_(False)
    reset = lambda key: (jnp.zeros(2), jnp.zeros(2))
    return envs.batch(envs.SingleEnvironment(reset, step, 1), num_envs, time_limit=5)

def starting(num_envs):
    def reset(key):
        x = jax.random.uniform(key, (2,))
        return (x, x) if x[0] > 0.5 else (-x, x)  # reset
    step = lambda state, action, key: (state, state, state[0], jnp.bool_(False))
    return envs.batch(envs.SingleEnvironment(reset, step, 1), num_envs, time_limit=5)
"""
INSIDE = "jnp.where or jax.lax.select in place of if, and, or"
VALUES = "arrays and x.astype in place of float(), int(), item()"


@pytest.fixture
def written(tmp_path, monkeypatch):
    """``written(code, ...)``: the environment's name, and ``line(mark)`` of its file."""

    def write(code="pass", state="state", observation="state"):
        text = MODULE.replace("CODE", code).replace("STATE", state)
        text = text.replace("OBSERVATION", observation)
        (tmp_path / "mine_traced.py").write_text(text)
        lines = text.splitlines()
        return lambda mark: 1 + next(i for i, line in enumerate(lines) if mark in line)

    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "mine_traced", raising=False)
    return write


def said(*words):
    done = CliRunner().invoke(commands.main, [str(word) for word in words])
    assert done.exit_code == 2, (done.output, done.exception)
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") == 1
    return done.stderr.strip().removeprefix("Error: ")


@pytest.mark.parametrize(
    ("code", "mark", "kind", "use"),
    [
        ("if state[0] > 1: state = state * 0", "if", "TracerBoolConversionError", INSIDE),
        ("while state[0] > 1: state = state * 0", "while", "TracerBoolConversionError", INSIDE),
        ("state = state * positive(state[0])", "# bool", "TracerBoolConversionError", INSIDE),
        ("x = float(state[0])", "float(state", "ConcretizationTypeError", VALUES),
        ("x = state[int(state[0])]", "int(state", "ConcretizationTypeError", VALUES),
        ("x = state[0].item()", "item()", "ConcretizationTypeError", VALUES),
        (
            "x = np.clip(np.asarray(state), 0, 1)",
            "np.asarray(state)",
            "TracerArrayConversionError",
            "jax.numpy in place of NumPy",
        ),
        (
            "for i in range(jnp.int32(state[0])): pass",
            "for i in",
            "TracerIntegerConversionError",
            "jax.lax.fori_loop or jnp in place of range, lists",
        ),
        (
            "x = state[state > 0]",
            "state > 0",
            "NonConcreteBooleanIndexError",
            "jnp.where in place of an index by a mask",
        ),
    ],
)
def test_what_needs_a_value_while_jax_traces_is_named_with_its_line(written, code, mark, kind, use):
    line = written(code)(mark)
    assert said("train", "mine_traced:make", "--env-option", "code=x") == (
        f"mine_traced:make: step raised {kind}: an array has no value while JAX traces step: use "
        f"{use} (mine_traced.py, line {line})"
    )


def test_in_reset_and_from_check_too(written):
    line = written()("# reset")
    sentence = said("train", "mine_traced:starting")
    assert f"use {INSIDE} (mine_traced.py, line {line})" in sentence
    line = written("assert state[0] < 1")("assert")
    sys.modules.pop("mine_traced", None)
    done = CliRunner().invoke(
        commands.main, ["check", "mine_traced:make", "--env-option", "code=x"]
    )
    assert done.exit_code == 1
    assert f"(mine_traced.py, line {line})" in done.output


def test_another_error_names_its_line(written):
    line = written("x = state.wrong")("wrong")
    sentence = said("train", "mine_traced:make", "--env-option", "code=x")
    assert sentence.endswith(f"no attribute wrong (mine_traced.py, line {line})")


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (
            {"state": "jnp.concatenate([state, state])"},
            "the state of step{place} is float32[4] where that of reset is float32[2]: they "
            "must be alike.",
        ),
        (
            {"state": "{'x': state}"},
            "the state of step{place} is ['x'] float32[2] where that of reset is float32[2]: "
            "they must be alike.",
        ),
        (
            {"state": "state.astype(jnp.int32)"},
            "the state of step{place} is int32[2] where that of reset is float32[2]: they must "
            "be alike.",
        ),
        (
            {"observation": "state[:1]"},
            "the observation of step{place} is float32[1] where that of reset is float32[2]: "
            "they must be alike.",
        ),
        (
            {"observation": "state, state[0]"},
            "step{place} returned 5 values where (state, observation, reward, terminated) is "
            "meant.",
        ),
    ],
)
def test_a_step_that_does_not_return_what_reset_does(written, given, text):
    line = written(**given)("# step")
    place = f" (mine_traced.py, line {line})"
    sentence = said("train", "mine_traced:make", "--env-option", "code=x")
    assert sentence == f"mine_traced:make: step raised ValueError: {text.format(place=place)}"


RESULTS = """
import jax.numpy as jnp
from ddpg_jax import envs

def reset(key):
    return RESET

def step(state, action, key):
    return state, state, REWARD, state[0] > 1

def make(num_envs, time_limit=5):
    single = envs.SingleEnvironment(reset, step, 1)
    return MADE
"""
PAIR, MADE = "jnp.zeros(3), jnp.zeros(3)", "envs.batch(single, num_envs, time_limit)"


@pytest.mark.parametrize(
    ("reset", "reward", "made", "text"),
    [
        (
            "jnp.zeros(3)",
            "state[0]",
            MADE,
            "mine_results:make: make raised ValueError: reset (mine_results.py, line 5) returned "
            "one array where (state, observation) is meant. (mine_results.py, line 13)",
        ),
        (
            f"{PAIR}, {{}}",
            "state[0]",
            MADE,
            "mine_results:make: make raised ValueError: reset (mine_results.py, line 5) returned "
            "3 values where (state, observation) is meant. (mine_results.py, line 13)",
        ),
        (
            PAIR,
            "state[0] > 1",
            MADE,
            "mine_results:make: step raised ValueError: the reward of step (mine_results.py, line "
            "8) is a bool where (state, observation, reward, terminated) is meant.",
        ),
        (
            PAIR,
            "state[0]",
            "single",
            "environment 'mine_results:make' returned one SingleEnvironment: return "
            "ddpg_jax.envs.batch(single, num_envs, time_limit), which makes num_envs of it.",
        ),
    ],
)
def test_what_reset_step_and_make_return(tmp_path, monkeypatch, reset, reward, made, text):
    source = RESULTS.replace("RESET", reset).replace("REWARD", reward).replace("MADE", made)
    (tmp_path / "mine_results.py").write_text(source)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "mine_results", raising=False)
    assert said("train", "mine_results:make", "--total-timesteps", "1100") == text
    assert "mine_results.py is there, give mine_results:<function>" in said("train", "mine_results")


def test_code_of_libraries_is_not_the_users():
    def calls():
        return envs.make("pendulum", 0)

    with pytest.raises(ValueError, match="num_envs=0") as found:
        calls()
    sentence = str(checks.broken("it", "make", found.value))
    line = calls.__code__.co_firstlineno + 1
    assert sentence.endswith(f"test_own.py, line {line})"), "where the library was called"
    assert checks.place_of(max) == ""
    assert checks.broken("it", "make", ValueError("no")).args == ("it: make raised ValueError: no",)
