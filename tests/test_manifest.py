"""What describes a checkpoint: its leaves, its files and its format, each found out where it is
another."""

import json

import jax
import jax.numpy as jnp
import pytest

from ddpg_jax.runs.checkpoints import manifest
from ddpg_jax.runs.checkpoints.manifest import OtherStateError


@pytest.fixture
def written(tmp_path):
    """A checkpoint of two files at step 7."""
    (tmp_path / "state" / "deep").mkdir(parents=True)
    (tmp_path / "state" / "a").write_bytes(b"12")
    (tmp_path / "state" / "deep" / "b").write_bytes(b"")
    manifest.write(tmp_path, {"step": 7, "more": [1, {"x": None}]})
    return tmp_path


def test_a_manifest_describes_all_files_and_itself(written):
    manifest.require_unchanged(written, 7)
    about = json.loads((written / "manifest.json").read_text())
    assert (about["format"], about["step"], about["more"]) == (5, 7, [1, {"x": None}])
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert list(about["files"]) == ["a", "deep/b"]
    assert about["files"]["deep/b"] == empty
    spaced = json.dumps(dict(reversed(about.items())), indent=2)
    (written / "manifest.json").write_text(spaced)
    manifest.require_unchanged(written, 7)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda path: (path / "state/a").write_bytes(b"13"),
            "its state/a is not as it was written",
        ),
        (lambda path: (path / "state/deep/b").unlink(), "its state/deep/b is not as it was"),
        (lambda path: (path / "state/deep/c").touch(), "its state/deep/c is not as it was"),
    ],
)
def test_a_file_that_is_another_is_named(written, change, said):
    change(written)
    with pytest.raises(ValueError, match=said):
        manifest.require_unchanged(written, 7)


def resealed(folder, **changes):
    about = json.loads((folder / "manifest.json").read_text()) | changes
    about.pop("seal")
    (folder / "manifest.json").write_text(json.dumps(about | {"seal": manifest._seal(about)}))


def test_a_manifest_that_is_another_is_told_from_one_of_another_format(written):
    for step in (6, 8):
        with pytest.raises(ValueError, match=r"its manifest\.json is not as it was written"):
            manifest.require_unchanged(written, step)
    text = (written / "manifest.json").read_text()
    (written / "manifest.json").write_text(text.replace('"more": [1', '"more": [2'))
    with pytest.raises(ValueError, match=r"its manifest\.json is not as it was written"):
        manifest.require_unchanged(written, 7)
    (written / "manifest.json").write_text(text)
    for other in (4, 6):
        resealed(written, format=other)
        with pytest.raises(OtherStateError, match=f"checkpoint 7 has format {other}, .* format 5:"):
            manifest.require_unchanged(written, 7)
    resealed(written, format=5)
    manifest.require_unchanged(written, 7)


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [("about", {"format": 3}, 3), ("record", {}, 1), ("about", {"format": 5}, None)],
)
def test_formats_of_old_are_known(written, name, content, found):
    (written / name).mkdir()
    (written / name / "metadata").write_text(json.dumps(content))
    if found is None:
        manifest.require_unchanged(written, 7)
    else:
        with pytest.raises(OtherStateError, match=f"checkpoint 7 has format {found}, of another"):
            manifest.require_unchanged(written, 7)


def test_leaves_by_name_dtype_and_shape():
    tree = {"a": jnp.zeros((2, 3)), "b": [jnp.int32(1)]}
    wanted = [["agent['a']", "float32", [2, 3]], ["agent['b'][0]", "int32", []]]
    assert manifest.specification(tree, "agent") == wanted
    assert manifest.specification(tree)[1][0] == "['b'][0]"
    assert manifest.specification(jax.random.key(0, impl="rbg")) == [["", "key<rbg>", []]]


KEYS = [["key", "key<fry>", []]]


@pytest.mark.parametrize(
    ("found", "wanted", "said"),
    [
        (KEYS, [["key", "key<rbg>", []]], "threefry2x32, and this process those of rbg: set JAX_"),
        ([["key", "key<urbg>", []]], KEYS, "unsafe_rbg, and this process those of threefry2x32"),
        (
            KEYS,
            [["other", "key<rbg>", []]],
            r"key is key<fry>\[\] there, other is key<rbg>\[\] here",
        ),
        (KEYS, [["key", "uint32", [2]]], r"key is key<fry>\[\] there, key is uint32\[2\] here"),
        (KEYS, [], r"key is key<fry>\[\] there, nothing more here"),
        ([], KEYS, r"nothing more there, key is key<fry>\[\] here"),
        (
            [*KEYS, ["a", "b", [1]]],
            [*KEYS, ["a", "b", [2]]],
            r"a is b\[1\] there, a is b\[2\] here",
        ),
    ],
)
def test_the_first_leaf_that_is_another_is_named(found, wanted, said):
    with pytest.raises(OtherStateError, match=f"checkpoint 7 .*{said}"):
        manifest.require_same_leaves(7, found, wanted)
    manifest.require_same_leaves(7, found, [*found])
