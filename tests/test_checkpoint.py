"""Checkpoints: every bit comes back, and what breaks while saving costs at most the newest."""

import gc
import json
import logging
import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from ddpg_jax.runs.checkpoints import manifest
from ddpg_jax.runs.checkpoints.store import Checkpoints
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
    (folder / "20").rename(folder / "20.tmp")


def no_manifest(folder):
    """As a kill leaves it on storage without atomic renames."""
    (folder / "20" / "manifest.json").unlink()


def only_begun(folder):
    shutil.rmtree(folder / "20")
    (folder / "20.tmp" / "state.orbax-checkpoint-tmp").mkdir(parents=True)


def truncated(folder):
    for path in filter(lambda path: path.is_file(), (folder / "20" / "state").rglob("*")):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("damage", [uncommitted, no_manifest, only_begun, truncated])
def test_a_partial_newest_is_passed_over(tmp_path, checkpoints, damage):
    checkpoints.save(10, state(10), RECORD)
    checkpoints.save(20, state(20), RECORD)
    checkpoints.wait()
    damage(tmp_path / "checkpoints")
    step, found, record, said = reopened(tmp_path)
    assert (step, record) == (10, RECORD)
    assert_same(found, state(10))
    assert not list((tmp_path / "checkpoints").glob("*tmp*")), "what was half written is removed"
    if damage in (truncated, no_manifest):
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


@pytest.mark.parametrize(
    ("place", "name"),
    [
        (ocp.PyTreeCheckpointHandler, "save"),
        (ocp.PyTreeCheckpointHandler, "finalize"),
        (manifest, "digests"),
        (manifest, "write"),
        (Path, "rename"),
    ],
)
def test_a_failure_while_saving_leaves_those_before(
    tmp_path, checkpoints, monkeypatch, capfd, place, name
):
    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    checkpoints.save(10, state(10), RECORD)
    checkpoints.wait()
    with monkeypatch.context() as patch:
        patch.setattr(place, name, full)
        checkpoints.save(20, state(20), RECORD)  # in the background
        told = r"checkpoint .*/20 could not be written \(No space left on device\): [\d,]+ bytes"
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
from ddpg_jax.runs.checkpoints.store import Checkpoints
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
    told = r"the checkpoint \S*/20 could not be written \(File too large\): 80,000 bytes "
    told += r"are needed, [\d,]+ are free there\. "
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
    """And leads to the checkpoint before, also where it would have been harmless."""
    names = files(two / "20")
    assert {"manifest.json", "state/manifest.ocdbt"} <= {str(name) for name in names}
    others, unchanged = iter(files(two / "10")), 0
    for index, name in enumerate(names):
        folder = shutil.copytree(two, tmp_path / str(index))
        other = folder / "10" / name  # of data files the names are random
        damaged(
            folder / "20" / name,
            DAMAGES[damage],
            other if other.is_file() else folder / "10" / next(others),
        )
        path = folder / "20" / name
        same = path.is_file() and path.read_bytes() == (two / "20" / name).read_bytes()
        assert outcome(folder) == ("whole" if same else "passed over"), name
        unchanged += same
    assert unchanged < len(names) - 2 if damage.startswith("swapped") else unchanged == 0
    assert capfd.readouterr() == ("", ""), "nothing of the storage's own"


def test_every_byte_of_the_state_and_its_record_counts(tmp_path, two):
    """10 places in each of its two largest files and in the record."""
    sizes = {
        str(name): (two / "20" / name).stat().st_size
        for name in files(two / "20")
        if name.parts[0] == "state"
    }
    for name in (*sorted(sizes, key=lambda name: sizes[name])[-2:], "manifest.json"):
        original = (two / "20" / name).read_bytes()
        for index, at in enumerate(np.linspace(0, len(original) - 1, 10).astype(int)):
            folder = shutil.copytree(two, tmp_path / f"{name.replace('/', '-')}-{index}")
            (folder / "20" / name).write_bytes(flipped(original, int(at)))
            assert outcome(folder) == "passed over", (name, at)


def test_both_damaged(tmp_path, two):
    folder, said = shutil.copytree(two, tmp_path / "checkpoints"), []
    for step, name in (("20", "state/manifest.ocdbt"), ("10", "manifest.json")):
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
    told = r"10 is of another training state .* \['kernel'\] is float32\[3, 4\] there, "
    told += r"\['kernel'\] is float32\[3, 5\] here"
    with pytest.raises(ValueError, match=told):
        checkpoints.restore({"kernel": jnp.zeros((3, 5)), "bias": jnp.zeros(4)})


def old_format(folder, number):
    """As versions before wrote them: an Orbax item with a JSON record."""
    name = "about" if number > 2 else "record"
    (folder / "20" / name).mkdir(parents=True)
    (folder / "20" / name / "metadata").write_text(json.dumps({"format": number, "record": RECORD}))
    (folder / "20" / "state" / "checkpoint").mkdir(parents=True)
    (folder / "20" / "state" / "checkpoint" / "0").write_bytes(bytes(100))


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_checkpoints_of_versions_before_are_refused_in_a_sentence(tmp_path, number):
    old_format(tmp_path / "checkpoints", number)
    with pytest.raises(
        ValueError,
        match=f"^checkpoint 20 has format {number}, .* format 5: resume with that version",
    ):
        reopened(tmp_path)
    assert files(tmp_path / "checkpoints"), "nothing is thrown away"


# Beside a live run


@pytest.mark.parametrize("method", ["_verify", "_read"])
def test_one_that_is_rotated_away_is_not_damaged(tmp_path, two, monkeypatch, method):
    """While 20 is read, the run writes 30 and removes what is older."""
    folder, said = shutil.copytree(two, tmp_path / "checkpoints"), []
    reader, read = Checkpoints(folder, read_only=True), getattr(Checkpoints, method)

    def rotate(self, *arguments):
        monkeypatch.setattr(Checkpoints, method, read)
        writer = Checkpoints(folder, keep=1)
        writer.save(30, state(30), RECORD)
        writer.close()
        return read(self, *arguments)

    monkeypatch.setattr(Checkpoints, method, rotate)
    step, found, _ = reader.restore(state(), said.append)
    reader.close()
    assert (step, said) == (30, [])
    assert_same(found, state(30))


@pytest.mark.parametrize("level", [logging.INFO, logging.ERROR])
def test_readers_say_nothing_of_their_own(tmp_path, two, capfd, level):
    """Whatever level others set, as simulators do when they are imported."""
    path = shutil.copytree(two, tmp_path / "checkpoints") / "20" / "state" / "_METADATA"
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
        patch.setattr(ocp.PyTreeCheckpointer, "save", lambda *arguments, **options: 1 / 0)
        checkpoints.save(10, state(), RECORD)
        with pytest.raises(RunError, match="/10 could not be written"):
            checkpoints.save(20, state(), RECORD)
    checkpoints.wait()
    assert checkpoints.are_none()


@pytest.mark.parametrize(
    ("there", "here"), [("rbg", "threefry2x32"), ("threefry2x32", "rbg"), ("unsafe_rbg", "rbg")]
)
def test_random_keys_of_another_kind_are_named(checkpoints, there, here):
    shown = {"weights": jnp.ones(3), "key": jax.random.key(0, impl=there)}
    checkpoints.save(10, shown, RECORD)
    told = f"random keys of JAX's {there}, and .* {here}: set JAX_DEFAULT_PRNG_IMPL={there}"
    with pytest.raises(ValueError, match=told):
        checkpoints.restore(shown | {"key": jax.random.key(0, impl=here)})
