"""Environments of a user's that raise or return what they must not: one sentence that names them,
with the cause behind it."""

import itertools
import sys

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from ddpg_jax import envs
from ddpg_jax.checks import BrokenEnvironment
from ddpg_jax.environment import TimeStep

ZEROS = np.zeros((2, 1), np.float32)


class Plain(gymnasium.Env):
    """Right in everything; its first copy does what a test tells it to."""

    observation_space = spaces.Box(-np.inf, np.inf, (1,))
    action_space = spaces.Box(-1, 1, (1,))
    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012

    def __init__(self, making=None, resetting=None, stepping=None, render_mode=None):
        self.resetting, self.stepping, self.render_mode = resetting, stepping, render_mode
        if making:
            raise making

    def reset(self, *, seed=None, options=None):  # noqa: ARG002
        super().reset(seed=seed)
        return self._answer(self.resetting, np.zeros(1, np.float32), {})

    def step(self, action):  # noqa: ARG002
        return self._answer(self.stepping, np.zeros(1, np.float32), 0.0, False, False, {})

    def render(self):
        raise OSError("no display")

    @staticmethod
    def _answer(told, *right):
        if isinstance(told, Exception):
            raise told
        return right if told is None else told(*right)


@pytest.fixture
def registered():
    """``registered(entry point, **options)``: the name of an environment."""
    numbers, before = itertools.count(), set(gymnasium.registry)

    def register(entry_point, **options):
        known_as = f"Plain-v{next(numbers)}"
        gymnasium.register(known_as, entry_point, **{"max_episode_steps": 3} | options)
        return f"gymnasium/{known_as}"

    yield register
    for known_as in set(gymnasium.registry) - before:
        del gymnasium.registry[known_as]


@pytest.mark.parametrize(
    "error",
    [RuntimeError("device lost"), OSError(19, "No such device"), KeyError("x"), StopIteration()],
    ids=repr,
)
def test_what_raises_is_named_with_its_function(registered, error):
    name, said = registered(Plain), rf"{type(error).__name__}(: \S.*)? \(.*, line \d+\)$"
    with pytest.raises(BrokenEnvironment, match=f"^{name}: make raised {said}") as found:
        envs.make(name, 2, making=error)
    assert found.value.__cause__ is error
    with pytest.raises(BrokenEnvironment, match=f"^{name}: reset raised {said}") as found:
        envs.make(name, 2, resetting=error).reset(0)
    assert found.value.__cause__ is error
    env = envs.make(name, 2, stepping=error)
    env.reset(0)
    with pytest.raises(BrokenEnvironment, match=f"^{name}: step raised {said}") as found:
        env.step(ZEROS)
    assert found.value.__cause__ is error


def test_what_raises_at_a_reset_in_between_or_when_drawn(registered):
    name, calls = registered(Plain, max_episode_steps=1), itertools.count()
    env = envs.make(
        name,
        2,
        resetting=lambda *right: right if next(calls) < 3 else 1 / 0,
        render_mode="rgb_array",
    )
    env.reset(0)
    with pytest.raises(BrokenEnvironment, match="reset raised ZeroDivisionError: division by zero"):
        env.step(ZEROS)
    with pytest.raises(BrokenEnvironment, match="render raised OSError: no display"):
        env.draw()


def test_a_user_s_vector_environment_that_raises():
    for mode in (AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP):
        env = envs.gymnasium.vector(
            SyncVectorEnv([lambda: Plain(stepping=RuntimeError("lost"))] * 2, autoreset_mode=mode)
        )
        env.reset(0)
        with pytest.raises(BrokenEnvironment, match="step raised RuntimeError: lost"):
            env.step(ZEROS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda o, r, t, u, i: (o, np.zeros(1), t, u, i),
            r"reward array\(\[0.\]\): it must be one number",
        ),
        (lambda o, r, t, u, i: (o, None, t, u, i), "reward None: it must be one number"),
        (lambda o, r, t, u, i: (o, "1", t, u, i), "reward '1': it must be one number"),
        (lambda o, r, t, u, i: (o, 1j, t, u, i), "reward 1j: it must be one number"),
        (lambda o, r, t, u, i: (o, [1.0], t, u, i), r"reward \[1.0\]: it must be one number"),
        (
            lambda o, r, t, u, i: (o, 1e300, t, u, i),
            r"a reward with 1e\+300 in it, beyond float32: scale it down",
        ),
        (lambda o, r, t, u, i: (o, r, None, u, i), "terminated None: it must be True or False"),
        (lambda o, r, t, u, i: (o, r, t, "no", i), "truncated 'no': it must be True or False"),
        (lambda o, r, t, u, i: (o, r, t, 2, i), "truncated 2: it must be True or False"),
        (
            lambda o, r, t, u, i: (o, r, t, np.array([True]), i),
            r"truncated array\(\[ True\]\): it must be True or False",
        ),
        (
            lambda o, r, t, u, i: (o, r, t, i),
            r"step returned 4 values: Gymnasium's returns \(observation, reward, terminated",
        ),
        (lambda o, r, t, u, i: o, "step returned a ndarray: Gymnasium's returns"),
        (lambda o, r, t, u, i: None, "step returned a NoneType: Gymnasium's returns"),
    ],
)
def test_what_a_step_must_not_return(registered, change, message):
    env = envs.make(
        registered(Plain, order_enforce=False, max_episode_steps=None), 2, stepping=change
    )
    env.reset(0)
    with pytest.raises(BrokenEnvironment, match=message):
        env.step(ZEROS)


def test_a_reset_returns_two_things(registered):
    with pytest.raises(
        BrokenEnvironment,
        match=r"reset returned a ndarray: Gymnasium's returns \(observation, info\)",
    ):
        envs.make(registered(Plain), 2, resetting=lambda observation, info: np.zeros(2)).reset(0)


@pytest.mark.parametrize(
    "reward",
    [2, True, np.float64(2), np.int8(2), np.array(2.0), jnp.float32(2), np.longdouble(2)],
    ids=repr,
)
@pytest.mark.parametrize(
    "flag", [1, np.True_, np.array(True), jnp.array(True), np.uint8(1)], ids=repr
)
def test_numbers_and_flags_of_any_type_are_read(registered, reward, flag):
    env = envs.make(registered(Plain), 2, stepping=lambda o, r, t, u, i: (o, reward, flag, flag, i))
    env.reset(0)
    now = env.step(ZEROS)
    assert now.reward.tolist() == [float(reward)] * 2
    assert now.reward.dtype == np.float32
    assert (now.terminated.tolist(), now.truncated.tolist()) == ([True, True], [False, False])


def test_rewards_that_are_no_numbers_pass_for_the_run_to_report(registered):
    for reward in (np.nan, np.inf):
        env = envs.make(
            registered(Plain), 2, stepping=lambda o, r, t, u, i, reward=reward: (o, reward, t, u, i)
        )
        env.reset(0)
        np.testing.assert_array_equal(env.step(ZEROS).reward, [reward, reward])


def test_infos_are_not_looked_at(registered):
    """Of any shape and type, and with the names that Gymnasium's vector environments use."""
    odd = itertools.cycle(
        [
            {"a": np.zeros(2)},
            {"a": "text"},
            {"a": np.zeros((3, 3)), "final_obs": np.ones(1)},
            None,
            7,
        ]
    )
    env = envs.make(registered(Plain), 2, stepping=lambda o, r, t, u, i: (o, r, t, u, next(odd)))
    env.reset(0)
    for _ in range(7):
        now = env.step(ZEROS)
        assert now.next_observation.tolist() == [[0], [0]]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "gymnasium/ is no id: give gymnasium/<id>, for example gymnasium/Pendulum-v1"),
        (":", "gymnasium/: is no id"),
        ("a:b:c", "gymnasium/a:b:c is no id"),
        (":Pendulum-v1", "gymnasium/:Pendulum-v1 is no id"),
        ("gymnasium:", "gymnasium/gymnasium: is no id"),
        ("a/b/c-v0", "gymnasium/a/b/c-v0 cannot be made: Malformed environment ID"),
        ("Ant-vX", "unknown environment 'gymnasium/Ant-vX': did you mean 'gymnasium/Ant-v"),
        (
            "Pendulum-v99",
            "unknown environment 'gymnasium/Pendulum-v99': did you mean 'gymnasium/Pendulum-v1'",
        ),
        ("gymnasium:Pendulum-v99", "unknown environment 'gymnasium/gymnasium:Pendulum-v99'"),
        ("nowhere/Ant-v5", "unknown environment 'gymnasium/nowhere/Ant-v5'"),
        ("Taxi-v3", "gymnasium/Taxi-v3 cannot be made: .*deprecated. Please use `Taxi-v4`"),
        ("Taxi-v4", "needs continuous actions"),
    ],
)
def test_ids_that_do_not_fit(name, message):
    with pytest.raises(ValueError, match=message):
        envs.make(f"gymnasium/{name}", 1)


@pytest.fixture
def module(tmp_path, monkeypatch):
    """``module(text)``: the name of a module of the user's with that text."""
    monkeypatch.syspath_prepend(tmp_path)
    numbers = itertools.count()

    def write(text):
        name = f"pond{next(numbers)}"
        (tmp_path / f"{name}.py").write_text(text)
        return name

    before = set(sys.modules)
    yield write
    for name in set(sys.modules) - before:
        if name.startswith("pond"):
            del sys.modules[name]


def test_the_module_that_is_missing_is_the_one_named(module, registered):
    with pytest.raises(
        ImportError,
        match="gymnasium/pondless:Fish-v0 needs the module 'pondless', which is not installed",
    ):
        envs.make("gymnasium/pondless:Fish-v0", 1)
    needy = module("import pondless.water")
    for name in (f"gymnasium/{needy}:Fish-v0", f"{needy}:make", registered(f"{needy}:Fish")):
        with pytest.raises(
            ImportError, match="needs the module 'pondless', which is not installed"
        ) as found:
            envs.make(name, 1)
        assert "mujoco" not in str(found.value)
        assert name in str(found.value)
    with pytest.raises(ImportError, match="needs more than is installed: no water") as found:
        envs.make(registered(Plain), 1, making=gymnasium.error.DependencyNotInstalled("no water"))
    assert "None" not in str(found.value)
    with pytest.raises(ValueError, match="environment 'pondless:make' could not be imported"):
        envs.make("pondless:make", 1)


def test_modules_that_break(module, registered):
    broken = module("raise RuntimeError('dry')")
    for name in (f"gymnasium/{broken}:Fish-v0", f"{broken}:make"):
        with pytest.raises(
            BrokenEnvironment, match=f"{name}: importing {broken} raised RuntimeError: dry"
        ):
            envs.make(name, 1)
    with pytest.raises(BrokenEnvironment, match="raised SyntaxError"):
        envs.make(f"{module('def')}:make", 1)
    empty = module("number = 1")
    with pytest.raises(
        ValueError, match=f"environment '{empty}:number' is a int: give module:function"
    ):
        envs.make(f"{empty}:number", 1)
    with pytest.raises(BrokenEnvironment, match="make raised AttributeError"):
        envs.make(registered(f"{empty}:Fish"), 1)


def test_what_else_a_constructor_may_do(registered):
    with pytest.raises(ValueError, match="does not take these options: it has no 'wings'"):
        envs.make(registered(Plain), 1, wings=2)
    with pytest.raises(
        BrokenEnvironment, match=r"make raised TypeError: .*unexpected keyword argument 'fins'"
    ):
        envs.make(registered(lambda: Plain(fins=1)), 1)
    with pytest.raises(
        BrokenEnvironment, match="make raised NameNotFound: Environment `Fish` doesn't exist"
    ):
        envs.make(registered(lambda: gymnasium.make("Fish-v0")), 1)
    with pytest.raises(BrokenEnvironment, match=r"make raised AttributeError: .*action_space"):
        envs.make(
            registered(
                type("Lame", (gymnasium.Env,), {"observation_space": Plain.observation_space})
            ),
            1,
        )
    sizes = itertools.count(1)

    def grown():
        env = Plain()
        env.observation_space = spaces.Box(-1, 1, (next(sizes),))
        return env

    with pytest.raises(BrokenEnvironment, match="two copies differ in their spaces"):
        envs.make(registered(grown), 2)
    with pytest.raises(ValueError, match="num_envs=1000000000000: must be between 1 and 100000"):
        envs.make(registered(Plain), 10**12)


def test_wrappers_and_options_reach_every_copy(registered):
    halved = lambda env: gymnasium.wrappers.TransformReward(env, lambda reward: reward / 2)
    env = envs.make(
        registered(Plain),
        2,
        stepping=lambda o, r, t, u, i: (o, 3.0, t, u, i),
        wrappers=(halved, halved),
        time_limit=2,
    )
    env.reset(0)
    assert env.step(ZEROS).reward.tolist() == [0.75, 0.75]
    assert env.step(ZEROS).truncated.tolist() == [True, True]
    assert env.time_limit == 2
    assert envs.make(registered(Plain, max_episode_steps=None), 1).time_limit is None
    checked = envs.make(
        registered(Plain),
        1,
        disable_env_checker=False,
        resetting=lambda observation, info: (observation, 7),
    )
    with pytest.raises(
        BrokenEnvironment,
        match=r"reset raised AssertionError: The second element returned by `env.reset",
    ):
        checked.reset(0)


# On the device


def own(module, change=""):
    """A right environment of a user's own, changed."""
    return module(
        "import jax, jax.numpy as jnp\nfrom ddpg_jax import envs\nfrom ddpg_jax.envs "
        "import SingleEnvironment, batch\n\n\n"
        "def make(num_envs, time_limit=9):\n    env = envs.make('pendulum', num_envs, "
        "time_limit=time_limit)\n"
        f"    {change}\n    return env\n"
    )


@pytest.mark.parametrize(
    ("change", "when", "message"),
    [
        ("raise OSError('model.xml')", "make", "make raised OSError: model.xml"),
        ("env = env._replace(reset=lambda key: 1 / 0)", "reset", "reset raised ZeroDivisionError"),
        ("env = env._replace(step=lambda *_: {}['pond'])", "step", "step raised KeyError"),
        (
            "old = env.step; env = env._replace(step=lambda s, a, k: old(s, a, k) if "
            "a[0, 0] > 0 else 1)",
            "step",
            "step raised Tracer",
        ),
        (
            "old = env.step; env = env._replace(step=lambda s, a, k: (lambda n, t: (n, t.replace("
            "next_observation=t.next_observation.astype(jnp.int32))))(*old(s, a, k)))",
            "step",
            r"step: next_observation is int32\[2, 3\] where float32\[2, 3\] was declared",
        ),
        (
            "old = env.reset; env = env._replace(reset=lambda key: (old(key)[0], "
            "jnp.zeros((num_envs, 4))))",
            "reset",
            r"reset: the observation of reset is float32\[2, 4\] "
            r"where float32\[2, 3\] was declared",
        ),
        (
            "env = env._replace(action=jax.ShapeDtypeStruct((0,), jnp.float32))",
            "make",
            "the action holds no number",
        ),
        (
            "env = env._replace(action=jax.ShapeDtypeStruct((), jnp.float32))",
            "make",
            r"action has shape \(\): it must be one vector",
        ),
        (
            "env = env._replace(observation=jax.ShapeDtypeStruct((0,), jnp.float32))",
            "make",
            "the observation holds no number",
        ),
        ("env = env._replace(observation={})", "make", "the observation holds no number"),
        (
            "env = env._replace(num_envs=1)",
            "make",
            "it has 1 environments where num_envs=2 was asked",
        ),
    ],
)
def test_an_environment_of_ones_own_that_breaks_on_the_device(module, change, when, message):
    name = f"{own(module, change)}:make"

    def played():
        env = envs.make(name, 2)
        if when != "make":
            state, _ = jax.eval_shape(env.reset, jax.random.key(0))
            jax.eval_shape(
                env.step, state, jax.ShapeDtypeStruct((2, 1), jnp.float32), jax.random.key(0)
            )

    with pytest.raises(
        BrokenEnvironment,
        match=f"^{name}: .*{message}" if when == "make" else f"^{name}: {message}",
    ):
        played()


def test_an_environment_of_ones_own_that_is_right(module):
    env = envs.make(f"{own(module)}:make", 2, time_limit=5)
    state, _ = env.reset(jax.random.key(0))
    _, now = env.step(state, jnp.zeros((2, 1)), jax.random.key(1))
    assert isinstance(now, TimeStep)
    assert env.time_limit == 5
