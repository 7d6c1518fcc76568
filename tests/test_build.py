"""How a run is put together: environments of a shard, loops on the host that take turns, a last
chunk that is shorter."""

import types

import jax
import jax.numpy as jnp
import pytest

from ddpg_jax import envs
from ddpg_jax.population import Population
from ddpg_jax.runs.config.run_config import make_config
from ddpg_jax.runs.programs import build
from ddpg_jax.runs.programs.evaluation import HOST_RESET_STREAM, host_seed

SIZES = {"num_envs": 8, "batch_size": 8, "replay_capacity": 8_000, "total_timesteps": 3_000}


@pytest.mark.parametrize(
    ("devices", "episodes", "counts"),
    [(1, 6, [8, 6]), (4, 6, [2, 2]), (4, 8, [2, 2]), (2, 7, [4, 4])],
)
def test_a_shard_has_its_share_of_the_environments_and_of_the_episodes(
    monkeypatch, devices, episodes, counts
):
    """Of episodes that do not divide all play one more."""
    asked, one = [], envs.make("pendulum", 1)
    monkeypatch.setattr(build, "environment", lambda config, count: asked.append(count) or one)
    build.member_of(make_config("pendulum", evaluation_episodes=episodes, devices=devices, **SIZES))
    assert asked == counts


@pytest.mark.parametrize("shared", [True, False])
def test_training_begins_again_after_an_evaluation_in_its_environments(shared):
    begun, played, trained = [], [], []
    trainer = types.SimpleNamespace(
        begin=begun.append, chunk=lambda *arguments: trained.append(arguments) or "report"
    )
    play = lambda state, key: played.append(state) or "returns"
    chunk, evaluate = build._taking_turns(trainer, play, shared=shared)
    keys = jax.random.split(jax.random.key(0), 2)
    assert chunk("state", {}) == "report"
    assert begun == []
    for key in keys:
        assert evaluate("agent", key, {}) == "returns"
    assert chunk("state", {}, 3) == "report"
    assert chunk("state", {}) == "report"
    seed = host_seed(jax.random.fold_in(keys[1], HOST_RESET_STREAM))
    assert begun == [seed] * shared
    assert trained == [("state",), ("state", 3), ("state",)]
    assert played == ["agent"] * 2


def test_a_shorter_chunk_on_the_host_has_fewer_rounds():
    config = make_config("pendulum", steps_per_chunk=80, **SIZES)
    chunk = lambda state, hyperparameters, rounds: (state, rounds)
    loop = types.SimpleNamespace(compile=lambda: ["inside"])
    built = build.Built("agent", Population("start", chunk, "evaluate"), None, host=loop)
    assert build.compile_shorter(built, config, 24)("state", {}) == ("state", 3)
    programs = build.compile_programs(built, config)
    assert programs[:3] == ("start", chunk, "evaluate")
    assert programs.inside == ["inside"]
    assert 0 <= programs.seconds < 60


def test_a_shorter_chunk_on_the_device_is_a_program_of_its_own(monkeypatch):
    made = []
    monkeypatch.setattr(build, "population_of", lambda config: made.append(config) or "population")
    monkeypatch.setattr(build, "compiled_chunk", lambda *arguments: arguments)
    config = make_config("pendulum", steps_per_chunk=80, **SIZES)
    built = build.Built("agent", Population(None, None, None), None)
    population, key, own = build.compile_shorter(built, config, 24)
    assert (population, own) == ("population", {})
    assert jax.random.key_data(key).tolist() == jax.random.key_data(jax.random.key(0)).tolist()
    assert made[0].schedule.steps_per_chunk == 24
    assert config.schedule.steps_per_chunk == 80


def test_an_agent_of_several_members_is_many():
    env = envs.make("pendulum", 1)
    sizes = {"hidden": (5,), "total_timesteps": 3_000}
    shapes = [
        build.agent_of(make_config("pendulum", seeds=seeds, **sizes), env)[1].step.shape
        for seeds in (1, 3)
    ]
    assert shapes == [(), (3,)]


def test_what_cannot_be_built_is_refused():
    with pytest.raises(ValueError, match="shared_environment is for environments on the host"):
        build.build(make_config("pendulum", shared_environment=True, **SIZES))
    for own in ({"seeds": 2}, {"vary": {"tau": [0.1]}}):
        with pytest.raises(ValueError, match="host environments train one seed at a time"):
            build.build(make_config("gymnasium/Pendulum-v1", **SIZES | own))
    encoder = types.SimpleNamespace(to_replay=jnp.ones)
    plain = types.SimpleNamespace(to_replay=None)
    check = lambda agent, **evolve: build._require_replay_of_encoder(
        types.SimpleNamespace(evolve=evolve, preset=types.SimpleNamespace(name="it")), agent
    )
    check(encoder)
    check(encoder, copy_replay=True)
    check(plain, copy_replay=False)
    with pytest.raises(ValueError, match="copy_replay=False: preset it stores what its agent's"):
        check(encoder, copy_replay=False)
