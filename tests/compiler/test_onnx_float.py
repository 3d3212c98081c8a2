"""Float ONNX models: the float graph computes what ONNX Runtime does."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx_models import floats, ints, run, write

from intformer.compiler import graph as fg
from intformer.compiler.canonical import canonicalize
from intformer.compiler.float_eval import evaluate
from intformer.compiler.frontend import onnx as frontend

X = {"x": (2, 4, 8)}
ROOT, CUBE = np.float32(math.sqrt(2 / math.pi)), np.float32(0.044715)


def gelu_tanh() -> list[tuple[Any, ...]]:
    return [
        ("Pow", "x three", "p"),
        ("Mul", "p cube", "c"),
        ("Add", "x c", "s"),
        ("Mul", "s root", "i"),
        ("Tanh", "i", "t"),
        ("Add", "t one", "u"),
        ("Mul", "x half", "h"),
        ("Mul", "h u", "y"),
    ]


def layer_norm(last: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return [
        ("ReduceMean", "x", "m", {"axes": [-1]}),
        ("Sub", "x m", "c"),
        ("Pow", "c two", "q"),
        ("ReduceMean", "q", "v", {"axes": [-1]}),
        ("Add", "v eps", "e"),
        ("Sqrt", "e", "d"),
        *last,
        ("Mul", "n gamma", "g"),
        ("Add", "g beta", "y"),
    ]


NORM = {
    "two": np.float32(2),
    "eps": np.float32(1e-5),
    "gamma": floats(8),
    "beta": floats(8),
    "one": np.float32(1),
}
SCALARS = {
    "three": np.float32(3),
    "cube": CUBE,
    "root": ROOT,
    "one": np.float32(1),
    "half": np.float32(0.5),
    "sqrt2": np.float32(math.sqrt(2)),
}
CASES: dict[str, tuple[list[tuple[Any, ...]], dict[str, Any], dict[str, Any]]] = {
    "matmul_bias": (
        [("MatMul", "x w", "p"), ("Add", "b p", "y")],
        X,
        {"w": floats(8, 5), "b": floats(5)},
    ),
    "matmul_computed": (
        [("Transpose", "x", "t", {"perm": [0, 2, 1]}), ("MatMul", "x t", "y")],
        X,
        {},
    ),
    "gemm": (
        [("Gemm", "x w b", "y", {"transB": 1, "alpha": 0.5, "beta": 2.0})],
        {"x": (4, 8)},
        {"w": floats(3, 8), "b": floats(3)},
    ),
    "gemm_transposed": (
        [("Gemm", "x w", "y", {"transA": 1})],
        {"x": (8, 4)},
        {"w": floats(8, 3)},
    ),
    "patches": (
        [("Conv", "x w b", "y", {"kernel_shape": [2, 2], "strides": [2, 2]})],
        {"x": (1, 3, 4, 6)},
        {"w": floats(5, 3, 2, 2), "b": floats(5)},
    ),
    "scale": (
        [("Div", "x two", "d"), ("Mul", "d v", "y")],
        X,
        {"two": np.float32(2), "v": floats(8)},
    ),
    "sub": ([("Sub", "c x", "s"), ("Neg", "s", "y")], X, {"c": floats(1, 4, 8)}),
    "gelu_erf": (
        [
            ("Div", "x sqrt2", "d"),
            ("Erf", "d", "e"),
            ("Add", "e one", "a"),
            ("Mul", "x a", "m"),
            ("Mul", "m half", "y"),
        ],
        X,
        SCALARS,
    ),
    "gelu_half_first": (
        [
            ("Div", "x sqrt2", "d"),
            ("Erf", "d", "e"),
            ("Add", "one e", "a"),
            ("Mul", "x half", "h"),
            ("Mul", "h a", "y"),
        ],
        X,
        SCALARS,
    ),
    "gelu_tanh": (gelu_tanh(), X, SCALARS),
    "silu": ([("Sigmoid", "x", "s"), ("Mul", "x s", "y")], X, {}),
    "quick_gelu": (
        [("Mul", "x k", "k1"), ("Sigmoid", "k1", "s"), ("Mul", "x s", "y")],
        X,
        {"k": np.float32(1.702)},
    ),
    "microsoft_gelu": ([("com.microsoft:Gelu", "x", "y")], X, {}),
    "relu_clip_tanh": (
        [("Relu", "x", "r"), ("Clip", "r zero", "c"), ("Tanh", "c", "y")],
        X,
        {"zero": np.float32(0)},
    ),
    "layer_norm": ([("LayerNormalization", "x gamma beta", "y")], X, NORM),
    "layer_norm_parts": (layer_norm([("Div", "c d", "n")]), X, NORM),
    "layer_norm_reciprocal": (
        layer_norm([("Reciprocal", "d", "r"), ("Mul", "c r", "n")]),
        X,
        NORM,
    ),
    "mean_last": ([("ReduceMean", "x", "y", {"axes": [2]})], X, {}),
    "mean_tokens": ([("ReduceMean", "x", "y", {"axes": [1], "keepdims": 0})], X, {}),
    "mean_image": ([("GlobalAveragePool", "x", "y")], {"x": (1, 3, 4, 4)}, {}),
    "split": (
        [("Split", "x n", "a b c", {"axis": 2}), ("Concat", "c a", "y", {"axis": 1})],
        X,
        {"n": ints(2, 4, 2)},
    ),
    "gather": (
        [("Gather", "x i", "g", {"axis": 1}), ("Gather", "g k", "y", {"axis": 0})],
        X,
        {"i": ints(3, 0, 1), "k": np.array(1, np.int64)},
    ),
    "slice": (
        [("Slice", "x s e a", "y")],
        X,
        {"s": ints(1, -6), "e": ints(4, 99), "a": ints(1, 2)},
    ),
    "views": (
        [
            ("Unsqueeze", "x a", "u"),
            ("Squeeze", "u a", "s"),
            ("Flatten", "s", "f", {"axis": 1}),
            ("Reshape", "f n", "r"),
            ("Tile", "r t", "y"),
        ],
        X,
        {"a": ints(0), "n": ints(0, -1, 4), "t": ints(1, 2, 1)},
    ),
    "folded_shape": (
        [
            ("Shape", "x", "n"),
            ("Gather", "n i", "g"),
            ("Unsqueeze", "g z", "u"),
            ("Concat", "u m", "s", {"axis": 0}),
            ("Reshape", "x s", "y"),
        ],
        X,
        {"i": np.array(0, np.int64), "z": ints(0), "m": ints(-1)},
    ),
    "softmax_constant_mask": (
        [("Add", "x m", "a"), ("Softmax", "a", "y")],
        {"x": (2, 4, 4)},
        {"m": np.triu(np.full((4, 4), -np.inf, np.float32), 1)},
    ),
    "softmax_flattened": ([("Softmax", "x", "y", {"axis": -1})], {"x": (1, 4, 8)}, {}),
    "softmax_added_mask": (
        [
            ("Cast", "k", "f", {"to": 1}),
            ("Unsqueeze", "f a", "u"),
            ("Sub", "one u", "s"),
            ("Mul", "s low", "m"),
            ("Add", "x m", "t"),
            ("Softmax", "t", "y"),
        ],
        {"x": (2, 4, 8), "k": ((2, 8), "int")},
        {"a": ints(1), "one": np.float32(1), "low": np.float32(-3.4e38)},
    ),
    "softmax_where": (
        [("Not", "k", "n"), ("Where", "n low x", "w"), ("Softmax", "w", "y")],
        {"x": (2, 4, 8), "k": ((2, 1, 8), "bool")},
        {"low": np.float32(-np.inf)},
    ),
    "softmax_where_numbers": (
        [
            ("Equal", "k zero", "e"),
            ("Where", "e low none", "w"),
            ("Add", "x w", "t"),
            ("Softmax", "t", "y"),
        ],
        {"x": (2, 4, 8), "k": ((2, 1, 8), "int")},
        {"low": np.float32(-3.4e38), "none": np.float32(0), "zero": np.array(0, np.int64)},
    ),
    "embedding": ([("Gather", "t i", "y")], {"i": ((2, 3), "int")}, {"t": floats(6, 8)}),
}


def random_inputs(inputs: dict[str, Any]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name, spec in inputs.items():
        shape, kind = spec if isinstance(spec[0], tuple | list) else (spec, "float")
        if kind == "float":
            result[name] = floats(*shape)
        else:
            result[name] = np.ones(shape, np.int64)
            result[name][..., -2:] = 0
            result[name] = result[name].astype(bool if kind == "bool" else np.int64)
    return result


@pytest.mark.parametrize("case", CASES)
def test_equals_onnxruntime(case, tmp_path) -> None:
    nodes, inputs, constants = CASES[case]
    path = write(tmp_path / "x.onnx", nodes, inputs, ["y"], constants)
    values = random_inputs(inputs)
    (expected,) = run(path, values)
    graph = frontend.load(path)
    for form in (graph, canonicalize(graph)):
        result = evaluate(form, values)[form.outputs[0]]
        np.testing.assert_allclose(result, expected, rtol=1e-5, atol=2e-6)


def test_composites_become_one_node(tmp_path) -> None:
    for case, kind in (("gelu_erf", "gelu"), ("gelu_tanh", "gelu_tanh"), ("silu", "silu")):
        path = write(tmp_path / "x.onnx", CASES[case][0], X, ["y"], SCALARS)
        nodes = canonicalize(frontend.load(path)).nodes
        assert [n.kind for n in nodes if isinstance(n, fg.Activation)] == [kind]
    path = write(tmp_path / "x.onnx", CASES["layer_norm_parts"][0], X, ["y"], NORM)
    assert [type(n) for n in canonicalize(frontend.load(path)).nodes] == [fg.LayerNorm]


def test_causal_mask_is_recognized(tmp_path) -> None:
    nodes, inputs, constants = CASES["softmax_constant_mask"]
    graph = frontend.load(write(tmp_path / "x.onnx", nodes, inputs, ["y"], constants))
    (softmax,) = (n for n in graph.nodes if isinstance(n, fg.Softmax))
    assert softmax.causal and softmax.causal_offset == 0 and len(softmax.inputs) == 1


def test_external_data_and_symbolic_batch(tmp_path) -> None:
    nodes, _, constants = CASES["matmul_bias"]
    path = write(tmp_path / "x.onnx", nodes, {"x": ("batch", 4, 8)}, ["y"], constants)
    onnx.save(
        onnx.load(path), path, save_as_external_data=True, location="x.data", size_threshold=0
    )
    assert (tmp_path / "x.data").stat().st_size
    graph = frontend.load(path)
    assert graph.values["x"].shape == (1, 4, 8)
    x = floats(1, 4, 8)
    np.testing.assert_allclose(
        evaluate(graph, {"x": x})["y"], run(path, {"x": x})[0], rtol=1e-5, atol=1e-6
    )


def test_torch_export_of_the_digits_vit(tmp_path) -> None:
    from examples.digits_vit.model import digits_vit

    module, inputs = digits_vit()
    path = tmp_path / "digits.onnx"
    torch.onnx.export(
        module, inputs, str(path), input_names=["images"], dynamo=False, opset_version=17
    )
    images = np.random.default_rng(0).random((1, 1, 8, 8)).astype(np.float32)
    graph = canonicalize(frontend.load(path))
    result = evaluate(graph, {"images": images})[graph.outputs[0]]
    with torch.no_grad():
        expected = module(torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-5)
    kinds = {type(n).__name__ for n in graph.nodes}
    assert kinds == {"View", "MatMul", "LayerNorm", "Softmax", "Activation", "Add"}
