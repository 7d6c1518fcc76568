"""Checks at the border: which numbers, shapes and names pass, and what is said of the others."""

import json
import math
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddpg_jax import checks


def told(check, *given, **values):
    """What a check says of values; None where they pass."""
    try:
        check(*given, **values)
    except ValueError as error:
        return str(error)
    return None


def refuses(check, *given, said=None, **values):
    """Whether a check refuses values, in this sentence."""
    text = told(check, *given, **values)
    return text is not None and said in (None, text)


@pytest.mark.parametrize(
    ("check", "passes", "refused", "allowed"),
    [
        (checks.positive, (1e-300, 1, [1, 2]), (0, -1, [1, 0], np.nan), "greater than 0"),
        (checks.finite, (0, -1e308, [1, 2]), (np.inf, -np.inf, [0, np.nan]), "a finite number"),
        (checks.at_least_zero, (0, 1e308, [0, 2]), (-1e-300, [1, -1], np.nan), "at least 0"),
        (checks.at_least_zero, (), (np.inf,), "a finite number"),
    ],
)
def test_numbers_and_arrays(check, passes, refused, allowed):
    for value in passes:
        assert not refuses(check, x=value)
        assert not refuses(check, x=np.asarray(value))
    for value in (*refused, "1", None, [[1], [1, 2]]):
        text = repr(value) if isinstance(value, str) else value
        known = allowed if value in refused else None
        assert refuses(check, said=known and f"x={text}: must be {known}.", x=value), value
    assert refuses(check, y=1, x=-math.inf)


def test_ends_of_a_range_belong_to_it():
    assert [refuses(checks.between, 1, 3, x=x) for x in (0.99, 1, 2, 3, 3.01)] == [1, 0, 0, 0, 1]
    assert refuses(checks.between, 1, 3, x=[2, 4], said="x=[2, 4]: must be between 1 and 3.")
    assert refuses(checks.between, 1, x=0, said="x=0: must be at least 1.")
    assert not refuses(checks.between, 1, x=math.inf)
    assert refuses(checks.between, 1, 3, x=2, y=math.nan, said="y=nan: must be between 1 and 3.")
    assert [refuses(checks.whole, 1, 3, x=x) for x in (0, 1, 3, 4)] == [1, 0, 0, 1]
    for value in (1.0, True, "2", None, np.array([2]), [2]):
        assert refuses(checks.whole, 1, 3, x=value), value
    assert refuses(checks.whole, 1, x=1.5, said="x=1.5: must be a whole number, at least 1.")
    assert refuses(
        checks.whole, 1, 3, x="a", said="x='a': must be a whole number, between 1 and 3."
    )
    assert not refuses(checks.whole, 1, x=np.uint8(3))
    assert [refuses(checks.switch, x=x) for x in (True, False, np.True_, 1, None)] == [
        0,
        0,
        0,
        1,
        1,
    ]


@pytest.mark.parametrize(
    ("low", "high", "equal", "refused"),
    [
        (1, 2, False, None),
        (1, 1, False, "a=1, b=1: a must be less than b."),
        (2, 1, False, "a=2, b=1: a must be less than b."),
        (1, 1, True, None),
        (2, 1, True, "a=2, b=1: a must not be greater than b."),
        (-math.inf, 1, True, "a=-inf: must be a finite number."),
        (1, math.inf, False, "b=inf: must be a finite number."),
        (math.nan, 1, False, "a=nan, b=1: a must be less than b."),
        (np.array([0, 3]), np.array([1, 2]), False, "a=[0 3], b=[1 2]: a must be less than b."),
        (len, 1, False, None),
        (3, len, False, None),
    ],
)
def test_two_numbers_that_rise(low, high, equal, refused):
    assert refuses(checks.below, equal, a=low, b=high, said=refused) == bool(refused)


def test_what_is_traced_or_a_schedule_passes():
    def traced(x):
        assert not checks.is_known(x)
        assert not checks.is_zero(x)
        checks.positive(x=x)
        checks.below(a=x, b=0.0)
        checks.below(a=1.0, b=x)
        return x

    jax.jit(traced)(0.0)
    assert not checks.is_known(lambda step: 0.0)
    assert checks.is_known(jnp.float32(1))
    assert [checks.is_zero(x) for x in (0, 0.0, np.zeros(2), 1e-9, [0, 1], len)] == [
        *(True, True, True),
        *(False, False, False),
    ]


def shape(*sides, dtype=np.uint8):
    return jax.ShapeDtypeStruct(sides, dtype)


def test_images_are_bytes_of_three_axes():
    images = [shape(4, 4, 3), shape(2, 4, 4, 3), shape(4, 4), shape(4, 4, 3, dtype=np.int8)]
    assert [checks.is_image(x) for x in images] == [True, True, False, False]
    first = [shape(3, 8, 9), shape(5, 3, 9, 8), shape(8, 8, 3), shape(8, 9, 8), shape(8, 8, 8)]
    assert [checks.channels_first(x) for x in first] == [True, True, False, False, False]
    assert not checks.channels_first(shape(3, 8, 9, dtype=np.float32))


@pytest.mark.parametrize(
    ("observation", "leading", "alone", "said"),
    [
        (shape(4, 4, 3), 0, True, None),
        ((shape(2, 4, 4, 3), shape(2, 5, dtype=np.float32)), 1, True, None),
        (shape(4, 4, 3, dtype=np.float32), 0, True, r"float32\[4, 4, 3\] is neither an image nor"),
        (shape(2, 4, 4, 3, dtype=np.int8), 1, False, r"int8\[4, 4, 3\] is neither an image nor"),
        (shape(2, 4, 3), 1, True, "no leaf of the observation is an image"),
        (shape(4, 3, dtype=np.float32), 0, True, "no leaf of the observation is an image"),
        (shape(2, 4, 3, dtype=np.float32), 1, False, None),
        ((shape(9), shape(4, 4, 3)), 0, True, None),
    ],
)
def test_an_observation_has_an_image(observation, leading, alone, said):
    look = lambda: checks.require_image("it", observation, leading=leading, alone=alone)
    if said is None:
        look()
    else:
        with pytest.raises(ValueError, match=f"^it: {said}"):
            look()


def test_the_nearest_name_whatever_its_letters():
    known = ["Pendulum", "Hopper"]
    text = lambda *given: str(checks.nearest("environment", *given))
    assert text("pendulun", known, "See the list.") == (
        "unknown environment 'pendulun': did you mean 'Pendulum'? See the list."
    )
    assert text("qqq", known, "See the list.", "a/") == "unknown environment 'a/qqq': See the list."
    assert text("hop", known, "", "a/") == "unknown environment 'a/hop': did you mean 'a/Hopper'? "
    error = checks.nearest("preset", "x", known, "", "a/")
    assert (error.kind, error.name) == ("preset", "a/x")


def test_the_first_line_of_an_error():
    assert checks.first_line(ValueError("\n one \n two")) == "one "
    assert checks.first_line(ValueError(" ")) == "ValueError"
    assert checks.first_line(KeyError()) == "KeyError"
    assert checks.first_line(ValueError("x" * 200)) == "x" * 120


def raising(error):
    raise error  # the line that is named


def test_what_an_environment_raises_names_its_own_line(monkeypatch):
    """Not one of a library that it calls, nor of ours; relative to where one works."""
    lines = Path(__file__).read_text().splitlines()
    line = lines.index("    raise error  # the line that is named") + 1
    monkeypatch.chdir(Path(__file__).parent)
    call = checks.guarded("mine", "step", raising)
    with pytest.raises(checks.BrokenEnvironment) as raised:
        call(KeyError())
    assert str(raised.value) == f"mine: step raised KeyError (test_checks.py, line {line})"
    assert isinstance(raised.value.__cause__, KeyError)
    with pytest.raises(checks.BrokenEnvironment, match=r"raised ValueError: no \("):
        call(ValueError("no\nmore"))
    known = checks.BrokenEnvironment("said")
    with pytest.raises(checks.BrokenEnvironment, match=r"^said$") as raised:
        call(known)
    assert raised.value is known
    inside = checks.guarded("mine", "step", lambda text: json.loads(text))
    with pytest.raises(checks.BrokenEnvironment) as raised:
        inside("{")
    line = next(i for i, text in enumerate(lines, 1) if "json.loads(text)" in text)
    assert str(raised.value).endswith(f"(test_checks.py, line {line})")
    sums = checks.guarded("mine", "step", lambda x: jnp.zeros(2) + jnp.zeros(x))
    with pytest.raises(checks.BrokenEnvironment, match=r"\(test_checks\.py, line \d+\)$"):
        sums(3)


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        (lambda x: 1 if x > 0 else 2, "jnp.where or jax.lax.select"),
        (lambda x: range(x.astype(int)), "jax.lax.fori_loop"),
        (lambda x: np.asarray(x), "jax.numpy in place of NumPy"),
        (lambda x: jnp.zeros(2)[jnp.stack([x, x]) > 0], "jnp.where in place of an index by a mask"),
        (lambda x: float(x), "arrays and x.astype in place of float()"),
    ],
)
def test_code_that_needs_a_value_while_it_is_traced_is_told_what_to_use(code, remedy):
    with pytest.raises(checks.BrokenEnvironment, match=re.escape(f"step: use {remedy}")):
        jax.jit(checks.guarded("mine", "step", code))(1.0)


def test_the_place_of_a_function():
    line = raising.__code__.co_firstlineno
    found = checks.place_of(raising)
    assert found.endswith(f"test_checks.py, line {line})")
    assert found.startswith(" (")
    assert checks.place_of(len) == ""
    assert checks.place_of(jax.jit(raising)) == found
