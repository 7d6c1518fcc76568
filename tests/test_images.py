"""Networks on images, random shifts, the encoder that only the critics train, and runs of the
presets that take images."""

import contextlib
import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax import export
from matplotlib.image import imread

from ddpg_jax import agents, envs, noise, replay, returns, runs
from ddpg_jax import networks as nets
from ddpg_jax.agents import augment, ddpg, drq_v2, scheduled
from ddpg_jax.agents.augment import shifted
from ddpg_jax.networks import (
    Actor,
    Conv,
    Critic,
    Features,
    Trunk,
    VmappedHead,
    WithEncoder,
    drq_v2_encoder,
)
from ddpg_jax.runs.checkpoints.store import Checkpoints
from ddpg_jax.runs.config.run_config import make_config
from ddpg_jax.runs.options.validation import RunError
from ddpg_jax.runs.presets import kendall_driving
from ddpg_jax.runs.programs import build, setup
from ddpg_jax.runs.tasks import TASKS
from ddpg_jax.types import Agent, AgentState, Transition, Update, is_key

SIZE = 16


def dots(num_envs, beside=False, shape=(SIZE, SIZE, 1)):
    """A dot that wants to be in the middle: an image of it, three frames of them, with or without
    its place beside them."""

    def shown(place):
        columns = jnp.abs(jnp.arange(shape[1], dtype=jnp.float32) - (place + 1) * shape[1] / 2)
        image = jnp.broadcast_to(
            jnp.where(columns < 1, 255, 0).astype(jnp.uint8)[None, :, None], shape
        )
        return {"image": image, "place": place[None]} if beside else image

    def reset(key):
        place = jax.random.uniform(key, (), minval=-1.0)
        return place, shown(place)

    def step(place, action, key):
        place = jnp.clip(place + 0.3 * action[0], -1.0, 1.0)
        return place, shown(place), -(place**2), jnp.zeros((), bool)

    return envs.frame_stack(
        envs.batch(envs.SingleEnvironment(reset, step, action_size=1), num_envs, time_limit=7), 3
    )


def beside(num_envs):
    return dots(num_envs, beside=True)


def tiny(num_envs):
    return dots(num_envs, shape=(6, 6, 1))


def wide(num_envs):
    return dots(num_envs, shape=(16, 24, 1))


def floats(num_envs):
    return envs.map_observation(dots(num_envs), lambda image: image.astype(jnp.float32) / 255)


def leaves_equal(a, b):
    plain = lambda tree: [jax.random.key_data(x) if is_key(x) else x for x in jax.tree.leaves(tree)]
    return all(np.array_equal(x, y) for x, y in zip(plain(a), plain(b), strict=True))


# Networks


def test_convolutions_by_hand():
    """Each output is a sum over a window of the image, channels last; bytes are divided by 255."""
    rng, conv = np.random.default_rng(0), Conv((3,), (3,), (2,), activation=lambda x: x, offset=0.5)
    image = rng.integers(0, 256, (2, 7, 6, 2), np.uint8)
    params = conv.init(jax.random.key(0), image)
    kernel, bias = (
        np.asarray(params["params"]["Convolution_0"][name], np.float64)
        for name in ("kernel", "bias")
    )
    assert np.abs(kernel).max() <= 1 / np.sqrt(9 * 2)
    assert 0 < np.abs(bias).max() <= 1 / np.sqrt(9 * 2)
    seen, wanted = image / 255 - 0.5, np.zeros((2, 3, 2, 3))
    for row in range(3):
        for column in range(2):
            window = seen[:, 2 * row : 2 * row + 3, 2 * column : 2 * column + 3]
            wanted[:, row, column] = np.einsum("bhwc,hwcf->bf", window, kernel) + bias
    np.testing.assert_allclose(
        conv.apply(params, image), wanted.reshape(2, -1), rtol=1e-4, atol=1e-5
    )


def sizes(network, shape, *inputs):
    """Features, and parameters, of a network on an image of this shape."""
    out, params = jax.eval_shape(
        network.init_with_output, jax.random.key(0), jnp.zeros(shape, jnp.uint8), *inputs
    )
    return out.shape, sum(x.size for x in jax.tree.leaves(params))


def test_sizes_are_the_published_ones():
    """DrQ-v2: 32 x 35 x 35 features of 84x84; the paper's networks: about 430,000 parameters, here
    376,000, from 64x64."""
    assert sizes(drq_v2_encoder(), (84, 84, 9))[0] == (39_200,)
    whole = WithEncoder(Features(Conv), Actor(6, (200, 200)))
    assert sizes(whole, (64, 64, 9)) == ((6,), 376_326)
    for leading in ((), (4,), (2, 4)):
        assert sizes(whole, (*leading, 64, 64, 9))[0] == (*leading, 6)


@pytest.mark.slow
def test_a_dict_of_images_and_vectors_is_one_vector_of_features():
    observation = {
        "left": jnp.ones((4, 20, 20, 3), jnp.uint8),
        "right": jnp.ones((4, 16, 16, 1), jnp.uint8),
        "speed": jnp.ones((4, 2)),
    }
    network = Features(functools.partial(Conv, (5,), (8,), (4,)))
    features, params = network.init_with_output(jax.random.key(0), observation)
    assert features.shape == (4, 5 * 4 * 4 + 5 * 3 * 3 + 2)
    assert len(params["params"]) == 2
    np.testing.assert_array_equal(features[:, -2:], 1.0)


def test_an_image_too_small_for_its_convolutions():
    with pytest.raises(
        ValueError,
        match=r"an image of 14x32 is too small .* give one of at least 15x15, or smaller kernels",
    ):
        sizes(Conv(), (14, 32, 3))
    assert sizes(Conv(), (15, 15, 3))[0] == (32,)


# Random shifts


def test_a_shift_is_a_window_of_the_padded_image():
    rng = np.random.default_rng(0)
    images, shifts = (
        rng.integers(0, 256, (20, 8, 6, 3), np.uint8),
        rng.integers(0, 5, (20, 2)).astype(np.int32),
    )
    padded = np.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0)), mode="edge")
    wanted = np.stack([padded[i, y : y + 8, x : x + 6] for i, (y, x) in enumerate(shifts)])
    np.testing.assert_array_equal(jax.jit(shifted, static_argnums=2)(images, shifts, 2), wanted)


def test_images_alone_are_shifted_each_by_its_own_draw():
    """What an agent is given: the place of a dot tells the draw."""
    agent = augment(
        Agent(
            None,
            lambda state, x: x,
            lambda state, batch, key, weight: Update(batch, weight, {"weight": weight}),
        ),
        pad=2,
    )
    image = jnp.zeros((4_000, 9, 9, 2), jnp.uint8).at[:, 4, 4].set(1)
    vector = jnp.ones((4_000, 9))
    batch = Transition(
        observation={"image": image, "vector": vector},
        action=vector,
        reward=vector[:, 0],
        discount=vector[:, 0],
        next_observation={"image": image, "vector": vector},
    )
    given, _, metrics = jax.jit(agent.update)((), batch, jax.random.key(0), vector[:, 0])
    assert leaves_equal(
        (given.observation["vector"], given.action, metrics["weight"]),
        (vector, vector, vector[:, 0]),
    )
    draws = []
    for shown in (given.observation["image"], given.next_observation["image"]):
        np.testing.assert_array_equal(shown[..., 0], shown[..., 1])
        draws.append(np.argmax(shown[..., 0].reshape(4_000, -1), axis=1))
        assert len(np.unique(draws[-1])) == 25  # 4,000 draws of 25 places: all of them
    assert 0.02 < np.mean(draws[0] == draws[1]) < 0.06
    assert agent.act((), image) is image


# One encoder


def small_drq(**hyperparameters):
    critics = VmappedHead(Critic((8,), action_layer=0, final_bound=None))
    heads = WithEncoder(Trunk(6), Actor(2, (8,), final_bound=None)), WithEncoder(Trunk(6), critics)
    return drq_v2(Features(functools.partial(Conv, (4,), (4,), (4,))), *heads, **hyperparameters)


def some_images():
    rng = np.random.default_rng(0)
    image = lambda: rng.integers(0, 256, (8, SIZE, SIZE, 3), np.uint8)
    return Transition(
        observation=image(),
        action=np.tanh(rng.normal(size=(8, 2))).astype(np.float32),
        reward=rng.normal(size=8).astype(np.float32),
        discount=np.ones(8, np.float32),
        next_observation=image(),
    )


def begun(agent):
    return jax.jit(agent.init)(
        jax.random.key(0), jnp.zeros((SIZE, SIZE, 3), jnp.uint8), jnp.zeros(2)
    )


def test_what_is_no_image_is_refused_where_an_image_is_the_point():
    """A float image was shifted by nothing, and read as a vector."""
    key, image, vector = jax.random.key(0), jnp.zeros((6, 6, 1)), jnp.zeros((3,))
    agent = augment(Agent(None, None, lambda *arguments: None), pad=1)

    def batch(*leaves):
        seen = [jnp.stack([x, x]) for x in leaves]
        zeros = jnp.zeros((2,))
        return Transition(
            observation=seen, action=zeros, reward=zeros, discount=zeros, next_observation=seen
        )

    agent.update(None, batch(image.astype(jnp.uint8), vector), key)
    sentence = r"float32\[6, 6, 1\] is neither an image nor a vector: give images as uint8"
    for leaves in ([image], [image.astype(jnp.uint8), image]):
        with pytest.raises(ValueError, match=f"augment: {sentence}"):
            agent.update(None, batch(*leaves), key)
    with pytest.raises(ValueError, match="augment: no leaf of the observation is an image"):
        agent.update(None, batch(vector), key)
    with pytest.raises(ValueError, match=f"Features: {sentence}"):
        Features(Conv).init(key, image)
    assert Features(Conv).apply({}, jnp.zeros((2, 5, 4, 3))).shape == (2, 5, 4, 3), "of vectors"
    inside = Agent(lambda key, observation, action: pytest.fail("begun"), None, None)
    encoded = agents.encode_observations(inside, lambda params, x: x, lambda key: ())
    with pytest.raises(ValueError, match=f"encode_observations: {sentence}"):
        encoded.init(key, image, vector)
    with pytest.raises(ValueError, match="encode_observations: no leaf of the observation"):
        encoded.init(key, vector, vector)


def test_statistics_that_would_never_move_are_refused():
    class Normalised(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nets.BatchNorm()(Conv(kernels=(3,), channels=(2,), strides=(2,))(x))

    head = {"hidden": (4,), "final_bound": None}
    agent = drq_v2(Normalised(), Actor(1, **head), VmappedHead(Critic(**head, action_layer=0)))
    with pytest.raises(ValueError, match="drq_v2: its networks carry batch_stats"):
        agent.init(jax.random.key(0), jnp.zeros((6, 6, 1), jnp.uint8), jnp.zeros((1,)))


def test_the_critics_alone_train_the_encoder():
    batch, key = some_images(), jax.random.key(1)
    state = begun(small_drq())
    encoder = lambda state: state.critic.params["params"]["encoder"]
    still = jax.jit(small_drq(critic_learning_rate=0.0).update)(state, batch, key)[0]
    assert leaves_equal(encoder(still), encoder(state))
    assert not leaves_equal(still.actor.params, state.actor.params)
    agent = small_drq(actor_learning_rate=0.0)
    moved = jax.jit(agent.update)(state, batch, key)[0]
    assert not any(
        np.array_equal(a, b)
        for a, b in zip(*map(jax.tree.leaves, (encoder(moved), encoder(state))), strict=True)
    )
    assert leaves_equal(moved.actor.params, state.actor.params)
    assert not np.array_equal(
        agent.act(moved, batch.observation), agent.act(state, batch.observation)
    )
    assert state.actor.params["params"].keys() == {"encoder", "head"}, (
        "the actor has a trunk and a head, no convolutions"
    )


def test_targets_are_of_the_newest_encoder_and_actor():
    """y = r + gamma min_i Q'_i(f(s'), mu(f(s'))), Q' alone from the targets; J over min_i Q_i."""
    agent, batch = small_drq(target_noise=0.0, gamma=0.9), some_images()
    state, update = begun(agent), jax.jit(agent.update)
    for i in range(3):
        state, *_ = update(state, batch, jax.random.key(i))
    heads = WithEncoder(Trunk(6), VmappedHead(Critic((8,), action_layer=0, final_bound=None)))
    encode = lambda x: Features(functools.partial(Conv, (4,), (4,), (4,))).apply(
        {"params": state.critic.params["params"]["encoder"]}, x
    )
    values = lambda params, h, a: heads.apply({"params": params["params"]["head"]}, h, a)
    act = lambda h: WithEncoder(Trunk(6), Actor(2, (8,), final_bound=None)).apply(
        state.actor.params, h
    )
    after = encode(batch.next_observation)
    y = batch.reward + 0.9 * jnp.min(values(state.critic.target_params, after, act(after)), axis=0)
    error = y[None] - values(state.critic.params, encode(batch.observation), batch.action)
    new, priority, metrics = update(state, batch, jax.random.key(9))
    np.testing.assert_allclose(priority, jnp.max(jnp.abs(error), axis=0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        metrics["critic_loss"], jnp.mean(jnp.sum(error**2, axis=0)), rtol=1e-4
    )
    params = {"params": {"encoder": new.critic.params["params"]["encoder"]}}
    seen = WithEncoder(Features(functools.partial(Conv, (4,), (4,), (4,))), heads).apply(
        params, batch.observation, method="encode"
    )
    best = jnp.min(values(new.critic.params, seen, act(seen)), axis=0)
    np.testing.assert_allclose(metrics["actor_loss"], -jnp.mean(best), rtol=1e-4)
    assert not leaves_equal(state.critic.target_params, state.critic.params)


def test_numbers_follow_the_agents_own_steps():
    networks = Actor(2, (4,)), Critic((4,), action_layer=0)
    agent = scheduled(
        lambda step: ddpg(*networks, actor_learning_rate=jnp.where(step < 2, 0.0, 1e-2))
    )
    batch = some_images().replace(
        observation=np.ones((8, 3), np.float32), next_observation=np.ones((8, 3), np.float32)
    )
    state, update = (
        jax.jit(agent.init)(jax.random.key(0), jnp.zeros(3), jnp.zeros(2)),
        jax.jit(agent.update),
    )
    moved = []
    for i in range(3):
        new, *_ = update(state, batch, jax.random.key(i))
        moved.append(not leaves_equal(new.actor.params, state.actor.params))
        state = new
    assert moved == [False, False, True]


# Runs

SMALL = {
    "total_timesteps": 240,
    "learning_starts": 40,
    "steps_per_chunk": 40,
    "batch_size": 8,
    "replay_capacity": 120,
    "hidden": (16,),
    "num_envs": 2,
    "evaluation_episodes": 2,
    "final_episodes": 4,
    "checkpoint_every": 1,
    "keep": 10,
    "progress": False,
    "anneal_updates": 1_000,  # else a run that is made longer has other learning rates
}
DRQ = {"channels": 4, "trunk": 8, "stddev_steps": 100, "shift": 2, "preset": "drq-v2"}
DRIVE = {
    "channels": 4,
    "latent_size": 3,
    "images": 16,
    "image_updates": 3,
    "image_batch": 8,
    "preset": "drive",
}


SEEN = {"time_limit": 10, "observation": "camera", "camera_size": SIZE}
RUNS = {
    "stacked": DRQ | {"env": "test_images:beside"},
    "drive": DRIVE | {"env": "test_images:beside"},
    "lane": {"env": "lane", "env_options": {"time_limit": 10}, "preset": "default"},
    "lane camera": DRQ | {"env": "lane", "env_options": SEEN},
}


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(parts, id=name, marks=[pytest.mark.slow] * (name != "lane"))
        for name, parts in RUNS.items()
    ],
)
def run(request, tmp_path_factory):
    parts = SMALL | request.param
    return parts, runs.train(run_dir=tmp_path_factory.mktemp("run"), **parts)


def test_a_run_resumes_bit_for_bit(run, tmp_path):
    """Replay of frames or of codes, encoder, noise that falls: everything is in the checkpoint."""
    parts, whole = run
    two_chunks = whole.config.schedule.steps_after(2)
    runs.train(run_dir=tmp_path / "half", **parts | {"total_timesteps": two_chunks})
    resumed = runs.train(
        run_dir=tmp_path / "half", resume=True, total_timesteps=240, progress=False
    )
    assert [row["value"] for row in resumed.metrics] == [row["value"] for row in whole.metrics]
    assert leaves_equal(resumed.agent_state, whole.agent_state)
    ends = []
    for folder in (whole.folder, tmp_path / "half"):
        with contextlib.closing(Checkpoints(folder / "checkpoints", read_only=True)) as kept:
            ends.append(kept.restore(build.build(whole.config).state)[1])
    assert leaves_equal(*ends)


def test_an_exported_policy_takes_what_the_agent_sees(run):
    from ddpg_jax.runs.results import export as runs_export

    _, whole = run
    runs_export.export(whole.folder, whole.folder / "policy.stablehlo", 0)
    policy = export.deserialize(bytearray((whole.folder / "policy.stablehlo").read_bytes()))
    rng = np.random.default_rng(0)
    some = {
        np.dtype(np.uint8): lambda shape: rng.integers(0, 256, shape, np.uint8),
        np.dtype(np.float32): lambda shape: rng.normal(size=shape).astype(np.float32),
    }
    shown = setup.environment(whole.config, 1).observation
    seen = jax.tree.map(lambda x: some[x.dtype]((5, *x.shape)), shown)
    np.testing.assert_allclose(policy.call(seen), whole.policy()(seen), rtol=1e-5, atol=1e-6)


def test_a_drive_keeps_codes_and_shows_what_they_say(run):
    """A row of its replay has the codes of two images of 16x16x3; a picture of the run's folder has
    images and their reconstructions, each pixel a square of 4."""
    own, run = run
    if own["preset"] != "drive":
        pytest.skip("another preset")
    state = build.state_shapes(run.config)
    assert {name: x.shape for name, x in state.replay.ring.rows.items()} == {
        "float32": (120, 2 * (3 + 3) + 1 + 2)
    }
    drawn = imread(run.folder / "reconstructions.png")
    assert drawn.shape[:2] == (4 * 2 * SIZE, 4 * kendall_driving.NUM_SHOWN * SIZE)
    seen, again = drawn[: 4 * SIZE], drawn[4 * SIZE :]
    assert set(np.unique(seen)) >= {0.0, 1.0}, "the dot"
    assert not np.array_equal(seen, again)


@pytest.mark.slow
def test_the_papers_networks_train_two_seeds(tmp_path):
    made = runs.train(
        "test_images:paper_sized",
        run_dir=tmp_path,
        seeds=2,
        **SMALL | {"total_timesteps": 80, "preset": "paper-pixels", "checkpoint_every": 0},
    )
    assert made.returns.shape == (1, 2)
    assert len(jax.tree.leaves(made.agent_state.actor.params["params"]["encoder"])) == 6


def paper_sized(num_envs):
    return dots(num_envs, shape=(16, 16, 1))


@pytest.mark.parametrize(
    ("env", "options", "message"),
    [
        (
            "pendulum",
            {"preset": "drq-v2"},
            "pendulum shows an observation of shape .3,., but the networks of preset drq-v2",
        ),
        (
            "test_images:floats",
            {"preset": "drq-v2"},
            "but the networks of preset drq-v2 take images .uint8",
        ),
        (
            "test_images:dots",
            {"preset": "td3"},
            "an image: choose a preset of images, --preset drq-v2 or paper-pixels or drive",
        ),
        ("test_images:beside", {}, "shows a dict of image .*, place .*, an image: choose a preset"),
        (
            "test_images:tiny",
            {"preset": "paper-pixels"},
            "an image of 6x6 is too small for convolutions",
        ),
        (
            "lane",
            {"preset": "drq-v2", "env_options": SEEN | {"camera_size": 8}},
            "an image of 8x8 is too small for",
        ),
        (
            "lane",
            {"env_options": SEEN},
            "lane shows a dict of camera .*, vehicle .*, an image: choose a preset",
        ),
        (
            "test_images:dots",
            {"preset": "drq-v2", "normalize_observations": True},
            "images are scaled by the networks",
        ),
        (
            "test_images:dots",
            {"preset": "paper-pixels", "critic_stream": "all"},
            "critic_stream='all': networks of images",
        ),
        (
            "test_images:dots",
            {"preset": "drive", "normalize_observations": True},
            "normalize_observations: .*N.0, 1.; leave it",
        ),
        (
            "test_images:tiny",
            {"preset": "drive"},
            "size=6: an autoencoder's images must .* at least 16: choose for example 16",
        ),
        (
            "test_images:wide",
            {"preset": "drive"},
            "requires one square image, but the observation has .*16, 24, 3",
        ),
        (
            "lane",
            {"preset": "drive", "env_options": {"observation": "features"}},
            "lane shows an observation of shape .10,., but",
        ),
        (
            "lane",
            {"preset": "drive", "env_options": {"camera_size": 60}},
            "size=60: .* a multiple of 8 pixels .* example 64",
        ),
        ("test_images:dots", {"preset": "drive", "images": 0}, "images=0: must be between 1 and"),
        (
            "test_images:dots",
            {"preset": "drq-v2", "channels": 0},
            "channels=0: must be between 1 and",
        ),
        (
            "test_images:dots",
            {"preset": "drq-v2", "replay_capacity": 10**9},
            "this needs .* of it for the replay",
        ),
    ],
)
def test_what_runs_from_images_refuse(env, options, message, tmp_path):
    with pytest.raises((RunError, ValueError), match=message):
        runs.train(env, run_dir=tmp_path, progress=False, **options)


# Hyperparameters of the presets

CHANGED = {
    "num_envs": 2,
    "updates_per_step": 4,
    "batch_size": 17,
    "replay_capacity": 1_000,
    "hidden": (11, 12),
    "critic_hidden": (13, 14),
    "layer_norm": True,
    "inverting_gradients": True,
    "n_step": 4,
    "gamma": 0.9375,
    "tau": 0.0625,
    "actor_learning_rate": 0.03125,
    "critic_learning_rate": 0.0234375,
    "critic_weight_decay": 0.015625,
    "reward_scale": 0.5,
    "stddev": 0.25,
}
OF_DRQ = CHANGED | {
    "channels": 5,
    "layers": 3,
    "stride": 2,
    "trunk": 9,
    "shift": 3,
    "episode_steps": 7,
    "stddev_start": 0.75,
    "stddev_steps": 1_000,
    "target_noise_clip": 0.34375,
}


FRAMES = {"stack": 3, "num_envs": 2, "n_step": 4, "episode_steps": 7}
OF_DRIVE = {name: value for name, value in CHANGED.items() if name != "layer_norm"} | {
    "inverting_gradients": False,
    "anneal": False,
    "theta": 0.75,
    "stddev_half_life": 100,
    "latent_size": 3,
    "channels": 5,
    "layers": 2,
    "beta": 0.5,
    "images": 13,
    "images_every": 2,
    "image_updates": 3,
    "image_batch": 9,
    "image_learning_rate": 0.125,
}


@pytest.fixture
def calls(monkeypatch):
    """``{name: (positional, keywords)}`` of the last call of factories of the library."""
    made = {}

    def watch(module, name):
        factory = getattr(module, name)
        monkeypatch.setattr(
            module, name, lambda *a, **k: made.update({name: (a, k)}) or factory(*a, **k)
        )

    for module, names in (
        (
            agents,
            ("drq_v2", "ddpg", "augment", "scale_rewards", "scheduled", "encode_observations"),
        ),
        (noise, ("gaussian", "ornstein_uhlenbeck")),
        (replay, ("uniform", "frames")),
        (returns, ("n_step",)),
        (nets, ("vae", "fit_vae")),
    ):
        for name in names:
            watch(module, name)
    return made


def shapes(parts, env):
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), (env.observation, env.action))
    state = jax.eval_shape(lambda: parts.agent.init(jax.random.key(0), *zeros))
    return jax.tree.map(
        lambda x: x.shape, (state.actor.params["params"], state.critic.params["params"])
    )


def test_every_number_of_drq_v2_arrives(calls):
    config, env = make_config("test_images:dots", "drq-v2", **OF_DRQ), dots(2)
    parts = config.preset.compose(config.hyperparameters, env)
    options = calls["drq_v2"][1]
    assert calls["drq_v2"][0][1].head.output is nets.inverting
    for name in (
        "gamma",
        "tau",
        "actor_learning_rate",
        "critic_learning_rate",
        "critic_weight_decay",
        "target_noise_clip",
    ):
        assert options[name] == OF_DRQ[name], name
    # Two environments and four updates at each of their steps: 500 steps of each environment are
    # 2,000 updates.
    fallen = [float(calls["gaussian"][0][0](jnp.int32(step))) for step in (0, 250, 500, 900)]
    assert fallen == [0.75, 0.5, 0.25, 0.25]
    for step, stddev in ((0, 0.75), (1_000, 0.5), (2_000, 0.25)):
        calls["scheduled"][0][0](jnp.int32(step))
        assert float(calls["drq_v2"][1]["target_noise"]) == stddev
    assert calls["augment"][1] == {"pad": 3}
    assert calls["scale_rewards"][0][1] == 0.5
    assert calls["n_step"][0] == (4, 0.9375)
    assert calls["uniform"][0] == (1_000, 17)
    assert calls["frames"][1] == FRAMES
    actor, critic = shapes(parts, env)
    kernels = {name: layer["kernel"] for name, layer in critic["encoder"]["Conv_0"].items()}
    assert list(kernels.values()) == [(3, 3, 3, 5), (3, 3, 5, 5), (3, 3, 5, 5)]
    widths = lambda part: [
        x for x in jax.tree.leaves(part, is_leaf=lambda x: isinstance(x, tuple)) if len(x) > 1
    ]
    assert (5, 9) in widths(actor)
    assert {(9, 11), (11, 12), (12, 1)} < set(widths(actor))
    assert {(5, 9), (2, 10, 13), (2, 13, 14), (2, 14, 1)} < set(widths(critic))
    assert "LayerNorm_0" in actor["head"]
    # Of two shards: one environment of each, and gradients averaged.
    config.preset.compose(config.hyperparameters.of_shard(2, "data"), dots(1))
    calls["scheduled"][0][0](jnp.int32(1_000))
    assert calls["drq_v2"][1]["axis_name"] == "data"
    assert float(calls["drq_v2"][1]["target_noise"]) == 0.5
    assert float(calls["gaussian"][0][0](jnp.int32(250))) == 0.5


def test_every_number_of_the_papers_pixels_arrives(calls):
    own = CHANGED | {"episode_steps": 7}
    config, env = make_config("test_images:dots", "paper-pixels", **own), dots(2)
    parts = config.preset.compose(config.hyperparameters, env)
    for name in (
        "gamma",
        "tau",
        "actor_learning_rate",
        "critic_learning_rate",
        "critic_weight_decay",
    ):
        assert calls["ddpg"][1][name] == CHANGED[name], name
    assert calls["ornstein_uhlenbeck"][0] == (0.25,)
    assert calls["frames"][1] == FRAMES
    assert parts.warm_up is parts.behaviour
    heads = [network.head for network in calls["ddpg"][0]]
    assert [head.hidden for head in heads] == [(11, 12), (13, 14)]
    assert [head.final_bound for head in heads] == [3e-4, 3e-4]
    assert heads[0].output is nets.inverting
    assert [
        encoder.encoder().channels for encoder in (network.encoder for network in calls["ddpg"][0])
    ] == [(32,) * 3] * 2


def test_every_number_of_drive_arrives(calls):
    config, env = make_config("test_images:dots", "drive", **OF_DRIVE), dots(2)
    parts = config.preset.compose(config.hyperparameters, env)
    for name in (
        "gamma",
        "tau",
        "actor_learning_rate",
        "critic_learning_rate",
        "critic_weight_decay",
    ):
        assert calls["ddpg"][1][name] == OF_DRIVE[name], name
    assert calls["ddpg"][0][0].output is jnp.tanh
    falling, theta = calls["ornstein_uhlenbeck"]
    assert [float(falling[0](jnp.int32(step))) for step in (0, 50, 100)] == pytest.approx(
        [0.25, 0.125, 0.0625]
    )
    assert theta == {"theta": 0.75}
    assert calls["vae"] == (
        (16,),
        {"depth": 3, "latent_size": 3, "channels": 5, "layers": 2, "beta": 0.5},
    )
    actor, _ = shapes(parts, env)
    assert (3, 11) in jax.tree.leaves(actor, is_leaf=lambda x: isinstance(x, tuple)), (
        "it sees codes"
    )
    made, options = calls["fit_vae"]
    assert made[1].shape == (2 * 7, 16, 16, 3)
    assert options == {"updates": 3, "batch_size": 9, "learning_rate": 0.125}
    encode, fit = calls["encode_observations"][0][1:]
    images = jnp.zeros((4, 16, 16, 3), jnp.uint8).at[1].set(200)
    made = nets.vae(16, depth=3, latent_size=3, channels=5, layers=2, beta=0.5)
    params = jax.eval_shape(fit, jax.random.key(0))
    params = jax.tree.map(lambda x: jax.random.normal(jax.random.key(1), x.shape) / 4, params)
    found, (means, spread) = jax.jit(lambda *x: (encode(*x), made.encode(*x)))(params, images)
    assert not np.allclose(means, spread)
    np.testing.assert_allclose(found, means, rtol=1e-6)
    sharded = config.hyperparameters.of_shard(2, "data")
    config.preset.compose(sharded, dots(1))
    assert float(calls["ornstein_uhlenbeck"][0][0](jnp.int32(50))) == 0.125


def clock(num_envs):
    """Each pixel shows how many steps the episode has lasted."""
    shown = lambda steps: jnp.full((2, 2, 1), steps, jnp.uint8)
    step = lambda steps, action, key: (steps + 1, shown(steps + 1), 0.0 * action[0], steps < 0)
    single = envs.SingleEnvironment(lambda key: (jnp.int32(0), shown(jnp.int32(0))), step, 1)
    return envs.batch(single, num_envs, time_limit=100)


def test_random_images_are_some_steps_apart():
    """Of two environments four times each third step, for at least seven."""
    images = jax.jit(kendall_driving.random_images(clock(2), 7, 3))(jax.random.key(0))
    assert images.shape == (8, 2, 2, 1)
    assert images[:, 0, 0, 0].tolist() == [3, 3, 6, 6, 9, 9, 12, 12]
    assert kendall_driving.random_images(clock(3), 6)(jax.random.key(0)).shape[0] == 6


def test_reconstructions_are_below_what_they_are_of(monkeypatch):
    """Twelve images, of which each is 43 from the one before; colours are in [0, 1]."""
    asked = []
    images = jnp.arange(12 * 43, dtype=jnp.uint32)[:, None, None, None] % 251
    images = jnp.broadcast_to(images.astype(jnp.uint8), (12 * 43, 2, 2, 3))
    monkeypatch.setattr(
        kendall_driving,
        "random_images",
        lambda env, count: asked.append((env, count)) or (lambda key: images),
    )
    made = nets.VAE(
        init=None,
        encode=lambda params, images: (params + images.astype(jnp.float32) / 255, None),
        decode=lambda params, latents: 2 * latents - params,
        begin=None,
        loss=None,
        size=2,
        latent_size=4,
    )
    monkeypatch.setattr(kendall_driving, "autoencoder", lambda hyperparameters, env: made)
    state = AgentState(None, None, None, slots={kendall_driving.SLOT: jnp.float32(0.1)})
    drawn = kendall_driving.reconstructions(None, "env", state, jax.random.key(0))
    assert asked == [("env", 12 * 43)]
    assert list(drawn) == ["reconstructions"]
    picture = np.asarray(drawn["reconstructions"])
    assert picture.shape == (2 * 2, 12 * 2, 3)
    shown = (43 * np.arange(12) % 251).repeat(2) / 255
    for row in picture[:2]:
        np.testing.assert_allclose(row, np.tile(shown[:, None], 3), rtol=1e-5)
    for row in picture[2:]:
        wanted = np.clip(2 * (shown + 0.1) - 0.1, 0, 1)
        np.testing.assert_allclose(row, np.tile(wanted[:, None], 3), rtol=1e-5)


def test_an_autoencoder_is_of_the_only_image_and_that_is_square():
    hyperparameters = make_config("test_images:dots", "drive", **OF_DRIVE).hyperparameters
    shown = lambda *images: types.SimpleNamespace(
        observation={str(i): jax.ShapeDtypeStruct(x, jnp.uint8) for i, x in enumerate(images)}
        | {"speed": jax.ShapeDtypeStruct((3,), jnp.float32)}
    )
    made = kendall_driving.autoencoder(hyperparameters, shown((16, 16, 3)))
    assert (made.size, made.latent_size) == (16, 3)
    for images in ((), ((16, 16, 3), (16, 16, 3)), ((16, 8, 3),)):
        with pytest.raises(ValueError, match="preset drive requires one square image"):
            kendall_driving.autoencoder(hyperparameters, shown(*images))


def test_lane_shows_its_camera_to_who_takes_images():
    shown = TASKS["lane"].images
    assert shown["observation"] == "camera"
    assert make_config("lane", "drive").env_options == shown
    assert make_config("lane", "drive", env_options={"camera_size": 48}).env_options == shown | {
        "camera_size": 48
    }
    assert make_config("lane", "drq-v2", env_options={"pixels": True}).env_options == {
        "pixels": True
    }
    assert make_config("lane").env_options == {}


def test_images_are_seen_without_being_asked_for_a_preset():
    seen = make_config("pendulum", env_options={"pixels": True})
    assert (seen.preset.name, seen.hyperparameters.hidden) == (
        "drq-v2",
        TASKS["pendulum"].from_pixels["hidden"],
    )
    assert make_config("pendulum").preset.name != "drq-v2"
    assert make_config("pendulum", "td3", env_options={"pixels": True}).preset.name == "td3"
