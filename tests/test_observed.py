"""What a policy is given has the names, shapes and dtypes that its environment declares, or is
refused in a sentence: from a run, loaded, and exported."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ddpg_jax
from ddpg_jax import agents, envs, export
from ddpg_jax.envs.observed import looked_at, observed
from ddpg_jax.networks import Actor, Critic, stream
from ddpg_jax.runs.results import export as runs_export
from ddpg_jax.runs.results import policy as runs_policy

SHOWN = {
    "image": jax.ShapeDtypeStruct((4, 4, 3), jnp.uint8),
    "joints": jax.ShapeDtypeStruct((2,), jnp.float32),
}
RIGHT = {"image": np.ones((5, 4, 4, 3), np.uint8), "joints": np.ones((5, 2), np.float32)}


def test_what_fits_is_left_as_it_is():
    found = observed(SHOWN)(RIGHT)
    assert all(found[name] is RIGHT[name] for name in SHOWN)


@pytest.mark.parametrize(
    ("shape", "given", "wanted"),
    [
        (((3,), jnp.float32), [[1, 0, 0.5]], np.float32([[1, 0, 0.5]])),
        (((3,), jnp.float32), [[1, 0, 0]], np.float32([[1, 0, 0]])),
        (((3,), jnp.float32), [1.0, 0.0, 0.0], np.float32([1, 0, 0])),
        (((3,), jnp.float32), np.float64([[1, 2, 3]]), np.float32([[1, 2, 3]])),
        (((3,), jnp.bfloat16), np.float32([[1, 2, 3]]), jnp.array([[1, 2, 3]], jnp.bfloat16)),
        (((1,), jnp.uint8), np.int64([[255]]), np.uint8([[255]])),
        (((1,), jnp.int32), [[7]], np.int32([[7]])),
        (((), jnp.float32), [0.5, 1.5], np.float32([0.5, 1.5])),
        (((2,), jnp.float32), np.zeros((7, 5, 2), np.float32), np.zeros((7, 5, 2), np.float32)),
    ],
)
def test_what_can_be_converted_without_loss_is(shape, given, wanted):
    found = observed(jax.ShapeDtypeStruct(*shape))(given)
    assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape)
    np.testing.assert_array_equal(np.asarray(found, float), np.asarray(wanted, float))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"pixels": RIGHT["image"]}, "has no 'pixels': its names are image, joints"),
        ({"image": np.ones((5, 3, 4, 3), np.uint8)}, r"\['image'\] is uint8\[5, 3, 4, 3\] where"),
        ({"image": np.ones((4, 3), np.uint8)}, r"where uint8\[..., 4, 4, 3\] is declared"),
        ({"image": np.ones((5, 4, 4, 3), np.float32)}, "is float32.* where uint8"),
        ({"image": np.full((5, 4, 4, 3), 256)}, "with 256 in it, beyond uint8"),
        ({"image": np.full((5, 4, 4, 3), -1)}, "with -1 in it, beyond uint8"),
        ({"joints": np.ones((5, 2), np.int64)}, r"\['joints'\] is int64\[5, 2\] where float32"),
        ({"joints": np.ones((5, 3), np.float32)}, r"where float32\[..., 2\] is declared"),
        ({"joints": [[1.0, 2.0], [1.0]]}, "is no array of numbers where"),
        ({"joints": "text"}, "where float32"),
        ({"joints": None}, "is no array of numbers where"),
        ({"joints": np.full((5, 2), 1e300)}, "beyond float32"),
        ({"joints": np.ones((6, 2), np.float32)}, r"leading axes \[\(5,\), \(6,\)\]"),
    ],
)
def test_what_does_not_fit_is_one_sentence(change, said):
    with pytest.raises(ValueError, match=said):
        observed(SHOWN)(RIGHT | change)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"image": RIGHT["image"]}, r"lacks \['joints'\]: give \['image'\], \['joints'\]"),
        ({"pixels": RIGHT["image"], "joints": RIGHT["joints"]}, "has no 'pixels'"),
        (RIGHT["joints"], r"is float32\[5, 2\] where a dict of image, joints is declared"),
        ([[1.0, 2.0]], "is a list where a dict of image, joints is declared"),
    ],
)
def test_names(given, said):
    with pytest.raises(ValueError, match=said):
        observed(SHOWN)(given)


def test_an_observation_of_another_structure():
    pair = (jax.ShapeDtypeStruct((2,), jnp.float32),) * 2
    assert len(observed(pair)((np.zeros(2, np.float32),) * 2)) == 2
    with pytest.raises(ValueError, match="the observation is a list where PyTreeDef"):
        observed(pair)([np.zeros(2, np.float32)] * 2)


def test_traced_arrays_are_checked_too():
    like = jax.ShapeDtypeStruct((2,), jnp.float32)
    half = jax.jit(observed(like))(jnp.ones((3, 2), jnp.float16))
    assert half.dtype == jnp.float32
    for wrong in (jnp.ones((3, 3)), jnp.ones((3, 2), jnp.int32)):
        with pytest.raises(ValueError, match="is declared"):
            jax.jit(observed(like))(wrong)


def test_what_an_actor_does_not_look_at_may_be_left_out():
    agent = agents.td3(stream("joints", Actor(2, (8,))), stream("image", Critic((8,))))
    shown = SHOWN | {"image": jax.ShapeDtypeStruct((7,), jnp.float32)}
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shown)
    state = agent.init(jax.random.key(0), zeros, jnp.zeros(2))
    act = lambda observation: agent.act(state, observation)
    assert looked_at(act, shown) == [False, True]
    check = observed(shown, lambda: looked_at(act, shown))
    found = check({"joints": RIGHT["joints"]})
    assert found["image"].shape == (5, 7)
    assert not found["image"].any()
    with pytest.raises(ValueError, match=r"lacks \['joints'\]"):
        check({"image": np.zeros((5, 7), np.float32)})


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return ddpg_jax.runs.train(
        "pendulum",
        run_dir=tmp_path_factory.mktemp("observed") / "run",
        progress=False,
        total_timesteps=60,
        learning_starts=20,
        steps_per_chunk=40,
        batch_size=8,
        hidden=(8,),
        replay_capacity=100,
        evaluation_episodes=2,
        final_episodes=2,
        env_options={"time_limit": 5},
    )


def test_a_policy_a_loaded_agent_and_an_exported_policy_are_checked_alike(run, tmp_path):
    right = np.float32([[1, 0, 0.5], [0, 1, -3]])
    agent, state = runs_policy.restore_policy(run.folder)[1::2]
    path = runs_export.export(run.folder, tmp_path / "policy.stablehlo", 0)
    loaded = export.load(path)
    ways = {
        "policy": run.policy(),
        "loaded": lambda observation: 2 * agent.act(state, observation),
        "exported": loaded,
    }
    wanted = np.asarray(run.policy()(right))
    for name, way in ways.items():
        for leading in ((), (2, 1, 2)):
            acted = way(np.broadcast_to(right[0], (*leading, 3)))
            assert acted.shape == (*leading, 1), name
            np.testing.assert_allclose(acted.ravel(), wanted[0].repeat(acted.size), atol=1e-5)
        for given in (right, right.astype(np.float64), right.tolist(), jnp.asarray(right)):
            np.testing.assert_allclose(way(given), wanted, atol=1e-5, err_msg=name)
        for wrong, said in (
            (right[:, :2], r"is float32\[2, 2\] where float32\[..., 3\] is declared"),
            (right.astype(np.int64), r"is int64\[2, 3\] where float32"),
            ({"state": right}, "is a dict where float32|is no array of numbers where"),
        ):
            with pytest.raises(ValueError, match=said):
                way(wrong)


def test_an_exported_policy_of_a_dict(tmp_path):
    agent = agents.td3(stream("joints", Actor(1, (8,))), stream("image", Critic((8,))))
    shown = SHOWN | {"image": jax.ShapeDtypeStruct((7,), jnp.float32)}
    env = envs.make("pendulum", 1)._replace(observation=shown)
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shown)
    state = agent.init(jax.random.key(0), zeros, jnp.zeros(1))
    (tmp_path / "policy").write_bytes(bytes(export.policy(agent, state, env).serialize()))
    policy = export.load(tmp_path / "policy")
    right = RIGHT | {"image": np.zeros((5, 7), np.float32)}
    np.testing.assert_allclose(policy(right), 2 * agent.act(state, right), atol=1e-6)
    with pytest.raises(ValueError, match=r"lacks \['joints'\]"):
        policy({"image": right["image"]})
