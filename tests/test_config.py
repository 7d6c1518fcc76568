"""Configurations as plain data, and presets against the numbers they cite."""

import dataclasses
import json
from dataclasses import fields

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import PAPER, hyperparameter_types
from hypothesis import assume, settings
from hypothesis import given as drawn
from hypothesis import strategies as st

from ddpg_jax.replay.rows import LARGEST as ROWS
from ddpg_jax.runs.config import notes, population
from ddpg_jax.runs.config.run_config import DERIVED, make_config
from ddpg_jax.runs.config.stored import (
    FREE,
    LATER,
    from_flat,
    load_config,
    require_same_config,
    resumed_config,
)
from ddpg_jax.runs.options import validation
from ddpg_jax.runs.options.validation import RunError
from ddpg_jax.runs.presets import PRESETS
from ddpg_jax.runs.programs import setup
from ddpg_jax.runs.programs.setup import environment
from ddpg_jax.runs.tasks import TASKS
from ddpg_jax.schedule import Schedule, even_chunk, rounds_of

OF_VECTORS = [
    name
    for name, preset in PRESETS.items()
    if not preset.images and preset.hyperparameters.hindsight == "none"
]
"""Those of goals: `test_goal_presets`."""

# The lecture: 1,000 episodes of 200 steps after the first full batch; no weight decay.
LECTURE = {
    "total_timesteps": 1_000 * 200 + 64,
    "num_envs": 1,
    "learning_starts": 64,
    "updates_per_step": 1,
    "batch_size": 64,
    "replay_capacity": 10_000,
    "hidden": (64, 64),
    "gamma": 0.99,
    "tau": 0.001,
    "actor_learning_rate": 1e-3,
    "critic_learning_rate": 1e-3,
    "critic_weight_decay": 0.0,
    "stddev": 0.2,
}
# Fujimoto et al. 2018, section 6.1 and their code, in the sizes of today.
DEFAULT = {
    "total_timesteps": 1_000_000,
    "num_envs": 1,
    "updates_per_step": 1,
    "batch_size": 256,
    "replay_capacity": 1_000_000,
    "hidden": (256, 256),
    "gamma": 0.99,
    "tau": 0.005,
    "actor_learning_rate": 3e-4,
    "critic_learning_rate": 3e-4,
    "critic_weight_decay": 0.0,
    "stddev": 0.1,
}


def composed(name: str, num_envs: int = 1, **options):
    """``(parts, agent_state, env)`` of a preset on the pendulum."""
    config = make_config("pendulum", name, env_options=options)
    env = environment(config, num_envs)
    parts = config.preset.compose(config.hyperparameters, env)
    observation, action = (jnp.zeros(x.shape, x.dtype) for x in (env.observation, env.action))
    return parts, parts.agent.init(jax.random.key(0), observation, action), env


def kernels(params) -> list[tuple[int, ...]]:
    return sorted(leaf.shape for leaf in jax.tree.leaves(params) if leaf.ndim == 2)


@pytest.mark.parametrize(
    ("name", "environment", "expected"),
    [
        ("paper", "pendulum", PAPER),
        ("paper", "brax/ant", PAPER),
        ("pendulum-lecture", "pendulum", LECTURE),
        ("default", "brax/ant", DEFAULT),
    ],
)
def test_numbers_are_those_of_the_source(name, environment, expected):
    hyperparameters = make_config(environment, name).hyperparameters
    assert {key: getattr(hyperparameters, key) for key in expected} == expected


@pytest.mark.parametrize("name", OF_VECTORS)
def test_every_preset_composes_and_cites(name):
    parts, agent_state, _ = composed(name)
    preset, hyperparameters = PRESETS[name], make_config("pendulum", name).hyperparameters
    assert len(preset.source) > 40
    assert (
        any(year in preset.source for year in ("2015", "2018", "2025"))
        or "lecture" in preset.source
    )
    assert preset.summary
    action = parts.agent.act(agent_state, jnp.zeros((1, 3)))
    assert action.shape == (1, 1)
    assert np.isfinite(action).all()
    width = hyperparameters.hidden[0]
    assert (3, width) in kernels(agent_state.actor.params), "the preset's widths reach the actor"
    leaves = jax.tree.leaves(jax.eval_shape(parts.replay.init, {"x": jnp.zeros(())}))
    assert hyperparameters.replay_capacity in [
        leaf.shape[0] for leaf in leaves if leaf.ndim == 2
    ], "the preset's capacity reaches the replay"


@pytest.mark.parametrize(
    ("name", "critic", "bound"),
    [
        # 3 observations, 1 action. In the paper the action joins at the second layer: 400 + 1
        # inputs.
        ("paper", [(3, 400), (300, 1), (401, 300)], 3e-3),
        ("pendulum-lecture", [(4, 64), (64, 1), (64, 64)], 1 / 8),
        ("default", [(4, 64), (64, 1), (64, 64)], 3e-3),
    ],
)
def test_shape_and_start_of_the_networks(name, critic, bound):
    _, agent_state, _ = composed(name)
    assert kernels(agent_state.critic.params) == critic
    for network in (agent_state.actor, agent_state.critic):
        last = max(
            np.abs(leaf).max()
            for leaf in jax.tree.leaves(network.params)
            if leaf.shape in (critic[1], (1,))
        )
        assert bound / 2 < last <= bound


@pytest.mark.parametrize(
    ("name", "bounded"), [("default", True), ("paper", True), ("pendulum-lecture", False)]
)
def test_only_the_lecture_has_a_linear_actor_and_stores_unclipped_actions(name, bounded):
    parts, agent_state, _ = composed(name)
    wide = agent_state.replace(
        actor=agent_state.actor.replace(
            params=jax.tree.map(lambda x: 50 * x, agent_state.actor.params)
        )
    )
    observation = 100 * jax.random.normal(jax.random.key(1), (64, 3))
    actions = parts.agent.act(wide, observation)
    state = parts.behaviour.init(jax.random.key(2), jnp.zeros((64, 1)))
    stored, _ = parts.behaviour.act(
        state, wide, observation, jax.random.key(3), jnp.ones((64,), bool)
    )
    assert (np.abs(actions).max() <= 1) == bounded
    assert (np.abs(stored).max() <= 1) == bounded


@pytest.mark.parametrize(("name", "forgets"), [("paper", True), ("pendulum-lecture", False)])
def test_ornstein_uhlenbeck_of_paper_and_lecture(name, forgets):
    """x <- 0.85 x + 0.2 eps; a new episode starts it from zero in the paper, and not in the
    lecture."""
    count = 4_000
    parts, agent_state, _ = composed(name)
    observation = jnp.zeros((count, 3))
    state = parts.behaviour.init(jax.random.key(0), jnp.zeros((count, 1)))
    mean = np.asarray(parts.agent.act(agent_state, observation))
    xs = []
    for step, begins in enumerate((True, False, True)):
        reset = jnp.full((count,), begins)
        action, state = parts.behaviour.act(
            state, agent_state, observation, jax.random.key(step), reset
        )
        xs.append((np.asarray(action) - mean)[:, 0])
    slope = lambda x, y: np.sum(x * y) / np.sum(x * x)
    assert np.std(xs[0]) == pytest.approx(0.2, rel=0.05)
    assert slope(xs[0], xs[1]) == pytest.approx(0.85, abs=0.05)
    assert np.std(xs[1] - 0.85 * xs[0]) == pytest.approx(0.2, rel=0.05)
    assert slope(xs[1], xs[2]) == pytest.approx(0.0 if forgets else 0.85, abs=0.05)


@pytest.mark.parametrize("name", ["paper", "pendulum-lecture"])
def test_noise_also_fills_the_first_batch(name):
    parts, _, _ = composed(name)
    assert parts.warm_up is parts.behaviour, "neither source begins with uniform actions"


def test_default_begins_with_uniform_actions():
    assert composed("default")[0].warm_up is None


@pytest.mark.parametrize(
    ("name", "terminal"), [("default", False), ("paper", False), ("pendulum-lecture", True)]
)
def test_only_the_lecture_takes_the_time_limit_as_terminal(name, terminal):
    _, _, env = composed(name, num_envs=2, time_limit=2)
    state, _ = env.reset(jax.random.key(0))
    for step in (1, 2):
        state, time_step = env.step(state, jnp.zeros((2, 1)), jax.random.key(step))
        ends = step == 2
        np.testing.assert_array_equal(time_step.terminated, [ends and terminal] * 2)
        np.testing.assert_array_equal(time_step.truncated, [ends and not terminal] * 2)


def test_lecture_acts_in_newton_metres():
    _, _, plain = composed("default", num_envs=2)
    _, _, lecture = composed("pendulum-lecture", num_envs=2)
    state, _ = plain.reset(jax.random.key(0))
    _, expected = plain.step(state, jnp.array([[0.5], [1.0]]), jax.random.key(1))
    _, found = lecture.step(
        state, jnp.array([[1.0], [7.0]]), jax.random.key(1)
    )  # 7 N m are clipped to 2
    np.testing.assert_array_equal(found.next_observation, expected.next_observation)
    np.testing.assert_array_equal(found.reward, expected.reward)


def test_lecture_is_for_the_pendulum_alone():
    with pytest.raises(
        ValueError, match=r"'pendulum-lecture' is for the environment 'pendulum', not 'brax/ant'"
    ):
        make_config("brax/ant", "pendulum-lecture")


def test_flat_survives_json():
    config = make_config(
        "brax/ant",
        "paper",
        env_options={"backend": "spring"},
        seed=3,
        seeds=2,
        num_envs=4,
        tau=0.25,
        keep=7,
    )
    flat = config.flat()
    again = from_flat(json.loads(json.dumps(flat)))
    assert again == config
    assert again.flat() == flat
    assert flat["env_options"] == {"backend": "spring"}
    assert (flat["env"], flat["preset"], flat["seed"], flat["tau"], flat["keep"]) == (
        "brax/ant",
        "paper",
        3,
        0.25,
        7,
    )
    assert {field.name for field in fields(config.hyperparameters)} <= set(flat)
    assert {*FREE, *DERIVED} <= set(flat)


def test_number_types_are_those_of_the_values():
    for preset in PRESETS.values():
        for field in fields(preset.hyperparameters):
            value = getattr(preset.hyperparameters, field.name)
            assert isinstance(value, tuple) or type(value) is hyperparameter_types()[field.name], (
                field.name
            )


# What a task replaces


def test_presets_named_after_an_algorithm_are_ours_and_the_others_exact():
    assert {name for name, preset in PRESETS.items() if preset.exact} == {
        name for name in PRESETS if "paper" in name or "lecture" in name
    }


@pytest.mark.parametrize(
    "task", [task for task in TASKS.values() if task.hyperparameters], ids=lambda task: task.env
)
@pytest.mark.parametrize("name", OF_VECTORS)
def test_ours_take_the_tasks_numbers_and_say_so_and_exact_ones_only_a_support(name, task):
    preset = PRESETS[name]
    if preset.only_for not in (None, task.env):
        return
    config, known = (
        make_config(task.env, name),
        {field.name for field in fields(preset.hyperparameters)},
    )
    changed = {
        field
        for field in known
        if getattr(config.hyperparameters, field) != getattr(preset.hyperparameters, field)
    }
    support = {"v_min", "v_max"} & known
    for field, value in zip(("v_min", "v_max"), task.support, strict=True):
        assert field not in known or getattr(config.hyperparameters, field) == value
    own = {} if preset.exact else preset.of_task(task)
    taken = {field: value for field, value in own.items() if field in known}
    assert taken == {field: getattr(config.hyperparameters, field) for field in taken}
    assert own or changed <= support
    assert set(config.replaced) == changed, "each is said"
    for field, (old, new) in config.replaced.items():
        assert (old, new) == (
            getattr(preset.hyperparameters, field),
            getattr(config.hyperparameters, field),
        )
        assert f"{field} {new} (preset: {old})" in config.note
    flat = config.flat()
    assert set(flat["replaced"]) == changed
    said = [
        line
        for line in config.note.splitlines()
        if line.startswith("hyper-parameters found by trying")
    ]
    assert flat["source"] == " ".join([preset.cites, *said])


def test_what_was_given_is_not_said_to_be_the_tasks():
    config = make_config("brax/inverted_double_pendulum", "d4pg", n_step=7)
    assert "n_step" not in config.replaced
    assert config.replaced["gamma"] == (0.99, 0.98)


def test_without_a_task_nothing_is_replaced():
    config = make_config("brax/ant", "td3")
    assert (config.replaced, "hyper-parameters found by trying" in config.note) == ({}, False)
    assert config.hyperparameters == PRESETS["td3"].hyperparameters


@pytest.mark.parametrize(
    ("env", "steps"),
    [
        *[
            (env, 10_000)
            for env in (
                "gymnasium/HalfCheetah-v5",
                "brax/halfcheetah",
                "brax/ant",
                "gymnasium/mine:Ant-v5",
            )
        ],
        *[
            (env, 1_000)
            for env in (
                "gymnasium/Hopper-v5",
                "pendulum",
                "gymnasium/elegant/Ants-v0",
                "brax/elegant",
            )
        ],
    ],
)
def test_td3_paper_has_its_random_steps(env, steps):
    """Fujimoto et al. 2018, section 6.1: 10,000 on HalfCheetah and Ant, 1,000 elsewhere; nothing
    else is another number."""
    hyperparameters = make_config(env, "td3-paper").hyperparameters
    assert hyperparameters.learning_starts == steps
    expected = {
        "hidden": (400, 300),
        "batch_size": 100,
        "actor_learning_rate": 1e-3,
        "critic_learning_rate": 1e-3,
    }
    expected |= {
        "tau": 0.005,
        "gamma": 0.99,
        "policy_delay": 2,
        "target_noise": 0.2,
        "target_noise_clip": 0.5,
        "stddev": 0.1,
    }
    assert {name: getattr(hyperparameters, name) for name in expected} == expected


def test_d4pg_paper():
    """N = 5, prioritised, 32 actors; Acme: 32 samples per inserted step are 32 * 32 / 256 = 4
    updates a step."""
    hyperparameters = make_config("brax/fast", "d4pg-paper").hyperparameters
    expected = {
        "n_step": 5,
        "num_envs": 32,
        "updates_per_step": 32 * 32 // 256,
        "batch_size": 256,
        "num_atoms": 51,
    }
    expected |= {
        "v_min": -150.0,
        "v_max": 150.0,
        "stddev": 0.3,
        "max_grad_norm": 40.0,
        "actor_learning_rate": 1e-4,
    }
    expected |= {
        "hidden": (300, 200),
        "critic_hidden": (400, 300),
        "replay_capacity": 1_000_000,
        "priority_exponent": 0.6,
    }
    assert {name: getattr(hyperparameters, name) for name in expected} == expected
    assert make_config("pendulum", "d4pg-paper").hyperparameters.v_min == -1_000.0, (
        "a task's support"
    )


@pytest.mark.parametrize(
    ("options", "warm_up", "chunks"),
    [
        ({"total_timesteps": 600, "learning_starts": 200, "steps_per_chunk": 100}, 200, 4),
        (
            {"total_timesteps": 699, "learning_starts": 200, "steps_per_chunk": 100},
            200,
            5,
        ),  # the last one has 99 steps
        ({"total_timesteps": 700, "learning_starts": 200, "steps_per_chunk": 100}, 200, 5),
        # 10 in steps of 4 environments: 12; (100 - 12) / 8 = 11.
        (
            {"total_timesteps": 100, "learning_starts": 10, "steps_per_chunk": 8, "num_envs": 4},
            12,
            11,
        ),
        # 1,900 rounds of one step are 20 chunks of 95; 475 of four steps are 19 chunks of 25
        # rounds.
        ({"total_timesteps": 2_000, "learning_starts": 100}, 100, 20),
        ({"total_timesteps": 2_000, "learning_starts": 100, "num_envs": 4}, 100, 19),
    ],
)
def test_warm_up_and_chunks(options, warm_up, chunks):
    config = make_config("pendulum", **options)
    assert (config.schedule.warm_up_steps, config.num_chunks) == (warm_up, chunks)
    assert config.schedule.warm_up_steps % config.hyperparameters.num_envs == 0
    assert config.schedule.steps_per_chunk % config.hyperparameters.num_envs == 0


OF_IMAGES = {
    "channels",
    "layers",
    "shift",
    "stddev_steps",
    "stride",
    "trunk",
}  # `tests/test_images.py` tries these
OF_IMAGES |= {
    "stddev_half_life",
    "latent_size",
    "images",
    "images_every",
    "image_updates",
    "image_batch",
    "episode_steps",
}
OPTIONAL = {"policy_delay", "num_atoms"} | OF_IMAGES  # counts that not every preset has
COUNTS = (
    {name for name, kind in hyperparameter_types().items() if kind is int}
    - {"anneal_updates", "target_period"}
    - OPTIONAL
)
SHORT = {"total_timesteps": 600, "learning_starts": 200, "steps_per_chunk": 100}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        *[({name: 0}, f"^{name}=0: must be") for name in ("seeds", "evaluation_episodes", "keep")],
        *[({name: 0}, f"^{name}=0: must be") for name in sorted(COUNTS)],
        *[
            ({name: -1}, f"^{name}=-1: must be")
            for name in ("seed", "evaluate_every", "checkpoint_every", "anneal_updates")
        ],
        ({"seed": 2**31 - 1}, "^seed=2147483647: must be between 0 and 2147483646"),
        ({"total_timesteps": 2**62 + 1}, "^total_timesteps=4611686018427387905: must be"),
        (
            {"total_timesteps": 2**31 + 10},
            "^total_timesteps=2147483658: must be at most 2147483647 here: .* in int32",
        ),
        # 2**31 - 1 updates, 4 of them in a vector step of 8 environments, after 100 random steps:
        # 104 + 8 * (2**29 - 1).
        (
            {"total_timesteps": 2**33, "num_envs": 8, "steps_per_chunk": 80, "updates_per_step": 4},
            "^total_timesteps=8589934592: must be at most 42949[0-9]+ here",
        ),
        ({"policy_delay": 0, "preset": "td3"}, "^policy_delay=0: must be between 1 and 1000"),
        ({"target_period": 0, "preset": "her"}, "^target_period=0: must be"),
        (
            {"num_atoms": 1, "preset": "d4pg", "total_timesteps": 9_000},
            "^num_atoms=1: must be between 2 and",
        ),
        # What reaches a schedule is checked before it does; with prioritised replay or annealing
        # and without.
        *(
            (
                {name: value, "priority_exponent": alpha, "anneal_updates": 1000},
                f"^{name}={float(value)}: must be",
            )
            for alpha in (0.0, 0.6)
            for name, values in (
                ("importance_exponent", (5, -0.1, float("nan"))),
                ("actor_learning_rate", (-1e-3, float("nan"), float("inf"))),
                ("critic_learning_rate", (-1e-3, float("nan"), float("inf"))),
            )
            for value in values
        ),
        *(
            ({"priority_exponent": value}, f"^priority_exponent={float(value)}: must be")
            for value in (5, float("nan"))
        ),
        (
            {"num_atoms": 51},
            "preset 'default' has no num_atoms; presets that have it: d4pg, d4pg-paper, "
            "td3-categorical",
        ),
        ({"critic_hidden": (0,)}, "^critic_hidden=.0,.: give the width"),
        ({"hidden": ()}, "^hidden=.*: give the width"),
        ({"hidden": (64, 0)}, "^hidden=.64, 0.: give the width"),
        ({"preset": "papers"}, "unknown preset 'papers': did you mean 'paper'"),
        (
            {"replay_capacity": 1001, "num_envs": 4},
            "replay_capacity=1001 .* num_envs=4: choose for example 1000",
        ),
        # 200 of warm-up and 100 of a chunk.
        (
            {"total_timesteps": 299},
            "total_timesteps=299 .* at least 300, the warm-up .200. and one chunk .100.",
        ),
    ],
)
def test_numbers_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        make_config("pendulum", **SHORT | options)


def test_the_shortest_run_has_one_chunk():
    assert make_config("pendulum", **SHORT | {"total_timesteps": 300}).num_chunks == 1


@pytest.mark.parametrize("size", [0, -100])
def test_chunks_have_steps(size):
    with pytest.raises(ValueError, match=f"^steps_per_chunk={size}: must be"):
        make_config("pendulum", **SHORT | {"steps_per_chunk": size})


def test_load(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"config.json is missing.*ddpg-jax train"):
        load_config(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(make_config("pendulum", **SHORT).flat()))
    assert load_config(tmp_path) == make_config("pendulum", **SHORT)


@pytest.mark.parametrize(
    "text", ["", "{}", '{"env": "pendulum"', '{"env": "pendulum", "wings": 2}']
)
def test_load_of_a_damaged_configuration(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError, match=r"config\.json is damaged"):
        load_config(tmp_path)


def test_resumed_takes_what_may_change_and_refuses_the_rest(tmp_path):
    (tmp_path / "config.json").write_text(
        json.dumps(make_config("pendulum", **SHORT, tau=0.5).flat())
    )
    config = resumed_config(tmp_path, {"total_timesteps": 900, "keep": 3, "hidden": (64, 64)})
    assert (config.hyperparameters.total_timesteps, config.keep, config.hyperparameters.tau) == (
        900,
        3,
        0.5,
    )
    for given, told in (
        ({"tau": 0.1}, "tau .run: 0.5, given: 0.1."),
        ({"num_atoms": 51}, "num_atoms .run: none, given: 51."),
    ):
        with pytest.raises(ValueError, match=told):
            resumed_config(tmp_path, given)


# Values in other clothes


@pytest.mark.parametrize(
    ("name", "given", "taken"),
    [
        ("total_timesteps", np.int64(5_000), 5_000),
        ("total_timesteps", 1e5, 100_000),
        ("total_timesteps", "1e5", 100_000),
        ("total_timesteps", jnp.int32(5_000), 5_000),
        ("batch_size", np.float32(32), 32),
        ("steps_per_chunk", np.int32(50), 50),
        ("seed", "7", 7),
        ("tau", 1, 1.0),
        ("tau", "5e-1", 0.5),
        ("tau", np.float32(0.5), 0.5),
        ("layer_norm", np.bool_(True), True),
        ("hidden", np.array([8, 4]), (8, 4)),
        ("hidden", [np.int64(8), 4.0], (8, 4)),
        ("hidden", "8,4", (8, 4)),
        ("env_options", {"time_limit": np.int64(9)}, {"time_limit": 9}),
        ("env_options", {"time_limit": 9.0, "bounds": (1, 2)}, {"time_limit": 9, "bounds": [1, 2]}),
    ],
)
def test_what_is_exact_is_taken(name, given, taken):
    flat = make_config("pendulum", **SHORT | {name: given}).flat()
    expected = list(taken) if isinstance(taken, tuple) else taken
    assert (flat[name], type(flat[name])) == (expected, type(expected))


WHOLE, REAL = "must be a whole number", "must be a finite number"


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        *[
            (name, bad, WHOLE)
            for name in ("seed", "seeds", "keep", "batch_size")
            for bad in (1.5, True, "abc", "", None, [1])
        ],
        *[
            ("total_timesteps", bad, WHOLE)
            for bad in (float("nan"), float("inf"), "1e999", np.array([5]), 1 + 2j, b"5")
        ],
        *[
            ("tau", bad, REAL)
            for bad in (float("nan"), "inf", 10**400, "1e400", True, None, "0,5", 4e38, np.zeros(1))
        ],
        pytest.param(
            "total_timesteps",
            10**5_000,
            "total_timesteps=a very long number: must be less than",
            id="long",
        ),
        ("layer_norm", 1, "must be True or False"),
        ("layer_norm", "yes", "must be True or False"),
        *[
            ("hidden", bad, "whole numbers separated by commas")
            for bad in (64, None, "8;8", (8.5,), (True,), [[8]], {"a": 1})
        ],
        ("hidden", (8,) * 65, "at most 64 layers"),
        ("hidden", (10**12,), "at most 64 layers of a width of at most 1000000"),
        ("n_step", 10**9, "must be between 1 and 1000"),
        ("updates_per_step", 10**18, "must be between 1 and 2147483647"),
        ("evaluation_episodes", 10**18, "must be between 1 and 1000000"),
        *[
            ("env_options", bad, "a dict of options")
            for bad in ("time_limit", [9], {1: 2}, {"a": float("nan")}, {"a": len})
        ],
        (
            "env_options",
            {"time_limit": 10**18},
            "time_limit=1000000000000000000: must be between 1 and 100000000",
        ),
        ("env_options", {"time_limit": 2.5}, "time_limit=2.5: must be a whole number"),
        ("env_options", {"backend": 3}, "backend=3: must be a name"),
        ("env_options", {"num_envs": 3}, "'num_envs' cannot be passed in env_options"),
        *[("env", bad, "env=.*: must be a name") for bad in (5, None, "", "a\nb")],
        *[("preset", bad, "preset=.*: must be a name") for bad in (5, "")],
        *[
            ("dtype", bad, "dtype=.*: must be one of float32, bfloat16")
            for bad in ("float64", "int8")
        ],
        (
            "observation_dtype",
            "float16",
            "observation_dtype='float16': must be one of float32, bfloat16",
        ),
        ("device_kind", "gpus", "device_kind='gpus': must be one of cpu, gpu, tpu"),
    ],
)
def test_what_is_not_exact_is_refused_in_a_sentence(name, given, message):
    with pytest.raises(ValueError, match=message) as refusal:
        make_config(**{"env": "pendulum", **SHORT, name: given})
    said = str(refusal.value)
    assert said.count("\n") == 0
    assert len(said) < 200


# What is trained is what was asked


@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@drawn(
    total=st.integers(2_000, 10**12),
    num_envs=st.integers(1, 4_096),
    starts=st.integers(1, 1_000),
    updates=st.integers(1, 9),
    delay=st.integers(1, 5),
)
def test_chunks_fill_the_steps(total, num_envs, starts, updates, delay):
    """All whole rounds are trained, in 100 to 400 chunks and a shorter one."""
    assume(total // num_envs < 2**31 // 9)
    sizes = {
        "num_envs": num_envs,
        "replay_capacity": 10_000 * num_envs,
        "updates_per_step": updates,
        "policy_delay": delay,
    }
    try:
        config = make_config(
            "brax/ant", "td3", total_timesteps=total, learning_starts=starts, **sizes
        )
    except ValueError as error:
        assume("ends before the first update" not in str(error))
        raise
    left, schedule = total - config.trained_timesteps, config.schedule
    assert 0 <= left < schedule.steps_per_round
    assert (f"trains {config.trained_timesteps} of the {total} steps" in config.note) == (left > 0)
    rounds = (config.trained_timesteps - schedule.warm_up_steps) // schedule.steps_per_round
    assert min(rounds, 100) <= config.num_chunks <= 401
    assert rounds - schedule.chunks(total) * schedule.rounds < 400


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, ""),
        ({"num_envs": 16}, "only 1,187 updates in this run, 0.0625 for each environment step "),
        ({"num_envs": 16, "updates_per_step": 2, "total_timesteps": 100_000}, "only 12,374 "),
        ({"num_envs": 4, "updates_per_step": 1, "total_timesteps": 20_000}, ""),
        (
            {"total_timesteps": 3_999},
            "only 2,999 updates in this run, 1 for each",
        ),
        ({"total_timesteps": 4_000}, ""),
    ],
)
def test_a_run_of_few_updates_says_so(options, said):
    config = make_config("pendulum", **options)
    assert (said in config.note) if said else ("updates in this run" not in config.note)
    assert ("(preset default on pendulum: 1)" in config.note) == (
        "num_envs" in options and said != ""
    )
    many = make_config("brax/ant", num_envs=1_000, total_timesteps=10_000_000)  # not tuned
    assert "few to learn from" not in many.note


def test_evaluations_and_checkpoints_are_by_steps_not_by_chunks():
    """At the first end of a chunk from which on another 1,000 steps after the warm-up are done."""
    sizes = {"total_timesteps": 4_700, "learning_starts": 200, "evaluate_every": 1_000}
    for steps, expected in (
        (100, [1_200, 2_200, 3_200, 4_200]),
        (400, [1_400, 2_200, 3_400, 4_200]),
    ):
        config = make_config("pendulum", **sizes, steps_per_chunk=steps, checkpoint_every=0)
        ends = range(200 + steps, 4_701, steps)
        assert [end for end in ends if config.due("evaluate_every", end, steps)] == expected
        assert not any(config.due("checkpoint_every", end, steps) for end in ends)
    config = make_config("brax/ant", total_timesteps=21_000, learning_starts=1_000, num_envs=1)
    found = (config.schedule.steps_per_chunk, config.evaluate_every, config.checkpoint_every)
    assert found == (100, 1_000, 5_000)


@pytest.mark.parametrize(
    ("total", "chunk", "trained"),
    [
        (100_000, 30_000, 100_000),
        (100_000, None, 100_000),
        (100_005, 30_000, 100_000),
    ],
)
def test_how_many_steps_are_trained_is_said(total, chunk, trained):
    """1,000 of warm-up; three chunks of 30,000, and one of the 9,000 left; rounds of 8 steps."""
    config = make_config("brax/ant", total_timesteps=total, steps_per_chunk=chunk, num_envs=8)
    assert (config.trained_timesteps, config.flat()["trained_timesteps"]) == (trained, trained)
    assert (f"trains {trained} of the {total} steps: " in config.note) == (trained < total)


# A damaged config.json


def damaged(**fields):
    return json.dumps(make_config("pendulum", **SHORT).flat() | fields)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("null", "it holds None where an object is"),
        ("[1]", r"it holds \[1\] where an object is"),
        ("{}", "it lacks env"),
        ('{"env": "pendulum"}', "it lacks preset"),
        (damaged(env_options=None), "env_options=None: must be a dict"),
        ('{"env": "pendulum", "preset": "default"}', "it lacks "),
        ("[" * 100_000, "nested too deeply"),
        (b"\xff\xfe{}", "codec can't decode"),
        (damaged(tau=None), "tau=None: must be a finite number"),
        (damaged(tau=float("nan")), "tau=nan: must be a finite number"),
        (damaged(tau=[]), "tau=.*: must be a finite number"),
        (damaged(batch_size=1.5), "batch_size=1.5: must be a whole number"),
        (damaged(hidden=None), "hidden=None: must be whole numbers"),
        (damaged(hidden=[8, "x"]), "hidden=.*: must be whole numbers"),
        (damaged(seed={}), "seed={}: must be a whole number"),
        (damaged(steps_per_chunk=None), "steps_per_chunk=None: must be a whole number"),
        (damaged(env_options=[]), "env_options=.*: must be a dict"),
        (damaged(env=7), "env=7: must be a name"),
        (damaged(preset=["default"]), "preset=.*: must be a name"),
        (damaged(wings=2), "has no wings"),
    ],
)
def test_a_damaged_configuration_is_one_sentence(tmp_path, content, message):
    (tmp_path / "config.json").write_bytes(
        content if isinstance(content, bytes) else content.encode()
    )
    with pytest.raises(
        ValueError, match=rf"config\.json is damaged \(.*{message}.*\): restore it"
    ) as refusal:
        load_config(tmp_path)
    assert str(refusal.value).count("\n") == 0


@pytest.mark.parametrize(
    "name", sorted(set(make_config("pendulum").flat()) - {*DERIVED, *LATER, "mesh"})
)
def test_a_configuration_lacks_nothing(tmp_path, name):
    whole = make_config("pendulum", **SHORT).flat()
    (tmp_path / "config.json").write_text(
        json.dumps({key: value for key, value in whole.items() if key != name})
    )
    with pytest.raises(ValueError, match=f"it lacks {name}"):
        load_config(tmp_path)


def test_options_that_came_later_are_as_they_were(tmp_path):
    """A run of before has their defaults, and is resumed; what it says now it keeps."""
    config = make_config("pendulum", **SHORT)
    before = {name: value for name, value in config.flat().items() if name not in LATER}
    assert len(LATER) == 11
    (tmp_path / "config.json").write_text(json.dumps(before))
    assert load_config(tmp_path) == config
    require_same_config(before, config.flat())
    assert resumed_config(tmp_path, {"csv": True}).csv
    with pytest.raises(RunError, match="offline_share"):
        resumed_config(tmp_path, {"offline_share": 0.5})


def test_the_largest_replay_is_the_rings():
    assert validation.MAX_ROWS == ROWS
    with pytest.raises(
        ValueError, match=r"^replay_capacity=1073741825: must be between 1 and 1073741824"
    ):
        make_config("pendulum", replay_capacity=2**30 + 1)


@pytest.mark.parametrize(
    ("env", "preset", "updates"),
    [
        ("lane", None, 20_000),
        ("brax/inverted_double_pendulum", "td3", 80_000),
        ("lane", "drq-v2", 10_000),
        ("lane", "drive", 20_000),
        ("pendulum", None, 0),
    ],
)
def test_learning_rates_fall_over_the_whole_run(env, preset, updates):
    """However long that is: a longer run does not go on at a rate of zero."""
    config = make_config(env, preset)
    start, total = config.hyperparameters.learning_starts, config.hyperparameters.total_timesteps
    longer = {"total_timesteps": start + 3 * (total - start)}
    composed = lambda **given: (
        setup.compose(
            dataclasses.replace(
                made := make_config(env, preset, **given),
                preset=dataclasses.replace(made.preset, compose=lambda own, env: own),
            ),
            None,
        ).anneal_updates
    )
    assert composed() == updates
    assert composed(**longer) == 3 * updates
    assert composed(**longer, anneal_updates=77) == 77
    assert composed(anneal=False) == 0


@pytest.mark.parametrize(
    ("env", "preset", "shown"),
    [
        ("pendulum", "drq-v2", {"image_size": 32, "grayscale": True}),
        (
            "playground/CartpoleSwingup",
            "drq-v2",
            {"image_size": 48, "grayscale": True, "action_repeat": 8},
        ),
        ("brax/ant", "drq-v2", {"image_size": 84, "frame_stack": 3, "action_repeat": 2}),
        (
            "pendulum",
            "paper-pixels",
            {"image_size": 64, "frame_stack": 3, "frames_per_action": 3, "action_repeat": 3},
        ),
    ],
)
def test_numbers_for_images_bring_the_images_that_they_were_found_for(env, preset, shown):
    config = make_config(env, preset, env_options={"pixels": True})
    assert config.env_options == {"pixels": True, **shown}
    assert "are for images with" not in config.note
    other = make_config(env, preset, env_options={"pixels": True, "image_size": 40})
    assert other.env_options == {"pixels": True, **shown, "image_size": 40}
    assert f"for images with image_size {shown['image_size']}" in other.note
    assert "this run has image_size 40." in other.note
    assert from_flat(other.flat()).env_options == other.env_options


def test_lane_by_pixels_says_that_its_numbers_are_of_the_camera():
    assert "are for images with" not in make_config("lane", "drq-v2").note
    note = make_config("lane", "drq-v2", env_options={"camera_size": 64}).note
    assert "camera_size 32, time_limit 150; this run has camera_size 64." in note
    note = make_config("lane", "drq-v2", env_options={"pixels": True}).note
    assert "are for images with observation camera" in note


def test_a_population_that_has_one_chunk_says_that_none_is_replaced():
    options = {
        "seeds": 2,
        "vary": {"tau": [0.01, 0.02]},
        "evolve": {"ranges": {"tau": [0.001, 0.1, True]}},
        "total_timesteps": 2_000,
        "learning_starts": 1_000,
    }
    said = "this run has one: none is replaced"
    assert said in make_config("pendulum", steps_per_chunk=1_000, **options).note
    assert said not in make_config("pendulum", steps_per_chunk=500, **options).note
    del options["evolve"]
    assert said not in make_config("pendulum", steps_per_chunk=1_000, **options).note


def test_what_is_kept_by_its_old_value_does_not_evolve():
    """What a member stored by its own n-step returns goes with the replay, or stays behind."""
    ranges = {"tau": [0.001, 0.1, True]}
    options = {
        "preset": "d4pg",
        "seeds": 2,
        "vary": {"tau": [0.01, 0.02], "gamma": [0.9, 0.99]},
    }
    make_config("pendulum", evolve={"ranges": ranges}, **options)
    for evolve in (
        {"ranges": ranges, "copy_replay": False},
        {"ranges": {"gamma": [0.9, 0.99, False]}},
    ):
        with pytest.raises(ValueError, match="gamma cannot evolve: "):
            make_config("pendulum", evolve=evolve, **options)
    options["n_step"] = 1
    make_config("pendulum", evolve={"ranges": ranges, "copy_replay": False}, **options)


def test_the_axis_of_a_mesh_is_no_hyper_parameter():
    with pytest.raises(ValueError, match="has no axis_name; no preset has it"):
        make_config("pendulum", axis_name="data")


VARIED = {"tau": [0.1, 0.2, 0.3], "seed": [5, 6, 7], "gamma": [0.9, 0.7, 0.8]}


def test_members_that_evolve_may_have_both_ends_of_every_two_ranges():
    """Each as it begins, and where they evolve the corners of pairs, of what does not evolve the
    least and the greatest value; the rest is the first member's."""
    possible = lambda vary, ranges: [
        tuple(own.values())
        for own in population.possible_hyperparameters(vary, {"ranges": ranges} if ranges else {})
    ]
    begun = [(0.1, 0.9), (0.2, 0.7), (0.3, 0.8)]
    assert possible(VARIED, {}) == begun
    corners = [(0.0, 0.7), (0.0, 0.9), (1.0, 0.7), (1.0, 0.9)]
    assert possible(VARIED, {"tau": (0.0, 1.0, True)}) == begun + corners
    assert possible({"tau": [0.1, 0.2]}, {"tau": (0, 1, False)}) == [(0.1,), (0.2,), (0,), (1,)]
    three = VARIED | {"stddev": [0.4, 0.5, 0.6]}
    found = possible(three, dict.fromkeys(("tau", "gamma", "stddev"), (0, 1, False)))
    assert len(found) == len(set(found)) == 3 + 3 * 4
    assert (0, 1, 0.4) in found
    assert (0.1, 0, 1) in found
    assert list(population.possible_hyperparameters({}, {})) == []


@pytest.mark.parametrize(
    ("vary", "evolve", "message"),
    [
        ({}, {"ranges": {"tau": [0, 1, False]}}, "between members: tau has none"),
        ({}, {"ranges": {"seed": [0, 1, False]}}, "between members: seed has none"),
        ({}, {"fraction": 0.3}, "evolution needs ranges .*: none is given"),
        (
            {"tau": [0.1], "gamma": [0.9], "seed": [0]},
            {"ranges": {"tau": [0, 1, False]}},
            "evolution needs at least two members",
        ),
        ({"tau": [0.1, 0.2]}, {}, r"vary's tau is \[0.1, 0.2\]: give a list of 3 values"),
        ({"tau": 0.1}, {}, "vary's tau is 0.1: give a list of 3 values"),
        ({"batch_size": [1, 2, 3]}, {}, "vary has 'batch_size': members of one program differ"),
        ({"seed": [0, 1, 2**31]}, {}, r"seed=.*2147483648\]: must be between 0 and 2147483647"),
    ],
)
def test_what_members_cannot_have_of_their_own(vary, evolve, message):
    own = ({"tau": [0.1, 0.2, 0.3]} | vary) if evolve else vary
    own = {"gamma": [0.9, 0.8, 0.7]} if evolve and not vary else own
    seeds = len(own.get("gamma", [0] * 3))
    with pytest.raises(ValueError, match=message):
        make_config("pendulum", seeds=seeds, vary=own, evolve=evolve)


def test_numbers_that_a_replay_keeps_may_differ_where_it_is_copied_with_its_member():
    """What evolves is kept by its old value; without a copy of the replay so is what differs."""
    sizes = {"seeds": 3, "num_envs": 2, "n_step": 3, "vary": VARIED}
    ranges = {"tau": ["1e-3", 1, 1]}
    made = make_config("pendulum", "d4pg", **sizes, evolve={"ranges": ranges})
    assert made.evolve["ranges"] == {"tau": [1e-3, 1.0, True]}
    assert made.evolve["copy_replay"] is True
    for evolve in (
        {"ranges": ranges, "copy_replay": False},
        {"ranges": {"gamma": [0.8, 0.9, False]}},
    ):
        with pytest.raises(ValueError, match="gamma cannot evolve: a replay of n-step returns"):
            make_config("pendulum", "d4pg", **sizes, evolve=evolve)
    own = {"vary": {"tau": VARIED["tau"], "seed": VARIED["seed"]}}
    free = {"ranges": ranges, "copy_replay": False}
    assert not make_config("pendulum", "d4pg", **sizes | own, evolve=free).evolve["copy_replay"]


@pytest.mark.parametrize(
    ("env", "options", "said"),
    [
        ("pendulum", {"total_timesteps": 4_000}, ""),
        (
            "pendulum",
            {"total_timesteps": 3_999, "steps_per_chunk": 1},
            "only 2,999 updates in this run, 1 for each environment step: few to learn from",
        ),
        ("brax/inverted_pendulum", {"num_envs": 32}, ""),
        (
            "brax/inverted_pendulum",
            {"num_envs": 64},
            "only 4,936 updates in this run, 0.0625 for each environment step (preset default on "
            "brax/inverted_pendulum: 0.5): few to learn from",
        ),
        ("brax/ant", {"num_envs": 64, "total_timesteps": 1_001_024}, ""),
    ],
)
def test_few_updates_are_fewer_than_3000_or_an_eighth_of_what_a_task_was_tuned_with(
    env, options, said
):
    config = make_config(env, "default", replay_capacity=64_000, **options)
    told = notes.notes(config)[-1]
    assert told.startswith(said)
    assert bool(told) == bool(said)


def test_what_is_left_of_a_run_and_members_that_never_evolve_are_told():
    """Of three environments 1,001 steps after the warm-up are 333 rounds."""
    sizes = {"num_envs": 3, "learning_starts": 300, "batch_size": 9, "replay_capacity": 3_000}
    told = lambda **options: [
        text for text in notes.notes(make_config("pendulum", **sizes, **options))[1:-1] if text
    ]
    assert told(total_timesteps=1_300) == [
        "trains 1299 of the 1300 steps: between two updates are 3 steps."
    ]
    assert told(total_timesteps=1_299) == []
    evolving = {"seeds": 2, "vary": {"tau": [0.1, 0.2]}, "evolve": {"ranges": {"tau": [0, 1, 0]}}}
    (alone,) = told(total_timesteps=1_299, steps_per_chunk=999, **evolving)
    assert alone.startswith("members evolve between chunks, and this run has one: none is replaced")
    assert told(total_timesteps=1_299, steps_per_chunk=498, **evolving) == []
    assert told(total_timesteps=1_299, steps_per_chunk=999) == []


def test_intervals_are_parts_of_a_run_in_whole_chunks():
    """A twentieth of it and a quarter, by default; as many steps as are given."""
    sizes = {"learning_starts": 100, "steps_per_chunk": 10}
    found = lambda total, **given: (
        lambda made: (made.evaluate_every, made.checkpoint_every, made.num_chunks)
    )(make_config("pendulum", total_timesteps=total, **sizes, **given))
    assert found(1_100) == (50, 250, 100)
    assert found(1_105) == (50, 250, 101), "the last one is shorter"
    assert found(430) == (20, 80, 33)
    assert found(110) == (10, 10, 1)
    assert found(1_100, evaluate_every=7) == (7, 250, 100)
    assert found(1_100, checkpoint_every=0) == (50, 0, 100)
    made = make_config("pendulum", total_timesteps=1_100, **sizes, evaluate_every=25)
    due = [steps for steps in range(110, 1_101, 10) if made.due("evaluate_every", steps, 10)]
    assert due[:5] == [130, 150, 180, 200, 230]
    assert len(due) == 40
    assert made.due("evaluate_every", 1_100, 1_000)
    never = make_config("pendulum", total_timesteps=1_100, **sizes, evaluate_every=0)
    assert not never.due("evaluate_every", 1_100, 1_000)


def test_rates_fall_over_the_updates_after_the_warm_up():
    """Two updates at each step of four environments; a number of updates that is given goes
    first."""
    sizes = {"num_envs": 4, "learning_starts": 100, "batch_size": 8, "replay_capacity": 4_000}
    sizes |= {"total_timesteps": 1_111, "updates_per_step": 2}
    of = lambda **options: make_config("pendulum", **sizes, **options).anneal_updates
    assert of() == 0
    assert of(anneal=True) == (1_111 - 100) // 4 * 2
    assert of(anneal=True, anneal_updates=77) == 77
    assert of(anneal_updates=77) == 77
    assert make_config("pendulum", **sizes).updates_in(1_011) == 504


def test_limits_are_those_of_int32_and_float32():
    """Of numbers, rows and steps, which the device counts in int32."""
    assert np.iinfo(np.int32).max == validation.INT32_MAX
    assert np.float32(validation.FLOAT32_MAX) == np.finfo(np.float32).max
    assert validation.MAX_ROWS == ROWS == 2**30
    convert = validation.convert_value
    assert convert("x", 2**63 - 1, int) == 2**63 - 1
    assert convert("x", "3.4e38", float) == 3.4e38
    for value, kind in ((2**63, int), (-(2**63), int), (3.41e38, float), (-3.41e38, float)):
        with pytest.raises(ValueError, match="x="):
            convert("x", value, kind)
    assert validation.short_repr("x" * 58) == repr("x" * 58)
    assert validation.short_repr("x" * 59) == f"'{'x' * 59}..."
    # Vector steps and updates are counted: of 8 environments 2^31 - 1 - 13 rounds after 13.
    longest = Schedule(num_envs=8, learning_starts=100, updates_per_step=1, steps_per_chunk=8)
    assert longest.longest == 8 * (2**31 - 1)
    often = Schedule(num_envs=8, learning_starts=100, updates_per_step=3, steps_per_chunk=8)
    assert often.longest == 8 * (13 + (2**31 - 1) // 3)
    seldom = Schedule(num_envs=8, learning_starts=100, collect_steps=4, steps_per_chunk=32)
    assert seldom.longest == 8 * (13 + 4 * ((2**31 - 1 - 13) // 4))


def test_the_arithmetic_of_a_schedule():
    made = Schedule(num_envs=8, learning_starts=100, n_step=3, collect_steps=2, steps_per_chunk=48)
    assert (made.steps_per_round, made.rounds, made.filling) == (16, 3, 2)
    assert (made.warm_up, made.warm_up_steps) == (15, 120)
    assert [made.chunks(total) for total in (119, 120, 167, 168, 264)] == [-1, 0, 0, 1, 3]
    assert [made.trained(total) for total in (120, 135, 136, 264)] == [120, 120, 136, 264]
    assert [made.steps_after(chunks) for chunks in (0, 1, 3)] == [120, 168, 264]
    for size, near in ((0, 16), (7, 16), (24, 32), (40, 32), (41, 48)):
        with pytest.raises(ValueError, match=rf"num_envs=8 times collect_steps=2, .* {near}\."):
            dataclasses.replace(made, steps_per_chunk=size)
    with pytest.raises(ValueError, match=r"must be a multiple of num_envs=3, for example 6\."):
        Schedule(num_envs=3, steps_per_chunk=5)
    for name in ("num_envs", "learning_starts", "updates_per_step", "collect_steps", "n_step"):
        with pytest.raises(ValueError, match=f"{name}=0: must be at least 1"):
            dataclasses.replace(made, **{name: 0})
    assert [rounds_of(*x) for x in ((1, 1), (4, 2), (1, 2), (3, 2))] == [
        *((1, 1), (2, 1)),
        *((1, 2), (3, 2)),
    ]
    assert even_chunk(94, 20) == 3, "two would make 47 chunks, more than twice as many"
    assert even_chunk(49, 20) == 2, "seven would make 7, fewer than half"
    assert [even_chunk(*x) for x in ((100, 20), (101, 20), (97, 20), (5, 20), (0, 20))] == [
        *(5, 5, 4),
        *(1, 1),
    ]


def test_keys_and_numbers_of_members_are_their_own():
    """Member i has the key of a run whose seed is greater by i, or that of a seed of its own."""
    keys = lambda **own: jax.random.key_data(setup.member_keys(make_config("pendulum", **own)))
    alone = [keys(seed=seed).tolist() for seed in range(9)]
    assert keys(seed=4, seeds=3).tolist() == alone[4:7]
    assert keys(seed=4, seeds=3, vary=VARIED | {"seed": [8, 0, 2]}).tolist() == [
        *(alone[8], alone[0]),
        alone[2],
    ]
    assert keys(seed=4, vary={"seed": [7]}).tolist() == alone[7]
    numbers = lambda **own: {
        name: np.asarray(values).tolist()
        for name, values in setup.member_hyperparameters(make_config("pendulum", **own)).items()
    }
    assert numbers() == {}
    assert numbers(vary={"tau": [0.5], "seed": [7]}) == {"tau": 0.5}
    assert numbers(seeds=2, vary={"tau": [0.5, 0.25], "seed": [7, 8]}) == {"tau": [0.5, 0.25]}
