import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddpg_jax.agents import forward
from ddpg_jax.networks import (
    Actor,
    BatchNorm,
    Critic,
    Ensemble,
    GlorotDense,
    LayerNorm,
    NoisyDense,
    first_critic,
    inverting,
)

O, A = 5, 4  # noqa: E741


def shapes(network, *sizes):
    return jax.eval_shape(network.init, jax.random.key(0), *(jnp.zeros(size) for size in sizes))


def some_params(network, *sizes):
    """Parameters of the right shapes, from U[-0.5, 0.5]."""
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda x: jnp.asarray(rng.uniform(-0.5, 0.5, x.shape), x.dtype), shapes(network, *sizes)
    )


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
            np.testing.assert_allclose(
                np.std(leaf), bound / np.sqrt(3), rtol=0.06
            )  # of U[-bound, bound]


def test_final_bound_none_is_the_fan_in():
    params = jax.jit(Actor(50, hidden=(16,), final_bound=None).init)(
        jax.random.key(0), jnp.zeros(O)
    )
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
    clipped = Actor(A, hidden=(8,), final_bound=None, output=inverting)
    assert np.abs(clipped.apply(some_params(actor, O), observation)).max() == 1


def test_inverted_gradients_are_the_papers_equation():
    x = jnp.array([-3.0, -1.0, -0.5, 0.0, 0.5, 1.0, 3.0])
    np.testing.assert_array_equal(inverting(x), np.clip(x, -1, 1))
    gradient = lambda weight: jax.grad(lambda x: jnp.sum(weight * inverting(x)))(x)
    # Of what is climbed down: a negative weight goes up, by the room there is above; beyond a bound
    # it comes back.
    np.testing.assert_allclose(gradient(-2.0), -2.0 * (1 - x) / 2)
    np.testing.assert_allclose(gradient(2.0), 2.0 * (x + 1) / 2)


@pytest.mark.parametrize(("output", "leaves"), [(inverting, True), (jnp.tanh, False)])
def test_an_actor_leaves_a_bound_by_inverted_gradients_alone(output, leaves):
    """Driven to 1 for as long as it goes on, then asked for -1, by steps of gradient descent."""

    def step(x, wanted):
        return x - 0.1 * jax.grad(lambda x: (output(x) - wanted) ** 2)(x), None

    x, _ = jax.lax.scan(step, jnp.array(0.0), jnp.full(3_000, 20.0))
    assert output(x) > 0.99
    x, _ = jax.lax.scan(step, x, jnp.full(100, -1.0))
    assert (output(x) < -0.9) == leaves


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
        assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {
            jnp.dtype(jnp.float32)
        }  # as `init` makes them
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


# Categorical critics and ensembles


@pytest.mark.parametrize("leading", [(), (6,), (2, 3)])
def test_a_categorical_critic_returns_logits(leading):
    critic = Critic(hidden=(7, 3), num_atoms=5, final_bound=None)
    params = some_params(critic, O, A)
    assert [layer["kernel"].shape for layer in layers(params)] == [(O, 7), (7 + A, 3), (3, 5)]
    assert jax.eval_shape(critic.apply, params, normal(*leading, O), normal(*leading, A)).shape == (
        *leading,
        5,
    )


def test_an_ensemble_is_the_loop_over_members_of_their_own_keys():
    critic, key, s, a = (
        Critic(hidden=(4,), final_bound=None),
        jax.random.key(0),
        normal(6, O),
        normal(6, A),
    )
    ensemble = Ensemble(critic, 3)
    params = jax.jit(ensemble.init)(key, s[0], a[0])
    values = ensemble.apply(params, s, a)
    assert values.shape == (3, 6)
    init = jax.jit(critic.init)
    for i, member_key in enumerate(jax.random.split(key, 3)):
        member = jax.tree.map(lambda x: x[i], params)  # noqa: B023
        jax.tree.map(np.testing.assert_array_equal, member, init(member_key, s[0], a[0]))
        np.testing.assert_allclose(values[i], critic.apply(member, s, a), rtol=1e-5, atol=1e-6)
    jax.tree.map(
        np.testing.assert_array_equal, first_critic(params), jax.tree.map(lambda x: x[0], params)
    )


# Normalisation


def standardised(x, axis, epsilon):
    return (x - x.mean(axis, keepdims=True)) / np.sqrt(x.var(axis, keepdims=True) + epsilon)


def linear(layer, x):
    return x @ np.asarray(layer["kernel"]) + np.asarray(layer["bias"])[None]


def with_scales(params, name):
    """Scale 2 and bias 0.25 in every normalisation, to see them act."""
    changed = lambda tree: tree | {"scale": tree["scale"] * 0 + 2, "bias": tree["bias"] * 0 + 0.25}
    return {
        key: {f"{name}_0": changed(value[f"{name}_0"])} if key.startswith(name) else value
        for key, value in params.items()
    }


@pytest.mark.parametrize(("norm", "axis", "epsilon"), [(LayerNorm, -1, 1e-6), (BatchNorm, 0, 1e-5)])
def test_normalisation_is_numpys_and_comes_before_the_non_linearity(norm, axis, epsilon):
    s, a, name = normal(6, O) * 3 + 1, normal(6, A), norm.__name__
    normalised = lambda x: 2 * standardised(x, axis, epsilon) + 0.25

    actor = Actor(A, hidden=(8,), norm=norm, input_norm=norm, final_bound=None)
    variables = jax.jit(actor.init)(jax.random.key(0), s[0])
    params = with_scales(variables["params"], name)
    x = normalised(s)
    x = np.maximum(normalised(linear(params["Dense_0"], x)), 0)
    action, _ = forward(actor, variables | {"params": params}, s)
    np.testing.assert_allclose(action, np.tanh(linear(params["Dense_1"], x)), rtol=1e-4, atol=1e-5)

    critic = Critic(
        hidden=(8, 7), norm=norm, input_norm=norm, final_bound=None
    )  # the action joins the second layer
    variables = jax.jit(critic.init)(jax.random.key(0), s[0], a[0])
    params = with_scales(variables["params"], name)
    x = np.maximum(normalised(linear(params["Dense_0"], normalised(s))), 0)
    x = np.maximum(linear(params["Dense_1"], np.concatenate([x, a], axis=1)), 0)  # not normalised
    value, _ = forward(critic, variables | {"params": params}, s, a)
    np.testing.assert_allclose(value, linear(params["Dense_2"], x)[:, 0], rtol=1e-4, atol=1e-5)


def test_action_norm_is_for_the_layers_after_the_action():
    s, a = normal(6, O), normal(6, A)
    critic = Critic(hidden=(8, 7), action_norm=LayerNorm, final_bound=None)
    params = jax.jit(critic.init)(jax.random.key(0), s[0], a[0])["params"]
    x = np.maximum(linear(params["Dense_0"], s), 0)
    x = np.maximum(
        standardised(linear(params["Dense_1"], np.concatenate([x, a], axis=1)), -1, 1e-6), 0
    )
    value = critic.apply({"params": params}, s, a)
    np.testing.assert_allclose(value, linear(params["Dense_2"], x)[:, 0], rtol=1e-4, atol=1e-5)


def test_batch_norm_without_writing_uses_the_running_statistics():
    s = normal(6, O) * 3 + 1
    actor = Actor(A, hidden=(), input_norm=BatchNorm, final_bound=None)
    variables = jax.jit(actor.init)(jax.random.key(0), s[0])
    mean, var = variables["batch_stats"]["BatchNorm_0"]["BatchNorm_0"].values()
    np.testing.assert_array_equal(mean, np.zeros(O))  # `init` does not move them
    np.testing.assert_array_equal(var, np.ones(O))
    _, stats = forward(actor, variables, s)
    mean, var = (
        np.asarray(stats["batch_stats"]["BatchNorm_0"]["BatchNorm_0"][name])
        for name in ("mean", "var")
    )
    np.testing.assert_allclose(mean, 0.01 * s.mean(0), rtol=1e-5)
    np.testing.assert_allclose(var, 0.99 + 0.01 * s.var(0), rtol=1e-5)
    x = (s - mean[None]) / np.sqrt(var + 1e-5)[None]
    action = actor.apply(variables | stats, s)
    np.testing.assert_allclose(
        action, np.tanh(linear(variables["params"]["Dense_0"], x)), rtol=1e-4, atol=1e-5
    )


# Noisy layers


def noise_of(layer, variables, draws):
    """What one unit of sigma adds: ``[draws, fan_in, features]`` to the weights and ``[draws,
    features]`` to the biases."""
    params = variables["params"]
    fan_in = params["kernel"].shape[0]
    still = jax.tree.map(jnp.zeros_like, params)

    def draw(key, name):
        unit = {
            "params": still | {name: jnp.ones_like(params[name])},
            "noise": variables["noise"] | {"key": key},
        }
        return layer.apply(unit, jnp.eye(fan_in), mutable=["noise"])[0]

    keys = jax.random.split(jax.random.key(1), draws)
    weights, biases = (
        jax.jit(jax.vmap(lambda key: draw(key, name)))(keys)  # noqa: B023
        for name in ("kernel_sigma", "bias_sigma")
    )
    return np.asarray(weights), np.asarray(biases)


def test_noisy_layer_draws_factorised_noise():
    layer = NoisyDense(4)
    variables = jax.jit(layer.init)(jax.random.key(0), jnp.zeros(3))
    # sigma_0 / sqrt(p) = 0.5 / sqrt(3), means in U[-1/sqrt(3), 1/sqrt(3)]
    for name in ("kernel_sigma", "bias_sigma"):
        np.testing.assert_allclose(variables["params"][name], 0.5 / np.sqrt(3), rtol=1e-6)
        assert np.abs(variables["params"][name.removesuffix("_sigma")]).max() <= 1 / np.sqrt(3)
    weights, biases = noise_of(layer, variables, 4000)
    # f(x) = sign(x) sqrt|x|: E f^2 = E|x| = sqrt(2 / pi), so the variances are 2 / pi and sqrt(2 /
    # pi).
    np.testing.assert_allclose(np.mean(weights, axis=0), 0, atol=0.06)
    np.testing.assert_allclose(np.var(weights, axis=0), 2 / np.pi, rtol=0.12)
    np.testing.assert_allclose(np.var(biases, axis=0)[0], np.sqrt(2 / np.pi), rtol=0.08)
    # Every row of the input sees the same bias noise, which is the output's factor of the weights'
    # noise; rank 1.
    np.testing.assert_allclose(biases, np.broadcast_to(biases[:, :1], biases.shape))
    factor = weights / biases
    np.testing.assert_allclose(
        factor, np.broadcast_to(factor[:, :, :1], factor.shape), rtol=2e-3, atol=1e-4
    )
    np.testing.assert_allclose(np.mean(factor[:, :, 0] ** 4), 1, rtol=0.1)  # f(x)^4 = x^2
    np.testing.assert_allclose(np.mean(biases**4), 1, rtol=0.1)


def test_noisy_layer_is_its_means_unless_its_noise_may_be_written():
    layer, x = NoisyDense(4), normal(5, 3)
    variables = jax.jit(layer.init)(jax.random.key(0), x[0])
    expected = linear(variables["params"], x)
    np.testing.assert_allclose(layer.apply(variables, x), expected, rtol=1e-5, atol=1e-6)
    noisy, noise = forward(layer, variables, x)
    again, _ = forward(layer, variables | noise, x)
    assert np.abs(noisy - expected).max() > 0.05
    assert np.abs(again - noisy).max() > 0.05  # the key has moved on
    assert noise["noise"]["active"] == 0  # and acting stays quiet
    np.testing.assert_allclose(layer.apply(variables | noise, x), expected, rtol=1e-5, atol=1e-6)
    same, _ = forward(layer, variables, np.stack([x[0]] * 3))
    np.testing.assert_allclose(
        same, np.broadcast_to(same[:1], same.shape), rtol=1e-6
    )  # one draw for the whole batch
    active = {"noise": variables["noise"] | {"active": jnp.ones(())}}
    assert np.abs(layer.apply(variables | active, x) - expected).max() > 0.05


def test_noisy_layers_of_one_actor_have_keys_of_their_own():
    actor = Actor(A, hidden=(8,), dense=NoisyDense)
    noise = jax.jit(actor.init)(jax.random.key(0), jnp.zeros(O))["noise"]
    keys = [tuple(jax.random.key_data(noise[f"NoisyDense_{i}"]["key"]).tolist()) for i in range(2)]
    assert len(set(keys)) == 2


def test_glorots_layers_start_within_his_bound_and_without_biases():
    """sqrt(6 / (200 + 100)) = 0.1414; the mean square of U[-b, b] is b^2 / 3."""
    layer = GlorotDense(100, bound=1e-6)
    params = layer.init(jax.random.key(0), jnp.zeros((1, 200)))["params"]
    kernel = np.asarray(params["kernel"])
    bound = (6 / 300) ** 0.5
    assert np.abs(kernel).max() <= bound < 1.01 * np.abs(kernel).max()
    np.testing.assert_allclose(np.mean(kernel**2), bound**2 / 3, rtol=0.03)
    assert not np.any(params["bias"])
