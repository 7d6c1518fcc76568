"""Convolutions, what follows them and how they start, on every kind of device, against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddpg_jax.networks import (
    Conv,
    Critic,
    Features,
    Trunk,
    VmappedHead,
    WithEncoder,
    drq_v2_encoder,
)
from ddpg_jax.networks import conv as convs
from ddpg_jax.networks import layers as dense

RNG = np.random.default_rng(0)


@pytest.fixture(params=["cpu", "default"])
def platform(request, monkeypatch):
    """A CPU's branch of each choice between devices, and that of all others, which no CPU runs."""

    def chosen(*arrays, **branches):
        return branches[request.param](*arrays)

    monkeypatch.setattr(jax.lax, "platform_dependent", chosen)
    return request.param


def correlated(images, kernel, stride):
    """Each output is the sum of a window times the kernel as it lies, not turned around."""
    size, (height, width) = len(kernel), images.shape[1:3]
    rows, columns = (height - size) // stride + 1, (width - size) // stride + 1
    found = np.zeros((len(images), rows, columns, kernel.shape[-1]))
    for row in range(rows):
        for column in range(columns):
            top, left = stride * row, stride * column
            window = images[:, top : top + size, left : left + size]
            found[:, row, column] = np.einsum("bhwc,hwcf->bf", window, kernel)
    return found


@pytest.mark.parametrize(("size", "stride"), [(3, 2), (2, 1)])
def test_every_device_has_the_same_convolution(platform, size, stride):
    """Values, and gradients of both inputs, by central differences along a random direction."""
    images = RNG.normal(size=(2, 7, 6, 2))
    kernel = RNG.normal(size=(size, size, 2, 3))
    found = convs._convolved(jnp.float32(images), jnp.float32(kernel), stride)
    wanted = correlated(images, kernel, stride)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
    weight = RNG.normal(size=wanted.shape)
    loss = lambda *inputs: jnp.sum(convs._convolved(*inputs, stride) * jnp.float32(weight))
    gradients = jax.grad(loss, (0, 1))(jnp.float32(images), jnp.float32(kernel))
    for which, gradient in enumerate(gradients):
        way = RNG.normal(size=gradient.shape)
        ends = [[images, kernel], [images, kernel]]
        ends[0][which], ends[1][which] = ends[0][which] + way, ends[1][which] - way
        up, down = (np.sum(correlated(*end, stride) * weight) for end in ends)
        assert np.sum(np.asarray(gradient) * way) == pytest.approx((up - down) / 2, rel=1e-3)


@pytest.mark.parametrize("features", [2, dense.NARROW + 1])
def test_every_device_has_the_same_product(platform, features):
    x, kernel = RNG.normal(size=(2, 4, 5)), RNG.normal(size=(5, features))
    found = dense._product(jnp.float32(x), jnp.float32(kernel))
    np.testing.assert_allclose(found, x @ kernel, rtol=1e-4, atol=1e-5)


def test_the_encoder_starts_orthogonal_and_sees_bytes_around_zero():
    """Kernels are orthogonal times sqrt(2) and biases 0; bytes are in [-0.5, 0.5]: the negative of
    a picture gives the features that its positive gives a kernel of the other sign."""
    encoder = drq_v2_encoder(6, 2)
    image = RNG.integers(0, 256, (9, 8, 2), np.uint8)
    params = jax.jit(encoder.init)(jax.random.key(3), image)["params"]
    for number, (inputs, stride) in enumerate(((2, 2), (6, 1))):
        kernel = np.asarray(params[f"Convolution_{number}"]["kernel"])
        assert kernel.shape == (3, 3, inputs, 6)
        columns = kernel.reshape(-1, 6)
        np.testing.assert_allclose(columns.T @ columns, 2 * np.eye(6), atol=1e-5)
        np.testing.assert_array_equal(params[f"Convolution_{number}"]["bias"], 0.0)
        assert stride == encoder.strides[number]
    x = image[None] / 255 - 0.5
    for number, stride in ((0, 2), (1, 1)):
        kernel = np.asarray(params[f"Convolution_{number}"]["kernel"], np.float64)
        x = np.maximum(correlated(x, kernel, stride), 0)
    found = encoder.apply({"params": params}, image)
    np.testing.assert_allclose(found, x.reshape(-1), rtol=1e-4, atol=1e-5)


def test_heads_on_one_encoder_have_parameters_of_their_own():
    """Of two critics each is what it is alone on the features: of the image, and beside them the
    vector as it is."""
    critic, observation = Critic((3,), 0), {"image": RNG.integers(0, 256, (5, 4, 6, 2), np.uint8)}
    observation["speed"] = jnp.float32(RNG.normal(size=(5, 2)))
    action = jnp.float32(RNG.normal(size=(5, 1)))
    network = WithEncoder(Features(lambda: Conv((3,), (2,), (2,))), VmappedHead(critic))
    params = jax.jit(network.init)(jax.random.key(0), observation, action)

    def all_of_it(params):
        features = network.apply(params, observation, method="encode")
        image = {"params": params["params"]["encoder"]["Conv_0"]}
        own = jnp.concatenate([Conv((3,), (2,), (2,)).apply(image, observation["image"])], axis=-1)
        heads = [
            {"params": jax.tree.map(lambda x, i=i: x[i], params["params"]["head"]["network"])}
            for i in range(2)
        ]
        alone = jnp.stack([critic.apply(head, features, action) for head in heads])
        on = network.apply(params, features, action, method="on")
        return network.apply(params, observation, action), alone, on, features, own

    values, alone, on, features, image = jax.jit(all_of_it)(params)
    assert values.shape == (2, 5)
    np.testing.assert_allclose(values, alone, rtol=1e-5)
    np.testing.assert_allclose(on, alone, rtol=1e-5)
    assert np.abs(values[0] - values[1]).max() > 1e-6
    for leaf in jax.tree.leaves(params["params"]["head"]):
        assert leaf.shape[0] == 2
        assert not np.array_equal(leaf[0], leaf[1])
    assert features.shape == (5, 2 * 3 * 3 + 2)
    np.testing.assert_allclose(features[:, :18], image, rtol=1e-5)
    np.testing.assert_array_equal(features[:, 18:], observation["speed"])
    floats = {"image": jnp.zeros((5, 4, 6, 2)), "speed": jnp.zeros((5, 2))}
    with pytest.raises(ValueError, match=r"Features: float32.* is neither an image nor a vector"):
        jax.eval_shape(network.init, jax.random.key(0), floats, action)


def test_features_of_an_image_alone_are_its_encoders():
    image, encoder = jnp.uint8(RNG.integers(0, 256, (5, 4, 6, 2))), lambda: Conv((3,), (2,), (2,))
    network = Features(encoder)
    params = jax.jit(network.init)(jax.random.key(0), image)
    (own,) = params["params"].values()
    alone = jax.jit(encoder().apply)({"params": own}, image)
    np.testing.assert_allclose(jax.jit(network.apply)(params, image), alone, rtol=1e-5)


def test_the_papers_encoder_is_of_four_layers():
    """Of 84 x 84 pixels 41, 39, 37 and 35 are left along a side, of 32 channels each."""
    encoder = drq_v2_encoder()
    image = jax.ShapeDtypeStruct((84, 84, 9), jnp.uint8)
    params = jax.eval_shape(encoder.init, jax.random.key(0), image)
    assert jax.eval_shape(encoder.apply, params, image).shape == (35 * 35 * 32,)
    kernels = [layer["kernel"].shape for layer in params["params"].values()]
    assert kernels == [(3, 3, 9, 32), *[(3, 3, 32, 32)] * 3]
    assert encoder.offset == 0.5


def test_a_convolution_starts_at_fan_in():
    """U[-b, b] with b = 1 / sqrt(3 * 3 * 5), kernel and bias."""
    network, bound = Conv((40,), (3,), (2,)), 1 / 45**0.5
    params = jax.jit(network.init)(jax.random.key(2), jnp.zeros((5, 5, 5), jnp.uint8))["params"]
    for leaf in jax.tree.leaves(params):
        assert 0.9 * bound < np.abs(leaf).max() <= bound
        assert np.std(leaf) == pytest.approx(bound / 3**0.5, rel=0.15)


def test_a_trunk_is_linear_normalised_and_within_its_bounds():
    """tanh(2 (Wx + b - mean) / spread + 0.25): scale and bias are not those it starts with."""
    trunk, x = Trunk(7), 3 * RNG.normal(size=(4, 5)) + 1
    start = jax.jit(trunk.init)(jax.random.key(1), jnp.float32(x))["params"]
    norm = {"scale": jnp.full(7, 2.0), "bias": jnp.full(7, 0.25)}
    params = start | {"LayerNorm_0": {"LayerNorm_0": norm}}
    assert jax.tree.structure(params) == jax.tree.structure(start)
    y = x @ np.asarray(start["Dense_0"]["kernel"]) + np.asarray(start["Dense_0"]["bias"])[None]
    spread = np.sqrt(y.var(axis=1, keepdims=True) + 1e-6)
    y = np.tanh(2 * (y - y.mean(axis=1, keepdims=True)) / spread + 0.25)
    np.testing.assert_allclose(trunk.apply({"params": params}, jnp.float32(x)), y, atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "sentence"),
    [
        ((36, 37, 3), None),
        ((2, 1, 36, 37, 3), None),  # fewer than that many images
        ((50, 35, 36, 3), "an image of 35x36 is too small"),
        ((36, 84, 84), None),  # as wide as it has channels, but large enough
        ((35, 36, 3), "an image of 35x36 is too small .* at least 36x36"),
        ((36, 35, 3), "an image of 36x35 is too small"),
        ((3, 84, 84), "has its channels first"),
        ((35, 84, 84), "has its channels first"),
    ],
)
def test_the_least_image(shape, sentence):
    """Of kernels 8, 4 and 3 and strides 4, 2 and 1: (3 - 1) * 2 + 4 = 8, and (8 - 1) * 4 + 8."""
    look = lambda: convs._require_room(jnp.zeros(shape, jnp.uint8), (8, 4, 3), (4, 2, 1))
    if sentence is None:
        look()
    else:
        with pytest.raises(ValueError, match=sentence):
            look()
