"""Sums that go on, against exact ones."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddpg_jax.reporting import compensated_add, zero_sum


@pytest.mark.parametrize("jit", [True, False])
def test_ones_are_counted_beyond_2_to_the_24(jit):
    total = compensated_add(zero_sum({"count": 0}), {"count": 2**24})
    add = jax.jit(compensated_add) if jit else compensated_add
    for _ in range(3):
        total = add(total, {"count": 1})
    assert float(total.value["count"]) + float(total.rest["count"]) == 2**24 + 3
    assert total.value["count"] == np.float32(2**24 + 3)


def test_a_long_sum_is_the_exact_one():
    """10,000 numbers over twelve decades and of both signs: as near to their exact sum as 2^-44 of
    the largest partial sum."""
    rng = np.random.default_rng(0)
    hyperparameters = (
        10 ** rng.uniform(-6, 6, (10_000, 3)) * rng.choice([-1, 1], (10_000, 3))
    ).astype(np.float32)
    scan = jax.jit(
        lambda xs: jax.lax.scan(
            lambda total, x: (compensated_add(total, x), None), zero_sum(xs[0]), xs
        )[0]
    )
    total = scan(hyperparameters)
    for column in range(3):
        exact = [float(x) for x in hyperparameters[:, column]]
        largest = np.abs(np.cumsum(exact)).max()
        found = float(total.value[column]) + float(total.rest[column])
        assert abs(found - math.fsum(exact)) <= largest * 2**-44 * 10
        assert total.value[column] == np.float32(found)


def test_a_total_of_anything_has_two_buffers():
    total = zero_sum({"a": jnp.zeros(3), "b": (jnp.int32(1), np.zeros((2, 2)))})
    leaves = jax.tree.leaves(total)
    assert len({leaf.unsafe_buffer_pointer() for leaf in leaves}) == len(leaves) == 6
    assert {leaf.dtype for leaf in leaves} == {jnp.dtype(jnp.float32)}
