"""What JAX computes is computed alike by ONNX's operators, in onnxruntime and by the NumPy pass;
what has no rule is refused."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.extend.core import jaxprs_in_params

from ddpg_jax import export
from ddpg_jax.export import onnx, weights
from ddpg_jax.export.graph import policy_graph
from ddpg_jax.export.primitives import RULES

WIDTH = 6
TABLE = jnp.asarray(np.random.default_rng(3).normal(size=(WIDTH, 4)), jnp.float32)
ROW = jnp.asarray([0.5, -1.5, 2.0, 0.25, -3.0, 1.0])


def graph_of(function, *shape, dtype=jnp.float32):
    """Of a "policy" that is this function of a batch."""
    env = SimpleNamespace(
        observation=jax.ShapeDtypeStruct(shape or (WIDTH,), dtype),
        native_action=lambda action: action,
    )
    return policy_graph(SimpleNamespace(act=lambda state, x: function(x)), None, env)


def both(graph):
    """The function in onnxruntime, and in NumPy where it has all operators."""
    yield export.read(onnx.model(graph).SerializeToString(), "onnx")
    if not {node.operator for node in graph.nodes} - weights.OPERATORS.keys():
        yield export.read(weights.write(graph), "npz")


def agree(function, given, graph=None):
    wanted = np.asarray(jax.jit(function)(given))
    found = [act(given) for act in both(graph or graph_of(function, *given.shape[1:]))]
    for each in found:
        np.testing.assert_allclose(each, wanted, rtol=1e-5, atol=1e-5)
        assert each.dtype == wanted.dtype
    return len(found)


def values(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32) * 2


VECTORS = {
    "abs": jnp.abs,
    "add, sub, div": lambda x: (x + 1.5) / (x * x + 2.0) - ROW,
    "ceil, floor, sign": lambda x: jnp.ceil(x) + 3 * jnp.floor(x) + 10 * jnp.sign(x),
    "cos, sin": lambda x: jnp.cos(x) + 2 * jnp.sin(x),
    "erf, erfc": lambda x: lax.erf(x) + 3 * lax.erfc(x),
    "exp, log": lambda x: jnp.log(jnp.exp(x) + 0.5),
    "exp2, expm1, log1p": lambda x: jnp.exp2(x) + 3 * jnp.expm1(x / 4) + jnp.log1p(x * x),
    "max, min, neg": lambda x: jnp.maximum(-x, 0.5) + 3 * jnp.minimum(x, ROW),
    "pow, sqrt, rsqrt": lambda x: jnp.abs(x) ** 1.5 + jnp.sqrt(jnp.abs(x)) + lax.rsqrt(x * x + 0.1),
    "integer_pow": lambda x: x**3 + (jnp.abs(x) + 1) ** -2,
    "square": jnp.square,
    "logistic, tanh": lambda x: jax.nn.sigmoid(x) + 2 * jnp.tanh(x),
    "clamp": lambda x: lax.clamp(-0.5, x, 1.5),
    "clamp by rows": lambda x: jnp.clip(x, -abs(ROW), 2 * abs(ROW)),
    "select": lambda x: jnp.where((x > 0.5) & ~(x < 1.0) | (x <= -1.0), x, 3 * x),
    "equal, at least": lambda x: jnp.where((jnp.floor(x) == 0) | (x >= 2), 5.0, x),
    "not equal": lambda x: jnp.where(jnp.floor(x) != 1.0, 5.0, x),
    "cast": lambda x: (x * 3).astype(jnp.int32).astype(jnp.float32) + (x > 0),
    "whole numbers": lambda x: lax.div((x * 9).astype(jnp.int32), jnp.int32(2)) * 3 - 7,
    "sum, mean": lambda x: x - x.mean(-1, keepdims=True) + x.sum(-1, keepdims=True),
    "largest, least, product": lambda x: jnp.stack([x.max(-1), x.min(-1), x.prod(-1)], axis=-1),
    "softmax": lambda x: jax.nn.softmax(x),
    "concatenate": lambda x: jnp.concatenate([2 * x, x[:, 1:3], jnp.abs(x)], axis=-1),
    "constants joined": lambda x: jnp.concatenate([x, jnp.broadcast_to(ROW, x.shape)], -1),
    "split": lambda x: jnp.concatenate(jnp.split(x, [2, 3], axis=-1)[::-1], axis=-1),
    "stack": lambda x: jnp.stack([x[:, 3], 2 * x[:, 0]], axis=-1),
    "one column": lambda x: x[:, 2:3] * ROW,
    "every other": lambda x: x[:, ::2],
    "without strides": lambda x: lax.slice(x, (0, 2), (x.shape[0], 5)),
    "slice": lambda x: lax.slice_in_dim(x, 1, 5, 2, axis=1),
    "columns": lambda x: x[:, jnp.array([4, 0, 0])],
    "table": lambda x: x @ TABLE,
    "table transposed": lambda x: lax.dot_general(x, TABLE.T, (((1,), (1,)), ((), ()))),
    "product with itself": lambda x: jnp.einsum("bi,bj->bij", x, x + 1).reshape(-1, WIDTH * WIDTH),
    "batched product": lambda x: jnp.einsum(
        "bij,bjk->bki", *[x.reshape(-1, 2, 3), x.reshape(-1, 3, 2)]
    )[:, 0],
    "left product": lambda x: (TABLE.T @ x[..., None])[..., 0],
    "transpose": lambda x: x.reshape(-1, 2, 3).transpose(0, 2, 1).reshape(-1, WIDTH),
    "squeeze": lambda x: jnp.squeeze(x[:, None, :] * 2, 1),
    "nothing seen": lambda x: jnp.broadcast_to(ROW, x.shape) + 0 * 1.0,
    "seen as it is": lambda x: jnp.array(x),
    "half seen": lambda x: jnp.broadcast_to(jnp.square(ROW), x.shape) * jnp.exp(x[:, :1]),
    "called": jax.checkpoint(lambda x: jax.jit(jnp.cos)(x) + jax.nn.relu(x)),
    "a choice": lambda x: lax.cond(ROW[0] > 0, jnp.sin, jnp.cos, x),
    "barrier": lambda x: lax.optimization_barrier(x) * 2,
}


ONNX_ALONE = {"product with itself", "batched product", "left product"}
"""Products that need an operator that the NumPy pass does not have."""


@pytest.mark.parametrize("name", VECTORS)
def test_equal_on_vectors(name, standard_promotion):
    assert agree(VECTORS[name], values(11, WIDTH)) == 2 - (name in ONNX_ALONE)


def convolved(stride, padding, dilation=1, groups=1):
    kernel = jnp.asarray(np.random.default_rng(1).normal(size=(3, 2, 4 // groups, 8)), jnp.float32)
    return lambda x: lax.conv_general_dilated(
        x,
        kernel,
        (stride, 1),
        padding,
        rhs_dilation=(1, dilation),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


IMAGES = {
    "convolution": convolved(1, "VALID"),
    "strided": convolved(2, "SAME"),
    "padded, dilated, in groups": convolved(1, ((2, 0), (1, 3)), 2, 2),
    "patches": lambda x: x.reshape(-1, 4, 2, 3, 2, 4).swapaxes(2, 3).reshape(-1, 4, 3, 16) @ PATCH,
}
PATCH = jnp.asarray(np.random.default_rng(2).normal(size=(16, 5)), jnp.float32)


@pytest.mark.parametrize("name", IMAGES)
def test_equal_on_images(name):
    assert agree(IMAGES[name], values(5, 8, 6, 4)) == 1 + (name == "patches")


def primitives(jaxpr):
    for eqn in jaxpr.eqns:
        yield eqn.primitive.name
        for inner in jaxprs_in_params(eqn.params):
            yield from primitives(inner)


def test_every_rule_is_tested(standard_promotion):
    (size,) = jax.export.symbolic_shape("batch")
    shapes = {(WIDTH,): VECTORS, (8, 6, 4): IMAGES}
    seen = {
        name
        for shape, functions in shapes.items()
        for function in functions.values()
        for name in primitives(
            jax.make_jaxpr(function)(jax.ShapeDtypeStruct((size, *shape), jnp.float32)).jaxpr
        )
    }
    assert RULES.keys() - seen == set()


def test_every_operator_of_the_numpy_pass_is_tested(standard_promotion):
    graphs = [graph_of(function) for function in VECTORS.values()]
    seen = {node.operator for graph in graphs for node in graph.nodes}
    assert weights.OPERATORS.keys() - seen == set()


REFUSED = {
    "sort": lambda x: jnp.sort(x, -1),
    "cumsum": lambda x: jnp.cumsum(x, -1),
    "part of a batch": lambda x: lax.slice_in_dim(x, 0, x.shape[0], 2),
    "bits": lambda x: (x.astype(jnp.int32) & 3).astype(jnp.float32),
    "several axes": lambda x: x.reshape(-1, 2, 3)[:, jnp.array([0, 1]), jnp.array([2, 0])],
    "one of two beyond": lambda x: x.at[:, jnp.array([0, WIDTH])].get(mode="fill", fill_value=0.0),
    "computed": lambda x: jnp.take_along_axis(x, (x > 0).astype(jnp.int32), -1),
    "batch times batch": lambda x: x + jnp.broadcast_to(ROW, (*2 * x.shape[:1], WIDTH)).sum(0),
    "several unknown sizes": lambda x: (x[:, None] + x[None])[..., None].sum(0)[..., 0],
    "transposed convolution": lambda x: lax.conv_transpose(
        x[..., None], ROW[:3, None, None], (2,), "SAME"
    )[..., 0],
    "more than two": lambda x: lax.select_n((x * 0).astype(jnp.int32), x, 2 * x, 3 * x),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_in_a_sentence(name, standard_promotion):
    with pytest.raises(ValueError, match=r"the policy needs .*: export it as stablehlo\.$"):
        graph_of(REFUSED[name])


def test_what_does_not_depend_on_the_observation_is_computed_once():
    graph = graph_of(lambda x: x @ jnp.tanh(TABLE * 2) + jnp.exp(TABLE[:1] ** 2))
    assert [node.operator for node in graph.nodes] == ["MatMul", "Add", "Identity"]
    assert sum(constant.size for constant in graph.constants.values()) == TABLE.size + 4


@pytest.mark.parametrize("batch", [1, 2, 300])
def test_any_size_of_batch(batch, standard_promotion):
    agree(VECTORS["constants joined"], values(batch, WIDTH))


def test_bfloat16_is_computed_in_float32():
    kernel = TABLE.astype(jnp.bfloat16)
    function = lambda x: (x.astype(jnp.bfloat16) @ kernel).astype(jnp.float32)
    given = values(9, WIDTH)
    for act in both(graph_of(function)):
        found = act(given)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, given @ np.asarray(kernel, np.float32), rtol=1e-5)
        np.testing.assert_allclose(found, function(given), atol=0.3)


def test_names_of_streams_that_are_taken():
    shapes = {"action": jax.ShapeDtypeStruct((2,), jnp.float32)}
    shapes |= {name: jax.ShapeDtypeStruct((2,), jnp.float32) for name in ("add_2", "mul_3", "z/y")}
    env = SimpleNamespace(observation=shapes, native_action=lambda action: action)
    joined = lambda x: x["action"] + 2 * x["add_2"] * x["mul_3"] - x["z/y"]
    graph = policy_graph(SimpleNamespace(act=lambda state, x: joined(x)), None, env)
    given = {name: values(3, 2) + place for place, name in enumerate(shapes)}
    for act in both(graph):
        np.testing.assert_allclose(act(given), joined(given), rtol=1e-6)
    assert (list(graph.inputs), graph.output) == ([*shapes], "native_action")
