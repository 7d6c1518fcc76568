"""The policy of a run, and its pictures: of which member, in how many episodes, and what is said
where one cannot be."""

import collections
import types
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.image import imread

from ddpg_jax.runs.config.run_config import make_config
from ddpg_jax.runs.folder.metrics_log import write_metrics
from ddpg_jax.runs.programs import evaluation
from ddpg_jax.runs.results import policy, run_pictures


def test_a_member_is_one_of_several():
    three, one = make_config("pendulum", seeds=3), make_config("pendulum")
    state = {"x": jnp.arange(6).reshape(3, 2)}
    assert policy.member_state(three, state, 2)["x"].tolist() == [4, 5]
    assert policy.member_state(one, state, 0) is state
    for config, member in ((three, 3), (one, 1)):
        with pytest.raises(ValueError, match=rf"member={member}: this run has {config.seeds} mem"):
            policy.member_state(config, state, member)


@pytest.mark.parametrize(
    ("seeds", "member", "returns"),
    [
        (1, None, [[1, 2, 6]]),
        (1, 0, [[1, 2, 6]]),
        (2, None, [[1, 2, 6], [10, 20, 60]]),
        (2, 1, [[10, 20, 60]]),
        (2, 0, [[1, 2, 6]]),
    ],
)
def test_members_are_played_together_or_one_alone(monkeypatch, seeds, member, returns):
    config = make_config("pendulum", seeds=seeds, seed=4)
    states = jnp.array([1.0, 10.0]) if seeds > 1 else jnp.array(1.0)
    monkeypatch.setattr(
        policy, "restore_policy", lambda *given: (config, "agent", [700] * seeds, states)
    )
    seen = []

    def make_evaluator(config, agent, episodes, opened, copies):
        seen.append((config.seeds, agent, episodes, copies))

        def play(state, keys):
            seen.append(jax.random.key_data(keys).tolist())
            one = np.array([1.0, 2.0, 6.0])
            return np.asarray(state)[..., None] * one

        return play

    monkeypatch.setattr(evaluation, "make_evaluator", make_evaluator)
    found = policy.evaluate(Path("run"), 3, 9, member, 5)
    alone = len(returns)
    assert seen[0] == (alone, "agent", 3, 5)
    keys = evaluation.evaluation_keys(config, evaluation.LATER_STREAM, 9)
    keys = keys[member] if seeds > 1 and member is not None else keys
    assert seen[1] == jax.random.key_data(keys).tolist()
    assert found["returns"] == np.mean(returns, axis=1).tolist()
    assert found["return_std"] == np.std(returns, axis=1).tolist()
    wanted = {"run": "run", "env": "pendulum", "env_steps": 700, "episodes": 3, "seed": 9}
    assert {name: found[name] for name in wanted} == wanted
    assert found.get("member") == member
    with pytest.raises(ValueError, match=rf"member={seeds}: this run has"):
        policy.evaluate(Path("run"), 3, 9, seeds)


def test_a_picture_is_enlarged_four_times(tmp_path):
    image = np.array([[[1, 0, 0], [0, 1, 0]]], float)
    run_pictures.save_png(image, tmp_path / "a.png")
    found = imread(tmp_path / "a.png")[..., :3]
    np.testing.assert_array_equal(found, image.repeat(4, 0).repeat(4, 1))


def test_a_run_has_a_curve_where_it_was_evaluated_and_pictures_of_its_first_member(
    tmp_path, monkeypatch
):
    """What cannot be drawn is told of, and the rest is drawn."""
    said, drawn, asked = [], [], []

    def pictures(hyperparameters, env, state, key):
        asked.append((env.num_envs, state.tolist(), jax.random.key_data(key).tolist()))
        return {"seen": np.zeros((2, 2, 3))}

    preset = types.SimpleNamespace(pictures=pictures)
    config = types.SimpleNamespace(
        preset=preset, env="pendulum", seed=3, seeds=2, hyperparameters=types.SimpleNamespace()
    )
    config.hyperparameters.num_envs = 6
    environment = lambda config, count: types.SimpleNamespace(num_envs=count)
    monkeypatch.setattr(run_pictures.setup, "environment", environment)
    monkeypatch.setattr(run_pictures.plots, "plot", lambda *arguments: drawn.append(arguments))
    draw = lambda: run_pictures.draw_run_pictures(
        config, tmp_path, jnp.array([[5, 6], [7, 8]]), said.append
    )
    draw()
    assert drawn == []
    key = jax.random.fold_in(jax.random.key(3), evaluation.LATER_STREAM)
    assert asked == [(6, [5, 6], jax.random.key_data(key).tolist())]
    assert imread(tmp_path / "seen.png").shape[:2] == (8, 8)
    write_metrics(tmp_path, [{"env_steps": 5, "evaluation_return": [1.0, 2.0]}])
    config.env = "gymnasium/Pendulum-v1"
    draw()
    assert drawn == [([tmp_path], tmp_path / "curve.png")]
    assert len(asked) == 1, "no images are played for on the host"
    preset.pictures = None
    config.env = "pendulum"
    monkeypatch.setattr(run_pictures.plots, "plot", lambda *arguments: {}["fonts"])
    assert said == []
    draw()
    told = f"{tmp_path / 'curve.png'} could not be drawn ('fonts'); all other results are written."
    assert said == [told]


@pytest.mark.parametrize(
    ("error", "checkpoint", "told"),
    [
        (None, "last", ""),
        (FileNotFoundError("no checkpoint"), "last", "no checkpoint: train it first."),
        (FileNotFoundError("none that can be read"), "last", "can be read: restore one."),
        (
            FileNotFoundError("no checkpoint"),
            "best",
            "has no checkpoint: choose another --checkpoint.",
        ),
        (FileNotFoundError("none at 5"), "5", "none at 5: choose another --checkpoint."),
        (ValueError("another version"), "last", "another version"),
    ],
)
def test_a_policy_is_restored_or_the_folder_is_named(
    monkeypatch, tmp_path, error, checkpoint, told
):
    config = make_config("pendulum")
    env = types.SimpleNamespace(observation=jax.ShapeDtypeStruct((3,), np.float32))
    monkeypatch.setattr(policy, "declared_environment", lambda folder: (config, env))
    act = lambda state, observation: state * observation
    agent = collections.namedtuple("Agent", "act")(act)

    def restore_agent(*arguments):
        assert (*arguments[:3], arguments[4]) == (tmp_path, config, env, checkpoint)
        if error is not None:
            raise error
        return [700], agent, "state", {"config": config.flat()}

    monkeypatch.setattr(policy.resharding, "restore_agent", restore_agent)
    if error is None:
        own, restored, at, state = policy.restore_policy(tmp_path, checkpoint)
        assert (own, at, state) == (config, [700], "state")
        assert restored.act(2, np.ones((1, 3), np.float32)).tolist() == [[2, 2, 2]]
        with pytest.raises(ValueError, match="the observation is"):
            restored.act(2, np.ones((1, 4), np.float32))
    else:
        with pytest.raises(type(error)) as raised:
            policy.restore_policy(tmp_path, checkpoint)
        where = tmp_path / "best" if checkpoint == "best" else tmp_path
        assert str(raised.value).startswith(f"{where}")
        assert str(raised.value).endswith(told)


def test_an_agent_is_read_beside_a_live_run(monkeypatch, tmp_path):
    """Nothing is removed that may be half written, and what was opened is closed."""
    from ddpg_jax.runs.checkpoints import resharding

    config, done = make_config("pendulum", seeds=2), []

    def opened(*arguments, **options):
        def newest(like, say, part, only):
            done.append((part, only))
            record = {"env_steps": [3, 4]} if "best" in str(arguments[0]) else {}
            return types.SimpleNamespace(step=9, state="state", record=record)

        done.append((*arguments, options))
        close = lambda: done.append("closed")
        return types.SimpleNamespace(newest=newest, close=close)

    monkeypatch.setattr(resharding, "Checkpoints", opened)
    monkeypatch.setattr(resharding.build, "agent_of", lambda config, env: ("agent", "like"))
    monkeypatch.setattr(resharding.arrays, "to_devices", lambda state, like: (state, like))
    for name, part, only, steps in (
        ("last", ".agent", None, [9, 9]),
        ("best", "", None, [3, 4]),
        ("9", ".agent", 9, [9, 9]),
    ):
        found = resharding.restore_agent(tmp_path, config, "env", print, name)
        assert found[:3] == (steps, "agent", ("state", "like"))
        place = tmp_path / ("best" if name == "best" else "checkpoints")
        assert done == [(place, {"read_only": True}), (part, only), "closed"]
        done.clear()
