"""The integer graph's grouped products and functions: what they mean, and what is refused."""

import dataclasses
import json

import numpy as np
import pytest

from intformer import reference
from intformer.compiler import integer_graph_io
from intformer.compiler.integer_graph import (
    IntGraph,
    MatMul,
    Pointwise,
    PostParams,
    Tensor,
    execute,
)
from intformer.hw.units.functions import Coding, find_function, quadratic_coefficients

GELU = quadratic_coefficients(find_function("gelu"), Coding("int16", 1e-3), Coding("int16", 1e-3))
SWISH = quadratic_coefficients(
    find_function("hard_swish"), Coding("int16", 1e-3), Coding("int8", 0.05)
)


def post(**kw) -> PostParams:
    defaults = {"bias": 0, "mult": 1 << 10, "shift": 12, "lo": -32768, "hi": 32767}
    return PostParams(**{k: np.asarray(v) if k in ("bias", "mult", "shift") else v
                         for k, v in (defaults | kw).items()})  # fmt: skip


def grouped(group: int = 4, *, scales=None, k: int = 12) -> IntGraph:
    rng = np.random.default_rng(1)
    w = rng.integers(-7, 8, (5, k)).astype(np.int8)
    if scales is None:
        scales = rng.integers(0, 256, (5, k // group)).astype(np.uint8)
    node = MatMul("n", ["x", "w"], "y", post=post(), weight_bits=4, group=group,
                  group_scales=scales)  # fmt: skip
    tensors = [Tensor("x", (2, 3, k), "int8"), Tensor("w", w.shape, "int8", const=w),
               Tensor("y", (2, 3, 5), "int16")]  # fmt: skip
    return IntGraph({t.name: t for t in tensors}, [node], ["x"], ["y"])


def pointwise(function, dtype: str = "int16") -> IntGraph:
    node = Pointwise("n", ["x"], "y", post=post(mult=1 << 14, shift=14, function=function))
    tensors = [Tensor("x", (65536,), "int16"), Tensor("y", (65536,), dtype)]
    return IntGraph({t.name: t for t in tensors}, [node], ["x"], ["y"])


def test_grouped_product_is_that_of_scaled_weights() -> None:
    graph = grouped()
    x = np.random.default_rng(2).integers(-128, 128, (2, 3, 12))
    (node,) = graph.nodes
    scaled = graph.tensors["w"].const * np.repeat(node.group_scales, 4, axis=1).astype(int)
    expected = reference.post(x @ scaled.T, bias=0, mult=1 << 10, shift=12, lo=-32768, hi=32767)
    np.testing.assert_array_equal(execute(graph, {"x": x})["y"], expected)


@pytest.mark.parametrize("bits", [7, 30])
def test_grouped_matmul_is_exact(bits: int) -> None:
    """Both ways to compute it: in float64, and in int64 where that would round."""
    rng = np.random.default_rng(bits)
    top = 1 << bits
    a = rng.integers(-top, top, (3, 64))
    w = rng.integers(-128, 128, (5, 64))
    scales = rng.integers(0, 1 << 20, (5, 8))
    sums = [a[:, g : g + 8] @ w[:, g : g + 8].T for g in range(0, 64, 8)]
    expected = reference.group_scale(np.array(sums), scales.T[:, None, :])
    np.testing.assert_array_equal(reference.grouped_matmul(a, w, scales), expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"group": 5}, "groups of 5 do not divide 12"),
        ({"group": 0}, "belong together"),
        ({"group_scales": None}, "belong together"),
        ({"group": 6}, r"must have shape \(5, 2\)"),
        ({"group_scales": np.full((5, 3), 256)}, "uint8, not 256..256"),
    ],
)
def test_groups_that_do_not_fit_are_refused(change, message) -> None:
    graph = grouped()
    graph.nodes[0] = dataclasses.replace(graph.nodes[0], **change)
    with pytest.raises(ValueError, match=message):
        execute(graph, {"x": np.zeros((2, 3, 12), int)})


def test_sums_past_32_bits_are_refused() -> None:
    k = 1 << 15
    graph = grouped(k, k=k, scales=np.full((5, 1), 255, np.uint8))
    graph.tensors["w"].const[:] = 7
    with pytest.raises(OverflowError):
        execute(graph, {"x": np.full((2, 3, k), 127)})


@pytest.mark.parametrize(("function", "dtype"), [(GELU, "int16"), (SWISH, "int8")])
def test_function_follows_the_clip(function, dtype: str) -> None:
    codes = np.arange(-32768, 32768)
    graph = pointwise(function, dtype)
    expected = reference.quadratic_table(codes, table=function)
    np.testing.assert_array_equal(execute(graph, {"x": codes})["y"], expected)
    graph.nodes[0].post.hi = 1000
    expected = reference.quadratic_table(np.minimum(codes, 1000), table=function)
    np.testing.assert_array_equal(execute(graph, {"x": codes})["y"], expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x_lo": 0}, "takes int16 codes"),
        ({"hi": 65535}, "within int16"),
        ({"constant": GELU.constant[1:]}, "512 entries"),
        ({"constant": GELU.constant + (1 << 27)}, "fit 28 bits"),
        ({"slope_shift": 11}, "from 0 to 10"),
        ({"breaks": (200, 400, 600)}, "at most 2 breaks"),
        ({"breaks": (200, 201)}, "different segments"),
        ({"breaks": (65500,)}, "last segment"),
        ({"slope": np.full(512, (1 << 17) - 1), "curvature": np.full(512, 1 << 16)}, "bent slope"),
    ],
)
def test_functions_that_no_epilogue_holds_are_refused(change, message) -> None:
    with pytest.raises(ValueError, match=message):
        execute(pointwise(dataclasses.replace(GELU, **change)), {"x": np.zeros(65536, int)})


def test_a_table_and_a_function_are_refused() -> None:
    graph = pointwise(GELU)
    graph.nodes[0].post.table = np.zeros(256, np.int8)
    with pytest.raises(ValueError, match="not both"):
        execute(graph, {"x": np.zeros(65536, int)})


@pytest.mark.parametrize("graph", [grouped(), pointwise(SWISH, "int8")])
def test_files_keep_groups_and_functions(graph) -> None:
    data, arrays = integer_graph_io.to_plain(graph)
    loaded = integer_graph_io.from_plain(json.loads(json.dumps(data)), arrays)
    rng = np.random.default_rng(3)
    (name,) = graph.inputs
    x = rng.integers(-128, 128, graph.tensors[name].shape)
    np.testing.assert_array_equal(execute(loaded, {"x": x})["y"], execute(graph, {"x": x})["y"])
