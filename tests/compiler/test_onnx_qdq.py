"""QDQ models of ONNX Runtime: the codes, accumulators and results are the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx_models import floats, write
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_static,
)

import intformer
from intformer.bench.onnx_compare import Comparison, compare
from intformer.compiler import integer_graph as ig
from intformer.compiler.frontend import onnx as frontend
from intformer.compiler.quantize import quantize
from intformer.errors import UnsupportedModel, UserError

X = {"x": (1, 4, 8)}


class Reader(CalibrationDataReader):
    def __init__(self, samples: list[dict[str, Any]]) -> None:
        self._samples = iter(samples)

    def get_next(self) -> Any:
        return next(self._samples, None)


def block(path):
    """Linear layers with and without bias, a sum, LayerNorm, a product of computed tensors."""
    nodes = [
        ("MatMul", "x wq", "q"),
        ("MatMul", "x wk", "k0"),
        ("Add", "k0 bk", "k"),
        ("Transpose", "k", "kt", {"perm": [0, 2, 1]}),
        ("MatMul", "q kt", "s"),
        ("Softmax", "s", "p"),
        ("MatMul", "p q", "c"),
        ("Add", "x c", "r"),
        ("LayerNormalization", "r g b", "n"),
        ("Reshape", "n flat", "f"),
        ("Gemm", "f w1 b1", "h"),
        ("Relu", "h", "y"),
    ]
    constants = {
        "wq": floats(8, 8),
        "wk": floats(8, 8) + np.float32(0.5),
        "bk": floats(8),
        "g": 1 + floats(8, scale=0.1),
        "b": floats(8, scale=0.1),
        "flat": np.array([4, 8], np.int64),
        "w1": floats(8, 6),
        "b1": floats(6),
    }
    return write(path, nodes, X, ["y"], constants)


def quantized(tmp_path, **options: Any):
    rng = np.random.default_rng(1)
    source = block(tmp_path / "float.onnx")
    samples = [{"x": rng.standard_normal((1, 4, 8)).astype(np.float32)} for _ in range(16)]
    path = tmp_path / "qdq.onnx"
    quantize_static(source, path, Reader(samples), quant_format=QuantFormat.QDQ, **options)
    return path


def agreement(path, runs: int = 200) -> Comparison:
    rng = np.random.default_rng(2)
    return compare(path, {"x": rng.standard_normal((runs, 1, 4, 8)).astype(np.float32)})


VARIANTS: dict[str, dict[str, Any]] = {
    "u8_s8_per_channel": {"per_channel": True, "activation_type": QuantType.QUInt8},
    "s8_symmetric": {
        "activation_type": QuantType.QInt8,
        "extra_options": {"ActivationSymmetric": True},
    },
    "u8_u8": {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QUInt8},
    "s8_asymmetric_weights": {
        "activation_type": QuantType.QInt8,
        "per_channel": True,
        "extra_options": {"WeightSymmetric": False},
    },
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_equals_onnxruntime(variant, tmp_path) -> None:
    found = agreement(quantized(tmp_path, **VARIANTS[variant]))
    # Raised by compare() already, were an accumulator to differ.
    assert len(found.layers) == 3 and found.accumulators == 4 * (8 + 8 + 6)
    for operation, difference in found.operations.items():
        if operation in ("Softmax", "MatMul of probabilities"):
            continue  # the core's own coding: 1/256
        assert difference.largest <= 1, operation
        # A large code is off by up to 255 * 2^-15 of a step: the multiplier has 16 bits.
        assert difference.share >= 0.996, operation
    assert found.operations["MatMul, constant weights"].codes == 200 * 4 * 16


def test_sums_with_constants_are_rounded_one_by_one(tmp_path) -> None:
    """As BERT's embeddings: a vector is added, then a constant that differs by row."""
    nodes = [("Add", "x c", "r"), ("Add", "r d", "y")]
    constants = {"c": floats(8, scale=0.5), "d": floats(4, 8, scale=0.7)}
    source = write(tmp_path / "float.onnx", nodes, X, ["y"], constants)
    rng = np.random.default_rng(1)
    samples = [{"x": rng.uniform(-2, 2, (1, 4, 8)).astype(np.float32)} for _ in range(16)]
    path = tmp_path / "qdq.onnx"
    options = {"activation_type": QuantType.QInt8}
    quantize_static(source, path, Reader(samples), quant_format=QuantFormat.QDQ, **options)
    found = compare(path, {"x": rng.uniform(-2, 2, (500, 1, 4, 8)).astype(np.float32)})
    assert found.operations["Add"].codes == 2 * 500 * 32
    assert found.operations["Add"].share >= 0.998 and found.operations["Add"].largest <= 1
    assert found.outputs.share >= 0.996 and found.outputs.largest <= 1


def test_simulator_equals_reference(tmp_path) -> None:
    for variant in ("u8_u8", "u8_s8_per_channel"):
        model = intformer.compile(quantized(tmp_path, **VARIANTS[variant]), config="tiny")
        report = model.verify({"x": floats(2, 1, 4, 8)[:, 0]}, levels=("iss",))
        assert report.ok
        assert model.graph.outputs == ["y"]
        assert model.graph.meta["calibration"] == {"source": "the model", "runs": 0}


def test_asymmetric_weights_keep_their_codes(tmp_path) -> None:
    """What -127..127 cannot hold is spread over further elements of the contraction."""
    graph = quantize(frontend.load(quantized(tmp_path, **VARIANTS["u8_u8"])))
    wide = [t for t in graph.tensors.values() if t.const is not None and t.shape[-1] == 16]
    assert wide and all(t.const.min() >= -127 for t in wide)


def test_clipped_only_for_packed_arrays(tmp_path) -> None:
    graph = frontend.load(quantized(tmp_path))
    low = {
        least: min(
            n.post.lo
            for n in quantize(graph, weight_min=least).nodes
            if isinstance(n, ig.MatMul | ig.Pointwise) and n.post.hi == 127
        )
        for least in (-128, -127)
    }
    assert low[-128] == -128


Q = {
    "s": np.float32(0.0513),
    "t": np.float32(0.0397),
    "z": np.int8(3),
    "big": np.float32(1.3e36),
    "ws": np.full(8, 0.0107, np.float32),
    "wz": np.zeros(8, np.int8),
    "w": np.arange(-32, 32, dtype=np.int8).reshape(8, 8),
}
HEAD = [
    ("QuantizeLinear", "x s z", "xq"),
    ("DequantizeLinear", "xq s z", "xd"),
    ("DequantizeLinear", "w ws wz", "wd", {"axis": 1}),
    ("MatMul", "xd wd", "p"),
]


def end(name: str = "p", scale: str = "s") -> list[tuple[Any, ...]]:
    return [
        ("QuantizeLinear", f"{name} {scale} z", "yq"),
        ("DequantizeLinear", f"yq {scale} z", "y"),
    ]


def load(tmp_path, nodes, constants=None, inputs=None):
    path = write(tmp_path / "x.onnx", nodes, inputs or X, ["y"], Q | (constants or {}))
    return frontend.load(path)


def test_codings_of_values(tmp_path) -> None:
    graph = quantize(load(tmp_path, HEAD + end()))
    x, y = graph.tensors["x"], graph.tensors["y"]
    assert (x.dtype, x.zero_point, y.zero_point) == ("int8", 3, 3)
    assert np.float32(x.scale) == Q["s"]
    (weights,) = (t.const for t in graph.tensors.values() if t.const is not None)
    assert (weights == Q["w"].T).all()
    (product,) = (n for n in graph.nodes if isinstance(n, ig.MatMul))
    assert (product.post.bias == -3 * Q["w"].T.astype(int).sum(axis=1)).all()


REFUSED = {
    "scale_differs": (
        [HEAD[0], ("DequantizeLinear", "xq t z", "xd"), *HEAD[2:], *end()],
        r"DequantizeLinear in node dequantizelinear_1[\s\S]*scale 0.0397",
    ),
    "quantized_twice": (
        [
            *HEAD,
            ("QuantizeLinear", "x t z", "x2"),
            ("DequantizeLinear", "x2 t z", "x3"),
            ("Add", "p x3", "a"),
            *end("a"),
        ],
        r"in node dequantizelinear_5[\s\S]*scale 0.0513 and zero point 3 in dequantizelinear_1",
    ),
    "mask": (
        [*HEAD, *end(scale="big")],
        r"QuantizeLinear in node quantizelinear_4[\s\S]*a mask was added to \(scale 1.3e\+36",
    ),
    "masked_scores": (
        [*HEAD, ("Add", "p m", "a"), *end("a")],
        r"QuantizeLinear in node quantizelinear_5[\s\S]*a mask was added to",
    ),
    "weights_along_k": (
        [*HEAD[:2], ("DequantizeLinear", "w wv wz", "wd", {"axis": 0}), HEAD[3], *end()],
        "differ along the contraction",
    ),
    "per_channel_activation": (
        [
            ("QuantizeLinear", "x ws wz", "xq", {"axis": 2}),
            ("DequantizeLinear", "xq ws wz", "xd", {"axis": 2}),
            *HEAD[2:],
            *end(),
        ],
        "one per channel",
    ),
    "negative_scale": (
        [
            ("QuantizeLinear", "x n z", "xq"),
            ("DequantizeLinear", "xq n z", "xd"),
            *HEAD[2:],
            *end(),
        ],
        "a scale of -1",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case, tmp_path) -> None:
    nodes, message = REFUSED[case]
    mask = np.where(np.eye(4, 8), 0, -3e38).astype(np.float32)
    constants = {"n": np.float32(-1), "m": mask, "wv": np.linspace(0.01, 0.02, 8, dtype=np.float32)}
    with pytest.raises(UnsupportedModel, match=message):
        load(tmp_path, nodes, constants)


def test_missing_parameters_want_data(tmp_path) -> None:
    graph = load(tmp_path, [*HEAD, ("Relu", "p", "y")])
    with pytest.raises(UserError, match="'y' has no quantization parameters"):
        quantize(graph)
    result = quantize(graph, {"x": floats(4, 4, 8)})
    assert result.tensors["x"].zero_point == 3
    assert result.tensors["y"].dtype == "int16"
    with pytest.raises(UserError, match="is quantized already"):
        quantize(graph, weights="int4")


def test_recoding_between_two_codings(tmp_path) -> None:
    """A chain of two pairs computes both roundings."""
    middle = [("QuantizeLinear", "p s z", "aq"), ("DequantizeLinear", "aq s z", "a")]
    nodes = [*HEAD, *middle, *end("a", "t")]
    path = write(tmp_path / "x.onnx", nodes, X, ["y"], Q)
    found = compare(path, {"x": floats(50, 1, 4, 8)})
    assert found.outputs.codes == 50 * 32
    assert found.outputs.share >= 0.999 and found.outputs.largest <= 1
    assert onnx.load(path).graph.node[-1].input[1] == "t"
