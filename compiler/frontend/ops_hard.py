"""Rules for the piecewise activations of mobile networks, by expressions."""

from __future__ import annotations

from intformer.compiler.expressions import call
from intformer.compiler.frontend.lowering import Lowering, Tensor, rule
from intformer.compiler.frontend.ops_elementwise import activation

__all__: list[str] = []

_RAMP = call("min", call("max", call("add", "x", 3.0), 0.0), 6.0)


@rule("aten.hardswish", "aten.hardswish_")
def _hardswish(lo: Lowering, x: Tensor) -> Tensor:
    return activation(lo, x, call("mul", "x", call("mul", _RAMP, 1.0 / 6.0)))


@rule("aten.hardsigmoid_")
def _hardsigmoid(lo: Lowering, x: Tensor) -> Tensor:
    return activation(lo, x, call("mul", _RAMP, 1.0 / 6.0))


@rule("aten.relu6", "aten.relu6_")
def _relu6(lo: Lowering, x: Tensor) -> Tensor:
    return activation(lo, x, call("min", call("max", "x", 0.0), 6.0))
