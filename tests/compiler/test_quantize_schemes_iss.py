"""The mixed scheme on the instruction-level simulator: every tensor as in the reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from test_quantize_schemes import block, masked_samples, samples

from intformer.compiler.backend import build_program
from intformer.compiler.integer_graph import execute
from intformer.compiler.quantize import quantize, quantize_inputs
from intformer.config import CoreConfig
from intformer.sim.iss.simulator import Iss
from intformer.sim.verify import check

CORE = CoreConfig(
    name="mixed", rows=8, cols=8, lanes=4, group_scales=True, functions=2, act_words=4096
)
CASES: dict[str, dict[str, Any]] = {
    "mixed": {"activations": "mixed"},
    "mixed-int4-g32": {"activations": "mixed", "weights": "int4-g32"},
    "all-int16-operands": {"overrides": {"*": {"operand": "int16"}}},
    "smoothed-copies": {"overrides": {"*": {"smoothing": 0.75}}},
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
        masked or case != "smoothed-copies"
    )
