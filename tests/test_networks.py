import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddpg_jax.networks import Actor, Critic

O, A = 5, 4  # noqa: E741


def shapes(network, *sizes):
    return jax.eval_shape(network.init, jax.random.key(0), *(jnp.zeros(size) for size in sizes))


def some_params(network, *sizes):
    """Parameters of the right shapes, from U[-0.5, 0.5]."""
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda x: jnp.asarray(rng.uniform(-0.5, 0.5, x.shape), x.dtype), shapes(network, *sizes))


def layers(params):
    """The layers in order."""
    params = params["params"]
    return [params[name] for name in sorted(params, key=lambda name: int(name.split("_")[1]))]


def normal(*shape):
    return np.random.default_rng(1).normal(size=shape).astype(np.float32)


def parameter_count(network, *sizes):
    return sum(leaf.size for leaf in jax.tree.leaves(shapes(network, *sizes)))


@pytest.mark.parametrize(
    ("network", "sizes", "fan_ins"),
    [
        (Actor(A, hidden=(16, 9)), (O,), (O, 16)),
        (Critic(hidden=(16, 9)), (O, A), (O, 16 + A)),  # the action joins the second layer
    ],
    ids=["actor", "critic"],
)
def test_weights_and_biases_start_uniform_in_the_papers_ranges(network, sizes, fan_ins):
    keys = jax.random.split(jax.random.key(0), 500)
    params = jax.jit(jax.vmap(lambda key: network.init(key, *(jnp.zeros(n) for n in sizes))))(keys)
    bounds = [1 / np.sqrt(fan_in) for fan_in in fan_ins] + [3e-3]
    for layer, bound in zip(layers(params), bounds, strict=True):
        for leaf in (layer["kernel"], layer["bias"]):
            assert np.abs(leaf).max() <= bound
            assert np.abs(leaf).max() > 0.98 * bound
            assert abs(np.mean(leaf)) < 0.1 * bound
            np.testing.assert_allclose(np.std(leaf), bound / np.sqrt(3), rtol=0.06)  # of U[-bound, bound]


def test_final_bound_none_is_the_fan_in():
    params = jax.jit(Actor(50, hidden=(16,), final_bound=None).init)(jax.random.key(0), jnp.zeros(O))
    final = layers(params)[-1]["kernel"]
    assert 0.9 / 4 < np.abs(final).max() <= 1 / 4  # 1 / sqrt(16)


@pytest.mark.parametrize(
    ("action_layer", "kernels"),
    [
        (0, [(O + A, 7), (7, 3), (3, 1)]),
        (1, [(O, 7), (7 + A, 3), (3, 1)]),
        (2, [(O, 7), (7, 3), (3 + A, 1)]),
    ],
)
def test_action_layer_says_where_the_action_joins(action_layer, kernels):
    critic = Critic(hidden=(7, 3), action_layer=action_layer)
    params = shapes(critic, O, A)
    assert [layer["kernel"].shape for layer in layers(params)] == kernels
    assert [layer["bias"].shape for layer in layers(params)] == [(7,), (3,), (1,)]


@pytest.mark.parametrize("action_layer", [0, 1, 2])
def test_critic_matches_numpy(action_layer):
    s, a = normal(6, O), normal(6, A)
    critic = Critic(hidden=(7, 3), action_layer=action_layer, final_bound=None)
    params = some_params(critic, O, A)
    x = s
    for index, layer in enumerate(layers(params)):
        if index == action_layer:
            x = np.concatenate([x, a], axis=1)
        x = x @ np.asarray(layer["kernel"]) + np.asarray(layer["bias"])[None]
        x = np.maximum(x, 0) if index < 2 else x
    np.testing.assert_allclose(critic.apply(params, s, a), x[:, 0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("action_layer", [-1, 3])
def test_wrong_action_layer_names_the_choice(action_layer):
    with pytest.raises(ValueError, match=f"action_layer={action_layer}.* 0 to 2"):
        shapes(Critic(hidden=(7, 3), action_layer=action_layer), O, A)


def test_action_is_bounded():
    actor = Actor(A, hidden=(8,), final_bound=None)
    observation = 100 * normal(64, O)
    action = actor.apply(some_params(actor, O), observation)
    assert np.abs(action).max() <= 1
    assert np.abs(action).max() > 0.9
    unbounded = Actor(A, hidden=(8,), final_bound=None, output=lambda x: x)
    assert np.abs(unbounded.apply(some_params(actor, O), observation)).max() > 1


@pytest.mark.parametrize("leading", [(), (6,), (2, 3)])
def test_leading_axes(leading):
    actor, critic = Actor(A, hidden=(8,)), Critic(hidden=(8,), final_bound=None)
    observation, action = normal(6, O), normal(6, A)
    actor_params, critic_params = some_params(actor, O), some_params(critic, O, A)
    rows = np.prod(leading, dtype=int)
    s, a = observation[:rows].reshape(*leading, O), action[:rows].reshape(*leading, A)
    action_out, value = actor.apply(actor_params, s), critic.apply(critic_params, s, a)
    assert action_out.shape == (*leading, A)
    assert value.shape == leading
    flat = np.stack([critic.apply(critic_params, observation[i], action[i]) for i in range(rows)])
    np.testing.assert_allclose(value.reshape(-1), flat, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("action_layer", [0, 1, 2])
def test_bfloat16_computes_in_bfloat16_and_keeps_float32(action_layer):
    def build(dtype):
        return (
            Actor(A, hidden=(8, 8), final_bound=None, dtype=dtype),
            Critic(hidden=(8, 8), action_layer=action_layer, final_bound=None, dtype=dtype),
        )

    s, a = normal(6, O), normal(6, A)
    inputs = ((s,), (s, a))
    for half, full, arrays in zip(build(jnp.bfloat16), build(jnp.float32), inputs, strict=True):
        params = some_params(half, *(array.shape for array in arrays))
        assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype(jnp.float32)}  # as `init` makes them
        out, exact = jax.jit(half.apply)(params, *arrays), jax.jit(full.apply)(params, *arrays)
        assert out.dtype == jnp.float32
        assert not np.array_equal(out, exact)
        np.testing.assert_allclose(out, exact, atol=0.02)
        assert "bf16" in str(jax.make_jaxpr(half.apply)(params, *arrays))
        grads = jax.eval_shape(jax.grad(lambda params: half.apply(params, *arrays).sum()), params)  # noqa: B023
        assert {leaf.dtype for leaf in jax.tree.leaves(grads)} == {jnp.dtype(jnp.float32)}


def test_parameter_count_of_the_papers_networks():
    observation, action = 17, 6
    # (17*400 + 400) + (400*300 + 300) + (300*6 + 6) = 7200 + 120300 + 1806
    assert parameter_count(Actor(action), observation) == 129_306
    # (17*400 + 400) + ((400 + 6)*300 + 300) + (300*1 + 1) = 7200 + 122100 + 301
    assert parameter_count(Critic(), observation, action) == 129_601
