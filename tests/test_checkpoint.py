"""Checkpoints: every bit comes back, and what breaks while saving costs at most the newest."""

import gc
import logging
import os
import re
import shutil
import subprocess
import sys
import threading

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from ddpg_jax.runs.checkpoints import Checkpoints
from ddpg_jax.runs.options.validation import RunError
from ddpg_jax.types import AgentState, NetworkState, is_key

RECORD = {
    "chunks": 3,
    "train_seconds": 0.1,
    "config": {"env": "pendulum", "env_options": {}, "hidden": [64, 64], "tau": 5e-3},
}


def state(seed: int = 0):
    """Every kind of leaf a training state has, with values that would show a conversion."""
    key = jax.random.key(seed)
    network = NetworkState(
        params={
            "params": {
                "kernel": jax.random.normal(key, (3, 4)),
                "bias": jnp.array([jnp.nan, jnp.inf, -0.0, 1e-42]),
            }
        },
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
    for (path, a), b in zip(
        jax.tree.leaves_with_path(found), jax.tree.leaves(expected), strict=True
    ):
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


@pytest.mark.parametrize(
    "like", [lambda: state(99), lambda: jax.eval_shape(state)], ids=["arrays", "shapes"]
)
def test_round_trip_is_bitwise(tmp_path, checkpoints, like):
    checkpoints.save(10, state(), RECORD)
    step, found, record = checkpoints.restore(like())
    assert step == 10
    assert_same(found, state())
    assert record == RECORD
    np.testing.assert_array_equal(jax.random.bits(found["key"]), jax.random.bits(state()["key"]))


def test_a_new_process_finds_the_newest(tmp_path, checkpoints):
    for step in (10, 9_000, 20_000):
        checkpoints.save(step, state(step), RECORD | {"chunks": step})
    checkpoints.wait()
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
    shutil.rmtree(folder / "20" / "about")


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
    checkpoints.wait()
    damage(tmp_path / "checkpoints")
    step, found, record, said = reopened(tmp_path)
    assert (step, record) == (10, RECORD)
    assert_same(found, state(10))
    if damage in (truncated, no_commit_file):
        (sentence,) = said
        assert sentence.startswith("checkpoint 20 is damaged (")
        assert "\n" not in sentence


def test_all_damaged(tmp_path, checkpoints):
    checkpoints.save(20, state(20), RECORD)
    checkpoints.wait()
    truncated(tmp_path / "checkpoints")
    with pytest.raises(FileNotFoundError, match="no checkpoint that can be read"):
        reopened(tmp_path)


def test_a_damaged_checkpoint_is_replaced(tmp_path, checkpoints):
    """Going on from the one before comes to the damaged one's step again: it is saved anew, not
    skipped."""
    checkpoints.save(10, state(10), RECORD)
    checkpoints.save(20, state(20), RECORD)
    checkpoints.wait()
    truncated(tmp_path / "checkpoints")
    again = Checkpoints(tmp_path / "checkpoints")
    again.restore(jax.eval_shape(state), lambda text: None)
    again.save(20, state(20), RECORD)
    again.close()
    step, found, _, said = reopened(tmp_path)
    assert (step, said) == (20, [])
    assert_same(found, state(20))


# Orbax leaves the parts that it had not begun: coroutines that were never awaited.
@pytest.mark.filterwarnings(
    "ignore:coroutine .* was never awaited", "ignore::pytest.PytestUnraisableExceptionWarning"
)
@pytest.mark.parametrize("part", ["ArrayCheckpointHandler", "JsonCheckpointHandler"])
@pytest.mark.parametrize("method", ["async_save", "finalize"])
def test_a_failure_while_saving_leaves_those_before(
    tmp_path, checkpoints, monkeypatch, capfd, part, method
):
    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    checkpoints.save(10, state(10), RECORD)
    checkpoints.wait()
    with monkeypatch.context() as patch:
        patch.setattr(getattr(ocp, part), method, full)
        checkpoints.save(20, state(20), RECORD)  # in the background
        told = (
            r"checkpoint .*/20 could not be written \(No space left on device\): "
            r"[\d,]+ bytes are needed, [\d,]+ are free there"
        )
        with pytest.raises(RunError, match=told):
            checkpoints.wait()
        gc.collect()
    assert capfd.readouterr() == ("", ""), "nothing but the sentence"
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["10"], (
        "what was half written is gone"
    )
    step, found, record, _ = reopened(tmp_path)
    assert (step, record) == (10, RECORD)
    assert_same(found, state(10))


@pytest.mark.skipif(os.name == "nt", reason="POSIX limits")
def test_a_disk_that_is_full_in_the_middle_of_a_file(tmp_path):
    """By the system's own limit on the size of files: storage below Python meets it."""
    code = """
import resource, signal, sys, numpy as np
from pathlib import Path
from ddpg_jax.runs.checkpoints import Checkpoints
opened = Checkpoints(Path(sys.argv[1]))
opened.save(10, {"x": np.zeros(3)}, {})
opened.wait()
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
noise = np.random.default_rng(0).random(10_000)
try:
    opened.save(20, {"x": noise}, {})
    opened.wait()
except ValueError as error:
    print(error)
opened.close()
"""
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
    )
    told = (
        r"the checkpoint \S*/20 could not be written \(File too large\): "
        r"80,000 bytes are needed, [\d,]+ are free there\. "
    )
    assert re.fullmatch(told + r"Those before it are intact\.\n", run.stdout), run.stdout
    assert run.stderr == ""
    assert [path.name for path in tmp_path.iterdir()] == ["10"]


# Damage: what is restored is what was saved, or a sentence says that it is not


def flipped(data: bytes, at: int) -> bytes:
    at = min(at, len(data) - 1)
    return data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :]


DAMAGES = {
    "flip at the start": lambda data, other: flipped(data, 0),
    "flip in the middle": lambda data, other: flipped(data, len(data) // 2),
    "flip at the end": lambda data, other: flipped(data, len(data)),
    "last quarter zeroed": lambda data, other: (
        data[: len(data) - len(data) // 4] + bytes(len(data) // 4)
    ),
    "truncated to half": lambda data, other: data[: len(data) // 2],
    "emptied": lambda data, other: b"",
    "deleted": lambda data, other: None,
    "appended to": lambda data, other: data + b"x",
    "swapped with the other checkpoint's": lambda data, other: other,
}


def damaged(path, damage, other):
    data = damage(path.read_bytes(), other.read_bytes())
    path.unlink() if data is None else path.write_bytes(data)


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """A folder with checkpoints 10 and 20."""
    folder = tmp_path_factory.mktemp("two") / "checkpoints"
    opened = Checkpoints(folder)
    for step in (10, 20):
        opened.save(step, state(step), RECORD)
    opened.close()
    return folder


def outcome(folder) -> str:
    """ "whole" or "passed over"; anything else that a restore may do fails here."""
    said: list[str] = []
    opened = Checkpoints(folder, read_only=True)
    try:
        step, found, record = opened.restore(jax.eval_shape(state), said.append)
    finally:
        opened.close()
    assert_same(found, state(step))
    assert record == RECORD
    assert len(said) == (step == 10), said
    assert all(
        re.fullmatch(r"checkpoint 20 is damaged \(.*\); trying the one before it\.", text)
        for text in said
    )
    return {20: "whole", 10: "passed over"}[step]


def files(folder):
    return sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("damage", DAMAGES)
def test_every_damage_to_every_file_is_noticed(tmp_path, two, damage, capfd):
    """The data files, in which a change is never harmless, lead to the checkpoint before; for the
    others both is right."""
    names = files(two / "20")
    assert {"checkpoint/0", "metadata"} <= {"/".join(name.parts[1:]) for name in names}, (
        "the state and its record are there"
    )
    found = {}
    for index, name in enumerate(names):
        folder = shutil.copytree(two, tmp_path / str(index))
        damaged(folder / "20" / name, DAMAGES[damage], folder / "10" / name)
        found[str(name)] = outcome(folder)
    assert found["about/metadata"] == "passed over"
    assert found["state/checkpoint/0"] == "passed over" or damage == "appended to"
    assert capfd.readouterr() == ("", ""), "nothing of the storage's own"


def test_every_byte_of_the_state_and_its_record_counts(tmp_path, two):
    """20 places, spread over both files."""
    for name in ("state/checkpoint/0", "about/metadata"):
        original = (two / "20" / name).read_bytes()
        for index, at in enumerate(np.linspace(0, len(original) - 1, 10).astype(int)):
            folder = shutil.copytree(two, tmp_path / f"{name.replace('/', '-')}-{index}")
            (folder / "20" / name).write_bytes(flipped(original, int(at)))
            assert outcome(folder) == "passed over", (name, at)


def test_both_damaged(tmp_path, two):
    folder, said = shutil.copytree(two, tmp_path / "checkpoints"), []
    for step, name in (("20", "state/checkpoint/0"), ("10", "about/metadata")):
        path = folder / step / name
        path.write_bytes(flipped(path.read_bytes(), 30))
    opened = Checkpoints(folder)
    with pytest.raises(FileNotFoundError, match="no checkpoint that can be read"):
        opened.restore(state(), said.append)
    opened.close()
    assert [text.split(" (")[0] for text in said] == [
        "checkpoint 20 is damaged",
        "checkpoint 10 is damaged",
    ]
    assert files(folder) == files(two), "nothing is thrown away"


def test_a_checkpoint_under_another_name_is_damaged(tmp_path, two):
    folder, said = shutil.copytree(two, tmp_path / "checkpoints"), []
    (folder / "20").rename(folder / "30")
    opened = Checkpoints(folder)
    assert opened.restore(state(), said.append)[0] == 10
    opened.close()
    assert len(said) == 1


@pytest.mark.parametrize("stray", ["notes.txt", "30", "folder/", "40/", "10.bak/"])
def test_strays_are_no_checkpoints(tmp_path, two, stray):
    folder = shutil.copytree(two, tmp_path / "checkpoints")
    path, said = folder / stray.rstrip("/"), []
    path.mkdir() if stray.endswith("/") else path.write_text("mine")
    opened = Checkpoints(folder)
    step, found, _ = opened.restore(state(), said.append)
    assert step == 20
    assert_same(found, state(20))
    assert len(said) <= 1
    opened.save(25, state(25), RECORD)
    opened.wait()
    opened.close()
    step, found, _, _ = reopened(tmp_path)
    assert step == 25
    assert_same(found, state(25))


def test_a_state_of_another_shape_is_not_called_damaged(tmp_path, checkpoints):
    checkpoints.save(10, {"kernel": jnp.zeros((3, 4)), "bias": jnp.zeros(4)}, RECORD)
    told = (
        r"10 is of another training state .* "
        r"\['kernel'\] is float32\[3, 4\] there, \['kernel'\] is float32\[3, 5\] here"
    )
    with pytest.raises(ValueError, match=told):
        checkpoints.restore({"kernel": jnp.zeros((3, 5)), "bias": jnp.zeros(4)})


# Beside a live run


def test_one_that_is_rotated_away_is_not_damaged(tmp_path, two, monkeypatch):
    """While 20 is read, the run writes 30 and removes what is older."""
    folder, said = shutil.copytree(two, tmp_path / "checkpoints"), []
    reader, read = Checkpoints(folder, read_only=True), Checkpoints._restored

    def rotate(self, step, **items):
        monkeypatch.setattr(Checkpoints, "_restored", read)
        writer = Checkpoints(folder, keep=1)
        writer.save(30, state(30), RECORD)
        writer.close()
        return read(self, step, **items)

    monkeypatch.setattr(Checkpoints, "_restored", rotate)
    step, found, _ = reader.restore(state(), said.append)
    reader.close()
    assert (step, said) == (30, [])
    assert_same(found, state(30))


@pytest.mark.parametrize("level", [logging.INFO, logging.ERROR])
def test_readers_say_nothing_of_their_own(tmp_path, two, capfd, level):
    """Whatever level others set, as simulators do when they are imported."""
    path = shutil.copytree(two, tmp_path / "checkpoints") / "20" / "_CHECKPOINT_METADATA"
    path.write_text("{")
    logger = logging.getLogger("absl")
    before = logger.level
    logger.setLevel(level)
    try:
        outcome(tmp_path / "checkpoints")
    finally:
        logger.setLevel(before)
    assert capfd.readouterr() == ("", "")


# In the background


def test_what_is_saved_is_a_copy(checkpoints):
    """The next chunk is given the state's memory, and writes there while the checkpoint is being
    written."""
    held, free = threading.Event(), jax.jit(lambda x: x * 2.0, donate_argnums=0)
    checkpoints._writer.submit(held.wait, 10)
    x = jnp.arange(1_000.0)
    checkpoints.save(10, {"x": x}, RECORD)
    for _ in range(3):
        x = free(x)
    held.set()
    _, found, _ = checkpoints.restore({"x": x})
    np.testing.assert_array_equal(found["x"], np.arange(1_000.0))


def test_saving_waits_for_the_one_before_and_tells_its_error(checkpoints, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints._manager, "save", lambda *arguments, **options: 1 / 0)
        checkpoints.save(10, state(), RECORD)
        with pytest.raises(RunError, match="/10 could not be written"):
            checkpoints.save(20, state(), RECORD)
    checkpoints.wait()
    assert checkpoints.are_none()
