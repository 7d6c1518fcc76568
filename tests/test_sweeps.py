"""Sweeps: members are single runs, floats are traced, others are grouped; parts, resuming, tables,
pictures and the command."""

import collections
import dataclasses
import itertools
import json
import operator
import re
import shutil
from typing import get_type_hints

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from click.testing import CliRunner
from helpers import SHORT_RUN, TINY_RUN
from jax import export
from matplotlib.image import imread

import ddpg_jax
from ddpg_jax.population import make_population
from ddpg_jax.runs.checkpoints.store import Checkpoints
from ddpg_jax.runs.cli import commands
from ddpg_jax.runs.config import stored
from ddpg_jax.runs.config.run_config import make_config
from ddpg_jax.runs.presets import PRESETS
from ddpg_jax.runs.programs import build, effects, setup
from ddpg_jax.runs.sweeps import (
    groups,
    lineage,
    plan,
    run_sweep,
    sweep_plots,
    sweep_results,
    table,
)
from ddpg_jax.types import is_key

SMALL = {
    "learning_starts": 100,
    "steps_per_chunk": 50,
    "batch_size": 8,
    "hidden": (8,),
    "replay_capacity": 1_000,
    "evaluation_episodes": 2,
    "final_episodes": 2,
    "env_options": {"time_limit": 25},
}


def raw(tree):
    return jax.tree.map(lambda x: np.asarray(jax.random.key_data(x) if is_key(x) else x), tree)


def same(ours, theirs, **tolerance):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, **tolerance), raw(ours), raw(theirs))


@pytest.fixture
def compiled():
    """How often each program was compiled; the persistent cache of compiled programs does not hide
    one."""
    counts = collections.Counter()

    def count(event, duration, **about):
        if event == "/jax/core/compile/backend_compile_duration":
            counts[about["fun_name"]] += 1

    jax.monitoring.register_event_duration_secs_listener(count)
    yield counts
    jax.monitoring.unregister_event_duration_listener(count)


@pytest.mark.slow
def test_sixteen_members_are_sixteen_single_runs():
    """50 updates of each. The single runs have one program too; two of them are made again as
    `ddpg-jax train` makes them."""
    rng, count = np.random.default_rng(0), 16
    vary = {
        "gamma": rng.uniform(0.8, 0.999, count),
        "tau": 10 ** rng.uniform(-3, -1, count),
        "actor_learning_rate": 10 ** rng.uniform(-4, -2, count),
        "critic_learning_rate": 10 ** rng.uniform(-4, -2, count),
        "stddev": rng.uniform(0.05, 0.5, count),
    }
    vary = {name: values.tolist() for name, values in vary.items()} | {
        "seed": list(range(5, 5 + count))
    }
    both = lambda people: jax.jit(
        lambda key, hyperparameters: people.chunk(
            people.start(key, hyperparameters), hyperparameters
        )
    )
    many = make_config("pendulum", seeds=count, vary=vary, **SMALL)
    together = both(build.build(many).population)(
        setup.member_keys(many), setup.member_hyperparameters(many)
    )
    one = both(make_population(build.member_of(many), many=False))
    for member in range(count):
        hyperparameters = {name: values[member] for name, values in vary.items() if name != "seed"}
        alone = one(
            jax.random.key(5 + member),
            {name: jnp.float32(value) for name, value in hyperparameters.items()},
        )
        same(jax.tree.map(operator.itemgetter(member), together), alone, rtol=1e-3, atol=1e-4)
        if member in (0, count - 1):
            single = make_config("pendulum", seed=5 + member, **hyperparameters, **SMALL)
            same(
                both(build.build(single).population)(setup.member_keys(single), {}),
                alone,
                rtol=1e-3,
                atol=1e-4,
            )
    assert one._cache_size() == 1
    assert int(together[0].agent.step[0]) == 50


CHANGED = {
    "reward_scale": 3.0,
    "gamma": 0.9,
    "tau": 0.5,
    "actor_learning_rate": 1e-2,
    "critic_learning_rate": 1e-2,
    "critic_weight_decay": 0.5,
    "weight_decay": 0.5,
    "max_grad_norm": 1e-3,
    "priority_exponent": 0.1,
    "importance_exponent": 0.9,
    "stddev": 0.5,
    "stddev_start": 0.7,
    "stddev_low": 0.3,
    "stddev_high": 0.9,
    "target_noise": 1.0,
    "target_noise_clip": 0.01,
    "v_min": -500.0,
    "v_max": 50.0,
    "theta": 0.3,
    "beta": 0.5,
    "image_learning_rate": 1e-2,
    "goals_per_step": 1.0,
    "random_actions": 0.5,
    "action_penalty": 0.1,
}


def floats(preset):
    """Those that a preset takes: of goals or of priorities."""
    own = PRESETS[preset].hyperparameters
    without = "goals_per_step" if own.hindsight == "none" else "priority_exponent"
    hints = get_type_hints(type(own)).items()
    return [name for name, kind in hints if kind is float and name != without]


@pytest.mark.parametrize("preset", ["td3", "d4pg"])
def test_every_float_may_differ_between_members_and_has_an_effect(preset):
    """Member i differs from the first in number i alone; all in one program, which other values do
    not compile again."""
    names = floats(preset)
    hyperparameters = PRESETS[preset].hyperparameters
    several = {"num_envs": 2, "updates_per_step": 2, "n_step": 2} if preset == "d4pg" else {}
    base = dataclasses.asdict(hyperparameters) | {
        "v_min": -300.0,
        "v_max": 0.0,
        "priority_exponent": 0.6,
        "weight_decay": 1e-3,
    }
    vary = {name: [base[name]] * (len(names) + 1) for name in names} | {
        "seed": [0] * (len(names) + 1)
    }
    for place, name in enumerate(names):
        vary[name][place + 1] = CHANGED[name]
    wanted = make_config(
        "pendulum",
        preset,
        seeds=len(names) + 1,
        vary=vary,
        **SMALL | several | {"steps_per_chunk": 20},
    )
    people = build.build(wanted).population
    both = jax.jit(
        lambda key, hyperparameters: (
            people.chunk(people.start(key, hyperparameters), hyperparameters)[0].agent
        )
    )
    keys, hyperparameters = setup.member_keys(wanted), setup.member_hyperparameters(wanted)
    made = raw(both(keys, hyperparameters))
    leaves = [
        np.concatenate([x[member].ravel() for x in jax.tree.leaves(made)])
        for member in range(len(names) + 1)
    ]
    assert [
        name
        for name, leaf in zip(names, leaves[1:], strict=True)
        if np.array_equal(leaf, leaves[0])
    ] == []
    both(keys, {name: 0.9 * values for name, values in hyperparameters.items()})
    assert both._cache_size() == 1


@pytest.mark.parametrize(
    "preset",
    [
        pytest.param(name, marks=[pytest.mark.slow] * preset.images)
        for name, preset in PRESETS.items()
        if preset.only_for in (None, "pendulum")
    ],
)
def test_the_floats_of_every_preset_may_be_traced(preset):
    names = floats(preset)
    assert set(names) <= set(CHANGED), "say above what a new number may be changed to"
    own = dataclasses.asdict(PRESETS[preset].hyperparameters)
    several = SMALL | {"num_envs": min(own["num_envs"], 2), "steps_per_chunk": None}
    if PRESETS[preset].images:
        several |= {"env_options": {"pixels": True, "image_size": 48, "grayscale": True}}
    wanted = make_config(
        "pendulum" if own["hindsight"] == "none" else "reach",
        preset,
        seeds=2,
        vary={name: [own[name], CHANGED[name]] for name in names},
        **several,
    )
    built = build.build(wanted)
    hyperparameters = setup.member_hyperparameters(wanted)
    assert set(hyperparameters) == set(names)
    jax.eval_shape(built.population.chunk, built.state, hyperparameters)


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        ({}, {}, "requires --set NAME=VALUES"),
        ({"tua": "0.1"}, {}, "unknown hyper-parameter 'tua': did you mean 'tau'"),
        ({"tau": "0.1,much"}, {}, "tau='much': must be a finite number"),
        ({"tau": "0.1,1.5"}, {}, "tau=1.5: must be between 0 and 1"),
        ({"actor_learning_rate": "0.1,-1"}, {}, "actor_learning_rate=-1.0: must be at least 0"),
        ({"tau": "0.1,0.1"}, {}, "tau=.*repeated"),
        ({"tau": []}, {}, "tau has no values"),
        ({"tau": "norm:0:1"}, {}, "tau='norm:0:1': give values .* log:LOW:HIGH"),
        ({"tau": "log:0:1"}, {"draws": 2}, "the first end, above 0, must be less than the second"),
        ({"tau": "uniform:1:0.5"}, {"draws": 2}, "the first end must be less than the second"),
        ({"tau": "log:1e-3:1e-1"}, {}, "tau is drawn from a range: give --draws"),
        ({"tau": "log:1e-3:1e-1:1"}, {}, "tau's count=1: must be between 2"),
        ({"tau": "0.1,0.2"}, {"draws": 3}, "draws=3 requires a range"),
        ({"hidden": "8x8,0x8"}, {}, r"hidden=\(0, 8\): give the width"),
        ({"tau": "0.1,0.2"}, {"evolve": {}}, "members evolve within ranges of floats, not tau"),
        (
            {"batch_size": "uniform:1:9"},
            {"draws": 2, "evolve": {}},
            "within ranges of floats, not batch_size",
        ),
        (
            {"tau": "log:1e-3:1e-1"},
            {"draws": 4, "evolve": {"speed": 1}},
            "evolve has 'speed': it takes ranges, fraction",
        ),
        (
            {"tau": "log:1e-3:1e-1"},
            {"draws": 4, "evolve": {"fraction": 2.0}},
            "fraction=2.0: must be between",
        ),
        (
            {"tau": "log:1e-3:1e-1"},
            {"draws": 4, "evolve": {"fraction": 0}},
            "fraction=0.0: must be greater than 0",
        ),
        (
            {"tau": "log:1e-3:1e-1"},
            {"draws": 1, "evolve": {}},
            "evolution needs at least two members",
        ),
        (
            {"tau": "log:1e-3:1e-1"},
            {"draws": 4, "evolve": {}, "memory": 1},
            "memory=1: one member needs .* bytes: raise --memory",
        ),
        (
            {"tau": "log:1e-3:1e-1"},
            {"draws": 4, "evolve": {}, "total_timesteps": 150},
            "members evolve between chunks, but 150 steps are one chunk of 50",
        ),
        ({"tau": "0.1,0.2"}, {"memory": 0}, "memory=0: must be at least 1"),
        ({"tau": "0.1,0.2"}, {"memory": 10_000}, "memory=10000: one member needs"),
        ({"tau": "0.1,0.2"}, {"tau": 0.3}, "--set tau and --tau: give a hyper-parameter once"),
        (
            {"batch_size": "4,8", "batch-size": "16"},
            {},
            "--set batch-size and --set batch_size: give a hyper-parameter once",
        ),
        (
            {"tau": "log:1e-3:1e-1:400", "gamma": "uniform:0:1:400"},
            {},
            "160,000 settings: a sweep has at most 100,000",
        ),
    ],
)
def test_a_sweep_that_cannot_be_is_refused_in_a_sentence(values, options, message, tmp_path):
    small = {name: value for name, value in SMALL.items() if name not in values}
    with pytest.raises(ValueError, match=message) as error:
        run_sweep.sweep(
            "pendulum", values, run_dir=tmp_path / "sweep", progress=False, **small | options
        )
    assert "\n" not in str(error.value)
    assert not (tmp_path / "sweep").exists()


def test_members_of_one_program_train_together():
    small = {name: value for name, value in SMALL.items() if name != "batch_size"} | {"seed": 7}
    made = plan.make_plan("pendulum", {"tau": [0.1, 0.2], "batch-size": "4,8"}, seeds=3, **small)
    assert [member.member for member in made.members] == list(range(12))
    assert [member.seed for member in made.members] == [7, 8, 9] * 4
    assert made.members[4].hyperparameters == {"tau": 0.1, "batch_size": 8}
    assert [(part.options["batch_size"], part.members) for part in made.parts] == [
        (4, [0, 1, 2, 6, 7, 8]),
        (8, [3, 4, 5, 9, 10, 11]),
    ]
    assert made.parts[1].options["vary"] == {"tau": [0.1] * 3 + [0.2] * 3, "seed": [7, 8, 9] * 2}
    written = json.loads(json.dumps(dataclasses.asdict(made)))
    assert dataclasses.asdict(plan.Plan.of(written)) == written
    drawn = [
        plan.make_plan(
            "pendulum",
            {"tau": "log:1e-3:1e-1", "n_step": "uniform:1:3"},
            draws=6,
            **SMALL | {"seed": seed},
        )
        for seed in (0, 0, 1)
    ]
    assert drawn[0] == drawn[1]
    hyperparameters = [[member.hyperparameters for member in one.members] for one in drawn]
    assert hyperparameters[0] != hyperparameters[2]
    assert all(
        1e-3 <= each["tau"] <= 1e-1 and each["n_step"] in (1, 2, 3) for each in hyperparameters[0]
    )
    assert {part.options["n_step"] for part in drawn[0].parts} == {
        each["n_step"] for each in hyperparameters[0]
    }
    host = plan.make_plan(
        "gymnasium/Pendulum-v1", {"tau": [0.1, 0.2]}, seeds=2, total_timesteps=2_000
    )
    assert [(part.options["tau"], part.options["seed"], part.members) for part in host.parts] == [
        (0.1, 0, [0]),
        (0.1, 1, [1]),
        (0.2, 0, [2]),
        (0.2, 1, [3]),
    ]


SHORT = SMALL | {"total_timesteps": 250, "checkpoint_every": 1}


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """Two values of tau, two of a learning rate, of which one breaks members down, and two seeds: 8
    members, 3 at a time."""
    folder = tmp_path_factory.mktemp("swept") / "sweep"
    counts = collections.Counter()

    def count(event, duration, **about):
        if event == "/jax/core/compile/backend_compile_duration":
            counts[about["fun_name"]] += 1

    one = make_config("pendulum", **SHORT)
    built = build.build(one)
    parts = groups.compiled_memory.measured_parts(one, built, build.compile_programs(built, one))
    needed = sum(part.needed for part in parts)
    jax.monitoring.register_event_duration_secs_listener(count)
    try:
        values = {"tau": [0.005, 0.05], "critic_learning_rate": [1e-3, 3e38]}
        made = ddpg_jax.runs.sweep(
            "pendulum", values, seeds=2, memory=3 * needed, run_dir=folder, progress=False, **SHORT
        )
    finally:
        jax.monitoring.unregister_event_duration_listener(count)
    return made, counts


def test_a_population_that_does_not_fit_is_parts_of_one_program(swept):
    made, counts = swept
    parts = sorted(path.name for path in made.folder.glob("part-*"))
    assert parts == ["part-0", "part-1", "part-2"]
    programs = (counts["jit(chunk)"], counts["jit(start)"], counts["jit(evaluate)"])
    # Of one member, which is measured, and of three; and the best one is played once more.
    assert programs == (2, 2, 3), counts
    assert [one["member"] for one in made.members] == list(range(8))
    assert [(one["run"], one["place"]) for one in made.members[4:]] == [
        ("part-1", 1),
        ("part-1", 2),
        ("part-2", 0),
        ("part-2", 1),
    ]
    assert json.loads((made.folder / "part-2" / "config.json").read_text())["seeds"] == 3


def test_who_breaks_down_leaves_the_others(swept):
    made, _ = swept
    broken = [one["hyperparameters"]["critic_learning_rate"] > 1 for one in made.members]
    assert [one["final_return"] is None for one in made.members] == broken
    assert made.best["final_return"] == max(made.settings[0]["returns"])
    assert [None in each["returns"] for each in made.settings] == [False, False, True, True]
    json.loads((made.folder / "members.json").read_text(), parse_constant=pytest.fail)
    json.loads(
        (made.folder / "part-0" / "metrics.jsonl").read_text().splitlines()[-1],
        parse_constant=pytest.fail,
    )
    steps, returns = made.curve(0)
    assert steps.tolist() == [150, 200, 250]
    assert np.isfinite(returns).all()
    assert np.isnan(made.curve(2)[1][-1])
    assert made.policy()(np.zeros((4, 3), np.float32)).shape == (4, 1)
    text = CliRunner().invoke(commands.main, ["evaluate", str(made.folder), "--episodes", "3"])
    told = json.loads(text.output)
    assert [value is None for value in told["returns"]] == broken
    assert told["mean_return"] == pytest.approx(
        np.mean([value for value in told["returns"] if value is not None])
    )


def test_a_member_of_a_sweep_is_found(swept, tmp_path):
    made, _ = swept
    call = lambda *words: CliRunner().invoke(commands.main, list(map(str, words)))
    alone = json.loads(call("evaluate", made.folder, "--episodes", 3, "--member", 4).output)
    everyone = json.loads(call("evaluate", made.folder / "part-1", "--episodes", 3).output)
    np.testing.assert_allclose(alone["returns"], everyone["returns"][1:2], rtol=1e-5)
    assert (alone["member"], alone["run"]) == (4, str(made.folder))
    for words in ((), ("--member", 4), ("--member", 5)):
        assert call("export", made.folder, *words).exit_code == 0
    files = {path.name for path in made.folder.glob("policy*.stablehlo")}
    assert files == {"policy.stablehlo", "policy-4.stablehlo", "policy-5.stablehlo"}
    assert call("export", made.folder, "--member", 4, "--out", tmp_path / "four").exit_code == 0
    assert (
        call("export", made.folder / "part-1", "--member", 1, "--out", tmp_path / "one").exit_code
        == 0
    )
    assert call("export", made.folder, "--out", tmp_path / "best").exit_code == 0
    seen = np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3)
    acts = [
        export.deserialize(bytearray((tmp_path / name).read_bytes())).call(seen)
        for name in ("four", "one", "best")
    ]
    np.testing.assert_array_equal(acts[0], acts[1])
    np.testing.assert_array_equal(acts[2], made.policy(made.best["member"])(seen))
    assert np.array_equal(acts[0], acts[2]) == (made.best["member"] == 4)
    file = tmp_path / "four.onnx"
    assert call("export", made.folder, "--member", 4, "--out", file).exit_code == 0
    first = file.read_bytes()
    file.unlink()
    assert call("export", made.folder, "--again", file).exit_code == 0
    assert file.read_bytes() == first, "of the run that trained member 4"
    wrong = call("render", made.folder, "--member", 8)
    assert (wrong.exit_code, "this sweep has 8 member(s)" in wrong.output) == (2, True)


def test_a_table_and_pictures_of_a_sweep(swept, capsys):
    made, _ = swept
    table.print_table(made.members, 250)
    lines = capsys.readouterr().out.splitlines()
    assert "8 members, 4 settings, 250 steps each" in lines[0]
    first = next(line for line in lines if f"{np.mean(made.settings[0]['returns']):,.1f}" in line)
    assert lines.index(first) < next(
        place for place, line in enumerate(lines) if "diverged" in line
    )
    for name in ("sweep.png", "curves.png"):
        assert imread(made.folder / name).std() > 0.02
    drawn = [
        made.members,
        *(
            [{**one, "hyperparameters": hyperparameters(one)} for one in made.members]
            for hyperparameters in OTHERS
        ),
    ]
    kinds = [sweep_plots.sweep(members).axes[0] for members in drawn]
    assert [bool(axis.images) for axis in kinds] == [True, False, False, False]
    assert [len(axis.collections) for axis in kinds[:3]] == [0, 0, 1]


def test_the_best_is_of_the_setting_with_the_best_mean():
    """Not the luckiest seed; where a member of every setting diverged, of what the others have."""
    one = lambda number, tau, value: {
        "member": number,
        "hyperparameters": {"tau": tau},
        "final_return": value,
    }
    members = [one(0, 0.1, -100.0), one(1, 0.1, -900.0), one(2, 0.5, -300.0), one(3, 0.5, -200.0)]
    assert sweep_results.best(members)["member"] == 3
    members[2] = one(2, 0.5, None)
    assert sweep_results.best(members)["member"] == 0, "who diverges is not the best"
    members[1] = one(1, 0.1, None)
    assert sweep_results.best(members)["member"] == 0
    with pytest.raises(FileNotFoundError, match="no member of this sweep has a final return"):
        sweep_results.best([one(0, 0.1, None)])
    assert sweep_results.member_numbers([0, 1, 4, 5, 7]) == "0-1, 4-5, 7"


OTHERS = (
    lambda one: {"tau": one["hyperparameters"]["tau"]},
    lambda one: {"tau": 10.0 ** -one["member"], "gamma": 0.9 + one["member"] / 100},
    lambda one: {
        "tau": 10.0 ** -one["member"],
        "gamma": 0.9,
        "hidden": [8] * (one["member"] + 1),
        "layer_norm": True,
    },
)


def test_the_best_is_reported_by_episodes_that_did_not_choose_it(swept):
    made, _ = swept
    best = made.best
    assert np.isfinite([best["fresh_return"], best["fresh_return_std"]]).all()
    assert best["fresh_return"] != best["final_return"]
    again = sweep_results.with_report(made.folder, made.members[best["member"]])
    assert again == best == json.loads((made.folder / "members.json").read_text())["best"]
    other = sweep_results.evaluate_member(made.folder, 100, 0, best["member"])
    assert other["returns"] != [best["fresh_return"]]


@pytest.mark.parametrize(
    ("members", "text"),
    [([0, 1, 2, 6, 7, 8], "0-2, 6-8"), ([3], "3"), ([0, 2, 4], "0, 2, 4"), ([5, 6], "5-6")],
)
def test_numbers_of_members_as_text(members, text):
    assert sweep_results.member_numbers(members) == text


@pytest.mark.slow
def test_a_member_on_the_host_that_diverges_leaves_the_others(tmp_path, capsys):
    """Also when the sweep is resumed, and for longer."""
    values = {"critic_learning_rate": [3e38, 1e-3]}
    made = ddpg_jax.runs.sweep(
        "gymnasium/Pendulum-v1", values, run_dir=tmp_path / "sweep", **SHORT_RUN
    )
    assert [one["final_return"] is None for one in made.members] == [True, False]
    assert "member 0 diverged, the others continue: " in " ".join(capsys.readouterr().out.split())
    kept = (tmp_path / "sweep" / "part-1" / "metrics.jsonl").read_bytes()
    again = ddpg_jax.runs.sweep(resume=True, run_dir=tmp_path / "sweep", progress=False)
    assert again.members == made.members
    assert (tmp_path / "sweep" / "part-1" / "metrics.jsonl").read_bytes() == kept
    found = sweep_results.evaluate_sweep(tmp_path / "sweep", 2, 0)
    assert [value is None for value in found["returns"]] == [True, False]
    longer = ddpg_jax.runs.sweep(resume=True, run_dir=tmp_path / "sweep", total_timesteps=300)
    assert [one["final_return"] is None for one in longer.members] == [True, False]
    assert "2 members, 300 steps each" in " ".join(capsys.readouterr().out.split())


def test_a_sweep_is_resumed_with_the_values_it_has(swept, tmp_path):
    made, _ = swept
    folder = tmp_path / "sweep"
    shutil.copytree(made.folder, folder)
    same = {"gamma": 0.99, "hidden": [8], "preset": "default", "batch_size": "8"}
    again = ddpg_jax.runs.sweep(
        resume=True, run_dir=folder, progress=False, total_timesteps=250, keep=3, **same
    )
    assert again.members == made.members
    assert sweep_results.read_plan(folder).options["keep"] == 3
    assert {part.options["keep"] for part in sweep_results.read_plan(folder).parts} == {3}
    for wrong in ({"gamma": 0.98}, {"tau": 0.05}):
        with pytest.raises(ValueError, match=f"another configuration: {min(wrong)}"):
            ddpg_jax.runs.sweep(resume=True, run_dir=folder, **wrong)
    own = {"resume": True, "run_dir": folder, "progress": False}
    for env, values, options in (
        (None, {"tau": [0.1]}, {}),
        (None, {}, {"draws": 2}),
        (None, {}, {"memory": 10**9}),
        ("lane", {}, {}),
    ):
        with pytest.raises(ValueError, match="cannot change when resuming a sweep"):
            ddpg_jax.runs.sweep(env, values, **own | options)


def test_a_sweep_that_has_not_ended_is_evaluated(swept, tmp_path):
    made, _ = swept
    folder = tmp_path / "sweep"
    shutil.copytree(made.folder, folder)
    shutil.rmtree(folder / "part-2")
    found = sweep_results.evaluate_sweep(folder, 2, 0)["returns"]
    assert [found[0] is None, found[-1] is None, len(found)] == [False, True, 8]
    for name in ("part-0", "part-1"):
        shutil.rmtree(folder / name)
    with pytest.raises(FileNotFoundError, match="does not hold a run"):
        sweep_results.evaluate_sweep(folder, 2, 0)


def test_a_sweep_is_not_begun_in_each_process_of_a_cluster(monkeypatch, tmp_path):
    for name, value in {
        "SLURM_JOB_ID": "1",
        "SLURM_STEP_NODELIST": "a",
        "SLURM_PROCID": "1",
        "SLURM_LOCALID": "1",
        "SLURM_STEP_NUM_TASKS": "2",
    }.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match="a sweep trains in one process, but this is one of"):
        ddpg_jax.runs.sweep("pendulum", {"tau": [0.1]}, run_dir=tmp_path / "sweep", **SHORT)
    assert not (tmp_path / "sweep").exists()


def test_a_sweep_goes_on_where_it_was_ended(swept, tmp_path, compiled):
    """One part is whole, one was ended in its middle, one was not begun; and then all go on for
    longer."""
    made, _ = swept
    folder = tmp_path / "sweep"
    shutil.copytree(made.folder, folder)
    (folder / "part-1" / "summary.json").unlink()
    shutil.rmtree(folder / "part-1" / "checkpoints" / "250")
    shutil.rmtree(folder / "part-2")
    told = [folder / "part-0" / "metrics.jsonl", made.folder / "part-0" / "metrics.jsonl"]
    again = ddpg_jax.runs.sweep(resume=True, run_dir=folder, progress=False)
    assert again.members == made.members
    assert told[0].read_bytes() == told[1].read_bytes()
    with pytest.raises(
        ValueError, match="--set, --draws, --seeds, --memory and --pbt cannot change"
    ):
        ddpg_jax.runs.sweep(None, {"tau": [0.1]}, resume=True, run_dir=folder)
    with pytest.raises(
        ValueError, match=r"another configuration: batch_size \(sweep: 8, given: 9\)"
    ):
        ddpg_jax.runs.sweep(resume=True, run_dir=folder, batch_size=9)
    with pytest.raises(ValueError, match="already holds a sweep"):
        ddpg_jax.runs.sweep("pendulum", {"tau": [0.1]}, run_dir=folder, **SHORT)
    with pytest.raises(FileNotFoundError, match="does not hold a sweep"):
        ddpg_jax.runs.sweep(resume=True, run_dir=tmp_path)


def test_a_sweep_is_over_the_devices_that_are_asked_for():
    """They divide the members of a part, not the one setting."""
    rates = {"actor_learning_rate": "log:1e-5:1e-1"}
    for asked, expected in (
        ({"devices": 8}, "members=4,data=2"),
        ({"mesh": "members=2"}, "members=2,data=1"),
    ):
        made = plan.make_plan("pendulum", rates, draws=4, num_envs=2, **asked)
        (part,) = made.parts
        assert made.config(part, {}).mesh == expected
        assert made.config(part, {"devices": 1}).mesh == "members=1,data=1"  # goes on so
    sentence = "mesh=members=3 does not divide the 4 members that evolve together: choose --draws"
    with pytest.raises(ValueError, match=sentence):
        plan.make_plan("pendulum", rates, draws=4, mesh="members=3", evolve={})


@pytest.mark.parametrize(
    ("draws", "places", "seeds", "mesh"),
    [
        (
            11,
            {"devices": None, "mesh": ""},
            16,
            "members=8,data=1",
        ),  # none asked for, and 11 is prime: none but one device divides it
        (5, {}, 5, "members=5,data=1"),
        (5, {"mesh": "members=4"}, 8, "members=4,data=1"),
        (5, {"devices": 8}, 8, "members=8,data=1"),
        (4, {"devices": 8}, 4, "members=4,data=2"),
    ],
)
def test_members_are_filled_up_until_every_device_has_as_many(
    draws, places, seeds, mesh, monkeypatch
):
    monkeypatch.setattr(jax, "device_count", lambda: 8)
    rates = {"actor_learning_rate": "log:1e-5:1e-1"}
    (part,) = plan.make_plan("pendulum", rates, draws=draws, num_envs=2, **places).parts
    assert part.members == list(range(draws))
    assert part.options["seeds"] == seeds
    assert len(set(part.options["vary"]["actor_learning_rate"])) == draws
    config = setup.with_chosen_mesh(make_config("pendulum", **part.options), print, resume=False)
    assert config.mesh == mesh


@pytest.mark.slow
def test_members_that_do_not_fit_are_planned_by_a_compiled_one():
    """Before compiling a batch of 2,048 counts as its rows alone; its layers take several times as
    much."""
    large = {"batch_size": 2_048, "hidden": (512, 512), "replay_capacity": 3_000}
    config = make_config("pendulum", **SMALL | large)
    built = build.build(config)
    programs = build.compile_programs(built, config)
    parts = groups.compiled_memory.measured_parts(config, built, programs)
    measured = sum(part.needed for part in parts)
    guessed = sum(part.needed for part in groups.runs_memory.all_parts(config, built.state))
    assert guessed < measured
    made = plan.make_plan(
        "pendulum", {"tau": "log:1e-3:1e-1"}, draws=4, memory=2 * measured, **SMALL | large
    )
    assert [len(part.members) for part in made.parts] == [2, 2]


def test_what_a_refusal_says_that_a_member_needs_is_enough():
    own = ("pendulum", {"tau": [0.1, 0.2]})
    with pytest.raises(ValueError, match="one member needs") as refused:
        plan.make_plan(*own, memory=1, **SMALL)
    needed = int(re.search(r"(\d+) bytes", str(refused.value))[1])
    with pytest.raises(ValueError, match="one member needs"):
        plan.make_plan(*own, memory=needed - 1, **SMALL)
    assert [len(part.members) for part in plan.make_plan(*own, memory=needed, **SMALL).parts]


def test_how_many_members_fit_at_once(monkeypatch):
    """Of an accelerator each device has its members; of a CPU, and of the host, all share one
    memory."""
    part = lambda needed, on_host=False: groups.runs_memory.MemoryPart("it", needed, "", on_host)
    found = [part(60), part(40), part(30, on_host=True)]
    monkeypatch.setattr(jax, "device_count", lambda: 4)

    def budgets(parts):
        own, beside = [one for one in parts if not one.on_host], [parts[-1]]
        return [("gpu", 1_000, own), ("host", 600, beside)]

    monkeypatch.setattr(groups.runs_memory, "budgets", budgets)
    assert (
        groups._at_once(found, None, 99) == 480 // 30
    )  # the host's; 4 * 800 // 100 on the devices
    assert groups._at_once([*found[:2], part(10, on_host=True)], None, 99) == 4 * 800 // 100
    assert groups._at_once([*found[:2], part(10, on_host=True)], None, 3) == 3 * 800 // 100
    monkeypatch.setattr(groups.runs_memory, "budgets", lambda parts: [("cpu", 1_000, parts)])
    assert groups._at_once(found, None, 99) == 800 // 130
    assert groups._at_once(found, 1_000, 99) == 1_000 // 130


@pytest.mark.parametrize(
    ("guess", "then", "compiled", "found"), [(64, 4, 0, 4), (63, 3, 1, 3), (2, 0, 1, 1)]
)
def test_at_least_one_member_is_trained_at_once(monkeypatch, guess, then, compiled, found):
    """One is compiled where four times 16 might not fit, and counted again."""
    fits, measured = [guess, then], []
    monkeypatch.setattr(groups, "_at_once", lambda *arguments: fits.pop(0) if fits[1:] else fits[0])
    monkeypatch.setattr(groups.build, "compile_programs", lambda *a: measured.append(a))
    monkeypatch.setattr(groups.compiled_memory, "measured_parts", lambda *a: [])
    group = [groups.Member(seed, seed, {"tau": 0.01 * (seed + 1)}) for seed in range(4)]
    options = SMALL | {"num_envs": 2}
    assert groups._members_at_once("pendulum", options, group, set(), None) == found
    assert len(measured) == compiled


def test_the_mean_of_a_setting_without_a_member():
    assert sweep_results.mean_return([-300.0, -100.0, -200.0]) == -200.0
    assert sweep_results.mean_return([-300.0, None]) == -np.inf


@pytest.mark.parametrize(
    ("env", "values", "options", "message"),
    [
        ("pendulum", {"importance_exponent": "0.2,0.4"}, {}, "importance_exponent has no effect"),
        (
            "gymnasium/Pendulum-v1",
            {"importance_exponent": "0.2,0.4"},
            {},
            "importance_exponent has no effect in these runs",
        ),
        *(
            (env, {"importance_updates": values, "tau": [0.01]}, more, "make no difference in")
            for env, values, more in (
                ("pendulum", "10,20", {}),
                ("pendulum", "uniform:10:10000", {"draws": 3}),
                ("gymnasium/Pendulum-v1", "10,20", {}),
            )
        ),
        (
            "pendulum",
            {"critic_hidden": [[], [9], [8]], "layer_norm": [True, False]},
            {"hidden": (8,)},
            r"critic_hidden=\(8,\) and \(\) make no difference",
        ),
        ("pendulum", {"gamma": "uniform:0.9:1.1"}, {"draws": 1}, "gamma=1.1: must be between"),
        (
            "pendulum",
            {"gamma": "uniform:0.9:1.1"},
            {"draws": 2, "evolve": {}},
            "gamma=1.1: must be between 0 and 1",
        ),
        (
            "pendulum",
            {"stddev_low": "uniform:0.1:0.3", "stddev_high": "uniform:0.2:0.4"},
            {"draws": 1, "seeds": 2, "evolve": {}, "preset": "td3-categorical", "num_envs": 2},
            "low=0.3, high=0.2: low must not be greater than high",
        ),
        *(
            (
                "pendulum",
                {name: values},
                {"draws": 2, "evolve": {}, "preset": "d4pg", "num_envs": 2},
                f"{name} cannot evolve: {why}",
            )
            for name, values, why in (
                ("gamma", "uniform:0.9:0.99", "a replay of n-step returns"),
                ("priority_exponent", "uniform:0.1:0.9", "a replay stores priorities"),
                ("v_min", "uniform:-300:-200", "a critic has learned probabilities"),
                ("reward_scale", "log:0.1:1", "a critic has learned returns"),
            )
        ),
    ],
)
def test_numbers_that_cannot_differ_so_are_refused(env, values, options, message):
    with pytest.raises(ValueError, match=message):
        plan.make_plan(env, values, **{"learning_starts": 100, "replay_capacity": 1_000} | options)


@pytest.mark.slow
def test_whole_numbers_with_an_effect_may_be_swept():
    """Sizes, lengths, and what a schedule follows; a single value is not compared."""
    small = {"learning_starts": 100, "replay_capacity": 1_000, "hidden": (8,)}
    for values, count, more in (
        ({"importance_updates": "10,20"}, 2, {"priority_exponent": 0.5}),
        ({"n_step": [1, 2], "batch_size": [8, 16]}, 4, {}),
        ({"total_timesteps": [300, 600], "anneal": [True, False]}, 4, {}),
        ({"importance_updates": "10", "tau": "0.1,0.2"}, 2, {}),
    ):
        assert len(plan.make_plan("pendulum", values, **small | more).members) == count


def test_what_only_the_start_depends_on_may_be_swept_but_not_evolve(monkeypatch):
    """The autoencoder of preset drive is fitted before the run."""
    vary = {"beta": [0.1], "tau": [0.01]}
    config = make_config("lane", "drive", vary=vary, images=64, image_updates=2, num_envs=2)
    assert effects.without_effect(config, from_start=True) == []
    assert effects.without_effect(config, from_start=False) == ["beta"]


EVOLVED = {"actor_learning_rate": "log:1e-5:1e-1", "gamma": "uniform:0.8:0.99"}


@pytest.mark.slow
def test_evolution_is_resumed_bit_for_bit_and_its_lineage_kept(tmp_path, monkeypatch):
    shared = run_sweep._Programs()  # compiled once for all three
    monkeypatch.setattr(run_sweep, "_Programs", lambda: shared)
    options = {"draws": 5, "evolve": {"fraction": 0.4}, "progress": False, **SHORT, "keep": 10}
    whole = ddpg_jax.runs.sweep(
        "pendulum", EVOLVED, run_dir=tmp_path / "whole", **options | {"total_timesteps": 350}
    )
    ddpg_jax.runs.sweep(
        "pendulum", EVOLVED, run_dir=tmp_path / "halves", **options | {"total_timesteps": 250}
    )
    halves = ddpg_jax.runs.sweep(
        resume=True, run_dir=tmp_path / "halves", total_timesteps=350, progress=False
    )
    assert halves.members == whole.members
    states = [restored(tmp_path / name / "part-0") for name in ("whole", "halves")]
    jax.tree.map(np.testing.assert_array_equal, *states)
    made = json.loads((whole.folder / "lineage.json").read_text())
    assert made == json.loads((halves.folder / "lineage.json").read_text())
    assert made["env_steps"] == [150, 200, 250, 300, 350]
    assert made["parent"][0] == list(range(5))
    assert any(parents != list(range(5)) for parents in made["parent"])
    for before, parents, now in zip(
        made["hyperparameters"]["gamma"],
        made["parent"][1:],
        made["hyperparameters"]["gamma"][1:],
        strict=False,
    ):
        assert [now[i] for i in range(5) if parents[i] == i] == [
            before[i] for i in range(5) if parents[i] == i
        ]
    assert [one["hyperparameters"]["gamma"] for one in whole.members] == made["hyperparameters"][
        "gamma"
    ][-1]
    assert [one["seed"] for one in whole.members] == list(range(5))
    assert made["ancestors"][-1] == whole.best["member"]
    assert lineage._ancestors([[0, 1, 2], [2, 1, 2], [0, 0, 2]], 1) == [2, 0, 1]
    assert imread(whole.folder / "lineage.png").std() > 0.02


def restored(folder):
    wanted = stored.load_config(folder)
    kept = Checkpoints(folder / "checkpoints", read_only=True)
    try:
        return raw(kept.restore(build.build(wanted).state, pytest.fail)[1])
    finally:
        kept.close()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--set", "tau"], "--set tau: give NAME=VALUES"),
        (
            ["--set", "tau=0.1,0.2", "--pbt-fraction", "0.3"],
            "--pbt-fraction requires --pbt",
        ),
        (["--set", "tau=log:1e-3:1e-1"], "give --draws"),
        (["--resume"], "--resume requires --run-dir"),
        ([], "requires --set NAME=VALUES"),
        (["--set", "tau=0.1", "--set", "tau=0.2"], "--set tau is given twice"),
        (["--set", "tau=0.1,0.2", "--tau", "0.3"], "--set tau and --tau: give"),
    ],
)
def test_the_command_refuses_in_a_sentence(words, message):
    done = CliRunner().invoke(commands.main, ["sweep", "pendulum", *words])
    assert (done.exit_code, message in " ".join(done.output.split())) == (2, True), done.output


def test_a_damaged_plan_is_said(tmp_path):
    (tmp_path / sweep_results.PLAN_FILE).write_text('{"env": "pendulum"}')
    with pytest.raises(ValueError, match=r"sweep\.json is damaged"):
        sweep_results.read_plan(tmp_path)


def test_a_run_is_not_begun_in_a_sweep(swept):
    made, _ = swept
    for words in (["train", "pendulum"], ["train", "--resume"]):
        done = CliRunner().invoke(commands.main, [*words, "--run-dir", str(made.folder)])
        assert done.exit_code == 2
        assert "sweep" in done.output or "does not hold a run" in done.output


@pytest.mark.parametrize("trained", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_a_sweep_that_fails_before_its_first_checkpoint_is_not_in_the_way(
    tmp_path, monkeypatch, trained
):
    folder, size = tmp_path / "sweep", TINY_RUN | {"steps_per_chunk": 4, "checkpoint_every": 0}
    made = build.compile_programs

    def failing(built, config):
        programs, calls = made(built, config), itertools.count()

        def chunk(*arguments):
            if next(calls) == trained:
                raise ValueError("the simulator is lost")
            return programs.chunk(*arguments)

        return programs._replace(chunk=chunk)

    with monkeypatch.context() as patch:
        patch.setattr(build, "compile_programs", failing)
        with pytest.raises(ValueError, match="the simulator is lost"):
            ddpg_jax.runs.sweep("pendulum", {"tau": [0.1, 0.2]}, run_dir=folder, **size)
    assert folder.exists() == bool(trained)
    swept = ddpg_jax.runs.sweep("pendulum", {"gamma": [0.9, 0.8, 0.7]}, run_dir=folder, **size)
    assert [member["hyperparameters"] for member in swept.members] == [
        {"gamma": 0.9},
        {"gamma": 0.8},
        {"gamma": 0.7},
    ]
    with pytest.raises(ValueError, match="already holds a sweep"):
        ddpg_jax.runs.sweep("pendulum", {"tau": [0.1, 0.2]}, run_dir=folder, **size)
