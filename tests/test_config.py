"""Configurations as plain data, and presets against the numbers they cite."""

import json
from dataclasses import fields

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddpg_jax.runs.build import environment
from ddpg_jax.runs.config import DERIVED, FREE, from_flat, load, make_config, resumed
from ddpg_jax.runs.presets import PRESETS, number_types
from ddpg_jax.runs.tasks import TASKS

# Lillicrap et al. 2015, section 7 and Algorithm 1; 2.5 million steps: caption of Table 1.
PAPER = {
    "total_timesteps": 2_500_000,
    "num_envs": 1,
    "updates_per_step": 1,
    "batch_size": 64,
    "replay_capacity": 1_000_000,
    "hidden": (400, 300),
    "gamma": 0.99,
    "tau": 0.001,
    "actor_learning_rate": 1e-4,
    "critic_learning_rate": 1e-3,
    "critic_weight_decay": 1e-2,
    "stddev": 0.2,
}
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
    parts = config.preset.compose(config.numbers, env)
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
    numbers = make_config(environment, name).numbers
    assert {key: getattr(numbers, key) for key in expected} == expected


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_composes_and_cites(name):
    parts, agent_state, _ = composed(name)
    preset, numbers = PRESETS[name], make_config("pendulum", name).numbers
    assert len(preset.source) > 40
    assert any(year in preset.source for year in ("2015", "2018", "2025")) or "lecture" in preset.source
    assert preset.summary
    action = parts.agent.act(agent_state, jnp.zeros((1, 3)))
    assert action.shape == (1, 1)
    assert np.isfinite(action).all()
    width = numbers.hidden[0]
    assert (3, width) in kernels(agent_state.actor.params), "the preset's widths reach the actor"
    leaves = jax.tree.leaves(jax.eval_shape(parts.replay.init, {"x": jnp.zeros(())}))
    assert (numbers.replay_capacity,) in [leaf.shape for leaf in leaves], "the preset's capacity reaches the replay"


@pytest.mark.parametrize(
    ("name", "critic", "bound"),
    [
        # 3 observations, 1 action. In the paper the action joins at the second layer: 400 + 1 inputs.
        ("paper", [(3, 400), (300, 1), (401, 300)], 3e-3),
        ("pendulum-lecture", [(4, 64), (64, 1), (64, 64)], 1 / 8),
        ("default", [(4, 64), (64, 1), (64, 64)], 3e-3),
    ],
)
def test_shape_and_start_of_the_networks(name, critic, bound):
    _, agent_state, _ = composed(name)
    assert kernels(agent_state.critic.params) == critic
    for network in (agent_state.actor, agent_state.critic):
        last = max(np.abs(leaf).max() for leaf in jax.tree.leaves(network.params) if leaf.shape in (critic[1], (1,)))
        assert bound / 2 < last <= bound


@pytest.mark.parametrize(("name", "bounded"), [("default", True), ("paper", True), ("pendulum-lecture", False)])
def test_only_the_lecture_has_a_linear_actor_and_stores_unclipped_actions(name, bounded):
    parts, agent_state, _ = composed(name)
    wide = agent_state.replace(actor=agent_state.actor.replace(params=jax.tree.map(lambda x: 50 * x, agent_state.actor.params)))
    observation = 100 * jax.random.normal(jax.random.key(1), (64, 3))
    actions = parts.agent.act(wide, observation)
    state = parts.behaviour.init(jax.random.key(2), jnp.zeros((64, 1)))
    stored, _ = parts.behaviour.act(state, wide, observation, jax.random.key(3), jnp.ones((64,), bool))
    assert (np.abs(actions).max() <= 1) == bounded
    assert (np.abs(stored).max() <= 1) == bounded


@pytest.mark.parametrize(("name", "forgets"), [("paper", True), ("pendulum-lecture", False)])
def test_ornstein_uhlenbeck_of_paper_and_lecture(name, forgets):
    """x <- 0.85 x + 0.2 eps; a new episode starts it from zero in the paper, and not in the lecture."""
    count = 4_000
    parts, agent_state, _ = composed(name)
    observation = jnp.zeros((count, 3))
    state = parts.behaviour.init(jax.random.key(0), jnp.zeros((count, 1)))
    mean = np.asarray(parts.agent.act(agent_state, observation))
    xs = []
    for step, begins in enumerate((True, False, True)):
        reset = jnp.full((count,), begins)
        action, state = parts.behaviour.act(state, agent_state, observation, jax.random.key(step), reset)
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


@pytest.mark.parametrize(("name", "terminal"), [("default", False), ("paper", False), ("pendulum-lecture", True)])
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
    _, found = lecture.step(state, jnp.array([[1.0], [7.0]]), jax.random.key(1))  # 7 N m are clipped to 2
    np.testing.assert_array_equal(found.next_observation, expected.next_observation)
    np.testing.assert_array_equal(found.reward, expected.reward)


def test_lecture_is_for_the_pendulum_alone():
    with pytest.raises(ValueError, match=r"'pendulum-lecture' is for the environment 'pendulum', not 'brax/ant'"):
        make_config("brax/ant", "pendulum-lecture")


def test_flat_survives_json():
    config = make_config("brax/ant", "paper", env_options={"backend": "spring"}, seed=3, seeds=2, num_envs=4, tau=0.25, keep=7)
    flat = config.flat()
    again = from_flat(json.loads(json.dumps(flat)))
    assert again == config
    assert again.flat() == flat
    assert flat["env_options"] == {"backend": "spring"}
    assert (flat["env"], flat["preset"], flat["seed"], flat["tau"], flat["keep"]) == ("brax/ant", "paper", 3, 0.25, 7)
    assert {field.name for field in fields(config.numbers)} <= set(flat)
    assert {*FREE, *DERIVED} <= set(flat)


def test_number_types_are_those_of_the_values():
    for preset in PRESETS.values():
        for field in fields(preset.numbers):
            value = getattr(preset.numbers, field.name)
            assert isinstance(value, tuple) or type(value) is number_types()[field.name], field.name


# What a task replaces


def test_presets_named_after_an_algorithm_are_ours_and_the_others_exact():
    assert {name for name, preset in PRESETS.items() if preset.exact} == {
        name for name in PRESETS if "paper" in name or "lecture" in name
    }


@pytest.mark.parametrize("task", [task for task in TASKS.values() if task.numbers], ids=lambda task: task.env)
@pytest.mark.parametrize("name", PRESETS)
def test_ours_take_the_tasks_numbers_and_say_so_and_exact_ones_only_a_support(name, task):
    preset = PRESETS[name]
    if preset.only_for not in (None, task.env):
        return
    config, known = make_config(task.env, name), {field.name for field in fields(preset.numbers)}
    changed = {field for field in known if getattr(config.numbers, field) != getattr(preset.numbers, field)}
    support = {"v_min", "v_max"} & known
    for field, value in zip(("v_min", "v_max"), task.support, strict=True):
        assert field not in known or getattr(config.numbers, field) == value
    if preset.exact:
        assert changed <= support
    else:
        assert {field: getattr(config.numbers, field) for field in task.numbers if field in known} == {
            field: value for field, value in task.numbers.items() if field in known
        }
    assert set(config.replaced) == changed, "each is said"
    for field, (old, new) in config.replaced.items():
        assert (old, new) == (getattr(preset.numbers, field), getattr(config.numbers, field))
        assert f"{field} {new} (preset: {old})" in config.note
    flat = config.flat()
    assert set(flat["replaced"]) == changed
    assert flat["source"] == f"{preset.source} {config.note}".strip()


def test_what_was_given_is_not_said_to_be_the_tasks():
    config = make_config("brax/inverted_double_pendulum", "d4pg", n_step=7)
    assert "n_step" not in config.replaced
    assert config.replaced["gamma"] == (0.99, 0.98)


def test_without_a_task_nothing_is_replaced():
    config = make_config("brax/ant", "td3")
    assert (config.replaced, config.note) == ({}, "")
    assert config.numbers == PRESETS["td3"].numbers


@pytest.mark.parametrize(
    ("env", "steps"),
    [
        *[(env, 10_000) for env in ("gymnasium/HalfCheetah-v5", "brax/halfcheetah", "brax/ant", "gymnasium/mine:Ant-v5")],
        *[(env, 1_000) for env in ("gymnasium/Hopper-v5", "pendulum", "gymnasium/elegant/Ants-v0", "brax/elegant")],
    ],
)
def test_td3_paper_has_its_random_steps(env, steps):
    """Fujimoto et al. 2018, section 6.1: 10,000 on HalfCheetah and Ant, 1,000 elsewhere; nothing else is another number."""
    numbers = make_config(env, "td3-paper").numbers
    assert numbers.learning_starts == steps
    expected = {"hidden": (400, 300), "batch_size": 100, "actor_learning_rate": 1e-3, "critic_learning_rate": 1e-3}
    expected |= {"tau": 0.005, "gamma": 0.99, "policy_delay": 2, "target_noise": 0.2, "target_noise_clip": 0.5, "stddev": 0.1}
    assert {name: getattr(numbers, name) for name in expected} == expected


def test_d4pg_paper():
    """N = 5, prioritised, 32 actors; Acme: 32 samples per inserted step are 32 * 32 / 256 = 4 updates a step."""
    numbers = make_config("brax/ant", "d4pg-paper").numbers
    expected = {"n_step": 5, "num_envs": 32, "updates_per_step": 32 * 32 // 256, "batch_size": 256, "num_atoms": 51}
    expected |= {"v_min": -150.0, "v_max": 150.0, "stddev": 0.3, "max_grad_norm": 40.0, "actor_learning_rate": 1e-4}
    expected |= {"hidden": (300, 200), "critic_hidden": (400, 300), "replay_capacity": 1_000_000, "priority_exponent": 0.6}
    assert {name: getattr(numbers, name) for name in expected} == expected
    assert make_config("pendulum", "d4pg-paper").numbers.v_min == -1_000.0, "a task's support"


@pytest.mark.parametrize(
    ("options", "warm_up", "chunks"),
    [
        ({"total_timesteps": 600, "learning_starts": 200, "steps_per_chunk": 100}, 200, 4),
        ({"total_timesteps": 699, "learning_starts": 200, "steps_per_chunk": 100}, 200, 4),  # 99 steps are no chunk
        ({"total_timesteps": 700, "learning_starts": 200, "steps_per_chunk": 100}, 200, 5),
        # 10 in steps of 4 environments: 12; (100 - 12) // 8 = 11.
        ({"total_timesteps": 100, "learning_starts": 10, "steps_per_chunk": 8, "num_envs": 4}, 12, 11),
        # A chunk is (2000 - 100) // 19 = 100 steps: 19 of them.
        ({"total_timesteps": 2_000, "learning_starts": 100}, 100, 19),
        # (2000 - 100) // 4 // 19 * 4 = 100 steps.
        ({"total_timesteps": 2_000, "learning_starts": 100, "num_envs": 4}, 100, 19),
    ],
)
def test_warm_up_and_chunks(options, warm_up, chunks):
    config = make_config("pendulum", **options)
    assert (config.schedule.warm_up_steps, config.num_chunks) == (warm_up, chunks)
    assert config.schedule.warm_up_steps % config.numbers.num_envs == 0
    assert config.schedule.steps_per_chunk % config.numbers.num_envs == 0


OPTIONAL = {"policy_delay", "num_atoms"}  # counts that not every preset has
COUNTS = {name for name, kind in number_types().items() if kind is int} - {"anneal_updates"} - OPTIONAL
SHORT = {"total_timesteps": 600, "learning_starts": 200, "steps_per_chunk": 100}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        *[({name: 0}, f"^{name}=0: must be") for name in ("seeds", "evaluation_episodes", "keep")],
        *[({name: 0}, f"^{name}=0: must be") for name in sorted(COUNTS)],
        *[({name: -1}, f"^{name}=-1: must be") for name in ("seed", "evaluate_every", "checkpoint_every", "anneal_updates")],
        ({"seed": 2**31 - 1}, "^seed=2147483647: must be between 0 and 2147483646"),
        ({"total_timesteps": 2**31}, "^total_timesteps=2147483648: must be"),
        # What reaches a schedule is checked before it does; with prioritised replay or annealing and without.
        *(
            ({name: value, "priority_exponent": alpha, "anneal_updates": 1000}, f"^{name}={value}: must be")
            for alpha in (0.0, 0.6)
            for name, values in (
                ("importance_exponent", (5, -0.1, float("nan"))),
                ("actor_learning_rate", (-1e-3, float("nan"), float("inf"))),
                ("critic_learning_rate", (-1e-3, float("nan"), float("inf"))),
            )
            for value in values
        ),
        *(
            ({"priority_exponent": value}, f"^priority_exponent={value}: must be between 0 and 1")
            for value in (5, float("nan"))
        ),
        ({"policy_delay": 0, "preset": "td3"}, "^policy_delay=0: must be at least 1"),
        ({"num_atoms": 1, "preset": "d4pg", "total_timesteps": 9_000}, "^num_atoms=1: must be at least 2"),
        ({"num_atoms": 51}, "preset 'default' has no num_atoms: it is a number of d4pg, d4pg-paper, td3-categorical"),
        ({"critic_hidden": (0,)}, "^critic_hidden=.0,.: give the width"),
        ({"hidden": ()}, "^hidden=.*: give the width"),
        ({"hidden": (64, 0)}, "^hidden=.64, 0.: give the width"),
        ({"preset": "papers"}, "unknown preset 'papers': did you mean 'paper'"),
        ({"replay_capacity": 1001, "num_envs": 4}, "replay_capacity=1001 .* num_envs=4: choose for example 1000"),
        # 200 of warm-up and 100 of a chunk.
        ({"total_timesteps": 299}, "total_timesteps=299 .* at least 300, the warm-up .200. and one chunk .100."),
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
    with pytest.raises(FileNotFoundError, match=r"holds no run .*ddpg-jax train"):
        load(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(make_config("pendulum", **SHORT).flat()))
    assert load(tmp_path) == make_config("pendulum", **SHORT)


@pytest.mark.parametrize("text", ["", "{}", '{"env": "pendulum"', '{"env": "pendulum", "wings": 2}'])
def test_load_of_a_damaged_configuration(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError, match=r"config\.json is damaged"):
        load(tmp_path)


def test_resumed_takes_what_may_change_and_refuses_the_rest(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(make_config("pendulum", **SHORT, tau=0.5).flat()))
    config = resumed(tmp_path, {"total_timesteps": 900, "keep": 3, "hidden": (64, 64)})
    assert (config.numbers.total_timesteps, config.keep, config.numbers.tau) == (900, 3, 0.5)
    for given, told in (({"tau": 0.1}, "tau .run: 0.5, given: 0.1."), ({"num_atoms": 51}, "num_atoms .run: none, given: 51.")):
        with pytest.raises(ValueError, match=told):
            resumed(tmp_path, given)
