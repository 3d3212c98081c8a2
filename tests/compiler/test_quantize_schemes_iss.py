"""The schemes on the instruction-level simulator: every tensor as in the reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from test_quantize_schemes import block, masked_samples, samples

from intformer.compiler import graph as fg
from intformer.compiler.backend import build_program
from intformer.compiler.integer_graph import RowScale, execute
from intformer.compiler.quantize import quantize, quantize_inputs
from intformer.config import CoreConfig
from intformer.sim.iss.simulator import Iss
from intformer.sim.verify import check

CORE = CoreConfig(
    name="all",
    rows=8,
    cols=8,
    lanes=4,
    group_scales=True,
    functions=2,
    row_scales=128,
    act_words=4096,
)
CASES: dict[str, dict[str, Any]] = {
    "mixed": {"activations": "mixed"},
    "mixed-int4-g32": {"activations": "mixed", "weights": "int4-g32"},
    "all-int16-operands": {"overrides": {"*": {"operand": "int16"}}},
    "smoothed-copies": {"overrides": {"*": {"smoothing": 0.75}}},
    "token": {"activations": "token"},
    "token-int4-g32": {"activations": "token", "weights": "int4-g32"},
    "token-copies": {"activations": "token", "overrides": {"*": {"smoothing": 0.75}}},
}


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_equals_reference(case: str, masked: bool) -> None:
    model = block(outlier=20.0, masked=masked)
    data = masked_samples(8, 6) if masked else samples(8)
    graph = quantize(model, data, **CASES[case])
    program = build_program(graph, CORE)
    codes = quantize_inputs(graph, {name: array[0] for name, array in data.items()})
    report = check(program, execute(graph, codes), Iss(program).run(codes), level="iss")
    assert report.ok, str(report)
    assert np.any([t.dtype == "uint8" for t in graph.tensors.values()]) == (
        masked or (case != "smoothed-copies" and "token" not in case)
    )
    assert any(isinstance(node, RowScale) for node in graph.nodes) == ("token" in case)


@pytest.mark.parametrize("kind", ["patches", "turned"])
def test_rows_of_windows(kind: str) -> None:
    """Convolutions: each window of an image is a row."""
    rng = np.random.default_rng(6)
    b = fg.GraphBuilder()
    x = b.input("x", (1, 8, 4, 6))  # rows, columns, channels in front of a product
    weights = b.const(rng.normal(size=(10, 24)), "weight")
    windows = b.reshape(x, (1, 8, 24)) if kind == "patches" else x
    if kind == "turned":
        windows = b.reshape(b.view("permute", [x], (0, 2, 1, 3)), (1, 8, 24))
    b.graph.outputs = [b.matmul(windows, weights, bias=rng.normal(size=10), name="conv")]
    data = {"x": rng.normal(size=(8, 1, 8, 4, 6)).astype(np.float32)}
    graph = quantize(b.graph, data, activations="token")
    program = build_program(graph, CORE)
    codes = quantize_inputs(graph, {"x": data["x"][0]})
    report = check(program, execute(graph, codes), Iss(program).run(codes), level="iss")
    assert report.ok, str(report)
    assert sum(isinstance(node, RowScale) for node in graph.nodes) == 1
