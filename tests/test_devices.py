"""A run over devices: which it takes, what it refuses, and that it goes on, on the same and on
others."""

import jax
import numpy as np
import pytest

from ddpg_jax import runs
from ddpg_jax.runs.checkpoints.store import Checkpoints
from ddpg_jax.runs.config import mesh
from ddpg_jax.runs.config.mesh import Mesh
from ddpg_jax.runs.config.run_config import make_config
from ddpg_jax.runs.config.stored import load_config
from ddpg_jax.runs.options.validation import RunError
from ddpg_jax.runs.programs import build
from ddpg_jax.runs.results import policy


def config(**options):
    hyperparameters = {"num_envs": 16, "batch_size": 64, "replay_capacity": 16_000} | options
    return make_config("pendulum", **hyperparameters)


def test_a_mesh_as_text():
    assert mesh.parse_mesh("") == Mesh(1, 1)
    assert (
        mesh.parse_mesh("members=4,data=2") == mesh.parse_mesh(" data=2, members=4") == Mesh(4, 2)
    )
    assert mesh.parse_mesh(str(Mesh(3, 5))) == Mesh(3, 5)
    for text in ("4", "rows=2", "data=2,data=2", "data=0", "data=two", "data="):
        with pytest.raises(ValueError, match="mesh"):
            mesh.parse_mesh(text)


@pytest.mark.parametrize(
    ("options", "available", "expected"),
    [
        ({}, 8, Mesh(1, 8)),
        ({}, 6, Mesh(1, 4)),
        ({"num_envs": 1, "replay_capacity": 1_000}, 8, Mesh(1, 1)),
        ({"seeds": 32}, 8, Mesh(8, 1)),
        ({"seeds": 6}, 8, Mesh(6, 1)),
        ({"seeds": 2}, 8, Mesh(2, 4)),
        ({"seeds": 5}, 4, Mesh(1, 4)),
    ],
)
def test_as_many_devices_as_come_out_even(options, available, expected):
    assert mesh.largest_mesh(config(**options), available) == expected


def test_a_profile_is_of_one_device():
    assert mesh.on_one_device(config()).mesh == "members=1,data=1"
    with pytest.raises(
        ValueError,
        match="--profile .* mesh=members=1,data=8",  # noqa: RUF043
    ):
        mesh.on_one_device(config(devices=8))


def test_environments_on_the_host_stay_on_one_device():
    assert mesh.largest_mesh(make_config("gymnasium/Pendulum-v1", num_envs=8), 8) == Mesh(1, 1)
    with pytest.raises(
        ValueError, match="host environments, as gymnasium/Pendulum-v1, train on one device"
    ):
        make_config("gymnasium/Pendulum-v1", num_envs=8, devices=8)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            {"devices": 3},
            "devices=3 is data=3, which does not divide num_envs=16: choose --num-envs "
            "15, or another number of",
        ),
        (
            {"devices": 8, "batch_size": 60},
            "data=8, which does not divide batch_size=60: choose --batch-size 64",
        ),
        (
            {"mesh": "members=2"},
            "mesh=members=2 is members=2, which does not divide seeds=1: choose --seeds 2",
        ),
        ({"devices": 0}, "devices=0: must be at least 1"),
        ({"devices": 2, "mesh": "data=2"}, "devices=2 and mesh='data=2': give only one"),
    ],
)
def test_devices_that_do_not_come_out_even(options, sentence):
    with pytest.raises(ValueError, match=r"devices|mesh") as caught:
        config(**options)
    assert sentence in str(caught.value)


def test_what_is_asked_for_is_written_down():
    assert config().flat()["mesh"] == ""
    assert config(devices=8).flat()["mesh"] == "members=1,data=8"
    assert config(devices=8, seeds=4).flat()["mesh"] == "members=4,data=2"


def test_the_mesh_of_a_run_is_said():
    said = []
    assert mesh.choose_mesh(config(devices=4), 8, said.append) == "members=1,data=4"
    assert said.pop() == (
        "on 4 devices (members=1,data=4), each 4 of 16 environments, and 16 of 64 rows "
        "of a batch; 4 of 8 stay idle."
    )
    assert mesh.choose_mesh(config(seeds=4), 4, said.append) == "members=4,data=1"
    assert said.pop() == "on 4 devices (members=4,data=1), each 1 of 4 members."
    assert mesh.choose_mesh(config(seeds=11, num_envs=1), 8, said.append) == "members=1,data=1"
    assert said.pop() == (
        "on one device, each 11 of 11 members; 7 of 8 stay idle (not with --seeds 16)."
    )
    assert mesh.choose_mesh(config(), 1, said.append) == "members=1,data=1"
    assert said == []
    with pytest.raises(
        RunError,
        match="mesh=members=1,data=16 needs 16 devices, but JAX finds 8: lower --devices",
    ):
        mesh.choose_mesh(config(devices=16), 8, said.append)
    assert mesh.choose_mesh(config(devices=16), 8, said.append, resume=True) == "members=1,data=8"
    with pytest.raises(
        RunError,
        match=r"2 processes with 3 devices each train with all of them, "
        r"but mesh=members=1,data=4 of",
    ):
        mesh.choose_mesh(config(), 6, said.append, processes=2)


def test_a_resumed_run_has_the_mesh_that_it_had_where_it_can():
    """With fewer devices, or with several processes and more of them, it is chosen anew."""
    said, four = [], config(devices=4)
    for available, processes, resume, expected in (
        (8, 1, True, 4),
        (4, 1, True, 4),
        (3, 1, True, 2),
        (8, 2, True, 8),
        (4, 2, True, 4),
        (4, 2, False, 4),
    ):
        options = {"processes": processes, "resume": resume}
        found = mesh.choose_mesh(four, available, said.append, **options)
        assert found == f"members=1,data={expected}", (available, processes)
        said.clear()
    with pytest.raises(RunError, match="2 processes with 4 devices each train with all of them"):
        mesh.choose_mesh(four, 8, said.append, processes=2)
    with pytest.raises(RunError, match="needs 4 devices, but JAX finds 3"):
        mesh.choose_mesh(four, 3, said.append)


def test_every_process_has_whole_rows_of_the_mesh():
    """Of three with four devices each: shards are a multiple or a divisor of 4."""
    sizes = {"seeds": 12, "num_envs": 12, "batch_size": 12, "replay_capacity": 12_000}
    for data in (1, 2, 4, 12):
        asked = config(mesh=f"members={12 // data},data={data}", **sizes)
        assert mesh.choose_mesh(asked, 12, lambda text: None, processes=3) == asked.mesh
    for data in (3, 6):
        asked = config(mesh=f"members={12 // data},data={data}", **sizes)
        mesh.choose_mesh(asked, 12, lambda text: None)
        with pytest.raises(RunError, match="3 processes with 4 devices each"):
            mesh.choose_mesh(asked, 12, lambda text: None, processes=3)


def test_members_go_first_and_a_hint_is_of_seeds_alone():
    assert config(devices=4, seeds=6).mesh == "members=2,data=2"
    assert config(devices=1).mesh == "members=1,data=1"
    assert config(mesh="data=1").mesh == "members=1,data=1"
    with pytest.raises(ValueError, match="num_envs=1: choose --num-envs 8"):
        config(devices=8, num_envs=1, replay_capacity=1_000)
    assert mesh.parse_mesh("data=1048575").devices == 1_048_575
    with pytest.raises(ValueError, match="less than 1048576"):
        mesh.parse_mesh("data=1048576")
    said = []
    mesh.choose_mesh(config(seeds=3, num_envs=1), 2, said.append)
    assert said.pop().endswith("; 1 of 2 stay idle (not with --seeds 4).")
    varied = config(seeds=3, num_envs=1, vary={"tau": [0.1, 0.2, 0.3]})
    mesh.choose_mesh(varied, 2, said.append)
    assert said.pop().endswith("; 1 of 2 stay idle.")
    mesh.choose_mesh(config(seeds=4, num_envs=1, mesh="members=2"), 4, said.append)
    assert said.pop() == "on 2 devices (members=2,data=1), each 2 of 4 members; 2 of 4 stay idle."
    mesh.choose_mesh(config(seeds=2), 4, said.append)
    assert said.pop() == (
        "on 4 devices (members=2,data=2), each 1 of 2 members with 8 of 16 environments, and 32 of "
        "64 rows of a batch."
    )


def test_the_schedule_of_a_shard_stores_its_share():
    """A warm-up that its steps do not divide is rounded up, in whole steps of all environments."""
    own = mesh.schedule_of_shard(config(learning_starts=100), 4)  # of 16 environments
    assert own["learning_starts"] == 7 * 4
    whole = mesh.schedule_of_shard(config(learning_starts=100), 1)
    assert whole["learning_starts"] == 100
    assert own["steps_per_chunk"] * 4 == whole["steps_per_chunk"]
    two = mesh.schedule_of_shard(config(learning_starts=100), 2)
    assert two["learning_starts"] == 7 * 8
    exact = mesh.schedule_of_shard(config(learning_starts=96), 2)
    assert exact["learning_starts"] == 6 * 8
    assert {name: own[name] for name in ("updates_per_step", "collect_steps")} == {
        name: whole[name] for name in ("updates_per_step", "collect_steps")
    }


@pytest.mark.eight_devices
def test_a_run_on_four_of_eight_devices(tmp_path):
    """Killed after its second chunk a run goes on bit for bit on the same devices; on others it
    goes on, and says so."""
    hyperparameters = {
        "num_envs": 4,
        "batch_size": 8,
        "replay_capacity": 400,
        "hidden": (8,),
        "learning_starts": 40,
    }
    hyperparameters |= {
        "steps_per_chunk": 40,
        "checkpoint_every": 1,
        "evaluate_every": 0,
        "evaluation_episodes": 4,
        "final_episodes": 4,
    }
    after = lambda chunks: {"total_timesteps": 40 + 40 * chunks}

    def newest(folder):
        shapes = build.state_shapes(load_config(folder))
        found = Checkpoints(folder / "checkpoints", read_only=True).newest(
            lambda about: shapes, pytest.fail
        )
        return found.step, [x.tobytes() for x in jax.tree.leaves(found.state)]

    whole, broken = tmp_path / "whole", tmp_path / "broken"
    runs.train("pendulum", run_dir=whole, progress=False, keep=9, **hyperparameters, **after(3))
    assert load_config(whole).mesh == "members=1,data=4", "as many as divide the environments"
    runs.train(
        "pendulum",
        run_dir=broken,
        progress=False,
        keep=9,
        devices=4,
        **hyperparameters,
        **after(2),
    )
    result = runs.train(run_dir=broken, progress=False, resume=True, **after(3))
    assert newest(broken) == newest(whole)
    assert result.agent_state.step.devices() == {jax.devices()[0]}
    fewer = runs.train(run_dir=broken, progress=False, resume=True, devices=2, **after(4))
    assert fewer.config.mesh == load_config(broken).mesh == "members=1,data=2"
    assert fewer.metrics[-1]["env_steps"] == 40 + 40 * 4
    # Played on one device.
    _, _, steps, agent_state = policy.restore_policy(broken)
    assert steps == [200]
    np.testing.assert_array_equal(agent_state.step, fewer.agent_state.step)
    assert len(policy.evaluate(broken, 3, 0)["returns"]) == 1
