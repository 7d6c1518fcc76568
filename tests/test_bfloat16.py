"""Networks in bfloat16: what they compute in, what stays in float32, on every device that JAX
lowers for."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddpg_jax import agents, envs
from ddpg_jax.networks import Actor, BatchNorm, Critic, Ensemble, LayerNorm
from ddpg_jax.replay import rows
from ddpg_jax.runs.config.run_config import make_config
from ddpg_jax.runs.programs import build
from ddpg_jax.types import Transition

O, A, B = 5, 3, 4  # noqa: E741
HALF = {"hidden": (32, 24), "dtype": jnp.bfloat16}
NETWORKS = {
    "actor": (Actor(A, **HALF), 1),
    "actor with layer normalisation": (Actor(A, **HALF, norm=LayerNorm), 1),
    "critic": (Critic(**HALF), 2),
    "categorical critics": (
        Ensemble(Critic(**HALF, action_layer=0, num_atoms=7, action_norm=LayerNorm), 2),
        2,
    ),
    "critic with batch normalisation": (Critic(**HALF, norm=BatchNorm, input_norm=BatchNorm), 2),
}


def products(text):
    """The types of the factors of each product in StableHLO."""
    return re.findall(r"stablehlo\.dot_general.*: \(tensor<([^>]*)>, tensor<([^>]*)>\)", text)


def lowered(network, inputs, platform):
    shapes = [jax.ShapeDtypeStruct((B, size), jnp.float32) for size in (O, A)[:inputs]]
    params = jax.eval_shape(
        lambda: network.init(jax.random.key(0), *(jnp.zeros(x.shape[1:]) for x in shapes))
    )

    def loss(params, *inputs):
        return jnp.sum(network.apply(params, *inputs))

    grad = jax.jit(jax.grad(loss, argnums=tuple(range(1 + inputs)), allow_int=True))
    return grad.trace(params, *shapes).lower(lowering_platforms=(platform,)).as_text(), params


@pytest.mark.parametrize("platform", ["cpu", "cuda", "tpu"])
@pytest.mark.parametrize("name", NETWORKS)
def test_no_product_is_in_float32_and_nothing_in_float64(name, platform):
    """A pass and its gradient in parameters and inputs: every product has two factors of bfloat16,
    parameters are float32."""
    text, params = lowered(*NETWORKS[name], platform)
    found = products(text)
    assert len(found) >= 3 * 3 - 1, "forwards, and backwards to factors on both sides"
    assert {x.rsplit("x", 1)[1] for pair in found for x in pair} == {"bf16"}
    assert "f64" not in text
    assert {x.dtype for x in jax.tree.leaves(params)} == {np.dtype("float32")}


def test_a_product_in_float32_would_be_seen():
    text, _ = lowered(Actor(A, hidden=(8,)), 1, "cuda")
    assert {x.rsplit("x", 1)[1] for pair in products(text) for x in pair} == {"f32"}


CUDA = """
import jax, jax.numpy as jnp
from benchmarks.compiled import accelerators, hlo
from ddpg_jax.networks import Actor, Critic, Ensemble
accelerators.only_cpu()
place = accelerators.place_on("h100")
critics = Ensemble(Critic((256, 128), 0, dtype=jnp.bfloat16, num_atoms=101), 2)
networks = (Actor(3, (256, 128), dtype=jnp.bfloat16), critics)
def loss(params, seen, action):
    actor, critic = params
    chosen = jnp.sum(critics.apply(critic, seen, networks[0].apply(actor, seen)))
    return chosen + jnp.sum(critics.apply(critic, seen, action))
def start(key):
    actor = networks[0].init(key, jnp.zeros(17))
    return actor, critics.init(key, jnp.zeros(17), jnp.zeros(3))
params = jax.eval_shape(start, jax.random.key(0))
inputs = [jax.ShapeDtypeStruct((1024, size), jnp.float32) for size in (17, 3)]
lower = lambda place: jax.jit(jax.grad(loss)).lower(*map(place, (params, *inputs)))
done = accelerators.compiled(lower, place)
found = hlo.factors(done.text)
print(len(found), sorted({x for pair in found for x in pair}), "f64[" in done.text)
"""
ROOT = Path(__file__).parents[1]


def test_products_of_a_compiled_program_are_found():
    from benchmarks.compiled import hlo

    text = """
      %a.1 = bf16[4,8]{1,0} parameter(0)
      %b = f32[8,2]{1,0} convert(%c)
      %d = f32[4,2]{1,0} dot(%a.1, %b), lhs_contracting_dims={1}, rhs_contracting_dims={0}
      %e = (f32[4,2]{1,0}, s8[64]{0}) custom-call(%b, %a.1), custom_call_target="__cublas$gemm", \
backend_config={}
      %f = f32[4] custom-call(%b, %a.1), custom_call_target="Sort"
    """
    assert hlo.factors(text) == [("bf16", "f32"), ("f32", "bf16")]


@pytest.mark.skipif(
    not any(importlib.util.find_spec(f"jax_cuda{version}_plugin") for version in (12, 13)),
    reason="JAX's compiler for CUDA is not installed",
)
def test_no_product_of_the_cuda_program_is_in_float32():
    """All products of both networks' passes and gradients, as XLA compiles them for an H100."""
    done = subprocess.run([sys.executable, "-c", CUDA], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    count, _, rest = done.stdout.partition(" ")
    assert (int(count) >= 15, rest.strip()) == (True, "['bf16'] False")


@pytest.mark.parametrize("norm", [LayerNorm, BatchNorm])
def test_normalisations_compute_in_float32(norm):
    """Means and variances of bfloat16, in which 1,000 + 1 is 1,000: about a large mean nothing
    would be left of the rest."""
    x = 64.0 + jnp.asarray(np.random.default_rng(0).integers(-4, 4, (16, 64)) / 2, jnp.float32)
    one, both = norm(), {}
    for dtype in (jnp.float32, jnp.bfloat16):
        variables = one.init(jax.random.key(0), x.astype(dtype))
        out, _ = one.apply(variables, x.astype(dtype), mutable=["batch_stats"])
        both[dtype] = out
    assert both[jnp.bfloat16].dtype == jnp.bfloat16
    np.testing.assert_allclose(both[jnp.bfloat16].astype(jnp.float32), both[jnp.float32], atol=2e-2)


def test_the_whole_update_keeps_float32_where_it_adds_up():
    """Parameters, targets, optimisers and metrics, whatever the networks compute in, and what the
    replay stores."""
    config = make_config(
        "pendulum",
        "fast-td3",
        num_envs=4,
        batch_size=8,
        replay_capacity=64,
        observation_dtype="bfloat16",
    )
    built = build.build(config)
    kinds = lambda tree: {str(x.dtype) for x in jax.tree.leaves(tree)}
    assert kinds(built.state.agent) == {"float32", "int32"}
    report = jax.eval_shape(built.population.chunk, built.state, {})[1]
    assert kinds(report.metrics) == {"float32"}
    assert set(built.state.replay.rows) == {"bfloat16", "float32"}
    assert built.state.replay.rows["bfloat16"].shape == (64, 2 * 3)


def test_an_update_in_bfloat16_is_nearly_that_in_float32():
    """One step of Adam: every parameter moves by the learning rate at most, most of them the same
    way."""
    rng = np.random.default_rng(0)
    normal = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
    batch = Transition(
        observation=normal(64, O),
        action=normal(64, A),
        reward=normal(64),
        discount=jnp.ones(64),
        next_observation=normal(64, O),
    )
    after = {}
    for dtype in (jnp.float32, jnp.bfloat16):
        nets = (
            Actor(A, (32, 32), dtype=dtype, final_bound=None),
            Critic((32, 32), dtype=dtype, final_bound=None),
        )
        agent = agents.ddpg(*nets, critic_weight_decay=0.0)
        state = agent.init(jax.random.key(0), jnp.zeros(O), jnp.zeros(A))
        after[dtype], _, metrics = jax.jit(agent.update)(state, batch, jax.random.key(1))
        after[dtype, "loss"] = metrics["critic_loss"]
    np.testing.assert_allclose(after[jnp.float32, "loss"], after[jnp.bfloat16, "loss"], rtol=2e-2)
    same = [
        np.mean(np.sign(a - c) == np.sign(b - c))
        for network in ("actor", "critic")
        for a, b, c in zip(
            *(
                jax.tree.leaves(getattr(after[dtype], network).params)
                for dtype in (jnp.float32, jnp.bfloat16)
            ),
            jax.tree.leaves(getattr(state, network).params),
            strict=True,
        )
    ]
    assert min(same) > 0.85


def test_observations_stored_in_bfloat16_come_back_near():
    env = envs.make("pendulum", 4)
    _, seen = env.reset(jax.random.key(0))
    storage = rows(8, observation_dtype=jnp.bfloat16)
    scalar = jnp.zeros(4)
    stored = Transition(
        observation=seen,
        action=scalar[:, None],
        reward=scalar,
        discount=scalar,
        next_observation=seen,
    )
    state = storage.add(storage.init(jax.tree.map(lambda x: x[0], stored)), stored)
    fetched = storage.get(state, jnp.arange(4))
    assert fetched.observation.dtype == jnp.float32
    np.testing.assert_allclose(fetched.observation, seen, rtol=2**-8)
