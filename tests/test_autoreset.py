"""The ends of episodes: true successors, fresh starts, termination apart from time limits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddpg_jax import rollout
from ddpg_jax.envs import Renderer, SingleEnvironment, batch
from ddpg_jax.envs.randomize import randomized
from ddpg_jax.types import Behaviour

LIMIT = 5


def counting(traces=None):
    """Observes which start the episode had and how many steps ago; terminates on a positive action,
    reward 10 count.

    Some leaves are weakly typed on purpose, as Brax's are.
    """

    def reset(key):
        state = {"start": jax.random.bits(key), "count": jnp.asarray(0)}
        return state, state

    def step(state, action, key):
        if traces is not None:
            traces.append(action.shape)
        state = {"start": state["start"], "count": state["count"] + 1}
        return state, state, 10 * state["count"], jnp.where(action[0] > 0, 1.0, 0.0)

    return SingleEnvironment(reset, step, action_size=1)


def play(env, actions, seed=0):
    """The first observation, and the time steps ``[T, E]`` as NumPy arrays."""

    def run(key, actions):
        reset_key, key = jax.random.split(key)
        state, observation = env.reset(reset_key)
        keys = jax.random.split(key, len(actions))
        final, steps = jax.lax.scan(lambda s, x: env.step(s, *x), state, (actions, keys))
        return observation, steps, final

    return jax.device_get(jax.jit(run)(jax.random.key(seed), jnp.asarray(actions, jnp.float32)))


def act(num_envs, steps, rate, seed=0):
    """Actions that terminate at random, ``rate`` of them."""
    random = np.random.default_rng(seed).uniform(size=(steps, num_envs, 1))
    return np.where(random < rate, 1.0, -1.0)


@pytest.mark.parametrize("fresh", [None, 1, 4])
def test_each_step_is_what_a_slow_reading_says(fresh):
    num_envs, length = 8, 200
    actions = act(num_envs, length, 0.2)
    first, steps, final = play(batch(counting(), num_envs, LIMIT, fresh_per_step=fresh), actions)
    seen = {"terminated": 0, "truncated": 0, "both": 0, "neither": 0}
    for e in range(num_envs):
        start, count = first["start"][e], first["count"][e]
        assert count == 0
        for t in range(length):
            count += 1  # what follows the action, at an end too
            assert steps.next_observation["start"][t, e] == start
            assert steps.next_observation["count"][t, e] == count
            assert steps.reward[t, e] == 10 * count
            fails, full = actions[t, e, 0] > 0, count == LIMIT
            assert steps.terminated[t, e] == fails
            assert steps.truncated[t, e] == (
                full and not fails
            )  # exactly at the limit, termination wins
            seen[
                "both"
                if fails and full
                else "terminated"
                if fails
                else "truncated"
                if full
                else "neither"
            ] += 1
            if fails or full:
                assert (
                    fresh is not None or steps.observation["start"][t, e] != start
                )  # shared by a pool: see below
                start, count = (
                    steps.observation["start"][t, e],
                    0,
                )  # the next step must go on from here
            assert steps.observation["start"][t, e] == start
            assert steps.observation["count"][t, e] == count
        assert final.state["start"][e] == start
        assert final.state["count"][e] == final.steps[e] == count
    assert min(seen.values()) > 20, seen


def test_a_state_that_cuts_its_episode_off_truncates_it():
    """After three steps, if the start was an even number; else the time limit of 5. Termination
    wins over both."""
    cuts = lambda state: (state["count"] == 3) & (state["start"] % jnp.uint32(2) == 0)
    actions = act(8, 200, 0.2)
    _, steps, _ = play(batch(counting()._replace(truncated=cuts), 8, LIMIT), actions)
    count, even = steps.next_observation["count"], steps.next_observation["start"] % 2 == 0
    fails, early, late = actions[..., 0] > 0, (count == 3) & even, count == LIMIT
    np.testing.assert_array_equal(steps.terminated, fails)
    np.testing.assert_array_equal(steps.truncated, (early | late) & ~fails)
    assert (
        min(
            (early & fails).sum(),
            (early & ~fails).sum(),
            ((count == 3) & ~even).sum(),
            (late & ~fails).sum(),
        )
        > 20
    )
    # The next step goes on from a fresh start where the episode ended, and from the successor
    # elsewhere.
    done = steps.terminated | steps.truncated
    np.testing.assert_array_equal(steps.observation["count"], np.where(done, 0, count))
    np.testing.assert_array_equal(count[1:], steps.observation["count"][:-1] + 1)
    np.testing.assert_array_equal(
        steps.observation["start"] == steps.next_observation["start"], ~done
    )
    assert np.all(count[~even] <= LIMIT)
    assert np.all(count[even] <= 3)


def test_discount_is_zero_only_where_terminated():
    num_envs, length = 4, 100
    env = batch(counting(), num_envs, LIMIT)
    behaviour = Behaviour(
        lambda key, action: action,
        lambda state, agent, observation, key, reset: (
            jax.random.uniform(key, state.shape, minval=-1, maxval=0.3),
            state,
        ),
    )
    step = rollout.collect(env, behaviour)
    collector = rollout.begin(env, behaviour, jax.random.key(0))
    keys = jax.random.split(jax.random.key(1), (length, 2))
    _, transitions = jax.lax.scan(lambda c, k: step(c, None, k[0], k[1])[:2], collector, keys)
    terminates = np.asarray(transitions.action[..., 0]) > 0
    limited = (np.asarray(transitions.next_observation["count"]) == LIMIT) & ~terminates
    assert terminates.sum() > 20
    assert limited.sum() > 20
    np.testing.assert_array_equal(transitions.discount, np.where(terminates, 0.0, 1.0))


@pytest.mark.parametrize("fresh", [None, 1, 3, 8])
def test_environments_that_end_together_start_apart_and_no_start_repeats_for_ever(fresh):
    """Every episode lasts one step. A start of the pool lives E / fresh steps, then it is
    replaced."""
    num_envs, length = 8, 300
    first, steps, _ = play(
        batch(counting(), num_envs, 1, fresh_per_step=fresh), act(num_envs, length, 0)
    )
    starts = np.concatenate([first["start"][None], steps.observation["start"]])
    assert all(len(np.unique(row)) == num_envs for row in starts)
    drawn = {None: 8, 1: 1, 3: 4, 8: 8}[fresh]  # 3 does not divide 8: rounded up to whole slices
    assert len(np.unique(starts)) >= drawn * length
    _, uses = np.unique(starts, return_counts=True)
    assert uses.max() <= num_envs // drawn
    for e in range(num_envs):  # the environments share the pool fairly
        assert len(np.unique(starts[:, e])) > length / 2


@pytest.mark.parametrize("fresh", [None, 1])
def test_successive_episodes_start_apart(fresh):
    """Episodes that outlast the pool (E / fresh steps): every start is new."""
    num_envs = 4
    env = batch(counting(), num_envs, num_envs, fresh_per_step=fresh)
    first, steps, _ = play(env, act(num_envs, 10 * num_envs, 0))
    starts = np.concatenate(
        [first["start"][None], steps.observation["start"][num_envs - 1 :: num_envs]]
    )
    assert starts.shape == (11, num_envs)
    assert len(np.unique(starts)) == starts.size


def test_the_key_decides():
    env = batch(counting(), 4, LIMIT, fresh_per_step=1)
    actions = act(4, 50, 0.2)
    one, again, other = play(env, actions), play(env, actions), play(env, actions, seed=1)
    jax.tree.map(np.testing.assert_array_equal, one, again)
    assert not np.any(one[0]["start"] == other[0]["start"])
    assert not np.any(one[1].observation["start"] == other[1].observation["start"])


@pytest.mark.parametrize("fresh", [None, 1])
def test_traced_once_with_strong_and_stable_types(fresh):
    single = counting()
    state, *_ = jax.eval_shape(single.reset, jax.random.key(0))
    assert state["count"].weak_type  # else this test shows nothing
    traces = []
    env = batch(counting(traces), 4, LIMIT, fresh_per_step=fresh)
    reset, step = jax.jit(env.reset), jax.jit(env.step)
    state, observation = reset(jax.random.key(0))
    types = lambda tree: jax.tree.map(lambda x: (x.shape, x.dtype, x.weak_type), tree)
    at_first, seen_at_first = types(state), types(observation)
    for key in jax.random.split(jax.random.key(1), 3):
        state, time_step = step(state, jnp.zeros((4, 1)), key)
        assert types(state) == at_first
        assert types(time_step.observation) == types(time_step.next_observation) == seen_at_first
    assert step._cache_size() == 1
    assert traces == [(1,)]
    assert not any(leaf.weak_type for leaf in jax.tree.leaves((state, time_step)))
    assert (time_step.reward.dtype, time_step.terminated.dtype, time_step.truncated.dtype) == (
        jnp.float32,
        bool,
        bool,
    )
    expected = {
        "start": jax.ShapeDtypeStruct((), jnp.uint32),
        "count": jax.ShapeDtypeStruct((), jnp.int32),
    }
    assert env.observation == expected
    assert env.action == jax.ShapeDtypeStruct((1,), jnp.float32)


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"num_envs": 0}, "num_envs=0: must be at least 1"),
        ({"num_envs": -3}, "num_envs=-3: must be at least 1"),
        ({"time_limit": 0}, "time_limit=0: must be at least 1"),
        ({"fresh_per_step": 0}, "fresh_per_step=0: must be between 1 and 4"),
        ({"fresh_per_step": 5}, "fresh_per_step=5: must be between 1 and 4"),
    ],
)
def test_bad_numbers_are_named(wrong, text):
    with pytest.raises(ValueError, match=text):
        batch(counting(), **({"num_envs": 4, "time_limit": LIMIT} | wrong))


def test_what_draws_receives_environment_zero():
    given = []
    renderer = Renderer(given.append, lambda states: given.append(states) or "page", fps=7)
    env = batch(counting(), 3, LIMIT, renderer=renderer)
    state, _ = env.reset(jax.random.key(0))
    trajectory = {"start": np.arange(21).reshape(7, 3), "count": np.zeros((7, 3))}
    states = rollout.frames(env, state.replace(state=trajectory))
    env.renderer.draw(states)
    assert env.renderer.viewer(states) == "page"
    assert len(given) == 2
    for states in given:
        np.testing.assert_array_equal(states["start"], [0, 3, 6, 9, 12, 15, 18])
    assert (batch(counting(), 3, LIMIT).renderer, env.renderer.fps) == (Renderer(None, None), 7)


def weighing(mass):
    """Observes the mass of its system, and moves by it."""

    def reset(key):
        return {"at": jnp.zeros(())}, jnp.stack([mass, jnp.zeros(())])

    def step(state, action, key):
        at = state["at"] + mass
        return {"at": at}, jnp.stack([mass, at]), at, jnp.zeros((), bool)

    return SingleEnvironment(
        reset, step, action_size=1, valid=lambda state, observation, reward: reward < 1e6
    )


def test_every_episode_has_a_system_of_its_own():
    system = {"mass": jnp.ones(()), "length": jnp.full((2,), 3.0), "name": 4}

    def randomize(system, keys):
        masses = jax.vmap(lambda key: jax.random.uniform(key, (), minval=1.0, maxval=2.0))(keys)
        return system | {"mass": masses}, {"mass": 0, "length": None, "name": None}

    def using(system):
        assert system["length"].shape == (2,)
        return weighing(system["mass"])

    env = batch(randomized(using, system, randomize), 4, LIMIT)
    assert env.breaks
    _, steps, _ = play(env, np.zeros((30, 4, 1)))
    masses = np.asarray(steps.next_observation)[..., 0]
    np.testing.assert_allclose(
        np.asarray(steps.next_observation)[..., 1],
        masses * (np.arange(30) % LIMIT + 1)[:, None],
        rtol=1e-6,
    )
    assert len(np.unique(masses)) == 4 * 30 // LIMIT, "one an episode"
    assert np.all((masses >= 1) & (masses < 2))


def test_what_a_single_says_of_its_state_is_heard_through_randomisation():
    """Episodes of 3.5 steps of mass 1 are cut off; masses are 1 and 2, so that is after four steps
    or two."""
    told = {
        "truncated": lambda state: state["at"] >= 3.5,
        "scene": lambda state: {"ball": state["at"]},
    }
    single = randomized(
        lambda system: weighing(system)._replace(**told),
        jnp.ones(()),
        lambda system, keys: (1.0 + jax.vmap(jax.random.bernoulli)(keys).astype(jnp.float32), 0),
    )
    env = batch(single, 8, LIMIT)
    _, steps, final = play(env, np.zeros((40, 8, 1)))
    mass, at = np.moveaxis(np.asarray(steps.next_observation), -1, 0)
    np.testing.assert_array_equal(steps.truncated, at >= 3.5)
    assert {(float(m), float(x)) for m, x in zip(mass[at >= 3.5], at[at >= 3.5], strict=True)} == {
        (1, 4),
        (2, 4),
    }
    shown = jax.vmap(env.single.scene)(env.single_state(final))
    np.testing.assert_array_equal(shown["ball"], np.where(steps.truncated[-1], 0, at[-1]))


def test_what_is_said_of_a_state_is_said_of_the_episodes_own_system():
    """Each scene shows the mass that was drawn, 2, and an episode is cut off after that many steps;
    the plain mass is 1."""

    def using(mass):
        told = {
            "truncated": lambda state: state["at"] >= 2 * mass,
            "scene": lambda state: {"mass": mass},
        }
        return weighing(mass)._replace(**told)

    single = randomized(using, jnp.ones(()), lambda system, keys: (jnp.full(keys.shape, 2.0), 0))
    env = batch(single, 3, LIMIT)
    _, steps, final = play(env, np.zeros((8, 3, 1)))
    np.testing.assert_array_equal(
        jax.vmap(env.single.scene)(env.single_state(final))["mass"], np.full(3, 2.0)
    )
    at = np.asarray(steps.next_observation)[..., 1]
    np.testing.assert_array_equal(steps.truncated, at >= 4)
    assert at.max() == 4
