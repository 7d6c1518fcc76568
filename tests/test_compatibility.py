"""Which observations and actions the networks of a preset take, by shapes alone."""

import types

import jax
import numpy as np
import pytest

from ddpg_jax import envs
from ddpg_jax.runs.config.run_config import make_config
from ddpg_jax.runs.options.validation import RunError
from ddpg_jax.runs.programs import compatibility

OWN = make_config("pendulum").hyperparameters


def config(images=False, **options):
    preset = types.SimpleNamespace(images=images, name="it")
    return types.SimpleNamespace(
        preset=preset, env="mine:make", env_options=options, hyperparameters=OWN
    )


def shape(*sides, dtype=np.float32):
    return jax.ShapeDtypeStruct(sides, dtype)


def image(*sides):
    return shape(*sides, dtype=np.uint8)


def shown(observation, *action):
    return types.SimpleNamespace(observation=observation, action=shape(*(action or (2,))))


BOTH = {"state": shape(3), "privileged_state": shape(5)}


@pytest.mark.parametrize(
    ("observation", "said"),
    [
        (shape(3), None),
        (BOTH, None),
        (BOTH | {"camera": image(8, 8, 3), "far": shape(2, 2)}, None),
        ({"a": shape(3), "b": shape(1, dtype=np.uint8)}, None),
        (
            {"a": shape(3), "camera": image(8, 8, 3)},
            r"a dict of a \(3,\), camera \(8, 8, 3\), an",
        ),
        (
            {"state": shape(3), "camera": image(8, 8, 3)},
            "an image: choose a preset of images, --pre",
        ),
        (image(8, 8, 3), r"an observation of shape \(8, 8, 3\), an image"),
        (
            shape(8, 8, 3),
            r"an observation of shape \(8, 8, 3\), but the presets' networks take one",
        ),
        (image(8, 0, 3), r"an observation of shape \(8, 0, 3\), but the presets' networks"),
        (image(2, 8, 8, 3), r"an observation of shape \(2, 8, 8, 3\), but the presets' networks"),
        (shape(), r"a scalar \(shape \(\)\), but the presets' networks take one vector"),
        (shape(0), r"shape \(0,\), but"),
        ({}, "a dict of nothing, but"),
        ({"a": shape(3), "b": shape(0)}, "but the presets' networks"),
        ({"a": {"b": shape(3)}}, "a dict of a, but the presets' networks"),
        ([shape(3)], "a list, but the presets' networks"),
    ],
)
def test_networks_of_vectors(observation, said):
    if said is None:
        compatibility.require_compatible(config(), shown(observation))
    else:
        with pytest.raises(RunError, match=f"^mine:make shows .*{said}"):
            compatibility.require_compatible(config(), shown(observation))


@pytest.mark.parametrize(
    ("observation", "said"),
    [
        (image(8, 8, 3), None),
        (
            {
                "a": image(8, 8, 3),
                "b": shape(2),
                "c": image(4, 4, 1),
                "d": shape(1, dtype=np.int32),
            },
            None,
        ),
        (shape(8, 8, 3), "take images"),
        (shape(3), "take images"),
        ({"a": image(8, 8, 3), "b": image(3)}, "take images"),
        ({"a": image(8, 8, 3), "b": shape()}, "take images"),
        ({"a": image(8, 8, 3), "b": shape(0)}, "take images"),
        ({"a": image(8, 8, 3), "b": shape(2, 2)}, "take images"),
        (image(2, 8, 8, 3), "take images"),
        (image(0, 8, 3), "take images"),
        (
            image(3, 8, 9),
            r"of shape \(3, 8, 9\), which looks like 3 channels before height and width",
        ),
        (
            {"a": image(8, 8, 3), "b": image(5, 8, 9)},
            r"of shape \(5, 8, 9\), which .* --no-channels-first if it has 5 rows",
        ),
    ],
)
def test_networks_of_images(observation, said):
    check = lambda own: compatibility.require_compatible(own, shown(observation))
    if said is None:
        check(config(images=True))
    else:
        with pytest.raises(RunError, match=f"^mine:make shows .*{said}"):
            check(config(images=True))
        if "channels" in said:
            check(config(images=True, channels_first=False))


@pytest.mark.parametrize(
    ("action", "fits"),
    [((1,), True), ((3,), True), ((0,), False), ((2, 2), False), ((2, 0), False)],
)
def test_actions_are_a_vector(action, fits):
    for images, observation in ((False, shape(3)), (True, image(8, 8, 3))):
        given = config(images=images), shown(observation, *action)
        if fits:
            compatibility.require_compatible(*given)
        else:
            with pytest.raises(RunError, match=r"takes actions of shape .*, but the presets"):
                compatibility.require_compatible(*given)


def test_the_remedy_is_of_where_an_environment_runs():
    device, host = envs.make("pendulum", 1), envs.make("gymnasium/Pendulum-v1", 1)
    for env, remedy in ((device, "ddpg_jax.envs.map_observation"), (host, "FlattenObservation")):
        with pytest.raises(RunError, match=remedy):
            compatibility.require_compatible(config(), env._replace(observation=shape(2, 2)))
    host.close()


def test_copies_on_the_host_are_not_too_many():
    compatibility.require_host_copies("pendulum", 10**6)
    compatibility.require_host_copies("gymnasium/Pendulum-v1", 10_000)
    for count in (0, 10_001):
        with pytest.raises(
            ValueError, match=f"environments on the host={count}: must be between 1"
        ):
            compatibility.require_host_copies("gymnasium/Pendulum-v1", count)


@pytest.mark.parametrize(
    ("observation", "images", "text"),
    [
        (shape(3), False, ""),
        (BOTH, False, ""),
        ({"a": shape(3)}, False, ""),
        (
            {"b": shape(3), "a": shape(1)},
            False,
            "Actor and critic see a, b, joined in this order.",
        ),
        (
            {"b": shape(3), "achieved_goal": shape(1)},
            False,
            "Neither actor nor critic sees achieved_goal.",
        ),
        (
            {"b": shape(3), "a": shape(1), "achieved_goal": shape(1)},
            False,
            "Actor and critic see a, b, joined in this order. Neither actor nor critic sees "
            "achieved_goal.",
        ),
        (BOTH | {"z": shape(1), "y": shape(1)}, False, "Neither actor nor critic sees y, z."),
        ({"b": shape(3), "a": shape(1)}, True, ""),
    ],
)
def test_streams_in_a_sentence(observation, images, text):
    assert compatibility.describe_streams(config(images=images), observation) == text
