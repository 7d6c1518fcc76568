"""The autoencoder learns what pictures differ in, and an agent sees its latents."""

import importlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from ddpg_jax import agents, networks
from ddpg_jax.types import Transition

autoencoders = importlib.import_module("ddpg_jax.networks.vae")  # hidden by the function
SIZE, CODE, CHANNELS = 32, 4, 8
KEY = jax.random.key(0)


def pictures(key, count):
    """A bright half-plane whose edge stands anywhere, in a grey of its own."""
    edge, grey = jax.random.uniform(key, (2, count, 1, 1), minval=0.2, maxval=0.8)
    across = jnp.linspace(0, 1, SIZE)[None, None]
    plane = jnp.broadcast_to(jnp.where(across > edge, 1.0, grey), (count, SIZE, SIZE))
    return (jnp.repeat(plane[..., None], 3, axis=-1) * 255).astype(jnp.uint8)


@pytest.fixture(scope="module")
def fitted():
    """``(the autoencoder, its parameters, metrics of its training, new pictures, their
    reconstructions and latents)``."""
    vae = networks.vae(SIZE, latent_size=CODE, channels=CHANNELS)

    def run(key):
        params, metrics = networks.fit_vae(
            vae, pictures(key, 128), key, updates=400, batch_size=16, learning_rate=3e-3
        )
        new = pictures(jax.random.fold_in(key, 1), 64)
        mean, log_variance = vae.encode(params, new)
        return params, metrics, new, vae.decode(params, mean), mean, log_variance

    return vae, *jax.jit(run)(KEY)


@pytest.mark.slow
def test_it_reconstructs_what_it_has_not_seen(fitted):
    """With an error of at most a third of that of the mean picture."""
    _, _, metrics, new, again, *_ = fitted
    new = np.asarray(new) / 255
    error, of_the_mean = np.mean((new - again) ** 2), np.mean((new - new.mean(axis=0)) ** 2)
    assert error < of_the_mean / 3
    assert np.all(np.isfinite(metrics["divergence"]))
    assert metrics["reconstruction"][-10:].mean() < metrics["reconstruction"][:10].mean() / 3


def test_the_best_linear_autoencoder_is_what_it_begins_with(fitted):
    """That of probabilistic principal components, by NumPy's singular vectors."""
    vae, *_ = fitted
    variance = 0.01

    def run(key):
        seen = pictures(key, 64)
        params = vae.begin(vae.init(key), seen, key)
        mean, log_variance = vae.encode(params, seen)
        return seen, mean, log_variance, vae.decode(params, mean)

    seen, mean, log_variance, again = map(np.asarray, jax.jit(run)(KEY))
    x = seen.reshape(64, -1) / 255
    apart = x - x.mean(axis=0)
    _, roots, vectors = np.linalg.svd(apart / 8, full_matrices=False)  # 8: the root of 64 pictures
    values, vectors = roots[:CODE] ** 2, vectors[:CODE].T
    wanted = x.mean(axis=0) + apart @ vectors @ np.diag((values - variance) / values) @ vectors.T
    np.testing.assert_allclose(again.reshape(64, -1), wanted, atol=2e-3)
    np.testing.assert_allclose(np.sort(log_variance[0]), np.log(variance / values), atol=1e-2)
    np.testing.assert_allclose(np.std(mean, axis=0), np.sqrt(1 - variance / values), atol=1e-2)


def test_halving_and_doubling_are_of_two_by_two_pixels():
    """A block's pixels row by row, each with all its features, of pictures that are not square."""
    x = np.arange(5 * 4 * 6 * 3, dtype=np.float32).reshape(5, 4, 6, 3)
    blocks = np.stack([x[:, i::2, j::2] for i in range(2) for j in range(2)], axis=3)
    assert blocks.shape == (5, 2, 3, 4, 3)
    blocks = blocks.reshape(5, 2, 3, 12)
    np.testing.assert_array_equal(autoencoders._pixels(jnp.array(blocks), 3), x)
    np.testing.assert_array_equal(autoencoders._pixels(jnp.array(blocks[0]), 3), x[0])

    class Halved(nn.Module):
        @nn.compact
        def __call__(self, x):
            return autoencoders._halved(x, 7)

    found, params = jax.jit(Halved().init_with_output)(KEY, x / 100)
    layer = params["params"]["Dense_0"]
    wanted = blocks / 100 @ np.asarray(layer["kernel"]) + np.asarray(layer["bias"])
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def test_latents_tell_pictures_apart(fitted):
    """Their divergence from N(0, I) is paid for: means spread wider than what is drawn around
    each."""
    *_, mean, log_variance = fitted
    assert np.std(mean, axis=0).max() > 2 * np.exp(np.asarray(log_variance) / 2).min()


def test_the_loss_is_its_equation(fitted):
    """Without spread around the mean the first term is of the decoded means; the second is written
    out in NumPy."""
    vae, params, _, new, again, mean, log_variance = fitted
    _, parts = jax.jit(vae.loss)(params, new, KEY)
    mean, log_variance = np.asarray(mean, np.float64), np.asarray(log_variance, np.float64)
    divergence = 0.5 * np.sum(np.exp(log_variance) + mean**2 - 1 - log_variance, axis=1).mean()
    assert parts["divergence"] == pytest.approx(divergence, rel=1e-4)
    error = np.sum((np.asarray(new) / 255 - again) ** 2, axis=(1, 2, 3)).mean()
    assert parts["reconstruction"] == pytest.approx(error, rel=0.5)
    whole, _ = jax.jit(networks.vae(SIZE, latent_size=CODE, channels=CHANNELS, beta=0.0).loss)(
        params, new, KEY
    )
    assert whole == pytest.approx(float(parts["reconstruction"]) / 0.02, rel=1e-4)


def in_numpy(params, images):
    """Means and spreads of the latents, and a function that draws latents, of three layers each."""
    layer = lambda part, name, x: (
        x @ np.asarray(params[part]["params"][name]["kernel"], np.float64)
        + np.asarray(params[part]["params"][name]["bias"], np.float64)
    )

    def halved(x):
        blocks = [x[:, i::2, j::2] for i in range(2) for j in range(2)]
        return np.concatenate(blocks, axis=-1)

    def doubled(x):
        count, height, width, depth = x.shape
        parts = x.reshape(count, height, width, 2, 2, depth // 4)
        return np.swapaxes(parts, 2, 3).reshape(count, 2 * height, 2 * width, -1)

    def decode(latent):
        x = np.maximum(layer("decoder", "Dense_0", latent), 0).reshape(-1, 2, 2, 2)
        x = doubled(np.maximum(layer("decoder", "Dense_1", x), 0))
        drawn = doubled(layer("decoder", "Dense_2", x))
        return drawn + layer("decoder", "linear", latent).reshape(drawn.shape) + 0.5

    x = images / 255 - 0.5
    linear = layer("encoder", "linear", x.reshape(len(x), -1))
    for name in ("Dense_0", "Dense_1"):
        x = np.maximum(layer("encoder", name, halved(x)), 0)
    x = x.reshape(len(x), -1)
    mean = linear + layer("encoder", "Dense_2", x)
    return mean, np.clip(layer("encoder", "spread", x), -10, 10), decode


def test_pictures_latents_and_the_loss_are_as_written_out():
    """In NumPy, of any parameters: 8 x 8 pixels of two colours, two layers; logarithms of variances
    end at 10 and -10."""
    vae = networks.vae(8, depth=2, latent_size=3, channels=2, layers=2, beta=70.0)
    rng = np.random.default_rng(0)
    params = jax.tree.map(
        lambda x: jnp.asarray(rng.normal(size=x.shape) / 2, jnp.float32),
        jax.eval_shape(vae.init, KEY),
    )
    images = rng.integers(0, 256, (5, 8, 8, 2), np.uint8)

    def all_of_it(params, images):
        mean, spread = vae.encode(params, images)
        return mean, spread, vae.decode(params, mean), vae.loss(params, images, KEY)

    compute = jax.jit(all_of_it)
    mean, spread, decoded, (loss, parts) = compute(params, images)
    wanted, log_variance, decode = in_numpy(params, images)
    np.testing.assert_allclose(mean, wanted, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(spread, log_variance, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(decoded, decode(wanted), rtol=1e-4, atol=1e-3)
    noise = np.asarray(jax.random.normal(KEY, mean.shape))
    apart = images / 255 - decode(wanted + np.exp(log_variance / 2) * noise)
    apart = np.sum(apart**2, axis=(1, 2, 3)).mean()
    divergence = (np.exp(log_variance) + wanted**2 - 1 - log_variance).sum(axis=1).mean() / 2
    assert parts["reconstruction"] == pytest.approx(apart, rel=1e-4)
    assert parts["divergence"] == pytest.approx(divergence, rel=1e-4)
    assert loss == pytest.approx(apart / 0.02 + 70 * divergence, rel=1e-4)
    layer = params["encoder"]["params"]["spread"]
    layer["bias"] = layer["bias"] + jnp.array([0.0, 30.0, -30.0])
    _, spread, *_ = compute(params, images)
    np.testing.assert_allclose(spread[:, 0], log_variance[:, 0], rtol=1e-4, atol=1e-4)
    assert (np.asarray(spread)[:, 1:] == [10, -10]).all()


def test_a_fit_draws_from_all_pictures_at_a_rate_that_falls_along_half_a_cosine(monkeypatch):
    """From the best linear autoencoder on; each update has a batch and noise of its own."""
    rates, seen = [], []
    monkeypatch.setattr(
        autoencoders.optax, "adam", lambda rate: rates.append(rate) or optax.identity()
    )
    vae = networks.vae(4, depth=1, latent_size=2, channels=1, layers=1)
    images = np.random.default_rng(2).integers(0, 256, (5, 4, 4, 1), np.uint8)
    images[:, 0, 0, 0] = 16 * np.arange(5)
    images = jnp.asarray(images)

    def loss(params, batch, key):
        jax.debug.callback(lambda *x: seen.append(x), batch[:, 0, 0, 0], jax.random.bits(key))
        zero = sum(jnp.sum(0 * x) for x in jax.tree.leaves(params))
        return zero, {"loss": zero + batch.shape[0]}

    def fit(key):
        options = {"updates": 4, "batch_size": 30, "learning_rate": 0.5}
        keys = jax.random.split(key, 3)
        begun = vae.begin(vae.init(keys[0]), images, keys[1])
        return *networks.fit_vae(vae._replace(loss=loss), images, key, **options), begun

    params, metrics, begun = jax.block_until_ready(jax.jit(fit)(KEY))
    jax.effects_barrier()
    np.testing.assert_array_equal(metrics["loss"], [30] * 4)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-5), params, begun)
    assert len({int(bits) for _, bits in seen}) == 4
    assert len({tuple(np.asarray(rows)) for rows, _ in seen}) == 4
    assert {int(row) for rows, _ in seen for row in rows} == {0, 16, 32, 48, 64}
    found = [float(rates[0](jnp.int32(count))) for count in range(5)]
    half = 0.5**0.5
    wanted = [0.5, (1 + half) / 4, 0.25, (1 - half) / 4, 0.0]
    np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_an_agent_sees_latents(fitted):
    """It acts on the latent and the vector beside it, learns from those of a batch, learns the same
    from latents of a replay, and leaves the autoencoder as it is."""
    vae, params, _, new, *_ = fitted
    seen = []

    def watching(size):
        inner = agents.ddpg(networks.Actor(size, (8,)), networks.Critic((8,), 0))

        def act(state, observation):
            seen.append(observation.shape)
            return inner.act(state, observation)

        return inner._replace(act=act)

    agent = agents.encode_observations(
        watching(2), lambda params, images: vae.encode(params, images)[0], lambda key: params
    )
    one = {"camera": new[0], "vehicle": jnp.zeros((2,), jnp.float32)}
    many = {"camera": new, "vehicle": jnp.zeros((64, 2), jnp.float32)}
    state = jax.jit(agent.init)(KEY, one, jnp.zeros((2,)))
    action = jax.jit(agent.act)(state, many)
    assert action.shape == (64, 2)
    assert seen == [(64, CODE + 2)]
    batch = Transition(many, action, jnp.ones((64,)), jnp.ones((64,)), many)

    def both(state):
        latents = agent.to_replay(state, many)
        stored = batch.replace(observation=latents, next_observation=latents)
        return latents, agent.update(state, stored, KEY).state, *agent.update(state, batch, KEY)

    latents, from_latents, after, _, metrics = jax.jit(both)(state)
    assert latents.shape == (64, CODE + 2)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), from_latents, after
    )
    assert np.isfinite(metrics["critic_loss"])
    jax.tree.map(np.testing.assert_array_equal, after.slots["encoder"], params)
    assert any(
        np.any(a != b)
        for a, b in zip(
            *map(jax.tree.leaves, (after.actor.params, state.actor.params)), strict=True
        )
    )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"size": 30},
            "size=30: an autoencoder's images must have a multiple of 16 pixels along "
            "each side.*for example 32",
        ),
        ({"size": 16}, "size=16: .* at least 32: choose for example 32"),
        ({"size": 32, "latent_size": 0}, "latent_size=0: must be at least 1"),
    ],
)
def test_bad_numbers_are_refused(options, said):
    with pytest.raises(ValueError, match=said):
        networks.vae(**options)


def test_an_image_of_another_size_is_refused(fitted):
    vae, params, *_ = fitted
    with pytest.raises(
        ValueError, match=r"an image of shape \(64, 64, 3\): this autoencoder takes \(32, 32, 3\)"
    ):
        vae.encode(params, jnp.zeros((64, 64, 3), jnp.uint8))


@pytest.mark.parametrize("what", ["autoencoder", "encoder"])
def test_members_take_turns_at_lapack(what):
    """A batch of it never ends where a CPU is several devices (`networks.layers.unbatched`); what
    it finds is what a member finds alone."""
    vae, encoder = networks.vae(8, layers=2, latent_size=3), networks.drq_v2_encoder(2, 1)

    def begun(key):
        if what == "encoder":
            return encoder.init(key, jnp.zeros((8, 8, 1), jnp.uint8))
        images = jax.random.randint(key, (32, 8, 8, 3), 0, 255).astype(jnp.uint8)
        return vae.begin(vae.init(key), images, key)

    keys = jax.random.split(KEY, 3)
    text = jax.jit(jax.vmap(begun)).lower(keys).as_text()
    calls = [line for line in text.splitlines() if "@lapack" in line]
    assert calls
    shapes = [shape for line in calls for shape in re.findall(r"tensor<([0-9x]*)x[a-z]", line)]
    assert shapes
    assert max(shape.count("x") for shape in shapes) <= 1, "matrices, no batches of them"
    together = jax.jit(jax.vmap(begun))(keys)
    for i, key in enumerate(keys):
        alone = jax.jit(begun)(key)
        for a, b in zip(jax.tree.leaves(alone), jax.tree.leaves(together), strict=True):
            np.testing.assert_allclose(a, b[i], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("count", [pytest.param(1, marks=pytest.mark.slow), 2, 5])
def test_fewer_pictures_than_the_latent_has_numbers(count):
    """They are known by heart, and directions that no picture has say nothing."""
    vae = networks.vae(16, latent_size=8, layers=2, channels=4)
    images = jax.random.randint(KEY, (5, 16, 16, 3), 0, 256).astype(jnp.uint8)[:count]
    params = vae.begin(vae.init(KEY), images, KEY)
    mean, _ = vae.encode(params, images)
    np.testing.assert_allclose(vae.decode(params, mean), images / 255, atol=0.02)
    assert np.sum(np.asarray(mean).std(axis=0) > 1e-3) == count - 1
    fitted, _ = networks.fit_vae(vae, images, KEY, updates=3, batch_size=2)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(fitted))


def test_numbers_of_an_autoencoder_that_do_not_fit():
    with pytest.raises(ValueError, match="latent_size=49: an image has 48 numbers"):
        networks.vae(4, latent_size=49, layers=1)
    with pytest.raises(ValueError, match=r"latent_size=8.0: must be a whole number"):
        networks.vae(16, latent_size=8.0)
    vae = networks.vae(4, latent_size=48, layers=1)
    none = jnp.zeros((0, 4, 4, 3), jnp.uint8)
    for function in (
        lambda: networks.fit_vae(vae, none, KEY),
        lambda: vae.begin(vae.init(KEY), none, KEY),
    ):
        with pytest.raises(ValueError, match="images=0: must be at least 1"):
            function()
