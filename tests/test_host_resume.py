"""Where environments on the host begin: seeds that have nothing in common, running episodes that
are cut, and what is told."""

import dataclasses
import itertools

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from ddpg_jax import agents, envs, host, networks, noise, replay, returns
from ddpg_jax.behaviour import explore, parameter_noise
from ddpg_jax.host import programs
from ddpg_jax.host.loop import Hosted
from ddpg_jax.host.rows import row_shapes, unpack
from ddpg_jax.runs.config.run_config import make_config
from ddpg_jax.runs.programs.evaluation import (
    FINAL_STREAM,
    HOST_RESET_STREAM,
    LATER_STREAM,
    TRAINING_STREAM,
    evaluation_keys,
    host_seed,
    make_evaluator,
)

ENDS = (5, 3, 2)


class Count(gymnasium.Env):
    """Shows ``[which episode, step, how long episodes are]``; terminates after that many steps, at
    which it gives a reward."""

    observation_space = spaces.Box(-np.inf, np.inf, (3,))
    action_space = spaces.Box(-1, 1, (1,))

    def __init__(self, ends=99):
        self.ends = ends

    def reset(self, *, seed=None, options=None):  # noqa: ARG002
        super().reset(seed=seed)
        self.episode, self.number = (0 if seed is not None else self.episode + 1), 0
        return self._see(), {}

    def step(self, action):  # noqa: ARG002
        self.number += 1
        return self._see(), 10.0**self.episode, self.number == self.ends, False, {}

    def _see(self):
        return np.array([self.episode, self.number, self.ends], np.float32)


def counts(ends=ENDS, time_limit=5, mode=AutoresetMode.SAME_STEP):
    return envs.gymnasium.vector(
        SyncVectorEnv([lambda n=n: Count(n) for n in ends], autoreset_mode=mode), time_limit
    )


def small_agent():
    return agents.ddpg(networks.Actor(1, hidden=(2,)), networks.Critic(hidden=(2,), action_layer=0))


def trained(env, acting=None, store=None, **options):
    agent = small_agent()
    behaviour = explore(agent, noise.gaussian(0.1)) if acting is None else acting(agent, env)
    ring = store or replay.uniform(300, 4)
    return host.make_train(
        agent, env, ring, behaviour, learning_starts=6, steps_per_chunk=15, **options
    )


# Seeds


def starts(env, begin):
    """Where the copies begin, as text."""
    return [row.tobytes() for row in np.asarray(begin(env)).round(6)]


def test_no_two_copies_of_seeds_begin_alike():
    env = envs.make("gymnasium/Pendulum-v1", 4)
    found = [
        start for seed in range(4) for start in starts(env, lambda env, seed=seed: env.reset(seed))
    ]
    assert len(set(found)) == 16
    assert starts(env, lambda env: env.reset(2)) == found[8:12], "one seed, one beginning"
    huge = [
        starts(env, lambda env, seed=seed: env.reset(seed)) for seed in (2**32, 2**64, 2**64 + 1)
    ]
    assert len(set(itertools.chain(found, *huge))) == 28


@pytest.mark.parametrize(
    "kind", [SyncVectorEnv, type("Generic", (SyncVectorEnv,), {}), gymnasium.vector.VectorWrapper]
)
def test_nor_do_those_of_a_user_s_vector_environment(kind):
    make = lambda: gymnasium.make("Pendulum-v1")
    vector = SyncVectorEnv([make] * 4, autoreset_mode=AutoresetMode.SAME_STEP)
    env = envs.gymnasium.vector(
        kind(vector) if kind is gymnasium.vector.VectorWrapper else kind([make] * 4)
    )
    assert env.time_limit == 200
    assert (
        len(
            {
                start
                for seed in range(4)
                for start in starts(env, lambda env, seed=seed: env.reset(seed))
            }
        )
        == 16
    )


class Numbered(gymnasium.vector.VectorEnv):
    """Takes one number as seed, as a vector environment may, and remembers it."""

    metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP}  # noqa: RUF012
    num_envs = 2
    single_observation_space = single_action_space = spaces.Box(-1, 1, (1,))

    def reset(self, *, seed=None, options=None):  # noqa: ARG002
        assert isinstance(seed, int)
        self.seed = seed
        return np.zeros((2, 1), np.float32), {}


def test_a_vector_environment_of_another_kind_gets_one_number():
    vector = Numbered()
    env, seeds = envs.gymnasium.vector(vector), set()
    for seed in range(4):
        env.reset(seed)
        seeds |= {vector.seed, vector.seed + 1}
    assert len(seeds) == 8
    assert max(seeds) < 2**31, "some take no more"


def test_training_evaluation_and_what_is_resumed_have_nothing_in_common(monkeypatch):
    """The words that environments are given, in all that a run of each of four seeds plays."""
    given = []
    monkeypatch.setattr(gymnasium.envs.classic_control.PendulumEnv, "reset", _told(given))
    for seed in range(4):
        config = make_config(
            "gymnasium/Pendulum-v1", seed=seed, num_envs=4, env_options={"time_limit": 2}
        )
        env = envs.make("gymnasium/Pendulum-v1", 4)
        for number in (0, 10_000, 20_000):
            Hosted(env).begin(host_seed(evaluation_keys(config, HOST_RESET_STREAM, number)))
        play = make_evaluator(config, _Still, 5)
        for stream, number in itertools.product(
            (TRAINING_STREAM, FINAL_STREAM, LATER_STREAM), (0, 10_000)
        ):
            play(None, evaluation_keys(config, stream, number))
    given = [word for word in given if word is not None]
    assert len(given) == len(set(given)) == 4 * (3 * 4 + 6 * 5)


class _Still:
    act = staticmethod(lambda state, observation: jnp.zeros((len(observation), 1)))


def _told(given):
    def reset(self, *, seed=None, options=None):
        given.append(seed)
        self.state, self.last_u = np.zeros(2), None
        return np.zeros(3, np.float32), {}

    return reset


def test_one_seed_of_the_library_trains_and_evaluates_apart():
    env, agent, seen = counts(), small_agent(), []
    spied = env._replace(reset=lambda seed: seen.append(seed) or env.reset(seed))
    trainer = trained(spied)
    evaluate = host.make_evaluate(agent, spied)
    state = agent.init(jax.random.key(0), jnp.zeros(3), jnp.zeros(1))
    for seed in range(3):
        trainer.begin(seed)
        evaluate(state, seed)
    assert len(set(seen)) == 6


# Evaluation


@pytest.mark.parametrize("mode", [AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP])
def test_an_evaluation_counts_the_first_episode_alone(mode):
    agent, env = small_agent(), counts(mode=mode)
    state = agent.init(jax.random.key(0), jnp.zeros(3), jnp.zeros(1))
    # A reward of 1 in each step of the first episode, of 10 and 100 in those that follow while
    # others still play.
    assert host.make_evaluate(agent, env)(state, 0).tolist() == [5, 3, 2]


def test_an_evaluation_needs_a_time_limit_and_keeps_it():
    agent = small_agent()
    state = agent.init(jax.random.key(0), jnp.zeros(3), jnp.zeros(1))
    with pytest.raises(
        ValueError, match=r"no time limit that is known, .* or register it with max_episode_steps"
    ):
        host.make_evaluate(agent, counts(time_limit=None))
    with pytest.raises(ValueError, match="went on beyond the environment's time limit of 4 steps"):
        host.make_evaluate(agent, counts(time_limit=4))(state, 0)
    assert any(
        "no time limit is known" in found for found in envs.check(counts(time_limit=None), steps=30)
    )


def test_loops_stop_when_asked():
    asked = itertools.count()
    agent, env, stop = (
        small_agent(),
        counts(ends=(99, 99, 99), time_limit=99),
        lambda at: lambda: next(asked) == at,
    )
    state = agent.init(jax.random.key(0), jnp.zeros(3), jnp.zeros(1))
    with pytest.raises(host.Stopped):
        host.make_evaluate(agent, env, stopped=stop(3))(state, 0)
    assert next(asked) == 4, "after three steps"
    trainer = trained(env, stopped=stop(6))
    trainer.begin(0)
    with pytest.raises(host.Stopped):
        trainer.warm_up(jax.jit(trainer.init)(jax.random.key(0)))
    trainer = trained(env, stopped=stop(9))
    trainer.begin(0)
    state = trainer.warm_up(jax.jit(trainer.init)(jax.random.key(0)))  # two vector steps: 7 and 8
    state, _ = trainer.chunk(state)  # goes on to its end: there is a state to save
    assert next(asked) == 9


# What runs on


def test_training_begins_only_where_environments_have_begun():
    trainer = trained(counts())
    state = jax.eval_shape(trainer.init, jax.random.key(0))
    for go in (trainer.warm_up, trainer.chunk):
        with pytest.raises(
            ValueError, match=r"the environments have not begun: call begin\(seed\) before"
        ):
            go(state)


def test_an_interruption_ends_what_is_in_the_window():
    window = returns.n_step(4, 0.99)
    trainer = trained(counts(), window=window)
    state = trainer.init(jax.random.key(0))
    cut = host.interrupted(state)
    assert state.window.ended.tolist() == [[False] * 3] * 3
    assert cut.window.ended.tolist() == [[False] * 3, [False] * 3, [True] * 3]
    same = dataclasses.replace(cut, window=state.window)
    assert jax.tree.structure(same) == jax.tree.structure(state)
    assert all(a is b for a, b in zip(jax.tree.leaves(same), jax.tree.leaves(state), strict=True))
    alone = dataclasses.replace(state, window=())
    assert host.interrupted(alone) is alone


ACTING = {
    "OU noise": lambda agent, env: explore(
        agent, noise.chain(noise.ornstein_uhlenbeck(theta=0.1, stddev=0.5), noise.clip())
    ),
    "parameter noise": lambda agent, env: parameter_noise(agent, env, 0.5),
}


@pytest.mark.parametrize(
    "mode", [AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP], ids=lambda mode: mode.value
)
@pytest.mark.parametrize("name", ACTING)
def test_what_explores_is_told_where_episodes_begin(name, mode, monkeypatch):
    """Its actions are those of the same function called by hand, and told by the rules of the
    environments."""
    env, agent, rows, step = counts(mode=mode), small_agent(), [], Hosted.step
    behaviour = ACTING[name](agent, env)
    trainer = host.make_train(
        agent,
        env,
        replay.uniform(300, 4),
        behaviour,
        learning_starts=45,
        steps_per_chunk=15,
        warm_up=behaviour,
    )
    monkeypatch.setattr(
        Hosted,
        "step",
        lambda self, action: rows.append((action, step(self, action))) or rows[-1][1],
    )
    state = jax.jit(trainer.init)(jax.random.key(3))
    acting_key = jax.random.fold_in(jax.random.split(state.key)[0], programs.ACTING)
    remembered, agent_state = jax.tree.map(jnp.copy, (state.collector.behaviour, state.agent))
    trainer.begin(0)
    trainer.warm_up(state)
    act, observation = jax.jit(behaviour.act), np.array([[0, 0, ends] for ends in ENDS], np.float32)
    # An episode begins at every (ends)-th step, in next-step mode after one more, in which nothing
    # is done.
    lasts = np.array(ENDS) + (mode is AutoresetMode.NEXT_STEP)
    for number, (action, row) in enumerate(rows):
        first = jnp.asarray(number % lasts == 0)
        wanted, remembered = act(
            remembered, agent_state, observation, jax.random.fold_in(acting_key, number), first
        )
        np.testing.assert_allclose(action, wanted, rtol=1e-5, atol=1e-6)
        observation = np.asarray(unpack(jnp.asarray(row), row_shapes(env))["observation"])
    assert number == 14


def test_the_same_run_in_other_chunks_is_equal_bit_for_bit():
    ends = []
    for rounds in (6, 3, 1):
        env = counts()
        agent = small_agent()
        trainer = host.make_train(
            agent,
            env,
            replay.prioritised(300, 4, importance_exponent=0.5),
            ACTING["parameter noise"](agent, env),
            window=returns.n_step(3, 0.99),
            learning_starts=6,
            collect_steps=2,
            updates_per_step=2,
            steps_per_chunk=rounds * 2 * env.num_envs,
        )
        trainer.begin(0)
        state, taken = trainer.warm_up(jax.jit(trainer.init)(jax.random.key(0))), 0.0
        for _ in range(6 // rounds):
            state, report = trainer.chunk(state)
            taken += report.episodes.return_sum
        ends.append(jax.device_get((state.replace(key=()), taken)))
    for other in ends[1:]:
        jax.tree.map(np.testing.assert_array_equal, ends[0], other)


def test_prioritised_replay_with_parameter_noise_goes_on_after_a_cut():
    env = counts()
    trainer = trained(
        env,
        ACTING["parameter noise"],
        replay.prioritised(300, 4, importance_exponent=0.5),
        window=returns.n_step(3, 0.99),
    )
    trainer.begin(0)
    state, _ = trainer.chunk(trainer.warm_up(jax.jit(trainer.init)(jax.random.key(0))))
    before = int(state.collector.behaviour.rounds)
    trainer.begin(1)
    state, report = trainer.chunk(state)
    assert (before, int(state.collector.behaviour.rounds)) == (5, 10), "it adapted after each round"
    ring = state.replay.ring
    rows = jax.tree.map(lambda x: np.asarray(x)[: int(ring.size)], ring.storage)
    assert len(np.unique(state.replay.levels[0])) > 4, (
        "none, 1 for what is new, and the errors of what was sampled"
    )
    assert len(rows.reward) == 3 * (2 + 5 + 5), "all but those that filled the window"
    # None begins in one episode and ends in another.
    np.testing.assert_array_equal(rows.next_observation[:, 0], rows.observation[:, 0])
    assert np.all(rows.next_observation[:, 1] > rows.observation[:, 1])
    assert np.all(rows.next_observation[:, 1] - rows.observation[:, 1] <= 3)
    assert all(int(value) == np.iinfo(np.int32).max for value in report.first_bad_step.values())
