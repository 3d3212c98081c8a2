"""PT2E-quantized programs: by our quantizer and by a stock one."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import intformer
from intformer.compiler import integer_graph as ig
from intformer.compiler.frontend import torch_export
from intformer.compiler.quantize import dequantize_outputs, quantize, quantize_inputs
from intformer.compiler.quantize.pt2e import CoreQuantizer
from intformer.errors import UnsupportedModel, UserError

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
    from torchao.testing.pt2e._xnnpack_quantizer import (
        XNNPACKQuantizer,
        get_symmetric_quantization_config,
    )

SHAPE = (1, 6, 16)


class Block(nn.Module):
    """Pre-norm encoder block with attention."""

    def __init__(self, causal: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.causal = causal
        self.norm1, self.norm2 = nn.LayerNorm(16), nn.LayerNorm(16)
        self.qkv, self.proj = nn.Linear(16, 48), nn.Linear(16, 16)
        self.fc1, self.fc2 = nn.Linear(16, 32), nn.Linear(32, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        qkv = self.qkv(self.norm1(x)).reshape(1, 6, 3, 2, 8).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(*qkv.unbind(0), is_causal=self.causal)
        x = x + self.proj(y.transpose(1, 2).reshape(SHAPE))
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))


def samples(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, *SHAPE)).astype(np.float32)


def convert(module: nn.Module, quantizer) -> torch.export.ExportedProgram:
    inputs = (torch.zeros(SHAPE),)
    module = module.eval()
    with torch.no_grad():
        prepared = prepare_pt2e(torch.export.export(module, inputs).module(), quantizer)
        for x in samples(16, 1):
            prepared(torch.from_numpy(x))
        return torch.export.export(convert_pt2e(prepared), inputs)


def stock() -> XNNPACKQuantizer:
    return XNNPACKQuantizer().set_global(get_symmetric_quantization_config(is_per_channel=True))


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pt2e")
    made = {
        "ours": convert(Block(), CoreQuantizer()),
        "causal": convert(Block(causal=True), CoreQuantizer()),
        "int4": convert(Block(), CoreQuantizer(weights="int4")),
        "stock": convert(Block(), stock()),
    }
    for name, program in made.items():
        torch.export.save(program, folder / f"{name}.pt2")
    return folder


def run(graph: ig.IntGraph, x: np.ndarray) -> np.ndarray:
    codes = ig.execute(graph, quantize_inputs(graph, {graph.inputs[0]: x}))
    return dequantize_outputs(graph, codes)[graph.outputs[0]]


@pytest.mark.parametrize("name", ["ours", "causal", "int4"])
def test_our_quantizer_leaves_nothing_open(archives, name) -> None:
    """Without calibration data, and near what the fake-quantized program computes."""
    graph = quantize(torch_export.load(archives / f"{name}.pt2"))
    assert graph.meta["calibration"] == {"source": "the model", "runs": 0}
    program = torch.export.load(archives / f"{name}.pt2").module()
    for x in samples(4, 2):
        with torch.no_grad():
            expected = program(torch.from_numpy(x)).numpy()
        assert np.abs(run(graph, x) - expected).max() < 0.1 * np.abs(expected).max()
        assert np.corrcoef(run(graph, x).ravel(), expected.ravel())[0, 1] > 0.9995


def test_weights_are_those_of_the_program(archives) -> None:
    state = torch.export.load(archives / "ours.pt2").state_dict
    frozen = [v.numpy() for k, v in state.items() if "_frozen_param" in k]
    graph = quantize(torch_export.load(archives / "ours.pt2"))
    weights = [t.const for t in graph.tensors.values() if t.const is not None]
    assert len(frozen) == 4
    for codes in frozen:
        parts = np.split(codes, 3) if codes.shape == (48, 16) else [codes]  # query, key, value
        for part in parts:
            assert any(w.shape == part.shape and (w == part).all() for w in weights)


def test_int4_weights_are_stored_in_4_bits(archives) -> None:
    graph = quantize(torch_export.load(archives / "int4.pt2"))
    static = [
        n
        for n in graph.nodes
        if isinstance(n, ig.MatMul) and graph.tensors[n.inputs[1]].const is not None
    ]
    assert static and all(n.weight_bits == 4 for n in static)


def test_code_types_of_our_quantizer(archives) -> None:
    graph = quantize(torch_export.load(archives / "ours.pt2"))
    for node in graph.nodes:
        dtype = graph.tensors[node.output].dtype
        if isinstance(node, ig.Softmax):
            assert dtype == "uint8"
        if isinstance(node, ig.LayerNorm):
            assert graph.tensors[node.inputs[0]].dtype == "int16"
    assert graph.tensors[graph.outputs[0]].dtype == "int16"
    assert graph.meta["replaced_codings"] == []


def test_causal_mask_survives(archives) -> None:
    graph = quantize(torch_export.load(archives / "causal.pt2"))
    (softmax,) = (n for n in graph.nodes if isinstance(n, ig.Softmax))
    assert softmax.causal


def test_stock_quantizer_needs_data_for_the_rest(archives) -> None:
    floats = torch_export.load(archives / "stock.pt2")
    with pytest.raises(UserError, match=r"'scaled_dot_product_attention\.scores' has no quantiz"):
        quantize(floats)
    graph = quantize(floats, {"x": samples(16, 1)})
    program = torch.export.load(archives / "stock.pt2").module()
    for x in samples(4, 2):
        with torch.no_grad():
            expected = program(torch.from_numpy(x)).numpy()
        assert np.corrcoef(run(graph, x).ravel(), expected.ravel())[0, 1] > 0.999


def test_simulator_equals_reference(archives) -> None:
    model = intformer.compile(archives / "ours.pt2", config="tiny")
    assert model.verify({"x": samples(2, 3)}, levels=("iss",)).ok


def test_mask_in_the_range_is_refused() -> None:
    class Masked(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            low = torch.finfo(torch.float32).min
            mask = torch.triu(torch.full((6, 6), low), 1)
            return F.softmax((x @ x.transpose(1, 2)) + mask, -1)

    program = convert(Masked(), stock())
    with pytest.raises(UnsupportedModel, match="a mask was added to"):
        from intformer.compiler.frontend.lowering import lower

        lower(program.run_decompositions({}))


def test_contradictory_parameters_are_refused() -> None:
    class Twice(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = torch.relu(x)
            return self.q(y, 0.1) + self.q(y, 0.2)

        @staticmethod
        def q(y: torch.Tensor, scale: float) -> torch.Tensor:
            ops = torch.ops.quantized_decomposed
            codes = ops.quantize_per_tensor(y, scale, 0, -128, 127, torch.int8)
            return ops.dequantize_per_tensor(codes, scale, 0, -128, 127, torch.int8)

    with pytest.raises(UnsupportedModel, match="quantize every value once"):
        torch_export.load((Twice(), (torch.zeros(SHAPE),)))


def test_weights_argument() -> None:
    with pytest.raises(UserError, match="int8 or int4, not 'int2'"):
        CoreQuantizer(weights="int2")
