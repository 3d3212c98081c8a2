"""Every operation, compiled and run by the instruction-level simulator: exact."""

from __future__ import annotations

import pytest
from op_models import CASES, load_case, numpy_inputs

from intformer.compiler.backend import build_program
from intformer.compiler.integer_graph import execute
from intformer.compiler.quantize import quantize, quantize_inputs
from intformer.config import CoreConfig
from intformer.sim.iss.simulator import Iss
from intformer.sim.verify import check

# Not square, no power of two; every tensor here has edges that fill no tile.
CORE = CoreConfig(name="odd", rows=8, cols=12, lanes=4)


@pytest.mark.parametrize("name", CASES)
def test_equals_reference(name: str) -> None:
    _module, inputs, graph = load_case(name)
    arrays = numpy_inputs(graph, inputs)
    weights = "int4" if "linear" in name else "int8"
    quantized = quantize(graph, {k: v[None] for k, v in arrays.items()}, weights=weights)
    program = build_program(quantized, CORE)
    codes = quantize_inputs(quantized, arrays)
    report = check(program, execute(quantized, codes), Iss(program).run(codes), level="iss")
    assert report.ok, str(report)
    assert report.elements > 0
