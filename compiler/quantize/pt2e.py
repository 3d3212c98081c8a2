"""A PT2E quantizer for the core: which values of a ``torch.export`` graph get which codes.

    program = torch.export.export(module, inputs).module()
    prepared = prepare_pt2e(program, CoreQuantizer())
    for sample in samples:
        prepared(sample)
    torch.export.save(torch.export.export(convert_pt2e(prepared), inputs), "model.pt2")

and then ``intformer compile model.pt2``. Needs torchao; nothing else of the compiler does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import torch
from torchao.quantization.pt2e import MinMaxObserver, PerChannelMinMaxObserver
from torchao.quantization.pt2e.quantizer import (
    FixedQParamsQuantizationSpec,
    QuantizationAnnotation,
    QuantizationSpec,
    Quantizer,
)

from intformer.compiler.quantize.pt2e_attention import decompose_attention
from intformer.compiler.quantize.scales import INT16_HEADROOM
from intformer.errors import UserError

__all__ = ["CoreQuantizer"]

_aten = torch.ops.aten

_STATIC = {_aten.linear, _aten.conv2d}
_PRODUCTS = {_aten.matmul, _aten.bmm, _aten.mm}
_SUMS = {_aten.add, _aten.add_, _aten.sub}
_SOFTMAX = {_aten.softmax, _aten._softmax}
_NORMS = {_aten.layer_norm, _aten.native_layer_norm}
_TABLES = {_aten.gelu, _aten.silu, _aten.silu_, _aten.sigmoid, _aten.tanh}
_RELU = {_aten.relu, _aten.relu_}
_OTHERS = {_aten.mean, _aten.embedding}
_PRODUCERS = _STATIC | _PRODUCTS | _SUMS | _SOFTMAX | _NORMS | _TABLES | _RELU | _OTHERS
_SCALING = {_aten.mul, _aten.div, _aten.neg}
_VIEWS = """
    alias cat chunk clone contiguous detach dropout expand flatten masked_fill narrow permute
    reshape select slice split split_with_sizes squeeze stack t to transpose unbind unflatten
    unsqueeze view where
"""
_THROUGH = {getattr(_aten, name) for name in re.findall(r"\w+", _VIEWS)}
"""What leaves a value's codes as they are: views, copies, and masks in front of a softmax."""


class _WideObserver(MinMaxObserver):
    """Symmetric, with room for larger values than those seen."""

    def calculate_qparams(self) -> Any:
        scale, zero_point = super().calculate_qparams()
        return scale * INT16_HEADROOM, zero_point


def _activations(symmetric: bool) -> QuantizationSpec:
    return QuantizationSpec(
        dtype=torch.int8,
        quant_min=-127 if symmetric else -128,
        quant_max=127,
        qscheme=torch.per_tensor_symmetric if symmetric else torch.per_tensor_affine,
        observer_or_fake_quant_ctr=MinMaxObserver.with_args(eps=2**-20),
    )


_ASYMMETRIC, _SYMMETRIC = _activations(False), _activations(True)
_WIDE = QuantizationSpec(
    dtype=torch.int16,
    quant_min=-(1 << 15),
    quant_max=(1 << 15) - 1,
    qscheme=torch.per_tensor_symmetric,
    observer_or_fake_quant_ctr=_WideObserver.with_args(eps=2**-30),
)
_PROBABILITIES = FixedQParamsQuantizationSpec(
    dtype=torch.uint8, scale=1 / 256, zero_point=0, quant_min=0, quant_max=255
)


class CoreQuantizer(Quantizer):
    """Annotates a graph with the code types that the core computes in.

    Operands of linear layers, softmax and activations are int8 with a zero point, those of products
    of two computed tensors int8 without; softmax results uint8 with scale 1/256; sums, LayerNorm
    inputs and model outputs int16. Ranges are the smallest and largest values seen (int16 codes
    reach to twice that). A linear layer's result that a sum alone reads is not quantized: the sum
    takes it from the accumulators.

    Parameters
    ----------
    weights:
        ``"int8"`` (codes -127..127) or ``"int4"`` (-7..7), per output channel, symmetric.
    """

    def __init__(self, *, weights: str = "int8") -> None:
        super().__init__()
        if weights not in ("int8", "int4"):
            raise UserError(f"weights must be int8 or int4, not {weights!r}")
        top = 127 if weights == "int8" else 7
        self._weights = QuantizationSpec(
            dtype=torch.int8,
            quant_min=-top,
            quant_max=top,
            qscheme=torch.per_channel_symmetric,
            ch_axis=0,
            observer_or_fake_quant_ctr=PerChannelMinMaxObserver.with_args(eps=2**-30),
        )

    def transform_for_annotation(self, model: torch.fx.GraphModule) -> torch.fx.GraphModule:
        """Take attention apart, so that its scores and probabilities can be annotated."""
        return decompose_attention(model)

    def annotate(self, model: torch.fx.GraphModule) -> torch.fx.GraphModule:
        """Annotate every value that is stored."""
        for node in model.graph.nodes:
            if _op(node) in _STATIC and _constant(node.args[1]):
                _annotation(node).input_qspec_map[node.args[1]] = self._weights
        for node in model.graph.nodes:
            if _is_float(node) and (node.op == "placeholder" or _op(node) in _PRODUCERS):
                self._annotate_value(node)
        return model

    def validate(self, model: torch.fx.GraphModule) -> None:
        """Nothing more to check: what cannot be mapped is refused by the compiler."""

    def _annotate_value(self, node: torch.fx.Node) -> None:
        if _op(node) in _SOFTMAX:
            _annotation(node).output_qspec = _PROBABILITIES
            return
        readers = [r for r in _readers(node) if r[0].op == "output" or _op(r[0]) in _PRODUCERS]
        if _fused(node, [reader for reader, _ in readers]):
            return
        wants = {_want(reader, source) for reader, source in readers} or {"wide"}
        if "wide" in wants:
            _annotation(node).output_qspec = _WIDE
            for reader, source in readers:
                want = _want(reader, source)
                if want != "wide":
                    spec = _SYMMETRIC if want == "product" else _ASYMMETRIC
                    _annotation(reader).input_qspec_map[source] = spec
        else:
            _annotation(node).output_qspec = _SYMMETRIC if "product" in wants else _ASYMMETRIC


def _op(node: Any) -> Any:
    """The operation of a node without its overload."""
    target = node.target if isinstance(node, torch.fx.Node) else None
    return getattr(target, "overloadpacket", target)


def _is_float(node: torch.fx.Node) -> bool:
    value = node.meta.get("val")
    return isinstance(value, torch.Tensor) and value.dtype.is_floating_point


def _constant(node: Any) -> bool:
    return isinstance(node, torch.fx.Node) and node.op == "get_attr"


def _annotation(node: torch.fx.Node) -> QuantizationAnnotation:
    annotation = node.meta.setdefault("quantization_annotation", QuantizationAnnotation())
    annotation._annotated = True
    return annotation


def _passes(node: torch.fx.Node) -> bool:
    """Whether a node leaves codes as they are, or only scales them."""
    op = _op(node)
    if op in _SCALING:
        return not all(isinstance(a, torch.fx.Node) and not _constant(a) for a in node.args[:2])
    if op in _SUMS:  # a mask in front of a softmax
        users = [reader for reader, _ in _readers(node)]
        return bool(users) and all(_op(user) in _SOFTMAX for user in users)
    return op in _THROUGH or (node.op == "call_function" and "getitem" in str(node.target))


def _readers(node: torch.fx.Node) -> Iterator[tuple[torch.fx.Node, torch.fx.Node]]:
    """What computes with a value, and the form (a view of it) that it reads."""
    for user in node.users:
        if _passes(user):
            yield from _readers(user)
        else:
            yield user, node


def _want(reader: torch.fx.Node, source: torch.fx.Node) -> str:
    """Code type in which ``reader`` takes its operand."""
    op = _op(reader)
    if reader.op == "output" or op in _SUMS or op in _NORMS:
        return "wide"
    if op in _PRODUCTS:
        static = any(_constant(a) for a in reader.args[:2] if a is not source)
        return "linear" if static else "product"
    return "linear"


def _fused(node: torch.fx.Node, readers: list[torch.fx.Node]) -> bool:
    """Whether a product goes straight from the accumulators into its only reader."""
    if _op(node) not in _STATIC | _PRODUCTS or len(node.users) != 1 or len(readers) != 1:
        return False
    (reader,) = readers
    if reader not in node.users:
        return False
    if _op(reader) in _RELU:
        return True
    if _op(reader) not in _SUMS:
        return False
    nodes = list(node.graph.nodes)
    products = [
        a
        for a in reader.args[:2]
        if isinstance(a, torch.fx.Node) and _op(a) in _STATIC | _PRODUCTS and len(a.users) == 1
    ]
    return node is max(products, key=nodes.index)
