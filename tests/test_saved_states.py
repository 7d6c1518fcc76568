"""States of one's own loops are saved and loaded, in every bit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddpg_jax import agents, checkpoint, networks


def agent():
    actor, critic = networks.Actor(2, (8,)), networks.Critic((8,))
    made = agents.normalize_observations(agents.td3(actor, critic))
    init = lambda key: made.init(key, jnp.zeros(3), jnp.zeros(2))
    return made, init


def test_the_state_of_an_agent_comes_back(tmp_path):
    made, init = agent()
    state = init(jax.random.key(1))
    checkpoint.save(tmp_path / "agent", state)
    found = checkpoint.load(str(tmp_path / "agent"), jax.eval_shape(init, jax.random.key(0)))
    assert jax.tree.structure(found) == jax.tree.structure(state)
    for x, y in zip(jax.tree.leaves(found), jax.tree.leaves(state), strict=True):
        assert (x.dtype, x.shape) == (y.dtype, y.shape)
        np.testing.assert_array_equal(x, y)
    observation = jnp.array([[0.1, -0.2, 0.3]])
    np.testing.assert_array_equal(made.act(found, observation), made.act(state, observation))


def test_random_keys_are_keys_again(tmp_path):
    state = {"key": jax.random.key(3), "keys": jax.random.split(jax.random.key(4), 2)}
    checkpoint.save(tmp_path / "keys", state)
    found = checkpoint.load(tmp_path / "keys", state)
    for name, key in state.items():
        assert found[name].dtype == key.dtype
        np.testing.assert_array_equal(*map(jax.random.key_data, (found[name], key)))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"x": jnp.zeros(3)}, r"x is float32\[2\], and float32\[3\] in what was asked for"),
        ({"x": jnp.zeros(2, jnp.int32)}, r"x is float32\[2\], and int32\[2\] in what"),
        ({"x": jnp.zeros(2), "y": jnp.zeros(1)}, r"y is not there, and float32\[1\] in what"),
        ({"z": jnp.zeros(2)}, r"x is float32\[2\], and not there in what was asked for"),
    ],
)
def test_another_structure_is_refused(change, said, tmp_path):
    checkpoint.save(tmp_path / "state", {"x": jnp.zeros(2)})
    with pytest.raises(ValueError, match=said):
        checkpoint.load(tmp_path / "state", change)


def test_a_folder_is_neither_overwritten_nor_made_up(tmp_path):
    checkpoint.save(tmp_path / "state", {"x": jnp.zeros(2)})
    with pytest.raises(ValueError, match="exists: save in a new folder"):
        checkpoint.save(tmp_path / "state", {"x": jnp.zeros(2)})
    with pytest.raises(FileNotFoundError, match="other does not exist: give the folder"):
        checkpoint.load(tmp_path / "other", {"x": jnp.zeros(2)})
