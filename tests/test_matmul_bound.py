"""The benchmarks' arithmetic of a training round's components and of their matrix products."""

import re
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from ddpg_jax import agents, networks, replay

ROOT = Path(__file__).parents[1]
if not (ROOT / "benchmarks").is_dir():
    pytest.skip("the benchmarks are not here: this is not a checkout", allow_module_level=True)
sys.path.insert(0, str(ROOT))
from benchmarks import components, harness, matmul_bound  # noqa: E402


def test_what_an_agent_keeps_is_what_is_stored_and_learned_from() -> None:
    agent = agents.encode_observations(
        agents.ddpg(networks.Actor(1, (8,)), networks.Critic((8,), 0)),
        lambda weights, image: image.reshape(*image.shape[:-3], -1).astype(jnp.float32) @ weights,
        lambda key: jax.random.normal(key, (3 * 3 * 2, 5)),
    )
    like = harness.shaped(
        jax.ShapeDtypeStruct((3, 3, 2), jnp.uint8), jax.ShapeDtypeStruct((1,), jnp.float32)
    )
    code = jax.ShapeDtypeStruct((5,), jnp.float32)
    assert components.kept(agent, like) == harness.shaped(code, like.action)
    init, step = components.updating(agent, replay.uniform(10, 4), like)
    _, (batch,) = jax.eval_shape(init, jax.random.key(0))
    assert batch.observation.shape == batch.next_observation.shape == (4, 5)
    jax.eval_shape(step, jax.eval_shape(init, jax.random.key(0)), jax.random.key(0))


def test_products_of_an_update() -> None:
    """Actor 3-8-1 and critic 4-8-1 on batches of 5: forward, and backward to each weight and to
    each layer above the first.

    Target: 5 * 2 (3 * 8 + 8 * 1 + 4 * 8 + 8 * 1) = 720. Critic: forward 400, to weights 400, to its
    hidden layer 80: 880. Actor: forward of actor and critic 720, back through the critic 400, to
    its weights 320, to its hidden layer 80: 1520.
    """
    agent = agents.ddpg(networks.Actor(1, (8,)), networks.Critic((8,), 0))
    like = harness.shaped(
        jax.ShapeDtypeStruct((3,), jnp.float32), jax.ShapeDtypeStruct((1,), jnp.float32)
    )
    part = components.updating(agent, replay.uniform(10, 5), like)
    assert components.multiplying(part)[1] == 720 + 880 + 1520
    twice = (part[0], harness.repeated(part[1], 2))
    assert components.multiplying(twice)[1] == 2 * (720 + 880 + 1520)


def test_products_in_a_loop_of_unknown_length() -> None:
    with pytest.raises(ValueError, match="inside a while"):
        matmul_bound.products(
            lambda x, n: jax.lax.fori_loop(0, n, lambda _, x: x @ x, x), jnp.zeros((2, 2)), 3
        )


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_products_alone_are_computed_in_every_step(dtype: Any) -> None:
    """All in the loop's body, none before it; results that fit are factors of what follows."""
    shapes = [jnp.zeros(shape, dtype) for shape in ((4, 8), (8, 16), (16, 2))]
    found = 2 * matmul_bound.products(lambda a, b, c: (a @ b) @ c, *shapes)
    assert matmul_bound.flops(found) == 2 * 2 * (4 * 8 * 16 + 4 * 16 * 2)
    init, step = matmul_bound.alone(found)
    state = init(jax.random.key(0))
    (_, outputs) = step(state, jax.random.key(0))
    assert [(x.shape, x.dtype) for x in outputs] == 2 * [((4, 2), dtype)]
    compiled = jax.jit(harness.repeated(step, 7)).lower(state, jax.random.key(0)).compile()
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
    assert matmul_bound.flops(matmul_bound.products(either(turned), *factors)) == 2 * 4 * 8 * 2
    with pytest.raises(ValueError, match="branches of a cond have products of different sizes"):
        matmul_bound.products(either(lambda a, b: jnp.zeros((4, 2))), *factors)
