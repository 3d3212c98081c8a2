"""Every operation: the integer graph against float mathematics, and its invariants."""

from __future__ import annotations

import numpy as np
import pytest
from op_models import CASES, load_case, numpy_inputs, torch_outputs

from intformer import reference
from intformer.compiler import integer_graph as ig
from intformer.compiler.quantize import dequantize_outputs, quantize, quantize_inputs

ERROR = {"int8": 0.02, "int4": 0.20}
"""Largest root-mean-square error allowed, as a share of the output's root mean square."""
WIDE = (
    {n for n in CASES if n.startswith(("add_", "embedding")) and not n.endswith("gelu")}
    | {"add", "rsub", "reshape", "permute", "slice", "stack", "expand", "repeat", "class_token"}
    | {"layer_norm", "layer_norm_plain", "select", "split", "unbind", "dropout"}
) - {"added_mask_softmax"}
"""Cases that are int16 throughout."""
WIDE_ERROR = 0.0003


@pytest.mark.parametrize("weights", ERROR)
@pytest.mark.parametrize("name", CASES)
def test_close_to_float(name: str, weights: str) -> None:
    module, inputs, graph = load_case(name)
    arrays = numpy_inputs(graph, inputs)
    quantized = quantize(graph, {k: v[None] for k, v in arrays.items()}, weights=weights)
    check(quantized)
    codes = ig.execute(quantized, quantize_inputs(quantized, arrays))
    outputs = dequantize_outputs(quantized, codes)
    for output, want in zip(quantized.outputs, torch_outputs(module, inputs), strict=True):
        assert outputs[output].shape == want.shape
        error = np.sqrt(np.mean((outputs[output] - want) ** 2) / np.mean(want**2))
        assert error < (WIDE_ERROR if name in WIDE else ERROR[weights]), f"{output}: {error:.4f}"


def check(graph: ig.IntGraph) -> None:
    """What the back end relies on."""
    known = set(graph.inputs) | {n for n, t in graph.tensors.items() if t.const is not None}
    for node in graph.nodes:
        assert set(node.inputs) <= known
        assert node.output not in known
        tensor = graph.tensors[node.output]
        first = graph.tensors[node.inputs[0]]
        if isinstance(node, ig.MatMul):
            second = graph.tensors[node.inputs[1]]
            assert first.dtype in ("int8", "uint8")
            assert second.dtype == "int8"
            assert second.zero_point == 0
            if second.const is None:
                assert second.shape[:-2] == first.shape[:-2]
                assert first.zero_point == 0
            else:
                assert len(second.shape) == 2
                top = 7 if node.weight_bits == 4 else 127
                assert np.abs(second.const).max() <= top
            assert tensor.shape == (*first.shape[:-1], second.shape[-2])
        if isinstance(node, ig.Pointwise):
            assert first.dtype != "uint8"
        if isinstance(node, ig.MatMul | ig.Pointwise):
            check_post(graph, node.post, tensor, known)
        if isinstance(node, ig.Softmax):
            assert (first.dtype, tensor.dtype) == ("int8", "uint8")
            assert (tensor.scale, tensor.zero_point) == (1 / 256, 0)
            assert node.exp_table[0] == (1 << reference.EXP_BITS) - 1
        if isinstance(node, ig.LayerNorm):
            assert first.dtype == "int16"
            assert 0 <= node.eps < 1 << 40
        if isinstance(node, ig.View):
            for name in node.inputs:
                other = graph.tensors[name]
                assert (other.dtype, other.scale, other.zero_point) == (
                    tensor.dtype,
                    tensor.scale,
                    tensor.zero_point,
                )
        known.add(node.output)
    assert set(graph.outputs) <= known


def check_post(graph: ig.IntGraph, post: ig.PostParams, tensor: ig.Tensor, known: set[str]) -> None:
    for array, dtype in ((post.bias, np.int32), (post.mult, np.int16), (post.shift, np.uint8)):
        assert array.dtype == dtype
        assert array.shape in ((1,), (tensor.shape[-1],))
    low, high = reference.LIMITS[tensor.dtype if post.table is None else "int8"]
    assert low <= post.lo < post.hi <= high
    if post.table is not None:
        assert post.table.shape == (256,)
        assert post.table.dtype == tensor.dtype == "int8"
    if post.residual is not None:
        residual = graph.tensors[post.residual]
        assert post.residual in known
        assert residual.dtype != "uint8"
        assert residual.zero_point == 0
        assert residual.shape == tensor.shape[len(tensor.shape) - len(residual.shape) :] or (
            np.broadcast_shapes(residual.shape, tensor.shape) == tensor.shape
        )
