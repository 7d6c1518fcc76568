"""Each kind of policy acts alike in onnxruntime, in NumPy and in JAX, in the environment's own
units; what a form cannot hold is refused."""

import builtins

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddpg_jax import agents, envs, export, networks
from ddpg_jax.envs.described import described
from ddpg_jax.export import onnx
from ddpg_jax.export.graph import policy_graph
from ddpg_jax.runs.config import run_config
from ddpg_jax.runs.programs import setup

OBSERVATIONS = 1_000
IMAGE = ["uint8", [20, 20, 6]]


def declared(observation, bounds=([-2.0, 0.0], [2.0, 10.0], "float32")):
    """An environment of which these shapes and bounds are known, neither symmetric nor of 1."""
    known = {"num_envs": 1, "time_limit": 9, "same_step": True, "fps": 25.0, "stacked": 1}
    return described(known | {"bounds": bounds, "observation": observation})


def of_vectors(**options):
    actor = networks.Actor(2, (24, 16), final_bound=0.5, **options)
    return agents.ddpg(actor, networks.Critic((8,)))


def of_streams():
    """Its actor sees two streams of three, and reads bytes as numbers."""
    actor = networks.stream(("goal", "state"), networks.Actor(2, (16,), final_bound=0.5))
    return agents.normalize_observations(
        agents.td3(actor, networks.stream("privileged", networks.Critic((8,))))
    )


def drq_v2():
    actor = networks.Actor(2, (16, 16), final_bound=0.5)
    sequence = networks.WithEncoder(networks.Trunk(12), actor)
    encoder = networks.drq_v2_encoder(8, 3)
    return agents.drq_v2(encoder, sequence, networks.VmappedHead(networks.Critic((8,)), 2))


def of_features():
    """An image and a vector."""
    encoder = networks.Features(lambda: networks.Conv((4, 4), (3, 3), (2, 2)))
    network = networks.WithEncoder(encoder, networks.Actor(2, (8,), final_bound=0.5))
    critic = networks.WithEncoder(encoder, networks.Critic((8,)))
    return agents.ddpg(network, critic)


def of_preset(name, env):
    config = run_config.make_config("pendulum", name, hidden=(16,))
    return setup.compose(config, env).agent


def drive(env):
    """As the preset: latents of the camera, and the vehicle's vector."""
    vae = networks.vae(32, depth=3, latent_size=8, channels=4, layers=2)
    actor = networks.Actor(2, (16,), output=networks.inverting, final_bound=0.5)
    agent = agents.ddpg(actor, networks.Critic((8,)))
    encode = lambda params, images: vae.encode(params, images)[0]
    return agents.encode_observations(agent, encode, vae.init, slot="autoencoder")


STATE = ["float32", [5]]
STREAMS = {"goal": ["float32", [3]], "privileged": ["float32", [9]], "state": STATE}
VECTOR = lambda: declared(STATE)
LANE = lambda: envs.make("lane", 1, observation="camera", camera_size=32)
POLICIES = {
    "mlp": (VECTOR, lambda env: of_vectors()),
    "tanh of each layer": (VECTOR, lambda env: of_vectors(activation=jnp.tanh)),
    "layer norm": (VECTOR, lambda env: of_vectors(norm=networks.LayerNorm)),
    "batch norm": (
        VECTOR,
        lambda env: of_vectors(norm=networks.BatchNorm, input_norm=networks.BatchNorm),
    ),
    "noisy": (VECTOR, lambda env: of_vectors(dense=networks.NoisyDense)),
    "parameter noise": (VECTOR, lambda env: of_preset("parameter-noise", env)),
    "normaliser": (VECTOR, lambda env: agents.normalize_observations(of_vectors())),
    "inverting, whole numbers": (
        lambda: declared(STATE, ([0, -3], [4, 3], "int32")),
        lambda env: of_vectors(output=networks.inverting),
    ),
    "streams": (lambda: declared(STREAMS), lambda env: of_streams()),
    "image and vector": (
        lambda: declared({"image": IMAGE, "speed": STATE}),
        lambda env: of_features(),
    ),
    "DrQ-v2": (lambda: declared(IMAGE), lambda env: drq_v2()),
    "drive": (LANE, drive),
}
CONVOLUTIONS = {"image and vector", "DrQ-v2"}
INPUTS = {"streams": ["goal", "state"], "image and vector": ["image", "speed"]}
INPUTS |= {"drive": ["camera", "vehicle"]}


def moved(tree, seed):
    """Biases, scales, means and variances that no initialiser gives: neither 0 nor 1, and of no
    sign."""
    generator = np.random.default_rng(seed)

    def change(path, x):
        if x.ndim != 1 or not jnp.issubdtype(x.dtype, jnp.floating):
            return x  # kernels, the key of a noisy network and its switch
        other = 0.3 * generator.normal(size=x.shape)
        return x + jnp.asarray(abs(other) if "var" in str(path) else other, x.dtype)

    return jax.tree_util.tree_map_with_path(change, tree)


def drawn(shapes, count, seed=0):
    generator = np.random.default_rng(seed)
    return jax.tree.map(
        lambda x: (
            generator.integers(0, 256, (count, *x.shape), np.uint8)
            if x.dtype == np.uint8
            else (2 * generator.normal(size=(count, *x.shape)) + 1).astype(np.float32)
        ),
        shapes,
    )


def policy_of(name):
    """The environment, the agent, and a state of it that has seen something."""
    make, compose = POLICIES[name]
    env = make()
    agent = compose(env)
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), env.observation)
    state = agent.init(jax.random.key(1), zeros, jnp.zeros(env.action.shape))
    parts = {name: moved(getattr(state.actor, name), 3) for name in ("params", "batch_stats")}
    state = state.replace(actor=state.actor.replace(**parts))
    if agent.observe is not None:
        state = agent.observe(state, drawn(env.observation, 50, 7))
    return env, agent, state


@pytest.mark.parametrize("name", POLICIES)
def test_equal_actions_in_every_form(name):
    env, agent, state = policy_of(name)
    seen = drawn(env.observation, OBSERVATIONS)
    wanted = np.asarray(jax.jit(lambda x: env.native_action(agent.act(state, x)))(seen))
    assert wanted.std(axis=0).min() > 0.005, "it does act by what it sees"
    for form in export.FORMS:
        if form == "npz" and name in CONVOLUTIONS:
            with pytest.raises(ValueError, match="the policy needs Conv, which the NumPy pass"):
                export.content(agent, state, env, form)
            continue
        act = export.read(export.content(agent, state, env, form), form)
        found = np.asarray(act(seen))
        assert (found.shape, found.dtype) == (wanted.shape, wanted.dtype)
        if name != "inverting, whole numbers":
            np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)
        assert np.mean(np.abs(found - wanted) > 1e-5) < 0.003, "at a step between whole numbers"
        one = jax.tree.map(lambda x: x[3], seen)
        np.testing.assert_allclose(act(one), wanted[3], atol=1e-5)


@pytest.mark.parametrize("name", ["mlp", "streams", "drive"])
def test_names_and_shapes_of_a_model(name):
    env, agent, state = policy_of(name)
    model = onnx.model(policy_graph(agent, state, env))
    inputs = [each.name for each in model.graph.input]
    assert inputs == INPUTS.get(name, ["observation"])
    shapes = {
        each.name: [size.dim_param or size.dim_value for size in each.type.tensor_type.shape.dim]
        for each in (*model.graph.input, *model.graph.output)
    }
    assert {shape[0] for shape in shapes.values()} == {"batch"}
    assert shapes["action"] == ["batch", 2]
    assert [each.version for each in model.opset_import] == [18]
    assert model.ir_version == 8


def test_a_noisy_policy_without_its_noise():
    """What is not drawn again is not in the file: the means alone act."""
    env, agent, state = policy_of("noisy")
    operators = [node.operator for node in policy_graph(agent, state, env).nodes]
    assert operators.count("MatMul") == 3
    assert "Random" not in "".join(operators)
    assert len(operators) < 20


def test_observations_are_checked_as_of_the_environment(tmp_path):
    env, agent, state = policy_of("streams")
    for form in export.FORMS:
        path = tmp_path / f"policy.{form}"
        path.write_bytes(export.content(agent, state, env, form))
        act = export.load(path)
        right = drawn(env.observation, 4)
        assert act(right).shape == (4, 2), "a stream that the actor does not see may be there"
        with pytest.raises(ValueError, match="goal"):
            act(right | {"goal": np.zeros((4, 2), np.float32)})
        with pytest.raises(ValueError, match="lacks"):
            act({"goal": right["goal"]})


def test_without_the_package_the_remedy_is_said(monkeypatch):
    env, agent, state = policy_of("mlp")
    data, real = export.content(agent, state, env, "onnx"), builtins.__import__

    def without(name, *arguments, **options):
        if name.startswith("onnx"):
            raise ImportError(name)
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match="onnx is not installed: pip install onnx"):
        export.content(agent, state, env, "onnx")
    with pytest.raises(ImportError, match="onnxruntime is not installed: pip install onnxruntime"):
        export.read(data, "onnx")


@pytest.mark.parametrize("form", export.FORMS)
def test_a_file_that_holds_no_policy(form, tmp_path):
    file = tmp_path / f"policy.{form}"
    with pytest.raises(FileNotFoundError, match="is no file: give the file that `ddpg-jax export`"):
        export.load(file)
    file.write_bytes(b"{}")
    with pytest.raises(ValueError, match=f"holds no policy as {form} .*: give the file that"):
        export.load(file)
