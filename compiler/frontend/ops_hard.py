"""Rules for the piecewise activations of mobile networks."""

from __future__ import annotations

from intformer.compiler import graph as fg
from intformer.compiler.frontend.issues import Unsupported
from intformer.compiler.frontend.lowering import Lowering, Tensor, rule

__all__: list[str] = []


def _activation(lo: Lowering, x: Tensor, kind: str) -> Tensor:
    return lo.wrap(lo.build.node(fg.Activation, lo.name, [x.name], x.shape, kind=kind))


@rule("aten.hardswish", "aten.hardswish_")
def _hardswish(lo: Lowering, x: Tensor) -> Tensor:
    return _activation(lo, x, "hardswish")


@rule("aten.hardsigmoid", "aten.hardsigmoid_")
def _hardsigmoid(lo: Lowering, x: Tensor) -> Tensor:
    return _activation(lo, x, "hardsigmoid")


@rule("aten.relu6", "aten.relu6_")
def _relu6(lo: Lowering, x: Tensor) -> Tensor:
    return _activation(lo, x, "relu6")


@rule("aten.hardtanh", "aten.hardtanh_", "aten.clamp")
def _clamp(
    lo: Lowering, x: Tensor, low: float | None = None, high: float | None = None
) -> Tensor:
    if low == 0 and high is None:
        return _activation(lo, x, "relu")
    if low == 0 and high == 6:
        return _activation(lo, x, "relu6")
    raise Unsupported(f"clips to {low} .. {high}", "clip to 0 .. 6 (ReLU6), or use ReLU")
