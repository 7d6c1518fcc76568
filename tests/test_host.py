"""Gymnasium's vector environments and the host loop: true successors in both modes, and what the
device loop learns."""

import itertools
import json
import re
import sys
from pathlib import Path

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from click.testing import CliRunner
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from PIL import Image, ImageSequence

from ddpg_jax import agents, envs, host, networks, noise, replay, reporting, returns
from ddpg_jax.behaviour import explore
from ddpg_jax.host.loop import Hosted
from ddpg_jax.host.programs import LEARNING
from ddpg_jax.host.rows import row_shapes, unpack
from ddpg_jax.learner import make_learner
from ddpg_jax.runs.cli import commands
from ddpg_jax.types import Transition, Update

E, LIMIT = 3, 5
LOW, HIGH = np.array([-2.0, 0.0], np.float32), np.array([2.0, 10.0], np.float32)


class Counter(gymnasium.Env):
    """Observation ``[episode, step]`` of this environment; terminates after ``ends`` steps,
    truncated after 5."""

    observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float64)
    action_space = spaces.Box(LOW, HIGH)

    def __init__(self, ends=99):
        self.ends, self.episode = ends, -1

    def reset(self, *, seed=None, options=None):  # noqa: ARG002
        super().reset(seed=seed)
        self.episode, self.steps = (0 if seed is not None else self.episode + 1), 0
        return self._see(), {}

    def step(self, action):
        assert self.action_space.contains(action), action
        self.steps += 1
        self.last = action
        terminated = self.steps >= self.ends
        return self._see(), float(self.steps), terminated, self.steps >= LIMIT, {}

    def _see(self):
        return np.array([self.episode, self.steps], np.float64)


def counters(mode, ends=(99, 3, 2)):
    return envs.gymnasium.vector(
        SyncVectorEnv([lambda n=n: Counter(n) for n in ends], autoreset_mode=mode)
    )


MODES = pytest.mark.parametrize(
    "mode", [AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP], ids=lambda mode: mode.value
)


def transitions(env, steps):
    """Every valid transition of each environment: ``(observation, reward, terminated, truncated,
    next_observation)``."""
    observation, found = env.reset(0), [[] for _ in range(env.num_envs)]
    for _ in range(steps):
        now = env.step(np.zeros((env.num_envs, 2), np.float32))
        for i in np.flatnonzero(now.valid):
            row = (
                observation[i],
                now.reward[i],
                now.terminated[i],
                now.truncated[i],
                now.next_observation[i],
            )
            found[i].append(tuple(np.asarray(x).tolist() for x in row))
        observation = now.observation
    return found


@MODES
def test_ends_of_episodes(mode):
    found = transitions(counters(mode), 14)
    # Environment 1 terminates at its third step; the successor is its own episode's, the next start
    # another's.
    assert found[1][:4] == [
        ([0, 0], 1, False, False, [0, 1]),
        ([0, 1], 2, False, False, [0, 2]),
        ([0, 2], 3, True, False, [0, 3]),
        ([1, 0], 1, False, False, [1, 1]),
    ]
    assert found[0][4] == ([0, 4], 5, False, True, [0, 5])
    assert found[0][5] == ([1, 0], 1, False, False, [1, 1])
    for rows in found:
        for before, after in itertools.pairwise(rows):
            assert after[0] == (
                before[4] if not (before[2] or before[3]) else [before[0][0] + 1, 0]
            )


def test_both_modes_give_the_same_transitions():
    same, following = (
        transitions(counters(mode), 14)
        for mode in (AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP)
    )
    for one, other in zip(same, following, strict=True):
        assert one[: len(other)] == other
        assert len(one) == 14 > len(other) > 8  # next-step loses a step to each reset


def test_a_termination_at_the_time_limit_is_no_truncation():
    for mode in (AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP):
        rows = transitions(counters(mode, ends=(LIMIT,)), 6)[0]
        assert rows[LIMIT - 1][2:4] == (True, False)


@MODES
def test_actions_are_scaled_per_dimension_and_clipped(mode):
    vector = SyncVectorEnv([Counter] * 2, autoreset_mode=mode)
    env = envs.gymnasium.vector(vector)
    env.reset(0)
    for action, executed in (
        ([-1, -1], [-2, 0]),
        ([1, 1], [2, 10]),
        ([0, 0.5], [0, 7.5]),
        ([3, -3], [2, 0]),
    ):
        env.step(np.array([action, [0, 0]], np.float32))
        np.testing.assert_allclose(vector.envs[0].last, executed)


def test_observations_keep_their_structure_and_are_copies():
    class Nested(Counter):
        observation_space = spaces.Dict(
            image=spaces.Box(0, 255, (2, 2), np.uint8),
            state=spaces.Box(-9, 9, (1,), np.float64),
            count=spaces.Discrete(7),
        )

        def _see(self):
            return {
                "image": np.full((2, 2), self.steps, np.uint8),
                "state": np.ones(1) * self.steps,
                "count": self.steps,
            }

    env = envs.gymnasium.vector(SyncVectorEnv([Nested] * 2, autoreset_mode=AutoresetMode.SAME_STEP))
    kinds = {name: (x.shape, x.dtype) for name, x in env.observation.items()}
    assert kinds == {
        "image": ((2, 2), np.uint8),
        "state": ((1,), np.float32),
        "count": ((), np.int32),
    }
    first = env.reset(0)
    for _ in range(LIMIT):
        now = env.step(np.zeros((2, 2), np.float32))
    assert first["state"].tolist() == [[0], [0]]
    assert {name: x.dtype for name, x in now.observation.items()} == {
        name: kind[1] for name, kind in kinds.items()
    }
    assert now.next_observation["image"].tolist() == [[[5, 5], [5, 5]]] * 2
    assert now.observation["image"].max() == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"action_space": spaces.Discrete(3)},
            r"action space is Discrete\(3\), but .* continuous actions",
        ),
        ({"action_space": spaces.Box(-np.inf, np.inf, (2,))}, "has no bounds to scale to: wrap it"),
        (
            {"action_space": spaces.Box(-1, 1, (2, 2))},
            r"action space has shape \(2, 2\): flatten it",
        ),
        (
            {"observation_space": spaces.Text(5)},
            "observation space .* is no Box and no Dict of them: flatten it",
        ),
    ],
)
def test_spaces_that_do_not_fit(change, message):
    with pytest.raises(ValueError, match=message):
        envs.gymnasium.vector(
            SyncVectorEnv(
                [type("Odd", (Counter,), change)] * 2, autoreset_mode=AutoresetMode.SAME_STEP
            )
        )


def test_names_that_do_not_fit():
    with pytest.raises(
        ValueError,
        match="unknown environment 'gymnasium/Pendulm-v1': did you mean 'gymnasium/Pendulum-v1'",
    ):
        envs.make("gymnasium/Pendulm-v1", 1)
    with pytest.raises(ValueError, match=r"Discrete\(2\), but .* continuous actions"):
        envs.make("gymnasium/CartPole-v1", 1)
    with pytest.raises(ValueError, match="has no backend"):
        envs.make("gymnasium/Pendulum-v1", 1, backend="spring")
    with pytest.raises(ValueError, match="does not take these options"):
        envs.make("gymnasium/Pendulum-v1", 1, wings=2)
    with pytest.raises(ValueError, match="does not reset itself"):
        counters(AutoresetMode.DISABLED)


@pytest.mark.parametrize(
    "name",
    [
        "Pendulum-v1",
        "MountainCarContinuous-v0",
        "HalfCheetah-v5",
        "Hopper-v5",
        "InvertedPendulum-v5",
        "Reacher-v5",
    ],
)
@MODES
def test_registered_environments(name, mode):
    """Successors, starts, bounds and kinds of ends, over two episodes at random."""
    pytest.importorskip("imageio", reason="MuJoCo v5 needs gymnasium[mujoco]")
    made = gymnasium.make_vec(
        name,
        2,
        vectorization_mode="sync",
        vector_kwargs={"autoreset_mode": mode},
        max_episode_steps=7,
    )
    env, random = envs.gymnasium.vector(made, 7), np.random.default_rng(0)
    observation, ends, starts = env.reset(0), 0, []
    for _ in range(30):
        now = env.step(random.uniform(-1, 1, (2, *env.action.shape)).astype(np.float32))
        done = now.terminated | now.truncated
        assert (
            observation.shape
            == now.observation.shape
            == now.next_observation.shape
            == (2, *env.observation.shape)
        )
        assert {observation.dtype, now.next_observation.dtype, env.observation.dtype} == {
            np.dtype(np.float32)
        }
        assert not np.any(now.terminated & now.truncated)
        running = now.valid & ~done
        np.testing.assert_array_equal(now.observation[running], now.next_observation[running])
        assert not np.any(np.all(now.next_observation[done] == observation[done], axis=1))
        if mode is AutoresetMode.SAME_STEP:
            assert np.all(np.any(now.next_observation[done] != now.observation[done], axis=1))
            starts += now.observation[done].tolist()
        ends, observation = ends + done.sum(), now.observation
    assert ends >= 6
    assert len(np.unique(starts, axis=0)) == len(starts)
    env.close()


# The loop


def small_agent(size=2, gamma=0.99):
    actor = networks.Actor(size, hidden=(8,))
    critic = networks.Critic(hidden=(8,), action_layer=0)
    return agents.ddpg(actor, critic, gamma=gamma, tau=0.1, actor_learning_rate=0.01)


def composed(env, agent=None, **options):
    agent = agent or small_agent()
    behaviour = explore(agent, noise.chain(noise.gaussian(0.1), noise.clip()))
    ring = replay.uniform(60, 4)
    return (
        agent,
        behaviour,
        ring,
        host.make_train(
            agent, env, ring, behaviour, **{"learning_starts": 6, "steps_per_chunk": 30} | options
        ),
    )


def begun(trainer, seed=0):
    trainer.begin(0)
    return trainer.warm_up(jax.jit(trainer.init)(jax.random.key(seed)))


@MODES
def test_the_ring_holds_what_happened(mode):
    _, _, _, trainer = composed(counters(mode))
    state, report = trainer.chunk(begun(trainer))
    rows = jax.tree.map(lambda x: np.asarray(x)[: int(state.replay.size)], state.replay.storage)
    # 12 vector steps, of which all valid steps are stored: in next-step mode those that begin an
    # episode are none.
    assert len(rows.reward) == sum(map(len, transitions(counters(mode), 12)))
    assert (len(rows.reward) == 36) == (mode is AutoresetMode.SAME_STEP)
    step = np.array([0, 1])
    np.testing.assert_array_equal(
        rows.next_observation - rows.observation, np.broadcast_to(step, rows.observation.shape)
    )
    np.testing.assert_array_equal(rows.reward, rows.next_observation[:, 1])
    # Ends are terminal where the environment terminates (after 3 or 2 steps), not at the time limit
    # of 5.
    ended = rows.discount == 0
    assert set(rows.next_observation[ended, 1]) == {2, 3}
    assert np.all(rows.discount[rows.next_observation[:, 1] == 5] == 1)
    assert np.abs(rows.action).max() <= 1
    # Returns are 1 + 2 + .. + n after n steps: 3, 6 and 15.
    assert 3 < report.episodes.return_sum / report.episodes.count < 10
    assert all(int(value) == reporting.NEVER for value in report.first_bad_step.values())


@pytest.mark.parametrize("length", [1, 3])
def test_the_same_transitions_end_in_the_same_parameters(length, monkeypatch):
    """The rows that the host loop stored, fed to the functions of the device loop with the same
    keys."""
    window = returns.n_step(length, 0.99) if length > 1 else None
    env = counters(AutoresetMode.SAME_STEP)
    agent, behaviour, ring, trainer = composed(
        env, window=window, steps_per_chunk=15, updates_per_step=2
    )
    rows, step = [], Hosted.step

    def recorded(self, action):
        rows.append((action, step(self, action)))
        return rows[-1][1]

    monkeypatch.setattr(Hosted, "step", recorded)
    state = begun(trainer)
    device, warm_up = (
        jax.tree.map(jnp.copy, state),
        len(rows),
    )
    state, _ = trainer.chunk(state)
    learner = make_learner(agent, env, ring, behaviour, window)

    @jax.jit
    def one(device, before, action, row):
        now = unpack(row, row_shapes(env))
        transition = Transition(
            observation=unpack(before, row_shapes(env))["observation"],
            action=action,
            reward=now["reward"],
            discount=now["discount"],
            next_observation=now["next_observation"],
        )
        device = learner.store_step(
            device, device.collector.replace(reset=now["first"]), transition, now["done"]
        )
        keys = jax.random.split(
            jax.random.fold_in(jax.random.fold_in(device.key, LEARNING), device.steps), 5
        )
        return learner.update(device, keys[:4:2], keys[1:4:2])[0]

    for (_, before), (action, row) in itertools.pairwise(rows[warm_up - 1 :]):
        device = one(device, before, action, row)
    assert len(rows) == warm_up + 5
    for name in ("actor", "critic"):
        ours, theirs = getattr(state.agent, name), getattr(device.agent, name)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), ours, theirs
        )


class Named(Counter):
    """Observes its ``ends`` as well, which tells the environments apart."""

    observation_space = spaces.Box(-np.inf, np.inf, (3,), np.float64)

    def _see(self):
        return np.array([self.episode, self.steps, self.ends], np.float64)


def test_windows_in_next_step_mode_join_no_two_episodes():
    """What each environment's steps become in one mode they become in the other; a step that is
    none is in no window."""

    def stored(mode):
        env = envs.gymnasium.vector(
            SyncVectorEnv([lambda n=n: Named(n) for n in (99, 3, 2)], autoreset_mode=mode)
        )
        trainer = composed(env, small_agent(gamma=0.5), window=returns.n_step(3, 0.5))[-1]
        state, _ = trainer.chunk(begun(trainer))
        rows = jax.tree.map(lambda x: np.asarray(x)[: int(state.replay.size)], state.replay.storage)
        whole = np.column_stack(
            [rows.observation, rows.reward, rows.discount, rows.next_observation]
        )
        return [whole[rows.observation[:, 2] == ends] for ends in (99, 3, 2)]

    same, following = stored(AutoresetMode.SAME_STEP), stored(AutoresetMode.NEXT_STEP)
    for one, other in zip(same, following, strict=True):
        np.testing.assert_array_equal(other, one[: len(other)])
        np.testing.assert_array_equal(
            other[:, 0], other[:, 5]
        )  # the successor is of the same episode
        assert len(one) == 12 > len(other) > 7
        assert len(np.unique(other[:, 0])) > 1
    # 1 + 2 / 2 + 3 / 4, and it terminates; 2 + 3 / 2; 3; then the next episode's first.
    np.testing.assert_array_equal(following[1][:4, 3], [2.75, 3.5, 3.0, 2.75])
    np.testing.assert_array_equal(following[1][:4, 4], [0, 0, 0, 0])
    # At the time limit: 3 + 4 / 2 + 5 / 4, of three steps; 4 + 5 / 2, of two; 5, of one.
    np.testing.assert_array_equal(following[0][2:5, 3], [6.25, 6.5, 5.0])
    np.testing.assert_array_equal(following[0][2:5, 4], [0.25, 0.5, 1.0])


def test_it_learns_and_rewards_are_those_of_the_episodes():
    env = envs.make("gymnasium/Pendulum-v1", 2, time_limit=40)
    agent = small_agent(1)
    _, _, _, trainer = composed(env, agent, steps_per_chunk=160)
    before = begun(trainer)
    params = jax.tree.map(np.array, before.agent.actor.params)
    state, report = trainer.chunk(before)
    assert report.episodes.count in (2, 4)
    assert -700 < report.episodes.return_sum / report.episodes.count < 0
    assert report.episodes.length_sum == 40 * report.episodes.count
    assert state.agent.step == 80
    changed = jax.tree.map(lambda a, b: np.any(a != b), params, state.agent.actor.params)
    assert all(jax.tree.leaves(changed))
    played = host.make_evaluate(agent, envs.make("gymnasium/Pendulum-v1", 3, time_limit=40))(
        state.agent, 5
    )
    assert played.shape == (3,)
    assert np.all((played < 0) & (played > -700))


def test_each_program_is_compiled_once(caplog):
    _, _, _, trainer = composed(
        counters(AutoresetMode.SAME_STEP), collect_steps=2, steps_per_chunk=24
    )
    trainer.compile()
    state = begun(trainer)
    state, _ = trainer.chunk(state)
    with jax.log_compiles(), caplog.at_level("WARNING"):
        trainer.chunk(state)
    assert not [record for record in caplog.records if "Finished XLA compilation" in record.message]


def test_sizes_that_do_not_fit():
    with pytest.raises(ValueError, match="steps_per_chunk=31: must be a multiple of num_envs=3"):
        composed(counters(AutoresetMode.SAME_STEP), steps_per_chunk=31)


def test_infinity_is_named_with_its_step():
    class Broken(Counter):
        def step(self, action):
            observation, _, *rest = super().step(action)
            return observation, float("inf") if (self.episode, self.steps) == (1, 2) else 0.0, *rest

    env = envs.gymnasium.vector(SyncVectorEnv([Broken] * E, autoreset_mode=AutoresetMode.SAME_STEP))
    _, _, _, trainer = composed(env)
    _, report = trainer.chunk(begun(trainer))
    # The second step of the second episode is the seventh, number 6; 2 of them were the warm-up.
    assert int(report.first_bad_step["reward"]) == 6
    assert int(report.first_bad_step["observation"]) == reporting.NEVER


def test_a_metric_that_is_not_finite_is_named_with_its_first_step():
    def update(state, batch, key, weight=None):
        bad = (state.step == 3) | (state.step == 5)
        metrics = {"metric": jnp.where(bad, jnp.inf, 1.0), "good": jnp.float32(1)}
        return Update(state.replace(step=state.step + 1), batch.reward, metrics)

    *_, trainer = composed(counters(AutoresetMode.SAME_STEP), small_agent()._replace(update=update))
    _, report = trainer.chunk(begun(trainer))
    # Vector steps 0 and 1 are the warm-up; update number k follows vector step 2 + k.
    assert {name: int(report.first_bad_step[name]) for name in ("metric", "good")} == {
        "metric": 5,
        "good": reporting.NEVER,
    }
    assert report.metrics["good"] == 1


def test_what_is_not_finite_in_the_warm_up_stays_named():
    class Broken(Counter):
        def step(self, action):
            observation, _, *rest = super().step(action)
            return observation, float("nan") if (self.episode, self.steps) == (0, 2) else 0.0, *rest

    class BrokenAtFirst(Counter):
        def reset(self, **options):
            observation, info = super().reset(**options)
            return observation * np.nan, info

    for kind, quantity, step in (
        (Broken, "reward", 1),
        (BrokenAtFirst, "observation", 0),
    ):  # of vector steps 0 and 1
        env = envs.gymnasium.vector(
            SyncVectorEnv([kind] * E, autoreset_mode=AutoresetMode.SAME_STEP)
        )
        _, _, _, trainer = composed(env)
        state = begun(trainer)
        assert int(state.first_bad_step[quantity]) == step
        state, report = trainer.chunk(state)
        assert int(report.first_bad_step[quantity]) == int(state.first_bad_step[quantity]) == step


def test_sums_of_a_chunk_on_the_host_lose_nothing():
    """Returns of 2^26 and then of ones, which float32 alone would lose."""

    class Huge(Counter):
        def step(self, action):
            observation, *_ = super().step(action)
            return observation, 2.0**26 if self.episode == 2 else 1.0, True, False, {}

    env = envs.gymnasium.vector(SyncVectorEnv([Huge] * 1, autoreset_mode=AutoresetMode.SAME_STEP))
    agent = small_agent()

    def update(state, batch, key, weight=None):
        metric = jnp.where(state.step == 0, jnp.float32(2**26), 1.0)
        return Update(state.replace(step=state.step + 1), batch.reward, {"metric": metric})

    *_, trainer = composed(
        env, agent._replace(update=update), learning_starts=2, steps_per_chunk=16
    )
    _, report = trainer.chunk(begun(trainer))
    assert (report.episodes.count, report.episodes.return_sum) == (16, np.float32(2**26 + 15))
    assert report.metrics["metric"] == np.float32((2**26 + 15) / 16)


# The command


def invoke(*words):
    return CliRunner().invoke(commands.main, [str(word) for word in words])


@pytest.fixture
def quick(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    sizes = {
        "total-timesteps": 120,
        "learning-starts": 40,
        "steps-per-chunk": 40,
        "batch-size": 4,
        "hidden": 8,
        "num-envs": 2,
    }
    sizes |= {"time-limit": 20, "evaluation-episodes": 3, "run-dir": "run"}
    return [word for name, value in sizes.items() for word in (f"--{name}", value)]


def test_the_command_trains_resumes_evaluates(quick):
    result = invoke(
        "train",
        "gymnasium/Pendulum-v1",
        "--preset",
        "td3",
        "--n-step",
        2,
        "--normalize-observations",
        *quick,
    )
    assert result.exit_code == 0, (result.output, result.exception)
    rows = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    # 2 steps fill the window, 40 are the warm-up; a chunk of 40, and one of what is left.
    assert [row["env_steps"] for row in rows] == [82, 118]
    summary = json.loads(Path("run/summary.json").read_text())
    assert summary["compile_seconds"] > 0
    assert -400 < summary["final_returns"][0] < 0
    resumed = invoke("train", "--resume", "--run-dir", "run", "--total-timesteps", 170)
    assert resumed.exit_code == 0, (resumed.output, resumed.exception)
    assert "resumed at 118 steps." in resumed.output
    assert "Host environments were reset" in resumed.output
    assert [
        json.loads(line)["env_steps"] for line in Path("run/metrics.jsonl").read_text().splitlines()
    ] == [82, 118, 158, 170]
    found = json.loads(invoke("evaluate", "run", "--episodes", 4).stdout)
    assert (found["env_steps"], found["episodes"]) == (170, 4)
    assert -400 < found["mean_return"] < 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("gymnasium/Pendulum-v1", "--seeds", 2),
            "seeds=2: host environments train one seed at a time",
        ),
        (("gymnasium/Pendulm-v1",), "did you mean 'gymnasium/Pendulum-v1'"),
        (("gymnasium/CartPole-v1",), "a deterministic policy gradient needs continuous actions"),
        (("gymnasium/Pendulum-v1", "--backend", "spring"), "has no backend"),
    ],
)
def test_bad_input_is_one_sentence(quick, words, message):
    result = invoke("train", *words, *quick)
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.output
    assert not Path("run").exists()


def test_a_film_shows_what_moves(quick):
    pytest.importorskip("pygame", reason="Gymnasium draws Pendulum-v1 by pygame")
    assert invoke("train", "gymnasium/Pendulum-v1", *quick).exit_code == 0
    result = invoke("render", "run", "--steps", 5)
    assert result.exit_code == 0, (result.output, result.exception)
    with Image.open(result.stdout.strip()) as film:
        frames = [np.asarray(frame.convert("L"), int) for frame in ImageSequence.Iterator(film)]
    assert len(frames) > 2
    assert all(frame.std() > 1 for frame in frames), "not blank"
    assert np.abs(frames[0] - frames[-1]).max() > 20, "and moving"


class Drawn(Counter):
    """Ends after 3 steps; its picture is the number of the step."""

    render_mode = "rgb_array"
    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012

    def __init__(self, render_mode=None):  # noqa: ARG002
        super().__init__(ends=3)

    def render(self):
        return np.full((2, 2, 3), self.steps, np.uint8)


@pytest.mark.parametrize(
    ("steps", "shown"), [(None, [0, 1, 2]), (2, [0, 1, 2]), (4, [0, 1, 2, 0, 1])]
)
def test_a_film_is_an_episode_or_as_long_as_asked(steps, shown):
    """What a reset shows is a frame; the step that ends an episode shows the next one's start,
    which is not part of it."""
    gymnasium.register("Drawn-v0", Drawn, max_episode_steps=LIMIT)
    seen = []

    def act(observation):
        seen.append(observation.shape)
        return np.zeros((1, 2), np.float32)

    try:
        frames, fps = envs.gymnasium.film("Drawn-v0", act, steps, 0)
    finally:
        del gymnasium.registry["Drawn-v0"]
    assert ([int(frame[0, 0, 0]) for frame in frames], fps) == (shown, 30.0)
    assert set(seen) == {(1, 2)}, "one environment"


@pytest.mark.parametrize(
    ("package", "name", "message"),
    [
        (
            "mujoco_playground",
            "playground/CheetahRun",
            "could not be imported .*pip install playground",
        ),
        ("brax", "brax/hopper", "could not be imported .*pip install brax"),
        (
            "gymnasium.envs.mujoco.half_cheetah_v5",
            "gymnasium/HalfCheetah-v5",
            r"needs more than Gymnasium itself .*\[mujoco\]",
        ),
    ],
)
def test_an_extra_that_is_missing_is_one_sentence(package, name, message, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=message):
        envs.make(name, 2)
    result = invoke("train", name, "--run-dir", "nowhere")
    assert result.exit_code == 2
    assert re.search(message, " ".join(result.stderr.split()))
    assert not Path("nowhere").exists()
