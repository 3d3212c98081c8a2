"""Convolutions and what stands beside them: float graph, integer graph, simulator, RTL."""

from __future__ import annotations

import graphs
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conv_models import CASES, IMAGE, conv, load_case, norm
from op_models import fn, numpy_inputs, torch_outputs

import intformer
from intformer.compiler import graph as fg
from intformer.compiler.backend import build_program
from intformer.compiler.canonical import canonicalize
from intformer.compiler.float_eval import evaluate
from intformer.compiler.frontend import torch_export
from intformer.compiler.integer_graph import MatMul, execute
from intformer.compiler.quantize import dequantize_outputs, quantize, quantize_inputs
from intformer.config import CoreConfig
from intformer.errors import UnsupportedModel
from intformer.isa import Op
from intformer.sim.iss.simulator import Iss
from intformer.sim.verify import check

CORE = CoreConfig(name="conv", rows=8, cols=12, lanes=4)
SMALL = graphs.CONFIGS[0]


@pytest.mark.parametrize("name", CASES)
def test_equals_torch(name: str) -> None:
    module, inputs, graph = load_case(name)
    (want,) = torch_outputs(module, inputs)
    for form in (graph, canonicalize(graph)):
        values = evaluate(form, numpy_inputs(form, inputs))
        np.testing.assert_allclose(values[form.outputs[0]], want, rtol=1e-5, atol=4e-6)


@pytest.mark.parametrize("name", CASES)
def test_simulator_equals_reference(name: str) -> None:
    module, inputs, graph = load_case(name)
    arrays = numpy_inputs(graph, inputs)
    quantized = quantize(graph, {k: v[None] for k, v in arrays.items()})
    codes = quantize_inputs(quantized, arrays)
    values = execute(quantized, codes)
    program = build_program(quantized, CORE)
    report = check(program, values, Iss(program).run(codes), level="iss")
    assert report.ok, str(report)
    (got,), (want,) = dequantize_outputs(quantized, values).values(), torch_outputs(module, inputs)
    error = np.sqrt(np.mean((got - want) ** 2) / np.mean(want**2))
    assert error < 0.02, f"{error:.4f}"


@pytest.mark.parametrize("weights", ["int8", "int4"])
@pytest.mark.parametrize(
    "name", ["two_in_a_row", "inverted_residual", "fusion", "stride", "depthwise_blocks"]
)
def test_permutations_cancel_and_norms_fold(name: str, weights: str) -> None:
    _, inputs, graph = load_case(name)
    canonical = canonicalize(graph)
    assert not any(isinstance(node, fg.Scale) for node in canonical.nodes)
    makers = canonical.producers()
    for node in canonical.nodes:
        if not isinstance(node, fg.View) or node.kind != "permute":
            continue
        source = node.inputs[0]
        while isinstance(maker := makers.get(source), fg.View):
            source = maker.inputs[0]
        assert source in canonical.inputs or node.output in canonical.outputs
    quantized = quantize(graph, {graph.inputs[0]: inputs[0].numpy()[None]}, weights=weights)
    products = [n for n in quantized.nodes if isinstance(n, MatMul)]
    made = {n.output for n in quantized.nodes if not hasattr(n, "kind")}
    copies = {name for name in made if name.endswith(".int8")}  # of what is also added
    assert {n.output for n in products} == made - copies
    assert len(copies) <= 2


def test_padding_has_the_code_of_zero() -> None:
    """SiLU of values above 3 leaves a zero point far from 0; the border must decode to 0."""
    _, inputs, graph = load_case("biased_input")
    quantized = quantize(graph, {graph.inputs[0]: inputs[0].numpy()[None]})
    zeros = [t for n, t in quantized.tensors.items() if "zero" in n and t.const is not None]
    assert zeros
    for tensor in zeros:
        assert tensor.zero_point != 0
        assert np.all(tensor.const == tensor.zero_point)


def test_shared_columns_move_once() -> None:
    """Windows of channels that fill words overlap in memory: three rows move, not nine taps."""
    module, inputs = fn(lambda m, x: m.c(F.relu(m.w(x))), IMAGE, w=conv(8, 8, 1), c=conv(8, 8))
    graph = torch_export.load((module, inputs))
    quantized = quantize(graph, {graph.inputs[0]: inputs[0].numpy()[None]})
    program = build_program(quantized, CORE)
    moved = 0
    for step in program.steps:
        fields = step.instruction.fields
        if step.instruction.op is Op.MOVE and "rows" in (step.tensor or ""):
            moved += fields["n0"] * fields["n1"] * fields["n2"]
    assert moved == 4 * 5 * 3 * 8
    products = [s for s in program.steps if s.instruction.op is Op.MATMUL]
    assert len(products) == 2  # gaps between lines are walked over: one each


REFUSED = {
    "transposed": (
        lambda m, x: m.c(x),
        {"c": torch.nn.ConvTranspose2d(8, 4, 3)},
        "transposed convolution",
    ),
    "training": (lambda m, x: m.n(x), {"n": norm(8)}, "training mode"),
    "uneven_border": (lambda m, x: F.avg_pool2d(x, 5, ceil_mode=True), {}, "ceil_mode"),
    "uneven": (lambda m, x: F.adaptive_avg_pool2d(x, 4), {}, "uneven"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    function, modules, words = REFUSED[name]
    module, inputs = fn(function, IMAGE, **modules)
    program = torch.export.export(module, inputs)
    if name == "training":
        graph = program.graph_module.graph
        (node,) = (n for n in graph.nodes if "batch_norm" in str(n.target))
        node.args = (*node.args[:5], True, *node.args[6:])
    with pytest.raises(UnsupportedModel, match=words):
        from intformer.compiler.frontend.lowering import lower

        lower(program)


@pytest.mark.rtl
@pytest.mark.parametrize("name", ["fusion", "inverted_residual", "dilation", "max_pool"])
def test_every_tensor_on_rtl(name: str) -> None:
    module, inputs, graph = load_case(name)
    samples = {graph.inputs[0]: inputs[0].numpy()[None]}
    model = intformer.compile(module, inputs, config=SMALL, calibrate=samples)
    report = model.verify(samples, levels=("iss", "rtl"))
    assert report.ok, report.text()
