"""Each wrapper against its definition, on an environment that counts: observation ``[episode,
step]``, ends that are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddpg_jax import envs, rollout
from ddpg_jax.environment import Renderer
from ddpg_jax.envs import SingleEnvironment, batch
from ddpg_jax.envs.randomize import randomized

E, LIMIT = 3, 5


def one_counter(terminates_at=99):
    """Observation ``[start, steps]``, reward ``steps``; terminates after so many steps. Its scene
    is a ball at ``steps``."""

    def reset(key):
        start = jax.random.uniform(key, ())
        return jnp.stack([start, 0.0]), jnp.stack([start, 0.0])

    def step(state, action, key):
        state = state + jnp.array([0.0, 1.0])
        return (
            state,
            state,
            state[1] + 100 * jnp.clip(action[0], -1.0, 1.0),
            state[1] >= terminates_at,
        )

    return SingleEnvironment(reset, step, 1, scene=lambda state: {"ball": state[1]})


def counter(terminates_at=99):
    """``E`` of them, truncated after 5 steps."""
    return batch(one_counter(terminates_at), E, LIMIT)


def play(env, steps, action=0.0):
    """``(first observation, time steps [T, E, ...])``."""
    state, observation = env.reset(jax.random.key(0))

    def step(state, key):
        return env.step(state, jnp.full((E, 1), action), key)

    return observation, jax.lax.scan(step, state, jax.random.split(jax.random.key(1), steps))[1]


WRAPPERS = {
    "action_repeat": lambda env: envs.action_repeat(env, 2),
    "frame_stack": lambda env: envs.frame_stack(env, 3),
    "time_aware": envs.time_aware,
    "scale_reward": lambda env: envs.scale_reward(env, 0.5),
    "map_observation": lambda env: envs.map_observation(
        env, lambda x: {"start": x[:1], "steps": x[1]}
    ),
    "all": lambda env: envs.time_aware(envs.frame_stack(envs.action_repeat(env, 2), 2)),
}


@pytest.mark.parametrize("terminates_at", [3, 99])
@pytest.mark.parametrize("name", WRAPPERS)
def test_the_contract_survives_every_wrapper(name, terminates_at):
    findings = envs.check(WRAPPERS[name](counter(terminates_at)))
    # The counter's action moves the reward alone: its range cannot be seen in observations.
    assert findings == []


@pytest.mark.parametrize(
    ("terminates_at", "rewards", "terminated"), [(99, [3, 7, 5], False), (3, [3, 3], True)]
)
def test_action_repeat_stops_at_the_end(terminates_at, rewards, terminated):
    # Steps give 1, 2, 3, 4, 5. Twice each: 1 + 2, 3 + 4, then 5 alone, for the episode ends there.
    # Or 1 + 2, 3 alone.
    _, steps = play(WRAPPERS["action_repeat"](counter(terminates_at)), len(rewards) + 1)
    np.testing.assert_array_equal(steps.reward[: len(rewards), 0], rewards)
    assert steps.reward[len(rewards), 0] == 3, (
        "the next episode begins anew, with both of its steps"
    )
    ends = steps.terminated if terminated else steps.truncated
    np.testing.assert_array_equal(ends[:, 1], [False] * (len(rewards) - 1) + [True, False])
    end = len(rewards) - 1
    np.testing.assert_array_equal(
        steps.next_observation[end, :, 1], [terminates_at if terminated else LIMIT] * E
    )
    np.testing.assert_array_equal(steps.observation[end, :, 1], [0] * E)
    assert np.all(steps.observation[end, :, 0] != steps.next_observation[end, :, 0])


def test_action_repeat_counts_its_own_time():
    drawn = counter()._replace(renderer=Renderer(None, fps=24.0))
    assert [envs.action_repeat(drawn, times).time_limit for times in (1, 2)] == [LIMIT, 3]
    assert [envs.action_repeat(drawn, times).renderer.fps for times in (1, 2, 4)] == [24, 12, 6]


@pytest.mark.parametrize("times", [2, 4])
def test_each_repeated_step_has_a_key_of_its_own(times):
    """An environment that shows the last draw, and is rewarded by it: the sum is of that many
    draws, none of them twice."""

    def step(state, action, key):
        drawn = jax.random.uniform(key, ())
        return jnp.roll(state, 1).at[0].set(drawn), jnp.roll(state, 1), drawn, jnp.bool_(False)

    single = SingleEnvironment(lambda key: (jnp.zeros(4), jnp.zeros(4)), step, 1)
    env = envs.action_repeat(batch(single, E, 1_000), times)
    state, _ = env.reset(jax.random.key(0))
    state, now = jax.jit(env.step)(state, jnp.zeros((E, 1)), jax.random.key(1))
    drawn = np.asarray(env.single_state(state))[:, :times]
    assert len(np.unique(drawn)) == E * times
    np.testing.assert_allclose(now.reward, drawn.sum(axis=1), rtol=1e-6)


def test_frames_of_any_rank_are_joined_along_their_last_axis():
    """Of two rows and three channels: the step is in each, the frames follow one another."""
    shown = lambda steps: jnp.broadcast_to(jnp.array([1.0, 10.0, 100.0])[None] * steps, (2, 3))
    step = lambda steps, action, key: (steps + 1, shown(steps + 1), 0.0 * action[0], steps < 0)
    single = SingleEnvironment(lambda key: (jnp.float32(0), shown(jnp.float32(0))), step, 1)
    env = envs.frame_stack(batch(single, E, LIMIT), 2)
    assert env.observation.shape == (2, 6)
    first, steps = play(env, 2)
    assert first.shape == (E, 2, 6)
    np.testing.assert_array_equal(first, 0)
    for time, frames in enumerate(((0, 1), (1, 2))):
        wanted = [number * scale for number in frames for scale in (1, 10, 100)]
        found = np.asarray(steps.observation[time])
        np.testing.assert_array_equal(found, np.broadcast_to(wanted, (E, 2, 6)))


def test_frame_stack_holds_the_last_and_begins_anew():
    first, steps = play(WRAPPERS["frame_stack"](counter()), LIMIT)
    np.testing.assert_array_equal(first[:, 1::2], np.zeros((E, 3)))
    np.testing.assert_array_equal(
        steps.next_observation[:, 0, 1::2], [[0, 0, 1], [0, 1, 2], [1, 2, 3], [2, 3, 4], [3, 4, 5]]
    )
    np.testing.assert_array_equal(steps.observation[-1, :, 1::2], np.zeros((E, 3)))
    fresh = steps.observation[-1, :, ::2]
    np.testing.assert_array_equal(fresh, np.repeat(fresh[:, :1], 3, axis=1))
    assert np.all(fresh[:, 0] != first[:, 0]), "the start of the new episode, not of the old one"


def test_time_aware_shows_what_remains():
    first, steps = play(envs.time_aware(counter()), LIMIT)
    np.testing.assert_allclose(first[:, 2], 1.0)
    # 4, 3, 2, 1 and 0 of 5 steps are left.
    np.testing.assert_allclose(
        steps.next_observation[:, 0, 2], [0.8, 0.6, 0.4, 0.2, 0.0], atol=1e-6
    )
    np.testing.assert_allclose(steps.observation[-1, :, 2], 1.0)


def test_scale_reward_and_map_observation():
    _, plain = play(counter(), 3)
    _, scaled = play(WRAPPERS["scale_reward"](counter()), 3)
    np.testing.assert_allclose(scaled.reward, plain.reward / 2)
    first, mapped = play(WRAPPERS["map_observation"](counter()), 3)
    assert first["start"].shape == (E, 1)
    np.testing.assert_array_equal(mapped.next_observation["steps"], plain.next_observation[..., 1])


def test_sentences_for_what_does_not_fit():
    nested = WRAPPERS["map_observation"](counter())
    with pytest.raises(
        ValueError,
        match="time_aware needs an observation that is one vector: map_observation first",
    ):
        envs.time_aware(nested)
    with pytest.raises(
        ValueError,
        match="frame_stack joins observations along their last axis, but one of them is a scalar",
    ):
        envs.frame_stack(nested, 2)
    with pytest.raises(ValueError, match="times=0: must be at least 1"):
        envs.action_repeat(counter(), 0)
    with pytest.raises(ValueError, match="count=0: must be at least 1"):
        envs.frame_stack(counter(), 0)


INSIDE = {
    "action_repeat": lambda seen: seen,
    "frame_stack": lambda seen: seen[..., 4:],
    "time_aware": lambda seen: seen[..., :2],
    "scale_reward": lambda seen: seen,
    "map_observation": lambda seen: jnp.stack([seen["start"][..., 0], seen["steps"]], axis=-1),
    "all": lambda seen: seen[..., 2:4],
}
"""The counter's own observation, which is its state, in what each of `WRAPPERS` shows."""


@pytest.mark.parametrize("inside", ["plain", "randomized"])
@pytest.mark.parametrize("name", WRAPPERS)
def test_the_single_is_reached_through_every_wrapper(name, inside):
    """Its state is that of the running episode, its step does what the environment's does, its
    scene shows the state."""
    single = one_counter()
    if inside == "randomized":
        single = randomized(
            lambda system: one_counter(),
            jnp.ones(()),
            lambda system, keys: (jax.vmap(jax.random.uniform)(keys), 0),
        )
    env = WRAPPERS[name](batch(single, E, LIMIT))
    assert env.single is single
    step, repeats = jax.jit(env.step), 2 if name in ("action_repeat", "all") else 1
    (state, observation), ended = env.reset(jax.random.key(0)), np.zeros(E, bool)
    for number in range(7):
        inner = env.single_state(state)
        own = inner if inside == "plain" else inner.state
        np.testing.assert_array_equal(own, INSIDE[name](observation))
        scene = jax.vmap(env.single.scene)(inner)
        np.testing.assert_array_equal(scene["ball"], own[:, 1])
        state, now = step(state, jnp.zeros((E, 1)), jax.random.key(number))
        for _ in range(repeats):
            inner, *_ = jax.vmap(env.single.step, in_axes=(0, None, None))(
                inner, jnp.zeros(1), jax.random.key(number)
            )
        running = ~(now.terminated | now.truncated)
        for ours, theirs in zip(
            jax.tree.leaves(inner), jax.tree.leaves(env.single_state(state)), strict=True
        ):
            np.testing.assert_array_equal(ours[running], theirs[running])
        observation = now.observation
        ended |= ~running
    assert np.all(ended), "what follows the end of an episode was looked at too"


def test_a_wrapped_pendulum_can_still_be_drawn():
    env = envs.time_aware(envs.make("pendulum", 2, time_limit=4))
    _, states = jax.lax.scan(
        lambda state, key: (env.step(state, jnp.zeros((2, 1)), key)[0], state),
        env.reset(jax.random.key(0))[0],
        jax.random.split(jax.random.key(1), 4),
    )
    frames = env.renderer.draw(rollout.frames(env, states))
    assert len(frames) == 4
    assert all(frame.shape == (240, 240, 3) and frame.std() > 1 for frame in frames)
