"""What XLA is told about programs for a CPU: options that it knows; and gradients are those of JAX
without its fusions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddpg_jax import agents, compiling, envs, host, networks, noise, replay
from ddpg_jax.behaviour import explore
from ddpg_jax.types import Transition


@pytest.fixture
def own_flags(monkeypatch):
    """None of the user's, and nothing remembered."""
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    compiling._known.cache_clear()
    yield monkeypatch
    compiling._known.cache_clear()


def told(wanted):
    """The options that a function is compiled with."""
    found = []
    original, jax.jit = (
        jax.jit,
        lambda function, compiler_options=None, **_: (
            found.append(compiler_options) or original(function)
        ),
    )
    try:
        compiling.jit(lambda x: x, wanted)
    finally:
        jax.jit = original
    return found[-1]


def test_xla_is_told_what_it_knows(own_flags):
    assert told({"xla_cpu_no_such_option": 1}) == {}
    assert (
        told(compiling.HOT_LOOP_OPTIONS | {"xla_cpu_no_such_option": 1})
        == compiling.HOT_LOOP_OPTIONS
    )


def test_the_user_has_the_last_word(own_flags):
    own_flags.setenv("XLA_FLAGS", "--xla_backend_optimization_level=3")
    assert "xla_backend_optimization_level" not in told(compiling.ONE_OFF_OPTIONS)


def test_other_backends_are_told_nothing(own_flags):
    own_flags.setattr(jax, "default_backend", lambda: "gpu")
    assert told(compiling.ONE_OFF_OPTIONS) == {}


@pytest.mark.slow
@pytest.mark.parametrize(
    "wanted",
    [
        pytest.param({}, id="default"),
        pytest.param(compiling.HOT_LOOP_OPTIONS, id="hot loop"),
        pytest.param(compiling.ONE_OFF_OPTIONS, id="seldom"),
    ],
)
def test_an_update_is_the_one_of_eager_mode(own_flags, wanted):
    """Third parties report wrong gradients of fused products: all parameters and moments after an
    update, against op by op."""
    rng = np.random.default_rng(0)
    array = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
    agent = agents.td3(
        networks.Actor(3, (16, 16)), networks.Critic((16, 16), action_layer=0), policy_delay=1
    )
    state = agent.init(jax.random.key(0), jnp.zeros(5), jnp.zeros(3))
    batch = Transition(
        observation=array(32, 5),
        action=jnp.tanh(array(32, 3)),
        reward=array(32),
        discount=jnp.ones(32),
        next_observation=array(32, 5),
    )
    compiled, *_ = compiling.jit(agent.update, wanted)(state, batch, jax.random.key(1))
    with jax.disable_jit():
        eager, *_ = agent.update(state, batch, jax.random.key(1))
    for fused, plain in zip(jax.tree.leaves(compiled), jax.tree.leaves(eager), strict=True):
        np.testing.assert_allclose(fused, plain, rtol=1e-4, atol=1e-6)


def test_loops_compile_as_they_do_outside_of_tests(own_flags):
    """With options of their own, which no test's flags forbid: JAX refuses to trace a function that
    has some."""
    env = envs.make("gymnasium/Pendulum-v1", 1)
    agent = agents.ddpg(networks.Actor(1, (4,)), networks.Critic((4,), action_layer=0))
    trainer = host.make_train(
        agent,
        env,
        replay.uniform(40, 4),
        explore(agent, noise.gaussian(0.1)),
        learning_starts=6,
        steps_per_chunk=10,
    )
    trainer.compile()
    trainer.begin(0)
    state, report = trainer.chunk(trainer.warm_up(jax.jit(trainer.init)(jax.random.key(0))))
    assert state.steps == 16
    assert np.isfinite(report.metrics["critic_loss"])
