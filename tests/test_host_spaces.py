"""What Gymnasium's spaces become: every number arrives as it was or is refused, and every action is
one of the bounds' own."""

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from ddpg_jax import envs
from ddpg_jax.checks import BrokenEnvironment
from ddpg_jax.envs.actions import scaled
from ddpg_jax.envs.spaces import shapes

ONE = spaces.Box(-1, 1, (1,))


class Shown(gymnasium.Env):
    """Shows what ``seen`` says, one thing after the other."""

    def __init__(self, space, seen, action_space=ONE):
        self.observation_space, self.action_space, self.seen = space, action_space, list(seen)

    def reset(self, *, seed=None, options=None):  # noqa: ARG002
        super().reset(seed=seed)
        self.number = 0
        return self.seen[0], {}

    def step(self, action):
        self.number, self.last = self.number + 1, action
        return self.seen[self.number % len(self.seen)], 0.0, False, False, {}


class Generic(SyncVectorEnv):
    """Not to be recognised as what it is."""


WAYS = {
    "copies": lambda make: envs.gymnasium.vector(
        SyncVectorEnv([make] * 2, autoreset_mode=AutoresetMode.SAME_STEP), 9
    ),
    "vector": lambda make: envs.gymnasium.vector(
        Generic([make] * 2, autoreset_mode=AutoresetMode.SAME_STEP), 9
    ),
    "next-step": lambda make: envs.gymnasium.vector(
        SyncVectorEnv([make] * 2, autoreset_mode=AutoresetMode.NEXT_STEP), 9
    ),
}
EACH_WAY = pytest.mark.parametrize("way", WAYS)


def shown(way, space, *seen):
    """The observations of a reset and as many steps as there are, of environment 0."""
    env = WAYS[way](lambda: Shown(space, seen))
    found = [env.reset(0), *(env.step(np.zeros((2, 1), np.float32)).observation for _ in seen[1:])]
    assert {x.dtype for x in found} == {env.observation.dtype}
    return [x[0] for x in found]


KEPT = [
    (np.bool_, 0, 1, [False, True], np.bool_),
    (np.int8, -128, 127, [-128, 127], np.int8),
    (np.uint8, 0, 255, [0, 255], np.uint8),
    (np.int16, -(2**15), 2**15 - 1, [-(2**15), 2**15 - 1], np.int16),
    (np.uint16, 0, 2**16 - 1, [0, 2**16 - 1], np.uint16),
    (np.int32, -(2**31), 2**31 - 1, [-(2**31), 2**31 - 1], np.int32),
    (np.uint32, 0, 2**32 - 1, [0, 2**32 - 1], np.uint32),
    (np.int64, -(2**31), 2**31 - 1, [-(2**31), 2**31 - 1], np.int32),
    (np.uint64, 0, 2**32 - 1, [0, 2**32 - 1], np.uint32),
    (np.float16, -np.inf, np.inf, [-65504, 0.5], np.float16),
    (np.float32, -np.inf, np.inf, [-3e38, 0.1], np.float32),
    (np.float64, -np.inf, np.inf, [-3e38, np.inf], np.float32),
    (np.longdouble, -np.inf, np.inf, [-3e38, np.nan], np.float32),
]


@EACH_WAY
@pytest.mark.parametrize(
    ("dtype", "low", "high", "values", "kept"), KEPT, ids=lambda x: getattr(x, "__name__", "")
)
def test_every_dtype_arrives_as_it_was(way, dtype, low, high, values, kept):
    seen = [np.array([value, 0], dtype) for value in values]
    found = shown(way, spaces.Box(low, high, (2,), dtype), *seen)
    assert found[0].dtype == kept
    np.testing.assert_array_equal(found, np.array(seen).astype(kept))


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (
            spaces.Box(-(2**40), 2**40, (2,), np.int64),
            "whole numbers beyond int32, which JAX would cut off: declare the bounds",
        ),
        (spaces.Box(-np.inf, np.inf, (2,), np.int64), "whole numbers beyond int32"),
        (spaces.Box(0, 2**32, (2,), np.uint64), "whole numbers beyond uint32"),
        (spaces.Discrete(3, start=2**31 - 2), "whole numbers beyond int32"),
        (spaces.MultiDiscrete([2, 2**33]), "whole numbers beyond int32"),
        (
            spaces.Box(np.array([-(2**40), 0]), np.array([5, 5]), dtype=np.int64),
            "whole numbers beyond int32",
        ),
        (
            spaces.Dict(deep=spaces.Dict(far=spaces.Discrete(2**31 + 1))),
            r"\['deep'\]\['far'\] .* whole numbers beyond int32",
        ),
        (spaces.Box(-1, 1, (0,)), r"has shape \(0,\), which holds no number"),
        (spaces.Box(-1, 1, (3, 0)), r"has shape \(3, 0\), which holds no number"),
        (spaces.Dict(), "a Dict needs at least one entry"),
        (
            spaces.Dict(empty=spaces.Dict()),
            r"\['empty'\] is Dict\(\): a Dict needs at least one entry",
        ),
        (spaces.Tuple((ONE, ONE)), "is no Box and no Dict of them: flatten it"),
        (spaces.Text(5), "is no Box and no Dict of them"),
        (spaces.Sequence(ONE), "is no Box and no Dict of them"),
        (spaces.Graph(ONE, None), "is no Box and no Dict of them"),
        (spaces.OneOf([ONE, ONE]), "is no Box and no Dict of them"),
        (None, "None is no Box and no Dict of them"),
    ],
    ids=str,
)
def test_spaces_that_cannot_be_shown_are_refused(space, message):
    with pytest.raises(ValueError, match=message):
        shapes(space)


def test_whole_numbers_at_the_edge_are_accepted():
    for space in (
        spaces.Discrete(2, start=2**31 - 2),
        spaces.MultiDiscrete([2, 2**31]),
        spaces.MultiBinary(3),
    ):
        assert shapes(space).dtype in (np.int32, np.int8)


REAL, WHOLE = spaces.Box(-np.inf, np.inf, (2,), np.float64), spaces.Box(-9, 9, (2,), np.int64)


@EACH_WAY
@pytest.mark.parametrize(
    ("space", "given", "message"),
    [
        (REAL, np.array([1e200, 0.0]), "with 1e.200 in it, beyond float32: scale it down"),
        (
            spaces.Box(-9, 9, (2,), np.int64),
            np.array([0, 2**33 + 5]),
            "with 8589934597 in it, beyond int32",
        ),
        (
            spaces.Box(0, 9, (2,), np.uint64),
            np.array([2**33, 0], np.uint64),
            "with 8589934592 in it, beyond uint32",
        ),
    ],
)
def test_numbers_beyond_what_fits_are_refused(way, space, given, message):
    with pytest.raises(BrokenEnvironment, match=message):
        shown(way, space, np.zeros(2, space.dtype), given)


@pytest.mark.parametrize(
    ("space", "given", "message"),
    [
        (REAL, np.array([1, 0]), r"an observation of int64\[2\] where float32\[2\] is declared"),
        (REAL, np.zeros(3), r"float64\[3\] where float32\[2\]"),
        (REAL, np.zeros((2, 1)), r"float64\[2, 1\] where float32\[2\]"),
        (REAL, 0.0, r"float64\[\] where float32\[2\]"),
        (REAL, np.zeros(2, complex), r"complex128\[2\] where float32\[2\]"),
        (REAL, None, "an observation of what is no array of numbers"),
        (REAL, [[1.0], [1.0, 2.0]], "an observation of what is no array of numbers"),
        (WHOLE, np.zeros(2), r"float64\[2\] where int32\[2\]"),
        (spaces.MultiBinary(2), np.zeros(2), r"float64\[2\] where int8\[2\]"),
        (spaces.Box(0, 1, (2,), bool), np.zeros(2, int), r"int64\[2\] where bool\[2\]"),
        (spaces.Dict(a=REAL), {"b": np.zeros(2)}, "an observation has no 'a', which its space has"),
        (spaces.Dict(a=REAL), np.zeros(2), "an observation has no 'a'"),
        (
            spaces.Dict(a=spaces.Dict(b=REAL)),
            {"a": {"b": np.zeros(1)}},
            r"an observation\['a'\]\['b'\] of float64\[1\]",
        ),
    ],
)
def test_observations_that_drift_are_refused(space, given, message):
    env = WAYS["copies"](lambda: Shown(space, [space.sample(), given]))
    env.reset(0)
    with pytest.raises(BrokenEnvironment, match=message):
        env.step(np.zeros((2, 1), np.float32))


def test_a_user_s_vector_environment_that_drifts_is_refused():
    """Bytes of one dtype would be read as those of another."""
    vector = Generic(
        [lambda: Shown(REAL, [np.zeros(2)])] * 2, autoreset_mode=AutoresetMode.SAME_STEP
    )
    step = vector.step
    vector.step = lambda action: (np.ones((2, 2), int), *step(action)[1:])
    env = envs.gymnasium.vector(vector)
    env.reset(0)
    with pytest.raises(
        BrokenEnvironment,
        match=r"an observation of int64\[2, 2\] where float32\[2, 2\] is declared",
    ):
        env.step(np.zeros((2, 1), np.float32))


def test_numbers_of_python_s_own_and_of_jax_arrive():
    assert shown("copies", REAL, [0.5, 1.0], jnp.array([2.0, 3.0]))[1].tolist() == [2.0, 3.0]
    assert shown("copies", spaces.Discrete(7), 3, np.int64(5)) == [3, 5]
    assert shown("copies", spaces.MultiBinary(2), np.array([True, False]))[0].tolist() == [1, 0]


# Actions


def taken(space, *values):
    """What an environment is given for actions of which each number is one of ``values``; all ways
    agree."""
    actions, given = (
        scaled(space),
        np.repeat(np.array(values, np.float32)[:, None], space.shape[0], 1),
    )
    executed = actions.executed(given)
    assert executed.dtype == space.dtype
    assert all(space.contains(row) for row in executed)
    np.testing.assert_allclose(jax.jit(actions.native)(given), executed, rtol=1e-6)
    native = actions.native(jnp.asarray(given[0]))
    assert native.shape == space.shape
    assert native.dtype.kind == executed.dtype.kind
    return executed[:, 0].tolist()


def test_whole_numbers_have_equal_shares():
    space = spaces.Box(0, 10, (2,), np.int64)
    # The middles of eleven shares of [-1, 1], each 2 / 11 wide.
    assert taken(space, *(-1 + (2 * k + 1) / 11 for k in range(11))) == list(range(11))
    assert taken(space, -3, -1, 1, 3) == [0, 0, 10, 10]
    # 10 is met by 1/11 of all actions, not by +1 alone: from 9/11 = 0.818 on.
    assert taken(space, 0.8, 0.83) == [9, 10]
    counts = np.bincount(taken(space, *np.linspace(-0.9999, 0.9999, 1101)))
    assert counts.tolist() == pytest.approx([1101 / 11] * 11, abs=1)


@pytest.mark.parametrize(
    ("space", "values", "wanted"),
    [
        (spaces.Box(0, 1, (1,), bool), (-1, -0.01, 0.01, 1), [False, False, True, True]),
        (spaces.Box(0, 255, (1,), np.uint8), (-1, 0, 1), [0, 128, 255]),
        (
            spaces.Box(-3, 2, (1,), np.int8),
            (-1, -0.01, 0.01, 1),
            [-3, -1, 0, 2],
        ),  # six shares, of which three are below 0
        (spaces.Box(0, 3, (1,), np.uint64), (-1, -0.25, 0.25, 1), [0, 1, 2, 3]),
        (spaces.Box(-(2**24), 2**24, (1,), np.int64), (-1, 1), [-(2**24), 2**24]),
        (spaces.Box(5, 5, (1,), np.int32), (-1, 0, 1), [5, 5, 5]),
        (spaces.Box(2.5, 2.5, (1,)), (-1, 0, 1), [2.5, 2.5, 2.5]),
        (
            spaces.Box(np.float64(-0.1), 0.7, (1,), np.float64),
            (-1, 0, 1),
            pytest.approx([-0.1, 0.3, 0.7]),
        ),
        (spaces.Box(-1e38, 1e38, (1,), np.float64), (-1, 0, 1), [-1e38, 0, 1e38]),
        (spaces.Box(0, 8, (1,), np.float16), (-1, 0.5, 1), [0, 6, 8]),
    ],
    ids=str,
)
def test_bounds_are_met_and_kept(space, values, wanted):
    assert taken(space, *values) == wanted


def test_nan_does_not_reach_a_simulator():
    assert scaled(spaces.Box(0, 10, (1,))).executed(np.array([[np.nan]])).tolist() == [[5]]
    assert scaled(spaces.Box(0, 10, (1,), int)).executed(np.array([[np.nan]])).tolist() == [[5]]


def bounded(low, high, dtype=np.float32):
    """A box with bounds that its own constructor refuses."""
    box = spaces.Box(-1, 1, (1,), dtype)
    box.low, box.high = np.array([low], dtype), np.array([high], dtype)
    return box


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (spaces.Box(-1, 1, (0,)), r"has shape \(0,\): there is nothing to choose"),
        (spaces.Box(-1, 1, ()), r"has shape \(\): flatten it"),
        (spaces.Box(0, np.inf, (1,)), "has no bounds to scale to: wrap it"),
        (spaces.Box(-np.inf, 0, (1,)), "has no bounds to scale to"),
        (spaces.Box(np.float32([-1, -np.inf]), np.float32([1, 1])), "has no bounds to scale to"),
        (spaces.Box(-1e300, 1e300, (1,), np.float64), "has no bounds to scale to"),
        (bounded(1, -1), "has no bounds to scale to"),
        (bounded(np.nan, 1), "has no bounds to scale to"),
        (spaces.Box(0, 2**24 + 1, (1,), np.int64), r"or none within 2\*\*24"),
        (spaces.Box(-np.inf, np.inf, (1,), np.int64), r"or none within 2\*\*24"),
        (spaces.MultiBinary(2), "needs continuous actions"),
        (spaces.Dict(a=ONE), "needs continuous actions"),
        (None, "needs continuous actions"),
    ],
    ids=str,
)
def test_action_spaces_that_do_not_fit(space, message):
    with pytest.raises(ValueError, match=message):
        scaled(space)
