"""Checkpoints: every bit comes back, and what breaks while saving costs at most the newest."""

import gc
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddpg_jax.runs.checkpoints import FORMAT, Checkpoints
from ddpg_jax.types import AgentState, NetworkState, is_key

RECORD = {"chunks": 3, "train_seconds": 0.1, "config": {"env": "pendulum", "env_options": {}, "hidden": [64, 64], "tau": 5e-3}}


def state(seed: int = 0):
    """Every kind of leaf a training state has, with values that would show a conversion."""
    key = jax.random.key(seed)
    network = NetworkState(
        params={"params": {"kernel": jax.random.normal(key, (3, 4)), "bias": jnp.array([jnp.nan, jnp.inf, -0.0, 1e-42])}},
        target_params={"params": {"kernel": jnp.ones((3, 4)), "bias": jnp.zeros((4,))}},
        opt_state=((jnp.array(seed, jnp.int32), ()), ()),
    )
    return {
        "agent": AgentState(actor=network, critic=network, step=jnp.array(2**31 - 1, jnp.int32)),
        "pixels": jnp.arange(256, dtype=jnp.uint8),
        "reset": jnp.array([True, False]),
        "half": jnp.array([1.5, -2.25], jnp.bfloat16),
        "key": jax.random.fold_in(key, 7),
        "keys": {"of": [jax.random.split(key, (2, 3))]},
        "empty": ((), {"nothing": ()}),
        "no elements": jnp.zeros((4, 0), jnp.float16),
        "no keys": jax.random.split(key, 3)[:0],
    }


def bits(leaf) -> tuple:
    array = np.asarray(jax.random.key_data(leaf) if is_key(leaf) else leaf)
    return str(leaf.dtype), array.shape, array.tobytes()


def assert_same(found, expected):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for (path, a), b in zip(jax.tree.leaves_with_path(found), jax.tree.leaves(expected), strict=True):
        assert bits(a) == bits(b), jax.tree_util.keystr(path)


@pytest.fixture
def checkpoints(tmp_path):
    opened = Checkpoints(tmp_path / "checkpoints")
    yield opened
    opened.close()


def reopened(tmp_path):
    """``(step, state, record, sentences)`` that a new process would restore."""
    said: list[str] = []
    opened = Checkpoints(tmp_path / "checkpoints")
    try:
        return *opened.restore(jax.eval_shape(state), said.append), said
    finally:
        opened.close()


@pytest.mark.parametrize("like", [lambda: state(99), lambda: jax.eval_shape(state)], ids=["arrays", "shapes"])
def test_round_trip_is_bitwise(tmp_path, checkpoints, like):
    checkpoints.save(10, state(), RECORD)
    step, found, record = checkpoints.restore(like())
    assert step == 10
    assert_same(found, state())
    assert record == RECORD | {"format": FORMAT}
    np.testing.assert_array_equal(jax.random.bits(found["key"]), jax.random.bits(state()["key"]))


def test_a_new_process_finds_the_newest(tmp_path, checkpoints):
    for step in (10, 9_000, 20_000):
        checkpoints.save(step, state(step), RECORD | {"chunks": step})
    step, found, record, said = reopened(tmp_path)
    assert (step, record["chunks"], said) == (20_000, 20_000, [])
    assert_same(found, state(20_000))


@pytest.mark.parametrize("keep", [1, 3])
def test_only_the_newest_are_kept(tmp_path, keep):
    opened = Checkpoints(tmp_path / "checkpoints", keep)
    for step in range(1, 6):
        opened.save(step, state(step), RECORD)
    opened.close()
    names = sorted(int(path.name) for path in (tmp_path / "checkpoints").iterdir())
    assert names == list(range(6 - keep, 6))


def test_none(checkpoints):
    with pytest.raises(FileNotFoundError, match=r"^no checkpoint$"):
        checkpoints.restore(state())


def uncommitted(folder):
    """As a kill while writing leaves it: a folder under a temporary name."""
    (folder / "20").rename(folder / "20.orbax-checkpoint-tmp-0")


def no_commit_file(folder):
    """As a kill leaves it on storage without atomic renames."""
    for path in (folder / "20").rglob("commit_success.txt"):
        path.unlink()
    shutil.rmtree(folder / "20" / "record")


def only_begun(folder):
    shutil.rmtree(folder / "20")
    (folder / "20.orbax-checkpoint-tmp-0").mkdir()


def truncated(folder):
    for path in filter(lambda path: path.is_file(), (folder / "20" / "state").rglob("*")):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("damage", [uncommitted, no_commit_file, only_begun, truncated])
def test_a_partial_newest_is_passed_over(tmp_path, checkpoints, damage):
    checkpoints.save(10, state(10), RECORD)
    checkpoints.save(20, state(20), RECORD)
    damage(tmp_path / "checkpoints")
    step, found, record, said = reopened(tmp_path)
    assert (step, record) == (10, RECORD | {"format": FORMAT})
    assert_same(found, state(10))
    if damage in (truncated, no_commit_file):
        (sentence,) = said
        assert sentence.startswith("checkpoint 20 is damaged (")
        assert "\n" not in sentence


def test_all_damaged(tmp_path, checkpoints):
    checkpoints.save(20, state(20), RECORD)
    truncated(tmp_path / "checkpoints")
    with pytest.raises(FileNotFoundError, match="no checkpoint that can be read"):
        reopened(tmp_path)


def test_a_damaged_checkpoint_is_replaced(tmp_path, checkpoints):
    """Going on from the one before comes to the damaged one's step again: it is saved anew, not skipped."""
    checkpoints.save(10, state(10), RECORD)
    checkpoints.save(20, state(20), RECORD)
    truncated(tmp_path / "checkpoints")
    again = Checkpoints(tmp_path / "checkpoints")
    again.restore(jax.eval_shape(state), lambda text: None)
    again.save(20, state(20), RECORD)
    again.close()
    step, found, _, said = reopened(tmp_path)
    assert (step, said) == (20, [])
    assert_same(found, state(20))


# Orbax leaves the parts that it had not begun: coroutines that were never awaited.
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("part", ["StandardCheckpointHandler", "JsonCheckpointHandler"])
@pytest.mark.parametrize("method", ["async_save", "finalize"])
def test_a_failure_while_saving_leaves_those_before(tmp_path, checkpoints, monkeypatch, part, method):
    import orbax.checkpoint as ocp

    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    checkpoints.save(10, state(10), RECORD)
    with monkeypatch.context() as patch:
        patch.setattr(getattr(ocp, part), method, full)
        with pytest.raises(OSError, match="No space left"):
            checkpoints.save(20, state(20), RECORD)
        gc.collect()
    step, found, record, _ = reopened(tmp_path)
    assert (step, record) == (10, RECORD | {"format": FORMAT})
    assert_same(found, state(10))
