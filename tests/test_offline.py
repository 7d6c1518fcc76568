"""Transitions that were collected before: read, checked, and put into a replay."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddpg_jax import replay, runs
from ddpg_jax.runs.checkpoints.stored_replay import read_replay
from ddpg_jax.runs.config.run_config import make_config
from ddpg_jax.runs.options.validation import RunError
from ddpg_jax.runs.programs import build, setup
from ddpg_jax.runs.training import offline, starting_point
from ddpg_jax.types import Transition

SIZES = {"hidden": (8,), "batch_size": 8, "learning_starts": 50, "replay_capacity": 500}
SIZES |= {"total_timesteps": 150, "steps_per_chunk": 50, "progress": False}
SIZES |= {"evaluation_episodes": 1, "final_episodes": 1, "evaluate_every": 0}


def config(**options):
    sizes = {name: value for name, value in SIZES.items() if name != "progress"}
    return make_config("pendulum", offline="arrays", **{**sizes, **options})


def steps(count=12, ends=(4, 9), terminal=(4,)):
    """Numbers that tell where they are from; an episode ends after the steps of these numbers."""
    index = np.arange(count)
    return {
        "observations": np.stack([index, index + 0.25, index + 0.5], axis=1),
        "actions": np.linspace(-2, 2, count)[:, None],
        "rewards": index * 1.0,
        "terminations": np.isin(index, terminal),
        "truncations": np.isin(index, ends) & ~np.isin(index, terminal),
    }


def test_single_steps_as_they_are():
    """Without ``next_observations`` the last step of an episode has no successor, and needs none
    where it terminated."""
    found = offline.read(config(), steps())
    kept = [0, 1, 2, 3, 4, 5, 6, 7, 8, 10]
    np.testing.assert_array_equal(found.observation[:, 0], kept)
    np.testing.assert_array_equal(found.next_observation[:, 0], [1, 2, 3, 4, 4, 6, 7, 8, 9, 11])
    np.testing.assert_array_equal(found.reward, kept)
    np.testing.assert_array_equal(found.discount, np.not_equal(kept, 4))
    np.testing.assert_allclose(found.action[:, 0], np.linspace(-1, 1, 12)[kept], atol=1e-6)
    assert {x.dtype for x in jax.tree.leaves(found)} == {np.dtype(np.float32)}


def test_with_successors_nothing_is_lost():
    given = steps()
    given["next_observations"] = given["observations"] + 0.125
    found = offline.read(config(), given)
    np.testing.assert_array_equal(found.reward, np.arange(12))
    np.testing.assert_array_equal(found.next_observation[:, 0], np.arange(12) + 0.125)
    np.testing.assert_array_equal(found.discount, np.arange(12) != 4), "a time limit bootstraps"


def test_returns_of_n_steps_end_with_their_episode():
    given = steps()
    given["next_observations"] = given["observations"] + 0.125
    found = offline.read(config(n_step=3, gamma=0.5), given)
    ends = [4] * 5 + [9] * 5 + [11] * 2
    for t, end in enumerate(ends):
        covered = range(t, min(t + 3, end + 1))
        assert found.reward[t] == sum(0.5 ** (i - t) * i for i in covered)
        last = covered[-1]
        assert found.next_observation[t, 0] == last + 0.125
        assert found.discount[t] == (0 if last == 4 else 0.5 ** (last - t))
        assert found.observation[t, 0] == t


def test_the_newest_of_them():
    given = steps()
    given["next_observations"] = given["observations"]
    found = offline.read(config(offline_rows=5), given)
    np.testing.assert_array_equal(found.reward, np.arange(7, 12))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda x: x.pop("rewards"), "offline has no 'rewards': it needs observations, actions"),
        (lambda x: x.update(rewards=np.zeros(3)), r"offline's arrays have \[3, 12\] rows"),
        (
            lambda x: x.update(observations=np.zeros((12, 4))),
            r"offline's observations have the shape \[5, 4\] where pendulum needs \[5, 3\]",
        ),
        (lambda x: x.update(actions=x["actions"] * 2), "reach from -4 to .*, and pendulum takes"),
        (lambda x: x.update(observations={"a": np.zeros((12, 3))}), "are not a dict where"),
        (
            lambda x: x.update(truncations=np.ones(12, bool), terminations=np.zeros(12, bool)),
            "has no transition",
        ),
        (lambda x: x.update(rewards=np.zeros((12, 1))), r"rewards have the shape \[5, 1\] where"),
        (lambda x: x["rewards"].__setitem__(3, np.nan), "rewards have NaN or infinite numbers"),
        (lambda x: x["rewards"].__setitem__(3, 1e300), "rewards have NaN or infinite numbers"),
        (lambda x: x.update(rewards=["a"] * 12), "rewards are of the type <U1: give numbers"),
        (lambda x: x.update(rewards=[1j] * 12), "rewards are of the type complex128: give numb"),
        (lambda x: x.update(terminations=np.full(12, 2)), "terminations are not all 0 or 1"),
        (lambda x: x.update(rewards=3.0), r"offline's arrays have \[0, 12\] rows"),
    ],
)
def test_what_does_not_fit_is_refused(change, said):
    given = steps()
    change(given)
    with pytest.raises(RunError, match=said):
        offline.read(config(), given)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("none.npz", "cannot be read"),
        ("minari/none/of-these-v0", "offline=minari/none/of-these-v0 cannot be loaded"),
    ],
)
def test_a_file_that_is_not_there(name, said, tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    with pytest.raises(RunError, match=said):
        offline.read(make_config("pendulum", offline=name))


def test_lists_are_arrays_too():
    given = {name: value.tolist() for name, value in steps().items()}
    found, wanted = offline.read(config(), given), offline.read(config(), steps())
    assert jax.tree.all(jax.tree.map(np.array_equal, found, wanted))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut off", b"\x93NUMPY"])
def test_a_damaged_file_is_refused(tmp_path, content):
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(RunError, match="cannot be read"):
        offline.read(make_config("pendulum", offline=str(tmp_path / "a.npz")))


def test_members_that_differ_in_what_is_stored_are_refused():
    vary = {"gamma": [0.5, 0.99]}
    with pytest.raises(RunError, match="gamma differs between members, and all begin with the"):
        offline.read(config(seeds=2, n_step=3, vary=vary), steps())
    assert len(offline.read(config(seeds=2, vary=vary), steps()).reward) == 10
    evolve = {"ranges": {"tau": [0.001, 0.1, True]}}
    evolving = config(seeds=2, vary={"tau": [0.01, 0.02]}, evolve=evolve)
    with pytest.raises(RunError, match="members evolve, and all begin with the same transitions"):
        offline.read(evolving, steps())


def test_what_is_no_mapping_is_refused():
    with pytest.raises(RunError, match="offline is a list: give a dict of arrays"):
        offline.read(config(), [1, 2])
    with pytest.raises(RunError, match="the replay of preset drive stores what belongs together"):
        offline.read(make_config("lane", "drive", offline="x.npz"))


@pytest.mark.filterwarnings("ignore:.*is set to None:UserWarning")
def test_a_dataset_of_minari(tmp_path, monkeypatch):
    import gymnasium
    import minari
    from minari.data_collector import EpisodeBuffer

    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    env, buffers = gymnasium.make("Pendulum-v1", max_episode_steps=20), []
    for number in range(3):
        one, over = {name: [] for name in offline.ARRAYS}, False
        one["observations"].append(env.reset(seed=number)[0])
        while not over:
            action = env.action_space.sample()
            observation, reward, ended, cut, _ = env.step(action)
            parts = observation, action, reward, ended, cut
            for name, value in zip(offline.ARRAYS, parts, strict=True):
                one[name].append(value)
            over = ended or cut
        buffers.append(EpisodeBuffer(id=number, **one))
    dataset = minari.create_dataset_from_buffers("pendulum/random-v0", buffers, env=env)
    env.close()
    for given in ({}, {"given": dataset}):
        found = offline.read(make_config("pendulum", offline="minari/pendulum/random-v0"), **given)
        assert found.reward.shape == (60,)
        whole = [one.observations for one in dataset.iterate_episodes()]
        np.testing.assert_allclose(
            found.next_observation, np.concatenate([x[1:] for x in whole]), rtol=1e-6
        )
    native = np.concatenate([one.actions for one in dataset.iterate_episodes()])
    np.testing.assert_allclose(found.action * 2, native, atol=1e-5)


def test_whole_numbers_are_the_middle_of_their_share():
    env = build.envs.make("gymnasium/Pendulum-v1", 1)
    whole = env._replace(native_action=build.envs.actions.within([0.0], [3.0], "int32").native)
    given = np.array([[0], [1], [2], [3]])
    found = offline._normalised(config(), whole, given, 4)
    np.testing.assert_allclose(found[:, 0], [-0.75, -0.25, 0.25, 0.75])
    np.testing.assert_array_equal(whole.native_action(jnp.asarray(found)), given)
    env.close()


def rows(count):
    number = np.arange(count, dtype=np.float32)
    three = np.repeat(number[:, None], 3, axis=1)
    return Transition(three, number[:, None] % 2, number, number * 0 + 1, three + 1)


@pytest.mark.parametrize("members", [1, 2])
@pytest.mark.parametrize("priority", [0.0, 0.6])
@pytest.mark.parametrize(
    ("count", "kept"), [(30, range(30)), (31, range(1, 31)), (70, range(30, 70))]
)
def test_a_replay_is_filled(members, priority, count, kept):
    """The newest, as many as the environments share evenly and the replay holds."""
    sizes = {"replay_capacity": 40, "num_envs": 2, "batch_size": 4, "steps_per_chunk": 50}
    made = config(seeds=members, priority_exponent=priority, **sizes)
    env = setup.environment(made, 2)
    built = build.build(made)
    start = built.population.start
    state = start(setup.member_keys(made), setup.member_hyperparameters(made))
    filled = starting_point.fill(made, rows(count), state.replay, env)
    ring = getattr(filled, "ring", filled)
    for member in range(members):
        pick = (lambda x: x) if members == 1 else (lambda x, i=member: x[i])
        size = int(pick(ring.size))
        assert size == len(kept)
        assert sorted(np.asarray(pick(ring.storage.reward))[:size].tolist()) == [*kept]
    if priority:
        sample = setup.compose(made, env).replay.sample
        one = filled if members == 1 else jax.tree.map(lambda x: x[0], filled)
        assert set(np.asarray(sample(one, jax.random.key(0)).batch.reward).tolist()) <= {*kept}


def test_a_share_of_each_batch():
    online, kept = replay.uniform(20, 6), replay.uniform(10, 2)
    mixed = replay.mixed(online, kept)
    state = mixed.init(jax.tree.map(lambda x: jnp.asarray(x[0]), rows(1)))
    old = jax.tree.map(lambda x: -jnp.asarray(x) - 1, rows(10))
    state = state.replace(offline=kept.add(state.offline, old))
    state = mixed.add(state, jax.tree.map(jnp.asarray, rows(20)))
    batch = mixed.sample(state, jax.random.key(0))
    reward = np.asarray(batch.reward)
    assert reward.shape == (8,)
    assert np.all(reward[:6] >= 0)
    assert np.all(reward[6:] < 0)
    assert len(set(reward.tolist())) > 4
    with pytest.raises(ValueError, match="samples uniformly: leave priorities out"):
        replay.mixed(replay.prioritised(20, 6), kept)
    valid = jnp.arange(20) < 5
    assert int(mixed.add(state, jax.tree.map(jnp.asarray, rows(20)), valid).online.position) == 5


@pytest.mark.parametrize("share", [0.01, 0.99])
def test_a_share_of_none_or_all_is_refused(share):
    made = config(offline_share=share, offline_rows=10, batch_size=16)
    with pytest.raises(ValueError, match=rf"offline_share={share} is (0|16) of batch_size=16"):
        setup.compose(made, setup.environment(made, 1))


def test_a_run_learns_from_both_and_is_resumed(tmp_path):
    """Arrays from Python, a share of each batch; the replay of that run in another one."""
    given = steps(100, ends=(49, 99), terminal=())
    folder = tmp_path / "run"
    run = runs.train("pendulum", run_dir=folder, offline=given, offline_share=0.5, **SIZES)
    flat = json.loads((folder / "config.json").read_text())
    assert (flat["offline"], flat["offline_rows"]) == ("arrays given from Python", 98)
    assert run.config.offline_rows == 98
    more = runs.train(run_dir=folder, resume=True, total_timesteps=200, progress=False)
    assert more.env_steps[-1] == 200
    theirs = read_replay(folder, more.config, "last")
    assert int(theirs.offline.size) == 98
    assert int(theirs.online.size) == 200
    plain = tmp_path / "plain"
    first = runs.train("pendulum", run_dir=plain, offline=given, **SIZES)
    stored = read_replay(plain, first.config, "last")
    assert int(stored.size) == 98 + 150
    again = offline.read(make_config("pendulum", offline=str(plain)))
    assert again.reward.shape == (248,)
    np.testing.assert_array_equal(again.reward[:98], offline.read(config(), given).reward)
    with pytest.raises(RunError, match="cannot become those of n_step=3"):
        offline.read(make_config("pendulum", offline=str(plain), n_step=3))
    many = make_config("pendulum", offline=str(plain), num_envs=500, replay_capacity=500)
    with pytest.raises(RunError, match="has 3 transitions, and they are added num_envs=500 at"):
        starting_point.fill(many, rows(3), None, setup.environment(many, 500))
    with pytest.raises(RunError, match=r"has observations of the shape \(3,\) where lane has"):
        offline.read(make_config("lane", "default", n_step=1, offline=str(plain)))
