"""Whole models: accuracy of the digits transformer, the encoder block, calibration data."""

from __future__ import annotations

import numpy as np
import pytest

from examples.digits_vit.data import calibration_images, data, test_split
from intformer.compiler import integer_graph as ig
from intformer.compiler.float_eval import evaluate
from intformer.compiler.frontend import torch_export
from intformer.compiler.graph import Graph
from intformer.compiler.quantize import dequantize_outputs, quantize, quantize_inputs, runs
from intformer.errors import UserError

test_split.__test__ = False


@pytest.fixture(scope="module")
def digits() -> Graph:
    return torch_export.load("examples.digits_vit.model:digits_vit")


def test_data_split_is_stratified() -> None:
    train_x, train_y, test_x, test_y = data()
    assert (len(train_x), len(test_x)) == (1297, 500)
    assert train_x.max() == test_x.max() == 1.0
    shares = np.bincount(test_y) / np.bincount(np.concatenate([train_y, test_y]))
    assert np.ptp(shares) < 0.01


@pytest.mark.parametrize(("weights", "accuracy"), [("int8", 0.985), ("int4", 0.98)])
def test_digits_accuracy(digits: Graph, weights: str, accuracy: float) -> None:
    images, labels = test_split()
    graph = quantize(digits, {"images": calibration_images()}, weights=weights)
    codes = quantize_inputs(graph, {"images": images})["images"]
    (output,) = graph.outputs
    logits = np.concatenate([ig.execute(graph, {"images": c[None]})[output] for c in codes])
    real = np.concatenate([evaluate(digits, {"images": x[None]})[output] for x in images])
    assert np.mean(real.argmax(-1) == labels) >= 0.97
    assert np.mean(logits.argmax(-1) == labels) >= accuracy
    assert np.mean(logits.argmax(-1) == real.argmax(-1)) >= 0.985


def test_digits_shape_of_graph(digits: Graph) -> None:
    graph = quantize(digits, {"images": calibration_images()})
    kinds = [type(node).__name__ for node in graph.nodes]
    # Patch, mean and head; per block query, key, value, scores, context, projection, 2 of the MLP.
    assert kinds.count("MatMul") == 3 + 2 * 8
    assert kinds.count("Pointwise") == 0  # sums and GELU are fused
    assert kinds.count("LayerNorm") == 5
    assert kinds.count("Softmax") == 2
    wide = {n for n, t in graph.tensors.items() if t.dtype == "int16" and t.const is None}
    sums = {
        node.output for node in graph.nodes if getattr(node, "post", None) and node.post.residual
    }
    assert wide == sums | set(graph.outputs)
    assert graph.meta["calibration"] == {"source": "data", "runs": 128}


@pytest.mark.parametrize("weights", ["int8", "int4"])
def test_small_encoder_without_data(weights: str) -> None:
    model = torch_export.load("examples.encoder:small_encoder")
    graph = quantize(model, weights=weights)
    assert "random" in graph.meta["calibration"]["source"]
    x = np.random.default_rng(5).standard_normal((1, 8, 32)).astype(np.float32)
    want = evaluate(model, {"input": x})[model.outputs[0]]
    codes = ig.execute(graph, quantize_inputs(graph, {"input": x}))
    (got,) = dequantize_outputs(graph, codes).values()
    error = np.sqrt(np.mean((got - want) ** 2) / np.mean(want**2))
    assert error < (0.03 if weights == "int8" else 0.15)


def test_runs_split_the_first_axis() -> None:
    data_ = {"x": np.arange(14).reshape(7, 2)}
    parts = [r["x"] for r in runs({"x": (3, 2)}, data_)]
    assert [p[:, 0].tolist() for p in parts] == [[0, 2, 4], [6, 8, 10], [12, 12, 12]]
    assert [r["x"].shape for r in runs({"x": (7, 2)}, {"x": np.zeros((2, 7, 2))})] == [(7, 2)] * 2
    assert len(list(runs({"x": (1, 2)}, {"arr_0": np.zeros((5, 2))}))) == 5


@pytest.mark.parametrize(
    "bad",
    [
        {},
        {"images": np.zeros((4, 1, 8, 7))},
        {"images": np.zeros((0, 1, 8, 8))},
        {"images": np.zeros((4, 1, 8, 8)), "more": np.zeros(4)},
        {"images": np.full((4, 1, 8, 8), np.nan)},
    ],
)
def test_bad_calibration(digits: Graph, bad: dict[str, np.ndarray]) -> None:
    with pytest.raises(UserError):
        quantize(digits, bad)


def test_bad_arguments(digits: Graph) -> None:
    with pytest.raises(UserError, match="one of int8, int4"):
        quantize(digits, weights="int2")
    graph = quantize(digits)
    with pytest.raises(UserError, match="exactly"):
        quantize_inputs(graph, {})
    with pytest.raises(UserError, match="finite"):
        quantize_inputs(graph, {"images": np.full((1, 1, 8, 8), np.inf)})
