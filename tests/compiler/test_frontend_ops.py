"""Every operation: the float graph equals PyTorch, before and after canonicalization."""

from __future__ import annotations

import numpy as np
import pytest
from op_models import CASES, load_case, numpy_inputs, torch_outputs

from intformer.compiler.canonical import canonicalize
from intformer.compiler.float_eval import evaluate


@pytest.mark.parametrize("name", CASES)
def test_equals_torch(name: str) -> None:
    module, inputs, graph = load_case(name)
    expected = torch_outputs(module, inputs)
    for form in (graph, canonicalize(graph)):
        values = evaluate(form, numpy_inputs(form, inputs))
        for output, want in zip(form.outputs, expected, strict=True):
            assert values[output].shape == want.shape
            np.testing.assert_allclose(values[output], want, rtol=1e-5, atol=2e-6)
            assert form.values[output].shape == want.shape
