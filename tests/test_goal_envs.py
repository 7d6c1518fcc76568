"""`reach` and `push`: closed forms of their dynamics, starts that are not solved, goals that can be
reached and are drawn."""

import functools

import jax
import jax.numpy as jnp
import jaxlib
import numpy as np
import pytest
from scipy import stats

from ddpg_jax import envs, rollout
from ddpg_jax.envs import flat, goals, push, reach, render

EPISODES, LENGTH = 1_000, 50
GREEN = (50, 175, 76)
"""About the colour of a goal, drawn and in a scene."""


def play(name, policy, num_envs=EPISODES, length=LENGTH, seed=0, **options):
    """``(states before each step, time steps)`` of ``policy(observation, key)``, ``[T, E]``."""
    env = envs.make(name, num_envs, **options)

    @jax.jit
    def run(key):
        def one(carry, key):
            state, observation = carry
            after, now = env.step(state, policy(observation, key), key)
            return (after, now.observation), (state.state, now)

        reset_key, key = jax.random.split(key)
        return jax.lax.scan(one, env.reset(reset_key), jax.random.split(key, length))[1]

    return jax.device_get(run(jax.random.key(seed)))


def uniform(size, observation, key):
    shape = (len(observation["observation"]), size)
    return jax.random.uniform(key, shape, minval=-1.2, maxval=1.2)


@functools.cache
def random_play(name):
    return play(name, functools.partial(uniform, {"reach": 3, "push": 2}[name]))


def behind_and_on(observation, key):
    """Around the puck to behind it, and on with it to the goal, slower near it."""
    puck, pusher = observation["achieved_goal"], observation["observation"][:, :2]
    touching, away = push.PUSHER + push.PUCK, pusher - puck
    left = jnp.linalg.norm(observation["desired_goal"] - puck, axis=1, keepdims=True)
    ahead = (observation["desired_goal"] - puck) / left
    angle = jnp.arctan2(away[:, 1], away[:, 0])
    turn = (jnp.arctan2(-ahead[:, 1], -ahead[:, 0]) - angle + jnp.pi) % (2 * jnp.pi) - jnp.pi
    following = angle + jnp.clip(turn, -0.6, 0.6)
    circle = jnp.stack([jnp.cos(following), jnp.sin(following)], axis=1)
    around = 12.0 * (puck + (touching + 0.03) * circle - pusher)
    beside = away - jnp.sum(away * ahead, axis=1, keepdims=True) * ahead
    on = ahead * jnp.clip(4.0 * left, 0.0, 0.5) - 12.0 * beside
    return jnp.where(left < 0.02, 0.0, jnp.where(jnp.abs(turn)[:, None] > 0.3, around, on))


def arm(angles, speeds=None, goal=(0.3, 0.4)):
    angles, goal = (jnp.array(x, jnp.float32) for x in (angles, goal))
    speeds = jnp.zeros_like(angles) if speeds is None else jnp.array(speeds, jnp.float32)
    return reach.ReachState(angles, speeds, goal)


def table(pusher=(-0.3, -0.3), velocity=(0, 0), puck=(0, 0), sliding=(0, 0), goal=(0.2, 0.1)):
    parts = pusher, velocity, puck, sliding, goal
    return push.PushState(*(jnp.array(part, jnp.float32) for part in parts))


@pytest.mark.parametrize(
    ("angles", "wanted"),
    [
        # Half a metre up, then half a metre to the right.
        ((np.pi / 2, -np.pi / 2), [(0, 0), (0, 0.5), (0.5, 0.5)]),
        # 0.5 cos 30 = 0.4330, 0.5 sin 30 = 0.25; the second link points to 60 degrees.
        ((np.pi / 6, np.pi / 6), [(0, 0), (0.4330127, 0.25), (0.6830127, 0.6830127)]),
        # Right, up, left, a third of a metre each.
        ((0, np.pi / 2, np.pi / 2), [(0, 0), (1 / 3, 0), (1 / 3, 1 / 3), (0, 1 / 3)]),
    ],
)
def test_where_an_arm_is(angles, wanted):
    state = arm(angles)
    np.testing.assert_allclose(reach.places(state.angles), wanted, atol=1e-6)
    seen = reach.observe(state)
    np.testing.assert_allclose(seen["achieved_goal"], wanted[-1], atol=1e-6)
    np.testing.assert_array_equal(seen["desired_goal"], state.goal)


def test_a_step_of_the_arm():
    """Asked for 2 a = 1 and, clipped, -2 rad/s: w is 1 + 0.5 (1 - 1) = 1 and -0.4 + 0.5 (-2 + 0.4)
    = -1.2; the angles move by 0.05 w."""
    state = arm((0.3, 2.0), (1.0, -0.4))
    step = jax.jit(functools.partial(reach.step, goal=goals.sparse(0.05)))
    after, seen, reward, terminated = step(state, jnp.array([0.5, -3.0]))
    np.testing.assert_allclose(after.speeds, [1.0, -1.2], rtol=1e-6)
    np.testing.assert_allclose(after.angles, [0.35, 1.94], rtol=1e-6)
    wanted = [*np.cos([0.35, 1.94]), *np.sin([0.35, 1.94]), 1.0, -1.2]
    np.testing.assert_allclose(seen["observation"], wanted, rtol=1e-5)
    assert (reward, terminated) == (-1, False)
    np.testing.assert_array_equal(after.goal, state.goal)


def test_where_arms_and_their_goals_begin():
    """Any angle; a goal where another arm's tip is, or the other way where four are reached."""
    keys = jax.random.split(jax.random.key(0), EPISODES)
    for links, tolerance in ((3, 0.05), (1, 0.5), (3, 0.95)):
        goal = goals.sparse(tolerance)
        begin = functools.partial(reach.reset, links=links, goal=goal)
        state, seen = jax.jit(jax.vmap(begin))(keys)
        apart = np.linalg.norm(seen["achieved_goal"] - seen["desired_goal"], axis=1)
        far = np.linalg.norm(state.goal, axis=1)
        assert apart.min() > tolerance
        assert far.max() < 1 + 1e-6
        assert not np.any(state.speeds)
        assert stats.kstest(np.ravel(state.angles), stats.uniform(-np.pi, 2 * np.pi).cdf)[1] > 0.01
        stretched = np.mean(far > 1 - 1e-6)
        assert {(3, 0.05): stretched == 0, (1, 0.5): stretched == 1}.get(
            (links, tolerance), 0.01 < stretched < 0.5
        )
        if tolerance == 0.05:  # goals are as tips are
            tips = np.linalg.norm(seen["achieved_goal"], axis=1)
            assert stats.ks_2samp(far, tips).pvalue > 0.01


@pytest.mark.parametrize("friction", [0.5, 0.2])
def test_a_sliding_puck_stops_where_friction_says(friction):
    """v^2 / (2 mu g) further on, but for the last substep: v h / 2 at most, with v = mu g h."""
    state, wanted = table(sliding=(0.3, -0.4)), jnp.zeros(2)
    slide = jax.jit(lambda state: push.substep(state, wanted, friction))
    for _ in range(40):
        state = slide(state)
    distance = 0.5**2 / (2 * friction * 9.81)
    end = friction * 9.81 * 0.01**2 / 2
    np.testing.assert_allclose(state.puck, [0.6 * distance, -0.8 * distance], atol=end)
    np.testing.assert_array_equal(state.puck_velocity, [0, 0])
    np.testing.assert_array_equal(state.pusher, table().pusher)


def test_a_substep_with_contact():
    """The pusher moves by 0.01 m to 0.115 m from the puck's middle, 0.005 m into it."""
    after = push.substep(table((-0.125, 0), (1, 0)), jnp.array([1.0, 0.0]))
    np.testing.assert_allclose(after.pusher, [-0.115, 0], atol=1e-7)
    np.testing.assert_allclose(after.puck, [0.005, 0], atol=1e-7)
    np.testing.assert_allclose(after.puck_velocity, [1, 0], atol=1e-6)
    # At rest the pusher takes up 0.01 / 0.05 of what is asked for; nothing is touched.
    after = push.substep(table(), jnp.array([1.0, -0.5]))
    np.testing.assert_allclose(after.pusher_velocity, [0.2, -0.1], atol=1e-7)
    np.testing.assert_allclose(after.pusher, [-0.298, -0.301], atol=1e-7)
    np.testing.assert_array_equal(after.puck, [0, 0])


def test_contact_pushes_along_the_normal():
    """From the upper left at 45 degrees, to the right at 1 m/s: 1 / sqrt 2 along the normal, so
    (0.5, -0.5); a puck that is faster already is left alone, and so is one out of reach."""
    at = lambda distance: jnp.array([-distance, distance]) / jnp.sqrt(2.0)
    velocity, still, middle = jnp.array([1.0, 0.0]), jnp.zeros(2), jnp.zeros(2)
    overlap, approach = push.contact(at(0.11), velocity, middle, still)
    np.testing.assert_allclose(overlap, np.array([0.01, -0.01]) / np.sqrt(2), atol=1e-7)
    np.testing.assert_allclose(approach, [0.5, -0.5], atol=1e-6)
    overlap, approach = push.contact(at(0.11), velocity, middle, 2 * velocity)
    np.testing.assert_array_equal(approach, [0, 0])
    assert overlap[0] > 0
    for part in push.contact(at(0.121), velocity, middle, still):
        np.testing.assert_array_equal(part, [0, 0])


def test_an_edge_stops_the_puck_and_the_puck_the_pusher():
    """0.5 - 0.07 m is as far as the puck goes, and the pusher stands 0.12 m before it."""
    step = jax.jit(functools.partial(push.step, goal=goals.sparse(0.05)))
    state = table((-0.2, 0.03), puck=(0, 0.03))
    for _ in range(30):
        state, *_ = step(state, jnp.array([1.0, 0.0]))
    np.testing.assert_allclose(state.puck, [0.43, 0.03], atol=1e-5)
    np.testing.assert_allclose(state.pusher, [0.31, 0.03], atol=1e-5)
    np.testing.assert_allclose(state.puck_velocity, [0, 0], atol=1e-6)
    state = table()
    for _ in range(30):
        state, *_ = step(state, jnp.array([-1.0, -1.0]))
    np.testing.assert_allclose(state.pusher, [-0.45, -0.45])
    np.testing.assert_array_equal(state.pusher_velocity, [0, 0])


def test_discs_do_not_overlap_and_the_puck_is_moved_by_nothing_else():
    """Of a random policy, and of one that pushes as hard as it can."""
    hard = play("push", lambda seen, key: 9 * (seen["achieved_goal"] - seen["observation"][:, :2]))
    for states, _ in (random_play("push"), hard):
        assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(states))
        apart = np.linalg.norm(states.puck - states.pusher, axis=-1)
        assert apart.min() > 0.12 - 1e-4
        assert np.abs(states.puck).max() <= np.float32(0.43)
        assert np.abs(states.pusher).max() < 0.45 + 1e-3
        speed = np.linalg.norm(states.puck_velocity, axis=-1)
        assert 0.3 < speed.max() <= np.sqrt(2) + 1e-6
        # Beyond what the pusher moves in a step, friction alone acts: 0.5 g t = 0.1962 m/s.
        far, slower = apart[:-1] > 0.12 + 0.06, np.maximum(speed[:-1] - 0.1962, 0)
        np.testing.assert_allclose(speed[1:][far], slower[far], atol=1e-6)


def test_where_pucks_begin():
    starts = jax.tree.map(lambda x: x[0], random_play("push")[0])
    way = lambda place: place - starts.puck
    for name, low, high in (("pusher", 0.15, 0.25), ("goal", 0.15, 0.3)):
        away = np.linalg.norm(way(getattr(starts, name)), axis=1)
        assert stats.kstest(away, stats.uniform(low, high - low).cdf).pvalue > 0.01
        angle = np.arctan2(*way(getattr(starts, name)).T)
        assert stats.kstest(angle, stats.uniform(-np.pi, 2 * np.pi).cdf).pvalue > 0.01
    assert stats.kstest(starts.puck.ravel(), stats.uniform(-0.1, 0.2).cdf).pvalue > 0.01
    assert not np.any(starts.pusher_velocity)
    assert not np.any(starts.puck_velocity)
    between = stats.pearsonr(*(np.arctan2(*way(x).T) for x in (starts.pusher, starts.goal)))
    assert between.pvalue > 0.01


@pytest.mark.parametrize("name", ["reach", "push"])
def test_what_followed_is_what_is_acted_on_next(name):
    """Bit for bit, where XLA optimises as in a run: it then computes some numbers twice."""
    env, random = envs.make(name, 64), np.random.default_rng(0)
    state, _ = env.reset(jax.random.key(0))
    given = state, jnp.zeros((64, *env.action.shape)), jax.random.key(1)
    optimised = {"xla_backend_optimization_level": "3", "xla_llvm_disable_expensive_passes": False}
    if jaxlib.__version__.startswith("0.10."):
        optimised |= {"xla_cpu_use_fusion_emitters": True}
    step = jax.jit(env.step).lower(*given).compile(compiler_options=optimised)
    for _ in range(LENGTH - 1):
        action = random.uniform(-1, 1, given[1].shape).astype(np.float32)
        state, now = step(state, jnp.asarray(action), given[2])
        jax.tree.map(np.testing.assert_array_equal, now.observation, now.next_observation)


@pytest.mark.parametrize("name", ["reach", "push"])
def test_nothing_moves_without_action(name):
    size = {"reach": 3, "push": 2}[name]
    states, _ = play(name, lambda seen, key: jnp.zeros((4, size)), num_envs=4, length=9)
    for leaf in jax.tree.leaves(states):
        np.testing.assert_array_equal(leaf, np.broadcast_to(leaf[:1], leaf.shape))


@pytest.mark.parametrize("name", ["reach", "push"])
def test_rewards_are_those_of_the_goal(name):
    """Bit for bit, with the last step of an episode; a goal stays, and time alone ends."""
    states, now = random_play(name)
    seen, goal = now.next_observation, envs.make(name, 1).goal
    pair = seen["achieved_goal"], seen["desired_goal"]
    each = lambda function: np.asarray(jax.jit(jax.vmap(jax.vmap(function)))(*pair))
    reached, apart = each(goal.success), np.linalg.norm(pair[0] - pair[1], axis=-1)
    np.testing.assert_array_equal(now.reward, each(goal.reward))
    np.testing.assert_array_equal(now.reward, np.where(reached, 0, -1))
    clear = np.abs(apart - 0.05) > 1e-6
    np.testing.assert_array_equal(reached[clear], apart[clear] < 0.05)
    assert 0 < reached.mean() < 0.05
    np.testing.assert_array_equal(pair[1], states.goal)
    np.testing.assert_array_equal(states.goal, np.broadcast_to(states.goal[:1], states.goal.shape))
    assert not now.terminated.any()
    np.testing.assert_array_equal(now.truncated.all(axis=1), np.arange(LENGTH) == LENGTH - 1)


def test_who_reaches_a_goal_of_push():
    """At the last step; no start is solved."""
    states, now = random_play("push")
    start = np.linalg.norm(states.puck[0] - states.goal[0], axis=-1)
    assert start.min() > 0.1
    assert np.mean(now.reward[-1] == 0) <= 0.05
    _, scripted = play("push", behind_and_on)
    assert np.mean(scripted.reward[-1] == 0) >= 0.9


def test_episodes_that_end_at_their_goal():
    _, now = play("push", behind_and_on, num_envs=50, length=30, ends=True, tolerance=0.08)
    np.testing.assert_array_equal(now.terminated, now.reward == 0)
    assert now.terminated.sum() > 30
    seen = now.next_observation
    apart = np.linalg.norm(seen["achieved_goal"] - seen["desired_goal"], axis=-1)
    np.testing.assert_array_equal(now.terminated, apart <= 0.08)


@pytest.mark.parametrize("name", ["reach", "push"])
def test_the_check_finds_nothing(name):
    assert envs.check(envs.make(name, 2, time_limit=12), steps=30) == []


def test_arms_of_other_lengths_and_units():
    env = envs.make("reach", 2, links=5)
    assert env.observation["observation"].shape == (15,)
    assert env.action.shape == (5,)
    np.testing.assert_allclose(env.native_action(jnp.array([0.5, -3.0])), [1, -2])
    np.testing.assert_allclose(
        envs.make("push", 1).native_action(jnp.array([0.5, -3.0])), [0.5, -1]
    )
    assert (env.time_limit, env.renderer.fps, envs.make("push", 1).renderer.fps) == (50, 20, 25)


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("reach", {"links": 0}, "links=0: must be between 1 and 10"),
        ("reach", {"links": 11}, "between 1 and 10"),
        ("reach", {"tolerance": 0.51}, "tolerance=0.51: must be between 0 and 0.5"),
        ("reach", {"tolerance": 0.0}, "tolerance=0.0: must be greater than 0"),
        ("reach", {"ends": 1}, "ends=1: must be True or False"),
        ("push", {"tolerance": 0.11}, "between 0 and 0.1"),
        ("push", {"friction": 0.0}, "friction=0.0: must be greater than 0"),
        ("push", {"friction": float("inf")}, "friction=inf: must be a finite number"),
        ("push", {"links": 3}, "'push' has no option 'links': its options are time_limit"),
    ],
)
def test_what_is_refused(name, options, said):
    with pytest.raises(ValueError, match=said):
        envs.make(name, 1, **options)


STATES = {"reach": arm((0.5, 1.0, 2.0), goal=(0.4, -0.7)), "push": table(goal=(0.2, -0.3))}
HALVES = {"reach": {"drawn": 1.1, "scene": 1.2}, "push": {"drawn": 0.55, "scene": 0.6}}


@pytest.mark.parametrize("kind", ["drawn", "scene"])
@pytest.mark.parametrize("name", ["reach", "push"])
def test_the_goal_is_seen_where_it_is(name, kind):
    """As a green disc of the tolerance's size, and it alone is green."""
    state, env = STATES[name], envs.make(name, 1, tolerance=0.08)
    if kind == "drawn":
        whole, _ = env.reset(jax.random.key(0))
        film = whole.replace(state=jax.tree.map(lambda x: x[None, None], state))
        (frame,) = env.renderer.draw(rollout.frames(env, film))
        black = np.argwhere(frame.max(axis=-1) < 60)  # of the frame around what is to be seen
        rows, columns = (np.unique(black[:, i], return_counts=True) for i in range(2))
        edges = [at[count > 150][[0, -1]] for at, count in (rows, columns)]
    else:
        picture = jax.jit(lambda state: render.render(env.single.scene(state), 120, 120))
        frame, edges = np.asarray(picture(state)), [np.array([-0.5, 119.5])] * 2
    green = np.argwhere((np.abs(frame.astype(int) - GREEN) < 30).all(axis=-1))
    pixels = 2 * HALVES[name][kind] / (edges[0][1] - edges[0][0])  # m each
    middle = green.mean(axis=0) - [edge.mean() for edge in edges]
    np.testing.assert_allclose(middle[::-1] * [1, -1] * pixels, state.goal, atol=2 * pixels)
    np.testing.assert_allclose(len(green) * pixels**2, np.pi * 0.08**2, rtol=0.25)


def test_frames_follow_their_states():
    """The arm and both discs are where their states say, and captions are of each frame."""
    pair = lambda *states: jax.tree.map(lambda *x: jnp.stack(x), *states)
    arms = pair(STATES["reach"], arm((-2.5, 0.1, 0.2), goal=(0.4, -0.7)))
    tables = pair(STATES["push"], table((0.3, 0.1), puck=(-0.2, 0.2), goal=(0.2, -0.3)))

    def middle(frame, color):
        return np.argwhere((np.abs(frame.astype(int) - color) < 30).all(axis=-1)).mean(axis=0)

    red, blue = (204, 77, 77), (64, 102, 179)
    for films, color, places in (
        (reach.draw(arms), red, np.asarray(reach.places(arms.angles)).mean(axis=1) / 2.2),
        (push.draw(tables), red, np.asarray(tables.puck) / 1.1),
        (push.draw(tables), blue, np.asarray(tables.pusher) / 1.1),
    ):
        moved = middle(films[1], color) - middle(films[0], color)
        wanted = (places[1] - places[0])[::-1] * [-216, 216]  # pixels, of about 216 within the axes
        np.testing.assert_allclose(moved, wanted, atol=8)
        assert films[0].shape == (240, 240, 3)
    told = []
    begin = lambda axes: lambda number: told.append(number) or f"{number}"
    assert len(flat.flat_film(1.0, 3, begin)) == 3
    assert told == [0, 1, 2]
