"""The space of a sweep: what is given for a hyper-parameter, what lies in a range, and draws."""

import numpy as np
import pytest

from ddpg_jax.runs.sweeps import search_space


@pytest.mark.parametrize(
    ("given", "kind", "found"),
    [
        ("1e-4,1e-3", float, [1e-4, 1e-3]),
        ((1, 2.5), float, [1.0, 2.5]),
        (0.5, float, [0.5]),
        ("64,128", int, [64, 128]),
        ("true, False", bool, [True, False]),
        ("64x64,256x256", tuple, [(64, 64), (256, 256)]),
        ("log:1e-4:1e-2:3", float, [1e-4, 1e-3, 1e-2]),
        ("uniform:0:1:3", float, [0.0, 0.5, 1.0]),
        ("uniform:1:3:9", int, [1, 2, 3]),
        ("log:1e-4:1e-2", float, search_space.SearchRange(1e-4, 1e-2, True, False)),
        ("uniform:1:4", int, search_space.SearchRange(1, 4, False, True)),
    ],
)
def test_what_a_number_goes_through(given, kind, found):
    made = search_space.parse_values("tau", given, kind)
    if isinstance(found, search_space.SearchRange):
        assert made == found
    elif kind is float:
        np.testing.assert_allclose(made, found, rtol=1e-12)
    else:
        assert made == found


def test_both_ends_of_a_range_are_drawn_and_nothing_beyond():
    whole = search_space.SearchRange(2, 5, log=False, whole=True)
    assert [whole.at(place) for place in (0.0, 0.24, 0.26, 0.74, 0.76, 1.0)] == [2, 2, 3, 4, 5, 5]
    odd = search_space.SearchRange(1, 3, log=True, whole=True)  # 3.5 would be rounded to 4
    assert [odd.at(place) for place in (0.0, 1.0)] == [1, 3]
    real = search_space.SearchRange(0.1, 10.0, log=True, whole=False)
    np.testing.assert_allclose([real.at(place) for place in (0, 0.5, 1)], [0.1, 1.0, 10.0])
    assert real.at(1.0) <= 10.0


def test_each_place_in_a_range_is_a_value_of_its_own():
    """A quarter of the way by value, by its logarithm, and of integers by halves beyond the ends:
    1.5 to 8.5, and 0.5 to 3.5."""
    places = np.array([0.0, 0.25, 0.6, 1.0])
    each = lambda *given: [search_space.SearchRange(*given).at(place) for place in places]
    np.testing.assert_allclose(each(0.2, 0.8, False, False), [0.2, 0.35, 0.56, 0.8])
    np.testing.assert_allclose(each(-3.0, 5.0, False, False), [-3.0, -1.0, 1.8, 5.0])
    np.testing.assert_allclose(each(0.02, 200.0, True, False), 0.02 * 1e4**places)
    assert each(2, 8, False, True) == [2, 3, 6, 8]
    assert each(1, 3, True, True) == [1, 1, 2, 3]
    assert search_space.SearchRange(0.2, 0.8, False, False).spaced(4) == pytest.approx(
        [0.2, 0.4, 0.6, 0.8]
    )
    assert search_space.SearchRange(2, 8, False, True).spaced(4) == [2, 4, 6, 8]


def test_a_draw_is_made_once_and_never_twice():
    """Of every value of a list the same ones, so that neither hides the other's effect."""
    spaces = {"tau": search_space.parse_values("tau", "0.1,0.2", float)}
    spaces["n_step"] = search_space.parse_values("n_step", "uniform:1:4", int)
    made = search_space.make_settings(spaces, 4, seed=0)
    assert [each["tau"] for each in made] == [0.1] * 4 + [0.2] * 4
    assert [each["n_step"] for each in made[:4]] == [each["n_step"] for each in made[4:]]
    assert {each["n_step"] for each in made} == {1, 2, 3, 4}
    with pytest.raises(ValueError, match="draws=5: the ranges of n_step do not have so many"):
        search_space.make_settings(spaces, 5, seed=0)
    wide = {"tau": search_space.parse_values("tau", "log:1.2e-38:3e38", float)}
    drawn = [each["tau"] for each in search_space.make_settings(wide, 50, seed=0)]
    assert len(set(map(np.float32, drawn))) == 50
    assert np.isfinite(np.float32(drawn)).all()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("log:1e-300:1e38", "a=1e-300: float32, in which members train, has no number between"),
        ("1e-50,1", "a=1e-50: float32"),
        ("0.1,0.1000000001", "is another's in float32"),
        ("uniform:1:1.00000001", "is another's in float32"),
        ("uniform:1:1.0000003:9", "is another's in float32"),
    ],
)
def test_values_that_float32_does_not_tell_apart_are_one_setting(given, message):
    with pytest.raises(ValueError, match=message):
        search_space.parse_values("a", given, float)


def test_a_float_is_trained_as_float32_and_as_zero_below_its_least_normal_one():
    assert search_space.as_trained(2.0**-126) == 2.0**-126
    assert search_space.as_trained(-(2.0**-125)) == -(2.0**-125)
    assert search_space.as_trained(1.1e-38) == search_space.as_trained(-1e-40) == 0
    assert search_space.as_trained(0.1) == 0.10000000149011612
    assert search_space.as_trained(2**30 + 1) == 2**30 + 1
    assert search_space.as_trained((8, 8)) == (8, 8)
    assert search_space.parse_values("a", "0,1", float) == [0.0, 1.0], "0 is no number too small"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("uniform:1:1", "a='uniform:1:1': the first end must be less than the second"),
        ("log:-1:1", "the first end, above 0, must be less"),
        ("log:0:1", "the first end, above 0, must be less"),
        ("uniform:1", "a='uniform:1': give values"),
        ("uniform:1:2:3:4", "a='uniform:1:2:3:4': give values"),
        ("uniform:1:2:100001", "a's count=100001: must be between 2 and 100000"),
    ],
)
def test_a_range_has_two_ends_in_order_and_may_have_a_count(given, message):
    with pytest.raises(ValueError, match=message):
        search_space.parse_values("a", given, float)
    assert search_space.parse_values("a", "uniform:-2:-1:2", float) == [-2, -1]


def test_ranges_are_drawn_together_as_often_as_they_have_pairs():
    space = lambda text: search_space.parse_values("a", text, int)
    spaces = {"a": space("uniform:1:2"), "c": [5], "b": space("uniform:4:6")}
    made = search_space.make_settings(spaces, 6, seed=3)
    assert {tuple(each.items()) for each in made} == {
        (("a", a), ("c", 5), ("b", b)) for a in (1, 2) for b in (4, 5, 6)
    }
    with pytest.raises(ValueError, match="draws=7: the ranges of a, b do not have so many"):
        search_space.make_settings(spaces, 7, seed=3)
    with pytest.raises(ValueError, match="draws=0: must be between 1 and 100000"):
        search_space.make_settings(spaces, 0, seed=3)
    most = {"a": list(range(400)), "b": list(range(250))}
    assert len(search_space.make_settings(most, None, 0)) == 100_000
    with pytest.raises(ValueError, match="100,250 settings: a sweep has at most 100,000"):
        search_space.make_settings(most | {"a": list(range(401))}, None, 0)
    with pytest.raises(ValueError, match="200,000 settings"):
        search_space.make_settings(most | {"c": space("uniform:1:9")}, 2, 0)
