"""What a run's profile says, and that the run does not notice it; what the matrix products of an
update are."""

import json
import re
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from ddpg_jax import agents, networks, replay, runs
from ddpg_jax.runs import limit, parts, profile, timing
from ddpg_jax.runs.config.run_config import make_config

SMALL: dict[str, Any] = {
    "learning_starts": 50,
    "steps_per_chunk": 50,
    "hidden": (8,),
    "batch_size": 4,
    "evaluation_episodes": 2,
}
NEVER_SAME = {"train_seconds", "env_steps_per_second", "updates_per_second"}


def profiled(folder: Path, env: str, **options: Any) -> tuple[runs.Result, dict[str, Any]]:
    result = runs.train(env, run_dir=folder, profile=True, **{"progress": False} | SMALL | options)
    return result, json.loads((folder / "profile/shares.json").read_text())


def test_a_profile_changes_nothing(tmp_path: Path) -> None:
    """Bit for bit; and the shares are of what the run takes."""
    plain = runs.train(
        "pendulum", run_dir=tmp_path / "plain", progress=False, **SMALL, total_timesteps=250
    )
    result, found = profiled(tmp_path / "profiled", "pendulum", total_timesteps=250)
    jax.tree.map(
        lambda a, b: (a == b).all() or pytest.fail("another state"),
        plain.agent_state,
        result.agent_state,
    )
    rows = [
        [{k: v for k, v in row.items() if k not in NEVER_SAME} for row in one.metrics]
        for one in (plain, result)
    ]
    assert rows[0] == rows[1]
    assert plain.summary["final_returns"] == result.summary["final_returns"]
    assert not (tmp_path / "plain/profile").exists()
    assert list((tmp_path / "profiled/profile").rglob("*.xplane.pb"))
    # 4 chunks of 50 rounds, 2 of them traced.
    assert (found["chunks"], found["chunks_were_traced"], found["overlapping"]) == (2, False, False)
    alone, shares, seconds = found["seconds_alone"], found["shares"], found["seconds_per_round"]
    for name in ("environment", "replay", "update"):
        assert 0 < alone[name] == pytest.approx(shares[name] * seconds)
    assert sum(shares.values()) == pytest.approx(1)
    assert found["products_over_update"] == pytest.approx(alone["products"] / alone["update"])


def test_a_profile_of_seeds_and_priorities() -> None:
    """Products are of all seeds."""
    options = SMALL | {"total_timesteps": 102, "priority_exponent": 0.6, "n_step": 3}
    one, two = (
        profile.shares(make_config("pendulum", "td3", seeds=seeds, **options), 0.01)
        for seeds in (1, 2)
    )
    assert two["products_flops"] == 2 * one["products_flops"]
    assert two["seconds_per_round"] == pytest.approx(
        0.01 / 25
    )  # two steps and one update, of two batches, are a round


def test_a_profile_from_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Says what drawing takes; images and replays of them are timed with bytes (here only
    traced)."""

    def traced(init: Any, step: Any, iterations: int, keys: jax.Array) -> Any:
        jax.eval_shape(lambda key: step(init(key), key), keys)
        return lambda: time.sleep(1e-4)

    monkeypatch.setattr(timing, "scanned", traced)
    hyperparameters = SMALL | {
        "num_envs": 2,
        "channels": 2,
        "layers": 1,
        "trunk": 4,
        "replay_capacity": 100,
        "total_timesteps": 200,
    }
    config = make_config(
        "pendulum",
        "drq-v2",
        env_options={"pixels": True, "image_size": 16, "action_repeat": 2},
        **hyperparameters,
    )
    found = profile.shares(config, 0.01)
    alone, drawn = found["seconds_alone"], found["rendering_over_environment"]
    assert 0 < alone["simulation"] == pytest.approx((1 - drawn) * alone["environment"])
    said = profile.sentences(found | {"chunks": 1, "chunks_were_traced": False})
    assert f"Drawing is {drawn:.0%} of the environment." in said


@pytest.mark.slow
def test_a_profile_on_the_host(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a run of one chunk that chunk is traced, and said to be slow."""
    result, found = profiled(
        tmp_path / "run", "gymnasium/Pendulum-v1", total_timesteps=100, progress=True
    )
    assert len(result.metrics) == found["chunks"] == 1
    assert found["chunks_were_traced"]
    assert found["overlapping"]
    assert set(found["shares"]) == {"environment", "replay", "update", "rest"}
    assert found["seconds_alone"]["environment"] > 1e-6
    said = capsys.readouterr().out
    assert "slowed down by the trace" in said
    assert "shares overlap" in said
    assert "matrix products alone take" in said


def test_what_an_agent_keeps_is_what_is_stored_and_learned_from() -> None:
    agent = agents.encode_observations(
        agents.ddpg(networks.Actor(1, (8,)), networks.Critic((8,), 0)),
        lambda weights, image: image.reshape(*image.shape[:-3], -1).astype(jnp.float32) @ weights,
        lambda key: jax.random.normal(key, (3 * 3 * 2, 5)),
    )
    like = timing.shaped(
        jax.ShapeDtypeStruct((3, 3, 2), jnp.uint8), jax.ShapeDtypeStruct((1,), jnp.float32)
    )
    code = jax.ShapeDtypeStruct((5,), jnp.float32)
    assert parts.kept(agent, like) == timing.shaped(code, like.action)
    init, step = parts.updating(agent, replay.uniform(10, 4), like)
    _, (batch,) = jax.eval_shape(init, jax.random.key(0))
    assert batch.observation.shape == batch.next_observation.shape == (4, 5)
    jax.eval_shape(step, jax.eval_shape(init, jax.random.key(0)), jax.random.key(0))


def test_products_of_an_update() -> None:
    """Actor 3-8-1 and critic 4-8-1 on batches of 5: forward, and backward to each weight and to
    each layer above the first.

    Target: 5 * 2 (3 * 8 + 8 * 1 + 4 * 8 + 8 * 1) = 720. Critic: forward 400, to weights 400, to its
    hidden layer 80: 880. Actor: forward of actor and critic 720, back through the critic 400, to
    its weights 320, to its hidden layer 80: 1520."""
    agent = agents.ddpg(networks.Actor(1, (8,)), networks.Critic((8,), 0))
    like = timing.shaped(
        jax.ShapeDtypeStruct((3,), jnp.float32), jax.ShapeDtypeStruct((1,), jnp.float32)
    )
    part = parts.updating(agent, replay.uniform(10, 5), like)
    assert parts.multiplying(part)[1] == 720 + 880 + 1520
    twice = (part[0], timing.repeated(part[1], 2))
    assert parts.multiplying(twice)[1] == 2 * (720 + 880 + 1520)


def test_products_in_a_loop_of_unknown_length() -> None:
    with pytest.raises(ValueError, match="inside a while"):
        limit.products(
            lambda x, n: jax.lax.fori_loop(0, n, lambda _, x: x @ x, x), jnp.zeros((2, 2)), 3
        )


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_products_alone_are_computed_in_every_step(dtype: Any) -> None:
    """All in the loop's body, none before it; results that fit are factors of what follows."""
    shapes = [jnp.zeros(shape, dtype) for shape in ((4, 8), (8, 16), (16, 2))]
    found = 2 * limit.products(lambda a, b, c: (a @ b) @ c, *shapes)
    assert limit.flops(found) == 2 * 2 * (4 * 8 * 16 + 4 * 16 * 2)
    init, step = limit.alone(found)
    state = init(jax.random.key(0))
    (_, outputs) = step(state, jax.random.key(0))
    assert [(x.shape, x.dtype) for x in outputs] == 2 * [((4, 2), dtype)]
    compiled = jax.jit(timing.repeated(step, 7)).lower(state, jax.random.key(0)).compile()
    where = {block.split(" ")[0]: block for block in re.split(r"\n\n", compiled.as_text())}
    products = [name for name, block in where.items() if " dot(" in block]  # fusions
    callers = [
        name
        for one in products
        for name, block in where.items()
        if re.search(rf"calls={re.escape(one)}\b(?![.])", block)
    ]
    entry = next(block for name, block in where.items() if name == "ENTRY")
    (body,) = re.findall(r" while\(.*body=(%[\w.]+)", entry)
    assert sum(block.count(" dot(") for block in where.values()) == 4
    assert set(callers) == {body}


def test_branches_count_once_where_they_cost_the_same() -> None:
    factors = jnp.ones((4, 8)), jnp.ones((8, 2))
    turned = lambda a, b: (b.T @ a.T).T
    either = lambda other: lambda a, b: jax.lax.cond(a[0, 0] > 0, jnp.matmul, other, a, b)
    assert limit.flops(limit.products(either(turned), *factors)) == 2 * 4 * 8 * 2
    with pytest.raises(ValueError, match="branches of a cond have products of different sizes"):
        limit.products(either(lambda a, b: jnp.zeros((4, 2))), *factors)
