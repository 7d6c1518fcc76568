"""What a run holds in memory: said by part before any of it is allocated, and refused where it is
too much."""

import functools
import types

import jax
import numpy as np
import pytest
from click.testing import CliRunner

from ddpg_jax import envs
from ddpg_jax.runs import dry_run
from ddpg_jax.runs.cli import commands
from ddpg_jax.runs.config.run_config import make_config
from ddpg_jax.runs.options.validation import RunError
from ddpg_jax.runs.programs import build, compiled_memory, memory
from ddpg_jax.runs.training import loop

SIZES = {
    "total_timesteps": 80,
    "learning_starts": 40,
    "steps_per_chunk": 40,
    "hidden": (8,),
    "batch_size": 8,
}
ROW = 4 * (3 + 1 + 1 + 1 + 3)
"""Bytes of a transition of pendulum: two observations, action, reward and discount."""


@functools.cache
def built():
    config = make_config("pendulum", **SIZES, replay_capacity=200, seeds=3)
    made = build.build(config)
    return config, made, build.compile_programs(made, config)


def named(parts):
    return {part.what: part.needed for part in parts}


def test_parts_are_what_the_compiled_programs_take():
    """What lies there throughout is the chunk's argument, which is donated; temporaries are of the
    program that needs most."""
    config, made, programs = built()
    found = compiled_memory.measured_parts(config, made, programs)
    needed = named(found)
    assert needed["the replay (replay_capacity=200, seeds=3)"] == 3 * (
        200 * ROW + 8
    )  # position and size
    network = memory.tree_bytes((made.state.agent.actor.params, made.state.agent.critic.params))
    assert needed["networks and their targets"] == 2 * network + 3 * 4  # and the count of updates
    assert needed["optimisers"] >= 2 * network
    argument = programs.chunk.memory_analysis().argument_size_in_bytes
    lying = [
        part for part in found if "temporaries" not in part.what and "checkpoint" not in part.what
    ]
    assert sum(named(lying).values()) == argument
    analyses = (programs.chunk.memory_analysis(), programs.evaluate.memory_analysis())
    temporary = max(
        each.temp_size_in_bytes + each.generated_code_size_in_bytes for each in analyses
    )
    assert temporary in needed.values()
    assert needed["a checkpoint being written"] == memory.COPIES * memory.tree_bytes(made.state)
    assert all(part.lower for part in found)


def test_before_compiling_the_same_parts_are_known_and_less_of_the_rest():
    config, made, programs = built()
    known, least = (
        named(compiled_memory.measured_parts(config, made, each)) for each in (programs, None)
    )
    shared = set(known) & set(least)
    assert {what: known[what] for what in shared} == {what: least[what] for what in shared}
    assert len(shared) == 6
    assert "a batch" in least


@pytest.mark.parametrize(("backend", "beside"), [("cpu", 1), ("gpu", 0)])
@pytest.mark.parametrize("more", [-1, 0, 1, 5])
def test_more_is_said_at_the_start_alone_where_it_is(monkeypatch, backend, beside, more):
    """Of the start beyond all other programs; where the host is the device, a checkpoint's copy
    that is not being written then lies there as well."""
    config, made, _ = built()
    needs = lambda temporary, code=0: types.SimpleNamespace(
        memory_analysis=lambda: types.SimpleNamespace(
            temp_size_in_bytes=temporary,
            generated_code_size_in_bytes=code,
            argument_size_in_bytes=0,
        )
    )
    copy = memory.checkpoint_part(made.state).needed
    assert copy > 5
    programs = types.SimpleNamespace(
        chunk=needs(70, 30), evaluate=needs(60, 20), start=needs(90 + more + beside * copy, 10)
    )
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    found = named(compiled_memory.measured_parts(config, made, programs))
    assert found["temporaries of the compiled programs (chunk)"] == 100
    assert found.get("additional temporaries at the start", 0) == max(more, 0)
    assert ("additional temporaries at the start" in found) == (more > 0)


def test_a_loop_on_the_host_is_measured_by_the_programs_that_it_calls():
    """Their temporaries were guessed, of image runs 13 times too low."""
    config = make_config("gymnasium/Pendulum-v1", **SIZES, replay_capacity=200)
    made = build.build(config)
    programs = build.compile_programs(made, config)
    found = named(compiled_memory.measured_parts(config, made, programs))
    needed = max(
        each.memory_analysis().temp_size_in_bytes
        + each.memory_analysis().generated_code_size_in_bytes
        for each in programs.inside
    )
    assert needed > 0
    assert found["temporaries of the compiled programs (chunk)"] == needed
    assert "a batch" not in found


@pytest.mark.parametrize("short", [1, 0])
def test_what_is_too_much_is_refused_before_it_is_allocated(tmp_path, monkeypatch, short):
    """A byte less than the table's sum: compiled, but not begun; with room for all of it the run
    ends well."""
    config = make_config("pendulum", **SIZES, replay_capacity=2_000, evaluation_episodes=1)
    made = build.build(config)
    programs = build.compile_programs(made, config)
    total, begun = (
        sum(part.needed for part in compiled_memory.measured_parts(config, made, programs)),
        [],
    )
    watch = lambda given: given._replace(start=lambda *a: begun.append(a) or programs.start(*a))
    monkeypatch.setattr(loop, "compile_programs", lambda *a: programs)
    monkeypatch.setattr(memory, "_host_bytes", lambda: (total - short) / memory.USABLE)
    run = functools.partial(loop.run, config, tmp_path / "run", watch=watch)
    if not short:
        assert run().summary["env_steps"] == 80
        return
    with pytest.raises(
        RunError,
        match=rf"this needs {memory.format_bytes(total)}, .* available on the cpu: lower --",
    ):
        run()
    assert begun == []
    assert not (tmp_path / "run" / "config.json").exists()


def test_an_accelerator_has_a_memory_of_its_own(monkeypatch):
    """The checkpoint's copy lies on the host, all else on the device; each has its budget."""
    device = types.SimpleNamespace(
        platform="gpu", memory_stats=lambda: {"bytes_limit": 1_000, "bytes_in_use": 100}
    )
    monkeypatch.setattr(jax, "local_devices", lambda: [device])
    monkeypatch.setattr(memory, "_host_bytes", lambda: 500)
    on_device, on_host = (
        memory.MemoryPart("the replay", 800, "--seeds"),
        memory.MemoryPart("a copy", 440, "--keep", on_host=True),
    )
    memory.require_memory([on_device, on_host])
    assert memory.budgets([on_device, on_host]) == [
        ("gpu", 900, [on_device]),
        ("host", 500, [on_host]),
    ]
    with pytest.raises(
        RunError,
        match="820 B of it for the replay, but 900 B are available on the gpu: lower --seeds",
    ):
        memory.require_memory([on_device._replace(needed=820), on_host])
    with pytest.raises(
        RunError, match="460 B of it for a copy, but 500 B are available on the host: lower --keep"
    ):
        memory.require_memory([on_device, on_host._replace(needed=460)])


def test_the_parts_before_compiling_are_those_of_the_shapes():
    """Three members of four environments, by hand: parameters are 41 and 127, twice with their
    targets; keys have 8 bytes."""
    options = SIZES | {"total_timesteps": 400, "critic_hidden": (4, 6), "num_envs": 4}
    options |= {"steps_per_chunk": 80, "updates_per_step": 2, "n_step": 3, "num_atoms": 11}
    sizes = {"seeds": 3, "evaluation_episodes": 5, "replay_capacity": 400}
    config = make_config("pendulum", "d4pg", **options, **sizes)
    state = build.state_shapes(config)
    found = named(memory.all_parts(config, state))
    assert found["networks and their targets"] == 3 * (2 * 4 * (41 + 127) + 4)
    assert found["optimisers"] == 3 * (2 * 4 * (41 + 127) + 2 * 4)
    of_all = found["environments (num_envs=4)"]
    assert found["environments of the evaluation"] == of_all * 5 / 4
    assert found["a batch"] == 3 * 8 * (4 * (8 + 4 + 6 + 11) + 2 * 12)
    assert found["random keys of a round"] == 3 * 8 * (2 + 2 * 2)
    assert found["random keys of a chunk"] == 3 * 8 * (2 + 2 * 2) * 20
    assert found["random keys of the warm-up"] == 3 * 8 * 2 * (40 / 4 + 3 - 1)
    lying = list(found.values())[:5]
    assert found["a checkpoint being written"] == pytest.approx(3 * sum(lying), rel=2e-3)
    # Two critic updates in one of the agent, and networks of one width.
    same = make_config("pendulum", "td3", **SIZES, policy_delay=2, replay_capacity=200)
    found = named(memory.all_parts(same, build.state_shapes(same)))
    assert found["a batch"] == 8 * 4 * (8 + 8 + 1) + 2 * 8 * 2 * 12


def test_an_image_of_a_batch_is_there_as_bytes_and_as_floats():
    config = types.SimpleNamespace(hyperparameters=types.SimpleNamespace(num_envs=4), seeds=2)
    shapes = {"image": ((4, 2, 5, 5, 3), np.uint8), "speed": ((4, 2, 6), np.float16)}
    shapes = {name: jax.ShapeDtypeStruct(*each) for name, each in shapes.items()}
    assert memory._observation_bytes(config, shapes) == 2 * (75 * (1 + 4) + 6 * 2)


def test_what_a_check_holds_is_a_few_observations_and_some_flags_of_each_step(monkeypatch):
    held = {}
    monkeypatch.setattr(memory, "require_memory", lambda parts: held.update(named(parts)))
    memory.require_playable(envs.make("pendulum", 3), 50)
    assert held["observations"] == 3 * (8 * 3 * 4 + 32 * 50)
    assert held["environments"] > 3 * 3 * 4


def test_arrays_over_several_devices_count_by_their_share():
    mesh = jax.sharding.AbstractMesh((4,), ("data",))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    assert (
        memory.tree_bytes(jax.ShapeDtypeStruct((8, 3), np.float32, sharding=sharding)) == 2 * 3 * 4
    )


def dry(*words):
    done = CliRunner().invoke(commands.main, ["train", *words, "--dry-run"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_a_dry_run_says_it_all_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    programs = built()[2]
    monkeypatch.setattr(build, "compile_programs", lambda made, config: programs)
    small = [
        f"--{name.replace('_', '-')}={value[0] if name == 'hidden' else value}"
        for name, value in SIZES.items()
    ]
    said = dry("pendulum", "--seeds", "3", "--replay-capacity", "200", *small)
    assert "pendulum on a cpu, preset default: 1 environments" in said
    for part in (
        "the replay",
        "networks",
        "optimisers",
        "temporaries",
        "a checkpoint being",
        "total",
        "available",
    ):
        assert part in said, part
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_for_a_gpu_shows_a_thousand_environments(
    tmp_path, monkeypatch, standard_promotion
):
    """Nothing is compiled or refused here that another machine is to hold."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(build, "compile_programs", lambda *a: pytest.fail("compiled"))
    monkeypatch.setattr(memory, "_host_bytes", lambda: 1_000)
    said = dry("brax/reacher", "--backend", "spring", "--device-kind", "gpu")
    assert (
        "on a gpu, preset fast-td3: 1,024 environments, batch 32,768, 2 updates per vector step"
        in said
    )
    assert "each gpu" in said
    assert "available" not in said
    assert list(tmp_path.iterdir()) == []


def test_a_table_of_memory_has_a_column_for_each_memory():
    """A CPU is the host too; sums are below, and what is available where it is known."""
    on_device = memory.MemoryPart("the replay", 2_000, "--seeds")
    on_host = memory.MemoryPart("a copy", 5, "--keep", on_host=True)
    shown = lambda made: [(column.header, list(column.cells)) for column in made.columns]
    made = dry_run.memory_table([on_device, on_host, on_device], "gpu", [("host", 7, [on_host])])
    assert shown(made) == [
        ("part", ["the replay", "a copy", "the replay", "total", "available"]),
        ("each gpu", ["2.00 kB", "", "2.00 kB", "4.00 kB", ""]),
        ("host", ["", "5 B", "", "5 B", "7 B"]),
        ("lowered by", ["--seeds", "--keep", "--seeds", "", ""]),
    ]
    assert [column.justify for column in made.columns] == ["left", "right", "right", "left"]
    assert [row.end_section for row in made.rows] == [False, False, True, False, False]
    made = dry_run.memory_table([on_device, on_host], "cpu", [])
    assert shown(made) == [
        ("part", ["the replay", "a copy", "total"]),
        ("cpu", ["2.00 kB", "5 B", "2.00 kB"]),
        ("lowered by", ["--seeds", "--keep", ""]),
    ]


def test_a_dry_run_needs_the_devices_that_it_is_given():
    """It takes no fewer, as a resumed run would."""
    words = [
        "train",
        "pendulum",
        "--devices",
        "64",
        "--num-envs",
        "64",
        "--replay-capacity",
        "6400",
        "--dry-run",
    ]
    done = CliRunner().invoke(commands.main, words)
    assert done.exit_code == 2
    assert "mesh=members=1,data=64 needs 64 devices, but JAX finds" in done.stderr


def test_a_dry_run_for_eight_gpus_needs_none_of_them(tmp_path, monkeypatch):
    """Each has its share of the state and of a batch."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(build, "compile_programs", lambda *a: pytest.fail("compiled"))
    sizes = ("--num-envs=64", "--batch-size=64", "--replay-capacity=64000", "--hidden=8")
    shown = [
        dry("pendulum", "--device-kind", "gpu", *sizes, *more)
        for more in ((), ("--devices", "8"), ("--seeds", "2", "--devices", "8"))
    ]
    rows = [
        {line.split("│")[1].split("(")[0].strip(): line.split("│")[2].strip() for line in lines}
        for lines in ([line for line in one.splitlines() if line.startswith("│")] for one in shown)
    ]
    assert [row["the replay"] for row in rows] == ["2.30 MB", "288.01 kB", "576.01 kB"]
    assert rows[1]["a batch"] == "736 B"
    assert rows[1]["networks and their targets"] == rows[0]["networks and their targets"]


@pytest.mark.parametrize(
    ("groups", "limits"),
    [
        ("0::/slurm/job_7/step_0/user/task_0", {"sys/fs/cgroup/slurm/job_7": "memory.max"}),
        (
            "5:cpuset:/a\n4:cpu,memory:/slurm/uid_1/job_7/step_0\n0::/",
            {"sys/fs/cgroup/memory/slurm/uid_1/job_7": "memory.limit_in_bytes"},
        ),
        ("0::/", {"sys/fs/cgroup": "memory.max"}),
        (None, {"sys/fs/cgroup/memory": "memory.limit_in_bytes"}),
    ],
)
def test_the_memory_of_a_job_is_that_of_its_group(tmp_path, monkeypatch, groups, limits):
    for folder, name in limits.items():
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / name).write_text("123456\n")
    (tmp_path / "proc/self").mkdir(parents=True)
    if groups is not None:
        (tmp_path / "proc/self/cgroup").write_text(f"{groups}\n")
    own = memory._cgroup_limits
    monkeypatch.setattr(memory, "_cgroup_limits", lambda: own(tmp_path))
    assert memory._host_bytes() == 123_456


def test_bytes_for_a_person():
    assert [memory.format_bytes(size) for size in (0, 999, 1_500, 2_684_354_560)] == [
        "0 B",
        "999 B",
        "1.50 kB",
        "2.68 GB",
    ]


def test_a_run_on_the_host_is_planned_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(build, "compile_programs", lambda *a: None)
    said = dry(
        "gymnasium/Pendulum-v1",
        "--total-timesteps",
        "2000",
        "--replay-capacity",
        "2000",
        "--hidden",
        "8",
    )
    assert "a checkpoint being written" in said
