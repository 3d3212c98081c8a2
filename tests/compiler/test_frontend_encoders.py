"""What encoders are made of: float graph equal to PyTorch, simulator equal to the reference."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
from encoder_models import CASES
from op_models import numpy_inputs, torch_outputs

from intformer.compiler.backend import build_program
from intformer.compiler.canonical import canonicalize
from intformer.compiler.canonical.products import expand_products
from intformer.compiler.float_eval import evaluate
from intformer.compiler.frontend import torch_export
from intformer.compiler.graph import Mul
from intformer.compiler.integer_graph import execute
from intformer.compiler.quantize import dequantize_outputs, quantize, quantize_inputs
from intformer.config import CoreConfig
from intformer.sim.iss.simulator import Iss
from intformer.sim.verify import check

CORE = CoreConfig(name="odd", rows=8, cols=12, lanes=4, functions=2, row_scales=512)
CLOSE = 0.03
"""Of the largest output: everything is W8A8, and each range is that of one sample."""


@cache
def loaded(name: str) -> tuple[Any, ...]:
    module, inputs = CASES[name]()
    graph = torch_export.load((module, inputs))
    return graph, numpy_inputs(graph, inputs), torch_outputs(module, inputs)


@pytest.mark.parametrize("name", CASES)
def test_equals_torch(name: str) -> None:
    graph, arrays, wanted = loaded(name)
    canonical = canonicalize(graph)
    expanded = canonicalize(graph)
    ranges = {
        key: (float(value.min()), float(value.max()))
        for key, value in evaluate(expanded, arrays).items()
    }
    expand_products(expanded, ranges)
    assert not any(isinstance(node, Mul) for node in expanded.nodes)
    for form in (graph, canonical, expanded):
        values = evaluate(form, arrays)
        for output, want in zip(form.outputs, wanted, strict=True):
            assert values[output].shape == want.shape
            np.testing.assert_allclose(values[output], want, rtol=1e-5, atol=4e-6)


@pytest.mark.parametrize("activations", ["int8", "token"])
@pytest.mark.parametrize("name", CASES)
def test_integers(name: str, activations: str) -> None:
    graph, arrays, wanted = loaded(name)
    samples = {k: v[None] for k, v in arrays.items()}
    quantized = quantize(graph, samples, activations=activations)
    codes = quantize_inputs(quantized, arrays)
    values = execute(quantized, codes)
    program = build_program(quantized, CORE)
    report = check(program, values, Iss(program).run(codes), level="iss")
    assert report.ok, str(report)
    assert report.elements > 0
    real = dequantize_outputs(quantized, {n: values[n] for n in quantized.outputs})
    for output, want in zip(quantized.outputs, wanted, strict=True):
        error = np.abs(real[output] - want)[_counts(arrays, want)]
        assert error.max() <= CLOSE * np.abs(want).max()


def _counts(arrays: dict[str, np.ndarray], want: np.ndarray) -> np.ndarray:
    """Rows of tokens that a mask keeps: the scales are not made for the others."""
    for array in arrays.values():
        is_mask = array.dtype.kind in "bi" and np.isin(array, (0, 1)).all()
        if is_mask and want.ndim >= 3 and array.shape == (want.shape[0], want.shape[-2]):
            keep = array.astype(bool).reshape(len(array), *(1,) * (want.ndim - 3), -1)
            return np.broadcast_to(keep, want.shape[:-1])
    return np.ones(want.shape, bool)
